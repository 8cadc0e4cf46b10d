#pragma once

// What the tests of the chunk cache share: a folder, a fake layer, and reads that are judged at
// once.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "fetch/chunk_cache.h"
#include "tests/fakes/fake_chunk_owner.h"

namespace lamina {

class ChunkCacheFixture : public ::testing::Test {
 protected:
  ChunkCacheFixture() : folder_(TemporaryFolder::Create("lamina-cache-test").value()) {}

  static Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }

  // Opens the cache of `owner_` anew, as a new process would.
  void Open(LayerCacheOptions options = {}) { OpenIn(folder_.path(), std::move(options)); }
  void OpenIn(const std::string& folder, LayerCacheOptions options = {}) {
    cache_.reset();
    auto opened = LayerCache::Open(folder, layer_, owner_, counters_, std::move(options));
    ASSERT_TRUE(opened) << opened.error().message;
    cache_ = std::move(opened).value();
  }
  void OpenWith(std::shared_ptr<FakeChunkOwner> owner) {
    owner_ = std::move(owner);
    Open();
  }

  // Reads and compares with the owner's content.
  ::testing::AssertionResult ReadsRight(uint64_t offset, uint64_t length) {
    std::vector<uint8_t> out(length, 0xEE);
    if (Status read = cache_->Read(offset, out, Soon()); !read)
      return ::testing::AssertionFailure() << read.error().message;
    if (out != owner_->Content(offset, length))
      return ::testing::AssertionFailure() << "wrong bytes at " << offset;
    return ::testing::AssertionSuccess();
  }
  ::testing::AssertionResult AllReadsRight() { return ReadsRight(0, owner_->flat_size()); }
  ::testing::AssertionResult ReadsReadyRight(uint64_t offset, uint64_t length) {
    std::vector<uint8_t> out(length, 0xEE);
    if (Status read = cache_->ReadReady(offset, out); !read)
      return ::testing::AssertionFailure() << read.error().message;
    if (out != owner_->Content(offset, length))
      return ::testing::AssertionFailure() << "wrong bytes at " << offset;
    return ::testing::AssertionSuccess();
  }

  std::string Path(const std::string& suffix) const {
    return folder_.path() + "/" + layer_.PathName() + suffix;
  }
  void FlipByte(const std::string& path, uint64_t offset) {
    auto fd = OpenFile(path, O_RDWR);
    ASSERT_TRUE(fd) << fd.error().message;
    uint8_t byte = 0;
    ASSERT_TRUE(PreadExactly(fd->get(), {&byte, 1}, offset, path));
    byte ^= 0x40;
    ASSERT_TRUE(PwriteExactly(fd->get(), {&byte, 1}, offset, path));
  }
  static uint64_t DiskBytes(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? static_cast<uint64_t>(st.st_blocks) * 512 : 0;
  }

  TemporaryFolder folder_;
  const Digest layer_ = Digest::Sha256(AsBytes("a layer"));
  std::shared_ptr<FakeChunkOwner> owner_ = std::make_shared<FakeChunkOwner>(8, 16);
  std::shared_ptr<CacheCounters> counters_ = std::make_shared<CacheCounters>();
  std::shared_ptr<LayerCache> cache_;
};

}  // namespace lamina
