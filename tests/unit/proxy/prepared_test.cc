#include "proxy/prepared.h"

#include <doctest/doctest.h>

#include "query/statement.h"

namespace pgfresh::proxy {
namespace {

MemoRef text(const std::string& sql) {
  return std::make_shared<MemoText>(query::analyze(sql, 16 * 1024));
}

TEST_CASE("prepared: named and unnamed statements") {
  PreparedTable table;
  CHECK(table.find("") == nullptr);
  const PreparedRef unnamed = table.define("", text("SELECT 1"), "");
  const PreparedRef named = table.define("n", text("SELECT 2"), std::string("\0\0\0\x17", 4));
  CHECK(table.find("") == unnamed);
  CHECK(table.find("n") == named);
  CHECK(named->parameter_oids.size() == 4);
  CHECK(named->id != unnamed->id);
  table.erase("");
  CHECK(table.find("") == nullptr);
  CHECK(table.find("n") == named);
  table.clear();
  CHECK(table.find("n") == nullptr);
}

TEST_CASE("prepared: a name that is used again is another statement") {
  PreparedTable table;
  const uint64_t first = table.define("n", text("SELECT 1"), "")->id;
  table.erase("n");
  CHECK(table.define("n", text("SELECT 1"), "")->id != first);
}

TEST_CASE("prepared: erasing a stranger is nothing") {
  PreparedTable table;
  table.erase("nobody");
  table.erase("");
  CHECK(table.named().empty());
}

TEST_CASE("prepared: bounded in number; room comes back when statements go") {
  PreparedTable table;
  const MemoRef shared = text("SELECT 1");
  for (size_t i = 0; i < limits::kPreparedMax; ++i) {
    REQUIRE(table.define("s" + std::to_string(i), shared, "") != nullptr);
  }
  CHECK(table.define("one more", shared, "") == nullptr);
  CHECK(table.define("", shared, "") != nullptr);
  table.erase("s0");
  CHECK(table.define("one more", shared, "") != nullptr);
}

TEST_CASE("prepared: bounded in bytes") {
  PreparedTable table;
  const MemoRef large = text("SELECT '" + std::string(1 << 20, 'x') + "'");
  size_t made = 0;
  while (table.define("s" + std::to_string(made), large, "") != nullptr) ++made;
  CHECK(made > 1);
  CHECK(made <= limits::kPreparedBytesMax >> 20);
}

}  // namespace
}  // namespace pgfresh::proxy
