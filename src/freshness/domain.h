// What all workers share about one database: tokens, lease, catalog snapshot. The control loop
// writes it (feed.h); the workers read it at every query and open slots in it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "freshness/carried.h"
#include "freshness/token_table.h"
#include "freshness/write_log.h"
#include "pgfresh/clock.h"
#include "pgfresh/reason.h"
#include "query/catalog.h"

namespace pgfresh::freshness {

// What a transaction leaves behind it.
struct Writes {
  std::vector<uint32_t> slots = {};  // opened for it, with multiplicity
  Carried events = {};               // that nobody but this proxy will publish

  [[nodiscard]] bool empty() const { return slots.empty() && events.empty(); }
};

// Which PostgreSQL this is: when it was started, in microseconds. Behind a name that has moved on,
// a connection may lead to another one than the connection before, which hears nothing of what is
// written there, numbers its processes anew, and may have another catalog.
inline constexpr std::string_view kServerStartedSql =
    "(EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)"
    "::pg_catalog.int8";

// When the configuration was read that a session's process goes by: another one after a reload,
// which reaches all of a server's processes at about the same time, and tells no client.
inline constexpr std::string_view kConfiguredSql = "pg_catalog.pg_conf_load_time()";

// Where they go when it has ended. Any thread; the control loop's feed answers (settle.h). Events
// are published, and slots are closed once the transaction is settled (rules 4 and 14).
class Settler {
 public:
  virtual ~Settler() = default;
  // The transaction has ended, committed or not.
  virtual void ended(Writes writes) = 0;
  // The server connection was lost with the outcome unknown; `backend_pid` is PostgreSQL's.
  virtual void lost(uint32_t backend_pid, Writes writes) = 0;
  // DDL was seen on the wire and its transaction has ended: publish a schema event, read the
  // catalog again, then close the slots.
  virtual void ddl_ended(Writes writes) = 0;
  // PREPARE TRANSACTION has ended it here: it is settled once PostgreSQL knows it no more.
  virtual void prepared(Writes writes) = 0;
  // A session that carried may have committed what it will not hear of. Before it is counted out.
  virtual void unheard() = 0;
  // A session has come to another PostgreSQL than the one that the feed listens to.
  virtual void elsewhere() = 0;
  // This session needs freshness for this database: make the feed connect if it has not yet.
  virtual void wanted() = 0;
  // A session would carry, if this proxy vouched for what it has to publish.
  virtual void carrying_wanted() = 0;
};

// A session that carries and waits for the word of a commit.
struct Waiter {
  uint64_t ticket = 0;  // never used twice
  uint32_t backend_pid = 0;
  int64_t since_ns = 0;
  int64_t sent_ns = 0;  // when something was last sent there
  // Behind what may commit first there is more: what runs there may be a later transaction.
  bool goes_on = false;
};

class Domain {
 public:
  Domain(std::string database, int slot_bits, uint64_t base)
      : database_(std::move(database)), tokens_(slot_bits, base) {}

  [[nodiscard]] const std::string& database() const { return database_; }
  // What names the database among all that a fleet's second level may hold.
  [[nodiscard]] std::string_view server() const { return database_; }
  [[nodiscard]] TokenTable& tokens() { return tokens_; }
  [[nodiscard]] const TokenTable& tokens() const { return tokens_; }

  // Rule 11: hits and fills are allowed only before this moment.
  [[nodiscard]] bool lease_valid(int64_t now_ns) const {
    return now_ns < lease_until_ns_.load(std::memory_order_acquire);
  }
  [[nodiscard]] int64_t lease_until_ns() const {
    return lease_until_ns_.load(std::memory_order_acquire);
  }
  void set_lease(int64_t until_ns) { lease_until_ns_.store(until_ns, std::memory_order_release); }

  // The snapshot's generation, 0 while there is none: cheap, so that a worker fetches the snapshot
  // itself only when this has changed.
  [[nodiscard]] uint64_t catalog_generation() const {
    return catalog_generation_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::shared_ptr<const query::Catalog> catalog() const;
  // Null: none is known any more. What came before `heard_until_ns` was found in the one so far.
  void publish_catalog(std::shared_ptr<const query::Catalog> catalog, int64_t heard_until_ns);
  // Until when the snapshot of this generation was the truth for sure; nullopt: it still is, or it
  // was long ago.
  [[nodiscard]] std::optional<int64_t> catalog_true_until_ns(uint64_t generation) const;
  // Those of the last snapshot, also when that has been withdrawn; null before the first one. Asked
  // for after settings_epoch(), it is not older than that.
  [[nodiscard]] std::shared_ptr<const query::PolicyBook> policies() const;

  // Changes whenever settings may have changed behind a session's back (configuration reload,
  // ALTER ROLE … SET), or others are to be read: what was probed under another epoch is not
  // believed.
  [[nodiscard]] uint64_t settings_epoch() const {
    return settings_epoch_.load(std::memory_order_acquire);
  }
  void bump_settings_epoch() { settings_epoch_.fetch_add(1, std::memory_order_acq_rel); }

  // Which PostgreSQL the feed listens to (kServerStartedSql); 0: it has not said.
  [[nodiscard]] uint64_t server_started() const {
    return server_started_.load(std::memory_order_acquire);
  }
  void set_server_started(uint64_t time_us);

  // Rules 15 and 16: a transaction may be begun in a session that carries only while the carry
  // lease holds: others follow this proxy then, and will act if it dies. Which server that is true
  // of, 0: of none. Otherwise end_carrying() is owed when the transaction's events are with the
  // settler. Any thread.
  [[nodiscard]] uint64_t begin_carrying(const Clock& clock) {
    carriers_.fetch_add(1, std::memory_order_seq_cst);
    const uint64_t server = server_started();
    const bool holds = clock.now_ns() < carry_until_ns_.load(std::memory_order_seq_cst);
    if (holds && server_started() == server) return server;
    end_carrying();
    return 0;
  }
  void end_carrying() { carriers_.fetch_sub(1, std::memory_order_seq_cst); }
  // While a session that carries has sent what PostgreSQL may have committed unheard; word_came()
  // is owed then. Before it is sent, or in the same turn. Any thread.
  [[nodiscard]] uint64_t wait_for_word(uint32_t backend_pid, int64_t since_ns, bool goes_on);
  void sent_more(uint64_t ticket, int64_t now_ns, bool goes_on);
  void word_came(uint64_t ticket);
  [[nodiscard]] std::vector<Waiter> waiters() const;
  // Asks for a carry lease, the first time since it was last given up.
  void want_carrying() {
    if (!carrying_wanted_.load(std::memory_order_relaxed) && !carrying_wanted_.exchange(true)) {
      settler_->carrying_wanted();
    }
  }
  // Control loop only.
  void set_carry_lease(int64_t until_ns) {
    carry_until_ns_.store(until_ns, std::memory_order_seq_cst);
  }
  [[nodiscard]] int64_t carriers() const { return carriers_.load(std::memory_order_seq_cst); }
  void set_carrying_wanted(bool wanted) { carrying_wanted_.store(wanted); }

  // PostgreSQL's processes behind this proxy's sessions, for the look at who may be writing. Which
  // PostgreSQL each is of is told when the session knows; 0: it does not.
  void add_backend(uint32_t pid);
  void backend_is_of(uint32_t pid, uint64_t server);
  void remove_backend(uint32_t pid, uint64_t server);
  // Those of the PostgreSQL that the feed listens to. Where there has been another one a session
  // that does not know may be there: its process number says nothing about a process here.
  [[nodiscard]] std::vector<uint32_t> backends() const;
  [[nodiscard]] bool has_backends() const;
  // Whether there has been one since the last call, too.
  [[nodiscard]] bool take_used();

  // The catalog is just as old as the token of schema(D): every change that is in it has been seen
  // on the feed. Entries of other proxies count only then: theirs may rest on what a table was made
  // of before a change that our catalog has, but whose event is still to come (session_remote.cc).
  [[nodiscard]] bool exact() const { return exact_.load(std::memory_order_acquire); }
  void set_exact(bool exact) { exact_.store(exact, std::memory_order_release); }

  // Why there is no lease or catalog, for reasons and the console.
  [[nodiscard]] Reason trouble() const { return trouble_.load(std::memory_order_relaxed); }
  void set_trouble(Reason reason) { trouble_.store(reason, std::memory_order_relaxed); }

  // Control loop only.
  [[nodiscard]] WriteLog& writes() { return writes_; }
  [[nodiscard]] const WriteLog& writes() const { return writes_; }

  // Thread-safe; set once before the first session.
  [[nodiscard]] Settler& settler() const { return *settler_; }
  void set_settler(Settler* settler) { settler_ = settler; }

 private:
  const std::string database_;
  TokenTable tokens_;
  WriteLog writes_;
  std::atomic<int64_t> lease_until_ns_{0};
  std::atomic<bool> exact_{false};
  std::atomic<uint64_t> catalog_generation_{0};
  std::atomic<uint64_t> settings_epoch_{1};
  std::atomic<uint64_t> server_started_{0};
  std::atomic<Reason> trouble_{Reason::kNoLease};
  Settler* settler_ = nullptr;
  std::atomic<int64_t> carry_until_ns_{0};
  std::atomic<int64_t> carriers_{0};
  std::atomic<bool> carrying_wanted_{false};
  mutable std::mutex waiters_mutex_;
  std::unordered_map<uint64_t, Waiter> waiters_;  // by ticket
  uint64_t tickets_ = 0;
  struct Former {
    uint64_t generation = 0;
    int64_t true_until_ns = 0;
  };
  mutable std::mutex catalog_mutex_;
  std::array<Former, 16> former_;  // by generation; guarded by catalog_mutex_
  std::shared_ptr<const query::Catalog> catalog_;
  mutable std::mutex backends_mutex_;
  // Process number and server. A number may come again while its old session is being seen off.
  std::unordered_multimap<uint32_t, uint64_t> backends_;
  bool other_server_seen_ = false;
  bool used_ = false;
  std::shared_ptr<const query::PolicyBook> policies_;
};

}  // namespace pgfresh::freshness
