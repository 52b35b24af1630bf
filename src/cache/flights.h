// Single flight (freshness.md, rule 7): of several sessions that miss the same key under the same
// stamp, one asks PostgreSQL and the others wait for it, for a bounded time. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cache/entry.h"

namespace pgfresh::cache {

class Flights {
 public:
  // The leader's duty. Destroying it, after success or not, ends the flight: every waiter is woken
  // once, and looks into the store itself.
  class Lead {
   public:
    virtual ~Lead() = default;
  };
  // A waiter's place; destroying it withdraws. The wake-up may still arrive when it races with
  // that, so it must carry its own proof of life.
  class Wait {
   public:
    virtual ~Wait() = default;
  };
  // Runs on the leader's thread: it only posts to the waiter's loop.
  using Wake = std::function<void()>;

  struct Ticket {
    std::unique_ptr<Lead> lead;  // exactly one of the two is set, or none: the flight under this
    std::unique_ptr<Wait> wait;  // key has another stamp or too many waiters: go alone
  };

  static constexpr size_t kWaitersMax = 1024;  // of one flight

  // REQUIRES: shards is a power of two.
  explicit Flights(size_t shards);
  ~Flights();

  // `stamp` belongs to the same domain wherever keys are equal: the database is part of the key.
  [[nodiscard]] Ticket join(const Key& key, const freshness::Stamp& stamp, Wake wake);
  [[nodiscard]] uint64_t in_flight() const;

 private:
  struct Flight;
  struct Shard;
  class LeadPlace;
  class WaitPlace;

  std::vector<std::shared_ptr<Shard>> shards_;
};

}  // namespace pgfresh::cache
