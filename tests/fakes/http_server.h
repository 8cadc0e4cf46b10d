#pragma once

// HttpServer: a small HTTP/1.1 server on 127.0.0.1 whose answers a test gives, faults included:
// bodies that end early, connections that close, silence. One thread per connection; the handler is
// called from any of them. Everything ends with the object.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace lamina {

struct FakeRequest {
  std::string method;
  std::string target;                          // path and query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  std::string path() const { return target.substr(0, target.find('?')); }
  std::string query() const;
  // "" where there is none.
  std::string Header(const std::string& name) const;
  // Of "bytes=a-b": [a, b + 1).
  std::optional<std::pair<uint64_t, uint64_t>> Range() const;
};

struct FakeResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool content_length = true;             // false: the end of the connection ends the body
  std::optional<uint64_t> cut_after;      // closes after so many bytes of the body
  std::optional<uint64_t> silent_after;   // sends so many bytes, then nothing until the server ends
  std::optional<uint64_t> dribble_after;  // sends so many bytes, then one every 20 ms
  bool no_answer = false;                 // closes at once
  bool silent = false;                    // never answers
  std::optional<std::string> raw;  // sends these bytes and the body, nothing else, then closes
  bool reset = false;              // where the connection ends it breaks (RST)
};

class HttpServer {
 public:
  using Handler = std::function<FakeResponse(const FakeRequest&)>;
  explicit HttpServer(Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const { return port_; }
  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url() const { return "http://" + host(); }

  int connections() const { return connections_; }
  // All requests so far.
  std::vector<FakeRequest> requests() const;
  // Those whose path begins so.
  int CountOf(std::string_view path_prefix) const;

 private:
  void Accept();
  void Serve(int fd);
  bool Answer(int fd, const FakeResponse& response);
  bool SendAnswer(int fd, const FakeResponse& response);
  void StaySilent(int fd);
  void Dribble(int fd, std::string_view rest);

  const Handler handler_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;  // guards all below
  std::vector<FakeRequest> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;  // started last
};

// The usual answers.
FakeResponse Bytes(std::string body);
FakeResponse Failing(int status, std::string code, std::string message = "so it is");
// A blob as a good registry serves it: 206 to a range, 200 otherwise.
FakeResponse ServeBlob(const FakeRequest& request, const std::string& blob);
FakeResponse RedirectTo(const std::string& location, int status = 307);

}  // namespace lamina
