// The feed's fences, what is said in them, what they settle, and whose silence is heard in between.
// The rest of FeedCore is in feed_core.cc.
#include <utility>

#include "freshness/feed_core.h"

namespace pgfresh::freshness {
namespace {

// Of the staleness: between looks for prepared transactions of our own.
constexpr int64_t kPreparedLookShare = 4;
// … and how old the last one may be for us to vouch for what they carried.
constexpr int64_t kUnseenShare = 2;

// Between looks where the name leads that upstream has.
constexpr int64_t kElsewhereNs = 60 * kNsPerSecond;

// A reload that the feed's process has heard of has reached all others by then.
constexpr int64_t kReloadNs = 100 * kNsPerMs;

}  // namespace

// ---- fences ----

void FeedCore::begin_fence() {
  if (!listening_ || fence_under_way_ || !line_.idle()) return;
  const int64_t begun_ns = now_ns();
  // A carrier posts its letter before it is counted out: who finds none here finds all letters.
  const bool carriers = domain_.carriers() != 0;
  open_letters_(true);  // a beat speaks for all that was handed over before it is begun
  if (fence_under_way_ || !listening_ || !line_.idle()) return;
  fence_pace_.spend(begun_ns);
  fence_under_way_ = true;
  fence_begun_ns_ = begun_ns;
  const bool proves = exact_fence_wanted();
  ++fences_begun_;
  settlement_.fence_begun();
  std::string sql = fleet_words(proves);
  Said said = proves ? Said::kProof : Said::kFleetWords;
  fence_settles_ = !publisher_.has_events();
  if (sql.empty()) {
    const bool waiting =
        carriers || settlement_.backends_waited_for() || settlement_.prepared_waited_for();
    const bool unseen = (settlement_.prepared_waited_for() &&
                         fence_begun_ns_ - prepared_looked_ns_ > staleness_ns() / kUnseenShare) ||
                        unheard_watch_.blind(fence_begun_ns_, domain_.waiters());
    sql = publisher_.begin(fence_begun_ns_, unseen    ? Publisher::Others::kUnseen
                                            : waiting ? Publisher::Others::kWaiting
                                                      : Publisher::Others::kNone);
    said = sql.empty() ? Said::kNothing : Said::kPublication;
  }
  sql += sql.empty() ? "SELECT " : ", ";
  sql += kConfiguredSql;  // the last column, see watch_configuration()
  line_.query(sql, [this, said](const SqlResult& result) { on_fence(result, said); });
}

bool FeedCore::fence_wanted() const {
  return settlement_.fence_wanted() || publisher_.has_events() || suspicion_.has_value() ||
         exact_fence_wanted() || question_wanted();
}

void FeedCore::begin_wanted_fence() {
  if (!fence_pause_.is_set() && fence_wanted()) begin_fence();
}

void FeedCore::end_pause() {
  open_letters_(false);
  begin_wanted_fence();
}

// A statement that publishes is a fence like any other: what it says comes back before it
// completes, because PostgreSQL tells a session of its own notifications before it is ready again.
// Where that was not seen, or something else was said while events waited to be published, the
// slots wait for one more.
void FeedCore::on_fence(const SqlResult& result, Said said) {
  fence_under_way_ = false;
  if (!result.error.empty()) {
    if (said == Said::kNothing) {
      publisher_.lost();
      line_.drop(result.error);
      return;
    }
    if (said != Said::kPublication) {
      fleet_words_refused(result.error);
    } else {
      note_trouble("publishing", result.error);
      publisher_.refused(now_ns(), result.error);
    }
    settlement_.fence_lost();
    fence_pause_.set(now_ns() + period_ms_ * kNsPerMs);
    return;
  }
  watch_configuration(result.rows);
  ++counts_.fences;
  counts_.fence_us_last = (now_ns() - fence_begun_ns_) / 1000;
  lease_from_ns_ = heard_until_ns_ = fence_begun_ns_;
  if (said == Said::kProof) proved_fence_ = fences_begun_;  // no other is under way
  const bool about_fleet = said == Said::kFleetWords || said == Said::kProof;
  if (about_fleet ? fence_settles_ : publisher_.completed()) {
    settlement_.fence_completed();
  } else {
    settlement_.fence_lost();
  }
  settle_suspicion();
  watch_publishers();
  renew_lease();
  if (current_ && proved_fence_ >= exact_fence_) domain_.set_exact(true);
  if (left_ && publisher_.silent()) std::exchange(left_, nullptr)();
  if (fence_pace_.due_ns() > now_ns()) {
    fence_pause_.set(fence_pace_.due_ns());
  } else {
    end_pause();
  }
}

// Sessions of clients do not say that they go by another configuration now: their settings are read
// again, and whatever was recorded meanwhile under those of before goes with the schema's token, in
// other proxies too. Twice, since some may have heard of it a moment after the feed.
void FeedCore::watch_configuration(const SqlRows& rows) {
  if (rows.rows.empty() || rows.rows.back().empty() || !rows.rows.back().back()) return;
  const std::string& now = *rows.rows.back().back();
  const std::string before = std::exchange(configured_, now);
  if (!before.empty() && before != now) {
    reloaded_ns_ = fence_begun_ns_;
  } else if (reloaded_ns_ != 0 && fence_begun_ns_ - reloaded_ns_ >= kReloadNs) {
    reloaded_ns_ = 0;
  } else {
    return;
  }
  domain_.bump_settings_epoch();
  SlotBatch none;
  watch_.publish(none);
}

// Rule 15: who is silent for too long is given up, and what he may have left is looked for.
void FeedCore::watch_publishers() {
  const int64_t now = now_ns();
  if (vigil_.give_up(now)) {
    ++counts_.publishers_lost;
    note_trouble("a publisher", "fell silent");
    end_lease();
    domain_.set_trouble(obstacle());
  }
  const bool prepared = settlement_.prepared_waited_for() &&
                        now - prepared_looked_ns_ >= staleness_ns() / kPreparedLookShare;
  if (prepared || vigil_.look_due(now)) watch_.look_at_transactions();
}

// What was committed and not heard of is not known here: that is published as everything. It may
// have been prepared instead, and be committed later.
void FeedCore::watch_waiters() {
  const std::vector<Waiter> waiters = domain_.waiters();
  if (unheard_watch_.take_late(now_ns(), waiters)) {
    ++counts_.commits_late;
    note_trouble("a commit", "was not heard of in time");
    Carried everything;
    everything.add({});
    publish(everything);
    if (prepared_seen_) {
      Writes writes;
      writes.events.add({});
      prepared(std::move(writes));
    }
  }
  if (unheard_watch_.look_due(now_ns(), waiters)) watch_.look_at_transactions();
}

// Both connections may have stayed where the name no longer leads. The second one is made anew, and
// shows it (on_watch_ready). Not often, for a name may lead here and there in turn.
void FeedCore::look_elsewhere() {
  const int64_t now = now_ns();
  const bool looked_lately = elsewhere_ns_ != 0 && now - elsewhere_ns_ < kElsewhereNs;
  if (!elsewhere_told_ || looked_lately || watch_.server() != domain_.server_started()) return;
  elsewhere_told_ = false;
  elsewhere_ns_ = now;
  watch_.drop("a session has come to another PostgreSQL");
}

void FeedCore::on_transactions(int64_t begun_ns, const Running& running) {
  prepared_looked_ns_ = begun_ns;
  prepared_seen_ = !running.prepared.empty();
  unheard_watch_.looked(running.looked_for, domain_.waiters());
  Carried events;
  settlement_.prepared_look_completed(running.prepared, events);
  publish(events);
  begin_wanted_fence();
  if (!listening_) return;
  if (vigil_.looked(begun_ns, running) == Vigil::Outcome::kNewBase) new_base();
  if (join_.blocks_lease() && !running.others) end_join();  // nobody is there to answer
  renew_lease();
}

std::vector<uint32_t> FeedCore::own_backends() const {
  std::vector<uint32_t> pids = domain_.backends();
  pids.push_back(line_.backend_pid());
  return pids;
}

void FeedCore::settle_suspicion() {
  if (!suspicion_.has_value() || suspicion_->fence > fences_begun_) return;
  const bool unexplained = suspicion_->schema_events == schema_events_;
  suspicion_.reset();
  if (!unexplained || !current_) return;
  SlotBatch none;
  watch_.publish(none);
}

// ---- settling ----

void FeedCore::ended(SlotBatch& slots) {
  settlement_.at_next_fence(slots);
  begin_wanted_fence();
}

void FeedCore::ddl_ended(SlotBatch& slots) { watch_.publish(slots); }

void FeedCore::lost(uint32_t backend_pid, Writes writes) {
  settlement_.lost(backend_pid, std::move(writes));
  watch_.look_for_backends();
}

void FeedCore::prepared(Writes writes) {
  if (!settlement_.prepared_waited_for()) prepared_looked_ns_ = now_ns();
  SlotBatch slots;
  slots.add(writes.slots);
  settlement_.prepared(slots, writes.events);
}

// Nobody knows what was committed, or will be. That is what others think of a publisher that falls
// silent, and what we ourselves think after we were away: so we go, and come back as somebody else
// (vigil.h).
void FeedCore::unheard() {
  if (listening_) line_.drop("what a session has committed was not heard of");
}

void FeedCore::publish(Carried& events) { publisher_.queue(events); }

void FeedCore::want_carrying() {
  publisher_.want(now_ns());
  set_pace();
  begin_fence();
}

void FeedCore::leave(std::function<void()> done) {
  publisher_.leave();
  if (publisher_.silent() || !line_.started()) {
    done();
    return;
  }
  left_ = std::move(done);
  tick();
}

void FeedCore::on_published(SlotBatch& slots) {
  if (owed_.empty()) event_owed_ = false;
  if (!listening_) told_unheard_ = true;
  ended(slots);
}

// Said again with the next tick. Until it is out the slots stay open, and no map of others, who
// know nothing of it, is taken for the tokens of our own.
void FeedCore::on_publish_failed(std::string_view why, SlotBatch& slots) {
  note_trouble("publishing a schema event", why);
  event_owed_ = true;
  owed_unsaid_ = true;
  owed_.take(slots);
  withdraw_catalog();
  forget_soon();
}

void FeedCore::publish_owed() {
  if (!std::exchange(owed_unsaid_, false)) return;
  SlotBatch slots;
  slots.take(owed_);
  watch_.publish(slots);
}

}  // namespace pgfresh::freshness
