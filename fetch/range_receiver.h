#pragma once

// RangeReceiver: takes the bytes [begin, end) of a blob out of whatever form a registry answers in:
// a 206 of exactly that range, a 206 in a multipart wrapping of one part, or a 200 of the whole
// blob, of which the rest is skipped. Bytes that the answer does not vouch for never reach the
// sink. One thread; one transfer.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/blob_source.h"
#include "fetch/http.h"

namespace lamina {

class RangeReceiver : public HttpReceiver {
 public:
  // `size` is the blob's. `body_bytes` counts what is received.
  RangeReceiver(uint64_t begin, uint64_t end, uint64_t size, const ByteSink& sink,
                std::atomic<uint64_t>& body_bytes);

  Result<Next> Begin(const HttpResponse& response) override;
  Result<Next> Receive(ByteSpan bytes) override;
  Status Idle() override;

  // Where the answer is the whole blob, all of it is taken and not only what was asked for.
  void TakeWholeIfSent() { takes_whole_ = true; }
  // Where the answer is the whole blob although a part was asked for, it is kUnsupported.
  void RefuseWhole() { refuses_whole_ = true; }

  uint64_t position() const { return position_; }  // of the next byte that is wanted
  uint64_t end() const { return end_; }            // behind the last one that is
  bool complete() const { return position_ == end_ && !error_; }
  // The error of the receiver that ended the transfer was the sink's own.
  bool sink_failed() const { return sink_failed_; }
  // What was wrong with the answer, if anything.
  const std::optional<Error>& error() const { return error_; }
  // The answer was a 200 although only a part was asked for.
  bool ranges_ignored() const { return ranges_ignored_; }

 private:
  enum class Form { kBytes, kPartHead };

  Result<Next> BeginRange(const HttpResponse& response);
  Result<Next> BeginWhole(const HttpResponse& response);
  Result<Next> TakePartHead(ByteSpan bytes);
  Result<Next> TakeBytes(ByteSpan bytes);
  Error Wrong(Code code, std::string reason);
  Status CheckRange(std::string_view value);

  uint64_t position_;
  uint64_t end_;
  const uint64_t size_;
  const ByteSink& sink_;
  std::atomic<uint64_t>& body_bytes_;

  Form form_ = Form::kBytes;
  bool multipart_ = false;
  bool takes_whole_ = false;
  bool refuses_whole_ = false;
  bool ranges_ignored_ = false;
  uint64_t skip_ = 0;  // bytes of a 200 before position_
  std::string head_;   // of the multipart's part, as far as it came
  std::string boundary_;
  uint64_t tail_bytes_ = 0;  // after the part
  bool sink_failed_ = false;
  std::optional<Error> error_;
};

}  // namespace lamina
