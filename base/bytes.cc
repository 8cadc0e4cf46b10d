#include "base/bytes.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <bit>

namespace lamina {

static_assert(std::endian::native == std::endian::little,
              "lamina is built for little-endian hosts");

bool IsAllZero(ByteSpan bytes) {
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

uint32_t Crc32c(ByteSpan bytes, uint32_t seed) {
  // ISA-L takes an int length; larger inputs go in steps.
  constexpr size_t kStep = size_t{1} << 30;
  while (!bytes.empty()) {
    const size_t take = std::min(bytes.size(), kStep);
    // The prototype lacks const but does not write.
    seed = crc32_iscsi(const_cast<uint8_t*>(bytes.data()), static_cast<int>(take), seed);
    bytes = bytes.subspan(take);
  }
  return seed;
}

}  // namespace lamina
