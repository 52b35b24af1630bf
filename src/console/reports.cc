#include "console/reports.h"

#include <algorithm>
#include <tuple>

#include "console/values.h"

namespace pgfresh::console {
namespace {

using enum Type;

constexpr size_t kShownFirst = 100;

// With three decimals: what a person reads.
double milliseconds(uint64_t ns) {
  const uint64_t us = ns / 1000;
  return static_cast<double>(us) / 1000;
}

Value mean_ms(uint64_t ns, uint64_t count) {
  if (count == 0) return std::monostate();
  return milliseconds(ns / count);
}

Value percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return std::monostate();
  const uint64_t hundredths = part * 10'000 / whole;
  return static_cast<double>(hundredths) / 100;
}

Row row_of(const QueryRow& query) {
  const uint64_t hits = query.hits_l1 + query.hits_l2;
  const bool remembered = query.dropped == 0;
  return {remembered ? number(query.id) : Value(std::monostate()),
          text_or_null(query.database),
          number(query.calls()),
          number(hits),
          number(query.hits_l2),
          number(query.misses),
          number(query.bypasses),
          percent(hits, query.calls()),
          mean_ms(query.upstream_ns, query.upstream),
          milliseconds(query.upstream_ns),
          milliseconds(query.saved_ns),
          number(query.hit_bytes),
          query.fills == 0 ? Value(std::monostate()) : number(query.answer_bytes / query.fills),
          number(query.invalidations),
          text_or_null(query.invalidated_by),
          text_or_null(query.reason),
          text_or_null(query.why_not),
          time_text(query.called_unix_s),
          remembered ? query.query : std::to_string(query.dropped) + " queries, forgotten"};
}

}  // namespace

Columns queries_columns() {
  return {{"id", kInt8},
          {"database", kText},
          {"calls", kInt8},
          {"hits", kInt8},
          {"hits_l2", kInt8},
          {"misses", kInt8},
          {"bypasses", kInt8},
          {"hit_percent", kFloat8},
          {"mean_upstream_ms", kFloat8},
          {"upstream_ms", kFloat8},
          {"saved_ms", kFloat8},
          {"hit_bytes", kInt8},
          {"answer_bytes", kInt8},
          {"invalidations", kInt8},
          {"invalidated_by", kText},
          {"reason", kText},
          {"why_not", kText},
          {"last_call", kText},
          {"query", kText}};
}

Table queries_table(std::vector<QueryRow> rows, Shown shown) {
  std::stable_sort(rows.begin(), rows.end(), [](const QueryRow& left, const QueryRow& right) {
    const auto rank = [](const QueryRow& row) {
      return std::tuple(row.dropped == 0, row.saved_ns + row.upstream_ns, row.calls());
    };
    return rank(left) > rank(right);
  });
  Table table(queries_columns(), "SHOW");
  size_t remembered = 0;
  for (const QueryRow& row : rows) {
    const bool counts = row.dropped == 0;
    if (counts && shown == Shown::kFirst100 && remembered == kShownFirst) continue;
    if (counts) ++remembered;
    table.add(row_of(row));
  }
  return table;
}

Columns explain_columns() { return {{"item", kText}, {"value", kText}, {"detail", kText}}; }

Table explain_table(const std::vector<ExplainRow>& rows) {
  Table table(explain_columns(), "EXPLAIN");
  for (const ExplainRow& row : rows) {
    table.add({row.item, printable(row.value), text_or_null(printable(row.detail))});
  }
  return table;
}

std::string_view severity_text(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kProblem:
      return "problem";
  }
  return "";
}

Columns doctor_columns() {
  return {{"severity", kText},
          {"database", kText},
          {"subject", kText},
          {"finding", kText},
          {"remedy", kText}};
}

Table doctor_table(std::vector<Finding> findings) {
  std::stable_sort(findings.begin(), findings.end(), [](const Finding& left, const Finding& right) {
    return left.severity > right.severity;
  });
  Table table(doctor_columns(), "DOCTOR");
  for (const Finding& each : findings) {
    table.add({std::string(severity_text(each.severity)), text_or_null(printable(each.database)),
               printable(each.subject), printable(each.finding),
               text_or_null(printable(each.remedy))});
  }
  return table;
}

}  // namespace pgfresh::console
