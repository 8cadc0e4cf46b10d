#include "fetch/http_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fetch/auth_challenge.h"

namespace lamina {
namespace {

class FixedClock : public WallClock {
 public:
  int64_t NowNs() const override { return int64_t{784111777} * 1'000'000'000; }
};

TEST(HttpHeadersTest, FindsNamesWithoutRegardToCase) {
  HttpHeaders headers;
  headers.AddLine("Content-TYPE:  text/plain \r\n");
  headers.AddLine("Link: a\r\n");
  headers.AddLine("link: b\r\n");
  headers.AddLine("no colon\r\n");
  headers.AddLine(" folded: line\r\n");
  headers.AddLine(": nothing\r\n");
  EXPECT_EQ(headers.Find("content-type"), "text/plain");
  EXPECT_THAT(headers.FindAll("link"), testing::ElementsAre("a", "b"));
  EXPECT_FALSE(headers.Find("folded").has_value());
  EXPECT_FALSE(headers.Find("").has_value());
}

TEST(HttpHeadersTest, ReadsContentRangesThatNameAllThreeNumbers) {
  EXPECT_EQ(ParseContentRange("bytes 0-99/200"), (ContentRange{0, 100, 200}));
  EXPECT_EQ(ParseContentRange(" Bytes  5-5/6 "), (ContentRange{5, 6, 6}));
  for (const char* bad : {"bytes 0-99/*", "bytes */200", "bytes 5-4/10", "bytes 0-10/10", "0-9/10",
                          "bytes -1-5/10", "bytes 0-/10", "", "bytes", "bytes 0-9/10x",
                          "bytes 0-99999999999999999999/999999999999999999999"})
    EXPECT_FALSE(ParseContentRange(bad).has_value()) << bad;
}

TEST(HttpHeadersTest, ReadsRetryAfterAsSecondsOrDate) {
  const FixedClock clock;  // Sun, 06 Nov 1994 08:49:37 GMT
  using std::chrono::milliseconds;
  EXPECT_EQ(ParseRetryAfter("7", clock), milliseconds(7000));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:49:47 GMT", clock), milliseconds(10000));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:49:27 GMT", clock), milliseconds(0));
  EXPECT_EQ(ParseRetryAfter("999999999999", clock), milliseconds(86400'000));
  EXPECT_FALSE(ParseRetryAfter("later", clock).has_value());
}

TEST(HttpHeadersTest, FindsTheNextPage) {
  EXPECT_EQ(ParseNextLink("</v2/a?last=x&n=1>; rel=\"next\""), "/v2/a?last=x&n=1");
  EXPECT_EQ(ParseNextLink("<p>; rel=prev, <n>; title=\"a, b; c\"; rel=next"), "n");
  EXPECT_EQ(ParseNextLink("<n>; REL=\"last Next\""), "n");
  for (const char* none :
       {"", "<p>; rel=prev", "</x>", "rel=next", "<unclosed; rel=next", "<a,b>,"})
    EXPECT_FALSE(ParseNextLink(none).has_value()) << none;
}

TEST(HttpHeadersTest, ReadsBoundariesQuotedOrNot) {
  EXPECT_EQ(ParseByteRangesBoundary("multipart/byteranges; boundary=abc"), "abc");
  EXPECT_EQ(ParseByteRangesBoundary("Multipart/ByteRanges;charset=x; Boundary=\"a;b\""), "a;b");
  EXPECT_EQ(ParseByteRangesBoundary("multipart/byteranges; boundary=CloudFront:1F"),
            "CloudFront:1F");
  EXPECT_EQ(ParseByteRangesBoundary("multipart/byteranges"), "");
  EXPECT_FALSE(ParseByteRangesBoundary("application/octet-stream").has_value());
}

TEST(AuthChallengeTest, ReadsABearerChallenge) {
  const auto all =
      ParseChallenges(R"(Bearer realm="https://auth.example/token",service="registry.example",)"
                      R"(scope="repository:a/b:pull,push",error="insufficient_scope")");
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].scheme, "bearer");
  EXPECT_EQ(all[0].realm, "https://auth.example/token");
  EXPECT_EQ(all[0].service, "registry.example");
  EXPECT_EQ(all[0].scope, "repository:a/b:pull,push");
  EXPECT_EQ(all[0].error, "insufficient_scope");
}

TEST(AuthChallengeTest, ReadsSeveralChallengesOfOneHeader) {
  const auto all =
      ParseChallenges(R"(Negotiate, BASIC realm="a \"b\", c" , Bearer realm = x ,service=y)");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].scheme, "negotiate");
  EXPECT_EQ(all[1].scheme, "basic");
  EXPECT_EQ(all[1].realm, "a \"b\", c");
  EXPECT_EQ(all[2].realm, "x");
  EXPECT_EQ(all[2].service, "y");
}

TEST(AuthChallengeTest, GarbageEndsTheListAndNothingElse) {
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_TRUE(ParseChallenges("=,=,=").empty());
  EXPECT_TRUE(ParseChallenges("\"\"\"").empty());
  EXPECT_EQ(ParseChallenges("Bearer realm=\"never closed").size(), 1u);
  EXPECT_EQ(ParseChallenges("Bearer realm=\"never closed")[0].realm, "");
}

}  // namespace
}  // namespace lamina
