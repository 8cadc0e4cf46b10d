#include "index/tar_entry.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "base/text.h"

namespace lamina {
namespace {

constexpr uint32_t kNobody = 65534;
constexpr std::string_view kSchilyXattr = "SCHILY.xattr.";
constexpr std::string_view kLibarchiveXattr = "LIBARCHIVE.xattr.";
constexpr int64_t kMaxMajor = 0xFFF;
constexpr int64_t kMaxMinor = 0xFFFFF;

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

Result<EntryType> TypeOf(char type, std::string_view path) {
  switch (type) {
    case '\0':  // v7 had no type for directories
      return path.ends_with('/') ? EntryType::kDirectory : EntryType::kRegular;
    case '0':
    case '7':
    case 'S':
      return EntryType::kRegular;
    case '1':
      return EntryType::kHardlink;
    case '2':
      return EntryType::kSymlink;
    case '3':
      return EntryType::kCharDevice;
    case '4':
      return EntryType::kBlockDevice;
    case '5':
      return EntryType::kDirectory;
    case '6':
      return EntryType::kFifo;
    case 'D':
      return Invalid("it has the type 'D' (GNU incremental directory), which no image may have");
    case 'M':
      return Invalid(
          "it has the type 'M' (continued from another volume), which no image may have");
    case 'N':
      return Invalid("it has the type 'N' (old GNU long name), which no image may have");
    case 'V':
      return Invalid("it has the type 'V' (GNU volume label), which no image may have");
    default:
      return Invalid("it has the unknown type " + Quote({&type, 1}));
  }
}

Status CheckPath(std::string_view path, const char* what, const TarLimits& limits) {
  if (path.size() > limits.path)
    return Error{Code::kLimit, std::string(what) + " has " + std::to_string(path.size()) +
                                   " bytes, the limit is " + std::to_string(limits.path)};
  if (path.find('\0') != std::string_view::npos)
    return Invalid(std::string(what) + " has a NUL byte in it");
  return {};
}

Status CheckComponents(std::string_view path, const char* what, const TarLimits& limits) {
  for (size_t start = 0; start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    if (end - start > limits.component)
      return Error{Code::kLimit, std::string(what) + " has a component of " +
                                     std::to_string(end - start) + " bytes, the limit is " +
                                     std::to_string(limits.component)};
    start = end + 1;
  }
  return {};
}

// The value of a numeric PAX record in place of the header's, where there is one.
Status Override(const PaxHeader& pax, const char* key, bool clamped, int64_t* value) {
  const std::string* text = pax.Find(key);
  if (text == nullptr) return {};
  const TarNumber number = ParseDecimal(*text);
  if (!number.valid || (number.overflow && !clamped))
    return Invalid(std::string("its PAX ") + key + " " + Quote(*text, 40) + " is no number");
  *value = number.value;
  return {};
}

Status SetTimes(const TarHeader& header, const PaxHeader& pax, TarEntry* entry) {
  entry->mtime_s = header.mtime;
  // Only mtime is shown, but the others have to be times, as everywhere.
  for (const std::string_view key : {"atime", "ctime", "mtime"}) {
    const std::string* text = pax.Find(key);
    if (text == nullptr) continue;
    const std::optional<PaxTime> time = ParsePaxTime(*text);
    if (!time.has_value())
      return Invalid("its PAX " + std::string(key) + " " + Quote(*text, 40) + " is no time");
    if (key != "mtime") continue;
    entry->mtime_s = time->seconds;
    entry->mtime_ns = time->nanoseconds;
  }
  return {};
}

void AddLibarchiveXattr(std::string_view name, const std::string& value, TarEntry* entry,
                        std::vector<std::string>* warnings) {
  const std::optional<std::string> plain_name = PercentDecode(name);
  const std::optional<std::string> plain_value = Base64Decode(value);
  if (plain_name.has_value() && plain_value.has_value())
    entry->xattrs.emplace(*plain_name, *plain_value);  // SCHILY.xattr. wins where both are there
  else
    warnings->push_back("the xattr record " + Quote(name, 40) + " cannot be decoded, ignored");
}

}  // namespace

void SetXattrs(const PaxHeader& pax, TarEntry* entry, std::vector<std::string>* warnings) {
  for (const auto& [key, value] : pax.records)
    if (key.starts_with(kSchilyXattr)) entry->xattrs[key.substr(kSchilyXattr.size())] = value;
  for (const auto& [key, value] : pax.records)
    if (key.starts_with(kLibarchiveXattr))
      AddLibarchiveXattr(std::string_view(key).substr(kLibarchiveXattr.size()), value, entry,
                         warnings);
}

namespace {

SparseForm PaxSparseForm(const PaxHeader& pax, std::vector<std::string>* warnings) {
  const auto value = [&](const char* key) {
    const std::string* text = pax.Find(key);
    return text == nullptr ? std::string() : *text;
  };
  const std::string major = value("GNU.sparse.major");
  const std::string minor = value("GNU.sparse.minor");
  if (major == "0" && (minor == "0" || minor == "1")) return SparseForm::kPaxRecords;
  if (major == "1" && minor == "0") return SparseForm::kPaxInData;
  if (!major.empty() || !minor.empty()) {
    warnings->push_back("its GNU sparse format " + Quote(major + "." + minor, 40) +
                        " is unknown, taken as a plain file");
    return SparseForm::kNone;
  }
  if (!pax.sparse_pairs.empty() || pax.Find("GNU.sparse.map") != nullptr)
    return SparseForm::kPaxRecords;
  return SparseForm::kNone;
}

Result<SparseForm> SparseFormOf(const TarHeader& header, const PaxHeader& pax,
                                std::vector<std::string>* warnings) {
  if (header.type == 'S') {
    if (header.format != TarFormat::kGnu)
      return Invalid("it is a sparse file in a format other than GNU's");
    return SparseForm::kOldGnu;
  }
  return PaxSparseForm(pax, warnings);
}

// The name and the real size that PAX sparse records give.
Status ApplyPaxSparse(const PaxHeader& pax, TarEntry* entry) {
  if (const std::string* name = pax.Find("GNU.sparse.name"); name != nullptr) entry->path = *name;
  auto size = static_cast<int64_t>(entry->size);
  const char* key =
      pax.Find("GNU.sparse.size") != nullptr ? "GNU.sparse.size" : "GNU.sparse.realsize";
  RETURN_IF_ERROR(Override(pax, key, /*clamped=*/false, &size));
  if (size < 0) return Invalid("its size is " + std::to_string(size));
  entry->size = static_cast<uint64_t>(size);
  return {};
}

void SetNames(const TarHeader& header, const PendingHeaders& pending, TarEntry* entry) {
  const auto choose = [&](const std::string& plain, const char* key, const std::string& gnu) {
    if (!gnu.empty()) return gnu;
    const std::string* pax = pending.pax.Find(key);
    return pax != nullptr ? *pax : plain;
  };
  entry->path = choose(header.name, "path", pending.gnu_name);
  entry->link_target = choose(header.link_name, "linkpath", pending.gnu_link);
}

Status SetOwners(const TarHeader& header, const PaxHeader& pax, TarEntry* entry,
                 std::vector<std::string>* warnings) {
  int64_t uid = header.uid;
  int64_t gid = header.gid;
  RETURN_IF_ERROR(Override(pax, "uid", /*clamped=*/true, &uid));
  RETURN_IF_ERROR(Override(pax, "gid", /*clamped=*/true, &gid));
  entry->uid = OwnerId(uid, "uid", warnings);
  entry->gid = OwnerId(gid, "gid", warnings);
  return {};
}

Result<uint64_t> StoredSize(const TarHeader& header, const PaxHeader& pax, EntryType type) {
  int64_t size = header.size;
  RETURN_IF_ERROR(Override(pax, "size", /*clamped=*/false, &size));
  if (size < 0) return Invalid("its size is " + std::to_string(size));
  if (size > 0 && type != EntryType::kRegular)
    return Invalid("it is no regular file and carries " + std::to_string(size) + " bytes of data");
  return static_cast<uint64_t>(size);
}

}  // namespace

uint32_t OwnerId(int64_t id, const char* what, std::vector<std::string>* warnings) {
  if (id >= 0 && id < std::numeric_limits<uint32_t>::max()) return static_cast<uint32_t>(id);
  warnings->push_back(std::string(what) + " " + std::to_string(id) +
                      " is out of range, taken as 65534");
  return kNobody;
}

Status SetDevice(int64_t major, int64_t minor, TarEntry* entry) {
  if (entry->type != EntryType::kCharDevice && entry->type != EntryType::kBlockDevice) return {};
  if (major < 0 || major > kMaxMajor || minor < 0 || minor > kMaxMinor)
    return Invalid("its device number " + std::to_string(major) + ":" + std::to_string(minor) +
                   " does not exist on Linux");
  entry->device_major = static_cast<uint32_t>(major);
  entry->device_minor = static_cast<uint32_t>(minor);
  return {};
}

Status CheckNames(const TarEntry& entry, const TarLimits& limits) {
  RETURN_IF_ERROR(CheckPath(entry.path, "its path", limits));
  RETURN_IF_ERROR(CheckComponents(entry.path, "its path", limits));
  if (entry.type == EntryType::kSymlink) return CheckPath(entry.link_target, "its target", limits);
  if (entry.type != EntryType::kHardlink) return {};
  RETURN_IF_ERROR(CheckPath(entry.link_target, "its target", limits));
  return CheckComponents(entry.link_target, "its target", limits);
}

Status CheckXattrs(const TarEntry& entry, const TarLimits& limits) {
  uint64_t total = 0;
  for (const auto& [name, value] : entry.xattrs) {
    total += name.size() + value.size();
    if (value.size() > limits.xattr_value)
      return Error{Code::kLimit, "its xattr " + Quote(name, 80) + " has " +
                                     std::to_string(value.size()) + " bytes, the limit is " +
                                     std::to_string(limits.xattr_value)};
  }
  if (total > limits.xattrs_per_file)
    return Error{Code::kLimit, "its xattrs have " + std::to_string(total) +
                                   " bytes, the limit is " +
                                   std::to_string(limits.xattrs_per_file)};
  return {};
}

Result<EntryPlan> PlanEntry(const TarHeader& header, const PendingHeaders& pending,
                            const TarLimits& limits, std::vector<std::string>* warnings,
                            TarEntry* entry) {
  *entry = TarEntry();
  entry->header_offset = pending.first_offset.value_or(0);
  SetNames(header, pending, entry);
  ASSIGN_OR_RETURN(entry->type, TypeOf(header.type, entry->path));
  EntryPlan plan;
  ASSIGN_OR_RETURN(plan.sparse, SparseFormOf(header, pending.pax, warnings));
  ASSIGN_OR_RETURN(plan.stored_size, StoredSize(header, pending.pax, entry->type));
  entry->size = plan.stored_size;
  entry->sparse = plan.sparse != SparseForm::kNone;
  if (entry->sparse && entry->type != EntryType::kRegular)
    return Invalid("it is no regular file and has a sparse map");
  if (entry->sparse && plan.sparse != SparseForm::kOldGnu)
    RETURN_IF_ERROR(ApplyPaxSparse(pending.pax, entry));
  RETURN_IF_ERROR(CheckNames(*entry, limits));
  entry->mode = static_cast<uint32_t>(header.mode & 07777);
  RETURN_IF_ERROR(SetOwners(header, pending.pax, entry, warnings));
  RETURN_IF_ERROR(SetTimes(header, pending.pax, entry));
  RETURN_IF_ERROR(SetDevice(header.device_major, header.device_minor, entry));
  SetXattrs(pending.pax, entry, warnings);
  RETURN_IF_ERROR(CheckXattrs(*entry, limits));
  return plan;
}

Result<EntryType> EntryTypeOf(std::string_view type) {
  static constexpr std::array<std::pair<std::string_view, EntryType>, 7> kTypes = {{
      {"dir", EntryType::kDirectory},
      {"reg", EntryType::kRegular},
      {"symlink", EntryType::kSymlink},
      {"hardlink", EntryType::kHardlink},
      {"char", EntryType::kCharDevice},
      {"block", EntryType::kBlockDevice},
      {"fifo", EntryType::kFifo},
  }};
  for (const auto& [name, value] : kTypes)
    if (type == name) return value;
  return Invalid("it has the unknown type " + Quote(type, 40));
}

}  // namespace lamina
