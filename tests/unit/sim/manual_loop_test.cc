#include "manual_loop.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

namespace pgfresh::sim {
namespace {

TEST_CASE("posted in order, deferred at the end of each turn") {
  ManualTime time;
  ManualLoop loop(time);
  std::string order;
  loop.post([&] {
    order += "a";
    loop.defer([&] { order += "A"; });
    loop.post([&] { order += "c"; });
  });
  loop.post([&] { order += "b"; });
  CHECK(order.empty());
  time.settle();
  CHECK(order == "aAbc");
}

TEST_CASE("timers fire at their time, in order, and stop when destroyed") {
  ManualTime time;
  ManualLoop loop(time);
  std::string order;
  const int64_t start = time.now_ms();
  const auto late = loop.after(20, [&] { order += "l" + std::to_string(time.now_ms() - start); });
  const auto early = loop.after(10, [&] { order += "e" + std::to_string(time.now_ms() - start); });
  auto never = loop.after(15, [&] { order += "n"; });
  auto each = loop.every(8, [&] { order += "."; });
  never.reset();
  time.advance_ms(25);
  CHECK(order == ".e10.l20.");
  each.reset();
  time.advance_ms(100);
  CHECK(order == ".e10.l20.");
  CHECK(time.next_due_ns() == INT64_MAX);
}

TEST_CASE("a timer may destroy itself or another") {
  ManualTime time;
  ManualLoop loop(time);
  int fired = 0;
  std::unique_ptr<Timer> one;
  std::unique_ptr<Timer> two;
  one = loop.every(5, [&] {
    ++fired;
    two.reset();
    one.reset();
  });
  two = loop.after(5, [&] { fired += 100; });
  time.advance_ms(50);
  CHECK(fired == 1);
  CHECK(loop.timers() == 0);
}

TEST_CASE("a frozen process finds its timers late, each once") {
  ManualTime time;
  ManualLoop loop(time);
  int fired = 0;
  const auto each = loop.every(10, [&] { ++fired; });
  time.freeze_ms(1000);
  CHECK(fired == 0);
  time.settle();
  CHECK(fired == 1);
  time.advance_ms(10);
  CHECK(fired == 2);
}

TEST_CASE("a stopped loop keeps what it has to do") {
  ManualTime time;
  ManualLoop one(time);
  ManualLoop two(time);
  std::string order;
  one.stop();
  one.post([&] { order += "1"; });
  two.post([&] { order += "2"; });
  time.advance_ms(10);
  CHECK(order == "2");
  one.go_on();
  time.settle();
  CHECK(order == "21");
}

TEST_CASE("tasks left when a loop ends are destroyed unrun") {
  ManualTime time;
  auto token = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = token;
  {
    ManualLoop loop(time);
    loop.post([token] { *token = 1; });
    loop.defer([token] { *token = 1; });
    token.reset();
  }
  CHECK(watch.expired());
}

}  // namespace
}  // namespace pgfresh::sim
