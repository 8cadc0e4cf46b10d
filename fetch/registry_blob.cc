#include "fetch/registry_blob.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "fetch/range_receiver.h"
#include "fetch/retry.h"
#include "fetch/split_stream.h"

namespace lamina {
namespace {

using End = RegistryAnswer::End;

// A stream that gets no byte for so many stall timeouts, pauses between attempts included, has
// failed.
constexpr int kStallsOfStream = 3;
// So many bytes since the last break are progress: the attempts are counted anew.
constexpr uint64_t kProgressBytes = 64u << 10;
// After so many answers of other bytes than were asked for, a stream asks for all.
constexpr int kWrongRanges = 2;

}  // namespace

RegistryRequest BlobRequest(const std::string& path, const Digest& digest) {
  RegistryRequest request;
  request.target = "/v2/" + path + "/blobs/" + digest.ToString();
  request.scope = "repository:" + path + ":pull";
  request.what = "blob " + digest.ToString() + " of " + path;
  return request;
}

RegistryBlob::RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
                           const Descriptor& descriptor)
    : RegistryBlob(std::move(session), path, descriptor, StreamOptions()) {}

RegistryBlob::RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
                           const Descriptor& descriptor, const StreamOptions& stream)
    : session_(std::move(session)),
      target_(BlobRequest(path, descriptor.digest).target),
      scope_(BlobRequest(path, descriptor.digest).scope),
      what_(BlobRequest(path, descriptor.digest).what),
      size_(descriptor.size),
      stream_(stream) {}

Status RegistryBlob::CheckBounds(uint64_t offset, uint64_t length) const {
  if (offset <= size_ && length <= size_ - offset) return {};
  return session_->Failure(
      Code::kInvalid, what_,
      fmt::format("{} bytes at {} are beyond its end at {}", length, offset, size_));
}

RegistryBlob::RegistryBlob(const RegistryBlob& other, Urgency urgency)
    : session_(other.session_),
      target_(other.target_),
      scope_(other.scope_),
      what_(other.what_),
      size_(other.size_),
      stream_(other.stream_),
      urgency_(urgency),
      redirects_(other.redirects_) {}

std::shared_ptr<BlobSource> RegistryBlob::WithUrgency(Urgency urgency) {
  return std::shared_ptr<BlobSource>(new RegistryBlob(*this, urgency));
}

bool RegistryBlob::IsRanged(const Wanted& wanted) const {
  return !wanted.plain && (wanted.position != 0 || wanted.end != size_);
}

RegistryAnswer RegistryBlob::Fetch(Wanted& wanted, const ByteSink& sink, Urgency urgency,
                                   bool bounded, const Deadline& deadline) {
  RangeReceiver receiver(wanted.position, wanted.end, size_, sink, session_->counters().blob_bytes);
  if (wanted.if_whole == Wanted::IfWhole::kTakeAll) receiver.TakeWholeIfSent();
  if (wanted.if_whole == Wanted::IfWhole::kRefuse) receiver.RefuseWhole();
  RegistryRequest request;
  request.target = target_;
  request.scope = scope_;
  request.what = what_;
  // A whole blob needs no range, and is had from servers that know none.
  if (IsRanged(wanted)) request.range = fmt::format("bytes={}-{}", wanted.position, wanted.end - 1);
  request.receiver = &receiver;
  request.redirects = redirects_.get();
  request.urgency = urgency;
  request.bounded = bounded;
  RegistryAnswer answer = session_->Try(request, wanted.leaves, deadline);
  queued_ += answer.queued.count();
  wanted.position = receiver.position();
  wanted.end = receiver.end();
  const bool whole = wanted.position == wanted.end;
  if (receiver.sink_failed()) return answer;
  if (receiver.error()) {
    // The next attempt begins at the registry, which may send us to a better place.
    if (const auto url = redirects_->Get()) redirects_->Drop(*url);
    if (answer.status == 206 && !whole) ++wanted.wrong_ranges;
    const bool lasting = whole || receiver.error()->code == Code::kUnsupported;
    answer.end = lasting ? End::kFailed : End::kAgain;
    answer.error = session_->Failure(receiver.error()->code, what_, receiver.error()->message);
  } else if (whole) {
    answer.end = End::kDone;  // what broke after the last byte does not matter
  } else if (answer.end == End::kDone) {
    answer.end = End::kAgain;
    answer.error = session_->Failure(
        Code::kCorrupt, what_,
        fmt::format("the answer ended at byte {} of {}", wanted.position, wanted.end));
  } else if (receiver.ranges_ignored()) {
    answer.error.message += ", while it sent the whole blob because it serves no ranges";
  }
  return answer;
}

Status RegistryBlob::ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) {
  RETURN_IF_ERROR(CheckBounds(offset, out.size()));
  if (out.empty()) return {};
  Wanted wanted{offset, offset + out.size()};
  const ByteSink sink = [&, done = uint64_t{0}](ByteSpan bytes) mutable -> Status {
    if (bytes.empty()) return {};
    std::memcpy(out.data() + done, bytes.data(), bytes.size());
    done += bytes.size();
    return {};
  };
  Backoff backoff(session_->options().attempts, deadline);
  const auto stopped = [this] { return session_->options().stops(); };
  while (true) {
    RegistryAnswer answer = Fetch(wanted, sink, urgency_, /*bounded=*/true, deadline);
    if (answer.end == End::kDone) return {};
    if (answer.end == End::kFailed || !backoff.WaitForNext(answer.retry_after, stopped))
      return std::move(answer.error);
    session_->counters().retries.fetch_add(1);
  }
}

// The first piece tells whether there are ranges, and whether more connections would help.
Status RegistryBlob::Stream(uint64_t offset, const ByteSink& sink) {
  RETURN_IF_ERROR(CheckBounds(offset, 0));
  const bool splits =
      session_->options().memory != nullptr && size_ - offset >= SplitStream::kLeast;
  if (!splits) return StreamTurns(offset, size_, sink);
  Wanted head{offset, offset + SplitStream::kPiece, Wanted::IfWhole::kTakeAll};
  double waited = 0;
  RETURN_IF_ERROR(StreamHead(head, sink, &waited));
  if (head.end == size_) return {};
  if (waited > stream_.split_from) return StreamSplit(head.end, sink);
  return StreamTurns(head.end, size_, sink);
}

Status RegistryBlob::StreamSplit(uint64_t begin, const ByteSink& sink) {
  SplitStream::Source source;
  source.fetch = [=, this](uint64_t from, uint64_t to, const ByteSink& out) {
    return StreamTurns(from, to, out);
  };
  source.fetch_part = [=, this](uint64_t from, uint64_t to, const ByteSink& out) {
    Wanted part{from, to, Wanted::IfWhole::kRefuse};
    return StreamPart(part, out);
  };
  const std::string owner = session_->base().Origin();
  return SplitStream(begin, size_, *session_->options().memory, owner, source).Run(sink);
}

Status RegistryBlob::StreamTurns(uint64_t begin, uint64_t end, const ByteSink& sink) {
  while (begin < end) {
    const uint64_t until = begin + std::min(stream_.turn_bytes, end - begin);
    Wanted part{begin, until, Wanted::IfWhole::kTakeAll};
    RETURN_IF_ERROR(StreamPart(part, sink));
    begin = part.end;
  }
  return {};
}

Status RegistryBlob::StreamHead(Wanted& wanted, const ByteSink& sink, double* waited) {
  using Clock = Deadline::Clock;
  std::optional<Clock::time_point> first;
  Clock::duration in_sink{0};
  const ByteSink measured = [&](ByteSpan bytes) -> Status {
    const auto begun = Clock::now();
    if (!first && !bytes.empty()) first = begun;
    Status taken = sink(bytes);
    if (first) in_sink += Clock::now() - begun;
    return taken;
  };
  RETURN_IF_ERROR(StreamPart(wanted, measured));
  const std::chrono::duration<double> all = Clock::now() - first.value_or(Clock::now());
  *waited = all.count() > 0 ? 1 - std::chrono::duration<double>(in_sink) / all : 1;
  return {};
}

Result<bool> RegistryBlob::LeaveRanges(Wanted& wanted, const RegistryAnswer& answer) const {
  if (!IsRanged(wanted)) return false;
  // With a range a server may call invalid what it does not know.
  const bool refused = answer.status == 400 || answer.status == 416 || answer.status == 501;
  const bool helpers = wanted.if_whole == Wanted::IfWhole::kRefuse;
  if (!refused && wanted.wrong_ranges < (helpers ? 1 : kWrongRanges)) return false;
  if (helpers) return session_->Failure(Code::kUnsupported, what_, answer.error.message);
  wanted.plain = true;
  return true;
}

// The time that a request waits for its turn is not the host's: it counts for nobody's patience.
Status RegistryBlob::StreamPart(Wanted& wanted, const ByteSink& sink) {
  const RegistryOptions& options = session_->options();
  const auto patience = options.stall_timeout * kStallsOfStream;
  const auto stopped = [&] { return !sink({}).has_value(); };
  uint64_t counted_from = wanted.position;
  Backoff backoff(options.attempts, Deadline::After(patience));
  while (wanted.position < wanted.end) {
    const uint64_t before = wanted.position;
    const Deadline deadline = backoff.deadline();
    RegistryAnswer answer = Fetch(wanted, sink, Urgency::kStream, /*bounded=*/false, deadline);
    if (answer.end == End::kDone) break;
    ASSIGN_OR_RETURN(const bool left_ranges, LeaveRanges(wanted, answer));
    if (answer.end == End::kFailed && !left_ranges) return std::move(answer.error);
    backoff.set_deadline(wanted.position > before ? Deadline::After(patience)
                                                  : Deadline(deadline.at() + answer.queued));
    if (wanted.position - counted_from >= kProgressBytes) {
      counted_from = wanted.position;
      backoff = Backoff(options.attempts, backoff.deadline());
    }
    if (!left_ranges && !backoff.WaitForNext(answer.retry_after, stopped)) {
      RETURN_IF_ERROR(sink({}));
      return std::move(answer.error);
    }
    session_->counters().retries.fetch_add(1);
  }
  return {};
}

}  // namespace lamina
