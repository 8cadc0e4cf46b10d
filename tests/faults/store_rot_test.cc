// [S20], [S21], [S74] Rot and worse in every kind of file of the store: what is read afterwards is
// right, and what was damaged is made anew. GNU tar's sources are the oracle.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <random>

#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

constexpr int kFileBatches = 70;
constexpr int kFlipsOfFiles = 15;  // a batch
constexpr int kDatabaseBatches = 50;
constexpr int kFlipsOfDatabase = 3;

class StoreRotTest : public FsFixture {
 protected:
  void SetUp() override {
    FsFixture::SetUp();
    ExpectAllIsRight();
  }
  void TearDown() override { CloseAll(); }
  // As the end of the process does.
  void CloseAll() {
    names_.reset();
    catalog_.reset();
    layers_.reset();
    store_.reset();
  }

  void ExpectAllIsRight() {
    const std::string image = "localhost/sample/" + base_.PathName();
    EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(Walk(image + "/manifest.json")))), base_);
    for (const char* file : {"lower/dir/big", "lower/dir/a", "lower/dir/sparse",
                             "lower/etc/os-release", "upper/dir/new"}) {
      const auto expected = ReadWholeFile(Path(file), 8 << 20);
      ASSERT_TRUE(expected);
      const std::string name(std::string_view(file).substr(6));
      EXPECT_TRUE(ReadAll(Walk(image + "/rootfs/" + name)) == *expected) << name;
    }
  }

  // Files of the store whose names end so, sorted.
  std::vector<std::string> FilesOf(const std::vector<std::string>& endings) const {
    std::vector<std::string> found;
    for (const auto& item : std::filesystem::recursive_directory_iterator(paths_.root))
      for (const std::string& ending : endings)
        if (item.path().string().ends_with(ending) && item.is_regular_file() &&
            item.file_size() > 0)
          found.push_back(item.path());
    std::sort(found.begin(), found.end());
    return found;
  }

  void FlipOneBit(const std::string& path) {
    const auto file = OpenFile(path, O_RDWR);
    ASSERT_TRUE(file) << file.error().message;
    const uint64_t size = *FileSize(file->get(), path);
    auto at = static_cast<off_t>(Below(size));
    if (const off_t data = ::lseek(file->get(), at, SEEK_DATA); data > at)  // not in a hole
      at = data +
           static_cast<off_t>(Below(std::min<uint64_t>(4096, size - static_cast<uint64_t>(data))));
    uint8_t byte = 0;
    ASSERT_EQ(::pread(file->get(), &byte, 1, at), 1);
    byte = static_cast<uint8_t>(byte ^ (1u << Below(8)));
    ASSERT_EQ(::pwrite(file->get(), &byte, 1, at), 1);
  }
  uint64_t Below(uint64_t bound) {
    return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random_);
  }

  std::minstd_rand random_{7};
};

// [S103] Also where the bytes of layers are compressed.
class RottenBytesTest : public StoreRotTest,
                        public ::testing::WithParamInterface<CacheCompression> {
 protected:
  RottenBytesTest() { compression_ = GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Forms, RottenBytesTest,
                         ::testing::Values(CacheCompression::kNone, CacheCompression::kLz4,
                                           CacheCompression::kZstd));

TEST_P(RottenBytesTest, FlippedBitsInLayersIndexesAndTreesAreNeverServed) {
  const std::vector<std::vector<std::string>> kinds = {{".data"}, {".map"}, {".idx"}, {".erofs"}};
  uint64_t rotten = 0;
  uint64_t indexed = 0;
  for (int batch = 0; batch < kFileBatches; ++batch) {
    SCOPED_TRACE("batch " + std::to_string(batch));
    CloseAll();
    for (int flip = 0; flip < kFlipsOfFiles; ++flip) {
      const auto files = FilesOf(kinds[Below(kinds.size())]);
      ASSERT_FALSE(files.empty());
      FlipOneBit(files[Below(files.size())]);
    }
    Restart();
    ExpectAllIsRight();
    rotten += layers_->cache_counters().rotten;
    indexed += layers_->counters().indexed;
  }
  EXPECT_GT(rotten, 0u) << "no flip met bytes of a layer";
  EXPECT_GT(indexed, 0u) << "no flip met an index";
}

TEST_F(StoreRotTest, FlippedBitsInTheDatabaseNeitherStopItNorAreServed) {
  for (int batch = 0; batch < kDatabaseBatches; ++batch) {
    SCOPED_TRACE("batch " + std::to_string(batch));
    CloseAll();
    for (int flip = 0; flip < kFlipsOfDatabase; ++flip) FlipOneBit(paths_.Database());
    Restart();
    ASSERT_FALSE(HasFatalFailure());
    // The source itself may be gone.
    const auto added = catalog_->AddSource("oci:" + layout_->folder(), Repository());
    ASSERT_TRUE(added) << added.error().message;
    ExpectAllIsRight();
  }
}

// What may stand in the place of a file, other than a file with wrong bytes.
using Damage = std::function<void(const std::string& path)>;

void Replace(const std::string& path, const std::string& bytes) {
  ::unlink(path.c_str());
  ASSERT_TRUE(WriteFileAtomically(path, AsBytes(bytes)));
}

const std::vector<std::pair<std::string, Damage>>& Damages() {
  static const std::vector<std::pair<std::string, Damage>> kDamages = {
      {"deleted", [](const std::string& path) { ::unlink(path.c_str()); }},
      {"emptied", [](const std::string& path) { ASSERT_EQ(::truncate(path.c_str(), 0), 0); }},
      {"cut in half",
       [](const std::string& path) {
         const auto half = static_cast<off_t>(std::filesystem::file_size(path) / 2);
         ASSERT_EQ(::truncate(path.c_str(), half), 0);
       }},
      {"garbage", [](const std::string& path) { Replace(path, std::string(20'000, '\xA5')); }},
      // Ours have the version in bytes 8 to 11, the tree beside its superblock, SQLite's
      // user_version in 60 to 63.
      {"of another version",
       [](const std::string& path) {
         auto bytes = ReadWholeFile(path, 64 << 20);
         ASSERT_TRUE(bytes);
         for (const size_t at : {size_t{8}, size_t{60}})
           if (at < bytes->size()) (*bytes)[at] = static_cast<char>((*bytes)[at] + 1);
         Replace(path, *bytes);
       }},
      {"a folder",
       [](const std::string& path) {
         ::unlink(path.c_str());
         ASSERT_TRUE(MakeFolders(path + "/inside"));
       }},
      {"a link to itself",
       [](const std::string& path) {
         ::unlink(path.c_str());
         ASSERT_EQ(::symlink(path.c_str(), path.c_str()), 0);
       }},
      {"a pipe",
       [](const std::string& path) {
         ::unlink(path.c_str());
         ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
       }},
  };
  return kDamages;
}

TEST_F(StoreRotTest, WhateverStandsInThePlaceOfAFileItIsMadeAnew) {
  for (const char* kind : {".data", ".map", ".idx", ".erofs"}) {
    for (const auto& [what, damage] : Damages()) {
      SCOPED_TRACE(std::string(kind) + " is " + what);
      CloseAll();
      const auto files = FilesOf({kind});
      ASSERT_FALSE(files.empty()) << "it was not made anew";
      for (const std::string& path : files) damage(path);
      Restart();
      ExpectAllIsRight();
      if (std::string(kind) == ".idx") {
        EXPECT_EQ(FilesOf({kind}), files);
      }
    }
  }
}

TEST_F(StoreRotTest, WhateverStandsInThePlaceOfTheDatabaseTheStoreOpens) {
  for (const auto& [what, damage] : Damages()) {
    SCOPED_TRACE("the database is " + what);
    CloseAll();
    damage(paths_.Database());
    Restart();
    ASSERT_FALSE(HasFatalFailure());
    const auto added = catalog_->AddSource("oci:" + layout_->folder(), Repository());
    ASSERT_TRUE(added) << added.error().message;
    ExpectAllIsRight();
  }
}

}  // namespace
}  // namespace lamina
