#include "fetch/registry_blob.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fetch/range_receiver.h"
#include "fetch/retry.h"

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
                           const Descriptor& descriptor)
    : session_(std::move(session)),
      target_(BlobRequest(path, descriptor.digest).target),
      scope_(BlobRequest(path, descriptor.digest).scope),
      what_(BlobRequest(path, descriptor.digest).what),
      size_(descriptor.size) {}

Status RegistryBlob::CheckBounds(uint64_t offset, uint64_t length) const {
  if (offset <= size_ && length <= size_ - offset) return {};
  return session_->Failure(
      Code::kInvalid, what_,
      fmt::format("{} bytes at {} are beyond its end at {}", length, offset, size_));
}

RegistryAnswer RegistryBlob::Fetch(uint64_t* position, uint64_t end, const ByteSink& sink,
                                   bool bounded, const Deadline& deadline) {
  RangeReceiver receiver(*position, end, size_, sink, session_->counters().blob_bytes);
  RegistryRequest request;
  request.target = target_;
  request.scope = scope_;
  request.what = what_;
  // A whole blob needs no range, and is had from servers that know none.
  if (*position != 0 || end != size_)
    request.range = fmt::format("bytes={}-{}", *position, end - 1);
  request.receiver = &receiver;
  request.redirects = &redirects_;
  request.bounded = bounded;
  RegistryAnswer answer = session_->Try(request, deadline);
  *position = receiver.position();
  if (receiver.sink_failed()) return answer;
  if (receiver.error()) {
    // The next attempt begins at the registry, which may send us to a better place.
    if (const auto url = redirects_.Get()) redirects_.Drop(*url);
    answer.end = *position == end ? End::kFailed : End::kAgain;
    answer.error = session_->Failure(receiver.error()->code, what_, receiver.error()->message);
  } else if (*position == end) {
    answer.end = End::kDone;  // what broke after the last byte does not matter
  } else if (answer.end == End::kDone) {
    answer.end = End::kAgain;
    answer.error = session_->Failure(
        Code::kCorrupt, what_, fmt::format("the answer ended at byte {} of {}", *position, end));
  } else if (receiver.ranges_ignored()) {
    answer.error.message += ", while it sent the whole blob because it serves no ranges";
  }
  return answer;
}

Status RegistryBlob::ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) {
  RETURN_IF_ERROR(CheckBounds(offset, out.size()));
  if (out.empty()) return {};
  uint64_t position = offset;
  const uint64_t end = offset + out.size();
  const ByteSink sink = [&, done = uint64_t{0}](ByteSpan bytes) mutable -> Status {
    std::memcpy(out.data() + done, bytes.data(), bytes.size());
    done += bytes.size();
    return {};
  };
  ASSIGN_OR_RETURN(const HostHealth::Leave leave, session_->Ask(what_, deadline));
  Backoff backoff(session_->Attempts(leave), deadline);
  while (true) {
    RegistryAnswer answer = Fetch(&position, end, sink, /*bounded=*/true, deadline);
    if (answer.end == End::kDone) return {};
    if (answer.end == End::kFailed || !backoff.WaitForNext(answer.retry_after))
      return std::move(answer.error);
    session_->counters().retries.fetch_add(1);
  }
}

Status RegistryBlob::Stream(uint64_t offset, const ByteSink& sink) {
  RETURN_IF_ERROR(CheckBounds(offset, 0));
  const RegistryOptions& options = session_->options();
  const auto patience = options.stall_timeout * kStallsOfStream;
  uint64_t position = offset;
  uint64_t counted_from = offset;
  ASSIGN_OR_RETURN(const HostHealth::Leave leave, session_->Ask(what_, Deadline::After(patience)));
  Backoff backoff(session_->Attempts(leave), Deadline::After(patience));
  while (position < size_) {
    const uint64_t before = position;
    const Deadline deadline = backoff.deadline();
    RegistryAnswer answer = Fetch(&position, size_, sink, /*bounded=*/false, deadline);
    if (answer.end == End::kDone) break;
    if (answer.end == End::kFailed) return std::move(answer.error);
    if (position > before) backoff.set_deadline(Deadline::After(patience));
    if (position - counted_from >= kProgressBytes) {
      counted_from = position;
      backoff = Backoff(options.attempts, backoff.deadline());
    }
    if (!backoff.WaitForNext(answer.retry_after)) return std::move(answer.error);
    session_->counters().retries.fetch_add(1);
  }
  return {};
}

}  // namespace lamina
