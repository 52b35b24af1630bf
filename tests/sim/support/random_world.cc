#include "random_world.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pgfresh::sim {
namespace {

constexpr int64_t kRows = 5;
constexpr int64_t kStalenessMs = 60;
constexpr int kReadersPerProxy = 4;
constexpr size_t kPipesMax = 200;

// One that only another proxy's clients can suffer from.
bool publishers_fault(Fault fault) {
  return fault == Fault::kDeadBeats || fault == Fault::kCarryForEver || fault == Fault::kKeepEvents;
}

// One that there must be a second level for.
bool redis_fault(Fault fault) {
  return fault == Fault::kStampIgnored || fault == Fault::kStampLate || fault == Fault::kOldMaps;
}

// `share` of the proxies that publish: 0 none, 1 all, 2 some.
NodeOptions node_options(Random& random, Fault fault, uint64_t share) {
  NodeOptions options;
  options.feed.staleness_ms = fault == Fault::kLongLease ? 50 * kStalenessMs : kStalenessMs;
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
      judge_(time_, kStalenessMs * kNsPerMs) {
  time_.set_chooser([this](size_t count) { return static_cast<size_t>(random_.below(count)); });
  postgres_.set_logging(false);
  postgres_.set_notices(fault != Fault::kNoNotices);
  postgres_.set_notifications(fault != Fault::kNoNotifications);
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
    postgres_.database().put(row, 0);
    judge_.add_row(row);
  }
  postgres_.database().put(1, kSideValue, "side");
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
    const int proxy = options.proxy;
    actors_.push_back(std::make_unique<Actor>(client_loop_, judge_, random_, std::move(options),
                                              [this, proxy] { return connect(proxy); }));
  };
  const int proxies = static_cast<int>(proxies_.size());
  for (int proxy = 0; proxy < proxies; ++proxy) {
    for (int i = 0; i < kReadersPerProxy; ++i) add({proxy, std::nullopt, 0});
  }
  for (int64_t row = 1; row <= kRows; ++row) {
    const auto turn = static_cast<int>(random_.below(static_cast<uint64_t>(proxies) + 1));
    add({turn - 1, row, 0});  // 0 − 1 is kDirectly
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
  const uint64_t limit = long_too && random_.one_in(8) ? 4 * kStalenessMs : 8;
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

// ── Chaos ────────────────────────────────────────────────────────────────────────────────────────

void RandomWorld::disturb() {
  const uint64_t choice = random_.below(100);
  if (choice < 45) {
    disturb_pipe();
  } else if (choice < 80) {
    disturb_feed();
  } else if (choice < 90) {
    disturb_server();
  } else if (choice < 98 || !kills_) {
    freeze_somebody();
  } else {
    kill_somebody();
  }
}

// A connection is held for a while, or cut: of a client, or of a backend.
void RandomWorld::disturb_pipe() {
  std::shared_ptr<MemoryPipe> pipe;
  bool in_transaction = false;
  bool long_hold = true;
  if (random_.one_in(2) && !pipes_.empty()) {
    pipe = pipes_[random_.below(pipes_.size())].lock();
  } else if (!postgres_.backends().empty()) {
    const auto& backend = postgres_.backends()[random_.below(postgres_.backends().size())];
    if (random_.one_in(3)) {
      backend->stall();
      later(some_ms(backend->in_transaction()), [backend] { backend->go_on(); });
      ++happened_["stalled backend"];
    }
    pipe = backend->pipe();
    in_transaction = backend->in_transaction();
    long_hold = in_transaction;
  }
  if (pipe == nullptr) return;
  if (random_.one_in(in_transaction ? 2 : 6)) {
    pipe->cut("connection reset by peer");
    ++happened_["cut"];
    return;
  }
  const size_t side = random_.below(2);
  pipe->hold(side);
  later(some_ms(long_hold), [pipe, side] { pipe->release(side); });
}

void RandomWorld::disturb_feed() {
  if (random_.one_in(8)) {
    postgres_.lose_control("connection reset by peer");
    ++happened_["feed lost"];
    return;
  }
  // Everybody's, or one proxy's: then the others go on without it.
  const Loop* of = nullptr;
  if (random_.one_in(2)) of = &proxies_[random_.below(proxies_.size())]->control_loop();
  postgres_.hold_control(random_.one_in(2), random_.one_in(2), of);
  const int64_t held_ms = some_ms();
  feed_held_until_ns_ = std::max(feed_held_until_ns_, time_.now_ns() + held_ms * kNsPerMs);
  later(held_ms, [this] {
    if (time_.now_ns() >= feed_held_until_ns_) postgres_.release_control();
  });
  for (uint64_t words = random_.below(6); words > 0; --words) {
    later(static_cast<int64_t>(random_.below(static_cast<uint64_t>(held_ms) + 1)),
          [this] { postgres_.trickle_control(); });
  }
  ++happened_["feed held"];
}

void RandomWorld::disturb_server() {
  if (random_.one_in(8)) {
    if (postgres_.down()) return;
    postgres_.crash();
    later(some_ms(), [this] { postgres_.restart(); });
    ++happened_["crash"];
    return;
  }
  if (random_.one_in(4)) {
    forge();
    return;
  }
  if (!schema_changes_) return;
  FakeDatabase::Transaction tx;
  static_cast<void>(postgres_.database().execute(tx, "ALTER TABLE side ADD x int", {}));
  postgres_.notify(postgres_.database().commit(tx));
  ++happened_["schema change"];
}

// Anybody may NOTIFY anything: what cannot be read, and what has been said before.
void RandomWorld::forge() {
  constexpr const char* kPayloads[] = {"rubbish", "1 1001 r 16402 1 1 1 1:1", "1 1001 w 16402",
                                       "1 1001 w 7", "1 1002 s"};
  postgres_.notify({kPayloads[random_.below(std::size(kPayloads))]});
  ++happened_["forged notification"];
}

void RandomWorld::freeze_somebody() {
  ProxyNode* proxy = proxies_[random_.below(proxies_.size())].get();
  proxy->freeze();
  later(some_ms(), [proxy] { proxy->thaw(); });
  ++happened_["freeze"];
}

bool RandomWorld::somebody_has_events() const {
  return std::any_of(proxies_.begin(), proxies_.end(),
                     [](const auto& proxy) { return proxy->feed().queued != 0; });
}

// The process is gone with everything it had: a moment later another takes its place.
void RandomWorld::kill_somebody() {
  std::unique_ptr<ProxyNode>* chosen = &proxies_[random_.below(proxies_.size())];
  for (std::unique_ptr<ProxyNode>& one : proxies_) {
    if (one->feed().queued == 0) continue;
    chosen = &one;
    ++happened_["killed with events to publish"];
    break;
  }
  std::unique_ptr<ProxyNode>& proxy = *chosen;
  proxy->kill();
  dead_.push_back(std::move(proxy));
  proxy = make_proxy();
  proxy->domain().settler().wanted();
  ++happened_["kill"];
}

// Anomaly 8: all are gone, and others write meanwhile.
void RandomWorld::kill_everybody() {
  for (std::unique_ptr<ProxyNode>& proxy : proxies_) {
    proxy->kill();
    dead_.push_back(std::move(proxy));
  }
  const uint64_t writes = judge_.writes();
  for (int i = 0; i < 300; ++i) {
    time_.step();
    for (const auto& actor : actors_) {
      if (actor->options().proxy == kDirectly && actor->idle()) actor->act();
    }
  }
  if (judge_.writes() > writes) ++happened_["all gone while somebody wrote"];
  for (std::unique_ptr<ProxyNode>& proxy : proxies_) {
    proxy = make_proxy();
    proxy->domain().settler().wanted();
  }
}

// ── Redis ────────────────────────────────────────────────────────────────────────────────────────

void RandomWorld::disturb_redis() {
  const uint64_t choice = redis_random_.below(100);
  const auto some_time_ms = [this] { return 1 + static_cast<int64_t>(redis_random_.below(40)); };
  if (choice < (fault_ == Fault::kOldMaps ? 12 : 3)) {
    // For a moment: the others go on, and can be joined again.
    const auto& proxy = proxies_[redis_random_.below(proxies_.size())];
    postgres_.lose_control("connection reset by peer", &proxy->control_loop());
    ++happened_["one feed lost"];
  } else if (choice < 40) {
    redis_->hold(redis_random_.one_in(2), redis_random_.one_in(2));
    later(some_time_ms(), [this] { redis_->release(); });
    ++happened_["Redis held"];
  } else if (choice < 48) {
    redis_->set_down(true);
    later(some_time_ms(), [this] { redis_->set_down(false); });
    ++happened_["Redis down"];
  } else if (choice < 60) {
    redis_->save();
  } else if (choice < 68) {
    redis_->restore();
    ++happened_["Redis returned to an old state"];
  } else if (choice < 72) {
    redis_->clear();
  } else if (choice < 84) {
    for (uint64_t n = redis_random_.below(10); n > 0; --n) redis_->evict(redis_random_.next());
    ++happened_["Redis evicted"];
  } else if (choice < 94) {
    lie();
  } else if (choice < 99) {
    const auto& proxy = proxies_[redis_random_.below(proxies_.size())];
    FakeRemote* remote = proxy->remote();
    remote->set_cut(true);
    later(some_time_ms(), [remote] { remote->set_cut(false); });
    ++happened_["one proxy cut from Redis"];
  } else if (kills_ && fault_ == Fault::kNone) {
    kill_everybody();
  }
}

// For a while, some of what is given out is not what was put: another entry, an older one, less.
void RandomWorld::lie() {
  if (fault_ == Fault::kStampIgnored) return;
  redis_->set_liar([this](const StoredEntry& entry) -> std::optional<StoredEntry> {
    StoredEntry told = entry;
    switch (redis_random_.below(6)) {
      case 0:
        return std::nullopt;
      case 1:
        return *redis_->any(redis_random_.next());
      case 2:
        told.body.resize(redis_random_.below(told.body.size() + 1));
        return told;
      case 3:
        told.stamp[redis_random_.below(told.stamp.size())].token ^= 1;
        return told;
      case 4:
        told.rest.created_unix_ms = static_cast<int64_t>(redis_random_.next());
        told.rest.expires_unix_ms = static_cast<int64_t>(redis_random_.next());
        return told;
      default:
        return told;
    }
  });
  later(20, [this] { redis_->set_liar(nullptr); });
  ++happened_["Redis lied"];
}

// The fault: whoever joins is given the first map that anybody ever wrote, under his own nonce.
void RandomWorld::give_old_maps() {
  postgres_.set_eavesdropper([this](const std::string& payload) {
    if (payload.starts_with("2 j ")) last_nonce_ = payload;
  });
  redis_->set_forger([this](const std::string& address, const std::string& bytes) {
    const auto word = freshness::parse_fleet_word(last_nonce_);
    if (!word || freshness::map_address(word->nonce) != address) return bytes;
    const auto map = freshness::decode_map(bytes, word->nonce);
    if (!map) return bytes;
    const auto old = old_maps_.find(map->base);
    if (old == old_maps_.end()) {
      old_maps_.emplace(map->base, *map);
      return bytes;
    }
    return *freshness::encode_map(old->second, word->nonce);
  });
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
  coverage["deferred BEGIN injected"] += postgres_.begins();
  coverage["lost backend with open slots"] += postgres_.looks();
  coverage["beat"] += postgres_.beats();
  coverage["publication"] += postgres_.publications();
  for (const auto& actor : actors_) {
    coverage["client connection lost"] += actor->losses();
    coverage["savepoint undone"] += actor->savepoints_undone();
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
  }
}

}  // namespace pgfresh::sim
