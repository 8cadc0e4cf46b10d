// zTOCs: arbitrary bytes, and flatbuffers that are sound as such with arbitrary values in them, so
// that the checks behind the verifier are reached. What is accepted is read to the end: entries,
// spans, and a decoder from every checkpoint, over arbitrary compressed bytes.

#include <ztoc_generated.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "index/ztoc.h"

namespace {

using lamina::ByteSpan;
using lamina::StreamDecoder;
using lamina::Ztoc;
namespace soci = lamina::soci;

// Takes values off the front of the input; zeros once it has ended.
class Values {
 public:
  explicit Values(ByteSpan bytes) : bytes_(bytes) {}

  uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  // Mostly small and round, sometimes anything.
  int64_t Number() {
    const uint8_t kind = Byte();
    if (kind < 100) return kind;
    if (kind < 200) return (kind - 100) * 512;
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | Byte();
    return static_cast<int64_t>(value >> kind % 64);
  }
  std::string Text() {
    std::string text;
    for (size_t left = Byte() % 40; left > 0; --left) text += static_cast<char>(Byte());
    return text;
  }

 private:
  ByteSpan bytes_;
};

flatbuffers::Offset<soci::File> AddFile(Values& values, flatbuffers::FlatBufferBuilder& out) {
  static const char* const kTypes[] = {"reg",  "dir",   "symlink", "hardlink",
                                       "char", "block", "fifo",    "?"};
  static const char* const kKeys[] = {"SCHILY.xattr.user.a", "LIBARCHIVE.xattr.user.b", "path",
                                      "GNU.sparse.major"};
  std::vector<flatbuffers::Offset<soci::Record>> records;
  for (int left = values.Byte() % 4; left > 0; --left)
    records.push_back(
        soci::CreateRecordDirect(out, kKeys[values.Byte() % 4], values.Text().c_str()));
  const std::string name = values.Text();
  const std::string link = values.Text();
  const std::string time = values.Byte() % 4 ? "2026-01-02T03:04:05.6Z" : values.Text();
  return soci::CreateFileDirect(out, name.c_str(), kTypes[values.Byte() % 8], values.Number(),
                                values.Number(), link.c_str(), values.Number(),
                                static_cast<uint32_t>(values.Number()), 0, "", "", time.c_str(),
                                values.Number(), values.Number(), &records);
}

std::vector<uint8_t> Checkpoints(Values& values, bool gzip, int count) {
  std::vector<uint8_t> out;
  const auto add = [&](int64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
  };
  if (!gzip) {
    add(2, 4);
    add(values.Number(), 8);
    add(values.Number(), 8);
    return out;
  }
  add(count, 4);
  add(1, 8);
  for (int i = values.Byte() % 8 == 0 ? 1 : 0; i < count; ++i) {
    add(10 + values.Number(), 8);
    add(values.Number(), 8);
    out.push_back(values.Byte() % 9);
    const uint8_t fill = values.Byte();
    out.insert(out.end(), 32768, fill);
  }
  return out;
}

std::string Build(Values& values) {
  flatbuffers::FlatBufferBuilder out;
  std::vector<flatbuffers::Offset<soci::File>> files;
  for (int left = values.Byte() % 5; left > 0; --left) files.push_back(AddFile(values, out));
  const int count = 1 + values.Byte() % 4;
  const bool gzip = values.Byte() % 4 > 0;
  const std::vector<uint8_t> checkpoints = Checkpoints(values, gzip, count);
  std::vector<flatbuffers::Offset<flatbuffers::String>> digests;
  for (int i = 0; i < count; ++i)
    digests.push_back(out.CreateString("sha256:" + std::string(64, "0a"[i % 2])));
  const auto info = soci::CreateCompressionInfoDirect(
      out, gzip ? soci::Algorithm::Gzip : soci::Algorithm::Uncompressed, count - 1, &digests,
      &checkpoints);
  const auto contents = soci::CreateContentsDirect(out, &files);
  const int64_t compressed = values.Number();
  const int64_t uncompressed = values.Number();
  out.Finish(soci::CreateDocumentDirect(out, "0.9", "", compressed, uncompressed, contents, info));
  return {reinterpret_cast<const char*>(out.GetBufferPointer()), out.GetSize()};
}

void Use(const Ztoc& ztoc, ByteSpan blob) {
  uint64_t end = 0;
  (void)ztoc.ReadEntries([&](const lamina::TarEntry& entry, uint64_t payload) {
    if (entry.header_offset < end || payload + entry.size > ztoc.uncompressed_size()) std::abort();
    end = payload + entry.size;
    return lamina::Status();
  });
  (void)ztoc.CheckHeader(blob);
  for (size_t i = 0; i < ztoc.spans().size() && i < 8; ++i) {
    const lamina::ZtocSpan& span = ztoc.spans()[i];
    if (span.blob_end > ztoc.compressed_size() || span.blob_offset >= span.blob_end) std::abort();
    auto decoder = StreamDecoder::Resume(ztoc.compression(), span.raw_offset, span.blob_offset,
                                         ztoc.CheckpointState(i));
    if (!decoder) std::abort();
    std::vector<uint8_t> out(10'000);
    ByteSpan input = blob;
    (void)(*decoder)->Decode(&input, out);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const ByteSpan bytes(data + 2, size - 2);
  const ByteSpan blob = bytes.last(bytes.size() * data[1] / 256);
  Values values(bytes);
  std::string document = data[0] % 4 == 0 ? std::string(bytes.begin(), bytes.end()) : Build(values);
  if (const auto ztoc = Ztoc::Open(std::move(document))) Use(*ztoc, blob);
  return 0;
}
