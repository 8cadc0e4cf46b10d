#include "fetch/decoded_chunks.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

ChunkBuffer Bytes(size_t size) { return std::make_shared<std::vector<uint8_t>>(size); }

TEST(DecodedChunksTest, WhatWasUsedLongestAgoGoesFirst) {
  DecodedChunks chunks(3000);
  const uint64_t layer = chunks.NewLayer();
  for (const uint64_t chunk : {1, 2, 3}) chunks.Put(layer, chunk, Bytes(1000));
  EXPECT_NE(chunks.Find(layer, 1), nullptr);
  chunks.Put(layer, 4, Bytes(1000));
  EXPECT_EQ(chunks.Find(layer, 2), nullptr);
  for (const uint64_t chunk : {1, 3, 4}) EXPECT_NE(chunks.Find(layer, chunk), nullptr) << chunk;
}

TEST(DecodedChunksTest, LayersAreKeptApart) {
  DecodedChunks chunks(3000);
  const uint64_t first = chunks.NewLayer();
  const uint64_t second = chunks.NewLayer();
  const ChunkBuffer bytes = Bytes(10);
  chunks.Put(first, 7, bytes);
  EXPECT_EQ(chunks.Find(first, 7), bytes);
  EXPECT_EQ(chunks.Find(second, 7), nullptr);
}

TEST(DecodedChunksTest, HoldsNoMoreThanItMay) {
  DecodedChunks chunks(1 << 20);
  const uint64_t layer = chunks.NewLayer();
  chunks.Put(layer, 0, Bytes((1 << 20) + 1));
  EXPECT_EQ(chunks.Find(layer, 0), nullptr);
  std::vector<std::weak_ptr<const std::vector<uint8_t>>> all;
  for (uint64_t chunk = 0; chunk < 1000; ++chunk) {
    const ChunkBuffer bytes = Bytes(chunk % 2 == 0 ? 1 : 100'000);
    all.emplace_back(bytes);
    chunks.Put(layer, chunk, bytes);
  }
  size_t held = 0;
  size_t items = 0;
  for (const auto& weak : all)
    if (const auto bytes = weak.lock()) {
      held += bytes->size();
      ++items;
    }
  EXPECT_GT(items, 1u);
  EXPECT_LE(items, 64u);
  EXPECT_LE(held, size_t{1} << 20);
}

}  // namespace
}  // namespace lamina
