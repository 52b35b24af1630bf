#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "catalog_fixture.h"

namespace pgfresh::query::test {
namespace {

using F = CatalogFixture;

std::vector<Oid> sorted_roots(const Verdict& verdict) {
  std::vector<Oid> roots = verdict.roots();
  std::sort(roots.begin(), roots.end());
  return roots;
}

TEST_CASE("a view counts as what it reads, through views upon views") {
  F fixture;
  fixture.view(2001, "of_view", F::reads({1030, 1002}));
  fixture.view(2002, "of_views", F::reads({2001, 1030, 2001}));
  fixture.view(2003, "of_leaf", F::reads({1021}));
  const auto catalog = fixture.build();
  const auto check = [&](std::string_view sql, const std::vector<Oid>& roots) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_MESSAGE(verdict.cacheable(), labels(verdict));
    CHECK(verdict.effect == Effect::kPureRead);
    CHECK(sorted_roots(verdict) == roots);
  };
  check("select * from plain_view", {1001});
  check("select * from of_view where id = $1", {1001, 1002});
  check("select count(*) from of_views", {1001, 1002});
  check("select * from of_leaf", {1020});
  check("select * from appointments a join plain_view v on true", {1001, 1003});
  check("select v from plain_view v", {1001});
}

TEST_CASE("what stands against anything beneath a view stands against the statement") {
  struct Case {
    std::string inside;
    Reason reason;
    Effect effect;
  };
  using enum Reason;
  constexpr Effect kRead = Effect::kPureRead;
  F made;
  made.functions("public", "us---", {"stable_one"});
  const Oid stable = made.last_oid();
  made.operators("public", "uv---", {"<<<<"});
  const Oid odd_operator = made.last_oid();
  made.functions("pg_catalog", "bs---", {"age"});
  const std::vector<Case> cases = {
      {F::reads({1010}), kNotWatched, kRead},
      {F::reads({1011}), kRowSecurity, kRead},
      {F::reads({1012}), kUnlogged, kRead},
      {F::reads({1014}), kRelationKind, kRead},
      {F::reads({1017}), kUnsafeType, kRead},
      {F::reads({1259}), kSystemTable, kRead},
      {F::reads({4711}), kUnknownTable, Effect::kChangesSession},
      {F::reads({1001}) + F::calls(stable), kUnsafeFunction, Effect::kWritesRows},
      {F::reads({1001}) + F::calls(999'999), kVolatileFunction, Effect::kChangesSession},
      {F::reads({1001}) + F::calls(1386), kTimeFunction, kRead},
      {F::reads({1001}) + ":a {OPEXPR :opno " + std::to_string(odd_operator) + "}", kUnsafeOperator,
       Effect::kChangesSession},
      {F::reads({1001}) + ":a {SQLVALUEFUNCTION :op 3}", kTimeFunction, kRead},
      {F::reads({1001}) + ":a {CONST :consttype 2205}", kUnsafeType, kRead},
      {F::reads({1001}) + ":a {COERCEVIAIO :resulttype 1082}", kTimeLiteral, kRead},
      {F::reads({1001}) + ":a {VAR :varattno -1}", kSystemColumn, kRead},
      {F::reads({1001}) + ":a {TABLEFUNC :op 1}", kSyntax, Effect::kChangesSession},
      {"broken {", kView, Effect::kChangesSession},
      {":a 1", kNoTable, kRead},
  };
  for (const Case& each : cases) {
    CAPTURE(each.inside);
    F fixture = made;
    fixture.view(2001, "odd", each.inside);
    fixture.view(2002, "upon", F::reads({2001}));
    const auto catalog = fixture.build();
    for (const std::string_view sql : {"select * from odd", "select * from upon"}) {
      const Verdict verdict = judge(sql, *catalog);
      CHECK_MESSAGE(has_reason(verdict, each.reason), labels(verdict));
      CHECK(verdict.effect == each.effect);
    }
  }
}

TEST_CASE("strings that may be turned into strings in a view do not matter") {
  F fixture;
  fixture.view(2001, "plain",
               F::reads({1001}) +
                   ":a {COERCEVIAIO :resulttype 25} "
                   ":b {VAR :vartype 2249}");
  const auto catalog = fixture.build();
  CHECK(judge("select * from plain", *catalog).cacheable());
}

TEST_CASE("a view that is not known, and views upon views without end") {
  F fixture;
  F::Table how;
  how.kind = 'v';
  fixture.table(2001, "unknown_view", {{"id", F::kInt8}}, how);
  fixture.view(2002, "itself", F::reads({2003}));
  fixture.view(2003, "and_back", F::reads({2002, 1001}));
  for (Oid oid = 3000; oid < 3100; ++oid) {
    fixture.view(oid, "v" + std::to_string(oid), F::reads({oid == 3000 ? 1001 : oid - 1}));
  }
  const auto catalog = fixture.build();
  CHECK(judge("select * from unknown_view", *catalog).reason() == Reason::kView);
  CHECK(judge("select * from unknown_view", *catalog).effect == Effect::kChangesSession);
  CHECK(judge("select * from itself", *catalog).cacheable());
  CHECK(judge("select * from v3040", *catalog).cacheable());
  CHECK(judge("select * from v3099", *catalog).reason() == Reason::kView);
}

TEST_CASE("AT TIME ZONE must not be applied to a time of day: that reads the clock") {
  F fixture;
  fixture.functions("public", "ui-z-", {"opening"});
  fixture.functions("public", "ui---", {"moment"});
  fixture.table(2001, "hours", {{"id", F::kInt8}, {"open_at", F::kTime}, {"day", F::kDate}});
  const auto catalog = fixture.build();
  for (const std::string_view sql : {
           "select created_at at time zone 'utc' from users",
           "select (created_at at time zone 'utc')::date from users",
           "select timezone('utc', created_at) from users",
           "select (created_at + interval '1 day') at time zone 'utc' from users",
           "select $1::timestamptz at time zone 'utc' from users",
           "select date_trunc('day', created_at at time zone 'utc') at time zone 'utc' from users",
           "select max(created_at) at time zone 'utc' from users",
           "select coalesce(created_at, updated_at) at time zone 'utc' from users",
           "select moment() at time zone 'utc' from users",
           "select '2020-01-01' at time zone 'utc' from users",
           "select open_at from hours",
       }) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_MESSAGE(verdict.cacheable(), labels(verdict));
  }
  for (const std::string_view sql : {
           "select open_at at time zone 'utc' from hours",
           "select h.open_at at time zone 'utc' from hours h",
           "select timezone('utc', open_at) from hours",
           "select (open_at + interval '1 hour') at time zone 'utc' from hours",
           "select $1 at time zone 'utc' from users",
           "select time '12:00' at time zone 'utc' from users",
           "select created_at::time at time zone 'utc' from users",
           "select coalesce(open_at, '12:00') at time zone 'utc' from hours",
           "select (case when true then open_at end) at time zone 'utc' from hours",
           "select max(open_at) at time zone 'utc' from hours",
           "select opening() at time zone 'utc' from users",
           "select x at time zone 'utc' from (select open_at as x from hours) s",
           "select (select open_at from hours) at time zone 'utc' from users",
       }) {
    CAPTURE(sql);
    CHECK_FALSE(judge(sql, *catalog).cacheable());
  }
}

TEST_CASE("casts to a date or time of what is followed through the statement") {
  const auto catalog = F().build();
  for (const std::string_view sql : {
           "select (case when true then created_at else updated_at end)::date from users",
           "select (select max(created_at) from users)::date from doctors",
           "select x.d::date from (select created_at as d from users) x",
           "with x as (select date_trunc('day', created_at) as created_at from users) "
           "select created_at::date from x",
           "with recursive t as (select created_at as d, id from users union all "
           "select d + interval '1 day' as d, id from t) select d::date from t",
           "select a.d::date from (select b.d as d from (select updated_at as d from users) b) a",
       }) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_MESSAGE(verdict.cacheable(), labels(verdict));
  }
  for (const std::string_view sql : {
           "select (case when true then created_at::text else 'x' end)::date from users",
           "select (case when true then email end)::date from users",
           "select (select max(email) from users)::date from doctors",
           "select (select email from users union select email from users)::date from doctors",
           "select exists(select created_at from users)::text::date from users",
           "select x.d::date from (select email as d from users) x",
           "select x.d::date from (select created_at as d from users union all "
           "select email as d from users) x",
           "select a.d::date from (select b.d as d from (select email as d from users) b) a",
           "select x.d::date from (select created_at as c from users) x(d)",
       }) {
    CAPTURE(sql);
    CHECK_FALSE(judge(sql, *catalog).cacheable());
  }
}

TEST_CASE("what reads PostGIS's table of projections depends on it") {
  const auto add = [](F& fixture, const char* watched) {
    F::Table how;
    how.watched = watched;
    fixture.table(2100, "spatial_ref_sys", {{"srid", F::kInt4}, {"srtext", F::kText}}, how);
    fixture.functions("public", "ei---", {"st_transform", "st_area", "st_x"});
    fixture.functions("public", "gi---", {"st_area", "st_project"});
    fixture.operators("public", "gi---", {"<~>"});
    fixture.type(90010, "public", "geometry", 'b', "ei-", 0, 0);
    fixture.table(2101, "shapes", {{"id", F::kInt8}, {"geom", 90010}});
  };
  F watched;
  add(watched, "true");
  watched.view(2111, "ordered",
               F::reads({2101}) + ":a {OPEXPR :opno " + std::to_string(watched.last_oid()) + "}");
  watched.functions("public", "gi---", {"st_along"});
  watched.view(2110, "projected", F::reads({2101}) + F::calls(watched.last_oid()));
  const auto catalog = watched.build();
  const auto roots = [&](std::string_view sql) { return sorted_roots(judge(sql, *catalog)); };
  CHECK(roots("select st_transform(geom, 4326) from shapes") == std::vector<Oid>{2100, 2101});
  CHECK(roots("select st_area(geom) from shapes") == std::vector<Oid>{2101});
  CHECK(roots("select st_area(geo) from places") == std::vector<Oid>{1004, 2100});
  CHECK(roots("select st_area(geom::geography) from shapes") == std::vector<Oid>{2100, 2101});
  CHECK(roots("select st_project(geom, 1, 2) from shapes") == std::vector<Oid>{2100, 2101});
  CHECK(roots("select st_x(geom) from shapes") == std::vector<Oid>{2101});
  CHECK(roots("select id from places order by geo <~> $1") == std::vector<Oid>{1004, 2100});
  CHECK(roots("select id from shapes order by geom <~> $1") == std::vector<Oid>{2101});
  CHECK(roots("select * from ordered") == std::vector<Oid>{2100, 2101});
  CHECK(roots("select * from projected") == std::vector<Oid>{2100, 2101});
  F unwatched;
  add(unwatched, "false");
  CHECK(judge("select st_transform(geom, 4326) from shapes", *unwatched.build()).reason() ==
        Reason::kNotWatched);
  CHECK(judge("select st_area(geom) from shapes", *unwatched.build()).cacheable());
}

}  // namespace
}  // namespace pgfresh::query::test
