#include "proxy/remote_cost.h"

#include <doctest/doctest.h>

namespace pgfresh::proxy {
namespace {

using Advice = RemoteCost::Advice;
constexpr int64_t kUs = 1000;

RemoteCost known(int64_t upstream_ns, int64_t lookup_ns, int found, int not_found) {
  RemoteCost cost;
  for (int i = 0; i < 50; ++i) cost.upstream_took(upstream_ns);
  for (int i = 0; i < found || i < not_found; ++i) {
    if (i < found) cost.found(lookup_ns);
    if (i < not_found) cost.not_found(lookup_ns);
  }
  return cost;
}

TEST_CASE("remote cost: who knows nothing asks") {
  RemoteCost cost;
  CHECK(cost.advise(0) == Advice::kAsk);
  CHECK(cost.advise(1'000'000'000) == Advice::kAsk);
  CHECK(cost.worth_storing(1'000'000'000));
  CHECK_FALSE(cost.worth_locking(100 * kUs));
  // Misses alone say nothing about what PostgreSQL takes.
  for (int i = 0; i < 100; ++i) cost.not_found(kUs);
  CHECK(cost.advise(0) == Advice::kAsk);
}

TEST_CASE("remote cost: it is asked where the hits save more than the look-ups take") {
  CHECK(known(1000 * kUs, 100 * kUs, 100, 0).pays(0));
  CHECK(known(1000 * kUs, 100 * kUs, 50, 50).pays(0));
  CHECK_FALSE(known(1000 * kUs, 100 * kUs, 0, 100).pays(0));
  CHECK_FALSE(known(80 * kUs, 100 * kUs, 100, 0).pays(0));  // PostgreSQL is nearer
  CHECK_FALSE(known(150 * kUs, 100 * kUs, 50, 50).pays(0));
}

TEST_CASE("remote cost: what is not asked for is tried again now and then, and comes back") {
  RemoteCost cost = known(1000 * kUs, 100 * kUs, 0, 100);
  int explored = 0;
  int skipped = 0;
  for (int i = 0; i < 320; ++i) {
    const Advice advice = cost.advise(0);
    explored += advice == Advice::kExplore ? 1 : 0;
    skipped += advice == Advice::kSkip ? 1 : 0;
  }
  CHECK(explored == 10);
  CHECK(skipped == 310);
  CHECK(cost.skipped() == 310);
  // It is found there now: within a few hundred calls it is asked every time again.
  int calls = 0;
  for (Advice advice = cost.advise(0); advice != Advice::kAsk && calls < 1000;
       advice = cost.advise(0)) {
    ++calls;
    if (advice == Advice::kExplore) cost.found(100 * kUs);
  }
  CHECK(calls < 200);
}

TEST_CASE("remote cost: a database that becomes slow makes it pay, and the other way round") {
  RemoteCost cost = known(80 * kUs, 100 * kUs, 100, 0);
  CHECK_FALSE(cost.pays(0));
  CHECK_FALSE(cost.worth_storing(0));
  for (int i = 0; i < 10; ++i) cost.upstream_took(5000 * kUs);
  CHECK(cost.pays(0));
  CHECK(cost.worth_storing(0));
  CHECK(cost.worth_locking(0));
  for (int i = 0; i < 100; ++i) cost.upstream_took(50 * kUs);
  CHECK_FALSE(cost.pays(0));
  CHECK_FALSE(cost.worth_locking(0));
}

TEST_CASE("remote cost: what two workers have seen") {
  RemoteCost sum = known(1000 * kUs, 100 * kUs, 30, 0);
  sum.add(known(2000 * kUs, 200 * kUs, 0, 10));
  CHECK(sum.asked() == 40);
  CHECK(sum.hit_share() == doctest::Approx(0.75));
  CHECK(sum.lookup_ns() == doctest::Approx(125 * kUs));
  CHECK(sum.upstream_ns() == doctest::Approx(1500 * kUs));
  RemoteCost nothing;
  nothing.add(RemoteCost());
  CHECK(nothing.asked() == 0);
}

TEST_CASE("remote cost: a share of nothing is a share") {
  RemoteCost cost;
  cost.not_found(kUs);
  cost.found(kUs);
  CHECK(cost.hit_share() < 0.2);
  CHECK(cost.asked() == 2);
  CHECK(cost.lookup_ns() == kUs);
}

}  // namespace
}  // namespace pgfresh::proxy
