#pragma once

// From an entry of a zTOC to a TarEntry, and whether the entries follow each other as those of a
// tar do. For index/ztoc.cc. One thread.

#include <cstdint>

#include "base/result.h"
#include "index/tar.h"

namespace lamina {

namespace soci {
struct File;
}

class ZtocEntryReader {
 public:
  // `tar_size`: the tar ends there, with its end mark.
  explicit ZtocEntryReader(uint64_t tar_size) : tar_size_(tar_size) {}

  // Fills all of `*entry` for the next entry in the order of the tar. `entry->path` is set even on
  // an error, whose message has the reason only.
  Status Read(const soci::File& file, TarEntry* entry);
  // Of the entry that was read last: where its data begin.
  uint64_t payload_offset() const { return payload_offset_; }

 private:
  Status TakeText(const soci::File& file);
  Status PlacePayload(const soci::File& file, TarEntry* entry);

  const uint64_t tar_size_;
  uint64_t next_header_ = 0;
  uint64_t payload_offset_ = 0;
  uint64_t text_ = 0;  // bytes of names, targets and records so far
};

}  // namespace lamina
