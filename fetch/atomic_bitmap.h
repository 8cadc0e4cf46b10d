#pragma once

// AtomicBitmap: a fixed number of bits that any thread may test and change without a lock. What a
// thread wrote before Set() is seen by one that finds the bit set.

#include <atomic>
#include <cstdint>
#include <vector>

namespace lamina {

class AtomicBitmap {
 public:
  explicit AtomicBitmap(uint64_t bits) : words_((bits + 63) / 64) {}

  // `bit` is below the number given at construction.
  bool Test(uint64_t bit) const { return (Word(bit).load() & Mask(bit)) != 0; }
  void Set(uint64_t bit) { Word(bit).fetch_or(Mask(bit)); }
  void Clear(uint64_t bit) { Word(bit).fetch_and(~Mask(bit)); }
  // True for one caller only.
  bool TestAndClear(uint64_t bit) { return (Word(bit).fetch_and(~Mask(bit)) & Mask(bit)) != 0; }
  void ClearAll() {
    for (auto& word : words_) word.store(0);
  }

 private:
  static uint64_t Mask(uint64_t bit) { return uint64_t{1} << (bit % 64); }
  const std::atomic<uint64_t>& Word(uint64_t bit) const { return words_[bit / 64]; }
  std::atomic<uint64_t>& Word(uint64_t bit) { return words_[bit / 64]; }

  std::vector<std::atomic<uint64_t>> words_;
};

}  // namespace lamina
