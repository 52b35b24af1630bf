// The door of the feed: workers put what they have into an inbox under a mutex, and the first to
// find it unannounced posts one task to the control loop, which empties it. To wake that loop costs
// more than anything else here, so what may wait until it looks by itself does. The state machine
// behind the door (feed_core.h) knows one thread only.
#include "freshness/feed.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "freshness/feed_core.h"

namespace pgfresh::freshness {
namespace {

struct Lost {
  uint32_t backend_pid = 0;
  Writes writes;
};

// What the workers have handed over and the control loop has not seen yet.
struct Inbox {
  SlotBatch ended;
  SlotBatch ddl_ended;
  Carried events;                // of either
  std::vector<Lost> lost;        // one for each server connection that broke
  std::vector<Writes> prepared;  // one for each PREPARE TRANSACTION
  bool carrying_wanted = false;
  bool unheard = false;
  bool elsewhere = false;

  [[nodiscard]] bool empty() const {
    return ended.transactions() == 0 && ddl_ended.transactions() == 0 && events.empty() &&
           lost.empty() && prepared.empty() && !carrying_wanted && !unheard && !elsewhere;
  }
};

}  // namespace

struct Feed::Impl : std::enable_shared_from_this<Impl> {
  Impl(Domain& domain, Loop& loop_in, SqlClientFactory& factory, const FeedOptions& options,
       std::function<uint64_t()> random64, Touched on_touched)
      : loop(loop_in),
        core(std::make_unique<FeedCore>(domain, loop_in, factory, options, std::move(random64),
                                        std::move(on_touched))) {
    core->set_letters([this](bool comes_back) { empty_inbox(comes_back); });
  }

  enum class Haste : uint8_t { kAtOnce, kWhenLooking };

  // `put` runs under the lock.
  template <typename Put>
  void hand_over(Put put, Haste haste = Haste::kAtOnce) {
    {
      const std::lock_guard lock(mutex);
      put(inbox);
      if (haste == Haste::kWhenLooking && looked_after) return;
      if (std::exchange(announced, true)) return;
    }
    loop.post([self = shared_from_this()] { self->empty_inbox(std::nullopt); });
  }

  // `comes_back`: what becomes of looked_after; nullopt: it stays.
  void empty_inbox(std::optional<bool> comes_back) {
    Inbox letters;
    {
      const std::lock_guard lock(mutex);
      std::swap(letters, inbox);
      announced = false;
      looked_after = comes_back.value_or(looked_after);
    }
    if (core == nullptr) return;  // the feed is gone
    if (wanted.load() || !letters.empty()) core->start();
    // What may begin a fence comes last: its last word is said by what is waited for.
    for (Lost& one : letters.lost) core->lost(one.backend_pid, std::move(one.writes));
    for (Writes& one : letters.prepared) core->prepared(std::move(one));
    if (letters.unheard) core->unheard();
    if (letters.elsewhere) core->elsewhere();
    if (letters.carrying_wanted) core->want_carrying();
    if (!letters.events.empty()) core->publish(letters.events);
    if (!letters.ended.empty()) core->ended(letters.ended);
    if (!letters.ddl_ended.empty()) core->ddl_ended(letters.ddl_ended);
  }

  Loop& loop;
  std::unique_ptr<FeedCore> core;  // control loop only
  std::atomic<bool> wanted{false};

  std::mutex mutex;  // the three below
  Inbox inbox;
  bool announced = false;     // a task is on its way to the control loop
  bool looked_after = false;  // which will look by itself, soon
};

Feed::Feed(Domain& domain, Loop& loop, SqlClientFactory& factory, FeedOptions options,
           std::function<uint64_t()> random64, Touched on_touched)
    : impl_(std::make_shared<Impl>(domain, loop, factory, options, std::move(random64),
                                   std::move(on_touched))) {}

Feed::~Feed() { impl_->core.reset(); }

void Feed::ended(Writes writes) {
  if (writes.empty()) return;
  impl_->hand_over(
      [&](Inbox& inbox) {
        inbox.ended.add(writes.slots);
        inbox.events.take(writes.events);
      },
      Impl::Haste::kWhenLooking);
}

void Feed::lost(uint32_t backend_pid, Writes writes) {
  if (writes.empty()) return;
  impl_->hand_over([&](Inbox& inbox) {
    inbox.lost.push_back(Lost{backend_pid, std::move(writes)});
  });
}

// Without slots too: the event is to be published.
void Feed::ddl_ended(Writes writes) {
  impl_->hand_over([&](Inbox& inbox) {
    inbox.ddl_ended.add(writes.slots);
    inbox.events.take(writes.events);
  });
}

void Feed::prepared(Writes writes) {
  if (writes.empty()) return;
  impl_->hand_over([&](Inbox& inbox) { inbox.prepared.push_back(std::move(writes)); });
}

void Feed::unheard() {
  impl_->hand_over([](Inbox& inbox) { inbox.unheard = true; });
}

void Feed::elsewhere() {
  impl_->hand_over([](Inbox& inbox) { inbox.elsewhere = true; });
}

void Feed::carrying_wanted() {
  impl_->hand_over([](Inbox& inbox) { inbox.carrying_wanted = true; });
}

void Feed::wanted() {
  if (impl_->wanted.exchange(true)) return;
  impl_->hand_over([](Inbox&) {});
}

// A session is in the domain's list before it is wanted(): who takes that word back, and finds the
// list empty behind it, leaves no session waiting for a feed that rests.
bool Feed::rest() {
  const bool wanted = impl_->wanted.exchange(false);
  if (impl_->core->rest()) return true;
  if (wanted) impl_->wanted.store(true);
  return false;
}

FeedStatus Feed::status() const { return impl_->core->status(); }

void Feed::set_options(const FeedOptions& options) { impl_->core->set_options(options); }

void Feed::forget() { impl_->core->forget(); }

void Feed::leave(std::function<void()> done) {
  impl_->empty_inbox(std::nullopt);  // a letter not yet opened may be the last
  impl_->core->leave(std::move(done));
}

}  // namespace pgfresh::freshness
