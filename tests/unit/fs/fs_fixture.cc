#include "fs_fixture.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "base/bytes.h"

namespace lamina {
namespace {

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";

}  // namespace

std::string Shell(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    ADD_FAILURE() << "cannot run " << command;
    return output;
  }
  std::array<char, 4096> bytes;
  for (size_t got; (got = std::fread(bytes.data(), 1, bytes.size(), pipe)) > 0;)
    output.append(bytes.data(), got);
  EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << output;
  return output;
}

// --- LayoutWriter

LayoutWriter::LayoutWriter(std::string folder) : folder_(std::move(folder)) {
  EXPECT_TRUE(MakeFolders(folder_ + "/blobs/sha256"));
  EXPECT_TRUE(
      WriteFileAtomically(folder_ + "/oci-layout", AsBytes(R"({"imageLayoutVersion":"1.0.0"})")));
}

Digest LayoutWriter::PutBlob(const std::string& bytes) {
  const Digest digest = Digest::Sha256(AsBytes(bytes));
  EXPECT_TRUE(WriteFileAtomically(BlobPath(digest), AsBytes(bytes)));
  return digest;
}

uint64_t LayoutWriter::SizeOf(const Digest& digest) const {
  const auto file = OpenFile(BlobPath(digest), O_RDONLY);
  if (!file) ADD_FAILURE() << file.error().message;
  return file ? *FileSize(file->get(), "blob") : 0;
}

Digest LayoutWriter::AddLayer(const std::string& source) {
  const std::string tar = folder_ + "/layer.tar";
  Shell(fmt::format(
      "tar --format=pax --xattrs --xattrs-include='*' --sparse --sort=name -C '{}' -cf '{}' .",
      source, tar));
  const auto bytes = ReadWholeFile(tar, 1u << 30);
  EXPECT_TRUE(bytes);
  return PutBlob(*bytes);
}

Digest LayoutWriter::AddImage(const std::vector<Digest>& layers, const std::string& architecture,
                              const std::string& tag) {
  std::string diff_ids;
  std::string descriptors;
  for (const Digest& layer : layers) {
    const std::string comma = diff_ids.empty() ? "" : ",";
    diff_ids += fmt::format("{}\"{}\"", comma, layer.ToString());
    descriptors += fmt::format(
        R"({}{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}})",
        comma, layer.ToString(), SizeOf(layer));
  }
  const Digest config = PutBlob(fmt::format(
      R"({{"architecture":"{}","os":"linux","created":"2026-01-02T03:04:05Z","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      architecture, diff_ids));
  const Digest manifest = PutBlob(fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}})",
      kManifestType, config.ToString(), SizeOf(config), descriptors));
  if (!tag.empty()) Tag(manifest, kManifestType, tag);
  return manifest;
}

Digest LayoutWriter::AddIndex(const std::vector<std::pair<std::string, Digest>>& manifests,
                              const std::string& tag) {
  std::string descriptors;
  for (const auto& [architecture, digest] : manifests) {
    descriptors += fmt::format(
        R"({}{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{}"}}}})",
        descriptors.empty() ? "" : ",", kManifestType, digest.ToString(), SizeOf(digest),
        architecture);
  }
  const Digest index = PutBlob(fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}})", kIndexType, descriptors));
  Tag(index, kIndexType, tag);
  return index;
}

void LayoutWriter::Tag(const Digest& digest, const std::string& media_type,
                       const std::string& tag) {
  const std::string annotation = fmt::format(R"("org.opencontainers.image.ref.name":"{}")", tag);
  std::erase_if(entries_, [&](const std::string& entry) {
    return entry.find(annotation) != std::string::npos;
  });
  entries_.push_back(
      fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{},"annotations":{{{}}}}})",
                  media_type, digest.ToString(), SizeOf(digest), annotation));
  std::string list;
  for (const std::string& entry : entries_) list += (list.empty() ? "" : ",") + entry;
  EXPECT_TRUE(
      WriteFileAtomically(folder_ + "/index.json",
                          AsBytes(fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", list))));
}

// --- FsFixture

void FsFixture::WriteSources() {
  // 3 MiB of bytes that do not repeat, so that several chunks are needed.
  Shell(fmt::format(
      "set -e; mkdir -p '{0}/lower/etc' '{0}/lower/dir/sub' '{0}/upper/etc' '{0}/upper/dir'; cd "
      "'{0}/lower';"
      "echo 'NAME=sample' > etc/os-release; echo gone > etc/motd; echo one > dir/a; ln dir/a dir/b;"
      "ln -s ../etc/os-release dir/link; mkfifo dir/fifo; : > dir/empty;"
      "openssl enc -aes-128-ctr -pass pass:x -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c "
      "3145728 > dir/big;"
      "truncate -s 1M dir/sparse; printf tail >> dir/sparse; chmod 4755 dir/a; chown 12:34 dir/big;"
      "mknod dir/device c 10 300; setfattr -n user.color -v red dir/big; touch -d '2001-02-03 "
      "04:05:06.789 UTC' dir/big;"
      "cd '{0}/upper'; : > etc/.wh.motd; echo new > dir/new",
      folder_->path()));
}

void FsFixture::SetUp() {
  auto folder = TemporaryFolder::Create("lamina-fs");
  ASSERT_TRUE(folder) << folder.error().message;
  folder_.emplace(*std::move(folder));
  ASSERT_NO_FATAL_FAILURE(WriteSources());
  layout_ = std::make_unique<LayoutWriter>(Path("layout"));
  lower_layer_ = layout_->AddLayer(Path("lower"));
  const Digest upper = layout_->AddLayer(Path("upper"));
  base_ = layout_->AddImage({lower_layer_, upper}, "amd64", "base");
  arm_ = layout_->AddImage({lower_layer_}, "arm64", "");
  multi_ = layout_->AddIndex({{"amd64", base_}, {"arm64", arm_}}, "multi");
  paths_ = StorePaths{Path("store")};
  options_.platform = *Platform::Parse("linux/amd64");
  Restart();
  const auto added = catalog_->AddSource("oci:" + layout_->folder(), Repository());
  ASSERT_TRUE(added) << added.error().message;
}

void FsFixture::Restart() {
  names_.reset();
  catalog_.reset();
  layers_.reset();
  store_.reset();
  for (const std::string& made : {paths_.IndexFolder(), paths_.TreeFolder(), paths_.CacheFolder()})
    ASSERT_TRUE(MakeFolders(made));
  auto store = Store::Open(paths_.Database());
  ASSERT_TRUE(store) << store.error().message;
  store_ = *std::move(store);
  layers_ = std::make_unique<LayerStore>(paths_, CacheBudget::kUnlimited, nullptr, compression_);
  catalog_ = std::make_unique<Catalog>(paths_, *store_, *layers_, options_);
  const Status loaded = catalog_->Load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  names_ = std::make_unique<Namespace>(*catalog_, *store_, *layers_, "1.2.3");
}

NodeEntry FsFixture::Entry(NodeId parent, const std::string& name) {
  const auto entry = names_->Lookup(parent, name);
  EXPECT_TRUE(entry) << name << ": " << entry.error().message;
  return entry ? *entry : NodeEntry{};
}

NodeId FsFixture::Walk(const std::string& path) {
  NodeId node = kRootNode;
  for (size_t at = 0; at < path.size() && node != 0;) {
    const size_t slash = std::min(path.find('/', at), path.size());
    node = Entry(node, path.substr(at, slash - at)).attr.id;
    at = slash + 1;
  }
  return node;
}

std::vector<std::string> FsFixture::Names(NodeId directory) {
  std::vector<std::string> names;
  const Status listed = names_->ReadDirectory(directory, 0, true, [&](const DirectoryItem& item) {
    if (item.name != "." && item.name != "..") names.emplace_back(item.name);
    return true;
  });
  EXPECT_TRUE(listed) << listed.error().message;
  return names;
}

std::string FsFixture::ReadAll(NodeId node) {
  const auto attributes = names_->GetAttr(node);
  EXPECT_TRUE(attributes) << attributes.error().message;
  if (!attributes) return "";
  std::string bytes(attributes->attr.size + 1, '\0');  // one more: the end is seen
  const auto got = names_->Read(node, 0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()},
                                Deadline::After(names_->wait_bound()));
  EXPECT_TRUE(got) << got.error().message;
  bytes.resize(got ? *got : 0);
  return bytes;
}

}  // namespace lamina
