#include "fs/fuse_calls.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <cerrno>

#include "base/errno.h"
#include "fs/fuse_convert.h"

namespace lamina {
namespace {

// libfuse's own sign for an inode number that is not known; 0 would hide the entry from readdir(3).
constexpr ino_t kUnknownInode = 0xffffffff;

const char* AsChars(MutableByteSpan bytes) { return reinterpret_cast<const char*>(bytes.data()); }

// The protocol of getxattr and listxattr: the length first, then the bytes.
void ReplyXattr(fuse_req* request, std::string_view value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > size) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

}  // namespace

void ReplyError(fuse_req* request, const Error& error, int (*errno_of)(Code)) {
  fuse_reply_err(request, errno_of(error.code));
}

void LookupOp::Send(fuse_req* request, const Answer& answer) const {
  if (answer.attr.id == 0 && answer.entry_seconds <= 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  const fuse_entry_param entry = ToEntryParam(answer);
  asked->NoteHeld(answer.attr.id);  // before the kernel can forget it
  if (fuse_reply_entry(request, &entry) != 0) asked->NoteForgotten(answer.attr.id, 1);
}

void GetAttrOp::Send(fuse_req* request, const Answer& answer) const {
  const struct stat attr = ToStat(answer.attr);
  fuse_reply_attr(request, &attr, answer.seconds);
}

void ReadLinkOp::Send(fuse_req* request, const Answer& answer) const {
  fuse_reply_readlink(request, answer.c_str());
}

MutableByteSpan CallBuffer::span() {
  if (own_) {
    if (kept_.size() < size_) kept_.resize(size_);
    return kept_;
  }
  thread_local std::vector<uint8_t> scratch;
  if (scratch.size() < size_) scratch.resize(size_);
  return MutableByteSpan(scratch).first(size_);
}

void ReadOp::Send(fuse_req* request, const Answer& count) {
  fuse_reply_buf(request, AsChars(buffer.span()), count);
}

Attempt<size_t> ReadDirectoryOp::Fast(Namespace& tree) {
  size_t used = 0;
  Attempt<void> listed = tree.TryReadDirectory(
      node, cookie, plus, [&](const DirectoryItem& item) { return Add(item, &used); });
  if (!listed) return std::nullopt;
  if (!*listed && used == 0) return listed->error();
  return used;
}

Result<size_t> ReadDirectoryOp::Slow(Namespace& tree, const Deadline&) {
  size_t used = 0;
  Status listed = tree.ReadDirectory(node, cookie, plus,
                                     [&](const DirectoryItem& item) { return Add(item, &used); });
  // What was found before a failure goes out first; the next call meets the failure.
  if (!listed && used == 0) return listed.error();
  return used;
}

bool ReadDirectoryOp::Add(const DirectoryItem& item, size_t* used) {
  const MutableByteSpan left = buffer.span().subspan(*used);
  const std::string name(item.name);  // libfuse wants a NUL
  fuse_entry_param entry{};
  if (item.entry != nullptr) entry = ToEntryParam(*item.entry);
  entry.attr.st_ino = item.id != 0 ? item.id : kUnknownInode;
  entry.attr.st_mode |= TypeBits(item.type);
  char* out = reinterpret_cast<char*>(left.data());
  const auto next = static_cast<off_t>(item.next_cookie);
  const size_t needed =
      plus ? fuse_add_direntry_plus(nullptr, out, left.size(), name.c_str(), &entry, next)
           : fuse_add_direntry(nullptr, out, left.size(), name.c_str(), &entry.attr, next);
  if (needed > left.size()) return false;
  *used += needed;
  return true;
}

void ReadDirectoryOp::Send(fuse_req* request, const Answer& count) {
  fuse_reply_buf(request, AsChars(buffer.span()), count);
}

void SeekOp::Send(fuse_req* request, const Answer& answer) const {
  if (answer) {
    fuse_reply_lseek(request, static_cast<off_t>(*answer));
  } else {
    fuse_reply_err(request, ENXIO);
  }
}

void XattrOp::Send(fuse_req* request, const Answer& answer) const {
  if (answer) return ReplyXattr(request, *answer, size);
  fuse_reply_err(request, ENODATA);
}

void ListXattrOp::Send(fuse_req* request, const Answer& answer) const {
  ReplyXattr(request, answer, size);
}

void MakeLinkOp::Send(fuse_req* request, const Answer& answer) const {
  const fuse_entry_param entry = ToEntryParam(answer);
  fuse_reply_entry(request, &entry);
}

Result<bool> RemoveLinkOp::Slow(Namespace& tree, const Deadline&) {
  RETURN_IF_ERROR(tree.RemoveLink(node, name));
  return true;
}

void RemoveLinkOp::Send(fuse_req* request, const Answer&) const { fuse_reply_err(request, 0); }

Result<bool> RenameLinkOp::Slow(Namespace& tree, const Deadline&) {
  RETURN_IF_ERROR(tree.RenameLink(node, name, new_parent, new_name));
  return true;
}

void RenameLinkOp::Send(fuse_req* request, const Answer&) const { fuse_reply_err(request, 0); }

}  // namespace lamina
