#pragma once

// The second form of a gzip checkpoint's state (docs/formats-checkpoint.md): the history window and
// the bit at which a deflate block starts, which is all that foreign indexes (SOCI's zTOC, zran)
// keep. It is no part of ISA-L and tied to no version of it. A decoder that starts from it cannot
// verify the checksum of the member in which it starts: the CRC-32 of what lies before is not
// known. Pure functions; any thread.

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

struct GzipWindow {
  // 0 to 7: so many low bits of the first byte that is fed belong to what lies before.
  uint32_t skipped_bits = 0;
  // The decoded bytes before, oldest first, at most 32 KiB.
  std::vector<uint8_t> history;
};

// True of bytes that are meant as such a state, sound or not.
bool IsGzipWindow(ByteSpan state);

// Of `history` the last 32 KiB count.
std::vector<uint8_t> EncodeGzipWindow(uint32_t skipped_bits, ByteSpan history);

// kCorrupt for damaged bytes.
Result<GzipWindow> DecodeGzipWindow(ByteSpan state);

}  // namespace lamina
