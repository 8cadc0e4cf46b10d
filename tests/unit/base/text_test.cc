#include "base/text.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

TEST(TextTest, EscapesWhatCouldForgeALogLine) {
  EXPECT_EQ(EscapeControl("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(EscapeControl("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(EscapeControl("\xff\xc2\x85"), "\\xff\\xc2\\x85");
  EXPECT_EQ(Quote(std::string(300, 'a')).size(), 2 + 200 + 3u);
}

TEST(TextTest, SizesAreReadable) {
  EXPECT_EQ(HumanSize(734), "734 B");
  EXPECT_EQ(HumanSize(1536 * 1024), "1.5 MiB");
}

TEST(TextTest, TimesGoBothWays) {
  int64_t ns = 0;
  ASSERT_TRUE(ParseRfc3339("2026-11-21T10:11:12.5Z", &ns));
  EXPECT_EQ(Rfc3339(ns), "2026-11-21T10:11:12Z");
  EXPECT_EQ(ns % 1'000'000'000, 500'000'000);
  int64_t offset = 0;
  ASSERT_TRUE(ParseRfc3339("2026-11-21T12:11:12.5+02:00", &offset));
  EXPECT_EQ(offset, ns);
  EXPECT_EQ(Rfc3339(-1), "1969-12-31T23:59:59Z");
  for (const char* bad : {"", "2026", "2026-11-21T10:11:12", "yesterday", "9999-12-31T00:00:00Z"})
    EXPECT_FALSE(ParseRfc3339(bad, &ns)) << bad;
}

TEST(TextTest, HexadecimalThereAndBack) {
  const std::string bytes("\0a\xff/", 4);
  EXPECT_EQ(ToHex(bytes), "0061ff2f");
  EXPECT_EQ(*FromHex("0061ff2f"), bytes);
  EXPECT_EQ(*FromHex(""), "");
  for (const char* wrong : {"0", "0g", "0A", " 0"}) EXPECT_FALSE(FromHex(wrong)) << wrong;
}

}  // namespace
}  // namespace lamina
