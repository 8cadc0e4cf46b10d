#include "cmd/helper_process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/errno.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace lamina {
namespace {

// A file in memory, so that a helper that does not read it is nobody's trouble.
Result<UniqueFd> InputFile(const std::string& input) {
  UniqueFd fd(::memfd_create("lamina-helper", MFD_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "cannot make a helper's input");
  RETURN_IF_ERROR(PwriteExactly(fd.get(), AsBytes(input), 0, "a helper's input"));
  return fd;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A started helper. Whatever is left of its process group ends with this object.
class Helper {
 public:
  Helper() = default;
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  ~Helper() {
    if (pid_ > 0) ::kill(-pid_, SIGKILL);
    if (pid_ > 0 && !reaped_) Reap(0);
  }

  Status Start(const std::vector<std::string>& arguments,
               const std::vector<std::string>& environment, int input, int output);
  Status ReadOutput(int from, size_t limit, const Deadline& deadline, std::string* output);
  Result<int> Wait(const Deadline& deadline);

 private:
  // The exit code; nothing where it runs still.
  std::optional<int> Reap(int options);

  pid_t pid_ = 0;
  bool reaped_ = false;
};

Status Helper::Start(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment, int input, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawn(&pid_, arguments[0].c_str(), &actions, &attributes,
                                  Pointers(arguments).data(), Pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error == 0) return {};
  pid_ = 0;
  return ErrnoError(error, "cannot run " + arguments[0]);
}

Status Helper::ReadOutput(int from, size_t limit, const Deadline& deadline, std::string* output) {
  std::array<char, 4096> piece{};
  while (true) {
    pollfd ready{from, POLLIN, 0};
    const int found = ::poll(&ready, 1, static_cast<int>(deadline.remaining().count()));
    if (found < 0 && errno == EINTR) continue;
    if (found <= 0) return Error{Code::kTimeout, "it has not answered in time"};
    const ssize_t got = ::read(from, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, "its answer cannot be read");
    if (got == 0) return {};
    output->append(piece.data(), static_cast<size_t>(got));
    if (output->size() > limit)
      return Error{Code::kLimit, fmt::format("its answer has more than {} bytes", limit)};
  }
}

Result<int> Helper::Wait(const Deadline& deadline) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!process.valid()) return ErrnoError(errno, "cannot wait for it");
  while (true) {
    if (const auto code = Reap(WNOHANG)) return *code;
    if (deadline.passed()) return Error{Code::kTimeout, "it has not ended in time"};
    pollfd ended{process.get(), POLLIN, 0};
    ::poll(&ended, 1, static_cast<int>(deadline.remaining().count()));
  }
}

std::optional<int> Helper::Reap(int options) {
  int status = 0;
  pid_t found = 0;
  do {
    found = ::waitpid(pid_, &status, options);
  } while (found < 0 && errno == EINTR);
  if (found == 0) return std::nullopt;
  reaped_ = true;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

Result<HelperAnswer> RunHelper(const std::vector<std::string>& arguments,
                               const std::vector<std::string>& environment,
                               const std::string& input, const HelperBounds& bounds) {
  const Deadline deadline = Deadline::After(bounds.time);
  ASSIGN_OR_RETURN(const UniqueFd from, InputFile(input));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  Helper helper;
  RETURN_IF_ERROR(helper.Start(arguments, environment, from.get(), writing.get()));
  writing = UniqueFd();
  HelperAnswer answer;
  RETURN_IF_ERROR(helper.ReadOutput(reading.get(), bounds.output_bytes, deadline, &answer.output));
  ASSIGN_OR_RETURN(answer.exit_code, helper.Wait(deadline));
  return answer;
}

}  // namespace lamina
