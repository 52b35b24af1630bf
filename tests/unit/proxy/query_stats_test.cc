#include "proxy/query_stats.h"

#include <doctest/doctest.h>

#include <string>

namespace pgfresh::proxy {
namespace {

freshness::Domain& shop() {
  static freshness::Domain domain("shop", 4, uint64_t{1} << 63);
  return domain;
}

TEST_CASE("texts that differ in constants share their statistics, databases do not") {
  QueryStats stats;
  QueryStatRef one;
  QueryStatRef other;
  stats.of(one, *query::analyze("select a from t where id = 1", 1000), &shop()).miss(10);
  stats.of(other, *query::analyze("select a from t where id = 2", 1000), &shop())
      .hit(QueryStat::Tier::kL1, 20, 100, 7);
  CHECK(one == other);
  CHECK(one->text == "select a from t where id = ?");
  CHECK(one->counts.calls() == 2);
  CHECK(one->counts.saved_ns == 7);
  CHECK(one->hit_ns == 20);
  stats.of(other, *query::analyze("select a from t where id = 2", 1000), nullptr)
      .bypass(30, Reason::kOff);
  CHECK(one != other);
  CHECK(other->reasons[static_cast<size_t>(Reason::kOff)] == 1);
  CHECK(stats.all().size() == 2);
}

TEST_CASE("a flood of queries pushes out those called least, and they are counted") {
  QueryStats stats;
  QueryStatRef hot;
  const auto statement = query::analyze("select a from hot", 1000);
  for (int i = 0; i < 10; ++i) stats.of(hot, *statement, &shop()).miss(i);
  QueryStatRef first;
  const auto cold = query::analyze("select a from cold", 1000);
  stats.of(first, *cold, &shop()).miss(1);
  for (size_t i = 0; i < 3 * QueryStats::kMax; ++i) {
    QueryStatRef known;
    const std::string text = "select a from t" + std::to_string(i);
    stats.of(known, *query::analyze(text, 1000), &shop()).miss(static_cast<int64_t>(100 + i));
  }
  const auto all = stats.all();
  CHECK(all.size() <= QueryStats::kMax);
  CHECK(all.size() + stats.dropped_queries() == 3 * QueryStats::kMax + 2);
  CHECK_FALSE(hot->dropped);
  CHECK(first->dropped);
  uint64_t calls = stats.dropped().calls();
  for (const QueryStat& stat : all) calls += stat.counts.calls();
  CHECK(calls == 10 + 1 + 3 * QueryStats::kMax);
  // Who still holds a dropped one gets a new one, which counts from zero.
  CHECK(stats.of(first, *cold, &shop()).counts.calls() == 0);
  CHECK_FALSE(first->dropped);
}

}  // namespace
}  // namespace pgfresh::proxy
