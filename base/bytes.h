#pragma once

// Byte spans, little-endian loads and stores, alignment. Pure functions; any thread.

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace lamina {

using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

inline ByteSpan AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The build is for little-endian hosts only (base/bytes.cc asserts it), so these are plain copies.
template <typename T>
T LoadLe(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void StoreLe(uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// `alignment` is a power of two.
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

bool IsAllZero(ByteSpan bytes);

// CRC-32C (Castagnoli), without the final inversion, as EROFS superblocks use it; pass the result
// back as `seed` to go on. lamina's own files use the same function.
uint32_t Crc32c(ByteSpan bytes, uint32_t seed = 0xFFFFFFFFu);

}  // namespace lamina
