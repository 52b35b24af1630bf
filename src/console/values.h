// How counters and times become values of a console table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "console/table.h"

namespace pgfresh::console {

// Counters are unsigned, PostgreSQL's int8 is not: what does not fit stays at its largest.
[[nodiscard]] Value number(uint64_t value);
[[nodiscard]] Value number_or_null(uint64_t value);  // NULL for 0
// As PgBouncer writes it: "2026-01-02 03:04:05 UTC". NULL for 0, "never".
[[nodiscard]] Value time_text(int64_t unix_s);
// NULL for an empty text.
[[nodiscard]] Value text_or_null(std::string_view text);
// A text that came from a client or a server, fit for any client: one line of UTF-8, without
// control characters.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace pgfresh::console
