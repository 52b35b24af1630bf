// Plays: what a client sees of pgfresh's protocol, and what PostgreSQL is sent, message by message.
// Login, hits and misses in every form the protocol has, pipelines.
// The notation of what is heard and sent: support/wire_client.h, FakePostgres::log().
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"

namespace pgfresh::sim {
namespace {

std::string int8_bytes(char last) { return std::string(7, '\0') + last; }

// ── Login ────────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("login is relayed, with a cancel key of our own and the in-band setting") {
  World w;
  WireClient& c = w.client();
  c.startup({{"user", "app"}, {"database", "shop"}, {"application_name", "play"}});
  w.run();
  CHECK(c.take() == "R:0 S:server_version=15.8 K Z:I");
  const wire::StartupMessage& seen = w.postgres.backend()->startup();
  CHECK(seen.get("application_name") == "play");
  CHECK(seen.get("pgfresh.inband") == "on");
  CHECK(w.count(Counter::kLogins) == 1);
}

TEST_CASE("a client cannot switch the in-band notices off") {
  World w;
  WireClient& c = w.client();
  c.startup({{"user", "app"}, {"database", "shop"}, {"pgfresh.inband", "off"}});
  w.run();
  CHECK(w.postgres.backend()->startup().get("pgfresh.inband") == "on");
}

TEST_CASE("the client's password goes to PostgreSQL") {
  World w;
  w.postgres.set_login(Login::kPassword);
  WireClient& c = w.client();
  c.startup();
  w.run();
  CHECK(c.take() == "R:3");
  c.password("secret");
  w.run();
  CHECK(c.take() == "R:0 S:server_version=15.8 K Z:I");
}

TEST_CASE("channel binding is not offered: the client's TLS does not end at PostgreSQL") {
  World w;
  w.postgres.set_login(Login::kSasl);
  WireClient& c = w.client();
  c.startup();
  w.run();
  REQUIRE(c.messages().size() == 1);
  CHECK(c.messages()[0].body.substr(4) == std::string("SCRAM-SHA-256\0\0", 15));
}

TEST_CASE("an encryption request is declined; bytes behind it end the session") {
  World w;
  WireClient& c = w.client();
  const std::string request("\0\0\0\x8\x04\xd2\x16\x2f", 8);
  c.raw(request).raw("x");
  w.run();
  CHECK(c.ended());
  CHECK(w.count(Counter::kProtocolErrors) == 1);
}

TEST_CASE("a newer protocol version is negotiated down") {
  World w;
  WireClient& c = w.client();
  wire::StartupMessage startup;
  startup.minor = 9999;
  startup.parameters = {{"user", "app"}, {"database", "shop"}, {"_pq_.wild", "1"}};
  std::string bytes;
  wire::write_startup_message(bytes, startup);
  c.raw(bytes);
  w.run();
  CHECK(c.take() == "v R:0 S:server_version=15.8 K Z:I");
}

TEST_CASE("PostgreSQL away: the client is told so") {
  World w;
  w.postgres.crash();
  WireClient& c = w.client();
  c.startup();
  w.run();
  CHECK(c.take() == "E:08006");
  CHECK(c.ended());
}

TEST_CASE("the console's database never reaches PostgreSQL") {
  World w;
  WireClient& c = w.client();
  c.startup({{"user", "admin"}, {"database", "pgfresh"}}).query("SHOW STATS");
  w.run();
  REQUIRE(w.proxy.consoles().size() == 1);
  CHECK(w.proxy.consoles()[0].startup.get("user") == "admin");
  CHECK_FALSE(w.proxy.consoles()[0].unread.empty());
  CHECK(w.postgres.backends_alive() == 0);
}

// ── Miss, then hit ───────────────────────────────────────────────────────────────────────────────

TEST_CASE("simple protocol: miss, then hit") {
  World w;
  WireClient& c = w.session();
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.sent() == "Q probe, Q SELECT v FROM bench WHERE id = 1");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(c, "select V  from bench where id=1 -- again") == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.sent() == "");
  CHECK(w.hits() == 2);
  CHECK(w.count(Counter::kMisses) == 1);
  CHECK(w.count(Counter::kFills) == 1);
}

TEST_CASE("sessions with the same scope share an entry") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  static_cast<void>(w.ask(a, kOne));
  CHECK(w.ask(b, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("sessions with other settings do not") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  static_cast<void>(w.ask(a, kOne));
  CHECK(w.ask(b, "SET DateStyle = German") == "C:SET Z:I");
  CHECK(w.ask(b, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
  CHECK(w.count(Counter::kMisses) == 2);
}

TEST_CASE("plans from before the catalog was known, or changed, answer for nobody else") {
  World w;
  WireClient& early = w.session();
  CHECK(w.ask(early, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.postgres.discards() == 1);
  WireClient& late = w.session();
  CHECK(w.ask(late, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
  CHECK(w.postgres.discards() == 1);  // it has none
  CHECK(w.ask(late, "CREATE TABLE another (id int)").find("CREATE TABLE") != std::string::npos);
  w.advance_ms(100);
  CHECK(w.ask(early, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(early, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
  CHECK(w.postgres.discards() == 2);
  CHECK(w.ask(late, kOne) == "T:v D:10 C:SELECT 1 Z:I");  // a hit needs none
  CHECK(w.postgres.discards() == 2);
}

TEST_CASE("extended protocol: unnamed statement, miss and hit") {
  World w;
  WireClient& c = w.session();
  const std::string answer = "1 2 T:v D:20 C:SELECT 1 Z:I";
  for (int round = 0; round < 3; ++round) {
    c.parse("", kByParameter).bind("", "", {"2"}).describe('P', "").execute().sync();
    w.run();
    CHECK(c.take() == answer);
    CHECK(w.sent() ==
          (round == 0 ? "Q probe, P SELECT v FROM bench WHERE id = $1, B, D P, E, S" : ""));
  }
  CHECK(w.hits() == 2);
}

TEST_CASE("other parameters, other entry") {
  World w;
  WireClient& c = w.session();
  for (const char* id : {"1", "2", "1", "2"}) {
    c.parse("", kByParameter).bind("", "", {id}).describe('P', "").execute().sync();
    w.run();
    CHECK(c.take() == std::string("1 2 T:v D:") + id + "0 C:SELECT 1 Z:I");
  }
  CHECK(w.hits() == 2);
}

TEST_CASE("named statement: parsed once, executed from the cache") {
  World w;
  WireClient& c = w.session();
  c.parse("get", kByParameter).describe('S', "get").sync();
  w.run();
  CHECK(c.take() == "1 t:1 T:v Z:I");
  for (int round = 0; round < 3; ++round) {
    c.bind("", "get", {"3"}).execute().sync();
    w.run();
    CHECK(c.take() == "2 D:30 C:SELECT 1 Z:I");
  }
  CHECK(w.hits() == 2);
}

TEST_CASE("a session that never parsed at PostgreSQL is made to when it misses") {
  World w;
  WireClient& a = w.session();
  a.parse("", kByParameter).bind("", "", {"1"}).describe('P', "").execute().sync();
  w.run();
  WireClient& b = w.session();
  b.parse("p", kByParameter).bind("", "p", {"1"}).describe('P', "").execute().sync();
  w.run();
  CHECK(b.take() == "1 2 T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.sent() == "Q probe");
  b.bind("", "p", {"2"}).execute().sync();
  w.run();
  CHECK(b.take() == "2 D:20 C:SELECT 1 Z:I");
  // Its shape is looked at first: the client was shown one that came from the cache.
  CHECK(w.sent() == "P p SELECT v FROM bench WHERE id = $1, D S, H, B, E, S");
}

TEST_CASE(
    "one segment parses, describes and executes; the description is known, the rows are not") {
  World w;
  w.session().parse("", kByParameter).describe('S', "").sync();
  w.run();
  static_cast<void>(w.sent());
  const auto ask = [&](const char* id) {
    WireClient& c = w.session();
    c.parse("p", kByParameter).describe('S', "p").bind("", "p", {id}).execute().sync();
    w.run();
    return c.take();
  };
  CHECK(ask("1") == "1 t:1 T:v 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.sent() == "Q probe, P p SELECT v FROM bench WHERE id = $1, D S, B, E, S");
  CHECK(ask("2") == "1 t:1 T:v 2 D:20 C:SELECT 1 Z:I");
  static_cast<void>(w.sent());
  CHECK(ask("1") == "1 t:1 T:v 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.sent() == "Q probe");
  CHECK(w.hits() == 1);
}

TEST_CASE("the portal of a hit ends with its transaction, whatever was sent behind it") {
  World w;
  WireClient& c = w.session();
  c.parse("q", kTwo).sync();
  w.run();
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  c.forget();
  c.parse("", kOne).bind("", "").execute().bind("p", "q").execute("p").sync();
  c.execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 2 D:20 C:SELECT 1 Z:I E:34000 Z:I");
  static_cast<void>(w.ask(c, "BEGIN"));
  c.parse("", kOne).bind("", "").execute().parse("end", "COMMIT").bind("p", "end").execute("p");
  c.execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 1 2 C:COMMIT E:34000 Z:I");
  CHECK(w.hits() == 2);
}

TEST_CASE("what is recorded as a description is the answer to the Describe that asked for it") {
  World w;
  WireClient& a = w.session();
  a.parse("p", kByParameter)
      .describe('S', "p")
      .bind("", "p", {"1"}, WireClient::Format::kBinary)
      .describe('P', "")
      .execute()
      .sync();
  w.run();
  CHECK(a.take() == "1 t:1 T:v 2 T:v/b D:x000000000000000a C:SELECT 1 Z:I");
  WireClient& b = w.session();
  b.parse("one", "SELECT id, v FROM bench ORDER BY id").describe('S', "one");
  b.parse("two", kOne).describe('S', "two").bind("", "two").execute().sync();
  w.run();
  CHECK(b.take() == "1 t:0 T:id,v 1 t:0 T:v 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.count(Counter::kFills) == 2);
  WireClient& c = w.session();
  c.parse("", kByParameter).describe('S', "").sync();
  w.run();
  CHECK(c.take() == "1 t:1 T:v Z:I");
  c.parse("", "SELECT id, v FROM bench ORDER BY id").describe('S', "").sync();
  w.run();
  CHECK(c.take() == "1 t:0 T:id,v Z:I");
  CHECK(w.count(Counter::kDescriptionHits) == 2);
}

TEST_CASE("binary results have entries of their own") {
  World w;
  WireClient& c = w.session();
  const auto ask = [&](WireClient::Format format) {
    c.parse("", kOne).bind("", "", {}, format).describe('P', "").execute().sync();
    w.run();
    return c.take();
  };
  CHECK(ask(WireClient::Format::kText) == "1 2 T:v D:10 C:SELECT 1 Z:I");
  CHECK(ask(WireClient::Format::kBinary) == "1 2 T:v/b D:x000000000000000a C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
  CHECK(ask(WireClient::Format::kBinary) == "1 2 T:v/b D:x000000000000000a C:SELECT 1 Z:I");
  CHECK(ask(WireClient::Format::kText) == "1 2 T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 2);
}

TEST_CASE("binary parameters") {
  World w;
  WireClient& c = w.session();
  for (int round = 0; round < 2; ++round) {
    c.parse("", kByParameter)
        .bind("", "", {int8_bytes(2)}, WireClient::Format::kText, WireClient::Format::kBinary)
        .describe('P', "")
        .execute()
        .sync();
    w.run();
    CHECK(c.take() == "1 2 T:v D:20 C:SELECT 1 Z:I");
  }
  CHECK(w.hits() == 1);
}

TEST_CASE("extended protocol hits what the simple one filled, description and all") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("", kOne).bind("", "").describe('P', "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 T:v D:10 C:SELECT 1 Z:I");
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 2);
}

TEST_CASE("an entry filled without a description does not serve who wants one") {
  World w;
  WireClient& c = w.session();
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("Describe of a portal that was answered here") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("", kOne).bind("", "").execute().flush_please();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1");
  c.describe('P', "").execute().close('P', "").sync();
  w.run();
  CHECK(c.take() == "T:v C:SELECT 0 3 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("Flush wants the answer without Sync") {
  World w;
  WireClient& c = w.session();
  c.parse("", kOne).bind("", "").execute().flush_please();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1");
  c.sync();
  w.run();
  CHECK(c.take() == "Z:I");
}

TEST_CASE("what is held goes out on Flush") {
  World w;
  WireClient& c = w.session();
  c.parse("a", kByParameter).flush_please();
  w.run();
  CHECK(c.take() == "1");
  c.describe('S', "a").flush_please();
  w.run();
  CHECK(c.take() == "t:1 T:v");
  c.bind("", "a", {"1"}).describe('P', "").flush_please();
  w.run();
  CHECK(c.take() == "2 T:v");
  c.execute().sync();
  w.run();
  CHECK(c.take() == "D:10 C:SELECT 1 Z:I");
}

// ── Order ────────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("a hit never overtakes what PostgreSQL has not answered") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  w.postgres.backend()->stall();
  c.query(kTwo).query(kOne);
  w.run();
  CHECK(c.take() == "");
  w.postgres.backend()->go_on();
  w.run();
  CHECK(c.take() == "T:v D:20 C:SELECT 1 Z:I T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
}

TEST_CASE("a pipeline of hits is answered in order") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  static_cast<void>(w.ask(c, kTwo));
  c.parse("", kOne).bind("", "").execute().parse("", kTwo).bind("", "").execute().sync();
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 1 2 D:20 C:SELECT 1 Z:I 1 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 3);
}

TEST_CASE("a pipeline with a write first is PostgreSQL's alone") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("", kUpdateOne).bind("", "").execute();
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 C:UPDATE 1 1 2 D:11 C:SELECT 1 Z:I");
  CHECK(w.hits() == 0);
  CHECK(w.ask(c, kOne) == "T:v D:11 C:SELECT 1 Z:I");
}

TEST_CASE("an error inside a segment: nothing is answered until Sync") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  w.postgres.database().set_quirk(3, Quirk::kError);
  c.parse("", "SELECT v FROM bench WHERE id = 3").bind("", "").execute();
  c.parse("", kOne).bind("", "").execute().sync();
  c.parse("", kOne).bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 E:22012 Z:I 1 2 D:10 C:SELECT 1 Z:I");
}

TEST_CASE("an error, then more of the segment in another packet") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  w.postgres.database().set_quirk(3, Quirk::kError);
  c.parse("", "SELECT v FROM bench WHERE id = 3").bind("", "").execute().flush_please();
  w.run();
  CHECK(c.take() == "1 2 E:22012");
  c.parse("", kOne).bind("", "").execute();
  w.run();
  CHECK(c.take() == "");
  c.sync();
  w.run();
  CHECK(c.take() == "Z:I");
  CHECK(w.hits() == 0);
  CHECK(w.ask(c, kOne) == "T:v D:10 C:SELECT 1 Z:I");
  CHECK(w.hits() == 1);
}

TEST_CASE("a name that is taken stays taken, however often it is refused") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("s", kOne).sync();
  w.run();
  CHECK(c.take() == "1 Z:I");
  for (int i = 0; i < 3; ++i) {
    c.parse("s", kTwo).sync();
    w.run();
    CHECK(c.take() == "E:42P05 Z:I");
    c.bind("", "s").execute().sync();
    w.run();
    CHECK(c.take() == "2 D:10 C:SELECT 1 Z:I");
  }
}

TEST_CASE("what a failed block refuses to forget is not forgotten") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.parse("s", kOne).bind("", "s").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 Z:I");
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SELECT nonsense") == "E:42601 Z:E");
  CHECK(w.ask(c, "DISCARD ALL") == "E:25P02 Z:E");
  CHECK(w.ask(c, "ROLLBACK") == "C:ROLLBACK Z:I");
  c.bind("", "s").execute().sync();
  w.run();
  CHECK(c.take() == "2 D:10 C:SELECT 1 Z:I");
}

TEST_CASE("a query behind an error is skipped, and the Sync behind it goes to PostgreSQL") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.bind("", "nowhere").flush_please();
  w.run();
  CHECK(c.take() == "E:26000");
  c.query(kOne);
  w.run();
  CHECK(c.take() == "");
  c.sync();
  w.run();
  CHECK(c.take() == "Z:I");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
}

TEST_CASE("the same, where the query was sent before the error had come") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  c.bind("", "nowhere").query(kOne);
  w.run();
  CHECK(c.take() == "E:26000");
  c.sync();
  w.run();
  CHECK(c.take() == "Z:I");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:I");
}

TEST_CASE("a hit at the front of a segment whose rest fails") {
  World w;
  WireClient& c = w.session();
  static_cast<void>(w.ask(c, kOne));
  w.postgres.database().set_quirk(3, Quirk::kError);
  c.parse("", kOne).bind("", "").execute();
  c.parse("", "SELECT v FROM bench WHERE id = 3").bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 D:10 C:SELECT 1 1 2 E:22012 Z:I");
}

}  // namespace
}  // namespace pgfresh::sim
