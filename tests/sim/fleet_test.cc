// Plays with several proxies: joining (freshness.md, rule 10), entries that one makes and another
// gives, and what must not be given. Anomalies 3, 6, 7 and 8.
#include <doctest/doctest.h>

#include "freshness/join.h"
#include "support/bench_texts.h"
#include "support/fleet.h"

namespace pgfresh::sim {
namespace {

NodeOptions proxies_publish() {
  NodeOptions options;
  options.feed.publish = freshness::Publish::kProxy;
  return options;
}

// ── Joining ──────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("the first one is live at once: there is nobody to wait for") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  CHECK(Fleet::live(a));
  CHECK(a.feed().joins == 0);
}

TEST_CASE("the second takes over the first one's tokens, and is live within moments") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  f.postgres.write_directly(2, 20);  // so that there is more than a base
  f.time.settle();
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  CHECK(Fleet::live(b));
  CHECK(b.feed().joins == 1);
  CHECK(a.feed().maps_given == 1);
  CHECK(Fleet::agree(a, b));
  f.postgres.write_directly(1, 10);
  f.time.settle();
  CHECK(Fleet::agree(a, b));
}

TEST_CASE("what one has fetched another gives, without PostgreSQL") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  WireClient& ca = f.client(a);
  CHECK(f.ask(ca, kOne) == kOld);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& cb = f.client(b);
  CHECK(f.ask(cb, kTwo) == kOldTwo);  // its settings are read
  static_cast<void>(f.sent());
  CHECK(f.ask(cb, kOne) == kOld);
  CHECK(f.sent().empty());
  CHECK(b.count(Counter::kHitsL2) == 1);
}

TEST_CASE("events between the question and the map are applied once") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  WireClient& ca = f.client(a);
  CHECK(f.ask(ca, kOne) == kOld);
  f.redis.hold(false, true);  // the map is there, and cannot be collected
  ProxyNode& b = f.add();
  f.time.advance_ms(5);
  CHECK_FALSE(Fleet::live(b));
  f.postgres.write_directly(1, 11);
  f.postgres.write_directly(2, 21);
  f.time.settle();
  f.redis.release();
  f.time.advance_ms(100);
  CHECK(b.feed().joins == 1);
  CHECK(Fleet::live(b));
  CHECK(Fleet::agree(a, b));
  WireClient& cb = f.client(b);
  CHECK(f.ask(cb, kOne) == kNew);
}

TEST_CASE("a schema event behind the question is applied, too") {
  Fleet f;
  f.postgres.database().set_event_triggers(true);
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  f.redis.hold(false, true);
  ProxyNode& b = f.add();
  f.time.advance_ms(5);
  WireClient& writer = f.direct();
  static_cast<void>(f.ask(writer, "ALTER TABLE side ADD x int"));
  f.redis.release();
  f.time.advance_ms(200);
  CHECK(b.feed().joins == 1);
  CHECK(Fleet::agree(a, b));
  CHECK(Fleet::live(b));
}

TEST_CASE("nobody can answer: a cold start, within the staleness") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  a.freeze();
  ProxyNode& b = f.add();
  f.time.advance_ms(900);
  CHECK_FALSE(Fleet::live(b));
  f.time.advance_ms(300);
  CHECK(Fleet::live(b));
  CHECK(b.feed().joins == 0);
  CHECK(b.feed().joins_refused == 1);
  // Later they find each other: the smaller base is both's.
  a.thaw();
  f.time.advance_ms(20'000);
  CHECK(Fleet::live(a));
  CHECK(Fleet::live(b));
  CHECK(Fleet::agree(a, b));
}

TEST_CASE("Redis is away: nobody waits for it") {
  Fleet f;
  ProxyNode& a = f.add();
  f.redis.set_down(true);
  f.time.advance_ms(10);
  ProxyNode& b = f.add();
  f.time.advance_ms(600);  // whoever starts among others looks for half the staleness
  CHECK(Fleet::live(a));
  CHECK(Fleet::live(b));
}

TEST_CASE("the way to Redis is there a moment after the feed: it is waited for") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  f.redis.set_down(true);
  ProxyNode& b = f.add();
  f.time.advance_ms(80);
  CHECK_FALSE(Fleet::live(b));
  f.redis.set_down(false);
  f.time.advance_ms(40);
  CHECK(Fleet::live(b));
  CHECK(b.feed().joins == 1);
  CHECK(Fleet::agree(a, b));
}

TEST_CASE("a feed that was cut for a moment joins again, and memory is warm") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& cb = f.client(b);
  CHECK(f.ask(cb, kOne) == kOld);
  CHECK(f.ask(cb, kTwo) == kOldTwo);
  f.postgres.lose_control("cut", &b.control_loop());
  f.postgres.write_directly(1, 11);  // in the gap
  f.time.advance_ms(200);
  CHECK(Fleet::live(b));
  CHECK(b.feed().sessions == 2);
  CHECK(Fleet::agree(a, b));
  static_cast<void>(f.sent());
  CHECK(f.ask(cb, kTwo) == kOldTwo);
  CHECK(b.count(Counter::kHitsL1) == 1);
  CHECK(f.ask(cb, kOne) == kNew);
}

TEST_CASE("restarted in turn, the fleet stays warm") {
  Fleet f;
  f.add();
  f.time.advance_ms(10);
  ProxyNode& second = f.add();
  f.time.advance_ms(50);
  WireClient& c = f.client(second);
  CHECK(f.ask(c, kOne) == kOld);
  for (int round = 0; round < 4; ++round) {
    f.stop(*f.nodes.front());
    ProxyNode& fresh = f.add();
    f.time.advance_ms(50);
    CHECK(Fleet::live(fresh));
    WireClient& client = f.client(fresh);
    CHECK(f.ask(client, kTwo) == kOldTwo);
    static_cast<void>(f.sent());
    CHECK(f.ask(client, kOne) == kOld);
    CHECK(f.sent().empty());
    CHECK(fresh.count(Counter::kHitsL2) >= 1);
  }
}

TEST_CASE("anomaly 8: all stopped while the database is written: they come back cold") {
  Fleet f;
  f.add();
  f.time.advance_ms(10);
  f.add();
  f.time.advance_ms(50);
  WireClient& c = f.client(*f.nodes.back());
  CHECK(f.ask(c, kOne) == kOld);
  CHECK(f.redis.entries() == 1);
  f.stop(*f.nodes.front());
  f.stop(*f.nodes.front());
  f.postgres.write_directly(1, 11);
  for (int i = 0; i < 2; ++i) {
    ProxyNode& fresh = f.add();
    f.time.advance_ms(50);
    WireClient& client = f.client(fresh);
    f.time.advance_ms(600);
    CHECK(Fleet::live(fresh));
    CHECK(f.ask(client, kOne) == kNew);
  }
}

// ── A peer that does not know it all does not answer ─────────────────────────────────────────────

TEST_CASE("who is reading the catalog does not answer; a moment later it does") {
  Fleet f;
  f.postgres.database().set_event_triggers(true);
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  WireClient& writer = f.direct();
  f.postgres.hold_control(false, true, &a.control_loop());  // its statements wait
  static_cast<void>(f.ask(writer, "ALTER TABLE side ADD x int"));
  ProxyNode& b = f.add();
  f.time.advance_ms(100);
  CHECK(a.feed().maps_given == 0);
  f.postgres.release_control();
  f.time.advance_ms(400);
  CHECK(b.feed().joins == 1);
  CHECK(Fleet::agree(a, b));
}

TEST_CASE("publishers are taken over: one that dies later is missed by the newcomer, too") {
  Fleet f(proxies_publish());
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  ProxyNode& p = f.add();
  f.time.advance_ms(50);
  WireClient& carrier = f.client(p);
  CHECK(f.ask(carrier, kUpdateOne) == "C:UPDATE 1 Z:I");
  f.time.advance_ms(300);
  CHECK(a.feed().publishers == 1);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  CHECK(b.feed().joins == 1);
  CHECK(b.feed().publishers == 1);
  f.stop(p);
  f.time.advance_ms(900);
  CHECK(a.feed().publishers_lost == 1);
  CHECK(b.feed().publishers_lost == 1);
}

TEST_CASE("a peer that publishes itself is followed from the start") {
  Fleet f(proxies_publish());
  ProxyNode& p = f.add();
  f.time.advance_ms(10);
  WireClient& carrier = f.client(p);
  CHECK(f.ask(carrier, kUpdateOne) == "C:UPDATE 1 Z:I");
  f.time.advance_ms(300);
  CHECK(p.feed().vouching);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  CHECK(b.feed().joins == 1);
  CHECK(b.feed().publishers == 1);
  f.stop(p);
  f.time.advance_ms(900);
  CHECK(b.feed().publishers_lost == 1);
}

TEST_CASE("a publisher dies, and its successor joins: what its clients were told of holds") {
  Fleet f(proxies_publish());
  ProxyNode& peer = f.add();
  f.time.advance_ms(10);
  ProxyNode& dies = f.add();
  f.time.advance_ms(50);
  WireClient& writer = f.client(dies);
  CHECK(f.ask(writer, kUpdateOne) == "C:UPDATE 1 Z:I");
  f.time.advance_ms(300);
  REQUIRE(dies.feed().vouching);
  CHECK(f.ask(writer, kTwo) == kOldTwo);  // Redis has it
  f.postgres.hold_control(false, true, &dies.control_loop());
  CHECK(f.ask(writer, "UPDATE bench SET v = 21 WHERE id = 2") == "C:UPDATE 1 Z:I");
  f.stop(dies);
  f.postgres.release_control();

  ProxyNode& successor = f.add();
  WireClient& reader = f.client(successor);
  for (int i = 0; i < 150; ++i) {
    CHECK(f.ask(reader, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
    f.time.advance_ms(10);
  }
  CHECK(successor.feed().joins == 1);
  CHECK(successor.count(Counter::kHitsL1) > 0);
  CHECK(peer.feed().publishers_lost == 1);
}

// Two proxies that publish: a client of the one carries, and has stopped to read; a client of the
// other has the answer in memory that is about to change.
struct LazyClient {
  explicit LazyClient(Fleet& f_in) : f(f_in) {
    f.postgres.database().set_pad(std::string(60'000, 'x'));
    publisher = &f.add();
    f.time.advance_ms(10);
    other = &f.add();
    f.time.advance_ms(50);
    lazy = &f.client(*publisher);
    server = f.postgres.backend()->pipe();
    server->set_chunking(0, [] { return 65'536; });
    reader = &f.client(*other);
    CHECK(f.ask(*lazy, kUpdateOne) == "C:UPDATE 1 Z:I");
    f.time.advance_ms(300);
    REQUIRE(publisher->feed().vouching);
    for (int i = 0; i < 2; ++i) CHECK(f.ask(*reader, kTwo) == kOldTwo);
    f.pipes[0]->set_window(0, 1000);
    f.pipes[0]->hold(0);
  }

  // A write whose COMMIT is answered behind so many rows of 60 kB.
  void write_behind(int rows) {
    CHECK(f.ask(*lazy, "BEGIN").empty());
    CHECK(f.ask(*lazy, "UPDATE bench SET v = 31 WHERE id = 3").empty());
    std::string reads;
    for (int i = 0; i < rows; ++i) reads += "SELECT pad FROM bench WHERE id = 1;";
    lazy->query(reads).query("UPDATE bench SET v = 21 WHERE id = 2").query("COMMIT");
    f.run();
  }
  [[nodiscard]] size_t unread() const { return f.pipes[0]->in_flight(0); }

  Fleet& f;
  ProxyNode* publisher = nullptr;
  ProxyNode* other = nullptr;
  std::shared_ptr<MemoryPipe> server;  // the lazy client's; side 0 is the publisher's
  WireClient* lazy = nullptr;
  WireClient* reader = nullptr;
};

TEST_CASE("rule 14: a client that does not read holds up its rows, not the word of its commit") {
  Fleet f(proxies_publish());
  LazyClient play(f);
  const uint64_t carried = play.publisher->count(Counter::kCarried);
  play.write_behind(20);
  CHECK(play.unread() > limits::kQueueHighBytes);
  CHECK(play.publisher->count(Counter::kCarried) == carried + 1);
  CHECK(f.ask(*play.reader, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  CHECK(play.publisher->feed().sessions == 1);
  f.pipes[0]->release(0);
  f.run();
  CHECK(play.lazy->take().ends_with("C:UPDATE 1 Z:T C:COMMIT Z:I"));
}

TEST_CASE("rule 15: beyond what is kept for such a client everybody forgets") {
  Fleet f(proxies_publish());
  LazyClient play(f);
  play.write_behind(100);
  CHECK(play.unread() > limits::kUnheardBytesMax);
  CHECK(play.unread() < limits::kUnheardBytesMax + limits::kQueueHighBytes);
  f.time.advance_ms(1000);
  CHECK(f.ask(*play.reader, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  CHECK(play.publisher->feed().sessions == 2);
  CHECK(play.other->feed().publishers_lost == 1);
}

TEST_CASE("rule 14: the word of a commit is late, on that connection alone: everybody forgets") {
  Fleet f(proxies_publish());
  LazyClient play(f);
  f.pipes[0]->release(0);
  WireClient& near = f.client(*play.publisher);
  for (int i = 0; i < 2; ++i) CHECK(f.ask(near, kTwo) == kOldTwo);
  const auto server = play.server;
  server->hold(0);
  play.lazy->forget();
  CHECK(f.ask(*play.lazy, "UPDATE bench SET v = 21 WHERE id = 2").empty());
  CHECK(f.ask(near, kTwo) == kOldTwo);  // anomaly 9: it is not acknowledged
  f.time.advance_ms(1000);
  CHECK(f.ask(near, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  CHECK(f.ask(*play.reader, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  f.time.advance_ms(5000);
  CHECK(play.publisher->feed().commits_late == 1);
  CHECK(play.publisher->feed().sessions == 1);
  CHECK(play.other->feed().publishers_lost == 0);

  const uint64_t carried = play.publisher->count(Counter::kCarried);
  server->release(0);
  f.run();
  CHECK(play.lazy->take() == "C:UPDATE 1 Z:I");
  CHECK(play.publisher->count(Counter::kCarried) == carried + 1);
  CHECK(f.ask(*play.lazy, "UPDATE bench SET v = 22 WHERE id = 2") == "C:UPDATE 1 Z:I");
  CHECK(f.ask(*play.reader, kTwo) == "T:v D:22 C:SELECT 1 Z:I");
  CHECK(play.publisher->feed().commits_late == 1);
}

TEST_CASE("rule 14: the word of a commit is late, and half a message lies behind it") {
  Fleet f(proxies_publish());
  LazyClient play(f);
  f.pipes[0]->release(0);
  static_cast<void>(f.ask(*play.lazy, "UPDATE bench SET v = 20 WHERE id = 2"));
  CHECK(f.ask(*play.reader, kTwo) == kOldTwo);
  const auto server = play.server;
  server->hold(0);
  play.lazy->query("UPDATE bench SET v = 21 WHERE id = 2").raw(std::string_view("Q\0\0", 3));
  f.run();
  f.time.advance_ms(1000);
  CHECK(f.ask(*play.reader, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  f.time.advance_ms(5000);
  CHECK(play.publisher->feed().commits_late == 1);
}

TEST_CASE("announcements and questions that anybody makes up harm nobody") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  const uint64_t base = Fleet::base(a);
  WireClient& c = f.client(a);
  CHECK(f.ask(c, kOne) == kOld);
  for (int i = 0; i < 50; ++i) {
    f.postgres.notify({"2 l 8000000000000001", "2 j 0123456789abcdef0123456789abcdef", "2 j x",
                       "2 j 0123456789abcdef0123456789abcdef 8000000000000001",
                       freshness::format_lineage(base), "2 d 0000000000000000"});
    f.time.advance_ms(7);
    CHECK(f.ask(c, kOne) == kOld);
  }
  CHECK(a.count(Counter::kHitsL1) == 50);
  CHECK(Fleet::base(a) == base);
  CHECK(f.redis.letters() <= 10);
}

// ── Judged by one's own slots ────────────────────────────────────────────────────────────────────

TEST_CASE("anomaly 3: two writes through two proxies, the feeds held: neither is forgotten") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& ca = f.client(a);
  WireClient& cb = f.client(b);
  CHECK(f.ask(ca, kOne) == kOld);
  CHECK(f.ask(cb, kOne) == kOld);
  f.postgres.hold_control(true, true);
  CHECK(f.ask(ca, kUpdateOne) == "C:UPDATE 1 Z:I");
  CHECK(f.ask(cb, "UPDATE bench SET v = 12 WHERE id = 1") == "C:UPDATE 1 Z:I");
  CHECK(f.ask(ca, kOne) == "T:v D:12 C:SELECT 1 Z:I");
  CHECK(f.ask(cb, kOne) == "T:v D:12 C:SELECT 1 Z:I");
  f.postgres.release_control();
  f.run();
  CHECK(f.ask(ca, kOne) == "T:v D:12 C:SELECT 1 Z:I");
  CHECK(f.ask(cb, kOne) == "T:v D:12 C:SELECT 1 Z:I");
  CHECK(Fleet::agree(a, b));
}

TEST_CASE("anomaly 6: one that lags puts what is old; who is ahead does not find it") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& ca = f.client(a);
  WireClient& cb = f.client(b);
  CHECK(f.ask(cb, kTwo) == kOldTwo);
  f.redis.hold(true, false);  // what they say to Redis waits
  ca.query(kOne);
  f.run();
  f.time.advance_ms(20);
  CHECK(ca.take() == kOld);  // and its SET is on its way
  f.postgres.write_directly(1, 11);
  f.run();
  f.redis.release();
  f.run();
  CHECK(f.ask(cb, kOne) == kNew);
  CHECK(f.ask(ca, kOne) == kNew);
}

TEST_CASE("events free what they killed in Redis, too") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  WireClient& ca = f.client(a);
  CHECK(f.ask(ca, kOne) == kOld);
  CHECK(f.ask(ca, kTwo) == kOldTwo);
  CHECK(f.redis.entries() == 2);
  f.postgres.write_directly(1, 11);
  f.run();
  CHECK(f.redis.entries() == 1);
}

// ── One fetch for the whole fleet ────────────────────────────────────────────────────────────────

TEST_CASE("while one fetches the other waits for its answer") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(10);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& ca = f.client(a);
  WireClient& cb = f.client(b);
  const auto backend_of = [&](size_t i) { return f.postgres.backends()[i]; };
  // PostgreSQL has been seen to be slow for this query, by both.
  CHECK(f.ask(ca, kTwo) == kOldTwo);
  CHECK(f.ask(cb, kTwo) == kOldTwo);
  for (WireClient* c : {&ca, &cb}) {
    c->query("SELECT v FROM bench WHERE id = " + std::to_string(c == &ca ? 3 : 4));
    const auto backend = backend_of(c == &ca ? 0 : 1);
    backend->stall();
    f.run();
    f.time.advance_ms(15);
    backend->go_on();
    f.run();
    CHECK(c->take() == (c == &ca ? "T:v D:30 C:SELECT 1 Z:I" : "T:v C:SELECT 0 Z:I"));
  }
  backend_of(0)->stall();
  ca.query(kOne);
  f.run();
  cb.query(kOne);
  static_cast<void>(f.sent());
  f.run();
  f.time.advance_ms(3);
  CHECK(f.sent().find("id = 1") == std::string::npos);
  CHECK(cb.take().empty());
  backend_of(0)->go_on();
  f.run();
  CHECK(ca.take() == kOld);
  f.time.advance_ms(8);
  CHECK(cb.take() == kOld);
  CHECK(b.count(Counter::kHitsL2) == 2);
  CHECK(b.count(Counter::kFleetWaits) == 1);
}

}  // namespace
}  // namespace pgfresh::sim
