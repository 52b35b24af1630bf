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

// What join() answered, with the key and stamp that a flight points to.
struct Ticket {
  std::string key;
  freshness::Stamp stamp;
  std::unique_ptr<Flights::Lead> lead;  // null: none
  std::unique_ptr<Flights::Wait> wait;
};

std::unique_ptr<Ticket> join(Flights& flights, const std::string& key, const Hash128& hash,
                             const freshness::Stamp& stamp, const Flights::Wake& wake) {
  auto ticket = std::make_unique<Ticket>();
  ticket->key = key;
  ticket->stamp = stamp;
  ticket->lead = std::make_unique<Flights::Lead>();
  const auto part =
      flights.join({ticket->key, hash}, ticket->stamp, wake, *ticket->lead, ticket->wait);
  CHECK((part == Flights::Part::kWait) == (ticket->wait != nullptr));
  CHECK((part == Flights::Part::kLead) == static_cast<bool>(*ticket->lead));
  if (part != Flights::Part::kLead) ticket->lead.reset();
  return ticket;
}

std::unique_ptr<Ticket> join(Flights& flights, const std::string& key, const Flights::Wake& wake,
                             const freshness::Stamp& stamp = kStamp) {
  return join(flights, key, hash128(key), stamp, wake);
}

TEST_CASE("the first leads, the others wait, the end wakes each of them once") {
  Flights flights(4);
  const std::string sql = "select 1";
  int woken = 0;
  auto leader = join(flights, sql, [&] { woken += 1000; });
  REQUIRE(leader->lead != nullptr);
  CHECK(leader->wait == nullptr);
  auto one = join(flights, sql, [&] { ++woken; });
  auto two = join(flights, sql, [&] { ++woken; });
  CHECK(one->lead == nullptr);
  CHECK(one->wait != nullptr);
  CHECK(two->wait != nullptr);
  CHECK(flights.in_flight() == 1);
  leader->lead.reset();
  CHECK(woken == 2);
  CHECK(flights.in_flight() == 0);
  one->wait.reset();
  CHECK(woken == 2);
  CHECK(join(flights, sql, [] {})->lead != nullptr);
}

TEST_CASE("another stamp goes alone (rule 7), another key leads") {
  Flights flights(1);
  const auto leader = join(flights, "a", [] {});
  const auto later = join(flights, "a", [] {}, {{1, 11}, {2, 20}});
  CHECK(later->lead == nullptr);
  CHECK(later->wait == nullptr);
  CHECK(join(flights, "b", hash128("a"), kStamp, [] {})->lead != nullptr);
}

TEST_CASE("who withdraws is not woken") {
  Flights flights(1);
  int woken = 0;
  auto leader = join(flights, "a", [] {});
  auto gone = join(flights, "a", [&] { woken += 100; });
  const auto stays = join(flights, "a", [&] { ++woken; });
  gone->wait.reset();
  leader->lead.reset();
  CHECK(woken == 1);
}

TEST_CASE("waiters have a bound") {
  Flights flights(1);
  auto leader = join(flights, "a", [] {});
  std::vector<std::unique_ptr<Ticket>> tickets;
  size_t woken = 0;
  for (size_t i = 0; i < Flights::kWaitersMax; ++i) {
    tickets.push_back(join(flights, "a", [&] { ++woken; }));
    REQUIRE(tickets.back()->wait != nullptr);
  }
  CHECK(join(flights, "a", [] {})->wait == nullptr);
  tickets.pop_back();
  CHECK(join(flights, "a", [] {})->wait != nullptr);
  leader->lead.reset();
  CHECK(woken == Flights::kWaitersMax - 1);
}

TEST_CASE("places may outlive the flights") {
  std::unique_ptr<Ticket> leader;
  std::unique_ptr<Ticket> waiter;
  int woken = 0;
  {
    Flights flights(2);
    leader = join(flights, "a", [] {});
    waiter = join(flights, "a", [&] { ++woken; });
  }
  leader->lead.reset();
  CHECK(woken == 1);
}

TEST_CASE("a wake-up may withdraw or join") {
  Flights flights(1);
  auto leader = join(flights, "a", [] {});
  std::unique_ptr<Ticket> waiter;
  std::unique_ptr<Ticket> next;
  waiter = join(flights, "a", [&] {
    waiter->wait.reset();
    next = join(flights, "a", [] {});
  });
  leader->lead.reset();
  CHECK(next->lead != nullptr);
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
      std::vector<std::unique_ptr<Ticket>> kept;
      for (int i = 0; i < 5000; ++i) {
        const int k = (i * 7 + t) % 3;
        const std::string key(1, static_cast<char>('a' + k));
        auto told = std::make_shared<std::atomic<int>>(0);
        auto ticket = join(flights, key, [&, told] {
          if (told->fetch_add(1) == 0)
            ++woken;
          else
            two_leaders = true;
        });
        if (ticket->lead != nullptr) {
          if (leaders[k].fetch_add(1) != 0) two_leaders = true;
          std::this_thread::yield();
          leaders[k].fetch_sub(1);
          continue;
        }
        if (ticket->wait == nullptr) continue;
        ++promised;
        if (i % 5 == 0) {
          ticket->wait.reset();
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
