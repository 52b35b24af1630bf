#include "net/turn.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace pgfresh::net {
namespace {

struct Desk final : Turn::Member {
  std::vector<std::string>* log = nullptr;
  std::string name;
  std::function<void()> then;

  Desk(std::vector<std::string>& to, std::string called) : log(&to), name(std::move(called)) {}
  void take_late(std::string_view bytes) override {
    log->push_back(name + " took " + std::string(bytes));
    if (then) then();
  }
  void send_late(std::string_view bytes) override {
    log->push_back(name + " sent " + std::string(bytes));
  }
};

struct HandClock final : Clock {
  int64_t ns = 1;
  [[nodiscard]] int64_t now_ns() const override { return ns; }
};

void arrives(Turn& turn, Desk& desk, const std::string& bytes) {
  REQUIRE(turn.room().size() >= bytes.size());
  std::copy(bytes.begin(), bytes.end(), turn.room().begin());
  turn.has_read(desk, bytes.size());
}

void put_off(Turn& turn, Desk& desk, std::string_view bytes) {
  const Slice slices[] = {{bytes.substr(0, 1), nullptr}, {bytes.substr(1), nullptr}};
  turn.put_off(desk, slices, bytes.size());
}

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("turn: all is read, all is handed out, all is sent, each once and in order") {
  Log log;
  HandClock clock;
  Turn turn(clock);
  Desk a(log, "a");
  Desk b(log, "b");
  a.then = [&] { put_off(turn, b, "from a"); };
  b.then = [&] { put_off(turn, a, "from b"); };
  arrives(turn, a, "one");
  arrives(turn, b, "two");
  CHECK(log.empty());
  turn.hand_out();
  CHECK(log == Log{"a took one", "b took two"});
  turn.send_all();
  CHECK(log == Log{"a took one", "b took two", "b sent from a", "a sent from b"});
  turn.hand_out();
  turn.send_all();
  CHECK(log.size() == 4);
}

TEST_CASE("turn: what one member puts off in a row is sent as one, in between others it is not") {
  Log log;
  HandClock clock;
  Turn turn(clock);
  Desk a(log, "a");
  Desk b(log, "b");
  put_off(turn, a, "1");
  put_off(turn, a, "2");
  put_off(turn, b, "3");
  put_off(turn, a, "4");
  turn.send_of(a);
  CHECK(log == Log{"a sent 12", "a sent 4"});
  put_off(turn, a, "5");
  turn.send_all();
  CHECK(log == Log{"a sent 12", "a sent 4", "b sent 3", "a sent 5"});
}

TEST_CASE("turn: what is much, or many, does not wait for the end") {
  Log log;
  HandClock clock;
  Turn turn(clock);
  std::vector<Desk> desks;
  for (int i = 0; i < 40; ++i) desks.emplace_back(log, std::to_string(i));
  for (size_t i = 0; i < 15; ++i) arrives(turn, desks[i], "x");
  CHECK(log.empty());
  arrives(turn, desks[15], "x");
  CHECK(log.size() == 16);
  log.clear();
  arrives(turn, desks[0], std::string(1000, 'x'));
  arrives(turn, desks[1], std::string(turn.room().size(), 'x'));
  CHECK(log.size() == 2);
  CHECK(turn.room().size() == Turn::kReadBytesMax);
  log.clear();
  for (size_t i = 0; i < 40; ++i) put_off(turn, desks[i], std::string(Turn::kSendBytesMax, 'x'));
  CHECK(log.size() == 32);
  turn.send_all();
  CHECK(log.size() == 40);
  for (size_t i = 0; i < 40; ++i) CHECK(log[i].starts_with(std::to_string(i) + " sent x"));
  // In a row they are one piece, and the buffer is the bound.
  log.clear();
  for (size_t i = 0; i < 17; ++i) put_off(turn, desks[0], std::string(Turn::kSendBytesMax, 'x'));
  CHECK(log.size() == 1);
  turn.send_all();
  CHECK(log.size() == 2);
}

TEST_CASE("turn: when owners take their time, what was put off is sent in between") {
  Log log;
  HandClock clock;
  Turn turn(clock);
  Desk a(log, "a");
  Desk b(log, "b");
  Desk c(log, "c");
  a.then = [&] { put_off(turn, a, "1"), clock.ns += 200'000; };
  b.then = [&] { put_off(turn, b, "2"), clock.ns += 200'000; };
  c.then = [&] { put_off(turn, c, "3"), clock.ns += 200'000; };
  for (Desk* desk : {&a, &b, &c}) arrives(turn, *desk, "x");
  turn.hand_out();
  CHECK(log == Log{"a took x", "b took x", "a sent 1", "b sent 2", "c took x"});
}

TEST_CASE("turn: who is forgotten, also by another's owner, is neither told nor sends") {
  Log log;
  HandClock clock;
  Turn turn(clock);
  Desk a(log, "a");
  Desk b(log, "b");
  a.then = [&] { turn.forget(b); };
  put_off(turn, b, "never");
  arrives(turn, a, "one");
  arrives(turn, b, "never");
  turn.hand_out();
  turn.send_all();
  CHECK(log == Log{"a took one"});
}

}  // namespace pgfresh::net
