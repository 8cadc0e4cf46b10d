#pragma once

// NameArena: the names of a layer's tree while the layer is indexed, in blocks that never move, so
// that growing copies nothing. What it holds, block after block, becomes the names section of the
// index. One thread.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/layer_index_writer.h"
#include "index/memory_budget.h"

namespace lamina {

class NameArena {
 public:
  // `memory` outlives the arena.
  explicit NameArena(MemoryShare& memory) : memory_(memory) {}

  // The offset of the name, which has at most 255 bytes, in the section.
  Result<uint32_t> Add(std::string_view name);
  std::string_view At(uint32_t offset, uint8_t length) const {
    return {blocks_[offset / kBlockBytes].get() + offset % kBlockBytes, length};
  }
  Status WriteTo(LayerIndexWriter& writer) const;

 private:
  static constexpr uint64_t kBlockBytes = 64u << 10;

  MemoryShare& memory_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  uint64_t used_ = 0;  // bytes, with the unused ends of all blocks but the last
};

}  // namespace lamina
