#pragma once

// ChunkFlights: the chunks that somebody is getting at this moment. The first who asks for a chunk
// leads and lands it; the others wait for what the leader brings, bytes or error. A leader who
// lands with nothing leaves the lead to one of those who wait. Nothing is remembered of a flight
// that has landed. Any thread.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

using ChunkBuffer = std::shared_ptr<const std::vector<uint8_t>>;

class ChunkFlights {
 public:
  struct Flight;

  // The flight of a chunk and whether the caller leads it. A leader calls Land() whatever happens:
  // see LedChunks.
  struct Ticket {
    std::shared_ptr<Flight> flight;
    bool leads = false;
  };
  Ticket Join(uint64_t chunk);
  // Like Join(), but only to lead: false where somebody else does.
  bool TryLead(uint64_t chunk);

  // With bytes or an error for all who wait; or with null, and then one of them leads from now on.
  void Land(uint64_t chunk, const Result<ChunkBuffer>& result);
  // What the leader landed. Null where that was nothing, and where the caller leads now (see
  // `ticket`). kTimeout when the deadline passes first, and the flight goes on.
  Result<ChunkBuffer> Wait(Ticket& ticket, const Deadline& deadline);

 private:
  Mutex mutex_;  // leaf
  std::map<uint64_t, std::shared_ptr<Flight>> flights_ GUARDED_BY(mutex_);
};

// The chunks whose flights one thread leads. What has not landed at the end lands with nothing. One
// thread.
class LedChunks {
 public:
  explicit LedChunks(ChunkFlights& flights) : flights_(flights) {}
  ~LedChunks() {
    for (const uint64_t chunk : led_) flights_.Land(chunk, ChunkBuffer());
  }
  LedChunks(const LedChunks&) = delete;
  LedChunks& operator=(const LedChunks&) = delete;

  // As of ChunkFlights, for a chunk that is not led here yet.
  ChunkFlights::Ticket Join(uint64_t chunk) {
    Node node = NodeOf(chunk);
    ChunkFlights::Ticket ticket = flights_.Join(chunk);
    if (ticket.leads) led_.insert(std::move(node));
    return ticket;
  }
  bool TryLead(uint64_t chunk) {
    Node node = NodeOf(chunk);
    if (!flights_.TryLead(chunk)) return false;
    led_.insert(std::move(node));
    return true;
  }
  Result<ChunkBuffer> Wait(uint64_t chunk, ChunkFlights::Ticket& ticket, const Deadline& deadline) {
    Node node = NodeOf(chunk);
    Result<ChunkBuffer> landed = flights_.Wait(ticket, deadline);
    if (ticket.leads) led_.insert(std::move(node));
    return landed;
  }
  bool Has(uint64_t chunk) const { return led_.contains(chunk); }
  void Land(uint64_t chunk, const Result<ChunkBuffer>& result) {
    if (!Has(chunk)) return;
    flights_.Land(chunk, result);
    led_.erase(chunk);
  }

 private:
  // Made before a flight begins: once it has, nothing may fail that would leave it to nobody.
  using Node = std::set<uint64_t>::node_type;
  static Node NodeOf(uint64_t chunk) {
    std::set<uint64_t> alone{chunk};
    return alone.extract(alone.begin());
  }

  ChunkFlights& flights_;
  std::set<uint64_t> led_;
};

}  // namespace lamina
