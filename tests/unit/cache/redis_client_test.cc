#include "cache/redis_client.h"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "redis_peer.h"

namespace pgfresh::cache {
namespace {

using Outcome = RedisClient::Outcome;
using Sent = RedisClient::Sent;

struct World {
  explicit World(RedisClientOptions options = {})
      : client(
            loop, redis, std::move(options), [this] { return random += 7919; }, counters, log) {}

  void start() {
    client.start();
    time.settle();
  }
  Sent ask(std::string_view key) {
    return client.send(std::array<std::string_view, 2>{"GET", key},
                       [this](Outcome outcome, RedisReply& reply) {
                         outcomes.push_back(outcome);
                         texts.push_back(reply.text);
                       });
  }
  [[nodiscard]] uint64_t errors(RedisTrouble trouble) const {
    return client.gauges().errors[static_cast<size_t>(trouble)];
  }

  sim::ManualTime time;
  sim::ManualLoop loop{time};
  RedisPeer redis{loop};
  uint64_t random = 0;
  Counters counters;
  NotedLog log;
  RedisClient client;
  std::vector<Outcome> outcomes;
  std::vector<std::string> texts;
};

TEST_CASE("redis client: greets, then answers in the order of the questions") {
  RedisClientOptions options;
  options.user = "cache";
  options.password = "secret";
  options.database = 3;
  World world(options);
  world.redis.strings = {{"a", "1"}, {"b", "2"}};
  CHECK(world.ask("a") == Sent::kAway);
  world.start();
  CHECK(world.client.ready());
  CHECK(world.client.info().version == "7.0.15");
  CHECK(world.redis.commands[0] == RedisPeer::Command{"AUTH", "cache", "secret"});
  CHECK(world.redis.commands[1] == RedisPeer::Command{"SELECT", "3"});
  CHECK(world.redis.names() == "AUTH SELECT CLIENT INFO");

  CHECK(world.ask("a") == Sent::kSent);
  CHECK(world.ask("missing") == Sent::kSent);
  CHECK(world.ask("b") == Sent::kSent);
  CHECK(world.texts.empty());
  world.time.settle();
  CHECK(world.texts == std::vector<std::string>{"1", "", "2"});
  CHECK(world.client.gauges().in_flight == 0);
  CHECK(world.log.text.find("secret") == std::string::npos);
}

TEST_CASE("redis client: a password without a user, and neither") {
  RedisClientOptions options;
  options.password = "secret";
  World world(options);
  world.start();
  CHECK(world.redis.commands[0] == RedisPeer::Command{"AUTH", "secret"});
  World open;
  open.start();
  CHECK(open.redis.names() == "CLIENT INFO");
}

TEST_CASE("redis client: a late answer is dropped, and later ones find their questions") {
  World world;
  world.redis.strings = {{"a", "1"}, {"b", "2"}};
  world.start();
  world.redis.silent = true;
  world.ask("a");
  world.time.advance_ms(19);
  CHECK(world.outcomes.empty());
  world.time.advance_ms(1);
  CHECK(world.outcomes == std::vector<Outcome>{Outcome::kLate});
  // Nothing came since it was sent: the breaker opens at once, and refuses without a wait.
  CHECK(world.client.state() == RedisState::kTripped);
  CHECK(world.ask("b") == Sent::kAway);
  CHECK(world.counters.get(Counter::kRedisTimeouts) == 1);
  CHECK(world.counters.get(Counter::kRedisTrips) == 1);

  world.redis.say_unsaid();
  world.redis.silent = false;
  world.time.advance_ms(100);
  CHECK(world.client.ready());
  CHECK(world.log.text.find("redis_in_time") != std::string::npos);
  world.ask("b");
  world.time.settle();
  CHECK(world.texts == std::vector<std::string>{"", "2"});
  CHECK(world.redis.connections == 1);
}

TEST_CASE("redis client: probes have growing pauses, and a silent connection is given up") {
  World world;
  world.start();
  world.redis.silent = true;
  world.ask("a");
  world.time.advance_ms(20);
  const size_t before = world.redis.commands.size();
  world.time.advance_ms(1500);
  const size_t probes = world.redis.commands.size() - before;
  CHECK(probes >= 2);
  CHECK(probes <= 8);
  CHECK(world.redis.connections == 1);
  world.time.advance_ms(3500);
  CHECK(world.redis.connections >= 2);
  CHECK(world.counters.get(Counter::kRedisBreaks) >= 1);
  world.redis.silent = false;
  world.time.advance_ms(6000);
  CHECK(world.client.ready());
}

TEST_CASE("redis client: an error answers a probe, too") {
  for (const std::string_view error : {"MISCONF x", "OOM x", "NOPERM x", "ERR x"}) {
    World world;
    world.redis.strings = {{"a", "1"}};
    world.start();
    world.redis.silent = true;
    world.ask("a");
    world.time.advance_ms(20);
    CHECK(world.client.state() == RedisState::kTripped);
    world.redis.say_unsaid();
    world.redis.silent = false;
    world.redis.instead =
        [&error](const RedisPeer::Command& command) -> std::optional<std::string> {
      if (command.front() != "PING") return std::nullopt;
      return "-" + std::string(error) + "\r\n";
    };
    world.time.advance_ms(100);
    CHECK(world.client.ready());
    world.ask("a");
    world.time.settle();
    CHECK(world.texts.back() == "1");
    CHECK(world.redis.connections == 1);
  }
}

TEST_CASE("redis client: slow answers trip it too, though they come") {
  World world;
  world.start();
  world.redis.silent = true;
  // A question each 5 ms, and each but the first is answered 20 ms later: something always comes.
  for (int step = 0; step < 12; ++step) {
    CHECK(world.ask("a") == Sent::kSent);
    world.time.settle();
    if (step == 3 || step >= 5) world.redis.say("$-1\r\n");
    world.time.advance_ms(5);
  }
  CHECK(world.client.state() == RedisState::kTripped);
  CHECK(world.client.trouble() == "several answers in a row came too late");
  std::vector<Outcome> expected(9, Outcome::kLate);
  expected.front() = Outcome::kReply;
  CHECK(world.outcomes == expected);
}

TEST_CASE("redis client: a loop that was frozen reads before it judges") {
  World world;
  world.redis.strings = {{"a", "1"}};
  world.start();
  world.ask("a");
  world.time.freeze_ms(500);
  world.time.settle();
  world.time.advance_ms(2);
  CHECK(world.texts == std::vector<std::string>{"1"});
  CHECK(world.client.ready());
}

TEST_CASE("redis client: what is under way is bounded by number and bytes") {
  RedisClientOptions options;
  options.requests_max = 10;
  World few(options);
  few.start();
  few.redis.silent = true;
  for (int i = 0; i < 10; ++i) CHECK(few.ask("a") == Sent::kSent);
  CHECK(few.ask("a") == Sent::kFull);
  CHECK(few.counters.get(Counter::kRedisNotAsked) == 1);

  options.requests_max = 1000;
  options.bytes_max = 1000;
  World small(options);
  small.start();
  CHECK(small.ask(std::string(1000, 'k')) == Sent::kSent);
  CHECK(small.ask("a") == Sent::kFull);
  CHECK(small.client.gauges().bytes_in_flight > 1000);
  small.time.settle();
  CHECK(small.ask("a") == Sent::kSent);
}

TEST_CASE("redis client: a broken connection answers everybody, and comes back") {
  World world;
  world.start();
  world.redis.silent = true;
  world.ask("a");
  world.ask("b");
  world.time.settle();
  world.redis.cut();
  world.time.settle();
  CHECK(world.outcomes == std::vector<Outcome>{Outcome::kBroken, Outcome::kBroken});
  CHECK(world.client.state() == RedisState::kWaiting);
  CHECK(world.client.trouble() == "connection reset by peer");
  world.redis.silent = false;
  world.time.advance_ms(100);
  CHECK(world.client.ready());
  CHECK(world.redis.connections == 2);
}

TEST_CASE("redis client: attempts become rare while nobody is there") {
  World world;
  world.redis.refusing = true;
  world.start();
  CHECK(world.client.trouble() == "connection to server failed: Connection refused");
  world.time.advance_ms(60'000);
  CHECK(world.redis.connections >= 12);
  CHECK(world.redis.connections <= 40);
  world.redis.refusing = false;
  world.time.advance_ms(5'000);
  CHECK(world.client.ready());
}

TEST_CASE("redis client: another reason for being away is told at once, the same one rarely") {
  World world;
  world.redis.refusing = true;
  world.start();
  world.time.advance_ms(5'000);
  const auto times = [&world](std::string_view words) {
    size_t count = 0;
    for (size_t at = world.log.text.find(words); at != std::string::npos;
         at = world.log.text.find(words, at + 1)) {
      ++count;
    }
    return count;
  };
  CHECK(times("Connection refused") == 1);
  world.redis.refusing = false;
  world.redis.info = "redis_mode:standalone\r\nrole:slave\r\n";
  world.time.advance_ms(5'000);
  CHECK(times("Connection refused") == 1);
  CHECK(times("it is a replica") == 1);
}

TEST_CASE("redis client: whom it does not want to talk to") {
  struct Case {
    std::string info;
    std::string trouble;
  };
  for (const Case& one :
       {Case{"redis_mode:cluster\r\nrole:master\r\n", "Redis Cluster"},
        Case{"redis_mode:sentinel\r\n", "Redis Sentinel"},
        Case{"redis_mode:standalone\r\nrole:slave\r\n", "it is a replica"},
        Case{"redis_mode:standalone\r\nrole:master\r\nloading:1\r\n", "it is loading"}}) {
    World world;
    world.redis.info = one.info;
    world.start();
    CHECK(world.client.state() == RedisState::kWaiting);
    CHECK(world.client.trouble().find(one.trouble) != std::string::npos);
    CHECK(world.log.text.find(one.trouble) != std::string::npos);
    // It is asked again: names move, and servers are mended.
    world.redis.info = "role:master\r\n";
    world.time.advance_ms(5'000);
    CHECK(world.client.ready());
  }
}

TEST_CASE("redis client: a refused login is said, and tried again later") {
  RedisClientOptions options;
  options.password = "wrong";
  World world(options);
  world.redis.instead = [](const RedisPeer::Command& command) -> std::optional<std::string> {
    if (command.front() == "AUTH") return "-WRONGPASS invalid username-password pair\r\n";
    return "-NOAUTH Authentication required.\r\n";
  };
  world.start();
  CHECK(world.client.trouble() == "WRONGPASS invalid username-password pair");
  CHECK(world.errors(RedisTrouble::kLogin) == 1);
  world.time.advance_ms(2'000);
  CHECK(world.redis.connections == 1);
  world.redis.instead = nullptr;
  world.time.advance_ms(5'000);
  CHECK(world.client.ready());
}

TEST_CASE("redis client: a user that may not ask INFO, and a greeting without an end") {
  World world;
  world.redis.instead = [](const RedisPeer::Command& command) -> std::optional<std::string> {
    if (command.front() == "INFO") return "-NOPERM no permissions to run the 'info' command\r\n";
    return std::nullopt;
  };
  world.start();
  CHECK(world.client.ready());

  World mute;
  mute.redis.silent = true;
  mute.start();
  mute.time.advance_ms(999);
  CHECK(mute.client.state() == RedisState::kGreeting);
  mute.time.advance_ms(1);
  CHECK(mute.client.state() == RedisState::kWaiting);
}

TEST_CASE("redis client: errors that end the connection, and errors that do not") {
  struct Case {
    std::string error;
    RedisTrouble trouble;
    bool connected;
    bool writable;
  };
  for (const Case& one : {Case{"READONLY x", RedisTrouble::kReplica, false, false},
                          Case{"LOADING x", RedisTrouble::kLoading, false, false},
                          Case{"MOVED 1 h:1", RedisTrouble::kCluster, false, false},
                          Case{"NOAUTH x", RedisTrouble::kLogin, false, false},
                          Case{"OOM x", RedisTrouble::kFull, true, false},
                          Case{"MISCONF x", RedisTrouble::kNotWriting, true, false},
                          Case{"NOPERM x", RedisTrouble::kForbidden, true, true},
                          Case{"WRONGTYPE x", RedisTrouble::kOther, true, true}}) {
    World world;
    world.start();
    world.redis.instead = [&one](const RedisPeer::Command&) -> std::optional<std::string> {
      return "-" + one.error + "\r\n";
    };
    world.ask("a");
    world.time.settle();
    CHECK(world.texts == std::vector<std::string>{one.error});
    CHECK(world.errors(one.trouble) == 1);
    CHECK(world.client.ready() == one.connected);
    CHECK(world.client.writable() == one.writable);
    world.redis.instead = nullptr;
    world.time.advance_ms(5'000);
    CHECK(world.client.writable());
  }
}

TEST_CASE("redis client: a peer that answers garbage, or what was not asked") {
  World world;
  world.start();
  world.redis.instead = [](const RedisPeer::Command&) { return "GARBAGE\r\n"; };
  world.ask("a");
  world.ask("b");
  world.time.settle();
  CHECK(world.outcomes == std::vector<Outcome>{Outcome::kBroken, Outcome::kBroken});
  CHECK(world.client.trouble() == "it does not speak Redis' protocol");
  world.redis.instead = nullptr;
  world.time.advance_ms(500);
  REQUIRE(world.client.ready());
  world.redis.say("+HELLO\r\n");
  world.time.settle();
  CHECK(world.client.trouble() == "it answered what was not asked");
}

TEST_CASE("redis client: stopped for good, with questions open") {
  World world;
  world.start();
  world.redis.silent = true;
  world.ask("a");
  world.client.stop();
  CHECK(world.outcomes.empty());
  world.time.settle();
  CHECK(world.outcomes == std::vector<Outcome>{Outcome::kBroken});
  CHECK(world.ask("a") == Sent::kAway);
  world.time.advance_ms(60'000);
  CHECK(world.redis.connections == 1);
  CHECK(world.loop.timers() == 0);
}

TEST_CASE("redis client: a question asked from inside an answer") {
  World world;
  world.redis.strings = {{"b", "2"}};
  world.start();
  REQUIRE(world.client.send(std::array<std::string_view, 2>{"GET", "a"},
                            [&world](Outcome, RedisReply&) { world.ask("b"); }) == Sent::kSent);
  world.time.settle();
  CHECK(world.texts == std::vector<std::string>{"2"});
}

}  // namespace
}  // namespace pgfresh::cache
