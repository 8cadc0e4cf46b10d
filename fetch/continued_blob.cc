#include "fetch/continued_blob.h"

#include <fmt/core.h>

#include "base/log.h"

namespace lamina {

Status ContinuedBlob::Stream(uint64_t offset, const ByteSink& sink) {
  uint64_t position = offset;
  bool refused = false;  // by the sink
  const ByteSink counting = [&](ByteSpan bytes) -> Status {
    Status taken = sink(bytes);
    refused = !taken.has_value();
    position += bytes.size();
    return taken;
  };
  Status streamed = first_->Stream(offset, counting);
  if (position == offset) return streamed;
  for (const Opener& open : others_) {
    if (streamed.has_value() || refused) return streamed;
    const auto other = open();
    // The name that a source has given a blob is not the digest of its bytes.
    if (!other || (*other)->digest_is_name()) continue;
    LogWarning(fmt::format("{}; going on at byte {} from {}", streamed.error().message, position,
                           (*other)->origin()));
    streamed = (*other)->Stream(position, counting);
  }
  return streamed;
}

}  // namespace lamina
