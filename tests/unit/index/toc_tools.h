#pragma once

// What tests of tables of contents share: blobs that end in each of the footers, written from the
// published forms and not by lamina, and a blob that counts how often it is read.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "index/toc_locate.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {

inline const std::string kTocDigestKey = "containerd.io/snapshot/stargz/toc.digest";
inline const std::string kOldChunked = "io.containers.zstd-chunked.";
inline const std::string kNewChunked = "io.github.containers.zstd-chunked.";

class CountingBlob : public MemoryBlob {
 public:
  using MemoryBlob::MemoryBlob;
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override {
    ++reads;
    bytes_read += out.size();
    return MemoryBlob::ReadAt(offset, out, deadline);
  }
  int reads = 0;
  uint64_t bytes_read = 0;
};

Deadline Soon();
std::string Gzip(const std::string& bytes);
std::string Zstd(const std::string& bytes);
std::string Le64(uint64_t value);
std::string SkippableFrame(const std::string& payload);

std::string EstargzFooter(uint64_t toc_offset);
std::string LegacyFooter(uint64_t toc_offset);
std::string ExternalFooter();
// The frame with its header.
std::string OldZstdFooter(uint64_t offset, uint64_t length, uint64_t json_length,
                          uint64_t type = 1);
std::string NewZstdFooter(uint64_t offset, uint64_t length, uint64_t json_length);

// A table in a tar in a gzip member, as eStargz has it.
std::string TocMember(const std::string& json, const std::string& name = "stargz.index.json");

// A layer blob with the annotations that a manifest would give it. `data` stands before the table.
struct LayerWithToc {
  std::string blob;
  std::map<std::string, std::string> annotations;
};
LayerWithToc EstargzLayer(const std::string& json, const std::string& data = "data");
LayerWithToc ChunkedLayer(const std::string& json, const std::string& data = "data");

}  // namespace lamina::testing
