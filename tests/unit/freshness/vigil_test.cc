#include "freshness/vigil.h"

#include <doctest/doctest.h>

namespace pgfresh::freshness {
namespace {

constexpr int64_t kDelta = 1000;
using Outcome = Vigil::Outcome;

Running running(std::vector<std::string> transactions, std::vector<uint32_t> prepared = {}) {
  Running found;
  found.transactions = std::move(transactions);
  for (const uint32_t xid : prepared) found.transactions.push_back(prepared_name(xid));
  found.prepared = std::move(prepared);
  found.others = true;
  return found;
}

struct Stage {
  Vigil vigil;
  Stage() { vigil.set_staleness(kDelta); }
  // A session that is not cold any more.
  void start(int64_t now) {
    vigil.begin_session(now);
    CHECK(vigil.looked(now, {}) == Outcome::kNothing);
    CHECK_FALSE(vigil.blocks_lease());
    CHECK(vigil.lease_end_ns() == INT64_MAX);
  }
};

TEST_CASE("a start where nobody else is: served at once") {
  Stage stage;
  stage.vigil.begin_session(100);
  CHECK(stage.vigil.blocks_lease());
  CHECK(stage.vigil.look_due(100));
  CHECK(stage.vigil.looked(100, {}) == Outcome::kNothing);
  CHECK_FALSE(stage.vigil.blocks_lease());
  CHECK_FALSE(stage.vigil.busy());
}

TEST_CASE("a start among others: half of the staleness is waited, what runs then is noted") {
  Stage stage;
  stage.vigil.begin_session(100);
  CHECK(stage.vigil.looked(101, running({"a"})) == Outcome::kNothing);
  CHECK(stage.vigil.blocks_lease());
  CHECK(stage.vigil.look_due(600));
  CHECK(stage.vigil.looked(600, running({"b"})) == Outcome::kNothing);
  CHECK_FALSE(stage.vigil.blocks_lease());
  CHECK(stage.vigil.lease_end_ns() == 600 + kDelta);
  CHECK(stage.vigil.noted() == 1);
  CHECK_FALSE(stage.vigil.look_due(800));
  CHECK(stage.vigil.look_due(850));
  CHECK(stage.vigil.looked(850, running({"b", "c"})) == Outcome::kNothing);
  CHECK(stage.vigil.looked(1100, running({"c"})) == Outcome::kNewBase);
  CHECK(stage.vigil.lease_end_ns() == INT64_MAX);
}

TEST_CASE("who beats is followed; who is silent for 3/4 of the staleness is given up") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  CHECK(stage.vigil.publishers() == 1);
  CHECK(stage.vigil.lease_end_ns() == 200 + kDelta);
  CHECK_FALSE(stage.vigil.give_up(950));
  CHECK(stage.vigil.give_up(951));
  CHECK(stage.vigil.blocks_lease());
  CHECK_FALSE(stage.vigil.give_up(952));
}

TEST_CASE("a beat speaks for the time before the one before it") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  stage.vigil.heard({7, false, 600, 100});  // it may have been sent at 201 and held back
  CHECK(stage.vigil.heard_ns() == 200);
  stage.vigil.heard({7, false, 700, 100});
  CHECK(stage.vigil.heard_ns() == 600);
  CHECK(stage.vigil.lease_end_ns() == 600 + kDelta);
}

TEST_CASE("of one that was missed before, all since the base may be missing") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, false, 700, 100});
  CHECK(stage.vigil.heard_ns() == 100);
  stage.vigil.heard({7, false, 800, 100});
  CHECK(stage.vigil.heard_ns() == 700);
}

TEST_CASE("one that is heard again before the new base is not given up for the old one") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 5200, 100});
  REQUIRE(stage.vigil.give_up(6000));
  stage.vigil.heard({7, false, 5900, 100});
  CHECK_FALSE(stage.vigil.give_up(6001));
  CHECK(stage.vigil.looked(6001, {}) == Outcome::kNewBase);
}

TEST_CASE("who says the end is not missed, and nobody says it for another") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  stage.vigil.ended(8);
  CHECK(stage.vigil.publishers() == 1);
  stage.vigil.ended(7);
  CHECK_FALSE(stage.vigil.give_up(5000));
}

TEST_CASE("after a loss: a new base with each look of the window, then when a noted one ends") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  REQUIRE(stage.vigil.give_up(951));
  CHECK(stage.vigil.look_due(951));
  CHECK(stage.vigil.looked(950, running({"a"})) == Outcome::kNothing);  // begun before
  CHECK(stage.vigil.blocks_lease());
  CHECK(stage.vigil.looked(952, running({"a"})) == Outcome::kNewBase);
  CHECK_FALSE(stage.vigil.blocks_lease());
  CHECK(stage.vigil.lease_end_ns() == 952 + kDelta);
  CHECK(stage.vigil.looked(1202, running({"b"})) == Outcome::kNewBase);
  CHECK(stage.vigil.looked(1951, running({"b", "c"})) == Outcome::kNewBase);  // the last one
  CHECK(stage.vigil.looked(1960, running({"b", "c", "d"})) == Outcome::kNothing);
  CHECK(stage.vigil.looked(2210, running({"b"})) == Outcome::kNewBase);
  CHECK(stage.vigil.looked(2460, running({"b", "c"})) == Outcome::kNothing);
  CHECK(stage.vigil.looked(2710, running({"c"})) == Outcome::kNewBase);
  CHECK_FALSE(stage.vigil.busy());
}

TEST_CASE("a noted transaction that is prepared is still waited for") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  REQUIRE(stage.vigil.give_up(951));
  CHECK(stage.vigil.looked(1951, running({"a"})) == Outcome::kNewBase);
  CHECK(stage.vigil.looked(1960, running({}, {77})) == Outcome::kNewBase);
  CHECK(stage.vigil.noted() == 1);
  CHECK(stage.vigil.looked(2210, running({}, {77})) == Outcome::kNothing);
  CHECK(stage.vigil.looked(2460, running({})) == Outcome::kNewBase);
}

TEST_CASE("more publishers than there can be: nobody is believed") {
  Stage stage;
  stage.start(100);
  for (uint32_t sender = 1; sender <= 256; ++sender) stage.vigil.heard({sender, true, 200, 100});
  CHECK_FALSE(stage.vigil.give_up(211));
  stage.vigil.heard({300, true, 200, 100});
  CHECK(stage.vigil.give_up(211));
  CHECK(stage.vigil.publishers() == 256);
}

TEST_CASE("a lost session begins anew") {
  Stage stage;
  stage.start(100);
  stage.vigil.heard({7, true, 200, 100});
  stage.vigil.session_lost();
  CHECK_FALSE(stage.vigil.give_up(5000));
  stage.vigil.begin_session(6000);
  CHECK(stage.vigil.blocks_lease());
}

TEST_CASE("who is known from a peer alone must be heard, or end, before there is a lease") {
  Vigil vigil;
  vigil.set_staleness(1000);
  vigil.begin_session(0);
  vigil.adopt({{1, 100, 50}, {2, 100, 50}}, 200);
  CHECK(vigil.blocks_lease());
  CHECK(vigil.lease_end_ns() == 0);
  CHECK_FALSE(vigil.give_up(300));
  vigil.heard({1, false, 250, 0});
  CHECK(vigil.blocks_lease());
  SUBCASE("heard") { vigil.heard({2, false, 250, 0}); }
  SUBCASE("its end") { vigil.ended(2); }
  SUBCASE("given up") {
    CHECK(vigil.give_up(900));
    CHECK(vigil.blocks_lease());  // until a look
    return;
  }
  CHECK_FALSE(vigil.blocks_lease());
  CHECK(vigil.lease_end_ns() > 1000);
}

}  // namespace
}  // namespace pgfresh::freshness
