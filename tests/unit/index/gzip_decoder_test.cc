#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <utility>

#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::CheckpointsOf;
using testing::DecodeAll;
using testing::Decoded;
using testing::DecodeFrom;
using testing::MixedData;
using testing::Noise;
using testing::Pipe;
using testing::Python;

constexpr auto kGzip = Compression::kGzip;

void ExpectWhole(const Decoded& decoded, const std::string& expected) {
  ASSERT_TRUE(decoded.status) << decoded.status.error().message;
  EXPECT_EQ(decoded.bytes.size(), expected.size());
  EXPECT_TRUE(decoded.bytes == expected) << "the bytes differ";
}

void ExpectCorrupt(const Decoded& decoded) {
  ASSERT_FALSE(decoded.status);
  EXPECT_EQ(decoded.status.error().code, Code::kCorrupt) << decoded.status.error().message;
}

// A way to make a gzip blob from bytes, by a tool that is not ours.
struct Writer {
  const char* name;
  const char* command;  // of the shell, or
  const char* program;  // of python3
};

const Writer kWriters[] = {
    {"Gzip1", "gzip -1", nullptr},
    {"Gzip6", "gzip -6", nullptr},
    {"Gzip9", "gzip -9", nullptr},
    {"Stored", nullptr, "c = zlib.compressobj(0, wbits=31)\nout(c.compress(data) + c.flush())"},
    {"FixedHuffman", nullptr,
     "c = zlib.compressobj(6, zlib.DEFLATED, 31, 8, zlib.Z_FIXED)\nout(c.compress(data) + "
     "c.flush())"},
    {"HuffmanOnly", nullptr,
     "c = zlib.compressobj(6, zlib.DEFLATED, 31, 8, zlib.Z_HUFFMAN_ONLY)\nout(c.compress(data) + "
     "c.flush())"},
    {"RunLengths", nullptr,
     "c = zlib.compressobj(6, zlib.DEFLATED, 31, 8, zlib.Z_RLE)\nout(c.compress(data) + "
     "c.flush())"},
    {"SmallBlocks", nullptr,
     "c = zlib.compressobj(9, zlib.DEFLATED, 31, 1)\nout(c.compress(data) + c.flush())"},
    {"Flushes", nullptr,
     "c = zlib.compressobj(6, wbits=31)\n"
     "for i in range(0, len(data), 5000):\n"
     "  out(c.compress(data[i:i+5000]) + c.flush(zlib.Z_SYNC_FLUSH if i % 2 else "
     "zlib.Z_FULL_FLUSH))\n"
     "out(c.flush())"},
    {"Blocks64K", nullptr,
     "for i in range(0, len(data), 65280): out(gzip.compress(data[i:i+65280], "
     "5))\nout(gzip.compress(b\"\"))"},
    {"MembersOfAllSizes", nullptr,
     "i = 0\nn = 1\nwhile i < len(data):\n  out(gzip.compress(data[i:i+n], i % 10))\n  i += n\n  n "
     "= n * 3 // 2 + 1"},
};

class GzipWriterTest : public ::testing::TestWithParam<Writer> {
 protected:
  static std::string Compress(const std::string& data) {
    const Writer& writer = GetParam();
    return writer.command ? Pipe(writer.command, data) : Python(writer.program, data);
  }
};

TEST_P(GzipWriterTest, DecodesTheSameBytesHoweverTheInputIsCut) {
  // A byte at a time costs ISA-L a move of its window for each: a smaller sample does.
  const std::pair<size_t, std::vector<size_t>> samples[] = {{80'000, {1, 7}},
                                                            {500'000, {1'000, 65'536, 500'000}}};
  for (const auto& [size, input_steps] : samples) {
    const std::string data = MixedData(size);
    const std::string blob = Compress(data);
    for (const size_t input_step : input_steps) {
      for (const size_t output_step : {size_t{1'000}, size_t{32'769}, size_t{1} << 20}) {
        SCOPED_TRACE(std::to_string(input_step) + " in, " + std::to_string(output_step) + " out");
        const Decoded decoded = DecodeAll(kGzip, blob, input_step, output_step);
        ExpectWhole(decoded, data);
        EXPECT_FALSE(decoded.garbage);
        EXPECT_EQ(decoded.blob_offset, blob.size());
      }
    }
  }
}

TEST_P(GzipWriterTest, ResumesFromEverySnapshotToTheEnd) {
  const std::string data = MixedData(900'000, 2);
  const std::string blob = Compress(data);
  for (const size_t span : {size_t{13'000}, size_t{32'768}, size_t{65'536}, size_t{100'001}}) {
    for (const size_t input_step : {size_t{311}, size_t{65'536}}) {
      for (const Checkpoint& checkpoint : CheckpointsOf(kGzip, blob, span, input_step)) {
        SCOPED_TRACE("span " + std::to_string(span) + " at " +
                     std::to_string(checkpoint.raw_offset));
        ExpectWhole(DecodeFrom(kGzip, blob, checkpoint, 50'000, 70'000),
                    data.substr(checkpoint.raw_offset));
      }
    }
  }
}

TEST_P(GzipWriterTest, ResumesAroundTheWindowSize) {
  for (const size_t size : {0u, 1u, 32'768u, 32'769u, 65'536u, 65'825u}) {
    const std::string data = MixedData(size, static_cast<uint32_t>(size));
    const std::string blob = Compress(data);
    if (blob.empty()) continue;  // no member at all, which is no gzip blob
    for (const Checkpoint& checkpoint : CheckpointsOf(kGzip, blob, 4'099, 501)) {
      SCOPED_TRACE(std::to_string(size) + " at " + std::to_string(checkpoint.raw_offset));
      ExpectWhole(DecodeFrom(kGzip, blob, checkpoint, 1'003, 9'001),
                  data.substr(checkpoint.raw_offset));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GzipWriterTest, ::testing::ValuesIn(kWriters),
                         [](const auto& writer) { return std::string(writer.param.name); });

TEST(GzipDecoderTest, CheckpointsOfCheckpointsAreAsGood) {
  const std::string data = MixedData(400'000, 3);
  const std::string blob = Pipe("gzip -6", data);
  auto decoder = StreamDecoder::Create(kGzip);
  std::vector<uint8_t> buffer(10'000);
  while (decoder->raw_offset() < 390'000) {
    const uint64_t at = decoder->raw_offset();
    ByteSpan input = AsBytes(blob).subspan(decoder->blob_offset());
    ASSERT_EQ(*decoder->Decode(&input, buffer), buffer.size());
    ASSERT_EQ(std::memcmp(buffer.data(), data.data() + at, buffer.size()), 0) << at;
    const Checkpoint checkpoint = decoder->Snapshot()->Encode();
    decoder = *StreamDecoder::Resume(kGzip, checkpoint.raw_offset, checkpoint.blob_offset,
                                     checkpoint.state);
  }
}

TEST(GzipDecoderTest, GivesTheOutputThatItHoldsWithoutMoreInput) {
  const std::string data = MixedData(300'000, 4);
  const std::string blob = Pipe("gzip -6", data);
  auto decoder = StreamDecoder::Create(kGzip);
  std::string taken;
  std::array<uint8_t, 999> buffer;
  ByteSpan input = AsBytes(blob);
  while (true) {
    const auto count = decoder->Decode(&input, buffer);
    ASSERT_TRUE(count);
    taken.append(reinterpret_cast<const char*>(buffer.data()), *count);
    if (*count < buffer.size()) break;
  }
  EXPECT_TRUE(input.empty());
  EXPECT_TRUE(taken == data);
  EXPECT_TRUE(decoder->Finish());
}

// Header with every optional field; its checksum is over all before it.
std::string WithFullHeader(const std::string& data) {
  return Python(
      "head = b\"\\x1f\\x8b\\x08\" + bytes([2 | 4 | 8 | 16]) + b\"\\0\\0\\0\\0\\0\\xff\"\n"
      "head += struct.pack(\"<H\", 300) + b\"x\" * 300 + b\"name\\0\" + b\"a comment\\0\"\n"
      "head += struct.pack(\"<H\", zlib.crc32(head) & 0xffff)\n"
      "c = zlib.compressobj(6, wbits=-15)\n"
      "out(head + c.compress(data) + c.flush() + struct.pack(\"<II\", zlib.crc32(data), "
      "len(data)))",
      data);
}

TEST(GzipDecoderTest, ReadsEveryHeaderFieldSplitAtAnyByte) {
  const std::string data = "a small file\n";
  const std::string member = WithFullHeader(data);
  ASSERT_EQ(Pipe("gzip -dc", member), data) << "gzip itself must accept the header";
  const std::string blob = member + member;
  for (size_t cut = 0; cut <= blob.size(); ++cut) {
    auto decoder = StreamDecoder::Create(kGzip);
    std::array<uint8_t, 100> buffer;
    size_t filled = 0;
    for (ByteSpan piece : {AsBytes(blob).first(cut), AsBytes(blob).subspan(cut)}) {
      const auto count = decoder->Decode(&piece, MutableByteSpan(buffer).subspan(filled));
      ASSERT_TRUE(count) << cut << ": " << count.error().message;
      filled += *count;
      EXPECT_TRUE(piece.empty());
    }
    EXPECT_EQ(AsText({buffer.data(), filled}), data + data) << cut;
    EXPECT_TRUE(decoder->Finish()) << cut;
  }
}

TEST(GzipDecoderTest, SnapshotsInsideAHeaderResumeAtTheStartOfTheMember) {
  const std::string first = Pipe("gzip", "one");
  const std::string blob = first + WithFullHeader("two");
  for (size_t cut = first.size(); cut < first.size() + 330; ++cut) {
    auto decoder = StreamDecoder::Create(kGzip);
    std::array<uint8_t, 100> buffer;
    ByteSpan input = AsBytes(blob).first(cut);
    ASSERT_EQ(*decoder->Decode(&input, buffer), 3u);
    const Checkpoint checkpoint = decoder->Snapshot()->Encode();
    if (checkpoint.state.empty()) {
      EXPECT_EQ(checkpoint.blob_offset, first.size());
    }
    ExpectWhole(DecodeFrom(kGzip, blob, checkpoint), "two");
  }
}

TEST(GzipDecoderTest, RefusesAHeaderWithAWrongChecksum) {
  std::string blob = WithFullHeader("data");
  blob[4] = 'x';  // the time
  ExpectCorrupt(DecodeAll(kGzip, blob));
}

TEST(GzipDecoderTest, RefusesReservedHeaderFlags) {
  std::string blob = Pipe("gzip", "data");
  blob[3] = static_cast<char>(blob[3] | 0x40);
  ExpectCorrupt(DecodeAll(kGzip, blob));
}

TEST(GzipDecoderTest, RefusesABlobThatDoesNotStartWithAMember) {
  for (const std::string blob : {"", "\x1f", "no gzip", "\x1f\x8b\x07", "\x1f\x8c\x08"})
    ExpectCorrupt(DecodeAll(kGzip, blob));
}

TEST(GzipDecoderTest, ReadsAMillionEmptyMembers) {
  const std::string empty = Pipe("gzip -n", "");
  std::string blob;
  for (int i = 0; i < 1'000'000; ++i) blob += empty;
  blob += Pipe("gzip", "the end");
  ExpectWhole(DecodeAll(kGzip, blob), "the end");
}

TEST(GzipDecoderTest, ToleratesGarbageAfterACompleteMember) {
  const std::string member = Pipe("gzip", "content");
  for (const std::string& garbage :
       {std::string("garbage"), std::string(100'000, '\0'), std::string("\x1f"),
        std::string("\x1f\x8b"), std::string("\x1f\x8b\x07 no deflate"), "x" + member}) {
    for (const size_t input_step : {size_t{1}, size_t{1000}}) {
      const Decoded decoded = DecodeAll(kGzip, member + member + garbage, input_step);
      ExpectWhole(decoded, "contentcontent");
      EXPECT_TRUE(decoded.garbage);
      EXPECT_EQ(decoded.blob_offset, 2 * member.size() + garbage.size());
    }
  }
}

TEST(GzipDecoderTest, SnapshotsInGarbageResumeAtItsStart) {
  const std::string member = Pipe("gzip", "content");
  const std::string blob = member + "x" + member;
  const Checkpoint last = CheckpointsOf(kGzip, blob, 1000).back();
  EXPECT_EQ(last.raw_offset, 7u);
  EXPECT_EQ(last.blob_offset, member.size());
  const Decoded decoded = DecodeFrom(kGzip, blob, last);
  ExpectWhole(decoded, "");
  EXPECT_TRUE(decoded.garbage);
}

TEST(GzipDecoderTest, RefusesAWrongChecksumOrLengthOfAnyMember) {
  const std::string member = Pipe("gzip", MixedData(100'000, 5));
  for (size_t back = 1; back <= 8; ++back) {
    std::string blob = member + member + member;
    blob[2 * member.size() - back] ^= 0x10;
    const Decoded decoded = DecodeAll(kGzip, blob);
    ExpectCorrupt(decoded);
    EXPECT_EQ(decoded.bytes.size(), 200'000u) << "bytes before the fault are given";
  }
}

TEST(GzipDecoderTest, ChecksTheMemberInWhichItResumed) {
  const std::string data = MixedData(300'000, 6);
  std::string blob = Pipe("gzip", data);
  const auto checkpoints = CheckpointsOf(kGzip, blob, 50'000);
  blob[blob.size() - 6] ^= 1;  // in the CRC
  size_t with_state = 0;
  for (const Checkpoint& checkpoint : checkpoints) {
    if (checkpoint.blob_offset >= blob.size() - 8) continue;
    with_state += checkpoint.state.empty() ? 0 : 1;
    ExpectCorrupt(DecodeFrom(kGzip, blob, checkpoint));
  }
  EXPECT_GE(with_state, 5u);
}

TEST(GzipDecoderTest, RefusesEveryTruncation) {
  const std::string first = WithFullHeader(MixedData(3'000, 7));
  const std::string blob = first + Pipe("gzip", MixedData(3'000, 8));
  for (size_t size = 0; size < blob.size(); ++size) {
    SCOPED_TRACE(size);
    const Decoded decoded = DecodeAll(kGzip, blob.substr(0, size), 512, 700);
    if (size == first.size() || size == first.size() + 1 || size == first.size() + 2) {
      EXPECT_TRUE(decoded.status) << "a whole member, then nothing or what is no header yet";
      EXPECT_EQ(decoded.garbage, size > first.size());
    } else {
      ExpectCorrupt(decoded);
    }
  }
}

TEST(GzipDecoderTest, RefusesEveryFlippedByte) {
  const std::string data = MixedData(2'000, 9);
  const std::string good = Pipe("gzip -n", data);
  for (size_t at = 10; at < good.size(); ++at) {  // the fixed header has bytes without meaning
    std::string blob = good;
    blob[at] ^= 0x04;
    ExpectCorrupt(DecodeAll(kGzip, blob, 100, 300));
  }
}

// A member of 4 GiB + 64 MiB: the length in its trailer has wrapped. 67 equal blocks of 64 MiB,
// each flushed, so that python3 need not deflate them all.
TEST(GzipDecoderTest, ChecksMembersAbove4GiB) {
  const std::string blob = Python(
      "c = zlib.compressobj(9, wbits=-15)\n"
      "zeros = bytes(1 << 26)\n"
      "block = c.compress(zeros) + c.flush(zlib.Z_FULL_FLUSH)\n"
      "crc = 0\n"
      "for i in range(65): crc = zlib.crc32(zeros, crc)\n"
      "out(b\"\\x1f\\x8b\\x08\\0\\0\\0\\0\\0\\0\\xff\" + block * 65 + b\"\\x03\\0\" +\n"
      "    struct.pack(\"<II\", crc, 65 << 26 & 0xffffffff))",
      "");
  auto decoder = StreamDecoder::Create(kGzip);
  std::vector<uint8_t> buffer(1 << 22);
  ByteSpan input = AsBytes(blob);
  Checkpoint beyond;
  while (true) {
    const auto count = decoder->Decode(&input, buffer);
    ASSERT_TRUE(count) << count.error().message;
    if (decoder->raw_offset() == (uint64_t{1} << 32) + buffer.size())
      beyond = decoder->Snapshot()->Encode();
    if (*count < buffer.size()) break;
  }
  EXPECT_TRUE(decoder->Finish());
  EXPECT_EQ(decoder->raw_offset(), uint64_t{65} << 26);
  EXPECT_EQ(beyond.raw_offset, (uint64_t{1} << 32) + buffer.size());
  ExpectWhole(DecodeFrom(kGzip, blob, beyond),
              std::string((uint64_t{65} << 26) - beyond.raw_offset, '\0'));
}

}  // namespace
}  // namespace lamina
