// The store on a disk that takes no writes: as a copy in memory, and full while it is open.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <vector>

#include "tests/unit/index/store_fixture.h"

namespace lamina {
namespace {

class StoreRefusedTest : public StoreFixture {
 protected:
  void OpenInMemory() {
    store_.reset();
    auto opened = Store::OpenInMemory(path_);
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(opened).value();
  }
  // As a process leaves it that is killed: with a write-ahead log.
  void FillAndDie() {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto store = Store::Open(path_);
      const bool filled = store && (*store)->NodeId(NodeKind::kName, "first") &&
                          (*store)->PutDocument(DigestOf("kept"), "t", "kept");
      ::_exit(filled ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }
  std::map<std::string, std::string> Files() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      files[entry.path()] = ReadWholeFile(entry.path(), 1 << 30).value();
    return files;
  }
};

TEST_F(StoreRefusedTest, ACopyHasWhatTheLogAddsAndChangesNothingOnDisk) {
  FillAndDie();
  const auto before = Files();
  ASSERT_TRUE(before.contains(path_ + "-wal"));
  OpenInMemory();
  EXPECT_EQ((*store_->GetDocument(DigestOf("kept")))->bytes, "kept");
  EXPECT_TRUE(store_->PutDocument(DigestOf("new"), "t", "new"));
  EXPECT_EQ((*store_->GetDocument(DigestOf("new")))->bytes, "new");
  store_.reset();
  EXPECT_TRUE(Files() == before);
  OpenInMemory();
  EXPECT_FALSE(*store_->GetDocument(DigestOf("new")));
}

TEST_F(StoreRefusedTest, ACopyOfADatabaseThatWasClosedAndOfNone) {
  OpenInMemory();
  EXPECT_TRUE(store_->Repositories()->empty());
  EXPECT_TRUE(Files().empty());
  Open();
  ASSERT_TRUE(store_->PutDocument(DigestOf("kept"), "t", "kept"));
  OpenInMemory();
  EXPECT_EQ((*store_->GetDocument(DigestOf("kept")))->bytes, "kept");
}

TEST_F(StoreRefusedTest, IdsOfACopyAreThoseOnDiskAndNewOnesNeverNameSomethingElse) {
  Open();
  const int64_t first = *store_->NodeId(NodeKind::kName, "first");
  OpenInMemory();
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "first"), first);
  const int64_t lost = *store_->NodeId(NodeKind::kName, "lost");
  EXPECT_EQ(*store_->NodeKey(NodeKind::kName, lost), "lost");
  Open();
  EXPECT_NE(*store_->NodeId(NodeKind::kName, "other"), lost);
  EXPECT_EQ(store_->NodeKey(NodeKind::kName, lost).error().code, Code::kNotFound);
}

TEST_F(StoreRefusedTest, ADamagedFileIsLeftAndBegunAnewInMemory) {
  ASSERT_TRUE(WriteFileAtomically(path_, AsBytes(std::string(5000, 'z'))));
  const auto before = Files();
  OpenInMemory();
  EXPECT_TRUE(store_->PutDocument(DigestOf("new"), "t", "new"));
  EXPECT_EQ((*store_->GetDocument(DigestOf("new")))->bytes, "new");
  EXPECT_TRUE(Files() == before);
}

class StoreOnFullDiskTest : public ::testing::Test {
 protected:
  // SQLite wants a path that leads there, so the disk is mounted: for this process alone.
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << errno;
    ASSERT_EQ(::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << errno;
    ASSERT_EQ(::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=2m"), 0) << errno;
    Open();
  }
  void TearDown() override {
    store_.reset();
    ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  void Open() {
    store_.reset();
    auto opened = Store::Open(folder_.path() + "/store.db");
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(opened).value();
  }
  // Until neither the disk nor the database takes more.
  void Fill(const std::string& filler) {
    const auto file = OpenFile(filler, O_WRONLY | O_CREAT);
    ASSERT_TRUE(file);
    const std::vector<uint8_t> block(4096, 1);
    while (WriteExactly(file->get(), block, filler)) {
    }

    for (int n = 0;; ++n) {
      const std::string text = std::to_string(n) + std::string(8000, 'x');
      if (!store_->PutDocument(Digest::Sha256(AsBytes(text)), "t", text)) return;
    }
  }

  TemporaryFolder folder_ = TemporaryFolder::Create("lamina-store-disk").value();
  std::unique_ptr<Store> store_;
};

TEST_F(StoreOnFullDiskTest, NamesGetIdsThatAreSavedWhenThereIsRoom) {
  const int64_t early = *store_->NodeId(NodeKind::kName, "early");
  const std::string filler = folder_.path() + "/filler";
  Fill(filler);
  const auto first = store_->NodeId(NodeKind::kName, "first" + std::string(8000, 'x'));
  const auto second = store_->NodeId(NodeKind::kImage, "second" + std::string(8000, 'x'));
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_GT(*first, early);
  EXPECT_GT(*second, *first);
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "first" + std::string(8000, 'x')), *first);
  EXPECT_EQ(store_->NodeKey(NodeKind::kImage, *second)->substr(0, 6), "second");
  ASSERT_EQ(::unlink(filler.c_str()), 0);
  const int64_t third = *store_->NodeId(NodeKind::kName, "third");
  EXPECT_GT(third, *second);
  Open();
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "first" + std::string(8000, 'x')), *first);
  EXPECT_EQ(store_->NodeKey(NodeKind::kImage, *second)->substr(0, 6), "second");
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "third"), third);
}

}  // namespace
}  // namespace lamina
