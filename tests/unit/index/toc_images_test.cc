// Tables of contents that other programs wrote (tests/images/toc.py), against the tars of which
// they were made: Python's tarfile reads these, zlib and libzstd decode the pieces.

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/text.h"
#include "index/toc_reader.h"
#include "tests/unit/index/codec_tools.h"
#include "tests/unit/index/toc_tools.h"

namespace lamina {
namespace {

using namespace lamina::testing;  // NOLINT
using Json = nlohmann::json;

constexpr const char* kUseImages = "import sys; sys.path.insert(0, \"" LAMINA_TESTS_DIR "\")\n";

std::string ImagesFolder() {
  static const std::string folder = Python(
      std::string(kUseImages) + "from images import cache\nout(cache.get(\"toc\").encode())", "");
  return folder;
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  EXPECT_TRUE(file.good()) << path;
  return bytes.str();
}

struct Layer {
  std::string blob;
  std::map<std::string, std::string> annotations;
};

std::vector<Layer> LayersOf(const std::string& layout) {
  const std::string folder = ImagesFolder() + "/layouts/" + layout;
  const auto blob = [&](std::string digest) {
    return ReadWhole(folder + "/blobs/sha256/" + digest.substr(7));
  };
  const Json index = Json::parse(ReadWhole(folder + "/index.json"));
  std::vector<Layer> layers;
  const Json manifest = Json::parse(blob(index["manifests"][0]["digest"]));
  for (const Json& layer : manifest["layers"])
    layers.push_back(
        {blob(layer["digest"]), layer.value("annotations", std::map<std::string, std::string>())});
  return layers;
}

// Entries of a tar as Python sees them, a line each; times as eStargz's writers round them where
// `rounded`.
std::vector<std::string> ExpectedLines(size_t layer, bool rounded) {
  const std::string program = R"(
import decimal, hashlib, io, tarfile
kinds = {b"0": "reg", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}
tar = tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape")
for m in tar:
    t = decimal.Decimal(m.pax_headers.get("mtime", m.mtime))
    s = int(t.to_integral_value(decimal.ROUND_FLOOR))
    n = int((t - s) * 10**9)
    if ROUNDED:
        s, n = (0 if s == 0 else s + (n >= 500000000)), 0
    attrs = "" if m.islnk() else ",".join(sorted(k[13:] + "=" + v.encode("utf-8", "surrogateescape").hex()
        for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")))
    content = hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else ""
    device = "%d:%d" % (m.devmajor, m.devminor) if m.ischr() or m.isblk() else ""
    link = m.linkname if m.issym() or m.islnk() else ""
    line = " ".join((kinds[m.type], m.name, format(m.mode, "o"), str(m.uid), str(m.gid), "%d.%d" % (s, n), str(m.size), link, device, attrs, content)) + "\n"
    out(line.encode("utf-8", "surrogateescape"))
)";
  const std::string raw = ReadWhole(ImagesFolder() + "/raw/" + std::to_string(layer) + ".tar");
  const std::string text =
      Python(std::string("ROUNDED = ") + (rounded ? "True" : "False") + program, raw);
  std::vector<std::string> lines;
  for (const std::string_view line : Split(text, '\n'))
    if (!line.empty()) lines.emplace_back(line);
  return lines;
}

// The bytes from `skip` on, `size` of them, of what the compressed bytes decode to.
std::string InflatePiece(const std::string& bytes, uint64_t skip, uint64_t size) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 31), Z_OK);
  std::string out(skip + size, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // NOLINT
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  int result = Z_OK;
  // Members follow each other: a stretch may begin with more than the payload's.
  while (stream.avail_out > 0 && (result = inflate(&stream, Z_NO_FLUSH)) >= Z_OK) {
    if (result != Z_STREAM_END) continue;
    if (inflateReset(&stream) != Z_OK) break;
  }
  EXPECT_EQ(stream.avail_out, 0u);
  inflateEnd(&stream);
  return out.substr(skip);
}

std::string UnzstdPiece(const std::string& bytes, uint64_t skip, uint64_t size) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::string out(skip + size, '\0');
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos < output.size) {
    const size_t before = output.pos + input.pos;
    const size_t left = ZSTD_decompressStream(context, &output, &input);
    EXPECT_FALSE(ZSTD_isError(left)) << ZSTD_getErrorName(left);
    if (ZSTD_isError(left) || before == output.pos + input.pos) break;
  }
  EXPECT_EQ(output.pos, output.size);
  ZSTD_freeDCtx(context);
  return out.substr(skip);
}

std::string ContentOf(const Layer& layer, std::span<const TocPiece> pieces) {
  std::string content;
  for (const TocPiece& piece : pieces) {
    EXPECT_EQ(piece.file_offset, content.size());
    if (piece.zero) {
      content.append(piece.length, '\0');
      continue;
    }
    EXPECT_LT(piece.blob_offset, piece.blob_end);
    EXPECT_LE(piece.blob_end, layer.blob.size());
    const std::string bytes =
        layer.blob.substr(piece.blob_offset, piece.blob_end - piece.blob_offset);
    const bool gzip = layer.blob.starts_with("\x1F\x8B");
    const std::string decoded = gzip ? InflatePiece(bytes, piece.inner_offset, piece.length)
                                     : UnzstdPiece(bytes, piece.inner_offset, piece.length);
    EXPECT_TRUE(std::ranges::equal(Digest::Sha256(AsBytes(decoded)).bytes(), piece.sha256));
    content += decoded;
  }
  return content;
}

std::string LineOf(const TarEntry& entry, const std::string& content) {
  static const std::map<EntryType, std::string> kTypes = {
      {EntryType::kRegular, "reg"},       {EntryType::kHardlink, "hardlink"},
      {EntryType::kSymlink, "symlink"},   {EntryType::kCharDevice, "char"},
      {EntryType::kBlockDevice, "block"}, {EntryType::kDirectory, "dir"},
      {EntryType::kFifo, "fifo"}};
  std::string path = entry.path;
  if (entry.type == EntryType::kDirectory && path.ends_with('/')) path.pop_back();
  char mode[16];
  std::snprintf(mode, sizeof mode, "%o", entry.mode);
  const bool device = entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice;
  std::string line = kTypes.at(entry.type) + " " + path + " " + mode + " " +
                     std::to_string(entry.uid) + " " + std::to_string(entry.gid) + " " +
                     std::to_string(entry.mtime_s) + "." + std::to_string(entry.mtime_ns) + " " +
                     std::to_string(entry.size) + " " + entry.link_target + " ";
  if (device) line += std::to_string(entry.device_major) + ":" + std::to_string(entry.device_minor);
  line += " ";
  std::string attributes;
  for (const auto& [name, value] : entry.xattrs)
    attributes += (attributes.empty() ? "" : ",") + name + "=" + ToHex(value);
  line += attributes + " ";
  if (entry.type == EntryType::kRegular) line += Digest::Sha256(AsBytes(content)).hex();
  return line;
}

struct Variant {
  const char* layout;
  TocKind kind;
  bool rounded;
  size_t least_pieces;  // of the file of 5 MiB
};

class TocImagesTest : public ::testing::TestWithParam<Variant> {};

TEST_P(TocImagesTest, EntriesAndEveryPieceAreThoseOfTheTar) {
  const Variant& variant = GetParam();
  const std::vector<Layer> layers = LayersOf(variant.layout);
  const std::vector<Layer> beside =
      variant.kind == TocKind::kEstargzBeside ? LayersOf("external-toc") : std::vector<Layer>();
  ASSERT_EQ(layers.size(), 2u);
  for (size_t number = 0; number < layers.size(); ++number) {
    CountingBlob blob(layers[number].blob);
    const auto claim = TocClaimOf(layers[number].annotations);
    ASSERT_TRUE(claim && claim->has_value());
    auto place = LocateToc(**claim, blob, Soon());
    ASSERT_TRUE(place) << place.error().message;
    EXPECT_EQ(place->kind, variant.kind);
    Result<Toc> toc = Error{};
    if (beside.empty()) {
      toc = Toc::Fetch(**claim, *std::move(place), blob, Soon());
    } else {
      MemoryBlob other(beside[number].blob);
      toc = Toc::FetchBeside(**claim, *place, other, Soon());
    }
    ASSERT_TRUE(toc) << toc.error().message;
    EXPECT_LE(blob.reads, 2);
    std::vector<std::string> lines;
    size_t pieces_of_big = 0;
    const Status read =
        toc->Read([&](const TarEntry& entry, std::span<const TocPiece> pieces) -> Status {
          lines.push_back(LineOf(entry, ContentOf(layers[number], pieces)));
          if (entry.path == "etc/big") pieces_of_big = pieces.size();
          return {};
        });
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(lines, ExpectedLines(number, variant.rounded));
    if (number == 0) {
      EXPECT_GE(pieces_of_big, variant.least_pieces);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tools, TocImagesTest,
                         ::testing::Values(Variant{"estargz", TocKind::kEstargz, true, 2},
                                           Variant{"estargz-64k", TocKind::kEstargz, true, 80},
                                           Variant{"legacy", TocKind::kEstargz, true, 2},
                                           Variant{"external", TocKind::kEstargzBeside, true, 2},
                                           Variant{"stargz-zstd", TocKind::kStargzZstd, true, 2},
                                           Variant{"chunked", TocKind::kChunked, false, 2},
                                           Variant{"chunked-new", TocKind::kChunked, false, 2}),
                         [](const ::testing::TestParamInfo<Variant>& variant) {
                           std::string name = variant.param.layout;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace lamina
