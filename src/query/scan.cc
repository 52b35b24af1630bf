// See scan.h.

#include "query/scan.h"

#include <memory>
#include <string>

#include <pg_query/pg_query.pb-c.h>
#include "base/text.h"
#include "pg_query.h"

namespace pgfresh::query {
namespace {

// 16 KB of text with runs of this length cost at most 16 K × 256 steps, and rulers in comments
// still pass.
constexpr size_t kOperatorRunMax = 256;

bool all_space(std::string_view text) {
  for (const char c : text) {
    if (!is_space(c)) return false;
  }
  return true;
}

// nullopt: a kind whose bounds are not to be trusted, or one this list does not know.
std::optional<TokenKind> kind_of(const PgQuery__ScanToken& token, std::string_view text) {
  switch (token.token) {
    case PG_QUERY__TOKEN__IDENT:
      return text.front() == '"' ? TokenKind::kQuotedWord : TokenKind::kWord;
    case PG_QUERY__TOKEN__SCONST:
    case PG_QUERY__TOKEN__BCONST:
    case PG_QUERY__TOKEN__XCONST:
      return TokenKind::kString;
    case PG_QUERY__TOKEN__ICONST:
    case PG_QUERY__TOKEN__FCONST:
    case PG_QUERY__TOKEN__PARAM:
      return TokenKind::kNumber;
    case PG_QUERY__TOKEN__SQL_COMMENT:
    case PG_QUERY__TOKEN__C_COMMENT:
      return TokenKind::kComment;
    case PG_QUERY__TOKEN__NCHAR:
      // N'…' comes as the keyword NCHAR and a string; with a blank between them it would be a
      // string of type n.
      if (text.size() == 1) return std::nullopt;
      break;
    case PG_QUERY__TOKEN__UIDENT:
    case PG_QUERY__TOKEN__USCONST:
      return std::nullopt;
    default:
      break;
  }
  if (token.keyword_kind != PG_QUERY__KEYWORD_KIND__NO_KEYWORD) return TokenKind::kWord;
  return TokenKind::kSymbol;
}

bool take_tokens(const PgQuery__ScanResult& result, std::string_view text,
                 std::vector<Token>& tokens) {
  size_t place = 0;
  tokens.reserve(result.n_tokens);
  for (size_t i = 0; i < result.n_tokens; ++i) {
    const PgQuery__ScanToken& token = *result.tokens[i];
    if (token.start < 0 || token.end <= token.start) return false;
    const auto start = static_cast<size_t>(token.start);
    const auto end = static_cast<size_t>(token.end);
    if (start < place || end > text.size()) return false;
    if (!all_space(text.substr(place, start - place))) return false;
    const std::string_view words = text.substr(start, end - start);
    const std::optional<TokenKind> kind = kind_of(token, words);
    if (!kind) return false;
    tokens.push_back({*kind, words});
    place = end;
  }
  return all_space(text.substr(place));
}

// A string directly behind a string: one constant for PostgreSQL if a comment and a line end lie
// between, an error otherwise.
bool strings_adjoin(const std::vector<Token>& tokens) {
  bool after_string = false;
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kComment) continue;
    const bool is_string = token.kind == TokenKind::kString;
    if (is_string && after_string) return true;
    after_string = is_string;
  }
  return false;
}

}  // namespace

bool cheap_to_scan(std::string_view text) {
  constexpr std::string_view kOperatorCharacters = "~!@#^&|`?+-*/%<>=";
  size_t run = 0;
  for (const char c : text) {
    run = kOperatorCharacters.find(c) == std::string_view::npos ? 0 : run + 1;
    if (run > kOperatorRunMax) return false;
  }
  return true;
}

std::optional<std::vector<Token>> scan(std::string_view text) {
  if (!cheap_to_scan(text)) return std::nullopt;
  const std::string terminated(text);
  const PgQueryScanResult scanned = pg_query_scan(terminated.c_str());
  std::optional<std::vector<Token>> tokens;
  if (scanned.error == nullptr) {
    PgQuery__ScanResult* result = pg_query__scan_result__unpack(
        nullptr, scanned.pbuf.len, reinterpret_cast<const uint8_t*>(scanned.pbuf.data));
    if (result != nullptr) {
      tokens.emplace();
      if (!take_tokens(*result, text, *tokens) || strings_adjoin(*tokens)) tokens.reset();
      pg_query__scan_result__free_unpacked(result, nullptr);
    }
  }
  pg_query_free_scan_result(scanned);
  return tokens;
}

}  // namespace pgfresh::query
