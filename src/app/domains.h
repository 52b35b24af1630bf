// The databases that sessions have asked for: a Domain and a Feed each, made at the first session
// and kept until the daemon ends (a token table must outlive the entries that name its slots). But
// the feed of a database without sessions rests after a while, without connections.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "app/feed_report.h"
#include "base/throttle.h"
#include "cache/memory_store.h"
#include "freshness/domain.h"
#include "freshness/feed.h"
#include "pgfresh/log.h"
#include "pgfresh/loop.h"
#include "pgfresh/remote_store.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::app {

class Domains {
 public:
  // REQUIRES: `control` and `factory` outlive this; `store` too.
  Domains(Loop& control, SqlClientFactory& factory, cache::MemoryStore& store, int slots_log2,
          freshness::FeedOptions options, std::function<uint64_t()> random64);

  // The fleet: where maps for joining proxies lie, and what is told of killed entries. Before the
  // first get(); both belong to the control loop and outlive this.
  void set_fleet(RemoteStore* store, Mailbox* mailbox);

  // Any thread. Null when there are too many databases; such sessions pass through.
  [[nodiscard]] freshness::Domain* get(const std::string& database);

  // Any thread. PostgreSQL is about to be asked for something it does only where nobody is
  // connected to this database; it waits five seconds for that. Lets go of it, if no session is
  // there, at once or while PostgreSQL waits.
  void vacate(const std::string& database);

  // Control loop only.
  // This one is wanted from now on, also without sessions, but while it is vacated.
  void keep(const std::string& database);
  [[nodiscard]] std::vector<freshness::FeedStatus> status() const;
  [[nodiscard]] std::vector<const freshness::Domain*> all() const;
  void set_options(const freshness::FeedOptions& options);
  // To be called about once a second. Lets go of databases that nobody uses; a line for each that
  // is cached since the last call, or is not any more and why.
  void look(Log& log);
  // A new base for this database: nothing cached before counts any more.
  void forget(const std::string& database);
  // No session is left: each feed publishes what it has and says the end; `done` then. Where
  // PostgreSQL does not answer it is never called.
  void leave(std::function<void()> done);
  // Closes the control connections; no domain gets a lease any more.
  void close();

 private:
  struct Item {
    explicit Item(int64_t now_ns) : used_ns(now_ns), report(now_ns) {}
    std::unique_ptr<freshness::Domain> domain;
    std::unique_ptr<freshness::Feed> feed;
    bool kept = false;
    int64_t used_ns;               // when a session was last seen here
    int64_t vacated_until_ns = 0;  // rests as soon as nobody is here
    FeedReport report;
  };

  void see_whether_used(Item& item);

  Loop& control_;
  SqlClientFactory& factory_;
  cache::MemoryStore& store_;
  const int slots_log2_;
  const std::function<uint64_t()> random64_;
  RemoteStore* remote_ = nullptr;  // null: no fleet

  mutable std::mutex mutex_;  // guards what follows
  freshness::FeedOptions options_;
  std::map<std::string, Item, std::less<>> items_;
  std::string refused_;  // a database there was no place for, since the last look
  Throttle refusals_;
};

}  // namespace pgfresh::app
