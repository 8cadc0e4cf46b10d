// Names: the root, registries, repositories, tags, links, .lamina.

#include "fs/namespace.h"

#include <gmock/gmock.h>

#include <cerrno>

#include "base/errno.h"
#include "base/process.h"

#include "fs_fixture.h"

namespace lamina {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

class NamespaceTest : public FsFixture {};

TEST_F(NamespaceTest, RootHoldsRegistriesAndItself) {
  const auto names = Names(kRootNode);
  EXPECT_THAT(names, Contains("docker.io"));
  EXPECT_THAT(names, Contains("localhost"));
  EXPECT_THAT(names, Contains(".lamina"));
}

TEST_F(NamespaceTest, NothingListedHasAColonUnlessItIsALink) {
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), "localhost:5000/team/app"));
  std::vector<std::string> folders;
  ASSERT_TRUE(names_->ReadDirectory(kRootNode, 0, true, [&](const DirectoryItem& item) {
    if (item.type != EntryType::kSymlink) folders.emplace_back(item.name);
    return true;
  }));
  EXPECT_THAT(folders, Each(Not(HasSubstr(":"))));
  EXPECT_THAT(folders, Contains("localhost_5000_"));
  const NodeEntry link = Entry(kRootNode, "localhost:5000");
  EXPECT_EQ(link.attr.type, EntryType::kSymlink);
  EXPECT_EQ(*names_->ReadLink(link.attr.id), "localhost_5000_");
  EXPECT_EQ(Walk("localhost_5000_/team/app/base"), Walk("localhost_5000_/team/app/base"));
  EXPECT_NE(Walk("localhost_5000_/team/app/base"), 0u);
}

TEST_F(NamespaceTest, TagIsALinkToTheImageThatItNames) {
  const NodeId repository = Walk("localhost/sample");
  ASSERT_NE(repository, 0u);
  const NodeEntry tag = Entry(repository, "base");
  EXPECT_EQ(tag.attr.type, EntryType::kSymlink);
  EXPECT_EQ(*names_->ReadLink(tag.attr.id), base_.PathName());
  EXPECT_EQ(tag.attr.size, base_.PathName().size());
  // The link is for the time to live, what it says for ever.
  EXPECT_GT(tag.entry_seconds, 0);
  EXPECT_LE(tag.entry_seconds, 60);
  EXPECT_EQ(tag.attr_seconds, kForever);
  const NodeEntry image = Entry(repository, base_.PathName());
  EXPECT_EQ(image.attr.type, EntryType::kDirectory);
  EXPECT_EQ(image.entry_seconds, kForever);
}

TEST_F(NamespaceTest, MovedTagIsAnotherNodeAndTheOldOneStays) {
  const NodeId repository = Walk("localhost/sample");
  const NodeId old = Entry(repository, "base").attr.id;
  layout_->AddImage({lower_layer_}, "amd64", "base");
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
  const NodeId moved = Entry(repository, "base").attr.id;
  EXPECT_NE(moved, old);
  EXPECT_EQ(*names_->ReadLink(old), base_.PathName());
  EXPECT_NE(*names_->ReadLink(moved), base_.PathName());
}

TEST_F(NamespaceTest, AcceptsTheWaysInWhichUsersWriteNames) {
  const NodeId repository = Walk("localhost/sample");
  const NodeId registry = Walk("localhost");
  const auto target = [&](NodeId parent, const std::string& name) {
    const NodeEntry entry = Entry(parent, name);
    EXPECT_EQ(entry.attr.type, EntryType::kSymlink) << name;
    return *names_->ReadLink(entry.attr.id);
  };
  EXPECT_EQ(target(repository, base_.ToString()), base_.PathName());
  EXPECT_EQ(target(registry, "sample:base"), "sample/base");
  EXPECT_EQ(target(registry, "sample@" + base_.ToString()), "sample/" + base_.PathName());
  EXPECT_EQ(target(registry, "sample:base@" + base_.ToString()), "sample/" + base_.PathName());
}

TEST_F(NamespaceTest, MissingTagIsNoEmptyDirectory) {
  const NodeId repository = Walk("localhost/sample");
  const NodeEntry missing = Entry(repository, "nonesuch");
  EXPECT_EQ(missing.attr.id, 0u);
  EXPECT_EQ(missing.entry_seconds, 5);
  EXPECT_EQ(Entry(Walk("localhost"), "sample:nonesuch").attr.id, 0u);
  EXPECT_EQ(Entry(repository, Digest::Sha256({}).PathName()).attr.id, 0u);
}

TEST_F(NamespaceTest, InvalidNamesAreRefusedForEverWithoutAsking) {
  const NodeId repository = Walk("localhost/sample");
  for (const std::string name : {"-x", "a b", "x:", "@", ".git", "sample@sha256:12"}) {
    const auto entry = names_->TryLookup(repository, name);
    ASSERT_TRUE(entry.has_value()) << name;
    ASSERT_TRUE(*entry);
    EXPECT_EQ((*entry)->attr.id, 0u) << name;
    EXPECT_EQ((*entry)->entry_seconds, kForever) << name;
  }
  const auto root = names_->TryLookup(kRootNode, "bin");
  ASSERT_TRUE(root && *root);
  EXPECT_EQ((*root)->entry_seconds, kForever);
}

TEST_F(NamespaceTest, ReservedNamesAreNeverRepositories) {
  const NodeId registry = Walk("localhost");
  for (const std::string name : {"rootfs", "layers", "status.json"})
    EXPECT_EQ(Entry(registry, name).attr.id, 0u);
}

TEST_F(NamespaceTest, RepositoriesNest) {
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), "localhost/sample/deeper/still"));
  const NodeId repository = Walk("localhost/sample");
  EXPECT_THAT(Names(repository), Contains("deeper"));
  EXPECT_THAT(Names(repository), Contains("base"));
  EXPECT_EQ(Entry(repository, "deeper").attr.type, EntryType::kDirectory);
  EXPECT_NE(Walk("localhost/sample/deeper/still/base"), 0u);
}

TEST_F(NamespaceTest, TagWinsOverADeeperComponent) {
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), "localhost/sample/base"));
  EXPECT_EQ(Entry(Walk("localhost/sample"), "base").attr.type, EntryType::kSymlink);
}

TEST_F(NamespaceTest, ListingHoldsTagsAndImages) {
  const auto names = Names(Walk("localhost/sample"));
  EXPECT_THAT(names, Contains("base"));
  EXPECT_THAT(names, Contains("multi"));
  EXPECT_THAT(names, Contains(base_.PathName()));
  EXPECT_THAT(names, Each(Not(HasSubstr(":"))));
}

TEST_F(NamespaceTest, WalkGoesOnInTheListingThatItBeganWith) {
  const NodeId repository = Walk("localhost/sample");
  std::vector<std::string> all = Names(repository);
  all.insert(all.begin(), {".", ".."});
  // In steps of one item, while a tag comes that would shift the others.
  std::vector<std::string> stepped;
  uint64_t cookie = 0;
  for (bool more = true; more;) {
    more = false;
    ASSERT_TRUE(names_->ReadDirectory(repository, cookie, false, [&](const DirectoryItem& item) {
      if (more) return false;
      stepped.emplace_back(item.name);
      cookie = item.next_cookie;
      return more = true;
    }));
    if (stepped.size() == 3) {
      layout_->AddImage({}, "amd64", "aaa");
      ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
    }
  }
  EXPECT_EQ(stepped, all);
  EXPECT_THAT(Names(repository), Contains("aaa"));
}

TEST_F(NamespaceTest, ChangeMovesTheTimeOfDirectories) {
  const NodeId repository = Walk("localhost/sample");
  const NodeAttr before = names_->GetAttr(repository)->attr;
  layout_->AddImage({}, "amd64", "later");
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
  const NodeAttributes after = *names_->GetAttr(repository);
  EXPECT_NE(std::pair(before.mtime_s, before.mtime_ns),
            std::pair(after.attr.mtime_s, after.attr.mtime_ns));
  EXPECT_LE(after.seconds, 1);
}

TEST_F(NamespaceTest, HandsOutWhatMayHaveToBeInvalidated) {
  const NodeId repository = Walk("localhost/sample");
  Entry(repository, "base");
  Entry(repository, "nonesuch");
  const HandedOut::Names names = names_->TakeChangeable();
  EXPECT_THAT(names.entries, Contains(std::pair<NodeId, std::string>(repository, "base")));
  EXPECT_THAT(names.entries, Contains(std::pair<NodeId, std::string>(repository, "nonesuch")));
  EXPECT_THAT(names.directories, Contains(repository));
}

TEST_F(NamespaceTest, FoldersAreNeverInvalidatedByName) {
  const NodeId registry = Walk("localhost");
  const NodeId repository = Walk("localhost/sample");
  Entry(registry, "later");  // is not there, which the kernel keeps
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), "localhost/later"));
  EXPECT_EQ(Entry(registry, "later").attr.type, EntryType::kDirectory);
  Entry(repository, base_.PathName());
  EXPECT_THAT(names_->TakeChangeable().entries, testing::IsEmpty());
}

TEST_F(NamespaceTest, WhatIsKnownIsAnsweredWithoutWaiting) {
  const NodeId repository = Walk("localhost/sample");
  const NodeId image = Entry(repository, base_.PathName()).attr.id;
  Entry(repository, "base");
  EXPECT_TRUE(names_->TryLookup(kRootNode, "localhost").has_value());
  EXPECT_TRUE(names_->TryLookup(repository, "base").has_value());
  EXPECT_TRUE(names_->TryLookup(repository, base_.PathName()).has_value());
  EXPECT_TRUE(names_->TryLookup(image, "rootfs").has_value());
  EXPECT_TRUE(names_->TryGetAttr(repository).has_value());
  EXPECT_FALSE(names_->TryLookup(repository, "unknown").has_value());
  EXPECT_EQ(names_->WaitOf(repository, "unknown").pool_key, "localhost");
}

TEST_F(NamespaceTest, RegistriesOfWhichNothingIsKnownShareALane) {
  EXPECT_EQ(names_->WaitOf(kRootNode, "a.example").share, PoolShare::kStranger);
  EXPECT_EQ(names_->WaitOf(kRootNode, "a.example").pool_key,
            names_->WaitOf(kRootNode, "b.example_5000_").pool_key);
  EXPECT_EQ(names_->WaitOf(kRootNode, "docker.io").share, PoolShare::kRegistry);
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), "a.example/app"));
  EXPECT_EQ(names_->WaitOf(kRootNode, "a.example").share, PoolShare::kRegistry);
  EXPECT_EQ(names_->WaitOf(kRootNode, "a.example").pool_key, "a.example");
  EXPECT_EQ(names_->WaitOf(Walk("localhost/sample"), "x").share, PoolShare::kLocal);
  const NodeId rootfs = Walk("localhost/sample/" + base_.PathName() + "/rootfs");
  EXPECT_EQ(names_->WaitOf(rootfs).share, PoolShare::kLocal);
  EXPECT_FALSE(names_->WaitOf(rootfs).bounded);
}

TEST_F(NamespaceTest, NodeIdsMeanTheSameAfterARestart) {
  const NodeId repository = Walk("localhost/sample");
  const NodeId tag = Entry(repository, "base").attr.id;
  const std::string image = "localhost/sample/" + base_.PathName();
  const NodeId file = Walk(image + "/rootfs/etc/os-release");
  const NodeId layer_file = Walk(image + "/layers/0/etc/motd");
  const NodeId manifest = Walk(image + "/manifest.json");
  ASSERT_NE(file, 0u);
  Restart();
  // A row that this process has not met waits at a gate, step by step, until the fast form can
  // answer.
  EXPECT_FALSE(names_->TryGetAttr(file).has_value());
  for (int i = 0; i < 3 && !names_->TryGetAttr(file); ++i) {
    EXPECT_NE(names_->WaitOf(file).gate, 0u);
    ASSERT_TRUE(names_->Prepare(file));
  }
  ASSERT_TRUE(names_->TryGetAttr(file).has_value());
  EXPECT_EQ(ReadAll(file), "NAME=sample\n");
  EXPECT_EQ(ReadAll(layer_file), "gone\n");
  EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(manifest))), base_);
  EXPECT_EQ(*names_->ReadLink(tag), base_.PathName());
  EXPECT_TRUE(names_->GetAttr(repository));
  EXPECT_EQ(Walk("localhost/sample"), repository);
  EXPECT_EQ(Walk(image + "/rootfs/etc/os-release"), file);
}

TEST_F(NamespaceTest, UnknownNodesAreAnError) {
  for (const NodeId node :
       {NodeId{0}, NodeId{77}, TreeNode(9999, 5), DirectoryNode(9999), ~NodeId{0}}) {
    EXPECT_FALSE(names_->GetAttr(node)) << node;
    EXPECT_FALSE(names_->Lookup(node, "x")) << node;
  }
}

TEST_F(NamespaceTest, DotAndDotDotLeadWhereTheyShould) {
  const NodeId registry = Walk("localhost");
  const NodeId repository = Walk("localhost/sample");
  const NodeId image = Entry(repository, base_.PathName()).attr.id;
  const NodeId rootfs = Entry(image, "rootfs").attr.id;
  const NodeId folder = Entry(rootfs, "dir").attr.id;
  const NodeId layers = Entry(image, "layers").attr.id;
  EXPECT_EQ(Entry(registry, "..").attr.id, kRootNode);
  EXPECT_EQ(Entry(repository, "..").attr.id, registry);
  EXPECT_EQ(Entry(image, "..").attr.id, repository);
  EXPECT_EQ(Entry(rootfs, "..").attr.id, image);
  EXPECT_EQ(Entry(folder, "..").attr.id, rootfs);
  EXPECT_EQ(Entry(folder, ".").attr.id, folder);
  EXPECT_EQ(Entry(Entry(layers, "0").attr.id, "..").attr.id, layers);
}

TEST_F(NamespaceTest, RegistryThatIsAwayIsNotANameThatIsNotThere) {
  // Port 1 of the loopback: nobody listens.
  const auto entry = names_->Lookup(kRootNode, "localhost_1_");
  ASSERT_FALSE(entry);
  EXPECT_EQ(ToNameErrno(entry.error().code), ETIMEDOUT);
  EXPECT_THAT(ReadAll(Walk(".lamina/log")), HasSubstr("localhost_1_"));
}

TEST_F(NamespaceTest, SelfFolderTellsVersionLogAndMetrics) {
  EXPECT_EQ(ReadAll(Walk(".lamina/version")), "1.2.3\n");
  names_->SetMetricsSource([] { return std::string("lamina_more 7\n"); });
  const std::string metrics = ReadAll(Walk(".lamina/metrics"));
  EXPECT_THAT(metrics, HasSubstr("lamina_cache_hits_total 0\n"));
  EXPECT_THAT(metrics, HasSubstr("lamina_more 7\n"));
  names_->SetMetricsSource({});
  EXPECT_THAT(ReadAll(Walk(".lamina/metrics")), Not(HasSubstr("lamina_more")));
  EXPECT_THAT(Names(Walk(".lamina")),
              testing::UnorderedElementsAre("log", "metrics", "process", "version"));
  EXPECT_EQ(ReadAll(Walk(".lamina/process")), ProcessId::Self()->ToString() + "\n");
}

}  // namespace
}  // namespace lamina
