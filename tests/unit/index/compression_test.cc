#include "index/compression.h"

#include <gtest/gtest.h>

#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::CheckpointsOf;
using testing::DecodeAll;
using testing::DecodeFrom;
using testing::MixedData;
using testing::Pipe;

Result<Compression> Sniff(const std::string& head) { return SniffCompression(AsBytes(head)); }

void ExpectSniffed(const std::string& head, Compression expected) {
  const auto compression = Sniff(head);
  ASSERT_TRUE(compression) << compression.error().message;
  EXPECT_EQ(*compression, expected) << CompressionName(*compression);
}

void ExpectRefused(const std::string& head, const std::string& name) {
  const auto compression = Sniff(head);
  ASSERT_FALSE(compression) << name;
  EXPECT_EQ(compression.error().code, Code::kUnsupported);
  EXPECT_NE(compression.error().message.find(name), std::string::npos)
      << compression.error().message;
}

std::string TarOf(const std::string& name) {
  return Pipe("T=$(mktemp -d) && cd $T && echo content > '" + name + "' && tar -cf - '" + name +
                  "' && rm -r $T",
              "");
}

TEST(SniffCompressionTest, KnowsWhatTheToolsWrite) {
  const std::string tar = TarOf("file");
  ExpectSniffed(tar, Compression::kNone);
  ExpectSniffed(Pipe("gzip", tar), Compression::kGzip);
  ExpectSniffed(Pipe("zstd -q -c", tar), Compression::kZstd);
  ExpectSniffed("\x50\x2a\x4d\x18", Compression::kZstd);
  ExpectSniffed("\x5f\x2a\x4d\x18 more", Compression::kZstd);
}

TEST(SniffCompressionTest, TakesShortAndZeroBlobsAsTar) {
  ExpectSniffed("", Compression::kNone);
  ExpectSniffed("a", Compression::kNone);
  ExpectSniffed(std::string(1024, '\0'), Compression::kNone);
  ExpectSniffed("\x60\x2a\x4d\x18", Compression::kNone);
}

TEST(SniffCompressionTest, NamesWhatItDoesNotRead) {
  const std::string tar = TarOf("file");
  ExpectRefused(Pipe("xz -c", tar), "xz");
  ExpectRefused(Pipe("bzip2 -c", tar), "bzip2");
  ExpectRefused("LZIP\x01", "lzip");
  ExpectRefused("\x04\x22\x4d\x18", "lz4");
  ExpectRefused("hsqs and more", "squashfs");
  ExpectRefused("SFAR", "nydus");
  ExpectRefused(std::string(1024, '\0') + "\xe2\xe1\xf5\xe0", "EROFS");
}

TEST(SniffCompressionTest, TakesATarWhoseFirstNameLooksLikeAnotherFormat) {
  for (const char* name : {"BZh9", "LZIP", "hsqs", "PK"})
    ExpectSniffed(TarOf(name), Compression::kNone);
}

TEST(PlainDecoderTest, GivesTheBytesAndResumesAnywhere) {
  const std::string data = MixedData(100'000);
  const auto whole = DecodeAll(Compression::kNone, data, 777, 1'000);
  ASSERT_TRUE(whole.status);
  EXPECT_TRUE(whole.bytes == data);
  for (const Checkpoint& checkpoint : CheckpointsOf(Compression::kNone, data, 10'001)) {
    EXPECT_TRUE(checkpoint.state.empty());
    EXPECT_EQ(checkpoint.blob_offset, checkpoint.raw_offset);
    EXPECT_TRUE(DecodeFrom(Compression::kNone, data, checkpoint).bytes ==
                data.substr(checkpoint.raw_offset));
  }
}

TEST(PlainDecoderTest, RefusesCheckpointsThatCannotBe) {
  const uint8_t state[] = {1};
  EXPECT_FALSE(StreamDecoder::Resume(Compression::kNone, 5, 6, {}));
  EXPECT_FALSE(StreamDecoder::Resume(Compression::kNone, 5, 5, state));
  EXPECT_TRUE(StreamDecoder::Resume(Compression::kNone, 5, 5, {}));
}

}  // namespace
}  // namespace lamina
