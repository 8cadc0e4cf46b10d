#include "cmd/progress_bars.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// Layers of one image are indexed a few at a time.
constexpr int kMostLayers = 8;

std::string Bar(uint64_t done, uint64_t of) {
  constexpr uint64_t kWidth = 30;
  const uint64_t filled = of == 0 ? 0 : std::min(done, of) * kWidth / of;
  return fmt::format("[{}{}]", std::string(filled, '#'), std::string(kWidth - filled, '.'));
}

std::string Counts(const Json& step) {
  const auto done = step.value("done", uint64_t{0});
  const auto of = step.value("of", uint64_t{0});
  const std::string unit = step.value("unit", "");
  return unit == "bytes" ? HumanSize(done) + " of " + HumanSize(of)
                         : fmt::format("{} of {} {}", done, of, unit);
}

}  // namespace

void ProgressBars::Show(const Json& step) {
  if (!terminal_ || !due_.passed()) return;
  due_ = Deadline::After(std::chrono::milliseconds(50));
  Erase();
  indexing_ = step.value("what", "") == "indexing";
  Draw(fmt::format("{:<9} {} {}", step.value("what", ""),
                   Bar(step.value("done", uint64_t{0}), step.value("of", uint64_t{0})),
                   Counts(step)));
  int number = -1;
  for (const Json& layer : step.value("layers", Json::array())) {
    ++number;
    const auto done = layer.at(0).get<uint64_t>();
    const auto of = layer.at(1).get<uint64_t>();
    if (done == 0 || done >= of || lines_ > kMostLayers) continue;
    Draw(fmt::format("layer {:>3} {} {} of {}", number, Bar(done, of), HumanSize(done),
                     HumanSize(of)));
  }
  std::fflush(stderr);
}

void ProgressBars::MakeRoom() {
  if (indexing_) Erase();
}

void ProgressBars::Draw(const std::string& line) {
  std::fprintf(stderr, "%s%s", lines_ > 0 ? "\n" : "", line.c_str());
  ++lines_;
}

// The cursor stands at the end of the last line.
void ProgressBars::Erase() {
  for (; lines_ > 0; --lines_) std::fputs(lines_ > 1 ? "\r\033[K\033[1A" : "\r\033[K", stderr);
}

}  // namespace lamina
