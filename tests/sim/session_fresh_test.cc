// Plays about freshness: own writes, the writes of others, and every place where an answer must
// not be given or not be kept. The numbers are of freshness.md: rules, and anomalies to test.
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"

namespace pgfresh::sim {
namespace {

constexpr const char* kThree = "SELECT v FROM bench WHERE id = 3";

// ── Own proxy (P1) ───────────────────────────────────────────────────────────────────────────────

TEST_CASE("own write, then own read, and everybody else's through this proxy") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  const HeldFeed held(w);
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(b, kOne) == kNew);
  CHECK(w.hits() == 0);
  CHECK(w.proxy.bypasses(Reason::kOpen) == 2);
  CHECK(w.count(Counter::kFills) == 1);  // and nothing is kept meanwhile
}

TEST_CASE("the in-band notice is not for the client") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  CHECK(w.count(Counter::kNotices) == 1);
}

TEST_CASE("once settled, the slots are closed and the new answer is kept") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  CHECK(w.proxy.feed().open_slots == 0);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 1);
}

TEST_CASE("a write to another table leaves the answer alone") {
  World w;
  w.postgres.database().put(1, 1, "side");
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, "UPDATE side SET v = 2 WHERE id = 1") == "C:UPDATE 1 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("a write to another row leaves the answer alone, one that is not settled too") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  const std::string whole = "SELECT count(*), sum(v) FROM bench";
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
  CHECK(w.ask(a, whole) == "T:count,sum D:3,60 C:SELECT 1 Z:I");
  const HeldFeed held(w);
  CHECK(w.ask(a, "UPDATE bench SET v = 21 WHERE id = 2") == "C:UPDATE 1 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 2);
  CHECK(w.ask(b, kTwo) == "T:v D:21 C:SELECT 1 Z:I");
  CHECK(w.ask(b, whole) == "T:count,sum D:3,61 C:SELECT 1 Z:I");
  CHECK(w.hits() == 2);
  CHECK(w.proxy.bypasses(Reason::kOpen) == 2);
}

TEST_CASE("a statement that changed no row says nothing") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, "UPDATE bench SET v = 1 WHERE id = 99") == "C:UPDATE 0 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("anomaly 11: own uncommitted write is seen in its block, and by nobody after ROLLBACK") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.ask(a, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:T");
  CHECK(w.ask(a, kOne) == "T:v D:11 C:SELECT 1 Z:T");
  CHECK(w.ask(a, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.ask(a, "ROLLBACK") == "C:ROLLBACK Z:I");
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.count(Counter::kFills) <= 2);
  CHECK(w.proxy.feed().open_slots == 0);
}

TEST_CASE("nothing is recorded behind an own write of the block, whatever it reads") {
  World w;
  w.postgres.database().put(1, 1, "side");
  WireClient& a = w.session();
  CHECK(w.ask(a, "SELECT v FROM side WHERE id = 1") == "T:v D:1 C:SELECT 1 Z:I");
  const uint64_t fills = w.count(Counter::kFills);
  static_cast<void>(w.ask(a, "BEGIN"));
  static_cast<void>(w.ask(a, "UPDATE side SET v = 2 WHERE id = 1"));
  CHECK(w.ask(a, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.count(Counter::kFills) == fills);
  CHECK(w.proxy.bypasses(Reason::kWrote) == 1);
  CHECK(w.ask(a, "COMMIT") == "C:COMMIT Z:I");
}

TEST_CASE("anomaly 11: [UPDATE; SELECT; error] in one segment, then read elsewhere") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  w.postgres.database().set_quirk(3, Quirk::kError);
  CHECK(w.ask(b, kOne) == kOld);
  a.parse("", kUpdateOne).bind("", "").execute();
  a.parse("", kOne).bind("", "").describe('P', "").execute();
  a.parse("", kThree).bind("", "").execute().sync();
  w.run();
  CHECK(a.take() == "1 2 C:UPDATE 1 1 2 T:v D:11 C:SELECT 1 1 2 E:22012 Z:I");
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
}

TEST_CASE("anomaly 10: a savepoint rolled back after its notice closes the slot soon") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(b, kOne) == kOld);
  for (const char* sql : {"BEGIN", "SAVEPOINT s", kUpdateOne, "ROLLBACK TO s", "COMMIT"}) {
    static_cast<void>(w.ask(a, sql));
  }
  w.advance_ms(5);
  CHECK(w.proxy.feed().open_slots == 0);
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 1);  // no event came: the entry lives
}

TEST_CASE("a multi-statement text with a write") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, std::string(kUpdateOne) + "; " + kOne) == "C:UPDATE 1 T:v D:11 C:SELECT 1 Z:I");
  CHECK(w.ask(a, kOne) == kNew);
}

TEST_CASE("COPY in, simple protocol") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  a.query("COPY bench FROM STDIN");
  w.run();
  CHECK(a.take() == "G");
  a.copy_data("1\t11\n").copy_data("7\t70\n").copy_done();
  w.run();
  CHECK(a.take() == "C:COPY 2 Z:I");
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 0);
}

TEST_CASE("COPY in, extended protocol: Syncs before its end are ignored by the server") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  a.parse("", "COPY bench FROM STDIN").bind("", "").execute().sync();
  w.run();
  CHECK(a.take() == "1 2 G");
  a.copy_data("1\t11\n").sync().copy_done().sync();
  w.run();
  CHECK(a.take() == "C:COPY 1 Z:I");
  CHECK(w.ask(a, kOne) == kNew);
  a.parse("", "COPY bench FROM STDIN").bind("", "").execute().copy_fail("no").sync();
  w.run();
  CHECK(a.take() == "1 2 G E:57014 Z:I");
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() >= 1);
}

TEST_CASE("COPY in, all in one packet, with the next statement behind it") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  a.parse("", "COPY bench FROM STDIN").bind("", "").execute();
  a.copy_data("1\t11\n").copy_done().sync().query(kOne);
  w.run();
  CHECK(a.take() == std::string("1 2 G C:COPY 1 Z:I ") + kNew);
}

TEST_CASE("COPY out passes") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, "COPY bench TO STDOUT") == "H d c C:COPY 1 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
}

// ── Anyone's writes (P2) ─────────────────────────────────────────────────────────────────────────

TEST_CASE("somebody else's write makes the answer disappear") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  w.postgres.write_directly(1, 11);
  w.run();
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 1);
}

TEST_CASE("anomaly 1: read before a commit, stored after its event") {
  World w;
  WireClient& a = w.session();
  static_cast<void>(w.ask(a, kTwo));  // the session is known
  const auto backend = w.postgres.backend();
  backend->pipe()->hold(0);
  a.query(kOne);
  w.run();
  CHECK(a.take() == "");
  w.postgres.write_directly(1, 11);
  w.run();
  CHECK(w.proxy.feed().events == 1);
  backend->pipe()->release(0);
  w.run();
  CHECK(a.take() == kOld);
  CHECK(w.count(Counter::kFillsDropped) == 1);
  CHECK(w.ask(a, kOne) == kNew);
}

TEST_CASE("a commit whose event is still on its way: the answer is kept, then dies") {
  World w;
  WireClient& a = w.session();
  static_cast<void>(w.ask(a, kTwo));
  {
    const HeldFeed held(w);
    CHECK(w.ask(a, kOne) == kOld);
    w.postgres.write_directly(1, 11);
    CHECK(w.ask(a, kOne) == kOld);  // within the lease, and nobody here has written
    CHECK(w.hits() == 1);
  }
  w.run();
  CHECK(w.ask(a, kOne) == kNew);
}

TEST_CASE("rule 11: with a silent feed hits end when the lease does") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  const HeldFeed held(w);
  w.postgres.write_directly(1, 11);
  w.advance_ms(1001);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 0);
  CHECK(w.proxy.bypasses(Reason::kNoLease) == 1);
}

TEST_CASE("anomaly 5: a proxy that was frozen finds its lease expired when it wakes") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  w.proxy.freeze();
  w.postgres.write_directly(1, 11);
  a.query(kOne);
  w.run();
  w.time.freeze_ms(10'000);
  w.proxy.thaw();
  w.run();
  CHECK(a.take() == kNew);
  CHECK(w.hits() == 0);
}

TEST_CASE("anomaly 4: writes while the feed is gone; what was kept is dead afterwards") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  w.postgres.lose_control("connection reset by peer");
  w.run();
  w.postgres.write_directly(1, 11);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.proxy.bypasses(Reason::kNoLease) == 1);
  w.advance_ms(500);
  CHECK(w.proxy.feed().state == "live");
  CHECK(w.proxy.feed().sessions == 2);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 1);
}

// ── Single flight (rule 7) ───────────────────────────────────────────────────────────────────────

struct Flight {
  Flight() {
    for (WireClient* client : {&leader, &waiter}) static_cast<void>(w.ask(*client, kTwo));
    static_cast<void>(w.sent());
    backend = w.postgres.backends().front();
    backend->stall();
    leader.query(kOne);
    w.run();
    waiter.query(kOne);
    w.run();
  }
  World w;
  WireClient& leader = w.session();
  WireClient& waiter = w.session();
  std::shared_ptr<FakeBackend> backend;  // the leader's
};

TEST_CASE("a second reader waits for the first one's fetch") {
  Flight f;
  CHECK(f.w.count(Counter::kFlightsJoined) == 1);
  CHECK(f.waiter.take() == "");
  f.backend->go_on();
  f.w.run();
  CHECK(f.leader.take() == kOld);
  CHECK(f.waiter.take() == kOld);
  CHECK(f.w.sent() == "Q SELECT v FROM bench WHERE id = 1");
}

TEST_CASE("the leader fails: the waiter goes on its own at once") {
  Flight f;
  f.backend->pipe()->cut("connection reset by peer");
  f.w.run();
  CHECK(f.leader.take() == "E:08006");
  CHECK(f.waiter.take() == kOld);
}

TEST_CASE("the leader's client is lost: the waiter goes on") {
  Flight f;
  f.w.pipes[0]->cut("connection reset by peer");
  f.w.run();
  CHECK(f.waiter.take() == kOld);
}

TEST_CASE("the leader's client has said all: the fetch goes on for the waiter") {
  Flight f;
  f.leader.disconnect();
  f.w.run();
  CHECK(f.waiter.take() == "");
  f.backend->go_on();
  f.w.run();
  CHECK(f.waiter.take() == kOld);
  CHECK(f.w.sent() == "Q SELECT v FROM bench WHERE id = 1");
}

TEST_CASE("the leader is slow: waiting is bounded") {
  Flight f;
  f.w.advance_ms(1001);
  CHECK(f.waiter.take() == kOld);
  CHECK(f.w.count(Counter::kFlightsTimedOut) == 1);
  f.backend->go_on();
  f.w.run();
  CHECK(f.leader.take() == kOld);
}

TEST_CASE("anomaly 15: a reader that arrives after a commit does not join an older fetch") {
  Flight f;
  f.w.postgres.write_directly(1, 11);
  f.w.run();
  WireClient& late = f.w.session();
  CHECK(f.w.ask(late, kOne) == kNew);
  CHECK(f.w.count(Counter::kFlightsJoined) == 1);
}

TEST_CASE("the waiter's client goes away while it waits") {
  Flight f;
  f.waiter.disconnect();
  f.w.run();
  f.backend->go_on();
  f.w.run();
  CHECK(f.leader.take() == kOld);
}

// ── Answers that are not kept ────────────────────────────────────────────────────────────────────

TEST_CASE("a row limit is PostgreSQL's business") {
  World w;
  WireClient& a = w.session();
  const char* list = "SELECT id, v FROM bench ORDER BY id";
  for (int round = 0; round < 2; ++round) {
    a.parse("", list).bind("", "").execute("", 2).execute("", 2).sync();
    w.run();
    CHECK(a.take() == "1 2 D:1,10 D:2,20 s D:3,30 C:SELECT 1 Z:I");
  }
  CHECK(w.count(Counter::kFills) == 0);
  CHECK(w.proxy.bypasses(Reason::kRowLimit) >= 2);
}

TEST_CASE("a row limit with a Sync behind it is answered here, outside a block") {
  World w;
  WireClient& a = w.session();
  const char* list = "SELECT id, v FROM bench ORDER BY id";
  const auto ask = [&](uint32_t max_rows) {
    a.parse("", list).bind("", "").execute("", max_rows).sync();
    w.run();
    return a.take();
  };
  const std::string two = "1 2 D:1,10 D:2,20 s Z:I";
  const std::string all = "1 2 D:1,10 D:2,20 D:3,30 C:SELECT 3 Z:I";
  CHECK(ask(2) == two);
  CHECK(w.hits() == 0);
  CHECK(ask(2) == two);
  CHECK(w.hits() == 1);
  // Another limit, or none, is another answer.
  CHECK(ask(1) == "1 2 D:1,10 s Z:I");
  CHECK(ask(0) == all);
  CHECK(ask(10) == all);
  CHECK(w.hits() == 1);
  CHECK(ask(10) == all);
  CHECK(ask(0) == all);
  CHECK(ask(1) == "1 2 D:1,10 s Z:I");
  CHECK(w.hits() == 4);
  // A write ends them all.
  CHECK(w.ask(a, "UPDATE bench SET v = 11 WHERE id = 1") == "C:UPDATE 1 Z:I");
  CHECK(ask(2) == "1 2 D:1,11 D:2,20 s Z:I");
  CHECK(w.hits() == 4);
}

TEST_CASE("a row limit in a block, or with anything but Sync behind it, goes to PostgreSQL") {
  World w;
  WireClient& a = w.session();
  const char* list = "SELECT id, v FROM bench ORDER BY id";
  for (int round = 0; round < 2; ++round) {
    CHECK(w.ask(a, "BEGIN") == "C:BEGIN Z:T");
    a.parse("", list).bind("", "").execute("", 2).sync();
    w.run();
    CHECK(a.take() == "1 2 D:1,10 D:2,20 s Z:T");
    // The portal is there still.
    a.execute("", 2).sync();
    w.run();
    CHECK(a.take() == "D:3,30 C:SELECT 1 Z:T");
    CHECK(w.ask(a, "COMMIT") == "C:COMMIT Z:I");
    a.parse("", list).bind("", "").execute("", 2).flush_please();
    w.run();
    CHECK(a.take() == "1 2 D:1,10 D:2,20 s");
    a.execute("", 2).sync();
    w.run();
    CHECK(a.take() == "D:3,30 C:SELECT 1 Z:I");
    // The Sync comes later: too late to be known.
    a.parse("", list).bind("", "").execute("", 2);
    w.run();
    a.sync();
    w.run();
    CHECK(a.take() == "1 2 D:1,10 D:2,20 s Z:I");
  }
  CHECK(w.hits() == 0);
  CHECK(w.proxy.bypasses(Reason::kRowLimit) >= 4);
}

TEST_CASE("after a limited answer given here, the portal is gone as it is at PostgreSQL") {
  World w;
  WireClient& a = w.session();
  a.parse("s", "SELECT id, v FROM bench ORDER BY id").sync();
  w.run();
  CHECK(a.take() == "1 Z:I");
  for (int round = 0; round < 3; ++round) {
    a.bind("", "s").execute("", 1).sync();
    w.run();
    CHECK(a.take() == "2 D:1,10 s Z:I");
  }
  CHECK(w.hits() == 2);
  a.execute("", 1).sync();
  w.run();
  CHECK(a.take().starts_with("E:34000"));
}

TEST_CASE("an answer with a notice, or with a ParameterStatus, is not kept") {
  World w;
  WireClient& a = w.session();
  w.postgres.database().set_quirk(2, Quirk::kNotice);
  w.postgres.database().set_quirk(3, Quirk::kParameterStatus);
  for (int round = 0; round < 2; ++round) {
    CHECK(w.ask(a, kTwo) == "T:v D:20 N:beware C:SELECT 1 Z:I");
    CHECK(w.ask(a, kThree) == "T:v D:30 S:TimeZone=UTC C:SELECT 1 Z:I");
  }
  CHECK(w.count(Counter::kFills) == 0);
  CHECK(w.hits() == 0);
}

TEST_CASE("an answer that is too large is not kept") {
  NodeOptions options;
  options.settings.entry_bytes_max = 100;
  World w(options);
  w.postgres.database().set_pad(std::string(200, 'x'));
  WireClient& a = w.session();
  for (int round = 0; round < 2; ++round) {
    CHECK(w.ask(a, "SELECT pad FROM bench WHERE id = 1").size() > 200);
  }
  CHECK(w.count(Counter::kFills) == 0);
  CHECK(w.proxy.bypasses(Reason::kTooLarge) == 2);
}

TEST_CASE("an error is not kept") {
  World w;
  WireClient& a = w.session();
  w.postgres.database().set_quirk(3, Quirk::kError);
  CHECK(w.ask(a, kThree) == "E:22012 Z:I");
  CHECK(w.ask(a, kThree) == "E:22012 Z:I");
  CHECK(w.count(Counter::kFills) == 0);
}

TEST_CASE("FOR UPDATE is never answered here") {
  World w;
  WireClient& a = w.session();
  for (int round = 0; round < 2; ++round) {
    CHECK(w.ask(a, "SELECT v FROM bench WHERE id = 1 FOR UPDATE") == kOld);
  }
  CHECK(w.hits() == 0);
  CHECK(w.count(Counter::kFills) == 0);
}

TEST_CASE("a temporary table makes the session opaque") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, "CREATE TEMP TABLE bench (id int8, v int8)") == "C:CREATE TABLE Z:I");
  w.advance_ms(10);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
  CHECK(w.proxy.bypasses(Reason::kSessionOpaque) >= 1);
}

TEST_CASE("an opaque session is not asked again before each SELECT, but when it may have changed") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, "CREATE TEMP TABLE scratch (id int8)") == "C:CREATE TABLE Z:I");
  w.advance_ms(10);
  CHECK(w.ask(a, kOne) == kOld);
  static_cast<void>(w.sent());
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
  CHECK(w.sent() == std::string("Q ") + kOne + ", Q " + kTwo);
  CHECK(w.ask(a, "DISCARD ALL") == "C:DISCARD ALL Z:I");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

}  // namespace
}  // namespace pgfresh::sim
