#pragma once

// Writing files in which blocks of zeros are holes. Offsets and sizes are multiples of kHoleBlock.
// Any thread, as long as two threads do not write the same range.

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

inline constexpr uint64_t kHoleBlock = 4096;

// Writes `bytes` where the file has holes only: blocks of zeros are left out.
Status WriteIntoHole(int fd, ByteSpan bytes, uint64_t offset, std::string_view name);

// Writes `bytes` over whatever is there: blocks of zeros become holes where the file system can.
Status WriteOver(int fd, ByteSpan bytes, uint64_t offset, std::string_view name);

// Could the range hold anything but zeros? True where the file system cannot tell.
bool MayHoldData(int fd, uint64_t offset, uint64_t length);

// Frees the range's blocks; it then reads as zeros.
Status PunchHole(int fd, uint64_t offset, uint64_t length, std::string_view name);

// Bytes of disk that the open file takes, in its blocks; 0 where it does not tell.
uint64_t BlockBytes(int fd);

}  // namespace lamina
