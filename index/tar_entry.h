#pragma once

// From a header block and the extended headers in front of it to a TarEntry: which of them wins,
// what is refused. The order is that of Go's archive/tar. Pure functions and values; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/tar.h"
#include "index/tar_header.h"
#include "index/tar_pax.h"

namespace lamina {

// What stands in front of an entry's own header.
struct PendingHeaders {
  PaxHeader pax;                         // of the last PAX header
  std::string gnu_name;                  // of 'L'; empty: none
  std::string gnu_link;                  // of 'K'
  std::optional<uint64_t> first_offset;  // of the first of these headers, or of the entry's own
};

enum class SparseForm { kNone, kOldGnu, kPaxRecords, kPaxInData };

struct EntryPlan {
  SparseForm sparse = SparseForm::kNone;
  uint64_t stored_size = 0;  // bytes behind the header: data, and the map of PAX sparse 1.0
};

// Fills all of `*entry` but the sparse regions (and the real size of an old GNU sparse file, which
// its block has). `entry->path` is set even on an error, whose message has the reason only.
Result<EntryPlan> PlanEntry(const TarHeader& header, const PendingHeaders& pending,
                            const TarLimits& limits, std::vector<std::string>* warnings,
                            TarEntry* entry);

// What holds for an entry wherever it was read, for whoever reads entries elsewhere.

// uid and gid beyond 32 bits, and the one that means "no change" to chown(2), belong to nobody.
uint32_t OwnerId(int64_t id, const char* what, std::vector<std::string>* warnings);
// Of a device; nothing for other types.
Status SetDevice(int64_t major, int64_t minor, TarEntry* entry);
// By the name that tables of contents give a type ("reg", "symlink"); kInvalid for others.
Result<EntryType> EntryTypeOf(std::string_view type);
Status CheckNames(const TarEntry& entry, const TarLimits& limits);
// Those among the records, decoded; CheckXattrs() bounds them.
void SetXattrs(const PaxHeader& pax, TarEntry* entry, std::vector<std::string>* warnings);
Status CheckXattrs(const TarEntry& entry, const TarLimits& limits);

}  // namespace lamina
