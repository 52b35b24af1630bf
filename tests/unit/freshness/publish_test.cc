// Rules 14 and 15 at the feed: what is published, when slots close, when there is a carry lease,
// and what becomes of those who follow a publisher that dies.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "feed_play.h"

namespace pgfresh::freshness {
namespace {

constexpr Oid kTable = 16402;

FeedOptions publishes(Publish who) {
  FeedOptions options;
  options.publish = who;
  return options;
}

FeedOptions proxy_publishes() { return publishes(Publish::kProxy); }

Carried carried(std::string_view payload) {
  Carried events;
  events.add(payload);
  return events;
}

bool may_carry(Play& play) {
  if (!play.domain.begin_carrying(play.time)) return false;
  play.domain.end_carrying();
  return true;
}

size_t said(const Play& play, std::string_view prefix) {
  return static_cast<size_t>(
      std::count_if(play.said.begin(), play.said.end(),
                    [&](const std::string& payload) { return payload.starts_with(prefix); }));
}

TEST_CASE("a proxy that nobody asks to carry says nothing") {
  Play play(proxy_publishes());
  play.start();
  play.time.advance_ms(5000);
  CHECK(play.said.empty());
  CHECK_FALSE(may_carry(play));
}

TEST_CASE("asked to, it beats, and there is a carry lease while its beats come back") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  CHECK(said(play, "3 b ") == 1);
  CHECK(may_carry(play));
  play.time.advance_ms(3000);
  CHECK(said(play, "3 b ") >= 12);
  CHECK(may_carry(play));
  play.beats_held = true;
  play.time.advance_ms(260);
  CHECK_FALSE(may_carry(play));
}

TEST_CASE("where triggers publish nobody may carry") {
  Play play(publishes(Publish::kTrigger));
  play.start();
  play.domain.want_carrying();
  play.time.advance_ms(1000);
  CHECK(play.said.empty());
  CHECK_FALSE(may_carry(play));
}

TEST_CASE("events are published; slots close when they have come back, tokens have changed then") {
  Play play(proxy_publishes());
  play.start();
  const uint32_t slot = play.slot(any_tag(kTable));
  const uint64_t before = play.token(any_tag(kTable));
  play.open({slot});
  play.beats_held = true;
  play.feed->ended({{slot}, carried("1 7 w 16402")});
  play.time.settle();
  CHECK(play.domain.tokens().is_open(slot));
  CHECK(play.token(any_tag(kTable)) == before);
  play.beats_held = false;
  play.server.listener()->answer();  // it says nothing: as if it had not come back
  play.time.settle();
  CHECK_FALSE(play.domain.tokens().is_open(slot));  // by the fence behind it
  play.open({slot});
  play.feed->ended({{slot}, carried("1 8 w 16402")});
  play.time.settle();
  CHECK_FALSE(play.domain.tokens().is_open(slot));
  CHECK(play.token(any_tag(kTable)) != before);
  CHECK(said(play, "1 8 w 16402") == 1);
}

TEST_CASE("what comes while a statement is in flight goes out together") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  play.beats_held = true;
  play.feed->ended({{}, carried("1 7 w 16402")});
  play.time.settle();
  play.feed->ended({{}, carried("1 8 w 16402")});
  play.feed->ended({{}, carried("1 9 w 16402")});
  play.time.settle();
  play.beats_held = false;
  play.server.listener()->answer();
  play.time.settle();
  CHECK(said(play, "3 m 11:1 8 w 16402 11:1 9 w 16402") == 1);
}

TEST_CASE("a publication that PostgreSQL refuses is made again, as everything") {
  Play play(proxy_publishes());
  play.start();
  const uint32_t slot = play.slot(any_tag(kTable));
  play.open({slot});
  play.publish_error = "no";
  play.feed->ended({{slot}, carried("1 7 w 16402")});
  play.time.settle();
  CHECK(play.domain.tokens().is_open(slot));
  CHECK(play.feed->status().sessions == 1);
  play.publish_error.reset();
  play.time.advance_ms(300);
  CHECK_FALSE(play.domain.tokens().is_open(slot));
  CHECK(said(play, "1 1 s") == 1);
}

TEST_CASE("who may not publish has hits, and writers who notify; he says why, and tries again") {
  Play play(proxy_publishes());
  play.start();
  play.publish_error = "permission denied for function pg_notify";
  play.domain.want_carrying();
  for (int round = 0; round < 300; ++round) {
    play.time.advance_ms(100);
    CHECK(play.lease());
    CHECK_FALSE(may_carry(play));
  }
  CHECK(play.publications() <= 4);
  CHECK(play.feed->status().state == "live");
  CHECK_FALSE(play.feed->status().vouching);
  CHECK(play.feed->status().trouble == "publishing: permission denied for function pg_notify");
  play.publish_error.reset();
  play.time.advance_ms(11'000);
  play.domain.want_carrying();
  play.time.settle();
  CHECK(may_carry(play));
  CHECK(play.feed->status().trouble.empty());
}

TEST_CASE("who may not publish any more has hits again, and events that are carried go out later") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  REQUIRE(play.domain.begin_carrying(play.time));
  play.publish_error = "no";
  play.time.advance_ms(3000);
  CHECK(play.lease());
  CHECK_FALSE(may_carry(play));
  const uint32_t slot = play.slot(any_tag(kTable));
  play.open({slot});
  play.feed->ended({{slot}, carried("1 7 w 16402")});
  play.domain.end_carrying();
  play.time.advance_ms(3000);
  CHECK_FALSE(play.lease());  // nothing says that what is owed is known
  CHECK(play.domain.tokens().is_open(slot));
  play.publish_error.reset();
  play.time.advance_ms(300);
  CHECK(play.lease());
  CHECK_FALSE(play.domain.tokens().is_open(slot));
  CHECK(said(play, "1 1 s") == 1);
}

TEST_CASE("a publication cut off is made again by the next session") {
  Play play(proxy_publishes());
  play.start();
  const uint32_t slot = play.slot(any_tag(kTable));
  play.open({slot});
  play.beats_held = true;
  play.feed->ended({{slot}, carried("1 7 w 16402")});
  play.time.settle();
  play.server.lose_all("cut");
  play.beats_held = false;
  play.time.advance_ms(500);
  CHECK(said(play, "1 7 w 16402") == 1);
  CHECK_FALSE(play.domain.tokens().is_open(slot));
}

TEST_CASE("unused for long, it says the end, but not while somebody carries") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  REQUIRE(play.domain.begin_carrying(play.time));
  play.time.advance_ms(30'000);
  CHECK(said(play, "3 e ") == 0);
  play.domain.end_carrying();
  play.time.advance_ms(12'000);
  CHECK(said(play, "3 e ") == 1);
  CHECK_FALSE(may_carry(play));
  play.said.clear();
  play.time.advance_ms(5000);
  CHECK(play.said.empty());
  play.domain.want_carrying();  // heard once more
  play.time.settle();
  CHECK(may_carry(play));
}

TEST_CASE("switched to triggers, it ends as soon as nobody carries") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  REQUIRE(play.domain.begin_carrying(play.time));
  play.feed->set_options(publishes(Publish::kTrigger));
  CHECK_FALSE(may_carry(play));
  play.time.advance_ms(1000);
  CHECK(said(play, "3 e ") == 0);
  play.domain.end_carrying();
  play.time.advance_ms(1000);
  CHECK(said(play, "3 e ") == 1);
  play.feed->set_options(proxy_publishes());
  play.domain.want_carrying();
  play.time.settle();
  CHECK(may_carry(play));
}

TEST_CASE("leaving: what is queued is published, then the end is said, then done") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  play.beats_held = true;
  play.feed->ended({{}, carried("1 7 w 16402")});
  bool left = false;
  play.feed->leave([&left] { left = true; });
  play.time.advance_ms(100);
  CHECK_FALSE(left);
  play.beats_held = false;
  play.server.listener()->answer();
  play.time.advance_ms(300);
  CHECK(left);
  CHECK(said(play, "1 7 w 16402") + said(play, "3 m ") <= 1);
  CHECK(said(play, "3 e ") == 1);
}

TEST_CASE("leaving waits for what is not decided") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  play.backends = {{"4711", "then"}};
  play.feed->lost(4711, {{}, carried("1 7 w 16402")});
  bool left = false;
  play.feed->leave([&left] { left = true; });
  play.time.advance_ms(900);
  CHECK_FALSE(left);
  play.backends.clear();
  play.time.advance_ms(3000);
  CHECK(left);
  CHECK(said(play, "1 7 w 16402") == 1);
}

TEST_CASE("a lost backend: gone, looked for among the prepared, published") {
  Play play(proxy_publishes());
  play.start();
  const uint32_t slot = play.slot(any_tag(kTable));
  play.open({slot});
  play.backends = {{"4711", "then"}};
  play.feed->lost(4711, {{slot}, carried("1 7 w 16402")});
  play.time.advance_ms(500);
  CHECK(said(play, "1 7") == 0);
  play.running = {"p7"};
  play.backends.clear();
  play.time.advance_ms(2000);
  CHECK(said(play, "1 7") == 0);
  CHECK(play.domain.tokens().is_open(slot));
  play.running = {"p8"};
  play.time.advance_ms(500);
  CHECK(said(play, "1 7 w 16402") == 1);
  CHECK_FALSE(play.domain.tokens().is_open(slot));
}

TEST_CASE("a prepared transaction is published when it is gone") {
  Play play(proxy_publishes());
  play.start();
  const uint32_t slot = play.slot(any_tag(kTable));
  play.open({slot});
  play.running = {"p7"};
  play.feed->prepared({{slot}, carried("1 4294967303 w 16402")});  // 2^32 + 7
  play.time.advance_ms(3000);
  CHECK(said(play, "1 4294967303") == 0);
  CHECK(play.domain.tokens().is_open(slot));
  play.running.clear();
  play.time.advance_ms(600);
  CHECK(said(play, "1 4294967303 w 16402") == 1);
  CHECK_FALSE(play.domain.tokens().is_open(slot));
}

TEST_CASE("a prepared transaction that cannot be looked at is not vouched for") {
  Play play(proxy_publishes());
  play.start();
  play.domain.want_carrying();
  play.running = {"p7"};
  play.feed->prepared({{}, carried("1 7 w 16402")});
  play.time.advance_ms(3000);
  CHECK(may_carry(play));  // it is looked at, and waits
  play.looks_held = true;
  play.time.advance_ms(600);
  const size_t beats = said(play, "3 b ");
  play.time.advance_ms(400);
  CHECK(said(play, "3 b ") == beats);
  CHECK_FALSE(may_carry(play));
  CHECK(said(play, "1 7 w 16402") == 0);
}

TEST_CASE("merged events are applied, each") {
  Play play;
  play.start();
  const Stamp one = play.stamp_on(kTable);
  CHECK(play.servable(one));
  play.notify("3 m 11:1 7 w 16402 11:1 8 w 16402");
  CHECK_FALSE(play.servable(one));
  CHECK(play.feed->status().events == 2);
  CHECK(play.lease());
}

TEST_CASE("a message that cannot be read forgets everything") {
  Play play;
  play.start();
  for (const char* payload : {"3 m 11:1 7 w 16402 5:1 8 w", "3 b 7", "3 x", "3 m", "3 e 0"}) {
    const uint64_t base = play.domain.tokens().base();
    play.time.advance_ms(200);
    play.notify(payload);
    CHECK(play.domain.tokens().base() != base);
  }
}

TEST_CASE("a publisher falls silent: a new base, and one for each noted transaction's end") {
  Play play;
  play.start();
  constexpr uint32_t kPublisher = 77;
  play.others = true;
  play.running = {"5/1"};
  play.server.notify("pgfresh", "3 b 9 1", kPublisher);
  play.time.settle();
  CHECK(play.feed->status().publishers == 1);
  CHECK(play.lease());
  const uint64_t base = play.domain.tokens().base();
  play.time.advance_ms(450);
  CHECK(play.domain.tokens().base() == base);
  play.time.advance_ms(800);
  CHECK(play.domain.tokens().base() != base);
  CHECK(play.feed->status().publishers_lost == 1);
  CHECK(play.lease());
  play.time.advance_ms(2000);
  const uint64_t noted = play.domain.tokens().base();
  play.time.advance_ms(2000);
  CHECK(play.domain.tokens().base() == noted);
  CHECK(play.feed->status().transactions_noted == 1);
  play.running.clear();
  play.time.advance_ms(400);
  CHECK(play.domain.tokens().base() != noted);
  CHECK(play.feed->status().transactions_noted == 0);
}

TEST_CASE("a publisher that says the end is not missed; one who says it for him changes nothing") {
  Play play;
  play.start();
  play.server.notify("pgfresh", "3 b 9 1", 77);
  play.server.notify("pgfresh", "3 b 10 1", 78);
  play.server.notify("pgfresh", "3 e 9", 77);
  play.server.notify("pgfresh", "3 e 10", 79);  // forged
  play.time.settle();
  CHECK(play.feed->status().publishers == 1);
  play.time.advance_ms(1200);
  CHECK(play.feed->status().publishers_lost == 1);
}

TEST_CASE("no lease while nobody can say what the dead publisher left") {
  Play play;
  play.start();
  play.server.notify("pgfresh", "3 b 9 1", 77);
  play.time.settle();
  play.looks_held = true;
  play.time.advance_ms(1200);
  CHECK_FALSE(play.lease());
}

TEST_CASE("a start among others: no lease for half of the staleness") {
  Play play;
  play.others = true;
  play.start();
  play.time.advance_ms(400);
  CHECK_FALSE(play.lease());
  play.time.advance_ms(400);
  CHECK(play.lease());
}

// A way to Redis that never answers.
class EmptyMailbox final : public Mailbox {
 public:
  [[nodiscard]] bool mail_available() const override { return true; }
  [[nodiscard]] std::unique_ptr<Pending> post(std::string_view, std::string_view, int64_t,
                                              Posted) override {
    return nullptr;
  }
  [[nodiscard]] std::unique_ptr<Pending> collect(std::string_view, Collected) override {
    return nullptr;
  }
};

TEST_CASE("a member of a fleet that may not publish has hits, too") {
  EmptyMailbox mailbox;
  FeedOptions options;
  options.mailbox = &mailbox;
  Play play(options);
  play.start();
  play.time.advance_ms(3000);
  CHECK(play.lease());
  play.publish_error = "permission denied for function pg_notify";
  play.time.advance_ms(3000);
  CHECK(play.lease());
  play.notify("1 5 s");  // somebody's DDL: the catalog is read again, and a proof is wanted
  play.time.advance_ms(30'000);
  CHECK(play.catalog_current());
  CHECK(play.lease());
  CHECK_FALSE(play.domain.exact());
}

TEST_CASE("one refused beat is said again before followers give up") {
  FeedOptions options;
  options.publish = Publish::kProxy;
  Play play(options);
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  REQUIRE(play.domain.begin_carrying(play.time));
  play.time.advance_ms(2000);
  play.publish_error = "canceling statement due to lock timeout";
  for (int i = 0; i < 400 && play.feed->status().refusal.empty(); ++i) play.time.advance_ms(1);
  REQUIRE_FALSE(play.feed->status().refusal.empty());
  play.publish_error.reset();
  const size_t said = play.said.size();
  play.time.advance_ms(400);
  CHECK(play.said.size() > said);
}

TEST_CASE("vouching goes on while short transactions come and go") {
  FeedOptions options;
  options.publish = Publish::kProxy;
  Play play(options);
  play.start();
  play.domain.want_carrying();
  play.time.settle();
  int without = 0;
  for (int i = 0; i < 3000; ++i) {
    if (play.domain.begin_carrying(play.time)) {
      Carried events;
      events.add("1 7 w 16402");
      play.feed->ended({{}, std::move(events)});
      play.domain.end_carrying();
    } else {
      ++without;
      play.domain.want_carrying();
    }
    play.time.settle();
    play.time.advance_ms(10);
  }
  CHECK(without == 0);
}

}  // namespace
}  // namespace pgfresh::freshness
