#include "fs/fuse_session.h"

#define FUSE_USE_VERSION 312
#include <fmt/core.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "fs/fuse_adapter.h"
#include "fs/fuse_mountpoint.h"

namespace lamina {

// An eventfd that wakes one waiting thread; writing to it is safe in a signal handler.
class FuseSession::WakeUp {
 public:
  WakeUp() : fd_(::eventfd(0, EFD_CLOEXEC)) {}
  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  void Wake() const { WakeFd(fd_.get()); }
  void Wait() const {
    uint64_t count = 0;
    while (::read(fd_.get(), &count, sizeof count) < 0 && errno == EINTR) {
    }
  }
  static void WakeFd(int fd) {
    const uint64_t one = 1;
    // A full counter means that the thread is woken already.
    [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
  }

 private:
  UniqueFd fd_;
};

// Changes of names that the kernel has to be told of, by threads that never serve requests.
class FuseSession::Changes {
 public:
  // Waits until the kernel knows, so that who has added a name sees it; not where this thread
  // answers a request, which the kernel may be waiting for, and not for long.
  void Announce() {
    MutexLock lock(mutex_);
    const uint64_t mine = ++announced_;
    changed_.NotifyAll();
    if (FuseAdapter::IsServing()) return;
    const Deadline deadline = Deadline::After(std::chrono::seconds(1));
    while (telling_ && told_ < mine && !deadline.passed()) changed_.WaitUntil(mutex_, deadline);
  }
  // Blocks until there is something to tell; false at the end. `number` goes back to Told().
  bool Next(uint64_t* number) {
    MutexLock lock(mutex_);
    telling_ = !ended_;
    while (!ended_ && taken_ == announced_)
      changed_.WaitUntil(mutex_, Deadline::After(std::chrono::hours(1)));
    taken_ = *number = announced_;
    return !ended_;
  }
  void Told(uint64_t number) {
    MutexLock lock(mutex_);
    told_ = std::max(told_, number);
    changed_.NotifyAll();
  }
  void End() {
    MutexLock lock(mutex_);
    ended_ = true;
    telling_ = false;
    changed_.NotifyAll();
  }
  bool ended() {
    MutexLock lock(mutex_);
    return ended_;
  }

 private:
  Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t announced_ GUARDED_BY(mutex_) = 0;
  uint64_t taken_ GUARDED_BY(mutex_) = 0;  // by Next()
  uint64_t told_ GUARDED_BY(mutex_) = 0;
  bool telling_ GUARDED_BY(mutex_) = false;  // somebody calls Next()
  bool ended_ GUARDED_BY(mutex_) = false;
};

namespace {

// A signal handler has no other way to find its session.
std::atomic<int> g_signal_fd{-1};

void OnSignal(int) {
  const int err = errno;
  const int fd = g_signal_fd.load();
  const uint64_t one = 1;
  if (fd >= 0) {
    [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
  }
  errno = err;
}
void OnNudge(int) {}

// SIGTERM, SIGINT and SIGHUP wake the session; SIGUSR1 only interrupts the loop's wait. Puts back
// what was at the end.
class SignalScope {
 public:
  SignalScope(bool handle, int fd) : handle_(handle) {
    Install(SIGUSR1, OnNudge);
    sigset_t nudge;
    sigemptyset(&nudge);
    sigaddset(&nudge, SIGUSR1);
    ::pthread_sigmask(SIG_UNBLOCK, &nudge, &mask_);
    if (!handle_) return;
    g_signal_fd = fd;
    Install(SIGTERM, OnSignal);
    Install(SIGINT, OnSignal);
    Install(SIGHUP, OnSignal);  // its terminal has gone: the mount must not outlive the daemon
  }
  ~SignalScope() {
    for (size_t i = 0; i < count_; ++i) ::sigaction(saved_[i].first, &saved_[i].second, nullptr);
    if (handle_) g_signal_fd = -1;
    ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

 private:
  void Install(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;  // without SA_RESTART: the loop's sem_wait has to return
    saved_[count_].first = signal;
    ::sigaction(signal, &action, &saved_[count_].second);
    ++count_;
  }
  const bool handle_;
  sigset_t mask_{};
  size_t count_ = 0;
  std::array<std::pair<int, struct sigaction>, 4> saved_{};
};

ssize_t ReadMessage(int fd, void* buffer, size_t size, void* userdata) {
  return static_cast<FuseAdapter*>(userdata)->wire().Read(fd, buffer, size);
}
ssize_t WriteReply(int fd, iovec* parts, int count, void* userdata) {
  return static_cast<FuseAdapter*>(userdata)->wire().Write(fd, parts, count);
}

// Registries whose names can be invalidated at the same time.
constexpr size_t kMostTellers = 256;

size_t ThreadCount(size_t wanted) {
  if (wanted > 0) return wanted;
  return std::max<size_t>(2, std::thread::hardware_concurrency());
}

}  // namespace

FuseSession::FuseSession(Namespace& tree, MountOptions options,
                         std::shared_ptr<FuseAdapter> adapter)
    : tree_(tree),
      options_(std::move(options)),
      adapter_(std::move(adapter)),
      stop_(std::make_shared<WakeUp>()),
      changes_(std::make_shared<Changes>()) {}

// --- mounting

Result<std::unique_ptr<FuseSession>> FuseSession::Mount(Namespace& tree, KeyedPool& pool,
                                                        MountOptions options) {
  ASSIGN_OR_RETURN(options.mountpoint, PrepareMountpoint(options.mountpoint));
  if (options.link_aliases) tree.AllowLinks(::geteuid(), ::getegid());
  auto adapter = std::make_shared<FuseAdapter>(tree, pool);
  std::unique_ptr<FuseSession> session(new FuseSession(tree, std::move(options), adapter));
  RETURN_IF_ERROR(session->Connect());
  tree.OnChange([changes = session->changes_] { changes->Announce(); });
  tree.SetMetricsSource([adapter] { return adapter->wire().counters().Metrics(); });
  return session;
}

Status FuseSession::Connect() {
  if (!stop_->valid()) return ErrnoError(errno, "cannot make an eventfd");
  std::string program = "lamina";
  std::string flag = "-o";
  std::string list = options_.link_aliases ? "rw" : "ro";
  list += ",nosuid,nodev,default_permissions,fsname=lamina,subtype=lamina";
  if (options_.allow_other) list += ",allow_other";
  std::array<char*, 4> arguments = {program.data(), flag.data(), list.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments.data());
  session_ = fuse_session_new(&args, &FuseAdapter::Operations(), sizeof(fuse_lowlevel_ops),
                              adapter_.get());
  fuse_opt_free_args(&args);
  if (session_ == nullptr)
    return Error{Code::kInternal, "libfuse refuses the mount options " + Quote(list)};
  if (fuse_session_mount(session_, options_.mountpoint.c_str()) != 0)
    return Error{Code::kIo, fmt::format("cannot mount at {}; `lamina doctor` tells what is missing",
                                        Quote(options_.mountpoint))};
  mounted_ = true;
  fuse_custom_io io{};
  io.read = ReadMessage;
  io.writev = WriteReply;
  if (fuse_session_custom_io(session_, &io, fuse_session_fd(session_)) != 0)
    return Error{Code::kInternal, "libfuse refuses to have its messages counted"};
  return {};
}

std::string FuseSession::LibraryVersion() { return ::fuse_pkgversion(); }

FuseSession::~FuseSession() {
  tree_.SetMetricsSource({});
  changes_->End();
  adapter_->StopWaiting();
  Unmount();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void FuseSession::Unmount() {
  // Closes the connection and detaches; does nothing where somebody has unmounted already.
  if (std::exchange(mounted_, false)) fuse_session_unmount(session_);
}

// --- serving

Status FuseSession::Run() {
  const SignalScope signals(options_.handle_signals, stop_->fd());
  const pthread_t loop = ::pthread_self();
  std::thread control([this, loop] { Control(loop); });
  const int failed = Loop();
  ended_ = true;
  stop_->Wake();
  control.join();
  adapter_->StopWaiting();
  Unmount();
  if (failed < 0 && failed != -ENODEV)
    return ErrnoError(-failed, "the mount at " + options_.mountpoint + " ended");
  return {};
}

int FuseSession::Loop() {
  fuse_loop_config* config = fuse_loop_cfg_create();
  if (config == nullptr) return -ENOMEM;
  const auto threads = static_cast<unsigned>(ThreadCount(options_.threads));
  fuse_loop_cfg_set_clone_fd(config, 1);
  fuse_loop_cfg_set_max_threads(config, threads);
  fuse_loop_cfg_set_idle_threads(config, threads);
  const int failed = fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  return failed;
}

void FuseSession::Stop() { stop_->Wake(); }

// Ends things in the one order that cannot hang: the threads that invalidate may sit in the kernel
// behind a lookup that waits here, so that lookups are answered while there still are threads to
// answer them.
void FuseSession::Control(pthread_t loop) {
  std::thread invalidator([this] { Invalidate(); });
  std::thread bounds([this] { adapter_->KeepBounds(); });
  stop_->Wait();
  changes_->End();
  adapter_->StopWaiting();
  invalidator.join();
  bounds.join();
  fuse_session_exit(session_);
  // The loop's thread waits for a semaphore; a signal between its check and its wait is lost, hence
  // again.
  while (!ended_) {
    ::pthread_kill(loop, SIGUSR1);
    ::usleep(20'000);
  }
}

// --- the threads that never serve: readiness, invalidation

void FuseSession::Invalidate() {
  AnnounceReady();
  KeyedPool tellers({.max_threads = kMostTellers, .per_key = 1});
  for (uint64_t number = 0; changes_->Next(&number);) InvalidateChanged(number, tellers);
}

void FuseSession::AnnounceReady() {
  // Waits until the kernel has had its INIT answered, which sets the read-ahead to what it was.
  struct stat root {};
  if (::lstat(options_.mountpoint.c_str(), &root) != 0) return;
  if (const auto mount = MountAt(options_.mountpoint); mount && mount->has_value()) {
    const std::string setting = "/sys/class/bdi/" + (*mount)->device + "/read_ahead_kb";
    const std::string text = std::to_string(options_.read_ahead_kb);
    // Only root may; reads are slower without it, not wrong.
    if (auto file = OpenFile(setting, O_WRONLY)) {
      if (Status written = WriteExactly(file->get(), AsBytes(text), setting); !written)
        LogWarning(written.error().message);
    }
  }
  if (options_.on_ready && !changes_->ended()) options_.on_ready();
}

// To have an entry looked up again the kernel takes its folder's lock, which a lookup that waits
// for a registry holds: each registry has its own thread for that, so that none waits for another.
// What goes by node id takes no such lock.
void FuseSession::InvalidateChanged(uint64_t number, KeyedPool& tellers) {
  const HandedOut::Names names = tree_.TakeChangeable();
  for (const NodeId directory : names.directories)
    fuse_lowlevel_notify_inval_inode(session_, directory, 0, 0);
  fuse_lowlevel_notify_inval_inode(session_, kRootNode, 0, 0);
  std::map<std::string, std::vector<std::pair<NodeId, std::string>>> by_registry;
  for (const auto& entry : names.entries)
    by_registry[tree_.WaitOf(entry.first).pool_key].push_back(entry);
  // Whoever lets go last has told the last of them.
  const std::shared_ptr<void> told(nullptr,
                                   [changes = changes_, number](void*) { changes->Told(number); });
  for (auto& [registry, entries] : by_registry)
    tellers.Post(registry, [this, told, entries = std::move(entries)] {
      for (const auto& [parent, name] : entries) ExpireEntry(parent, name);
    });
}

// Asked for again at the next use, not dropped; kernels before 6.2 drop it, which is as good for
// links and for what is not there. An error says that the kernel does not hold the name any more.
void FuseSession::ExpireEntry(NodeId parent, const std::string& name) {
  fuse_lowlevel_notify_expire_entry(session_, parent, name.c_str(), name.size(),
                                    FUSE_LL_EXPIRE_ONLY);
}

std::vector<std::pair<std::string, uint64_t>> FuseSession::counters() const {
  return adapter_->wire().counters().Values();
}

}  // namespace lamina
