// See feed_core.h for the invariants; fences and settling are in feed_core_fence.cc, joining a
// fleet in feed_core_fleet.cc.
#include "freshness/feed_core.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "query/catalog.h"

namespace pgfresh::freshness {
namespace {

constexpr std::string_view kChannel = "pgfresh";
// NOTIFY, because for pg_notify() one needs a right.
constexpr std::string_view kIntroduction =
    "NOTIFY pgfresh, '2 n'; SELECT pg_catalog.pg_backend_pid(), ";
constexpr std::string_view kPooler =
    "a pooler answers in PostgreSQL's place: nothing can be fresh; name PostgreSQL in upstream";
constexpr std::string_view kMoved = "the name leads to another PostgreSQL than before";

// A fence takes along whatever ended before it. Begun one after the other under a steady stream of
// writes, each would take along little, and cost PostgreSQL and us as much as any.
constexpr Pace kFencePace(2 * kNsPerMs, 16);

constexpr int64_t kBasePauseNs = 100 * kNsPerMs;
constexpr size_t kTroubleBytesMax = 200;

// Events waiting for a catalog: a minute of 300 a second, or 2,000 of the longest, 16 MB.
constexpr size_t kQueueEventsMax = 20'000;
constexpr size_t kQueueBytesMax = 16 * 1024 * 1024;

// The feed may be silent for this many times the staleness; the lease has long expired then.
constexpr int kSilenceFactor = 3;
// So many polls may fail before changes without an event are no longer noticed in time.
constexpr int kPollsMissedMax = 3;

FeedOptions sane(FeedOptions options) {
  options.staleness_ms = std::max<int64_t>(options.staleness_ms, 10);
  options.catalog_poll_ms = std::max<int64_t>(options.catalog_poll_ms, 100);
  options.audit_ms = std::max<int64_t>(options.audit_ms, 1000);
  options.reconnect_ms_min = std::max<int64_t>(options.reconnect_ms_min, 1);
  options.reconnect_ms_max = std::max(options.reconnect_ms_max, options.reconnect_ms_min);
  return options;
}

}  // namespace

FeedCore::FeedCore(Domain& domain, Loop& loop, SqlClientFactory& factory,
                   const FeedOptions& options, std::function<uint64_t()> random64,
                   Feed::Touched on_touched)
    : domain_(domain),
      loop_(loop),
      random64_(std::move(random64)),
      on_touched_(std::move(on_touched)),
      mailbox_(options.mailbox),
      settlement_(domain.tokens()),
      publisher_(domain, (random64_() & ~kBaseBit) | 1),
      line_(domain.database(), loop, factory, random64_, *this),
      watch_(domain.database(), loop, factory, random64_, settlement_, *this),
      fence_pace_(kFencePace),
      fence_pause_(loop, [this] { end_pause(); }),
      collect_pause_(loop, [this] { collect_map(); }),
      base_pause_(loop, [this] { new_base(); }) {
  set_options(options);
}

FeedCore::~FeedCore() {
  end_lease();
  domain_.set_trouble(Reason::kNoLease);
}

void FeedCore::set_options(const FeedOptions& options) {
  options_ = sane(options);
  const Line::Backoff backoff{options_.reconnect_ms_min, options_.reconnect_ms_max};
  line_.set_backoff(backoff);
  watch_.set_backoff(backoff);
  publisher_.set_options(options_.publish, staleness_ns());
  vigil_.set_staleness(staleness_ns());
  unheard_watch_.set_staleness(staleness_ns());
  if (!line_.started()) return;
  ticker_.reset();
  period_ms_ = 0;
  set_pace();
  ticked_ns_ = now_ns();
  next_poll_ns_ = now_ns() + options_.catalog_poll_ms * kNsPerMs;
  next_audit_ns_ = now_ns() + options_.audit_ms * kNsPerMs;
}

void FeedCore::start() {
  if (line_.started()) return;
  line_.start();
  watch_.start();
  set_options(options_);
}

// Fences four times a lease, and twice as often while somebody is followed or follows us; and the
// lease wants the catalog looked at, too.
void FeedCore::set_pace() {
  const int64_t share = publisher_.vouching() || vigil_.busy() ? 8 : 4;
  const int64_t period_ms =
      std::max<int64_t>(std::min(options_.staleness_ms / share, options_.catalog_poll_ms), 1);
  if (period_ms == period_ms_ || !line_.started()) return;
  period_ms_ = period_ms;
  if (ticker_ != nullptr) loop_.defer([old = std::shared_ptr<Timer>(std::move(ticker_))] {});
  ticker_ = loop_.every(period_ms, [this] { tick(); });
}

// The idle cadence. A process that slept finds its connections "silent" before it has read what
// lies in their sockets: it gets one more period to do so.
void FeedCore::tick() {
  const int64_t now = now_ns();
  const bool slept = now - ticked_ns_ > staleness_ns();
  ticked_ns_ = now;
  if (!slept) {
    line_.drop_if_silent(kSilenceFactor * staleness_ns());
    watch_.tick();
  }
  publisher_.tick(now);
  publish_owed();
  if (listening_) {
    watch_publishers();
    watch_waiters();
    look_elsewhere();
  }
  tick_join();
  begin_fence();
  set_pace();
  if (!domain_.lease_valid(now) && domain_.trouble() == Reason::kNone) {
    domain_.set_trouble(Reason::kNoLease);
  }
  if (now >= next_queue_look_ns_) {  // also without a feed, which in a full queue none can begin
    next_queue_look_ns_ = now + options_.catalog_poll_ms * kNsPerMs;
    watch_.look_at_queue();
  }
  if (!listening_) return;
  if (now >= next_audit_ns_) {
    next_audit_ns_ = now + options_.audit_ms * kNsPerMs;
    watch_.request_load();
  }
  if (now >= next_poll_ns_) {
    next_poll_ns_ = now + options_.catalog_poll_ms * kNsPerMs;
    if (current_) {
      watch_.request_poll();
    } else if (!watch_.loading()) {
      watch_.request_load();  // the last one failed
    }
  }
}

// ---- the feed session ----

void FeedCore::on_line_ready(Line& /*line*/) {
  line_.query("LISTEN pgfresh", [this](const SqlResult& result) {
    if (result.error.empty()) {
      introduce();
    } else {
      line_.drop(result.error);
    }
  });
}

// Behind a pooler LISTEN is soon somebody else's, fences complete, and no event ever comes. And
// which backends are gone could not be asked, because its process numbers are its own. So this is
// PostgreSQL only if it knows itself by the number it gave, and lets us hear ourselves.
void FeedCore::introduce() {
  heard_ourselves_ = false;
  const std::string sql = std::string(kIntroduction) + std::string(kServerStartedSql);
  line_.query(sql, [this](const SqlResult& result) {
    const auto& rows = result.rows.rows;
    uint64_t started_us = 0;
    const bool known = rows.size() == 1 && rows[0].size() == 2 &&
                       rows[0][0] == std::to_string(line_.backend_pid()) &&
                       read_number(rows[0][1].value_or(""), uint64_t{1}, UINT64_MAX, started_us);
    if (!result.error.empty()) {
      line_.drop(result.error);
    } else if (known && heard_ourselves_) {
      domain_.set_server_started(started_us);
      if (watch_.server() != 0 && watch_.server() != started_us) watch_.drop(kMoved);
      begin_session();
    } else {
      line_.drop(kPooler);
    }
  });
}

void FeedCore::begin_session() {
  listening_ = true;
  lease_from_ns_ = 0;
  session_ns_ = now_ns();
  vigil_.begin_session(session_ns_);
  publisher_.begin_session();
  watch_.look_at_transactions();
  ++counts_.sessions;
  been_live_ = true;
  line_.confirm();
  new_base();
  // What was published while we were away may have been so elsewhere, where the name led then.
  if (std::exchange(told_unheard_, false)) event_owed_ = owed_unsaid_ = true;
  if (mailbox_ != nullptr && !event_owed_) begin_join(Join::Kind::kStart, 0, 0);
  begin_fence();
}

void FeedCore::on_line_lost(Line& /*line*/, std::string_view why) {
  end_session();
  note_trouble("feed connection", why);
  open_letters_(false);
}

// What is not settled then stays open, and what is not published stays queued: both go on with the
// next session. Nobody else is harmed, since a publisher who has not said the end is given up.
bool FeedCore::rest() {
  if (domain_.has_backends()) return false;
  if (!line_.started()) return true;
  open_letters_(false);
  if (listening_) {
    publisher_.retire();
    const bool vouches = publisher_.vouching() && publisher_.refusal().empty();
    if (vouches) begin_fence();
    if (vouches || settlement_.transactions() != 0 || watch_.unpublished() != 0 || event_owed_ ||
        publisher_.has_events()) {
      return false;
    }
  }
  end_session();
  publisher_.rest();
  open_letters_(false);  // from now on whatever is left wakes us
  line_.stop();
  watch_.stop();
  been_live_ = false;
  ticker_.reset();
  period_ms_ = 0;
  trouble_text_.clear();
  return true;
}

void FeedCore::end_session() {
  end_lease();
  listening_ = false;
  if (fence_under_way_) publisher_.lost();
  domain_.set_carry_lease(0);
  vigil_.session_lost();
  fence_under_way_ = false;
  lease_from_ns_ = 0;
  base_wanted_ = false;
  end_join();
  base_pause_.cancel();
  fence_pause_.cancel();
  suspicion_.reset();
  settlement_.fence_lost();
  watch_.cancel_load();
  withdraw_catalog();
  domain_.set_trouble(Reason::kNoLease);
}

// ---- events ----

void FeedCore::on_line_notification(Line& /*line*/, std::string_view channel,
                                    std::string_view payload, uint32_t sender) {
  if (channel != kChannel) return;
  if (sender == line_.backend_pid()) heard_ourselves_ = true;
  // Before the session has begun everything is older than the base to come.
  if (!listening_) return;
  if (payload.starts_with(kFleetHead)) {
    on_fleet_word(payload, sender);
    return;
  }
  keep_for_join(payload, sender);
  on_payload(payload, sender);
}

void FeedCore::on_payload(std::string_view payload, uint32_t sender) {
  if (payload.starts_with(kMessageHead)) {
    on_message(payload, sender);
  } else {
    on_event(payload);
  }
}

void FeedCore::on_message(std::string_view payload, uint32_t sender) {
  const std::optional<Message> message = parse_message(payload);
  if (!message.has_value()) {
    ++counts_.garbled;
    forget_soon();
    return;
  }
  switch (message->kind) {
    case Message::Kind::kEvents:
      for (const std::string_view event : message->events) on_event(event);
      return;
    case Message::Kind::kBeat:
      if (publisher_.heard(message->publisher, message->sequence)) return;
      // It was not there when the last fence that completed was begun.
      vigil_.heard({sender, message->sequence == 1,
                    lease_from_ns_ != 0 ? lease_from_ns_ : session_ns_, base_ns_});
      domain_.set_lease(std::min(domain_.lease_until_ns(), vigil_.lease_end_ns()));
      set_pace();
      return;
    case Message::Kind::kEnd:
      vigil_.ended(sender);
      return;
  }
}

void FeedCore::on_event(std::string_view payload) {
  const std::optional<Event> event = parse_event(payload);
  if (!event.has_value()) {
    ++counts_.garbled;
    forget_soon();
    return;
  }
  if (base_wanted_) return;  // the base to come covers it
  if (event->kind == Event::Kind::kSchema) {
    ++counts_.events;
    on_schema_event(event->xid);
    return;
  }
  if (!current_) {
    enqueue(payload);
    return;
  }
  const std::shared_ptr<const query::Catalog> catalog = domain_.catalog();
  const Oid root = catalog->root_of(event->relation);
  if (root != 0) {
    apply(*event, root, catalog->key_columns_of(event->relation));
    return;
  }
  // Written before we knew it: the schema has changed. The event itself waits for its root.
  on_schema_event(event->xid);
  enqueue(payload);
}

void FeedCore::on_schema_event(uint64_t xid) {
  ++schema_events_;
  domain_.writes().begin(0, WriteLog::Rows::kUnknown, now_ns());
  touch_schema(xid);
  end_lease();
  withdraw_catalog();
  domain_.set_trouble(obstacle());
  watch_.request_load();
}

void FeedCore::touch_schema(uint64_t xid) { touch(domain_.tokens().slot_of(schema_tag()), xid); }

void FeedCore::touch(uint32_t slot, uint64_t xid) {
  const uint64_t before = domain_.tokens().token(slot);
  domain_.tokens().touch(slot, xid);
  if (on_touched_) on_touched_(slot, before);
}

void FeedCore::enqueue(std::string_view payload) {
  if (queue_.size() >= kQueueEventsMax || queue_bytes_ + payload.size() > kQueueBytesMax) {
    note_trouble("events", "too many came while the catalog was being read");
    forget_soon();
    return;
  }
  queue_.emplace_back(payload);
  queue_bytes_ += payload.size();
}

// A relation that a catalog read after its event does not know is gone, or was never there:
// nothing can depend on it but by its own oid.
void FeedCore::apply_queue(const query::Catalog& catalog) {
  while (!queue_.empty()) {
    const std::optional<Event> event = parse_event(queue_.front());
    PGFRESH_CHECK(event.has_value());
    const Oid root = catalog.root_of(event->relation);
    apply(*event, root != 0 ? root : event->relation, catalog.key_columns_of(event->relation));
    queue_.pop_front();
  }
  queue_bytes_ = 0;
}

void FeedCore::apply(const Event& event, Oid root, std::span<const query::KeyColumn> key_columns) {
  ++counts_.events;
  tags_.clear();
  slots_.clear();
  append_event_tags(event, root, tags_, key_columns);
  for (const uint64_t tag : tags_) slots_.push_back(domain_.tokens().slot_of(tag));
  std::sort(slots_.begin(), slots_.end());
  slots_.erase(std::unique(slots_.begin(), slots_.end()), slots_.end());
  const bool known = event.kind == Event::Kind::kRows;
  domain_.writes().begin(root, known ? WriteLog::Rows::kKnown : WriteLog::Rows::kUnknown, now_ns());
  for (const uint32_t slot : slots_) touch(slot, event.xid);
}

// ---- forgetting ----

// By an event, so that a map of others does not bring back what was thrown away.
void FeedCore::forget() {
  forget_soon();
  event_owed_ = true;
  owed_unsaid_ = true;
  publish_owed();
}

// At once in effect, by the lease and by the token of schema(D); the new base itself, and the
// reading of the catalog that it brings with it, come at most every kBasePauseNs.
void FeedCore::forget_soon() {
  if (!listening_) return;  // a new base comes with the next session
  const int64_t due_ns = base_ns_ + kBasePauseNs;
  if (now_ns() >= due_ns) {
    new_base();
    return;
  }
  end_lease();
  end_join();
  if (!std::exchange(base_wanted_, true)) touch_schema(random64_() / 2 | 1);
  current_ = false;
  domain_.set_trouble(Reason::kNoLease);
  if (!base_pause_.is_set()) base_pause_.set(due_ns);
}

// The snapshot stays published, if there is one: the schema has not changed, its token has. Nobody
// serves by it, because it does not carry the present token, and because there is no lease.
void FeedCore::new_base() {
  PGFRESH_CHECK(listening_);
  end_lease();
  end_join();
  lineage_unsaid_ = true;
  base_wanted_ = false;
  base_pause_.cancel();
  base_ns_ = now_ns();
  schema_events_awaited_ = 0;
  uint64_t base = random64_() | kBaseBit;
  if (base == domain_.tokens().base()) base ^= 1;
  domain_.tokens().rebase(base);
  queue_.clear();
  queue_bytes_ = 0;
  current_ = false;
  domain_.set_trouble(obstacle());
  watch_.request_load();
}

// ---- catalog ----

uint64_t FeedCore::schema_token() const {
  const TokenTable& tokens = domain_.tokens();
  return tokens.token(tokens.slot_of(schema_tag()));
}

void FeedCore::on_catalog_read(const SqlRows& rows, uint64_t token) {
  if (!listening_ || base_wanted_) return;              // read again with the base to come
  if (schema_events_ < schema_events_awaited_) return;  // and again with that event
  if (token != schema_token()) {
    watch_.request_load();
    return;
  }
  // Read again under a token that was in force before: with a map it has come back, and with it
  // entries that were made by the catalog of that time.
  const bool again = current_ || token == content_token_;
  const bool changed = again && query::Catalog::content_hash(rows) != content_hash_;
  if (!again || (!current_ && !changed)) {
    adopt_catalog(rows, token);
    return;
  }
  if (!changed) return;  // an audit
  if (current_ && !domain_.catalog()->installed()) {
    adopt_catalog(rows, token);  // nothing was served by the old one
    return;
  }
  // Changed, and no event said so: all proxies shall know, and until they do nothing is served.
  note_trouble("catalog", "changed without an event");
  end_lease();
  withdraw_catalog();
  domain_.set_trouble(obstacle());
  schema_events_awaited_ = schema_events_ + 1;
  SlotBatch none;
  watch_.publish(none);
}

void FeedCore::adopt_catalog(const SqlRows& rows, uint64_t token) {
  auto built = query::Catalog::build(rows, generation_ + 1, token);
  if (!built.has_value()) {
    on_catalog_failed(built.error());
    return;
  }
  const std::shared_ptr<const query::Catalog> catalog = *std::move(built);
  ++generation_;
  exact_fence_ = fences_begun_ + 1;
  content_hash_ = catalog->content_hash();
  content_token_ = token;
  apply_queue(*catalog);
  domain_.publish_catalog(catalog, heard_until_ns_);
  current_ = true;
  watch_.set_installed(catalog->installed() ? CatalogWatch::Installed::kYes
                                            : CatalogWatch::Installed::kNo);
  counts_.catalog_generation = generation_;
  counts_.event_triggers = catalog->event_triggers();
  counts_.relations_watched = 0;
  for (const auto& [oid, relation] : catalog->relations()) {
    counts_.relations_watched += relation.watched ? 1U : 0U;
  }
  renew_lease();
  if (exact_fence_wanted()) begin_fence();
}

void FeedCore::on_catalog_failed(std::string_view why) { note_trouble("catalog", why); }

// Of two connections that lead to different servers, the younger shows where the name leads now.
void FeedCore::on_watch_ready() {
  if (listening_ && watch_.server() != domain_.server_started()) line_.drop(kMoved);
}

void FeedCore::on_watch_lost(std::string_view why) { note_trouble("catalog connection", why); }

// An event that explains it may be on its way; a fence begun now brings it in. Where no catalog is
// current, nothing was served since the last change, and what is being read has this one in it.
void FeedCore::on_fingerprint_changed(uint64_t schema_events) {
  if (!listening_ || !current_) return;
  suspicion_ = Suspicion{fences_begun_ + 1, schema_events};
  begin_fence();
}

void FeedCore::withdraw_catalog() {
  current_ = false;
  domain_.publish_catalog(nullptr, heard_until_ns_);
  counts_.catalog_generation = 0;
}

// ---- lease ----

// What stands against a lease, apart from the fences.
Reason FeedCore::obstacle() const {
  if (!listening_ || base_wanted_ || vigil_.blocks_lease() || join_.blocks_lease()) {
    return Reason::kNoLease;
  }
  if (!current_) return Reason::kNoCatalog;
  if (!domain_.catalog()->installed()) return Reason::kNotInstalled;
  const int64_t unseen_ns = now_ns() - watch_.looked_ns();
  if (unseen_ns > kPollsMissedMax * options_.catalog_poll_ms * kNsPerMs) return Reason::kNoLease;
  return Reason::kNone;
}

void FeedCore::renew_lease() {
  Reason reason = obstacle();
  if (reason == Reason::kNone && lease_from_ns_ == 0) reason = Reason::kNoLease;
  if (reason == Reason::kNone) {
    const int64_t known_ns = std::min(lease_from_ns_, unheard_watch_.known_ns(domain_.waiters()));
    domain_.set_lease(std::min(known_ns + staleness_ns(), vigil_.lease_end_ns()));
    trouble_text_.clear();
  } else {
    end_lease();
  }
  domain_.set_trouble(reason);
}

void FeedCore::end_lease() {
  domain_.set_lease(0);
  domain_.set_exact(false);
}

// ---- status ----

void FeedCore::note_trouble(std::string_view what, std::string_view why) {
  trouble_text_ = std::string(what) + ": " + std::string(why.substr(0, kTroubleBytesMax));
}

FeedStatus FeedCore::status() const {
  FeedStatus status = counts_;
  const int64_t now = now_ns();
  const Reason reason = obstacle();
  const bool live = reason == Reason::kNone && domain_.lease_valid(now);
  status.database = domain_.database();
  if (!line_.started()) {
    status.state = "off";
  } else if (live) {
    status.state = "live";
  } else if (listening_) {
    status.state = "starting";
  } else {
    status.state = been_live_ ? "lost" : "connecting";
  }
  if (line_.started() && !live) {
    // Without an obstacle it is the fences that are late.
    const Reason shown = reason == Reason::kNone ? Reason::kNoLease : reason;
    const bool said = trouble_text_.empty() || reason == Reason::kNotInstalled;
    status.trouble = said ? std::string(reason_text(shown)) : trouble_text_;
  }
  status.lease_left_ms = (domain_.lease_until_ns() - now) / kNsPerMs;
  status.unsettled = settlement_.transactions() + watch_.unpublished();
  status.open_slots = domain_.tokens().open_total();
  status.catalog_loads = watch_.loads();
  status.catalog_load_us_last = watch_.load_ns_last() / 1000;
  status.vouching = publisher_.vouching() && publisher_.refusal().empty();
  status.refusal = publisher_.refusal();
  if (live && !status.refusal.empty()) status.trouble = "publishing: " + status.refusal;
  status.queued = publisher_.queued();
  status.published = publisher_.published();
  status.publications = publisher_.statements();
  if (publisher_.beat_ns() != 0) status.beat_age_ms = (now - publisher_.beat_ns()) / kNsPerMs;
  status.publishers = vigil_.publishers();
  if (vigil_.heard_ns() != 0) status.publisher_age_ms = (now - vigil_.heard_ns()) / kNsPerMs;
  status.transactions_noted = vigil_.noted();
  status.lineage = settled() ? domain_.tokens().base() : 0;
  return status;
}

}  // namespace pgfresh::freshness
