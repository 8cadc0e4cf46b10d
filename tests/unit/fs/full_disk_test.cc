// An image whose layers are larger than the disk of the store. Needs root, as the tests of mounts
// do.

#include <unistd.h>

#include "fs_fixture.h"
#include "tests/support/small_disk.h"

namespace lamina {
namespace {

class FullDiskNamespaceTest : public FsFixture {
 protected:
  // Indexes, trees and the cache are on a disk of 2 MiB; the image's file dir/big has 3.
  void SetUp() override {
    FsFixture::SetUp();
    auto disk = testing::SmallDisk::Create(2 << 20);
    ASSERT_TRUE(disk) << disk.error().message;
    disk_.emplace(std::move(disk).value());
    for (const char* name : {"/index", "/tree", "/cache"}) {
      const std::string target = disk_->path() + name;
      ASSERT_TRUE(MakeFolders(target));
      ASSERT_TRUE(RemoveTree(paths_.root + name));
      ASSERT_EQ(::symlink(target.c_str(), (paths_.root + name).c_str()), 0);
    }
    Restart();
  }
  void TearDown() override {
    names_.reset();
    catalog_.reset();
    layers_.reset();
  }
  void ExpectBigIsRight() {
    const auto expected = ReadWholeFile(Path("lower/dir/big"), 4 << 20);
    ASSERT_TRUE(expected);
    const NodeId big = Walk("localhost/sample/" + base_.PathName() + "/rootfs/dir/big");
    ASSERT_NE(big, 0u);
    EXPECT_TRUE(ReadAll(big) == *expected);
  }

  std::optional<testing::SmallDisk> disk_;
};

TEST_F(FullDiskNamespaceTest, AnImageLargerThanTheDiskIsOpenedAndRead) {
  ExpectBigIsRight();
  EXPECT_EQ(layers_->counters().indexed.load(), 2u);
  EXPECT_GT(layers_->counters().chunk_fetches.load(), 0u);
  Restart();
  ExpectBigIsRight();
  EXPECT_EQ(layers_->counters().indexed.load(), 0u);
  EXPECT_EQ(layers_->cache_counters().rotten.load(), 0u);
}

}  // namespace
}  // namespace lamina
