// The feed as plays: DDL, the catalog snapshot, polls and audits.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "feed_play.h"

namespace pgfresh::freshness {
namespace {

TEST_CASE("not installed: no lease, until somebody installs it") {
  Play play;
  play.database.installed = false;
  play.start();
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNotInstalled);
  CHECK(play.domain.catalog() != nullptr);
  play.time.advance_ms(20'000);
  CHECK_FALSE(play.lease());
  CHECK(play.loads() <= 2);
  play.database.installed = true;
  play.time.advance_ms(5500);
  CHECK(play.lease());
  CHECK(play.domain.trouble() == Reason::kNone);
}

TEST_CASE("uninstalled: no lease any more") {
  Play play;
  play.start();
  play.database.installed = false;
  play.notify("1 50 s");
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNotInstalled);
}

TEST_CASE("DDL: nothing is served until the catalog has been read again") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const uint64_t generation = play.domain.catalog_generation();
  play.loads_held = true;
  play.notify("1 50 s");
  CHECK_FALSE(play.lease());
  CHECK(play.domain.catalog() == nullptr);
  CHECK(play.domain.trouble() == Reason::kNoCatalog);
  CHECK(judge(play.domain.tokens(), stamp) == Judgement::kStale);
  play.time.advance_ms(700);  // fences go on and give no lease
  CHECK_FALSE(play.lease());
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.lease());
  CHECK(play.catalog_current());
  CHECK(play.domain.catalog_generation() > generation);
  CHECK_FALSE(play.servable(stamp));
}

TEST_CASE("events during a reading are applied with the new catalog, before it is published") {
  Play play;
  play.start();
  play.loads_held = true;
  play.notify("1 50 s");
  const uint64_t before = play.token(any_tag(300));
  play.notify("1 51 w 301");  // a table that the old catalog does not know
  CHECK(play.token(any_tag(300)) == before);
  play.database.tables = {100, 200, 300, 301};
  play.database.members = {{300, 301}};
  play.touched.clear();
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.token(any_tag(300)) != before);
  CHECK(play.lease());
  CHECK(play.feed->status().events == 2);
}

TEST_CASE("a reading during which another DDL came is done again") {
  Play play;
  play.start();
  play.loads_held = true;
  play.notify("1 50 s");
  const size_t loads = play.loads();
  play.notify("1 51 s");
  const SqlRows outdated = play.database.rows();
  play.database.tables.push_back(300);
  play.server.other()->answer(sim::sql_rows(outdated));
  play.time.settle();
  CHECK(play.domain.catalog() == nullptr);
  CHECK_FALSE(play.lease());
  CHECK(play.loads() == loads + 1);
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.catalog_current());
  CHECK(play.domain.catalog()->root_of(300) == 300);
  CHECK(play.lease());
}

TEST_CASE("schema events in one packet cost one reading") {
  Play play;
  play.start();
  const size_t loads = play.loads();
  for (int xid = 50; xid < 60; ++xid) {
    play.server.notify("pgfresh", "1 " + std::to_string(xid) + " s");
  }
  play.time.settle();
  CHECK(play.loads() - loads <= 2);
  CHECK(play.lease());
}

TEST_CASE("a flood of schema events: readings take half of the connection's time") {
  Play play;
  play.start();
  const size_t loads = play.loads();
  play.loads_held = true;
  for (int i = 0; i < 100; ++i) {
    play.notify("1 " + std::to_string(50 + i) + " s");
    const auto connection = play.server.other();
    const bool reading = connection->pending() == std::string(query::Catalog::load_sql());
    play.time.advance_ms(10);
    if (reading) connection->answer(sim::sql_rows(play.database.rows()));
    play.time.settle();
  }
  CHECK(play.loads() - loads <= 55);
  CHECK(play.loads() - loads >= 40);
}

TEST_CASE("an event of an unknown relation is a schema event, once") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const size_t loads = play.loads();
  play.loads_held = true;
  play.notify("1 50 w 999");
  CHECK_FALSE(play.lease());
  CHECK(judge(play.domain.tokens(), stamp) == Judgement::kStale);
  play.loads_held = false;
  play.server.other()->answer(sim::sql_rows(play.database.rows()));  // dropped meanwhile
  play.time.advance_ms(1000);
  CHECK(play.lease());
  CHECK(play.loads() == loads + 1);
}

TEST_CASE("too many events during a reading: forget everything instead") {
  Play play;
  play.start();
  play.time.advance_ms(1000);
  play.loads_held = true;
  play.notify("1 50 s");
  const uint64_t base = play.domain.tokens().base();
  for (int i = 0; i < 20'001; ++i) play.server.notify("pgfresh", "1 51 w 100");
  play.time.settle();
  CHECK(play.domain.tokens().base() != base);
  CHECK_FALSE(play.lease());
  play.loads_held = false;
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.advance_ms(500);
  CHECK(play.lease());
}

TEST_CASE("a catalog that cannot be read, then can") {
  Play play;
  play.loads_held = true;
  play.start();
  play.server.other()->answer(sim::sql_error("permission denied for table pg_class", "42501"));
  play.time.settle();
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNoCatalog);
  CHECK(play.feed->status().trouble.find("permission denied") != std::string::npos);
  play.loads_held = false;
  play.time.advance_ms(5500);
  CHECK(play.lease());
}

TEST_CASE("what was read of a session before the first reading is read again") {
  Play play;
  play.loads_held = true;
  play.start();
  const uint64_t epoch = play.domain.settings_epoch();
  play.loads_held = false;
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.domain.settings_epoch() == epoch + 1);
  play.time.advance_ms(11'000);
  CHECK(play.domain.settings_epoch() == epoch + 1);
  CHECK(play.publications() == 0);
}

TEST_CASE("poll: a change without an event is published, once") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const uint64_t epoch = play.domain.settings_epoch();
  play.time.advance_ms(5500);
  CHECK(play.domain.settings_epoch() == epoch);
  CHECK(play.publications() == 0);
  REQUIRE(play.servable(stamp));
  play.fingerprint = "f2";
  play.time.advance_ms(5500);
  CHECK(play.domain.settings_epoch() == epoch + 1);
  CHECK(play.publications() == 1);
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.lease());
  play.time.advance_ms(20'000);
  CHECK(play.publications() == 1);
}

TEST_CASE("poll: a change that an event explains is not published") {
  SUBCASE("event, reading, poll") {
    Play play;
    play.start();
    const uint64_t epoch = play.domain.settings_epoch();
    play.fingerprint = "f2";
    play.notify("1 50 s");
    CHECK(play.domain.settings_epoch() == epoch + 1);
    play.time.advance_ms(11'000);
    CHECK(play.publications() == 0);
  }
  SUBCASE("poll before its event") {
    Play play;
    play.start();
    play.fences_held = true;
    play.time.advance_ms(100);
    play.fences_held = false;
    play.polls_held = true;
    play.time.advance_ms(5000);
    const auto connection = play.server.other();
    REQUIRE(connection->pending().has_value());
    play.fences_held = true;
    play.time.advance_ms(250);
    play.polls_held = false;
    play.fingerprint = "f2";
    connection->answer(sim::sql_value("f2"));
    play.time.settle();
    play.notify("1 50 s");
    play.fences_held = false;
    play.server.listener()->answer();
    play.time.advance_ms(6000);
    CHECK(play.publications() == 0);
    CHECK(play.lease());
  }
}

TEST_CASE("how full the NOTIFY queue is") {
  Play play;
  SUBCASE("it is asked again and again") {
    play.queue_usage = "0.25";
    play.start();
    play.time.advance_ms(5000);
    CHECK(play.feed->status().notify_queue == 0.25);
    play.queue_usage = "9.5367431640625e-07";
    play.time.advance_ms(5000);
    CHECK(play.feed->status().notify_queue == doctest::Approx(9.5367431640625e-07));
  }
  SUBCASE("also where no feed can begin, as in a full one") {
    play.listen_error = "too many notifications in the NOTIFY queue";
    play.queue_usage = "1";
    play.start();
    play.time.advance_ms(10'000);
    CHECK(play.feed->status().notify_queue == 1.0);
    CHECK(play.sent("pg_notification_queue_usage") >= 2);
  }
  SUBCASE("where it may not be asked nothing else is harmed") {
    play.queue_usage.reset();
    play.start();
    play.time.advance_ms(10'000);
    CHECK(play.feed->status().notify_queue == -1.0);
    CHECK(play.lease());
  }
}

TEST_CASE("a reload: settings are read again, and what was recorded goes; twice") {
  Play play;
  play.start();
  const Stamp stamp = play.stamp_on(100);
  const uint64_t epoch = play.domain.settings_epoch();
  REQUIRE(play.servable(stamp));
  play.configured = "c2";
  play.time.advance_ms(260);  // the next fence
  CHECK(play.domain.settings_epoch() == epoch + 1);
  CHECK(play.publications() == 1);
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.lease());
  const Stamp later = play.stamp_on(100);
  play.time.advance_ms(400);
  CHECK(play.domain.settings_epoch() == epoch + 2);
  CHECK(play.publications() == 2);
  CHECK_FALSE(play.servable(later));
  play.time.advance_ms(20'000);
  CHECK(play.domain.settings_epoch() == epoch + 2);
  CHECK(play.publications() == 2);
}

TEST_CASE("a reload while there was no feed") {
  Play play;
  play.start();
  const uint64_t epoch = play.domain.settings_epoch();
  play.configured = "c2";
  play.server.listener()->lose("reset");
  play.time.advance_ms(1000);
  CHECK(play.domain.settings_epoch() == epoch + 2);
  CHECK(play.publications() == 2);
}

TEST_CASE("an audit that finds nothing new disturbs nobody") {
  Play play;
  play.start();
  const uint64_t generation = play.domain.catalog_generation();
  const Stamp stamp = play.stamp_on(100);
  const size_t loads = play.loads();
  for (int i = 0; i < 130; ++i) {
    play.time.advance_ms(500);
    REQUIRE(play.servable(stamp));
  }
  CHECK(play.loads() == loads + 1);
  CHECK(play.domain.catalog_generation() == generation);
  CHECK(play.publications() == 0);
}

TEST_CASE("an audit that finds a change: published, and nothing served until it has come back") {
  FeedOptions options;
  options.catalog_poll_ms = 600'000;
  options.audit_ms = 5000;
  Play play(options);
  play.start();
  const Stamp stamp = play.stamp_on(100);
  play.loads_held = true;
  play.time.advance_ms(5100);
  play.database.tables = {200};  // 100 has lost its triggers, say
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.loads_held = true;
  play.time.settle();
  CHECK(play.publications() == 1);
  CHECK_FALSE(play.lease());
  play.time.advance_ms(150);
  CHECK_FALSE(play.lease());
  play.server.other()->answer(sim::sql_rows(play.database.rows()));
  play.time.settle();
  CHECK(play.lease());
  CHECK_FALSE(play.servable(stamp));
  CHECK(play.domain.catalog()->root_of(100) == 0);
}

TEST_CASE("what an audit has found is not adopted before its event has come") {
  FeedOptions options;
  options.catalog_poll_ms = 2000;
  options.audit_ms = 5000;
  Play play(options);
  play.start();
  const Stamp stamp = play.stamp_on(200);
  play.publications_held = true;
  play.database.tables = {200};
  play.time.advance_ms(5100);
  REQUIRE(play.server.other()->pending().has_value());
  play.server.other()->answer();  // committed; the notification is on its way
  const size_t loads = play.loads();
  play.time.advance_ms(3000);
  CHECK(play.loads() > loads);
  CHECK_FALSE(play.lease());
  CHECK(play.domain.catalog() == nullptr);
  play.notify("1 70 s");
  CHECK(play.lease());
  CHECK_FALSE(play.servable(stamp));
}

TEST_CASE("an audit that finds a new fingerprint first") {
  FeedOptions options;
  options.catalog_poll_ms = 10'000;
  options.audit_ms = 5000;
  Play play(options);
  play.start();
  const uint64_t epoch = play.domain.settings_epoch();
  play.fingerprint = "f2";  // a role lost a membership: the catalog's rows are the same
  play.time.advance_ms(5100);
  CHECK(play.domain.settings_epoch() == epoch + 1);
  CHECK(play.publications() == 1);
  CHECK(play.lease());
}

TEST_CASE("polls that fail: no lease, because changes would go unnoticed") {
  Play play;
  play.start();
  play.polls_held = true;
  play.time.advance_ms(14'000);
  CHECK(play.lease());
  play.time.advance_ms(3000);
  CHECK_FALSE(play.lease());
  CHECK(play.domain.trouble() == Reason::kNoLease);
  play.polls_held = false;
  play.time.advance_ms(60'000);
  CHECK(play.lease());
}

TEST_CASE("the catalog connection breaks during a reading") {
  Play play;
  play.start();
  play.loads_held = true;
  play.notify("1 50 s");
  play.server.other()->lose("terminated by administrator");
  play.loads_held = false;
  play.time.advance_ms(1000);
  CHECK(play.lease());
  CHECK(play.catalog_current());
}

}  // namespace
}  // namespace pgfresh::freshness
