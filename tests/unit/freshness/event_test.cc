#include "freshness/event.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/limits.h"

namespace pgfresh::freshness {
namespace {

TEST_CASE("rows known") {
  const std::string payload = "1 7741 r 16402 2 1 2 1:7 2:42 -";
  CHECK_FALSE(parse_event(payload).has_value());
  const std::string good = "1 7741 r 16402 2 1 2 1:7 2:42 3 1 5:a b:c";
  const auto event = parse_event(good);
  REQUIRE(event.has_value());
  CHECK(event->xid == 7741);
  CHECK(event->kind == Event::Kind::kRows);
  CHECK(event->relation == 16402);
  REQUIRE(event->columns.size() == 2);
  CHECK(event->columns[0].number == 1);
  CHECK(event->columns[0].values == std::vector<std::string_view>{"7", "42"});
  CHECK(event->columns[1].number == 3);
  CHECK(event->columns[1].values == std::vector<std::string_view>{"a b:c"});
}

TEST_CASE("no watched column, no value, empty value") {
  REQUIRE(parse_event("1 9 r 5 0").has_value());
  const auto nulls = parse_event("1 9 r 5 1 2 0");
  REQUIRE(nulls.has_value());
  CHECK(nulls->columns[0].values.empty());
  const auto empty = parse_event("1 9 r 5 1 2 1 0:");
  REQUIRE(empty.has_value());
  CHECK(empty->columns[0].values == std::vector<std::string_view>{""});
}

TEST_CASE("rows unknown, schema") {
  const auto whole = parse_event("1 3 w 4294967295");
  REQUIRE(whole.has_value());
  CHECK(whole->kind == Event::Kind::kWhole);
  CHECK(whole->relation == 4294967295U);
  const auto schema = parse_event(format_schema_event(9223372036854775807U));
  REQUIRE(schema.has_value());
  CHECK(schema->kind == Event::Kind::kSchema);
  CHECK(schema->xid == 9223372036854775807U);
}

TEST_CASE("what is not an event") {
  for (const char* text : {"",
                           "1",
                           "1 ",
                           "2 7 s",
                           "1 7",
                           "1 7 ",
                           "1 7 x",
                           "1 7 s ",
                           "1 7 ss",
                           " 1 7 s",
                           "1  7 s",
                           "1 0 s",
                           "1 -7 s",
                           "1 +7 s",
                           "1 07 s",
                           "1 9223372036854775808 s",
                           "1 99999999999999999999999 s",
                           "1 7 w",
                           "1 7 w 0",
                           "1 7 w 4294967296",
                           "1 7 w 5 ",
                           "1 7 w 5 1",
                           "1 7 r 5",
                           "1 7 r 5 ",
                           "1 7 r 5 1",
                           "1 7 r 5 1 0 0",
                           "1 7 r 5 1 32768 0",
                           "1 7 r 5 1 1",
                           "1 7 r 5 1 1 1",
                           "1 7 r 5 1 1 1 1",
                           "1 7 r 5 1 1 1 1:",
                           "1 7 r 5 1 1 1 2:a",
                           "1 7 r 5 1 1 1 :a",
                           "1 7 r 5 1 1 1 -1:a",
                           "1 7 r 5 1 1 65 1:a",
                           "1 7 r 5 0 1 0",
                           "1 7 r 5 32767",
                           "1 7 r 5 1 1 1 18446744073709551615:a",
                           "1 7 r 5 1 1 1 8001:a",
                           "1 7 S",
                           "join",
                           "hello"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_event(text).has_value());
  }
}

TEST_CASE("bounds are met exactly") {
  std::string values = "1 7 r 5 1 1 64";
  for (int i = 0; i < 64; ++i) values += " 1:x";
  CHECK(parse_event(values).has_value());

  const std::string head = "1 7 r 5 1 1 1 7980:";
  std::string longest = head + std::string(7980, 'v');
  REQUIRE(longest.size() <= limits::kEventBytesMax);
  CHECK(parse_event(longest).has_value());
  CHECK_FALSE(parse_event("1 7 s" + std::string(limits::kEventBytesMax, ' ')).has_value());
}

std::vector<uint64_t> tags_of(const std::string& payload, Oid root) {
  const auto event = parse_event(payload);
  REQUIRE(event.has_value());
  std::vector<uint64_t> tags;
  append_event_tags(*event, root, tags);
  return tags;
}

bool has(const std::vector<uint64_t>& tags, uint64_t tag) {
  return std::find(tags.begin(), tags.end(), tag) != tags.end();
}

TEST_CASE("rule 2: which tags") {
  const auto rows = tags_of("1 7 r 5 1 3 2 1:a 1:b", 5);
  CHECK(rows == std::vector<uint64_t>{any_tag(5), key_tag(5, 3, "a"), key_tag(5, 3, "b")});
  CHECK(tags_of("1 7 w 5", 5) == std::vector<uint64_t>{any_tag(5), whole_tag(5)});
  CHECK(tags_of("1 7 s", 0) == std::vector<uint64_t>{schema_tag()});
  CHECK(tags_of("1 7 r 5 0", 0) == std::vector<uint64_t>{schema_tag()});
}

TEST_CASE("a member written directly: its rows are the root's") {
  const auto rows = tags_of("1 7 r 6 1 3 1 1:a", 5);
  CHECK(has(rows, any_tag(5)));
  CHECK(has(rows, key_tag(5, 3, "a")));
  CHECK_FALSE(has(rows, whole_tag(5)));
  CHECK(has(rows, any_tag(6)));
  CHECK(has(rows, key_tag(6, 3, "a")));
  const auto whole = tags_of("1 7 w 6", 5);
  CHECK(has(whole, any_tag(5)));
  CHECK(has(whole, whole_tag(5)));
  CHECK(has(whole, any_tag(6)));
  CHECK(has(whole, whole_tag(6)));
}

TEST_CASE("a key column that an event does not tell: which rows is unknown") {
  const auto event = parse_event("1 7 r 5 1 3 1 1:a");
  REQUIRE(event.has_value());
  const std::vector<query::KeyColumn> told = {{"c", 3, false}};
  const std::vector<query::KeyColumn> more = {{"c", 3, false}, {"d", 4, false}};
  std::vector<uint64_t> tags;
  append_event_tags(*event, 5, tags, told);
  CHECK_FALSE(has(tags, whole_tag(5)));
  append_event_tags(*event, 5, tags, more);
  CHECK(has(tags, whole_tag(5)));
  CHECK(has(tags, key_tag(5, 3, "a")));
}

}  // namespace
}  // namespace pgfresh::freshness
