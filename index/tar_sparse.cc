#include "index/tar_sparse.h"

#include <algorithm>

#include "base/text.h"
#include "index/tar_header.h"

namespace lamina {
namespace {

constexpr size_t kNumberBytes = 12;
constexpr size_t kPairBytes = 2 * kNumberBytes;
constexpr size_t kHeaderPairs = 4, kHeaderPairsAt = 386, kHeaderExtendedAt = 482, kRealSizeAt = 483;
constexpr size_t kExtensionPairs = 21, kExtensionExtendedAt = 504;
// Longer lines in a 1.0 map are no numbers.
constexpr size_t kMaxLine = 20;

Error BadMap(const std::string& what) { return Error{Code::kInvalid, "its sparse map " + what}; }

Result<uint64_t> NonNegative(const TarNumber& number, std::string_view text) {
  if (!number.valid || number.overflow || number.value < 0)
    return BadMap("has " + Quote(text, 40) + " where a number should be");
  return static_cast<uint64_t>(number.value);
}

Result<uint64_t> Decimal(std::string_view text) { return NonNegative(ParseDecimal(text), text); }
Result<uint64_t> Numeric(ByteSpan field) {
  return NonNegative(ParseTarNumber(field), AsText(field));
}

Status TakePairs(ByteSpan block, size_t at, size_t count, std::vector<SparseRegion>* regions) {
  for (size_t i = 0; i < count; ++i) {
    const ByteSpan pair = block.subspan(at + i * kPairBytes, kPairBytes);
    if (pair[0] == 0) break;
    SparseRegion region;
    ASSIGN_OR_RETURN(region.offset, Numeric(pair.first(kNumberBytes)));
    ASSIGN_OR_RETURN(region.length, Numeric(pair.subspan(kNumberBytes)));
    regions->push_back(region);
  }
  return {};
}

}  // namespace

Status CheckSparseRegions(uint64_t size, uint64_t data_bytes, std::vector<SparseRegion>* regions) {
  uint64_t end = 0;
  uint64_t sum = 0;
  for (const SparseRegion& region : *regions) {
    if (region.offset < end) return BadMap("has regions that overlap or are out of order");
    if (region.offset > size || region.length > size - region.offset)
      return BadMap("goes beyond the size of the file");
    end = region.offset + region.length;
    sum += region.length;
  }
  if (sum != data_bytes)
    return BadMap("tells of " + std::to_string(sum) + " bytes of data, the entry has " +
                  std::to_string(data_bytes));
  std::erase_if(*regions, [](const SparseRegion& region) { return region.length == 0; });
  return {};
}

Result<bool> ParseOldGnuSparse(ByteSpan block, uint64_t* real_size,
                               std::vector<SparseRegion>* regions) {
  ASSIGN_OR_RETURN(*real_size, Numeric(block.subspan(kRealSizeAt, kNumberBytes)));
  RETURN_IF_ERROR(TakePairs(block, kHeaderPairsAt, kHeaderPairs, regions));
  return block[kHeaderExtendedAt] != 0;
}

Result<bool> ParseOldGnuExtension(ByteSpan block, std::vector<SparseRegion>* regions) {
  RETURN_IF_ERROR(TakePairs(block, 0, kExtensionPairs, regions));
  return block[kExtensionExtendedAt] != 0;
}

Result<std::vector<SparseRegion>> ParsePaxSparseMap(const PaxHeader& header) {
  const std::string* count_text = header.Find("GNU.sparse.numblocks");
  ASSIGN_OR_RETURN(const uint64_t count, Decimal(count_text == nullptr ? "" : *count_text));
  std::vector<std::string_view> numbers(header.sparse_pairs.begin(), header.sparse_pairs.end());
  if (numbers.empty())
    if (const std::string* map = header.Find("GNU.sparse.map"); map != nullptr)
      numbers = Split(*map, ',');
  if (numbers.size() % 2 != 0 || numbers.size() / 2 != count)
    return BadMap("has " + std::to_string(numbers.size()) + " numbers for " +
                  std::to_string(count) + " regions");
  std::vector<SparseRegion> regions;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    SparseRegion region;
    ASSIGN_OR_RETURN(region.offset, Decimal(numbers[i]));
    ASSIGN_OR_RETURN(region.length, Decimal(numbers[i + 1]));
    regions.push_back(region);
  }
  return regions;
}

Status SparseMapReader::Feed(ByteSpan* input) {
  while (!input->empty() && !done()) {
    if (complete_) {
      const size_t skip = std::min<size_t>(input->size(), kTarBlock - consumed_ % kTarBlock);
      *input = input->subspan(skip);
      consumed_ += skip;
      continue;
    }
    const char c = static_cast<char>(input->front());
    *input = input->subspan(1);
    ++consumed_;
    RETURN_IF_ERROR(Take(c));
  }
  return {};
}

Status SparseMapReader::Take(char c) {
  if (c != '\n') {
    if (line_.size() >= kMaxLine) return BadMap("has a line that is no number");
    line_ += c;
    return {};
  }
  ASSIGN_OR_RETURN(const uint64_t number, Decimal(line_));
  line_.clear();
  return TakeNumber(number);
}

Status SparseMapReader::TakeNumber(uint64_t number) {
  if (!has_count_) {
    if (number > region_limit_) return TooManyRegions(number, region_limit_);
    has_count_ = true;
    numbers_left_ = 2 * number;
  } else if (numbers_left_-- % 2 == 0) {
    regions_.push_back({number, 0});
  } else {
    regions_.back().length = number;
  }
  complete_ = numbers_left_ == 0;
  return {};
}

Error TooManyRegions(uint64_t count, uint64_t limit) {
  return Error{Code::kLimit, "its sparse map has " + std::to_string(count) +
                                 " regions or more, the limit is " + std::to_string(limit)};
}

}  // namespace lamina
