// mount: the daemon's life.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/errno.h"
#include "base/file.h"
#include "base/keyed_pool.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/control.h"
#include "cmd/engine.h"
#include "fs/fuse_session.h"
#include "fs/garbage_keeper.h"
#include "fs/namespace.h"

namespace lamina {
namespace {

// How the child that becomes the daemon tells its parent that the tree answers, or why not.
class ReadyPipe {
 public:
  static Result<ReadyPipe> Create() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
    ReadyPipe pipe;
    pipe.read_ = UniqueFd(ends[0]);
    pipe.write_ = UniqueFd(ends[1]);
    return pipe;
  }
  // In the child: an empty message means ready.
  void Tell(const std::string& message) {
    read_.reset();
    // The parent may be gone; the daemon goes on all the same.
    (void)WriteExactly(write_.get(), AsBytes(message.empty() ? "+" : "-" + message),
                       "the ready pipe")
        .has_value();
    write_.reset();
  }
  // In the parent.
  Status Wait() {
    write_.reset();
    std::string message;
    std::array<char, 4096> bytes;
    for (ssize_t got; (got = ::read(read_.get(), bytes.data(), bytes.size())) != 0;) {
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) break;
      message.append(bytes.data(), static_cast<size_t>(got));
    }
    if (message == "+") return {};
    return Error{Code::kUnavailable, message.empty()
                                         ? "the daemon ended before the tree answered; see its log"
                                         : message.substr(1)};
  }

 private:
  UniqueFd read_;
  UniqueFd write_;
};

// A daemon has files of every layer in use open, and a connection for each reader of a registry.
void AllowManyFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    LogWarning(ErrnoError(errno, "the limit of open files stays as it is").message);
}

Result<nlohmann::json> Answer(Engine& engine, const nlohmann::json& request,
                              const Replies& replies) {
  auto answer = Perform(engine, request, replies);
  if (answer && answer->is_object() && !engine.lasting() && ChangesDatabase(request))
    (*answer)["note"] = "the store's disk takes no files: the change ends with the daemon";
  return answer;
}

// Where the disk has no room for one more file, in memory.
Result<std::unique_ptr<ControlServer>> StartControl(Engine& engine) {
  const auto handler = [&engine](const nlohmann::json& request, const Replies& replies) {
    return Answer(engine, request, replies);
  };
  const std::string path = engine.paths().NewControlSocket();
  auto server = ControlServer::Start(path, handler);
  if (server || !engine.paths().DiskIsToBlame(path, server.error())) return server;
  return ControlServer::Start(engine.paths().NewControlSocket(), handler);
}

// Everything that serves, in the order in which it is made; destroyed the other way round.
Status Serve(const CommonOptions& common, const MountCommand& command,
             const std::function<void()>& ready) {
  ASSIGN_OR_RETURN(const CatalogOptions options, CatalogOptionsOf(common));
  ASSIGN_OR_RETURN(const LogLevel level, LogLevelOf(common));
  ASSIGN_OR_RETURN(const auto gc_after, ParseAge(command.gc_after));
  ASSIGN_OR_RETURN(const auto refusal, ProbeDisk(common.store));
  // A peer that closes its socket is an error of that write, not the end of the daemon.
  std::signal(SIGPIPE, SIG_IGN);
  AllowManyFiles();
  RETURN_IF_ERROR(StartLog({.level = level,
                            .file = refusal ? "" : StorePaths{common.store}.LogFile(),
                            .to_stderr = command.foreground}));
  ASSIGN_OR_RETURN(const auto engine,
                   Engine::Open(common.store, options, common.cache_size, CompressionOf(common)));
  KeyedPool pool({});
  Namespace names(engine->catalog(), engine->store(), engine->layers(), VersionText());
  Status served;
  {
    const auto session =
        FuseSession::Mount(names, pool,
                           {.mountpoint = command.mountpoint,
                            .allow_other = ::geteuid() == 0 && !command.private_mount,
                            .link_aliases = command.link_aliases,
                            .on_ready = ready});
    if (!session) return session.error();
    const auto control = StartControl(*engine);
    if (!control) return control.error();
    std::optional<GarbageKeeper> keeper;
    if (gc_after) keeper.emplace(engine->garbage(), GarbageKeeper::Times{.after = *gc_after});
    LogInfo(fmt::format("lamina {} serves {} from the store {}", VersionText(), command.mountpoint,
                        common.store));
    served = (*session)->Run();
    engine->layers().Cancel();
  }
  pool.Stop();
  LogInfo(fmt::format("lamina ends; {} is unmounted", command.mountpoint));
  return served;
}

void BecomeDaemon() {
  ::setsid();
  if (::chdir("/") != 0) return;
  auto null = OpenFile("/dev/null", O_RDWR);
  if (!null) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null->get(), fd);
}

int ServeInBackground(const CommonOptions& common, const MountCommand& command) {
  auto pipe = ReadyPipe::Create();
  if (!pipe) return Fail(pipe.error());
  const pid_t child = ::fork();
  if (child < 0) return Fail(ErrnoError(errno, "cannot start the daemon"));
  if (child > 0) {
    if (Status ready = pipe->Wait(); !ready) {
      ::waitpid(child, nullptr, 0);
      return Fail(ready.error());
    }
    return 0;
  }
  BecomeDaemon();
  std::atomic<bool> told{false};  // on_ready comes from another thread
  const Status served = Serve(common, command, [&] {
    if (!told.exchange(true)) pipe->Tell("");
  });
  if (!served) LogError(served.error().message);
  if (!served && !told.exchange(true)) pipe->Tell(served.error().message);
  return served ? 0 : 1;
}

}  // namespace

int RunMount(const CommonOptions& common, const MountCommand& given) {
  MountCommand command = given;
  auto mountpoint = AbsolutePath(command.mountpoint);
  if (!mountpoint) return Fail(mountpoint.error());
  command.mountpoint = *mountpoint;
  if (!command.foreground) return ServeInBackground(common, command);
  const Status served = Serve(common, command, [] {});
  return served ? 0 : Fail(served.error());
}

}  // namespace lamina
