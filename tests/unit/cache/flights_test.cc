#include "cache/flights.h"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/hash.h"

namespace pgfresh::cache {
namespace {

const freshness::Stamp kStamp = {{1, 10}, {2, 20}};

Key key_of(const std::string& text) { return {text, hash128(text)}; }

TEST_CASE("the first leads, the others wait, the end wakes each of them once") {
  Flights flights(4);
  const std::string sql = "select 1";
  int woken = 0;
  auto leader = flights.join(key_of(sql), kStamp, [&] { woken += 1000; });
  REQUIRE(leader.lead != nullptr);
  CHECK(leader.wait == nullptr);
  auto one = flights.join(key_of(sql), kStamp, [&] { ++woken; });
  auto two = flights.join(key_of(sql), kStamp, [&] { ++woken; });
  CHECK(one.lead == nullptr);
  CHECK(one.wait != nullptr);
  CHECK(two.wait != nullptr);
  CHECK(flights.in_flight() == 1);
  leader.lead.reset();
  CHECK(woken == 2);
  CHECK(flights.in_flight() == 0);
  one.wait.reset();
  CHECK(woken == 2);
  CHECK(flights.join(key_of(sql), kStamp, [] {}).lead != nullptr);
}

TEST_CASE("another stamp goes alone (rule 7), another key leads") {
  Flights flights(1);
  const auto leader = flights.join(key_of("a"), kStamp, [] {});
  const auto later = flights.join(key_of("a"), {{1, 11}, {2, 20}}, [] {});
  CHECK(later.lead == nullptr);
  CHECK(later.wait == nullptr);
  CHECK(flights.join({"b", hash128("a")}, kStamp, [] {}).lead != nullptr);
}

TEST_CASE("who withdraws is not woken") {
  Flights flights(1);
  int woken = 0;
  auto leader = flights.join(key_of("a"), kStamp, [] {});
  auto gone = flights.join(key_of("a"), kStamp, [&] { woken += 100; });
  const auto stays = flights.join(key_of("a"), kStamp, [&] { ++woken; });
  gone.wait.reset();
  leader.lead.reset();
  CHECK(woken == 1);
}

TEST_CASE("waiters have a bound") {
  Flights flights(1);
  auto leader = flights.join(key_of("a"), kStamp, [] {});
  std::vector<Flights::Ticket> tickets;
  size_t woken = 0;
  for (size_t i = 0; i < Flights::kWaitersMax; ++i) {
    tickets.push_back(flights.join(key_of("a"), kStamp, [&] { ++woken; }));
    REQUIRE(tickets.back().wait != nullptr);
  }
  CHECK(flights.join(key_of("a"), kStamp, [] {}).wait == nullptr);
  tickets.pop_back();
  CHECK(flights.join(key_of("a"), kStamp, [] {}).wait != nullptr);
  leader.lead.reset();
  CHECK(woken == Flights::kWaitersMax - 1);
}

TEST_CASE("places may outlive the flights") {
  Flights::Ticket leader;
  Flights::Ticket waiter;
  int woken = 0;
  {
    Flights flights(2);
    leader = flights.join(key_of("a"), kStamp, [] {});
    waiter = flights.join(key_of("a"), kStamp, [&] { ++woken; });
  }
  leader.lead.reset();
  CHECK(woken == 1);
}

TEST_CASE("a wake-up may withdraw or join") {
  Flights flights(1);
  auto leader = flights.join(key_of("a"), kStamp, [] {});
  Flights::Ticket waiter;
  Flights::Ticket next;
  waiter = flights.join(key_of("a"), kStamp, [&] {
    waiter.wait.reset();
    next = flights.join(key_of("a"), kStamp, [] {});
  });
  leader.lead.reset();
  CHECK(next.lead != nullptr);
}

// For the thread sanitizer as much as for the checks: every waiter that did not withdraw is woken
// exactly once, and a key has one leader at a time.
TEST_CASE("many threads on few keys") {
  Flights flights(2);
  constexpr int kThreads = 4;
  std::atomic<uint64_t> promised{0};
  std::atomic<uint64_t> woken{0};
  std::atomic<uint64_t> withdrawn{0};
  std::atomic<int> leaders[3] = {};
  std::atomic<bool> two_leaders{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<Flights::Ticket> kept;
      for (int i = 0; i < 5000; ++i) {
        const int k = (i * 7 + t) % 3;
        const std::string key(1, static_cast<char>('a' + k));
        auto told = std::make_shared<std::atomic<int>>(0);
        auto ticket = flights.join(key_of(key), kStamp, [&, told] {
          if (told->fetch_add(1) == 0)
            ++woken;
          else
            two_leaders = true;
        });
        if (ticket.lead != nullptr) {
          if (leaders[k].fetch_add(1) != 0) two_leaders = true;
          std::this_thread::yield();
          leaders[k].fetch_sub(1);
          continue;
        }
        if (ticket.wait == nullptr) continue;
        ++promised;
        if (i % 5 == 0) {
          ticket.wait.reset();
          if (told->load() == 0) ++withdrawn;  // or its wake-up is on its way
        } else {
          kept.push_back(std::move(ticket));
        }
        if (kept.size() > 50) kept.erase(kept.begin(), kept.begin() + 25);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(two_leaders.load());
  CHECK(flights.in_flight() == 0);
  CHECK(woken.load() <= promised.load());
  CHECK(woken.load() > 0);
}

}  // namespace
}  // namespace pgfresh::cache
