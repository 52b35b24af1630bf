// PostgreSQL's scanner, as libpg_query offers it: the tokens of a text with their places. One scan
// serves the canonical form and the hints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace pgfresh::query {

enum class TokenKind : uint8_t { kWord, kQuotedWord, kString, kNumber, kSymbol, kComment };

struct Token {
  TokenKind kind = TokenKind::kSymbol;
  std::string_view text;  // within the scanned text
};

// PostgreSQL's scanner reads a run of operator characters to its end for every token it takes off
// its front: 16 KB of "+-+-" or "/*/*" keep it busy for seconds. False when `text` has such a run.
[[nodiscard]] bool cheap_to_scan(std::string_view text);

// The tokens of `text` in order, comments included. nullopt: the scanner refused the text, or told
// places that cannot be right: libpg_query 15-4.0.0 gives wrong bounds for U&'…' and U&"…",
// splits N'…' in two, and splits a string that goes on in the next line behind a comment. What lies
// between the tokens returned is white space and nothing else. Nor is a text scanned that is not
// cheap to. REQUIRES: no NUL in `text`.
[[nodiscard]] std::optional<std::vector<Token>> scan(std::string_view text);

}  // namespace pgfresh::query
