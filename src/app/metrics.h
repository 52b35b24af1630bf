// The page /metrics: Prometheus text format 0.0.4, from counters, store and feeds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/memory_store.h"
#include "console/tables.h"
#include "freshness/feed.h"

namespace pgfresh::app {

struct MetricsInput {
  console::CounterTotals totals;  // of all workers
  cache::StoreStats store;
  std::vector<freshness::FeedStatus> feeds;
  std::vector<console::RedisRow> redis;  // empty: there is none
  uint64_t clients = 0;                  // connected now
  std::optional<uint64_t> servers;       // connections to PostgreSQL now; nullopt: not counted
};

[[nodiscard]] std::string render_metrics(const MetricsInput& input);

}  // namespace pgfresh::app
