// Plays: blocks with their deferred BEGIN, and prepared statements, which belong to the session and
// not to a connection of PostgreSQL. The notation: support/wire_client.h, FakePostgres::log().
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"

namespace pgfresh::sim {
namespace {

constexpr const char* kAllOfOne = "SELECT * FROM bench WHERE id = 1";

// ── Blocks ───────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("a block whose reads all hit never reaches PostgreSQL") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.sent());
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(w.ask(c, "START TRANSACTION") == "C:START TRANSACTION Z:T");
  CHECK(w.ask(c, "ROLLBACK") == "C:ROLLBACK Z:I");
  CHECK(w.sent() == "");
  CHECK(w.count(Counter::kLocalBlocks) == 2);
}

TEST_CASE("the same over the extended protocol") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.sent());
  c.parse("", "BEGIN").bind("", "").describe('P', "").execute().sync();
  c.parse("", kOne).bind("", "").execute().sync();
  c.parse("", "COMMIT").bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 n C:BEGIN Z:T 1 2 D:10 C:SELECT 1 Z:T 1 2 C:COMMIT Z:I");
  CHECK(w.sent() == "");
}

TEST_CASE("a miss sends the BEGIN first, and its answer is swallowed") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.sent());
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.sent() == "Q BEGIN, Q SELECT v FROM bench WHERE id = 2");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(w.sent() == "Q COMMIT");
  CHECK(w.hits() == 2);
}

TEST_CASE("a miss over the extended protocol inside a deferred block") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.sent());
  c.parse("", "BEGIN").bind("", "").execute().sync();
  c.parse("s", kByParameter).bind("", "s", {"2"}).describe('P', "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 C:BEGIN Z:T 1 2 T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.sent() == "Q BEGIN, P s SELECT v FROM bench WHERE id = $1, B, D P, E, S");
}

TEST_CASE("BEGIN and the first statement in one segment") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("", "BEGIN").bind("", "").execute().parse("", kTwo).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 C:BEGIN 1 2 D:20 C:SELECT 1 Z:T");
  CHECK(w.ask(c, "ROLLBACK") == "C:ROLLBACK Z:I");
}

TEST_CASE("serializable and repeatable read blocks pass by the cache") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  for (const char* begin : {"BEGIN ISOLATION LEVEL SERIALIZABLE",
                            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ"}) {
    static_cast<void>(w.sent());
    static_cast<void>(w.ask(c, begin));
    CHECK(w.sent().ends_with(std::string("Q ") + begin));  // behind who publishes, perhaps
    CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
    CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
    CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
    CHECK(w.sent() == std::string("Q ") + kOne + ", Q " + kTwo + ", Q COMMIT");
  }
  CHECK(w.hits() == 0);
  CHECK(w.count(Counter::kFills) == 1);
}

TEST_CASE("a block that PostgreSQL knows may become, or give way to, one that reads a snapshot") {
  const std::string snapshot = "ISOLATION LEVEL REPEATABLE READ";
  for (const std::string& sql : std::vector<std::string>{
           "ROLLBACK; BEGIN " + snapshot, "COMMIT; BEGIN " + snapshot, "BEGIN " + snapshot,
           "SET TRANSACTION " + snapshot, "SET LOCAL transaction_isolation = 'repeatable read'"}) {
    CAPTURE(sql);
    World w;
    WireClient& c = w.session();
    static_cast<void>(w.ask(c, kOne));
    static_cast<void>(w.ask(c, "BEGIN"));
    CHECK(w.ask(c, "SET LOCAL statement_timeout = '5s'") == "C:SET Z:T");
    CHECK(w.ask(c, sql).ends_with(" Z:T"));
    CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
    CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
    CHECK(w.hits() == 0);
    CHECK(w.count(Counter::kFills) == 1);
    static_cast<void>(w.ask(c, "ROLLBACK"));
    static_cast<void>(w.ask(c, kOne));
    CHECK(w.hits() == 1);
  }
}

TEST_CASE("the same in one segment") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.ask(c, "BEGIN"));
  static_cast<void>(w.ask(c, kTwo));
  c.parse("", "COMMIT").bind("", "").execute();
  c.parse("", "BEGIN ISOLATION LEVEL REPEATABLE READ").bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 C:COMMIT 1 2 C:BEGIN Z:T");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.hits() == 0);
}

TEST_CASE("a block keeps its hits behind what cannot change its isolation") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.ask(c, "BEGIN"));
  static_cast<void>(w.ask(c, kTwo));
  for (const std::string_view sql : {"SET LOCAL some_setting = '1'", "RESET app.tenant", "BEGIN",
                                     "SAVEPOINT a", "ROLLBACK TO a"}) {
    CAPTURE(sql);
    static_cast<void>(w.ask(c, sql));
    const uint64_t hits = w.hits();
    CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
    CHECK(w.hits() == hits + 1);
  }
}

TEST_CASE("a block has no hits behind what may have waited for a lock, until it has ended") {
  for (const std::string_view sql :
       {"UPDATE bench SET v = 11 WHERE id = 2", "SET CONSTRAINTS ALL DEFERRED"}) {
    CAPTURE(sql);
    World w;
    WireClient& c = w.session();
    static_cast<void>(w.ask(c, kOne));
    static_cast<void>(w.ask(c, "BEGIN"));
    static_cast<void>(w.ask(c, sql));
    const uint64_t hits = w.hits();
    CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
    CHECK(w.hits() == hits);
    CHECK(w.proxy.bypasses(Reason::kWrote) == 1);
    static_cast<void>(w.ask(c, "ROLLBACK"));
    w.advance_ms(100);
    CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
    CHECK(w.hits() == hits + 1);
  }
}

TEST_CASE("a session whose default isolation is stricter gets no hits in its blocks") {
  World w;
  WireClient& c = w.session();
  CHECK(w.ask(c, "SET default_transaction_isolation = serializable") == "C:SET Z:I");
  static_cast<void>(w.ask(c, kOne));
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.hits() == 0);
}

TEST_CASE("a failed block answers nothing but ROLLBACK") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  w.postgres.database().set_quirk(3, Quirk::kError);
  static_cast<void>(w.ask(c, "BEGIN"));
  CHECK(w.ask(c, "SELECT v FROM bench WHERE id = 3") == "E:22012 Z:E");
  CHECK(w.ask(c, kOne) == "E:25P02 Z:E");
  CHECK(w.ask(c, "COMMIT") == "C:ROLLBACK Z:I");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("several statements in one query text pass") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  CHECK(w.ask(c, "SELECT v FROM bench WHERE id = 1; SELECT v FROM bench WHERE id = 2") ==
        "T:v D:10 C:SELECT 1 T:v D:20 C:SELECT 1 Z:I");
  CHECK(w.ask(c, "BEGIN; SELECT v FROM bench WHERE id = 2") == "C:BEGIN T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(w.hits() == 0);
}

TEST_CASE("an empty query is PostgreSQL's to answer") {
  World w;
  WireClient& c = w.session();
  CHECK(w.ask(c, "") == "I Z:I");
  CHECK(w.ask(c, " ; -- nothing") == "I Z:I");
}

// ── Prepared statements ──────────────────────────────────────────────────────────────────────────

TEST_CASE("a simple hit destroys the unnamed statement") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("", kTwo).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:20 C:SELECT 1 Z:I");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
  c.bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "E:26000 Z:I");
}

TEST_CASE("a local BEGIN destroys the unnamed statement too") {
  World w;
  WireClient& c = w.session();
  c.parse("", kTwo).bind("", "").execute().sync();
  w.run();
  static_cast<void>(c.take());
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  c.bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "E:26000 Z:E");
}

TEST_CASE("DEALLOCATE of a statement that PostgreSQL was never told of") {
  World w;
  WireClient& a = w.session();
  a.parse("", kByParameter).bind("", "", {"1"}).describe('P', "").execute().sync();
  w.run();
  WireClient& b = w.session();
  b.parse("p", kByParameter).bind("", "p", {"1"}).describe('P', "").execute().sync();
  w.run();
  CHECK(b.take() == "1 2 T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(b, "DEALLOCATE p") == "C:DEALLOCATE Z:I");
  b.bind("", "p", {"1"}).execute().sync();
  w.run();
  CHECK(b.take() == "E:26000 Z:I");
  CHECK(w.ask(b, "DEALLOCATE p") == "E:26000 Z:I");
}

TEST_CASE("DEALLOCATE ALL forgets them all") {
  World w;
  WireClient& c = w.session();
  c.parse("p", kByParameter).bind("", "p", {"1"}).execute().sync();
  w.run();
  static_cast<void>(c.take());
  CHECK(w.ask(c, "DEALLOCATE ALL") == "C:DEALLOCATE ALL Z:I");
  c.bind("", "p", {"1"}).execute().sync();
  w.run();
  CHECK(c.take() == "E:26000 Z:I");
  c.parse("p", kOne).bind("", "p").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 Z:I");
}

TEST_CASE("Close forgets a statement, known here alone or at PostgreSQL; a stranger is no error") {
  World w;
  WireClient& a = w.session();
  a.parse("", kOne).bind("", "").describe('P', "").execute().sync();
  w.run();
  static_cast<void>(a.take());
  WireClient& b = w.session();
  b.parse("p", kOne).bind("", "p").execute().sync();
  w.run();
  CHECK(b.take() == "1 2 D:10 C:SELECT 1 Z:I");
  static_cast<void>(w.sent());
  b.close('S', "p").sync();
  w.run();
  CHECK(b.take() == "3 Z:I");
  CHECK(w.sent() == "");
  b.bind("", "p").execute().sync();
  w.run();
  CHECK(b.take() == "E:26000 Z:I");
  b.close('S', "nobody").close('P', "nobody").sync();
  w.run();
  CHECK(b.take() == "3 3 Z:I");
}

TEST_CASE("a name that is taken is refused, and stays what it was") {
  World w;
  WireClient& c = w.session();
  c.parse("p", kOne).bind("", "p").execute().sync();
  w.run();
  static_cast<void>(c.take());
  c.parse("p", kTwo).sync();
  w.run();
  CHECK(c.take() == "E:42P05 Z:I");
  c.bind("", "p").execute().sync();
  w.run();
  CHECK(c.take() == "2 D:10 C:SELECT 1 Z:I");
}

TEST_CASE("a name that PREPARE took is refused, too") {
  for (const std::string prepare :
       {"PREPARE p AS SELECT v FROM bench WHERE id = 2",
        "SELECT v FROM bench WHERE id = 2; PREPARE p AS SELECT v FROM bench WHERE id = 2"}) {
    CAPTURE(prepare);
    World w;
    w.session().parse("", kOne).describe('S', "").sync();
    w.run();
    WireClient& c = w.session();
    const auto parse = [&] {
      c.parse("p", kOne).describe('S', "p").sync();
      w.run();
      return c.take();
    };
    CHECK(w.ask(c, prepare).ends_with("C:PREPARE Z:I"));
    CHECK(parse() == "E:42P05 Z:I");
    CHECK(w.ask(c, "DEALLOCATE ALL") == "C:DEALLOCATE ALL Z:I");
    static_cast<void>(w.sent());
    CHECK(parse() == "1 t:0 T:v Z:I");
    CHECK(w.sent() == "Q probe");
    CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
    CHECK(w.ask(c, "UPDATE bench SET v = 11 WHERE id = 1") == "C:UPDATE 1 Z:T");
    CHECK(w.ask(c, prepare).ends_with("E:42P05 Z:E"));
  }
}

TEST_CASE("a PREPARE behind DISCARD ALL is not forgotten with it") {
  World w;
  w.session().parse("", kOne).describe('S', "").sync();
  w.run();
  WireClient& c = w.session();
  c.query("DISCARD ALL").query("PREPARE p AS SELECT v FROM bench WHERE id = 2");
  w.run();
  CHECK(c.take() == "C:DISCARD ALL Z:I C:PREPARE Z:I");
  c.parse("p", kOne).describe('S', "p").sync();
  w.run();
  CHECK(c.take() == "E:42P05 Z:I");
}

TEST_CASE("a Parse that fails leaves no statement behind") {
  World w;
  WireClient& c = w.session();
  c.parse("p", "SELEKT").sync();
  w.run();
  CHECK(c.take() == "E:42601 Z:I");
  c.parse("p", kOne).bind("", "p").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 Z:I");
}

TEST_CASE("SHOW pgfresh.last tells why") {
  World w;
  WireClient& c = w.session();
  const auto last = [&] {
    const std::string told_text = w.ask(c, "SHOW pgfresh.last");
    return told_text.substr(told_text.find("D:"),
                            told_text.find(',', told_text.find("D:")) - told_text.find("D:"));
  };
  static_cast<void>(w.ask(c, kOne));
  CHECK(last() == "D:miss");
  static_cast<void>(w.ask(c, kOne));
  CHECK(last() == "D:hit");
  static_cast<void>(w.ask(c, "/* pgfresh: off */ SELECT v FROM bench WHERE id = 1"));
  CHECK(last() == "D:bypass");
}

// ── Shapes ───────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("anomaly 12: a client that was shown two columns is never given three") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  a.parse("all", kAllOfOne).describe('S', "all").sync();
  a.bind("", "all").execute().sync();
  w.run();
  CHECK(a.take() == "1 t:0 T:id,v Z:I 2 D:1,10 C:SELECT 1 Z:I");
  CHECK(w.ask(b, "ALTER TABLE bench ADD x int") == "C:ALTER TABLE Z:I");
  w.advance_ms(50);
  CHECK(w.ask(b, kAllOfOne) == "T:id,v,x0 D:1,10,- C:SELECT 1 Z:I");
  CHECK(w.ask(b, kAllOfOne) == "T:id,v,x0 D:1,10,- C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
  a.bind("", "all").execute().sync();
  w.run();
  CHECK(a.take() == "E:0A000 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("anomaly 12: the same for a statement that PostgreSQL was never told of") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  for (WireClient* client : {&b, &a}) {
    client->parse("all", kAllOfOne).describe('S', "all").sync();
    w.run();
    CHECK(client->take() == "1 t:0 T:id,v Z:I");
  }
  CHECK(w.ask(b, "ALTER TABLE bench ADD x int") == "C:ALTER TABLE Z:I");
  w.advance_ms(50);
  CHECK(w.ask(b, kAllOfOne) == "T:id,v,x0 D:1,10,- C:SELECT 1 Z:I");
  a.bind("", "all").execute().sync();
  w.run();
  CHECK(a.take().starts_with("E:"));
  CHECK(w.ask(a, kAllOfOne) == "T:id,v,x0 D:1,10,- C:SELECT 1 Z:I");
}

TEST_CASE("anomaly 12: a description that was found, and is PostgreSQL's to give after all") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  a.parse("all", kAllOfOne).describe('S', "all").sync();
  w.run();
  CHECK(a.take() == "1 t:0 T:id,v Z:I");
  w.postgres.hold_control(true, true);
  WireClient& direct = w.direct_client();
  direct.startup();
  w.run();
  static_cast<void>(direct.take());
  CHECK(w.ask(direct, "ALTER TABLE bench ADD x int") == "C:ALTER TABLE Z:I");
  for (int round = 0; round < 2; ++round) {
    b.parse("", kAllOfOne).describe('S', "").bind("", "").execute().sync();
    w.run();
    CHECK(b.take() == "1 t:0 T:id,v,x0 2 D:1,10,- C:SELECT 1 Z:I");
  }
  a.bind("", "all").execute().sync();
  w.run();
  CHECK(a.take() == "E:0A000 Z:I");
  CHECK(w.hits() == 0);
  w.postgres.release_control();
}

TEST_CASE("switching pgfresh.inband off costs the session its hits, and nobody a stale read") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(a, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(a, "SET pgfresh.inband = off") == "C:SET Z:I");
  CHECK(w.ask(a, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
  CHECK(w.ask(b, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  w.postgres.hold_control(true, true);
  CHECK(w.ask(a, "UPDATE bench SET v = 11 WHERE id = 1") == "C:UPDATE 1 Z:I");
  CHECK(w.ask(b, kOne) == "T:v D:11 C:SELECT 1 Z:I");
  w.postgres.release_control();
}

}  // namespace
}  // namespace pgfresh::sim
