#include "console/reports.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "console/values.h"

namespace pgfresh::console {
namespace {

size_t column(const Table& table, std::string_view name) {
  for (size_t i = 0; i < table.columns().size(); ++i) {
    if (table.columns()[i].name == name) return i;
  }
  return SIZE_MAX;
}

std::string text(const Table& table, size_t row, std::string_view name) {
  return std::get<std::string>(table.rows().at(row).at(column(table, name)));
}

QueryRow query(std::string text, uint64_t saved_ms, uint64_t upstream_ms) {
  QueryRow row;
  row.query = std::move(text);
  row.saved_ns = saved_ms * 1'000'000;
  row.upstream_ns = upstream_ms * 1'000'000;
  return row;
}

TEST_CASE("SHOW QUERIES begins with what takes or saves most time") {
  QueryRow gone;
  gone.dropped = 12;
  gone.saved_ns = UINT64_MAX / 4;
  const Table table =
      queries_table({gone, query("a", 1, 1), query("b", 0, 9), query("c", 5, 0)}, Shown::kAll);
  REQUIRE(table.rows().size() == 4);
  CHECK(text(table, 0, "query") == "b");
  CHECK(text(table, 1, "query") == "c");
  CHECK(text(table, 2, "query") == "a");
  CHECK(text(table, 3, "query") == "12 queries, forgotten");
  CHECK(std::holds_alternative<std::monostate>(table.rows()[3][column(table, "id")]));
}

TEST_CASE("SHOW QUERIES shows a hundred, and what was forgotten") {
  std::vector<QueryRow> rows(150);
  QueryRow gone;
  gone.dropped = 1;
  rows.push_back(gone);
  CHECK(queries_table(rows, Shown::kFirst100).rows().size() == 101);
  CHECK(queries_table(rows, Shown::kAll).rows().size() == 151);
}

TEST_CASE("SHOW QUERIES: means and shares") {
  QueryRow row;
  row.hits_l1 = 2;
  row.hits_l2 = 1;
  row.misses = 1;
  row.upstream = 4;
  row.upstream_ns = 10'000'000;
  row.fills = 2;
  row.answer_bytes = 300;
  const Table table = queries_table({row}, Shown::kAll);
  const Row& shown = table.rows()[0];
  CHECK(std::get<double>(shown[column(table, "hit_percent")]) == doctest::Approx(75));
  CHECK(std::get<double>(shown[column(table, "mean_upstream_ms")]) == doctest::Approx(2.5));
  CHECK(std::get<int64_t>(shown[column(table, "answer_bytes")]) == 150);
  CHECK(std::get<int64_t>(shown[column(table, "calls")]) == 4);
  CHECK(std::holds_alternative<std::monostate>(shown[column(table, "reason")]));
}

TEST_CASE("DOCTOR begins with the worst, else as found") {
  const Table table = doctor_table({{Severity::kOk, "care", "a", "", ""},
                                    {Severity::kWarning, "care", "b", "", ""},
                                    {Severity::kProblem, "care", "c", "x", "SELECT 1"},
                                    {Severity::kWarning, "care", "d", "", ""}});
  CHECK(text(table, 0, "subject") == "c");
  CHECK(text(table, 0, "severity") == "problem");
  CHECK(text(table, 0, "remedy") == "SELECT 1");
  CHECK(text(table, 1, "subject") == "b");
  CHECK(text(table, 2, "subject") == "d");
  CHECK(text(table, 3, "severity") == "ok");
}

TEST_CASE("texts of clients become UTF-8 without control characters") {
  CHECK(printable("plain") == "plain");
  CHECK(printable("s\xc3\xa9"
                  "cret \xf0\x9f\x99\x82") ==
        "s\xc3\xa9"
        "cret \xf0\x9f\x99\x82");
  CHECK(printable("a\r\n\tb\x7f\1") == "a   b??");
  CHECK(printable("s\xe9"
                  "cret") == "s?cret");
  CHECK(printable("\xc3") == "?");
}

}  // namespace
}  // namespace pgfresh::console
