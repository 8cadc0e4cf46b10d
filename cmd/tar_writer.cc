#include "cmd/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

namespace lamina {
namespace {

mode_t FileTypeOf(EntryType type) {
  switch (type) {
    case EntryType::kRegular:
      return AE_IFREG;
    case EntryType::kDirectory:
      return AE_IFDIR;
    case EntryType::kSymlink:
      return AE_IFLNK;
    case EntryType::kCharDevice:
      return AE_IFCHR;
    case EntryType::kBlockDevice:
      return AE_IFBLK;
    case EntryType::kFifo:
      return AE_IFIFO;
    case EntryType::kSocket:
      return AE_IFSOCK;
    case EntryType::kHardlink:
      break;
  }
  return AE_IFREG;
}

struct EntryFree {
  void operator()(archive_entry* entry) const { ::archive_entry_free(entry); }
};
using EntryPtr = std::unique_ptr<archive_entry, EntryFree>;

bool IsAscii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// Is there anything but one stretch from the first byte to the last?
bool HasHoles(const TarMember& member) {
  if (member.attr.size == 0) return false;
  return member.data.size() != 1 || member.data[0].length != member.attr.size;
}

void SetData(archive_entry* entry, const TarMember& member) {
  ::archive_entry_set_size(entry, static_cast<la_int64_t>(member.attr.size));
  if (!HasHoles(member)) return;
  for (const DataStretch& stretch : member.data)
    ::archive_entry_sparse_add_entry(entry, static_cast<la_int64_t>(stretch.offset),
                                     static_cast<la_int64_t>(stretch.length));
  // A file that is one hole: the end stands for the data.
  if (member.data.empty())
    ::archive_entry_sparse_add_entry(entry, static_cast<la_int64_t>(member.attr.size), 0);
}

EntryPtr EntryOf(const TarMember& member) {
  EntryPtr entry(::archive_entry_new());
  if (entry == nullptr) return entry;
  const TreeAttr& attr = member.attr;
  ::archive_entry_set_pathname(entry.get(), member.path.c_str());
  ::archive_entry_set_mode(entry.get(), FileTypeOf(attr.type) | (attr.mode & 07777));
  ::archive_entry_set_uid(entry.get(), attr.uid);
  ::archive_entry_set_gid(entry.get(), attr.gid);
  ::archive_entry_set_mtime(entry.get(), attr.mtime_s, static_cast<long>(attr.mtime_ns));
  if (!member.hard_link.empty()) {
    ::archive_entry_set_hardlink(entry.get(), member.hard_link.c_str());
    return entry;
  }
  if (attr.type == EntryType::kSymlink)
    ::archive_entry_set_symlink(entry.get(), member.target.c_str());
  if (attr.type == EntryType::kCharDevice || attr.type == EntryType::kBlockDevice)
    ::archive_entry_set_rdev(entry.get(), ::makedev(attr.device_major, attr.device_minor));
  for (const auto& [name, value] : member.xattrs)
    ::archive_entry_xattr_add_entry(entry.get(), name.c_str(), value.data(), value.size());
  if (attr.type == EntryType::kRegular) SetData(entry.get(), member);
  return entry;
}

}  // namespace

struct TarWriter::Impl {
  explicit Impl(const ByteSink& sink) : out(sink), archive(::archive_write_new()) {}
  ~Impl() { ::archive_write_free(archive); }

  // What libarchive or the sink says of a call that gave `code`.
  Status Check(la_ssize_t code) const {
    if (!sent) return sent.error();
    if (code >= ARCHIVE_OK) return {};
    const char* reason = archive == nullptr ? nullptr : ::archive_error_string(archive);
    return Error{Code::kIo, std::string("cannot make the tar: ") +
                                (reason == nullptr ? "out of memory" : reason)};
  }

  static la_ssize_t Send(archive* archive, void* self, const void* bytes, size_t size) {
    Impl& impl = *static_cast<Impl*>(self);
    // After an error libarchive still flushes what it has.
    if (impl.sent) impl.sent = impl.out({static_cast<const uint8_t*>(bytes), size});
    if (impl.sent) return static_cast<la_ssize_t>(size);
    ::archive_set_error(archive, EIO, "%s", impl.sent.error().message.c_str());
    return -1;
  }

  const ByteSink& out;
  struct archive* archive;
  Status sent;
};

TarWriter::TarWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TarWriter::~TarWriter() = default;

Result<std::unique_ptr<TarWriter>> TarWriter::Begin(const ByteSink& out) {
  auto impl = std::make_unique<Impl>(out);
  struct archive* const archive = impl->archive;
  if (archive == nullptr) return Error{Code::kIo, "cannot make the tar: out of memory"};
  RETURN_IF_ERROR(impl->Check(::archive_write_set_format_pax(archive)));
  // As star, GNU tar and the container tools write them.
  RETURN_IF_ERROR(impl->Check(::archive_write_set_options(archive, "pax:xattrheader=SCHILY")));
  RETURN_IF_ERROR(impl->Check(::archive_write_set_bytes_per_block(archive, 1 << 18)));
  RETURN_IF_ERROR(impl->Check(::archive_write_set_bytes_in_last_block(archive, 1)));
  RETURN_IF_ERROR(impl->Check(
      ::archive_write_open2(archive, impl.get(), nullptr, Impl::Send, nullptr, nullptr)));
  return std::unique_ptr<TarWriter>(new TarWriter(std::move(impl)));
}

Status TarWriter::Add(const TarMember& member) {
  const EntryPtr entry = EntryOf(member);
  if (entry == nullptr) return Error{Code::kIo, "cannot make the tar: out of memory"};
  const int written = ::archive_write_header(impl_->archive, entry.get());
  // Names that are no UTF-8 go as they are, with a header that says so and this warning.
  if (written == ARCHIVE_WARN &&
      !(IsAscii(member.path) && IsAscii(member.target) && IsAscii(member.hard_link)))
    return impl_->sent;
  return impl_->Check(written);
}

Status TarWriter::Write(ByteSpan bytes) {
  while (!bytes.empty()) {
    const la_ssize_t put = ::archive_write_data(impl_->archive, bytes.data(), bytes.size());
    RETURN_IF_ERROR(impl_->Check(put));
    if (put == 0) return Error{Code::kInternal, "a tar member is longer than its header says"};
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status TarWriter::WriteZeros(uint64_t count) {
  static constexpr std::array<uint8_t, 1 << 16> kZeros{};
  while (count > 0) {
    const size_t part = std::min<uint64_t>(count, kZeros.size());
    RETURN_IF_ERROR(Write({kZeros.data(), part}));
    count -= part;
  }
  return {};
}

Status TarWriter::Finish() { return impl_->Check(::archive_write_close(impl_->archive)); }

}  // namespace lamina
