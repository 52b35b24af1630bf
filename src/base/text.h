// ASCII text, whatever the locale says.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>

namespace pgfresh {

// isspace() in the C locale; what PostgreSQL's scanner skips is the same.
[[nodiscard]] constexpr bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

[[nodiscard]] constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

[[nodiscard]] constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

[[nodiscard]] constexpr std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// The whole of `text` as a decimal number from `low` to `high`; false, and `number` means nothing,
// when it is none.
template <typename Number>
[[nodiscard]] bool read_number(std::string_view text, Number low, Number high, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= low &&
         number <= high;
}

}  // namespace pgfresh
