#include "tests/unit/index/toc_tools.h"

#include <cstdio>

#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"

namespace lamina::testing {
namespace {

std::string GzipFooter(const std::string& extra) {
  std::string out("\x1F\x8B\x08\x04\x00\x00\x00\x00\x00\xFF", 10);
  out += static_cast<char>(extra.size());
  out += '\0';
  return out + extra + std::string("\x01\x00\x00\xFF\xFF\0\0\0\0\0\0\0\0", 13);
}

std::string OffsetText(uint64_t offset) {
  char text[32];
  std::snprintf(text, sizeof text, "%016llxSTARGZ", static_cast<unsigned long long>(offset));
  return text;
}

std::string Sha256Of(const std::string& bytes) { return Digest::Sha256(AsBytes(bytes)).ToString(); }

}  // namespace

Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }
std::string Gzip(const std::string& bytes) { return Pipe("gzip -nc", bytes); }
std::string Zstd(const std::string& bytes) { return Pipe("zstd -qc", bytes); }

std::string Le64(uint64_t value) {
  std::string out(8, '\0');
  StoreLe(reinterpret_cast<uint8_t*>(out.data()), value);
  return out;
}

std::string SkippableFrame(const std::string& payload) {
  return "\x50\x2A\x4D\x18" + Le64(payload.size()).substr(0, 4) + payload;
}

std::string EstargzFooter(uint64_t toc_offset) {
  return GzipFooter(std::string("SG\x16\0", 4) + OffsetText(toc_offset));
}
std::string LegacyFooter(uint64_t toc_offset) { return GzipFooter(OffsetText(toc_offset)); }
std::string ExternalFooter() {
  return GzipFooter(std::string("SG\x11\0", 4) + "STARGZEXTERNALTOC");
}

std::string OldZstdFooter(uint64_t offset, uint64_t length, uint64_t json_length, uint64_t type) {
  return SkippableFrame(Le64(offset) + Le64(length) + Le64(json_length) + Le64(type) + "GnUlInUx");
}
std::string NewZstdFooter(uint64_t offset, uint64_t length, uint64_t json_length) {
  return SkippableFrame(Le64(offset) + Le64(length) + Le64(json_length) + Le64(1) + Le64(0) +
                        Le64(0) + Le64(0) + "GNUlInUx");
}

std::string TocMember(const std::string& json, const std::string& name) {
  return Gzip(TarBuilder().File(name, json).Finish());
}

LayerWithToc EstargzLayer(const std::string& json, const std::string& data) {
  return {data + TocMember(json) + EstargzFooter(data.size()), {{kTocDigestKey, Sha256Of(json)}}};
}

LayerWithToc ChunkedLayer(const std::string& json, const std::string& data) {
  const std::string table = Zstd(json);
  const uint64_t offset = data.size() + 8;
  const std::string position = std::to_string(offset) + ":" + std::to_string(table.size()) + ":" +
                               std::to_string(json.size()) + ":1";
  return {data + SkippableFrame(table) + NewZstdFooter(offset, table.size(), json.size()),
          {{kNewChunked + "manifest-checksum", Sha256Of(table)},
           {kNewChunked + "manifest-position", position}}};
}

}  // namespace lamina::testing
