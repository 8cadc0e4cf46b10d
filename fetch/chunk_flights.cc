#include "fetch/chunk_flights.h"

#include <optional>

namespace lamina {

// Guarded by the mutex of its ChunkFlights.
struct ChunkFlights::Flight {
  std::optional<Result<ChunkBuffer>> landed;
  size_t waiting = 0;    // who will look at the rest once more, whatever happens
  bool is_free = false;  // nobody leads it: one of those who wait does as soon as he looks
  CondVar changed;
};

ChunkFlights::Ticket ChunkFlights::Join(uint64_t chunk) {
  auto own = std::make_shared<Flight>();
  MutexLock lock(mutex_);
  const auto [at, leads] = flights_.try_emplace(chunk, std::move(own));
  return {at->second, leads};
}

bool ChunkFlights::TryLead(uint64_t chunk) {
  auto own = std::make_shared<Flight>();
  MutexLock lock(mutex_);
  return flights_.try_emplace(chunk, std::move(own)).second;
}

void ChunkFlights::Land(uint64_t chunk, const Result<ChunkBuffer>& result) {
  MutexLock lock(mutex_);
  const auto found = flights_.find(chunk);
  if (found == flights_.end()) return;
  Flight& flight = *found->second;
  flight.is_free = result.has_value() && *result == nullptr && flight.waiting > 0;
  if (!flight.is_free) flight.landed = result;
  flight.changed.NotifyAll();
  if (!flight.is_free) flights_.erase(found);  // those who wait hold the flight
}

Result<ChunkBuffer> ChunkFlights::Wait(Ticket& ticket, const Deadline& deadline) {
  MutexLock lock(mutex_);
  Flight& flight = *ticket.flight;
  ++flight.waiting;
  while (!flight.landed.has_value() && !flight.is_free && !deadline.passed())
    flight.changed.WaitUntil(mutex_, deadline);
  --flight.waiting;
  if (flight.landed.has_value()) return *flight.landed;
  if (!flight.is_free)
    return Error{Code::kTimeout, "the fetch of another reader did not end within the bound"};
  flight.is_free = false;
  ticket.leads = true;
  return ChunkBuffer();
}

}  // namespace lamina
