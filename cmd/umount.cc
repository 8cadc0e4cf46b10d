// umount: takes a mount away and sees its daemon to its end.

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/errno.h"
#include "base/file.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "fs/fuse_mountpoint.h"

namespace lamina {
namespace {

// A daemon that lives answers from memory.
constexpr std::chrono::seconds kAnswerWait{10};

// In a child: writes what the daemon says of itself to `fd`; the exit code is errno.
[[noreturn]] void CopyText(const std::string& path, int fd) {
  std::array<char, 256> text;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t got = file < 0 ? -1 : ::read(file, text.data(), text.size());
  if (got < 0) ::_exit(errno);
  ::_exit(::write(fd, text.data(), static_cast<size_t>(got)) == got ? 0 : EIO);
}

bool HasEnded(pid_t child, int* status, const Deadline& deadline) {
  for (;;) {
    if (::waitpid(child, status, WNOHANG) != 0) return true;
    if (deadline.passed()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

// The process that serves a mount; nullopt where it is dead. A daemon that hangs must not hang who
// takes its mount away, so a child asks, which can be left.
Result<std::optional<ProcessId>> DaemonOf(const std::string& mountpoint, const Deadline& deadline) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  const UniqueFd read(ends[0]);
  UniqueFd write(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return ErrnoError(errno, "cannot start a process");
  if (child == 0) CopyText(mountpoint + "/.lamina/process", write.get());
  write.reset();
  int status = 0;
  if (!HasEnded(child, &status, deadline)) {
    ::kill(child, SIGKILL);
    (void)HasEnded(child, &status, Deadline::After(std::chrono::seconds(1)));
    return Error{Code::kTimeout, "it does not answer"};
  }
  const int err = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
  if (err == ENOTCONN || err == ECONNABORTED) return std::optional<ProcessId>();
  if (err != 0) return ErrnoError(err, "it cannot be asked for its process");
  std::array<char, 256> text;
  const ssize_t got = ::read(read.get(), text.data(), text.size());
  std::string_view line(text.data(), static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (line.ends_with('\n')) line.remove_suffix(1);
  ASSIGN_OR_RETURN(const ProcessId process, ProcessId::Parse(line));
  return std::optional<ProcessId>(process);
}

// The watch over the daemon of a mount; nullopt where it is dead.
Result<std::optional<ProcessWatch>> WatchDaemon(const std::string& mountpoint,
                                                const Deadline& deadline) {
  ASSIGN_OR_RETURN(const auto process, DaemonOf(mountpoint, deadline));
  if (!process) return std::optional<ProcessWatch>();
  ASSIGN_OR_RETURN(ProcessWatch watch, ProcessWatch::Open(*process));
  return std::optional<ProcessWatch>(std::move(watch));
}

Status Umount(const UmountCommand& command) {
  ASSIGN_OR_RETURN(const std::string mountpoint, FindLamina(command.mountpoint));
  if (command.lazy) return UnmountLamina(mountpoint, true);
  const std::chrono::seconds wait{command.wait_seconds};
  // Before the unmount: afterwards nobody tells which process it was.
  const auto daemon = WatchDaemon(mountpoint, Deadline::After(std::min(wait, kAnswerWait)));
  RETURN_IF_ERROR(UnmountLamina(mountpoint, false));
  if (!daemon)
    return daemon.error().Within(
        fmt::format("{} is unmounted, but whether its daemon has ended is not known", mountpoint));
  if (!daemon->has_value()) return {};
  ASSIGN_OR_RETURN(const bool ended, (*daemon)->WaitForEnd(Deadline::After(wait)));
  if (ended) return {};
  return Error{Code::kTimeout,
               fmt::format("{} is unmounted, but its daemon has not ended within {} s; see "
                           "lamina.log in its store",
                           mountpoint, command.wait_seconds)};
}

}  // namespace

int RunUmount(const UmountCommand& command) {
  const Status done = Umount(command);
  return done ? 0 : Fail(done.error());
}

}  // namespace lamina
