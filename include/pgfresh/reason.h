// Why a statement was not answered from the cache: one table for the counters, for
// SHOW pgfresh.last, for the manual. Each statement has one decisive reason; a verdict may list
// several.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgfresh {

// X(enumerator, metric label, one line for people)
#define PGFRESH_REASONS(X)                                                                       \
  X(kNone, "none", "nothing stands against the cache")                                           \
  X(kNotSelect, "not_select", "not a single SELECT, VALUES or TABLE statement")                  \
  X(kMultiStatement, "multi_statement", "several statements in one query text")                  \
  X(kUnparsable, "unparsable", "the text does not parse; PostgreSQL will say why")               \
  X(kTooLong, "text_too_long", "the text is longer than query.text_bytes")                       \
  X(kLocking, "locking_clause", "FOR UPDATE, FOR SHARE and the like lock rows")                  \
  X(kModifyingCte, "modifying_cte", "a WITH clause writes, or SELECT INTO creates a table")      \
  X(kTablesample, "tablesample", "TABLESAMPLE draws anew each time")                             \
  X(kSystemColumn, "system_column", "system columns change without any trigger")                 \
  X(kNoTable, "no_table", "the statement reads no table")                                        \
  X(kUnknownTable, "unknown_table", "a table named here is not in the catalog snapshot")         \
  X(kSystemTable, "system_table", "system catalogs have no triggers")                            \
  X(kView, "view", "a view whose definition is not understood")                                  \
  X(kRelationKind, "relation_kind", "foreign table, materialized view, sequence or the like")    \
  X(kUnlogged, "unlogged", "unlogged and temporary tables are not cached")                       \
  X(kNotWatched, "not_watched", "a table has no pgfresh triggers on every member of its tree")   \
  X(kRowSecurity, "row_security", "a table has row-level security")                              \
  X(kTableFunction, "table_function", "a function in FROM that is not known to be safe")         \
  X(kVolatileFunction, "volatile_function", "a volatile function")                               \
  X(kTimeFunction, "time_function", "the result depends on the time of day")                     \
  X(kSessionFunction, "session_function", "the result depends on identity or session")           \
  X(kUnsafeFunction, "unsafe_function", "a function not known to depend on its arguments alone") \
  X(kUnknownFunction, "unknown_function", "a function that is not in the catalog snapshot")      \
  X(kUnsafeOperator, "unsafe_operator", "an operator not known to be safe for every type")       \
  X(kUnsafeType, "unsafe_type", "a type whose input or output is not known to be safe")          \
  X(kTimeLiteral, "time_literal", "'now', 'today' and the like are not constants")               \
  X(kSyntax, "syntax_not_reviewed", "a construct that has not been reviewed for caching")        \
  X(kOff, "off", "caching is switched off")                                                      \
  X(kNotInstalled, "not_installed", "the schema pgfresh is not installed in this database")      \
  X(kTooManyDatabases, "too_many_databases", "more databases than one process caches")           \
  X(kNoLease, "no_lease", "the invalidation feed is not healthy")                                \
  X(kNoCatalog, "no_catalog", "the catalog snapshot is not loaded")                              \
  X(kSessionUnknown, "session_unknown", "the session's settings are being read")                 \
  X(kSessionOpaque, "session_opaque", "temporary objects or settings that cannot be followed")   \
  X(kTransaction, "transaction", "the transaction's isolation or state does not allow it")       \
  X(kPipelined, "pipelined", "an earlier statement is not answered yet")                         \
  X(kWrote, "wrote", "the transaction has done more than read")                                  \
  X(kOpen, "write_pending", "a table is being written through this proxy")                       \
  X(kRowLimit, "row_limit", "Execute with a row limit")                                          \
  X(kStale, "statement_outdated", "it was prepared under other settings, or before DDL")         \
  X(kHint, "hint", "a comment or setting switched caching off")                                  \
  X(kTooLarge, "too_large", "larger than cache.entry_bytes, or than cache.bytes / 64")           \
  X(kNotQuiet, "not_quiet", "the answer came with a notice, an error or COPY data")              \
  X(kBusy, "busy", "the proxy had no room to hold the statement")

enum class Reason : uint8_t {
#define PGFRESH_REASON_ENUM(name, label, text) name,
  PGFRESH_REASONS(PGFRESH_REASON_ENUM)
#undef PGFRESH_REASON_ENUM
};

inline constexpr int kReasonCount = 0
#define PGFRESH_REASON_COUNT(name, label, text) +1
    PGFRESH_REASONS(PGFRESH_REASON_COUNT)
#undef PGFRESH_REASON_COUNT
    ;

[[nodiscard]] constexpr std::string_view reason_label(Reason reason) {
  switch (reason) {
#define PGFRESH_REASON_LABEL(name, label, text) \
  case Reason::name:                            \
    return label;
    PGFRESH_REASONS(PGFRESH_REASON_LABEL)
#undef PGFRESH_REASON_LABEL
  }
  return "none";
}

[[nodiscard]] constexpr std::string_view reason_text(Reason reason) {
  switch (reason) {
#define PGFRESH_REASON_TEXT(name, label, text) \
  case Reason::name:                           \
    return text;
    PGFRESH_REASONS(PGFRESH_REASON_TEXT)
#undef PGFRESH_REASON_TEXT
  }
  return "";
}

}  // namespace pgfresh
