#pragma once

// The control socket of a daemon: a Unix stream socket, mode 0600, in the store folder. A client
// sends one request (see requests.h) as a line of JSON; the daemon answers with lines of
// {"progress": …} and one last line of
// {"result": …} or {"error": {"code", "message"}}.

#include <atomic>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cmd/requests.h"

namespace lamina {

// Serves requests on threads of its own until destroyed. The engine outlives it.
class ControlServer {
 public:
  static Result<std::unique_ptr<ControlServer>> Start(Engine& engine);
  // Takes no more requests and waits for those at work; LayerStore::Cancel() first makes that
  // short.
  ~ControlServer();

 private:
  ControlServer(Engine& engine, UniqueFd socket, UniqueFd wake_read, UniqueFd wake_write);
  void Accept();
  void Serve(UniqueFd connection);

  Engine& engine_;
  UniqueFd socket_;
  UniqueFd wake_read_;
  UniqueFd wake_write_;
  std::atomic<int> serving_{0};
  std::thread acceptor_;
};

// kNotFound where no daemon listens; otherwise the daemon's answer.
Result<nlohmann::json> AskDaemon(const std::string& socket_path, const nlohmann::json& request,
                                 const ProgressSink& progress);

}  // namespace lamina
