// A text is understood whole before any of it runs: "FLUSH ALL; KIL 3" does nothing but complain.
#include "console/statements.h"

#include <utility>

#include "console/tables.h"

namespace pgfresh::console {
namespace {

constexpr size_t kTokensMax = 256;     // of one statement
constexpr size_t kStatementsMax = 64;  // prepared, and portals, each; and in one text

bool has_parameter(TokenSpan tokens) {
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (tokens[i].is_symbol('$') && tokens[i + 1].kind == TokenKind::kNumber) return true;
  }
  return false;
}

Failure no_parameters() {
  return {"0A000", "the pgfresh console takes no parameters",
          "Write the value into the command's text."};
}

Failure missing(const char* what, std::string_view name, const char* sqlstate) {
  return {sqlstate, std::string(what) + " \"" + std::string(name) + "\" does not exist", ""};
}

tl::expected<StatementRef, Failure> interpret_one(Tokens tokens, const CourtesyDesk& desk) {
  if (tokens.size() > kTokensMax) {
    return tl::unexpected(Failure{"54001", "the command has too many words", ""});
  }
  auto statement = std::make_shared<Statement>();
  if (const auto command = parse_command(tokens)) {
    if (effect_of(command->verb) == Effect::kNotYet) {
      return tl::unexpected(
          Failure{"0A000",
                  std::string(pattern_of(command->verb)) + " is not in this version of pgfresh yet",
                  "SHOW HELP lists the commands."});
    }
    statement->kind = Statement::Kind::kCommand;
    statement->command = *command;
  } else if (has_parameter(tokens)) {
    return tl::unexpected(no_parameters());
  } else if (desk.describe(tokens)) {
    statement->kind = Statement::Kind::kCourtesy;
  } else {
    Advice advice = advise(tokens);
    return tl::unexpected(Failure{"42601", std::move(advice.message), std::move(advice.hint)});
  }
  statement->tokens = std::move(tokens);
  return statement;
}

}  // namespace

tl::expected<std::vector<StatementRef>, Failure> interpret(std::string_view text,
                                                           const CourtesyDesk& desk) {
  if (auto explain = parse_explain(text)) {
    if (explain->sql.empty()) {
      return tl::unexpected(Failure{"42601", "syntax error in explain command",
                                    "Known is: " + std::string(pattern_of(explain->verb)) + "."});
    }
    auto statement = std::make_shared<Statement>();
    statement->kind = Statement::Kind::kCommand;
    statement->command = std::move(*explain);
    statement->tokens = {{TokenKind::kWord, "explain"}, {TokenKind::kWord, "cache"}};
    return std::vector<StatementRef>{std::move(statement)};
  }
  if (text.size() > kTextBytesMax) {
    return tl::unexpected(
        Failure{"54000", "the text is longer than the pgfresh console reads", ""});
  }
  auto lists = read_statements(text);
  if (!lists) return tl::unexpected(Failure{"42601", std::move(lists.error()), ""});
  if (lists->size() > kStatementsMax) {
    return tl::unexpected(Failure{"54000", "too many commands in one text", ""});
  }
  std::vector<StatementRef> statements;
  for (Tokens& tokens : *lists) {
    auto statement = interpret_one(std::move(tokens), desk);
    if (!statement) return tl::unexpected(std::move(statement.error()));
    statements.push_back(std::move(*statement));
  }
  return statements;
}

Columns columns_of(const Statement& statement, const CourtesyDesk& desk) {
  switch (statement.kind) {
    case Statement::Kind::kEmpty:
      return {};
    case Statement::Kind::kCommand:
      return columns_of(statement.command.verb);
    case Statement::Kind::kCourtesy:
      return desk.describe(statement.tokens).value_or(Columns{});
  }
  return {};
}

std::optional<Failure> StatementStore::parse(const wire::ParseMessage& message) {
  if (message.parameter_count() > 0) return no_parameters();
  if (!message.statement.empty()) {
    if (statements_.contains(message.statement)) {
      return Failure{"42P05",
                     "prepared statement \"" + std::string(message.statement) + "\" already exists",
                     ""};
    }
    if (statements_.size() >= kStatementsMax) {
      return Failure{"53400", "too many prepared statements for the pgfresh console", ""};
    }
  }
  auto parsed = interpret(message.query, desk_);
  if (!parsed) return std::move(parsed.error());
  if (parsed->size() > 1) {
    return Failure{"42601", "cannot insert multiple commands into a prepared statement", ""};
  }
  statements_[std::string(message.statement)] =
      parsed->empty() ? std::make_shared<const Statement>() : std::move(parsed->front());
  return std::nullopt;
}

std::optional<Failure> StatementStore::bind(const wire::BindMessage& message) {
  const auto found = statements_.find(message.statement);
  if (found == statements_.end()) {
    return missing("prepared statement", message.statement, "26000");
  }
  if (message.parameter_count > 0) return no_parameters();
  if (!message.portal.empty()) {
    if (portals_.contains(message.portal)) {
      return Failure{"42P03", "portal \"" + std::string(message.portal) + "\" already exists", ""};
    }
    if (portals_.size() >= kStatementsMax) {
      return Failure{"53400", "too many portals for the pgfresh console", ""};
    }
  }
  const Columns columns = columns_of(*found->second, desk_);
  auto formats = read_formats(message.result_formats, columns.size());
  if (!formats) {
    return Failure{"08P01", "the result formats of the Bind message do not fit the result", ""};
  }
  Portal portal;
  portal.statement = found->second;
  portal.formats = std::move(*formats);
  portals_.insert_or_assign(std::string(message.portal), std::move(portal));
  return std::nullopt;
}

std::optional<Failure> StatementStore::describe(std::string& out,
                                                const wire::TargetMessage& message) const {
  StatementRef statement;
  std::vector<Format> formats;
  if (message.kind == 'S') {
    const auto found = statements_.find(message.name);
    if (found == statements_.end()) return missing("prepared statement", message.name, "26000");
    statement = found->second;
    wire::write_parameter_description(out, {});
  } else {
    const auto found = portals_.find(message.name);
    if (found == portals_.end()) return missing("portal", message.name, "34000");
    statement = found->second.statement;
    formats = found->second.formats;
  }
  const Columns columns = columns_of(*statement, desk_);
  if (columns.empty()) {
    out += wire::kNoData;
  } else {
    write_description(out, columns, formats);
  }
  return std::nullopt;
}

void StatementStore::close(const wire::TargetMessage& message) {
  const std::string name(message.name);
  if (message.kind == 'S') {
    statements_.erase(name);
  } else {
    portals_.erase(name);
  }
}

Portal* StatementStore::portal(std::string_view name) {
  const auto found = portals_.find(name);
  return found == portals_.end() ? nullptr : &found->second;
}

void StatementStore::forget(const Forget& what) {
  switch (what.what) {
    case Forget::What::kNothing:
      return;
    case Forget::What::kAll:
      statements_.clear();
      return;
    case Forget::What::kOne:
      statements_.erase(what.name);
      return;
  }
}

void StatementStore::drop_unnamed() {
  statements_.erase(std::string());
  portals_.erase(std::string());
}

}  // namespace pgfresh::console
