// What the SHOW commands show: the facts, as structs that whoever knows them fills in, and pure
// functions that make tables of them. Columns that mean what PgBouncer's mean have PgBouncer's
// names.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/counters.h"
#include "base/histogram.h"
#include "cache/entry_codec.h"
#include "cache/memory_store.h"
#include "cache/redis_trouble.h"
#include "console/command.h"
#include "console/table.h"
#include "freshness/feed.h"
#include "freshness/write_log.h"
#include "query/catalog.h"

namespace pgfresh::console {

// The columns of a kLooks verb's table; empty for the other verbs. Every table below has them.
[[nodiscard]] Columns columns_of(Verb verb);

// The sum of several workers' counters.
struct CounterTotals {
  std::array<uint64_t, kCounterCount> counters{};
  std::array<uint64_t, kReasonCount> bypasses{};

  void add(const Counters& worker);
  [[nodiscard]] uint64_t get(Counter counter) const {
    return counters[static_cast<size_t>(counter)];
  }
  [[nodiscard]] uint64_t bypasses_sum() const;
};

// Hits in percent of all SELECTs that were looked up; 0 before the first.
[[nodiscard]] double hit_percent(const CounterTotals& totals);

// Where a stream's peer() says "10.0.0.7:51234" or "[::1]:51234": the two halves. "unix" and
// anything else without a port: port 0.
struct Address {
  std::string host;
  int64_t port = 0;
};
[[nodiscard]] Address split_address(std::string_view peer);

// SHOW STATS: one row per database, or one row named "all" where they are not told apart.
struct StatsRow {
  std::string database;
  CounterTotals totals;
};

struct ClientRow {
  uint64_t id = 0;  // what KILL takes
  std::string user;
  std::string database;
  std::string state;  // "login", "idle", "active", "block" and the like
  std::string peer;   // as Stream::peer() gives it
  std::string local;  // the listener: "127.0.0.1:6543", or the socket's path
  int64_t connected_unix_s = 0;
  int64_t requested_unix_s = 0;  // the last request; 0: none yet
  uint64_t queries = 0;
  uint64_t hits = 0;
  uint64_t server_id = 0;   // the server connection it holds, as SHOW SERVERS gives it; 0: none
  uint32_t remote_pid = 0;  // of the PostgreSQL backend behind it; 0: none
  bool encrypted = false;
  std::string application_name;
};

struct ServerRow {
  uint64_t id = 0;
  std::string user;
  std::string database;
  std::string state;
  std::string peer;
  std::string local;
  int64_t connected_unix_s = 0;
  int64_t requested_unix_s = 0;
  uint64_t client_id = 0;  // who holds it; 0: nobody
  uint32_t remote_pid = 0;
  bool encrypted = false;
};

struct ConfigRow {
  std::string key;
  std::string value;  // never a password
  std::string default_value;
  bool changeable = false;  // by RELOAD
};

// One loop's connection to Redis.
struct RedisRow {
  std::string loop;  // "worker 0", "control"
  std::string state;
  int64_t since_ms = 0;  // in this state
  std::string address;
  std::string server;  // "redis 7.0.15"
  uint64_t in_flight = 0;
  uint64_t bytes_in_flight = 0;
  int64_t round_trip_ns = 0;  // smoothed; 0: none yet
  HistogramSums latencies;    // of answers
  std::string trouble;        // the last, or empty
  std::array<uint64_t, cache::kRedisTroubleCount> errors{};
  std::array<uint64_t, cache::kDecodedCount> broken{};  // entries, by why
  CounterTotals counters;  // its own, and the look-ups of its worker's sessions
};

enum class CacheState : uint8_t { kOn, kOff };

// A database's snapshot; null: none is known, the database has no rows.
struct CatalogOf {
  std::string database;
  std::shared_ptr<const query::Catalog> catalog;
  const freshness::WriteLog* writes = nullptr;  // may be null
  int64_t unix_offset_ns = 0;                   // what the loop's clock lacks to the time of day
};

[[nodiscard]] Table version_table(std::string_view version);
[[nodiscard]] Table stats_table(const std::vector<StatsRow>& rows);
// `totals`: of all databases and workers.
[[nodiscard]] Table cache_table(CacheState state, const cache::StoreStats& store,
                                const CounterTotals& totals);
// User tables, views and the like, sorted; system schemas are left out.
[[nodiscard]] Table tables_table(const std::vector<CatalogOf>& catalogs);
[[nodiscard]] Table clients_table(const std::vector<ClientRow>& rows);
[[nodiscard]] Table servers_table(const std::vector<ServerRow>& rows);
[[nodiscard]] Table feeds_table(const std::vector<freshness::FeedStatus>& feeds,
                                freshness::Publish wanted);
[[nodiscard]] Table redis_table(const std::vector<RedisRow>& rows);
[[nodiscard]] Table config_table(const std::vector<ConfigRow>& rows);

// Why no statement that reads this relation is cached; Reason::kNone when it may be.
[[nodiscard]] Reason why_not_cached(const query::Relation& relation);

}  // namespace pgfresh::console
