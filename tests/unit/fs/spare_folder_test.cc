// The folder in memory that stands in for a disk that takes no files. Needs root, for the disks.

#include "fs/spare_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/file.h"
#include "tests/support/small_disk.h"

namespace lamina {
namespace {

class SpareFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    runtime_.emplace(TemporaryFolder::Create("lamina-spare-test").value());
    ::setenv("XDG_RUNTIME_DIR", runtime_->path().c_str(), 1);
    auto disk = testing::SmallDisk::Create(2 << 20);
    ASSERT_TRUE(disk) << disk.error().message;
    disk_.emplace(std::move(disk).value());
  }
  void TearDown() override { ::unsetenv("XDG_RUNTIME_DIR"); }
  std::string Root() const { return disk_->path() + "/store"; }
  void Write(const std::string& path) {
    ASSERT_TRUE(WriteFileAtomically(path, AsBytes(path))) << path;
  }

  std::optional<TemporaryFolder> runtime_;
  std::optional<testing::SmallDisk> disk_;
};

TEST_F(SpareFolderTest, ADiskWithRoomIsUsedAndNothingIsMade) {
  SpareFolder spare(Root());
  EXPECT_TRUE(*spare.DiskTakesFiles());
  EXPECT_EQ(spare.ForNew("index/a"), Root() + "/index/a");
  EXPECT_EQ(spare.Find("index/a"), Root() + "/index/a");
  EXPECT_FALSE(spare.refusal());
  EXPECT_TRUE(std::filesystem::is_empty(Root()));
  EXPECT_TRUE(std::filesystem::is_empty(runtime_->path()));
}

TEST_F(SpareFolderTest, AFullDiskIsToldAndFilesGoToMemoryUntilThereIsRoom) {
  std::string in_memory;
  {
    SpareFolder spare(Root());
    ASSERT_TRUE(*spare.DiskTakesFiles());
    const std::string filler = disk_->Fill();
    in_memory = spare.ForNew("index/a");
    EXPECT_TRUE(in_memory.starts_with(runtime_->path())) << in_memory;
    ASSERT_TRUE(spare.refusal());
    EXPECT_NE(spare.refusal()->reason.find("No space"), std::string::npos);
    Write(in_memory);
    EXPECT_EQ(spare.Find("index/a"), in_memory);
    EXPECT_EQ(spare.Find("index/b"), Root() + "/index/b");
    EXPECT_FALSE(spare.DiskIsToBlame(in_memory, {Code::kNoSpace, "full"}));
    ASSERT_EQ(::unlink(filler.c_str()), 0);
    EXPECT_EQ(spare.ForNew("index/a"), Root() + "/index/a");
    EXPECT_FALSE(spare.refusal());
    EXPECT_EQ(spare.Find("index/a"), in_memory);
    ASSERT_TRUE(MakeFolders(Root() + "/index"));
    // Clocks of file systems have steps.
    while (spare.Find("index/a") == in_memory) Write(Root() + "/index/a");
  }
  EXPECT_FALSE(FileExists(in_memory));
  EXPECT_TRUE(std::filesystem::is_empty(runtime_->path() + "/lamina"));
}

TEST_F(SpareFolderTest, ADiskWithRoomForSmallFilesOnlyIsAvoidedForAWhile) {
  SpareFolder spare(Root());
  const std::string path = spare.ForNew("index/large");
  EXPECT_FALSE(spare.DiskIsToBlame(path, {Code::kIo, "the disk is well"}));
  EXPECT_FALSE(spare.DiskIsToBlame(path, {Code::kCorrupt, "not the disk's"}));
  EXPECT_EQ(spare.ForNew("index/large"), path);
  EXPECT_TRUE(spare.DiskIsToBlame(path, {Code::kNoSpace, "it did not fit"}));
  EXPECT_TRUE(spare.ForNew("index/large").starts_with(runtime_->path()));
  EXPECT_TRUE(*spare.DiskTakesFiles());
  ASSERT_TRUE(spare.refusal());
  EXPECT_EQ(spare.refusal()->reason, "it did not fit");
}

TEST_F(SpareFolderTest, TheOldestFilesMakeRoom) {
  disk_->Fill();
  SpareFolder spare(Root());
  std::vector<std::string> paths;
  for (int n = 0; n < 3; ++n) {
    paths.push_back(spare.ForNew("index/" + std::to_string(n) + ".idx"));
    Write(paths.back());
    // Holes count: what is written later would find no room.
    ASSERT_EQ(::truncate(paths.back().c_str(), SpareFolder::kMostBytes / 2), 0);
    timespec times[2] = {{n + 1, 0}, {n + 1, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, paths.back().c_str(), times, 0), 0);
  }
  (void)spare.ForNew("index/3.idx");
  EXPECT_FALSE(FileExists(paths[0]));
  EXPECT_TRUE(FileExists(paths[1]));
  EXPECT_TRUE(FileExists(paths[2]));
}

TEST_F(SpareFolderTest, FoldersThatOthersCanReachAreLeftAlone) {
  ASSERT_TRUE(MakeFolders(runtime_->path() + "/lamina"));
  ASSERT_EQ(::chmod((runtime_->path() + "/lamina").c_str(), 0777), 0);
  disk_->Fill();
  SpareFolder spare(Root());
  const auto folder = spare.Folder();
  ASSERT_TRUE(folder) << folder.error().message;
  EXPECT_FALSE(folder->starts_with(runtime_->path())) << *folder;
}

TEST_F(SpareFolderTest, OneProcessHasItAtATime) {
  SpareFolder first(Root());
  ASSERT_TRUE(first.Folder());
  SpareFolder second(Root());
  EXPECT_EQ(second.Folder().error().code, Code::kUnavailable);
}

TEST_F(SpareFolderTest, AFolderThatIsNoneIsAnError) {
  ASSERT_TRUE(WriteFileAtomically(Root(), AsBytes(std::string("a file"))));
  EXPECT_FALSE(ProbeDisk(Root()));
}

}  // namespace
}  // namespace lamina
