#include "fs/namespace_rows.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"

namespace lamina {
namespace {

class RowTableTest : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-rows");
    ASSERT_TRUE(folder) << folder.error().message;
    folder_.emplace(*std::move(folder));
    auto store = Store::Open(folder_->path() + "/lamina.db");
    ASSERT_TRUE(store) << store.error().message;
    store_ = *std::move(store);
  }
  std::optional<TemporaryFolder> folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(RowTableTest, KnowsWhatItHasLearnt) {
  RowTable table(*store_, NodeKind::kName);
  EXPECT_FALSE(table.KnownRow("docker.io").has_value());
  const auto row = table.Row("docker.io");
  ASSERT_TRUE(row) << row.error().message;
  EXPECT_EQ(table.KnownRow("docker.io"), *row);
  ASSERT_NE(table.KnownKey(*row), nullptr);
  EXPECT_EQ(*table.KnownKey(*row), "docker.io");
}

TEST_F(RowTableTest, LearnsRowsOfAnEarlierProcess) {
  uint32_t row = 0;
  const std::string key = "docker.io/library/debian/bookworm\nsha256-abc";
  {
    RowTable table(*store_, NodeKind::kName);
    row = *table.Row(key);
  }
  RowTable table(*store_, NodeKind::kName);
  EXPECT_EQ(table.KnownKey(row), nullptr);
  const auto found = table.Key(row);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(**found, key);
  EXPECT_EQ(*table.Row(key), row);
  const auto missing = table.Key(row + 1000);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
}

TEST(TextShelfTest, KeepsTheLatestMegabytes) {
  TextShelf shelf;
  for (NodeId node = 1; node <= 20; ++node) shelf.Put(node, std::string(1u << 20, 'x'));
  EXPECT_EQ(shelf.Find(1), nullptr);
  ASSERT_NE(shelf.Find(20), nullptr);
  EXPECT_EQ(shelf.Find(20)->size(), 1u << 20);
}

TEST(TextShelfTest, KeepsATextLargerThanItsBoundWhileItIsTheOnlyOne) {
  TextShelf shelf;
  shelf.Put(1, std::string(16u << 20, 'x'));
  EXPECT_NE(shelf.Find(1), nullptr);
  shelf.Put(2, "small");
  EXPECT_EQ(shelf.Find(1), nullptr);
  EXPECT_NE(shelf.Find(2), nullptr);
}

TEST(HandedOutTest, GivesEachNameOnceAndDirectoriesEachTime) {
  HandedOut handed;
  handed.NoteEntry(5, "latest");
  handed.NoteEntry(5, "latest");
  handed.NoteDirectory(5);
  HandedOut::Names names = handed.Take();
  ASSERT_EQ(names.entries.size(), 1u);
  EXPECT_EQ(names.entries[0], (std::pair<NodeId, std::string>(5, "latest")));
  EXPECT_EQ(names.directories, std::vector<NodeId>{5});
  names = handed.Take();
  EXPECT_TRUE(names.entries.empty());
  EXPECT_EQ(names.directories.size(), 1u);
}

TEST(HandedOutTest, ForgetsWhatIsDropped) {
  HandedOut handed;
  handed.DropEntry(5, "latest");
  handed.NoteEntry(5, "latest");
  handed.NoteEntry(5, "stable");
  handed.DropEntry(5, "latest");
  EXPECT_EQ(handed.Take().entries,
            (std::vector<std::pair<NodeId, std::string>>{{NodeId{5}, "stable"}}));
}

TEST(ImageTableTest, DropsRowsThatNobodyUsesAndKeepsTheOthers) {
  ImageTable table;
  const auto row = [] { return std::make_shared<ImageRow>(); };
  // One shard holds 256 rows; these all fall into the same one.
  for (uint32_t i = 1; i <= 256; ++i) table.Put(i * 16, row());
  table.Put(257 * 16, row());  // a sweep takes the marks away
  ASSERT_NE(table.Find(16), nullptr);
  table.Put(258 * 16, row());  // the next one takes the rows without a mark
  EXPECT_NE(table.Find(16), nullptr);
  EXPECT_EQ(table.Find(32), nullptr);
  EXPECT_NE(table.Find(258 * 16), nullptr);
}

TEST(ListingShelfTest, KeepsTheListingThatAWalkBeganWith) {
  ListingShelf shelf;
  auto listing = std::make_shared<const Listing>(Listing{{"a", 1, EntryType::kDirectory}});
  shelf.Put(9, listing);
  EXPECT_EQ(shelf.Find(9), listing);
  EXPECT_EQ(shelf.Find(8), nullptr);
  for (NodeId node = 100; node < 200; ++node) shelf.Put(node, listing);
  EXPECT_EQ(shelf.Find(9), nullptr);
}

}  // namespace
}  // namespace lamina
