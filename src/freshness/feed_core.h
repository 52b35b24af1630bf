// The feed's state machine, on the control loop alone: the LISTENing connection with its fences,
// what events do to tokens, when a catalog is current, and whether there may be a lease.
//
// Invariants:
//  - A lease is given only while LISTENing, with a catalog that was read under the present token
//    of schema(D), and every event before the fence it counts from applied. It is taken away
//    before a token is, and before a catalog is withdrawn.
//  - Events are applied in stream order. While no catalog is current they wait in a bounded queue
//    and are applied with the new catalog before it is published.
//  - Whoever passed the lease check a moment before it was taken away is stopped by the token of
//    schema(D): every stamp has it, and everything that suspends the applying of events changes it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/pace.h"
#include "freshness/catalog_watch.h"
#include "freshness/domain.h"
#include "freshness/event.h"
#include "freshness/feed.h"
#include "freshness/join.h"
#include "freshness/line.h"
#include "freshness/publisher.h"
#include "freshness/settle.h"
#include "freshness/unheard_watch.h"
#include "freshness/vigil.h"

namespace pgfresh::freshness {

class FeedCore final : private Line::Owner, private CatalogWatch::Owner {
 public:
  FeedCore(Domain& domain, Loop& loop, SqlClientFactory& factory, const FeedOptions& options,
           std::function<uint64_t()> random64, Feed::Touched on_touched);
  ~FeedCore() override;

  // Called to hand over what the workers have left; `comes_back`: it will be called again soon, and
  // for transactions that have ended nobody need be called until then. REQUIRES: set before start.
  void set_letters(std::function<void(bool comes_back)> open) { open_letters_ = std::move(open); }

  void start();  // again: nothing
  // Lets the connections go until start(), which begins with a new base. Refused, and false, while
  // sessions of the database are here, or something of theirs is still to be published or settled
  // over a connection that lives.
  [[nodiscard]] bool rest();
  void set_options(const FeedOptions& options);
  void forget();

  // From the Settler; slots as described there.
  void ended(SlotBatch& slots);
  void ddl_ended(SlotBatch& slots);
  void lost(uint32_t backend_pid, Writes writes);
  void prepared(Writes writes);
  void unheard();
  void elsewhere() { elsewhere_told_ = true; }
  // Events of transactions that have ended; before their slots are handed over.
  void publish(Carried& events);
  void want_carrying();
  void leave(std::function<void()> done);

  [[nodiscard]] FeedStatus status() const;

 private:
  // Line::Owner: the LISTENing connection
  void on_line_ready(Line& line) override;
  void on_line_notification(Line& line, std::string_view channel, std::string_view payload,
                            uint32_t sender) override;
  void on_line_lost(Line& line, std::string_view why) override;

  // CatalogWatch::Owner
  [[nodiscard]] uint64_t schema_token() const override;
  [[nodiscard]] uint64_t schema_events() const override { return schema_events_; }
  void on_catalog_read(const SqlRows& rows, uint64_t token) override;
  void on_catalog_failed(std::string_view why) override;
  void on_fingerprint_changed(uint64_t schema_events) override;
  void on_settings_changed() override { domain_.bump_settings_epoch(); }
  void on_published(SlotBatch& slots) override;
  void on_publish_failed(std::string_view why, SlotBatch& slots) override;
  void on_backends_looked_for() override { begin_wanted_fence(); }
  void on_transactions(int64_t begun_ns, const Running& running) override;
  [[nodiscard]] std::vector<uint32_t> own_backends() const override;
  [[nodiscard]] std::vector<uint32_t> backends_to_look_for(int64_t begun_ns) override {
    return unheard_watch_.look_begins(begun_ns, domain_.waiters());
  }
  void on_notify_queue(double usage) override { counts_.notify_queue = usage; }
  void on_watch_ready() override;
  void on_watch_lost(std::string_view why) override;

  void tick();
  void set_pace();
  void watch_configuration(const SqlRows& rows);
  void watch_publishers();
  void watch_waiters();
  void look_elsewhere();
  void introduce();
  void begin_session();
  void end_session();

  // Fences, and what is said in them
  enum class Said : uint8_t { kNothing, kPublication, kFleetWords, kProof };
  void begin_fence();
  [[nodiscard]] bool fence_wanted() const;
  void begin_wanted_fence();
  void end_pause();
  void on_fence(const SqlResult& result, Said said);
  void settle_suspicion();
  void publish_owed();

  // Events
  void on_payload(std::string_view payload, uint32_t sender);
  void on_message(std::string_view payload, uint32_t sender);
  void on_event(std::string_view payload);
  void on_schema_event(uint64_t xid);
  void enqueue(std::string_view payload);
  void apply_queue(const query::Catalog& catalog);
  void apply(const Event& event, Oid root, std::span<const query::KeyColumn> key_columns);
  void touch(uint32_t slot, uint64_t xid);
  void touch_schema(uint64_t xid);

  // The fleet: feed_core_fleet.cc
  [[nodiscard]] bool has_fleet() const { return mailbox_ != nullptr && mailbox_->mail_available(); }
  [[nodiscard]] bool may_speak() const { return has_fleet() && now_ns() >= silent_until_ns_; }
  [[nodiscard]] bool question_wanted() const { return may_speak() && join_.wants_to_ask(now_ns()); }
  [[nodiscard]] bool exact_fence_wanted() const {
    return may_speak() && current_ && proved_fence_ < exact_fence_;
  }
  [[nodiscard]] bool settled() const;
  [[nodiscard]] std::string fleet_words(bool proves);
  void fleet_words_refused(std::string_view why);
  void on_fleet_word(std::string_view payload, uint32_t sender);
  void on_lineage(uint64_t base, uint32_t sender);
  void on_common_lineage(uint32_t sender);
  void on_digest(uint64_t digest, uint32_t sender);
  void merge(uint64_t base, uint32_t peer);
  void put_off_lineage();
  void give_map(const Hash128& nonce);
  void begin_join(Join::Kind kind, uint64_t base, uint32_t peer);
  void keep_for_join(std::string_view payload, uint32_t sender);
  void end_join();
  void tick_join();
  void collect_map();
  void on_map(const std::string_view* bytes);
  void adopt_map(const SlotMap& map);
  [[nodiscard]] std::vector<PublisherAge> others(std::vector<PublisherAge> publishers) const;
  void replay(const Join::Heard& heard);
  void replay_event(std::string_view payload);

  // A new base: now, and as soon as the pause between two of them allows.
  void new_base();
  void forget_soon();

  // Lease and catalog
  [[nodiscard]] Reason obstacle() const;
  void renew_lease();
  void end_lease();
  void withdraw_catalog();
  void adopt_catalog(const SqlRows& rows, uint64_t token);
  void note_trouble(std::string_view what, std::string_view why);

  [[nodiscard]] int64_t now_ns() const { return loop_.clock().now_ns(); }
  [[nodiscard]] int64_t staleness_ns() const { return options_.staleness_ms * kNsPerMs; }

  Domain& domain_;
  Loop& loop_;
  const std::function<uint64_t()> random64_;
  const Feed::Touched on_touched_;
  Mailbox* const mailbox_;  // null: no fleet
  FeedOptions options_;
  Settlement settlement_;
  Publisher publisher_;
  Vigil vigil_;
  UnheardWatch unheard_watch_;
  Line line_;
  CatalogWatch watch_;
  std::unique_ptr<Timer> ticker_;
  int64_t period_ms_ = 0;  // its
  std::function<void(bool comes_back)> open_letters_ = [](bool) {};
  std::function<void()> left_;  // the end is to be said
  int64_t ticked_ns_ = 0;
  int64_t next_poll_ns_ = 0;
  int64_t next_audit_ns_ = 0;
  int64_t next_queue_look_ns_ = 0;
  bool elsewhere_told_ = false;  // since the last look where the name leads
  int64_t elsewhere_ns_ = 0;     // … which was begun then

  // The feed session. `listening_`: LISTEN has completed, with PostgreSQL, and the connection
  // lives.
  bool listening_ = false;
  bool heard_ourselves_ = false;  // a notification of our own has come
  bool been_live_ = false;        // there was a session since start()
  bool fence_under_way_ = false;
  int64_t fence_begun_ns_ = 0;
  bool fence_settles_ = false;  // one about the fleet: no event waited to be published
  uint64_t fences_begun_ = 0;
  int64_t lease_from_ns_ = 0;   // begin of the last fence completed in this session; 0: none
  int64_t heard_until_ns_ = 0;  // the same of any session
  int64_t session_ns_ = 0;      // when it began
  int64_t prepared_looked_ns_ = 0;
  bool prepared_seen_ = false;  // the last look has found prepared transactions
  std::string configured_;      // as of the last fence, also of a session before; empty: none
  int64_t reloaded_ns_ = 0;     // the configuration has changed; to be told once more
  Pace fence_pace_;
  Alarm fence_pause_;  // set: none but the idle cadence begins one

  // The fleet.
  Join join_;
  Alarm collect_pause_;
  int64_t collect_pause_ns_ = 0;
  int64_t join_begun_ns_ = 0;
  std::unique_ptr<Mailbox::Pending> collecting_;
  std::map<uint64_t, std::unique_ptr<Mailbox::Pending>> posting_;
  uint64_t posts_ = 0;
  int64_t silent_until_ns_ = 0;  // PostgreSQL has refused a word about the fleet
  int64_t map_given_ns_ = 0;
  int64_t merged_ns_ = 0;        // when a join of that kind was last begun
  bool lineage_unsaid_ = false;  // others are to be told of our base
  int64_t lineage_said_ns_ = 0;
  int64_t lineage_due_ns_ = 0;             // said again then, unless somebody says the same
  std::optional<uint64_t> digest_unsaid_;  // of where our word about our base has passed us
  struct Compared {
    uint32_t sender = 0;
    uint64_t base = 0;
    uint64_t digest = 0;  // ours
  };
  std::optional<Compared> compared_;  // where a peer's has, the last one
  uint64_t exact_fence_ = 0;   // with a proof in this one or a later one completed, nothing in the
                               // catalog is newer than the token of schema(D)
  uint64_t proved_fence_ = 0;  // the last that had one

  // New bases.
  bool base_wanted_ = false;
  int64_t base_ns_ = 0;  // when the last one was taken
  Alarm base_pause_;

  // Catalog. `current_`: the published snapshot belongs to the present token of schema(D).
  bool current_ = false;
  uint64_t generation_ = 0;
  // Of the last snapshot adopted: Catalog::content_hash(), and the token it belonged to.
  uint64_t content_hash_ = 0;
  uint64_t content_token_ = 0;
  std::deque<std::string> queue_;
  size_t queue_bytes_ = 0;
  uint64_t schema_events_ = 0;
  // A schema event that PostgreSQL refused to publish, and the slots that wait for it.
  bool event_owed_ = false;
  bool owed_unsaid_ = false;   // the next tick tries again
  bool told_unheard_ = false;  // one was published while the feed was away
  SlotBatch owed_;
  uint64_t schema_events_awaited_ = 0;  // no snapshot is adopted before so many have come

  // A fingerprint that no event has explained yet: published as a schema event if none has come
  // by the end of that fence.
  struct Suspicion {
    uint64_t fence = 0;
    uint64_t schema_events = 0;
  };
  std::optional<Suspicion> suspicion_;

  std::vector<uint64_t> tags_;   // scratch
  std::vector<uint32_t> slots_;  // scratch

  std::string trouble_text_;
  FeedStatus counts_;  // its counters alone
};

}  // namespace pgfresh::freshness
