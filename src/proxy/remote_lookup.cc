#include "proxy/remote_lookup.h"

#include <algorithm>
#include <utility>

namespace pgfresh::proxy {
namespace {

constexpr int64_t kPauseMsMax = 8;

}  // namespace

RemoteLookup::RemoteLookup(Loop& loop, RemoteStore& store, const std::string& key,
                           const freshness::Stamp& stamp, const Terms& terms, Done done)
    : loop_(loop), store_(store), key_(key), stamp_(stamp), terms_(terms), done_(std::move(done)) {}

RemoteLookup::~RemoteLookup() {
  *self_ = nullptr;
  pending_.reset();
  let_go(budget_);
  let_go(pause_);
}

// Its own call may be on the stack. Until it is gone it may still fire, when both timers are due in
// one turn of the loop: so timers know this object by `self_` alone.
void RemoteLookup::let_go(std::unique_ptr<Timer>& timer) {
  if (timer == nullptr) return;
  loop_.defer([old = std::shared_ptr<Timer>(std::move(timer))] {});
}

bool RemoteLookup::start() {
  if (!ask()) return false;
  budget_ = loop_.after(terms_.budget_ms, [self = self_] {
    if (*self != nullptr) (*self)->finish(End::kTimedOut);
  });
  return true;
}

bool RemoteLookup::ask() {
  pending_ = store_.get(key_, stamp_, [this](RemoteStore::Found found, const RemoteEntry* entry) {
    answered(found, entry);
  });
  return pending_ != nullptr;
}

void RemoteLookup::answered(RemoteStore::Found found, const RemoteEntry* entry) {
  switch (found) {
    case RemoteStore::Found::kEntry:
      finish(End::kFound, entry);
      return;
    case RemoteStore::Found::kMiss:
      want_lock();
      return;
    case RemoteStore::Found::kUnavailable:
      finish(End::kUnavailable);
      return;
    case RemoteStore::Found::kTimeout:
      finish(End::kTimedOut);
      return;
    case RemoteStore::Found::kBroken:
      finish(End::kBroken);
      return;
  }
}

void RemoteLookup::want_lock() {
  if (terms_.fleet == Fleet::kEachAlone) {
    finish(End::kMiss);
    return;
  }
  pending_ = store_.lock(key_, stamp_, terms_.lock_ttl_ms,
                         [this](RemoteStore::Locked locked) { lock_answered(locked); });
  if (pending_ == nullptr) finish(End::kMiss);
}

void RemoteLookup::lock_answered(RemoteStore::Locked locked) {
  switch (locked) {
    case RemoteStore::Locked::kMine:
      finish(End::kMissLocked);
      return;
    case RemoteStore::Locked::kTaken:
      pause();
      return;
    case RemoteStore::Locked::kUnavailable:
      finish(End::kMiss);
      return;
  }
}

void RemoteLookup::pause() {
  pause_ms_ = std::min(std::max<int64_t>(2 * pause_ms_, 1), kPauseMsMax);
  let_go(pause_);
  pause_ = loop_.after(pause_ms_, [self = self_] {
    if (*self != nullptr && !(*self)->ask()) (*self)->finish(End::kUnavailable);
  });
}

// Nothing of this object is touched behind the call.
void RemoteLookup::finish(End end, const RemoteEntry* entry) {
  if (!done_) return;
  const Done done = std::exchange(done_, nullptr);
  done(end, entry);
}

}  // namespace pgfresh::proxy
