#pragma once

// PAX extended headers: the records, the times and the encoded xattr names in them. Pure functions
// and values; any thread. Errors have the reason only; the caller knows the entry.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

struct PaxHeader {
  // The last value of each key. An empty value means "as in the plain header", save for xattrs.
  std::map<std::string, std::string, std::less<>> records;
  // Sparse format 0.0 repeats GNU.sparse.offset and GNU.sparse.numbytes in turn: all of them, in
  // order.
  std::vector<std::string> sparse_pairs;

  // nullptr where the key is absent or empty.
  const std::string* Find(std::string_view key) const;
};

Result<PaxHeader> ParsePax(std::string_view text);

struct PaxTime {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;  // 0 to 999,999,999, counted upwards also before 1970
};
// "-1.5" is 1.5 s before 1970. Seconds beyond 64 bits are clamped; nullopt where it is no number.
std::optional<PaxTime> ParsePaxTime(std::string_view text);

// LIBARCHIVE.xattr. records have a percent-encoded name and a base64 value; nullopt where they are
// neither.
std::optional<std::string> PercentDecode(std::string_view text);
std::optional<std::string> Base64Decode(std::string_view text);

}  // namespace lamina
