// The canonical form of a text, hints, and the small questions asked of strings: is it a time word,
// is it the command tag of DDL.
//
// The canonical form is right because scanning it gives the tokens of the text again: a blank
// stands between any two tokens unless one of them is a symbol that is never part of a longer one,
// or they are the words and dots of a qualified name. Words are put in lower case only where they
// are pure ASCII: what the server's locale does to other letters is not known here.

#include "query/canonical.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "base/text.h"
#include "query/statement.h"

namespace pgfresh::query {
namespace {

// A hint's lifetime is at most a year; longer is a slip of the pen.
constexpr int64_t kHintTtlMsMax = int64_t{366} * 24 * 3600 * 1000;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool stands_alone(const Token& token) {
  if (token.kind != TokenKind::kSymbol || token.text.size() != 1) return false;
  return std::string_view("(),[];").find(token.text.front()) != std::string_view::npos;
}

bool is_name(const Token& token) {
  return token.kind == TokenKind::kWord || token.kind == TokenKind::kQuotedWord;
}

bool is_dot(const Token& token) { return token.kind == TokenKind::kSymbol && token.text == "."; }

bool is_word(const Token& token, std::string_view word) {
  return token.kind == TokenKind::kWord && token.text.size() == word.size() &&
         std::equal(word.begin(), word.end(), token.text.begin(),
                    [](char a, char b) { return a == lower(b); });
}

bool is_star(const Token& token) { return token.kind == TokenKind::kSymbol && token.text == "*"; }

bool blank_between(const Token& left, const Token& right) {
  if (stands_alone(left) || stands_alone(right)) return false;
  if (is_name(left) && is_dot(right)) return false;
  if (is_dot(left) && (is_name(right) || is_star(right))) return false;
  return true;
}

void append_token(std::string& out, const Token& token) {
  if (token.kind != TokenKind::kWord || !is_ascii(token.text)) {
    out.append(token.text);
    return;
  }
  std::transform(token.text.begin(), token.text.end(), std::back_inserter(out), lower);
}

// IN ( and ARRAY [
bool opens_list(const Token* previous, const Token& token) {
  if (previous == nullptr) return false;
  return (token.text == "(" && is_word(*previous, "in")) ||
         (token.text == "[" && is_word(*previous, "array"));
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::optional<int64_t> milliseconds(std::string_view value) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (error != std::errc() || count < 0) return std::nullopt;
  const std::string_view unit = value.substr(static_cast<size_t>(end - value.data()));
  int64_t scale = 0;
  if (unit == "ms") scale = 1;
  if (unit == "s") scale = 1'000;
  if (unit == "min") scale = 60'000;
  if (unit == "h") scale = 3'600'000;
  if (scale == 0 || count > kHintTtlMsMax / scale) return std::nullopt;
  return count * scale;
}

void take_option(std::string_view option, Hints& hints) {
  constexpr std::string_view kTtl = "ttl=";
  if (option == "off") hints.off = true;
  if (!option.starts_with(kTtl)) return;
  const std::optional<int64_t> ttl = milliseconds(option.substr(kTtl.size()));
  if (ttl) hints.ttl_ms = ttl;
  if (!ttl) hints.off = true;  // a bound was asked for, and which one is not known
}

void take_comment(std::string_view comment, Hints& hints) {
  constexpr std::string_view kMark = "pgfresh:";
  if (!comment.starts_with("/*") || comment.size() < 4) return;
  std::string_view rest = trim(comment.substr(2, comment.size() - 4));
  if (!rest.starts_with(kMark)) return;
  rest.remove_prefix(kMark.size());
  constexpr std::string_view kSeparators = " ,\t\r\n";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of(kSeparators), rest.size());
    take_option(rest.substr(0, end), hints);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

// One pass over the runs of letters. With `skip_escapes`, backslashes and double quotes are passed
// over as if they were not there, as the input of arrays, ranges and rows does.
enum class Escapes : uint8_t { kKeep, kSkip };

bool has_time_word(std::string_view value, Escapes escapes) {
  constexpr size_t kLongest = 9;  // yesterday
  char word[kLongest];
  size_t length = 0;
  const auto matches = [&] {
    const std::string_view found(word, length);
    return length <= kLongest &&
           (found == "now" || found == "today" || found == "tomorrow" || found == "yesterday");
  };
  for (const char c : value) {
    if (escapes == Escapes::kSkip && (c == '\\' || c == '"')) continue;
    if (is_letter(c)) {
      if (length < kLongest) word[length] = lower(c);
      length = std::min(length + 1, kLongest + 1);
      continue;
    }
    if (length <= kLongest && matches()) return true;
    length = 0;
  }
  return length <= kLongest && matches();
}

}  // namespace

std::string canonical_form(const std::vector<Token>& tokens, std::vector<uint32_t>* places) {
  size_t end = tokens.size();
  while (end > 0 && (tokens[end - 1].kind == TokenKind::kComment || tokens[end - 1].text == ";")) {
    --end;
  }
  if (places != nullptr) places->assign(tokens.size(), 0);
  std::string out;
  const Token* previous = nullptr;
  for (size_t i = 0; i < end; ++i) {
    const Token& token = tokens[i];
    if (token.kind == TokenKind::kComment) continue;
    if (previous != nullptr && blank_between(*previous, token)) out.push_back(' ');
    if (places != nullptr) (*places)[i] = static_cast<uint32_t>(out.size());
    append_token(out, token);
    previous = &token;
  }
  return out;
}

std::string grouped_form(const std::vector<Token>& tokens) {
  std::string out;
  const Token* previous = nullptr;
  bool in_list =
      false;  // at a place where the list's next constant would stand, or right behind it
  bool one_out = false;  // its first constant has been written
  bool comma = false;    // so has what follows but this comma
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kComment || token.text == ";") continue;
    const bool constant = token.kind == TokenKind::kString || token.kind == TokenKind::kNumber;
    if (in_list && one_out && (comma ? constant : token.text == ",")) {
      comma = !comma;
    } else {
      if (std::exchange(comma, false)) out.push_back(',');
      if (previous != nullptr && blank_between(*previous, token)) out.push_back(' ');
      constant ? out.push_back('?') : append_token(out, token);
      in_list = constant ? in_list : opens_list(previous, token);
      one_out = constant && in_list;
    }
    previous = &token;
  }
  return out;
}

// Why this is right. Let the text end in /* c */, c without */ and line ends, its /* the last one.
// What state is the scanner in there? Outside of everything: then it is a comment, and ends at the
// text's end. In a comment of two dashes: so is the rest of the text, having no line end. In a
// comment of the other kind: that one is not ended, neither with the rest nor without. In a string
// or a quoted name: what is left over without the rest does not end, and does not parse.
std::string_view without_last_comment(std::string_view text) {
  static constexpr std::string_view kSpace = " \t\r\n\f\v";
  const auto trim_end = [](std::string_view part) {
    return part.substr(0, part.find_last_not_of(kSpace) + 1);
  };
  std::string_view rest = trim_end(text);
  if (rest.ends_with(';')) rest = trim_end(rest.substr(0, rest.size() - 1));
  if (!rest.ends_with("*/")) return text;
  const size_t begin = rest.rfind("/*");
  if (begin == std::string_view::npos || begin + 4 > rest.size()) return text;
  const std::string_view comment = rest.substr(begin + 2, rest.size() - begin - 4);
  if (comment.starts_with('+') || comment.find_first_of("\r\n") != std::string_view::npos ||
      comment.find("*/") != std::string_view::npos || contains_word(comment, "pgfresh")) {
    return text;
  }
  return trim_end(rest.substr(0, begin));
}

Hints hints_of(const std::vector<Token>& tokens) {
  Hints hints;
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kComment) take_comment(token.text, hints);
  }
  return hints;
}

std::optional<std::string> canonicalize(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::optional<std::vector<Token>> tokens = scan(text);
  if (!tokens) return std::nullopt;
  return canonical_form(*tokens);
}

bool is_time_word(std::string_view value) {
  // Most values are numbers, and asked about at each execution.
  if (std::none_of(value.begin(), value.end(), is_letter)) return false;
  if (has_time_word(value, Escapes::kKeep)) return true;
  if (value.find_first_of("\\\"") == std::string_view::npos) return false;
  return has_time_word(value, Escapes::kSkip);
}

bool contains_word(std::string_view text, std::string_view word) {
  const auto same = [](char a, char b) { return lower(a) == b; };
  return std::search(text.begin(), text.end(), word.begin(), word.end(), same) != text.end();
}

bool is_ddl_tag(std::string_view command_tag) {
  // Asked at each CommandComplete: most begin with another letter than any of these.
  if (command_tag.empty() ||
      std::string_view("CADGRSI").find(command_tag.front()) == std::string_view::npos) {
    return false;
  }
  if (command_tag.starts_with("SELECT ") || command_tag.starts_with("INSERT ")) return false;
  for (const std::string_view word :
       {"CREATE ", "ALTER ", "DROP ", "GRANT", "REVOKE", "COMMENT", "SECURITY LABEL",
        "REFRESH MATERIALIZED VIEW", "REASSIGN OWNED", "IMPORT FOREIGN SCHEMA"}) {
    if (command_tag.starts_with(word)) return true;
  }
  return false;
}

}  // namespace pgfresh::query
