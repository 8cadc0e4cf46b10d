#include "tests/faults/scripted_layer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <random>

#include "tests/support/tar_builder.h"

namespace lamina::testing {
namespace {

constexpr uint64_t kAlign = 4096;
constexpr size_t kFrameBytes = 300'000;
constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

// Noise and stretches that compress, by turns.
std::string Mixed(size_t size, uint32_t seed) {
  std::minstd_rand random(seed);
  std::string out;
  while (out.size() < size) {
    for (int i = 0; i < 3000; ++i) out += static_cast<char>(random() >> 8);
    for (int i = 0; i < 300; ++i) out += fmt::format("line {}\n", random() % 100);
  }
  out.resize(size);
  return out;
}

std::string Gzip(const std::string& bytes) {
  std::string out(bytes.size() + bytes.size() / 100 + 1000, '\0');
  z_stream stream{};
  if (::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return "";
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

// Frames, so that it can be entered.
std::string Zstd(const std::string& bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += kFrameBytes) {
    const size_t size = std::min(kFrameBytes, bytes.size() - at);
    std::string frame(ZSTD_compressBound(size), '\0');
    const size_t got = ZSTD_compress(frame.data(), frame.size(), bytes.data() + at, size, 3);
    EXPECT_FALSE(ZSTD_isError(got));
    out += frame.substr(0, got);
  }
  return out;
}

Descriptor Describe(const std::string& type, const std::string& bytes) {
  return {.media_type = type,
          .digest = Digest::Sha256(AsBytes(bytes)),
          .size = bytes.size(),
          .annotations = {},
          .platform = {},
          .artifact_type = {}};
}

std::string Json(const Descriptor& of) {
  return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{}}})", of.media_type,
                     of.digest.ToString(), of.size);
}

Deadline Bound() { return Deadline::After(std::chrono::seconds(30)); }

}  // namespace

ScriptedLayer::MadePtr ScriptedLayer::Make(Packing packing, const std::vector<size_t>& sizes) {
  // The layer's flat space, by its definition: files in tar order at multiples of 4096.
  TarBuilder builder;
  std::string flat;
  for (const size_t size : sizes) {
    const std::string data = Mixed(size, static_cast<uint32_t>(flat.size() + size));
    builder.File("file" + std::to_string(flat.size()), data);
    flat += data;
    flat.append((kAlign - flat.size() % kAlign) % kAlign, '\0');
  }
  const std::string tar = builder.Finish();
  const Digest diff_id = Digest::Sha256(AsBytes(tar));
  const char* types[] = {"tar", "tar+gzip", "tar+zstd"};
  const std::string type =
      std::string("application/vnd.oci.image.layer.v1.") + types[static_cast<int>(packing)];
  const std::string blob =
      packing == Packing::kNone ? tar : (packing == Packing::kGzip ? Gzip(tar) : Zstd(tar));
  const std::string config = fmt::format(
      R"({{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}})",
      diff_id.ToString());
  Made made{flat, diff_id, Describe(type, blob), Describe(kConfigType, config), {"", config, blob}};
  made.image.manifest =
      fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}})",
                  kManifestType, Json(made.config), Json(made.layer));
  return std::make_shared<const Made>(std::move(made));
}

ScriptedLayer::MadePtr ScriptedLayer::MakeOnce(Packing packing) {
  static const std::vector<size_t> kSizes = {2'500'000, 10, 2'234'567};
  static const std::array<MadePtr, 3> kMade = {
      Make(Packing::kNone, kSizes), Make(Packing::kGzip, kSizes), Make(Packing::kZstd, kSizes)};
  return kMade[static_cast<size_t>(packing)];
}

ScriptedLayer::ScriptedLayer(Packing packing) : ScriptedLayer(MakeOnce(packing)) {}

ScriptedLayer::ScriptedLayer(Packing packing, const std::vector<size_t>& sizes)
    : ScriptedLayer(Make(packing, sizes)) {}

ScriptedLayer::ScriptedLayer(MadePtr made)
    : made_(std::move(made)),
      folder_(TemporaryFolder::Create("lamina-faults").value()),
      paths_{folder_.path()} {
  for (const std::string& folder :
       {paths_.IndexFolder(), paths_.TreeFolder(), paths_.CacheFolder()})
    EXPECT_TRUE(MakeFolders(folder));
  Restart();
}

void ScriptedLayer::Restart() {
  open_.reset();
  store_.reset();
  store_ = std::make_unique<LayerStore>(paths_);
}

void ScriptedLayer::ForgetBytes() {
  open_.reset();
  store_.reset();
  EXPECT_TRUE(RemoveTree(paths_.CacheFolder()));
  EXPECT_TRUE(MakeFolders(paths_.CacheFolder()));
  Restart();
}

Status ScriptedLayer::CheckTag(RepositorySource& source) const {
  ASSIGN_OR_RETURN(const Document document, source.FetchTag("v1", Bound()));
  EXPECT_TRUE(document.bytes == made_->image.manifest) << "wrong bytes for the tag";
  EXPECT_EQ(document.digest, Digest::Sha256(AsBytes(made_->image.manifest)));
  return {};
}

Status ScriptedLayer::CheckManifest(RepositorySource& source) const {
  const Digest digest = Digest::Sha256(AsBytes(made_->image.manifest));
  ASSIGN_OR_RETURN(const Document document, source.FetchManifest(digest, Bound()));
  EXPECT_TRUE(document.bytes == made_->image.manifest) << "wrong bytes for the manifest";
  return {};
}

Status ScriptedLayer::CheckConfig(RepositorySource& source) const {
  ASSIGN_OR_RETURN(const std::string config,
                   source.FetchSmallBlob(made_->config, 1 << 20, Bound()));
  EXPECT_TRUE(config == made_->image.config) << "wrong bytes for the config";
  return {};
}

LayerRequest ScriptedLayer::Request(const std::shared_ptr<RepositorySource>& source) const {
  return {.descriptor = made_->layer,
          .diff_id = made_->diff_id,
          .name = "layer 0 (" + made_->layer.digest.ToString() + ")",
          .sources = {source},
          .progress = nullptr};
}

Status ScriptedLayer::CheckPass(const std::shared_ptr<RepositorySource>& source) {
  return CheckRead(source, 0, made_->flat.size());
}

Status ScriptedLayer::CheckRead(const std::shared_ptr<RepositorySource>& source, uint64_t offset,
                                uint64_t length) {
  ASSIGN_OR_RETURN(open_, store_->Get(Request(source)));
  length = std::min<uint64_t>(length, made_->flat.size() - offset);
  std::string out(length, '?');
  const MutableByteSpan into(reinterpret_cast<uint8_t*>(out.data()), out.size());
  RETURN_IF_ERROR(open_->cache().Read(offset, into, Bound()));
  EXPECT_TRUE(out == made_->flat.substr(offset, length)) << "wrong bytes at " << offset;
  return {};
}

}  // namespace lamina::testing
