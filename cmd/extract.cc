#include "cmd/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kBlockBytes = 1 << 18;
constexpr size_t kMostProblems = 20;
// UNLINK: what is in the way is replaced, a symbolic link on the way to a member included.
constexpr int kFlags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR |
                       ARCHIVE_EXTRACT_UNLINK | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                       ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;

struct ReadFree {
  void operator()(archive* archive) const { ::archive_read_free(archive); }
};
struct WriteFree {
  void operator()(archive* archive) const { ::archive_write_free(archive); }
};

std::string ReasonOf(archive* archive) {
  const char* const text = ::archive_error_string(archive);
  std::string reason = text == nullptr ? "it failed" : text;
  const int err = ::archive_errno(archive);
  if (err > 0 && reason.find(std::strerror(err)) == std::string::npos)
    reason += std::string(": ") + std::strerror(err);
  return reason;
}

class Extractor {
 public:
  explicit Extractor(int fd)
      : fd_(fd), in_(::archive_read_new()), out_(::archive_write_disk_new()) {}

  Result<ExtractReport> Run() {
    RETURN_IF_ERROR(Open());
    for (;;) {
      archive_entry* member = nullptr;
      const int code = ::archive_read_next_header(in_.get(), &member);
      if (code == ARCHIVE_EOF) break;
      if (code < ARCHIVE_WARN) return Broken();
      ++report_.members;
      RETURN_IF_ERROR(Extract(member));
    }
    // Modes and times of directories come last.
    if (::archive_write_close(out_.get()) != ARCHIVE_OK) Note(".", ReasonOf(out_.get()));
    return std::move(report_);
  }

 private:
  Status Open() {
    const int owner = ::geteuid() == 0 ? ARCHIVE_EXTRACT_OWNER : 0;
    if (in_ == nullptr || out_ == nullptr) return Error{Code::kIo, "out of memory"};
    if (::archive_read_support_format_tar(in_.get()) != ARCHIVE_OK ||
        ::archive_read_open_fd(in_.get(), fd_, kBlockBytes) != ARCHIVE_OK)
      return Broken();
    if (::archive_write_disk_set_options(out_.get(), kFlags | owner) != ARCHIVE_OK)
      return Error{Code::kIo, ReasonOf(out_.get())};
    return {};
  }

  Error Broken() const { return Error{Code::kIo, "the copy broke off: " + ReasonOf(in_.get())}; }

  Status Extract(archive_entry* member) {
    const char* const name = ::archive_entry_pathname(member);
    if (name == nullptr) return Error{Code::kIo, "a member's name cannot be had in this locale"};
    const std::string path = name;
    const int made = ::archive_write_header(out_.get(), member);
    if (made != ARCHIVE_OK) Note(path, ReasonOf(out_.get()));
    if (made == ARCHIVE_FATAL) return Error{Code::kIo, Quote(path) + ": " + ReasonOf(out_.get())};
    if (made < ARCHIVE_WARN) return {};
    if (::archive_entry_size(member) > 0) RETURN_IF_ERROR(CopyData(path));
    if (::archive_write_finish_entry(out_.get()) != ARCHIVE_OK) Note(path, ReasonOf(out_.get()));
    return {};
  }

  Status CopyData(const std::string& path) {
    for (;;) {
      const void* block = nullptr;
      size_t size = 0;
      la_int64_t offset = 0;
      const int read = ::archive_read_data_block(in_.get(), &block, &size, &offset);
      if (read == ARCHIVE_EOF) return {};
      if (read < ARCHIVE_WARN) return Broken();
      if (::archive_write_data_block(out_.get(), block, size, offset) >= ARCHIVE_WARN) continue;
      return Error{Code::kIo, Quote(path) + ": " + ReasonOf(out_.get())};
    }
  }

  void Note(const std::string& path, const std::string& reason) {
    if (++report_.problem_count <= kMostProblems)
      report_.problems.push_back(Quote(path) + ": " + reason);
  }

  const int fd_;
  const std::unique_ptr<archive, ReadFree> in_;
  const std::unique_ptr<archive, WriteFree> out_;
  ExtractReport report_;
};

}  // namespace

Result<ExtractReport> ExtractTar(int fd) { return Extractor(fd).Run(); }

}  // namespace lamina
