// Any bytes as what the cache's files hold of a chunk. The first eight are the record's word and
// the chunk's length, the rest lies at its place: decoding ends in a result or an error in words,
// and nothing is written beside the chunk. What is encoded comes back as it was.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "fetch/chunk_codec.h"

namespace {

using lamina::CacheCompression;

constexpr size_t kHead = 8;
constexpr size_t kMostBytes = size_t{1} << 20;

void Require(bool holds) {
  if (!holds) std::abort();
}

void DecodeAny(lamina::ByteSpan head, lamina::ByteSpan place) {
  const auto word = lamina::LoadLe<uint32_t>(head.data());
  const auto form = lamina::ChunkForm::FromWord(word);
  if (!form) return;
  Require(form->ToWord() == word);
  if (form->compression == CacheCompression::kNone) return;
  std::vector<uint8_t> out(lamina::LoadLe<uint32_t>(head.data() + 4) % kMostBytes);
  const lamina::Status decoded = lamina::DecodeChunkForm(
      form->compression, place.first(std::min<size_t>(form->length, place.size())), out);
  Require(decoded || decoded.error().code == lamina::Code::kCorrupt);
}

void EncodeAndDecode(lamina::ByteSpan bytes) {
  for (const CacheCompression compression : {CacheCompression::kLz4, CacheCompression::kZstd}) {
    const auto encoded = lamina::EncodeChunk(compression, bytes);
    Require(encoded.has_value());
    if (encoded->padded.empty()) continue;
    Require(encoded->padded.size() == bytes.size() && encoded->form.length <= bytes.size());
    std::vector<uint8_t> out(bytes.size());
    Require(lamina::DecodeChunkForm(
                compression, lamina::ByteSpan(encoded->padded).first(encoded->form.length), out)
                .has_value());
    Require(std::equal(out.begin(), out.end(), bytes.begin()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHead) return 0;
  const lamina::ByteSpan bytes(data, size);
  DecodeAny(bytes.first(kHead), bytes.subspan(kHead));
  EncodeAndDecode(bytes);
  return 0;
}
