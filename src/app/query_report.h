// What the workers have counted for each query, summed; SHOW QUERIES, and what DOCTOR and EXPLAIN
// CACHE want to know of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/domains.h"
#include "console/reports.h"
#include "proxy/query_stats.h"

namespace pgfresh::app {

// One worker's share, copied on its own loop.
struct QueryShare {
  std::vector<proxy::QueryStat> stats;
  uint64_t dropped_queries = 0;
  proxy::QueryCounts dropped;
};

// One query, over all workers.
struct QuerySum {
  proxy::QueryStat stat;
  // Of the write log (control loop): answers that events have freed, and the last of these.
  freshness::WriteLog::Query writes;
  std::string writes_table;  // its table; "DDL"; empty: none
};

struct QuerySums {
  std::vector<QuerySum> queries;
  uint64_t dropped_queries = 0;
  proxy::QueryCounts dropped;

  // Null: not remembered. `domain` null: any.
  [[nodiscard]] const QuerySum* find(uint64_t id, const freshness::Domain* domain) const;
};

// Control loop only, because of the write log.
[[nodiscard]] QuerySums sum_queries(const std::vector<QueryShare>& shares);

// "label: object, object; label". Empty without causes.
[[nodiscard]] std::string causes_text(const std::vector<query::Cause>& causes);

// `unix_s`: from a loop's nanoseconds.
[[nodiscard]] std::vector<console::QueryRow> query_rows(
    const QuerySums& sums, const std::function<int64_t(int64_t loop_ns)>& unix_s);

}  // namespace pgfresh::app
