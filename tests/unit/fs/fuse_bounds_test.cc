// How long requests wait at most, and for whom: a registry that falls silent once its image is
// known.

#include <fmt/core.h>

#include <set>

#include "../../fakes/http_server.h"
#include "fuse_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kBound{3};

class FuseBoundsTest : public FuseMountTest {
 protected:
  // Indexes the image from a registry, empties the cache, and mounts with one job at a time for
  // each lane.
  void SetUp() override {
    options_.read_bound = kBound;
    FsFixture::SetUp();
    if (HasFatalFailure()) return;
    server_ = std::make_unique<HttpServer>([this](const FakeRequest& request) {
      FakeResponse response = Answer(request);
      response.silent = silent_;
      return response;
    });
    const auto image = catalog_->OpenImage(server_->host() + "/app", base_);
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_TRUE((*image)->EnsureTree());
    Shell("rm '" + paths_.CacheFolder() + "'/*");
    Restart();
    StartMount({.per_key = 1});
    big_ = UniqueFd(::open((RootFs() + "/dir/big").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(big_.valid());
    ASSERT_EQ(::posix_fadvise(big_.get(), 0, 0, POSIX_FADV_RANDOM), 0);
    asked_before_ = server_->requests().size();
    silent_ = true;
  }
  void TearDown() override {
    big_.reset();
    server_.reset();  // ends what waits for it
    FuseMountTest::TearDown();
  }

  FakeResponse Answer(const FakeRequest& request) const {
    const std::string path = request.path();
    if (path == "/v2/") return Bytes("{}");
    auto digest = Digest::Parse(path.substr(path.rfind('/') + 1));
    if (!digest) return Failing(404, "NAME_UNKNOWN");
    auto bytes = ReadWholeFile(layout_->BlobPath(*digest), 64u << 20);
    if (!bytes) return Failing(404, "BLOB_UNKNOWN");
    FakeResponse response = ServeBlob(request, *bytes);
    if (path.find("/manifests/") != std::string::npos)
      response.headers.emplace_back("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    return response;
  }
  std::string Host() const {
    return mountpoint_ + "/127.0.0.1_" + std::to_string(server_->port()) + "_";
  }
  std::string RootFs() const { return Host() + "/app/" + base_.PathName() + "/rootfs"; }
  // The ranges that were asked for since the silence began.
  std::vector<std::string> Ranges() const {
    std::vector<std::string> ranges;
    const auto requests = server_->requests();
    for (size_t i = asked_before_; i < requests.size(); ++i)
      ranges.push_back(requests[i].Header("range"));
    return ranges;
  }
  // The errno of reading one byte at each offset, all at the same time.
  std::vector<int> ReadAt(const std::vector<off_t>& offsets) const {
    std::vector<std::future<int>> readers;
    for (const off_t offset : offsets)
      readers.push_back(std::async(std::launch::async, [this, offset] {
        char byte = 0;
        return ::pread(big_.get(), &byte, 1, offset) < 0 ? errno : 0;
      }));
    std::vector<int> results;
    for (auto& reader : readers) results.push_back(reader.get());
    return results;
  }

  std::unique_ptr<HttpServer> server_;
  std::atomic<bool> silent_{false};
  size_t asked_before_ = 0;
  UniqueFd big_;
};

// [S23] What waits behind others in line does not get a bound of its own afterwards.
TEST_F(FuseBoundsTest, TheBoundCountsFromWhenItWasAsked) {
  const std::vector<off_t> offsets = {0, 1'200'000, 2'500'000};
  EXPECT_EQ(ReadAt(offsets), std::vector<int>(offsets.size(), EIO));
  EXPECT_GE(Ranges().size(), 1u);
  EXPECT_LT(Ranges().size(), offsets.size());
  EXPECT_THAT(Shell("cat '" + mountpoint_ + "/.lamina/log'"), HasSubstr("nothing came within"));
}

// [S23] The kernel asks again for each reader of a page: none waits for a second bound.
TEST_F(FuseBoundsTest, ReadersOfOnePageWaitForOneBound) {
  EXPECT_EQ(ReadAt({100, 100, 101, 102, 103, 104}), std::vector<int>(6, EIO));
  EXPECT_EQ(Ranges().size(), 1u);
}

// [S26]
TEST_F(FuseBoundsTest, LaterReadersAskAgain) {
  EXPECT_EQ(ReadAt({100}), std::vector<int>{EIO});
  silent_ = false;
  for (int error = EIO; error != 0; ::usleep(100'000)) error = ReadAt({100})[0];
  EXPECT_GT(Ranges().size(), 1u);
}

// [S23] However long the registry's own bounds are.
TEST_F(FuseBoundsTest, LookupsOfOneNameWaitForOneBound) {
  std::vector<std::unique_ptr<Prober>> probers;
  for (int i = 0; i < 6; ++i) probers.push_back(std::make_unique<Prober>(Host() + "/app/unknown"));
  for (const auto& prober : probers) EXPECT_EQ(prober->Errno(), ETIMEDOUT);
  EXPECT_EQ(
      Shell("grep -c \"the lookup of 'unknown' is given up\" '" + mountpoint_ + "/.lamina/log'"),
      "1\n");
}

}  // namespace
}  // namespace lamina
