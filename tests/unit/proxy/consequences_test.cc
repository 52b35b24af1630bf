#include "proxy/consequences.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "query/statement.h"

namespace pgfresh::proxy {
namespace {

Consequences of(std::string_view text) { return consequences_of(*query::analyze(text, 65536)); }

}  // namespace

TEST_CASE("a query only answers, unless it makes a table or sets something") {
  CHECK(of("SELECT 1").only_answers);
  CHECK(of("SELECT a FROM t WHERE id = $1").only_answers);
  CHECK(of("TABLE t").only_answers);
  CHECK(of("SELECT 'deallocate discard prepare reset call statement_timeout'").only_answers);
  for (const char* text :
       {"SELECT 1 INTO t", "SELECT set_config('app.a', 'b', false)", "SELECT 1; SELECT 2",
        "INSERT INTO t VALUES (1)", "BEGIN", "COMMIT", "SET a.b = 'c'", "", "SHOW search_path"}) {
    CAPTURE(text);
    CHECK_FALSE(of(text).only_answers);
  }
}

TEST_CASE("what a text may do to prepared statements") {
  CHECK(of("DEALLOCATE a").speaks_of_statements);
  CHECK(of("DISCARD ALL").speaks_of_statements);
  CHECK(of("EXECUTE a").speaks_of_statements);
  CHECK(of("SELECT 1; EXECUTE a").speaks_of_statements);
  CHECK_FALSE(of("SELECT 'execute'").speaks_of_statements);
  CHECK(of("PREPARE a AS SELECT 1").may_prepare);
  CHECK(of("SELECT 1; PREPARE a AS SELECT 1").may_prepare);
  CHECK(of("cannot be parsed: prepare").may_prepare);
  CHECK_FALSE(of("PREPARE TRANSACTION 'a'").may_prepare);
  CHECK_FALSE(of("EXECUTE prepare").may_prepare);
  CHECK(of("SELECT * FROM pg_prepared_statements").concerns_statements);
  CHECK(of("SELECT * FROM pg_prepared_statement()").concerns_statements);
  CHECK_FALSE(of("SELECT 1").concerns_statements);
}

TEST_CASE("what a text may do to settings") {
  CHECK(of("SET search_path = a").may_change_parsing);
  CHECK(of("DO 'BEGIN END'").may_change_parsing);
  CHECK(of("SELECT 1; SELECT 2").may_change_parsing);
  CHECK_FALSE(of("SET app.tenant = '7'").may_change_parsing);
  CHECK_FALSE(of("SELECT 1").may_change_parsing);
  CHECK(of("RESET ALL").may_reset_settings);
  CHECK(of("DISCARD ALL").may_reset_settings);
  CHECK_FALSE(of("SELECT 'reset'").may_reset_settings);
  CHECK(of("DO $$ BEGIN PERFORM set_config('statement_timeout', '1', false); END $$")
            .may_set_time_limit);
  CHECK_FALSE(of("SET statement_timeout = 5").may_set_time_limit);  // it is known to what
  CHECK(of("SET pgfresh.inband = off").speaks_of_inband);
  CHECK(of("SET pgfresh . \"inband\" = off").speaks_of_inband);
  CHECK_FALSE(of("SET pgfresh.mode = off").speaks_of_inband);
}

TEST_CASE("what a text may do to the block it is in") {
  CHECK(of("BEGIN").may_change_block);
  CHECK(of("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").may_change_block);
  CHECK(of("COMMIT AND CHAIN").may_change_block);
  CHECK(of("SET transaction_isolation = 'serializable'").may_change_block);
  CHECK(of("not to be parsed").may_change_block);
  CHECK_FALSE(of("SET search_path = a").may_change_block);
  CHECK_FALSE(of("COMMIT").may_change_block);
  CHECK(of("CALL p()").may_commit_within);
  CHECK(of("DO 'BEGIN COMMIT; END'").may_commit_within);
  CHECK(of("INSERT INTO t VALUES (1); COMMIT; SELECT 1").may_commit_within);
  CHECK(of("not to be parsed").may_commit_within);
  CHECK_FALSE(of("INSERT INTO t VALUES (1); PREPARE TRANSACTION 'a'").may_commit_within);
  CHECK_FALSE(of("INSERT INTO t VALUES (1)").may_commit_within);
  CHECK_FALSE(of("SET search_path = a").may_commit_within);
  // Whatever the scanner makes of them.
  CHECK(of("CALL p(N'x')").may_commit_within);
  CHECK(of(" CALL p(U&'x')").may_commit_within);
  CHECK(of("DO U&'BEGIN COMMIT; END'").may_commit_within);
}

}  // namespace pgfresh::proxy
