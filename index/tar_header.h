#pragma once

// One 512-byte header block of a tar archive: its fields, read as Go's archive/tar reads them,
// since that is what every container engine unpacks with. Pure functions and values; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

inline constexpr size_t kTarBlock = 512;

enum class TarFormat { kV7, kUstar, kStar, kGnu };

struct TarHeader {
  TarFormat format = TarFormat::kV7;
  char type = '\0';
  std::string name;  // with the prefix of ustar and star
  std::string link_name;
  int64_t size = 0;
  int64_t mode = 0;
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t mtime = 0;  // clamped to what 64 bits carry
  int64_t device_major = 0;
  int64_t device_minor = 0;
};

// The error has the reason only: "its checksum is wrong". The caller knows where the header stands.
Result<TarHeader> ParseTarHeader(ByteSpan block);

// Up to the first NUL.
std::string_view TarString(ByteSpan field);

// A numeric field: octal in spaces and NULs (empty is 0), or base 256 with the top bit set.
struct TarNumber {
  bool valid = false;
  bool overflow = false;  // a base-256 number beyond 64 bits; `value` is then the nearest one
  int64_t value = 0;
};
TarNumber ParseTarNumber(ByteSpan field);

// A decimal number with an optional sign, as PAX records have it; what is beyond 64 bits is clamped
// and told by `overflow`.
TarNumber ParseDecimal(std::string_view text);

}  // namespace lamina
