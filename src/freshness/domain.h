// What all workers share about one database: tokens, lease, catalog snapshot. The control loop
// writes it (feed.h); the workers read it at every query and open slots in it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "freshness/token_table.h"
#include "freshness/write_log.h"
#include "pgfresh/reason.h"
#include "query/catalog.h"

namespace pgfresh::freshness {

// Where a write's open slots go when its transaction has ended. Any thread; the control loop's
// feed answers (settle.h). Slots are closed once the transaction is settled (rule 4).
class Settler {
 public:
  virtual ~Settler() = default;
  // The transaction has ended, committed or not; `slots` were opened for it, with multiplicity.
  virtual void ended(std::vector<uint32_t> slots) = 0;
  // The server connection was lost with the outcome unknown; `backend_pid` is PostgreSQL's.
  virtual void lost(uint32_t backend_pid, std::vector<uint32_t> slots) = 0;
  // DDL was seen on the wire and its transaction has ended: publish a schema event, read the
  // catalog again, then close the slots.
  virtual void ddl_ended(std::vector<uint32_t> slots) = 0;
  // This session needs freshness for this database: make the feed connect if it has not yet.
  virtual void wanted() = 0;
};

class Domain {
 public:
  Domain(std::string database, int slot_bits, uint64_t base)
      : database_(std::move(database)), tokens_(slot_bits, base) {}

  [[nodiscard]] const std::string& database() const { return database_; }
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
  void publish_catalog(std::shared_ptr<const query::Catalog> catalog);  // null: none is known

  // Changes whenever settings may have changed behind a session's back (configuration reload,
  // ALTER ROLE … SET): what was probed under another epoch is not believed.
  [[nodiscard]] uint64_t settings_epoch() const {
    return settings_epoch_.load(std::memory_order_acquire);
  }
  void bump_settings_epoch() { settings_epoch_.fetch_add(1, std::memory_order_acq_rel); }

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
  std::atomic<uint64_t> catalog_generation_{0};
  std::atomic<uint64_t> settings_epoch_{1};
  std::atomic<Reason> trouble_{Reason::kNoLease};
  Settler* settler_ = nullptr;
  mutable std::mutex catalog_mutex_;
  std::shared_ptr<const query::Catalog> catalog_;
};

}  // namespace pgfresh::freshness
