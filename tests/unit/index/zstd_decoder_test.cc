#include <gtest/gtest.h>

#include <map>

#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::CheckpointsOf;
using testing::DecodeAll;
using testing::Decoded;
using testing::DecodeFrom;
using testing::MixedData;
using testing::Pipe;

constexpr auto kZstd = Compression::kZstd;

std::string Frame(const std::string& data, const std::string& options = "-3") {
  return Pipe("zstd -q -c " + options, data);
}

std::string SkippableFrame(uint8_t number, const std::string& content) {
  std::string frame = {static_cast<char>(0x50 + number), '\x2a', '\x4d', '\x18'};
  const auto size = static_cast<uint32_t>(content.size());
  frame.append(reinterpret_cast<const char*>(&size), sizeof size);
  return frame + content;
}

void ExpectWhole(const Decoded& decoded, const std::string& expected) {
  ASSERT_TRUE(decoded.status) << decoded.status.error().message;
  EXPECT_TRUE(decoded.bytes == expected) << "the bytes differ";
  EXPECT_FALSE(decoded.garbage);
}

void ExpectCorrupt(const Decoded& decoded) {
  ASSERT_FALSE(decoded.status);
  EXPECT_EQ(decoded.status.error().code, Code::kCorrupt) << decoded.status.error().message;
}

TEST(ZstdDecoderTest, DecodesTheSameBytesHoweverTheInputIsCut) {
  const std::string data = MixedData(600'000);
  for (const char* options : {"-1", "-3", "-9", "-1 --long=27", "--no-check", "--check"}) {
    const std::string blob = Frame(data, options);
    for (const size_t input_step : {size_t{1}, size_t{999}, blob.size()}) {
      SCOPED_TRACE(std::string(options) + ", " + std::to_string(input_step) + " in");
      ExpectWhole(DecodeAll(kZstd, blob, input_step, 30'001), data);
    }
  }
}

TEST(ZstdDecoderTest, ReadsManyFramesEmptyAndSkippableOnesToo) {
  std::string blob = SkippableFrame(0, "") + Frame("");
  std::string data;
  for (uint32_t i = 0; i < 30; ++i) {
    const std::string part = MixedData(1 + i * 1'371, i);
    data += part;
    blob += Frame(part) + SkippableFrame(i % 16, std::string(i * 100, 'x')) + Frame("");
  }
  for (const size_t input_step : {size_t{1}, size_t{3}, size_t{50'000}}) {
    const Decoded decoded = DecodeAll(kZstd, blob, input_step, 10'000);
    ExpectWhole(decoded, data);
    EXPECT_EQ(decoded.blob_offset, blob.size());
  }
}

TEST(ZstdDecoderTest, ReadsAMillionEmptyFrames) {
  const std::string empty = Frame("");
  std::string blob;
  for (int i = 0; i < 1'000'000; ++i) blob += empty;
  ExpectWhole(DecodeAll(kZstd, blob + Frame("the end")), "the end");
}

TEST(ZstdDecoderTest, SnapshotsAreTheLastFrameStartExactly) {
  const std::string parts[] = {MixedData(100'000, 1), MixedData(70'000, 2), MixedData(130'000, 3)};
  std::string blob;
  std::string data;
  std::map<uint64_t, uint64_t> starts;  // raw offset to blob offset, from the sizes of the frames
  for (const std::string& part : parts) {
    starts[data.size()] = blob.size();
    blob += Frame(part);
    data += part;
  }
  starts[data.size()] = blob.size();
  size_t distinct = 0;
  uint64_t before = 1;
  for (const Checkpoint& checkpoint : CheckpointsOf(kZstd, blob, 10'000, 777)) {
    EXPECT_TRUE(checkpoint.state.empty());
    ASSERT_TRUE(starts.contains(checkpoint.raw_offset)) << checkpoint.raw_offset;
    EXPECT_EQ(checkpoint.blob_offset, starts[checkpoint.raw_offset]);
    distinct += checkpoint.raw_offset != before ? 1 : 0;
    before = checkpoint.raw_offset;
    if (checkpoint.blob_offset < blob.size())
      ExpectWhole(DecodeFrom(kZstd, blob, checkpoint, 5'000, 7'000),
                  data.substr(checkpoint.raw_offset));
  }
  EXPECT_EQ(distinct, 4u);
}

TEST(ZstdDecoderTest, RefusesEveryTruncation) {
  const std::string first = Frame(MixedData(2'000, 4));
  const std::string skippable = SkippableFrame(3, "abc");
  const std::string blob = first + skippable + Frame(MixedData(2'000, 5));
  for (size_t size = 0; size < blob.size(); ++size) {
    SCOPED_TRACE(size);
    const Decoded decoded = DecodeAll(kZstd, blob.substr(0, size), 512, 700);
    if (size == first.size() || size == first.size() + skippable.size()) {
      EXPECT_TRUE(decoded.status);
    } else {
      ExpectCorrupt(decoded);
    }
  }
}

TEST(ZstdDecoderTest, RefusesAWrongChecksum) {
  std::string blob = Frame(MixedData(50'000, 6), "--check");
  blob.back() ^= 1;
  const Decoded decoded = DecodeAll(kZstd, blob);
  ExpectCorrupt(decoded);
}

TEST(ZstdDecoderTest, RefusesBytesThatAreNoFrame) {
  const std::string frame = Frame("content");
  ExpectCorrupt(DecodeAll(kZstd, frame + "garbage"));
  ExpectCorrupt(DecodeAll(kZstd, frame + "ga"));
  ExpectCorrupt(DecodeAll(kZstd, frame + std::string(4096, '\0')));
  // The format of zstd 0.7, which libzstd may still read.
  ExpectCorrupt(DecodeAll(kZstd, frame + "\x27\xb5\x2f\xfd" + std::string(100, '\0')));
}

TEST(ZstdDecoderTest, RefusesAWindowAbove128MiBAndNamesIt) {
  const std::string blob = Pipe("zstd -q -c --ultra -1 --zstd=wlog=28", MixedData(1'000));
  const Decoded decoded = DecodeAll(kZstd, blob);
  ASSERT_FALSE(decoded.status);
  EXPECT_EQ(decoded.status.error().code, Code::kLimit);
  EXPECT_NE(decoded.status.error().message.find("256.0 MiB"), std::string::npos)
      << decoded.status.error().message;
}

TEST(ZstdDecoderTest, NamesAMissingDictionary) {
  std::string sample;
  for (uint32_t i = 0; i < 3'000; ++i)
    sample += "sample text number " + std::to_string(i * 7919) + "\n";
  const std::string blob = Pipe(
      "T=$(mktemp -d); cat > $T/all; split -b 100 $T/all $T/part; "
      "zstd -q --train $T/part* -o $T/dictionary --maxdict=2000 2> $T/log && zstd -q -c -D "
      "$T/dictionary $T/partaa; "
      "S=$?; rm -r $T; exit $S",
      sample);
  const Decoded decoded = DecodeAll(kZstd, blob);
  ASSERT_FALSE(decoded.status);
  EXPECT_EQ(decoded.status.error().code, Code::kUnsupported) << decoded.status.error().message;
}

TEST(ZstdDecoderTest, RefusesCheckpointsWithAState) {
  const uint8_t state[] = {1, 2, 3};
  const auto decoder = StreamDecoder::Resume(kZstd, 5, 5, state);
  ASSERT_FALSE(decoder);
  EXPECT_EQ(decoder.error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace lamina
