// Plays about the second level (freshness.md, rule 8): it saves PostgreSQL the work, and whatever
// it does, nobody notices anything but that. Anomalies 6 and 7.
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"
#include "wire/bytes.h"

namespace pgfresh::sim {
namespace {

// Where time stands still nothing pays: the second level is asked always.
NodeOptions always(NodeOptions options) {
  options.settings.remote_ask = proxy::RemoteAsk::kAlways;
  return options;
}

struct RedisWorld : World {
  explicit RedisWorld(NodeOptions options = {}) : World(always(options), Level2::kRedis) {}

  [[nodiscard]] uint64_t l2_hits() const { return count(Counter::kHitsL2); }
  // Somebody has asked for it, so that it lies in Redis, and nowhere else.
  WireClient& after_fill(const char* sql, const char* answer) {
    WireClient& client = session();
    CHECK(ask(client, sql) == answer);
    proxy.clear_memory();
    static_cast<void>(sent());
    return client;
  }
};

// ── It saves work ────────────────────────────────────────────────────────────────────────────────

TEST_CASE("what memory has lost is found in the second level, and is in memory again") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  CHECK(w.redis->puts() == 1);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.sent().empty());
  CHECK(w.l2_hits() == 1);
  CHECK(w.ask(a, "SHOW pgfresh.last").find("D:hit,-,0,l2,") != std::string::npos);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
  CHECK(w.ask(a, "SHOW pgfresh.last").find("D:hit,-,0,l1,") != std::string::npos);
  CHECK(w.redis->gets() == 2);  // the first miss, and the look-up that found it
  CHECK(w.count(Counter::kRemoteAsked) == 2);
  CHECK(w.count(Counter::kRemoteFound) == 1);
  CHECK(w.count(Counter::kMisses) == 1);
}

TEST_CASE("the extended protocol: description and rows, by name and without") {
  RedisWorld w;
  WireClient& a = w.session();
  const auto ask = [&](WireClient& who) {
    who.parse("p", kByParameter).describe('S', "p").sync();
    w.run();
    std::string heard = who.take();
    who.bind("", "p", {"1"}).execute().sync();
    w.run();
    heard += " | " + who.take();
    who.close('S', "p").sync();
    w.run();
    return heard + " | " + who.take();
  };
  const std::string first = ask(a);
  CHECK(first == "1 t:1 T:v Z:I | 2 D:10 C:SELECT 1 Z:I | 3 Z:I");
  WireClient& b = w.session();
  w.proxy.clear_memory();
  static_cast<void>(w.sent());
  CHECK(ask(b) == first);
  CHECK(w.sent() == "Q probe");
  CHECK(w.count(Counter::kDescriptionHits) == 1);
  CHECK(w.l2_hits() == 1);
}

TEST_CASE("description and rows in one message: both are found") {
  RedisWorld w;
  WireClient& a = w.session();
  const auto ask = [&] {
    a.parse("", kByParameter).describe('S', "").bind("", "", {"1"}).execute().sync();
    w.run();
    return a.take();
  };
  const std::string answer = "1 t:1 T:v 2 D:10 C:SELECT 1 Z:I";
  for (int round = 0; round < 3; ++round) CHECK(ask() == answer);
  w.proxy.clear_memory();
  static_cast<void>(w.sent());
  CHECK(ask() == answer);
  CHECK(w.sent().empty());
  CHECK(w.l2_hits() == 1);
}

TEST_CASE("one look-up for a key, however many wait") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  WireClient& b = w.session();
  CHECK(w.ask(b, kTwo) == kOldTwo);
  static_cast<void>(w.sent());
  w.redis->hold(true, false);
  const uint64_t gets = w.redis->gets();
  a.query(kOne);
  b.query(kOne);
  w.run();
  CHECK(a.take().empty());
  CHECK(b.take().empty());
  w.redis->release();
  w.run();
  CHECK(a.take() == kOld);
  CHECK(b.take() == kOld);
  CHECK(w.redis->gets() == gets + 1);
  CHECK(w.count(Counter::kFlightsJoined) == 1);
  CHECK(w.sent().empty());
}

TEST_CASE("a miss there: PostgreSQL is asked once, and those who waited wait on") {
  RedisWorld w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.ask(a, kTwo) == kOldTwo);
  CHECK(w.ask(b, kTwo) == kOldTwo);
  static_cast<void>(w.sent());
  w.redis->hold(true, false);
  a.query(kOne);
  b.query(kOne);
  w.run();
  w.redis->release();
  w.run();
  CHECK(a.take() == kOld);
  CHECK(b.take() == kOld);
  CHECK(w.sent() == std::string("Q ") + kOne);
}

// ── It is judged ─────────────────────────────────────────────────────────────────────────────────

TEST_CASE("anomaly 6: a reply that an event has overtaken is not believed") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  WireClient& writer = w.direct_client();
  writer.startup();
  w.run();
  w.redis->hold(false, true);
  a.query(kOne);
  w.run();
  CHECK(w.ask(writer, kUpdateOne).find("C:UPDATE 1 Z:I") != std::string::npos);
  w.redis->release();
  w.run();
  CHECK(a.take() == kNew);
  CHECK(w.l2_hits() == 0);
}

TEST_CASE("anomaly 6: own write while the reply is on its way, feed held") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  WireClient& b = w.session();
  w.redis->hold(false, true);
  a.query(kOne);
  w.run();
  w.postgres.hold_control(true, true);
  CHECK(w.ask(b, kUpdateOne) == "C:UPDATE 1 Z:I");
  w.redis->release();
  w.run();
  CHECK(a.take() == kNew);
  CHECK(w.l2_hits() == 0);
  w.postgres.release_control();
}

TEST_CASE("anomaly 6: a SET that comes late is never found by those who know better") {
  RedisWorld w;
  WireClient& a = w.session();
  w.redis->hold(true, false);
  a.query(kOne);
  w.run();
  w.advance_ms(20);  // the budget
  CHECK(a.take() == kOld);
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  w.run();
  w.redis->release();
  w.run();
  CHECK(w.redis->puts() == 1);  // of the old answer
  w.proxy.clear_memory();
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.l2_hits() == 0);
}

TEST_CASE("anomaly 7: Redis returns to an old state") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->save();
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  w.run();
  CHECK(w.ask(a, kOne) == kNew);
  w.redis->restore();
  w.proxy.clear_memory();
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.l2_hits() == 0);
}

TEST_CASE("what is not what was asked for, or no answer at all, is refused") {
  struct Lie {
    const char* what;
    std::function<void(StoredEntry&)> tell;
  };
  const Lie lies[] = {
      {"another key", [](StoredEntry& e) { e.key.back() ^= 1; }},
      {"another token", [](StoredEntry& e) { ++e.stamp.back().token; }},
      {"another slot", [](StoredEntry& e) { ++e.stamp.back().slot; }},
      {"a shorter stamp", [](StoredEntry& e) { e.stamp.pop_back(); }},
      {"no stamp", [](StoredEntry& e) { e.stamp.clear(); }},
      {"cut short", [](StoredEntry& e) { e.body.pop_back(); }},
      {"cut between messages", [](StoredEntry& e) { e.body.resize(e.rest.description_bytes); }},
      {"empty", [](StoredEntry& e) { e.body.clear(); }},
      {"something behind it", [](StoredEntry& e) { e.body += 'Z'; }},
      {"another description", [](StoredEntry& e) { e.rest.description_bytes -= 1; }},
      {"another shape", [](StoredEntry& e) { e.rest.shape ^= 1; }},
      {"expired", [](StoredEntry& e) { e.rest.expires_unix_ms = 1; }},
      {"from before all time", [](StoredEntry& e) { e.rest.created_unix_ms = INT64_MIN; }},
  };
  for (const Lie& lie : lies) {
    CAPTURE(lie.what);
    RedisWorld w;
    WireClient& a = w.after_fill(kOne, kOld);
    w.redis->set_liar([&](const StoredEntry& entry) {
      StoredEntry told = entry;
      lie.tell(told);
      return told;
    });
    CHECK(w.ask(a, kOne) == kOld);
    CHECK(w.l2_hits() == 0);
    CHECK(w.count(Counter::kRemoteRefused) == 1);
    CHECK(w.sent() == std::string("Q ") + kOne);
  }
}

TEST_CASE("times that cannot be true do no harm: no entry outlives its lifetime here") {
  NodeOptions options;
  options.settings.ttl_ms = 500;
  options.settings.ttl_jitter_percent = 0;
  RedisWorld w(options);
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->set_liar([](const StoredEntry& entry) {
    StoredEntry told = entry;
    told.rest.created_unix_ms = INT64_MAX;
    told.rest.expires_unix_ms = INT64_MAX;
    told.rest.upstream_ns = INT64_MIN;
    return told;
  });
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.l2_hits() == 1);
  w.advance_ms(499);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
  w.advance_ms(1);
  w.redis->clear();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.sent() == std::string("Q ") + kOne);
}

// ── Trouble ──────────────────────────────────────────────────────────────────────────────────────

TEST_CASE("nobody waits for it longer than the budget, and a late reply harms nobody") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->hold(false, true);
  a.query(kOne);
  w.run();
  w.advance_ms(19);
  CHECK(a.take().empty());
  w.advance_ms(1);
  CHECK(a.take() == kOld);
  CHECK(w.sent() == std::string("Q ") + kOne);
  CHECK(w.count(Counter::kRemoteTimedOut) == 1);
  w.redis->release();
  w.run();
  CHECK(a.take().empty());
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("Redis goes away with a look-up under way, and while it is away it is not asked") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->hold(true, false);
  a.query(kOne);
  w.run();
  w.redis->set_down(true);
  w.run();
  CHECK(a.take() == kOld);
  CHECK(w.count(Counter::kRemoteFailed) == 1);
  CHECK(w.ask(a, kTwo) == kOldTwo);
  CHECK(w.count(Counter::kRemoteAsked) == 2);
  CHECK(w.redis->puts() == 1);
}

TEST_CASE("the client goes while a look-up is under way") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->hold(false, true);
  a.query(kOne);
  w.run();
  a.disconnect();
  w.run();
  w.redis->release();
  w.run();
  WireClient& b = w.session();
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.l2_hits() == 1);
}

TEST_CASE("the server goes while a look-up is under way") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->hold(false, true);
  a.query(kOne);
  w.run();
  w.postgres.backend()->terminate();
  w.run();
  CHECK(a.take() == "E:57P01");
  CHECK(a.ended());
  w.redis->release();
  w.run();
  WireClient& b = w.session();
  CHECK(w.ask(b, kOne) == kOld);
}

TEST_CASE("nothing behind a look-up overtakes it") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  w.redis->hold(false, true);
  a.query(kOne).query(kTwo).query(kUpdateOne).query(kOne);
  w.run();
  CHECK(a.take().empty());
  CHECK(w.sent().empty());
  w.redis->release();
  w.run();
  CHECK(a.take() == std::string(kOld) + " " + kOldTwo + " C:UPDATE 1 Z:I " + kNew);
}

TEST_CASE("a pipeline that ends in a look-up which finds nothing goes on in order") {
  RedisWorld w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kTwo) == kOldTwo);
  w.redis->hold(true, false);
  a.parse("", kOne).bind("", "").execute().parse("", kTwo).bind("", "").execute().sync();
  w.run();
  CHECK(a.take().empty());
  w.redis->release();
  w.run();
  CHECK(a.take() == "1 2 D:10 C:SELECT 1 1 2 D:20 C:SELECT 1 Z:I");
}

TEST_CASE("a cancel request ends the wait; the query itself can be cancelled then") {
  RedisWorld w;
  WireClient& a = w.client();
  a.startup();
  w.run();
  w.advance_ms(10);
  wire::BackendKey key;
  for (const WireClient::Message& message : a.messages()) {
    if (message.type == 'K') key = *wire::read_backend_key(message.body);
  }
  a.forget();
  CHECK(w.ask(a, kTwo) == kOldTwo);
  w.redis->hold(true, false);
  const auto backend = w.postgres.backend();
  backend->stall();
  a.query(kOne);
  w.run();
  WireClient& courier = w.client();
  std::string bytes;
  wire::write_cancel_request(bytes, key.pid, key.secret);
  courier.raw(bytes);
  w.run();
  CHECK(w.postgres.cancels() == 1);
  backend->go_on();
  w.run();
  CHECK(a.take() == "E:57014 Z:I");
  w.redis->release();
  w.run();
  CHECK(w.ask(a, kOne) == kOld);
}

TEST_CASE("who wants nothing older than a moment is not given what lies there") {
  RedisWorld w;
  WireClient& a = w.after_fill(kOne, kOld);
  static_cast<void>(w.ask(a, "SET pgfresh.max_age = '1s'"));
  static_cast<void>(w.sent());
  const uint64_t gets = w.redis->gets();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.redis->gets() == gets);
}

TEST_CASE("a second level that does not pay is left alone, and tried again now and then") {
  RedisWorld w;
  w.proxy.set_settings({});
  WireClient& a = w.session();
  w.proxy.remote()->set_round_trip_ns(kNsPerMs);
  w.redis->set_liar([](const StoredEntry&) { return std::nullopt; });
  for (int round = 0; round < 200; ++round) {
    CHECK(w.ask(a, kOne) == kOld);
    w.proxy.clear_memory();
  }
  CHECK(w.count(Counter::kRemoteAsked) < 20);
  CHECK(w.count(Counter::kRemoteAsked) > 10);
  CHECK(w.count(Counter::kRemoteSkipped) + w.count(Counter::kRemoteAsked) == 200);
  w.proxy.set_settings(always({}).settings);
  const uint64_t asked = w.count(Counter::kRemoteAsked);
  for (int round = 0; round < 10; ++round) {
    CHECK(w.ask(a, kOne) == kOld);
    w.proxy.clear_memory();
  }
  CHECK(w.count(Counter::kRemoteAsked) == asked + 10);
}

}  // namespace
}  // namespace pgfresh::sim
