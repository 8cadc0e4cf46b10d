#pragma once

// Mapped files whose pages cannot be read. The kernel sends SIGBUS to who touches a page that its
// disk does not give, or that is behind the end of a file that was cut; without this, one bad block
// would end the process. The handler, installed with the first registration, puts a page of zeros
// in the place of the page and marks its mapping as damaged; whoever answers from the mapping asks
// afterwards and gives an error instead of the zeros. A fault anywhere else goes to the handler
// that was there before. Any thread; Damaged() is one atomic load.

#include <cstddef>
#include <cstdint>

namespace lamina {

class MappedFault {
 public:
  // A mapping by its place in a table of fixed size, which a signal handler can search.
  using Slot = uint32_t;
  static constexpr Slot kNone = 0xFFFFFFFF;  // the table is full: the mapping is not guarded

  static Slot Register(const uint8_t* data, size_t size);
  // Before munmap(): the addresses may be another mapping's at once.
  static void Unregister(Slot slot);
  static bool Damaged(Slot slot);
};

}  // namespace lamina
