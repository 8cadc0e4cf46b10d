// The reader of index files: what it refuses, and that nothing in a file makes it read out of
// bounds.

#include "index/layer_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "index/layer_index_format.h"
#include "index/layer_index_writer.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

using ::testing::HasSubstr;

class LayerIndexTest : public ::testing::Test {
 protected:
  LayerIndexTest() {
    TarBuilder tar;
    tar.Folder("d")
        .File("d/a", std::string(10000, 'a'))
        .Symlink("l", "d/a")
        .Hardlink("h", "lower")
        .File(".wh.w");
    tar.Add({.name = "x", .data = "1", .pax = {{"SCHILY.xattr.user.k", "v"}}})
        .Add({.name = "n", .uid = -1});
    blob_ = tar.Finish();
    IndexRequest request = lab_.RequestFor(blob_);
    path_ = request.output_path;
    digest_ = request.blob_digest;
    EXPECT_TRUE(lab_.Index(blob_, request).has_value());
    bytes_ = std::move(ReadWholeFile(path_, 1 << 20)).value();
  }

  void Write(const std::string& bytes) {
    EXPECT_TRUE(WriteFileAtomically(path_, AsBytes(bytes)).has_value());
  }
  Error OpenError() {
    const auto opened = LayerIndex::Open(path_, digest_);
    EXPECT_FALSE(opened.has_value());
    return opened.has_value() ? Error{} : opened.error();
  }

  IndexLab lab_;
  std::string blob_;
  std::string path_;
  Digest digest_ = Digest::Sha256({});
  std::string bytes_;
};

// Reads everything that there is, and a bit more.
uint64_t ReadAll(const LayerIndex& index) {
  uint64_t errors = 0;
  const auto count = [&](const auto& result) { errors += result.has_value() ? 0 : 1; };
  const auto upto = [](uint64_t n) {
    return static_cast<uint32_t>(std::min<uint64_t>(n, 1000) + 2);
  };
  for (uint32_t i = 0; i < upto(index.facts().entry_count); ++i) count(index.Entry(i));
  for (uint32_t i = 0; i < upto(index.facts().inode_count); ++i) count(index.Inode(i));
  for (uint32_t i = 0; i < 20; ++i) count(index.Extent(i));
  for (uint32_t i = 0; i < 20; ++i) count(index.Xattr(i));
  for (uint32_t i = 0; i < upto(index.facts().chunk_count); ++i) count(index.Chunk(i));
  for (uint32_t i = 0; i < upto(index.facts().checkpoint_count); ++i) count(index.CheckpointAt(i));
  for (uint32_t i = 0; i < upto(index.segment_count()); ++i) count(index.SegmentAt(i));
  for (const uint64_t at : {uint64_t{0}, uint64_t{4096}, index.facts().flat_size, ~uint64_t{0}}) {
    count(index.ChunkAt(at));
    EXPECT_LE(index.FirstSegmentAfter(at), index.segment_count());
  }
  EXPECT_LE(index.Warnings().size(), kMaxWarnings);
  count(index.Entry(~uint32_t{0}));
  count(index.Chunk(~uint64_t{0}));
  return errors;
}

TEST_F(LayerIndexTest, TellsTheFactsOfTheLayer) {
  const auto index = LayerIndex::Open(path_, digest_);
  ASSERT_TRUE(index.has_value()) << index.error().message;
  const LayerFacts& facts = (*index)->facts();
  EXPECT_EQ(facts.blob_digest, digest_);
  EXPECT_EQ(facts.diff_id, digest_);  // not compressed
  EXPECT_EQ(facts.blob_size, blob_.size());
  EXPECT_EQ(facts.raw_size, blob_.size());
  EXPECT_EQ(facts.flat_size, 4u * 4096);
  EXPECT_EQ(facts.compression, Compression::kNone);
  EXPECT_EQ(facts.entry_count, 8u);
  EXPECT_EQ(facts.inode_count, 6u);
  EXPECT_EQ((*index)->file_bytes(), bytes_.size());
}

TEST_F(LayerIndexTest, SegmentsLeadFromFlatToRaw) {
  const auto index = std::move(LayerIndex::Open(path_, digest_)).value();
  ASSERT_EQ(index->segment_count(), 2u);
  const Segment first = std::move(index->SegmentAt(0)).value();
  EXPECT_EQ(first.flat_offset, 0u);
  EXPECT_EQ(first.length, 10000u);
  EXPECT_EQ(blob_.substr(first.raw_offset, 10000), std::string(10000, 'a'));
  EXPECT_EQ(index->FirstSegmentAfter(0), 0u);
  EXPECT_EQ(index->FirstSegmentAfter(9999), 0u);
  EXPECT_EQ(index->FirstSegmentAfter(10000), 1u);  // padding
  EXPECT_EQ(index->FirstSegmentAfter(12289), 2u);
}

TEST_F(LayerIndexTest, MissingFileIsNotFound) {
  const auto opened = LayerIndex::Open(lab_.folder() + "/none", digest_);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Code::kNotFound);
}

TEST_F(LayerIndexTest, AnotherLayersIndexIsCorrupt) {
  const auto opened = LayerIndex::Open(path_, Digest::Sha256(AsBytes("other")));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Code::kCorrupt);
  EXPECT_THAT(opened.error().message, HasSubstr(digest_.ToString()));
}

TEST_F(LayerIndexTest, AnyChangedByteIsNoticed) {
  for (size_t at = 0; at < bytes_.size(); at += 1 + at / 200) {
    std::string changed = bytes_;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    Write(changed);
    EXPECT_EQ(OpenError().code, Code::kCorrupt) << "byte " << at;
  }
}

TEST_F(LayerIndexTest, AnyOtherLengthIsNoticed) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{100}, size_t{360}, bytes_.size() / 2, bytes_.size() - 1}) {
    Write(bytes_.substr(0, size));
    EXPECT_EQ(OpenError().code, Code::kCorrupt) << size;
  }
  Write(bytes_ + '\0');
  EXPECT_EQ(OpenError().code, Code::kCorrupt);
}

TEST_F(LayerIndexTest, AnotherVersionIsNamed) {
  bytes_[8] = 77;
  Write(bytes_);
  EXPECT_THAT(OpenError().message, HasSubstr("version is 77"));
}

TEST_F(LayerIndexTest, NothingInTheFileLeadsOutOfBounds) {
  std::mt19937 random(11);
  for (int round = 0; round < 5000; ++round) {
    std::string changed = bytes_;
    for (uint32_t i = 0; i < 1 + random() % 4; ++i) {
      const size_t at = random() % changed.size();
      changed[at] = static_cast<char>(random() % 3 == 0 ? 0xFF : random());
    }
    const auto index = LayerIndex::FromBytes(AsBytes(changed), /*check_checksum=*/false);
    if (!index.has_value()) continue;
    EXPECT_GT(ReadAll(**index), 0u);  // at least those asked for behind the end
  }
}

TEST_F(LayerIndexTest, ChildrenStandBehindTheirDirectory) {
  // Entry 0's first_child leads back to entry 0: a walk would not end.
  IndexLab lab;
  LayerIndexWriter writer(lab.folder() + "/loop.idx");
  index_format::EntryRecord loop;
  loop.child_count = 1;
  ASSERT_TRUE(writer.AddEntry(loop).has_value());
  index_format::InodeRecord folder;
  folder.type = static_cast<uint8_t>(EntryType::kDirectory);
  ASSERT_TRUE(writer.AddInode(folder).has_value());
  const Digest digest = Digest::Sha256({});
  auto file = writer.Write({.blob_digest = digest, .diff_id = digest}, "a test", {});
  ASSERT_TRUE(file.has_value());
  const auto index = LayerIndex::Open(file->temporary_path(), digest);
  ASSERT_TRUE(index.has_value());
  const auto root = (*index)->Entry(0);
  ASSERT_FALSE(root.has_value());
  EXPECT_EQ(root.error().code, Code::kCorrupt);
}

TEST_F(LayerIndexTest, SectionsBeyondTheFileAreRefused) {
  for (size_t section = 0; section < index_format::kSectionCount; ++section) {
    for (const uint64_t value : {~uint64_t{0}, uint64_t{1} << 60, uint64_t{bytes_.size()} * 8}) {
      std::string changed = bytes_;
      StoreLe(reinterpret_cast<uint8_t*>(changed.data()) +
                  offsetof(index_format::Header, sections) +
                  section * sizeof(index_format::SectionRecord) + 8,
              value);
      EXPECT_FALSE(LayerIndex::FromBytes(AsBytes(changed), false).has_value()) << section;
    }
  }
}

TEST(LayerIndexWriterTest, SpoolsWhatDoesNotFitInMemory) {
  IndexLab lab;
  LayerIndexWriter writer(lab.folder() + "/big.idx");
  constexpr uint32_t kCount = 100'000;
  for (uint32_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(writer.AddSegment({uint64_t{i} * 4096, i, 1}).has_value());
    ASSERT_EQ(*writer.AddXattr("user." + std::to_string(i), std::to_string(i * 7)), i);
  }
  ASSERT_TRUE(writer.AddEntry({}).has_value());
  index_format::InodeRecord root;
  root.type = static_cast<uint8_t>(EntryType::kDirectory);
  ASSERT_TRUE(writer.AddInode(root).has_value());
  EXPECT_EQ(lab.Files().size(), 0u) << "spools have no names";
  const Digest digest = Digest::Sha256(AsBytes("blob"));
  auto file = writer.Write({.blob_digest = digest,
                            .diff_id = digest,
                            .raw_size = kCount,
                            .flat_size = uint64_t{kCount} * 4096},
                           "a test", {"a warning"});
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_TRUE(file->Commit().has_value());
  const auto index = LayerIndex::Open(lab.folder() + "/big.idx", digest);
  ASSERT_TRUE(index.has_value()) << index.error().message;
  ASSERT_EQ((*index)->segment_count(), kCount);
  for (uint32_t i = 0; i < kCount; i += 997) {
    EXPECT_EQ((*index)->SegmentAt(i)->raw_offset, i);
    EXPECT_EQ((*index)->Xattr(i)->name, "user." + std::to_string(i));
    EXPECT_EQ((*index)->Xattr(i)->value, std::to_string(i * 7));
    EXPECT_EQ((*index)->FirstSegmentAfter(uint64_t{i} * 4096), i);
  }
  EXPECT_EQ((*index)->Warnings(), std::vector<std::string>{"a warning"});
}

TEST(SpoolTest, ReadsBackAcrossTheBorderOfTheBuffer) {
  IndexLab lab;
  Spool spool(lab.folder());
  std::string all;
  for (int i = 0; i < 100'000; ++i) {
    const std::string piece = std::to_string(i);
    ASSERT_TRUE(spool.Append(AsBytes(piece)).has_value());
    all += piece;
  }
  ASSERT_EQ(spool.size(), all.size());
  for (size_t at = 0; at < all.size(); at += 9973) {
    std::string out(std::min<size_t>(300'000, all.size() - at), ' ');
    ASSERT_TRUE(spool.Read(at, {reinterpret_cast<uint8_t*>(out.data()), out.size()}).has_value());
    EXPECT_TRUE(out == all.substr(at, out.size()));
  }
  uint8_t byte = 0;
  EXPECT_FALSE(spool.Read(all.size(), {&byte, 1}).has_value());
  std::string copied;
  ASSERT_TRUE(spool
                  .ForEach([&](ByteSpan bytes) {
                    copied += AsText(bytes);
                    return Status();
                  })
                  .has_value());
  EXPECT_TRUE(copied == all);
}

TEST(SparseGranuleTest, IsTheLeastPowerThatCutsIntoAtMost65536) {
  EXPECT_EQ(SparseGranule(0), 4096u);
  EXPECT_EQ(SparseGranule(1), 4096u);
  EXPECT_EQ(SparseGranule(uint64_t{65536} * 4096), 4096u);
  EXPECT_EQ(SparseGranule(uint64_t{65536} * 4096 + 1), 8192u);
  EXPECT_EQ(SparseGranule(uint64_t{2} << 30), 32768u);
  EXPECT_EQ(SparseGranule((uint64_t{1} << 63) - 1), uint64_t{1} << 47);
}

}  // namespace
}  // namespace lamina::testing
