#include "random_world.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pgfresh::sim {
namespace {

constexpr int64_t kRows = 5;
constexpr int kReadersPerProxy = 4;
constexpr size_t kPipesMax = 200;

// One that only another proxy's clients can suffer from.
bool publishers_fault(Fault fault) {
  return fault == Fault::kDeadBeats || fault == Fault::kCarryForEver ||
         fault == Fault::kKeepEvents || fault == Fault::kVouchUnheard ||
         fault == Fault::kBlindLooks;
}

// One that there must be a second level for.
bool redis_fault(Fault fault) {
  return fault == Fault::kStampIgnored || fault == Fault::kStampLate || fault == Fault::kOldMaps;
}

// `share` of the proxies that publish: 0 none, 1 all, 2 some.
NodeOptions node_options(Random& random, Fault fault, uint64_t share) {
  NodeOptions options;
  options.feed.staleness_ms = RandomWorld::kStalenessMs * (fault == Fault::kLongLease ? 50 : 1);
  options.feed.catalog_poll_ms = fault == Fault::kLongLease ? 5000 : 200;
  options.feed.audit_ms = 1500;
  options.feed.reconnect_ms_min = 2;
  options.feed.reconnect_ms_max = 40;
  options.settings.single_flight_wait_ms = 1 + static_cast<int64_t>(random.below(12));
  options.settings.ttl_ms = random.one_in(3) ? 100 : 300'000;
  const bool publishes = share != 0 && (share == 1 || random.one_in(2));
  options.feed.publish = publishes ? freshness::Publish::kProxy : freshness::Publish::kTrigger;
  options.slot_bits = random.one_in(3) ? 2 : 10;
  options.free_on_event = random.one_in(2);
  if (fault == Fault::kSettleEarly) options.sabotage = Sabotage::kSettleEarly;
  if (fault == Fault::kKeepEvents) options.sabotage = Sabotage::kKeepEvents;
  if (fault == Fault::kVouchUnheard) options.sabotage = Sabotage::kVouchUnheard;
  if (fault == Fault::kStampLate) options.sabotage = Sabotage::kStampLate;
  return options;
}

}  // namespace

RandomWorld::RandomWorld(uint64_t seed, Fault fault)
    : random_(seed),
      fault_(fault),
      writers_rest_(3 + random_.below(40)),
      calm_(random_.below(10)),
      schema_changes_(random_.one_in(3)),
      kills_(random_.one_in(4) || publishers_fault(fault)),
      publishing_(fault == Fault::kNone      ? random_.below(4) % 3
                  : fault == Fault::kOldMaps ? 0
                                             : 1),
      redis_random_(seed * 7919 + 13),
      commit_random_(seed * 104'729 + 7),
      asynchronous_(commit_random_.one_in(2) || fault == Fault::kFeedOutlives),
      mirror_(commit_random_.one_in(2) || fault == Fault::kQuietCascade),
      judge_(time_, kStalenessMs * kNsPerMs) {
  time_.set_chooser([this](size_t count) { return static_cast<size_t>(random_.below(count)); });
  postgres_.set_logging(false);
  postgres_.set_notices(fault != Fault::kNoNotices);
  postgres_.set_notifications(fault != Fault::kNoNotifications);
  postgres_.set_feeds_survive(fault == Fault::kFeedOutlives);
  postgres_.set_looks_blind(fault == Fault::kBlindLooks);
  postgres_.database().set_asynchronous(asynchronous_);
  if (mirror_) {
    postgres_.database().set_mirror(fault == Fault::kQuietCascade ? Mirror::kUntold
                                                                  : Mirror::kTold);
  }
  postgres_.database().set_event_triggers(random_.one_in(2));
  postgres_.database().set_quirk(kRows + 1, Quirk::kError);
  // Who lacks a follower is not found out.
  uint64_t proxies = publishers_fault(fault) ? 3 : 1 + random_.below(3);
  if (redis_fault(fault) || (!publishers_fault(fault) && redis_random_.one_in(2))) {
    redis_loop_ = std::make_unique<ManualLoop>(time_);
    redis_ = std::make_unique<FakeRedis>(*redis_loop_);
    if (redis_fault(fault)) proxies = std::max<uint64_t>(proxies, 2);
    if (fault == Fault::kStampIgnored) redis_->forget_stamps();
    if (fault == Fault::kOldMaps) give_old_maps();
    few_slots_fleet_ = redis_random_.one_in(4);
  }
  for (uint64_t i = 0; i < proxies; ++i) proxies_.push_back(make_proxy());
  for (int64_t row = 1; row <= kRows; ++row) {
    for (const char* table : {"bench", "mirror"}) postgres_.database().put(row, 0, table);
    judge_.add_row(row);
  }
  postgres_.database().put(1, kSideValue, "side");
  postgres_.database().set_on_visible([this](const FakeDatabase::Key& key, int64_t version) {
    if (key.first == "bench") judge_.visible(key.second, version);
  });
  add_actors();
}

RandomWorld::~RandomWorld() = default;

std::unique_ptr<ProxyNode> RandomWorld::make_proxy() {
  NodeOptions options = node_options(random_, fault_, publishing_);
  if (redis_) {
    // A fleet has one number of slots.
    options.slot_bits = few_slots_fleet_ ? 2 : 10;
    options.redis = redis_.get();
    options.settings.remote_budget_ms = 1 + static_cast<int64_t>(redis_random_.below(20));
    options.settings.remote_ask =
        redis_random_.one_in(8) ? proxy::RemoteAsk::kWherePays : proxy::RemoteAsk::kAlways;
    // Memory that is often empty, so that the second level has something to do.
    options.settings.ttl_ms = 1 + static_cast<int64_t>(redis_random_.below(30));
    options.settings.remote_ttl_ms = 300'000;
  }
  few_slots_ = few_slots_ || options.slot_bits == 2;
  return std::make_unique<ProxyNode>(time_, postgres_, options, random_.next());
}

// Each row has one writer: by turns through a proxy and directly.
void RandomWorld::add_actors() {
  const auto add = [this](ActorOptions options) {
    options.rows = kRows;
    options.mirror = mirror_;
    const int proxy = options.proxy;
    actors_.push_back(std::make_unique<Actor>(client_loop_, judge_, random_, std::move(options),
                                              [this, proxy] { return connect(proxy); }));
  };
  const int proxies = static_cast<int>(proxies_.size());
  for (int proxy = 0; proxy < proxies; ++proxy) {
    for (int i = 0; i < kReadersPerProxy; ++i) add({proxy, std::nullopt});
  }
  for (int64_t row = 1; row <= kRows; ++row) {
    const auto turn = static_cast<int>(random_.below(static_cast<uint64_t>(proxies) + 1));
    add({turn - 1, row});  // 0 − 1 is kDirectly
  }
}

std::unique_ptr<Stream> RandomWorld::connect(int proxy) {
  std::erase_if(pipes_, [](const auto& pipe) { return pipe.expired(); });
  if (proxy == kDirectly) return postgres_.accept(client_loop_);
  MemoryPair pair = proxies_[static_cast<size_t>(proxy)]->accept(client_loop_);
  if (random_.one_in(3)) {
    for (size_t side = 0; side < 2; ++side) {
      pair.pipe->set_chunking(side, [this] { return 1 + random_.below(40); });
    }
  }
  if (pipes_.size() < kPipesMax) pipes_.push_back(pair.pipe);
  return std::move(pair.first);
}

// ── Steps ────────────────────────────────────────────────────────────────────────────────────────

void RandomWorld::run(uint64_t steps) {
  for (uint64_t i = 0; i < steps && judge_.violations().empty(); ++i) {
    do_what_is_due(time_.now_ns());
    if (fault_ == Fault::kDeadBeats && i % 50 == 0) postgres_.repeat_beats();
    if (kills_ && i % 5 == 0 && random_.one_in(fault_ == Fault::kNone ? 40 : 5) &&
        somebody_has_events())
      kill_somebody();
    if (fault_ == Fault::kCarryForEver) {
      for (const auto& proxy : proxies_) proxy->domain().set_carry_lease(INT64_MAX);
    }
    disturb_commits();
    if (redis_ && redis_random_.one_in(30) && redis_random_.below(10) >= calm_ / 2) disturb_redis();
    const uint64_t choice = random_.below(100);
    if (choice < 45) {
      const uint64_t tasks = 1 + random_.below(12);
      for (uint64_t task = 0; task < tasks && time_.step(); ++task) {
      }
    } else if (choice < 80) {
      act();
    } else if (choice < 94) {
      time_.freeze_ms(1);  // due timers fire in later steps, in any order with the rest
    } else if (choice < 97) {
      time_.settle();
    } else if (random_.below(10) >= calm_) {
      disturb();
    }
  }
}

void RandomWorld::act() {
  Actor& actor = *actors_[random_.below(actors_.size())];
  if (!actor.idle()) return;
  // Writers rest a lot, or nothing would ever be a hit.
  if (actor.connected() && actor.options().writes_row && !random_.one_in(writers_rest_)) {
    return;
  }
  actor.act();
}

// An idle server process begins what it is sent within 3/4 of the staleness: vigil.h relies on it.
int64_t RandomWorld::some_ms(bool long_too) {
  const uint64_t long_one_in = fault_ == Fault::kLongLease ? 3 : 8;
  const uint64_t limit = long_too && random_.one_in(long_one_in) ? 4 * kStalenessMs : 8;
  return 1 + static_cast<int64_t>(random_.below(limit));
}

void RandomWorld::later(int64_t after_ms, std::function<void()> task) {
  later_.push_back({time_.now_ns() + after_ms * kNsPerMs, std::move(task)});
}

void RandomWorld::do_what_is_due(int64_t now_ns) {
  for (size_t i = 0; i < later_.size();) {
    if (later_[i].due_ns > now_ns) {
      ++i;
      continue;
    }
    const auto task = std::move(later_[i].task);
    later_.erase(later_.begin() + static_cast<std::ptrdiff_t>(i));
    task();
  }
}

// ── The end ──────────────────────────────────────────────────────────────────────────────────────

void RandomWorld::finish() {
  if (!judge_.violations().empty()) return;
  do_what_is_due(INT64_MAX);
  postgres_.release_control();
  postgres_.restart();
  if (redis_) redis_->release();
  time_.advance_ms(5000);
  for (const auto& actor : actors_) {
    if (actor->connected() && !actor->idle()) judge_.violation("an actor is stuck after quiet");
  }
  for (size_t proxy = 0; proxy < proxies_.size(); ++proxy) {
    const freshness::FeedStatus feed = proxies_[proxy]->feed();
    if (feed.state != "live") {
      judge_.violation("the feed is not live after quiet: " + feed.trouble + "; publishers " +
                       std::to_string(feed.publishers) + ", heard " +
                       std::to_string(feed.publisher_age_ms) + " ms ago, lost " +
                       std::to_string(feed.publishers_lost) + "; noted " +
                       std::to_string(feed.transactions_noted) + "; lease " +
                       std::to_string(feed.lease_left_ms) + " ms; fences " +
                       std::to_string(feed.fences) + "; sessions " + std::to_string(feed.sessions));
    }
    if (feed.open_slots != 0) judge_.violation("slots are open after quiet");
    read_all(proxy);
  }
}

// Twice each: the second time it must be a hit.
void RandomWorld::read_all(size_t proxy) {
  WireClient client(client_loop_);
  MemoryPair pair = proxies_[proxy]->accept(client_loop_);
  client.connect(std::move(pair.first));
  client.startup().send();
  time_.settle();
  const uint64_t hits = proxies_[proxy]->count(Counter::kHitsL1);
  for (int64_t row = 1; row <= kRows; ++row) {
    for (int round = 0; round < 2; ++round) {
      client.forget();
      client.query("SELECT v FROM bench WHERE id = " + std::to_string(row)).send();
      time_.settle();
      std::optional<int64_t> version;
      for (const WireClient::Message& message : client.messages()) {
        if (message.type == 'D') version = numbers_of(message).front();
      }
      judge_.final_read(row, version, postgres_.database().committed(row));
    }
  }
  if (proxies_[proxy]->count(Counter::kHitsL1) < hits + kRows) {
    judge_.violation("reads after quiet were no hits");
  }
  client.disconnect();
  time_.settle();
}

uint64_t RandomWorld::happened_of(const std::string& what) const {
  const auto found = happened_.find(what);
  return found == happened_.end() ? 0 : found->second;
}

void RandomWorld::add_coverage(std::map<std::string, uint64_t>& coverage) const {
  for (const auto& [name, count] : happened_) coverage[name] += count;
  coverage["reads judged"] += judge_.reads();
  coverage["writes"] += judge_.writes();
  coverage["commit lost in a crash, and read before"] += judge_.lost_after_read();
  coverage["commit on a lost connection"] += postgres_.late_commits();
  coverage["deferred BEGIN injected"] += postgres_.begins();
  coverage["lost backend with open slots"] += postgres_.looks();
  coverage["beat"] += postgres_.beats();
  coverage["publication"] += postgres_.publications();
  for (const auto& actor : actors_) {
    coverage["client connection lost"] += actor->losses();
    coverage["savepoint undone"] += actor->savepoints_undone();
    coverage["written by a function"] += actor->functions_wrote();
    coverage["read of what a trigger wrote"] += actor->mirrors_read();
  }
  coverage["few slots for everything"] += few_slots_ ? 1U : 0U;
  if (proxies_.size() > 1) {
    uint64_t open = 0;
    for (const auto& proxy : proxies_) open += proxy->bypasses(Reason::kOpen);
    coverage["two proxies, writes open, feeds late"] += open != 0 ? happened_of("feed held") : 0;
  }
  if (redis_) {
    for (const auto* all : {&proxies_, &dead_}) {
      for (const auto& proxy : *all) {
        coverage["l2 hit"] += proxy->count(Counter::kHitsL2);
        coverage["l2 entry refused"] += proxy->count(Counter::kRemoteRefused);
        coverage["l2 look-up timed out"] += proxy->count(Counter::kRemoteTimedOut);
        coverage["l2 look-up failed"] += proxy->count(Counter::kRemoteFailed);
        coverage["SET overtaken by an event"] += proxy->remote()->puts_overtaken();
        coverage["reply of Redis overtaken by an event"] += proxy->remote()->replies_overtaken();
        coverage["fleet joined"] += proxy->feed().joins;
        coverage["nobody answered who joined"] += proxy->feed().joins_refused;
        coverage["map given"] += proxy->feed().maps_given;
      }
    }
  }
  for (const auto& proxy : proxies_) {
    const auto dropped_for_a_reason =
        proxy->bypasses(Reason::kNotQuiet) + proxy->bypasses(Reason::kTooLarge);
    coverage["hit"] += proxy->count(Counter::kHitsL1);
    coverage["miss"] += proxy->count(Counter::kMisses);
    coverage["fill"] += proxy->count(Counter::kFills);
    coverage["fill overlapped an event"] +=
        proxy->count(Counter::kFillsDropped) - dropped_for_a_reason;
    coverage["fill not quiet"] += proxy->bypasses(Reason::kNotQuiet);
    coverage["hit or fill refused: open"] += proxy->bypasses(Reason::kOpen);
    coverage["fill refused: wrote"] += proxy->bypasses(Reason::kWrote);
    coverage["stale entry found"] += proxy->count(Counter::kStaleFound);
    coverage["flight joined"] += proxy->count(Counter::kFlightsJoined);
    coverage["flight timed out"] += proxy->count(Counter::kFlightsTimedOut);
    coverage["lease expired"] += proxy->bypasses(Reason::kNoLease);
    coverage["catalog outdated"] += proxy->bypasses(Reason::kNoCatalog);
    coverage["pipelined"] += proxy->bypasses(Reason::kPipelined);
    coverage["block without a server"] += proxy->count(Counter::kLocalBlocks);
    coverage["in-band notice"] += proxy->count(Counter::kNotices);
    coverage["feed session begun anew"] += proxy->feed().sessions - 1;
    coverage["event"] += proxy->feed().events;
    coverage["transaction carried"] += proxy->count(Counter::kCarried);
    coverage["publisher given up"] += proxy->feed().publishers_lost;
    coverage["commit not heard of in time"] += proxy->feed().commits_late;
  }
}

}  // namespace pgfresh::sim
