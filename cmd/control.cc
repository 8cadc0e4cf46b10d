#include "cmd/control.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/clock.h"
#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr size_t kLongestRequest = 1u << 20;
constexpr size_t kLongestAnswer = 64u << 20;
constexpr size_t kLongestData = 1u << 20;  // in one piece
// A client that has so much unread gets no more progress, so that its answer has room.
constexpr int kMostUnread = 64 << 10;
// Until descriptors or memory may be there again.
constexpr int kShortageWaitMs = 200;

// `patience` says whether to wait on after the socket's own bound has passed.
Status SendBytes(int fd, std::string_view bytes, int flags,
                 const std::function<bool()>& patience = nullptr) {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t put = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | flags);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN && patience && patience()) continue;
    if (put < 0) {
      const Error error = ErrnoError(errno, "cannot write to the control socket");
      // What follows half a line would not be understood.
      if (sent > 0) ::shutdown(fd, SHUT_RDWR);
      return error;
    }
    sent += static_cast<size_t>(put);
  }
  return {};
}

Status SendLine(int fd, const Json& json, int flags = 0) {
  return SendBytes(fd, json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n", flags);
}

void SendProgress(int fd, const Json& step) {
  int unread = 0;
  if (::ioctl(fd, SIOCOUTQ, &unread) != 0 || unread > kMostUnread) return;
  // A client that went away misses its answer; the work goes on for others.
  (void)SendLine(fd, Json{{"progress", step}}, MSG_DONTWAIT).has_value();
}

// Reads lines; what follows a line stays for the next.
class LineReader {
 public:
  LineReader(int fd, size_t longest) : fd_(fd), longest_(longest) {}

  // The bytes behind the last line; waits as long as the peer lives.
  Result<std::string> Take(size_t count) {
    while (buffer_.size() < count) RETURN_IF_ERROR(Fill(std::nullopt));
    std::string bytes = buffer_.substr(0, count);
    buffer_.erase(0, count);
    searched_ = 0;
    return bytes;
  }

  // kNotFound at the end of the stream; without a deadline it waits as long as the peer lives.
  Result<std::string> Next(const std::optional<Deadline>& deadline) {
    for (;;) {
      if (const size_t end = buffer_.find('\n', searched_); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        searched_ = 0;
        return line;
      }
      searched_ = buffer_.size();
      if (buffer_.size() > longest_)
        return Error{Code::kLimit,
                     fmt::format("a line on the control socket has more than {} bytes", longest_)};
      RETURN_IF_ERROR(Fill(deadline));
    }
  }

 private:
  Status Fill(const std::optional<Deadline>& deadline) {
    if (deadline && deadline->passed())
      return Error{Code::kTimeout, "no whole line came over the control socket"};
    pollfd poll{fd_, POLLIN, 0};
    const int wait = deadline ? static_cast<int>(deadline->remaining().count()) : -1;
    if (::poll(&poll, 1, wait) <= 0) return {};
    std::array<char, 65536> bytes;
    const ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) return {};
    if (got < 0) return ErrnoError(errno, "cannot read from the control socket");
    if (got == 0) return Error{Code::kNotFound, "the daemon ended before it answered; see its log"};
    buffer_.append(bytes.data(), static_cast<size_t>(got));
    return {};
  }

  const int fd_;
  const size_t longest_;
  std::string buffer_;
  size_t searched_ = 0;  // bytes that hold no end of a line
};

Status TakeData(LineReader& reader, const Json& size, const ByteSink& out) {
  if (!size.is_number_unsigned() || size.get<uint64_t>() > kLongestData)
    return Error{Code::kInvalid, "the daemon announces data of no size that this lamina takes"};
  ASSIGN_OR_RETURN(const std::string bytes, reader.Take(size.get<size_t>()));
  return out(AsBytes(bytes));
}

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

bool IsShortage(int err) {
  return err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS;
}

}  // namespace

// --- the daemon's side

Result<std::unique_ptr<ControlServer>> ControlServer::Start(const std::string& path,
                                                            RequestHandler handler,
                                                            ControlLimits limits) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
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
  return std::unique_ptr<ControlServer>(new ControlServer(
      path, std::move(handler), limits, std::move(socket), UniqueFd(wake[0]), UniqueFd(wake[1])));
}

ControlServer::ControlServer(std::string path, RequestHandler handler, ControlLimits limits,
                             UniqueFd socket, UniqueFd wake_read, UniqueFd wake_write)
    : path_(std::move(path)),
      handler_(std::move(handler)),
      limits_(limits),
      socket_(std::move(socket)),
      wake_read_(std::move(wake_read)),
      wake_write_(std::move(wake_write)),
      acceptor_([this] { Accept(); }) {}

ControlServer::~ControlServer() {
  stopping_ = true;
  wake_write_.reset();
  acceptor_.join();
  ::unlink(path_.c_str());
  // Whoever reads from or writes to a client stops at once.
  for (Client& client : clients_) ::shutdown(client.socket.get(), SHUT_RDWR);
  for (Client& client : clients_) client.thread.join();
}

void ControlServer::Accept() {
  bool short_before = false;
  while (!stopping_) {
    std::array<pollfd, 2> polls{pollfd{wake_read_.get(), POLLIN, 0},
                                pollfd{socket_.get(), POLLIN, 0}};
    if (::poll(polls.data(), polls.size(), -1) < 0 || polls[0].revents != 0) continue;
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int err = errno;
    RemoveFinished();
    if (connection.valid()) {
      short_before = false;
      Welcome(std::move(connection));
    } else if (IsShortage(err)) {
      // The client stays in the queue and the socket readable: asking again at once would spin.
      if (!std::exchange(short_before, true))
        LogWarning(ErrnoError(err, "commands have to wait: cannot accept one").message);
      ::poll(polls.data(), 1, kShortageWaitMs);
    }
  }
}

void ControlServer::Welcome(UniqueFd connection) {
  if (clients_.size() >= limits_.clients) {
    const Error error{Code::kUnavailable,
                      fmt::format("the daemon performs {} commands already; try again when one of "
                                  "them has ended",
                                  clients_.size())};
    (void)SendLine(connection.get(), ErrorJson(error), MSG_DONTWAIT).has_value();
    return;
  }
  Client& client = clients_.emplace_back(std::move(connection));
  try {
    client.thread = std::thread([this, &client] {
      Serve(client.socket.get());
      ::shutdown(client.socket.get(), SHUT_RDWR);
      client.done = true;
    });
  } catch (const std::exception& failure) {
    const Error error{Code::kUnavailable,
                      std::string("the daemon cannot start a thread: ") + failure.what()};
    (void)SendLine(client.socket.get(), ErrorJson(error), MSG_DONTWAIT).has_value();
    clients_.pop_back();
  }
}

void ControlServer::RemoveFinished() {
  for (auto client = clients_.begin(); client != clients_.end();) {
    if (client->done) {
      client->thread.join();
      client = clients_.erase(client);
    } else {
      ++client;
    }
  }
}

// The start of a thread: nothing may throw out of it.
void ControlServer::Serve(int fd) {
  try {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limits_.answer_wait);
    const timeval wait{.tv_sec = seconds.count(), .tv_usec = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    LineReader reader(fd, kLongestRequest);
    const auto line = reader.Next(Deadline::After(limits_.request_wait));
    if (!line) return LogDebug(line.error().message);
    std::mutex writing;  // progress comes from other threads
    const Replies replies{.progress =
                              [&](const Json& step) {
                                std::lock_guard<std::mutex> lock(writing);
                                if (!stopping_) SendProgress(fd, step);
                                return !stopping_;
                              },
                          .data =
                              [&](ByteSpan bytes) {
                                std::lock_guard<std::mutex> lock(writing);
                                return SendData(fd, bytes);
                              }};
    const auto answer = Handle(*line, replies);
    const Status sent =
        SendLine(fd, answer ? Json{{"result", *answer}} : ErrorJson(answer.error()));
    if (!sent) LogDebug(sent.error().message);
  } catch (const std::exception& failure) {
    LogError(std::string("a command failed: ") + failure.what());
  } catch (...) {
    LogError("a command failed for a reason that has no words");
  }
}

Status ControlServer::SendData(int fd, ByteSpan bytes) const {
  const Deadline deadline = Deadline::After(limits_.data_wait);
  const auto patience = [&] { return !stopping_ && !deadline.passed(); };
  while (!bytes.empty()) {
    const ByteSpan piece = bytes.first(std::min(bytes.size(), kLongestData));
    RETURN_IF_ERROR(SendBytes(fd, Json{{"data", piece.size()}}.dump() + "\n", 0, patience));
    RETURN_IF_ERROR(SendBytes(fd, AsText(piece), 0, patience));
    bytes = bytes.subspan(piece.size());
  }
  return {};
}

Result<Json> ControlServer::Handle(const std::string& line, const Replies& replies) {
  try {
    return handler_(Json::parse(line, nullptr, false), replies);
  } catch (const std::exception& failure) {
    return Error{Code::kInternal, std::string("internal error: ") + failure.what()};
  }
}

// --- the client's side

Result<std::optional<ControlClient>> ControlClient::Connect(const std::string& socket_path) {
  const auto address = AddressOf(socket_path);
  if (!address) return std::optional<ControlClient>();  // nobody can listen there
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoError(errno, "cannot make a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0)
    return std::optional<ControlClient>(ControlClient(std::move(socket)));
  if (errno == ENOENT || errno == ENOTDIR || errno == ECONNREFUSED)
    return std::optional<ControlClient>();
  return ErrnoError(errno, "cannot connect to " + socket_path);
}

Result<Json> ControlClient::Ask(const Json& request, const Replies& replies) {
  // A daemon that refuses may answer and close before it has all of the request.
  const Status sent = SendLine(socket_.get(), request);
  LineReader reader(socket_.get(), kLongestAnswer);
  for (;;) {
    const auto line = reader.Next(std::nullopt);
    if (!line) return Error{Code::kUnavailable, (sent ? line.error() : sent.error()).message};
    const Json message = Json::parse(*line, nullptr, false);
    if (message.contains("result")) return message["result"];
    if (message.contains("error"))
      return Error{
          static_cast<Code>(message["error"].value("code", static_cast<int>(Code::kInternal))),
          message["error"].value("message", "the daemon gave no reason")};
    if (message.contains("progress")) replies.progress(message["progress"]);
    if (message.contains("data")) RETURN_IF_ERROR(TakeData(reader, message["data"], replies.data));
  }
}

}  // namespace lamina
