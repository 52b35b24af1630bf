// Words of the console's language, cut as PostgreSQL's scanner cuts SQL: comments, quoted names,
// strings, statements ended by ';'. Only what the console and drivers' courtesies need: escape
// strings, dollar quotes and bit strings are not read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

namespace pgfresh::console {

enum class TokenKind : uint8_t {
  kWord,    // folded to lower case
  kQuoted,  // a "quoted" name, without its quotes
  kString,  // a 'string', without its quotes
  kNumber,  // digits, with or without a decimal point
  kSymbol,  // any other character, alone
};

struct Token {
  TokenKind kind = TokenKind::kSymbol;
  std::string text;

  [[nodiscard]] bool is_word(std::string_view word) const {
    return kind == TokenKind::kWord && text == word;
  }
  [[nodiscard]] bool is_symbol(char symbol) const {
    return kind == TokenKind::kSymbol && text.size() == 1 && text[0] == symbol;
  }
  // A name as SQL takes it: a word, or anything in double quotes.
  [[nodiscard]] bool is_name() const {
    return kind == TokenKind::kWord || kind == TokenKind::kQuoted;
  }
};

using Tokens = std::vector<Token>;
using TokenSpan = std::span<const Token>;

// The longest text the console reads. A token costs about 40 bytes and at least one of these, so
// reading one takes 320 KB at the very worst, for as long as it is looked at.
inline constexpr size_t kTextBytesMax = 8 * 1024;

// One list of tokens per statement; empty statements are left out. The error is a text for people:
// an unterminated quote or comment. REQUIRES: text.size() <= kTextBytesMax.
[[nodiscard]] tl::expected<std::vector<Tokens>, std::string> read_statements(std::string_view text);

}  // namespace pgfresh::console
