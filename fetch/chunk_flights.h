#pragma once

// ChunkFlights: the chunks that somebody is getting at this moment. The first who asks for a chunk
// leads and lands it; the others wait for what the leader brings, bytes or error. Nothing is
// remembered of a flight that has landed. Any thread.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

using ChunkBuffer = std::shared_ptr<const std::vector<uint8_t>>;

class ChunkFlights {
 public:
  struct Flight;

  // The flight of a chunk and whether the caller leads it. A leader calls Land() whatever happens.
  struct Ticket {
    std::shared_ptr<Flight> flight;
    bool leads = false;
  };
  Ticket Join(uint64_t chunk);
  // Like Join(), but only to lead: false where somebody else does.
  bool TryLead(uint64_t chunk);

  void Land(uint64_t chunk, const Result<ChunkBuffer>& result);
  // What the leader landed; kTimeout when the deadline passes first, and the flight goes on.
  Result<ChunkBuffer> Wait(Flight& flight, const Deadline& deadline);

 private:
  Mutex mutex_;  // leaf
  std::map<uint64_t, std::shared_ptr<Flight>> flights_ GUARDED_BY(mutex_);
};

}  // namespace lamina
