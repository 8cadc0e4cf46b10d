#pragma once

// ProgressLog: how far a pass over a layer has come, for the log: a line every ten seconds, so that
// a short pass has none. One thread.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace lamina {

class ProgressLog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `total` in bytes.
  ProgressLog(std::string name, uint64_t total, Time start);

  // The line to write now that `done` bytes have come, if one is due.
  std::optional<std::string> Line(uint64_t done, Time now);

 private:
  const std::string name_;
  const uint64_t total_;
  Time next_;
};

}  // namespace lamina
