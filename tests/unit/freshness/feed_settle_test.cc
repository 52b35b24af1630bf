// The feed as plays: how the slots of writing transactions come to be closed.
#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "feed_play.h"

namespace pgfresh::freshness {
namespace {

TEST_CASE("ended: closed by a fence begun after the end") {
  Play play;
  play.start();
  play.open({7, 8});
  const uint64_t fences = play.feed->status().fences;
  play.feed->ended({{7, 8}});
  CHECK(play.domain.tokens().open_total() == 2);  // nothing happens on the caller's thread
  play.time.settle();
  CHECK(play.domain.tokens().open_total() == 0);
  CHECK(play.feed->status().fences == fences + 1);
}

TEST_CASE("ended: not by the fence that was under way") {
  Play play;
  play.start();
  play.fences_held = true;
  play.time.advance_ms(250);
  REQUIRE(play.server.listener()->pending().has_value());
  play.open({7});
  play.feed->ended({{7}});
  play.time.settle();
  CHECK(play.domain.tokens().is_open(7));
  play.server.listener()->answer();
  play.time.settle();
  CHECK(play.feed->status().unsettled == 1);
  CHECK(play.domain.tokens().is_open(7));
  REQUIRE(play.server.listener()->pending().has_value());  // the next one began at once
  play.server.listener()->answer();
  play.time.settle();
  CHECK_FALSE(play.domain.tokens().is_open(7));
  CHECK(play.feed->status().unsettled == 0);
}

TEST_CASE("the event comes before the close") {
  Play play;
  play.start();
  const uint32_t slot = play.slot(any_tag(100));
  const Stamp stamp = play.stamp_on(100);
  play.open({slot});
  play.feed->ended({{slot}});
  play.fences_held = true;
  play.time.settle();
  CHECK(judge(play.domain.tokens(), stamp) == Judgement::kOpen);
  play.server.notify("pgfresh", "1 50 w 100");
  play.server.listener()->answer();
  play.time.settle();
  CHECK(judge(play.domain.tokens(), stamp) == Judgement::kStale);
}

TEST_CASE("under a steady load fences keep their distance, and close everything soon") {
  Play play;
  play.start();
  const uint64_t fences = play.feed->status().fences;
  // A write ends whenever a fence has completed, as under a steady load.
  for (int i = 0; i < 200; ++i) {
    play.open({7});
    play.feed->ended({{7}});
    play.time.settle();
    play.time.advance_ns(50'000);
  }
  // Ten milliseconds: sixteen at once, and then one each two.
  CHECK(play.feed->status().fences >= fences + 19);
  CHECK(play.feed->status().fences <= fences + 22);
  play.time.advance_ms(3);
  CHECK(play.domain.tokens().open_total() == 0);
  // After a rest the next one is begun at once again.
  play.time.advance_ms(40);
  play.open({7});
  play.feed->ended({{7}});
  play.time.settle();
  CHECK(play.domain.tokens().open_total() == 0);
}

TEST_CASE("what ends in a pause is not forgotten when the feed is lost in it") {
  Play play;
  play.start();
  for (int i = 0; i < 20; ++i) {
    play.open({7});
    play.feed->ended({{7}});
    play.time.settle();
  }
  CHECK(play.domain.tokens().open_total() > 0);
  play.server.listener()->lose("reset");
  play.open({8});
  play.feed->ended({{8}});
  play.time.advance_ms(500);
  CHECK(play.domain.tokens().open_total() == 0);
}

TEST_CASE("while the feed is down they wait") {
  Play play;
  play.start();
  play.open({7, 8});
  play.fences_held = true;
  play.feed->ended({{7}});
  play.time.settle();
  play.server.listener()->lose("reset");
  play.feed->ended({{8}});
  play.time.settle();
  CHECK(play.domain.tokens().open_total() == 2);
  CHECK(play.feed->status().unsettled == 2);
  play.fences_held = false;
  play.time.advance_ms(1000);
  CHECK(play.domain.tokens().open_total() == 0);
}

TEST_CASE("a lost server connection: until PostgreSQL no longer shows the backend, then a fence") {
  Play play;
  play.start();
  play.backends = {{"4711", "2026-11-20 22:00:00+00"}};
  play.open({7});
  play.feed->lost(4711, {{7}});
  play.time.advance_ms(3000);
  CHECK(play.domain.tokens().is_open(7));
  const size_t looks = play.sent("pg_stat_activity");
  CHECK(looks >= 6);  // at 0, 20, 60, 140, 300, 620, 1260, 2260 ms
  CHECK(looks <= 9);
  play.backends.clear();
  play.time.advance_ms(1000);
  CHECK_FALSE(play.domain.tokens().is_open(7));
  const size_t after = play.sent("pg_stat_activity");
  play.time.advance_ms(5000);
  CHECK(play.sent("pg_stat_activity") == after);
}

TEST_CASE("a lost backend whose pid went to somebody else") {
  Play play;
  play.start();
  play.backends = {{"4711", "2026-11-20 22:00:00+00"}};
  play.open({7});
  play.feed->lost(4711, {{7}});
  play.time.advance_ms(50);
  play.backends = {{"4711", "2026-11-20 22:00:09+00"}};
  play.time.advance_ms(500);
  CHECK_FALSE(play.domain.tokens().is_open(7));
}

TEST_CASE("lost while both connections are down") {
  Play play;
  play.start();
  play.server.lose_all("server restarted");
  play.open({7});
  play.feed->lost(4711, {{7}});
  play.time.settle();
  CHECK(play.domain.tokens().is_open(7));
  play.time.advance_ms(2000);
  CHECK_FALSE(play.domain.tokens().is_open(7));
}

TEST_CASE("DDL seen on the wire: published, read again, closed") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const uint32_t schema = play.slot(schema_tag());
  play.open({schema});
  play.loads_held = true;
  play.feed->ddl_ended({{schema}});
  play.time.settle();
  CHECK(play.publications() == 1);
  CHECK(play.sent("pg_current_xact_id") == 1);
  CHECK(judge(play.domain.tokens(), stamp) != Judgement::kFresh);
  CHECK_FALSE(play.lease());
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.lease());
  CHECK_FALSE(play.domain.tokens().is_open(schema));
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.servable(play.stamp_on(100)));
}

TEST_CASE("DDL ended while a publication is under way is published again") {
  Play play;
  play.start();
  play.loads_held = true;
  play.notify("1 50 s");  // keeps the catalog connection busy
  play.open({0, 0, 0});
  play.feed->ddl_ended({{0}});
  play.feed->ddl_ended({{0}});
  play.time.settle();
  play.feed->ddl_ended({{0}});
  play.time.settle();
  CHECK(play.publications() == 0);
  CHECK(play.feed->status().unsettled == 3);
  play.loads_held = false;
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.publications() == 1);  // together
  CHECK(play.domain.tokens().open_total() == 0);
}

TEST_CASE("a publication that fails: forget, and close when it has succeeded") {
  Play play;
  play.start();
  play.time.advance_ms(1000);
  const Stamp stamp = play.stamp_on(100);
  play.publish_error = "out of memory";
  play.open({0});
  play.feed->ddl_ended({{0}});
  play.time.settle();
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.domain.tokens().open_total() == 1);
  const auto tried = play.publications();
  play.time.advance_ms(1000);
  CHECK(play.publications() > tried);
  CHECK(play.domain.tokens().open_total() == 1);
  play.publish_error.reset();
  play.time.advance_ms(1000);
  CHECK(play.domain.tokens().open_total() == 0);
  CHECK(play.lease());
}

TEST_CASE("a publication whose outcome is unknown is made again") {
  Play play;
  play.start();
  play.server.set_responder([&](sim::ScriptedSql::Connection&, const std::string& sql) {
    return sql.ends_with(kConfiguredSql) ? std::optional(SqlResult{}) : std::nullopt;
  });
  play.open({0});
  play.feed->ddl_ended({{0}});
  play.time.settle();
  const auto first = play.server.other();
  REQUIRE(first->pending().has_value());
  first->lose("reset");
  play.time.advance_ms(200);
  const auto second = play.server.other();
  REQUIRE(second != nullptr);
  REQUIRE(second->pending().has_value());
  CHECK(second->pending()->find("pg_postmaster_start_time") != std::string::npos);
  second->answer(sim::sql_value("1"));
  play.time.settle();
  REQUIRE(second->pending().has_value());
  CHECK(second->pending()->find("pg_notify") != std::string::npos);
  CHECK(play.domain.tokens().is_open(0));
  second->answer();
  play.time.settle();
  CHECK_FALSE(play.domain.tokens().is_open(0));
}

// Workers hand over from their own threads while the control loop turns.
TEST_CASE("the inbox takes letters from many threads") {
  Play play;
  play.start();
  constexpr int kThreads = 3;
  constexpr int kEach = 2000;
  std::vector<std::thread> workers;
  for (int t = 0; t < kThreads; ++t) {
    workers.emplace_back([&play, t] {
      const auto slot = static_cast<uint32_t>(10 + t);
      for (int i = 0; i < kEach; ++i) {
        play.domain.tokens().open(slot);
        play.feed->wanted();
        if (i % 10 == 0) {
          play.feed->lost(static_cast<uint32_t>(i + 1), {{slot}});
        } else {
          play.feed->ended({{slot}});
        }
      }
    });
  }
  for (int i = 0; i < 200; ++i) play.time.settle();
  for (std::thread& worker : workers) worker.join();
  play.time.advance_ms(5000);
  CHECK(play.domain.tokens().open_total() == 0);
  CHECK(play.feed->status().unsettled == 0);
}

}  // namespace
}  // namespace pgfresh::freshness
