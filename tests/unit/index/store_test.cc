#include "index/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/file.h"
#include "index/sqlite.h"
#include "tests/unit/index/store_fixture.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using StoreTest = StoreFixture;

TEST_F(StoreTest, NodeIdsAreStableAcrossReopening) {
  Open();
  const int64_t first = *store_->NodeId(NodeKind::kRegistry, "docker.io");
  const int64_t second = *store_->NodeId(NodeKind::kRepository, "docker.io");
  EXPECT_GE(first, 1);
  EXPECT_NE(first, second);
  EXPECT_EQ(*store_->NodeId(NodeKind::kRegistry, "docker.io"), first);
  Open();
  EXPECT_EQ(*store_->NodeKey(NodeKind::kRegistry, first), "docker.io");
  EXPECT_EQ(*store_->NodeId(NodeKind::kRepository, "docker.io"), second);
  EXPECT_GT(*store_->NodeId(NodeKind::kImage, "new"), second);
}

TEST_F(StoreTest, NodeKeyOfAnotherKindOrUnknownIdIsNotFound) {
  Open();
  const int64_t id = *store_->NodeId(NodeKind::kImage, "x");
  EXPECT_EQ(store_->NodeKey(NodeKind::kRegistry, id).error().code, Code::kNotFound);
  EXPECT_EQ(store_->NodeKey(NodeKind::kImage, id + 1).error().code, Code::kNotFound);
}

TEST_F(StoreTest, NodeKeysMayHoldAnyBytes) {
  Open();
  const std::string key("a\0b\xFF'\"", 6);
  const int64_t id = *store_->NodeId(NodeKind::kName, key);
  EXPECT_EQ(*store_->NodeKey(NodeKind::kName, id), key);
  const int64_t empty = *store_->NodeId(NodeKind::kName, "");
  EXPECT_EQ(*store_->NodeKey(NodeKind::kName, empty), "");
}

TEST_F(StoreTest, SourceIsReplacedInPlaceByTheSameLocation) {
  Open();
  SourceRow row{0, "oci", "/srv/layout", "", "localhost/a", 10};
  const int64_t id = *store_->AddSource(row, {{0, "localhost/a", "1", DigestOf("one")},
                                              {0, "localhost/a", "", DigestOf("two")},
                                              {0, "localhost/a", "", DigestOf("three")}});
  EXPECT_EQ(store_->LocalNames()->size(), 3u);
  row.added_ns = 20;
  EXPECT_EQ(*store_->AddSource(row, {{0, "localhost/a", "2", DigestOf("one")}}), id);
  row.as_name = "localhost/b";
  EXPECT_NE(*store_->AddSource(row, {}), id);
  const auto sources = *store_->Sources();
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_EQ(sources[0].id, id);
  EXPECT_EQ(sources[0].kind, "oci");
  EXPECT_EQ(sources[0].location, "/srv/layout");
  EXPECT_EQ(sources[0].as_name, "localhost/a");
  EXPECT_EQ(sources[0].added_ns, 20);
  const auto names = *store_->LocalNames();
  ASSERT_EQ(names.size(), 1u);
  EXPECT_EQ(names[0].source_id, id);
  EXPECT_EQ(names[0].repository, "localhost/a");
  EXPECT_EQ(names[0].tag, "2");
  EXPECT_EQ(names[0].digest, DigestOf("one"));
}

TEST_F(StoreTest, RemovedSourceTakesItsNamesAndItsIdNeverComesBack) {
  Open();
  const SourceRow row{0, "oci", "/a", "", "", 1};
  const int64_t id = *store_->AddSource(row, {{0, "localhost/a", "1", DigestOf("one")}});
  ASSERT_TRUE(store_->RemoveSource(id));
  EXPECT_THAT(*store_->LocalNames(), IsEmpty());
  EXPECT_THAT(*store_->Sources(), IsEmpty());
  Open();
  EXPECT_GT(*store_->AddSource(row, {}), id);
}

TEST_F(StoreTest, ForgottenNamesLeaveWhatOthersHaveSaid) {
  Open();
  const auto record = [&](const std::string& repository, const std::string& tag,
                          const std::string& content, const std::string& origin) {
    ASSERT_TRUE(store_->RecordTag({repository, tag, DigestOf(content), origin, 1, 1}));
    ASSERT_TRUE(store_->RecordImage(repository, DigestOf(content), 1));
  };
  record("docker.io/a/b", "1", "remote", "https://registry");
  record("docker.io/a/b", "1", "local", "oci:/l");
  record("docker.io/a/b", "2", "remote", "https://registry");
  record("localhost/x", "1", "local", "oci:/l");
  ASSERT_TRUE(store_->RecordImage("localhost/x", DigestOf("child"), 1));
  ASSERT_TRUE(store_->ForgetNames(
      {{0, "docker.io/a/b", "1", DigestOf("local")}, {0, "localhost/x", "1", DigestOf("local")}},
      "oci:/l"));
  EXPECT_EQ((*store_->CurrentTag("docker.io/a/b", "1"))->digest, DigestOf("remote"));
  EXPECT_THAT(*store_->Images("docker.io/a/b"), ElementsAre(DigestOf("remote")));
  EXPECT_THAT(*store_->Repositories(), ElementsAre("docker.io/a/b"));
}

TEST_F(StoreTest, AForgottenTagTakesItsImagesUnlessSomethingElseNamesThem) {
  Open();
  const auto record = [&](const std::string& tag, const std::string& content) {
    ASSERT_TRUE(store_->RecordTag({"h/a", tag, DigestOf(content), "https://h", 1, 1}));
    ASSERT_TRUE(store_->RecordImage("h/a", DigestOf(content), 1));
  };
  record("1", "old");
  record("1", "new");
  record("2", "new");
  EXPECT_TRUE(*store_->ForgetTags("h/a", "1"));
  EXPECT_FALSE(*store_->ForgetTags("h/a", "1"));
  EXPECT_FALSE((*store_->CurrentTag("h/a", "1")).has_value());
  EXPECT_THAT(*store_->Images("h/a"), ElementsAre(DigestOf("new")));
  EXPECT_TRUE(*store_->ForgetTags("h/a", std::nullopt));
  EXPECT_THAT(*store_->Repositories(), IsEmpty());
}

TEST_F(StoreTest, NamesAreReplacedAsAWholeAndOnlyOfAKnownSource) {
  Open();
  const int64_t id =
      *store_->AddSource({0, "oci", "/a", "", "", 1}, {{0, "localhost/a", "1", DigestOf("one")}});
  ASSERT_TRUE(store_->ReplaceLocalNames(id, {{0, "localhost/z", "9", DigestOf("nine")}}));
  ASSERT_EQ(store_->LocalNames()->size(), 1u);
  EXPECT_EQ((*store_->LocalNames())[0].tag, "9");
  EXPECT_EQ(store_->ReplaceLocalNames(id + 1, {}).error().code, Code::kNotFound);
}

TEST_F(StoreTest, TagHistoryHasARowForEachChangeOfDigest) {
  Open();
  const auto record = [this](const std::string& content, const std::string& origin, int64_t at) {
    return *store_->RecordTag({"r", "t", DigestOf(content), origin, at, 0});
  };
  EXPECT_FALSE(record("a", "https://one", 100));
  EXPECT_FALSE(record("a", "https://two", 200));
  EXPECT_TRUE(record("b", "https://one", 300));
  EXPECT_TRUE(record("a", "https://one", 400));
  EXPECT_FALSE(*store_->RecordTag({"r", "other", DigestOf("b"), "https://one", 500, 0}));

  const auto history = *store_->TagHistory("r", "t");
  ASSERT_EQ(history.size(), 3u);
  EXPECT_EQ(history[0].digest, DigestOf("a"));
  EXPECT_EQ(history[0].first_ns, 100);
  EXPECT_EQ(history[0].seen_ns, 200);
  EXPECT_EQ(history[0].origin, "https://two");
  EXPECT_EQ(history[1].digest, DigestOf("b"));
  EXPECT_EQ(history[2].first_ns, 400);
  const auto current = *store_->CurrentTag("r", "t");
  ASSERT_TRUE(current);
  EXPECT_EQ(current->digest, DigestOf("a"));
  EXPECT_EQ(current->first_ns, 400);
  EXPECT_FALSE(store_->CurrentTag("r", "missing")->has_value());
}

TEST_F(StoreTest, CurrentTagsAreOfOneRepositoryOrOfAll) {
  Open();
  for (const char* repository : {"b", "a"})
    for (const char* tag : {"2", "1"})
      ASSERT_TRUE(store_->RecordTag({repository, tag, DigestOf(tag), "o", 1, 0}));
  ASSERT_TRUE(store_->RecordTag({"a", "1", DigestOf("moved"), "o", 2, 0}));
  const auto one = *store_->CurrentTags("a");
  ASSERT_EQ(one.size(), 2u);
  EXPECT_EQ(one[0].tag, "1");
  EXPECT_EQ(one[0].digest, DigestOf("moved"));
  EXPECT_EQ(one[1].tag, "2");
  const auto all = *store_->CurrentTags("");
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].repository, "a");
  EXPECT_EQ(all[3].repository, "b");
  EXPECT_EQ(all[3].tag, "2");
}

TEST_F(StoreTest, ImagesComeInTheOrderInWhichTheyWereSeen) {
  Open();
  ASSERT_TRUE(store_->RecordImage("r", DigestOf("late"), 20));
  ASSERT_TRUE(store_->RecordImage("r", DigestOf("early"), 10));
  ASSERT_TRUE(store_->RecordImage("r", DigestOf("early"), 30));
  ASSERT_TRUE(store_->RecordImage("other", DigestOf("x"), 1));
  EXPECT_THAT(*store_->Images("r"), ElementsAre(DigestOf("early"), DigestOf("late")));
  EXPECT_THAT(*store_->Images("none"), IsEmpty());
}

TEST_F(StoreTest, RepositoriesAreThoseOfTagsImagesAndLocalNames) {
  Open();
  ASSERT_TRUE(store_->RecordTag({"docker.io/library/b", "t", DigestOf("1"), "o", 1, 0}));
  ASSERT_TRUE(store_->RecordImage("docker.io/library/c", DigestOf("1"), 1));
  ASSERT_TRUE(store_->RecordImage("docker.io/library/b", DigestOf("1"), 1));
  ASSERT_TRUE(store_->AddSource({0, "oci", "/a", "", "", 1}, {{0, "a/a", "", DigestOf("1")}}));
  ASSERT_TRUE(store_->NodeId(NodeKind::kRepository, "docker.io/library/never-there"));
  EXPECT_THAT(*store_->Repositories(),
              ElementsAre("a/a", "docker.io/library/b", "docker.io/library/c"));
}

TEST_F(StoreTest, DocumentsComeBackAsTheyWere) {
  Open();
  const std::string bytes("{\"a\":\0\xFF}", 8);
  ASSERT_TRUE(store_->PutDocument(DigestOf(bytes), "application/x", bytes));
  ASSERT_TRUE(store_->PutDocument(DigestOf(bytes), "application/x", bytes));
  ASSERT_TRUE(store_->PutDocument(DigestOf(""), "application/empty", ""));
  Open();
  const auto found = *store_->GetDocument(DigestOf(bytes));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->media_type, "application/x");
  EXPECT_EQ(found->bytes, bytes);
  EXPECT_EQ((*store_->GetDocument(DigestOf("")))->bytes, "");
  EXPECT_FALSE(store_->GetDocument(DigestOf("missing"))->has_value());
}

TEST_F(StoreTest, AMediaTypeOnWhichSourcesDifferIsForgotten) {
  Open();
  const Digest digest = DigestOf("{}");
  // Whoever comes first, and whatever comes later, nobody's word stands against another's.
  ASSERT_TRUE(store_->PutDocument(digest, "application/hostile", "{}"));
  ASSERT_TRUE(store_->PutDocument(digest, "application/honest", "{}"));
  EXPECT_EQ((*store_->GetDocument(digest))->media_type, "");
  ASSERT_TRUE(store_->PutDocument(digest, "application/hostile", "{}"));
  Open();
  EXPECT_EQ((*store_->GetDocument(digest))->media_type, "");
  EXPECT_EQ((*store_->GetDocument(digest))->bytes, "{}");
}

TEST_F(StoreTest, DocumentThatIsNotItsDigestIsRefused) {
  Open();
  EXPECT_EQ(store_->PutDocument(DigestOf("a"), "t", "b").error().code, Code::kCorrupt);
  EXPECT_FALSE(store_->GetDocument(DigestOf("a"))->has_value());
}

TEST_F(StoreTest, RottenDocumentReadsAsAbsent) {
  Open();
  ASSERT_TRUE(store_->PutDocument(DigestOf("abc"), "t", "abc"));
  Query("UPDATE document SET bytes=x'00'");
  EXPECT_FALSE(store_->GetDocument(DigestOf("abc"))->has_value());
  EXPECT_EQ(Query("SELECT count(*) FROM document"), "0");
  ASSERT_TRUE(store_->PutDocument(DigestOf("abc"), "t", "abc"));
  EXPECT_TRUE(store_->GetDocument(DigestOf("abc"))->has_value());
}

TEST_F(StoreTest, FileIsPrivateAndInWriteAheadMode) {
  Open();
  ASSERT_TRUE(store_->NodeId(NodeKind::kName, "x"));
  EXPECT_EQ(Query("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(Query("PRAGMA user_version"), "4");
  for (const char* suffix : {"", "-wal", "-shm"}) {
    const auto mode = std::filesystem::status(path_ + suffix).permissions();
    EXPECT_EQ(mode, std::filesystem::perms(0600)) << suffix;
  }
}

TEST_F(StoreTest, TheConnectionIsSetUpAsDocumented) {
  const auto database = Database::Open(path_);
  ASSERT_TRUE(database) << database.error().message;
  constexpr int64_t kNormal = 1;
  for (const auto& [pragma, value] : std::map<std::string, int64_t>{{"synchronous", kNormal},
                                                                    {"foreign_keys", 1},
                                                                    {"trusted_schema", 0},
                                                                    {"cell_size_check", 1},
                                                                    {"busy_timeout", 10'000}})
    EXPECT_EQ(*(*database)->QueryInteger("PRAGMA " + pragma), value) << pragma;
}

TEST_F(StoreTest, NewerSchemaIsRefusedInWordsAndLeftAlone) {
  Open();
  const int64_t id = *store_->NodeId(NodeKind::kName, "x");
  store_.reset();
  Query("CREATE TABLE of_a_newer_one(x)");
  Query("PRAGMA user_version=5");
  auto refused = Store::Open(path_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_NE(refused.error().message.find("newer"), std::string::npos);
  EXPECT_EQ(SetAsideCount(), 0u);
  Query("DROP TABLE of_a_newer_one");
  Query("PRAGMA user_version=4");
  Open();
  EXPECT_EQ(*store_->NodeId(NodeKind::kName, "x"), id);
}

TEST_F(StoreTest, DatabaseOfSomethingElseIsRefusedAndLeftAlone) {
  Query("CREATE TABLE precious(x)");
  auto refused = Store::Open(path_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalid);
  EXPECT_EQ(Query("SELECT count(*) FROM precious"), "0");
}

TEST_F(StoreTest, MissingFolderIsAnErrorThatNamesThePath) {
  auto refused = Store::Open(folder_.path() + "/none/store.db");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kNotFound);
  EXPECT_NE(refused.error().message.find("/none/store.db"), std::string::npos);
}

TEST_F(StoreTest, ThreadsAgreeOnIdsAndLoseNothing) {
  Open();
  std::vector<std::vector<int64_t>> ids(8);
  std::atomic<int> failures{0};
  const auto work = [&](size_t self) {
    for (int i = 0; i < 40; ++i) {
      auto id = store_->NodeId(NodeKind::kName, "shared " + std::to_string(i));
      id ? ids[self].push_back(*id) : static_cast<void>(++failures);
      const std::string own = std::to_string(self) + " " + std::to_string(i);
      if (!store_->RecordTag({"r", std::to_string(self), DigestOf(own), "o", i, 0})) ++failures;
      if (!store_->PutDocument(DigestOf(own), "t", own)) ++failures;
      const auto document = store_->GetDocument(DigestOf(own));
      if (!document || !*document || (*document)->bytes != own) ++failures;
      if (!store_->CurrentTags("r") || !store_->Repositories()) ++failures;
    }
  };
  std::vector<std::thread> threads;
  for (size_t self = 0; self < ids.size(); ++self) threads.emplace_back(work, self);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  for (const auto& of_one : ids) EXPECT_EQ(of_one, ids[0]);
  EXPECT_EQ(std::set<int64_t>(ids[0].begin(), ids[0].end()).size(), 40u);
  for (size_t self = 0; self < ids.size(); ++self)
    EXPECT_EQ(store_->TagHistory("r", std::to_string(self))->size(), 40u);
}

AliasRow Alias(const std::string& name, const std::string& tag) {
  return {"localhost/a", name, "localhost/a", tag, std::nullopt, "", 5};
}

const auto kAnyAliases = [](const std::vector<AliasRow>&) { return Status(); };

TEST_F(StoreTest, ADatabaseOfSchemaOneGetsItsTableOfAliases) {
  Open();
  const int64_t id = *store_->NodeId(NodeKind::kImage, "kept");
  ASSERT_TRUE(store_->RecordTag({"localhost/a", "1", DigestOf("x"), "oci:/x", 1, 1}));
  store_.reset();
  for (const char* table : {"alias", "pin", "began"}) Query(std::string("DROP TABLE ") + table);
  Query("ALTER TABLE image DROP COLUMN used_ns");
  Query("ALTER TABLE document DROP COLUMN kept_ns");
  Query("ALTER TABLE source DROP COLUMN layer");
  Query("PRAGMA user_version=1");
  Open();
  EXPECT_EQ(Query("PRAGMA user_version"), "4");
  EXPECT_EQ(SetAsideCount(), 0u);
  EXPECT_EQ(*store_->NodeKey(NodeKind::kImage, id), "kept");
  EXPECT_EQ(store_->TagHistory("localhost/a", "1")->size(), 1u);
  ASSERT_TRUE(store_->ChangeAliases({.remove = {}, .put = {Alias("x", "1")}}, kAnyAliases));
  Open();
  EXPECT_THAT(*store_->Aliases(), ElementsAre(Alias("x", "1")));
}

TEST_F(StoreTest, ADatabaseWithoutItsAliasesIsDamaged) {
  Open();
  store_.reset();
  Query("DROP TABLE alias");
  Open();
  EXPECT_EQ(SetAsideCount(), 1u);
}

TEST_F(StoreTest, AliasesChangeTogetherOrNotAtAll) {
  Open();
  const auto first =
      store_->ChangeAliases({.remove = {}, .put = {Alias("b", "1"), Alias("a", "2")}}, kAnyAliases);
  ASSERT_TRUE(first);
  EXPECT_THAT(first->rows, ElementsAre(Alias("a", "2"), Alias("b", "1")));
  const auto refused =
      store_->ChangeAliases({.remove = {{"localhost/a", "a"}}, .put = {Alias("c", "3")}},
                            [](const std::vector<AliasRow>& all) -> Status {
                              EXPECT_THAT(all, ElementsAre(Alias("b", "1"), Alias("c", "3")));
                              return Error{Code::kLimit, "no"};
                            });
  EXPECT_EQ(refused.error().code, Code::kLimit);
  const auto missing = store_->ChangeAliases(
      {.remove = {{"localhost/a", "z"}}, .put = {Alias("c", "3")}}, kAnyAliases);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_THAT(*store_->Aliases(), ElementsAre(Alias("a", "2"), Alias("b", "1")));
  const auto second = store_->ChangeAliases(
      {.remove = {{"localhost/a", "a"}}, .put = {Alias("b", "9")}}, kAnyAliases);
  ASSERT_TRUE(second);
  EXPECT_GT(second->change, first->change);
  EXPECT_THAT(*store_->Aliases(), ElementsAre(Alias("b", "9")));
  EXPECT_THAT(*store_->Repositories(), ElementsAre("localhost/a"));
}

TEST_F(StoreTest, PinsAreTheImagesThatAliasesNameByDigest) {
  Open();
  AliasRow pin = Alias("pin", "");
  pin.target_digest = DigestOf("x");
  AliasRow again = pin;
  again.name = "again";
  ASSERT_TRUE(
      store_->ChangeAliases({.remove = {}, .put = {Alias("a", "2"), pin, again}}, kAnyAliases));
  const auto pinned = store_->PinnedImages();
  ASSERT_TRUE(pinned);
  ASSERT_EQ(pinned->size(), 1u);
  EXPECT_EQ(pinned->front().digest, DigestOf("x"));
}

TEST_F(StoreTest, ADatabaseOfSchemaTwoLearnsSinceWhenThingsLieAbout) {
  Open();
  ASSERT_TRUE(store_->RecordImage("localhost/a", DigestOf("x"), 5));
  ASSERT_TRUE(store_->PutDocument(DigestOf("x"), "", "x"));
  store_.reset();
  for (const char* table : {"pin", "began"}) Query(std::string("DROP TABLE ") + table);
  Query("ALTER TABLE image DROP COLUMN used_ns");
  Query("ALTER TABLE document DROP COLUMN kept_ns");
  Query("ALTER TABLE source DROP COLUMN layer");
  Query("PRAGMA user_version=2");
  Open();
  EXPECT_EQ(SetAsideCount(), 0u);
  const int64_t began = *store_->BeganNs();
  EXPECT_GT(began, 1'700'000'000'000'000'000);
  ASSERT_EQ(store_->KnownImages()->size(), 1u);
  EXPECT_EQ(store_->KnownImages()->front().used_ns, began);
  ASSERT_EQ(store_->KnownDocuments()->size(), 1u);
  EXPECT_EQ(store_->KnownDocuments()->front().kept_ns, began);
  EXPECT_EQ(store_->KnownDocuments()->front().size, 1u);
  Open();
  EXPECT_EQ(*store_->BeganNs(), began);
}

TEST_F(StoreTest, ADatabaseOfSchemaThreeLearnsWhatArchivesAreCalled) {
  Open();
  const int64_t id = *store_->AddSource({0, "oci-archive", "/a.tar", "", "", 1}, {});
  store_.reset();
  Query("ALTER TABLE source DROP COLUMN layer");
  Query("PRAGMA user_version=3");
  Open();
  EXPECT_EQ(SetAsideCount(), 0u);
  EXPECT_EQ(store_->Sources()->front().layer, std::nullopt);
  ASSERT_TRUE(store_->RecordLayerOfSource(id, DigestOf("x")));
  Open();
  EXPECT_EQ(store_->Sources()->front().layer, DigestOf("x"));
  ASSERT_TRUE(store_->AddSource({0, "oci-archive", "/a.tar", "", "", 2, DigestOf("y")}, {}));
  ASSERT_EQ(store_->Sources()->size(), 1u);
  EXPECT_EQ(store_->Sources()->front().layer, DigestOf("y"));
}

TEST_F(StoreTest, NamingsGrowWhereSomethingIsNamed) {
  Open();
  uint64_t last = store_->Namings();
  const auto grew = [&] {
    const uint64_t before = std::exchange(last, store_->Namings());
    return last > before;
  };
  const TagRow tag{"r", "t", DigestOf("x"), "https://x", 1, 1};
  ASSERT_TRUE(store_->RecordTag(tag));
  EXPECT_TRUE(grew());
  ASSERT_TRUE(store_->RecordTag(tag));
  EXPECT_FALSE(grew()) << "the same answer";
  ASSERT_TRUE(store_->RecordImage("r", DigestOf("x"), 5));
  EXPECT_TRUE(grew());
  ASSERT_TRUE(store_->RecordImage("r", DigestOf("x"), 6));
  EXPECT_FALSE(grew()) << "within the hour";
  ASSERT_TRUE(store_->PutPin({"r", DigestOf("x"), "r:t", 1}));
  EXPECT_TRUE(grew());
  ASSERT_TRUE(store_->ChangeAliases({.remove = {}, .put = {Alias("a", "t")}}, kAnyAliases));
  EXPECT_TRUE(grew());
  const int64_t id = *store_->AddSource({0, "oci", "/a", "", "", 1}, {});
  EXPECT_TRUE(grew());
  ASSERT_TRUE(store_->ReplaceLocalNames(id, {{0, "r", "t", DigestOf("y")}}));
  EXPECT_TRUE(grew());
}

TEST_F(StoreTest, TheTimeOfUseIsWrittenOnceAnHour) {
  Open();
  const int64_t hour = int64_t{3600} * 1'000'000'000;
  const int64_t first = *store_->BeganNs() + hour;
  const auto used = [&] { return store_->KnownImages()->front().used_ns; };
  ASSERT_TRUE(store_->RecordImage("localhost/a", DigestOf("x"), first));
  EXPECT_EQ(used(), first);
  ASSERT_TRUE(store_->RecordImage("localhost/a", DigestOf("x"), first + hour / 2));
  EXPECT_EQ(used(), first);
  ASSERT_TRUE(store_->RecordImage("localhost/a", DigestOf("x"), first + 2 * hour));
  EXPECT_EQ(used(), first + 2 * hour);
}

TEST_F(StoreTest, WhatWasUsedMeanwhileIsNotRemoved) {
  Open();
  const int64_t now = *store_->BeganNs() + 1;
  ASSERT_TRUE(store_->RecordImage("localhost/a", DigestOf("x"), now));
  ASSERT_TRUE(store_->PutDocument(DigestOf("x"), "", "x"));
  Store::KnownImage image = store_->KnownImages()->front();
  Store::KnownDocument document = store_->KnownDocuments()->front();
  --image.used_ns;
  --document.kept_ns;
  ASSERT_TRUE(store_->RemoveImage(image));
  ASSERT_TRUE(store_->RemoveDocument(document));
  EXPECT_EQ(store_->KnownImages()->size(), 1u);
  EXPECT_EQ(store_->KnownDocuments()->size(), 1u);
  ASSERT_TRUE(store_->RemoveImage(store_->KnownImages()->front()));
  ASSERT_TRUE(store_->RemoveDocument(store_->KnownDocuments()->front()));
  EXPECT_TRUE(store_->KnownImages()->empty());
  EXPECT_TRUE(store_->KnownDocuments()->empty());
}

TEST_F(StoreTest, PinsAreKeptByImage) {
  Open();
  ASSERT_TRUE(store_->PutPin({"localhost/a", DigestOf("x"), "localhost/a:1", 5}));
  ASSERT_TRUE(store_->PutPin({"localhost/a", DigestOf("x"), "localhost/a:2", 6}));
  ASSERT_TRUE(store_->PutPin({"localhost/b", DigestOf("y"), "localhost/b", 7}));
  Open();
  ASSERT_EQ(store_->Pins()->size(), 2u);
  EXPECT_EQ(store_->Pins()->front().reference, "localhost/a:2");
  EXPECT_EQ(store_->PinnedImages()->size(), 2u);
  ASSERT_TRUE(store_->RemovePin("localhost/a", DigestOf("x")));
  ASSERT_EQ(store_->PinnedImages()->size(), 1u);
  EXPECT_EQ(store_->PinnedImages()->front().digest, DigestOf("y"));
}

TEST_F(StoreTest, HistoryOfARepositoryIsThatOfAllItsTags) {
  Open();
  for (const auto& [tag, content] : {std::pair{"b", "1"}, std::pair{"a", "2"}, std::pair{"b", "3"}})
    ASSERT_TRUE(store_->RecordTag({"localhost/a", tag, DigestOf(content), "oci:/x", 1, 1}));
  std::vector<std::string> tags;
  const auto history = store_->TagHistory("localhost/a", "");
  for (const TagRow& row : *history) tags.push_back(row.tag + "=" + row.digest.ToString());
  EXPECT_THAT(tags, ElementsAre("a=" + DigestOf("2").ToString(), "b=" + DigestOf("1").ToString(),
                                "b=" + DigestOf("3").ToString()));
  const auto current = store_->CurrentTags("localhost/a");
  ASSERT_EQ(current->size(), 2u);
  EXPECT_EQ(current->at(0).answers, 1);
  EXPECT_EQ(current->at(1).answers, 2);
}

}  // namespace
}  // namespace lamina
