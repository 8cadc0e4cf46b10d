// Image directories, rootfs and layers. The oracle is the folder that GNU tar packed.

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "fs/namespace.h"
#include "fs_fixture.h"

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class NamespaceImageTest : public FsFixture {
 protected:
  std::string Image(const Digest& digest) const { return "localhost/sample/" + digest.PathName(); }
  NodeId Rootfs() { return Walk(Image(base_) + "/rootfs"); }
};

TEST_F(NamespaceImageTest, HoldsTheDocumentsThatItsDigestsName) {
  EXPECT_THAT(
      Names(Walk(Image(base_))),
      UnorderedElementsAre("config.json", "layers", "manifest.json", "rootfs", "status.json"));
  EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(Walk(Image(base_) + "/manifest.json")))), base_);
  const auto manifest = nlohmann::json::parse(ReadAll(Walk(Image(base_) + "/manifest.json")));
  EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(Walk(Image(base_) + "/config.json")))).ToString(),
            manifest["config"]["digest"]);
}

TEST_F(NamespaceImageTest, IndexShowsItsPlatforms) {
  EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(Walk(Image(multi_) + "/index.json")))), multi_);
  const NodeId platforms = Walk(Image(multi_) + "/platforms");
  EXPECT_THAT(Names(platforms), UnorderedElementsAre("linux-amd64", "linux-arm64"));
  EXPECT_EQ(*names_->ReadLink(Entry(platforms, "linux-arm64").attr.id), "../../" + arm_.PathName());
  EXPECT_EQ(Entry(platforms, "linux-riscv64").attr.id, 0u);
  // The platform asked for was chosen: the manifest is that of amd64.
  EXPECT_EQ(Digest::Sha256(AsBytes(ReadAll(Walk(Image(multi_) + "/manifest.json")))), base_);
  EXPECT_EQ(Walk(Image(base_) + "/platforms"), 0u);
  EXPECT_NE(Walk(Image(arm_) + "/manifest.json"), 0u);
}

TEST_F(NamespaceImageTest, RootfsIsAnsweredBeforeItsTreeExists) {
  const NodeId image = Walk(Image(base_));
  const auto entry = names_->TryLookup(image, "rootfs");
  ASSERT_TRUE(entry && *entry);
  EXPECT_EQ((*entry)->attr.type, EntryType::kDirectory);
  EXPECT_EQ((*entry)->entry_seconds, 0);
  EXPECT_EQ((*entry)->attr_seconds, 0);
  const NodeId rootfs = (*entry)->attr.id;
  EXPECT_FALSE(names_->TryGetAttr(rootfs).has_value());
  const NodeWait wait = names_->WaitOf(rootfs);
  EXPECT_NE(wait.gate, 0u);
  ASSERT_TRUE(names_->Prepare(rootfs));
  ASSERT_TRUE(names_->TryGetAttr(rootfs).has_value());
  const auto again = names_->TryLookup(image, "rootfs");
  ASSERT_TRUE(again && *again);
  EXPECT_EQ((*again)->attr.id, rootfs);
  EXPECT_EQ((*again)->entry_seconds, kForever);
}

TEST_F(NamespaceImageTest, MergesTheLayers) {
  EXPECT_THAT(Names(Walk(Image(base_) + "/rootfs/etc")), ElementsAre("os-release"));
  EXPECT_EQ(ReadAll(Walk(Image(base_) + "/rootfs/dir/new")), "new\n");
  EXPECT_EQ(ReadAll(Walk(Image(base_) + "/rootfs/dir/b")), "one\n");
  const NodeEntry missing = Entry(Walk(Image(base_) + "/rootfs/etc"), "motd");
  EXPECT_EQ(missing.attr.id, 0u);
  EXPECT_EQ(missing.entry_seconds, kForever);
}

TEST_F(NamespaceImageTest, AttributesAreThoseOfTheFilesThatWerePacked) {
  const NodeId folder = Walk(Image(base_) + "/rootfs/dir");
  const std::map<std::string, EntryType> types = {
      {"a", EntryType::kRegular},         {"big", EntryType::kRegular},
      {"sparse", EntryType::kRegular},    {"link", EntryType::kSymlink},
      {"device", EntryType::kCharDevice}, {"fifo", EntryType::kFifo},
      {"empty", EntryType::kRegular},     {"sub", EntryType::kDirectory}};
  for (const auto& [name, type] : types) {
    struct stat packed {};
    ASSERT_EQ(::lstat((Path("lower/dir/") + name).c_str(), &packed), 0) << name;
    const NodeAttr attr = Entry(folder, name).attr;
    EXPECT_EQ(attr.type, type) << name;
    EXPECT_EQ(attr.mode, packed.st_mode & 07777) << name;
    EXPECT_EQ(attr.uid, packed.st_uid) << name;
    EXPECT_EQ(attr.gid, packed.st_gid) << name;
    EXPECT_EQ(attr.mtime_s, packed.st_mtim.tv_sec) << name;
    EXPECT_EQ(attr.mtime_ns, packed.st_mtim.tv_nsec) << name;
    if (type != EntryType::kDirectory) {
      EXPECT_EQ(attr.size, static_cast<uint64_t>(packed.st_size)) << name;
      EXPECT_EQ(attr.nlink, packed.st_nlink) << name;
    }
  }
  EXPECT_EQ(Entry(folder, "device").attr.device_major, 10u);
  EXPECT_EQ(Entry(folder, "device").attr.device_minor, 300u);
  EXPECT_EQ(Entry(folder, "a").attr.id, Entry(folder, "b").attr.id);
  EXPECT_EQ(*names_->ReadLink(Entry(folder, "link").attr.id), "../etc/os-release");
}

TEST_F(NamespaceImageTest, BytesAreThoseOfTheFilesThatWerePacked) {
  const NodeId folder = Walk(Image(base_) + "/rootfs/dir");
  for (const std::string name : {"big", "sparse", "empty"})
    EXPECT_EQ(ReadAll(Entry(folder, name).attr.id),
              *ReadWholeFile(Path("lower/dir/") + name, 1u << 30))
        << name;
  std::string part(100, '\0');
  const MutableByteSpan span{reinterpret_cast<uint8_t*>(part.data()), part.size()};
  ASSERT_EQ(*names_->Read(Entry(folder, "big").attr.id, 1'000'000, span,
                          Deadline::After(names_->wait_bound())),
            100u);
  EXPECT_EQ(part, ReadWholeFile(Path("lower/dir/big"), 1u << 30)->substr(1'000'000, 100));
}

TEST_F(NamespaceImageTest, ListingCarriesTheAttributesOfEachEntry) {
  const NodeId folder = Walk(Image(base_) + "/rootfs/dir");
  std::vector<std::string> names;
  ASSERT_TRUE(names_->ReadDirectory(folder, 0, true, [&](const DirectoryItem& item) {
    names.emplace_back(item.name);
    if (item.name == "." || item.name == "..") {
      EXPECT_EQ(item.entry, nullptr);
      return true;
    }
    EXPECT_NE(item.entry, nullptr) << item.name;
    const NodeEntry looked_up = Entry(folder, std::string(item.name));
    if (item.entry != nullptr) {
      EXPECT_EQ(item.entry->attr.id, looked_up.attr.id);
      EXPECT_EQ(item.entry->attr.size, looked_up.attr.size);
      EXPECT_EQ(item.entry->entry_seconds, kForever);
    }
    EXPECT_EQ(item.type, looked_up.attr.type);
    return true;
  }));
  EXPECT_THAT(names, UnorderedElementsAre(".", "..", "a", "b", "big", "device", "empty", "fifo",
                                          "link", "new", "sparse", "sub"));
}

TEST_F(NamespaceImageTest, LayersShowTheirOwnTreesWithWhiteouts) {
  const NodeId layers = Walk(Image(base_) + "/layers");
  EXPECT_THAT(Names(layers), UnorderedElementsAre("0", "1", "top"));
  EXPECT_EQ(*names_->ReadLink(Entry(layers, "top").attr.id), "1");
  EXPECT_EQ(ReadAll(Walk(Image(base_) + "/layers/0/etc/motd")), "gone\n");
  const NodeAttr whiteout = names_->GetAttr(Walk(Image(base_) + "/layers/1/etc/motd"))->attr;
  EXPECT_EQ(whiteout.type, EntryType::kCharDevice);
  EXPECT_EQ(whiteout.device_major, 0u);
  EXPECT_EQ(whiteout.device_minor, 0u);
  for (const std::string name : {"2", "00", "-1", "x", "4294967296"})
    EXPECT_EQ(Entry(layers, name).attr.id, 0u) << name;
}

TEST_F(NamespaceImageTest, SeekFindsHolesAndData) {
  const NodeId folder = Walk(Image(base_) + "/rootfs/dir");
  const NodeId sparse = Entry(folder, "sparse").attr.id;  // 1 MiB of hole, then "tail"
  EXPECT_EQ(*names_->Seek(sparse, 0, true), 0u);
  EXPECT_EQ(*names_->Seek(sparse, 0, false), 1u << 20);
  EXPECT_EQ(*names_->Seek(sparse, 1u << 20, true), (1u << 20) + 4);
  EXPECT_EQ(*names_->Seek(sparse, (1u << 20) + 4, false), std::nullopt);
  const NodeId big = Entry(folder, "big").attr.id;
  EXPECT_EQ(*names_->Seek(big, 5, false), 5u);
  EXPECT_EQ(*names_->Seek(big, 5, true), 3145728u);
}

TEST_F(NamespaceImageTest, XattrsAreTheImagesOwnAndLaminasOnRequest) {
  const NodeId big = Walk(Image(base_) + "/rootfs/dir/big");
  EXPECT_EQ(*names_->ListXattr(big), std::string("user.color\0", 11));
  EXPECT_EQ(**names_->Xattr(big, "user.color"), "red");
  EXPECT_EQ(*names_->Xattr(big, "user.none"), std::nullopt);
  EXPECT_EQ(**names_->Xattr(big, "user.lamina.layer"), "0");
  EXPECT_EQ(**names_->Xattr(big, "user.lamina.digest"), lower_layer_.ToString());
  EXPECT_THAT(**names_->Xattr(big, "user.lamina.local"), testing::AnyOf("yes", "no"));
  EXPECT_EQ(*names_->Xattr(big, "user.lamina.other"), std::nullopt);
  EXPECT_EQ(*names_->Xattr(Walk(Image(base_) + "/rootfs/dir"), "user.lamina.layer"), std::nullopt);
  const NodeId upper = Walk(Image(base_) + "/rootfs/dir/new");
  EXPECT_EQ(**names_->Xattr(upper, "user.lamina.layer"), "1");
}

TEST_F(NamespaceImageTest, StatusHasAnotherNodeWithEachContentAndKeepsTheOldOne) {
  const NodeId image = Walk(Image(base_));
  const NodeEntry before = Entry(image, "status.json");
  EXPECT_EQ(before.entry_seconds, 0);
  const std::string text = ReadAll(before.attr.id);
  EXPECT_EQ(nlohmann::json::parse(text)["digest"], base_.ToString());
  ASSERT_TRUE(names_->Prepare(Entry(image, "rootfs").attr.id));
  const NodeEntry after = Entry(image, "status.json");
  EXPECT_NE(after.attr.id, before.attr.id);
  EXPECT_NE(ReadAll(after.attr.id), text);
  EXPECT_EQ(ReadAll(before.attr.id), text);
  EXPECT_EQ(after.attr.size, ReadAll(after.attr.id).size());
}

TEST_F(NamespaceImageTest, BrokenLayerFailsWithItsReasonInStatus) {
  // A byte in the middle of the lower layer's blob.
  Shell("printf X | dd of='" + layout_->BlobPath(lower_layer_) +
        "' bs=1 seek=700000 conv=notrunc status=none");
  const NodeId image = Walk(Image(base_));
  const NodeId rootfs = Entry(image, "rootfs").attr.id;
  EXPECT_FALSE(names_->Prepare(rootfs));
  const auto looked_up = names_->Lookup(rootfs, "etc");
  ASSERT_FALSE(looked_up);
  EXPECT_EQ(looked_up.error().code, Code::kCorrupt);
  EXPECT_THAT(ReadAll(Entry(image, "status.json").attr.id), HasSubstr(lower_layer_.ToString()));
  const auto status = nlohmann::json::parse(ReadAll(Entry(image, "status.json").attr.id));
  EXPECT_FALSE(status["last_error"].is_null());
}

TEST_F(NamespaceImageTest, FactsAreThoseOfTheTree) {
  const NodeId rootfs = Rootfs();
  EXPECT_EQ(names_->Facts(rootfs).files, 0u);
  ASSERT_TRUE(names_->GetAttr(rootfs));
  EXPECT_GT(names_->Facts(rootfs).files, 10u);
  EXPECT_GE(names_->Facts(rootfs).blocks, 3145728u / 4096);
}

}  // namespace
}  // namespace lamina
