// The second level. What memory does not have is looked up there before PostgreSQL is asked, and
// what PostgreSQL answered is put there for the others.
//
// Why an entry that another proxy made may be given here (freshness.md, rule 8). The stamp is
// captured as for a fetch, and the entry counts only if its key and its stamp are equal, to the
// letter, to the key and stamp in hand. Equal tokens mean that the same events have touched these
// slots (token_table.h), wherever they were read; so whatever this proxy knows to have changed the
// answer, the other knew when it captured the stamp, and that was before it sent the query. From
// then on the entry lies in memory under that stamp and is judged at this hit, and at each later
// one, like an entry of our own: by our slots, open counts and lease.
//
// Equal tokens must have been made by equal touches, and which slots an event touches is told by
// the catalog in force. Two catalogs under one token of schema(D) can differ where one was read
// late and holds a change whose event has not come yet. So no entry is taken over until a fence
// begun after the reading has completed (Domain::exact()): had there been such a change, its event
// would have come with it.
//
// Nothing here relies on what the store says: not on the name it found the entry by, nor on its
// form. Times alone are believed, within the lifetime that this proxy would give.
//
// While a look-up is under way the session is blocked as it is while it waits for another's fetch:
// the message has been put back and comes again, and nothing behind it is taken.
#include <algorithm>

#include "proxy/answer_form.h"
#include "proxy/key.h"
#include "proxy/session.h"

namespace pgfresh::proxy {
namespace {

// What an entry may claim that PostgreSQL took; for statistics alone.
constexpr int64_t kUpstreamNsMax = 3600 * kNsPerSecond;
// The fleet's lock outlives the fetch it was taken for by this factor; it is given back sooner.
constexpr int64_t kLockFactor = 4;
constexpr int64_t kLockMsMin = 100;
constexpr int64_t kLockMsMax = 10'000;

RemoteLookup::Terms terms_of(const Settings& settings, const Fetch& fetch, int64_t round_trip_ns) {
  RemoteLookup::Terms terms;
  terms.budget_ms = settings.remote_budget_ms;
  if (fetch.stat == nullptr || settings.fleet_flight == FleetFlight::kOff) return terms;
  const RemoteCost& cost = fetch.stat->remote;
  if (!cost.worth_locking(round_trip_ns)) return terms;
  terms.fleet = RemoteLookup::Fleet::kOneFetches;
  terms.lock_ttl_ms =
      std::clamp(kLockFactor * cost.upstream_ns() / kNsPerMs, kLockMsMin, kLockMsMax);
  return terms;
}

}  // namespace

// True when the look-up is under way, and `fetch` has been taken for it.
bool Session::ask_remote(const Question& question, const Scope& scope, FetchRef& fetch) {
  RemoteStore* store = worker_.remote().store;
  // Somebody who wants nothing older than a moment would be given what memory has just refused.
  if (store == nullptr || scope.max_age_ms != 0 || !domain_->exact() || !store->available()) {
    return false;
  }
  const Settings& settings = worker_.settings();
  const int64_t round_trip_ns = store->round_trip_ns();
  if (is_for_rows(question)) {
    QueryStat& stat = *fetch->stat;
    if (settings.remote_ask == RemoteAsk::kWherePays &&
        stat.remote.advise(round_trip_ns) == RemoteCost::Advice::kSkip) {
      worker_.counters().add(Counter::kRemoteSkipped);
      return false;
    }
  }
  append_portable_key(fetch->remote_key, domain_->server(), fetch->catalog, scope, fetch->key);
  remote_fetch_ = std::move(fetch);
  remote_ = std::make_unique<RemoteLookup>(
      worker_.loop(), *store, remote_fetch_->remote_key, remote_fetch_->stamp,
      terms_of(settings, *remote_fetch_, round_trip_ns),
      [this](RemoteLookup::End end, const RemoteEntry* entry) { remote_answered(end, entry); });
  if (!remote_->start()) {
    remote_.reset();
    fetch = std::move(remote_fetch_);
    return false;
  }
  worker_.counters().add(Counter::kRemoteAsked);
  remote_from_ns_ = worker_.now_ns();
  block(Block::kRemote);
  return true;
}

void Session::remote_answered(RemoteLookup::End end, const RemoteEntry* entry) {
  Counters& counters = worker_.counters();
  // What was waited for another proxy is not what a look-up takes.
  const int64_t took_ns = remote_->waited() ? worker_.remote().store->round_trip_ns()
                                            : worker_.now_ns() - remote_from_ns_;
  if (remote_->waited()) counters.add(Counter::kFleetWaits);
  bool found = false;
  switch (end) {
    case RemoteLookup::End::kFound:
      found = promote(*entry);
      counters.add(found ? Counter::kRemoteFound : Counter::kRemoteRefused);
      break;
    case RemoteLookup::End::kMiss:
      break;
    case RemoteLookup::End::kMissLocked:
      remote_fetch_->locked_by = worker_.remote().store;
      break;
    case RemoteLookup::End::kBroken:
      counters.add(Counter::kRemoteRefused);
      break;
    case RemoteLookup::End::kTimedOut:
      counters.add(Counter::kRemoteTimedOut);
      break;
    case RemoteLookup::End::kUnavailable:
      counters.add(Counter::kRemoteFailed);
      break;
  }
  if (QueryStat* stat = remote_fetch_->stat.get()) {
    found ? stat->remote.found(took_ns) : stat->remote.not_found(took_ns);
  }
  remote_ended();
}

// Into memory, under the stamp in hand; those who wait for it find it there. False: it is not what
// was asked for.
bool Session::promote(const RemoteEntry& entry) {
  Fetch& fetch = *remote_fetch_;
  if (!domain_->exact() || entry.key != fetch.remote_key ||
      !std::equal(entry.stamp.begin(), entry.stamp.end(), fetch.stamp.begin(), fetch.stamp.end()) ||
      !has_form(entry.body,
                {fetch.of_description, fetch.row_limited, entry.description_bytes, entry.shape})) {
    return false;
  }
  const int64_t now_ns = worker_.now_ns();
  const int64_t unix_ms = worker_.remote().unix_ms();
  if (entry.expires_unix_ms <= unix_ms || entry.created_unix_ms < 0) return false;
  const int64_t left_ms = std::min(entry.expires_unix_ms - unix_ms, fetch.ttl_ms);
  const int64_t age_ms = std::max<int64_t>(unix_ms - entry.created_unix_ms, 0);
  remote_entry_ = cache::Entry::make(
      {.key = {fetch.key, fetch.hash},
       .stamp = fetch.stamp,
       .table = fetch.table,
       .body = entry.body,
       .description_bytes = entry.description_bytes,
       .shape = entry.shape,
       .query_id = fetch.query_id,
       .stored_ns = now_ns - age_ms * kNsPerMs,
       .expires_ns = now_ns + left_ms * kNsPerMs,
       .upstream_ns = std::clamp<int64_t>(entry.upstream_ns, 0, kUpstreamNsMax)});
  // Where there is no room for it, it is served all the same.
  static_cast<void>(worker_.shared().store.insert(remote_entry_));
  fetch.lead.end();
  return true;
}

// Answered, or no longer wanted: the message comes again and goes on with what is known by now.
void Session::remote_ended() {
  if (block_ != Block::kRemote) return;
  remote_.reset();
  unblock(Block::kRemote);
}

// The message has been dealt with.
void Session::forget_remote() {
  remote_.reset();
  remote_fetch_.reset();
  remote_entry_.reset();
}

// Whether the answer, when it has come, is put there.
void Session::choose_put(const Question& question, const Scope& scope, Fetch& fetch) {
  const RemoteStore* store = worker_.remote().store;
  if (store == nullptr || fetch.locked_by != nullptr) return;
  const bool worth = !is_for_rows(question) ||
                     worker_.settings().remote_ask == RemoteAsk::kAlways ||
                     stat_of(question.text).remote.worth_storing(store->round_trip_ns());
  if (!worth || !store->available()) {
    fetch.remote_key.clear();
  } else if (fetch.remote_key.empty()) {
    append_portable_key(fetch.remote_key, domain_->server(), fetch.catalog, scope, fetch.key);
  }
}

void Session::put_remote(const cache::Entry& entry, const Fetch& fetch) {
  const Worker::Remote& remote = worker_.remote();
  const int64_t unix_ms = remote.unix_ms();
  RemoteEntry out;
  out.key = fetch.remote_key;
  out.stamp = entry.stamp();
  out.body = entry.body();
  out.description_bytes = entry.description_bytes;
  out.shape = entry.shape;
  out.query_id = entry.query_id;
  out.created_unix_ms = unix_ms;
  out.expires_unix_ms = unix_ms + fetch.remote_ttl_ms;
  out.upstream_ns = entry.upstream_ns;
  remote.store->put(out);
  worker_.counters().add(Counter::kRemotePuts);
}

}  // namespace pgfresh::proxy
