#include "fs/progress_log.h"

#include <fmt/format.h>

#include "base/text.h"

namespace lamina {
namespace {

constexpr std::chrono::seconds kEvery(10);

}  // namespace

ProgressLog::ProgressLog(std::string name, uint64_t total, Time start)
    : name_(std::move(name)), total_(total), next_(start + kEvery) {}

std::optional<std::string> ProgressLog::Line(uint64_t done, Time now) {
  if (now < next_) return std::nullopt;
  next_ = now + kEvery;
  return fmt::format("indexing {}: {} of {}, {} %", name_, HumanSize(done), HumanSize(total_),
                     total_ > 0 ? done * 100 / total_ : 100);
}

}  // namespace lamina
