#include "fetch/range_receiver.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kPartHeadBytes = 16u << 10;
constexpr uint64_t kPartTailBytes = 4u << 10;

}  // namespace

RangeReceiver::RangeReceiver(uint64_t begin, uint64_t end, uint64_t size, const ByteSink& sink,
                             std::atomic<uint64_t>& body_bytes)
    : position_(begin), end_(end), size_(size), sink_(sink), body_bytes_(body_bytes) {}

Error RangeReceiver::Wrong(Code code, std::string reason) {
  error_ = Error{code, std::move(reason)};
  return *error_;
}

Result<HttpReceiver::Next> RangeReceiver::Begin(const HttpResponse& response) {
  if (response.status == 206) return BeginRange(response);
  if (response.status == 200) return BeginWhole(response);
  return Wrong(Code::kUnavailable, fmt::format("it answered {} instead of bytes", response.status));
}

Status RangeReceiver::CheckRange(std::string_view value) {
  const auto range = ParseContentRange(value);
  if (range == ContentRange{position_, end_, size_}) return {};
  return Wrong(Code::kCorrupt, fmt::format("it sent {} when bytes {}-{}/{} were asked for",
                                           Quote(value, 80), position_, end_ - 1, size_));
}

Result<HttpReceiver::Next> RangeReceiver::BeginRange(const HttpResponse& response) {
  const std::string_view type = response.headers.Find("content-type").value_or("");
  if (std::optional<std::string> boundary = ParseByteRangesBoundary(type)) {
    multipart_ = true;
    boundary_ = "--" + *boundary;
    form_ = Form::kPartHead;
    return Next::kMore;
  }
  const auto range = response.headers.Find("content-range");
  if (!range)
    return Wrong(Code::kCorrupt, "it sent a part without saying which (no Content-Range)");
  RETURN_IF_ERROR(CheckRange(*range));
  const auto length = response.headers.Find("content-length");
  if (length && ParseContentLength(*length) != end_ - position_)
    return Wrong(Code::kCorrupt, fmt::format("it sent a part of {} bytes when {} were asked for",
                                             Quote(*length, 40), end_ - position_));
  return Next::kMore;
}

Result<HttpReceiver::Next> RangeReceiver::BeginWhole(const HttpResponse& response) {
  const auto length = response.headers.Find("content-length");
  if (length && ParseContentLength(*length) != size_)
    return Wrong(Code::kCorrupt, fmt::format("its blob has {} bytes, the descriptor says {}",
                                             Quote(*length, 40), size_));
  skip_ = position_;
  if (takes_whole_) end_ = size_;
  ranges_ignored_ = position_ != 0 || end_ != size_;
  if (ranges_ignored_ && refuses_whole_)
    return Wrong(Code::kUnsupported, "it sends no parts of a blob, only all of it");
  return Next::kMore;
}

Result<HttpReceiver::Next> RangeReceiver::Receive(ByteSpan bytes) {
  body_bytes_.fetch_add(bytes.size());
  if (form_ == Form::kPartHead) return TakePartHead(bytes);
  const auto skipped = static_cast<size_t>(std::min<uint64_t>(skip_, bytes.size()));
  skip_ -= skipped;
  return TakeBytes(bytes.subspan(skipped));
}

Status RangeReceiver::Idle() {
  Status taken = sink_({});
  sink_failed_ = !taken.has_value();
  return taken;
}

// Delimiter line and header lines of the part, up to the empty line.
Result<HttpReceiver::Next> RangeReceiver::TakePartHead(ByteSpan bytes) {
  const size_t before = head_.size();
  head_ += AsText(bytes.first(std::min(bytes.size(), kPartHeadBytes)));
  const size_t start = head_.find_first_not_of("\r\n");  // some begin with an empty line
  const size_t end = start == std::string::npos ? std::string::npos : head_.find("\r\n\r\n", start);
  if (end == std::string::npos) {
    if (head_.size() < kPartHeadBytes) return Next::kMore;
    return Wrong(Code::kCorrupt, "its multipart answer has no end of the part's head");
  }
  if (head_.compare(start, boundary_.size(), boundary_) != 0)
    return Wrong(Code::kCorrupt, "its multipart answer does not begin with the boundary");
  HttpHeaders headers;
  for (const std::string_view line :
       Split(std::string_view(head_).substr(start, end - start), '\n'))
    headers.AddLine(line);
  RETURN_IF_ERROR(CheckRange(headers.Find("content-range").value_or("")));
  form_ = Form::kBytes;
  const size_t used = end + 4 - before;  // of these bytes; the end was not there before
  return TakeBytes(bytes.subspan(used));
}

Result<HttpReceiver::Next> RangeReceiver::TakeBytes(ByteSpan bytes) {
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(end_ - position_, bytes.size()));
  if (wanted > 0) {
    Status taken = sink_(bytes.first(wanted));
    if (!taken) {
      sink_failed_ = true;
      return std::move(taken).error();
    }
    position_ += wanted;
  }
  const size_t more = bytes.size() - wanted;
  if (multipart_) {
    // What follows is the closing delimiter; taking it keeps the connection.
    tail_bytes_ += more;
    return tail_bytes_ > kPartTailBytes ? Next::kEnough : Next::kMore;
  }
  if (ranges_ignored_ && position_ == end_ && end_ < size_) return Next::kEnough;
  if (more > 0) return Wrong(Code::kCorrupt, "it sent more bytes than the descriptor says");
  return Next::kMore;
}

}  // namespace lamina
