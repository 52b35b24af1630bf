// A store and a Redis that falls silent, refuses, errs, babbles, is cut off and comes back, as a
// seeded generator says. Whatever happens: every question is answered once or withdrawn, an answer
// is what was stored under that key and stamp, nothing waits longer than the budget, and when Redis
// is well again the store soon is.
#include <doctest/doctest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cache/redis_store.h"
#include "redis_peer.h"

namespace pgfresh::cache {
namespace {

constexpr int64_t kNowUnixMs = 1'790'000'000'000;
constexpr int kSeeds = 300;
constexpr int kSteps = 250;

class Chaos {
 public:
  explicit Chaos(uint64_t seed) : dice_(seed) {
    redis_.chunk = [this] { return 1 + roll(40); };
    store_.start();
  }

  void step() {
    switch (roll(12)) {
      case 0:
      case 1:
      case 2:
        ask();
        break;
      case 3:
      case 4:
        store();
        break;
      case 5:
        if (!open_.empty())
          open_.erase(std::next(open_.begin(), static_cast<long>(roll(open_.size()))));
        break;
      case 6:
        lock();
        break;
      case 7:
        store_.freed(17, roll(kTokens));
        break;
      case 8:
        make_trouble();
        break;
      default:
        time_.advance_ms(static_cast<int64_t>(roll(30)));
    }
  }

  void heal() {
    redis_.refusing = redis_.silent = false;
    redis_.instead = nullptr;
    redis_.say_unsaid();
    time_.advance_ms(10'000);
    CHECK(store_.available());
    CHECK(open_.empty());
    CHECK(store_.client().gauges().in_flight == 0);
    store(1, 1);
    time_.advance_ms(1'100);  // if it said it was full
    store(1, 1);
    time_.settle();
    const uint64_t found = found_;
    ask(1, 1);
    time_.settle();
    CHECK(found_ == found + 1);
  }

  void stop() {
    ask();
    store_.stop();
    time_.settle();
    CHECK(open_.empty());
    CHECK(store_.client().gauges().in_flight == 0);
    time_.advance_ms(3'000);  // what was to be freed is looked at, and forgotten
    CHECK(loop_.timers() == 0);
  }

  [[nodiscard]] uint64_t found() const { return found_; }
  [[nodiscard]] uint64_t late() const { return late_; }
  [[nodiscard]] uint64_t broken() const { return broken_; }

 private:
  static constexpr uint64_t kKeys = 6;
  static constexpr uint64_t kTokens = 4;

  uint64_t roll(uint64_t sides) {
    return std::uniform_int_distribution<uint64_t>(0, sides - 1)(dice_);
  }

  static freshness::Stamp stamp_of(uint64_t token) { return {{0, 5}, {17, token}, {18, 7}}; }
  static std::string body_of(uint64_t key, uint64_t token) {
    return std::string(key * 900, static_cast<char>('a' + key)) + std::to_string(token);
  }

  // One roll after the other: a compiler may evaluate arguments in any order.
  void store() {
    const uint64_t key = roll(kKeys);
    store(key, roll(kTokens));
  }
  void store(uint64_t key, uint64_t token) {
    const std::string name = "key" + std::to_string(key);
    const freshness::Stamp stamp = stamp_of(token);
    const std::string body = body_of(key, token);
    RemoteEntry entry;
    entry.key = name;
    entry.stamp = stamp;
    entry.body = body;
    entry.expires_unix_ms = kNowUnixMs + 60'000;
    store_.put(entry);
  }

  void ask() {
    const uint64_t key = roll(kKeys);
    ask(key, roll(kTokens));
  }
  void ask(uint64_t key, uint64_t token) {
    const uint64_t number = ++questions_;
    const int64_t asked_ms = time_.now_ms();
    auto pending = store_.get(
        "key" + std::to_string(key), stamp_of(token),
        [this, number, key, token, asked_ms](RemoteStore::Found found, const RemoteEntry* entry) {
          CHECK(open_.erase(number) == 1);  // not withdrawn, not answered before
          CHECK(time_.now_ms() - asked_ms <= 21);
          CHECK((entry != nullptr) == (found == RemoteStore::Found::kEntry));
          if (entry != nullptr) CHECK(entry->body == body_of(key, token));
          found_ += entry != nullptr ? 1U : 0U;
          late_ += found == RemoteStore::Found::kTimeout ? 1U : 0U;
          broken_ += found == RemoteStore::Found::kUnavailable ? 1U : 0U;
        });
    if (pending) open_.emplace(number, std::move(pending));
  }

  void lock() {
    const uint64_t number = ++questions_;
    auto pending = store_.lock("key", stamp_of(1), 50, [this, number](RemoteStore::Locked) {
      CHECK(open_.erase(number) == 1);
    });
    if (pending) open_.emplace(number, std::move(pending));
    if (roll(2) == 0) store_.unlock("key", stamp_of(1));
  }

  void make_trouble() {
    switch (roll(6)) {
      case 0:
        redis_.silent = !redis_.silent;
        if (!redis_.silent) redis_.say_unsaid();
        break;
      case 1:
        redis_.cut();
        break;
      case 2:
        redis_.refusing = !redis_.refusing;
        break;
      case 3:
        redis_.say(roll(2) == 0 ? "+OK\r\n" : "\xff*-9\r\n");
        break;
      case 4:
        redis_.instead = nullptr;
        break;
      default:
        err(roll(kErrors.size()));
    }
  }

  void err(size_t kind) {
    redis_.instead = [kind](const RedisPeer::Command&) -> std::optional<std::string> {
      return std::string(kErrors[kind]) + "\r\n";
    };
  }
  static constexpr std::array<std::string_view, 8> kErrors = {
      "-READONLY x", "-LOADING x", "-OOM x", "-MOVED 1 h:1", "-NOAUTH x", "-ERR x", "$-1", "*0"};

  std::mt19937_64 dice_;
  sim::ManualTime time_;
  sim::ManualLoop loop_{time_};
  RedisPeer redis_{loop_};
  Counters counters_;
  NotedLog log_;
  RedisStore store_{loop_,     redis_, {}, [this] { return dice_(); }, [] { return kNowUnixMs; },
                    counters_, log_};
  std::map<uint64_t, std::unique_ptr<RemoteStore::Pending>> open_;
  uint64_t questions_ = 0;
  uint64_t found_ = 0;
  uint64_t late_ = 0;
  uint64_t broken_ = 0;
};

TEST_CASE("redis store: by chance, everything at once") {
  uint64_t found = 0;
  uint64_t late = 0;
  uint64_t broken = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Chaos chaos(seed);
    for (int step = 0; step < kSteps; ++step) chaos.step();
    found += chaos.found();
    late += chaos.late();
    broken += chaos.broken();
    chaos.heal();
    chaos.stop();
  }
  // A run in which nothing happened proves nothing.
  CHECK(found > kSeeds / 2);
  CHECK(late > kSeeds / 4);
  CHECK(broken > kSeeds / 4);
  MESSAGE("found ", found, ", late ", late, ", broken ", broken);
}

}  // namespace
}  // namespace pgfresh::cache
