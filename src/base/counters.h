// What pgfresh counts: one table, from which the metrics page, SHOW STATS and the manual derive.
// Each worker has a set of its own, written by its thread alone and summed by whoever asks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pgfresh/reason.h"

namespace pgfresh {

// X(enumerator, metric name behind "pgfresh_", help)
#define PGFRESH_COUNTERS(X)                                                                        \
  X(kHitsL1, "hits_total", "statements answered from the cache")                                   \
  X(kHitsL2, "hits_total", "statements answered from the cache")                                   \
  X(kDescriptionHits, "description_hits_total", "Describe of a statement answered from the cache") \
  X(kMisses, "misses_total", "statements looked up and not found")                                 \
  X(kFills, "fills_total", "answers stored")                                                       \
  X(kFillsDropped, "fills_dropped_total", "answers recorded and not stored")                       \
  X(kStaleFound, "stale_found_total", "entries found and refused because a write had come")        \
  X(kFlightsLed, "flights_led_total", "fetches that others could wait for")                        \
  X(kFlightsJoined, "flights_joined_total", "readers that waited for another's fetch")             \
  X(kFlightsTimedOut, "flights_timed_out_total", "readers that waited too long and went alone")    \
  X(kRemoteAsked, "l2_lookups_total", "look-ups in the second level")                              \
  X(kRemoteFound, "l2_found_total", "of those, that brought an entry of use")                      \
  X(kRemoteRefused, "l2_refused_total",                                                            \
    "of those, that brought an entry of another key or stamp, expired or malformed")               \
  X(kRemoteTimedOut, "l2_timed_out_total", "of those, that took longer than redis.budget")         \
  X(kRemoteFailed, "l2_failed_total", "of those, that failed")                                     \
  X(kRemoteSkipped, "l2_skipped_total", "look-ups left out because they would not pay")            \
  X(kRemotePuts, "l2_puts_total", "answers handed to the second level")                            \
  X(kFleetWaits, "l2_fleet_waits_total", "look-ups that waited for another proxy's fetch")         \
  X(kQueries, "queries_total", "simple queries and executes received")                             \
  X(kTransactions, "transactions_total", "transactions ended")                                     \
  X(kLocalBlocks, "local_blocks_total", "transaction blocks that never reached PostgreSQL")        \
  X(kBytesFromClients, "client_received_bytes_total", "bytes received from clients")               \
  X(kBytesToClients, "client_sent_bytes_total", "bytes sent to clients")                           \
  X(kBytesFromServers, "server_received_bytes_total", "bytes received from PostgreSQL")            \
  X(kBytesToServers, "server_sent_bytes_total", "bytes sent to PostgreSQL")                        \
  X(kHitBytes, "hit_bytes_total", "bytes sent to clients from the cache")                          \
  X(kSavedNs, "saved_nanoseconds_total",                                                           \
    "what PostgreSQL took to make the answers that hits gave")                                     \
  X(kClientsAccepted, "clients_accepted_total", "client connections accepted")                     \
  X(kClientsRefused, "clients_refused_total", "client connections refused by a limit")             \
  X(kLogins, "logins_total", "sessions that logged in")                                            \
  X(kLoginsFailed, "logins_failed_total", "sessions that ended before they had logged in")         \
  X(kServersOpened, "servers_opened_total", "connections to PostgreSQL made")                      \
  X(kServersFailed, "servers_failed_total",                                                        \
    "connections to PostgreSQL that could not be made or broke")                                   \
  X(kProtocolErrors, "protocol_errors_total", "sessions ended by bytes that are not the protocol") \
  X(kCancels, "cancels_total", "cancel requests passed on")                                        \
  X(kNotices, "inband_notices_total", "in-band notices received")                                  \
  X(kCarried, "carried_total", "ends of transactions whose events pgfresh publishes")              \
  X(kNoticesBroken, "inband_notices_broken_total", "in-band notices that could not be read")       \
  X(kProbes, "settings_probes_total", "times a session's settings were read")                      \
  X(kSettingsFollowed, "settings_followed_total",                                                  \
    "changes of settings that needed no reading afterwards")                                       \
  X(kDdlSeen, "ddl_seen_total", "command tags of DDL seen on the wire")                            \
  X(kMemoHits, "memo_hits_total", "query texts already analysed")                                  \
  X(kMemoMisses, "memo_misses_total", "query texts analysed")                                      \
  X(kPatternHits, "pattern_hits_total",                                                            \
    "of those, texts that differed from others in their constants only, and were not parsed")      \
  X(kRedisRequests, "redis_requests_total", "commands sent to Redis")                              \
  X(kRedisAnswers, "redis_answers_total", "of those, answered within the budget")                  \
  X(kRedisWaitNs, "redis_wait_nanoseconds_total", "what these answers took")                       \
  X(kRedisTimeouts, "redis_timeouts_total", "commands not answered within the budget")             \
  X(kRedisNotAsked, "redis_not_asked_total",                                                       \
    "commands not sent: Redis was away or slow, or too much was under way")                        \
  X(kRedisConnects, "redis_connects_total", "connections to Redis made")                           \
  X(kRedisBreaks, "redis_breaks_total", "connections to Redis that broke or were given up")        \
  X(kRedisTrips, "redis_trips_total", "times the circuit breaker opened")                          \
  X(kRedisBytesSent, "redis_sent_bytes_total", "bytes sent to Redis")                              \
  X(kRedisBytesReceived, "redis_received_bytes_total", "bytes received from Redis")                \
  X(kRedisStored, "redis_entries_stored_total", "entries sent to Redis")                           \
  X(kRedisBroken, "redis_entries_broken_total", "entries in Redis that could not be read")         \
  X(kRedisFreed, "redis_entries_freed_total", "entries removed from Redis because a write had come")

enum class Counter : uint8_t {
#define PGFRESH_COUNTER_ENUM(name, metric, help) name,
  PGFRESH_COUNTERS(PGFRESH_COUNTER_ENUM)
#undef PGFRESH_COUNTER_ENUM
};

inline constexpr size_t kCounterCount = 0
#define PGFRESH_COUNTER_COUNT(name, metric, help) +1
    PGFRESH_COUNTERS(PGFRESH_COUNTER_COUNT)
#undef PGFRESH_COUNTER_COUNT
    ;

class Counters {
 public:
  // Owner's thread only: a plain load and store, no locked instruction.
  void add(Counter counter, uint64_t amount = 1) {
    bump(values_[static_cast<size_t>(counter)], amount);
  }
  void add_bypass(Reason reason) { bump(bypasses_[static_cast<size_t>(reason)], 1); }

  // Any thread.
  [[nodiscard]] uint64_t get(Counter counter) const {
    return values_[static_cast<size_t>(counter)].load(std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t bypasses(Reason reason) const {
    return bypasses_[static_cast<size_t>(reason)].load(std::memory_order_relaxed);
  }

 private:
  static void bump(std::atomic<uint64_t>& value, uint64_t amount) {
    value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, kCounterCount> values_{};
  std::array<std::atomic<uint64_t>, kReasonCount> bypasses_{};
};

}  // namespace pgfresh
