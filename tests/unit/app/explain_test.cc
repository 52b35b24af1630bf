#include "app/explain.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "unit/query/catalog_fixture.h"

namespace pgfresh::app {
namespace {

using query::test::CatalogFixture;

struct Stage {
  freshness::Domain domain{"care", 8, uint64_t{1} << 63};
  ExplainFacts facts;

  explicit Stage(std::string_view sql) {
    domain.set_lease(2000);
    domain.set_trouble(Reason::kNone);
    facts.domain = &domain;
    facts.server = "db:5432";
    facts.now_ns = 1000;
    facts.assumed = "somebody's";
    facts.scope = {{"database", "care"}, {"session_user", "ann"}, {"TimeZone", "UTC"}};
    facts.statement = query::analyze(sql, 16384);
    facts.catalog = CatalogFixture().build();
    facts.verdict = query::resolve(*facts.statement, *facts.catalog, query::test::kPath);
  }

  // "value" or "value|detail" of the rows of that item.
  [[nodiscard]] std::vector<std::string> said(std::string_view item) const {
    std::vector<std::string> found;
    for (const console::ExplainRow& row : explain(facts)) {
      if (row.item == item) {
        found.push_back(row.value + (row.detail.empty() ? "" : "|" + row.detail));
      }
    }
    return found;
  }
};

std::vector<std::string> values(std::string_view one) { return {std::string(one)}; }

TEST_CASE("explain: what is cacheable, and its key") {
  Stage stage("SELECT * FROM doctors WHERE id = $1 AND '$9' <> \"$8\"");
  CHECK(stage.said("cacheable")[0].starts_with("yes"));
  CHECK(stage.said("reason").empty());
  CHECK(stage.said("now")[0].starts_with("ready"));
  CHECK(stage.said("key.server") == values("db:5432"));
  CHECK(stage.said("key.session_user") == values("ann"));
  CHECK(stage.said("key.TimeZone") == values("UTC"));
  CHECK(stage.said("key.database").size() == 1);
  CHECK(stage.said("key.parameters")[0].starts_with("$1|"));
  CHECK(stage.said("entry")[0].starts_with("per value"));
  CHECK(stage.said("table") == values("public.doctors|watched"));
  CHECK(stage.said("ttl") == values("300000 ms|cache.ttl"));
  CHECK(stage.said("query.calls")[0].starts_with("0|"));
}

TEST_CASE("explain: every reason, with its object and a line for people") {
  const Stage stage("SELECT now(), random() FROM nowhere");
  CHECK(stage.said("cacheable")[0].starts_with("no"));
  const auto reasons = stage.said("reason");
  REQUIRE(reasons.size() == 3);
  CHECK(reasons[0].starts_with("unknown_table|nowhere: "));
  CHECK(reasons[1].starts_with("time_function|now: "));
  CHECK(reasons[2].starts_with("volatile_function|random: "));
}

TEST_CASE("explain: what stands against hits now") {
  Stage stage("SELECT * FROM doctors");
  stage.domain.set_trouble(Reason::kNotInstalled);
  stage.domain.set_lease(0);
  CHECK(stage.said("now")[0].starts_with("not_installed|"));
  stage.domain.set_trouble(Reason::kNone);
  CHECK(stage.said("now")[0].starts_with("no_lease|"));
  stage.facts.settings.cache_mode = proxy::CacheMode::kOff;
  CHECK(stage.said("now")[0].starts_with("off|"));
}

TEST_CASE("explain: without a catalog the text alone is judged") {
  Stage stage("SELECT * FROM doctors");
  stage.facts.catalog = nullptr;
  stage.facts.verdict.reset();
  CHECK(stage.said("cacheable")[0].starts_with("unknown|"));
  CHECK(stage.said("now")[0].starts_with("no_catalog|"));
  Stage broken("SELEC");
  broken.facts.catalog = nullptr;
  broken.facts.verdict.reset();
  CHECK(broken.said("cacheable")[0].starts_with("no|"));
  CHECK(broken.said("reason")[0].starts_with("unparsable|syntax error at or near \"SELEC\": "));
}

TEST_CASE("explain: the entry is judged as a hit would judge it") {
  Stage stage("SELECT * FROM doctors");
  const query::Oid root = stage.facts.verdict->roots().at(0);
  const std::vector<uint32_t> slots{stage.domain.tokens().slot_of(freshness::any_tag(root))};
  freshness::Stamp stamp;
  REQUIRE(freshness::capture(stage.domain.tokens(), slots, stamp));
  stage.facts.entry =
      cache::Entry::make({.key = {}, .stamp = stamp, .body = {}, .expires_ns = 5'000'000});
  stage.facts.entry->hits = 3;
  stage.facts.entry_scopes = 2;
  CHECK(stage.said("entry")[0].starts_with("fresh|one of 2"));
  CHECK(stage.said("entry.hits") == values("3"));
  CHECK(stage.said("depends_on")[0].find("being written") == std::string::npos);
  stage.domain.tokens().open(slots[0]);
  CHECK(stage.said("entry")[0].starts_with("open"));
  CHECK(stage.said("depends_on")[0].find("being written") != std::string::npos);
  stage.domain.tokens().close(slots[0]);
  stage.facts.now_ns = 5'000'000;
  CHECK(stage.said("entry")[0].starts_with("expired"));
  stage.domain.tokens().touch(slots[0], 7);
  CHECK(stage.said("entry")[0].starts_with("stale"));
}

TEST_CASE("explain: a hint's lifetime, and the session's") {
  Stage stage("/* pgfresh: ttl=2s */ SELECT * FROM doctors");
  stage.facts.max_age_ms = 500;
  CHECK(stage.said("ttl") == values("2000 ms|the hint in the statement"));
  CHECK(stage.said("max_age")[0].starts_with("500 ms"));
}

TEST_CASE("explain: what was counted of the query") {
  Stage stage("SELECT * FROM doctors");
  QuerySum sum;
  sum.stat.counts.hits_l1 = 4;
  sum.stat.counts.stale = 1;
  sum.stat.hit_ns = 1'000'000'000;
  sum.writes = {2, 7, 2'000'000'000};
  sum.writes_table = "public.doctors";
  stage.facts.sum = sum;
  CHECK(stage.said("query.calls") == values("4"));
  CHECK(stage.said("query.last_hit") == values("1970-01-01 00:00:01 UTC"));
  CHECK(stage.said("query.invalidations") == values("3"));
  CHECK(stage.said("query.last_invalidation") ==
        values("1970-01-01 00:00:02 UTC|by public.doctors"));
}

TEST_CASE("explain: whether the second level is asked, and why") {
  Stage stage("SELECT * FROM doctors");
  stage.facts.second_level = true;
  CHECK(stage.said("second_level").empty());  // nobody has asked the query
  QuerySum sum;
  stage.facts.sum = sum;
  CHECK(stage.said("second_level") == values("asked|nothing has been measured yet"));
  for (int i = 0; i < 20; ++i) {
    sum.stat.remote.upstream_took(2'000'000);
    sum.stat.remote.found(500'000);
  }
  stage.facts.sum = sum;
  CHECK(stage.said("second_level") ==
        values("asked|a look-up takes 500 us, PostgreSQL 2000 us; 100 % of the last look-ups were "
               "hits"));
  CHECK(stage.said("second_level.lookups") == values("20"));
  for (int i = 0; i < 40; ++i) sum.stat.remote.not_found(500'000);
  CHECK(sum.stat.remote.advise(0) == proxy::RemoteCost::Advice::kSkip);
  stage.facts.sum = sum;
  CHECK(stage.said("second_level")[0].starts_with("tried now and then|it does not pay"));
  CHECK(stage.said("second_level.lookups") == values("60|1 left out"));
  stage.facts.settings.remote_ask = proxy::RemoteAsk::kAlways;
  CHECK(stage.said("second_level")[0].starts_with("asked|redis.ask = always"));
  stage.facts.second_level = false;
  CHECK(stage.said("second_level").empty());
}

}  // namespace
}  // namespace pgfresh::app
