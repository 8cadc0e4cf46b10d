#include "fetch/chunk_flights.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace lamina {
namespace {

Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }

ChunkBuffer Bytes() { return std::make_shared<std::vector<uint8_t>>(4096); }

TEST(ChunkFlightsTest, WhatTheLeaderLandsReachesWhoWaits) {
  ChunkFlights flights;
  ASSERT_TRUE(flights.TryLead(7));
  ChunkFlights::Ticket ticket = flights.Join(7);
  ASSERT_FALSE(ticket.leads);
  const ChunkBuffer bytes = Bytes();
  flights.Land(7, bytes);
  const auto landed = flights.Wait(ticket, Soon());
  ASSERT_TRUE(landed);
  EXPECT_EQ(*landed, bytes);
  EXPECT_FALSE(ticket.leads);
  EXPECT_TRUE(flights.TryLead(7)) << "nothing is remembered";
}

TEST(ChunkFlightsTest, WhoHasNoTimeLeftLeavesTheFlightAlone) {
  ChunkFlights flights;
  LedChunks leader(flights);
  ASSERT_TRUE(leader.TryLead(7));
  ChunkFlights::Ticket ticket = flights.Join(7);
  const auto landed = flights.Wait(ticket, Deadline::After(std::chrono::milliseconds(0)));
  ASSERT_FALSE(landed);
  EXPECT_EQ(landed.error().code, Code::kTimeout);
  EXPECT_FALSE(flights.TryLead(7));
}

// Waits until it leads the chunk, and then lands with nothing.
void LeadOnce(ChunkFlights& flights, std::atomic<int>& led) {
  while (true) {
    LedChunks chunks(flights);
    ChunkFlights::Ticket ticket = chunks.Join(7);
    if (!ticket.leads) {
      EXPECT_TRUE(chunks.Wait(7, ticket, Soon()));
    }
    if (!ticket.leads) continue;
    EXPECT_TRUE(chunks.Has(7));
    ++led;
    return;
  }
}

TEST(ChunkFlightsTest, EveryoneWhoWaitsForLeadersThatBringNothingLeadsInTheEnd) {
  constexpr int kThreads = 16;
  ChunkFlights flights;
  std::atomic<int> led{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([&] { LeadOnce(flights, led); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(led, kThreads);
  EXPECT_TRUE(flights.TryLead(7));
}

// Who fails and tries again at once would otherwise keep the lead for ever.
TEST(ChunkFlightsTest, WhoLandsWithNothingHasNoTurnBeforeThoseWhoWaitForHim) {
  ChunkFlights flights;
  std::atomic<int> led{0};
  ASSERT_TRUE(flights.TryLead(7));
  std::thread waiter([&] { LeadOnce(flights, led); });
  // As often as it takes the waiter to wait: then it is his.
  do {
    flights.Land(7, ChunkBuffer());
  } while (led == 0 && flights.TryLead(7));
  waiter.join();
  EXPECT_EQ(led, 1);
}

}  // namespace
}  // namespace lamina
