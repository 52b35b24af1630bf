#include "freshness/publisher.h"

#include <utility>
#include <vector>

#include "base/check.h"
#include "freshness/event.h"

namespace pgfresh::freshness {
namespace {

// Vouching goes on for this long after the last carrier.
constexpr int64_t kIdleNs = 10 * kNsPerSecond;
// Between tries where PostgreSQL has refused two beats in a row: one may be refused by chance, and
// who follows us does not wait so long. A refused fence renews no lease.
constexpr int64_t kRefusedBeatNs = 10 * kNsPerSecond;
// Of the staleness: how long a beat is worth a carry lease, and how old it may be before the next.
constexpr int64_t kLeaseShare = 4;
constexpr int64_t kBeatShare = 12;
constexpr size_t kRefusalBytesMax = 200;
// What is queued while nothing can be said; a statement holds all of it.
constexpr size_t kStatementBytesMax = 1024 * 1024;
static_assert(Carried::kBytesMax < kStatementBytesMax);

// In a form that no setting of the session changes the meaning of.
void append_notify(std::string& sql, std::string_view payload) {
  sql += ", pg_catalog.pg_notify('pgfresh', E'";
  for (const char c : payload) {
    if (c == '\'' || c == '\\') sql += c;
    sql += c;
  }
  sql += "')";
}

}  // namespace

Publisher::Publisher(Domain& domain, uint64_t id) : domain_(domain), id_(id) {}

void Publisher::set_options(Publish publish, int64_t staleness_ns) {
  staleness_ns_ = staleness_ns;
  if (std::exchange(publish_, publish) == publish) return;
  if (publish == Publish::kTrigger) {
    if (state_ == State::kVouching) state_ = State::kLeaving;
    end_lease();
  } else {
    domain_.set_carrying_wanted(false);
  }
}

void Publisher::want(int64_t now_ns) {
  used_ns_ = now_ns;
  if (publish_ == Publish::kProxy && !stopping_) state_ = State::kVouching;
}

void Publisher::tick(int64_t now_ns) {
  if (state_ != State::kVouching) return;
  if (domain_.carriers() != 0 || has_events() || std::exchange(queued_, false)) used_ns_ = now_ns;
  if (now_ns - used_ns_ < kIdleNs) return;
  state_ = State::kLeaving;
  end_lease();
}

void Publisher::leave() {
  stopping_ = true;
  if (state_ == State::kVouching) state_ = State::kLeaving;
  end_lease();
}

void Publisher::retire() {
  if (state_ != State::kVouching || domain_.carriers() != 0) return;
  state_ = State::kLeaving;
  end_lease();
}

// The sequence goes on: who hears the next beat, from another process, takes it for one whose
// beginning he has missed.
void Publisher::rest() {
  end_lease();
  if (state_ == State::kSilent) return;
  state_ = State::kSilent;
  domain_.set_carrying_wanted(publish_ == Publish::kTrigger);
}

// synchronous_commit is off for this transaction: what it says is of use to those alone who hear
// it, and those who hear it after a crash have begun anew.
std::string Publisher::begin(int64_t now_ns, Others others) {
  PGFRESH_CHECK(in_flight_.empty());
  begun_ns_ = now_ns;
  came_back_ = beats_ = ends_ = false;
  if (queue_.empty() && now_ns < silent_until_ns_) return {};
  ends_ = state_ == State::kLeaving && queue_.empty() && others == Others::kNone;
  const bool due = now_ns - beat_begun_ns_ >= staleness_ns_ / kBeatShare;
  beats_ = vouching() && !ends_ && others != Others::kUnseen && (due || has_events());
  if (!beats_ && !ends_ && !has_events()) return {};
  in_flight_.take(queue_);
  std::vector<std::string> payloads;
  in_flight_.append_payloads(payloads);
  std::string sql = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true)";
  sql.reserve(sql.size() + in_flight_.bytes() + 50 * payloads.size() + 200);
  for (const std::string& payload : payloads) append_notify(sql, payload);
  if (beats_) {
    beat_begun_ns_ = now_ns;
    append_notify(sql, format_beat(id_, ++sequence_));
  }
  if (ends_) append_notify(sql, format_end(id_));
  ++statements_;
  return sql;
}

bool Publisher::completed() {
  published_ += in_flight_.count();
  const bool nothing = in_flight_.empty();
  in_flight_.clear();
  if (beats_ || ends_ || !nothing) refusal_.clear();
  if (beats_ && came_back_) {
    beat_ns_ = vouched_ns_ = begun_ns_;
    if (state_ == State::kVouching)
      domain_.set_carry_lease(begun_ns_ + staleness_ns_ / kLeaseShare);
  }
  if (ends_) {
    sequence_ = 0;  // the next beat is a first one
    vouched_ns_ = 0;
  }
  if (ends_ && state_ == State::kLeaving) {
    state_ = State::kSilent;
    if (!stopping_) domain_.set_carrying_wanted(publish_ == Publish::kTrigger);
  }
  return nothing || came_back_;
}

// Perhaps because of what one of the events says.
void Publisher::refused(int64_t now_ns, std::string_view why) {
  const bool again = !refusal_.empty();
  refusal_ = why.substr(0, kRefusalBytesMax);
  if (!in_flight_.empty()) {
    in_flight_.collapse_to_schema();
  } else if (again) {
    silent_until_ns_ = now_ns + kRefusedBeatNs;
  }
  lost();
}

void Publisher::lost() {
  in_flight_.take(queue_);
  std::swap(in_flight_, queue_);
  end_lease();
}

bool Publisher::heard(uint64_t publisher, uint64_t sequence) {
  if (publisher != id_) return false;
  if (sequence == sequence_) came_back_ = true;
  return true;
}

}  // namespace pgfresh::freshness
