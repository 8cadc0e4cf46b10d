#include "fetch/archive_files.h"

#include <vector>

#include "base/clock.h"
#include "base/text.h"

namespace lamina {
namespace {

// As many as the kernel follows on a path.
constexpr int kMostLinks = 40;
constexpr std::chrono::minutes kReadBound(2);

std::string Joined(const std::vector<std::string_view>& components) {
  std::string out;
  for (const std::string_view component : components) {
    if (!out.empty()) out += '/';
    out += component;
  }
  return out;
}

std::string FolderOf(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? "" : name.substr(0, slash + 1);
}

}  // namespace

std::optional<std::string> CleanMemberName(std::string_view name) {
  std::vector<std::string_view> kept;
  for (const std::string_view component : Split(name, '/')) {
    if (component.empty() || component == ".") continue;
    if (component != "..") {
      kept.push_back(component);
      continue;
    }
    if (kept.empty()) return std::nullopt;
    kept.pop_back();
  }
  if (kept.empty()) return std::nullopt;
  return Joined(kept);
}

// No archive is another thing than no member.
Error ArchiveFiles::Away(Error error) const {
  if (error.code != Code::kNotFound) return error;
  return Error{Code::kUnavailable, origin_ + " is away: there is no such file"};
}

Result<ArchiveFiles::OpenedPtr> ArchiveFiles::OpenNow() {
  auto opened = std::make_shared<Opened>();
  auto identity = IdentifyFile(path_, /*follow=*/true);
  if (!identity) return Away(std::move(identity).error());
  opened->identity = *identity;
  // Judged before the reading: a change after this moment gives another identity.
  opened->settled = IsSettled(opened->identity);
  auto archive = opener_(path_, opened->identity);
  if (!archive) return std::move(archive).error().Within(origin_);
  opened->archive = *std::move(archive);
  for (const ArchiveMember& member : opened->archive->members())
    if (auto name = CleanMemberName(member.path))
      opened->by_name.insert_or_assign(*std::move(name), &member);
  return OpenedPtr(std::move(opened));
}

Result<ArchiveFiles::OpenedPtr> ArchiveFiles::Current() {
  const auto known = [this]() -> Result<OpenedPtr> {
    OpenedPtr opened;
    {
      const MutexLock lock(mutex_);
      opened = opened_;
    }
    if (opened == nullptr) return OpenedPtr();
    const auto now = IdentifyFile(path_, /*follow=*/true);
    if (!now) return Away(now.error());
    return *now == opened->identity ? opened : OpenedPtr();
  };
  ASSIGN_OR_RETURN(OpenedPtr current, known());
  if (current != nullptr) return current;
  return opening_.Do(0, [&]() -> Result<OpenedPtr> {
    ASSIGN_OR_RETURN(OpenedPtr opened, known());
    if (opened != nullptr) return opened;
    ASSIGN_OR_RETURN(opened, OpenNow());
    const MutexLock lock(mutex_);
    opened_ = opened;
    return opened;
  });
}

Result<FileIdentity> ArchiveFiles::Identify(const std::string& /*name*/) {
  auto identity = IdentifyFile(path_, /*follow=*/true);
  if (!identity) return Away(std::move(identity).error());
  return identity;
}

void ArchiveFiles::Refresh() {
  const MutexLock lock(mutex_);
  if (opened_ != nullptr && !opened_->settled) opened_ = nullptr;
}

Result<ArchiveFiles::Found> ArchiveFiles::Resolve(const std::string& name) {
  ASSIGN_OR_RETURN(const OpenedPtr opened, Current());
  std::optional<std::string> at = CleanMemberName(name);
  for (int followed = 0; followed <= kMostLinks; ++followed) {
    if (!at)
      return Error{Code::kInvalid,
                   origin_ + ": the member " + Quote(name) + " leads out of the archive"};
    const auto found = opened->by_name.find(*at);
    if (found == opened->by_name.end())
      return Error{Code::kNotFound,
                   origin_ + " has no member " + Quote(*at) +
                       (followed > 0 ? ", to which " + Quote(name) + " leads" : "")};
    const ArchiveMember* member = found->second;
    switch (member->kind) {
      case ArchiveMember::Kind::kFile:
        return Found{opened, member};
      case ArchiveMember::Kind::kHardlink:
        at = CleanMemberName(member->target);
        break;
      case ArchiveMember::Kind::kSymlink:
        at = CleanMemberName(member->target.starts_with('/') ? member->target
                                                             : FolderOf(*at) + member->target);
        break;
    }
  }
  return Error{Code::kInvalid, origin_ + ": the member " + Quote(name) + " leads over more than " +
                                   std::to_string(kMostLinks) + " links, or in a circle"};
}

Result<ArchiveFiles::Found> ArchiveFiles::ResolveFile(const std::string& name) {
  ASSIGN_OR_RETURN(const Found found, Resolve(name));
  if (found.member->sparse)
    return Error{Code::kUnsupported,
                 origin_ + ": the member " + Quote(name) +
                     " is stored as a sparse file, which cannot be read in place; write the "
                     "archive without tar's --sparse"};
  return found;
}

Result<std::string> ArchiveFiles::Read(const std::string& name, uint64_t limit) {
  ASSIGN_OR_RETURN(const Found found, ResolveFile(name));
  if (found.member->size > limit)
    return Error{Code::kLimit, NameOf(name) + " has " + std::to_string(found.member->size) +
                                   " bytes, more than the limit of " + std::to_string(limit)};
  ASSIGN_OR_RETURN(const auto blob, found.opened->archive->Open(*found.member));
  std::string content(found.member->size, '\0');
  RETURN_IF_ERROR(blob->ReadAt(0, {reinterpret_cast<uint8_t*>(content.data()), content.size()},
                               Deadline::After(kReadBound)));
  return content;
}

Result<std::shared_ptr<BlobSource>> ArchiveFiles::Open(const std::string& name,
                                                       std::optional<uint64_t> size) {
  ASSIGN_OR_RETURN(const Found found, ResolveFile(name));
  if (size && *size != found.member->size)
    return Error{Code::kCorrupt, NameOf(name) + " has " + std::to_string(found.member->size) +
                                     " bytes instead of " + std::to_string(*size)};
  return found.opened->archive->Open(*found.member);
}

Result<uint64_t> ArchiveFiles::SizeOf(const std::string& name) {
  ASSIGN_OR_RETURN(const Found found, ResolveFile(name));
  return found.member->size;
}

bool ArchiveFiles::Has(const std::string& name) { return ResolveFile(name).has_value(); }

}  // namespace lamina
