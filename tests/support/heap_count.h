#pragma once

// HeapCount: the most bytes of heap that this program has had in use at once, above those in use
// when the count began. Linking heap_count.cc replaces operator new and delete for the program;
// what C libraries take from malloc is not seen. One count at a time; any threads may allocate.

#include <cstddef>

namespace lamina::testing {

class HeapCount {
 public:
  HeapCount();
  size_t peak_bytes() const;

 private:
  size_t before_;
};

}  // namespace lamina::testing
