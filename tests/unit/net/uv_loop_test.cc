#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "net/boottime_clock.h"
#include "net_fixture.h"

namespace pgfresh::net {

namespace {

// As turn_until(), without its tick.
bool turn_alone(UvLoop& loop, const std::function<bool()>& happened) {
  for (int i = 0; i < 100 && !happened(); ++i) loop.turn();
  return happened();
}

}  // namespace

TEST_CASE("boottime clock goes forward") {
  const BoottimeClock clock;
  const int64_t before = clock.now_ns();
  CHECK(before > 0);
  CHECK(clock.now_ns() >= before);
}

TEST_CASE("posted tasks run in order, on the loop's thread, from any thread") {
  UvLoop loop;
  std::vector<int> seen;
  std::thread poster([&] {
    for (int i = 0; i < 1000; ++i) loop.post([&seen, i] { seen.push_back(i); });
    loop.post([&loop] { loop.stop(); });
  });
  loop.run();
  poster.join();
  REQUIRE(seen.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(seen[static_cast<size_t>(i)] == i);
}

TEST_CASE("stop before run, and posts after it are destroyed unrun") {
  auto token = std::make_shared<int>(0);
  UvLoop loop;
  loop.stop();
  loop.run();
  bool ran = false;
  loop.post([&ran, token] { ran = true; });
  CHECK_FALSE(ran);
  CHECK(token.use_count() == 1);
}

TEST_CASE("deferred tasks run before the loop sleeps, also those deferred by others") {
  UvLoop loop;
  std::vector<std::string> order;
  auto timer = loop.after(0, [&] {
    loop.defer([&] {
      order.emplace_back("first");
      loop.defer([&] { order.emplace_back("second"); });
    });
    order.emplace_back("timer");
  });
  // No other event is coming: a deferred task left behind would wait for the 500 ms below.
  const auto late = loop.after(500, [&] { order.emplace_back("late"); });
  CHECK(turn_alone(loop, [&] { return order.size() >= 4; }));
  CHECK(order == std::vector<std::string>{"timer", "first", "second", "late"});
}

TEST_CASE("a timer may destroy itself, and a destroyed timer does not fire") {
  UvLoop loop;
  int fired = 0;
  int repeated = 0;
  auto dead = loop.after(1, [&] { fired += 100; });
  dead.reset();
  std::unique_ptr<Timer> self;
  self = loop.every(1, [&] {
    if (++repeated == 3) self.reset();
  });
  const auto once = loop.after(20, [&] { ++fired; });
  CHECK(turn_until(loop, [&] { return fired > 0; }));
  turn_for(loop, 20);
  CHECK(fired == 1);
  CHECK(repeated == 3);
}

}  // namespace pgfresh::net
