#include "base/file.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <filesystem>

namespace lamina {
namespace {

class FileTest : public ::testing::Test {
 protected:
  FileTest() : folder_(std::move(TemporaryFolder::Create("lamina-file-test")).value()) {}
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  TemporaryFolder folder_;
};

TEST_F(FileTest, AtomicWriteReplacesAndLeavesNothingBehind) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), AsBytes("one")));
  ASSERT_TRUE(WriteFileAtomically(Path("a"), AsBytes("two")));
  EXPECT_EQ(*ReadWholeFile(Path("a"), 100), "two");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(FileTest, UncommittedFileIsRemoved) {
  {
    auto file = AtomicFile::Create(Path("a"));
    ASSERT_TRUE(file);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(FileTest, ReadNamesLimitAndMissingFile) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), AsBytes("12345")));
  EXPECT_EQ(ReadWholeFile(Path("a"), 4).error().code, Code::kLimit);
  auto missing = ReadWholeFile(Path("b"), 4);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find(Path("b")), std::string::npos);
}

TEST_F(FileTest, ShortReadIsAnError) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), AsBytes("12345")));
  auto fd = OpenFile(Path("a"), O_RDONLY);
  std::array<uint8_t, 4> out{};
  EXPECT_TRUE(PreadExactly(fd->get(), out, 1, "a"));
  EXPECT_EQ(PreadExactly(fd->get(), out, 2, "a").error().code, Code::kIo);
}

TEST_F(FileTest, MapsEmptyAndFullFiles) {
  ASSERT_TRUE(WriteFileAtomically(Path("e"), {}));
  ASSERT_TRUE(WriteFileAtomically(Path("f"), AsBytes("abc")));
  EXPECT_TRUE(MappedFile::Open(Path("e"))->bytes().empty());
  EXPECT_EQ(AsText(MappedFile::Open(Path("f"))->bytes()), "abc");
}

TEST_F(FileTest, TemporariesOfAKilledProcessAreRemovedAndNothingElse) {
  const std::string temporary = TemporaryPath(Path("sha256-00.idx"));
  ASSERT_TRUE(WriteFileAtomically(temporary, AsBytes("half")));
  ASSERT_TRUE(WriteFileAtomically(Path("x.data.tmp.1.0"), AsBytes("half")));
  ASSERT_TRUE(MakeFolders(Path("folder.tmp.1.2")));
  const std::vector<std::string> kept = {"sha256-00.idx", "a.tmp",    "a.tmp.1",
                                         "a.tmp.1.x",     ".tmp.1.2", "a.tmp.1.2.map"};
  for (const std::string& name : kept) ASSERT_TRUE(WriteFileAtomically(Path(name), AsBytes("x")));
  const auto removed = RemoveTemporaries(folder_.path());
  ASSERT_TRUE(removed.has_value()) << removed.error().message;
  EXPECT_EQ(*removed, 2u);
  EXPECT_FALSE(FileExists(temporary));
  EXPECT_FALSE(FileExists(Path("x.data.tmp.1.0")));
  EXPECT_TRUE(FileExists(Path("folder.tmp.1.2")));
  for (const std::string& name : kept) EXPECT_TRUE(FileExists(Path(name))) << name;
}

TEST_F(FileTest, WhatAnAtomicFileLeavesBehindIsATemporary) {
  auto file = AtomicFile::Create(Path("a"));
  ASSERT_TRUE(file);
  EXPECT_EQ(*RemoveTemporaries(folder_.path()), 1u);
  EXPECT_EQ(RemoveTemporaries(Path("missing")).error().code, Code::kNotFound);
}

TEST_F(FileTest, APageOfAMapThatIsLostReadsAsZerosAndIsKnown) {
  const std::string text(3 * 65536, 'x');
  ASSERT_TRUE(WriteFileAtomically(Path("cut"), AsBytes(text)));
  ASSERT_TRUE(WriteFileAtomically(Path("whole"), AsBytes(text)));
  auto cut = MappedFile::Open(Path("cut"));
  const auto whole = MappedFile::Open(Path("whole"));
  ASSERT_TRUE(cut && whole);
  std::filesystem::resize_file(Path("cut"), 65536);
  EXPECT_EQ(cut->bytes()[100], 'x');
  EXPECT_FALSE(cut->damaged());
  const volatile uint8_t* lost = cut->bytes().data() + 2 * 65536 + 5;
  EXPECT_EQ(*lost, 0);
  EXPECT_TRUE(cut->damaged());
  EXPECT_EQ(cut->bytes()[100], 'x');
  EXPECT_EQ(whole->bytes()[2 * 65536 + 5], 'x');
  EXPECT_FALSE(whole->damaged());
  const MappedFile moved(std::move(*cut));
  EXPECT_TRUE(moved.damaged());
}

TEST_F(FileTest, ASlotOfAMapIsUsedAgainWithoutItsDamage) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), AsBytes(std::string(65536, 'x'))));
  for (int i = 0; i < 20'000; ++i) {
    const auto map = MappedFile::Open(Path("a"));
    ASSERT_TRUE(map);
    ASSERT_FALSE(map->damaged());
    std::filesystem::resize_file(Path("a"), 0);
    const volatile uint8_t* lost = map->bytes().data();
    ASSERT_EQ(*lost, 0);
    ASSERT_TRUE(map->damaged());
    std::filesystem::resize_file(Path("a"), 65536);
  }
}

TEST(MappedFaultDeathTest, AFaultElsewhereStillEndsTheProcess) {
  auto folder = TemporaryFolder::Create("lamina-fault-test");
  ASSERT_TRUE(folder);
  const std::string path = folder->path() + "/a";
  ASSERT_TRUE(WriteFileAtomically(path, AsBytes(std::string(65536, 'x'))));
  const auto guarded = MappedFile::Open(path);
  ASSERT_TRUE(guarded);
  const auto fd = OpenFile(path, O_RDONLY);
  void* raw = ::mmap(nullptr, 65536, PROT_READ, MAP_SHARED, fd->get(), 0);
  ASSERT_NE(raw, MAP_FAILED);
  std::filesystem::resize_file(path, 0);
  const volatile uint8_t* lost = static_cast<const uint8_t*>(raw);
  EXPECT_DEATH(static_cast<void>(*lost), "");
  ::munmap(raw, 65536);
}

TEST_F(FileTest, FoldersAreMadeAndRemoved) {
  ASSERT_TRUE(MakeFolders(Path("a/b/c")));
  ASSERT_TRUE(MakeFolders(Path("a/b/c")));
  ASSERT_TRUE(WriteFileAtomically(Path("a/b/c/d"), AsBytes("x")));
  ASSERT_TRUE(RemoveTree(Path("a")));
  ASSERT_TRUE(RemoveTree(Path("a")));
  EXPECT_FALSE(FileExists(Path("a")));
}

}  // namespace
}  // namespace lamina
