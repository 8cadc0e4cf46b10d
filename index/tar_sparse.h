#pragma once

// The maps of sparse files in a tar: the old GNU form in header blocks, PAX 0.0 and 0.1 in records,
// PAX 1.0 in front of the data. Errors have the reason only. Values and one-thread readers.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "index/tar.h"
#include "index/tar_pax.h"

namespace lamina {

// kInvalid unless the regions are in order, apart and inside `size`, and hold `data_bytes`
// together. Regions without length are taken out.
Status CheckSparseRegions(uint64_t size, uint64_t data_bytes, std::vector<SparseRegion>* regions);

// Old GNU: `block` is the entry's header. Sets the real size; true when an extension block follows.
Result<bool> ParseOldGnuSparse(ByteSpan block, uint64_t* real_size,
                               std::vector<SparseRegion>* regions);
// An extension block; true when another follows.
Result<bool> ParseOldGnuExtension(ByteSpan block, std::vector<SparseRegion>* regions);

// PAX 0.0 and 0.1.
Result<std::vector<SparseRegion>> ParsePaxSparseMap(const PaxHeader& header);

// PAX 1.0: decimal numbers, a line each, in blocks of 512 bytes in front of the data.
class SparseMapReader {
 public:
  explicit SparseMapReader(uint64_t region_limit) : region_limit_(region_limit) {}

  // Takes bytes from the front of `*input`, up to the end of the block in which the map ends.
  Status Feed(ByteSpan* input);
  bool done() const { return complete_ && consumed_ % 512 == 0; }
  uint64_t consumed() const { return consumed_; }
  std::vector<SparseRegion>& regions() { return regions_; }

 private:
  Status Take(char c);
  Status TakeNumber(uint64_t number);

  const uint64_t region_limit_;
  uint64_t consumed_ = 0;
  std::string line_;
  bool has_count_ = false;
  uint64_t numbers_left_ = 0;
  bool complete_ = false;
  std::vector<SparseRegion> regions_;
};

Error TooManyRegions(uint64_t count, uint64_t limit);

}  // namespace lamina
