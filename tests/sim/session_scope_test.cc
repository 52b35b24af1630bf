// Plays: what a session's settings do to its answers; settings that are followed, let through,
// answered here, read again. The notation: support/wire_client.h, FakePostgres::log(). A policy
// reads app.tenant, and nothing reads app.request (FakeDatabase::catalog_rows()).
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"

namespace pgfresh::sim {
namespace {

constexpr const char* kOneInBlock = "T:v D:10 C:SELECT 1 Z:T";
constexpr const char* kSetLocal = "SELECT set_config('app.tenant', $1, true)";

// A session whose settings are known, and kOne's answer in memory for it.
WireClient& known_session(World& w) {
  WireClient& c = w.session();
  CHECK(w.ask(c, kOne) == kOld);
  CHECK(w.ask(c, kOne) == kOld);
  static_cast<void>(w.sent());
  return c;
}

// What asking kOne comes to: a hit, or a miss.
std::string told(World& w, WireClient& c) {
  const uint64_t hits = w.hits();
  const uint64_t misses = w.count(Counter::kMisses);
  c.query(kOne);
  w.run();
  static_cast<void>(c.take());
  if (w.hits() > hits) return "hit";
  return w.count(Counter::kMisses) > misses ? "miss" : "bypass";
}

// In a block that PostgreSQL knows, for the tenant 7, who has kTwo's answer in memory.
WireClient& tenant_in_block(World& w) {
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET LOCAL app.tenant = '7'") == "C:SET Z:T");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
  static_cast<void>(w.sent());
  return c;
}

TEST_CASE("a setting that a policy reads is followed, and tells answers apart") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(told(w, c) == "hit");
  CHECK(w.ask(c, "set App.Tenant to '8'") == "C:SET Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:I");
  CHECK(told(w, c) == "hit");
  CHECK(w.count(Counter::kProbes) == 1);
  CHECK(w.count(Counter::kSettingsFollowed) == 3);
}

TEST_CASE("what is followed and what is read come to the same") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:I");
  CHECK(told(w, c) == "miss");
  WireClient& other = w.client();
  other.startup({{"user", "app"}, {"database", "shop"}, {"app.tenant", "7"}});
  w.run();
  other.forget();
  CHECK(told(w, other) == "hit");
  CHECK(w.count(Counter::kProbes) == 2);
}

TEST_CASE("settings that nothing reads are let through, harmless ones too") {
  World w;
  WireClient& c = known_session(w);
  for (const char* sql : {"SET app.request = '1'", "SET statement_timeout = '5s'",
                          "RESET application_name", "SET work_mem TO DEFAULT"}) {
    static_cast<void>(w.ask(c, sql));
    CHECK(told(w, c) == "hit");
  }
  CHECK(w.count(Counter::kProbes) == 1);
}

TEST_CASE("what is not followed is read again") {
  World w;
  WireClient& c = known_session(w);
  uint64_t probes = w.count(Counter::kProbes);
  for (const char* sql :
       {"RESET app.tenant", "SET DateStyle = German", "SET pgfresh.cache = on", "RESET ALL",
        "SET app.tenant = 'a', 'b'", "SET app.tenant = '7'; SET app.request = '1'"}) {
    CAPTURE(sql);
    static_cast<void>(w.ask(c, sql));
    static_cast<void>(told(w, c));
    CHECK(w.count(Counter::kProbes) == ++probes);
  }
}

TEST_CASE("an error changes nothing; only whether the name is known now is read again") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "SET app.tenant = 'refused'") == "E:22023 Z:I");
  CHECK(told(w, c) == "hit");
  CHECK(w.count(Counter::kProbes) == 2);
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(w.ask(c, "SET app.tenant = 'refused'") == "E:22023 Z:I");
  CHECK(told(w, c) == "hit");
  CHECK(w.count(Counter::kProbes) == 2);
}

TEST_CASE("in a block that PostgreSQL knows: until its end, or for good") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
  CHECK(w.ask(c, "SET LOCAL app.tenant = '7'") == "C:SET Z:T");
  CHECK(told(w, c) == "miss");
  CHECK(told(w, c) == "hit");
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(w.count(Counter::kSettingsFollowed) == 1);
  CHECK(told(w, c) == "miss");  // of the tenant ''
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET app.tenant = '8'") == "C:SET Z:T");
  CHECK(told(w, c) == "miss");
  CHECK(w.ask(c, "ROLLBACK") == "C:ROLLBACK Z:I");
  static_cast<void>(w.sent());
  CHECK(w.ask(c, kOne) == kOld);
  CHECK(w.sent() == "");
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET app.tenant = '8'") == "C:SET Z:T");
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(told(w, c) == "hit");  // of the block that was rolled back, whose read was as good
  CHECK(w.count(Counter::kProbes) == 1);
}

TEST_CASE("a failed block takes it back") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:T");
  CHECK(w.ask(c, "nonsense") == "E:42601 Z:E");
  CHECK(w.ask(c, "COMMIT") == "C:ROLLBACK Z:I");
  CHECK(told(w, c) == "miss");  // of the tenant ''
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET app.tenant = 'refused'") == "E:22023 Z:E");
  CHECK(w.ask(c, "ROLLBACK") == "C:ROLLBACK Z:I");
  CHECK(told(w, c) == "hit");
}

TEST_CASE("no tenant any more is not the same as none ever") {
  for (const char* end : {"COMMIT", "ROLLBACK"}) {
    CAPTURE(end);
    World w;
    WireClient& c = tenant_in_block(w);
    CHECK(w.ask(c, end) == std::string("C:") + end + " Z:I");
    CHECK(told(w, c) == "miss");
    CHECK(told(w, c) == "hit");
    CHECK(w.count(Counter::kProbes) == 1);
    w.proxy.domain().bump_settings_epoch();
    CHECK(told(w, c) == "hit");  // read, it comes to the same
    CHECK(w.count(Counter::kProbes) == 2);
    CHECK(told(w, w.session()) == "hit");  // none ever
  }
}

TEST_CASE("back to a savepoint: read again") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SAVEPOINT a") == "C:SAVEPOINT Z:T");
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:T");
  CHECK(w.ask(c, "ROLLBACK TO a") == "C:ROLLBACK Z:T");
  static_cast<void>(told(w, c));
  CHECK(w.count(Counter::kProbes) == 2);
}

TEST_CASE("behind it in one pipeline nothing is believed but reads") {
  World w;
  WireClient& c = known_session(w);
  c.query("SET app.tenant = '7'").query(kOne).query("SET app.tenant = '8'").query(kOne);
  w.run();
  static_cast<void>(c.take());
  CHECK(told(w, c) == "miss");
  CHECK(told(w, c) == "hit");
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:I");
  CHECK(told(w, c) == "miss");  // nothing was recorded in the pipeline
}

TEST_CASE("a block that begins where another ends is nobody's of before") {
  for (const char* end : {"COMMIT", "ROLLBACK"}) {
    CAPTURE(end);
    World w;
    WireClient& c = tenant_in_block(w);
    c.parse("", end).bind("", "").execute().parse("", "BEGIN").bind("", "").execute().sync();
    w.run();
    CHECK(c.take() == std::string("1 2 C:") + end + " 1 2 C:BEGIN Z:T");
    static_cast<void>(w.sent());
    CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
    CHECK(w.sent() == std::string("Q probe, Q ") + kTwo);
    CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
    CHECK(w.sent() == "");  // READ COMMITTED both
  }
}

TEST_CASE("between COMMIT and its Sync there is no block to ask for") {
  World w;
  WireClient& c = tenant_in_block(w);
  c.parse("", "COMMIT").bind("", "").execute().flush_please();
  w.run();
  CHECK(c.take() == "1 2 C:COMMIT");
  c.parse("", kTwo).bind("", "").execute().flush_please();
  w.run();
  CHECK(c.take() == "1 2 D:20 C:SELECT 1");
  CHECK(w.hits() == 1);  // that of the beginning
  c.parse("", "SET app.tenant = '8'").bind("", "").execute().sync();
  w.run();
  CHECK(c.take() == "1 2 C:SET Z:I");
  CHECK(w.count(Counter::kSettingsFollowed) == 1);
}

// ── The usual pattern ────────────────────────────────────────────────────────────────────────────

TEST_CASE("a block that sets and reads what is in memory never reaches PostgreSQL") {
  World w;
  WireClient& c = known_session(w);
  for (const char* tenant : {"'7'", "'8'", "'7'", "'8'"}) {
    CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
    CHECK(w.ask(c, std::string("SET LOCAL app.tenant = ") + tenant) == "C:SET Z:T");
    CHECK(w.ask(c, kOne) == kOneInBlock);
    CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  }
  const std::string first =
      "Q BEGIN; SELECT pg_catalog.set_config('app.tenant', '7', true), "
      "Q SELECT v FROM bench WHERE id = 1, Q COMMIT, ";
  CHECK(w.sent().starts_with(first));
  CHECK(w.count(Counter::kMisses) == 3);
  CHECK(w.count(Counter::kLocalBlocks) == 2);
  CHECK(w.count(Counter::kProbes) == 1);
  CHECK(told(w, c) == "miss");  // of the tenant ''
  CHECK(told(w, c) == "hit");
  CHECK(w.count(Counter::kProbes) == 1);
}

TEST_CASE("PostgreSQL is told of a block that leaves a name behind, at the latest at its end") {
  for (const char* end : {"COMMIT", "ROLLBACK"}) {
    CAPTURE(end);
    World w;
    WireClient& first = tenant_in_block(w);
    CHECK(w.ask(first, "COMMIT") == "C:COMMIT Z:I");
    WireClient& c = w.session();
    for (const std::string_view sent : {"once", ""}) {
      CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
      CHECK(w.ask(c, "SET LOCAL app.tenant = '7'") == "C:SET Z:T");
      CHECK(w.ask(c, kTwo) == "T:v D:20 C:SELECT 1 Z:T");
      static_cast<void>(w.sent());
      c.parse("", end).bind("", "").execute().sync();
      w.run();
      CHECK(c.take() == std::string("1 2 C:") + end + " Z:I");
      CHECK(w.sent() == (sent.empty() ? std::string()
                                      : "Q BEGIN; SELECT pg_catalog.set_config('app.tenant', '7', "
                                        "true), P " +
                                            std::string(end) + ", B, E, S"));
    }
    CHECK(w.count(Counter::kProbes) == 2);
    w.proxy.domain().bump_settings_epoch();
    const std::string before = told(w, c);
    CHECK(before == "miss");
    CHECK(told(w, c) == "hit");
  }
}

TEST_CASE("the same by set_config with a parameter, over the extended protocol") {
  World w;
  WireClient& c = known_session(w);
  const auto block = [&](const std::string& tenant) {
    c.query("BEGIN");
    c.parse("", kSetLocal).bind("", "", {tenant}).describe('P', "").execute().sync();
    c.query(kOne);
    c.query("ROLLBACK");
    w.run();
    return c.take();
  };
  const auto answer = [](const std::string& tenant) {
    return "C:BEGIN Z:T 1 2 T:set_config D:" + tenant + " C:SELECT 1 Z:T " + kOneInBlock +
           " C:ROLLBACK Z:I";
  };
  CHECK(block("7") == answer("7"));
  CHECK(block("o'brien") == answer("o'brien"));
  static_cast<void>(w.sent());
  CHECK(block("7") == answer("7"));
  CHECK(w.sent() == "");
  CHECK(w.hits() == 2);
}

TEST_CASE("outside a block it is PostgreSQL's, and gone with the statement") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "SELECT set_config('app.tenant', '7', true)") ==
        "T:set_config D:7 C:SELECT 1 Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(told(w, c) == "hit");
  CHECK(w.ask(c, "SELECT set_config('app.tenant', '7', false)") ==
        "T:set_config D:7 C:SELECT 1 Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(w.count(Counter::kProbes) == 1);
}

TEST_CASE("settings doubted in a block that was put off: the block goes first") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET LOCAL app.tenant = '7'") == "C:SET Z:T");
  w.proxy.domain().bump_settings_epoch();
  CHECK(w.ask(c, kOne) == kOneInBlock);
  CHECK(w.sent() ==
        "Q BEGIN; SELECT pg_catalog.set_config('app.tenant', '7', true), Q probe, "
        "Q SELECT v FROM bench WHERE id = 1");
  CHECK(w.hits() == 1);  // that of the beginning
  CHECK(w.ask(c, "COMMIT") == "C:COMMIT Z:I");
  CHECK(told(w, c) == "miss");
  CHECK(w.count(Counter::kProbes) == 3);
}

TEST_CASE("a setting for the session is not put off") {
  World w;
  WireClient& c = known_session(w);
  CHECK(w.ask(c, "BEGIN") == "C:BEGIN Z:T");
  CHECK(w.ask(c, "SET app.tenant = '7'") == "C:SET Z:T");
  CHECK(w.sent() == "Q BEGIN, Q SET app.tenant = '7'");
}

TEST_CASE("a probe leaves the unnamed statement and a suspended portal alone") {
  World w;
  WireClient& c = known_session(w);
  c.query("BEGIN");
  c.parse("", "SELECT id, v FROM bench ORDER BY id").bind("", "").execute("", 1).sync();
  w.run();
  CHECK(c.take() == "C:BEGIN Z:T 1 2 D:1,10 s Z:T");
  w.proxy.domain().bump_settings_epoch();
  c.parse("other", kTwo).sync();
  w.run();
  CHECK(w.count(Counter::kProbes) == 2);
  static_cast<void>(c.take());
  c.execute("", 1).sync();
  w.run();
  CHECK(c.take() == "D:2,20 s Z:T");
}

}  // namespace
}  // namespace pgfresh::sim
