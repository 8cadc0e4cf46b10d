// Zstd: arbitrary bytes through the decoder, in pieces of arbitrary size; decoding from the last
// frame start must lead to the same bytes and the same verdict.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "index/compression.h"

namespace {

using lamina::ByteSpan;
using lamina::Compression;
using lamina::StreamDecoder;

constexpr size_t kOutputLimit = 1 << 20;

struct Outcome {
  std::string bytes;
  bool good = false;
  lamina::Checkpoint last;    // at the end
  lamina::Checkpoint middle;  // the last frame start before it
};

Outcome Run(StreamDecoder& decoder, ByteSpan blob, size_t step, size_t out_step) {
  Outcome outcome;
  std::vector<uint8_t> out(out_step);
  while (outcome.bytes.size() < kOutputLimit) {
    const size_t size = blob.size() < step ? blob.size() : step;
    ByteSpan input = blob.first(size);
    const auto count = decoder.Decode(&input, out);
    if (!count) break;
    outcome.bytes.append(reinterpret_cast<const char*>(out.data()), *count);
    blob = blob.subspan(size - input.size());
    const lamina::Checkpoint now = decoder.Snapshot()->Encode();
    if (now.blob_offset != outcome.last.blob_offset)
      outcome.middle = std::exchange(outcome.last, now);
    if (blob.empty() && *count < out.size()) break;
  }
  outcome.good = decoder.Finish().has_value();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const ByteSpan blob(data + 2, size - 2);
  auto decoder = StreamDecoder::Create(Compression::kZstd);
  const Outcome expected = Run(*decoder, blob, 1 + data[0] * 5u, 1 + data[1] * 300u);
  for (const lamina::Checkpoint& at : {expected.middle, expected.last}) {
    if (!at.state.empty() || at.blob_offset > blob.size() || at.raw_offset > expected.bytes.size())
      std::abort();
    if (!expected.good) continue;
    auto resumed = StreamDecoder::Resume(Compression::kZstd, at.raw_offset, at.blob_offset, {});
    const Outcome rest = Run(**resumed, blob.subspan(at.blob_offset), 1 << 16, 1 << 16);
    if (!rest.good || expected.bytes.compare(at.raw_offset, std::string::npos, rest.bytes) != 0)
      std::abort();
  }
  return 0;
}
