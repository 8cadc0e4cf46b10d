#include "tests/support/heap_count.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> in_use{0};
std::atomic<size_t> most{0};

void* Take(size_t size) {
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  const size_t now = in_use += ::malloc_usable_size(memory);
  size_t seen = most;
  while (seen < now && !most.compare_exchange_weak(seen, now)) {
  }
  return memory;
}

void Give(void* memory) {
  if (memory == nullptr) return;
  in_use -= ::malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return Take(size); }
void* operator new[](size_t size) { return Take(size); }
void operator delete(void* memory) noexcept { Give(memory); }
void operator delete[](void* memory) noexcept { Give(memory); }
void operator delete(void* memory, size_t) noexcept { Give(memory); }
void operator delete[](void* memory, size_t) noexcept { Give(memory); }

namespace lamina::testing {

HeapCount::HeapCount() : before_(in_use) { most = in_use.load(); }

size_t HeapCount::peak_bytes() const { return most - before_; }

}  // namespace lamina::testing
