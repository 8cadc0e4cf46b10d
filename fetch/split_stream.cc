#include "fetch/split_stream.h"

#include <algorithm>
#include <chrono>
#include <exception>

namespace lamina {
namespace {

// Others give memory back without telling: it is looked for so often.
constexpr std::chrono::milliseconds kLookEvery{20};
// All waits end with what a helper does, which is bounded; a condition wants a bound of its own.
constexpr std::chrono::seconds kStep{10};

}  // namespace

SplitStream::SplitStream(uint64_t begin, uint64_t end, Quota& memory, Fetch fetch)
    : end_(end), memory_(memory), fetch_(std::move(fetch)), next_(begin), unclaimed_(begin) {}

SplitStream::~SplitStream() { Stop(); }

uint64_t SplitStream::EndOf(uint64_t begin) const { return begin + std::min(kPiece, end_ - begin); }

Status SplitStream::Run(const ByteSink& sink) {
  uint64_t begin = 0;
  {
    MutexLock lock(mutex_);
    begin = next_;
  }
  StartHelpers();
  while (begin < end_) {
    Piece piece;
    const uint64_t end = EndOf(begin);
    if (TakeFromHelper(begin, &piece)) {
      RETURN_IF_ERROR(sink(piece.bytes));
    } else {
      RETURN_IF_ERROR(fetch_(begin, end, sink));
    }
    Advance(begin = end);
  }
  return {};
}

void SplitStream::StartHelpers() {
  try {
    while (helpers_.size() < kHelpers) helpers_.emplace_back([this] { Help(); });
  } catch (const std::exception&) {  // fewer do as well
  }
}

// Without memory it ends: what it had claimed the caller fetches.
void SplitStream::Help() noexcept try {
  uint64_t begin = 0;
  Piece piece;
  while (Claim(&begin, &piece)) {
    const ByteSink keep = [&](ByteSpan bytes) -> Status {
      piece.bytes.insert(piece.bytes.end(), bytes.begin(), bytes.end());
      MutexLock lock(mutex_);
      if (stopped_) return Error{Code::kCancelled, "nobody waits for it"};
      return {};
    };
    bool whole = false;
    try {
      const uint64_t end = EndOf(begin);
      piece.bytes.reserve(end - begin);
      whole = fetch_(begin, end, keep).has_value();
    } catch (const std::exception&) {  // memory: the caller needs none
    }
    Deliver(begin, std::move(piece), whole);
    piece = Piece();
  }
} catch (const std::exception&) {
}

// The first piece that a helper may take: behind the caller's own, and not further than there are
// helpers.
std::optional<uint64_t> SplitStream::Claimable() const {
  const uint64_t at = std::max(unclaimed_, EndOf(next_));
  if (stopped_ || at >= end_ || at - next_ > kHelpers * kPiece) return std::nullopt;
  return at;
}

bool SplitStream::WaitForClaimable() {
  MutexLock lock(mutex_);
  while (!Claimable() && !stopped_ && std::max(unclaimed_, EndOf(next_)) < end_)
    changed_.WaitUntil(mutex_, Deadline::After(kStep));
  return Claimable().has_value();
}

bool SplitStream::Claim(uint64_t* begin, Piece* piece) {
  while (WaitForClaimable()) {
    auto memory = memory_.TryTake(kPiece, Urgency::kStream);
    MutexLock lock(mutex_);
    if (!memory) {
      changed_.WaitUntil(mutex_, Deadline::After(kLookEvery));
      continue;
    }
    const auto at = Claimable();
    if (!at) continue;  // another helper was faster
    *begin = *at;
    unclaimed_ = EndOf(*at);
    begun_.insert(*at);
    piece->memory = *std::move(memory);
    return true;
  }
  return false;
}

void SplitStream::Deliver(uint64_t begin, Piece piece, bool whole) {
  MutexLock lock(mutex_);
  begun_.erase(begin);
  if (whole && !stopped_) done_.emplace(begin, std::move(piece));
  changed_.NotifyAll();
}

bool SplitStream::TakeFromHelper(uint64_t begin, Piece* piece) {
  MutexLock lock(mutex_);
  while (begun_.contains(begin)) changed_.WaitUntil(mutex_, Deadline::After(kStep));
  const auto found = done_.find(begin);
  if (found == done_.end()) return false;
  *piece = std::move(found->second);
  done_.erase(found);
  return true;
}

void SplitStream::Advance(uint64_t to) {
  MutexLock lock(mutex_);
  next_ = to;
  changed_.NotifyAll();
}

void SplitStream::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

}  // namespace lamina
