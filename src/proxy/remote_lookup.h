// One look-up in the second level, from the question to what the session does next: get; and where
// the fleet shall fetch a key but once, on a miss the lock; and while another proxy holds that, the
// same again after a pause, for it is fetching and will put. All of it within one budget, so the
// death of whoever holds the lock costs the wait and nothing else.
//
// One worker's loop. Destroying it, from inside `done` too, withdraws whatever is under way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "freshness/stamp.h"
#include "pgfresh/loop.h"
#include "pgfresh/remote_store.h"

namespace pgfresh::proxy {

class RemoteLookup {
 public:
  enum class Fleet : uint8_t {
    kEachAlone,
    kOneFetches,
  };
  struct Terms {
    int64_t budget_ms = 20;
    Fleet fleet = Fleet::kEachAlone;
    int64_t lock_ttl_ms = 1000;
  };
  enum class End : uint8_t {
    kFound,
    kMiss,
    kMissLocked,   // the fleet's lock is ours: unlock() is owed
    kUnavailable,  // Redis is in trouble, or was asked too much
    kTimedOut,     // the budget is used up
    kBroken,       // there was something, and it was not an entry
  };
  // Called once, never from inside start(). `entry` is null unless kFound, and valid until it
  // returns.
  using Done = std::function<void(End end, const RemoteEntry* entry)>;

  // REQUIRES: `key` and `stamp` stay as they are until the end; `store` and `loop` outlive it.
  RemoteLookup(Loop& loop, RemoteStore& store, const std::string& key,
               const freshness::Stamp& stamp, const Terms& terms, Done done);
  ~RemoteLookup();
  RemoteLookup(const RemoteLookup&) = delete;
  RemoteLookup& operator=(const RemoteLookup&) = delete;

  // False: nothing was asked, and `done` is not called.
  [[nodiscard]] bool start();
  // Another proxy was found fetching the same.
  [[nodiscard]] bool waited() const { return pause_ms_ != 0; }

 private:
  [[nodiscard]] bool ask();
  void answered(RemoteStore::Found found, const RemoteEntry* entry);
  void want_lock();
  void lock_answered(RemoteStore::Locked locked);
  void pause();
  void finish(End end, const RemoteEntry* entry = nullptr);
  void let_go(std::unique_ptr<Timer>& timer);

  Loop& loop_;
  RemoteStore& store_;
  const std::string& key_;
  const freshness::Stamp& stamp_;
  const Terms terms_;
  Done done_;
  std::unique_ptr<RemoteStore::Pending> pending_;
  std::unique_ptr<Timer> budget_;
  std::unique_ptr<Timer> pause_;
  int64_t pause_ms_ = 0;  // the last one; 0: none yet
  // Null once this object is gone.
  const std::shared_ptr<RemoteLookup*> self_ = std::make_shared<RemoteLookup*>(this);
};

}  // namespace pgfresh::proxy
