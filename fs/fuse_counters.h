#pragma once

// FuseCounters: how many messages of each kind the kernel has sent, counted where they are read, so
// that the numbers are exact whoever answers. Any thread; adding is wait-free.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lamina {

class FuseCounters {
 public:
  // `opcode` as in the message's header.
  void Add(uint32_t opcode) {
    counts_[opcode < kOther ? opcode : kOther].fetch_add(1, std::memory_order_relaxed);
  }
  // Of those that have come at least once: "lookup", "getattr", …
  std::vector<std::pair<std::string, uint64_t>> Values() const;
  // By name, 0 for those that have not come.
  uint64_t Value(const std::string& name) const;
  // Prometheus text lines.
  std::string Metrics() const;

 private:
  static constexpr uint32_t kOther = 64;
  std::array<std::atomic<uint64_t>, kOther + 1> counts_{};
};

}  // namespace lamina
