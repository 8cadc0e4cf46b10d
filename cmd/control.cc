#include "cmd/control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr size_t kLongestLine = 64u << 20;
// A client that has connected sends its request at once.
constexpr int kRequestWaitMs = 10'000;

Status SendLine(int fd, const Json& json) {
  const std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t put = ::send(fd, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, "cannot write to the control socket");
    sent += static_cast<size_t>(put);
  }
  return {};
}

// Reads lines; what follows a line stays for the next.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  // kNotFound at the end of the stream; `wait_ms` -1 waits as long as the peer lives.
  Result<std::string> Next(int wait_ms) {
    for (;;) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      if (buffer_.size() > kLongestLine)
        return Error{Code::kLimit, "a line on the control socket is too long"};
      RETURN_IF_ERROR(Fill(wait_ms));
    }
  }

 private:
  Status Fill(int wait_ms) {
    pollfd poll{fd_, POLLIN, 0};
    if (::poll(&poll, 1, wait_ms) == 0)
      return Error{Code::kTimeout, "nothing came over the control socket"};
    std::array<char, 65536> bytes;
    const ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) return {};
    if (got < 0) return ErrnoError(errno, "cannot read from the control socket");
    if (got == 0) return Error{Code::kNotFound, "the daemon ended before it answered; see its log"};
    buffer_.append(bytes.data(), static_cast<size_t>(got));
    return {};
  }

  const int fd_;
  std::string buffer_;
};

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{Code::kLimit, "the path of the control socket is too long: " + path};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Json ErrorJson(const Error& error) {
  return {{"error", {{"code", static_cast<int>(error.code)}, {"message", error.message}}}};
}

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::Start(Engine& engine) {
  const std::string path = engine.paths().ControlSocket();
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoError(errno, "cannot make the control socket");
  // The store is locked by us, so a socket that is there belongs to a daemon that is gone.
  ::unlink(path.c_str());
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket.get(), 64) != 0)
    return ErrnoError(errno, "cannot listen on " + path);
  std::array<int, 2> wake{};
  if (::pipe2(wake.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  return std::unique_ptr<ControlServer>(
      new ControlServer(engine, std::move(socket), UniqueFd(wake[0]), UniqueFd(wake[1])));
}

ControlServer::ControlServer(Engine& engine, UniqueFd socket, UniqueFd wake_read,
                             UniqueFd wake_write)
    : engine_(engine),
      socket_(std::move(socket)),
      wake_read_(std::move(wake_read)),
      wake_write_(std::move(wake_write)),
      acceptor_([this] { Accept(); }) {}

ControlServer::~ControlServer() {
  wake_write_.reset();
  acceptor_.join();
  ::unlink(engine_.paths().ControlSocket().c_str());
  while (serving_.load() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

void ControlServer::Accept() {
  for (;;) {
    std::array<pollfd, 2> polls{pollfd{socket_.get(), POLLIN, 0},
                                pollfd{wake_read_.get(), POLLIN, 0}};
    if (::poll(polls.data(), polls.size(), -1) < 0 && errno != EINTR) return;
    if (polls[1].revents != 0) return;
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) continue;
    ++serving_;
    std::thread([this, fd = connection.release()] {
      Serve(UniqueFd(fd));
      --serving_;
    }).detach();
  }
}

void ControlServer::Serve(UniqueFd connection) {
  LineReader reader(connection.get());
  const auto line = reader.Next(kRequestWaitMs);
  if (!line) return;
  const Json request = Json::parse(*line, nullptr, false);
  std::mutex writing;  // progress comes from other threads
  const ProgressSink progress = [&](const Json& step) {
    std::lock_guard<std::mutex> lock(writing);
    // A client that went away misses its answer; the work goes on for others.
    (void)SendLine(connection.get(), Json{{"progress", step}}).has_value();
  };
  auto answer = Perform(engine_, request, progress);
  const Status sent =
      SendLine(connection.get(), answer ? Json{{"result", *answer}} : ErrorJson(answer.error()));
  if (!sent) LogDebug(sent.error().message);
}

Result<Json> AskDaemon(const std::string& socket_path, const Json& request,
                       const ProgressSink& progress) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(socket_path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoError(errno, "cannot make a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error{Code::kNotFound, "no lamina listens on " + socket_path};
  if (Status sent = SendLine(socket.get(), request); !sent) return sent.error();
  LineReader reader(socket.get());
  for (;;) {
    auto line = reader.Next(-1);
    if (!line) return Error{Code::kUnavailable, line.error().message};
    const Json message = Json::parse(*line, nullptr, false);
    if (message.contains("result")) return message["result"];
    if (message.contains("error"))
      return Error{
          static_cast<Code>(message["error"].value("code", static_cast<int>(Code::kInternal))),
          message["error"].value("message", "the daemon gave no reason")};
    if (message.contains("progress")) progress(message["progress"]);
  }
}

}  // namespace lamina
