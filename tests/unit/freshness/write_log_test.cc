#include "freshness/write_log.h"

#include <doctest/doctest.h>

namespace pgfresh::freshness {
namespace {

TEST_CASE("events are counted for the table, freed answers for the query too") {
  WriteLog log;
  log.begin(7, WriteLog::Rows::kKnown, 100);
  log.freed(1);
  log.freed(1);
  log.begin(8, WriteLog::Rows::kUnknown, 200);
  log.freed(2);
  log.begin(7, WriteLog::Rows::kUnknown, 300);
  log.freed(2);
  REQUIRE(log.table(7) != nullptr);
  CHECK(log.table(7)->events == 2);
  CHECK(log.table(7)->whole == 1);
  CHECK(log.table(7)->freed == 3);
  CHECK(log.table(7)->last_ns == 300);
  CHECK(log.table(9) == nullptr);
  REQUIRE(log.query(2) != nullptr);
  CHECK(log.query(2)->freed == 2);
  CHECK(log.query(2)->root == 7);
  CHECK(log.query(1)->last_ns == 100);
}

TEST_CASE("the log is bounded, whatever is notified") {
  WriteLog log;
  for (Oid root = 1; root <= 2 * WriteLog::kTablesMax; ++root) {
    log.begin(root, WriteLog::Rows::kKnown, root);
    log.freed(root);
  }
  CHECK(log.tables().size() <= WriteLog::kTablesMax + 1);
  CHECK(log.query(1) == nullptr);
  CHECK(log.query(2 * WriteLog::kTablesMax) != nullptr);
}

}  // namespace
}  // namespace pgfresh::freshness
