// The reviewed lists: what is known of PostgreSQL's own functions, operators and types, and of the
// usual extensions, beyond what the catalog says of them. A name that is on no list gets the worst
// its declaration allows, so forgetting one costs a hit and never an answer.
#pragma once

#include <cstdint>
#include <string_view>

#include "query/catalog.h"

namespace pgfresh::query {

// Who declared a function, operator or type: PostgreSQL itself (oid < 16384), an extension (a
// member of it by pg_depend), or somebody with CREATE.
enum class Origin : uint8_t { kBuiltin, kExtension, kUser };

// pg_proc.provolatile; for aggregates the worst of their support functions.
enum class Volatility : uint8_t { kImmutable, kStable, kVolatile };

[[nodiscard]] Safety classify_function(Origin origin, Volatility volatility, std::string_view name);

// `volatility`, `origin`: of the function beneath the operator.
[[nodiscard]] Safety classify_operator(Origin origin, Volatility volatility, std::string_view name);

// Base types of pg_catalog whose text and binary forms depend on the value and on keyed settings
// alone.
[[nodiscard]] bool safe_builtin_type(std::string_view name);

// Of those, the ones whose input understands 'now', 'today', 'tomorrow', 'yesterday'.
[[nodiscard]] bool date_time_builtin_type(std::string_view name);

// Of those, the ones whose conversions may take the offset of today's date.
[[nodiscard]] bool time_of_day_builtin_type(std::string_view name);

// Of an extension's function: does it read spatial_ref_sys, whatever it is called on?
[[nodiscard]] bool always_projects(std::string_view name);

// ctid, xmin … : change without any trigger.
[[nodiscard]] bool system_column(std::string_view name);

// Functions that read the clock only when called with this many arguments: age(x).
[[nodiscard]] bool reads_clock(std::string_view name, size_t argument_count);

}  // namespace pgfresh::query
