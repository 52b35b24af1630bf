// Random interleavings of everything, judged by the end of freshness.md; and the proof that the
// judge would find it if a rule were broken.
//
// PGFRESH_SIM_SEED=n runs that seed alone, as the message of a failure says; PGFRESH_SIM_STEPS=n
// makes each run longer or shorter; PGFRESH_SIM_WORLDS=n runs more seeds.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "support/environment.h"
#include "support/random_world.h"

namespace pgfresh::sim {
namespace {

constexpr uint64_t kWorlds = 60;  // tests/run.sh asks for more
constexpr uint64_t kSteps = 12'000;
constexpr uint64_t kWorldsForAFault = 400;

// The windows of the table of anomalies in the design, as far as they are met here: its number, and
// the counter that says so. 13 is a matter of the database's triggers, 18 of
// real sockets.
struct Anomaly {
  int number;
  const char* counter;
};
constexpr Anomaly kAnomalies[] = {
    {1, "fill overlapped an event"},
    {2, "hit or fill refused: open"},
    {2, "written by a function"},
    {2, "read of what a trigger wrote"},
    {3, "two proxies, writes open, feeds late"},
    {4, "feed session begun anew"},
    {4, "lease expired"},
    {4, "crash"},
    {4, "commit lost in a crash, and read before"},
    {5, "freeze"},
    {6, "SET overtaken by an event"},
    {6, "reply of Redis overtaken by an event"},
    {7, "Redis returned to an old state"},
    {7, "Redis evicted"},
    {7, "Redis down"},
    {7, "one proxy cut from Redis"},
    {8, "all gone while somebody wrote"},
    {9, "lost backend with open slots"},
    {9, "cut between COMMIT and its reply"},
    {9, "commit on a lost connection"},
    {9, "commit not heard of in time"},
    {10, "savepoint undone"},
    {11, "fill refused: wrote"},
    {12, "schema change"},
    {12, "catalog outdated"},
    {14, "cut"},
    {15, "flight joined"},
    {16, "few slots for everything"},
    {17, "forged notification"},
};

std::string report(const Judge& judge) {
  std::string text;
  for (const std::string& violation : judge.violations()) text += "\n  " + violation;
  return text;
}

TEST_CASE("random interleavings: the judge finds nothing") {
  const uint64_t only = number_from_environment("PGFRESH_SIM_SEED", 0);
  const uint64_t worlds = only != 0 ? 1 : number_from_environment("PGFRESH_SIM_WORLDS", kWorlds);
  const uint64_t steps = number_from_environment("PGFRESH_SIM_STEPS", kSteps);
  std::map<std::string, uint64_t> coverage;
  for (uint64_t i = 1; i <= worlds; ++i) {
    const uint64_t seed = only != 0 ? only : i;
    RandomWorld world(seed, Fault::kNone);
    world.run(steps);
    world.finish();
    world.add_coverage(coverage);
    CHECK_MESSAGE(world.judge().violations().empty(),
                  "PGFRESH_SIM_SEED=" << seed << report(world.judge()));
  }
  if (only != 0) return;
  // A run in which nothing overlapped proved nothing.
  for (const auto& counted : coverage) {
    MESSAGE(counted.first << ": " << counted.second);
    CHECK_MESSAGE(counted.second > 0, "never happened: " << counted.first);
  }
  for (const Anomaly& anomaly : kAnomalies) {
    const uint64_t count = coverage[anomaly.counter];
    MESSAGE("anomaly " << anomaly.number << ": " << count
                       << " times: " << std::string(anomaly.counter));
    CHECK_MESSAGE(count > 0, "never met: anomaly " << anomaly.number);
  }
  CHECK(coverage.at("l2 hit") > 300);
  CHECK(coverage.at("hit") > coverage.at("reads judged") / 12);
}

void expect_found(Fault fault) {
  for (uint64_t seed = 1; seed <= kWorldsForAFault; ++seed) {
    RandomWorld world(seed, fault);
    // What nobody was told to be committed may be missed until the end: then short lives are best.
    const bool unheard = fault == Fault::kVouchUnheard;
    world.run(unheard ? kSteps / 8 : kSteps);
    if (unheard) world.finish();
    if (!world.judge().violations().empty()) {
      MESSAGE("seed " << seed << report(world.judge()));
      return;
    }
  }
  FAIL("the judge found nothing");
}

TEST_CASE("the judge finds missing in-band notices") { expect_found(Fault::kNoNotices); }
TEST_CASE("the judge finds missing notifications") { expect_found(Fault::kNoNotifications); }
TEST_CASE("the judge finds slots that are closed too early") { expect_found(Fault::kSettleEarly); }
TEST_CASE("the judge finds a lease that is too long") { expect_found(Fault::kLongLease); }
TEST_CASE("the judge finds events that are not published") { expect_found(Fault::kKeepEvents); }
TEST_CASE("the judge finds commits that were not heard of") { expect_found(Fault::kVouchUnheard); }
TEST_CASE("the judge finds commits whose word is late") { expect_found(Fault::kBlindLooks); }
TEST_CASE("the judge finds dead publishers that nobody misses") { expect_found(Fault::kDeadBeats); }
TEST_CASE("the judge finds carrying without a lease") { expect_found(Fault::kCarryForEver); }

TEST_CASE("the judge finds entries whose stamp is not compared") {
  expect_found(Fault::kStampIgnored);
}
TEST_CASE("the judge finds stamps that are taken too late") { expect_found(Fault::kStampLate); }
TEST_CASE("the judge finds cascades without a notice") { expect_found(Fault::kQuietCascade); }
TEST_CASE("the judge finds lost commits in memory") { expect_found(Fault::kFeedOutlives); }
TEST_CASE("the judge finds maps of an earlier place in the stream") {
  expect_found(Fault::kOldMaps);
}

TEST_CASE("a run follows from its seed") {
  std::map<std::string, uint64_t> first;
  std::map<std::string, uint64_t> second;
  for (auto* coverage : {&first, &second}) {
    RandomWorld world(7, Fault::kNone);
    world.run(2000);
    world.finish();
    world.add_coverage(*coverage);
  }
  CHECK(first == second);
}

}  // namespace
}  // namespace pgfresh::sim
