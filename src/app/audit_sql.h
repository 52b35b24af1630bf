// The statement with which DOCTOR and EXPLAIN CACHE look at one database: every tree of tables and
// its triggers, and whatever else decides whether writes are seen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgfresh/sql_client.h"

namespace pgfresh::app {

// The version of sql/install.sql this pgfresh is made for.
inline constexpr std::string_view kInstallVersion = "1.0";

// One text, read-only, with a time-out of its own; works for any role, on PostgreSQL 14 and newer,
// with or without the schema pgfresh.
[[nodiscard]] std::string_view audit_sql();

// A line of its result. Names in `subject` are quoted as SQL needs them, in `raw` they are not.
struct AuditLine {
  // "covered", "trigger", "function", "columns" of watched trees; "unwatched", or "extension"
  // where the table belongs to one; "kind", "rls",
  // "subscription"; "version", "event_trigger", "queue", "prepared", "prepares", "recovery",
  // "server", "clock", "role".
  std::string kind;
  std::string severity;  // as console::severity_text gives it
  std::string schema;
  std::string subject;
  std::string raw;  // schema.table
  std::string finding;
  std::string remedy;
  uint32_t root = 0;  // of the tree the line is about, 0: of the database
};

// nullopt: not what audit_sql() gives.
[[nodiscard]] std::optional<std::vector<AuditLine>> read_audit(const SqlRows& rows);

// What sessions of `user` in the database begin with, if the client asks for nothing: rows of a
// name and a value, for the settings `names` (as current_setting takes them) and for "@user",
// "@schemas" (the effective search_path, separated by 0x1f). An empty `user` is the asking one. No
// row "@user": there is no such role.
[[nodiscard]] std::string defaults_sql(std::string_view user,
                                       const std::vector<std::string_view>& names);

// For tests: a string constant.
[[nodiscard]] std::string sql_literal(std::string_view text);

}  // namespace pgfresh::app
