// Rule 14: who waits for the word of a commit, and for how long that is believed.
#include "freshness/unheard_watch.h"

#include <doctest/doctest.h>

namespace pgfresh::freshness {
namespace {

constexpr int64_t kStaleness = 800;  // nanoseconds: an eighth is a hundred

struct Play {
  Play() { watch.set_staleness(kStaleness); }

  // A look that is begun at `now` and completes at once.
  void look(int64_t now, const std::unordered_map<uint32_t, std::string>& running) {
    static_cast<void>(watch.look_begins(now, waiters));
    watch.looked(running, waiters);
  }
  [[nodiscard]] bool late(int64_t now) { return watch.take_late(now, waiters); }
  [[nodiscard]] bool due(int64_t now) const { return watch.look_due(now, waiters); }

  UnheardWatch watch;
  UnheardWatch::Waiters waiters = {{1, 77, 1000, 1000}};
};

TEST_CASE("unheard: who waits for a quarter of the staleness is looked for, every eighth") {
  Play play;
  CHECK_FALSE(play.due(1199));
  CHECK(play.due(1200));
  CHECK(play.watch.look_begins(1200, play.waiters) == std::vector<uint32_t>{77});
  CHECK_FALSE(play.due(1299));
  play.watch.looked({{77, "77 3/1"}}, play.waiters);
  CHECK_FALSE(play.due(1299));
  CHECK(play.due(1300));
  play.waiters.clear();
  CHECK_FALSE(play.due(1300));
}

TEST_CASE("unheard: what runs is not late, however long") {
  Play play;
  for (int64_t now = 1200; now < 9000; now += 100) {
    play.look(now, {{77, "77 3/1"}});
    CHECK_FALSE(play.late(now));
  }
}

TEST_CASE("unheard: what has ended is late a quarter after it was missed, once") {
  Play play;
  play.look(1200, {{77, "77 3/1"}});
  SUBCASE("nothing runs there") { play.look(1300, {}); }
  SUBCASE("another transaction runs there") { play.look(1300, {{77, "77 3/2"}}); }
  CHECK_FALSE(play.late(1499));
  CHECK(play.late(1500));
  CHECK_FALSE(play.late(1600));
  play.look(1600, {});
  CHECK_FALSE(play.late(9000));
}

TEST_CASE("unheard: where more was sent behind a commit, what runs may be a later transaction") {
  Play play;
  play.waiters[0].goes_on = true;
  play.look(1200, {{77, "77 3/2"}});
  play.look(1300, {{77, "77 3/2"}});
  CHECK_FALSE(play.late(1399));
  CHECK(play.late(1400));
  SUBCASE("which counts from then on") {
    for (int64_t now = 1500; now < 5000; now += 100) {
      play.look(now, {{77, "77 3/2"}});
      CHECK_FALSE(play.late(now));
    }
    play.look(5000, {});
    CHECK(play.late(5200));
    for (int64_t now = 5300; now < 9000; now += 100) {
      play.look(now, {});
      CHECK_FALSE(play.late(now));
    }
  }
  SUBCASE("and is missed when a third one runs") {
    play.look(1500, {{77, "77 3/3"}});
    CHECK(play.late(1700));
  }
}

TEST_CASE("unheard: a word that came is not late, nor is the next one's") {
  Play play;
  play.look(1200, {});
  play.waiters = {{2, 77, 1250, 1250}};
  CHECK_FALSE(play.late(1500));
  play.look(1500, {});
  CHECK_FALSE(play.late(1699));
  CHECK(play.late(1700));
}

TEST_CASE("unheard: one that was never seen to run is late; should it begin, it is watched again") {
  Play play;
  play.look(1200, {});
  CHECK(play.late(1400));
  play.look(1500, {{77, "77 3/1"}});
  CHECK_FALSE(play.late(9000));
  play.look(9000, {});
  CHECK(play.late(9200));
}

TEST_CASE("unheard: what is sent behind it may be late as well") {
  Play play;
  play.look(1200, {{77, "77 3/1"}});
  play.look(1300, {});
  CHECK(play.late(1500));
  play.waiters[0].sent_ns = 1550;
  SUBCASE("it was seen to run") {
    play.look(1600, {{77, "77 3/2"}});
    CHECK_FALSE(play.late(1600));
    play.look(1700, {});
  }
  SUBCASE("it was over by the next look") {
    CHECK_FALSE(play.late(1600));
    play.look(1700, {});
  }
  CHECK_FALSE(play.late(1899));
  CHECK(play.late(1900));
  CHECK_FALSE(play.late(9000));
}

TEST_CASE("unheard: who has just begun to wait is not missed") {
  Play play;
  play.look(1100, {});
  CHECK_FALSE(play.late(1400));
  CHECK(play.watch.known_ns(play.waiters) == 1000);
}

TEST_CASE("unheard: who cannot look is blind, and knows nothing younger than the last look") {
  Play play;
  CHECK(play.watch.known_ns({}) == INT64_MAX);
  CHECK_FALSE(play.watch.blind(9000, {}));
  CHECK(play.watch.known_ns(play.waiters) == 1000);
  CHECK_FALSE(play.watch.blind(1300, play.waiters));
  CHECK(play.watch.blind(1301, play.waiters));
  play.look(1300, {{77, "77 3/1"}});
  CHECK(play.watch.known_ns(play.waiters) == 1300);
  CHECK_FALSE(play.watch.blind(1600, play.waiters));
  static_cast<void>(play.watch.look_begins(1600, play.waiters));  // no answer
  CHECK(play.watch.blind(1601, play.waiters));
  play.waiters = {{2, 77, 1590, 1590}};
  CHECK_FALSE(play.watch.blind(1601, play.waiters));
}

}  // namespace
}  // namespace pgfresh::freshness
