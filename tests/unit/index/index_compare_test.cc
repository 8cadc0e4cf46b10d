#include "index/index_compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tar_builder.h"
#include "tests/unit/index/index_tools.h"

namespace lamina {
namespace {

using namespace lamina::testing;  // NOLINT
using ::testing::HasSubstr;

// Two tars are indexed and compared: the first stands for what a table of contents said.
class IndexCompareTest : public ::testing::Test {
 protected:
  Status Compare(const TarBuilder& toc, const TarBuilder& tar) {
    const Result<IndexedLayer> left = lab_.Index(toc.Finish());
    const Result<IndexedLayer> right = lab_.Index(tar.Finish());
    EXPECT_TRUE(left && right);
    return SameTree(*left->index, *right->index);
  }

  void ExpectDiffers(const TarEntrySpec& toc, const TarEntrySpec& tar, const std::string& words) {
    const auto layer = [](const TarEntrySpec& entry) {
      return TarBuilder().Folder("d").File("d/before", "x").Add(entry).File("d/z", "y");
    };
    EXPECT_TRUE(Compare(layer(toc), layer(toc)));
    const Status same = Compare(layer(toc), layer(tar));
    ASSERT_FALSE(same);
    EXPECT_EQ(same.error().code, Code::kInvalid);
    EXPECT_THAT(same.error().message, HasSubstr(words));
  }

  Status CompareTimes(const std::string& toc, const std::string& tar) {
    return Compare(TarBuilder().Add({.name = "f", .pax = {{"mtime", toc}}}),
                   TarBuilder().Add({.name = "f", .pax = {{"mtime", tar}}}));
  }

  IndexLab lab_;
};

TEST_F(IndexCompareTest, EqualLayersAreTheSame) {
  const auto layer = [] {
    return TarBuilder()
        .Folder("d")
        .File("d/a", "content")
        .Hardlink("d/b", "d/a")
        .Symlink("s", "d/a")
        .Add({.name = "c", .type = '3', .major = 1, .minor = 3})
        .Add({.name = "x", .pax = {{"SCHILY.xattr.user.a", "1"}, {"SCHILY.xattr.user.b", "2"}}})
        .File("d/.wh.gone")
        .File("w/.wh..wh..opq");
  };
  EXPECT_TRUE(Compare(layer(), layer()));
}

TEST_F(IndexCompareTest, EveryAttributeCounts) {
  const TarEntrySpec file{.name = "d/f", .data = "12345"};
  const auto with = [&](auto change) {
    TarEntrySpec other = file;
    change(&other);
    return other;
  };
  using Spec = TarEntrySpec;
  ExpectDiffers(file, with([](Spec* s) { s->mode = 0600; }), "'/d/f': its mode");
  ExpectDiffers(file, with([](Spec* s) { s->uid = 7; }), "'/d/f': its owner");
  ExpectDiffers(file, with([](Spec* s) { s->gid = 7; }), "'/d/f': its owner");
  ExpectDiffers(file, with([](Spec* s) { s->mtime = 7; }), "'/d/f': its modification time");
  ExpectDiffers(file, with([](Spec* s) { s->data = "1234"; }), "'/d/f': its size");
  ExpectDiffers(file, with([](Spec* s) { s->name = "d/g"; }), "'/d/f': its name");
  ExpectDiffers(file, with([](Spec* s) {
                  s->pax = {{"SCHILY.xattr.user.a", "1"}};
                }),
                "'/d/f': its xattrs");
  ExpectDiffers(file, with([](Spec* s) {
                  s->type = '2';
                  s->data = "";
                  s->link = "z";
                }),
                "'/d/f': its type");
}

TEST_F(IndexCompareTest, LinksDevicesAndXattrsCount) {
  ExpectDiffers({.name = "d/s", .type = '2', .link = "a"},
                {.name = "d/s", .type = '2', .link = "b"}, "'/d/s': its target");
  ExpectDiffers({.name = "d/c", .type = '3', .major = 1, .minor = 3},
                {.name = "d/c", .type = '3', .major = 1, .minor = 5}, "'/d/c': its device number");
  ExpectDiffers({.name = "d/x", .pax = {{"SCHILY.xattr.user.a", "1"}}},
                {.name = "d/x", .pax = {{"SCHILY.xattr.user.a", "2"}}}, "'/d/x': its xattrs");
  ExpectDiffers({.name = "d/h", .type = '1', .link = "d/before"}, {.name = "d/h", .data = "x"},
                "'/d/h': its hard links");
  ExpectDiffers({.name = "d/h", .type = '1', .link = "below"},
                {.name = "d/h", .type = '1', .link = "other"}, "'/d/h': its link target");
}

TEST_F(IndexCompareTest, WhatIsHiddenAndWhatIsMissingCounts) {
  ExpectDiffers({.name = "d/.wh.q"}, {.name = "d/q"}, "'/d/q': its kind");
  ExpectDiffers({.name = "d/.wh..wh..opq"}, {.name = "d/.wh.a"}, "'/d': what it contains");
  EXPECT_THAT(
      Compare(TarBuilder().Folder("d").File("d/f"), TarBuilder().File("d/f")).error().message,
      HasSubstr("entry of its own"));
  EXPECT_THAT(Compare(TarBuilder().File("a"), TarBuilder().File("a").File("b")).error().message,
              HasSubstr("'/': what it contains"));
}

TEST_F(IndexCompareTest, OtherOrderOfFilesIsAnotherLayout) {
  EXPECT_FALSE(Compare(TarBuilder().File("a", "1").File("b", "2"),
                       TarBuilder().File("b", "2").File("a", "1")));
}

TEST_F(IndexCompareTest, TimeThatItsWriterRoundedIsTheSame) {
  EXPECT_TRUE(CompareTimes("12", "12.499999999"));
  EXPECT_TRUE(CompareTimes("13", "12.5"));
  EXPECT_TRUE(CompareTimes("-1", "-1.5"));
  EXPECT_TRUE(CompareTimes("0", "0.9"));
  EXPECT_FALSE(CompareTimes("12", "12.5"));
  EXPECT_FALSE(CompareTimes("13", "12.499999999"));
  EXPECT_FALSE(CompareTimes("12.5", "13"));
  EXPECT_FALSE(CompareTimes("12.5", "12.6"));
}

}  // namespace
}  // namespace lamina
