#include "index/name_arena.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace lamina {

Result<uint32_t> NameArena::Add(std::string_view name) {
  if (name.size() > blocks_.size() * kBlockBytes - used_) {
    if ((blocks_.size() + 1) * kBlockBytes > std::numeric_limits<uint32_t>::max())
      return Error{Code::kLimit, "the names of the layer have more than 4294967295 bytes"};
    RETURN_IF_ERROR(memory_.Take(kBlockBytes));
    used_ = blocks_.size() * kBlockBytes;
    blocks_.push_back(std::make_unique<char[]>(kBlockBytes));
  }
  const uint64_t offset = used_;
  std::copy(name.begin(), name.end(), blocks_.back().get() + offset % kBlockBytes);
  used_ += name.size();
  return static_cast<uint32_t>(offset);
}

Status NameArena::WriteTo(LayerIndexWriter& writer) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const uint64_t begin = i * kBlockBytes;
    RETURN_IF_ERROR(
        writer.AddNames({blocks_[i].get(), std::min<uint64_t>(kBlockBytes, used_ - begin)}));
  }
  return {};
}

}  // namespace lamina
