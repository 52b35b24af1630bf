// Who wrote: for each table of one database, how many events came and when the last did; for each
// query, how many of its answers events have freed, and which table's event was the last. For
// people alone; nothing is decided by it. Control loop only.
//
// Bounded: kTablesMax tables and kQueriesMax queries. When there are more tables, the new ones are
// not told apart from `0`; of the queries the half invalidated longest ago is forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "freshness/token_table.h"

namespace pgfresh::freshness {

class WriteLog {
 public:
  static constexpr size_t kTablesMax = 10'000;  // 64 bytes each
  static constexpr size_t kQueriesMax = 8'000;  // 64 bytes each

  struct Table {
    uint64_t events = 0;
    uint64_t whole = 0;  // of them: which rows changed is not known
    uint64_t freed = 0;  // answers freed
    int64_t last_ns = 0;
  };
  struct Query {
    uint64_t freed = 0;
    Oid root = 0;  // of the table whose event was the last; 0: DDL
    int64_t last_ns = 0;
  };
  enum class Rows : uint8_t { kKnown, kUnknown };

  // An event is applied from here on; `root` is 0 for DDL.
  void begin(Oid root, Rows rows, int64_t now_ns);
  // It has freed an answer to this query (query::Statement::query_id).
  void freed(uint64_t query_id);

  [[nodiscard]] const std::unordered_map<Oid, Table>& tables() const { return tables_; }
  // Null: none that is remembered.
  [[nodiscard]] const Table* table(Oid root) const;
  [[nodiscard]] const Query* query(uint64_t query_id) const;

 private:
  void make_room();

  std::unordered_map<Oid, Table> tables_;
  std::unordered_map<uint64_t, Query> queries_;
  Oid root_ = 0;  // of the event being applied
  int64_t now_ns_ = 0;
};

}  // namespace pgfresh::freshness
