#include "index/toc_entry.h"

#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "index/tar_entry.h"
#include "index/tar_pax.h"

namespace lamina {
namespace {

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

Status SetXattrs(const TocRecord& record, TarEntry* entry) {
  for (const auto& [name, text] : record.xattrs) {
    std::optional<std::string> value = Base64Decode(text);
    if (!value) return Invalid("its xattr " + Quote(name, 80) + " is not in base64");
    entry->xattrs.emplace(name, *std::move(value));
  }
  return {};
}

// Writers leave the time out where it is the first second of 1970.
Status SetTime(const TocRecord& record, TarEntry* entry) {
  if (record.modtime.empty()) return {};
  if (!ParseRfc3339(record.modtime, &entry->mtime_s, &entry->mtime_ns))
    return Invalid("its modtime " + Quote(record.modtime, 80) + " is no time");
  return {};
}

}  // namespace

Result<TarEntry> TocEntryOf(const TocRecord& record, const TarLimits& limits) {
  TarEntry entry;
  entry.path = record.name;
  entry.link_target = record.link_name;
  ASSIGN_OR_RETURN(entry.type, EntryTypeOf(record.type));
  RETURN_IF_ERROR(CheckNames(entry, limits));
  const int64_t size = record.size.value_or(0);
  if (size < 0) return Invalid("its size is " + std::to_string(size));
  if (size > 0 && static_cast<uint64_t>(size) > limits.raw_bytes)
    return Error{Code::kLimit, "its size is " + std::to_string(size) + ", the limit is " +
                                   std::to_string(limits.raw_bytes)};
  if (entry.type == EntryType::kRegular) entry.size = static_cast<uint64_t>(size);
  // The mode is that of a tar header or of stat, by the tool: the type bits say nothing new.
  entry.mode = static_cast<uint32_t>(record.mode.value_or(0) & 07777);
  std::vector<std::string> warnings;
  entry.uid = OwnerId(record.uid.value_or(0), "uid", &warnings);
  entry.gid = OwnerId(record.gid.value_or(0), "gid", &warnings);
  RETURN_IF_ERROR(SetTime(record, &entry));
  RETURN_IF_ERROR(
      SetDevice(record.device_major.value_or(0), record.device_minor.value_or(0), &entry));
  RETURN_IF_ERROR(SetXattrs(record, &entry));
  RETURN_IF_ERROR(CheckXattrs(entry, limits));
  return entry;
}

}  // namespace lamina
