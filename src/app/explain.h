// EXPLAIN CACHE: everything pgfresh knows about one statement, as rows. Pure: facts in, rows out.
// Who gathers the facts, and on which thread, is console_reports.cc's business.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/audit_sql.h"
#include "app/query_report.h"
#include "cache/entry.h"
#include "console/reports.h"
#include "freshness/domain.h"
#include "proxy/scope.h"
#include "proxy/settings.h"
#include "query/statement.h"

namespace pgfresh::app {

struct ExplainFacts {
  const freshness::Domain* domain = nullptr;  // never null
  std::string server;                         // host and port
  proxy::Settings settings;
  std::string assumed;  // whose settings are taken: "session 17 of anna", "defaults of anna"
  std::vector<proxy::ScopePart> scope;  // what they are
  int64_t max_age_ms = 0;               // pgfresh.max_age of these; 0: not set
  std::shared_ptr<const query::Statement> statement;
  std::shared_ptr<const query::Catalog> catalog;  // null: not loaded
  std::optional<query::Verdict> verdict;          // none without a catalog
  // The entry of an execution in text format without parameters; found under `entry_scopes` scopes.
  cache::EntryRef entry;
  size_t entry_scopes = 0;
  std::optional<QuerySum> sum;  // none: nobody has asked lately
  bool second_level = false;    // there is one
  std::string audit_error;
  std::vector<AuditLine> audit;
  int64_t now_ns = 0;
  int64_t unix_offset_ns = 0;
};

[[nodiscard]] std::vector<console::ExplainRow> explain(const ExplainFacts& facts);

}  // namespace pgfresh::app
