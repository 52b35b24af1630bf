#include "proxy/fetch.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "wire/bytes.h"

namespace pgfresh::proxy {
namespace {

struct ShownColumn {
  std::string name;
  uint32_t type = 20;
  uint16_t format = 0;
  uint32_t table = 0;
};

std::string description(const std::vector<ShownColumn>& columns) {
  std::string out;
  {
    const wire::MessageFrame frame(out, 'T');
    wire::append_u16(out, static_cast<uint16_t>(columns.size()));
    for (const ShownColumn& column : columns) {
      wire::append_cstring(out, column.name);
      wire::append_u32(out, column.table);
      wire::append_u16(out, static_cast<uint16_t>(column.table % 7));
      wire::append_u32(out, column.type);
      wire::append_u16(out, 8);
      wire::append_u32(out, 0xffffffff);
      wire::append_u16(out, column.format);
    }
  }
  return out;
}

TEST_CASE("row shape: names, types and number count; formats and origins do not") {
  const uint64_t shape = row_shape(description({{"v", 20, 0}}));
  CHECK(shape != 0);
  CHECK(row_shape(description({{"v", 20, 1}})) == shape);
  CHECK(row_shape(description({{"v", 20, 0, 16384}})) == shape);
  CHECK(row_shape(description({{"w", 20, 0}})) != shape);
  CHECK(row_shape(description({{"v", 23, 0}})) != shape);
  CHECK(row_shape(description({{"v", 20, 0}, {"v", 20, 0}})) != shape);
  CHECK(row_shape(description({})) != 0);
}

TEST_CASE("row shape: garbage is no crash") {
  const std::string whole = description({{"name", 20, 0}, {"other", 25, 1}});
  for (size_t length = 0; length <= whole.size(); ++length) {
    CHECK(row_shape(std::string_view(whole).substr(0, length)) != 0);
  }
}

TEST_CASE("row shape: those seen before are remembered, and no other is taken for them") {
  ShapeMemo memo;
  const std::string ends(100, 'e');
  for (int round = 0; round < 3; ++round) {
    CHECK(memo.of("") == row_shape(""));
    for (int i = 0; i < 200; ++i) {
      // Of one length, and with the same beginning and end.
      const std::string middle = std::to_string(1000 + i);
      const std::string message = description({{ends}, {middle}, {ends}});
      CHECK(memo.of(message) == row_shape(message));
      const std::string alone = description({{middle}});
      CHECK(memo.of(alone) == row_shape(alone));
    }
    const std::string large = description({{std::string(10'000, 'l')}});
    CHECK(memo.of(large) == row_shape(large));
  }
}

TEST_CASE("fetch: what was recorded becomes the entry") {
  Fetch fetch;
  fetch.key = "key";
  fetch.hash = hash128("key");
  fetch.stamp = {{1, 2}};
  fetch.started_ns = 100;
  fetch.description_bytes = 3;
  fetch.shape = 4;
  CHECK(fetch.append("abc", 6));
  CHECK(fetch.append("def", 6));
  CHECK_FALSE(fetch.append("g", 6));
  const cache::EntryRef entry = fetch.finish(150, 1000);
  CHECK(entry->key() == "key");
  CHECK(entry->body() == "abcdef");
  REQUIRE(entry->stamp().size() == 1);
  CHECK(entry->stamp().front() == freshness::SlotToken{1, 2});
  CHECK(entry->upstream_ns == 50);
  CHECK(entry->stored_ns == 150);
  CHECK(entry->expires_ns == 1000);
  CHECK(entry->description_bytes == 3);
  CHECK(entry->shape == 4);
}

TEST_CASE("fetch: the pool lends it again as new, its flight ended") {
  FetchPool pool;
  cache::Flights flights(1);
  int woken = 0;
  std::unique_ptr<cache::Flights::Wait> wait;
  {
    const FetchRef fetch = pool.lend();
    fetch->key = "key";
    fetch->hash = hash128("key");
    fetch->stamp = {{1, 2}};
    fetch->shape = 7;
    fetch->of_description = true;
    fetch->answer_sequence = 3;
    CHECK(fetch->append(std::string(1000, 'x'), 2000));
    std::unique_ptr<cache::Flights::Wait> none;
    REQUIRE(flights.join(
                {fetch->key, fetch->hash}, fetch->stamp, [] {}, fetch->lead, none) ==
            cache::Flights::Part::kLead);
    cache::Flights::Lead other;
    REQUIRE(flights.join(
                {fetch->key, fetch->hash}, fetch->stamp, [&] { ++woken; }, other, wait) ==
            cache::Flights::Part::kWait);
  }
  CHECK(woken == 1);
  CHECK(flights.in_flight() == 0);
  REQUIRE(pool.idle() == 1);
  const FetchRef again = pool.lend();
  CHECK(pool.idle() == 0);
  CHECK(again->key.empty());
  CHECK(again->body.empty());
  CHECK(again->body.capacity() >= 1000);
  CHECK(again->stamp.empty());
  CHECK(again->shape == 0);
  CHECK(again->answer_sequence == 0);
  CHECK_FALSE(again->of_description);
  CHECK_FALSE(again->lead);
}

TEST_CASE("fetch: the pool keeps no large buffers, nor many") {
  FetchPool pool;
  {
    const FetchRef large = pool.lend();
    CHECK(large->append(std::string(100'000, 'x'), 1 << 20));
  }
  CHECK(pool.idle() == 0);
  std::vector<FetchRef> many;
  for (int i = 0; i < 1000; ++i) many.push_back(pool.lend());
  many.clear();
  CHECK(pool.idle() > 0);
  CHECK(pool.idle() < 1000);
}

}  // namespace
}  // namespace pgfresh::proxy
