// The framer: whatever way a stream is cut into inputs, the same messages come out of it.
#include "wire/framer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

using namespace std::string_literals;

struct Seen {
  std::string bytes;  // the whole message, put together when it came in parts
  uint32_t size = 0;
  size_t pieces = 0;
  bool in_parts = false;

  bool operator==(const Seen&) const = default;
};

// Feeds a framer and keeps what comes out, checking what holds for every frame.
class Collector {
 public:
  explicit Collector(Side side, uint32_t max = limits::kMessageBytesMax) : framer_(side, max) {}

  // The input is copied into memory of its exact size, so that the address sanitizer sees a view
  // that outlives it.
  Cut feed(std::string_view bytes) {
    const auto memory = std::make_unique<char[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), memory.get());
    std::string_view in(memory.get(), bytes.size());
    while (true) {
      Frame frame;
      const Cut cut = framer_.next(in, frame);
      if (cut == Cut::kNeedMore) REQUIRE(in.empty());
      if (cut == Cut::kNeedMore || cut == Cut::kBroken) return cut;
      take(cut, frame);
    }
  }

  [[nodiscard]] const std::vector<Seen>& messages() const { return messages_; }
  [[nodiscard]] const Framer& framer() const { return framer_; }

 private:
  void take(Cut cut, const Frame& frame) {
    REQUIRE(frame.first == !open_);
    if (frame.first) {
      REQUIRE(frame.bytes.size() >= 5);
      REQUIRE(frame.bytes.front() == frame.type);
      messages_.emplace_back();
      messages_.back().size = frame.size;
      messages_.back().in_parts = cut == Cut::kPart;
    }
    if (cut == Cut::kMessage) {
      REQUIRE(frame.last);
      REQUIRE(frame.bytes.size() == frame.size);
      REQUIRE(frame.body().size() == frame.size - 5);
    }
    REQUIRE(!frame.bytes.empty());
    messages_.back().bytes += frame.bytes;
    ++messages_.back().pieces;
    open_ = !frame.last;
    if (frame.last) REQUIRE(messages_.back().bytes.size() == frame.size);
  }

  Framer framer_;
  std::vector<Seen> messages_;
  bool open_ = false;
};

std::string message(char type, size_t body_size) {
  std::string out(1, type);
  const size_t length = body_size + 4;
  for (const unsigned shift : {24u, 16u, 8u, 0u}) {
    out.push_back(static_cast<char>((length >> shift) & 0xff));
  }
  for (size_t i = 0; i < body_size; ++i) out.push_back(static_cast<char>('a' + i % 23));
  return out;
}

// What a server answers to a login, an extended query with rows, an error and a COPY.
std::vector<std::string> backend_conversation() {
  std::vector<std::string> messages(12);
  write_authentication(messages[0], 0);
  write_parameter_status(messages[1], "client_encoding", "UTF8");
  write_backend_key(messages[2], 4711, 0xdeadbeef);
  messages[3] = kReadyIdle;
  messages[4] = kParseComplete;
  messages[5] = kBindComplete;
  write_row_description(messages[6], std::vector<Column>{{"id", 20, 8}, {"name"}});
  write_data_row(messages[7],
                 std::vector<std::optional<std::string>>{"1", std::nullopt, "Ada Lovelace"});
  write_data_row(messages[8], std::vector<std::optional<std::string>>{});
  write_command_complete(messages[9], "SELECT 2");
  write_error(messages[10], Severity::kError, "42P01", "relation \"nowhere\" does not exist");
  messages[11] = kReadyFailed;
  messages.push_back(message('H', 3));
  messages.push_back(message('d', 40));
  messages.push_back(message('d', 0));
  messages.push_back(message('c', 0));
  return messages;
}

std::vector<std::string> frontend_conversation() {
  std::vector<std::string> messages(6);
  write_password(messages[0], "md5secret\0"s);
  write_parse(messages[1], "s1", "select * from doctors where id = $1", "\0\0\0\x14"s);
  messages[2] = message('B', 24);
  messages[3] = message('D', 2);
  messages[4] = message('E', 5);
  write_sync(messages[5]);
  messages.push_back(message('H', 0));
  messages.push_back(message('C', 4));
  messages.push_back(message('d', 30));
  messages.push_back(message('c', 0));
  messages.push_back(message('f', 6));
  messages.push_back(message('F', 14));
  messages.emplace_back();
  write_query(messages.back(), "select 1");
  messages.emplace_back();
  write_terminate(messages.back());
  return messages;
}

std::string joined(const std::vector<std::string>& messages) {
  std::string all;
  for (const std::string& one : messages) all += one;
  return all;
}

void check_same(const Collector& collector, const std::vector<std::string>& messages) {
  REQUIRE(collector.messages().size() == messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    REQUIRE(collector.messages()[i].bytes == messages[i]);
    REQUIRE(collector.messages()[i].size == messages[i].size());
  }
}

void check_every_cut(Side side, const std::vector<std::string>& messages) {
  const std::string all = joined(messages);
  for (size_t first = 0; first <= all.size(); ++first) {
    for (size_t second = first; second <= all.size(); ++second) {
      Collector collector(side);
      REQUIRE(collector.feed(all.substr(0, first)) == Cut::kNeedMore);
      REQUIRE(collector.feed(all.substr(first, second - first)) == Cut::kNeedMore);
      REQUIRE(collector.feed(all.substr(second)) == Cut::kNeedMore);
      check_same(collector, messages);
      REQUIRE(collector.framer().at_boundary());
    }
  }
}

TEST_CASE("framer: every way to cut a conversation in three gives the same messages") {
  check_every_cut(Side::kBackend, backend_conversation());
  check_every_cut(Side::kFrontend, frontend_conversation());
}

TEST_CASE("framer: byte by byte") {
  for (const Side side : {Side::kFrontend, Side::kBackend}) {
    const auto messages =
        side == Side::kFrontend ? frontend_conversation() : backend_conversation();
    Collector collector(side);
    for (const char byte : joined(messages)) {
      REQUIRE(collector.feed(std::string_view(&byte, 1)) == Cut::kNeedMore);
    }
    check_same(collector, messages);
  }
}

TEST_CASE("framer: messages whole in the input lie there, one behind the other") {
  const std::string all = joined(backend_conversation());
  Framer framer(Side::kBackend, limits::kMessageBytesMax);
  std::string_view in = all;
  const char* expected = all.data();
  Frame frame;
  while (framer.next(in, frame) == Cut::kMessage) {
    CHECK(frame.bytes.data() == expected);
    expected += frame.bytes.size();
  }
  CHECK(expected == all.data() + all.size());
}

TEST_CASE("framer: a type that is wanted whole comes whole, up to the limit") {
  struct Example {
    Side side;
    char type;
    uint32_t whole_max;
  };
  for (const Example& example : {Example{Side::kFrontend, 'Q', limits::kFrontendWholeMax},
                                 Example{Side::kFrontend, 'B', limits::kFrontendWholeMax},
                                 Example{Side::kBackend, 'N', limits::kBackendWholeMax},
                                 Example{Side::kBackend, 'T', limits::kBackendWholeMax}}) {
    for (const uint32_t size : {example.whole_max - 1, example.whole_max, example.whole_max + 1}) {
      const std::string bytes = message(example.type, size - 5);
      for (const size_t cut : {size_t{0}, size_t{3}, size_t{5}, size_t{1000}, bytes.size()}) {
        Collector collector(example.side);
        static_cast<void>(collector.feed(bytes.substr(0, cut)));
        static_cast<void>(collector.feed(bytes.substr(cut)));
        check_same(collector, {bytes});
        CHECK(collector.messages()[0].in_parts == (size > example.whole_max));
      }
    }
  }
}

TEST_CASE("framer: rows and COPY data come whole when they lie whole in the input, else in parts") {
  const std::string row = message('D', 100'000);
  Collector whole(Side::kBackend);
  REQUIRE(whole.feed(row) == Cut::kNeedMore);
  CHECK_FALSE(whole.messages()[0].in_parts);

  Collector parts(Side::kBackend);
  for (size_t at = 0; at < row.size(); at += 1000) {
    REQUIRE(parts.feed(std::string_view(row).substr(at, 1000)) == Cut::kNeedMore);
    CHECK(parts.framer().held_bytes() < 32);
    CHECK(parts.framer().at_boundary() == (at + 1000 >= row.size()));
  }
  check_same(parts, {row});
  CHECK(parts.messages()[0].in_parts);
  CHECK(parts.messages()[0].pieces == 101);
}

TEST_CASE("framer: a header that is cut comes alone when its message goes out in parts") {
  const std::string row = message('D', 20);
  for (size_t cut = 1; cut < 5; ++cut) {
    Framer framer(Side::kBackend, limits::kMessageBytesMax);
    Frame frame;
    std::string_view in = std::string_view(row).substr(0, cut);
    REQUIRE(framer.next(in, frame) == Cut::kNeedMore);
    CHECK_FALSE(framer.at_boundary());
    in = std::string_view(row).substr(cut);
    REQUIRE(framer.next(in, frame) == Cut::kPart);
    CHECK(frame.first);
    CHECK_FALSE(frame.last);
    CHECK(frame.bytes == std::string_view(row).substr(0, 5));
    REQUIRE(framer.next(in, frame) == Cut::kPart);
    CHECK_FALSE(frame.first);
    CHECK(frame.last);
    CHECK(frame.bytes.data() == row.data() + 5);
    CHECK(framer.next(in, frame) == Cut::kNeedMore);
    CHECK(framer.at_boundary());
  }
}

TEST_CASE("framer: a held message's view stays good until the next call, then its memory goes") {
  const std::string query = message('Q', 10'000);
  Framer framer(Side::kFrontend, limits::kMessageBytesMax);
  Frame frame;
  {
    const std::string begin = query.substr(0, 6'000);
    std::string_view in = begin;
    REQUIRE(framer.next(in, frame) == Cut::kNeedMore);
    CHECK(framer.held_bytes() >= 6'000);
  }
  const std::string rest = query.substr(6'000);
  std::string_view in = rest;
  REQUIRE(framer.next(in, frame) == Cut::kMessage);
  CHECK(frame.bytes == query);
  CHECK(framer.at_boundary());
  REQUIRE(framer.next(in, frame) == Cut::kNeedMore);
  CHECK(framer.held_bytes() < 32);
}

TEST_CASE("framer: memory for a held message follows what came, not what was announced") {
  Framer framer(Side::kFrontend, limits::kMessageBytesMax);
  Frame frame;
  const std::string begin = message('Q', 60'000).substr(0, 7);
  std::string_view in = begin;
  REQUIRE(framer.next(in, frame) == Cut::kNeedMore);
  CHECK(framer.held_bytes() < 32);
}

TEST_CASE("framer: every type byte of each side, and no other") {
  const std::string_view frontend = "BCcdDEfFHpPQSX";
  const std::string_view backend = "RK23CdcGHWDIEVvnNAtS1sZT";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes = message(static_cast<char>(byte), 1);
    for (const bool is_frontend : {true, false}) {
      const std::string_view known = is_frontend ? frontend : backend;
      const bool good = known.find(static_cast<char>(byte)) != std::string_view::npos;
      Collector collector(is_frontend ? Side::kFrontend : Side::kBackend);
      CAPTURE(byte);
      CAPTURE(is_frontend);
      CHECK(collector.feed(bytes) == (good ? Cut::kNeedMore : Cut::kBroken));
      if (!good) {
        CHECK(collector.framer().error() == "invalid message type " + std::to_string(byte));
      }
    }
  }
}

TEST_CASE("framer: lengths out of range break the stream, wherever the header is cut") {
  struct Example {
    std::string header;
    Side side;
    bool broken;
  };
  for (const Example& example :
       {Example{"Q\0\0\0\0"s, Side::kFrontend, true}, Example{"Q\0\0\0\3"s, Side::kFrontend, true},
        Example{"Q\0\0\0\4"s, Side::kFrontend, false},
        Example{"Q\xff\xff\xff\xff"s, Side::kFrontend, true},
        Example{"Q\0\0\3\xe7"s, Side::kFrontend, false},  // 999 + 1 = the maximum below
        Example{"Q\0\0\3\xe8"s, Side::kFrontend, true}, Example{"Z\0\0\0\3"s, Side::kBackend, true},
        Example{"D\xff\xff\xff\xff"s, Side::kBackend, true},
        Example{"D\0\0\3\xec"s, Side::kBackend, false},  // a body of 1000
        Example{"D\0\0\3\xed"s, Side::kBackend, true}}) {
    for (size_t cut = 0; cut <= 5; ++cut) {
      Collector collector(example.side, 1000);
      CHECK(collector.feed(example.header.substr(0, cut)) ==
            (cut == 5 && example.broken ? Cut::kBroken : Cut::kNeedMore));
      CHECK(collector.feed(example.header.substr(cut)) ==
            (example.broken ? Cut::kBroken : Cut::kNeedMore));
      CHECK(collector.framer().error().empty() != example.broken);
    }
  }
}

TEST_CASE("framer: what came before the break is delivered, and broken stays broken") {
  std::string bytes;
  write_sync(bytes);
  Collector collector(Side::kFrontend);
  CHECK(collector.feed(bytes + "GET / HTTP/1.1\r\n") == Cut::kBroken);
  CHECK(collector.messages().size() == 1);
  CHECK(collector.feed(bytes) == Cut::kBroken);
  CHECK(collector.messages().size() == 1);
  CHECK(collector.framer().error() == "invalid message type 71");
  CHECK_FALSE(collector.framer().at_boundary());
}

TEST_CASE("framer: PostgreSQL's largest messages pass on both sides") {
  // A row's body may be 2^30 - 2 bytes long, a query's message 2^30 - 1 (stringinfo.c, pqcomm.c).
  Collector backend(Side::kBackend);
  CHECK(backend.feed("D\x40\x00\x00\x02"s) == Cut::kNeedMore);
  Collector frontend(Side::kFrontend);
  CHECK(frontend.feed("Q\x3f\xff\xff\xfe"s) == Cut::kNeedMore);
  CHECK(frontend.framer().held_bytes() < 32);
}

}  // namespace
}  // namespace pgfresh::wire
