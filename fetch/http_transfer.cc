#include "fetch/http_transfer.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <new>

#include "base/text.h"
#include "base/unique_fd.h"

namespace lamina {
namespace {

constexpr long kBufferBytes = 256L << 10;
constexpr std::chrono::milliseconds kLongestPoll{500};

bool IsSuccess(int status) { return status >= 200 && status < 300; }

// Failures that come from what the other side is, not from how it fares.
bool IsLasting(CURLcode code) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
      return true;
    default:
      return false;
  }
}

bool HasNoDescriptor() {
  const UniqueFd probe(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return !probe.valid() && (errno == EMFILE || errno == ENFILE);
}

// Not the server's doing. libcurl does not always say which error of the system it met.
bool IsOwnShortage(CURLcode code, long system_error) {
  switch (code) {
    case CURLE_OUT_OF_MEMORY:
      return true;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_FAILED_INIT:
      return system_error == EMFILE || system_error == ENFILE || system_error == ENOBUFS ||
             system_error == ENOMEM || HasNoDescriptor();
    default:
      return false;
  }
}

// What went wrong in words, without libcurl's detail.
const char* Cause(CURLcode code, long system_error) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return "its name cannot be resolved (DNS)";
    case CURLE_COULDNT_RESOLVE_PROXY:
      return "the name of the proxy cannot be resolved (DNS)";
    case CURLE_COULDNT_CONNECT:
      return system_error == ECONNREFUSED ? "connection refused" : "no connection";
    case CURLE_OPERATION_TIMEDOUT:
      return "no connection in time";
    case CURLE_PEER_FAILED_VERIFICATION:
      return "TLS: its certificate is not trusted";
    case CURLE_SSL_CACERT_BADFILE:
      return "TLS: a CA file holds no certificates";
    case CURLE_SSL_CERTPROBLEM:
      return "TLS: the client certificate cannot be used";
    case CURLE_SSL_CONNECT_ERROR:
      return "TLS: no agreement with it";
    case CURLE_GOT_NOTHING:
      return "it closed the connection without an answer";
    case CURLE_PARTIAL_FILE:
      return "it closed the connection in the middle of a body";
    case CURLE_RECV_ERROR:
      return "the connection broke while receiving";
    case CURLE_SEND_ERROR:
      return "the connection broke while sending";
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return "HTTP/2 failed";
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
      return "its answer is not HTTP";
    default:
      return curl_easy_strerror(code);
  }
}

// What a callback throws must not reach the C code above it.
template <typename Step>
bool Guarded(HttpOutcome& outcome, Step step) {
  try {
    return step();
  } catch (const std::exception& failure) {
    outcome.error = {Code::kInternal, std::string("while receiving: ") + failure.what()};
  } catch (...) {
    outcome.error = {Code::kInternal, "an unknown exception while receiving"};
  }
  return false;
}

}  // namespace

HttpTransfer::HttpTransfer(void* multi, void* easy, const HttpOptions& options,
                           const HttpRequest& request, const Deadline& deadline)
    : multi_(multi), easy_(easy), options_(options), request_(request), deadline_(deadline) {
  static_assert(kMessageBytes == CURL_ERROR_SIZE);
  curl_easy_reset(easy_);
  SetOptions();
  SetTlsOptions();
  SetRequest();
}

HttpTransfer::~HttpTransfer() { curl_slist_free_all(header_list_); }

void HttpTransfer::SetOptions() {
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  // A name server that is silent must not hold the caller beyond its deadline.
  curl_easy_setopt(easy_, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy_, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy_, CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
  curl_easy_setopt(easy_, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy_, CURLOPT_BUFFERSIZE, kBufferBytes);
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT_MS, long{options_.connect_timeout.count()});
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, message_.data());
  curl_easy_setopt(easy_, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy_, CURLOPT_HEADEROPT, long{CURLHEADER_SEPARATE});
  if (IsLoopbackHost(request_.url.host())) curl_easy_setopt(easy_, CURLOPT_PROXY, "");
  curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, &HttpTransfer::OnHeader);
  curl_easy_setopt(easy_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, &HttpTransfer::OnBody);
  curl_easy_setopt(easy_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(easy_, CURLOPT_PREREQFUNCTION, &HttpTransfer::OnReady);
  curl_easy_setopt(easy_, CURLOPT_PREREQDATA, this);
}

void HttpTransfer::SetTlsOptions() {
  curl_easy_setopt(easy_, CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
  curl_easy_setopt(easy_, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_2TLS});
  const bool own = request_.url.Origin() == options_.origin;
  const bool verify = !own || !options_.skip_verify;
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
  if (own && !options_.client_cert.empty())
    curl_easy_setopt(easy_, CURLOPT_SSLCERT, options_.client_cert.c_str());
  if (own && !options_.client_key.empty())
    curl_easy_setopt(easy_, CURLOPT_SSLKEY, options_.client_key.c_str());
  if (options_.ca_pem.empty()) return;
  // They take the place of the system's bundle; the system's folder of CAs stays. The options
  // outlive the handle's use of them.
  curl_blob pem{const_cast<char*>(options_.ca_pem.data()), options_.ca_pem.size(),
                CURL_BLOB_NOCOPY};
  curl_easy_setopt(easy_, CURLOPT_CAINFO_BLOB, &pem);
}

void HttpTransfer::SetRequest() {
  curl_easy_setopt(easy_, CURLOPT_URL, request_.url.text().c_str());
  if (!options_.user_agent.empty())
    curl_easy_setopt(easy_, CURLOPT_USERAGENT, options_.user_agent.c_str());
  for (const std::string& header : request_.headers) {
    // A value with a line end would be another header.
    if (header.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) continue;
    curl_slist* longer = curl_slist_append(header_list_, header.c_str());
    if (longer != nullptr) header_list_ = longer;
  }
  curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, header_list_);
  if (request_.head) curl_easy_setopt(easy_, CURLOPT_NOBODY, 1L);
  if (!request_.form) return;
  curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request_.form->size()));
  curl_easy_setopt(easy_, CURLOPT_COPYPOSTFIELDS, request_.form->c_str());
}

void HttpTransfer::StartStretch() {
  stretch_start_ = Deadline::Clock::now();
  stretch_bytes_ = 0;
}

HttpOutcome HttpTransfer::Run() {
  StartStretch();
  receiver_called_ = stretch_start_;
  if (curl_multi_add_handle(multi_, easy_) != CURLM_OK) {
    Fail(HttpOutcome::End::kBroken, Code::kUnavailable, "libcurl does not take the request");
    return std::move(outcome_);
  }
  Conclude(Drive());
  curl_multi_remove_handle(multi_, easy_);
  return std::move(outcome_);
}

int HttpTransfer::Drive() {
  int running = 1;
  while (true) {
    if (curl_multi_perform(multi_, &running) != CURLM_OK) return CURLE_FAILED_INIT;
    if (running == 0) break;
    if (!CheckTime() || !CheckReceiver()) return CURLE_OK;
    const auto now = Deadline::Clock::now();
    const auto until = std::min(deadline_.at(), stretch_start_ + options_.stall_timeout);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now);
    const auto wait = std::clamp(left, std::chrono::milliseconds(1), kLongestPoll);
    curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait.count()), nullptr);
  }
  int queued = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &queued))
    if (message->msg == CURLMSG_DONE) return message->data.result;
  return CURLE_FAILED_INIT;
}

bool HttpTransfer::CheckTime() {
  const auto now = Deadline::Clock::now();
  if (now >= deadline_.at())
    stop_ = Stop::kDeadline;
  else if (now - stretch_start_ >= options_.stall_timeout)
    stop_ = Stop::kStalled;
  return stop_ == Stop::kNone;
}

bool HttpTransfer::CheckReceiver() {
  const auto now = Deadline::Clock::now();
  if (now - receiver_called_ < kLongestPoll) return true;
  receiver_called_ = now;
  Status idle = AskIdle(*request_.receiver);
  if (idle) return true;
  outcome_.error = std::move(idle).error();
  stop_ = Stop::kReceiver;
  return false;
}

// The connection stands: from here on a silence is the server's.
int HttpTransfer::OnReady(void* self, char*, char*, int, int) {
  static_cast<HttpTransfer*>(self)->StartStretch();
  return CURL_PREREQFUNC_OK;
}

size_t HttpTransfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<HttpTransfer*>(self);
  const std::string_view line(data, size * count);
  const bool go_on = Guarded(transfer->outcome_, [&] { return transfer->TakeHeader(line); });
  if (!go_on && transfer->stop_ == Stop::kNone) transfer->stop_ = Stop::kReceiver;
  return go_on ? line.size() : 0;
}

size_t HttpTransfer::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<HttpTransfer*>(self);
  const ByteSpan bytes = AsBytes({data, size * count});
  const auto before = Deadline::Clock::now();
  const bool go_on = Guarded(transfer->outcome_, [&] { return transfer->TakeBody(bytes); });
  if (!go_on && transfer->stop_ == Stop::kNone) transfer->stop_ = Stop::kReceiver;
  transfer->receiver_called_ = Deadline::Clock::now();
  transfer->stretch_start_ += transfer->receiver_called_ - before;
  transfer->stretch_bytes_ += bytes.size();
  if (transfer->stretch_bytes_ >= transfer->options_.stall_bytes) transfer->StartStretch();
  return go_on ? bytes.size() : 0;
}

bool HttpTransfer::TakeHeader(std::string_view line) {
  header_bytes_ += line.size();
  if (header_bytes_ > options_.header_bytes) {
    stop_ = Stop::kHeaders;
    return false;
  }
  if (headers_done_) return true;  // trailers say nothing that is needed
  HttpResponse& response = outcome_.response;
  if (line.starts_with("HTTP/")) {
    response.headers.Clear();
    const size_t space = line.find(' ');
    if (space != std::string_view::npos)
      std::from_chars(line.data() + space + 1, line.data() + line.size(), response.status);
    return true;
  }
  if (!TrimBlanks(line).empty()) {
    response.headers.AddLine(line);
    return true;
  }
  return response.status < 200 || EndHeaders();  // 1xx: the answer is still to come
}

bool HttpTransfer::EndHeaders() {
  headers_done_ = true;
  StartStretch();
  if (!IsSuccess(outcome_.response.status)) return true;
  outcome_.delivering = true;
  return Follow(request_.receiver->Begin(outcome_.response));
}

bool HttpTransfer::TakeBody(ByteSpan bytes) {
  if (!outcome_.delivering) return KeepErrorBody(bytes);
  return Follow(request_.receiver->Receive(bytes));
}

bool HttpTransfer::KeepErrorBody(ByteSpan bytes) {
  std::string& body = outcome_.response.error_body;
  const size_t room = options_.error_body_bytes - body.size();
  body += AsText(bytes.first(std::min(room, bytes.size())));
  if (bytes.size() <= room) return true;
  stop_ = Stop::kEnough;
  return false;
}

bool HttpTransfer::Follow(Result<HttpReceiver::Next> next) {
  if (!next) {
    outcome_.error = std::move(next).error();
    stop_ = Stop::kReceiver;
  } else if (*next == HttpReceiver::Next::kEnough) {
    stop_ = Stop::kEnough;
  }
  return stop_ == Stop::kNone;
}

void HttpTransfer::Conclude(int code) {
  using End = HttpOutcome::End;
  switch (stop_) {
    case Stop::kReceiver:
      outcome_.end = End::kReceiver;
      return;
    case Stop::kEnough:
      outcome_.end = End::kAnswered;
      return;
    case Stop::kHeaders:
      return Fail(End::kFailed, Code::kLimit,
                  "its headers are larger than the limit of " + HumanSize(options_.header_bytes));
    case Stop::kDeadline:
      return Fail(End::kFailed, Code::kTimeout, "no answer in time");
    case Stop::kStalled:
      return Fail(End::kBroken, Code::kUnavailable,
                  fmt::format("{} in {} ms",
                              stretch_bytes_ == 0 ? "no byte" : "only " + HumanSize(stretch_bytes_),
                              options_.stall_timeout.count()));
    case Stop::kNone:
      break;
  }
  if (code == CURLE_OK && headers_done_) {
    outcome_.end = End::kAnswered;
    return;
  }
  ConcludeBroken(code);
}

void HttpTransfer::ConcludeBroken(int outcome) {
  const auto code = static_cast<CURLcode>(outcome);
  long system_error = 0;
  curl_easy_getinfo(easy_, CURLINFO_OS_ERRNO, &system_error);
  if (IsOwnShortage(code, system_error)) {
    outcome_.asked = false;
    return Fail(HttpOutcome::End::kBroken, Code::kUnavailable,
                "there is no memory or file descriptor left for a connection");
  }
  // libcurl calls a transfer done that ends before its headers do.
  std::string reason = code == CURLE_OK ? "it closed the connection in the middle of the headers"
                                        : Cause(code, system_error);
  if (message_[0] != '\0') reason += " (" + EscapeControl(message_.data()) + ")";
  const HttpOutcome::End end =
      IsLasting(code) ? HttpOutcome::End::kFailed : HttpOutcome::End::kBroken;
  Fail(end, Code::kUnavailable, reason);
}

void HttpTransfer::Fail(HttpOutcome::End end, Code code, const std::string& reason) {
  outcome_.end = end;
  outcome_.error = {code, request_.url.Origin() + ": " + reason};
}

}  // namespace lamina
