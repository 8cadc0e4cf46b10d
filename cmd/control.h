#pragma once

// The control socket of a daemon: a Unix stream socket, mode 0600, in the store folder. A client
// sends one request (see requests.h) as a line of JSON; the daemon answers with lines of
// {"progress": …} and of {"data": N}, which N bytes follow, and one last line of
// {"result": …} or {"error": {"code", "message"}}.

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cmd/requests.h"

namespace lamina {

// Performs a request; called on several threads.
using RequestHandler = std::function<Result<nlohmann::json>(const nlohmann::json&, const Replies&)>;

struct ControlLimits {
  size_t clients = 64;                             // at the same time; more are told to come again
  std::chrono::milliseconds request_wait{10'000};  // for the whole line of a request
  std::chrono::milliseconds answer_wait{60'000};  // in which a client takes something of its answer
  std::chrono::milliseconds data_wait{
      3'600'000};  // and of data, which somebody may read in a pager
};

// Serves requests on threads of its own until destroyed. What the handler uses outlives it.
class ControlServer {
 public:
  static Result<std::unique_ptr<ControlServer>> Start(const std::string& socket_path,
                                                      RequestHandler handler,
                                                      ControlLimits limits = {});
  // Takes no more requests, leaves its clients, and waits for the work in hand, whose progress
  // sinks say from now on that nobody wants it; LayerStore::Cancel() first makes that short.
  ~ControlServer();

 private:
  // The acceptor makes and removes them; the destructor takes over when it has ended.
  struct Client {
    explicit Client(UniqueFd fd) : socket(std::move(fd)) {}
    const UniqueFd socket;
    std::atomic<bool> done{false};
    std::thread thread;
  };

  ControlServer(std::string path, RequestHandler handler, ControlLimits limits, UniqueFd socket,
                UniqueFd wake_read, UniqueFd wake_write);
  void Accept();
  void Welcome(UniqueFd connection);
  void RemoveFinished();
  void Serve(int fd);
  Result<nlohmann::json> Handle(const std::string& line, const Replies& replies);
  Status SendData(int fd, ByteSpan bytes) const;

  const std::string path_;
  const RequestHandler handler_;
  const ControlLimits limits_;
  UniqueFd socket_;
  UniqueFd wake_read_;
  UniqueFd wake_write_;
  std::atomic<bool> stopping_{false};
  std::list<Client> clients_;
  std::thread acceptor_;
};

// A connection to a daemon, for one request. One thread.
class ControlClient {
 public:
  // nullopt where no daemon listens.
  static Result<std::optional<ControlClient>> Connect(const std::string& socket_path);
  // The daemon's answer; kUnavailable where it ends without one.
  Result<nlohmann::json> Ask(const nlohmann::json& request, const Replies& replies);

 private:
  explicit ControlClient(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace lamina
