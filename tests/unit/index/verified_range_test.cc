#include "index/verified_range.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "index/blob_hash.h"
#include "index/layer_index_writer.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

constexpr auto kSha256 = Digest::Algorithm::kSha256;

std::string Noise(size_t size) {
  std::mt19937_64 random(size);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }

// An index of nothing but marks, or spans.
class VerifiedRangeTest : public ::testing::Test {
 protected:
  LayerIndexWriter& writer() { return writer_; }
  std::shared_ptr<const LayerIndex> Finish(const std::string& blob, IndexKind kind) {
    EXPECT_TRUE(writer_.AddEntry({}).has_value());
    index_format::InodeRecord root;
    root.type = static_cast<uint8_t>(EntryType::kDirectory);
    EXPECT_TRUE(writer_.AddInode(root).has_value());
    const Digest digest = Digest::Sha256(AsBytes(blob));
    auto file = writer_.Write(
        {.blob_digest = digest, .diff_id = digest, .blob_size = blob.size(), .kind = kind}, "", {});
    EXPECT_TRUE(file && file->Commit());
    return std::move(LayerIndex::Open(lab_.folder() + "/marks.idx", digest)).value();
  }
  // Marks at these offsets and at the end.
  std::shared_ptr<const LayerIndex> WithMarks(const std::string& blob,
                                              const std::vector<uint64_t>& offsets) {
    for (const uint64_t offset : offsets) {
      Hasher hasher;
      hasher.Update(AsBytes(blob).first(offset));
      EXPECT_TRUE(writer_.AddMark({offset, hasher.state()}).has_value());
    }
    BlobMark last{blob.size(), {}};
    const Digest digest = Digest::Sha256(AsBytes(blob));
    std::ranges::copy(digest.bytes(), last.state.begin());
    EXPECT_TRUE(writer_.AddMark(last).has_value());
    return Finish(blob, IndexKind::kOwn);
  }

  IndexLab lab_;
  LayerIndexWriter writer_{lab_.folder() + "/marks.idx"};
};

// All that the range gives, or its error.
Result<std::string> ReadAll(const LayerIndex& index, uint64_t begin, uint64_t end,
                            const std::string& blob_bytes) {
  MemoryBlob blob(blob_bytes);
  ASSIGN_OR_RETURN(VerifiedRange range, VerifiedRange::Open(index, begin, end));
  std::string all;
  while (true) {
    ASSIGN_OR_RETURN(const ByteSpan bytes, range.Next(blob, Soon()));
    if (bytes.empty()) return all;
    all += AsText(bytes);
  }
}

TEST_F(VerifiedRangeTest, GivesWhatLiesBetweenMarksAndNoByteThatIsAnother) {
  const std::string blob = Noise(10'000);
  const auto index = WithMarks(blob, {0, 1280, 2560, 7680});
  for (const auto& [begin, end, until] :
       std::vector<std::array<uint64_t, 3>>{{0, 1, 1280},
                                            {0, 1281, 2560},
                                            {1280, 7680, 7680},
                                            {7680, 7681, 10'000},
                                            {0, 10'000, 10'000}}) {
    const auto bytes = ReadAll(*index, begin, end, blob);
    ASSERT_TRUE(bytes) << bytes.error().message;
    EXPECT_TRUE(*bytes == blob.substr(begin, until - begin)) << begin << " to " << end;
    for (const uint64_t at : {begin, (begin + until) / 2, until - 1}) {
      std::string other = blob;
      other[at] ^= 1;
      const auto refused = ReadAll(*index, begin, end, other);
      ASSERT_FALSE(refused) << at;
      EXPECT_EQ(refused.error().code, Code::kCorrupt);
    }
  }
}

TEST_F(VerifiedRangeTest, BeginsAtMarksOnly) {
  const std::string blob = Noise(5000);
  const auto index = WithMarks(blob, {0, 1280});
  EXPECT_EQ(ReadAll(*index, 128, 4000, blob).error().code, Code::kCorrupt);
}

TEST_F(VerifiedRangeTest, NothingIsLeftAtTheEndOfTheBlob) {
  const std::string blob = Noise(5000);
  const auto index = WithMarks(blob, {0});
  EXPECT_EQ(*ReadAll(*index, 5000, 5000, blob), "");
}

TEST_F(VerifiedRangeTest, LongRangesComeInStepsThatEndAtMarks) {
  const std::string blob = Noise(20u << 20);
  std::vector<uint64_t> offsets;
  for (uint64_t at = 0; at < blob.size(); at += 640u << 10) offsets.push_back(at);
  const auto index = WithMarks(blob, offsets);
  MemoryBlob source(blob);
  auto range = VerifiedRange::Open(*index, 0, blob.size());
  ASSERT_TRUE(range);
  std::string all;
  for (int steps = 0;; ++steps) {
    const auto bytes = range->Next(source, Soon());
    ASSERT_TRUE(bytes) << bytes.error().message;
    if (bytes->empty()) {
      EXPECT_GE(steps, 5);
      break;
    }
    EXPECT_LE(bytes->size(), kFetchStep);
    all += AsText(*bytes);
  }
  EXPECT_TRUE(all == blob);
}

TEST_F(VerifiedRangeTest, SpansThatShareAByteAreVerifiedEach) {
  const std::string blob = Noise(9000);
  const std::vector<std::pair<uint64_t, uint64_t>> spans = {{10, 3000}, {2999, 6000}, {6000, 9000}};
  for (const auto& [begin, end] : spans) {
    BlobSpan span{begin, end, {}};
    const Digest digest = Digest::Sha256(AsBytes(blob).subspan(begin, end - begin));
    std::ranges::copy(digest.bytes(), span.sha256.begin());
    ASSERT_TRUE(writer().AddSpan(span).has_value());
  }
  const auto index = Finish(blob, IndexKind::kSoci);
  EXPECT_TRUE(*ReadAll(*index, 10, 100, blob) == blob.substr(10, 2990));
  EXPECT_TRUE(*ReadAll(*index, 3000, 3100, blob) == blob.substr(3000, 3000));
  EXPECT_TRUE(*ReadAll(*index, 10, 9000, blob) == blob.substr(10));
  std::string other = blob;
  other[2999] ^= 1;
  EXPECT_EQ(ReadAll(*index, 3000, 3100, other).error().code, Code::kCorrupt);
  EXPECT_EQ(ReadAll(*index, 10, 100, other).error().code, Code::kCorrupt);
  EXPECT_TRUE(ReadAll(*index, 6000, 9000, other));
}

// The states are those of the digest of what came before, wherever the decoder stands.
TEST(BlobHashTest, MarksAreStatesOfTheDigestAtPlacesOfTheDecoder) {
  const std::string blob = Noise(100'003);
  std::mt19937_64 random(7);
  BlobHash hash(kSha256);
  uint64_t position = 0;
  uint64_t restart = 0;
  while (position < blob.size()) {
    const uint64_t piece = std::min<uint64_t>(random() % 3000, blob.size() - position);
    if (random() % 3 == 0) restart = position + random() % (piece + 1);
    const uint64_t ahead = std::min<uint64_t>(kHashAlign, blob.size() - position - piece);
    hash.Advance(AsBytes(blob).subspan(position, piece + ahead), piece, restart);
    position += piece;
    const HashMark here = random() % 2 == 0 ? hash.Here() : hash.Restart();
    if (!here.known) {
      EXPECT_GT(here.offset, blob.size());
      continue;
    }
    const uint64_t place = here.offset - here.lead.size();
    EXPECT_EQ(here.offset % kHashAlign, 0u);
    EXPECT_TRUE(AsText(here.lead) == blob.substr(place, here.lead.size()));
    Hasher expected;
    expected.Update(AsBytes(blob).first(here.offset));
    EXPECT_EQ(here.state, expected.state()) << here.offset;
  }
  EXPECT_EQ(hash.Finish(), Digest::Sha256(AsBytes(blob)));
}

}  // namespace
}  // namespace lamina::testing
