// Plays about trouble: connections that break at the worst moment, slow and silent peers, cancel
// requests, limits, and the end of the daemon.
#include <doctest/doctest.h>

#include "support/bench_texts.h"
#include "support/world.h"
#include "wire/bytes.h"

namespace pgfresh::sim {
namespace {

// ── The server connection breaks ─────────────────────────────────────────────────────────────────

TEST_CASE("rule 4: server lost inside a transaction; slots stay open until the backend is gone") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  static_cast<void>(w.ask(b, kOne));
  static_cast<void>(w.ask(a, "BEGIN"));
  static_cast<void>(w.ask(a, kUpdateOne));
  const auto backend = w.postgres.backends().front();
  backend->stall();  // it does not notice
  backend->pipe()->cut("connection reset by peer");
  w.run();
  CHECK(a.ended());
  w.advance_ms(500);
  CHECK(w.postgres.looks() > 1);
  CHECK(w.proxy.feed().open_slots > 0);
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 0);
  backend->go_on();
  w.advance_ms(1100);
  CHECK(w.proxy.feed().open_slots == 0);
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("anomaly 9: the connection breaks between COMMIT and its reply") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  static_cast<void>(w.ask(b, kOne));
  static_cast<void>(w.ask(a, "BEGIN"));
  static_cast<void>(w.ask(a, kUpdateOne));
  const auto backend = w.postgres.backends().front();
  backend->stall();
  a.query("COMMIT");
  w.run();
  backend->pipe()->cut("connection reset by peer");
  w.run();
  CHECK(a.take() == "E:08006");
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 0);
  backend->go_on();  // now the COMMIT that had arrived is carried out
  w.run();
  CHECK(w.postgres.database().committed(1) == 11);
  CHECK(w.ask(b, kOne) == kNew);
}

TEST_CASE("PostgreSQL ends the session: its words go to the client") {
  World w;
  WireClient& a = w.session();
  w.postgres.backend()->terminate();
  w.run();
  CHECK(a.take() == "E:57P01");
  CHECK(a.ended());
}

TEST_CASE("behind PostgreSQL's last words nothing is answered from the cache") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
  w.postgres.backend()->say_last_words();
  w.run();
  CHECK(a.take() == "E:57P01");
  static_cast<void>(w.ask(a, kOne));
  CHECK(w.hits() == 1);
}

TEST_CASE("PostgreSQL crashes and comes back") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  w.postgres.crash();
  w.run();
  CHECK(a.ended());
  w.advance_ms(200);
  w.postgres.restart();
  w.advance_ms(10'000);
  CHECK(w.proxy.feed().state == "live");
  WireClient& b = w.session();
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 0);
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("anomaly 14: cut at every byte of an answer, nothing truncated is kept") {
  constexpr size_t kAnswerBytes = 60;
  for (size_t bytes = 1; bytes < kAnswerBytes; ++bytes) {
    World w;
    WireClient& a = w.session();
    WireClient& b = w.session();
    for (WireClient* client : {&a, &b}) static_cast<void>(w.ask(*client, kTwo));
    const auto pipe = w.postgres.backends().front()->pipe();
    size_t pieces = 0;
    pipe->set_chunking(0, [&] {
      if (++pieces == 2) pipe->hold(0);
      return bytes;
    });
    a.query(kOne);
    w.run();
    pipe->cut("connection reset by peer");
    w.run();
    CHECK(a.ended());
    CHECK(w.ask(b, kOne) == kOld);
    CHECK(w.ask(b, kOne) == kOld);
  }
}

TEST_CASE("bytes in pieces of one, both ways") {
  World w;
  WireClient& a = w.session();
  w.pipes[0]->set_chunking(0, [] { return 1; });
  w.pipes[0]->set_chunking(1, [] { return 1; });
  w.postgres.backend()->pipe()->set_chunking(0, [] { return 1; });
  for (int round = 0; round < 2; ++round) {
    a.parse("", kOne).bind("", "").describe('P', "").execute().sync().query(kTwo);
    w.run();
    CHECK(a.take() == "1 2 T:v D:10 C:SELECT 1 Z:I T:v D:20 C:SELECT 1 Z:I");
  }
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() >= 2);
}

// ── The client goes ──────────────────────────────────────────────────────────────────────────────

TEST_CASE("the client says goodbye, or just goes: the backend goes with it") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  CHECK(w.postgres.backends_alive() == 2);
  a.terminate();
  b.disconnect();
  w.run();
  CHECK(w.postgres.backends_alive() == 0);
  CHECK(a.ended());
  a.disconnect();
  w.run();
  CHECK(w.proxy.worker().sessions().empty());
}

TEST_CASE("the client goes in the middle of its transaction: rolled back, slots closed") {
  World w;
  WireClient& a = w.session();
  static_cast<void>(w.ask(a, "BEGIN"));
  static_cast<void>(w.ask(a, kUpdateOne));
  CHECK(w.proxy.feed().open_slots > 0);
  a.disconnect();
  w.advance_ms(100);
  CHECK(w.proxy.feed().open_slots == 0);
  CHECK(w.postgres.database().committed(1) == 10);
}

TEST_CASE("the client goes while its answer is on the way") {
  for (const bool lost : {true, false}) {
    World w;
    WireClient& a = w.session();
    static_cast<void>(w.ask(a, kTwo));
    const auto backend = w.postgres.backend();
    backend->stall();
    a.query(kOne);
    w.run();
    if (lost) {
      w.pipes[0]->cut("connection reset by peer");
    } else {  // it may have closed its sending side alone
      a.disconnect();
      w.run();
      CHECK(w.proxy.worker().sessions().size() == 1);
      backend->go_on();
    }
    w.run();
    CHECK(w.proxy.worker().sessions().empty());
  }
}

TEST_CASE("the client goes while the session's settings are being read, or while connecting") {
  World w;
  WireClient& a = w.session();
  const auto backend = w.postgres.backend();
  backend->stall();
  a.query(kOne);
  w.run();
  a.disconnect();
  WireClient& b = w.client();
  b.startup();
  b.send();
  b.disconnect();
  w.run();
  CHECK(w.proxy.worker().sessions().size() == 1);
  backend->go_on();
  w.run();
  CHECK(w.proxy.worker().sessions().empty());
}

// ── Slow peers ───────────────────────────────────────────────────────────────────────────────────

TEST_CASE("a slow client stops the reading from the server") {
  World w;
  w.postgres.database().set_pad(std::string(60'000, 'x'));
  WireClient& a = w.session();
  static_cast<void>(w.ask(a, kOne));
  w.pipes[0]->set_window(0, 1000);
  w.pipes[0]->hold(0);
  const auto server = w.postgres.backend()->pipe();
  server->set_chunking(0, [] { return 8192; });
  std::string many;
  for (int i = 0; i < 40; ++i) many += "SELECT pad FROM bench WHERE id = 1;";
  a.query(many);
  w.run();
  CHECK(w.pipes[0]->in_flight(0) < 1'000'000);
  CHECK(server->in_flight(0) > 1'000'000);
  a.forget();
  w.pipes[0]->release(0);
  w.run();
  CHECK(server->in_flight(0) == 0);
  REQUIRE(a.messages().size() == 40 * 3 + 1);
  CHECK(w.ask(a, kOne).ends_with(kOld));
}

TEST_CASE("a client that does not read its hits is not read from") {
  World w;
  w.postgres.database().set_pad(std::string(60'000, 'x'));
  WireClient& a = w.session();
  for (int i = 0; i < 2; ++i) static_cast<void>(w.ask(a, "SELECT pad FROM bench WHERE id = 1"));
  w.pipes[0]->set_window(0, 1000);
  w.pipes[0]->hold(0);
  w.pipes[0]->set_chunking(1, [] { return 100; });
  for (int i = 0; i < 100; ++i) a.query("SELECT pad FROM bench WHERE id = 1");
  w.run();
  CHECK(w.pipes[0]->in_flight(0) < 1'000'000);
  CHECK(w.pipes[0]->in_flight(1) > 1000);
  a.forget();
  w.pipes[0]->release(0);
  w.run();
  CHECK(a.messages().size() == 400);
  CHECK(w.hits() == 101);
}

TEST_CASE("a slow server stops the reading from the client") {
  World w;
  WireClient& a = w.session();
  const auto server = w.postgres.backend()->pipe();
  server->set_window(1, 1000);
  server->hold(1);
  w.pipes[0]->set_chunking(1, [] { return 10'000; });
  a.query("COPY bench FROM STDIN");
  for (int64_t id = 100; id < 200; ++id) {
    a.copy_data(std::to_string(id) + "\t" + std::string(9000, '0') + "1\n");
  }
  a.copy_done();
  w.run();
  CHECK(server->in_flight(1) < 600'000);
  CHECK(w.pipes[0]->in_flight(1) > 200'000);
  server->release(1);
  w.run();
  CHECK(a.take() == "G C:COPY 100 Z:I");
}

// ── Cancel ───────────────────────────────────────────────────────────────────────────────────────

struct Key {
  uint32_t pid = 0;
  uint32_t secret = 0;
};

// Logs in and keeps the key the client was given.
WireClient& session_with_key(World& w, Key& key) {
  WireClient& made = w.client();
  made.startup();
  w.run();
  w.advance_ms(10);
  for (const WireClient::Message& message : made.messages()) {
    if (message.type != 'K') continue;
    const auto given = wire::read_backend_key(message.body);
    key = {given->pid, given->secret};
  }
  made.forget();
  return made;
}

void send_cancel(World& w, const Key& key) {
  WireClient& courier = w.client();
  std::string bytes;
  wire::write_cancel_request(bytes, key.pid, key.secret);
  courier.raw(bytes);
  w.run();
}

TEST_CASE("a cancel request reaches the client's own query") {
  World w;
  Key key;
  WireClient& a = session_with_key(w, key);
  const auto backend = w.postgres.backend();
  CHECK(key.secret != backend->key().secret);
  static_cast<void>(w.ask(a, kTwo));
  backend->stall();
  a.query(kOne);
  w.run();
  send_cancel(w, key);
  CHECK(w.postgres.cancels() == 1);
  backend->go_on();
  w.run();
  CHECK(a.take() == "E:57014 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
}

TEST_CASE("a cancel request with a wrong secret, or for nothing, does nothing") {
  World w;
  Key key;
  WireClient& a = session_with_key(w, key);
  send_cancel(w, key);
  send_cancel(w, {key.pid, key.secret + 1});
  CHECK(w.postgres.cancels() == 0);
  CHECK(w.ask(a, kOne) == kOld);
}

TEST_CASE("a cancel that meets the reading of the settings is kept for what comes behind it") {
  World w;
  Key key;
  static_cast<void>(w.session());  // the catalog is known before the session that counts begins
  WireClient& a = session_with_key(w, key);
  const auto backend = w.postgres.backend();
  backend->stall();
  a.query(kOne);
  w.run();
  send_cancel(w, key);
  CHECK(w.postgres.cancels() == 0);
  backend->go_on();
  w.run();
  CHECK(w.postgres.cancels() == 1);
  CHECK(a.take() == kOld);  // too quick for it
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

TEST_CASE("a cancel that meets the check of a statement is passed on: what is checked may wait") {
  World w;
  Key key;
  WireClient& other = w.session();
  constexpr const char* kByParameter = "SELECT v FROM bench WHERE id = $1";
  static_cast<void>(w.ask(other, kOne));
  other.parse("p", kByParameter).describe('S', "p").sync();
  w.run();
  WireClient& a = session_with_key(w, key);
  const auto backend = w.postgres.backends().back();
  a.parse("q", kOne).bind("", "q").execute().sync();
  w.run();
  a.parse("p", kByParameter).describe('S', "p").sync();
  w.run();
  CHECK(w.count(Counter::kDescriptionHits) == 1);
  a.forget();
  backend->stall();
  a.bind("", "p", {"2"}).execute().sync();
  w.run();
  send_cancel(w, key);
  CHECK(w.postgres.cancels() == 1);
  backend->go_on();
  w.run();
  CHECK(a.take() == "2 E:57014 Z:I");
  CHECK(w.ask(a, kOne) == kOld);
}

TEST_CASE("a waiting reader that is cancelled leaves the fetch it waits for alone") {
  World w;
  WireClient& leader = w.session();
  static_cast<void>(w.ask(leader, kTwo));
  const auto leading = w.postgres.backend();
  Key key;
  WireClient& waiter = session_with_key(w, key);
  static_cast<void>(w.ask(waiter, kTwo));
  const auto own = w.postgres.backend();
  leading->stall();
  own->stall();
  leader.query(kOne);
  w.run();
  waiter.query(kOne);
  w.run();
  CHECK(w.count(Counter::kFlightsJoined) == 1);
  send_cancel(w, key);
  leading->go_on();
  own->go_on();
  w.run();
  CHECK(leader.take() == kOld);
  CHECK(waiter.take() == "E:57014 Z:I");
}

// ── Unasked-for messages ─────────────────────────────────────────────────────────────────────────

TEST_CASE("notices and notifications out of the blue pass, and keep no answer") {
  World w;
  WireClient& a = w.session();
  w.postgres.backend()->send_notice("hello");
  w.postgres.backend()->send_notification("chat", "hi");
  w.run();
  CHECK(a.take() == "N:hello A:hi");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 1);
}

// ── Limits and the end ───────────────────────────────────────────────────────────────────────────

TEST_CASE("bytes that are not the protocol end that session with 08P01, and no other") {
  World w;
  WireClient& a = w.session();
  WireClient& b = w.session();
  a.raw("this is not the protocol");
  w.run();
  CHECK(a.take() == "E:08P01");
  CHECK(a.ended());
  CHECK(w.ask(b, kOne) == kOld);
  CHECK(w.count(Counter::kProtocolErrors) == 1);
}

TEST_CASE("a login that takes too long, a session idle for too long, one client too many") {
  NodeOptions options;
  options.settings.login_ms_max = 1000;
  options.settings.idle_ms_max = 5000;
  options.settings.clients_max = 2;
  World w(options);
  WireClient& silent = w.client();
  WireClient& idle = w.session();
  WireClient& third = w.client();
  third.startup();
  w.run();
  CHECK(third.take() == "E:53300");
  w.advance_ms(2100);
  CHECK(silent.take() == "E:08P01");
  w.advance_ms(6000);
  CHECK(idle.take() == "E:57P05");
}

TEST_CASE("a client that has said all keeps its place until PostgreSQL has answered") {
  NodeOptions options;
  options.settings.clients_max = 1;
  World w(options);
  WireClient& a = w.session();
  const auto backend = w.postgres.backend();
  backend->stall();
  a.query(kOne);
  w.run();
  a.disconnect();
  w.run();
  WireClient& second = w.client();
  second.startup();
  w.run();
  CHECK(second.take() == "E:53300");
  backend->go_on();
  w.run();
  CHECK(w.ask(w.session(), kOne) == kOld);
}

TEST_CASE("the end of an idle client is the end of all, though PostgreSQL says nothing") {
  World w;
  WireClient& a = w.session();
  static_cast<void>(w.ask(a, kOne));
  w.postgres.backend()->stall();
  a.disconnect();
  w.run();
  CHECK(w.proxy.worker().sessions().empty());
}

TEST_CASE("the daemon stops: idle sessions go at once, transactions may finish") {
  World w;
  WireClient& idle = w.session();
  WireClient& busy = w.session();
  static_cast<void>(w.ask(busy, "BEGIN"));
  static_cast<void>(w.ask(busy, kUpdateOne));
  bool drained = false;
  w.proxy.worker().drain([&] { drained = true; });
  w.run();
  CHECK(idle.take() == "E:57P01");
  CHECK_FALSE(busy.ended());
  CHECK(w.ask(busy, "COMMIT") == "C:COMMIT Z:I");
  w.advance_ms(200);
  CHECK(busy.take() == "E:57P01");
  idle.disconnect();
  busy.disconnect();
  w.advance_ms(200);
  CHECK(drained);
}

TEST_CASE("caching switched off while running: everything passes, and comes back") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  proxy::Settings settings;
  settings.cache_mode = proxy::CacheMode::kOff;
  w.proxy.set_settings(settings);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kUpdateOne) == "C:UPDATE 1 Z:I");
  CHECK(w.hits() == 0);
  w.proxy.set_settings(proxy::Settings{});
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.ask(a, kOne) == kNew);
  CHECK(w.hits() == 1);
}

TEST_CASE("switched off in the middle of a deferred block: its BEGIN still goes first") {
  World w;
  WireClient& a = w.session();
  CHECK(w.ask(a, kOne) == kOld);
  static_cast<void>(w.sent());
  CHECK(w.ask(a, "BEGIN") == "C:BEGIN Z:T");
  proxy::Settings settings;
  settings.cache_mode = proxy::CacheMode::kOff;
  w.proxy.set_settings(settings);
  CHECK(w.ask(a, kOne) == "T:v D:10 C:SELECT 1 Z:T");
  CHECK(w.sent() == std::string("Q BEGIN, Q ") + kOne);
  CHECK(w.ask(a, "COMMIT") == "C:COMMIT Z:I");
}

TEST_CASE("a physical replication connection passes unread") {
  World w;
  WireClient& a = w.client();
  a.startup({{"user", "app"}, {"database", "shop"}, {"replication", "true"}});
  w.run();
  CHECK(a.take() == "R:0 S:server_version=15.8 K Z:I");
  CHECK(w.postgres.backend()->startup().get("pgfresh.inband").empty());
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
}

TEST_CASE("SQL over a replication connection is not cached, and its notices are seen") {
  World w;
  WireClient& a = w.client();
  a.startup({{"user", "app"}, {"database", "shop"}, {"replication", "database"}});
  w.run();
  CHECK(a.take() == "R:0 S:server_version=15.8 K Z:I");
  CHECK(w.postgres.backend()->startup().get("pgfresh.inband") == "on");
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.ask(a, kOne) == kOld);
  CHECK(w.hits() == 0);
}

}  // namespace
}  // namespace pgfresh::sim
