// The second level: storage that all proxies of a fleet share, in practice Redis. It decides
// nothing (freshness.md, rule 8). It may lose, delay, evict, reorder, return an old state or answer
// garbage: what it says is a claim that the asker judges by its own slots, and whatever goes wrong
// is a miss and a counter.
//
// Every object belongs to the thread of one loop: a worker has a RemoteStore of its own, and the
// control loop has one that is a Mailbox too. Their owner outlives all who use them.
//
// Calling back. No `done` is called from inside the call that was given it, each is called at most
// once, and exactly once unless its Pending is destroyed first: that withdraws the question, from
// inside any callback too, and is how a session that dies, or has waited long enough, cancels.
// Null instead of a Pending: nothing was asked (not connected, breaker open, too much in flight),
// and `done` is never called. Views handed to `done` are valid until it returns; views given to a
// call are copied or used up before the call returns.
//
// Time. The store has time-outs of its own, which bound what it keeps; the budget of a request is
// kept by whoever asks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "pgfresh/slot_token.h"

namespace pgfresh {

// A cached answer as it travels. The fields that cache/entry.h has too mean the same there. Times
// are of the wall clock, because proxies share no other; they decide about expiry alone.
struct RemoteEntry {
  std::string_view key;  // portable: means the same in every process (proxy/key.h)
  std::span<const freshness::SlotToken> stamp;
  std::string_view body;
  uint32_t description_bytes = 0;
  uint64_t shape = 0;
  uint64_t query_id = 0;
  int64_t created_unix_ms = 0;
  int64_t expires_unix_ms = 0;
  int64_t upstream_ns = 0;
};

class RemoteStore {
 public:
  // A question under way; destroying it withdraws the question.
  class Pending {
   public:
    virtual ~Pending() = default;
  };

  enum class Found : uint8_t {
    kEntry,
    kMiss,
    kUnavailable,  // the connection broke, or Redis refused
    kTimeout,
    kBroken,  // there was something, and it was not an entry
  };
  // `entry` is null unless kEntry. Its key and stamp are what was stored, not what was asked for:
  // the caller compares both.
  using Got = std::function<void(Found found, const RemoteEntry* entry)>;

  enum class Locked : uint8_t { kMine, kTaken, kUnavailable };
  using LockDone = std::function<void(Locked)>;

  virtual ~RemoteStore() = default;

  // Connected and not refusing: it is worth asking.
  [[nodiscard]] virtual bool available() const = 0;
  // Of late, from get() to its answer, smoothed; 0: not known yet.
  [[nodiscard]] virtual int64_t round_trip_ns() const = 0;

  // The entry that was stored under exactly this key and stamp, if the store's word is good.
  // Entries of the same key with other stamps lie elsewhere, so that a slow proxy never overwrites
  // what is newer, and whoever frees what has died never frees what lives.
  [[nodiscard]] virtual std::unique_ptr<Pending> get(std::string_view key,
                                                     std::span<const freshness::SlotToken> stamp,
                                                     Got done) = 0;
  // Stores it until expires_unix_ms, or not; nobody is told.
  virtual void put(const RemoteEntry& entry) = 0;

  // Single flight across the fleet: whoever holds the lock of a key and stamp is fetching it. It
  // ends by unlock(), or by itself after `ttl_ms`. A question that is withdrawn gives back what it
  // may have been given.
  [[nodiscard]] virtual std::unique_ptr<Pending> lock(std::string_view key,
                                                      std::span<const freshness::SlotToken> stamp,
                                                      int64_t ttl_ms, LockDone done) = 0;
  // Only of a lock that this object was given; otherwise nothing happens.
  virtual void unlock(std::string_view key, std::span<const freshness::SlotToken> stamp) = 0;

  // Rule 9, for memory alone: an event has taken `token` from `slot`; what was stored with this
  // pair in its stamp is dead. Control loop. One proxy of the fleet does the work.
  virtual void freed(uint32_t slot, uint64_t token) = 0;
};

// Where a proxy that joins finds what a peer has written for it (freshness.md, rule 10).
class Mailbox {
 public:
  using Pending = RemoteStore::Pending;
  using Posted = std::function<void(bool stored)>;
  // Null: nothing is there (yet), or it could not be read.
  using Collected = std::function<void(const std::string_view* bytes)>;

  virtual ~Mailbox() = default;

  [[nodiscard]] virtual bool mail_available() const = 0;
  // What was posted last under `address`, for `ttl_ms`. Both as long as they come; the mailbox
  // encrypts what it keeps where entries are encrypted.
  [[nodiscard]] virtual std::unique_ptr<Pending> post(std::string_view address,
                                                      std::string_view bytes, int64_t ttl_ms,
                                                      Posted done) = 0;
  [[nodiscard]] virtual std::unique_ptr<Pending> collect(std::string_view address,
                                                         Collected done) = 0;
};

}  // namespace pgfresh
