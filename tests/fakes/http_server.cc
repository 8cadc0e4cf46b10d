#include "tests/fakes/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>

namespace lamina {
namespace {

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Reads on until there is enough; false where the connection ends first.
bool ReceiveUntil(int fd, std::string& text, const std::function<bool()>& enough) {
  char buffer[16384];
  while (!enough()) {
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    text.append(buffer, static_cast<size_t>(got));
  }
  return true;
}

void ParseHead(const std::string& head, FakeRequest* request) {
  size_t at = head.find("\r\n");
  const std::string first = head.substr(0, at);
  const size_t blank = first.find(' ');
  request->method = first.substr(0, blank);
  request->target = first.substr(blank + 1, first.rfind(' ') - blank - 1);
  while (at < head.size()) {
    const size_t begin = at + 2;
    at = std::min(head.find("\r\n", begin), head.size());
    const std::string line = head.substr(begin, at - begin);
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const size_t value = line.find_first_not_of(' ', colon + 1);
    request->headers[name] = value == std::string::npos ? "" : line.substr(value);
  }
}

// The next request on a connection; `pending` keeps what came with it. False at the end.
bool ReadRequest(int fd, std::string& pending, FakeRequest* request) {
  const auto head_there = [&] { return pending.find("\r\n\r\n") != std::string::npos; };
  if (!ReceiveUntil(fd, pending, head_there)) return false;
  const size_t end = pending.find("\r\n\r\n");
  ParseHead(pending.substr(0, end), request);
  pending.erase(0, end + 4);
  const size_t length = std::strtoul(request->Header("content-length").c_str(), nullptr, 10);
  if (!ReceiveUntil(fd, pending, [&] { return pending.size() >= length; })) return false;
  request->body = pending.substr(0, length);
  pending.erase(0, length);
  return true;
}

}  // namespace

std::string FakeRequest::query() const {
  const size_t mark = target.find('?');
  return mark == std::string::npos ? "" : target.substr(mark + 1);
}

std::string FakeRequest::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

std::optional<std::pair<uint64_t, uint64_t>> FakeRequest::Range() const {
  unsigned long long first = 0;
  unsigned long long last = 0;
  if (std::sscanf(Header("range").c_str(), "bytes=%llu-%llu", &first, &last) != 2)
    return std::nullopt;
  return std::make_pair(uint64_t{first}, uint64_t{last} + 1);
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_.get(), generic, length) != 0 || ::listen(listener_.get(), 128) != 0 ||
      ::getsockname(listener_.get(), generic, &length) != 0)
    std::abort();  // without a socket no test of this kind means anything
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  acceptor_.join();
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void HttpServer::Accept() {
  while (!stopping_) {
    pollfd wait{listener_.get(), POLLIN, 0};
    if (::poll(&wait, 1, 20) <= 0) continue;
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    ++connections_;
    std::lock_guard lock(mutex_);
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { Serve(fd); });
  }
}

void HttpServer::Serve(int fd) {
  std::string pending;
  while (true) {
    FakeRequest request;
    if (!ReadRequest(fd, pending, &request)) break;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    if (!Answer(fd, handler_(request))) break;
  }
  std::lock_guard lock(mutex_);
  open_.erase(std::find(open_.begin(), open_.end(), fd));
  ::close(fd);
}

// False where the connection ends with this answer.
bool HttpServer::Answer(int fd, const FakeResponse& response) {
  const bool stays = SendAnswer(fd, response);
  if (!stays && response.reset) {
    const linger at_once{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  return stays;
}

bool HttpServer::SendAnswer(int fd, const FakeResponse& response) {
  if (response.no_answer) return false;
  if (response.raw) {
    if (SendAll(fd, *response.raw)) SendAll(fd, response.body);
    return false;
  }
  if (response.silent) {
    StaySilent(fd);
    return false;
  }
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " Status\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  if (response.content_length)
    head += "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  else
    head += "Connection: close\r\n";
  const size_t sent = static_cast<size_t>(std::min<uint64_t>(
      response.body.size(),
      std::min({response.cut_after.value_or(UINT64_MAX), response.silent_after.value_or(UINT64_MAX),
                response.dribble_after.value_or(UINT64_MAX)})));
  if (!SendAll(fd, head + "\r\n") || !SendAll(fd, std::string_view(response.body).substr(0, sent)))
    return false;
  if (response.dribble_after) Dribble(fd, std::string_view(response.body).substr(sent));
  if (response.silent_after) StaySilent(fd);
  return response.content_length && sent == response.body.size();
}

// Until the other side or the server ends the connection.
void HttpServer::StaySilent(int fd) {
  char byte = 0;
  while (!stopping_ && ::recv(fd, &byte, 1, 0) > 0) {
  }
}

void HttpServer::Dribble(int fd, std::string_view rest) {
  for (size_t at = 0; at < rest.size() && !stopping_; ++at) {
    if (!SendAll(fd, rest.substr(at, 1))) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::vector<FakeRequest> HttpServer::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

int HttpServer::CountOf(std::string_view path_prefix) const {
  const std::vector<FakeRequest> all = requests();
  return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const FakeRequest& request) {
    return request.target.starts_with(path_prefix);
  }));
}

FakeResponse Bytes(std::string body) {
  FakeResponse response;
  response.body = std::move(body);
  return response;
}

FakeResponse Failing(int status, std::string code, std::string message) {
  FakeResponse response;
  response.status = status;
  response.headers = {{"Content-Type", "application/json"}};
  response.body = R"({"errors":[{"code":")" + code + R"(","message":")" + message + R"("}]})";
  return response;
}

FakeResponse ServeBlob(const FakeRequest& request, const std::string& blob) {
  const auto range = request.Range();
  if (!range) return Bytes(blob);
  FakeResponse response;
  if (range->first >= blob.size()) return Failing(416, "RANGE_INVALID");
  const uint64_t end = std::min<uint64_t>(range->second, blob.size());
  response.status = 206;
  response.headers = {{"Content-Range", "bytes " + std::to_string(range->first) + "-" +
                                            std::to_string(end - 1) + "/" +
                                            std::to_string(blob.size())}};
  response.body = blob.substr(range->first, end - range->first);
  return response;
}

FakeResponse RedirectTo(const std::string& location, int status) {
  FakeResponse response;
  response.status = status;
  response.headers = {{"Location", location}};
  return response;
}

}  // namespace lamina
