#include "index/gzip_window.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/deflate_blocks.h"
#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::DecodeAll;
using testing::Decoded;
using testing::DecodeFrom;
using testing::DeflateBlock;
using testing::DeflateBlocksOf;
using testing::MixedData;
using testing::Noise;
using testing::Pipe;
using testing::Python;

constexpr auto kGzip = Compression::kGzip;

// The checkpoint as an index that knows offsets, bits and window would make it.
Checkpoint CheckpointAt(const DeflateBlock& block) {
  const ByteSpan window = AsBytes(block.window);
  const size_t history = std::min<uint64_t>(block.raw_offset, window.size());
  const uint64_t first_byte = block.blob_offset - (block.bits > 0 ? 1 : 0);
  return {block.raw_offset, first_byte,
          EncodeGzipWindow((8 - block.bits) % 8, window.last(history))};
}

void ExpectWhole(const Decoded& decoded, std::string_view expected) {
  ASSERT_TRUE(decoded.status) << decoded.status.error().message;
  ASSERT_EQ(decoded.bytes.size(), expected.size());
  EXPECT_TRUE(decoded.bytes == expected) << "the bytes differ";
}

std::string Deflate(const std::string& data, const std::string& arguments) {
  return Python("c = zlib.compressobj(" + arguments + ")\nout(c.compress(data) + c.flush())", data);
}

void ExpectEveryBlockResumes(const std::string& blob, const std::string& data, size_t most_blocks,
                             size_t input_step, size_t output_step) {
  const auto blocks = DeflateBlocksOf(blob);
  ASSERT_FALSE(blocks.empty());
  const size_t stride = 1 + blocks.size() / most_blocks;
  for (size_t i = 0; i < blocks.size(); i += stride) {
    SCOPED_TRACE("block " + std::to_string(i) + ", bits " + std::to_string(blocks[i].bits));
    ExpectWhole(DecodeFrom(kGzip, blob, CheckpointAt(blocks[i]), input_step, output_step),
                std::string_view(data).substr(blocks[i].raw_offset));
  }
}

TEST(GzipWindowTest, ResumesAtBlocksOfEveryKindHoweverTheInputIsCut) {
  const std::string data = MixedData(600'000, 40);
  const std::string blobs[] = {
      Pipe("gzip -6", data), Deflate(data, "0, wbits=31"),
      Deflate(data, "6, zlib.DEFLATED, 31, 8, zlib.Z_FIXED"),
      Deflate(data, "9, zlib.DEFLATED, 31, 1"),  // blocks of 128 symbols
      Python("c = zlib.compressobj(6, wbits=31)\n"
             "for i in range(0, len(data), 5000):\n"
             "  out(c.compress(data[i:i+5000]) + c.flush(zlib.Z_SYNC_FLUSH))\n"
             "out(c.flush())",
             data)};
  for (const std::string& blob : blobs) {
    SCOPED_TRACE("a blob of " + std::to_string(blob.size()));
    ExpectEveryBlockResumes(blob, data, 40, 1 << 20, 1 << 20);
    ExpectEveryBlockResumes(blob, data, 12, 911, 4'099);
    ExpectEveryBlockResumes(blob, data, 2, 3, 40'000);
  }
}

TEST(GzipWindowTest, EveryNumberOfBitsOccursAndResumes) {
  const std::string data = MixedData(300'000, 41);
  const std::string blob = Deflate(data, "9, zlib.DEFLATED, 31, 1");
  std::set<uint32_t> seen;
  for (const DeflateBlock& block : DeflateBlocksOf(blob)) {
    if (block.raw_offset < 40'000 || !seen.insert(block.bits).second) continue;
    SCOPED_TRACE(block.bits);
    for (const size_t input_step : {1u, 2u, 100'000u})
      ExpectWhole(DecodeFrom(kGzip, blob, CheckpointAt(block), input_step, 100'000),
                  std::string_view(data).substr(block.raw_offset));
  }
  EXPECT_EQ(seen.size(), 8u);
}

// The longest distance that deflate has, from the first byte after the checkpoint on. zlib writes
// none above 32,506, so the blob is put together by hand: a stored block, then blocks of fixed
// codes, each with matches of 258 bytes 32,768 back.
TEST(GzipWindowTest, DistancesOf32KiBReachAcrossTheCheckpoint) {
  const std::string noise = Noise(32'768, 42);
  const std::string blob = Python(R"(
bits = []
def number(value, count): bits.extend((value >> i) & 1 for i in range(count))
def code(text): bits.extend(int(c) for c in text)
def stored(data):
  number(0, 3)
  bits.extend([0] * (-len(bits) % 8))
  number(len(data), 16)
  number(len(data) ^ 0xffff, 16)
  for byte in data: number(byte, 8)
def fixed(matches, last):
  number(last, 1)
  number(1, 2)
  for _ in range(matches):
    code("11000101")
    code("11101")
    number(8191, 13)
  code("0000000")
stored(data)
for matches in (1, 2, 3, 200): fixed(matches, 0)
fixed(1, 1)
bits.extend([0] * (-len(bits) % 8))
body = bytes(sum(bits[i + j] << j for j in range(8)) for i in range(0, len(bits), 8))
whole = zlib.decompressobj(-15).decompress(body)
out(bytes([31, 139, 8, 0, 0, 0, 0, 0, 0, 255]) + body)
out(struct.pack("<II", zlib.crc32(whole), len(whole)))
)",
                                  noise);
  const std::string data = DecodeAll(kGzip, blob).bytes;
  ASSERT_EQ(data.size(), 32'768u + 207 * 258);
  EXPECT_EQ(data.substr(32'768), (noise + noise).substr(0, data.size() - 32'768));
  ExpectEveryBlockResumes(blob, data, 1'000, 70'000, 70'000);
  int entered = 0;
  for (const DeflateBlock& block : DeflateBlocksOf(blob)) {
    if (block.raw_offset == 0) continue;
    ++entered;
    // Without the oldest byte of the window the first match refers to nothing.
    Checkpoint cut = CheckpointAt(block);
    cut.state = EncodeGzipWindow((8 - block.bits) % 8, AsBytes(block.window).last(32'767));
    const Decoded decoded = DecodeFrom(kGzip, blob, cut);
    ASSERT_FALSE(decoded.status);
    EXPECT_EQ(decoded.status.error().code, Code::kCorrupt);
  }
  EXPECT_EQ(entered, 5);
}

TEST(GzipWindowTest, GoesOnWithTheMembersThatFollow) {
  const std::string data = MixedData(200'000, 43);
  const std::string blob = Python(
      "for i in range(0, len(data), 40000): out(gzip.compress(data[i:i+40000], 6))\n"
      "out(gzip.compress(b\"\"))",
      data);
  for (const size_t input_step : {1u, 3u, 8u, 1'000u, 1u << 20})
    ExpectEveryBlockResumes(blob, data, 4, input_step, 50'000);
  ExpectEveryBlockResumes(blob, data, 1'000, 1 << 20, 1 << 20);
}

// The checksum of a member that was entered by a window cannot be checked; those after it are.
TEST(GzipWindowTest, ChecksTheMembersThatFollow) {
  const std::string data = MixedData(100'000, 44);
  std::string blob = Pipe("gzip", data);
  const size_t first = blob.size();
  blob += blob;
  const DeflateBlock block = DeflateBlocksOf(blob).at(1);
  ASSERT_LT(block.blob_offset, first);
  std::string wrong_first = blob;
  wrong_first[first - 8] ^= 1;
  ExpectWhole(DecodeFrom(kGzip, wrong_first, CheckpointAt(block)),
              (data + data).substr(block.raw_offset));
  std::string wrong_second = blob;
  wrong_second[blob.size() - 8] ^= 1;
  const Decoded decoded = DecodeFrom(kGzip, wrong_second, CheckpointAt(block));
  ASSERT_FALSE(decoded.status);
  EXPECT_EQ(decoded.status.error().code, Code::kCorrupt);
}

TEST(GzipWindowTest, TruncationAndGarbageAreSeen) {
  const std::string data = MixedData(150'000, 45);
  const std::string blob = Pipe("gzip", data);
  const DeflateBlock block = DeflateBlocksOf(blob).at(1);
  for (size_t cut = 1; cut < 20; ++cut) {
    const Decoded decoded =
        DecodeFrom(kGzip, blob.substr(0, blob.size() - cut), CheckpointAt(block));
    ASSERT_FALSE(decoded.status) << cut;
    EXPECT_EQ(decoded.status.error().code, Code::kCorrupt);
  }
  const Decoded decoded = DecodeFrom(kGzip, blob + "garbage", CheckpointAt(block));
  ExpectWhole(decoded, std::string_view(data).substr(block.raw_offset));
  EXPECT_TRUE(decoded.garbage);
}

// A decoder that came by a window gives checkpoints as any other does, before the first byte, in
// the middle, and around the trailer that it skips.
TEST(GzipWindowTest, SnapshotsOfItLeadToTheSameBytes) {
  const std::string data = MixedData(30'000, 46) + MixedData(30'000, 49);
  const std::string blob =
      Python("for i in range(0, len(data), 30000): out(gzip.compress(data[i:i+30000], 6))", data);
  const DeflateBlock block = DeflateBlocksOf(blob).at(0);
  const Checkpoint start = CheckpointAt(block);
  for (const size_t input_step : {13u, 500u}) {
    auto decoder = *StreamDecoder::Resume(kGzip, start.raw_offset, start.blob_offset, start.state);
    std::vector<uint8_t> buffer(1'001);
    uint64_t previous = UINT64_MAX;
    uint64_t fed = start.blob_offset;
    while (decoder->raw_offset() < data.size()) {
      if (decoder->raw_offset() != previous) {
        previous = decoder->raw_offset();
        const Checkpoint checkpoint = decoder->Snapshot()->Encode();
        ASSERT_EQ(checkpoint.raw_offset, previous);
        ExpectWhole(DecodeFrom(kGzip, blob, checkpoint, 60'000, 60'000),
                    std::string_view(data).substr(previous));
      }
      ByteSpan input = AsBytes(blob).subspan(fed, std::min(input_step, blob.size() - fed));
      const size_t offered = input.size();
      ASSERT_TRUE(decoder->Decode(&input, buffer));
      fed += offered - input.size();
      ASSERT_EQ(decoder->blob_offset(), fed);
    }
  }
}

TEST(GzipWindowTest, RandomOffsetsOfATarAreThoseOfTheStream) {
  const std::string data = Pipe("tar -c --mtime=@1 -C /usr/include . | head -c 8000000", "");
  ASSERT_GT(data.size(), 1'000'000u);
  const std::string blob = Pipe("gzip -6", data);
  std::vector<Checkpoint> checkpoints;
  for (const DeflateBlock& block : DeflateBlocksOf(blob))
    if (checkpoints.empty() || block.raw_offset > checkpoints.back().raw_offset + 100'000)
      checkpoints.push_back(CheckpointAt(block));
  ASSERT_GT(checkpoints.size(), 8u);
  std::mt19937 random(47);
  int reads = 0;
  while (reads < 100'000) {
    // Each decoder serves reads at growing offsets, as one that reads a layer does.
    const size_t number = random() % checkpoints.size();
    const Checkpoint& checkpoint = checkpoints[number];
    auto decoder = *StreamDecoder::Resume(kGzip, checkpoint.raw_offset, checkpoint.blob_offset,
                                          checkpoint.state);
    ByteSpan input = AsBytes(blob).subspan(checkpoint.blob_offset);
    std::vector<uint8_t> buffer(4'096);
    const size_t most = std::min<size_t>(data.size() - checkpoint.raw_offset, 400'000);
    for (size_t passed = 0; passed < most; ++reads) {
      const size_t size = 1 + random() % buffer.size();
      const uint64_t at = decoder->raw_offset();
      const auto count = decoder->Decode(&input, MutableByteSpan(buffer).first(size));
      ASSERT_TRUE(count) << count.error().message;
      ASSERT_EQ(*count, std::min(size, data.size() - at));
      ASSERT_EQ(std::memcmp(buffer.data(), data.data() + at, *count), 0) << at;
      passed += *count;
    }
  }
}

TEST(GzipWindowTest, DamagedStatesAreRefused) {
  const std::string history = MixedData(32'768, 48);
  const std::vector<uint8_t> state = EncodeGzipWindow(3, AsBytes(history));
  for (size_t at = 0; at < state.size(); at += at < 24 ? 1 : 97) {
    std::vector<uint8_t> bad = state;
    bad[at] ^= 0x10;
    const auto decoder = StreamDecoder::Resume(kGzip, 100, 100, bad);
    ASSERT_FALSE(decoder) << at;
    EXPECT_EQ(decoder.error().code, Code::kCorrupt);
  }
  for (size_t size = 1; size < state.size(); size += size < 24 ? 1 : 97)
    EXPECT_FALSE(StreamDecoder::Resume(kGzip, 100, 100, ByteSpan(state).first(size))) << size;
  EXPECT_FALSE(StreamDecoder::Resume(kGzip, 100, 100, EncodeGzipWindow(8, {})));
  EXPECT_TRUE(StreamDecoder::Resume(kGzip, 0, 10, EncodeGzipWindow(0, {})));
}

}  // namespace
}  // namespace lamina
