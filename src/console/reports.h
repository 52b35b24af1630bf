// The tables with which pgfresh explains itself: SHOW QUERIES, EXPLAIN CACHE, DOCTOR. As in
// tables.h: structs of facts that whoever knows them fills in, and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "console/table.h"

namespace pgfresh::console {

// One query of one database, over all workers.
struct QueryRow {
  uint64_t id = 0;  // 63 bits; what FLUSH QUERY takes
  std::string database;
  uint64_t hits_l1 = 0;
  uint64_t hits_l2 = 0;
  uint64_t misses = 0;
  uint64_t bypasses = 0;
  uint64_t fills = 0;
  uint64_t upstream = 0;  // answers of PostgreSQL that were timed
  uint64_t upstream_ns = 0;
  uint64_t saved_ns = 0;
  uint64_t hit_bytes = 0;
  uint64_t answer_bytes = 0;   // of all fills
  uint64_t invalidations = 0;  // answers that a write has ended
  std::string invalidated_by;  // the table whose write was the last to do so
  int64_t invalidated_unix_s = 0;
  std::string reason;   // label of the most frequent one of the bypasses
  std::string why_not;  // "label: object, …", all that stood against it
  int64_t hit_unix_s = 0;
  int64_t called_unix_s = 0;
  std::string query;     // printable; constants as ?
  uint64_t dropped = 0;  // not 0: the row stands for so many queries that were forgotten

  [[nodiscard]] uint64_t calls() const { return hits_l1 + hits_l2 + misses + bypasses; }
};

enum class Shown : uint8_t { kFirst100, kAll };

[[nodiscard]] Columns queries_columns();
// Sorted by the time that PostgreSQL took for the query or would have taken without the cache;
// what was forgotten comes last.
[[nodiscard]] Table queries_table(std::vector<QueryRow> rows, Shown shown);

// One fact of EXPLAIN CACHE. `item` is a word that scripts may look for: "cacheable", "reason",
// "table", "depends_on", "key.search_path". `value` is short, `detail` is for people.
struct ExplainRow {
  std::string item;
  std::string value;
  std::string detail;
};

[[nodiscard]] Columns explain_columns();
[[nodiscard]] Table explain_table(const std::vector<ExplainRow>& rows);

// kProblem: what was asked for does not work. kWarning: it works, with a gap or at a cost.
enum class Severity : uint8_t { kOk, kInfo, kWarning, kProblem };
[[nodiscard]] std::string_view severity_text(Severity severity);

struct Finding {
  Severity severity = Severity::kOk;
  std::string database;
  std::string subject;
  std::string finding;
  std::string remedy;  // SQL or a command to run; empty: nothing to be done
};

[[nodiscard]] Columns doctor_columns();
// The worst first, else in the order given.
[[nodiscard]] Table doctor_table(std::vector<Finding> findings);

}  // namespace pgfresh::console
