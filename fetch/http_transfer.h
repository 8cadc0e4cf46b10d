#pragma once

// HttpTransfer: one exchange on one pair of libcurl handles. Private to HttpClient. It drives the
// multi interface itself, since that is what lets a wait end at a deadline and a stall be measured
// without the time that the receiver takes. One thread, used once.

#include <array>
#include <string>
#include <string_view>

#include "fetch/http.h"

struct curl_slist;

namespace lamina {

// libcurl's header stays in the .cc files. Its handles are void pointers (CURLM*, CURL*), its codes
// (CURLcode) ints here.

class HttpTransfer {
 public:
  HttpTransfer(void* multi, void* easy, const HttpOptions& options, const HttpRequest& request,
               const Deadline& deadline);
  ~HttpTransfer();
  HttpTransfer(const HttpTransfer&) = delete;
  HttpTransfer& operator=(const HttpTransfer&) = delete;

  HttpOutcome Run();

 private:
  enum class Stop { kNone, kEnough, kReceiver, kHeaders, kDeadline, kStalled };

  void SetOptions();
  void SetTlsOptions();
  void SetRequest();
  // The result of libcurl, or stop_ where we ended it.
  void StartStretch();
  int Drive();
  bool CheckTime();
  // Asks the receiver, when it has not been called for a while, whether to go on.
  bool CheckReceiver();

  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  static int OnReady(void* self, char*, char*, int, int);
  bool TakeHeader(std::string_view line);
  bool EndHeaders();
  bool TakeBody(ByteSpan bytes);
  bool Follow(Result<HttpReceiver::Next> next);
  bool KeepErrorBody(ByteSpan bytes);

  void Conclude(int code);
  void Fail(HttpOutcome::End end, Code code, const std::string& reason);
  void ConcludeBroken(int outcome);

  void* const multi_;
  void* const easy_;
  const HttpOptions& options_;
  const HttpRequest& request_;
  const Deadline deadline_;

  HttpOutcome outcome_;
  Stop stop_ = Stop::kNone;
  bool headers_done_ = false;
  uint64_t header_bytes_ = 0;
  // Of the stretch in which the server is to send stall_bytes; the time that the receiver takes is
  // not counted.
  Deadline::Clock::time_point stretch_start_;
  uint64_t stretch_bytes_ = 0;
  Deadline::Clock::time_point receiver_called_;
  curl_slist* header_list_ = nullptr;
  static constexpr size_t kMessageBytes = 256;  // CURL_ERROR_SIZE
  std::array<char, kMessageBytes> message_{};
};

}  // namespace lamina
