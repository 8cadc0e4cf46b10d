#pragma once

// TocOffsets: the offsets at which the compressed stretches of a blob begin, collected in one
// reading of its table of contents and asked in the next: two or three bytes for each. One thread.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lamina {

class TocOffsets {
 public:
  // Ascending; what is not above the last one changes nothing.
  void Add(uint64_t offset);
  // The first one above `offset`, or `end`. `offset` never goes back from call to call.
  uint64_t After(uint64_t offset, uint64_t end);

 private:
  void Advance();

  std::vector<uint8_t> deltas_;  // LEB128, from each offset to the next
  uint64_t last_ = 0;
  size_t cursor_ = 0;
  uint64_t current_ = 0;  // the sum of what lies before the cursor
};

}  // namespace lamina
