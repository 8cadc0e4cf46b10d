// How LayerCache gets the chunks that are missing. Get() is the way in: whoever asks first leads
// the chunk's flight (see ChunkFlights), the others wait for him. The leader looks whether it is
// there by now (Obtain), leads the missing neighbours too (LeadRun), and asks the owner for all of
// them at once (ProduceRun), who gives one after another (TakeOfRun). What is still missing of his
// own chunk he asks for alone (ProduceOne).
//
// Reading ahead does the same for nobody yet: reads that are in order (NoteRead) have the next
// stretch cut into runs (FetchStretch), which other threads fetch (FetchAhead).

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "fetch/chunk_cache_impl.h"

namespace lamina {
namespace {

// A data chunk is held in memory as a whole, so a table that claims more is refused.
constexpr uint64_t kMaxChunkBytes = 64u << 20;

// Chunks of a stretch that is fetched ahead, whatever their size: there may be many that are zeros.
constexpr uint64_t kMostChunksAhead = 64;

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
  const bool is_reader = reading.urgency == Urgency::kReader;
  if (is_reader) NoteRead(chunk);
  LedChunks led(flights);
  ChunkFlights::Ticket ticket = led.Join(chunk);
  const bool came_first = ticket.leads;
  if (!came_first) {
    counters->joined.fetch_add(1, std::memory_order_relaxed);
    Result<ChunkBuffer> waited = led.Wait(chunk, ticket, reading.deadline);
    if (is_reader) ForgetUnread(chunk, counters->ahead_used_bytes);
    if (!ticket.leads) return waited;
  }
  Result<ChunkBuffer> result =
      Guarded([&]() -> Result<ChunkBuffer> { return Obtain(chunk, extent, reading, led); });
  if (!result && result.error().code == Code::kInternal)
    result = result.error().Within(fmt::format("chunk {} of layer {}", chunk, layer.ToString()));
  // Else it lands with nothing: whoever waits is served before this one, or has more time left, and
  // tries himself.
  const bool out_of_time = !result && result.error().code == Code::kTimeout;
  if (result || (is_reader && (came_first || !out_of_time))) led.Land(chunk, result);
  return result;
}

Result<ChunkBuffer> LayerCache::Impl::Obtain(uint64_t chunk, const ChunkExtent& extent,
                                             Reading& reading, LedChunks& led) {
  if (Status fits = CheckExtent(extent, shape); !fits)
    return fits.error().Within(fmt::format("chunk {} of layer {}", chunk, layer.ToString()));
  // Another leader may have landed between the caller's look at `ready` and its joining.
  if (ready.Test(chunk) || Present(chunk)) {
    auto buffer = std::make_shared<std::vector<uint8_t>>(extent.flat_length);
    if (ready.Test(chunk) && ReadFromFile(extent.flat_offset, *buffer))
      return ChunkBuffer(std::move(buffer));
    if (Present(chunk) && LoadChecked(chunk, extent, *buffer))
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
  return ProduceOne(chunk, extent, reading);
}

Result<ChunkBuffer> LayerCache::Impl::ProduceOne(uint64_t chunk, const ChunkExtent& extent,
                                                 const Reading& reading) {
  auto buffer = std::make_shared<std::vector<uint8_t>>(extent.flat_length);
  RETURN_IF_ERROR(owner->Produce(chunk, *buffer, reading.deadline, reading.urgency));
  counters->misses.fetch_add(1, std::memory_order_relaxed);
  Keep(chunk, extent, *buffer);
  return ChunkBuffer(std::move(buffer));
}

bool LayerCache::Impl::IsAbsent(uint64_t chunk) const {
  return !ready.Test(chunk) && !Present(chunk);
}

bool LayerCache::Impl::LeadAbsent(uint64_t chunk, LedChunks& led) {
  if (!IsAbsent(chunk) || !CheckExtent(owner->Extent(chunk), shape) || !led.TryLead(chunk))
    return false;
  if (IsAbsent(chunk)) return true;
  led.Land(chunk, ChunkBuffer());  // another leader has just brought it
  return false;
}

uint64_t LayerCache::Impl::LeadRun(uint64_t first, uint64_t last, LedChunks& led) {
  if (first >= last) return first;
  const uint64_t reach = std::min(owner->LastOfRun(first, last), last);
  uint64_t end = first;
  for (uint64_t chunk = first + 1; chunk <= reach; ++chunk) {
    if (owner->Extent(chunk).zero) continue;
    if (!LeadAbsent(chunk, led)) break;
    end = chunk;
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
  const uint64_t unasked_bytes = reading.unasked ? extent.flat_length : 0;
  counters->ahead_bytes.fetch_add(unasked_bytes, std::memory_order_relaxed);
  if (!Keep(chunk, extent, *buffer, reading.unasked))
    counters->ahead_wasted_bytes.fetch_add(unasked_bytes, std::memory_order_relaxed);
  reading.brought[chunk] = reading.wants_bytes ? buffer : nullptr;
  led.Land(chunk, buffer);
}

void LayerCache::Impl::Offer(uint64_t chunk, const ChunkBuffer& buffer) {
  if (!keeps || chunk >= shape.chunk_count) return;
  const ChunkExtent extent = owner->Extent(chunk);
  if (extent.zero || buffer->size() != extent.flat_length || Present(chunk)) return;
  LedChunks led(flights);
  if (!CheckExtent(extent, shape) || !led.TryLead(chunk)) return;
  Keep(chunk, extent, *buffer);  // readers who come meanwhile join
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
  if (!CanWrite()) return false;
  const auto last = not_kept.load(std::memory_order_relaxed);
  return last == 0 || Clock::now().time_since_epoch() - Clock::duration(last) > kNotKeeping;
}

void LayerCache::Impl::ForgetUnread(uint64_t chunk, std::atomic<uint64_t>& counter) {
  if (unread.TestAndClear(chunk)) counter.fetch_add(owner->Extent(chunk).flat_length);
}

// Also on the thread of a reader whose bytes are local: it takes no time, and what goes wrong is
// not his concern.
void LayerCache::Impl::NoteRead(uint64_t chunk) {
  ForgetUnread(chunk, counters->ahead_used_bytes);
  if (!IsKeeping()) return;
  const auto stretch = read_ahead.Note(chunk);
  if (!stretch) return;
  const uint64_t end = EndOfStretch(*stretch);
  read_ahead.SetEnd(stretch->first, end);
  if (end > stretch->first) Post(&Impl::FetchStretch, stretch->first, end);
}

// Where nobody takes it, it is not done: whoever wants the chunks gets them himself.
void LayerCache::Impl::Post(void (Impl::*step)(uint64_t, uint64_t), uint64_t first, uint64_t end) {
  (void)Guarded([&]() -> Status {
    owner->Post([weak = weak_from_this(), step, first, end] {
      if (const auto self = weak.lock()) (self.get()->*step)(first, end);
    });
    return {};
  });
}

// As far as the chunks from `first` to before `end` have `bytes` together: behind the last of them.
uint64_t LayerCache::Impl::EndWithin(uint64_t first, uint64_t end, uint64_t bytes) const {
  for (uint64_t chunk = first; chunk < end; ++chunk) {
    const ChunkExtent extent = owner->Extent(chunk);
    if (extent.zero) continue;
    if (extent.flat_length > bytes) return chunk;
    bytes -= extent.flat_length;
  }
  return end;
}

// One chunk may be larger than the stretch is to be; and what the decoder gives soon behind it is
// cheaper now than later. `stretch.first` where even one chunk is too much for the cache.
uint64_t LayerCache::Impl::EndOfStretch(const ReadAhead::Stretch& stretch) const {
  const uint64_t first = stretch.first;
  const uint64_t bound = std::min(shape.chunk_count, first + kMostChunksAhead);
  uint64_t end = EndWithin(first, bound, stretch.bytes);
  if (end == first) end = EndWithin(first, std::min(first + 1, bound), most_ahead);
  if (end == first) return first;
  const uint64_t further = std::clamp(owner->EndOfReadAhead(end - 1) + 1, end, shape.chunk_count);
  return EndWithin(first, further, most_ahead) == further ? further : end;
}

// Cut into runs, which are fetched beside each other.
void LayerCache::Impl::FetchStretch(uint64_t first, uint64_t end) {
  while (first < end) {
    if (owner->Extent(first).zero || !IsAbsent(first)) {
      ++first;
      continue;
    }
    const uint64_t last = std::clamp(owner->LastOfRun(first, end - 1), first, end - 1);
    if (!owner->MayReadAhead(first, last)) return;
    Post(&Impl::FetchAhead, first, last + 1);
    first = last + 1;
  }
}

// Nobody has asked for it, so nobody is told of a failure.
void LayerCache::Impl::FetchAhead(uint64_t first, uint64_t end) {
  Reading reading{.last = end - 1,
                  .deadline = Deadline::After(kAheadBound),
                  .wants_bytes = false,
                  .urgency = Urgency::kAhead,
                  .unasked = true};
  for (uint64_t chunk = first; chunk < end && IsKeeping(); ++chunk) {
    LedChunks led(flights);
    if (owner->Extent(chunk).zero || !LeadAbsent(chunk, led)) continue;
    const uint64_t last = LeadRun(chunk, reading.last, led);
    if (!Guarded([&]() -> Status { return ProduceRun(chunk, last, reading, led); })) return;
    chunk = last;
  }
}

}  // namespace lamina
