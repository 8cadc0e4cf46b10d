#pragma once

// Where the deflate blocks of a gzip blob start and what lies in the window before each, found by
// zlib (which lamina does not use), as zran and SOCI's zTOC find it.

#include <cstdint>
#include <string>
#include <vector>

namespace lamina::testing {

struct DeflateBlock {
  uint64_t raw_offset = 0;   // decoded bytes before it
  uint64_t blob_offset = 0;  // of its first whole byte
  uint32_t bits = 0;         // 0 to 7: bits of the byte before that belong to it
  std::string window;        // the 32 KiB before it, zeros where there are fewer
};

// Every block of every member but those that follow a member's last block. Throws where zlib sees a
// fault.
std::vector<DeflateBlock> DeflateBlocksOf(const std::string& blob);

}  // namespace lamina::testing
