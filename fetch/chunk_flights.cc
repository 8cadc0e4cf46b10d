#include "fetch/chunk_flights.h"

#include <optional>

namespace lamina {

// Guarded by the mutex of its ChunkFlights.
struct ChunkFlights::Flight {
  std::optional<Result<ChunkBuffer>> landed;
  CondVar changed;
};

ChunkFlights::Ticket ChunkFlights::Join(uint64_t chunk) {
  MutexLock lock(mutex_);
  auto& flight = flights_[chunk];
  const bool leads = flight == nullptr;
  if (leads) flight = std::make_shared<Flight>();
  return {flight, leads};
}

bool ChunkFlights::TryLead(uint64_t chunk) {
  MutexLock lock(mutex_);
  auto& flight = flights_[chunk];
  if (flight != nullptr) return false;
  flight = std::make_shared<Flight>();
  return true;
}

void ChunkFlights::Land(uint64_t chunk, const Result<ChunkBuffer>& result) {
  MutexLock lock(mutex_);
  const auto found = flights_.find(chunk);
  if (found == flights_.end()) return;
  found->second->landed = result;
  found->second->changed.NotifyAll();
  flights_.erase(found);  // those who wait hold the flight
}

Result<ChunkBuffer> ChunkFlights::Wait(Flight& flight, const Deadline& deadline) {
  MutexLock lock(mutex_);
  while (!flight.landed.has_value()) {
    if (deadline.passed())
      return Error{Code::kTimeout, "the fetch of another reader did not end within the bound"};
    flight.changed.WaitUntil(mutex_, deadline);
  }
  return *flight.landed;
}

}  // namespace lamina
