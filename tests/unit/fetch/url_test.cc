#include "fetch/url.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

TEST(UrlTest, SplitsIntoSchemeHostAndPort) {
  const auto url = Url::Parse("https://Registry.Example:5000/v2/?a=b#part");
  ASSERT_TRUE(url.has_value());
  EXPECT_TRUE(url->https());
  EXPECT_EQ(url->host(), "registry.example");
  EXPECT_EQ(url->port(), 5000);
  EXPECT_EQ(url->Origin(), "https://registry.example:5000");
  EXPECT_EQ(url->text().find('#'), std::string::npos);
}

TEST(UrlTest, LeavesThePortOfTheSchemeOutOfTheOrigin) {
  EXPECT_EQ(Url::Parse("https://a.example/x")->Origin(), "https://a.example");
  EXPECT_EQ(Url::Parse("http://[::1]:80/x")->Origin(), "http://[::1]");
  EXPECT_EQ(Url::Parse("http://[::1]:443/x")->Origin(), "http://[::1]:443");
}

TEST(UrlTest, TakesNothingButHttpWithoutUser) {
  for (const char* bad : {"ftp://a.example/", "file:///etc/passwd", "https://user@a.example/",
                          "https://user:pass@a.example/", "a.example/x", "", "https://",
                          "http://a b/", "http://a.example:0/", "http://a.example:70000/"})
    EXPECT_FALSE(Url::Parse(bad).has_value()) << bad;
  EXPECT_FALSE(Url::Parse(std::string_view("http://a.example\0.b/", 20)).has_value());
}

TEST(UrlTest, ErrorsDoNotQuoteTheQuery) {
  const auto url = Url::Parse("gopher://a.example/x?signature=secret");
  ASSERT_FALSE(url.has_value());
  EXPECT_EQ(url.error().message.find("secret"), std::string::npos);
}

TEST(UrlTest, ResolvesWhatRedirectsSay) {
  const auto base = Url::Parse("https://a.example/v2/x/tags/list?n=1");
  EXPECT_EQ(base->Resolve("/v2/y?last=z")->text(), "https://a.example/v2/y?last=z");
  EXPECT_EQ(base->Resolve("?last=z")->text(), "https://a.example/v2/x/tags/list?last=z");
  EXPECT_EQ(base->Resolve("//b.example/q")->Origin(), "https://b.example");
  EXPECT_EQ(base->Resolve("http://b.example/q")->Origin(), "http://b.example");
  EXPECT_FALSE(base->Resolve("").has_value());
  EXPECT_FALSE(base->Resolve("file:///etc/passwd").has_value());
  EXPECT_FALSE(base->Resolve("https://u:p@b.example/").has_value());
}

TEST(UrlTest, AppendsEncodedParameters) {
  const auto url = Url::Parse("https://a.example/token?x=1");
  EXPECT_EQ(url->WithQuery({{"scope", "repository:a/b:pull"}, {"account", "m&n=o"}})->text(),
            "https://a.example/token?x=1&scope=repository%3aa%2fb%3apull&account=m%26n%3do");
}

TEST(UrlTest, KnowsInternalAddressesInEveryGuise) {
  for (const char* text :
       {"http://127.0.0.1/",         "http://127.1/",       "http://2130706433/",
        "http://0x7f.0.0.1/",        "http://[::1]/",       "http://[::ffff:10.0.0.1]/",
        "http://10.1.2.3/",          "http://172.31.0.1/",  "http://192.168.0.1/",
        "http://169.254.169.254/",   "http://100.64.0.1/",  "http://0.0.0.0/",
        "http://[fe80::1]/",         "http://[fd00::1]/",   "http://localhost/",
        "http://LOCALHOST./",        "http://x.localhost/", "http://[::]/",
        "http://[64:ff9b::7f00:1]/", "http://224.0.0.1/"}) {
    const auto url = Url::Parse(text);
    // What libcurl does not take at all cannot be asked either.
    EXPECT_TRUE(!url.has_value() || IsInternalHost(url->host())) << text;
  }
  EXPECT_TRUE(IsInternalHost(Url::Parse("http://2130706433/")->host()));
  for (const char* text : {"8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "a.example",
                           "127.0.0.1.example", "notlocalhost"})
    EXPECT_FALSE(IsInternalHost(text)) << text;
}

TEST(UrlTest, LoopbackIsOnlyWhatStaysOnTheMachine) {
  EXPECT_TRUE(IsLoopbackHost("127.9.9.9"));
  EXPECT_TRUE(IsLoopbackHost("localhost"));
  EXPECT_TRUE(IsLoopbackHost("::1"));
  EXPECT_FALSE(IsLoopbackHost("10.0.0.1"));
  EXPECT_FALSE(IsLoopbackHost("fe80::1"));
  EXPECT_FALSE(IsLoopbackHost("a.example"));
}

}  // namespace
}  // namespace lamina
