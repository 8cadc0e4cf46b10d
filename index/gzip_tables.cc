#include "index/gzip_tables.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace lamina {
namespace {

constexpr uint32_t kLargeFlag = 1u << 25;
constexpr uint32_t kLargeSymbols = kLargeFlag - 1;
constexpr uint32_t kLongestLiteral =
    21;  // 15 bits of code, 5 of extra length, rounded up as ISA-L does
constexpr uint32_t kLastSymbol = 512;  // lengths are symbols 257 to 512: 3 to 258 bytes
constexpr uint32_t kSmallFlag = 1u << 10;
constexpr uint32_t kLongestDistance = 15;
constexpr uint32_t kDistances = 30;

struct LongRun {
  size_t offset;
  uint32_t longest;  // bits of the longest code

  size_t end(uint32_t short_bits) const { return offset + (size_t{1} << (longest - short_bits)); }
};

LongRun LargeRun(uint32_t entry) { return {entry & kLargeSymbols, entry >> 26}; }
LongRun SmallRun(uint32_t entry) { return {entry & 0x1ffu, entry >> 11}; }

// Flagged entries with a run of no possible length count as beyond any table.
size_t RunEnd(const LongRun& run, uint32_t short_bits, uint32_t longest) {
  if (run.longest <= short_bits || run.longest > longest) return SIZE_MAX;
  return run.end(short_bits);
}

bool IsValidShort(uint32_t entry) {
  if (entry & kLargeFlag) return true;  // LongEntriesInUse() has judged it
  const uint32_t length = entry >> 28;
  if (length == 0) return true;
  const uint32_t count = (entry >> 26) & 3;
  if (count == 0 || length > ISAL_DECODE_LONG_BITS) return false;
  // All but the last are literals, a byte each.
  return (entry & kLargeSymbols) >> (8 * (count - 1)) <= kLastSymbol;
}

bool IsValidLong(uint32_t entry) {
  return entry >> 10 <= kLongestLiteral && (entry & 0x3ffu) <= kLastSymbol;
}

bool IsValidDistance(uint32_t symbol_and_extra, uint32_t length, uint32_t longest) {
  if (length == 0) return symbol_and_extra <= kLongestDistance;  // then the low bits are the length
  const uint32_t symbol = symbol_and_extra & 31;
  const uint32_t extra = symbol < 4 ? 0 : symbol / 2 - 1;
  return length <= longest && symbol < kDistances && symbol_and_extra >> 5 == extra;
}

}  // namespace

size_t LongEntriesInUse(const inflate_huff_code_large& table) {
  size_t end = 0;
  for (const uint32_t entry : table.short_code_lookup) {
    if (entry & kLargeFlag)
      end = std::max(end, RunEnd(LargeRun(entry), ISAL_DECODE_LONG_BITS, kLongestLiteral));
  }
  return end;
}

size_t LongEntriesInUse(const inflate_huff_code_small& table) {
  size_t end = 0;
  for (const uint16_t entry : table.short_code_lookup) {
    if (entry & kSmallFlag)
      end = std::max(end, RunEnd(SmallRun(entry), ISAL_DECODE_SHORT_BITS, kLongestDistance));
  }
  return end;
}

bool IsValidTable(const inflate_huff_code_large& table) {
  const size_t used = LongEntriesInUse(table);
  return used <= std::size(table.long_code_lookup) &&
         std::all_of(std::begin(table.short_code_lookup), std::end(table.short_code_lookup),
                     IsValidShort) &&
         std::all_of(table.long_code_lookup, table.long_code_lookup + used, IsValidLong);
}

bool IsValidTable(const inflate_huff_code_small& table) {
  const size_t used = LongEntriesInUse(table);
  const auto short_ok = [](uint16_t entry) {
    if (entry & kSmallFlag) return true;
    return IsValidDistance(entry & 0x3ffu, entry >> 11u, ISAL_DECODE_SHORT_BITS);
  };
  const auto long_ok = [](uint16_t entry) {
    return IsValidDistance(entry & 0x3ffu, entry >> 10u, kLongestDistance);
  };
  return used <= std::size(table.long_code_lookup) &&
         std::all_of(std::begin(table.short_code_lookup), std::end(table.short_code_lookup),
                     short_ok) &&
         std::all_of(table.long_code_lookup, table.long_code_lookup + used, long_ok);
}

}  // namespace lamina
