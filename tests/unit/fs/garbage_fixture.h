#pragma once

// A collector of garbage over the store of FsFixture, with a clock that tests set.

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "fs/garbage.h"
#include "overlay/tree_path.h"
#include "tests/unit/fs/fs_fixture.h"

namespace lamina {

inline constexpr std::chrono::hours kDay(24);

class LaterClock : public WallClock {
 public:
  int64_t NowNs() const override {
    return System().NowNs() + std::chrono::nanoseconds(later.load()).count();
  }
  std::atomic<std::chrono::hours> later{std::chrono::hours(0)};
};

class GarbageTest : public FsFixture {
 protected:
  void SetUp() override {
    FsFixture::SetUp();
    MakeCollector();
  }
  void TearDown() override { collector_.reset(); }
  void MakeCollector() {
    collector_ = std::make_unique<GarbageCollector>(paths_, *store_, *layers_, *catalog_, clock_);
  }
  // Of what was neither named nor used in a week.
  GarbageCollector::Collected Collect(std::chrono::hours after = 7 * kDay) {
    const auto collected = collector_->Collect({.after = after});
    EXPECT_TRUE(collected) << collected.error().message;
    return collected ? *collected : GarbageCollector::Collected();
  }
  // The image with its two layers is looked at once.
  void Look() {
    const auto image = catalog_->OpenImage(Repository(), base_);
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_TRUE((*image)->EnsureTree());
  }
  std::string Source() const { return "oci:" + layout_->folder(); }
  std::string Index() const { return paths_.Index(lower_layer_); }
  // "dir/big" of the image.
  Result<std::vector<uint8_t>> ReadBig() {
    ASSIGN_OR_RETURN(const auto image, catalog_->OpenImage(Repository(), base_));
    ASSIGN_OR_RETURN(const auto tree, image->EnsureTree());
    ASSIGN_OR_RETURN(const Nid nid, FindInTree(tree->tree(), "/dir/big", true));
    std::vector<uint8_t> bytes(4u << 20);
    ASSIGN_OR_RETURN(const size_t got, image->ReadFile(*tree, nid, 0, bytes,
                                                       Deadline::After(std::chrono::minutes(1))));
    bytes.resize(got);
    return bytes;
  }

  LaterClock clock_;
  std::unique_ptr<GarbageCollector> collector_;
};

}  // namespace lamina
