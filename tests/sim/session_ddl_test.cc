// What makes the proxy forget everything at once: DDL, seen on the wire or told by an event, and
// what cannot be read (freshness.md, rule 12).
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"

namespace pgfresh::sim {
namespace {

TEST_CASE("DDL kills every entry and has the catalog read again") {
  struct Case {
    const char* text;
    const char* answer;
  };
  // A table made by a query is DDL, whatever the tag says.
  const Case cases[] = {
      {"ALTER TABLE bench ADD x int", "C:ALTER TABLE Z:I"},
      {"ALTER ROLE app SET x = 1", "C:ALTER ROLE Z:I"},
      {"SECURITY LABEL ON ROLE app IS 'masked'", "C:SECURITY LABEL Z:I"},
      {"CREATE TABLE copy AS SELECT v FROM bench", "C:SELECT 1 Z:I"},
      {"SELECT v INTO copy FROM bench", "C:SELECT 1 Z:I"},
      {"SELECT v FROM bench WHERE id = 2; CREATE TABLE copy AS SELECT v FROM bench",
       "T:v D:20 C:SELECT 1 C:SELECT 1 Z:I"},
  };
  for (const Case& one : cases) {
    for (const bool event_triggers : {true, false}) {
      CAPTURE(std::string(one.text));
      CAPTURE(event_triggers);
      World w;
      w.postgres.database().set_event_triggers(event_triggers);
      WireClient& a = w.session();
      CHECK(w.ask(a, kOne) == kOld);
      const uint64_t loads = w.proxy.feed().catalog_loads;
      {
        const HeldFeed held(w);
        CHECK(w.ask(a, one.text) == one.answer);
        CHECK(w.ask(w.session(), kOne) == kOld);
        CHECK(w.ask(a, kOne) == kOld);
        CHECK(w.hits() == 0);
      }
      w.advance_ms(50);
      CHECK(w.proxy.feed().catalog_loads > loads);
      CHECK(w.proxy.feed().open_slots == 0);
      CHECK(w.ask(a, kOne) == kOld);
      CHECK(w.hits() == 0);
      CHECK(w.ask(a, kOne) == kOld);
      CHECK(w.hits() == 1);
    }
  }
}

TEST_CASE("a table made over the extended protocol is DDL; a SELECT behind it is none") {
  World w;
  w.postgres.database().set_event_triggers(false);
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  a.parse("make", "CREATE TABLE copy AS SELECT v FROM bench").sync();
  w.run();
  CHECK(a.take() == "1 Z:I");
  CHECK(w.count(Counter::kDdlSeen) == 0);
  a.bind("", "make").execute();
  a.parse("", kTwo).bind("", "").execute().sync();
  w.run();
  CHECK(a.take() == "2 C:SELECT 1 1 2 D:20 C:SELECT 1 Z:I");
  CHECK(w.count(Counter::kDdlSeen) == 1);
  w.advance_ms(50);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
}

TEST_CASE("anomaly 17: a garbled payload makes the proxy forget everything") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  w.postgres.notify({"1 77 r 16402 nonsense"});
  w.advance_ms(500);
  CHECK(w.proxy.feed().garbled == 1);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
}

TEST_CASE("a broken in-band notice opens schema(D): nothing is served until it is settled") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  const HeldFeed held(w);
  static_cast<void>(w.ask(b, "BEGIN"));
  static_cast<void>(w.ask(b, kTwo));
  const auto backend = w.postgres.backend();
  backend->send_pf001("not an event");
  w.run();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
  CHECK(w.count(Counter::kNoticesBroken) == 1);
}

}  // namespace
}  // namespace pgfresh::sim
