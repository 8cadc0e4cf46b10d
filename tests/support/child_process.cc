#include "tests/support/child_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "base/errno.h"
#include "base/file.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace lamina {
namespace {

constexpr int kPolls = 500;
constexpr std::chrono::milliseconds kPoll{20};

Result<pid_t> Spawn(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<std::string> copies = arguments;  // posix_spawn wants writable text
  std::vector<char*> argv;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid = -1;
  const int failure = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) return ErrnoError(failure, "cannot start " + arguments.at(0));
  return pid;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

Result<std::string> RunCommand(const std::vector<std::string>& arguments) {
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Create("lamina-command"));
  const std::string log = folder.path() + "/output";
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(arguments, log));
  int state = 0;
  while (::waitpid(pid, &state, 0) < 0 && errno == EINTR) {
  }
  ASSIGN_OR_RETURN(std::string output, ReadWholeFile(log, 64u << 20));
  if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return output;
  return Error{Code::kInternal, arguments[0] + " failed: " + Quote(output, 2000)};
}

Result<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                         const std::string& log) {
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(arguments, log));
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
  for (int i = 0; i < kPolls && Running(); ++i) std::this_thread::sleep_for(kPoll);
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

bool ChildProcess::Running() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) != 0) pid_ = -1;
  return pid_ > 0;
}

uint16_t UnusedPort() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket.get(), generic, length) != 0) return 0;
  if (::getsockname(socket.get(), generic, &length) != 0) return 0;
  return ntohs(address.sin_port);
}

bool WaitForPort(uint16_t port, ChildProcess& child) {
  for (int i = 0; i < kPolls && child.Running(); ++i) {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = Loopback(port);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
      return child.Running();
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

}  // namespace lamina
