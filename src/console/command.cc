// Matches tokens against the patterns of the command table, one after the other: they are few, and
// nobody's response time hangs on the console. Where one pattern is the beginning of another, the
// end of the text decides, so their order does not matter.
#include "console/command.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <vector>

#include "base/text.h"

namespace pgfresh::console {
namespace {

struct Definition {
  Verb verb;
  Effect effect;
  std::string_view pattern;
  std::string_view help;
};

constexpr std::array kDefinitions{
#define PGFRESH_CONSOLE_DEFINITION(name, effect, pattern, help) \
  Definition{Verb::name, Effect::effect, pattern, help},
    PGFRESH_CONSOLE_COMMANDS(PGFRESH_CONSOLE_DEFINITION)
#undef PGFRESH_CONSOLE_DEFINITION
};

const Definition& definition(Verb verb) { return kDefinitions[static_cast<size_t>(verb)]; }

std::string_view take_part(std::string_view& pattern) {
  const size_t end = pattern.find(' ');
  const std::string_view part = pattern.substr(0, end);
  pattern.remove_prefix(end == std::string_view::npos ? pattern.size() : end + 1);
  return part;
}

bool same_word(std::string_view pattern_word, const Token& token) {
  if (token.kind != TokenKind::kWord || token.text.size() != pattern_word.size()) return false;
  for (size_t i = 0; i < pattern_word.size(); ++i) {
    const char c = pattern_word[i];
    if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != token.text[i]) return false;
  }
  return true;
}

bool take_id(TokenSpan& tokens, uint64_t& id) {
  if (tokens.empty() || tokens.front().kind != TokenKind::kNumber) return false;
  const std::string& text = tokens.front().text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  tokens = tokens.subspan(1);
  return error == std::errc() && end == text.data() + text.size();
}

bool take_name(TokenSpan& tokens, std::string& name) {
  if (tokens.empty() || !tokens.front().is_name()) return false;
  name = tokens.front().text;
  tokens = tokens.subspan(1);
  return true;
}

bool take_table(TokenSpan& tokens, TableName& table) {
  std::vector<std::string> parts;
  for (;;) {
    if (tokens.empty() || !tokens.front().is_name() || parts.size() == 3) return false;
    parts.push_back(tokens.front().text);
    tokens = tokens.subspan(1);
    if (tokens.empty() || !tokens.front().is_symbol('.')) break;
    tokens = tokens.subspan(1);
  }
  table.name = parts.back();
  if (parts.size() > 1) table.schema = parts[parts.size() - 2];
  if (parts.size() > 2) table.database = parts[0];
  return true;
}

// One part of a pattern against the front of the tokens.
bool take(std::string_view part, TokenSpan& tokens, Command& command) {
  if (part.starts_with('[')) {
    const std::string_view inner = part.substr(1, part.size() - 2);
    return tokens.empty() || take(inner, tokens, command);
  }
  if (part == "<id>") return take_id(tokens, command.id);
  if (part == "<table>") return take_table(tokens, command.table);
  if (part == "<name>") return take_name(tokens, command.database);
  if (tokens.empty()) return false;
  if (part == "<rest>") {
    tokens = {};
    return true;
  }
  if (!same_word(part, tokens.front())) return false;
  tokens = tokens.subspan(1);
  return true;
}

bool is_word_character(char c) {
  const char folded = lower(c);
  return (folded >= 'a' && folded <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// The functions that follow read a text from its front.

enum class Comments : uint8_t { kSkip, kKeep };

void skip_blank(std::string_view& text, Comments comments) {
  for (;;) {
    const size_t start = text.find_first_not_of(" \t\r\n\f\v");
    text.remove_prefix(std::min(start, text.size()));
    if (comments == Comments::kKeep) return;
    if (text.starts_with("--")) {
      text.remove_prefix(std::min(text.find('\n'), text.size()));
    } else if (text.starts_with("/*") && text.find("*/", 2) != std::string_view::npos) {
      text.remove_prefix(text.find("*/", 2) + 2);
    } else {
      return;
    }
  }
}

std::string_view front_word(std::string_view text) {
  size_t length = 0;
  while (length < text.size() && is_word_character(text[length])) ++length;
  return text.substr(0, length);
}

bool take_word(std::string_view& text, std::string_view wanted) {
  const std::string_view word = front_word(text);
  if (!std::equal(word.begin(), word.end(), wanted.begin(), wanted.end(),
                  [](char a, char b) { return lower(a) == b; })) {
    return false;
  }
  text.remove_prefix(word.size());
  return true;
}

// A word, folded, or a name in double quotes.
bool take_written_name(std::string_view& text, std::string& name) {
  name.clear();
  if (!text.starts_with('"')) {
    const std::string_view word = front_word(text);
    std::transform(word.begin(), word.end(), std::back_inserter(name), lower);
    text.remove_prefix(word.size());
    return !word.empty();
  }
  for (size_t at = 1; at < text.size(); ++at) {
    if (text[at] != '"') {
      name += text[at];
    } else if (text.substr(at).starts_with("\"\"")) {
      name += text[at++];
    } else {
      text.remove_prefix(at + 1);
      return true;
    }
  }
  return false;
}

std::string quoted_name(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) text.append(c == '"' ? 2 : 1, c);
  return text + "\"";
}

// A name as it would have to be written; plain where it can be.
std::string written(std::string_view name) {
  bool plain = !name.empty() && !(name.front() >= '0' && name.front() <= '9');
  for (const char c : name) {
    plain = plain && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
  }
  return plain ? std::string(name) : quoted_name(name);
}

std::string written(const TableName& table) {
  std::string text;
  if (!table.database.empty()) text += written(table.database) + ".";
  if (!table.schema.empty()) text += written(table.schema) + ".";
  return text + written(table.name);
}

// A client's word inside our message: short, and ASCII, so that it is valid in any encoding.
std::string quoted_back(std::string_view text) {
  constexpr size_t kShown = 40;
  std::string shown(text.substr(0, kShown));
  for (char& c : shown) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() > kShown ? shown + "..." : shown;
}

}  // namespace

Effect effect_of(Verb verb) { return definition(verb).effect; }
std::string_view pattern_of(Verb verb) { return definition(verb).pattern; }

std::optional<Command> parse_command(TokenSpan tokens) {
  for (const Definition& candidate : kDefinitions) {
    if (candidate.verb == Verb::kExplainCache) continue;
    Command command;
    command.verb = candidate.verb;
    TokenSpan rest = tokens;
    std::string_view pattern = candidate.pattern;
    bool matches = true;
    while (matches && !pattern.empty()) matches = take(take_part(pattern), rest, command);
    if (matches && rest.empty()) return command;
  }
  return std::nullopt;
}

std::optional<Command> parse_explain(std::string_view text) {
  skip_blank(text, Comments::kSkip);
  if (!take_word(text, "explain")) return std::nullopt;
  skip_blank(text, Comments::kSkip);
  if (!take_word(text, "cache")) return std::nullopt;
  Command command;
  command.verb = Verb::kExplainCache;
  // A comment from here on may be a hint for the statement.
  skip_blank(text, Comments::kKeep);
  std::string_view rest = text;
  if (take_word(rest, "for")) {
    skip_blank(rest, Comments::kKeep);
    if (take_written_name(rest, command.database)) {
      if (rest.starts_with('.')) {
        rest.remove_prefix(1);
        if (!take_written_name(rest, command.user)) return command;
      }
      skip_blank(rest, Comments::kKeep);
      text = rest;
    }
  }
  const size_t end = text.find_last_not_of(" \t\r\n\f\v");
  command.sql = text.substr(0, end == std::string_view::npos ? 0 : end + 1);
  return command;
}

std::string to_text(const Command& command) {
  std::string text;
  std::string_view pattern = pattern_of(command.verb);
  while (!pattern.empty()) {
    const std::string_view part = take_part(pattern);
    if (!text.empty()) text += ' ';
    if (part == "<id>") {
      text += std::to_string(command.id);
    } else if (part == "<table>") {
      text += written(command.table);
    } else if (part.starts_with('[')) {
      text += part.substr(1, part.size() - 2);
    } else {
      text += part;
    }
  }
  return text;
}

Advice advise(TokenSpan tokens) {
  Advice advice;
  advice.hint = "The database \"pgfresh\" is pgfresh's console; SHOW HELP lists its commands.";
  if (tokens.empty()) return {"syntax error at end of input", advice.hint};
  std::string usages;
  for (const Definition& candidate : kDefinitions) {
    std::string_view pattern = candidate.pattern;
    if (candidate.effect == Effect::kNotYet || !same_word(take_part(pattern), tokens.front())) {
      continue;
    }
    usages += (usages.empty() ? "" : ", ") + std::string(candidate.pattern);
  }
  if (usages.empty()) {
    advice.message =
        "\"" + quoted_back(tokens.front().text) + "\" is not a command of the pgfresh console";
  } else {
    advice.message = "syntax error in " + tokens.front().text + " command";
    advice.hint = "Known are: " + usages + ". SHOW HELP says what they do.";
  }
  return advice;
}

Columns help_columns() { return {{"command", Type::kText}, {"help", Type::kText}}; }

Table help_table() {
  Table table(help_columns(), "SHOW");
  for (const Definition& command : kDefinitions) {
    if (command.effect == Effect::kNotYet) continue;
    table.add({std::string(command.pattern), std::string(command.help)});
  }
  return table;
}

}  // namespace pgfresh::console
