// Which pages of a file are in memory. On a disk: memory file systems keep all of them.

#include "fetch/resident_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace lamina {
namespace {

class ResidentPagesTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1u << 20;
  // Data in the first half, a hole behind it.
  void SetUp() override {
    ASSERT_TRUE(fd_);
    ASSERT_EQ(::ftruncate(fd_->get(), kBytes), 0);
    const std::vector<uint8_t> data(kBytes / 2, 7);
    ASSERT_TRUE(PwriteExactly(fd_->get(), data, 0, "file"));
    ASSERT_EQ(::fsync(fd_->get()), 0);
    ASSERT_EQ(::posix_fadvise(fd_->get(), 0, 0, POSIX_FADV_RANDOM), 0);
  }
  void DropPages() { ASSERT_EQ(::posix_fadvise(fd_->get(), 0, 0, POSIX_FADV_DONTNEED), 0); }

  TemporaryFolder folder_ = TemporaryFolder::Create("lamina-pages-test").value();
  Result<UniqueFd> fd_ = OpenFile(folder_.path() + "/file", O_RDWR | O_CREAT);
};

TEST_F(ResidentPagesTest, TellsWhatIsThereAndWhatWasDropped) {
  const ResidentPages pages(fd_->get(), kBytes);
  EXPECT_TRUE(pages.Hold(0, kBytes));
  EXPECT_FALSE(pages.Hold(0, kBytes + 1));
  DropPages();
  EXPECT_FALSE(pages.Hold(0, 1));
  EXPECT_FALSE(pages.Hold(kBytes / 2 - 1, 2));
  EXPECT_TRUE(pages.Hold(kBytes / 2, kBytes / 2));  // a hole comes from nowhere
  std::vector<uint8_t> page(4096);
  ASSERT_TRUE(PreadExactly(fd_->get(), page, 8192, "file"));
  EXPECT_TRUE(pages.Hold(8192 + 5, 4000));
  EXPECT_FALSE(pages.Hold(8192 + 5, 4096));
}

TEST_F(ResidentPagesTest, AFileSystemThatNeverTellsIsNotAskedForEver) {
  const ResidentPages pages(fd_->get(), kBytes);
  DropPages();
  for (int times = 0; times < 8; ++times) {
    EXPECT_FALSE(pages.Hold(0, 4096));
    pages.NoteRead(0, 4096);  // as if it had been
  }
  EXPECT_TRUE(pages.Hold(0, 4096));
}

TEST_F(ResidentPagesTest, OneThatToldOnceIsAskedAlways) {
  const ResidentPages pages(fd_->get(), kBytes);
  pages.NoteRead(0, 4096);
  DropPages();
  for (int times = 0; times < 20; ++times) pages.NoteRead(0, 4096);
  EXPECT_FALSE(pages.Hold(0, 4096));
}

}  // namespace
}  // namespace lamina
