#pragma once

// HttpClient: one HTTP exchange at a time and caller over libcurl, with kept-alive connections per
// origin, so many at most (HTTP/2 over TLS where offered). It follows no redirect, repeats nothing
// and knows no credentials: those are the business of RegistrySession. TLS is 1.2 or later with
// host and certificate checked (unless skip_verify says otherwise); only http and https are spoken;
// the environment's proxies are used, but never for loopback. Perform() may be called from any
// thread and blocks at most to its deadline.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/quota.h"
#include "base/result.h"
#include "base/urgency.h"
#include "fetch/http_headers.h"
#include "fetch/url.h"

namespace lamina {

struct HttpOptions {
  std::string ca_pem;  // CA certificates besides the system's, for every host
  // The origin that the next three are for, which concern nobody else: other hosts, to which this
  // one sends us, are shown no certificate and have to have a good one.
  std::string origin;
  std::string client_cert;   // PEM file; empty: none is shown
  std::string client_key;    // PEM file; empty: it is in the certificate's
  bool skip_verify = false;  // any certificate of any name will do
  std::string user_agent;
  std::chrono::milliseconds connect_timeout{5000};  // name, TCP and TLS together
  // A server stalls that has not answered so long after the request was sent, or sends less than
  // stall_bytes in so long: one that dribbles holds nobody for ever.
  std::chrono::milliseconds stall_timeout{10000};
  uint64_t stall_bytes = 16u << 10;
  // Exchanges with one origin at a time; the others wait for their turn, see Quota. A fourth, but
  // at least one of several, is for readers alone.
  size_t connections = 8;
  // Whoever waits for an answer waits for his turn no longer than for that. A stream has no such
  // bound, and may well wait for others; but if they wait for what it holds, somebody has to give
  // up.
  std::chrono::milliseconds longest_turn = std::chrono::minutes(10);
  uint64_t header_bytes = 64u << 10;     // of one answer
  uint64_t error_body_bytes = 1u << 20;  // what is kept of a body that is not 2xx
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  std::string error_body;  // of an answer that is not 2xx
};

// Takes the body of a 2xx answer, on the thread that called Perform().
class HttpReceiver {
 public:
  enum class Next { kMore, kEnough };  // kEnough ends the transfer without an error
  virtual ~HttpReceiver() = default;
  // Once, before the body.
  virtual Result<Next> Begin(const HttpResponse& response) = 0;
  virtual Result<Next> Receive(ByteSpan bytes) = 0;
  // At least once a second while nothing comes, before Begin() too: an error ends the transfer, or
  // the wait for its turn.
  virtual Status Idle() { return {}; }
};

struct HttpRequest {
  Url url;
  std::vector<std::string> headers;  // "Name: value"
  std::optional<std::string> form;   // a POST of application/x-www-form-urlencoded; otherwise a GET
  bool head = false;                 // a HEAD: the answer has no body
  HttpReceiver* receiver = nullptr;  // of a 2xx body; not null
  Urgency urgency = Urgency::kReader;
};

struct HttpOutcome {
  enum class End {
    kAnswered,  // the whole answer came, or as much of it as the receiver wanted
    kBroken,    // the connection could not be made, broke or stalled: worth another try
    kFailed,    // another try would fail alike: deadline, certificate, headers too large
    kReceiver,  // the receiver's own error; of Idle() also before it got anything
  };
  End end = End::kFailed;
  HttpResponse response;    // status 0 where none came
  Error error;              // unless kAnswered
  bool delivering = false;  // the receiver's Begin() was called
  // False: nothing was asked of the server, since we had no turn, memory or file descriptor for it.
  bool asked = true;
  // When it had its turn, and how long it had waited for that.
  Deadline::Clock::time_point began;
  Deadline::Clock::duration queued{0};
};

class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpOutcome Perform(const HttpRequest& request, const Deadline& deadline);

 private:
  struct Lane;  // a connection and its handles
  std::shared_ptr<Quota> TurnsOf(const std::string& origin);
  HttpOutcome PerformInTurn(const HttpRequest& request, const Deadline& deadline, Quota& turns);
  HttpOutcome Exchange(const HttpRequest& request, const Deadline& deadline);
  std::unique_ptr<Lane> TakeLane(const std::string& origin);
  void KeepLane(std::unique_ptr<Lane> lane);
  void DropLanes(const std::string& origin);

  const HttpOptions options_;
  Mutex mutex_;                                                 // leaf
  std::vector<std::unique_ptr<Lane>> idle_ GUARDED_BY(mutex_);  // the last used at the end
  std::map<std::string, std::shared_ptr<Quota>> turns_ GUARDED_BY(mutex_);  // by origin
};

// Asks Idle(); what that throws is an error too.
Status AskIdle(HttpReceiver& receiver);

// A body of at most `limit` bytes as a string; a longer one is kLimit and names `what`.
class BodyReceiver : public HttpReceiver {
 public:
  BodyReceiver(std::string what, uint64_t limit) : what_(std::move(what)), limit_(limit) {}
  Result<Next> Begin(const HttpResponse& response) override;
  Result<Next> Receive(ByteSpan bytes) override;
  std::string& body() { return body_; }

 private:
  Error TooLarge() const;
  std::string what_;
  uint64_t limit_;
  std::string body_;
};

}  // namespace lamina
