#pragma once

// Compressed test data from the real tools (gzip, zstd, python3's zlib) and helpers to push it
// through a decoder.

#include <memory>
#include <string>
#include <vector>

#include "index/compression.h"

namespace lamina::testing {

// Standard output of a shell command that reads `input` from standard input; throws where it fails.
std::string Pipe(const std::string& command, const std::string& input);
// The same of a python3 program; zlib, gzip, struct and sys are imported, `data` is the input,
// out() writes.
std::string Python(const std::string& program, const std::string& input);

// Reproducible bytes that are part noise, part text, part long matches near and far, part zeros.
std::string MixedData(size_t size, uint32_t seed = 1);
std::string Noise(size_t size, uint32_t seed = 1);

struct Decoded {
  std::string bytes;
  Status status;  // of the first error of Decode() or of Finish()
  bool garbage = false;
  uint64_t blob_offset = 0;
};

// Everything from `decoder`, fed `input_step` bytes at a time into buffers of `output_step` bytes.
Decoded DecodeAll(StreamDecoder& decoder, const std::string& blob, size_t input_step = 1 << 20,
                  size_t output_step = 1 << 20);
Decoded DecodeAll(Compression compression, const std::string& blob, size_t input_step = 1 << 20,
                  size_t output_step = 1 << 20);

// The same, with a snapshot (encoded) at every multiple of `span` of the output and one at the end.
std::vector<Checkpoint> CheckpointsOf(Compression compression, const std::string& blob, size_t span,
                                      size_t input_step = 1 << 16);

// What the decoder gives from this checkpoint to the end of the blob.
Decoded DecodeFrom(Compression compression, const std::string& blob, const Checkpoint& checkpoint,
                   size_t input_step = 1 << 20, size_t output_step = 1 << 20);

}  // namespace lamina::testing
