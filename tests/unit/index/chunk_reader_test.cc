#include "index/chunk_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include "base/file.h"
#include "index/layer_indexer.h"
#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::Pipe;
using testing::Python;

// A blob in memory that records what is read from it.
class RecordingBlob : public BlobSource {
 public:
  explicit RecordingBlob(std::string bytes) : bytes_(std::move(bytes)) {}

  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    if (failure) return *failure;
    reads.emplace_back(offset, out.size());
    if (on_read) on_read();
    if (offset + out.size() > bytes_.size()) return Error{Code::kIo, "read beyond the end"};
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    const ByteSpan all = AsBytes(bytes_).subspan(offset);
    for (size_t at = 0; at < all.size(); at += 50'000) {
      RETURN_IF_ERROR(sink(all.subspan(at, std::min<size_t>(50'000, all.size() - at))));
    }
    return {};
  }
  std::string origin() const override { return "memory"; }

  std::vector<std::pair<uint64_t, uint64_t>> reads;  // offset, length
  std::optional<Error> failure;
  std::function<void()> on_read;

 private:
  std::string bytes_;
};

// The flat bytes of a layer as python3's tarfile tells them.
const std::string& FlatBytes(const std::string& tar) {
  static std::map<std::string, std::string> known;
  std::string& flat = known[tar];
  if (flat.empty()) {
    flat = Python(
        "import tarfile, io\n"
        "for m in tarfile.open(fileobj=io.BytesIO(data)):\n"
        "  if m.isreg() and m.size: out(data[m.offset_data:m.offset_data + m.size] + "
        "bytes(-m.size % 4096))",
        tar);
  }
  return flat;
}

// An indexed layer.
class Layer {
 public:
  Layer(const std::string& tar, const std::string& packed) : blob(packed), flat(FlatBytes(tar)) {
    const IndexRequest request{.blob_digest = Digest::Sha256(AsBytes(packed)),
                               .blob_size = packed.size(),
                               .diff_id = Digest::Sha256(AsBytes(tar)),
                               .name = "the layer",
                               .output_path = folder_->path() + "/index",
                               .progress = {}};
    auto made = IndexLayer(blob, request);
    EXPECT_TRUE(made) << made.error().message;
    if (made) index = *made;
  }

  // What of the blob is fetched for the chunk alone.
  uint64_t FetchBegin(const ChunkRecord& chunk) const {
    const CheckpointView checkpoint = *index->CheckpointAt(chunk.checkpoint);
    return checkpoint.blob_offset + checkpoint.lead.size();
  }
  uint64_t FetchEnd(const ChunkRecord& chunk) const {
    return index->MarkAt(index->FirstMarkFrom(chunk.blob_end))->blob_offset;
  }
  std::string Flat(const ChunkRecord& chunk) const {
    return flat.substr(chunk.flat_offset, chunk.flat_length);
  }
  Result<std::string> Decode(uint64_t number, const PassingChunk& passing = {},
                             DecodeResources* shared = nullptr) {
    std::string out(index->Chunk(number)->flat_length, 'x');
    const MutableByteSpan bytes(reinterpret_cast<uint8_t*>(out.data()), out.size());
    RETURN_IF_ERROR(DecodeChunk(*index, number, blob, bytes,
                                Deadline::After(std::chrono::minutes(1)), passing, shared));
    return out;
  }

  RecordingBlob blob;
  std::string flat;
  std::shared_ptr<const LayerIndex> index;

 private:
  Result<TemporaryFolder> folder_ = TemporaryFolder::Create("lamina-chunks");
};

// Small files of many sizes, empty ones, one larger than any chunk, zeros, folders between them.
// Made once.
const std::string& SampleTar() {
  static const std::string tar = Python(
      "import tarfile, io, random\n"
      "r = random.Random(1)\n"
      "t = tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\")\n"
      "def add(name, content):\n"
      "  i = tarfile.TarInfo(name); i.size = len(content); t.addfile(i, io.BytesIO(content))\n"
      "def text(n): return b\"\".join(b\"%d line\\n\" % r.randrange(500) for _ in range(n // 8 + "
      "1))[:n]\n"
      "for d in range(12):\n"
      "  i = tarfile.TarInfo(\"d%d\" % d); i.type = tarfile.DIRTYPE; i.mode = 0o755; t.addfile(i)\n"
      "  for f in range(60):\n"
      "    n = r.choice([0, 1, 100, 4095, 4096, 4097, r.randrange(30000)])\n"
      "    add(\"d%d/f%d\" % (d, f), text(n) if f % 2 else r.randbytes(n))\n"
      "  if d == 4: add(\"d4/big\", text(3000000) + r.randbytes(2000001))\n"
      "  if d == 6: add(\"d6/zeros\", bytes(3000000))\n"
      "  if d == 8: add(\"d8/holes\", r.randbytes(100000) + bytes(900000) + r.randbytes(5))\n"
      "t.close()",
      "");
  return tar;
}

const std::string& PackedSample(const std::string& command) {
  static std::map<std::string, std::string> packed;
  std::string& blob = packed[command];
  if (blob.empty()) blob = Pipe(command, SampleTar());
  return blob;
}

struct Packing {
  const char* name;
  const char* command;
};

const Packing kPackings[] = {
    {"Plain", "cat"},
    {"Gzip1", "gzip -1"},
    {"Gzip6", "gzip -6"},
    {"GzipStored",
     "python3 -c 'import sys, zlib; c = zlib.compressobj(0, wbits=31); "
     "sys.stdout.buffer.write(c.compress(sys.stdin.buffer.read()) + c.flush())'"},
    {"GzipMembers", "split -b 70000 --filter='gzip -6'"},
    {"ZstdOneFrame", "zstd -q -c -3"},
    {"ZstdFrames", "split -b 300000 --filter='zstd -q -c'"},
};

class ChunkReaderPackingTest : public ::testing::TestWithParam<Packing> {
 protected:
  ChunkReaderPackingTest() : tar_(SampleTar()), layer_(tar_, PackedSample(GetParam().command)) {}
  std::string tar_;
  Layer layer_;
};

TEST_P(ChunkReaderPackingTest, DecodesEveryChunkInAnyOrder) {
  const uint64_t count = layer_.index->facts().chunk_count;
  ASSERT_GE(count, 5u);
  ASSERT_EQ(layer_.index->facts().flat_size, layer_.flat.size());
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t number = i * 7919 % count;
    const auto bytes = layer_.Decode(number);
    ASSERT_TRUE(bytes) << bytes.error().message;
    EXPECT_TRUE(*bytes == layer_.Flat(*layer_.index->Chunk(number))) << "chunk " << number;
  }
}

TEST_P(ChunkReaderPackingTest, FetchesOnlyTheRangeFromTheCheckpointToTheEndOfTheChunk) {
  for (uint64_t number = 0; number < layer_.index->facts().chunk_count; ++number) {
    const ChunkRecord chunk = *layer_.index->Chunk(number);
    layer_.blob.reads.clear();
    ASSERT_TRUE(layer_.Decode(number));
    if (chunk.zero) {
      EXPECT_TRUE(layer_.blob.reads.empty());
      continue;
    }
    const uint64_t begin = layer_.FetchBegin(chunk);
    ASSERT_EQ(layer_.blob.reads.size(), 1u);
    EXPECT_EQ(layer_.blob.reads[0].first, begin);
    const uint64_t end = begin + layer_.blob.reads[0].second;
    EXPECT_EQ(end, layer_.FetchEnd(chunk));
    EXPECT_LT(end, chunk.blob_end + kHashAlign);
  }
}

TEST_P(ChunkReaderPackingTest, OffersOtherChunksOfTheSameCheckpointOnlyWhenRight) {
  const uint64_t last = layer_.index->facts().chunk_count - 1;
  const ChunkRecord chunk = *layer_.index->Chunk(last);
  ASSERT_FALSE(chunk.zero);
  std::vector<uint64_t> expected;
  for (uint64_t number = 0; number < last; ++number) {
    const ChunkRecord other = *layer_.index->Chunk(number);
    if (!other.zero && other.checkpoint == chunk.checkpoint) expected.push_back(number);
  }
  std::vector<uint64_t> offered;
  const auto bytes = layer_.Decode(last, [&](uint64_t number, ByteSpan flat) {
    offered.push_back(number);
    EXPECT_TRUE(AsText(flat) == layer_.Flat(*layer_.index->Chunk(number)));
  });
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_TRUE(*bytes == layer_.Flat(chunk));
  EXPECT_EQ(offered, expected);
}

TEST_P(ChunkReaderPackingTest, NeverReturnsBytesOfADamagedBlob) {
  const std::string& bytes = PackedSample(GetParam().command);
  for (uint64_t number = 0; number < layer_.index->facts().chunk_count; ++number) {
    const ChunkRecord chunk = *layer_.index->Chunk(number);
    if (chunk.zero) continue;
    const uint64_t begin = layer_.FetchBegin(chunk);
    const uint64_t end = layer_.FetchEnd(chunk);
    for (const uint64_t at : {begin, (begin + end) / 2, end - 1}) {
      std::string damaged = bytes;
      damaged[at] ^= 0x08;
      RecordingBlob blob(damaged);
      std::vector<uint8_t> out(chunk.flat_length);
      const Status status =
          DecodeChunk(*layer_.index, number, blob, out, Deadline::After(std::chrono::minutes(1)));
      ASSERT_FALSE(status) << number << " at " << at;
      EXPECT_EQ(status.error().code, Code::kCorrupt) << status.error().message;
      const std::string flat = layer_.Flat(chunk);
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_TRUE(out[i] == 0 || out[i] == static_cast<uint8_t>(flat[i])) << "damage was decoded";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChunkReaderPackingTest, ::testing::ValuesIn(kPackings),
                         [](const auto& packing) { return std::string(packing.param.name); });

// 20 MiB of noise as one zstd frame: the last chunk needs all of it.
TEST(ChunkReaderTest, FetchesARangeAbove8MiBInSteps) {
  const std::string tar = Python(
      "import tarfile, io, random\n"
      "t = tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\")\n"
      "i = tarfile.TarInfo(\"noise\"); i.size = 20 << 20\n"
      "t.addfile(i, io.BytesIO(random.Random(2).randbytes(i.size)))\n"
      "t.close()",
      "");
  Layer layer(tar, Pipe("zstd -q -c", tar));
  const uint64_t last = layer.index->facts().chunk_count - 1;
  const auto bytes = layer.Decode(last);
  ASSERT_TRUE(bytes) << bytes.error().message;
  const ChunkRecord chunk = *layer.index->Chunk(last);
  EXPECT_TRUE(*bytes == layer.Flat(chunk));
  uint64_t next = layer.FetchBegin(chunk);
  EXPECT_GE(layer.blob.reads.size(), 5u);
  for (const auto& [offset, length] : layer.blob.reads) {
    EXPECT_EQ(offset, next);
    EXPECT_LE(length, 4u << 20);
    next = offset + length;
  }
  EXPECT_EQ(next, layer.FetchEnd(chunk));
}

// A layer of one file, `content` in Python, in one zstd frame.
Layer OneFrame(const std::string& content, const std::string& command = "zstd -q -c") {
  const std::string tar = Python(
      "import tarfile, io, random\n"
      "t = tarfile.open(fileobj=sys.stdout.buffer, mode=\"w|\")\n"
      "content = " +
          content +
          "\n"
          "i = tarfile.TarInfo(\"file\"); i.size = len(content)\n"
          "t.addfile(i, io.BytesIO(content))\n"
          "t.close()",
      "");
  return {tar, Pipe(command, tar)};
}

// Reads a chunk with a deadline that passes while the blob is asked for the `read`-th time.
Status DecodeUntilRead(Layer& layer, uint64_t number, size_t read, const PassingChunk& passing,
                       DecodeResources* shared) {
  const Deadline deadline = Deadline::After(std::chrono::milliseconds(500));
  layer.blob.on_read = [&] {
    while (layer.blob.reads.size() >= read && !deadline.passed()) std::this_thread::yield();
  };
  std::vector<uint8_t> out(layer.index->Chunk(number)->flat_length);
  const Status status =
      DecodeChunk(*layer.index, number, layer.blob, out, deadline, passing, shared);
  layer.blob.on_read = {};
  return status;
}

TEST(ChunkReaderTest, DecodingEndsAtItsDeadline) {
  Layer layer = OneFrame("bytes(64 << 20) + b\"x\"");
  const uint64_t last = layer.index->facts().chunk_count - 1;
  const Status status = DecodeUntilRead(layer, last, 1, {}, nullptr);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kTimeout) << status.error().message;
}

TEST(ChunkReaderTest, TheNextReadOfAFrameGoesOnWhereTheDeadlineEndedTheLast) {
  Layer layer = OneFrame("random.Random(2).randbytes(20 << 20)");
  const uint64_t last = layer.index->facts().chunk_count - 1;
  DecodeResources shared;
  std::vector<uint64_t> offered;
  const PassingChunk passing = [&](uint64_t number, ByteSpan flat) {
    offered.push_back(number);
    EXPECT_TRUE(AsText(flat) == layer.Flat(*layer.index->Chunk(number)));
  };
  const Status first = DecodeUntilRead(layer, last, 2, passing, &shared);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, Code::kTimeout) << first.error().message;
  EXPECT_LT(offered.size(), last);
  const auto bytes = layer.Decode(last, passing, &shared);
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_TRUE(*bytes == layer.Flat(*layer.index->Chunk(last)));
  // Nothing came twice, and every chunk before the last was offered once.
  uint64_t next = 0;
  for (const auto& [offset, length] : layer.blob.reads) {
    EXPECT_EQ(offset, next);
    next = offset + length;
  }
  std::vector<uint64_t> expected(last);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(offered, expected);
  // An earlier chunk begins at the start of the frame again.
  EXPECT_TRUE(*layer.Decode(0, {}, &shared) == layer.Flat(*layer.index->Chunk(0)));
}

TEST(ChunkReaderTest, APausedReadDoesNotServeAnEarlierChunk) {
  Layer layer = OneFrame("random.Random(2).randbytes(20 << 20)");
  DecodeResources shared;
  ASSERT_FALSE(DecodeUntilRead(layer, 19, 3, {}, &shared));
  for (const uint64_t number : {0, 19, 5})
    EXPECT_TRUE(*layer.Decode(number, {}, &shared) == layer.Flat(*layer.index->Chunk(number)));
}

TEST(ChunkReaderTest, RunsThatEndWithinAFrameTakeNoPlaceFromReadsThatGaveUp) {
  Layer layer = OneFrame("random.Random(2).randbytes(20 << 20)");
  DecodeResources shared;
  ASSERT_FALSE(DecodeUntilRead(layer, 19, 2, {}, &shared));
  const size_t reads = layer.blob.reads.size();
  const ChunkTaker nobody = [](uint64_t, const std::vector<uint8_t>&) {};
  for (const char* seed : {"3", "4", "5"}) {
    Layer other = OneFrame(std::string("random.Random(") + seed + ").randbytes(3 << 20)");
    ASSERT_TRUE(DecodeRun(*other.index, 0, 1, other.blob, Deadline::After(std::chrono::minutes(1)),
                          nobody, &shared));
  }
  ASSERT_TRUE(layer.Decode(19, {}, &shared));
  ASSERT_GT(layer.blob.reads.size(), reads);
  EXPECT_GT(layer.blob.reads.at(reads).first, 0u) << "the frame was begun anew";
}

TEST(ChunkReaderTest, PassesOnWhatTheSourceSays) {
  Layer layer(SampleTar(), PackedSample("gzip -6"));
  layer.blob.failure = Error{Code::kTimeout, "the registry is slow"};
  const auto bytes = layer.Decode(0);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, Code::kTimeout);
  EXPECT_NE(bytes.error().message.find("chunk 0"), std::string::npos) << bytes.error().message;
}

TEST(ChunkReaderTest, RefusesChunksThatDoNotExistAndBuffersOfAnotherSize) {
  Layer layer(SampleTar(), PackedSample("gzip -6"));
  std::vector<uint8_t> out(4096);
  const Deadline deadline = Deadline::After(std::chrono::minutes(1));
  EXPECT_FALSE(
      DecodeChunk(*layer.index, layer.index->facts().chunk_count, layer.blob, out, deadline));
  EXPECT_FALSE(DecodeChunk(*layer.index, 0, layer.blob, out, deadline));
  EXPECT_TRUE(layer.blob.reads.empty());
}

TEST(ChunkReaderTest, RefusesABlobThatIsShorterThanTheIndexSays) {
  const std::string& blob = PackedSample("gzip -6");
  Layer layer(SampleTar(), blob);
  const uint64_t last = layer.index->facts().chunk_count - 1;
  RecordingBlob cut(blob.substr(0, layer.index->Chunk(last)->blob_end - 1));
  std::vector<uint8_t> out(layer.index->Chunk(last)->flat_length);
  const Status status =
      DecodeChunk(*layer.index, last, cut, out, Deadline::After(std::chrono::minutes(1)));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kCorrupt);
  EXPECT_TRUE(cut.reads.empty());
}

TEST(ChunkReaderTest, ComparesChunksWithTheirChecksum) {
  Layer layer(SampleTar(), PackedSample("gzip -6"));
  for (uint64_t number = 0; number < layer.index->facts().chunk_count; ++number) {
    std::string bytes = layer.Flat(*layer.index->Chunk(number));
    EXPECT_TRUE(VerifyChunk(*layer.index, number, AsBytes(bytes)));
    EXPECT_FALSE(VerifyChunk(*layer.index, number, AsBytes(bytes).subspan(1)));
    bytes[bytes.size() / 2] ^= 1;
    const Status status = VerifyChunk(*layer.index, number, AsBytes(bytes));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kCorrupt);
  }
}

}  // namespace
}  // namespace lamina
