// The feed of one database: the connection that LISTENs, the only writer of tokens, and the keeper
// of the lease (freshness.md, rules 3, 4, 10 to 13). Runs on the control loop; workers reach it
// through the Settler's thread-safe calls and read what it writes in the Domain.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "freshness/domain.h"
#include "freshness/publisher.h"
#include "pgfresh/loop.h"
#include "pgfresh/remote_store.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::freshness {

struct FeedOptions {
  int64_t staleness_ms = 1000;     // Δ: the lease's length
  int64_t catalog_poll_ms = 5000;  // between looks at the catalog's fingerprint
  int64_t audit_ms = 60'000;       // between re-readings of the whole catalog
  int64_t idle_ms = 60'000;        // a database without sessions for so long is let go; 0: never
  int64_t reconnect_ms_min = 50;   // back-off, doubled up to the maximum, with jitter
  int64_t reconnect_ms_max = 5000;
  Publish publish = Publish::kProxy;  // who publishes what proxied sessions write
  // Where maps for those who join lie (join.h); null: nobody is joined. On the control loop, and
  // outlives the feed; what a feed was made with stays.
  Mailbox* mailbox = nullptr;
};

struct FeedStatus {
  std::string database;
  std::string state;          // "off", "connecting", "starting", "live", "lost"
  std::string trouble;        // why it is not live, or else why it may not publish
  uint64_t sessions = 0;      // feed sessions begun
  uint64_t events = 0;        // events applied
  uint64_t garbled = 0;       // payloads that could not be read
  uint64_t fences = 0;        // completed
  int64_t fence_us_last = 0;  // round trip of the last fence
  int64_t lease_left_ms = 0;  // negative: expired
  int64_t unsettled = 0;      // transactions waiting to be settled
  int64_t open_slots = 0;
  uint64_t catalog_loads = 0;
  uint64_t catalog_generation = 0;
  int64_t catalog_load_us_last = 0;
  uint64_t relations_watched = 0;
  bool event_triggers = false;
  double notify_queue = -1;  // how full PostgreSQL's NOTIFY queue is, 0 to 1; -1: not known

  bool vouching = false;            // others are told that this proxy is here
  std::string refusal;              // why PostgreSQL refuses to have it told; else empty
  uint64_t queued = 0;              // events to be published
  uint64_t published = 0;           // events published
  uint64_t publications = 0;        // statements that published or beat
  int64_t beat_age_ms = -1;         // of the last own beat that came back; -1: none
  uint64_t publishers = 0;          // others that are followed
  int64_t publisher_age_ms = -1;    // how long the one silent longest has been; -1: none
  uint64_t publishers_lost = 0;     // given up because they were silent
  uint64_t commits_late = 0;        // of sessions here, not heard of in time
  uint64_t transactions_noted = 0;  // that may end without an event

  // Joining (join.h).
  uint64_t joins = 0;          // maps taken over
  uint64_t joins_refused = 0;  // questions that nobody answered in time
  uint64_t maps_given = 0;
  uint64_t lineage = 0;  // the base: proxies that share it share entries; 0: not settled
};

class Feed final : public Settler {
 public:
  // `random64`: for bases, nonces and jitter. `on_touched`: called on the control loop for each
  // slot an event has touched, after the token was written, with the token before (rule 9: memory
  // may be freed).
  using Touched = std::function<void(uint32_t slot, uint64_t token_before)>;
  Feed(Domain& domain, Loop& loop, SqlClientFactory& factory, FeedOptions options,
       std::function<uint64_t()> random64, Touched on_touched);
  ~Feed() override;

  // Settler; any thread.
  void ended(Writes writes) override;
  void lost(uint32_t backend_pid, Writes writes) override;
  void ddl_ended(Writes writes) override;
  void prepared(Writes writes) override;
  void unheard() override;
  void elsewhere() override;
  void wanted() override;
  void carrying_wanted() override;

  // Control loop only.
  // Nobody is left in this database: lets both connections go until wanted() is called again; what
  // was cached then counts no longer. Refused, and false, while somebody is there or has left
  // something to do, which is begun; it is to be asked for again then.
  [[nodiscard]] bool rest();
  [[nodiscard]] FeedStatus status() const;
  void set_options(const FeedOptions& options);
  // Forget everything: a new base for all slots (console: FLUSH ALL on this database).
  void forget();
  // No session is left: publishes what is queued and says the end. `done` is called once, when
  // that is done; it may never be, where PostgreSQL does not answer.
  void leave(std::function<void()> done);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace pgfresh::freshness
