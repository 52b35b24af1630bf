#include "cache/redis_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "redis_peer.h"

namespace pgfresh::cache {
namespace {

using Found = RemoteStore::Found;
using Locked = RemoteStore::Locked;

constexpr int64_t kNowUnixMs = 1'790'000'000'000;
const freshness::Stamp kStamp = {{0, 5}, {17, 6}, {18, 7}};

// One proxy of a fleet that shares `redis`; each has a RedisPeer as its door, and their data is
// carried over by the test where that matters.
struct Node {
  explicit Node(RedisStoreOptions options = {})
      : store(
            loop, redis, std::move(options), [this] { return random += 7919; },
            [this] { return kNowUnixMs + time.now_ms() - started_ms; }, counters, log) {
    store.start();
    time.settle();
    REQUIRE(store.available());
    redis.commands.clear();
  }

  void put(std::string_view key, const freshness::Stamp& stamp, std::string_view body,
           int64_t ttl_ms = 60'000, uint64_t query_id = 0) {
    RemoteEntry entry;
    entry.key = key;
    entry.stamp = stamp;
    entry.body = body;
    entry.shape = 3;
    entry.query_id = query_id;
    entry.created_unix_ms = kNowUnixMs;
    entry.expires_unix_ms = kNowUnixMs + ttl_ms;
    store.put(entry);
    time.settle();
  }

  struct Answer {
    Found found;
    std::string body;
  };
  std::optional<Answer> get(std::string_view key, const freshness::Stamp& stamp) {
    std::optional<Answer> answer;
    const auto asked = store.get(key, stamp, [&](Found found, const RemoteEntry* entry) {
      CHECK((entry != nullptr) == (found == Found::kEntry));
      answer = Answer{found, entry == nullptr ? "" : std::string(entry->body)};
      if (entry == nullptr) return;
      CHECK(entry->key == key);
      CHECK(std::equal(stamp.begin(), stamp.end(), entry->stamp.begin(), entry->stamp.end()));
    });
    time.settle();
    return answer;
  }
  Locked lock(std::string_view key, int64_t ttl_ms = 100) {
    Locked locked = Locked::kUnavailable;
    const auto asked = store.lock(key, kStamp, ttl_ms, [&](Locked told) { locked = told; });
    time.settle();
    return locked;
  }
  [[nodiscard]] size_t entries() const {
    return static_cast<size_t>(
        std::count_if(redis.strings.begin(), redis.strings.end(),
                      [](const auto& one) { return one.first.starts_with("pgfresh:e:"); }));
  }

  sim::ManualTime time;
  int64_t started_ms = time.now_ms();
  sim::ManualLoop loop{time};
  RedisPeer redis{loop};
  uint64_t random = 0;
  Counters counters;
  NotedLog log;
  RedisStore store;
};

TEST_CASE("redis store: what is put is found, under its own stamp only") {
  Node node;
  node.put("key", kStamp, "rows");
  CHECK(node.get("key", kStamp)->body == "rows");
  CHECK(node.get("other", kStamp)->found == Found::kMiss);
  freshness::Stamp later = kStamp;
  later[1].token = 8;
  CHECK(node.get("key", later)->found == Found::kMiss);
  node.put("key", later, "new rows");
  CHECK(node.get("key", later)->body == "new rows");
  CHECK(node.get("key", kStamp)->body == "rows");
  CHECK(node.counters.get(Counter::kRedisStored) == 2);
}

TEST_CASE("redis store: entries of other keys are told of, once a minute") {
  Node node;
  node.put("key", kStamp, "rows");
  SealKey key;
  key.id = 1;
  node.store.set_options({}, {key});
  const auto lines = [&node] {
    size_t count = 0;
    for (size_t at = 0; (at = node.log.text.find("redis_keys_differ", at)) != std::string::npos;) {
      ++count;
      ++at;
    }
    return count;
  };
  CHECK(node.get("key", kStamp)->found != Found::kEntry);
  CHECK(node.get("key", kStamp)->found != Found::kEntry);
  CHECK(lines() == 1);
  CHECK(node.log.text.find("total=1") != std::string::npos);
  node.put("long", kStamp, "rows", 120'000);
  node.store.set_options({}, {});
  node.time.advance_ms(60'000);
  CHECK(node.get("long", kStamp)->found != Found::kEntry);
  CHECK(lines() == 2);
}

TEST_CASE("redis store: entries and their sets expire") {
  Node node;
  node.put("key", kStamp, "rows", 30'000);
  CHECK(node.redis.names() == "ZADD PEXPIRE ZADD PEXPIRE SET");
  CHECK(node.redis.sets.size() == 2);
  CHECK(node.redis.sets.count("pgfresh:t:000011:0000000000000006") == 1);
  CHECK(node.redis.sets.count("pgfresh:t:000012:0000000000000007") == 1);
  for (const auto& expiry : node.redis.expiry_ms) {
    CHECK_MESSAGE(expiry.second == 30'000, expiry.first);
  }
  CHECK(node.redis.expiry_ms.size() == 3);
  // A neighbour that lives shorter does not shorten the sets' life.
  node.put("short", kStamp, "rows", 1'000);
  CHECK(node.redis.expiry_ms["pgfresh:t:000011:0000000000000006"] == 30'000);
  node.redis.commands.clear();
  node.put("dead", kStamp, "rows", 0);
  CHECK(node.redis.commands.empty());
}

TEST_CASE("redis store: not every slot of a large stamp has a set") {
  Node node;
  freshness::Stamp many;
  for (uint32_t slot = 0; slot < 100; ++slot) many.push_back({slot, 1});
  node.put("key", many, "rows");
  CHECK(node.redis.count("ZADD") == 8);
  CHECK(node.get("key", many)->body == "rows");
}

TEST_CASE("redis store: what an event killed is freed, what came after it stays") {
  Node node;
  node.put("one", kStamp, "rows");
  node.put("two", kStamp, "rows");
  freshness::Stamp later = kStamp;
  later[1].token = 8;
  node.put("one", later, "new rows");
  CHECK(node.entries() == 3);
  node.store.freed(17, 6);
  node.time.advance_ms(2'001);
  CHECK(node.entries() == 1);
  CHECK(node.get("one", later)->body == "new rows");
  CHECK(node.get("one", kStamp)->found == Found::kMiss);
  CHECK(node.counters.get(Counter::kRedisFreed) == 2);
}

TEST_CASE("redis store: many members are popped in turns, and others look in vain, and rarely") {
  Node node;
  for (int i = 0; i < 600; ++i) node.put("key" + std::to_string(i), kStamp, "rows");
  CHECK(node.entries() == 600);
  node.store.freed(17, 6);
  node.time.advance_ms(2'001);
  CHECK(node.entries() == 0);
  CHECK(node.redis.count("ZPOPMIN") == 3);

  // Another proxy, which comes later: 200 events, two commands, nothing else.
  node.redis.commands.clear();
  for (uint64_t token = 1; token <= 200; ++token) node.store.freed(17, token);
  node.time.advance_ms(2'001);
  CHECK(node.redis.names() == "EXISTS EXISTS");
}

TEST_CASE("redis store: everything is flushed, other people's keys are not") {
  Node node;
  for (int i = 0; i < 5; ++i) node.put("key" + std::to_string(i), kStamp, "rows");
  node.redis.strings["somebody:e:1"] = "theirs";
  node.store.flush_all();
  node.time.settle();
  CHECK(node.entries() == 0);
  CHECK(node.redis.count("SCAN") == 3);
  CHECK(node.redis.count("GET") == 0);
  CHECK(node.redis.strings.count("somebody:e:1") == 1);
}

TEST_CASE("redis store: the answers to one query are flushed") {
  Node node;
  for (int i = 0; i < 7; ++i)
    node.put("key" + std::to_string(i), kStamp, "rows", 60'000, static_cast<uint64_t>(i % 2));
  node.redis.strings["pgfresh:e:garbage"] = "garbage";
  std::optional<bool> whole;
  node.store.flush_query(1, [&](bool all, size_t found) {
    whole = all;
    CHECK(found > 0);
  });
  CHECK_FALSE(whole);
  node.time.settle();
  CHECK(whole == true);
  CHECK(node.entries() == 5);
  for (int i = 0; i < 7; ++i) {
    const auto answer = node.get("key" + std::to_string(i), kStamp);
    CHECK((answer->found == Found::kEntry) == (i % 2 == 0));
  }
  CHECK(node.counters.get(Counter::kRedisFreed) == 3);
  CHECK(node.counters.get(Counter::kRedisBroken) == 0);
}

TEST_CASE("redis store: flushes wait for one another, and say when they were broken off") {
  Node node;
  for (int i = 0; i < 7; ++i)
    node.put("key" + std::to_string(i), kStamp, "rows", 60'000, static_cast<uint64_t>(i % 2));
  std::string told;
  const auto tell = [&](bool whole, size_t /*found*/) { told += whole ? "w" : "b"; };
  node.store.flush_query(0, tell);
  node.store.flush_query(1, tell);
  node.time.settle();
  CHECK(told == "ww");
  CHECK(node.entries() == 0);

  // Cut off between a name and what lies there; then nobody can be asked at all.
  for (int i = 0; i < 7; ++i)
    node.put("key" + std::to_string(i), kStamp, "rows", 60'000, static_cast<uint64_t>(i % 2));
  told.clear();
  node.redis.instead = [&](const RedisPeer::Command& command) -> std::optional<std::string> {
    if (command.front() == "GET") node.redis.cut();
    return std::nullopt;
  };
  node.store.flush_query(0, tell);
  node.store.flush_query(1, tell);
  node.time.settle();
  CHECK(told == "bb");
  CHECK(node.entries() == 7);
  node.store.flush_query(0, tell);
  CHECK(told == "bbb");

  // A late answer breaks it off, too.
  node.redis.instead = nullptr;
  node.time.advance_ms(2'000);
  REQUIRE(node.store.available());
  node.redis.silent = true;
  for (size_t i = 0; i < limits::kRedisWalksMax; ++i) node.store.flush_query(0, tell);
  CHECK(told == "bbb");
  node.store.flush_query(0, tell);
  CHECK(told == "bbbb");  // one too many
  node.time.advance_ms(40);
  CHECK(told == "bbbb" + std::string(limits::kRedisWalksMax, 'b'));
}

TEST_CASE("redis store: garbage under an entry's name is a miss with a name") {
  Node node;
  node.put("key", kStamp, "rows");
  for (auto& [name, value] : node.redis.strings) value[value.size() / 2] ^= 1;
  CHECK(node.get("key", kStamp)->found == Found::kBroken);
  for (auto& [name, value] : node.redis.strings) value = "what is this";
  CHECK(node.get("key", kStamp)->found == Found::kBroken);
  CHECK(node.counters.get(Counter::kRedisBroken) == 2);
  CHECK(node.store.broken()[static_cast<size_t>(Decoded::kTampered)] == 1);
  CHECK(node.store.broken()[static_cast<size_t>(Decoded::kForeign)] == 1);
  node.redis.instead = [](const RedisPeer::Command&) { return "-WRONGTYPE no\r\n"; };
  CHECK(node.get("key", kStamp)->found == Found::kUnavailable);
}

TEST_CASE("redis store: an answer to another question ends the connection") {
  Node node;
  node.put("one", kStamp, "rows of one");
  node.put("two", kStamp, "rows of two");
  // Somebody has put one's entry in the place of two's.
  std::string& one = node.redis.strings.begin()->second;
  std::string& two = std::next(node.redis.strings.begin())->second;
  std::swap(one, two);
  CHECK(node.get("one", kStamp)->found == Found::kBroken);
  CHECK_FALSE(node.store.available());
  CHECK(node.store.client().trouble() == "its answers do not fit the questions");
  node.time.advance_ms(200);
  CHECK(node.store.available());
  node.redis.instead = [](const RedisPeer::Command&) { return "+OK\r\n"; };
  CHECK(node.get("one", kStamp)->found == Found::kUnavailable);
  CHECK_FALSE(node.store.available());
}

TEST_CASE("redis store: no answer, no connection, withdrawn questions") {
  Node node;
  node.put("key", kStamp, "rows");
  node.redis.silent = true;
  std::vector<Found> found;
  const auto note = [&found](Found what, const RemoteEntry*) { found.push_back(what); };
  auto kept = node.store.get("key", kStamp, note);
  node.store.get("key", kStamp, note).reset();
  node.time.advance_ms(20);
  CHECK(found == std::vector<Found>{Found::kTimeout});
  CHECK_FALSE(node.store.available());
  CHECK(node.store.get("key", kStamp, note) == nullptr);
  node.redis.cut();
  node.redis.silent = false;
  node.time.advance_ms(500);
  REQUIRE(node.store.available());
  node.redis.silent = true;
  kept = node.store.get("key", kStamp, note);
  node.time.settle();
  node.redis.cut();
  node.time.settle();
  CHECK(found == std::vector<Found>{Found::kTimeout, Found::kUnavailable});
  CHECK(node.store.round_trip_ns() >= 0);
}

TEST_CASE("redis store: a question is withdrawn from inside its answer") {
  Node node;
  std::unique_ptr<RemoteStore::Pending> asked;
  bool told = false;
  asked = node.store.get("key", kStamp, [&](Found, const RemoteEntry*) {
    asked.reset();
    told = true;
  });
  node.time.settle();
  CHECK(told);
}

TEST_CASE("redis store: an entry stays readable while others are stored from inside its answer") {
  Node node;
  const std::string body(20'000, 'x');
  node.put("key", kStamp, body);
  bool told = false;
  const auto asked = node.store.get("key", kStamp, [&](Found, const RemoteEntry* entry) {
    REQUIRE(entry != nullptr);
    node.put("other", kStamp, std::string(30'000, 'y'));
    CHECK(entry->body == body);
    told = true;
  });
  node.loop.post([] {});
  node.time.step();
  node.time.settle();
  CHECK(told);
}

TEST_CASE("redis store: a full Redis is read and not written for a while") {
  Node node;
  node.put("key", kStamp, "rows");
  node.redis.instead = [](const RedisPeer::Command& command) -> std::optional<std::string> {
    if (command.front() == "GET") return std::nullopt;
    return "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
  };
  node.put("two", kStamp, "rows");
  node.redis.commands.clear();
  node.put("three", kStamp, "rows");
  CHECK(node.redis.commands.empty());
  CHECK(node.get("key", kStamp)->body == "rows");
  node.redis.instead = nullptr;
  node.time.advance_ms(1'000);
  node.put("three", kStamp, "rows");
  CHECK(node.get("three", kStamp)->body == "rows");
}

TEST_CASE("redis store: locks") {
  Node node;
  CHECK(node.lock("key") == Locked::kMine);
  CHECK(node.redis.expiry_ms.begin()->second == 100);
  CHECK(node.lock("key") == Locked::kTaken);
  node.store.unlock("other", kStamp);
  CHECK(node.lock("key") == Locked::kTaken);
  node.store.unlock("key", kStamp);
  node.time.settle();
  CHECK(node.lock("key") == Locked::kMine);
  // When its time is over, it may be somebody else's.
  node.time.advance_ms(101);
  node.redis.commands.clear();
  node.store.unlock("key", kStamp);
  node.time.settle();
  CHECK(node.redis.commands.empty());
  // Granted after nobody wants it any more: given back.
  node.redis.strings.clear();
  node.store.lock("late", kStamp, 1'000, [](Locked) { CHECK(false); }).reset();
  node.time.settle();
  CHECK(node.redis.strings.empty());
}

TEST_CASE("redis store: a lock granted too late is given back when Redis may be asked") {
  Node node;
  node.redis.silent = true;
  std::optional<Locked> told;
  const auto asked = node.store.lock("key", kStamp, 10'000, [&](Locked locked) { told = locked; });
  node.time.advance_ms(20);
  CHECK(told == Locked::kUnavailable);
  CHECK_FALSE(node.store.available());
  CHECK(node.redis.strings.size() == 1);
  node.redis.say_unsaid();
  node.redis.silent = false;
  node.time.advance_ms(100);
  CHECK(node.store.available());
  CHECK(node.lock("key", 1'000) == Locked::kMine);

  // One that was held when Redis became slow.
  node.redis.silent = true;
  CHECK_FALSE(node.get("other", kStamp));
  node.time.advance_ms(20);
  node.store.unlock("key", kStamp);
  node.redis.say_unsaid();
  node.redis.silent = false;
  node.time.advance_ms(100);
  CHECK(node.store.available());
  CHECK(node.redis.strings.size() == 1);
  CHECK(node.get("other", kStamp)->found == Found::kMiss);
  CHECK(node.redis.strings.empty());

  // What may be somebody else's by now is left alone.
  node.redis.silent = true;
  CHECK(node.lock("key", 100) == Locked::kUnavailable);
  node.time.advance_ms(101);
  node.redis.commands.clear();
  node.redis.say_unsaid();
  node.redis.silent = false;
  node.time.advance_ms(200);
  CHECK(node.get("other", kStamp)->found == Found::kMiss);
  CHECK(node.redis.count("UNLINK") == 0);
}

TEST_CASE("redis store: letters reach their address, sealed like entries") {
  RedisStoreOptions options;
  options.codec.keys.push_back(SealKey{1, {9}});
  Node node(options);
  std::optional<bool> stored;
  const std::string map(100'000, 'm');
  auto asked = node.store.post("nonce", map, 5'000, [&](bool was) { stored = was; });
  node.time.settle();
  CHECK(stored == true);
  const auto collect = [&node](std::string_view address) {
    std::string bytes = "never told";
    const auto pending = node.store.collect(address, [&](const std::string_view* letter) {
      bytes = letter == nullptr ? "none" : std::string(*letter);
    });
    node.time.settle();
    return bytes;
  };
  CHECK(collect("nonce") == map);
  CHECK(collect("other") == "none");
  node.redis.strings["pgfresh:m:other"] = node.redis.strings["pgfresh:m:nonce"];
  CHECK(collect("other") == "none");
  CHECK(node.redis.strings["pgfresh:m:nonce"].find("mmmm") == std::string::npos);
  CHECK(node.store.post("nonce", std::string(5U << 20U, 'm'), 5'000, [](bool) {}) == nullptr);
}

TEST_CASE("redis store: prefixes") {
  CHECK(is_redis_prefix("pgfresh:"));
  CHECK(is_redis_prefix("team/a-b_c.1:"));
  CHECK(is_redis_prefix(""));
  CHECK_FALSE(is_redis_prefix("a*"));
  CHECK_FALSE(is_redis_prefix("a b"));
  CHECK_FALSE(is_redis_prefix("{a}"));
  CHECK_FALSE(is_redis_prefix(std::string(65, 'a')));
}

}  // namespace
}  // namespace pgfresh::cache
