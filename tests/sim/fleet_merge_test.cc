// Plays with several proxies whose tokens differ and become one's again, and what must not come
// back with a table that is taken over (freshness/join.h).
#include <doctest/doctest.h>

#include <array>

#include "support/bench_texts.h"
#include "support/fleet.h"

namespace pgfresh::sim {
namespace {

TEST_CASE("after everybody had to forget, the fleet comes together again") {
  Fleet f;
  for (int i = 0; i < 3; ++i) {
    f.add();
    f.time.advance_ms(50);
  }
  const uint64_t before = Fleet::base(*f.nodes[0]);
  f.postgres.notify({"rubbish"});
  f.time.advance_ms(15'000);
  for (const auto& node : f.nodes) {
    CHECK(Fleet::live(*node));
    CHECK(Fleet::agree(*node, *f.nodes[0]));
    CHECK(Fleet::base(*node) != before);
  }
}

TEST_CASE("tables of one base that came to differ are one again, without a new base") {
  Fleet f;
  f.postgres.database().set_event_triggers(true);
  for (int i = 0; i < 3; ++i) {
    f.add();
    f.time.advance_ms(50);
  }
  ProxyNode& a = *f.nodes[0];
  const uint64_t before = Fleet::base(a);
  // One is still reading the catalog, and keeps for later what makes the others read it again.
  for (int i = 0; i < 3; ++i) {
    ProxyNode& slow = *f.nodes[static_cast<size_t>(i)];
    f.postgres.hold_control(false, true, &slow.control_loop());
    static_cast<void>(f.ask(f.direct(), "ALTER TABLE side ADD x" + std::to_string(i) + " int"));
    f.time.advance_ms(20);
    f.postgres.notify({"1 " + std::to_string(100'000 + i) + " w 99999"});
    f.time.advance_ms(5);
    f.postgres.release_control();
    f.time.advance_ms(500);
    bool apart = false;
    for (const auto& node : f.nodes) apart = apart || !Fleet::agree(*node, a);
    CHECK(apart);
    f.time.advance_ms(90'000);
    for (const auto& node : f.nodes) {
      CHECK(Fleet::live(*node));
      CHECK(Fleet::agree(*node, a));
      CHECK(Fleet::base(*node) == before);
    }
  }
}

TEST_CASE("what one has thrown away does not come back with the map of another") {
  Fleet f;
  ProxyNode& a = f.add();
  f.time.advance_ms(50);
  ProxyNode& b = f.add();
  f.time.advance_ms(50);
  WireClient& ca = f.client(a);
  WireClient& cb = f.client(b);
  // Its new base is larger than the other's in half of the cases; then it takes the other's.
  for (int i = 0; i < 8; ++i) {
    CHECK(f.ask(ca, kOne) == kOld);
    CHECK(f.ask(cb, kOne) == kOld);
    a.forget();
    f.time.advance_ms(15'000);
    CHECK(Fleet::agree(a, b));
    const uint64_t hits = a.count(Counter::kHitsL1) + a.count(Counter::kHitsL2);
    CHECK(f.ask(ca, kOne) == kOld);
    CHECK(a.count(Counter::kHitsL1) + a.count(Counter::kHitsL2) == hits);
  }
}

// Two proxies that publish what is written through them.
struct WritingPair : Fleet {
  explicit WritingPair(NodeOptions options_in) : Fleet(std::move(options_in)) {
    postgres.database().set_event_triggers(true);
    for (int i = 0; i < 2; ++i) {
      add();
      time.advance_ms(50);
    }
    ca = &client(a());
    cb = &client(b());
    write_for(2000);
  }
  ProxyNode& a() { return *nodes[0]; }
  ProxyNode& b() { return *nodes[1]; }
  void write_for(int ms) {
    for (int done = 0; done < ms; done += 100) {
      static_cast<void>(ask(*ca, kUpdateOne));
      static_cast<void>(ask(*cb, "UPDATE bench SET v = 21 WHERE id = 2"));
      time.advance_ms(100);
    }
  }
  [[nodiscard]] uint64_t lost() { return a().feed().publishers_lost + b().feed().publishers_lost; }

  WireClient* ca = nullptr;
  WireClient* cb = nullptr;
};

NodeOptions publishing() {
  NodeOptions options;
  options.feed.publish = freshness::Publish::kProxy;
  return options;
}

TEST_CASE("publishers that merge do not follow themselves") {
  WritingPair f(publishing());
  REQUIRE(f.a().feed().publishers == 1);
  REQUIRE(f.b().feed().publishers == 1);
  f.postgres.notify({"rubbish"});
  f.write_for(30'000);
  CHECK(f.lost() == 0);
  CHECK(Fleet::agree(f.a(), f.b()));
}

TEST_CASE("publishers whose tables came to differ are one again") {
  WritingPair f(publishing());
  const uint64_t before = Fleet::base(f.a());
  for (int i = 0; i < 2; ++i) {
    ProxyNode& slow = *f.nodes[static_cast<size_t>(i)];
    f.postgres.hold_control(false, true, &slow.control_loop());
    static_cast<void>(f.ask(f.direct(), "ALTER TABLE side ADD x" + std::to_string(i) + " int"));
    f.time.advance_ms(20);
    f.postgres.notify({"1 " + std::to_string(100'000 + i) + " w 99999"});
    f.time.advance_ms(5);
    f.postgres.release_control();
    f.write_for(500);
    CHECK_FALSE(Fleet::agree(f.a(), f.b()));
    f.write_for(90'000);
    CHECK(Fleet::agree(f.a(), f.b()));
  }
  CHECK(f.lost() == 0);
  CHECK(Fleet::base(f.a()) == before);
  CHECK(Fleet::base(f.b()) == before);
}

// ── A change that no event tells of, and a token that comes back with a map ──────────────────────

constexpr const char* kAll = "SELECT * FROM bench WHERE id = 1";

TEST_CASE("DDL past pgfresh and a rolling restart: the old columns do not come from Redis") {
  Fleet f;
  f.postgres.database().set_event_triggers(false);
  ProxyNode& a = f.add();
  f.time.advance_ms(50);
  ProxyNode& b = f.add();
  f.time.advance_ms(2000);
  WireClient& cb = f.client(b);
  const std::string old = f.ask(cb, kAll);
  CHECK(f.ask(cb, kAll) == old);
  f.time.advance_ms(100);
  WireClient& d = f.direct();
  CHECK(f.ask(d, "ALTER TABLE bench ADD extra int") == "C:ALTER TABLE Z:I");
  const std::string fresh = f.ask(d, kAll);
  CHECK(fresh != old);
  f.stop(a);
  ProxyNode& c = f.add();
  f.time.advance_ms(100);
  CHECK(c.feed().joins == 1);
  f.stop(b);
  ProxyNode& e = f.add();
  f.time.advance_ms(100);
  CHECK(e.feed().joins == 1);
  f.time.advance_ms(10'000);
  CHECK(f.ask(f.client(c), kAll) == fresh);
  CHECK(f.ask(f.client(e), kAll) == fresh);
}

TEST_CASE("DDL past pgfresh, and a table taken over by its digest: nor from memory") {
  NodeOptions options;
  options.feed.catalog_poll_ms = 60'000;
  Fleet f(options);
  f.postgres.database().set_event_triggers(false);
  for (int i = 0; i < 2; ++i) {
    f.add();
    f.time.advance_ms(50);
  }
  f.time.advance_ms(2000);
  ProxyNode& slow = *f.nodes[1];
  f.postgres.hold_control(false, true, &slow.control_loop());
  f.postgres.notify({"1 900000 s"});
  f.time.advance_ms(20);
  f.postgres.notify({"1 100000 w 99999"});
  f.time.advance_ms(5);
  f.postgres.release_control();
  f.time.advance_ms(500);
  CHECK_FALSE(Fleet::agree(*f.nodes[0], *f.nodes[1]));
  std::array<uint64_t, 2> joins{};
  std::array<WireClient*, 2> clients{};
  for (size_t i = 0; i < 2; ++i) {
    clients[i] = &f.client(*f.nodes[i]);
    const std::string old = f.ask(*clients[i], kAll);
    CHECK(f.ask(*clients[i], kAll) == old);
    joins[i] = f.nodes[i]->feed().joins;
  }
  WireClient& d = f.direct();
  CHECK(f.ask(d, "ALTER TABLE bench ADD extra int") == "C:ALTER TABLE Z:I");
  const std::string fresh = f.ask(d, kAll);
  size_t merged = 2;
  for (int ms = 0; ms < 60'000 && merged == 2; ++ms) {
    f.time.advance_ms(1);
    for (size_t i = 0; i < 2; ++i) {
      if (f.nodes[i]->feed().joins != joins[i]) merged = i;
    }
  }
  REQUIRE(merged != 2);
  f.stop(*f.nodes[1 - merged]);
  f.time.advance_ms(120'000);
  CHECK(f.ask(*clients[merged], kAll) == fresh);
}

}  // namespace
}  // namespace pgfresh::sim
