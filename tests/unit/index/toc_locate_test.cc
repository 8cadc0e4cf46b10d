#include "index/toc_locate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "index/toc_footer.h"
#include "index/toc_reader.h"
#include "tests/unit/index/codec_tools.h"
#include "tests/unit/index/toc_tools.h"

namespace lamina {
namespace {

using namespace lamina::testing;  // NOLINT
using ::testing::HasSubstr;

const std::string kJson = R"({"version":1,"entries":[]})";
const std::string kDigest = Digest::Sha256({}).ToString();
const std::string kOther = Digest::Sha256(AsBytes("other")).ToString();

TocClaim MustClaim(const std::map<std::string, std::string>& annotations) {
  Result<std::optional<TocClaim>> claim = TocClaimOf(annotations);
  EXPECT_TRUE(claim && claim->has_value());
  return claim->value();
}

Result<TocPlace> Locate(const LayerWithToc& layer) {
  MemoryBlob blob(layer.blob);
  return LocateToc(MustClaim(layer.annotations), blob, Soon());
}

TEST(TocClaimTest, LayerWithoutADigestInTheManifestIsPlain) {
  EXPECT_FALSE(TocClaimOf({})->has_value());
  EXPECT_FALSE(TocClaimOf({{kNewChunked + "manifest-position", "1:2:3:1"}})->has_value());
  EXPECT_FALSE(TocClaimOf({{"io.containers.estargz.uncompressed-size", "7"}})->has_value());
}

TEST(TocClaimTest, EachDialectIsKnownByItsAnnotations) {
  EXPECT_EQ(MustClaim({{kTocDigestKey, kDigest}}).dialect(), TocDialect::kStargz);
  for (const std::string& prefix : {kOldChunked, kNewChunked}) {
    const TocClaim claim = MustClaim(
        {{prefix + "manifest-checksum", kDigest}, {prefix + "manifest-position", "10:20:30:1"}});
    EXPECT_EQ(claim.dialect(), TocDialect::kChunked);
    EXPECT_EQ(claim.position->offset, 10u);
    EXPECT_EQ(claim.position->length, 20u);
    EXPECT_EQ(claim.position->json_length, 30u);
  }
  // stargz-snapshotter gives its zstd:chunked both digests.
  const TocClaim both =
      MustClaim({{kTocDigestKey, kDigest}, {kOldChunked + "manifest-checksum", kOther}});
  EXPECT_EQ(both.dialect(), TocDialect::kStargz);
  EXPECT_EQ(both.blob_digest->ToString(), kOther);
}

TEST(TocClaimTest, ManifestThatNamesTwoTablesIsRefused) {
  const auto two =
      TocClaimOf({{kTocDigestKey, kDigest}, {kNewChunked + "manifest-checksum", kOther}});
  ASSERT_FALSE(two);
  EXPECT_EQ(two.error().code, Code::kInvalid);
  EXPECT_THAT(two.error().message, HasSubstr("both a zstd:chunked and an eStargz"));
  EXPECT_FALSE(TocClaimOf(
      {{kOldChunked + "manifest-checksum", kDigest}, {kNewChunked + "manifest-checksum", kOther}}));
  EXPECT_TRUE(TocClaimOf({{kOldChunked + "manifest-checksum", kDigest},
                          {kNewChunked + "manifest-checksum", kDigest}}));
}

TEST(TocClaimTest, MalformedAnnotationsAreRefused) {
  EXPECT_FALSE(TocClaimOf({{kTocDigestKey, "sha256:12"}}));
  for (const char* position : {"", "1:2:3", "1:2:3:1:1", "1:2:3:x", "-1:2:3:1", "1:2:3:1 ",
                               "1::3:1", "99999999999999999999:2:3:1"})
    EXPECT_FALSE(TocClaimOf({{kNewChunked + "manifest-checksum", kDigest},
                             {kNewChunked + "manifest-position", position}}))
        << position;
  const auto type = TocClaimOf({{kNewChunked + "manifest-checksum", kDigest},
                                {kNewChunked + "manifest-position", "1:2:3:2"}});
  ASSERT_FALSE(type);
  EXPECT_EQ(type.error().code, Code::kUnsupported);
}

TEST(TocFooterTest, EachFooterIsRecognised) {
  EXPECT_EQ(EstargzFooter(0x1234).size(), 51u);
  EXPECT_EQ(LegacyFooter(0x1234).size(), 47u);
  EXPECT_EQ(ExternalFooter().size(), 46u);
  for (const std::string& footer : {EstargzFooter(0x1234), LegacyFooter(0x1234)}) {
    const auto found = ParseTocFooter(AsBytes("before" + footer));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->toc_offset, 0x1234u);
    EXPECT_EQ(found->size, footer.size());
    EXPECT_FALSE(found->beside);
  }
  EXPECT_TRUE(ParseTocFooter(AsBytes(ExternalFooter()))->beside);
  for (const std::string& footer : {OldZstdFooter(11, 22, 33), NewZstdFooter(11, 22, 33)}) {
    const auto found = ParseTocFooter(AsBytes(footer));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->compression, Compression::kZstd);
    EXPECT_EQ(found->toc_offset, 11u);
    EXPECT_EQ(found->toc_length, 22u);
    EXPECT_EQ(found->json_length, 33u);
    EXPECT_EQ(found->size, footer.size());
  }
}

TEST(TocFooterTest, FooterThatIsCutOrChangedIsNone) {
  for (const std::string& footer : {EstargzFooter(0x1234), LegacyFooter(0x1234), ExternalFooter(),
                                    OldZstdFooter(11, 22, 33), NewZstdFooter(11, 22, 33)}) {
    for (size_t cut = 1; cut <= footer.size(); ++cut) {
      EXPECT_FALSE(ParseTocFooter(AsBytes(footer.substr(cut))));
      EXPECT_FALSE(ParseTocFooter(AsBytes(footer.substr(0, footer.size() - cut))));
    }
  }
  EXPECT_FALSE(ParseTocFooter(AsBytes(OldZstdFooter(11, 22, 33, /*type=*/2))));
  std::string hex = EstargzFooter(0x1234);
  hex[20] = 'A';
  EXPECT_FALSE(ParseTocFooter(AsBytes(hex)));
}

TEST(TocLocateTest, SmallTableComesWithTheFooterInOneRead) {
  const LayerWithToc layer = EstargzLayer(kJson, Noise(500'000));
  CountingBlob blob(layer.blob);
  const TocClaim claim = MustClaim(layer.annotations);
  auto place = LocateToc(claim, blob, Soon());
  ASSERT_TRUE(place) << place.error().message;
  EXPECT_EQ(place->kind, TocKind::kEstargz);
  EXPECT_EQ(place->offset, 500'000u);
  EXPECT_EQ(place->data_end, 500'000u);
  ASSERT_TRUE(Toc::Fetch(claim, *std::move(place), blob, Soon()));
  EXPECT_EQ(blob.reads, 1);
  EXPECT_LT(blob.bytes_read, 200'000u);
}

TEST(TocLocateTest, LargeTableTakesTwoReads) {
  // Noise in base64, so that the compressed table is larger than any tail.
  const std::string noise = Pipe("base64 -w0", Noise(600'000));
  const std::string json = R"({"version":1,"x":")" + noise + R"(","entries":[]})";
  for (const LayerWithToc& layer : {EstargzLayer(json, Noise(9000)), ChunkedLayer(json)}) {
    CountingBlob blob(layer.blob);
    const TocClaim claim = MustClaim(layer.annotations);
    auto place = LocateToc(claim, blob, Soon());
    ASSERT_TRUE(place) << place.error().message;
    const auto toc = Toc::Fetch(claim, *std::move(place), blob, Soon());
    ASSERT_TRUE(toc) << toc.error().message;
    EXPECT_LE(blob.reads, 2);
    EXPECT_LE(blob.bytes_read, layer.blob.size());
  }
}

TEST(TocLocateTest, PositionInTheManifestNeedsNoFooter) {
  LayerWithToc layer = ChunkedLayer(kJson);
  CountingBlob blob(layer.blob);
  const TocClaim claim = MustClaim(layer.annotations);
  auto place = LocateToc(claim, blob, Soon());
  ASSERT_TRUE(place);
  EXPECT_EQ(blob.reads, 0);
  EXPECT_EQ(place->kind, TocKind::kChunked);
  ASSERT_TRUE(Toc::Fetch(claim, *std::move(place), blob, Soon()));
  EXPECT_EQ(blob.reads, 1);
}

TEST(TocLocateTest, FooterServesWhereTheManifestHasNoPosition) {
  LayerWithToc layer = ChunkedLayer(kJson);
  layer.annotations.erase(kNewChunked + "manifest-position");
  const auto place = Locate(layer);
  ASSERT_TRUE(place) << place.error().message;
  EXPECT_EQ(place->offset, 12u);
  EXPECT_EQ(place->data_end, 4u);
}

TEST(TocLocateTest, ExternalTableIsSaidToLieElsewhere) {
  const auto place = Locate({"data" + ExternalFooter(), {{kTocDigestKey, kDigest}}});
  ASSERT_TRUE(place) << place.error().message;
  EXPECT_EQ(place->kind, TocKind::kEstargzBeside);
  EXPECT_EQ(place->data_end, 4u);
}

void ExpectRefused(const LayerWithToc& layer, Code code, const std::string& words) {
  const auto place = Locate(layer);
  ASSERT_FALSE(place);
  EXPECT_EQ(place.error().code, code);
  EXPECT_THAT(place.error().message, HasSubstr(words));
}

TEST(TocLocateTest, PromisedTableThatIsNotThereIsRefusedInWords) {
  const LayerWithToc sound = EstargzLayer(kJson);
  ExpectRefused({sound.blob.substr(0, sound.blob.size() - 1), sound.annotations}, Code::kInvalid,
                "no footer");
  ExpectRefused({"", sound.annotations}, Code::kInvalid, "no footer");
  ExpectRefused({sound.blob, {{kNewChunked + "manifest-checksum", kDigest}}}, Code::kInvalid,
                "the layer is an eStargz");
  for (const uint64_t offset : {uint64_t{0}, uint64_t{51}, uint64_t{1} << 40, ~uint64_t{0}}) {
    ExpectRefused({"data" + EstargzFooter(offset), sound.annotations}, Code::kInvalid,
                  "outside of the blob");
    ExpectRefused({"data" + OldZstdFooter(offset, 100, 100), sound.annotations}, Code::kInvalid,
                  "outside of the blob");
    ExpectRefused({"data" + NewZstdFooter(1, offset, 100), sound.annotations}, Code::kInvalid,
                  "outside of the blob");
  }
  ExpectRefused({std::string(99, 'd') + OldZstdFooter(1, 9, uint64_t{1} << 30), sound.annotations},
                Code::kLimit, "the limit is 150.0 MiB");
}

}  // namespace
}  // namespace lamina
