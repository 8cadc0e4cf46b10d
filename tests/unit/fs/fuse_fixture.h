#pragma once

// The tree on a real mount, through the kernel, and processes that look at it. Needs root and
// /dev/fuse, as the product does for allow_other.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <future>
#include <thread>

#include "fs/fuse_mountpoint.h"
#include "fs/fuse_session.h"
#include "fs_fixture.h"

namespace lamina {

// Detaches the mount when this process ends, however it ends.
class MountGuard {
 public:
  explicit MountGuard(const std::string& mountpoint) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ends[1]);
      char byte;
      while (::read(ends[0], &byte, 1) < 0 && errno == EINTR) {
      }
      ::umount2(mountpoint.c_str(), MNT_DETACH);
      ::_exit(0);
    }
    ::close(ends[0]);
    end_ = UniqueFd(ends[1]);
  }
  ~MountGuard() {
    end_.reset();
    if (child_ > 0) ::waitpid(child_, nullptr, 0);
  }

 private:
  pid_t child_ = -1;
  UniqueFd end_;
};

class FuseMountTest : public FsFixture {
 protected:
  void SetUp() override {
    FsFixture::SetUp();
    if (!HasFatalFailure()) StartMount({});
  }

  void StartMount(KeyedPool::Options pool) {
    mountpoint_ = Path("mnt");
    guard_.emplace(mountpoint_);
    pool_.emplace(pool);
    Mount({.mountpoint = mountpoint_, .handle_signals = false, .on_ready = {}});
  }

  void Mount(MountOptions options) {
    std::promise<void> ready;
    options.on_ready = [&] { ready.set_value(); };
    auto session = FuseSession::Mount(*names_, *pool_, std::move(options));
    ASSERT_TRUE(session) << session.error().message;
    session_ = *std::move(session);
    runner_ = std::thread([this] { ended_ = session_->Run(); });
    ready.get_future().wait();
  }

  void TearDown() override {
    if (session_ != nullptr) {
      session_->Stop();
      if (runner_.joinable()) runner_.join();
      session_.reset();
    }
    guard_.reset();
    if (pool_) pool_->Stop();
    if (folder_) {
      EXPECT_THAT(Shell("cat /proc/self/mountinfo"),
                  testing::Not(testing::HasSubstr(folder_->path())));
    }
  }

  uint64_t Count(const std::string& message) const {
    for (const auto& [name, count] : session_->counters())
      if (name == message) return count;
    return 0;
  }
  std::string Repo() const { return mountpoint_ + "/localhost/sample"; }
  std::string Image() const { return Repo() + "/" + base_.PathName(); }

  std::string mountpoint_;
  std::optional<MountGuard> guard_;
  std::optional<KeyedPool> pool_;
  std::unique_ptr<FuseSession> session_;
  std::thread runner_;
  Status ended_;
};

// A listening socket that takes connections and says nothing.
class SilentServer {
 public:
  SilentServer() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(socket_.get(), 64), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  int port() const { return port_; }
  // Returns when somebody asks.
  void WaitForRequest() {
    accepted_.emplace_back(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  UniqueFd socket_;
  std::vector<UniqueFd> accepted_;
  int port_ = 0;
};

// A child that looks a path up; a signal ends its wait. Its exit status is the errno.
class Prober {
 public:
  explicit Prober(const std::string& path) {
    child_ = ::fork();
    if (child_ != 0) return;
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    struct stat out {};
    ::_exit(::lstat(path.c_str(), &out) == 0 ? 0 : errno);
  }
  void Interrupt() const { ::kill(child_, SIGUSR1); }
  int Errno() const {
    int status = 0;
    ::waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  bool waits() const {
    siginfo_t gone{};
    return ::waitid(P_PID, static_cast<id_t>(child_), &gone, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           gone.si_pid == 0;
  }
  // Again and again, since a signal may come before the lookup begins.
  int InterruptUntilGone() const {
    while (waits()) {
      Interrupt();
      ::usleep(10'000);
    }
    return Errno();
  }

 private:
  pid_t child_ = -1;
};

}  // namespace lamina
