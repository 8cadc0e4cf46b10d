// How LayerCache gets the chunks that are missing: from its file, by a flight of its own, by a run
// of neighbours together, or ahead of a reader.

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "fetch/chunk_cache_impl.h"

namespace lamina {
namespace {

// A data chunk is held in memory as a whole, so a table that claims more is refused.
constexpr uint64_t kMaxChunkBytes = 64u << 20;

// What is fetched ahead is not worth more patience; whoever waits for it then asks himself.
constexpr std::chrono::seconds kAheadBound{10};
// So long after a chunk could not be kept nothing is fetched ahead.
constexpr std::chrono::steady_clock::duration kNotKeeping = std::chrono::minutes(1);

// What an owner throws must not leave a flight behind that nobody lands.
template <typename Step>
auto Guarded(Step step) -> decltype(step()) {
  try {
    return step();
  } catch (const std::exception& exception) {
    return Error{Code::kInternal, exception.what()};
  } catch (...) {
    return Error{Code::kInternal, "unknown exception"};
  }
}

}  // namespace

Status CheckExtent(const ChunkExtent& extent, const ChunkShape& shape) {
  if (extent.flat_length > kMaxChunkBytes)
    return Error{Code::kLimit, fmt::format("it has {} bytes, more than the limit of {}",
                                           extent.flat_length, kMaxChunkBytes)};
  if (extent.flat_offset > shape.flat_size ||
      extent.flat_length > shape.flat_size - extent.flat_offset)
    return Error{Code::kInvalid, "it lies outside of its layer"};
  return {};
}

Status ChunkOwner::ProduceRun(uint64_t, uint64_t, const ChunkSink&, const Deadline&, Urgency) {
  return Error{Code::kUnsupported, "nothing is joined here"};
}

Result<ChunkBuffer> LayerCache::Impl::Get(uint64_t chunk, const ChunkExtent& extent,
                                          Reading& reading) {
  if (const auto at = reading.brought.find(chunk); at != reading.brought.end()) return at->second;
  if (reading.urgency == Urgency::kReader) NoteRead(chunk);
  const ChunkFlights::Ticket ticket = flights.Join(chunk);
  if (!ticket.leads) {
    counters->joined.fetch_add(1, std::memory_order_relaxed);
    Result<ChunkBuffer> waited = flights.Wait(*ticket.flight, reading.deadline);
    if (reading.urgency == Urgency::kReader) ForgetUnread(chunk, counters->ahead_used_bytes);
    return waited;
  }
  LedChunks led(flights);
  led.Add(chunk);
  Result<ChunkBuffer> result =
      Guarded([&]() -> Result<ChunkBuffer> { return Obtain(chunk, extent, reading, led); });
  if (!result && result.error().code == Code::kInternal)
    result = result.error().Within(fmt::format("chunk {} of layer {}", chunk, layer.ToString()));
  led.Land(chunk, result);
  return result;
}

Result<ChunkBuffer> LayerCache::Impl::Obtain(uint64_t chunk, const ChunkExtent& extent,
                                             Reading& reading, LedChunks& led) {
  if (Status fits = CheckExtent(extent, shape); !fits)
    return fits.error().Within(fmt::format("chunk {} of layer {}", chunk, layer.ToString()));
  // Another leader may have landed between the caller's look at `ready` and its joining.
  if (ready.Test(chunk) || (files != nullptr && files->Present(chunk))) {
    auto buffer = std::make_shared<std::vector<uint8_t>>(extent.flat_length);
    if (ready.Test(chunk) && ReadFromFile(extent.flat_offset, *buffer))
      return ChunkBuffer(std::move(buffer));
    if (files != nullptr && files->Present(chunk) && LoadChecked(chunk, extent, *buffer))
      return ChunkBuffer(std::move(buffer));
  }
  const uint64_t last = LeadRun(chunk, reading.last, led);
  if (last > chunk) {
    const Status run = ProduceRun(chunk, last, reading, led);
    const auto at = reading.brought.find(chunk);
    if (at != reading.brought.end()) return at->second;
    // Where some bytes were wrong, those of this chunk may still be had.
    if (!run && run.error().code != Code::kCorrupt) return run.error();
  }
  return ProduceOne(chunk, extent, reading.deadline);
}

Result<ChunkBuffer> LayerCache::Impl::ProduceOne(uint64_t chunk, const ChunkExtent& extent,
                                                 const Deadline& deadline) {
  auto buffer = std::make_shared<std::vector<uint8_t>>(extent.flat_length);
  RETURN_IF_ERROR(owner->Produce(chunk, *buffer, deadline));
  counters->misses.fetch_add(1, std::memory_order_relaxed);
  Keep(chunk, extent, *buffer);
  return ChunkBuffer(std::move(buffer));
}

bool LayerCache::Impl::IsAbsent(uint64_t chunk) const {
  return !ready.Test(chunk) && (files == nullptr || !files->Present(chunk));
}

uint64_t LayerCache::Impl::LeadRun(uint64_t first, uint64_t last, LedChunks& led) {
  if (first >= last) return first;
  const uint64_t reach = std::min(owner->LastOfRun(first, last), last);
  uint64_t end = first;
  for (uint64_t chunk = first + 1; chunk <= reach; ++chunk) {
    const ChunkExtent extent = owner->Extent(chunk);
    if (extent.zero) continue;
    if (!IsAbsent(chunk) || !CheckExtent(extent, shape) || !flights.TryLead(chunk)) break;
    led.Add(chunk);
    end = chunk;
    if (IsAbsent(chunk)) continue;
    led.Land(chunk, ChunkBuffer());  // another leader had just brought it
    break;
  }
  return end;
}

Status LayerCache::Impl::ProduceRun(uint64_t first, uint64_t last, Reading& reading,
                                    LedChunks& led) {
  if (last > first) counters->runs.fetch_add(1, std::memory_order_relaxed);
  const ChunkSink sink = [&](uint64_t chunk, std::vector<uint8_t> bytes) {
    TakeOfRun(chunk, std::move(bytes), reading, led);
  };
  return owner->ProduceRun(first, last, sink, reading.deadline, reading.urgency);
}

void LayerCache::Impl::TakeOfRun(uint64_t chunk, std::vector<uint8_t> bytes, Reading& reading,
                                 LedChunks& led) {
  if (chunk >= shape.chunk_count) return;
  const ChunkExtent extent = owner->Extent(chunk);
  if (bytes.size() != extent.flat_length) return;
  const ChunkBuffer buffer = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  if (!led.Has(chunk)) return Offer(chunk, buffer);
  counters->misses.fetch_add(1, std::memory_order_relaxed);
  counters->run_chunks.fetch_add(1, std::memory_order_relaxed);
  if (reading.unasked) {
    counters->ahead_bytes.fetch_add(extent.flat_length, std::memory_order_relaxed);
    unread.Set(chunk);
  }
  Keep(chunk, extent, *buffer);
  reading.brought[chunk] = reading.wants_bytes ? buffer : nullptr;
  led.Land(chunk, buffer);
}

void LayerCache::Impl::Offer(uint64_t chunk, const ChunkBuffer& buffer) {
  if (files == nullptr || chunk >= shape.chunk_count) return;
  const ChunkExtent extent = owner->Extent(chunk);
  if (extent.zero || buffer->size() != extent.flat_length || files->Present(chunk)) return;
  if (!CheckExtent(extent, shape) || !flights.TryLead(chunk)) return;
  // Readers who come while it is written join.
  LedChunks led(flights);
  led.Add(chunk);
  Keep(chunk, extent, *buffer);
  led.Land(chunk, buffer);
}

Status LayerCache::Impl::Fetch(uint64_t chunk, Reading& reading) {
  const ChunkExtent extent = owner->Extent(chunk);
  if (extent.zero) return {};
  while (!ready.Test(chunk) && !reading.brought.contains(chunk)) {
    ASSIGN_OR_RETURN(const ChunkBuffer bytes, Get(chunk, extent, reading));
    if (bytes != nullptr) break;
  }
  reading.brought.erase(chunk);
  return {};
}

// --- reading ahead -------------------------------------------------------------------------------

bool LayerCache::Impl::IsKeeping() const {
  using Clock = std::chrono::steady_clock;
  if (files == nullptr) return false;
  const auto last = not_kept.load(std::memory_order_relaxed);
  return last == 0 || Clock::now().time_since_epoch() - Clock::duration(last) > kNotKeeping;
}

void LayerCache::Impl::ForgetUnread(uint64_t chunk, std::atomic<uint64_t>& counter) {
  if (unread.TestAndClear(chunk)) counter.fetch_add(owner->Extent(chunk).flat_length);
}

// Takes no time: also on the thread of a reader whose bytes are local.
void LayerCache::Impl::NoteRead(uint64_t chunk) {
  ForgetUnread(chunk, counters->ahead_used_bytes);
  if (!IsKeeping()) return;
  const auto stretch = read_ahead.Note(chunk);
  if (!stretch) return;
  (void)owner->Post([self = weak_from_this(), stretch = *stretch] {
    if (const auto impl = self.lock()) impl->FetchStretch(stretch);
  });
}

// Cut into runs, which are fetched beside each other.
void LayerCache::Impl::FetchStretch(const ReadAhead::Stretch& stretch) {
  const uint64_t last = std::min(owner->EndOfReadAhead(stretch.last), shape.chunk_count - 1);
  read_ahead.SetEnd(stretch.first, last);
  for (uint64_t first = stretch.first; first <= last;) {
    if (owner->Extent(first).zero || !IsAbsent(first)) {
      ++first;
      continue;
    }
    const uint64_t end = std::min(owner->LastOfRun(first, last), last);
    const bool posted =
        owner->MayReadAhead(first, end) && owner->Post([self = weak_from_this(), first, end] {
          if (const auto impl = self.lock()) impl->FetchAhead(first, end);
        });
    if (!posted) return;
    first = end + 1;
  }
}

// Nobody has asked for it, so nobody is told of a failure.
void LayerCache::Impl::FetchAhead(uint64_t first, uint64_t last) {
  Reading reading{.last = last,
                  .deadline = Deadline::After(kAheadBound),
                  .wants_bytes = false,
                  .urgency = Urgency::kAhead,
                  .unasked = true};
  for (uint64_t chunk = first; chunk <= last && IsKeeping(); ++chunk) {
    if (owner->Extent(chunk).zero || !IsAbsent(chunk) || !flights.TryLead(chunk)) continue;
    LedChunks led(flights);
    led.Add(chunk);
    if (!IsAbsent(chunk)) continue;
    const uint64_t end = LeadRun(chunk, last, led);
    const Status run = Guarded([&]() -> Status { return ProduceRun(chunk, end, reading, led); });
    if (!run) return;
    chunk = end;
  }
}

}  // namespace lamina
