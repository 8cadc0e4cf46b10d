#include "base/digest.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

constexpr const char* kEmpty =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(DigestTest, HashesKnownVectors) {
  EXPECT_EQ(Digest::Sha256({}).ToString(), kEmpty);
  EXPECT_EQ(Digest::Of(AsBytes("abc"), Digest::Algorithm::kSha512).hex().substr(0, 16),
            "ddaf35a193617aba");
}

TEST(DigestTest, ParsesWhatItPrints) {
  for (auto algorithm : {Digest::Algorithm::kSha256, Digest::Algorithm::kSha512}) {
    const Digest digest = Digest::Of(AsBytes("x"), algorithm);
    auto parsed = Digest::Parse(digest.ToString());
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, digest);
    EXPECT_EQ(digest.PathName().find(':'), std::string::npos);
  }
}

TEST(DigestTest, RefusesEverythingElse) {
  const std::string good(kEmpty);
  for (const std::string& bad :
       {std::string(), std::string("sha256:"), good.substr(0, good.size() - 1), good + "0",
        "SHA256:" + good.substr(7), "sha256:" + std::string(64, 'G'),
        "sha256:" + std::string(64, 'A'), "md5:" + std::string(32, '0'),
        "sha512:" + std::string(64, '0'), "sha256-" + good.substr(7)})
    EXPECT_FALSE(Digest::Parse(bad)) << bad;
}

TEST(DigestTest, AHasherGoesOnFromAStateOfAnother) {
  std::string text(5 * kHashAlign + 77, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  for (const auto algorithm : {Digest::Algorithm::kSha256, Digest::Algorithm::kSha512}) {
    const Digest whole = Digest::Of(AsBytes(text), algorithm);
    Hasher hasher(algorithm);
    for (size_t length = 0; length < text.size(); length += kHashAlign) {
      Hasher other(algorithm, hasher.state(), length);
      other.Update(AsBytes(text).subspan(length));
      EXPECT_EQ(other.Finish(), whole) << length;
      if (length + kHashAlign < text.size())
        hasher.Update(AsBytes(text).subspan(length, kHashAlign));
    }
  }
}

TEST(DigestTest, HasherStartsAnewAfterFinish) {
  Hasher hasher;
  hasher.Update(AsBytes("a"));
  hasher.Update(AsBytes("bc"));
  EXPECT_EQ(hasher.Finish(), Digest::Sha256(AsBytes("abc")));
  EXPECT_EQ(hasher.Finish().ToString(), kEmpty);
}

TEST(BytesTest, Crc32cHasNoFinalInversionAndContinues) {
  // The standard check value of CRC-32C over "123456789" is E3069283 with the inversion.
  EXPECT_EQ(Crc32c(AsBytes("123456789")), ~0xE3069283u);
  EXPECT_EQ(Crc32c(AsBytes("6789"), Crc32c(AsBytes("12345"))), Crc32c(AsBytes("123456789")));
}

}  // namespace
}  // namespace lamina
