// From a text to a Statement: scan, parse with libpg_query, tell the kind, collect the shape.
//
// Bounds. A text longer than the limit or with a NUL is not parsed. libpg_query's JSON writer
// recurses without looking at the stack: the worst texts found need 64 bytes of stack a byte, so
// the length of the text is the bound (16 KB: 1 MB of stack). Its JSON is read to a depth of
// kTreeDepthMax only; deeper statements are forwarded, unknown. That also bounds the recursion of
// ShapeCollector.

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "base/hash.h"
#include "pg_query.h"
#include "query/canonical.h"
#include "query/catalog_seals.h"
#include "query/scan.h"
#include "query/setting_reader.h"
#include "query/shape.h"
#include "query/shape_collector.h"
#include "query/statement.h"
#include "query/tree_json.h"

namespace pgfresh::query {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

// Two or three levels of JSON for each level of the tree: about 400 nested expressions.
constexpr size_t kTreeDepthMax = 1024;

struct ParseResult {
  explicit ParseResult(const std::string& sql) : result(pg_query_parse(sql.c_str())) {}
  ~ParseResult() { pg_query_free_parse_result(result); }
  ParseResult(const ParseResult&) = delete;
  ParseResult& operator=(const ParseResult&) = delete;

  PgQueryParseResult result;
};

// One statement of the text on its way to becoming `out` (or a part of it, when there are several).
struct Part {
  Statement& out;
  SelectShape& shape;
  ShapeCollector& collector;

  void floor(Effect effect) const { raise(shape.effect_floor, effect); }
};

bool has_option(const object& body, std::string_view name) {
  simdjson::dom::array options;
  const auto list = member(body, "options");
  if (!list || list->get(options) != simdjson::SUCCESS) return false;
  return std::any_of(options.begin(), options.end(), [&](const element option) {
    const std::optional<Node> found = unwrap(option);
    return !found || found->type != "DefElem" || text(found->body, "defname") == name;
  });
}

// The options of BEGIN. Anything but isolation and READ ONLY, READ WRITE, [NOT] DEFERRABLE, and
// anything said twice, makes it one that is not put off.
void take_begin(const object& body, Statement& out) {
  out.deferrable_begin = true;
  simdjson::dom::array options;
  const auto list = member(body, "options");
  if (!list || list->get(options) != simdjson::SUCCESS) return;
  std::vector<std::string> seen;
  for (const element option : options) {
    const std::optional<Node> found = unwrap(option);
    const std::string name = found ? text(found->body, "defname") : std::string();
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) out.deferrable_begin = false;
    seen.push_back(name);
    if (name == "transaction_read_only" || name == "transaction_deferrable") continue;
    const auto arg = found ? member(found->body, "arg") : std::nullopt;
    const std::optional<Node> constant = arg ? unwrap(*arg) : std::nullopt;
    const auto sval = constant ? member(constant->body, "sval") : std::nullopt;
    object string;
    const bool read_committed = name == "transaction_isolation" && sval &&
                                sval->get(string) == simdjson::SUCCESS &&
                                text(string, "sval") == "read committed";
    if (!read_committed) out.deferrable_begin = false;
    out.isolation = read_committed && out.isolation != Isolation::kOther ? Isolation::kReadCommitted
                                                                         : Isolation::kOther;
  }
}

Kind take_transaction(const object& body, const Part& part) {
  const std::string kind = text(body, "kind");
  if (kind == "TRANS_STMT_BEGIN" || kind == "TRANS_STMT_START") {
    take_begin(body, part.out);
    return Kind::kBegin;
  }
  if (!boolean(body, "chain")) {
    if (kind == "TRANS_STMT_COMMIT") {
      // Deferred constraint triggers run now.
      part.shape.writes = true;
      part.floor(Effect::kWritesRows);
      return Kind::kCommit;
    }
    if (kind == "TRANS_STMT_ROLLBACK") return Kind::kRollback;
  }
  if (kind == "TRANS_STMT_SAVEPOINT" || kind == "TRANS_STMT_RELEASE" ||
      kind == "TRANS_STMT_ROLLBACK_TO") {
    part.out.rolls_back_to = kind == "TRANS_STMT_ROLLBACK_TO";
    return Kind::kSavepoint;
  }
  part.floor(Effect::kChangesSession);
  return Kind::kSession;
}

// PREPARE only parses; EXECUTE may be anything.
Kind take_prepared(std::string_view type, const object& body, const Part& part) {
  if (type == "ExecuteStmt") part.floor(Effect::kChangesSession);
  if (type == "DeallocateStmt") {
    part.out.deallocated_name = text(body, "name");
    part.out.deallocates_all = part.out.deallocated_name.empty();
  }
  if (type == "DiscardStmt") {
    const std::string target = text(body, "target");
    part.out.deallocates_all = target == "DISCARD_ALL";
    if (target != "DISCARD_PLANS" && target != "DISCARD_SEQUENCES") {
      part.floor(Effect::kChangesSession);
    }
  }
  return Kind::kDeallocate;
}

// The statement inside EXPLAIN and DECLARE CURSOR. Its reasons are of no interest.
void take_inner(const object& body, const Part& part) {
  const auto query = member(body, "query");
  const std::optional<Node> inner = query ? unwrap(*query) : std::nullopt;
  if (inner && inner->type == "CreateTableAsStmt") part.shape.makes_table = true;
  if (!inner || !node_rule(inner->type).reviewed) return part.floor(Effect::kChangesSession);
  part.collector.statement(inner->type, inner->body);
}

Kind take_explain(const object& body, const Part& part) {
  const bool made = part.shape.makes_table;
  take_inner(body, part);
  if (!has_option(body, "analyze")) {
    part.shape.makes_table = made;
    return Kind::kShow;
  }
  part.floor(Effect::kChangesSession);
  return Kind::kSession;
}

// A cursor's query runs at FETCH, but its effect was told at DECLARE.
Kind take_cursor(std::string_view type, const object& body, const Part& part) {
  if (type == "DeclareCursorStmt") take_inner(body, part);
  part.floor(Effect::kWritesRows);
  return Kind::kSession;
}

Kind take_write(std::string_view type, const object& body, const Part& part) {
  part.shape.writes = true;
  part.floor(Effect::kWritesRows);
  part.collector.statement(type, body);
  return Kind::kWrite;
}

bool is_one_of(std::string_view type, std::initializer_list<std::string_view> types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

bool is_ddl(std::string_view type) {
  if (type == "AlterSystemStmt") return false;
  for (const std::string_view prefix : {"Create", "Alter", "Drop", "Grant"}) {
    if (type.starts_with(prefix)) return true;
  }
  return is_one_of(
      type, {"CommentStmt", "CompositeTypeStmt", "DefineStmt", "ImportForeignSchemaStmt",
             "IndexStmt", "ReassignOwnedStmt", "RefreshMatViewStmt", "RenameStmt", "RuleStmt",
             "SecLabelStmt", "ViewStmt"});
}

// The option of a DefElem list whose name is `name`, as text; empty: there is none.
std::string option_text(const object& body, std::string_view name) {
  simdjson::dom::array options;
  const auto list = member(body, "options");
  if (!list || list->get(options) != simdjson::SUCCESS) return {};
  for (const element option : options) {
    const std::optional<Node> found = unwrap(option);
    if (!found || text(found->body, "defname") != name) continue;
    const auto arg = member(found->body, "arg");
    const std::optional<Node> value = arg ? unwrap(*arg) : std::nullopt;
    return value ? text(value->body, "sval") : std::string();
  }
  return {};
}

// The database that PostgreSQL wants to be without connections for this, for which it waits five
// seconds (src/backend/commands/dbcommands.c: CountOtherDBBackends); empty: none.
std::string vacant_database(std::string_view type, const object& body) {
  if (type == "DropdbStmt") return text(body, "dbname");
  if (type == "CreatedbStmt") {
    const std::string copied = option_text(body, "template");
    return copied.empty() ? "template1" : copied;
  }
  if (type == "RenameStmt" && text(body, "renameType") == "OBJECT_DATABASE") {
    return text(body, "subname");
  }
  const bool moved = type == "AlterDatabaseStmt" && !option_text(body, "tablespace").empty();
  return moved ? text(body, "dbname") : std::string();
}

Kind take_rest(std::string_view type, const object& body, const Part& part) {
  part.out.vacant_database = vacant_database(type, body);
  if (type == "CreateTableAsStmt") part.shape.makes_table = true;
  part.out.runs_code = is_one_of(type, {"CallStmt", "DoStmt"});
  if (is_one_of(type, {"LockStmt", "VacuumStmt", "CheckPointStmt", "ConstraintsSetStmt"})) {
    // SET CONSTRAINTS … IMMEDIATE runs deferred triggers, VACUUM and ANALYZE index expressions.
    part.shape.writes = true;
    part.floor(Effect::kWritesRows);
    return Kind::kSession;
  }
  part.floor(Effect::kChangesSession);
  return is_ddl(type) ? Kind::kDdl : Kind::kSession;
}

Kind take_statement(std::string_view type, const object& body, const Part& part) {
  if (type == "SelectStmt") {
    part.out.setting_changes = changes_of_select(body);
    part.collector.statement(type, body);
    return Kind::kSelect;
  }
  if (is_one_of(type, {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "TruncateStmt",
                       "CopyStmt"})) {
    return take_write(type, body, part);
  }
  if (type == "TransactionStmt") return take_transaction(body, part);
  if (type == "VariableShowStmt") {
    return text(body, "name") == "pgfresh.last" ? Kind::kShowLast : Kind::kShow;
  }
  if (type == "ExplainStmt") return take_explain(body, part);
  if (is_one_of(type, {"ListenStmt", "UnlistenStmt", "NotifyStmt"})) {
    part.floor(Effect::kWritesRows);
    return Kind::kNotify;
  }
  if (is_one_of(type, {"PrepareStmt", "ExecuteStmt", "DeallocateStmt", "DiscardStmt"})) {
    return take_prepared(type, body, part);
  }
  if (is_one_of(type, {"DeclareCursorStmt", "FetchStmt", "ClosePortalStmt"})) {
    return take_cursor(type, body, part);
  }
  if (type == "VariableSetStmt") part.out.setting_changes = changes_of_set(body);
  return take_rest(type, body, part);
}

Reason reason_for(Kind kind) {
  switch (kind) {
    case Kind::kSelect:
      return Reason::kNone;
    case Kind::kMany:
      return Reason::kMultiStatement;
    case Kind::kUnknown:
      return Reason::kUnparsable;
    case Kind::kEmpty:
    case Kind::kBegin:
    case Kind::kCommit:
    case Kind::kRollback:
    case Kind::kSavepoint:
    case Kind::kWrite:
    case Kind::kShowLast:
    case Kind::kShow:
    case Kind::kNotify:
    case Kind::kDeallocate:
    case Kind::kSession:
    case Kind::kDdl:
      return Reason::kNotSelect;
  }
  return Reason::kNotSelect;
}

// The shapes of several statements are collected into one: the effect of the text is the worst of
// its statements' effects. False: not what libpg_query is known to give.
bool take_tree(const element& root, Statement& out, SelectShape& shape,
               std::vector<Reason>& reasons) {
  simdjson::dom::array statements;
  if (root["stmts"].get(statements) != simdjson::SUCCESS) return false;
  ShapeCollector collector(shape, reasons);
  out.kind = Kind::kEmpty;
  bool deallocates = false;
  for (const element item : statements) {
    element statement;
    if (item["stmt"].get(statement) != simdjson::SUCCESS) return false;
    const std::optional<Node> node = unwrap(statement);
    if (!node) return false;
    const Kind kind = take_statement(node->type, node->body, Part{out, shape, collector});
    out.kind = out.kind == Kind::kEmpty ? kind : Kind::kMany;
    deallocates = deallocates || kind == Kind::kDeallocate;
  }
  out.makes_table = shape.makes_table;
  if (out.kind == Kind::kMany) {
    out.deallocates_all = deallocates;
    out.setting_changes.clear();
  }
  return true;
}

void parse(const std::string& sql, const std::optional<std::vector<Token>>& tokens,
           Statement& out) {
  const ParseResult parsed(sql);
  if (parsed.result.error != nullptr || parsed.result.parse_tree == nullptr) {
    if (parsed.result.error != nullptr && parsed.result.error->message != nullptr) {
      out.parse_error = parsed.result.error->message;
    }
    return;
  }
  const std::string_view json(parsed.result.parse_tree);
  simdjson::dom::parser parser;
  element root;
  if (parser.allocate(json.size() + 1, kTreeDepthMax) != simdjson::SUCCESS ||
      parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) {
    // Too deep, or not UTF-8: the text parses, but is not looked into.
    out.reasons.push_back(Reason::kSyntax);
    return;
  }
  auto shape = std::make_shared<SelectShape>();
  std::vector<Reason> reasons;
  if (!take_tree(root, out, *shape, reasons)) {
    out.kind = Kind::kUnknown;
    return;
  }
  if (tokens) shape->words = words_of(*tokens, shape->operators);
  if (out.kind == Kind::kSelect) out.reasons = std::move(reasons);
  out.shape = std::move(shape);
}

// Words with letters beyond ASCII are folded by the server in its own locale and encoding.
bool has_foreign_word(const std::vector<Token>& tokens) {
  return std::any_of(tokens.begin(), tokens.end(), [](const Token& token) {
    return token.kind == TokenKind::kWord &&
           std::any_of(token.text.begin(), token.text.end(),
                       [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  });
}

// Of a text that is not cut into tokens: its constants are nobody's business, so of the text only
// the first word is told.
std::string unread_form(std::string_view text) {
  std::string form;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!letter && form.empty() && (c == ' ' || c == '\n' || c == '\t' || c == '\r')) continue;
    if (!letter || form.size() == 16) break;
    form += c >= 'a' ? c : static_cast<char>(c - 'A' + 'a');
  }
  return form + " ... (a text that is not read)";
}

// `form`: whole; what is kept of it is cut between two characters.
void take_group(std::string_view form, Statement& out) {
  out.query_id = hash64(form) >> 1;
  size_t end = std::min(form.size(), kGroupedBytesMax);
  if (end < form.size()) {
    while (end > 0 && (static_cast<unsigned char>(form[end]) & 0xc0) == 0x80) --end;
  }
  out.grouped = form.substr(0, end);
}

}  // namespace

Statement::Statement() = default;
Statement::~Statement() = default;

std::shared_ptr<const Statement> analyze(std::string_view text, size_t text_bytes_max) {
  auto out = std::make_shared<Statement>();
  out->text = text;
  out->canonical = text;
  take_group(unread_form(text), *out);
  if (text.size() > text_bytes_max) {
    out->reasons.push_back(Reason::kTooLong);
    return out;
  }
  if (text.find('\0') != std::string_view::npos) {
    out->reasons.push_back(Reason::kUnparsable);
    return out;
  }
  if (!cheap_to_scan(text)) {
    out->reasons.push_back(Reason::kSyntax);
    return out;
  }
  const std::optional<std::vector<Token>> tokens = scan(out->text);
  if (tokens) {
    out->canonical = canonical_form(*tokens);
    take_group(grouped_form(*tokens), *out);
    const Hints hints = hints_of(*tokens);
    out->hint_off = hints.off;
    out->hint_ttl_ms = hints.ttl_ms;
  }
  parse(out->text, tokens, *out);
  if (const Reason reason = reason_for(out->kind); reason != Reason::kNone) {
    if (out->reasons.empty()) out->reasons.push_back(reason);
  } else if (!tokens || has_foreign_word(*tokens)) {
    add_reason(out->reasons, Reason::kSyntax);
  }
  if (out->hint_off) add_reason(out->reasons, Reason::kHint);
  return out;
}

}  // namespace pgfresh::query
