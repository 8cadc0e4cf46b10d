#include "fetch/chunk_codec.h"

#include <gtest/gtest.h>

#include <random>

namespace lamina {
namespace {

constexpr size_t kBlock = 4096;
const CacheCompression kCodecs[] = {CacheCompression::kLz4, CacheCompression::kZstd};

std::vector<uint8_t> Random(size_t size) {
  std::minstd_rand random(3);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 8);
  return bytes;
}

TEST(ChunkCodecTest, WhatIsEncodedDecodesToTheSame) {
  for (const CacheCompression codec : kCodecs)
    for (const size_t blocks : {2, 3, 16, 300}) {
      std::vector<uint8_t> bytes(blocks * kBlock, 'x');
      const auto noise = Random(kBlock / 2);
      std::copy(noise.begin(), noise.end(), bytes.begin() + 100);
      const auto encoded = EncodeChunk(codec, bytes);
      ASSERT_TRUE(encoded);
      EXPECT_EQ(encoded->form.compression, codec);
      ASSERT_EQ(encoded->padded.size(), bytes.size());
      const ByteSpan padded(encoded->padded);
      EXPECT_TRUE(IsAllZero(padded.subspan(encoded->form.length)));
      std::vector<uint8_t> decoded(bytes.size());
      EXPECT_TRUE(DecodeChunkForm(codec, padded.first(encoded->form.length), decoded));
      EXPECT_EQ(decoded, bytes);
    }
}

TEST(ChunkCodecTest, WhatSavesLessThanAQuarterOfItsBlocksStaysPlain) {
  for (const CacheCompression codec : kCodecs)
    for (const size_t noise : {15, 12, 11}) {
      std::vector<uint8_t> bytes = Random(noise * kBlock);
      bytes.resize(16 * kBlock, 'x');
      const auto encoded = EncodeChunk(codec, bytes);
      ASSERT_TRUE(encoded);
      // A block more or less is the codec's own.
      EXPECT_EQ(encoded->padded.empty(), noise >= 12) << noise;
    }
  EXPECT_TRUE(
      EncodeChunk(CacheCompression::kNone, std::vector<uint8_t>(kBlock, 'x'))->padded.empty());
}

// They take no disk anyway.
TEST(ChunkCodecTest, BlocksOfZerosAreNothingToSave) {
  for (const CacheCompression codec : kCodecs) {
    EXPECT_TRUE(EncodeChunk(codec, std::vector<uint8_t>(16 * kBlock))->padded.empty());
    std::vector<uint8_t> bytes = Random(2 * kBlock);
    bytes.resize(16 * kBlock);
    EXPECT_TRUE(EncodeChunk(codec, bytes)->padded.empty());
  }
}

TEST(ChunkCodecTest, WordsSayWhatTheyWereMadeOf) {
  EXPECT_EQ(ChunkForm{}.ToWord(), 1u);
  for (const CacheCompression codec : kCodecs)
    for (const uint32_t length : {1u, 4095u, 1u << 20, (64u << 20) - 1}) {
      const auto form = ChunkForm::FromWord(ChunkForm{codec, length}.ToWord());
      ASSERT_TRUE(form);
      EXPECT_EQ(form->compression, codec);
      EXPECT_EQ(form->length, length);
    }
  for (const uint32_t word : {0u, 2u, 3u, 4u, 5u, ~0u - 3, ~0u - 2})
    EXPECT_FALSE(ChunkForm::FromWord(word)) << word;
}

TEST(ChunkCodecTest, WrongBytesAndWrongLengthsAreCorrupt) {
  const std::vector<uint8_t> bytes(16 * kBlock, 'x');
  for (const CacheCompression codec : kCodecs) {
    const auto encoded = EncodeChunk(codec, bytes);
    ASSERT_TRUE(encoded);
    const ByteSpan stored = ByteSpan(encoded->padded).first(encoded->form.length);
    std::vector<uint8_t> longer(17 * kBlock);
    std::vector<uint8_t> shorter(15 * kBlock);
    std::vector<uint8_t> right(16 * kBlock);
    EXPECT_EQ(DecodeChunkForm(codec, stored, longer).error().code, Code::kCorrupt);
    EXPECT_EQ(DecodeChunkForm(codec, stored, shorter).error().code, Code::kCorrupt);
    EXPECT_FALSE(DecodeChunkForm(codec, stored.first(stored.size() - 1), right));
    EXPECT_FALSE(DecodeChunkForm(codec, Random(stored.size()), right));
    EXPECT_FALSE(DecodeChunkForm(codec, {}, right));
  }
}

}  // namespace
}  // namespace lamina
