#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "query/statement.h"

namespace pgfresh::query {
namespace {

std::shared_ptr<const Statement> analyzed(std::string_view text) { return analyze(text, 16384); }

TEST_CASE("which database must be without connections for it") {
  CHECK(analyzed("drop database if exists \"Clinic\"")->vacant_database == "Clinic");
  CHECK(analyzed("DROP DATABASE clinic WITH (FORCE)")->vacant_database == "clinic");
  CHECK(analyzed("alter database clinic rename to hospital")->vacant_database == "clinic");
  CHECK(analyzed("alter database clinic set tablespace fast")->vacant_database == "clinic");
  CHECK(analyzed("create database copy with owner me template clinic")->vacant_database ==
        "clinic");
  CHECK(analyzed("create database fresh")->vacant_database == "template1");
  CHECK(analyzed("alter database clinic set work_mem = '1MB'")->vacant_database.empty());
  CHECK(analyzed("alter table clinic rename to hospital")->vacant_database.empty());
}

TEST_CASE("kinds of statements") {
  struct Case {
    std::string_view text;
    Kind kind;
  };
  const std::vector<Case> cases = {
      {"", Kind::kEmpty},
      {" ; -- nothing", Kind::kEmpty},
      {"select 1", Kind::kSelect},
      {"values (1), (2)", Kind::kSelect},
      {"table users", Kind::kSelect},
      {"with a as (select 1) select * from a;", Kind::kSelect},
      {"begin", Kind::kBegin},
      {"start transaction read only", Kind::kBegin},
      {"commit", Kind::kCommit},
      {"end work", Kind::kCommit},
      {"commit and no chain", Kind::kCommit},
      {"commit and chain", Kind::kSession},
      {"rollback", Kind::kRollback},
      {"abort", Kind::kRollback},
      {"rollback and chain", Kind::kSession},
      {"rollback to savepoint a", Kind::kSavepoint},
      {"savepoint a", Kind::kSavepoint},
      {"release a", Kind::kSavepoint},
      {"prepare transaction 'x'", Kind::kSession},
      {"commit prepared 'x'", Kind::kSession},
      {"insert into t values (1)", Kind::kWrite},
      {"update t set a = 1", Kind::kWrite},
      {"delete from t", Kind::kWrite},
      {"merge into t using u on t.a = u.a when matched then do nothing", Kind::kWrite},
      {"truncate t, u cascade", Kind::kWrite},
      {"copy t from stdin", Kind::kWrite},
      {"copy (select 1) to stdout", Kind::kWrite},
      {"show pgfresh.last", Kind::kShowLast},
      {"SHOW PgFresh.Last", Kind::kShowLast},
      {"show search_path", Kind::kShow},
      {"explain select 1", Kind::kShow},
      {"explain (analyze) select 1", Kind::kSession},
      {"explain analyze delete from t", Kind::kSession},
      {"listen a", Kind::kNotify},
      {"unlisten *", Kind::kNotify},
      {"notify a, 'b'", Kind::kNotify},
      {"deallocate a", Kind::kDeallocate},
      {"prepare a as select 1", Kind::kDeallocate},
      {"execute a", Kind::kDeallocate},
      {"discard all", Kind::kDeallocate},
      {"set search_path = a", Kind::kSession},
      {"set local role x", Kind::kSession},
      {"reset all", Kind::kSession},
      {"do $$ begin end $$", Kind::kSession},
      {"call p()", Kind::kSession},
      {"lock table t", Kind::kSession},
      {"declare c cursor for select 1", Kind::kSession},
      {"fetch 10 from c", Kind::kSession},
      {"vacuum", Kind::kSession},
      {"load 'x'", Kind::kSession},
      {"alter system set a = 1", Kind::kSession},
      {"create temp table t (a int)", Kind::kDdl},
      {"create table t as select 1", Kind::kDdl},
      {"alter table t add a int", Kind::kDdl},
      {"drop view v", Kind::kDdl},
      {"grant select on t to u", Kind::kDdl},
      {"revoke all on t from u", Kind::kDdl},
      {"comment on table t is 'x'", Kind::kDdl},
      {"refresh materialized view v", Kind::kDdl},
      {"create index on t (a)", Kind::kDdl},
      {"alter table t rename to u", Kind::kDdl},
      {"select 1; select 2", Kind::kMany},
      {"begin; commit", Kind::kMany},
      {"selec 1", Kind::kUnknown},
      {"select 'open", Kind::kUnknown},
  };
  for (const Case& each : cases) {
    CAPTURE(each.text);
    const auto statement = analyzed(each.text);
    CHECK(statement->kind == each.kind);
    CHECK(statement->reasons.empty() == (each.kind == Kind::kSelect));
    CHECK(statement->text == each.text);
  }
}

TEST_CASE("what BEGIN asks for") {
  struct Case {
    std::string_view text;
    Isolation isolation;
    bool deferrable;
  };
  const std::vector<Case> cases = {
      {"begin", Isolation::kDefault, true},
      {"begin read only", Isolation::kDefault, true},
      {"start transaction read write, not deferrable", Isolation::kDefault, true},
      {"begin isolation level read committed", Isolation::kReadCommitted, true},
      {"begin isolation level read committed read only deferrable", Isolation::kReadCommitted,
       true},
      {"begin isolation level read uncommitted", Isolation::kOther, false},
      {"begin isolation level repeatable read", Isolation::kOther, false},
      {"begin isolation level serializable", Isolation::kOther, false},
      {"begin isolation level serializable, isolation level read committed", Isolation::kOther,
       false},
  };
  for (const Case& each : cases) {
    CAPTURE(each.text);
    const auto statement = analyzed(each.text);
    REQUIRE(statement->kind == Kind::kBegin);
    CHECK(statement->isolation == each.isolation);
    CHECK(statement->deferrable_begin == each.deferrable);
  }
}

TEST_CASE("what DEALLOCATE and DISCARD drop") {
  CHECK(analyzed("deallocate all")->deallocates_all);
  CHECK(analyzed("deallocate prepare all")->deallocates_all);
  CHECK(analyzed("discard all")->deallocates_all);
  CHECK_FALSE(analyzed("discard plans")->deallocates_all);
  CHECK_FALSE(analyzed("discard temp")->deallocates_all);
  CHECK(analyzed("deallocate \"Foo\"")->deallocated_name == "Foo");
  CHECK_FALSE(analyzed("deallocate foo")->deallocates_all);
  CHECK(analyzed("select 1; deallocate foo")->deallocates_all);
  CHECK_FALSE(analyzed("select 1; select 2")->deallocates_all);
}

TEST_CASE("what makes a table of a query's rows") {
  for (const std::string_view text :
       {"create table t as select 1", "create temp table t as execute s", "select 1 into t",
        "create materialized view v as select 1", "select 1 into t union select 2",
        "begin; create table t as select 1; commit", "explain analyze create table t as select 1",
        "explain (analyze, costs off) select 1 into t"}) {
    CAPTURE(text);
    CHECK(analyzed(text)->makes_table);
  }
  for (const std::string_view text :
       {"create table t (a int)", "select 1", "insert into t select 1", "select 1; select 2",
        "explain create table t as select 1", "explain select 1 into t"}) {
    CAPTURE(text);
    CHECK_FALSE(analyzed(text)->makes_table);
  }
}

TEST_CASE("texts that are not parsed") {
  const std::string longer(200, ' ');
  const auto too_long = analyze("select 1" + longer, 100);
  CHECK(too_long->kind == Kind::kUnknown);
  CHECK(too_long->reasons == std::vector{Reason::kTooLong});
  CHECK(analyze("select 1" + longer, 208)->kind == Kind::kSelect);

  const auto nul = analyzed(std::string_view("select 1\0", 9));
  CHECK(nul->kind == Kind::kUnknown);
  CHECK(nul->reasons == std::vector{Reason::kUnparsable});

  // Not UTF-8; a word with letters beyond ASCII; a run the scanner would be slow on.
  CHECK_FALSE(analyzed("select '\xff\xfe' from t")->reasons.empty());
  CHECK(analyzed("select É from t")->reasons == std::vector{Reason::kSyntax});
  CHECK(analyzed("select 'É' from t")->reasons.empty());
  CHECK(analyzed("select \"É\" from t")->reasons.empty());
  CHECK(analyzed("select U&'a' from t")->reasons == std::vector{Reason::kSyntax});
  CHECK(analyzed("select " + std::string(2000, '-'))->kind == Kind::kUnknown);
}

// Sixteen kilobytes of everything that nests. What matters is that it ends, soon, and unharmed.
TEST_CASE("hostile texts") {
  const auto repeated = [](std::string head, std::string_view middle, std::string_view tail) {
    while (head.size() + middle.size() + tail.size() <= 16384) head += middle;
    return head.append(tail);
  };
  const auto nested = [](std::string head, std::string_view open, std::string_view close) {
    const size_t depth = (16384 - head.size() - 1) / (open.size() + close.size());
    for (size_t i = 0; i < depth; ++i) head += open;
    head += "1";
    for (size_t i = 0; i < depth; ++i) head += close;
    return head;
  };
  for (const std::string& text :
       {repeated("select ", "(", ""), repeated("select 1", "+1", ""),
        repeated("select ", "not ", "a"), repeated("select a", "||a", ""),
        repeated("select 1", " union select 1", ""), repeated("select a", "::a", ""),
        repeated("select ", "/*", ""), repeated("select ", "+-", "1"),
        repeated("select ", "- ", "1"), repeated("select '", "'' ", "'"),
        repeated("select a from b", " join b on c", ""), nested("select ", "(select ", ")"),
        nested("select ", "case when a then ", " end"), nested("select array", "[", "]"),
        nested("select ", "exists(select ", ")"), nested("", "with a as (select ", ") select 1")}) {
    const auto statement = analyzed(text);
    CHECK((statement->kind == Kind::kUnknown || statement->kind == Kind::kSelect));
  }
}

TEST_CASE("too deep to look into") {
  std::string sql = "select 1";
  for (int i = 0; i < 2000; ++i) sql += "+1";
  const auto statement = analyzed(sql);
  CHECK(statement->kind == Kind::kUnknown);
  CHECK(statement->reasons == std::vector{Reason::kSyntax});
}

TEST_CASE("deeply nested, and still understood") {
  std::string sql = "select ";
  for (int i = 0; i < 100; ++i) sql += "coalesce(";
  sql += "a";
  for (int i = 0; i < 100; ++i) sql += ", 1)";
  CHECK(analyzed(sql + " from t")->reasons.empty());

  std::string wide = "select a from t where a in (1";
  for (int i = 2; i < 2000; ++i) wide += "," + std::to_string(i);
  CHECK(analyzed(wide + ")")->reasons.empty());
}

}  // namespace
}  // namespace pgfresh::query
