#include "base/process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/errno.h"
#include "base/file.h"
#include "base/text.h"

namespace lamina {
namespace {

template <typename T>
bool ParseNumber(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<ProcessId> ProcessId::Of(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/stat", pid);
  ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(path, O_RDONLY));
  std::array<char, 4096> text;
  const ssize_t got = ::read(file.get(), text.data(), text.size());
  if (got < 0)  // ESRCH where it ended after the open
    return Error{errno == ESRCH ? Code::kNotFound : Code::kIo, "cannot read " + path};
  // The second field, the program's name in brackets, may hold anything; numbers follow it.
  const std::string_view all(text.data(), static_cast<size_t>(got));
  const size_t bracket = all.rfind(')');
  const auto fields = Split(
      bracket == std::string_view::npos ? "" : all.substr(std::min(bracket + 2, all.size())), ' ');
  constexpr size_t kStartTime = 22 - 3;  // proc(5) counts from one, and the third is the first here
  ProcessId found{.pid = pid};
  if (fields.size() <= kStartTime || !ParseNumber(fields[kStartTime], &found.start_ticks))
    return Error{Code::kUnsupported, path + " is not as proc(5) says"};
  return found;
}

Result<ProcessId> ProcessId::Self() { return Of(::getpid()); }

Result<ProcessId> ProcessId::Parse(std::string_view text) {
  const auto words = Split(text, ' ');
  ProcessId process;
  if (words.size() != 2 || !ParseNumber(words[0], &process.pid) || process.pid <= 0 ||
      !ParseNumber(words[1], &process.start_ticks))
    return Error{Code::kInvalid, Quote(text) + " names no process"};
  return process;
}

std::string ProcessId::ToString() const { return fmt::format("{} {}", pid, start_ticks); }

Result<ProcessWatch> ProcessWatch::Open(const ProcessId& process) {
  // glibc has a wrapper from 2.36 on, which not every C library with C++20 has.
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (!fd.valid())
    return errno == ESRCH ? Error{Code::kNotFound, "it has ended"}
                          : ErrnoError(errno, fmt::format("cannot watch process {}", process.pid));
  // From here on the number cannot be given again unnoticed: what is compared is what is watched.
  ASSIGN_OR_RETURN(const ProcessId found, ProcessId::Of(process.pid));
  if (found != process)
    return Error{Code::kNotFound, fmt::format("process {} is another one", process.pid)};
  return ProcessWatch(std::move(fd));
}

Result<bool> ProcessWatch::WaitForEnd(const Deadline& deadline) const {
  for (;;) {
    pollfd poll{fd_.get(), POLLIN, 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(deadline.remaining().count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return ErrnoError(errno, "cannot wait for a process");
    if (deadline.passed()) return false;
  }
}

}  // namespace lamina
