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
  const auto entry = std::move(fetch).finish(150, 1000);
  CHECK(entry->key == "key");
  CHECK(entry->body.view() == "abcdef");
  CHECK(entry->stamp == freshness::Stamp{{1, 2}});
  CHECK(entry->upstream_ns == 50);
  CHECK(entry->stored_ns == 150);
  CHECK(entry->expires_ns == 1000);
  CHECK(entry->description_bytes == 3);
  CHECK(entry->shape == 4);
}

}  // namespace
}  // namespace pgfresh::proxy
