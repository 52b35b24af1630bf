// Single flight (freshness.md, rule 7): of several sessions that miss the same key under the same
// stamp, one asks PostgreSQL and the others wait for it, for a bounded time. Any thread.
//
// To lead costs nothing but a lock: the leader's place lies in what it records its answer in, and
// the key and stamp that others compare are the recorder's own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cache/entry.h"

namespace pgfresh::cache {

class Flights {
 private:
  struct Shard;
  struct Waiters;

 public:
  // Runs on the leader's thread: it only posts to the waiter's loop.
  using Wake = std::function<void()>;

  // The leader's duty, empty until join() gives it one. Ending it, after success or not, ends the
  // flight: every waiter is woken once, and looks into the store itself.
  class Lead {
   public:
    Lead() = default;
    ~Lead() { end(); }
    Lead(const Lead&) = delete;
    Lead& operator=(const Lead&) = delete;
    void end();
    explicit operator bool() const { return shard_ != nullptr; }

   private:
    friend class Flights;

    std::shared_ptr<Shard> shard_;
    // Under the shard's lock while in it.
    Key key_;
    const freshness::Stamp* stamp_ = nullptr;
    Lead* next_ = nullptr;
    std::shared_ptr<Waiters> waiters_;  // null until there is one
  };
  // A waiter's place; destroying it withdraws. The wake-up may still arrive when it races with
  // that, so it must carry its own proof of life.
  class Wait {
   public:
    virtual ~Wait() = default;
  };

  enum class Part : uint8_t {
    kLead,
    kWait,
    kAlone,  // the flight under this key has another stamp or too many waiters
  };
  static constexpr size_t kWaitersMax = 1024;  // of one flight

  // REQUIRES: shards is a power of two.
  explicit Flights(size_t shards);
  ~Flights();

  // `lead` and `wait` are set as the answer says. REQUIRES: `lead` is empty; `key` and `stamp` stay
  // as they are, where they are, until it has ended.
  // `stamp` belongs to the same domain wherever keys are equal: the database is part of the key.
  [[nodiscard]] Part join(const Key& key, const freshness::Stamp& stamp, const Wake& wake,
                          Lead& lead, std::unique_ptr<Wait>& wait);
  [[nodiscard]] uint64_t in_flight() const;

 private:
  class WaitPlace;

  std::vector<std::shared_ptr<Shard>> shards_;
};

}  // namespace pgfresh::cache
