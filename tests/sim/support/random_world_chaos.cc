// What befalls a random run: connections held and cut, feeds, crashes and what they lose, processes
// frozen and killed, and a Redis that is away, old or lying.
#include <algorithm>
#include <iterator>
#include <utility>

#include "random_world.h"

namespace pgfresh::sim {

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
  // PostgreSQL's words may be late whatever they say.
  later(some_ms(long_hold || side == 0), [pipe, side] { pipe->release(side); });
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
  // One after the other: arguments have no order, and a seed means the same world everywhere.
  const bool statements = random_.one_in(2);
  const bool words = random_.one_in(2);
  postgres_.hold_control(words, statements, of);
  const int64_t held_ms = some_ms();
  feed_held_until_ns_ = std::max(feed_held_until_ns_, time_.now_ns() + held_ms * kNsPerMs);
  later(held_ms, [this] {
    if (time_.now_ns() >= feed_held_until_ns_) postgres_.release_control();
  });
  for (uint64_t more = random_.below(6); more > 0; --more) {
    later(static_cast<int64_t>(random_.below(static_cast<uint64_t>(held_ms) + 1)),
          [this] { postgres_.trickle_control(); });
  }
  ++happened_["feed held"];
}

void RandomWorld::disturb_server() {
  if (random_.one_in(8)) {
    crash();
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

// With what was not on disk: acknowledged, perhaps, and read by others (rule 13).
void RandomWorld::crash() {
  if (postgres_.down()) return;
  postgres_.crash();
  for (const auto& [key, version] : postgres_.database().lose_unflushed()) {
    if (key.first != "bench") continue;
    judge_.lost(key.second, version);
    ++happened_["commit lost in a crash"];
  }
  later(some_ms(), [this] { postgres_.restart(); });
  ++happened_["crash"];
}

// Commits get to the disk; PostgreSQL crashes while some have not; and a connection is cut on which
// a commit's reply was about to be sent (anomaly 9).
void RandomWorld::disturb_commits() {
  if (fault_ == Fault::kVouchUnheard && commit_random_.one_in(10)) commit_late();
  const bool crashes = fault_ == Fault::kFeedOutlives;
  if (asynchronous_ && commit_random_.one_in(crashes ? 200 : 20)) postgres_.database().flush();
  if (fault_ != Fault::kNone && fault_ != Fault::kBlindLooks && !crashes) return;
  if (commit_random_.below(10) < calm_ && !crashes) return;
  if (!postgres_.database().flushed() && commit_random_.one_in(crashes ? 100 : 300)) crash();
  const auto backend = postgres_.committing();
  if (backend != nullptr && commit_random_.one_in(10)) {
    backend->pipe()->cut("connection reset by peer");
    ++happened_["cut between COMMIT and its reply"];
  }
  if (commit_random_.one_in(60)) commit_late();
  if (commit_random_.one_in(fault_ == Fault::kBlindLooks ? 2 : 40)) speak_late();
}

// What PostgreSQL says on one connection, that it has committed perhaps, is late by up to four
// times the staleness.
void RandomWorld::speak_late() {
  const auto& all = postgres_.backends();
  const auto found = std::find_if(all.begin(), all.end(), [](const auto& one) {
    return one->alive() && one->of_proxy() && one->in_transaction() && !one->stalled();
  });
  if (found == all.end()) return;
  const std::shared_ptr<MemoryPipe> pipe = (*found)->pipe();
  pipe->hold(0);
  later(1 + static_cast<int64_t>(commit_random_.below(uint64_t{4} * kStalenessMs)),
        [pipe] { pipe->release(0); });
  ++happened_["words of one server late"];
}

// A server process is away from the middle of a transaction on, or between two, and comes back when
// its connection has gone; what it has been sent meanwhile, a COMMIT perhaps or a whole
// transaction, it carries out.
void RandomWorld::commit_late() {
  const bool idle = commit_random_.one_in(2);
  const auto& all = postgres_.backends();
  const auto found = std::find_if(all.begin(), all.end(), [idle](const auto& one) {
    return one->alive() && one->of_proxy() && (one->in_transaction() || idle) && !one->stalled();
  });
  if (found == all.end()) return;
  const std::shared_ptr<FakeBackend> backend = *found;
  backend->stall();
  const auto soon_ms = [this] { return 1 + static_cast<int64_t>(commit_random_.below(8)); };
  const int64_t cut_ms = soon_ms();
  later(cut_ms, [backend] { backend->pipe()->cut("connection reset by peer"); });
  later(cut_ms + soon_ms(), [backend] { backend->go_on(); });
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
    const bool replies = redis_random_.one_in(2);
    const bool requests = redis_random_.one_in(2);
    redis_->hold(requests, replies);
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

}  // namespace pgfresh::sim
