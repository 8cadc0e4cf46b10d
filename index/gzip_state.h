#pragma once

// The state of ISA-L's inflate as bytes of a checkpoint, and back (docs/
// formats-checkpoint.md). ISA-L keeps all that it needs between two calls in struct inflate_state:
// the bit buffer, the Huffman tables of the present block and, in tmp_out_buffer, the last 32 KiB
// of output and the output that is decoded but not yet taken. Only the parts in use are stored. The
// layout of the tables is ISA-L's own, so the bytes are tied to its version.
//
// Decoding trusts nothing: ISA-L itself checks no index of a state, so every field and every table
// entry that it would follow is checked here against what ISA-L can have written. Pure functions;
// any thread.

#include <isa-l/igzip_lib.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

// `state` is between two calls of isal_inflate() in mode ISAL_GZIP_NO_HDR_VER or, where a
// window was its start, ISAL_DEFLATE.
std::vector<uint8_t> EncodeGzipState(const inflate_state& state);

// kUnsupported for another version's bytes, kCorrupt for damaged ones.
Result<std::unique_ptr<inflate_state>> DecodeGzipState(ByteSpan bytes);

// The envelope (version, checksum, compression) alone, for tests and fuzzers that forge what is
// inside.
std::vector<uint8_t> SealGzipState(ByteSpan content);
Result<std::vector<uint8_t>> OpenGzipState(ByteSpan bytes);

}  // namespace lamina
