// Gzip: arbitrary bytes through the decoder, in pieces of arbitrary size; a checkpoint in the
// middle must lead to the same bytes and the same verdict. And arbitrary bytes as the state of a
// checkpoint: as they are, and inside a right envelope, so that the checks behind the checksum are
// reached; and as the window from which a decoder starts.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "index/compression.h"
#include "index/gzip_state.h"
#include "index/gzip_window.h"

namespace {

using lamina::ByteSpan;
using lamina::Compression;
using lamina::MutableByteSpan;
using lamina::StreamDecoder;

constexpr size_t kOutputLimit = 1 << 20;

struct Outcome {
  std::string bytes;
  bool good = false;   // the blob ends well
  bool fault = false;  // the decoder met a fault, and snapshots of it mean nothing
};

// Decodes `blob`, whose pieces are `step` bytes, and stops at the limit.
Outcome Run(StreamDecoder& decoder, ByteSpan blob, size_t step, size_t out_step) {
  Outcome outcome;
  std::vector<uint8_t> out(out_step);
  while (outcome.bytes.size() < kOutputLimit) {
    const size_t size = blob.size() < step ? blob.size() : step;
    ByteSpan input = blob.first(size);
    const auto count = decoder.Decode(&input, out);
    outcome.fault = !count.has_value();
    if (outcome.fault) return outcome;
    outcome.bytes.append(reinterpret_cast<const char*>(out.data()), *count);
    blob = blob.subspan(size - input.size());
    if (blob.empty() && *count == 0) break;
  }
  outcome.good = decoder.Finish().has_value();
  // Looking for the end of the stream may have met the fault.
  ByteSpan nothing;
  outcome.fault = !decoder.Decode(&nothing, MutableByteSpan(out).first(1)).has_value();
  return outcome;
}

void CheckResume(ByteSpan blob, size_t step, size_t out_step) {
  auto whole = StreamDecoder::Create(Compression::kGzip);
  const Outcome expected = Run(*whole, blob, step, out_step);
  if (expected.bytes.size() >= kOutputLimit) return;

  auto decoder = StreamDecoder::Create(Compression::kGzip);
  std::vector<uint8_t> out(expected.bytes.size() / 2 + 1);
  ByteSpan input = blob;
  if (!decoder->Decode(&input, out)) return;
  const lamina::Checkpoint checkpoint = decoder->Snapshot()->Encode();
  auto resumed = StreamDecoder::Resume(Compression::kGzip, checkpoint.raw_offset,
                                       checkpoint.blob_offset, checkpoint.state);
  if (!resumed && expected.good) std::abort();
  if (!resumed) return;
  const Outcome rest = Run(**resumed, blob.subspan(checkpoint.blob_offset), step, out_step);
  // What is decoded ahead of a fault depends on how the input is cut; of a good blob everything is.
  if (!expected.good) return;
  if (!rest.good ||
      expected.bytes.compare(checkpoint.raw_offset, std::string::npos, rest.bytes) != 0)
    std::abort();
}

void TryState(ByteSpan state, ByteSpan blob) {
  auto decoder = StreamDecoder::Resume(Compression::kGzip, 100, 100, state);
  if (!decoder) return;
  if (Run(**decoder, blob, 100, 5'000).fault) return;
  const lamina::Checkpoint again = (*decoder)->Snapshot()->Encode();
  if (!StreamDecoder::Resume(Compression::kGzip, again.raw_offset, again.blob_offset, again.state))
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const ByteSpan bytes(data + 4, size - 4);
  const size_t step = 1 + data[1] * 5u;
  const size_t out_step = 1 + data[2] * 300u;
  const size_t cut = bytes.size() * data[3] / 256;
  switch (data[0] % 5) {
    case 0:
    case 1:
      CheckResume(bytes, step, out_step);
      break;
    case 2:
      TryState(bytes.first(cut), bytes.subspan(cut));
      break;
    case 3:
      TryState(lamina::EncodeGzipWindow(data[0] / 5 % 8, bytes.first(cut)), bytes.subspan(cut));
      break;
    default:
      TryState(lamina::SealGzipState(bytes.first(cut)), bytes.subspan(cut));
      break;
  }
  return 0;
}
