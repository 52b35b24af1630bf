#include "proxy/remote_lookup.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "../../sim/support/fake_redis.h"

namespace pgfresh::proxy {
namespace {

using End = RemoteLookup::End;
using sim::FakeRedis;
using sim::FakeRemote;
using sim::ManualLoop;
using sim::ManualTime;

// Keeps what its timers would call, to call it as a loop does that finds two of them due at once.
class TwoDue final : public Loop {
 public:
  explicit TwoDue(Loop& loop) : loop_(loop) {}

  [[nodiscard]] const Clock& clock() const override { return loop_.clock(); }
  void post(std::function<void()> task) override { loop_.post(std::move(task)); }
  void defer(std::function<void()> task) override { loop_.defer(std::move(task)); }
  [[nodiscard]] std::unique_ptr<Timer> after(int64_t delay_ms,
                                             std::function<void()> fire) override {
    fires.push_back(fire);
    return loop_.after(delay_ms, std::move(fire));
  }
  [[nodiscard]] std::unique_ptr<Timer> every(int64_t period_ms,
                                             std::function<void()> fire) override {
    return loop_.every(period_ms, std::move(fire));
  }

  std::vector<std::function<void()>> fires;

 private:
  Loop& loop_;
};

// Two proxies that look for the same.
struct Play {
  struct Side {
    explicit Side(Play& play) : remote(play.redis.connect(play.loop)) {}

    std::unique_ptr<FakeRemote> remote;
    std::unique_ptr<RemoteLookup> lookup;
    std::optional<End> end;
    std::string body;
  };

  ManualTime time;
  ManualLoop redis_loop{time};
  ManualLoop loop{time};
  FakeRedis redis{redis_loop};
  const std::string key = "key";
  const freshness::Stamp stamp = {{0, 7}, {5, 9}};
  Side a{*this};
  Side b{*this};

  bool start(Side& side, RemoteLookup::Fleet fleet = RemoteLookup::Fleet::kOneFetches) {
    side.end.reset();
    side.lookup = std::make_unique<RemoteLookup>(loop, *side.remote, key, stamp,
                                                 RemoteLookup::Terms{20, fleet, 100},
                                                 [&side](End end, const RemoteEntry* entry) {
                                                   side.end = end;
                                                   if (entry != nullptr) side.body = entry->body;
                                                   side.lookup.reset();  // from inside its own call
                                                 });
    return side.lookup->start();
  }
  void put(Side& side) {
    RemoteEntry entry;
    entry.key = key;
    entry.stamp = stamp;
    entry.body = "body";
    side.remote->put(entry);
  }
};

TEST_CASE("remote lookup: found, missed, never from inside the call") {
  Play play;
  CHECK(play.start(play.a, RemoteLookup::Fleet::kEachAlone));
  CHECK_FALSE(play.a.end);
  play.time.settle();
  CHECK(play.a.end == End::kMiss);
  play.put(play.a);
  CHECK(play.start(play.b));
  play.time.settle();
  CHECK(play.b.end == End::kFound);
  CHECK(play.b.body == "body");
}

TEST_CASE("remote lookup: one fetches, the other waits for what it puts") {
  Play play;
  CHECK(play.start(play.a));
  play.time.settle();
  CHECK(play.a.end == End::kMissLocked);
  CHECK(play.start(play.b));
  play.time.advance_ms(5);
  CHECK_FALSE(play.b.end);
  CHECK(play.b.lookup->waited());
  play.put(play.a);
  play.a.remote->unlock(play.key, play.stamp);
  play.time.advance_ms(10);
  CHECK(play.b.end == End::kFound);
}

TEST_CASE("remote lookup: whoever has the lock fails, and the next one takes it") {
  Play play;
  CHECK(play.start(play.a));
  play.time.settle();
  CHECK(play.start(play.b));
  play.time.advance_ms(3);
  play.a.remote->unlock(play.key, play.stamp);
  play.time.advance_ms(10);
  CHECK(play.b.end == End::kMissLocked);
}

TEST_CASE("remote lookup: whoever has the lock dies: it costs the budget, and no more") {
  Play play;
  CHECK(play.start(play.a));
  play.time.settle();
  play.a.remote.reset();
  CHECK(play.start(play.b));
  play.time.advance_ms(19);
  CHECK_FALSE(play.b.end);
  play.time.advance_ms(1);
  CHECK(play.b.end == End::kTimedOut);
  play.time.advance_ms(100);  // the lock's life
  CHECK(play.start(play.b));
  play.time.settle();
  CHECK(play.b.end == End::kMissLocked);
}

TEST_CASE("remote lookup: budget and pause are due in one turn: the second finds it gone") {
  Play play;
  CHECK(play.start(play.a));
  play.time.settle();  // has the lock
  TwoDue loop(play.loop);
  int ends = 0;
  std::unique_ptr<RemoteLookup> lookup;
  lookup =
      std::make_unique<RemoteLookup>(loop, *play.b.remote, play.key, play.stamp,
                                     RemoteLookup::Terms{20, RemoteLookup::Fleet::kOneFetches, 100},
                                     [&](End end, const RemoteEntry*) {
                                       CHECK(end == End::kTimedOut);
                                       ++ends;
                                       lookup.reset();
                                     });
  CHECK(lookup->start());
  play.time.settle();
  REQUIRE(loop.fires.size() == 2);
  for (const auto& fire : loop.fires) fire();
  CHECK(ends == 1);
  CHECK(lookup == nullptr);
}

TEST_CASE("remote lookup: withdrawn while the lock is being given, it is given back") {
  Play play;
  CHECK(play.start(play.a));
  play.redis.hold(false, true);
  play.time.settle();  // the miss is on its way
  play.redis.release();
  while (play.time.step()) {
    if (play.redis.locks_held() == 1) break;
  }
  CHECK_FALSE(play.a.end);
  play.a.lookup.reset();
  play.time.settle();
  CHECK(play.redis.locks_held() == 0);
  CHECK(play.loop.timers() == 0);
}

TEST_CASE("remote lookup: Redis goes, or is not there") {
  Play play;
  play.redis.hold(true, false);
  CHECK(play.start(play.a));
  play.time.settle();
  play.redis.set_down(true);
  play.time.settle();
  CHECK(play.a.end == End::kUnavailable);
  CHECK_FALSE(play.start(play.b));
  play.time.advance_ms(100);
  CHECK_FALSE(play.b.end);
}

}  // namespace
}  // namespace pgfresh::proxy
