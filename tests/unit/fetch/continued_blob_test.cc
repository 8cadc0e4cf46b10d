#include "fetch/continued_blob.h"

#include <gmock/gmock.h>

#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Gives its bytes up to `breaks_at` and notes where it was asked to begin.
class BreakingBlob : public BlobSource {
 public:
  BreakingBlob(std::string bytes, size_t breaks_at)
      : bytes_(std::move(bytes)), breaks_at_(breaks_at) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t, MutableByteSpan, const Deadline&) override {
    return Error{Code::kUnsupported, "not read"};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    begun.push_back(offset);
    for (size_t i = offset; i < breaks_at_; ++i)
      RETURN_IF_ERROR(sink(AsBytes({bytes_.data() + i, 1})));
    if (breaks_at_ == bytes_.size()) return {};
    return Error{Code::kUnavailable, "broken at " + std::to_string(breaks_at_)};
  }
  std::string origin() const override { return "test:"; }

  std::vector<uint64_t> begun;

 private:
  const std::string bytes_;
  const size_t breaks_at_;
};

const std::string kBytes = PatternBytes(100);

ContinuedBlob::Opener Opening(const std::shared_ptr<BreakingBlob>& blob) {
  return [blob]() -> Result<std::shared_ptr<BlobSource>> { return {blob}; };
}

std::shared_ptr<BreakingBlob> Breaking(size_t at) {
  return std::make_shared<BreakingBlob>(kBytes, at);
}

TEST(ContinuedBlobTest, GoesOnElsewhereAtTheByteThatWasReached) {
  const auto first = Breaking(40);
  const auto none = Breaking(0);
  const auto second = Breaking(70);
  const auto third = Breaking(100);
  ContinuedBlob blob(first, {Opening(none), Opening(second), Opening(third)});
  std::string got;
  ASSERT_TRUE(StreamInto(blob, 10, &got).has_value());
  EXPECT_EQ(got, kBytes.substr(10));
  EXPECT_THAT(first->begun, ElementsAre(10u));
  EXPECT_THAT(none->begun, ElementsAre(40u));
  EXPECT_THAT(second->begun, ElementsAre(40u));
  EXPECT_THAT(third->begun, ElementsAre(70u));
}

TEST(ContinuedBlobTest, OneThatGivesNothingFailsAtOnce) {
  const auto second = Breaking(100);
  ContinuedBlob blob(Breaking(0), {Opening(second)});
  std::string got;
  EXPECT_EQ(StreamInto(blob, 0, &got).error().message, "broken at 0");
  EXPECT_THAT(second->begun, IsEmpty());
}

TEST(ContinuedBlobTest, TheLastFailureIsTheAnswer) {
  ContinuedBlob blob(Breaking(40), {Opening(Breaking(60))});
  std::string got;
  EXPECT_EQ(StreamInto(blob, 0, &got).error().message, "broken at 60");
  EXPECT_EQ(got, kBytes.substr(0, 60));
}

TEST(ContinuedBlobTest, WhoeverTakesTheBytesMayEndIt) {
  const auto second = Breaking(100);
  ContinuedBlob blob(Breaking(100), {Opening(second)});
  const Status status = blob.Stream(0, [](ByteSpan) -> Status {
    return Error{Code::kCancelled, "enough"};
  });
  EXPECT_EQ(status.error().message, "enough");
  EXPECT_THAT(second->begun, IsEmpty());
}

}  // namespace
}  // namespace lamina
