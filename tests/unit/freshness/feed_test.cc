// The feed as plays: starting, fences and lease, events, trouble on the feed connection.
#include "freshness/feed.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "feed_play.h"

namespace pgfresh::freshness {
namespace {

TEST_CASE("nothing happens until a session wants it") {
  Play play;
  play.time.advance_ms(10'000);
  CHECK(play.server.connections().empty());
  CHECK(play.feed->status().state == "off");
}

TEST_CASE("start: LISTEN, new base, catalog, fence, lease") {
  Play play;
  const uint64_t old_base = play.domain.tokens().base();
  play.start();
  REQUIRE(play.server.listener() != nullptr);
  CHECK(play.server.listener()->log().front() == "LISTEN pgfresh");
  CHECK(play.server.listener()->database() == "clinic");
  CHECK(play.domain.tokens().base() != old_base);
  CHECK((play.domain.tokens().base() >> 63) == 1);
  CHECK(play.lease());
  CHECK(play.catalog_current());
  CHECK(play.domain.trouble() == Reason::kNone);
  const FeedStatus status = play.feed->status();
  CHECK(status.state == "live");
  CHECK(status.trouble.empty());
  CHECK(status.relations_watched == 2);
  CHECK(status.sessions == 1);
}

TEST_CASE("no lease without a catalog, none without a fence") {
  {
    Play play;
    play.loads_held = true;
    play.start();
    CHECK_FALSE(play.lease());
    CHECK(play.domain.trouble() == Reason::kNoCatalog);
    CHECK(play.feed->status().state == "starting");
    play.server.other()->answer(sim::sql_rows(play.database.rows()));
    play.time.settle();
    CHECK(play.lease());
  }
  {
    Play play;
    play.fences_held = true;
    play.start();
    CHECK_FALSE(play.lease());
    CHECK(play.domain.trouble() == Reason::kNoLease);
    play.server.listener()->answer();
    play.time.settle();
    CHECK(play.lease());
  }
}

TEST_CASE("the lease counts from the fence's sending and is renewed each quarter") {
  Play play;
  play.start();
  play.fences_held = true;
  play.time.advance_ms(250);
  REQUIRE(play.server.listener()->pending().has_value());
  const int64_t sent_ns = play.time.now_ns();
  play.time.advance_ms(100);
  play.server.listener()->answer();
  play.time.settle();
  CHECK(play.domain.lease_until_ns() == sent_ns + 1000 * kNsPerMs);
  play.fences_held = false;
  for (int i = 0; i < 100; ++i) {
    play.time.advance_ms(100);
    REQUIRE(play.lease());
  }
}

TEST_CASE("fences that stop: the lease expires, then the connection is given up") {
  Play play;
  play.start();
  play.fences_held = true;
  play.time.advance_ms(1000);
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNoLease);
  CHECK(play.feed->status().state == "starting");
  CHECK(play.feed->status().trouble == "the invalidation feed is not healthy");
  CHECK(play.server.connections().size() == 2);
  CHECK(play.domain.catalog_generation() != 0);
  play.fences_held = false;
  play.time.advance_ms(3000);
  CHECK(play.server.connections().size() == 3);
  CHECK(play.feed->status().sessions == 2);
  CHECK(play.lease());
}

TEST_CASE("a fence that comes late renews nothing it should not") {
  Play play;
  play.start();
  play.fences_held = true;
  play.time.advance_ms(250);
  play.time.advance_ms(1500);
  play.server.listener()->answer();
  play.fences_held = true;
  play.time.settle();
  CHECK_FALSE(play.lease());
}

TEST_CASE("a frozen process wakes without a lease, and keeps its connections") {
  Play play;
  play.start();
  play.time.freeze_ms(10'000);
  CHECK_FALSE(play.lease());
  play.time.settle();
  play.time.advance_ms(300);
  CHECK(play.lease());
  CHECK(play.server.connections().size() == 2);
}

TEST_CASE("an event touches its slots and tells who frees memory") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const Stamp other = play.stamp_on(200);
  REQUIRE(play.servable(stamp));
  play.touched.clear();
  play.notify("1 777 r 100 1 1 1 1:7");
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.servable(other));
  CHECK(play.servable(play.stamp_on(100)));
  for (const uint64_t tag : {any_tag(100), key_tag(100, 1, "7")}) {
    CHECK(std::count(play.touched.begin(), play.touched.end(), play.slot(tag)) == 1);
  }
  CHECK(play.touched.size() == 2);
  CHECK(play.feed->status().events == 1);
}

TEST_CASE("a member's event touches the root") {
  Play play;
  play.database.tables = {100, 101};
  play.database.members = {{100, 101}};
  play.start();
  const Stamp stamp = play.stamp_on(100);
  play.notify("1 777 w 101");
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.lease());
}

TEST_CASE("an event repeated brings nothing back") {
  Play play;
  play.start();
  play.notify("1 5 w 100");
  const Stamp old = play.stamp_on(100);
  play.notify("1 6 w 100");
  play.notify("1 5 w 100");
  CHECK_FALSE(play.servable(old));
}

TEST_CASE("other channels and later versions are not heard") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  play.server.notify("jobs", "garbage");
  play.server.notify("jobs", "1 5 w 100");
  play.notify("2 hello abc");
  play.notify("2 join 77");
  CHECK(play.servable(stamp));
  CHECK(play.feed->status().garbled == 0);
}

TEST_CASE("a garbled payload: everything is forgotten, nothing is served meanwhile") {
  Play play;
  play.start();
  play.time.advance_ms(1000);
  const uint64_t base = play.domain.tokens().base();
  const Stamp stamp = play.stamp_on(100);
  play.loads_held = true;
  play.notify("1 5 w 100 and more");
  CHECK_FALSE(play.lease());
  CHECK(play.domain.tokens().base() != base);
  CHECK(play.domain.catalog() != nullptr);  // statements can still be told apart
  CHECK_FALSE(play.catalog_current());
  play.loads_held = false;
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.lease());
  CHECK(play.catalog_current());
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.servable(play.stamp_on(100)));
}

TEST_CASE("a flood of garbled payloads costs ten bases a second at most") {
  Play play;
  play.start();
  play.time.advance_ms(1000);
  const size_t loads = play.loads();
  const Stamp stamp = play.stamp_on(100);
  for (int i = 0; i < 1000; ++i) {
    play.notify("\x01\xff nonsense");
    CHECK_FALSE(play.servable(stamp));
    play.time.advance_ms(1);
  }
  CHECK(play.loads() - loads <= 11);
  CHECK(play.loads() - loads >= 5);
  play.time.advance_ms(500);
  CHECK(play.lease());
  CHECK(play.feed->status().garbled == 1000);
}

TEST_CASE("between a garbled payload and its delayed base nothing is served") {
  Play play;
  play.start();
  play.time.advance_ms(1000);
  play.notify("x");
  REQUIRE(play.lease());  // answered at once here
  const Stamp stamp = play.stamp_on(100);
  play.notify("x");
  CHECK_FALSE(play.lease());
  CHECK(judge(play.domain.tokens(), stamp) == Judgement::kStale);  // for who passed the lease
  CHECK(play.domain.trouble() == Reason::kNoLease);
  play.time.advance_ms(99);
  CHECK_FALSE(play.lease());
  play.time.advance_ms(2);
  CHECK(play.lease());
}

TEST_CASE("feed lost: no lease at once, new base when it is back") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const uint64_t base = play.domain.tokens().base();
  play.server.set_admission(sim::ScriptedSql::Admission::kRefuse);
  play.server.listener()->lose("connection reset by peer");
  play.time.settle();
  CHECK_FALSE(play.lease());
  CHECK(play.domain.lease_until_ns() == 0);
  CHECK(play.domain.trouble() == Reason::kNoLease);
  CHECK(play.domain.catalog_generation() == 0);
  CHECK(play.feed->status().state == "lost");
  CHECK(play.feed->status().trouble.find("reset by peer") != std::string::npos);
  play.time.advance_ms(2000);
  CHECK_FALSE(play.lease());
  play.server.set_admission(sim::ScriptedSql::Admission::kAccept);
  play.time.advance_ms(5001);
  CHECK(play.lease());
  CHECK(play.domain.tokens().base() != base);
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.feed->status().sessions == 2);
}

TEST_CASE("a feed that nobody wants rests without connections, and forgets") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const auto listener = play.server.listener();
  const auto watcher = play.server.other();
  REQUIRE(play.feed->rest());
  play.time.settle();
  CHECK_FALSE(listener->open());
  CHECK_FALSE(watcher->open());
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNoLease);
  CHECK(play.feed->status().state == "off");
  const size_t connections = play.server.connections().size();
  play.time.advance_ms(60'000);
  CHECK(play.server.connections().size() == connections);

  play.feed->wanted();
  play.time.settle();
  CHECK(play.lease());
  CHECK(play.feed->status().state == "live");
  CHECK_FALSE(play.servable(stamp));
  play.notify("1 500 w 100");
  CHECK(play.touched.size() > 0);
}

TEST_CASE("a feed does not rest while somebody is here, or something is to be settled") {
  Play play;
  play.start();
  play.domain.add_backend(7);
  CHECK_FALSE(play.feed->rest());
  play.domain.remove_backend(7, 0);

  play.fences_held = true;
  play.open({5});
  play.feed->ended(Writes{{5}, {}});
  play.time.settle();
  CHECK_FALSE(play.feed->rest());
  CHECK(play.lease());
  play.fences_held = false;
  play.server.listener()->answer();
  play.time.advance_ms(100);
  CHECK(play.domain.tokens().open_total() == 0);
  CHECK(play.feed->rest());
}

TEST_CASE("a session that comes while a feed rests is not overlooked") {
  Play play;
  play.start();
  REQUIRE(play.feed->rest());
  play.domain.add_backend(7);
  play.feed->wanted();
  CHECK_FALSE(play.feed->rest());  // in front of what wanted() has posted
  play.time.settle();
  CHECK(play.lease());
}

TEST_CASE("a feed that vouches says the end, and rests then") {
  Play play;
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  REQUIRE(play.domain.begin_carrying(play.time));
  CHECK_FALSE(play.feed->rest());
  CHECK(play.feed->status().vouching);
  play.domain.end_carrying();
  CHECK_FALSE(play.feed->rest());
  play.time.advance_ms(300);
  REQUIRE_FALSE(play.said.empty());
  CHECK(play.said.back().starts_with("3 e "));
  CHECK(play.feed->rest());
}

TEST_CASE("where beats are refused a feed rests without a word") {
  Play play;
  play.start();
  play.publish_error = "permission denied for function pg_notify";
  play.domain.want_carrying();
  play.time.settle();
  CHECK(play.feed->rest());
  CHECK_FALSE(play.feed->status().vouching);
}

TEST_CASE("a feed that lost its connection while it vouched rests, and is left at once") {
  Play play;
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  play.server.set_admission(sim::ScriptedSql::Admission::kRefuse);
  play.server.lose_all("terminating connection");
  play.time.settle();
  CHECK(play.feed->rest());
  bool left = false;
  play.feed->leave([&left] { left = true; });
  CHECK(left);
}

TEST_CASE("who was here between two looks was here") {
  Play play;
  CHECK_FALSE(play.domain.take_used());
  play.domain.add_backend(7);
  play.domain.add_backend(7);  // the number came again
  play.domain.remove_backend(7, 0);
  CHECK(play.domain.has_backends());
  play.domain.remove_backend(7, 0);
  CHECK_FALSE(play.domain.has_backends());
  CHECK(play.domain.take_used());
  CHECK_FALSE(play.domain.take_used());
}

TEST_CASE("a process number is one of ours on its own server only") {
  Domain domain{"d", 16, uint64_t{1} << 63};
  domain.set_server_started(100);
  domain.add_backend(7);  // it has not been asked where it is
  domain.add_backend(8);
  domain.backend_is_of(8, 100);
  CHECK(domain.backends().size() == 2);
  domain.set_server_started(200);
  CHECK(domain.backends().empty());
  CHECK(domain.has_backends());
  domain.add_backend(8);  // the same number, on the other server
  CHECK(domain.backends().empty());
  domain.backend_is_of(8, 200);
  CHECK(domain.backends() == std::vector<uint32_t>{8});
  domain.remove_backend(8, 100);
  CHECK(domain.backends() == std::vector<uint32_t>{8});
  domain.remove_backend(8, 200);
  CHECK(domain.backends().empty());
  domain.remove_backend(7, 0);
  CHECK_FALSE(domain.has_backends());
}

TEST_CASE("what is left to a feed at rest wakes it") {
  Play play;
  play.start();
  REQUIRE(play.feed->rest());
  play.open({5});
  play.feed->ended(Writes{{5}, {}});
  play.time.advance_ms(500);
  CHECK(play.domain.tokens().open_total() == 0);
  CHECK(play.feed->status().state == "live");
}

TEST_CASE("a feed whose database is gone rests too, and goes on with what it had") {
  Play play;
  play.start();
  play.open({5});
  play.server.set_admission(sim::ScriptedSql::Admission::kRefuse);
  play.server.lose_all("terminating connection");
  play.feed->ended(Writes{{5}, {}});
  play.time.settle();
  REQUIRE(play.feed->rest());
  const size_t connections = play.server.connections().size();
  play.time.advance_ms(60'000);
  CHECK(play.server.connections().size() == connections);
  CHECK(play.domain.tokens().open_total() == 1);
  play.server.set_admission(sim::ScriptedSql::Admission::kAccept);
  play.feed->wanted();
  play.time.advance_ms(500);
  CHECK(play.lease());
  CHECK(play.domain.tokens().open_total() == 0);
}

TEST_CASE("back-off doubles up to its maximum, with jitter") {
  Play play;
  play.server.set_admission(sim::ScriptedSql::Admission::kRefuse);
  play.start();
  play.time.advance_ms(60'000);
  // Two connections; 50, 100, … 5000 ms, each at least half of it: 8 attempts on the way up, then
  // one every 2.5 to 5 s.
  CHECK(play.server.connections().size() >= 34);
  CHECK(play.server.connections().size() <= 66);
  CHECK(play.domain.trouble() == Reason::kNoLease);
  CHECK(play.feed->status().state == "connecting");
  CHECK(play.feed->status().trouble.find("connection refused") != std::string::npos);
}

TEST_CASE("a standby refuses LISTEN") {
  Play play;
  play.listen_error = "cannot execute LISTEN during recovery";
  play.start();
  play.time.advance_ms(10'000);
  CHECK_FALSE(play.lease());
  CHECK(play.feed->status().trouble.find("during recovery") != std::string::npos);
  play.listen_error.reset();
  play.time.advance_ms(6000);
  CHECK(play.lease());
}

TEST_CASE("a name that moves: feed and catalog come from one server") {
  for (const bool feed_first : {true, false}) {
    Play play;
    play.start();
    REQUIRE(play.domain.server_started() == 1);
    play.started = 2;
    const auto staying = feed_first ? play.server.other() : play.server.listener();
    (feed_first ? play.server.listener() : play.server.other())->lose("moved");
    play.time.settle();
    CHECK(play.lease() == !feed_first);
    play.time.advance_ms(1000);
    CHECK(play.domain.server_started() == 2);
    CHECK_FALSE(staying->open());
    CHECK(play.lease());
    CHECK(play.server.other()->count(query::Catalog::load_sql()) > 0);
  }
}

TEST_CASE("a session that has come elsewhere: the catalog's connection looks, once in a while") {
  Play play;
  play.start();
  const auto connections = [&] { return play.server.connections().size(); };
  const size_t at_first = connections();
  for (int round = 0; round < 3; ++round) {
    play.domain.settler().elsewhere();
    play.time.advance_ms(1000);
    CHECK(connections() == at_first + 1);
    CHECK(play.lease());
  }
  play.started = 2;
  play.time.advance_ms(60'000);  // what was told meanwhile is not forgotten
  CHECK(play.domain.server_started() == 2);
  CHECK(play.lease());
}

TEST_CASE("a schema event that was published while the feed was away is published again") {
  Play play;
  play.start();
  play.publications_held = true;
  play.feed->ddl_ended({});
  play.time.settle();
  play.listen_error = "away";
  play.server.listener()->lose("moved");
  play.server.other()->lose("moved");
  play.publications_held = false;
  play.time.advance_ms(1000);
  const size_t before = play.publications();
  REQUIRE(before == 2);  // the first may have been committed, or not
  play.listen_error.reset();
  play.time.advance_ms(6000);
  CHECK(play.publications() == before + 1);
  CHECK(play.lease());
}

TEST_CASE("a pooler in PostgreSQL's place: no lease, and the reason") {
  Play play;
  SUBCASE("its process numbers are its own") { play.pid_error = 1; }
  SUBCASE("LISTEN is somebody else's a moment later") { play.hears_itself = false; }
  play.start();
  play.time.advance_ms(10'000);
  CHECK_FALSE(play.lease());
  CHECK(play.feed->status().trouble.find("pooler") != std::string::npos);
  play.pid_error = 0;
  play.hears_itself = true;
  play.time.advance_ms(6000);
  CHECK(play.lease());
}

TEST_CASE("the console's forget") {
  Play play;
  play.start();
  play.time.advance_ms(200);
  const Stamp stamp = play.stamp_on(100);
  play.feed->forget();
  play.time.settle();
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.lease());
}

TEST_CASE("options that change: a longer lease") {
  Play play;
  play.start();
  FeedOptions options;
  options.staleness_ms = 4000;
  play.feed->set_options(options);
  play.time.advance_ms(1000);
  CHECK(play.domain.lease_until_ns() - play.time.now_ns() > 2000 * kNsPerMs);
}

TEST_CASE("the feed goes away: no lease is left behind, nothing is called afterwards") {
  Play play;
  play.start();
  play.feed->ended({{}});
  play.open({7});
  play.feed->ended({{7}});  // on its way when the feed goes
  play.feed.reset();
  CHECK_FALSE(play.lease());
  play.time.advance_ms(10'000);
  CHECK(play.loop.timers() == 0);
  CHECK(play.server.listener() == nullptr);
}

}  // namespace
}  // namespace pgfresh::freshness
