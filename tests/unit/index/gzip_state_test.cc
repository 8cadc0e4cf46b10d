#include "index/gzip_state.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::CheckpointsOf;
using testing::Decoded;
using testing::DecodeFrom;
using testing::MixedData;
using testing::Noise;
using testing::Pipe;
using testing::Python;

constexpr auto kGzip = Compression::kGzip;

Checkpoint SomeState(uint32_t seed) {
  const auto checkpoints = CheckpointsOf(kGzip, Pipe("gzip", MixedData(200'000, seed)), 50'000);
  return checkpoints.at(2);
}

TEST(GzipStateTest, RefusesEveryFlippedByte) {
  const Checkpoint checkpoint = SomeState(10);
  ASSERT_FALSE(checkpoint.state.empty());
  for (size_t at = 0; at < checkpoint.state.size(); ++at) {
    std::vector<uint8_t> state = checkpoint.state;
    state[at] ^= 0x20;
    const auto decoder = StreamDecoder::Resume(kGzip, 1, 1, state);
    ASSERT_FALSE(decoder) << at;
    // Bytes 4 to 11 say which version of ISA-L wrote it.
    EXPECT_EQ(decoder.error().code, at >= 4 && at < 12 ? Code::kUnsupported : Code::kCorrupt) << at;
  }
}

TEST(GzipStateTest, RefusesEveryTruncation) {
  const Checkpoint checkpoint = SomeState(11);
  for (size_t size = 1; size < checkpoint.state.size(); ++size) {
    const auto decoder = StreamDecoder::Resume(kGzip, 1, 1, ByteSpan(checkpoint.state).first(size));
    ASSERT_FALSE(decoder) << size;
    EXPECT_EQ(decoder.error().code, Code::kCorrupt);
  }
}

// Forged contents with a right checksum: most are refused, the others decode to something, none
// harms (the sanitizers watch).
TEST(GzipStateTest, SurvivesForgedContents) {
  const std::string blob = Pipe("gzip", MixedData(200'000, 12));
  const auto checkpoints = CheckpointsOf(kGzip, blob, 30'000);
  std::mt19937 random(13);
  size_t refused = 0;
  for (int round = 0; round < 3'000; ++round) {
    const Checkpoint& checkpoint = checkpoints.at(1 + random() % 5);
    std::vector<uint8_t> content = *OpenGzipState(checkpoint.state);
    const size_t where = random() % 2 ? 56 : content.size();  // the fields, or anything
    for (uint32_t i = 0; i < 1 + random() % 3; ++i)
      content[random() % where] ^= static_cast<uint8_t>(1u << random() % 8);
    const Checkpoint forged{checkpoint.raw_offset, checkpoint.blob_offset, SealGzipState(content)};
    const Decoded decoded = DecodeFrom(kGzip, blob, forged, 10'000, 40'000);
    if (!decoded.status) {
      EXPECT_EQ(decoded.status.error().code, Code::kCorrupt);
      ++refused;
    }
  }
  EXPECT_GT(refused, 2'000u);
}

TEST(GzipStateTest, StoresTheWindowAloneInsideStoredBlocks) {
  const std::string blob = Python(
      "c = zlib.compressobj(0, wbits=31)\nout(c.compress(data) + c.flush())", Noise(200'000));
  size_t with_state = 0;
  for (const Checkpoint& checkpoint : CheckpointsOf(kGzip, blob, 65'536)) {
    if (checkpoint.state.empty()) continue;
    ++with_state;
    EXPECT_LE(OpenGzipState(checkpoint.state)->size(), 56 + 2 * 32'768u + 288);
  }
  EXPECT_GE(with_state, 3u);
}

}  // namespace
}  // namespace lamina
