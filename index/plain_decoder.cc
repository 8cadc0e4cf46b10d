#include "index/plain_decoder.h"

#include <algorithm>

#include "index/decoder_position.h"

namespace lamina {

PlainDecoder::PlainDecoder(uint64_t offset) {
  raw_offset_ = offset;
  blob_offset_ = offset;
}

Result<size_t> PlainDecoder::Decode(ByteSpan* input, MutableByteSpan out) {
  const size_t count = std::min(input->size(), out.size());
  std::copy_n(input->begin(), count, out.begin());
  *input = input->subspan(count);
  raw_offset_ += count;
  blob_offset_ += count;
  return count;
}

Status PlainDecoder::Finish() { return {}; }

std::unique_ptr<DecoderSnapshot> PlainDecoder::Snapshot() const {
  return std::make_unique<PositionSnapshot>(raw_offset_, blob_offset_);
}

}  // namespace lamina
