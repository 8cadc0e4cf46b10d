// The store on damaged files, and killed while it writes.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "tests/unit/index/store_fixture.h"

namespace lamina {
namespace {

class StoreDamageTest : public StoreFixture {
 protected:
  void Fill(int rows) {
    for (int i = 0; i < rows; ++i) {
      const std::string text = "row " + std::to_string(i) + std::string(500, 'x');
      ASSERT_TRUE(store_->NodeId(NodeKind::kName, text));
      ASSERT_TRUE(store_->PutDocument(DigestOf(text), "t", text));
      ASSERT_TRUE(store_->RecordTag({"r", std::to_string(i), DigestOf(text), "o", i, 0}));
    }
  }
  // Every kind of call, none of which may fail. True when the document that was put is there
  // afterwards.
  bool Use() {
    EXPECT_TRUE(store_->NodeId(NodeKind::kName, "used"));
    EXPECT_TRUE(store_->RecordTag({"r", "used", DigestOf("used"), "o", 1, 0}));
    EXPECT_TRUE(store_->CurrentTags(""));
    EXPECT_TRUE(store_->Repositories());
    EXPECT_TRUE(store_->PutDocument(DigestOf("used"), "t", "used"));
    return DocumentIsThere("used");
  }
  // Asks for the document of this content, which comes back right or not at all.
  bool DocumentIsThere(const std::string& content) {
    const auto document = store_->GetDocument(DigestOf(content));
    EXPECT_TRUE(document) << document.error().message;
    if (!document || !*document) return false;
    EXPECT_EQ((*document)->bytes, content);
    return true;
  }
  void Overwrite(uint64_t offset, const std::string& bytes) {
    auto fd = OpenFile(path_, O_RDWR);
    ASSERT_TRUE(fd) << fd.error().message;
    ASSERT_TRUE(PwriteExactly(fd->get(), AsBytes(bytes), offset, path_));
  }
};

TEST_F(StoreDamageTest, FileThatIsNoDatabaseIsSetAsideAndRebuilt) {
  const std::string content(5000, 'z');
  ASSERT_TRUE(WriteFileAtomically(path_, AsBytes(content)));
  Open();
  EXPECT_TRUE(Use());
  EXPECT_EQ(SetAsideCount(), 1u);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    if (entry.path().string().find(".corrupt-") == std::string::npos) continue;
    EXPECT_EQ(*ReadWholeFile(entry.path(), 10000), content);
  }
}

TEST_F(StoreDamageTest, TruncatedDatabaseIsSetAsideAndRebuilt) {
  Open();
  Fill(50);
  store_.reset();  // the last connection writes the log back into the file
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  Open();
  EXPECT_TRUE(Use());
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(store_->TagHistory("r", std::to_string(i)));
  EXPECT_EQ(SetAsideCount(), 1u);
}

TEST_F(StoreDamageTest, EmptyFileIsANewStore) {
  ASSERT_TRUE(WriteFileAtomically(path_, {}));
  Open();
  EXPECT_TRUE(Use());
  EXPECT_EQ(SetAsideCount(), 0u);
}

TEST_F(StoreDamageTest, MissingTablesAreARebuild) {
  Open();
  store_.reset();
  Query("DROP TABLE document");
  Open();
  EXPECT_TRUE(Use());
  EXPECT_EQ(SetAsideCount(), 1u);
}

TEST_F(StoreDamageTest, AFlippedBitInANumberOfTheHeaderIsMended) {
  constexpr uint64_t kVersionAt = 60;
  constexpr uint64_t kApplicationAt = 68;
  for (const uint64_t number : {kVersionAt, kApplicationAt}) {
    for (uint64_t bit = 0; bit < 32; ++bit) {
      Open();
      const int64_t id = *store_->NodeId(NodeKind::kName, "kept");
      store_.reset();
      const auto before = ReadWholeFile(path_, 1 << 20);
      ASSERT_TRUE(before);
      std::string byte(1, (*before)[number + bit / 8]);
      byte[0] = static_cast<char>(byte[0] ^ (1 << bit % 8));
      Overwrite(number + bit / 8, byte);
      Open();
      ASSERT_EQ(*store_->NodeId(NodeKind::kName, "kept"), id) << number << ", bit " << bit;
    }
  }
  EXPECT_EQ(SetAsideCount(), 0u);
}

TEST_F(StoreDamageTest, DamageFoundLaterIsRepairedWithinTheCallAndKeepsKnownIds) {
  Open();
  Fill(50);
  Open();  // an empty page cache
  const int64_t known = *store_->NodeId(NodeKind::kName, "known");
  const int64_t registry = *store_->NodeId(NodeKind::kRegistry, "docker.io");
  // A second process writes the log back, then all pages but the first are overwritten.
  Query("PRAGMA wal_checkpoint(TRUNCATE)");
  const uint64_t size = std::filesystem::file_size(path_);
  Overwrite(4096, std::string(size - 4096, '\xA5'));
  Query("PRAGMA user_version");
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(store_->TagHistory("r", std::to_string(i)));
  EXPECT_TRUE(Use());
  EXPECT_EQ(SetAsideCount(), 1u);
  Open();
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "known"), known);
  EXPECT_EQ(*store_->NodeKey(NodeKind::kRegistry, registry), "docker.io");
}

TEST_F(StoreDamageTest, IdsOfALostDatabaseNeverNameSomethingElse) {
  Open();
  std::map<int64_t, std::string> old;
  for (int i = 0; i < 200; ++i) {
    const std::string key = "old " + std::to_string(i);
    old[*store_->NodeId(NodeKind::kImage, key)] = key;
  }
  store_.reset();
  Overwrite(0, std::string(100, '\0'));
  Open();
  for (int i = 0; i < 200; ++i)
    EXPECT_EQ(old.count(*store_->NodeId(NodeKind::kImage, "new " + std::to_string(i))), 0u);
  for (const auto& [id, key] : old)
    EXPECT_EQ(store_->NodeKey(NodeKind::kImage, id).error().code, Code::kNotFound);
}

TEST_F(StoreDamageTest, RandomlyOverwrittenBytesNeverStopTheStore) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
    Open();
    Fill(20);
    store_.reset();
    const uint64_t size = std::filesystem::file_size(path_);
    for (int hit = 0; hit < 40; ++hit) {
      std::string bytes(1 + random() % 64, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random());
      Overwrite(random() % (size - bytes.size()), bytes);
    }
    // The words "newer" and "no store" may be what random bytes in the header say; nothing else
    // may.
    auto opened = Store::Open(path_);
    if (!opened) {
      EXPECT_TRUE(opened.error().code == Code::kUnsupported ||
                  opened.error().code == Code::kInvalid)
          << opened.error().message;
      continue;
    }
    store_ = std::move(opened).value();
    // SQLite has no checksums: rot in an index may hide a row without being noticed, which costs a
    // refetch.
    Use();
    for (int i = 0; i < 20; ++i)
      DocumentIsThere("row " + std::to_string(i) + std::string(500, 'x'));
    store_.reset();
  }
}

// Writes and tells each id once it has it, until it is killed.
[[noreturn]] void WriteUntilKilled(const std::string& path, int round, int told) {
  auto store = Store::Open(path);
  if (!store) ::_exit(3);
  for (int64_t i = 0;; ++i) {
    const std::string key = std::to_string(round) + " " + std::to_string(i);
    const auto id = (*store)->NodeId(NodeKind::kName, key);
    if (!id) ::_exit(4);
    if (!(*store)->PutDocument(Digest::Sha256(AsBytes(key)), "t", key)) ::_exit(5);
    const int64_t message[2] = {i, *id};
    if (::write(told, message, sizeof message) != sizeof message) ::_exit(6);
  }
}

TEST_F(StoreDamageTest, KilledWhileWritingItKeepsAllThatWasAnswered) {
  std::mt19937 random(3);
  std::map<std::string, int64_t> answered;
  for (int round = 0; round < 15; ++round) {
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) WriteUntilKilled(path_, round, told[1]);
    ::close(told[1]);
    int64_t message[2];
    const auto take = [&] {
      if (::read(told[0], message, sizeof message) != sizeof message) return false;
      answered[std::to_string(round) + " " + std::to_string(message[0])] = message[1];
      return true;
    };
    EXPECT_TRUE(take());
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    ::kill(child, SIGKILL);
    while (take()) {
    }
    ::close(told[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    Open();
    for (const auto& [key, id] : answered) {
      EXPECT_EQ(*store_->NodeKey(NodeKind::kName, id), key);
      EXPECT_TRUE(store_->GetDocument(DigestOf(key))->has_value());
    }
    store_.reset();
  }
  EXPECT_EQ(Query("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(SetAsideCount(), 0u);
}

}  // namespace
}  // namespace lamina
