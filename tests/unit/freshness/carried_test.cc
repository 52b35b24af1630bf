#include "freshness/carried.h"

#include <doctest/doctest.h>

#include <string>
#include <unordered_set>
#include <vector>

#include "base/limits.h"
#include "freshness/event.h"

namespace pgfresh::freshness {
namespace {

std::vector<std::string> payloads_of(const Carried& carried) {
  std::vector<std::string> payloads;
  carried.append_payloads(payloads);
  return payloads;
}

// Every event in the notifications, in order.
std::vector<std::string> events_of(const Carried& carried) {
  std::vector<std::string> events;
  for (const std::string& payload : payloads_of(carried)) {
    CHECK(payload.size() < limits::kEventBytesMax);
    if (!payload.starts_with(kMessageHead)) {
      REQUIRE(parse_event(payload).has_value());
      events.push_back(payload);
      continue;
    }
    const auto message = parse_message(payload);
    REQUIRE(message.has_value());
    events.insert(events.end(), message->events.begin(), message->events.end());
  }
  return events;
}

std::string row_event(int xid, size_t bytes) {
  return "1 " + std::to_string(xid) + " r 5 1 1 1 " + std::to_string(bytes) + ":" +
         std::string(bytes, 'x');
}

TEST_CASE("one event is published as it came, several in one notification") {
  Carried carried;
  CHECK(carried.empty());
  carried.add("1 7 w 5");
  CHECK(payloads_of(carried) == std::vector<std::string>{"1 7 w 5"});
  carried.add("1 7 r 5 1 1 1 3:a b");
  CHECK(payloads_of(carried) == std::vector<std::string>{"3 m 7:1 7 w 5 19:1 7 r 5 1 1 1 3:a b"});
  CHECK(events_of(carried) == std::vector<std::string>{"1 7 w 5", "1 7 r 5 1 1 1 3:a b"});
}

TEST_CASE("the same again is kept once") {
  Carried carried;
  for (int i = 0; i < 1000; ++i) carried.add("1 7 w 5");
  CHECK(carried.count() == 1);
}

TEST_CASE("notifications stay below PostgreSQL's limit, and nothing is lost between them") {
  for (const size_t bytes : {10U, 3950U, 3990U, 7900U, 7960U}) {
    Carried carried;
    std::vector<std::string> expected;
    for (int i = 1; i <= 20; ++i) {
      expected.push_back(row_event(i, bytes));
      carried.add(expected.back());
    }
    CHECK(events_of(carried) == expected);
  }
}

TEST_CASE("what is no event says everything") {
  Carried carried;
  carried.add("rubbish");
  const auto events = events_of(carried);
  REQUIRE(events.size() == 1);
  CHECK(parse_event(events[0])->kind == Event::Kind::kSchema);
  std::unordered_set<uint32_t> xids;
  CHECK_FALSE(carried.writers(xids));
}

TEST_CASE("taking keeps all and empties the other") {
  Carried all;
  Carried one;
  one.add("1 7 w 5");
  all.take(one);
  CHECK(one.empty());
  one.add("1 8 w 6");
  all.take(one);
  all.add("1 8 w 6");  // the last one, again
  CHECK(events_of(all) == std::vector<std::string>{"1 7 w 5", "1 8 w 6"});
  std::unordered_set<uint32_t> xids;
  CHECK(all.writers(xids));
  CHECK(xids == std::unordered_set<uint32_t>{7, 8});
}

TEST_CASE("too much: whole relations, then everything") {
  Carried carried;
  int xid = 1;
  for (size_t before = 0; carried.bytes() >= before; ++xid) {
    before = carried.bytes();
    carried.add("1 " + std::to_string(xid) + " r " + std::to_string(xid % 3 + 1) +
                " 1 1 1 3000:" + std::string(3000, 'x'));
  }
  const auto events = events_of(carried);
  REQUIRE(events.size() == 3);
  for (const std::string& event : events) {
    CHECK(parse_event(event)->kind == Event::Kind::kWhole);
  }
  for (int i = 1; i <= 40'000; ++i) {
    carried.add("1 9999 w " + std::to_string(i));
    CHECK(carried.bytes() <= Carried::kBytesMax);
  }
  bool schema = false;
  for (const std::string& event : events_of(carried)) {
    schema = schema || parse_event(event)->kind == Event::Kind::kSchema;
  }
  CHECK(schema);
}

}  // namespace
}  // namespace pgfresh::freshness
