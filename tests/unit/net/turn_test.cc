#include "net/turn.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net_fixture.h"

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

struct TwoStreams {
  UvLoop loop;
  FdPair one = unix_pair();
  FdPair two = unix_pair();
  const int fds[2] = {one.near.get(), two.near.get()};
  std::unique_ptr<UvStream> a = adopt(loop, one.near, SocketKind::kUnix);
  std::unique_ptr<UvStream> b = adopt(loop, two.near, SocketKind::kUnix);
  Recorder from_a;
  Recorder from_b;

  void start_and_write(std::string_view bytes) {
    a->start(&from_a);
    b->start(&from_b);
    for (const FdPair* pair : {&one, &two}) {
      REQUIRE(::write(pair->far.get(), bytes.data(), bytes.size()) ==
              static_cast<ssize_t>(bytes.size()));
    }
  }
};

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

TEST_CASE("a turn reads all, then tells all, then sends all") {
  TwoStreams both;
  int told = 0;
  const auto answer = [&](Recorder& from, UvStream& to) {
    from.then = [&](std::string_view) {
      ++told;
      for (const int fd : both.fds) CHECK(unread_bytes(fd) == 0);
      put(to, "answer");
      CHECK(unread_bytes(both.one.far.get()) + unread_bytes(both.two.far.get()) == 0);
    };
  };
  answer(both.from_a, *both.a);
  answer(both.from_b, *both.b);
  both.start_and_write("question");
  both.loop.turn();
  CHECK(told == 2);
  CHECK(unread_bytes(both.one.far.get()) == 6);
  CHECK(unread_bytes(both.two.far.get()) == 6);
}

TEST_CASE("paused by another's owner, when its bytes were read already: they come with resume") {
  TwoStreams both;
  auto& [loop, one, two, fds, a, b, from_a, from_b] = both;
  // Whoever is told first pauses the other.
  const auto first = [](Recorder& me, UvStream& other) {
    me.then = [&me, &other](std::string_view bytes) {
      me.bytes.append(bytes);
      other.pause();
    };
  };
  first(from_a, *b);
  first(from_b, *a);
  both.start_and_write("early ");
  loop.turn();
  REQUIRE(from_a.bytes.size() + from_b.bytes.size() == 6);
  const bool a_paused = from_a.bytes.empty();
  Recorder& paused = a_paused ? from_a : from_b;
  UvStream& stream = a_paused ? *a : *b;
  UniqueFd& peer = a_paused ? one.far : two.far;
  paused.then = nullptr;
  REQUIRE(::write(peer.get(), "late", 4) == 4);
  turn_for(loop, 20);
  CHECK(paused.bytes.empty());
  stream.resume();
  CHECK(paused.bytes.empty());  // not from inside resume()
  stream.pause();
  turn_for(loop, 20);
  CHECK(paused.bytes.empty());
  peer.reset();
  SUBCASE("in order, with what came behind and the end") {
    stream.resume();
    CHECK(turn_until(loop, [&] { return paused.ends == 1; }));
    CHECK(paused.bytes == "early late");
    CHECK(paused.why == "end of stream");
  }
  SUBCASE("to the next owner") {
    Recorder next;
    stream.start(&next);
    CHECK(turn_until(loop, [&] { return next.ends == 1; }));
    CHECK(next.bytes == "early late");
    CHECK(paused.bytes.empty());
  }
  SUBCASE("not any more behind finish()") {
    stream.finish();
    CHECK(turn_until(loop, [&] { return paused.ends == 1; }));
    CHECK(paused.bytes.empty());
  }
  SUBCASE("nor when the stream is gone") {
    stream.resume();
    (a_paused ? a : b).reset();
    turn_for(loop, 20);
    CHECK(paused.bytes.empty());
    CHECK(paused.ends == 0);
  }
}

TEST_CASE("a stream whose bytes were read may be destroyed before they are handed out") {
  TwoStreams both;
  int told = 0;
  both.from_a.then = [&](std::string_view) { ++told, both.b.reset(); };
  both.from_b.then = [&](std::string_view) { ++told, both.a.reset(); };
  both.start_and_write("x");
  turn_for(both.loop, 10);
  CHECK(told == 1);
}

}  // namespace pgfresh::net
