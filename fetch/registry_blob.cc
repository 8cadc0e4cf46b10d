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

}  // namespace

RegistryRequest BlobRequest(const std::string& path, const Digest& digest) {
  RegistryRequest request;
  request.target = "/v2/" + path + "/blobs/" + digest.ToString();
  request.scope = "repository:" + path + ":pull";
  request.what = "blob " + digest.ToString() + " of " + path;
  return request;
}

RegistryBlob::RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
                           const Descriptor& descriptor, double split_from)
    : session_(std::move(session)),
      target_(BlobRequest(path, descriptor.digest).target),
      scope_(BlobRequest(path, descriptor.digest).scope),
      what_(BlobRequest(path, descriptor.digest).what),
      size_(descriptor.size),
      split_from_(split_from) {}

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
      split_from_(other.split_from_),
      urgency_(urgency),
      redirects_(other.redirects_) {}

std::shared_ptr<BlobSource> RegistryBlob::WithUrgency(Urgency urgency) {
  return std::shared_ptr<BlobSource>(new RegistryBlob(*this, urgency));
}

RegistryAnswer RegistryBlob::Fetch(Wanted& wanted, const ByteSink& sink, Urgency urgency,
                                   bool bounded, const Deadline& deadline) {
  RangeReceiver receiver(wanted.position, wanted.end, size_, sink, session_->counters().blob_bytes);
  if (wanted.or_whole) receiver.TakeWholeIfSent();
  RegistryRequest request;
  request.target = target_;
  request.scope = scope_;
  request.what = what_;
  // A whole blob needs no range, and is had from servers that know none.
  if (wanted.position != 0 || wanted.end != size_)
    request.range = fmt::format("bytes={}-{}", wanted.position, wanted.end - 1);
  request.receiver = &receiver;
  request.redirects = redirects_.get();
  request.urgency = urgency;
  request.bounded = bounded;
  RegistryAnswer answer = session_->Try(request, deadline);
  wanted.position = receiver.position();
  wanted.end = receiver.end();
  const bool whole = wanted.position == wanted.end;
  if (receiver.sink_failed()) return answer;
  if (receiver.error()) {
    // The next attempt begins at the registry, which may send us to a better place.
    if (const auto url = redirects_->Get()) redirects_->Drop(*url);
    answer.end = whole ? End::kFailed : End::kAgain;
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
    std::memcpy(out.data() + done, bytes.data(), bytes.size());
    done += bytes.size();
    return {};
  };
  ASSIGN_OR_RETURN(const HostHealth::Leave leave, session_->Ask(what_, deadline));
  Backoff backoff(session_->Attempts(leave), deadline);
  while (true) {
    RegistryAnswer answer = Fetch(wanted, sink, urgency_, /*bounded=*/true, deadline);
    if (answer.end == End::kDone) return {};
    if (answer.end == End::kFailed || !backoff.WaitForNext(answer.retry_after))
      return std::move(answer.error);
    session_->counters().retries.fetch_add(1);
  }
}

// The first piece tells whether there are ranges, and whether more connections would help.
Status RegistryBlob::Stream(uint64_t offset, const ByteSink& sink) {
  RETURN_IF_ERROR(CheckBounds(offset, 0));
  Wanted wanted{offset, size_};
  const std::shared_ptr<Quota>& memory = session_->options().memory;
  const bool splits = memory != nullptr && size_ - offset >= SplitStream::kLeast;
  if (!splits) return StreamPart(wanted, sink);
  wanted.end = offset + SplitStream::kPiece;
  wanted.or_whole = true;
  double waited = 0;
  RETURN_IF_ERROR(StreamHead(wanted, sink, &waited));
  if (wanted.end == size_) return {};
  if (waited <= split_from_) {
    wanted.end = size_;
    return StreamPart(wanted, sink);
  }
  const auto fetch = [this](uint64_t begin, uint64_t end, const ByteSink& part_sink) {
    Wanted part{begin, end};
    return StreamPart(part, part_sink);
  };
  return SplitStream(wanted.end, size_, *memory, fetch).Run(sink);
}

Status RegistryBlob::StreamHead(Wanted& wanted, const ByteSink& sink, double* waited) {
  using Clock = Deadline::Clock;
  std::optional<Clock::time_point> first;
  Clock::duration in_sink{0};
  const ByteSink measured = [&](ByteSpan bytes) -> Status {
    const auto begun = Clock::now();
    if (!first) first = begun;
    Status taken = sink(bytes);
    in_sink += Clock::now() - begun;
    return taken;
  };
  RETURN_IF_ERROR(StreamPart(wanted, measured));
  const std::chrono::duration<double> all = Clock::now() - first.value_or(Clock::now());
  *waited = all.count() > 0 ? 1 - std::chrono::duration<double>(in_sink) / all : 1;
  return {};
}

Status RegistryBlob::StreamPart(Wanted& wanted, const ByteSink& sink) {
  const RegistryOptions& options = session_->options();
  const auto patience = options.stall_timeout * kStallsOfStream;
  uint64_t counted_from = wanted.position;
  ASSIGN_OR_RETURN(const HostHealth::Leave leave, session_->Ask(what_, Deadline::After(patience)));
  Backoff backoff(session_->Attempts(leave), Deadline::After(patience));
  while (wanted.position < wanted.end) {
    const uint64_t before = wanted.position;
    const Deadline deadline = backoff.deadline();
    RegistryAnswer answer = Fetch(wanted, sink, Urgency::kStream, /*bounded=*/false, deadline);
    if (answer.end == End::kDone) break;
    if (answer.end == End::kFailed) return std::move(answer.error);
    if (wanted.position > before) backoff.set_deadline(Deadline::After(patience));
    if (wanted.position - counted_from >= kProgressBytes) {
      counted_from = wanted.position;
      backoff = Backoff(options.attempts, backoff.deadline());
    }
    if (!backoff.WaitForNext(answer.retry_after)) return std::move(answer.error);
    session_->counters().retries.fetch_add(1);
  }
  return {};
}

}  // namespace lamina
