// DOCTOR: what the audit of a database (audit_sql.h), its feed and the statistics of its queries
// say together; and what is to be said of Redis. Pure: facts in, findings out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/audit_sql.h"
#include "app/query_report.h"
#include "console/reports.h"
#include "console/tables.h"
#include "freshness/feed.h"

namespace pgfresh::app {

struct DoctorFacts {
  std::string database;
  std::string control_user;                   // of upstream.url
  std::string audit_error;                    // not empty: PostgreSQL was not to be asked
  std::vector<AuditLine> audit;               // else what it said
  std::optional<freshness::FeedStatus> feed;  // none: no client has used the database
  int64_t staleness_ms = 0;                   // freshness.staleness
  bool cache_on = true;
  bool triggers_notify = true;  // in proxied sessions: nobody publishes for them
  // What bypasses asked for: of each table, by "schema.table", how many calls.
  struct Asked {
    std::string table;
    uint64_t calls = 0;
  };
  std::vector<Asked> asked;
  double unix_s = 0;  // the time of day here
};

[[nodiscard]] std::vector<console::Finding> diagnose(const DoctorFacts& facts);

// Of the second level, one finding for all its connections. None without rows: there is no Redis.
[[nodiscard]] std::vector<console::Finding> diagnose_redis(
    const std::vector<console::RedisRow>& connections);

// Tables that stood against queries of `domain`, and how often.
[[nodiscard]] std::vector<DoctorFacts::Asked> asked_tables(const QuerySums& sums,
                                                           const freshness::Domain& domain);

}  // namespace pgfresh::app
