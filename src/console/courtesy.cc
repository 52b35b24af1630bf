// The desk's grammar is small enough to be read by hand: a word decides who answers, and what does
// not fit is left to the caller, who says where help is.
#include "console/courtesy.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace pgfresh::console {
namespace {

// A parameter's value is kept per session: 24 parameters of 1 KB each.
constexpr size_t kValueBytesMax = 1024;
constexpr size_t kItemsMax = 64;

struct Known {
  std::string_view name;
  std::string_view value;
};

// The parameters a client may read; those of kFixed may not be set.
constexpr std::array kSettable{
    Known{"application_name", ""},
    Known{"bytea_output", "hex"},
    Known{"client_encoding", "UTF8"},
    Known{"client_min_messages", "notice"},
    Known{"datestyle", "ISO, MDY"},
    Known{"default_transaction_deferrable", "off"},
    Known{"default_transaction_isolation", "read committed"},
    Known{"default_transaction_read_only", "off"},
    Known{"extra_float_digits", "1"},
    Known{"idle_in_transaction_session_timeout", "0"},
    Known{"idle_session_timeout", "0"},
    Known{"intervalstyle", "postgres"},
    Known{"jit", "off"},
    Known{"lock_timeout", "0"},
    Known{"row_security", "on"},
    Known{"search_path", "\"$user\", public"},
    Known{"standard_conforming_strings", "on"},
    Known{"statement_timeout", "0"},
    Known{"synchronous_commit", "on"},
    Known{"timezone", "UTC"},
    Known{"transaction_isolation", "read committed"},
    Known{"transaction_read_only", "off"},
};
constexpr std::array kFixed{
    Known{"in_hot_standby", "off"},        Known{"integer_datetimes", "on"},
    Known{"is_superuser", "off"},          Known{"lc_collate", "C"},
    Known{"max_identifier_length", "63"},  Known{"server_encoding", "UTF8"},
    Known{"server_version_num", "150000"},
};

// The spelling ParameterStatus has, in PostgreSQL's order.
constexpr std::array<std::string_view, 13> kReported{
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
};

std::string lowered(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool is_fixed(std::string_view name) {
  return name == "server_version" || name == "session_authorization" ||
         std::any_of(kFixed.begin(), kFixed.end(),
                     [name](const Known& known) { return known.name == name; });
}

std::string_view spelling(std::string_view name) {
  for (const std::string_view reported : kReported) {
    if (lowered(reported) == name) return reported;
  }
  return name;
}

bool starts(TokenSpan tokens, std::initializer_list<std::string_view> words) {
  if (tokens.size() < words.size()) return false;
  size_t i = 0;
  return std::all_of(words.begin(), words.end(),
                     [&](std::string_view word) { return tokens[i++].is_word(word); });
}

bool one_of(const Token& token, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return token.is_word(word); });
}

// The value of a SET: its tokens with nothing between them, but ", " for a comma.
std::string joined(TokenSpan tokens) {
  std::string text;
  for (const Token& token : tokens) {
    text += token.text;
    if (token.is_symbol(',')) text += ' ';
  }
  return text;
}

bool is_utf8(std::string_view value) {
  std::string plain;
  for (const char c : lowered(value)) {
    if (c != '-' && c != '_') plain.push_back(c);
  }
  return plain == "utf8" || plain == "unicode" || plain == "sqlascii" || plain == "default";
}

// Names for the parameters that SQL spells with several words.
std::optional<std::string> spelled_out(TokenSpan tokens) {
  if (starts(tokens, {"time", "zone"})) return "timezone";
  if (starts(tokens, {"names"})) return "client_encoding";
  if (starts(tokens, {"transaction", "isolation", "level"})) return "transaction_isolation";
  if (starts(tokens, {"session", "authorization"})) return "session_authorization";
  return std::nullopt;
}

std::string tag_of_begin(const Token& token) {
  return token.is_word("start") ? "START TRANSACTION" : "BEGIN";
}

Failure aborted() {
  return {"25P02",
          "current transaction is aborted, commands ignored until end of transaction block", ""};
}

}  // namespace

CourtesyDesk::CourtesyDesk(SessionFacts facts) : facts_(std::move(facts)) {
  const auto keep = [this](std::string_view name, std::string value) {
    parameters_[std::string(name)] = {value, value};
  };
  for (const Known& known : kSettable) keep(known.name, std::string(known.value));
  for (const Known& known : kFixed) keep(known.name, std::string(known.value));
  keep("application_name", facts_.application_name.substr(0, kValueBytesMax));
  keep("server_version", "15.0 (pgfresh " + facts_.version + ")");
  keep("session_authorization", facts_.user);
}

std::optional<Courtesy> CourtesyDesk::answer(TokenSpan tokens) {
  if (tokens.empty()) return std::nullopt;
  if (block_ == 'E' && refuses(tokens)) return Courtesy{aborted(), {}};
  const Token& first = tokens.front();
  if (auto outcome = block_command(tokens)) return Courtesy{std::move(*outcome), {}};
  if (first.is_word("set")) {
    if (auto outcome = set(tokens.subspan(1))) return Courtesy{std::move(*outcome), {}};
  } else if (first.is_word("reset")) {
    if (auto outcome = reset(tokens.subspan(1))) return Courtesy{std::move(*outcome), {}};
  } else if (first.is_word("show")) {
    if (auto table = show(tokens.subspan(1))) return Courtesy{std::move(*table), {}};
  } else if (first.is_word("select")) {
    if (auto table = select(tokens.subspan(1))) return Courtesy{std::move(*table), {}};
  } else if (first.is_word("discard") && tokens.size() == 2) {
    if (tokens[1].is_word("all")) {
      restore();
      return Courtesy{Done{"DISCARD ALL"}, {Forget::What::kAll, {}}};
    }
    if (one_of(tokens[1], {"plans", "sequences", "temp", "temporary"})) {
      return Courtesy{Done{"DISCARD"}, {}};
    }
  } else if (first.is_word("deallocate")) {
    TokenSpan rest = tokens.subspan(1);
    if (starts(rest, {"prepare"})) rest = rest.subspan(1);
    if (rest.size() != 1 || !rest[0].is_name()) return std::nullopt;
    if (rest[0].is_word("all")) {
      return Courtesy{Done{"DEALLOCATE ALL"}, {Forget::What::kAll, {}}};
    }
    return Courtesy{Done{"DEALLOCATE"}, {Forget::What::kOne, rest[0].text}};
  } else if (first.is_word("unlisten")) {
    return Courtesy{Done{"UNLISTEN"}, {}};
  } else if (starts(tokens, {"close", "all"}) && tokens.size() == 2) {
    return Courtesy{Done{"CLOSE CURSOR ALL"}, {}};
  }
  return std::nullopt;
}

std::optional<Columns> CourtesyDesk::describe(TokenSpan tokens) const {
  if (tokens.empty()) return std::nullopt;
  std::optional<Table> table;
  if (tokens.front().is_word("show")) {
    table = show(tokens.subspan(1));
  } else if (tokens.front().is_word("select")) {
    table = select(tokens.subspan(1));
  } else {
    // Without rows; a copy tells whether it is known, and its changes go with it.
    CourtesyDesk scratch(*this);
    scratch.block_ = 'I';
    return scratch.answer(tokens) ? std::optional<Columns>(Columns{}) : std::nullopt;
  }
  return table ? std::optional<Columns>(table->columns()) : std::nullopt;
}

bool CourtesyDesk::refuses(TokenSpan tokens) const {
  if (block_ != 'E') return false;
  return tokens.empty() || !one_of(tokens.front(), {"commit", "end", "rollback", "abort"});
}

void CourtesyDesk::failed() {
  if (block_ == 'T') block_ = 'E';
}

std::optional<Outcome> CourtesyDesk::block_command(TokenSpan tokens) {
  const Token& first = tokens.front();
  if (first.is_word("begin") || starts(tokens, {"start", "transaction"})) {
    block_ = 'T';
    return Done{tag_of_begin(first)};
  }
  if (one_of(first, {"commit", "end"})) {
    const bool rolled_back = block_ == 'E';
    block_ = 'I';
    return Done{rolled_back ? "ROLLBACK" : "COMMIT"};
  }
  if (one_of(first, {"rollback", "abort"})) {
    const bool to_savepoint = std::any_of(tokens.begin(), tokens.end(),
                                          [](const Token& token) { return token.is_word("to"); });
    block_ = to_savepoint && block_ != 'I' ? 'T' : 'I';
    return Done{"ROLLBACK"};
  }
  if (tokens.size() >= 2 && one_of(first, {"savepoint", "release"})) {
    if (block_ != 'T') {
      return Failure{"25P01", "savepoints can only be used in transaction blocks", ""};
    }
    return Done{first.is_word("release") ? "RELEASE" : "SAVEPOINT"};
  }
  return std::nullopt;
}

std::optional<Outcome> CourtesyDesk::set(TokenSpan tokens) {
  if (starts(tokens, {"session", "characteristics"}) ||
      (starts(tokens, {"transaction"}) && tokens.size() > 1)) {
    return Done{"SET"};
  }
  if (tokens.size() > 1 && one_of(tokens[0], {"session", "local"}) &&
      !tokens[1].is_word("authorization")) {
    tokens = tokens.subspan(1);
  }
  if (starts(tokens, {"time", "zone"}) && tokens.size() > 2) {
    return assign("timezone", joined(tokens.subspan(2)));
  }
  if (starts(tokens, {"names"}) && tokens.size() == 2) {
    return assign("client_encoding", tokens[1].text);
  }
  if (tokens.size() < 3 || !tokens[0].is_name()) return std::nullopt;
  if (!tokens[1].is_symbol('=') && !tokens[1].is_word("to")) return std::nullopt;
  return assign(lowered(tokens[0].text), joined(tokens.subspan(2)));
}

Outcome CourtesyDesk::assign(const std::string& name, const std::string& value) {
  if (is_fixed(name)) return Failure{"55P02", "parameter \"" + name + "\" cannot be changed", ""};
  const auto found = parameters_.find(name);
  if (found == parameters_.end()) {
    return Failure{"42704", "unrecognized configuration parameter",
                   "Options of pgfresh itself are changed in its configuration file; then RELOAD."};
  }
  if (value.size() > kValueBytesMax) return Failure{"22023", "the value is too long", ""};
  if (name == "client_encoding") {
    if (is_utf8(value)) return Done{"SET"};
    return Failure{"0A000", "the pgfresh console speaks UTF8 only", ""};
  }
  Parameter& parameter = found->second;
  const std::string wanted = value == "default" ? parameter.at_start : value;
  if (parameter.value != wanted) {
    parameter.value = wanted;
    changed_.push_back(name);
  }
  return Done{"SET"};
}

std::optional<Outcome> CourtesyDesk::reset(TokenSpan tokens) {
  if (starts(tokens, {"all"}) && tokens.size() == 1) {
    restore();
    return Done{"RESET"};
  }
  if (tokens.empty()) return std::nullopt;
  const auto name = spelled_out(tokens);
  if (!name && tokens.size() != 1) return std::nullopt;
  const std::string key = name ? *name : lowered(tokens[0].text);
  if (key == "role" || key == "session_authorization") return Done{"RESET"};
  const auto found = parameters_.find(key);
  if (found == parameters_.end()) return std::nullopt;
  if (auto outcome = assign(key, "default"); std::holds_alternative<Failure>(outcome)) {
    return outcome;
  }
  return Done{"RESET"};
}

void CourtesyDesk::restore() {
  for (auto& [name, parameter] : parameters_) {
    if (parameter.value == parameter.at_start) continue;
    parameter.value = parameter.at_start;
    changed_.push_back(name);
  }
}

std::optional<Table> CourtesyDesk::show(TokenSpan tokens) const {
  if (tokens.empty()) return std::nullopt;
  const auto name = spelled_out(tokens);
  if (!name && (tokens.size() != 1 || !tokens[0].is_name())) return std::nullopt;
  const auto found = parameters_.find(name ? *name : lowered(tokens[0].text));
  if (found == parameters_.end()) return std::nullopt;
  Table table({{std::string(spelling(found->first)), Type::kText}}, "SHOW");
  table.add({found->second.value});
  return table;
}

std::optional<Table> CourtesyDesk::select(TokenSpan tokens) const {
  Columns columns;
  Row row;
  for (;;) {
    auto next = item(tokens);
    if (!next || columns.size() == kItemsMax) return std::nullopt;
    if (starts(tokens, {"as"})) tokens = tokens.subspan(1);
    if (!tokens.empty() && tokens.front().is_name()) {
      next->first.name = tokens.front().text;
      tokens = tokens.subspan(1);
    }
    columns.push_back(std::move(next->first));
    row.push_back(std::move(next->second));
    if (tokens.empty()) break;
    if (!tokens.front().is_symbol(',')) return std::nullopt;
    tokens = tokens.subspan(1);
  }
  Table table(std::move(columns), "SELECT ");
  table.add(std::move(row));
  return table;
}

// A constant or a call without computation; takes it from the front of `tokens`.
std::optional<std::pair<Column, Value>> CourtesyDesk::item(TokenSpan& tokens) const {
  if (starts(tokens, {"pg_catalog"}) && tokens.size() > 2 && tokens[1].is_symbol('.')) {
    tokens = tokens.subspan(2);
  }
  if (tokens.empty()) return std::nullopt;
  const Token token = tokens.front();
  tokens = tokens.subspan(1);
  const auto constant = [](Type type, Value value) {
    return std::pair{Column{"?column?", type}, std::move(value)};
  };
  if (token.kind == TokenKind::kString) return constant(Type::kText, token.text);
  if (token.kind == TokenKind::kNumber) {
    int64_t number = 0;
    const char* end = token.text.data() + token.text.size();
    const auto read = std::from_chars(token.text.data(), end, number);
    if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
    return constant(Type::kInt8, number);
  }
  if (token.kind != TokenKind::kWord) return std::nullopt;
  if (token.text == "true" || token.text == "false") {
    return std::pair{Column{"bool", Type::kBool}, Value(token.text == "true")};
  }
  if (token.text == "null") return constant(Type::kText, std::monostate());
  if (tokens.empty() || !tokens.front().is_symbol('(')) return call(token.text, {});
  const auto close =
      std::find_if(tokens.begin(), tokens.end(), [](const Token& t) { return t.is_symbol(')'); });
  if (close == tokens.end()) return std::nullopt;
  const auto length = static_cast<size_t>(close - tokens.begin());
  const TokenSpan arguments = tokens.subspan(1, length - 1);
  tokens = tokens.subspan(length + 1);
  return call(token.text, arguments);
}

std::optional<std::pair<Column, Value>> CourtesyDesk::call(const std::string& function,
                                                           TokenSpan arguments) const {
  const auto text = [&function](std::string value) {
    return std::pair{Column{function, Type::kText}, Value(std::move(value))};
  };
  if (function == "current_setting" && arguments.size() == 1) {
    const auto found = parameters_.find(lowered(arguments[0].text));
    if (found == parameters_.end()) return std::nullopt;
    return text(found->second.value);
  }
  if (!arguments.empty()) return std::nullopt;
  if (function == "version") {
    return text("PostgreSQL 15.0 (pgfresh " + facts_.version + " console)");
  }
  if (function == "current_database" || function == "current_catalog") return text(facts_.database);
  if (function == "current_schema") return text("public");
  if (function == "current_user" || function == "session_user" || function == "user") {
    return text(facts_.user);
  }
  if (function == "pg_backend_pid") {
    return std::pair{Column{function, Type::kInt8}, Value(int64_t{facts_.pid})};
  }
  if (function == "pg_is_in_recovery") {
    return std::pair{Column{function, Type::kBool}, Value(false)};
  }
  if (function == "pg_advisory_unlock_all") return text("");
  return std::nullopt;
}

std::vector<std::pair<std::string, std::string>> CourtesyDesk::reported() const {
  std::vector<std::pair<std::string, std::string>> result;
  for (const std::string_view name : kReported) {
    const auto found = parameters_.find(lowered(name));
    if (found != parameters_.end()) result.emplace_back(name, found->second.value);
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> CourtesyDesk::take_changes() {
  std::vector<std::pair<std::string, std::string>> result;
  for (const std::string& name : changed_) {
    const std::string_view shown = spelling(name);
    if (std::find(kReported.begin(), kReported.end(), shown) == kReported.end()) continue;
    result.emplace_back(shown, parameters_.find(name)->second.value);
  }
  changed_.clear();
  return result;
}

}  // namespace pgfresh::console
