#include "index/tar_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "index/tar.h"
#include "tests/support/tar_builder.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TarBuilder;

// Bytes in memory, of which a part in the middle may be missing: reading there is a failure.
class CountingBlob : public BlobSource {
 public:
  explicit CountingBlob(std::string head, uint64_t gap = 0, std::string tail = "")
      : head_(std::move(head)), gap_(gap), tail_(std::move(tail)) {}
  uint64_t size() const override { return head_.size() + gap_ + tail_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    EXPECT_LE(offset + out.size(), size());
    bytes_read_ += out.size();
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(At(offset + i));
    return {};
  }
  Status Stream(uint64_t, const ByteSink&) override {
    ADD_FAILURE() << "the archive was streamed";
    return Error{};
  }
  std::string origin() const override { return "memory"; }
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  char At(uint64_t offset) const {
    if (offset < head_.size()) return head_[offset];
    if (offset < head_.size() + gap_) return '\0';
    return tail_[offset - head_.size() - gap_];
  }
  const std::string head_;
  const uint64_t gap_;
  const std::string tail_;
  uint64_t bytes_read_ = 0;
};

std::vector<ArchiveMember> Read(CountingBlob& blob) {
  auto members = ReadTarDirectory(blob);
  EXPECT_TRUE(members.has_value()) << members.error().message;
  return members ? *std::move(members) : std::vector<ArchiveMember>();
}

std::string ErrorOf(std::string bytes, Code code, const TarDirectoryLimits& limits = {}) {
  CountingBlob blob(std::move(bytes));
  const auto members = ReadTarDirectory(blob, limits);
  if (members) return "no error";
  EXPECT_EQ(members.error().code, code) << members.error().message;
  return members.error().message;
}

TEST(TarDirectory, ListsFilesAndLinksWithThePlacesOfTheirBytes) {
  const std::string tar = TarBuilder()
                              .Folder("d")
                              .File("d/a", "first")
                              .Symlink("d/l", "../x")
                              .Hardlink("d/h", "d/a")
                              .File("b", std::string(1000, 'b'))
                              .Finish();
  CountingBlob blob(tar);
  const auto members = Read(blob);
  ASSERT_EQ(members.size(), 4u);
  EXPECT_EQ(members[0].path, "d/a");
  EXPECT_EQ(tar.substr(members[0].offset, members[0].size), "first");
  EXPECT_EQ(members[1].kind, ArchiveMember::Kind::kSymlink);
  EXPECT_EQ(members[1].target, "../x");
  EXPECT_EQ(members[2].kind, ArchiveMember::Kind::kHardlink);
  EXPECT_EQ(members[2].target, "d/a");
  EXPECT_EQ(tar.substr(members[3].offset, members[3].size), std::string(1000, 'b'));
}

TEST(TarDirectory, ReadsLongNamesOfBothKinds) {
  const std::string name = "long/" + std::string(200, 'n');
  TarBuilder builder;
  builder.Add({.name = "x", .data = "1", .gnu_name = name});
  builder.Add({.name = "y", .data = "2", .pax = {{"path", name + "2"}}});
  builder.Add({.name = "z", .type = '2', .gnu_link = name});
  CountingBlob blob(builder.Finish());
  const auto members = Read(blob);
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0].path, name);
  EXPECT_EQ(members[1].path, name + "2");
  EXPECT_EQ(members[2].target, name);
}

TEST(TarDirectory, StepsOverBodiesOfAnySize) {
  const uint64_t size = uint64_t{100} << 30;
  TarBuilder big;
  big.Add({.name = "big", .size = static_cast<int64_t>(size)});
  CountingBlob blob(big.bytes(), size, TarBuilder().File("last", "end").Finish());
  const auto members = Read(blob);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].size, size);
  EXPECT_EQ(members[1].path, "last");
  EXPECT_LE(blob.bytes_read(), 16'384u);
}

TEST(TarDirectory, MarksSparseFilesAndGoesOnBehindTheirMaps) {
  TarBuilder builder;
  builder.Add({.name = "s",
               .data = "data",
               .pax = {{"GNU.sparse.major", "0"},
                       {"GNU.sparse.minor", "1"},
                       {"GNU.sparse.size", "9000"},
                       {"GNU.sparse.map", "0,4"}}});
  builder.File("next", "n");
  CountingBlob blob(builder.Finish());
  const auto members = Read(blob);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_TRUE(members[0].sparse);
  EXPECT_FALSE(members[1].sparse);
}

TEST(TarDirectory, TakesMissingEndBlocksAndIgnoresWhatFollowsThem) {
  CountingBlob without(TarBuilder().File("a", "1").bytes());
  EXPECT_EQ(Read(without).size(), 1u);
  CountingBlob more(TarBuilder().File("a", "1").Finish() + std::string(512, 'x'));
  EXPECT_EQ(Read(more).size(), 1u);
  CountingBlob nothing("");
  EXPECT_EQ(Read(nothing).size(), 0u);
}

TEST(TarDirectory, RefusesWhatIsBrokenInWords) {
  EXPECT_THAT(ErrorOf(std::string(1024, 'x'), Code::kInvalid), HasSubstr("checksum"));
  const std::string tar = TarBuilder().File("a", std::string(5000, 'a')).Finish();
  EXPECT_THAT(ErrorOf(tar.substr(0, 2000), Code::kInvalid),
              HasSubstr("ends before the data that it announces"));
  EXPECT_THAT(ErrorOf(TarBuilder().File("a", "1").bytes() + std::string(100, 'x'), Code::kInvalid),
              HasSubstr("cut off"));
  EXPECT_THAT(ErrorOf(TarBuilder().ZeroBlocks(1).File("a", "1").Finish(), Code::kInvalid),
              HasSubstr("one block of zeros"));
  TarBuilder long_name;
  long_name.Add({.name = "x", .type = 'L', .size = 1000});
  EXPECT_THAT(ErrorOf(long_name.bytes(), Code::kInvalid), HasSubstr("ends before"));
}

TEST(TarDirectory, KeepsItsLimits) {
  const std::string tar = TarBuilder().File("aaaa", "1").File("bbbb", "2").Finish();
  EXPECT_THAT(ErrorOf(tar, Code::kLimit, {.members = 1}), HasSubstr("limit of 1"));
  EXPECT_THAT(ErrorOf(tar, Code::kLimit, {.name_bytes = 7}), HasSubstr("limit of 7"));
  TarBuilder long_name;
  long_name.Add({.name = "x", .gnu_name = std::string(3000, 'n')});
  EXPECT_THAT(ErrorOf(long_name.Finish(), Code::kLimit, {.headers = {.long_header = 2000}}),
              HasSubstr("limit is 2000"));
}

// The layer parser is the other reader of tar: they must see the same files.
TEST(TarDirectory, AgreesWithTheParserOfLayers) {
  const std::string name(150, 'p');
  TarBuilder builder;
  builder.Folder("d").File("d/one", std::string(513, '1')).Add({.name = "x", .gnu_name = name});
  builder.Pax('g', {{"path", "global"}}).File("two", std::string(512, '2')).Symlink("l", "two");
  builder.Add({.name = "pre", .data = "3", .prefix = "ustar/prefix"});
  const std::string tar = builder.Finish();

  struct Collector : TarHandler {
    std::vector<std::string> paths;
    Status OnEntry(const TarEntry& entry) override {
      if (entry.type != EntryType::kDirectory) paths.push_back(entry.path);
      return {};
    }
    Status OnData(ByteSpan, uint64_t, uint64_t) override { return {}; }
    void OnWarning(std::string) override {}
  } collector;
  TarParser parser(collector);
  ASSERT_TRUE(parser.Feed(AsBytes(tar)));
  CountingBlob blob(tar);
  std::vector<std::string> paths;
  for (const ArchiveMember& member : Read(blob)) paths.push_back(member.path);
  EXPECT_EQ(paths, collector.paths);
  EXPECT_THAT(paths, ElementsAre("d/one", name, "two", "l", "ustar/prefix/pre"));
}

}  // namespace
}  // namespace lamina
