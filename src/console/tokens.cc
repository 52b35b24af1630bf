// The scanner. Lengths are bounded by the caller, so nothing here recurses or grows on its own.
#include "console/tokens.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace pgfresh::console {
namespace {

bool begins_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool goes_on(char c) { return begins_word(c) || is_digit(c) || c == '$'; }

class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  tl::expected<std::vector<Tokens>, std::string> read() {
    for (;;) {
      if (!skip_blank()) return tl::unexpected(std::move(error_));
      if (rest_.empty()) break;
      if (rest_.front() == ';') {
        rest_.remove_prefix(1);
        end_statement();
        continue;
      }
      auto token = next();
      if (!token) return tl::unexpected(std::move(error_));
      current_.push_back(std::move(*token));
    }
    end_statement();
    return std::move(statements_);
  }

 private:
  void end_statement() {
    if (!current_.empty()) statements_.push_back(std::exchange(current_, {}));
  }

  // White space and comments. False: a comment without an end.
  bool skip_blank() {
    for (;;) {
      while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
      if (rest_.starts_with("--")) {
        const size_t end = rest_.find('\n');
        rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end);
      } else if (rest_.starts_with("/*")) {
        if (!skip_comment()) return false;
      } else {
        return true;
      }
    }
  }

  // Nested, as in SQL.
  bool skip_comment() {
    int depth = 0;
    while (!rest_.empty()) {
      if (rest_.starts_with("/*")) {
        ++depth;
        rest_.remove_prefix(2);
      } else if (rest_.starts_with("*/")) {
        --depth;
        rest_.remove_prefix(2);
        if (depth == 0) return true;
      } else {
        rest_.remove_prefix(1);
      }
    }
    error_ = "unterminated /* comment";
    return false;
  }

  std::optional<Token> next() {
    const char c = rest_.front();
    if (c == '"') return quoted(TokenKind::kQuoted, "unterminated quoted identifier");
    if (c == '\'') return quoted(TokenKind::kString, "unterminated quoted string");
    if (is_digit(c)) {
      bool point = false;
      return taken(TokenKind::kNumber, [&point](char d) {
        return is_digit(d) || (d == '.' && !std::exchange(point, true));
      });
    }
    if (begins_word(c)) {
      Token token = taken(TokenKind::kWord, goes_on);
      for (char& letter : token.text) letter = lower(letter);
      return token;
    }
    rest_.remove_prefix(1);
    return Token{TokenKind::kSymbol, std::string(1, c)};
  }

  template <typename Belongs>
  Token taken(TokenKind kind, Belongs belongs) {
    size_t length = 1;
    while (length < rest_.size() && belongs(rest_[length])) ++length;
    Token token{kind, std::string(rest_.substr(0, length))};
    rest_.remove_prefix(length);
    return token;
  }

  // A doubled quote stands for itself.
  std::optional<Token> quoted(TokenKind kind, const char* error) {
    const char quote = rest_.front();
    Token token{kind, {}};
    for (size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        if (i + 1 >= rest_.size() || rest_[i + 1] != quote) {
          rest_.remove_prefix(i + 1);
          return token;
        }
        ++i;
      }
      token.text.push_back(rest_[i]);
    }
    error_ = error;
    return std::nullopt;
  }

  std::string_view rest_;
  Tokens current_;
  std::vector<Tokens> statements_;
  std::string error_;
};

}  // namespace

tl::expected<std::vector<Tokens>, std::string> read_statements(std::string_view text) {
  PGFRESH_CHECK(text.size() <= kTextBytesMax);
  return Scanner(text).read();
}

}  // namespace pgfresh::console
