// The feed as a member of a fleet: what it says about bases, what it answers to those who join, and
// how it joins itself. The argument is in join.h; the rest of FeedCore is in feed_core.cc.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "freshness/feed_core.h"

namespace pgfresh::freshness {
namespace {

// Between looks into the mailbox: a peer's answer takes a round trip to PostgreSQL and one to
// Redis; doubled up to the maximum.
constexpr int64_t kCollectNsMin = 2 * kNsPerMs;
constexpr int64_t kCollectNsMax = 32 * kNsPerMs;
// Who starts waits so long for a way to Redis, of the staleness; and looks so often.
constexpr int64_t kMailShare = 4;
constexpr int64_t kMailLookNs = 10 * kNsPerMs;
// A map is of no use to anybody after its question has been given up.
constexpr int64_t kMapTtlMs = 10'000;
// Of the staleness: to write a map means to look at every slot, a millisecond or two for 2^20 of
// them; and whoever asks may be anybody.
constexpr int64_t kMapShare = 20;
constexpr size_t kPostsMax = 4;
// Between tries where PostgreSQL refuses what is said.
constexpr int64_t kRefusedNs = 10 * kNsPerSecond;
// In stalenesses: what announcements may cause, which may be anybody's.
constexpr int64_t kMergePause = 5;
// In stalenesses: until a base is announced again; by chance up to twice as long.
constexpr int64_t kLineagePause = 12;

// In a transaction of its own that waits for no disk: as Publisher::begin().
std::string notify_sql(const std::vector<std::string>& payloads) {
  std::string sql = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true)";
  for (const std::string& payload : payloads) {
    sql += ", pg_catalog.pg_notify('pgfresh', E'" + payload + "')";
  }
  return sql;
}

}  // namespace

// Nothing is known to be missing from the tokens, as of the place in the stream that we have read.
bool FeedCore::settled() const {
  return listening_ && current_ && !base_wanted_ && queue_.empty() && !suspicion_.has_value() &&
         schema_events_ >= schema_events_awaited_ && !event_owed_ && !vigil_.mourning() &&
         !join_.under_way() && publisher_.standing() != Publisher::Standing::kUnknown;
}

// ---- what is said ----

// `proves`: something must be said, whatever it is. Our own notification comes behind all that
// stand in PostgreSQL's queue, and those of DDL stand there before the DDL can be seen: so nothing
// of what the catalog was read from is still to come. An empty query does not promise that.
std::string FeedCore::fleet_words(bool proves) {
  if (!may_speak()) return {};
  std::vector<std::string> payloads;
  const int64_t now = now_ns();
  if (join_.wants_to_ask(now)) {
    collecting_.reset();
    collect_pause_.cancel();
    payloads.push_back(join_.ask(now, Hash128{random64_(), random64_()}));
  }
  const bool said_lately = lineage_said_ns_ != 0 && now - lineage_said_ns_ < staleness_ns();
  if (digest_unsaid_.has_value()) {
    payloads.push_back(format_digest(*std::exchange(digest_unsaid_, std::nullopt)));
  }
  if ((lineage_unsaid_ || now >= lineage_due_ns_) && settled() && !said_lately) {
    lineage_unsaid_ = false;
    lineage_said_ns_ = now;
    payloads.push_back(format_lineage(domain_.tokens().base()));
  }
  if (proves && payloads.empty()) payloads.emplace_back(kNothingToSay);
  return payloads.empty() ? std::string() : notify_sql(payloads);
}

// A fence that is refused renews no lease, so the next ones say nothing.
void FeedCore::fleet_words_refused(std::string_view why) {
  note_trouble("joining", why);
  silent_until_ns_ = now_ns() + kRefusedNs;
  end_join();
}

// ---- what is heard ----

void FeedCore::on_fleet_word(std::string_view payload, uint32_t sender) {
  const std::optional<FleetWord> word = parse_fleet_word(payload);
  if (!word.has_value()) return;  // of a version to come
  switch (word->kind) {
    case FleetWord::Kind::kAsk:
      if (join_.heard_question(word->nonce)) {
        collect_pause_ns_ = kCollectNsMin;
        if (join_.may_collect()) collect_pause_.set(now_ns() + collect_pause_ns_);
      } else if ((word->base == 0 || word->base == domain_.tokens().base()) &&
                 (word->peer == 0 || word->peer == line_.backend_pid())) {
        give_map(word->nonce);
      }
      return;
    case FleetWord::Kind::kLineage:
      on_lineage(word->base, sender);
      return;
    case FleetWord::Kind::kDigest:
      on_digest(word->digest, sender);
      return;
  }
}

// The smallest base wins. Who has a smaller one says so; who has a larger one asks for it. Who can
// do neither now owes a word of his own, which the other answers: what is dropped here is repeated
// by nobody, and two bases would stay two.
void FeedCore::on_lineage(uint64_t base, uint32_t sender) {
  const uint64_t own = domain_.tokens().base();
  if (!has_fleet()) return;
  if (base == own) {
    on_common_lineage(sender);
  } else if (base > own) {
    lineage_unsaid_ = true;
  } else {
    merge(base, 0);
  }
}

// Everybody is at this place of the stream now, and tables that may be compared are settled.
void FeedCore::on_common_lineage(uint32_t sender) {
  put_off_lineage();
  compared_.reset();
  if (!settled()) return;
  const TokenTable& tokens = domain_.tokens();
  if (sender == line_.backend_pid()) {
    digest_unsaid_ = tokens.digest();
  } else {
    compared_ = Compared{sender, tokens.base(), tokens.digest()};
  }
}

void FeedCore::on_digest(uint64_t digest, uint32_t sender) {
  if (!compared_.has_value() || compared_->sender != sender) return;
  const Compared own = *std::exchange(compared_, std::nullopt);
  if (own.base != domain_.tokens().base()) return;
  if (own.digest < digest) {
    lineage_unsaid_ = true;
  } else if (own.digest > digest) {
    merge(own.base, sender);
  }
}

void FeedCore::merge(uint64_t base, uint32_t peer) {
  const int64_t now = now_ns();
  const bool merged_lately = merged_ns_ != 0 && now - merged_ns_ < kMergePause * staleness_ns();
  if (!settled() || merged_lately) {
    lineage_unsaid_ = true;
    return;
  }
  merged_ns_ = now;
  begin_join(Join::Kind::kMerge, base, peer);
  begin_fence();
}

// Those who waited as long as we shall not speak all at once.
void FeedCore::put_off_lineage() {
  const int64_t pause_ns = kLineagePause * staleness_ns();
  const auto more_ns = static_cast<int64_t>(random64_() % static_cast<uint64_t>(pause_ns));
  lineage_due_ns_ = now_ns() + pause_ns + more_ns;
}

// ---- what a peer does ----

// As of this place in the stream: what is behind the question has not been read yet.
void FeedCore::give_map(const Hash128& nonce) {
  const int64_t now = now_ns();
  if (!has_fleet() || !settled() || posting_.size() >= kPostsMax) return;
  if (map_given_ns_ != 0 && now - map_given_ns_ < staleness_ns() / kMapShare) return;
  map_given_ns_ = now;
  SlotMap map;
  map.slot_bits = domain_.tokens().slot_bits();
  map.base = domain_.tokens().base();
  map.base_age_ns = std::max<int64_t>(now - base_ns_, 0);
  map.touched = domain_.tokens().touched();
  map.publishers = vigil_.ages(now);
  if (publisher_.standing() == Publisher::Standing::kVouching) {
    const int64_t age_ns = now - publisher_.told_ns();
    map.publishers.push_back({line_.backend_pid(), age_ns, age_ns});
  }
  const std::optional<std::string> bytes = encode_map(map, nonce);
  if (!bytes.has_value()) return;
  const uint64_t number = ++posts_;
  auto posted = mailbox_->post(map_address(nonce), *bytes, kMapTtlMs, [this, number](bool stored) {
    if (stored) ++counts_.maps_given;
    posting_.erase(number);
  });
  if (posted != nullptr) posting_.emplace(number, std::move(posted));
}

// ---- what a newcomer does ----

void FeedCore::begin_join(Join::Kind kind, uint64_t base, uint32_t peer) {
  end_join();
  join_.begin(kind, now_ns(), staleness_ns(), base, peer);
  join_begun_ns_ = now_ns();
  if (!has_fleet()) collect_pause_.set(now_ns() + kMailLookNs);
}

void FeedCore::keep_for_join(std::string_view payload, uint32_t sender) {
  if (!join_.may_collect()) return;
  const int64_t since_ns = lease_from_ns_ != 0 ? lease_from_ns_ : session_ns_;
  if (!join_.keep({std::string(payload), sender, since_ns})) end_join();
}

// Without a map: what our own base is worth is not changed by that.
void FeedCore::end_join() {
  join_.cancel();
  collecting_.reset();
  collect_pause_.cancel();
}

void FeedCore::tick_join() {
  if (!join_.under_way()) return;
  if (!has_fleet()) {
    if (now_ns() - join_begun_ns_ >= staleness_ns() / kMailShare) end_join();
  } else if (join_.expire(now_ns())) {
    ++counts_.joins_refused;
    // Whoever holds the base that was asked for was not settled, perhaps, and says it again when it
    // hears ours.
    lineage_unsaid_ = true;
    end_join();
  }
}

void FeedCore::collect_map() {
  if (!has_fleet()) {
    // A process that has just been started is perhaps still connecting to Redis.
    if (join_.under_way()) collect_pause_.set(now_ns() + kMailLookNs);
    return;
  }
  if (!join_.may_collect()) {
    begin_fence();  // says the question
    return;
  }
  collecting_ = mailbox_->collect(map_address(join_.nonce()),
                                  [this](const std::string_view* bytes) { on_map(bytes); });
}

void FeedCore::on_map(const std::string_view* bytes) {
  if (!join_.may_collect()) return;
  std::optional<SlotMap> map;
  if (bytes != nullptr) map = decode_map(*bytes, join_.nonce());
  const TokenTable& tokens = domain_.tokens();
  const bool fits = map.has_value() && map->slot_bits == tokens.slot_bits() &&
                    (join_.kind() == Join::Kind::kStart || map->base < tokens.base() ||
                     (join_.peer() != 0 && map->base == tokens.base()));
  if (fits) {
    adopt_map(*map);
    return;
  }
  collect_pause_ns_ = std::min(2 * collect_pause_ns_, kCollectNsMax);
  collect_pause_.set(now_ns() + collect_pause_ns_);
}

// The same as new_base(), but that the base is not new. Whatever was queued was queued for the old
// tokens: what is behind the question was kept, and is queued again.
void FeedCore::adopt_map(const SlotMap& map) {
  PGFRESH_CHECK(listening_ && !base_wanted_);
  end_lease();
  const int64_t asked_ns = join_.asked_ns();
  const std::vector<Join::Heard> kept = join_.finish();
  end_join();
  lineage_unsaid_ = false;
  put_off_lineage();
  base_ns_ = asked_ns - map.base_age_ns;
  uint64_t between = random64_() | kBaseBit;
  if (between == map.base || between == domain_.tokens().base()) between ^= 1;
  domain_.tokens().adopt(between, map.base, map.touched);
  queue_.clear();
  queue_bytes_ = 0;
  current_ = false;
  suspicion_.reset();
  vigil_.adopt(others(map.publishers), asked_ns);
  for (const Join::Heard& heard : kept) replay(heard);
  ++counts_.joins;
  set_pace();
  domain_.set_trouble(obstacle());
  watch_.request_load();
}

// Without ourselves: our own beats are not listened to, so we should miss ourselves.
std::vector<PublisherAge> FeedCore::others(std::vector<PublisherAge> publishers) const {
  std::erase_if(publishers,
                [this](const PublisherAge& one) { return one.sender == line_.backend_pid(); });
  return publishers;
}

// What has been counted, and acted upon in other respects, when it came.
void FeedCore::replay(const Join::Heard& heard) {
  if (!std::string_view(heard.payload).starts_with(kMessageHead)) {
    replay_event(heard.payload);
    return;
  }
  const std::optional<Message> message = parse_message(heard.payload);
  PGFRESH_CHECK(message.has_value());  // or everything would have been forgotten, the join too
  switch (message->kind) {
    case Message::Kind::kEvents:
      for (const std::string_view event : message->events) replay_event(event);
      return;
    case Message::Kind::kBeat:
      if (message->publisher == publisher_.id()) return;
      vigil_.heard({heard.sender, message->sequence == 1, heard.since_ns, base_ns_});
      return;
    case Message::Kind::kEnd:
      vigil_.ended(heard.sender);
      return;
  }
}

void FeedCore::replay_event(std::string_view payload) {
  const std::optional<Event> event = parse_event(payload);
  PGFRESH_CHECK(event.has_value());
  if (event->kind == Event::Kind::kSchema) {
    touch_schema(event->xid);
  } else {
    enqueue(payload);
  }
}

}  // namespace pgfresh::freshness
