// The pass over a layer: what it verifies, how it cuts chunks, and how it ends when things go
// wrong.

#include "index/layer_indexer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/file.h"
#include "index/chunk_reader.h"
#include "tests/support/small_disk.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr size_t kMiB = 1 << 20;

// 300 files of all sizes up to 3 MiB, with folders and links between them.
std::string MixedTar() {
  TarBuilder tar;
  const std::string data = MixedData(3 * kMiB);
  for (size_t i = 0; i < 300; ++i) {
    const size_t size = i % 50 == 7 ? 3 * kMiB - i : (i * i * 13) % 40'000;
    const std::string folder = "d" + std::to_string(i % 17);
    tar.Folder(folder).File(folder + "/f" + std::to_string(i), data.substr(0, size));
    if (i % 5 == 0) tar.Symlink(folder + "/l" + std::to_string(i), "f" + std::to_string(i));
  }
  return tar.Finish();
}

std::vector<ChunkRecord> ChunksOf(const LayerIndex& index) {
  std::vector<ChunkRecord> chunks;
  for (uint64_t i = 0; i < index.facts().chunk_count; ++i)
    chunks.push_back(std::move(index.Chunk(i)).value());
  return chunks;
}

class LayerIndexerTest : public ::testing::Test {
 protected:
  IndexedLayer MustIndex(const std::string& blob, size_t piece = 65536) {
    Result<IndexedLayer> layer = lab_.Index(blob, piece);
    EXPECT_TRUE(layer.has_value()) << layer.error().message;
    return std::move(layer).value();
  }
  Error MustFail(const std::string& blob, const IndexRequest& request) {
    const Result<IndexedLayer> layer = lab_.Index(blob, request);
    EXPECT_FALSE(layer.has_value());
    EXPECT_THAT(lab_.Files(), IsEmpty()) << "something was left behind";
    return layer.has_value() ? Error{} : layer.error();
  }
  IndexLab lab_;
};

class CompressedLayerTest : public LayerIndexerTest,
                            public ::testing::WithParamInterface<const char*> {};

// A command that compresses standard input; "cat" for none.
TEST_P(CompressedLayerTest, GivesTheSameTreeDataAndChunks) {
  const std::string tar = MixedTar();
  const std::string blob = Pipe(GetParam(), tar);
  const IndexedLayer plain = MustIndex(tar);
  const IndexedLayer layer = MustIndex(blob);
  EXPECT_EQ(layer.index->facts().diff_id, Digest::Sha256(AsBytes(tar)));
  EXPECT_EQ(layer.index->facts().blob_digest, Digest::Sha256(AsBytes(blob)));
  EXPECT_EQ(layer.index->facts().raw_size, tar.size());
  EXPECT_EQ(TreeOf(layer), TreeOf(plain));
  const std::vector<ChunkRecord> expected = ChunksOf(*plain.index);
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), expected.size());
  EXPECT_GT(chunks.size(), 10u);
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].flat_offset, expected[i].flat_offset);
    EXPECT_EQ(chunks[i].raw_begin, expected[i].raw_begin);
    EXPECT_EQ(chunks[i].raw_end, expected[i].raw_end);
    EXPECT_EQ(chunks[i].checksum, expected[i].checksum);
  }
  ExpectChunksFit(layer);
}

TEST_P(CompressedLayerTest, PiecesOfAnySizeGiveTheSameTreeAndChunks) {
  const std::string blob = Pipe(GetParam(), MixedTar());
  const IndexedLayer first = MustIndex(blob);
  for (const size_t piece : {size_t{997}, size_t{1} << 30}) {
    const IndexedLayer layer = MustIndex(blob, piece);
    EXPECT_EQ(TreeOf(layer), TreeOf(first));
    const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
    const std::vector<ChunkRecord> expected = ChunksOf(*first.index);
    ASSERT_EQ(chunks.size(), expected.size());
    for (size_t i = 0; i < chunks.size(); ++i) EXPECT_EQ(chunks[i].checksum, expected[i].checksum);
    ExpectChunksFit(layer);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, CompressedLayerTest,
    ::testing::Values(
        "cat", "gzip -6", "zstd -3 -c", "zstd -9 -c",
        // Many members and many frames.
        "python3 -c 'import sys,gzip\nd=sys.stdin.buffer.read()\nfor i in range(0,len(d),300001): "
        "sys.stdout.buffer.write(gzip.compress(d[i:i+300001],6)+gzip.compress(b\"\"))'",
        "split -b 1000003 --filter='zstd -q -c'"));

TEST_F(LayerIndexerTest, ATruncatedBlobOfTheRightDigestIsInvalid) {
  for (const char* codec : {"gzip -6", "zstd -3 -c", "cat"}) {
    const std::string blob = Pipe(codec, MixedTar());
    const std::string cut = blob.substr(0, blob.size() / 2);
    const Error error = MustFail(cut, lab_.RequestFor(cut));
    EXPECT_EQ(error.code, Code::kInvalid) << codec << ": " << error.message;
  }
}

// The parser fails in another thread, at any moment of the decoder's and the hash's.
TEST_F(LayerIndexerTest, ALayerThatCannotBeParsedIsInvalidWheneverThatIsFound) {
  std::string tar = TarBuilder().File("a", MixedData(kMiB)).File("b", MixedData(4 * kMiB)).Finish();
  tar[kMiB + 512 + 148] ^= 1;  // in the header of b: its checksum
  const std::string blob = Pipe("gzip -1", tar);
  for (const size_t piece :
       {size_t{100}, size_t{1000}, size_t{4096}, size_t{100'000}, blob.size()}) {
    for (int round = 0; round < 8; ++round) {
      const auto failed = lab_.Index(blob, lab_.RequestFor(blob), piece);
      ASSERT_FALSE(failed);
      ASSERT_EQ(failed.error().code, Code::kInvalid) << piece << ": " << failed.error().message;
    }
  }
}

TEST_F(LayerIndexerTest, AnEmptyBlobIsAnEmptyLayer) {
  const IndexedLayer layer = MustIndex("");
  EXPECT_EQ(layer.index->facts().entry_count, 1u);
  EXPECT_EQ(layer.index->facts().flat_size, 0u);
  EXPECT_THAT(layer.index->Warnings(), ElementsAre(HasSubstr("0 bytes")));
}

TEST_F(LayerIndexerTest, BlobsShorterThanAnyMagicAreInvalid) {
  for (const char* blob : {"x", "\x1f\x8b", "\x1f", "abc"})
    EXPECT_EQ(MustFail(blob, lab_.RequestFor(blob)).code, Code::kInvalid);
}

TEST_F(LayerIndexerTest, ForeignFormatsAreNamed) {
  const std::string blob = Pipe("xz", MixedData(1000));
  const Error error = MustFail(blob, lab_.RequestFor(blob));
  EXPECT_EQ(error.code, Code::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("xz"));
}

TEST_F(LayerIndexerTest, AWrongDigestIsCorruptAndNamesBoth) {
  const std::string blob = Pipe("gzip", MixedTar());
  IndexRequest request = lab_.RequestFor(blob);
  const std::string right = request.blob_digest.ToString();
  request.blob_digest = Digest::Sha256(AsBytes("something else"));
  const Error error = MustFail(blob, request);
  EXPECT_EQ(error.code, Code::kCorrupt);
  EXPECT_THAT(error.message, HasSubstr(right));
  EXPECT_THAT(error.message, HasSubstr(request.blob_digest.ToString()));
}

TEST_F(LayerIndexerTest, ACorruptBlobIsCalledCorruptNotInvalid) {
  std::string blob = TarBuilder().File("a", "1").File("b", "2").Finish();
  const IndexRequest request = lab_.RequestFor(blob);
  blob[1030] ^= 1;  // the second header
  EXPECT_EQ(MustFail(blob, request).code, Code::kCorrupt);
  std::string zipped = Pipe("gzip", MixedTar());
  const IndexRequest zipped_request = lab_.RequestFor(zipped);
  zipped[zipped.size() / 2] ^= 1;
  EXPECT_EQ(MustFail(zipped, zipped_request).code, Code::kCorrupt);
}

TEST_F(LayerIndexerTest, AWrongSizeIsCorrupt) {
  const std::string blob = TarBuilder().File("a", "1").Finish();
  IndexRequest request = lab_.RequestFor(blob);
  request.blob_size = blob.size() - 1;
  EXPECT_EQ(MustFail(blob, request).code, Code::kCorrupt);
  request.blob_size = blob.size() + 1;
  EXPECT_EQ(MustFail(blob, request).code, Code::kCorrupt);
}

TEST_F(LayerIndexerTest, AWrongDiffIdIsInvalidAndNamesBoth) {
  const std::string tar = MixedTar();
  const std::string blob = Pipe("gzip", tar);
  IndexRequest request = lab_.RequestFor(blob);
  request.diff_id = Digest::Sha256(AsBytes(blob));
  const Error error = MustFail(blob, request);
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr(Digest::Sha256(AsBytes(tar)).ToString()));
  EXPECT_THAT(error.message, HasSubstr(request.diff_id->ToString()));
  request.diff_id = Digest::Sha256(AsBytes(tar));
  EXPECT_TRUE(lab_.Index(blob, request).has_value());
}

TEST_F(LayerIndexerTest, DigestsOfOtherAlgorithmsAreComputed) {
  const std::string tar = MixedTar();
  for (const std::string& blob : {tar, Pipe("gzip", tar)}) {
    IndexRequest request = lab_.RequestFor(blob);
    request.blob_digest = Digest::Of(AsBytes(blob), Digest::Algorithm::kSha512);
    const Result<IndexedLayer> layer = lab_.Index(blob, request);
    ASSERT_TRUE(layer.has_value()) << layer.error().message;
    EXPECT_EQ(layer->index->facts().diff_id, Digest::Sha256(AsBytes(tar)));
  }
}

TEST_F(LayerIndexerTest, GarbageBehindGzipIsAWarning) {
  const IndexedLayer layer =
      MustIndex(Pipe("gzip", TarBuilder().File("a", "1").Finish()) + "garbage");
  EXPECT_THAT(TreeOf(layer), ElementsAre("f a=1"));
  EXPECT_THAT(layer.index->Warnings(), ElementsAre(HasSubstr("no gzip")));
}

TEST_F(LayerIndexerTest, AStreamThatFailsReturnsItsError) {
  const std::string tar = MixedTar();
  IndexRequest request = lab_.RequestFor(tar);
  MemoryBlob blob(tar);
  blob.before_piece = [](uint64_t offset) {
    return offset > kMiB ? Status(Error{Code::kUnavailable, "the registry is gone"}) : Status();
  };
  const auto index = IndexLayer(blob, request);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().code, Code::kUnavailable);
  EXPECT_THAT(index.error().message, HasSubstr("layer 0: the registry is gone"));
  EXPECT_THAT(lab_.Files(), IsEmpty());
}

TEST_F(LayerIndexerTest, CanBeCancelled) {
  const std::string tar = MixedTar();
  std::atomic<bool> cancel{false};
  IndexRequest request = lab_.RequestFor(tar);
  request.cancel = &cancel;
  MemoryBlob blob(tar);
  uint64_t reached = 0;
  blob.before_piece = [&](uint64_t offset) {
    reached = offset;
    if (offset >= 2 * kMiB) cancel = true;
    return Status();
  };
  const auto index = IndexLayer(blob, request);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().code, Code::kCancelled);
  EXPECT_EQ(reached, 2 * kMiB);
  EXPECT_THAT(lab_.Files(), IsEmpty());
}

TEST_F(LayerIndexerTest, ProgressEndsAtTheSizeOfTheBlob) {
  const std::string tar = MixedTar();
  IndexRequest request = lab_.RequestFor(tar);
  std::vector<uint64_t> seen;
  request.progress = [&](uint64_t done) { seen.push_back(done); };
  ASSERT_TRUE(lab_.Index(tar, request).has_value());
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), tar.size());
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(LayerIndexerTest, SeveralLayersAtTheSameTime) {
  const std::string blob = Pipe("gzip -1", MixedTar());
  std::vector<std::string> trees(4);
  std::vector<IndexRequest> requests;
  for (size_t i = 0; i < trees.size(); ++i) requests.push_back(lab_.RequestFor(blob));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < trees.size(); ++i)
    threads.emplace_back([&, i] {
      const Result<IndexedLayer> layer = lab_.Index(blob, requests[i]);
      if (layer.has_value())
        trees[i] = std::move(ReadWholeFile(requests[i].output_path, 1 << 30)).value();
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(trees[0].empty());
  for (const std::string& tree : trees) EXPECT_TRUE(tree == trees[0]);
}

TEST_F(LayerIndexerTest, LargeFilesAreCutEveryMebibyte) {
  const IndexedLayer layer = MustIndex(TarBuilder().File("a", Noise(3 * kMiB + 5)).Finish());
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), 4u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(chunks[i].flat_length, kMiB);
  EXPECT_EQ(chunks[3].flat_length, 4096u);
  EXPECT_EQ(chunks[3].raw_end - chunks[3].raw_begin, 5u);
}

TEST_F(LayerIndexerTest, AFileThatDoesNotFitBeginsAChunkOfItsOwn) {
  const std::string part = Noise(600'000);
  // 100 KB do not fill half a chunk, so the next file goes on in it; 600 KB do.
  const IndexedLayer layer = MustIndex(TarBuilder()
                                           .File("a", part)
                                           .File("b", part)
                                           .File("c", part.substr(0, 100'000))
                                           .File("d", part)
                                           .Finish());
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[1].flat_offset, InodeAt(layer, "b").flat_offset);
  EXPECT_EQ(chunks[2].flat_offset, InodeAt(layer, "d").flat_offset);
}

TEST_F(LayerIndexerTest, TinyFilesDoNotMakeEndlessChunks) {
  TarBuilder tar;
  for (int i = 0; i < 3000; ++i) tar.File("f" + std::to_string(i), "x");
  const IndexedLayer layer = MustIndex(tar.Finish());
  for (const ChunkRecord& chunk : ChunksOf(*layer.index))
    EXPECT_LE(chunk.flat_length, kMaxChunkFlat);
  EXPECT_EQ(layer.index->facts().chunk_count, 3u);  // 3,000 blocks, 1,024 a chunk
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, EntriesWithoutDataDoNotStretchAChunk) {
  TarBuilder tar;
  tar.File("a", "1");
  for (int i = 0; i < 10'000; ++i) tar.Folder("d" + std::to_string(i));
  tar.File("z", "2");
  const IndexedLayer layer = MustIndex(tar.Finish());
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].raw_end - chunks[0].raw_begin, 1u);
  EXPECT_LT(chunks[0].blob_end, kMiB)
      << "the end is where the payload ends, not where the chunk was closed";
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, TheCallerMayGiveTheIndexItsName) {
  const std::string blob = TarBuilder().File("a", "1").Finish();
  IndexRequest request = lab_.RequestFor(blob);
  uint64_t entries = 0;
  bool named = true;
  request.publish = [&](const std::shared_ptr<const LayerIndex>& index, AtomicFile& file) {
    entries = index->facts().entry_count;
    named = FileExists(request.output_path);
    return file.Commit();
  };
  ASSERT_TRUE(lab_.Index(blob, request).has_value());
  EXPECT_EQ(entries, 2u);
  EXPECT_FALSE(named);
  EXPECT_TRUE(FileExists(request.output_path));
}

// A blob of any size, whose first bytes are `head` and all others the letter x.
class LongBlob : public BlobSource {
 public:
  LongBlob(std::string head, uint64_t size) : head_(std::move(head)), size_(size) {}
  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t, MutableByteSpan, const Deadline&) override {
    return Error{Code::kInternal, "not read"};
  }
  Status Stream(uint64_t, const ByteSink& sink) override {
    std::string piece = head_;
    while (streamed < size_) {
      piece.resize(std::min<uint64_t>(kMiB, size_ - streamed), 'x');
      streamed += piece.size();
      RETURN_IF_ERROR(sink(AsBytes(piece)));
      piece.clear();
    }
    return {};
  }
  std::string origin() const override { return "memory"; }

  uint64_t streamed = 0;

 private:
  const std::string head_;
  const uint64_t size_;
};

TEST_F(LayerIndexerTest, BlobsAboveTheLimitAreNotRead) {
  LongBlob blob("", (uint64_t{1} << 40) + 1);
  IndexRequest request = lab_.RequestFor("");
  request.blob_size = blob.size();
  const auto index = IndexLayer(blob, request);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().code, Code::kLimit);
  EXPECT_EQ(index.error().message,
            "layer 0: its blob has 1099511627777 bytes, the limit is 1099511627776");
  EXPECT_EQ(blob.streamed, 0u);
}

TEST_F(LayerIndexerTest, MuchOfABadBlobIsNotReadInVain) {
  // Fails in the decoder, and in the parser.
  for (const char* head : {"\x1f\x8bno gzip", "no tar"}) {
    LongBlob blob(head, uint64_t{2} << 30);
    IndexRequest request = lab_.RequestFor("");
    request.blob_size = blob.size();
    const auto index = IndexLayer(blob, request);
    ASSERT_FALSE(index.has_value());
    EXPECT_THAT(index.error().message, Not(HasSubstr("not the one of the manifest")));
    EXPECT_LE(blob.streamed, 64 * kMiB);
  }
}

TEST_F(LayerIndexerTest, ABadBlobIsReadToItsEndToKnowWhetherItIsTheOne) {
  LongBlob blob("\x1f\x8bno gzip", 64 * kMiB);
  IndexRequest request = lab_.RequestFor("");
  request.blob_size = blob.size();
  const auto index = IndexLayer(blob, request);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().code, Code::kCorrupt);
  EXPECT_THAT(index.error().message, HasSubstr("not the one of the manifest"));
  EXPECT_EQ(blob.streamed, 64 * kMiB);
}

// Takes a whole disk at its first byte, and gives it back piece by piece.
class GreedySink : public FlatSink {
 public:
  explicit GreedySink(std::string folder) : folder_(std::move(folder)) {}
  void Write(uint64_t, ByteSpan) override {
    if (!files_.empty()) return;
    const std::vector<uint8_t> piece(256 << 10, 1);
    Status written;
    while (written) {
      files_.push_back(folder_ + "/taken" + std::to_string(files_.size()));
      const auto file = OpenFile(files_.back(), O_WRONLY | O_CREAT);
      written = file ? WriteExactly(file->get(), piece, files_.back()) : Status(file.error());
    }
  }
  bool GiveBack() override {
    if (given_ == files_.size()) return false;
    ::unlink(files_[given_++].c_str());
    return true;
  }
  size_t given() const { return given_; }
  size_t taken() const { return files_.size(); }

 private:
  const std::string folder_;
  std::vector<std::string> files_;
  size_t given_ = 0;
};

// A layer with one file of data and so many folders behind it.
std::string LayerOfFolders(int count) {
  TarBuilder tar;
  tar.File("a", "data");
  for (int i = 0; i < count; ++i) tar.Folder("folder" + std::to_string(i));
  return tar.Finish();
}

// Needs root, as the tests of mounts do.
TEST_F(LayerIndexerTest, AFullDiskIsAskedBackFromTheSink) {
  const auto disk = SmallDisk::Create(8 << 20);
  ASSERT_TRUE(disk.has_value()) << disk.error().message;
  const std::string blob = LayerOfFolders(20'000);
  GreedySink sink(disk->path());
  sink.Write(0, {});
  IndexRequest request = lab_.RequestFor(blob);
  request.output_path = disk->path() + "/index";
  request.sink = &sink;
  MemoryBlob source(blob);
  const auto index = IndexLayer(source, request);
  ASSERT_TRUE(index.has_value()) << index.error().message;
  EXPECT_EQ((*index)->facts().entry_count, 20'002u);
  EXPECT_GT(sink.given(), 4u);
  EXPECT_LT(sink.given(), sink.taken());
}

TEST_F(LayerIndexerTest, AFullDiskThatCannotBeGivenBackIsTheReason) {
  const auto disk = SmallDisk::Create(1 << 20);
  ASSERT_TRUE(disk.has_value()) << disk.error().message;
  const std::string blob = LayerOfFolders(20'000);
  GreedySink sink(disk->path());
  IndexRequest request = lab_.RequestFor(blob);
  request.output_path = disk->path() + "/index";
  request.sink = &sink;
  MemoryBlob source(blob);
  const auto index = IndexLayer(source, request);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().code, Code::kNoSpace) << index.error().message;
  EXPECT_EQ(sink.given(), sink.taken());
}

TEST_F(LayerIndexerTest, LongRunsOfZerosCostOneRecord) {
  const std::string blob = Pipe("gzip -1", TarBuilder()
                                               .File("a", "x" + std::string(64 * kMiB, '\0') + "y")
                                               .File("zeros", std::string(100'000, '\0'))
                                               .File("b", "1")
                                               .Finish());
  const IndexedLayer layer = MustIndex(blob);
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), 5u);
  EXPECT_FALSE(chunks[0].zero);
  EXPECT_TRUE(chunks[1].zero);
  EXPECT_EQ(chunks[1].flat_length, 64 * kMiB - 4096);
  EXPECT_FALSE(chunks[2].zero);
  EXPECT_TRUE(chunks[3].zero);
  EXPECT_FALSE(chunks[4].zero);
  EXPECT_EQ(layer.sink->written(), 3u * 4096);
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, ShortRunsOfZerosStayInTheirChunk) {
  const std::string data = Noise(5000) + std::string(40'000, '\0') + Noise(5000);
  const IndexedLayer layer = MustIndex(TarBuilder().File("a", data).Finish());
  EXPECT_EQ(layer.index->facts().chunk_count, 1u);
  EXPECT_EQ(ContentOf(layer, InodeAt(layer, "a")), data);
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, HolesOfSparseFilesTakeNoAddresses) {
  TemporaryFolder folder = std::move(TemporaryFolder::Create("lamina-sparse")).value();
  const std::string tar =
      Pipe("cd '" + folder.path() +
               "' && truncate -s 2G s && printf data | dd of=s bs=1M seek=1000 conv=notrunc "
               "status=none && printf end | dd of=s bs=1 seek=2147483645 conv=notrunc "
               "status=none && tar -S --format=posix -cf - s",
           "");
  const IndexedLayer layer = MustIndex(tar);
  const LayerInode inode = InodeAt(layer, "s");
  EXPECT_EQ(inode.size, uint64_t{2} << 30);
  EXPECT_TRUE(inode.sparse);
  ASSERT_EQ(inode.extent_count, 2u);
  const FileExtent first = std::move(layer.index->Extent(inode.extent_first)).value();
  const FileExtent second = std::move(layer.index->Extent(inode.extent_first + 1)).value();
  EXPECT_EQ(first.file_offset, uint64_t{1000} << 20);
  EXPECT_EQ(first.length, 32768u);  // the granule of 2 GiB
  EXPECT_EQ(second.file_offset, (uint64_t{2} << 30) - 32768);
  EXPECT_EQ(second.flat_offset, 32768u);
  EXPECT_EQ(layer.index->facts().flat_size, 65536u);
  EXPECT_EQ(layer.sink->Read(0, 4), "data");
  EXPECT_EQ(layer.sink->Read(65533, 3), "end");
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, ExtentsAreGranulesButAtTheEndOfTheFile) {
  // 10,000 bytes: three granules of 4096; data in the first and the last.
  const IndexedLayer layer = MustIndex(TarBuilder()
                                           .Add({.name = "a",
                                                 .data = "xy",
                                                 .pax = {{"GNU.sparse.size", "10000"},
                                                         {"GNU.sparse.numblocks", "2"},
                                                         {"GNU.sparse.map", "100,1,9999,1"}}})
                                           .File("b", "1")
                                           .Finish());
  const LayerInode inode = InodeAt(layer, "a");
  ASSERT_EQ(inode.extent_count, 2u);
  EXPECT_EQ(layer.index->Extent(inode.extent_first)->length, 4096u);
  EXPECT_EQ(layer.index->Extent(inode.extent_first + 1)->file_offset, 8192u);
  EXPECT_EQ(layer.index->Extent(inode.extent_first + 1)->length, 10000u - 8192);
  EXPECT_EQ(InodeAt(layer, "b").flat_offset, 8192u);
  std::string expected(10000, '\0');
  expected[100] = 'x';
  expected[9999] = 'y';
  EXPECT_EQ(ContentOf(layer, inode), expected);
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, NeighbouringGranulesAreOneExtent) {
  const IndexedLayer layer =
      MustIndex(TarBuilder()
                    .Add({.name = "a",
                          .data = std::string(5000, 'x'),
                          .pax = {{"GNU.sparse.size", "100000"},
                                  {"GNU.sparse.numblocks", "3"},
                                  {"GNU.sparse.map", "4000,500,4600,400,8192,4100"}}})
                    .Finish());
  const LayerInode inode = InodeAt(layer, "a");
  ASSERT_EQ(inode.extent_count, 1u);
  EXPECT_EQ(layer.index->Extent(inode.extent_first)->length, 4u * 4096);
  ExpectChunksFit(layer);
}

TEST_F(LayerIndexerTest, OneGiganticGranuleWithLittleDataIsMostlyAZeroChunk) {
  // 1 TiB in granules of 16 MiB.
  const IndexedLayer layer = MustIndex(TarBuilder()
                                           .Add({.name = "a",
                                                 .data = "x",
                                                 .pax = {{"GNU.sparse.size", "1099511627776"},
                                                         {"GNU.sparse.numblocks", "1"},
                                                         {"GNU.sparse.map", "8388608,1"}}})
                                           .Finish());
  const std::vector<ChunkRecord> chunks = ChunksOf(*layer.index);
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_TRUE(chunks[0].zero);
  EXPECT_EQ(chunks[1].flat_length, 4096u);
  EXPECT_TRUE(chunks[2].zero);
  EXPECT_EQ(layer.index->facts().flat_size, uint64_t{16} << 20);
}

TEST_F(LayerIndexerTest, CompressedRangesOfChunksAreTight) {
  const std::string blob = Pipe("gzip -6", TarBuilder().File("a", MixedData(20 * kMiB)).Finish());
  for (const size_t piece : {size_t{4096}, size_t{1} << 30}) {
    constexpr uint64_t kSlack = 264u << 10;  // a buffer at each end
    uint64_t last_checkpoint = 0;
    const IndexedLayer layer = MustIndex(blob, piece);
    for (const ChunkRecord& chunk : ChunksOf(*layer.index)) {
      if (chunk.zero) continue;
      const CheckpointView checkpoint =
          std::move(layer.index->CheckpointAt(chunk.checkpoint)).value();
      EXPECT_LE(checkpoint.raw_offset, chunk.raw_begin);
      EXPECT_LT(checkpoint.blob_offset - last_checkpoint, CheckpointSpacing().blob_bytes + kSlack);
      last_checkpoint = checkpoint.blob_offset;
      EXPECT_LE(checkpoint.blob_offset, chunk.blob_end);
      // The data hardly compresses: about as many bytes as the chunk has, a buffer at each end, and
      // what lies between two states.
      EXPECT_LE(chunk.blob_end - checkpoint.blob_offset,
                kMiB + CheckpointSpacing().blob_bytes + kSlack);
    }
  }
}

}  // namespace
}  // namespace lamina::testing
