#include "index/ztoc_entry.h"

#include <fmt/format.h>
#include <ztoc_generated.h>

#include <string_view>
#include <utility>

#include "base/text.h"
#include "index/tar_entry.h"
#include "index/tar_pax.h"

namespace lamina {
namespace {

constexpr uint64_t kBlock = 512;
// Entries of a flatbuffer may share their texts, so these are no smaller than what they can come
// to.
constexpr uint64_t kMaxText = 1u << 30;

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

std::string_view TextOf(const flatbuffers::String* text) {
  return text == nullptr ? std::string_view() : text->string_view();
}

// A zTOC keeps all PAX records, also those that the other fields follow from.
Status SetRecords(const soci::File& file, TarEntry* entry) {
  if (file.records() == nullptr) return {};
  PaxHeader pax;
  for (const soci::Record* record : *file.records()) {
    const std::string_view key = TextOf(record->key());
    if (key.starts_with("GNU.sparse."))
      return Error{
          Code::kUnsupported,
          "it is a sparse file, and a zTOC does not say where the data of such a file lie"};
    if (key.find('\0') != std::string_view::npos) return Invalid("it has a record with a NUL byte");
    pax.records[std::string(key)] = TextOf(record->value());
  }
  std::vector<std::string> warnings;  // the same as those of the tar, which is read some day
  SetXattrs(pax, entry, &warnings);
  return CheckXattrs(*entry, TarLimits());
}

}  // namespace

Status ZtocEntryReader::TakeText(const soci::File& file) {
  text_ += TextOf(file.name()).size() + TextOf(file.link_name()).size();
  if (file.records() != nullptr)
    for (const soci::Record* record : *file.records())
      text_ += TextOf(record->key()).size() + TextOf(record->value()).size();
  if (text_ <= kMaxText) return {};
  return Error{Code::kLimit, "the names and records come to more than " + HumanSize(kMaxText)};
}

Status ZtocEntryReader::PlacePayload(const soci::File& file, TarEntry* entry) {
  const int64_t offset = file.payload_offset();
  const int64_t size = file.size();
  const bool regular = entry->type == EntryType::kRegular;
  if (offset < 0 || size < 0 || static_cast<uint64_t>(offset) > tar_size_ ||
      (regular && static_cast<uint64_t>(size) > tar_size_ - static_cast<uint64_t>(offset)))
    return Invalid(
        fmt::format("its {} bytes at byte {} lie outside the tar of {}", size, offset, tar_size_));
  payload_offset_ = static_cast<uint64_t>(offset);
  if (payload_offset_ % kBlock != 0 || payload_offset_ < next_header_ + kBlock)
    return Invalid(fmt::format("its data at byte {} leave no room for its header at byte {}",
                               offset, next_header_));
  entry->size = regular ? static_cast<uint64_t>(size) : 0;
  entry->header_offset = next_header_;
  next_header_ = AlignUp(payload_offset_ + entry->size, kBlock);
  return {};
}

Status ZtocEntryReader::Read(const soci::File& file, TarEntry* entry) {
  *entry = TarEntry();
  entry->path = TextOf(file.name()).substr(0, TarLimits().path + 1);
  RETURN_IF_ERROR(TakeText(file));
  ASSIGN_OR_RETURN(entry->type, EntryTypeOf(TextOf(file.type())));
  if (entry->type == EntryType::kSymlink || entry->type == EntryType::kHardlink)
    entry->link_target = TextOf(file.link_name()).substr(0, TarLimits().path + 1);
  RETURN_IF_ERROR(CheckNames(*entry, TarLimits()));
  RETURN_IF_ERROR(SetRecords(file, entry));  // first, since the size of a sparse file says little
  RETURN_IF_ERROR(PlacePayload(file, entry));
  std::vector<std::string> warnings;  // as in SetRecords()
  entry->mode = static_cast<uint32_t>(file.mode() & 07777);
  entry->uid = OwnerId(file.uid(), "uid", &warnings);
  entry->gid = OwnerId(file.gid(), "gid", &warnings);
  if (!ParseRfc3339(TextOf(file.mod_time()), &entry->mtime_s, &entry->mtime_ns))
    return Invalid("its time " + Quote(TextOf(file.mod_time()), 60) + " is none");
  return SetDevice(file.device_major(), file.device_minor(), entry);
}

}  // namespace lamina
