// Durations and sizes as people write them: "300ms", "15min", "64KB". Whole numbers only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pgfresh::app {

// Milliseconds from a number and ms, s, min or h; a bare 0 too. nullopt: not of that form, or more
// than fits.
[[nodiscard]] std::optional<int64_t> parse_duration_ms(std::string_view text);
// Bytes from a number and B, KB, MB, GB or TB (powers of 1024, any case); a bare 0 too.
[[nodiscard]] std::optional<int64_t> parse_bytes(std::string_view text);
[[nodiscard]] std::optional<int64_t> parse_number(std::string_view text);

// The shortest form that parses back to the same value.
[[nodiscard]] std::string duration_text(int64_t ms);
[[nodiscard]] std::string bytes_text(int64_t bytes);

}  // namespace pgfresh::app
