#pragma once

// TocJson: reads the JSON of a table of contents as a stream and hands out its records one by one,
// as they stand there; what they mean is toc_entry's and toc_files' matter. eStargz and
// containers/storage write different members of the same form, so one reader knows both. Memory
// holds one record. No exception leaves; what two readers could understand differently is refused,
// as everywhere: a member twice in an object, one that differs from a known one only in case. Pure
// functions and values; any thread.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

// Absent texts are empty; a member that is null counts as absent, as in Go.
struct TocRecord {
  std::string type;  // dir, reg, symlink, hardlink, char, block, fifo, chunk
  std::string name;
  std::string link_name;
  std::string modtime;  // RFC 3339
  std::string digest;   // of the whole file
  std::string chunk_digest;
  std::string chunk_type;  // "" or "zeros"; of containers/storage
  std::optional<int64_t> size;
  std::optional<int64_t> mode;
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::optional<int64_t> device_major;
  std::optional<int64_t> device_minor;
  std::optional<int64_t> offset;        // in the blob
  std::optional<int64_t> end_offset;    // in the blob; of containers/storage
  std::optional<int64_t> inner_offset;  // in the decoded bytes of what starts there; of eStargz
  std::optional<int64_t> chunk_offset;  // in the file
  std::optional<int64_t> chunk_size;
  std::map<std::string, std::string> xattrs;  // values in base64
};

// The next bytes of the JSON; empty at its end.
using JsonPieces = std::function<Result<ByteSpan>()>;
// An error ends the reading and is what ReadTocJson() returns.
using TocRecordSink = std::function<Status(TocRecord record)>;

// kInvalid where the bytes are no table of contents of version 1, kLimit where they nest deeper
// than 64 or a single value is above 2 MiB. Records that were handed out count only once this has
// returned without an error.
Status ReadTocJson(const JsonPieces& pieces, const TocRecordSink& sink);

}  // namespace lamina
