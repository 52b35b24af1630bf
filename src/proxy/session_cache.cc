// May this SELECT be answered here? The questions are asked in the order of their cost, and each
// "no" has its reason. See freshness.md, rules 5 to 7 and "Where a hit, and a fill, is allowed".
#include <algorithm>
#include <span>

#include "base/check.h"
#include "base/prefetch.h"
#include "proxy/answer_form.h"
#include "proxy/key.h"
#include "proxy/session.h"

namespace pgfresh::proxy {

namespace {

// A timetz without its zone takes that of the session on today's date (pg_type.dat).
constexpr uint32_t kTimetzOid = 1266;
constexpr uint32_t kTimetzArrayOid = 1270;

// Of longer keys the processor sees by itself where its reading goes.
constexpr size_t kKeyBytesAhead = 256;

// `oids`: raw, as in Parse.
bool takes_time_of_day(std::string_view oids) {
  for (size_t at = 0; at + 4 <= oids.size(); at += 4) {
    uint32_t oid = 0;
    for (size_t i = 0; i < 4; ++i) oid = (oid << 8) | static_cast<uint8_t>(oids[at + i]);
    if (oid == kTimetzOid || oid == kTimetzArrayOid) return true;
  }
  return false;
}

// PostgreSQL wants no format for the columns, one for all of them, or one for each; that all are
// text is left out of the key, so that the number is. An answer without rows may not show its
// columns.
bool formats_fit(const wire::BindMessage* bind, std::string_view body) {
  constexpr size_t kCountAt = wire::kHeaderBytes;  // of columns, in RowDescription and DataRow
  const size_t formats = bind == nullptr ? 0 : bind->result_formats.size() / 2;
  if (formats <= 1 || body.size() < kCountAt + 2 || (body[0] != 'T' && body[0] != 'D')) return true;
  return formats == (static_cast<size_t>(static_cast<uint8_t>(body[kCountAt])) << 8 |
                     static_cast<uint8_t>(body[kCountAt + 1]));
}

}  // namespace

bool Session::caching() const {
  return domain_ != nullptr && !replication_ && worker_.settings().cache_mode == CacheMode::kOn;
}

// What stands against any look-up now, whatever the session's settings are.
Reason Session::standing_reason(const query::Statement& statement, int64_t now_ns) const {
  if (worker_.settings().cache_mode != CacheMode::kOn) return Reason::kOff;
  if (domain_ == nullptr) return Reason::kTooManyDatabases;
  if (replication_) return Reason::kSessionOpaque;
  if (!statement.reasons.empty()) {
    return statement.kind == query::Kind::kSelect ? statement.reasons.front() : Reason::kNone;
  }
  if (statement.hint_off) return Reason::kHint;
  if (!domain_->lease_valid(now_ns)) {
    const Reason trouble = domain_->trouble();
    return trouble == Reason::kNone ? Reason::kNoLease : trouble;
  }
  if (domain_->catalog_generation() == 0) return Reason::kNoCatalog;
  return Reason::kNone;
}

const Resolution* Session::resolve(MemoText& text) {
  const Scope* scope = scope_.known(domain_->settings_epoch());
  const query::Catalog* catalog = worker_.catalog(*domain_);
  if (scope == nullptr || catalog == nullptr) return nullptr;
  return &text.resolve(*scope, *domain_, *catalog);
}

// What sending the statement may do, as far as can be known: not knowing is "anything".
query::Effect Session::effect_of(MemoText& text) {
  switch (text.statement().kind) {
    case query::Kind::kEmpty:
    case query::Kind::kBegin:
    case query::Kind::kCommit:
    case query::Kind::kRollback:
    case query::Kind::kSavepoint:
    case query::Kind::kShow:
    case query::Kind::kShowLast:
    case query::Kind::kNotify:
      return query::Effect::kPureRead;
    case query::Kind::kSelect:
    case query::Kind::kWrite:
      break;
    case query::Kind::kDeallocate:
    case query::Kind::kSession:
    case query::Kind::kDdl:
    case query::Kind::kMany:
    case query::Kind::kUnknown:
      return query::Effect::kChangesSession;
  }
  if (!caching()) return query::Effect::kChangesSession;
  if (const Resolution* resolution = resolve(text)) return resolution->verdict.effect;
  // A session that is opaque already stays so; what might clear it is another kind of statement.
  // Otherwise each SELECT of such a session would be preceded by a probe.
  return scope_.state() == ScopeTracker::State::kOpaque ? query::Effect::kWritesRows
                                                        : query::Effect::kChangesSession;
}

Session::Answer Session::ask_cache(const Question& question) {
  const query::Statement& statement = question.text.statement();
  const int64_t now_ns = worker_.now_ns();
  Reason reason = standing_reason(statement, now_ns);
  if (reason == Reason::kNone && !transaction_.allows_hits()) {
    reason = transaction_.allows_isolation() ? Reason::kWrote : Reason::kTransaction;
  }
  if (reason == Reason::kNone && wants_probe()) {
    send_probe();
    return Answer::kWait;
  }
  probed_ = false;
  const uint64_t epoch = domain_ != nullptr ? domain_->settings_epoch() : 0;
  const Scope* scope = nullptr;
  if (reason == Reason::kNone) {
    scope = scope_.known(epoch);
    reason = scope == nullptr ? scope_.reason() : session_reason(question, *scope, epoch);
  }
  const Resolution* resolution = nullptr;
  if (reason == Reason::kNone) {
    resolution = resolve(question.text);
    reason = resolution == nullptr ? Reason::kNoCatalog : resolution->verdict.reason();
    if (resolution != nullptr && question.prepared != nullptr) {
      compare_meaning(*question.prepared, resolution->verdict);
      const bool fits =
          !question.prepared->pinned && question.prepared->meaning == resolution->verdict.meaning;
      if (!fits && reason == Reason::kNone) reason = Reason::kStale;
    }
    if (resolution != nullptr && reason != Reason::kNone && is_for_rows(question)) {
      explain_bypass(question.text, resolution->verdict);
    }
    // The snapshot may be newer than the epoch, and read settings that the scope does not hold.
    if (reason == Reason::kNone && domain_->settings_epoch() != epoch) {
      reason = Reason::kSessionUnknown;
    }
  }
  if (reason == Reason::kNone && question.prepared != nullptr &&
      takes_time_of_day(question.prepared->parameter_oids)) {
    reason = Reason::kTimeLiteral;
  }
  if (reason == Reason::kNone && question.bind != nullptr && resolution->verdict.time_parameters) {
    wire::BindParameters parameters(*question.bind);
    while (const auto parameter = parameters.next()) {
      if (parameter->value && query::is_time_word(*parameter->value)) reason = Reason::kTimeLiteral;
    }
  }
  if (reason != Reason::kNone) {
    waited_ = false;
    refuse(question, reason);
    return Answer::kForward;
  }
  const Answer answer = look_up(question, *scope, *resolution, now_ns);
  if (answer != Answer::kWait) waited_ = false;
  return answer;
}

// What the session's settings say, once they are known.
Reason Session::session_reason(const Question& question, const Scope& scope, uint64_t epoch) {
  if (scope.cache_off) return Reason::kHint;
  if (unmarked_) return Reason::kSessionOpaque;
  if (transaction_.is_implicit() && !scope.reads_committed) return Reason::kTransaction;
  PreparedStatement* prepared = question.prepared;
  if (prepared == nullptr || parsed_under(*prepared, scope, epoch)) return Reason::kNone;
  if (prepared->parse_id == 0) prepared->astray = true;  // nobody knows: it is parsed anew
  return Reason::kStale;
}

// Where it was parsed before the scope was known: the same one, unless something came in between.
bool Session::parsed_under(PreparedStatement& prepared, const Scope& scope, uint64_t epoch) const {
  if (prepared.parse_id == 0 && is_undisturbed(prepared, epoch)) prepared.parse_id = scope.parse_id;
  return prepared.parse_id == scope.parse_id;
}

// Whether PostgreSQL, which analysed it at its Parse, finds in it what it would find in a new one.
// It analyses an old one anew where a table was changed, but with the parameters' types of then,
// and not where a label, a function or a table of another schema has come to stand for another.
void Session::compare_meaning(PreparedStatement& prepared, const query::Verdict& verdict) {
  if (prepared.pinned) return;
  if (prepared.generation == verdict.catalog_generation) {
    prepared.meaning = verdict.meaning;
    prepared.names = verdict.names;
    return;
  }
  // What had changed in front of its Parse may not have been heard of then, or it is too long ago.
  const std::optional<int64_t> true_until_ns = domain_->catalog_true_until_ns(prepared.generation);
  if (!true_until_ns || *true_until_ns <= prepared.parsed_ns) prepared.meaning = 0;
  if (prepared.meaning == verdict.meaning) {
    prepared.generation = verdict.catalog_generation;
  } else if (prepared.names == verdict.names && prepared.shape != 0 &&
             (!verdict.time_parameters || !prepared.shown_oids.empty())) {
    // Only columns of its tables have changed, and there PostgreSQL looks anew by itself. Its
    // client was shown what it looks like and takes, which is compared when it is parsed anew.
    prepared.meaning = 0;
  }
  // What it meant is not known: it is parsed anew.
  if (prepared.meaning == 0) prepared.astray = true;
}

// ParseComplete: it may have waited long for its turn, or for a lock that DDL held.
void Session::note_analysed(PreparedStatement& prepared) const {
  if (domain_ == nullptr) return;
  prepared.parsed_ns = heard_ns_;
  if (prepared.generation == domain_->catalog_generation()) return;
  prepared.generation = 0;
  prepared.meaning = 0;
}

// Nothing was sent since it was last used that may have changed the session.
bool Session::is_undisturbed(const PreparedStatement& prepared, uint64_t epoch) const {
  return prepared.doubts == scope_.doubts() && prepared.epoch == epoch;
}

cache::Key Session::make_key(const Question& question, const Resolution& resolution) {
  if (!is_for_rows(question)) {
    std::string& key = worker_.key_buffer();
    key = resolution.key_prefix;
    append_description(key, question.prepared->parameter_oids);
    return {key, hash128(key)};
  }
  const bool plain = question.bind == nullptr ||
                     (question.max_rows == 0 &&
                      is_plain_execution(question.prepared->parameter_oids, *question.bind));
  if (plain) {
    // Compared, or copied, when the store has looked for the hash.
    prefetch(resolution.plain_key.data(), std::min(resolution.plain_key.size(), kKeyBytesAhead));
    return {resolution.plain_key, resolution.plain_hash};
  }
  std::string& key = worker_.key_buffer();
  key = resolution.key_prefix;
  append_execution(key, question.prepared->parameter_oids, *question.bind, question.max_rows);
  return {key, hash128(key)};
}

Session::Answer Session::look_up(const Question& question, const Scope& scope,
                                 const Resolution& resolution, int64_t asked_ns) {
  const cache::Key key = make_key(question, resolution);
  cache::EntryRef entry = worker_.shared().store.find(key, asked_ns);
  if (!entry && remote_entry_ && remote_entry_->key() == key.bytes) entry = remote_entry_;
  if (entry) {
    const query::Statement& statement = question.text.statement();
    const uint64_t shown = question.prepared != nullptr ? question.prepared->shape : 0;
    const uint64_t shape = question.found_shape != 0 ? question.found_shape : shown;
    const bool fits = (question.wanted != Wanted::kDescribedRows || entry->has_description()) &&
                      (shape == 0 || shape == entry->shape) &&
                      formats_fit(question.bind, entry->body());
    switch (freshness::judge(domain_->tokens(), entry->stamp())) {
      case freshness::Judgement::kFresh: {
        if (!fits) break;
        const int64_t now_ns = worker_.now_ns();
        if (!young_enough(*entry, scope, now_ns, statement.hint_ttl_ms.value_or(0))) break;
        // Asked last, so that it holds at the moment of the answer (rule 11).
        if (!domain_->lease_valid(now_ns)) break;
        hit_ = std::move(entry);
        if (is_for_rows(question)) {
          hit_stat_ = &stat_of(question.text);
          last_.query_id = hit_stat_->id;
        }
        return Answer::kHit;
      }
      case freshness::Judgement::kOpen:
        refuse(question, Reason::kOpen);
        return Answer::kForward;
      case freshness::Judgement::kStale:
        worker_.counters().add(Counter::kStaleFound);
        if (is_for_rows(question)) ++stat_of(question.text).counts.stale;
        worker_.shared().store.remove(*entry);
        break;
    }
  }
  return start_fetch(question, scope, resolution, key, asked_ns);
}

bool Session::young_enough(const cache::Entry& entry, const Scope& scope, int64_t now_ns,
                           int64_t hint_ttl_ms) {
  if (now_ns >= entry.expires_ns) return false;
  const int64_t age_ms = (now_ns - entry.stored_ns) / kNsPerMs;
  if (hint_ttl_ms > 0 && age_ms >= hint_ttl_ms) return false;
  return scope.max_age_ms == 0 || age_ms < scope.max_age_ms;
}

Session::Answer Session::start_fetch(const Question& question, const Scope& scope,
                                     const Resolution& resolution, const cache::Key& key,
                                     int64_t asked_ns) {
  if (question.wanted == Wanted::kAcceptance) return Answer::kForward;
  // A description depends on schema(D) alone, the first of the slots.
  const bool of_description = question.wanted == Wanted::kDescription;
  std::vector<uint32_t>& all = worker_.slots_buffer();
  resolution.slots.slots(domain_->tokens(),
                         question.prepared != nullptr ? question.prepared->parameter_oids : "",
                         question.bind, all);
  const std::span<const uint32_t> slots(all);
  FetchRef fetch = worker_.fetches().lend();
  freshness::Stamp& stamp = fetch->stamp;
  if (!freshness::capture(domain_->tokens(), of_description ? slots.first(1) : slots, stamp)) {
    refuse(question, Reason::kOpen);
    return Answer::kForward;
  }
  // The snapshot the verdict was made from must be the one in force (rule 12).
  if (stamp.front().token != resolution.schema_token) {
    refuse(question, Reason::kNoCatalog);
    return Answer::kForward;
  }
  // Looked up in the second level already: it is not asked twice, and whoever waits here goes on
  // waiting.
  const bool looked_up = remote_fetch_ && remote_fetch_->key == key.bytes;
  cache::Flights::Part part = cache::Flights::Part::kLead;
  if (looked_up && remote_fetch_->lead && remote_fetch_->stamp == fetch->stamp) {
    fetch = std::move(remote_fetch_);
  } else {
    remote_fetch_.reset();
    fetch->key = key.bytes;
    fetch->hash = key.hash;
    fetch->catalog = resolution.catalog;
    fetch->generation = resolution.verdict.catalog_generation;
    fetch->of_description = of_description;
    fetch->row_limited = question.max_rows != 0;
    fetch->table = &domain_->tokens();
    const Settings& settings = worker_.settings();
    fetch->ttl_ms = question.text.statement().hint_ttl_ms.value_or(settings.ttl_ms);
    fetch->remote_ttl_ms = question.text.statement().hint_ttl_ms.value_or(
        settings.remote_ttl_ms > 0 ? settings.remote_ttl_ms : settings.ttl_ms);
    if (!of_description) {
      static_cast<void>(stat_of(question.text));  // made, if the text is new here
      fetch->stat = question.text.stat();
    }
    fetch->query_id = question.text.statement().query_id;
    part = join_flight(*fetch);
    if (part == cache::Flights::Part::kWait && !waited_) return wait_for_flight();
    wait_.reset();
    if (part == cache::Flights::Part::kLead && !looked_up && ask_remote(question, scope, fetch)) {
      return Answer::kWait;
    }
  }
  if (!of_description) note_miss(question.text, asked_ns);
  if (part == cache::Flights::Part::kLead) worker_.counters().add(Counter::kFlightsLed);
  fetch_ = std::move(fetch);
  fetch_->started_ns = asked_ns;
  if (question.prepared != nullptr) fetch_->shape = question.prepared->shape;
  choose_put(question, scope, *fetch_);
  return Answer::kForward;
}

// With kWait, wait_ is the place.
cache::Flights::Part Session::join_flight(Fetch& fetch) {
  Worker* worker = &worker_;
  const uint64_t self = id_;
  const auto wake = [worker, self] {
    worker->loop().post([worker, self] {
      if (Session* session = worker->find(self)) session->flight_ended();
    });
  };
  return worker_.shared().flights.join({fetch.key, fetch.hash}, fetch.stamp, wake, fetch.lead,
                                       wait_);
}

// PostgreSQL counts a statement's time from when it gets it, so who has a statement_timeout waits
// for a tenth of that at most.
Session::Answer Session::wait_for_flight() {
  worker_.counters().add(Counter::kFlightsJoined);
  waited_ = true;
  block(Block::kFlight);
  int64_t wait_ms = worker_.settings().single_flight_wait_ms;
  if (statement_timeout_ms_ != 0) wait_ms = std::min(wait_ms, 1 + statement_timeout_ms_ / 10);
  wait_timer_ = worker_.loop().after(wait_ms, [this] {
    worker_.counters().add(Counter::kFlightsTimedOut);
    flight_ended();
  });
  return Answer::kWait;
}

void Session::flight_ended() {
  if (block_ != Block::kFlight) return;
  wait_.reset();
  // This may be the timer's own call.
  auto timer = std::make_shared<std::unique_ptr<Timer>>(std::move(wait_timer_));
  worker_.loop().defer([timer] { timer->reset(); });
  unblock(Block::kFlight);
}

void Session::note_miss(MemoText& text, int64_t now_ns) {
  worker_.counters().add(Counter::kMisses);
  QueryStat& stat = stat_of(text);
  stat.miss(now_ns);
  timed_ = text.stat();
  timed_sequence_ = 0;
  last_ = {"miss", Reason::kNone, 0, "", stat.id};
}

// Statements that could never be cached have no statistics of their own.
void Session::bypass(MemoText& text, Reason reason) {
  const query::Statement& statement = text.statement();
  if (last_.reason != reason || last_.query_id != statement.query_id) last_.detail.clear();
  last_.verdict = "bypass";
  last_.reason = reason;
  last_.age_ms = 0;
  last_.tier = "";
  last_.query_id = statement.query_id;
  timed_.reset();
  if (reason == Reason::kNotSelect) return;
  worker_.counters().add_bypass(reason);
  stat_of(text).bypass(active_ns_, reason);
  timed_ = text.stat();
  timed_sequence_ = 0;
}

// In front of the bypass that the verdict's first reason causes.
void Session::explain_bypass(MemoText& text, const query::Verdict& verdict) {
  QueryStat& stat = stat_of(text);
  if (stat.causes_generation != verdict.catalog_generation) {
    stat.causes = verdict.causes;
    stat.causes_generation = verdict.catalog_generation;
  }
  last_.reason = verdict.reason();
  last_.query_id = stat.id;
  last_.detail.clear();
  for (const query::Cause& cause : verdict.causes) {
    if (cause.reason != verdict.reason()) continue;
    last_.detail = cause.object;
    break;
  }
}

void Session::time_answer(uint64_t sequence) {
  if (timed_ == nullptr || timed_sequence_ != 0) return;
  timed_sequence_ = sequence;
  timed_from_ns_ = worker_.now_ns();
}

void Session::note_answered(uint64_t sequence) {
  if (timed_ == nullptr || timed_sequence_ != sequence) return;
  timed_->answered(heard_ns_ - timed_from_ns_);
  timed_.reset();
}

bool Session::is_for_rows(const Question& question) {
  return question.wanted == Wanted::kRows || question.wanted == Wanted::kDescribedRows;
}

void Session::refuse(const Question& question, Reason reason) {
  if (is_for_rows(question)) bypass(question.text, reason);
}

// ── Giving a hit ─────────────────────────────────────────────────────────────────────────────────

void Session::note_hit(const cache::Entry& entry) {
  ++hits_;
  transaction_.read();
  entry.hits.fetch_add(1, std::memory_order_relaxed);
  Counters& counters = worker_.counters();
  const bool remote = remote_entry_.get() == &entry;
  counters.add(remote ? Counter::kHitsL2 : Counter::kHitsL1);
  counters.add(Counter::kHitBytes, entry.body().size());
  const int64_t now_ns = worker_.now_ns();
  counters.add(Counter::kSavedNs, static_cast<uint64_t>(std::max<int64_t>(0, entry.upstream_ns)));
  hit_stat_->hit(remote ? QueryStat::Tier::kL2 : QueryStat::Tier::kL1, now_ns, entry.body().size(),
                 entry.upstream_ns);
  last_.verdict = "hit";
  last_.reason = Reason::kNone;
  last_.age_ms = (now_ns - entry.stored_ns) / kNsPerMs;
  last_.tier = remote ? "l2" : "l1";
}

void Session::serve_simple() {
  const cache::EntryRef entry = std::move(hit_);
  note_hit(*entry);
  end_unnamed();
  client_out_.add(entry, entry->body());
  reply_ready();
}

void Session::serve_extended() {
  const cache::EntryRef entry = std::move(hit_);
  note_hit(*entry);
  const std::string_view body = entry->body();
  DonePortal& portal = done_portal_.emplace();
  portal.entry = entry;
  if (const Held* bind = held_bind(); bind != nullptr && !ends_portal_now()) {
    portal.bind.assign(bind->raw);
    portal.statement = bind->prepared;
  }
  reply_held(body.substr(0, entry->description_bytes), entry);
  client_out_.add(entry, body.substr(entry->description_bytes));
}

void Session::serve_description() {
  const cache::EntryRef entry = std::move(hit_);
  worker_.counters().add(Counter::kDescriptionHits);
  reply_held(entry->body(), entry);
}

// ── Recording an answer ──────────────────────────────────────────────────────────────────────────

bool Session::records(uint64_t sequence) const {
  return fetch_ && (sequence == fetch_->answer_sequence || sequence == fetch_->describe_sequence);
}

void Session::record(const wire::Frame& frame, uint64_t sequence) {
  if (!records(sequence)) return;
  const bool last = fetch_->of_description && (frame.type == 'T' || frame.type == 'n');
  if (!fetch_->append(frame.bytes, worker_.settings().entry_bytes_max)) {
    drop_fetch(Reason::kTooLarge);
  } else if (last) {
    finish_fetch();
  }
}

void Session::finish_fetch() {
  const FetchRef fetch = std::move(fetch_);
  const int64_t now_ns = worker_.now_ns();
  const Settings& settings = worker_.settings();
  // A description that is none would be shown to everybody as one.
  const bool formed = !fetch->of_description ||
                      has_form(fetch->body, {.of_description = true,
                                             .description_bytes = fetch->description_bytes,
                                             .shape = fetch->shape});
  if (!formed ||
      freshness::judge(domain_->tokens(), fetch->stamp) != freshness::Judgement::kFresh ||
      !domain_->lease_valid(now_ns)) {
    worker_.counters().add(Counter::kFillsDropped);
    return;
  }
  int64_t ttl_ns = fetch->ttl_ms * kNsPerMs;
  if (settings.ttl_jitter_percent > 0) {
    // From key to key the hash differs, from fill to fill the time.
    const uint64_t noise = fetch->hash.high ^ static_cast<uint64_t>(now_ns);
    const int64_t share = static_cast<int64_t>(noise % 1000);
    ttl_ns -= ttl_ns / 100 * settings.ttl_jitter_percent * share / 1000;
  }
  const QueryStatRef stat = fetch->stat;
  const size_t bytes = fetch->body.size();
  const cache::EntryRef entry = fetch->finish(now_ns, now_ns + ttl_ns);
  if (!fetch->remote_key.empty()) put_remote(*entry, *fetch);
  if (worker_.shared().store.insert(entry)) {
    worker_.counters().add(Counter::kFills);
    if (stat != nullptr) {
      ++stat->counts.fills;
      stat->counts.answer_bytes += bytes;
    }
  } else if (fetch->remote_key.empty()) {
    count_dropped_fill(Reason::kTooLarge);
  } else {
    worker_.counters().add(Counter::kFillsDropped);
  }
}

void Session::drop_fetch(Reason reason) {
  if (!fetch_) return;
  fetch_.reset();
  count_dropped_fill(reason);
}

void Session::count_dropped_fill(Reason reason) {
  worker_.counters().add(Counter::kFillsDropped);
  worker_.counters().add_bypass(reason);
  last_.reason = reason;
  last_.detail.clear();
}

}  // namespace pgfresh::proxy
