// From the parse tree of one SELECT to its QueryLevel. What is not recognised is left out: without
// a condition a table is read as a whole, which is always right. The one thing that must be
// complete are the items of FROM, because names are resolved by them: an item that is not
// recognised stands as kOther, with its alias.

#include <algorithm>

#include "base/limits.h"
#include "query/row_keys.h"
#include "query/tree_json.h"

namespace pgfresh::query {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

std::optional<array> list(const object& body, std::string_view field) {
  array items;
  if (body.at_key(field).get(items) != simdjson::SUCCESS) return std::nullopt;
  return items;
}

std::optional<object> structure(const object& body, std::string_view field) {
  object found;
  if (body.at_key(field).get(found) != simdjson::SUCCESS) return std::nullopt;
  return found;
}

std::optional<Node> node(const object& body, std::string_view field) {
  const auto found = member(body, field);
  return found ? unwrap(*found) : std::nullopt;
}

// ── Operands ─────────────────────────────────────────────────────────────────────────────────────

std::optional<KeyOperand> column_operand(const object& body) {
  const auto parts = strings(body, "fields");
  if (!parts || parts->empty() || parts->size() > 3) return std::nullopt;
  KeyOperand operand;
  operand.kind = KeyOperand::Kind::kColumn;
  operand.text = parts->back();
  if (parts->size() > 1) operand.qualifier = (*parts)[parts->size() - 2];
  if (parts->size() > 2) operand.schema = parts->front();
  return operand;
}

// NULL is none: `column = NULL` means IS NULL under transform_null_equals.
std::optional<KeyOperand> constant_operand(const object& body) {
  KeyOperand operand;
  if (const auto found = member(body, "location")) {
    if (found->get(operand.location) != simdjson::SUCCESS) return std::nullopt;
  }
  if (const auto integer = structure(body, "ival")) {
    // libpg_query leaves out zero, and negative numbers too (15-4.0.0): they are not known.
    int64_t value = 0;
    const auto found = member(*integer, "ival");
    if (!found || found->get(value) != simdjson::SUCCESS) return std::nullopt;
    operand.kind = KeyOperand::Kind::kNumber;
    operand.text = std::to_string(value);
    return operand;
  }
  if (const auto number = structure(body, "fval")) {
    operand.kind = KeyOperand::Kind::kNumber;
    operand.text = text(*number, "fval");
    return operand;
  }
  if (const auto truth = structure(body, "boolval")) {
    operand.kind = KeyOperand::Kind::kBool;
    operand.text.assign(1, boolean(*truth, "boolval") ? 't' : 'f');
    return operand;
  }
  if (const auto string = structure(body, "sval")) {
    operand.kind = KeyOperand::Kind::kString;
    operand.text = text(*string, "sval");
    return operand;
  }
  return std::nullopt;
}

std::optional<KeyOperand> operand_of(const Node& value) {
  if (value.type == "ColumnRef") return column_operand(value.body);
  if (value.type == "A_Const") return constant_operand(value.body);
  if (value.type == "ParamRef") {
    int64_t number = 0;
    const auto found = member(value.body, "number");
    if (!found || found->get(number) != simdjson::SUCCESS) return std::nullopt;
    if (number <= 0 || number > 65'535) return std::nullopt;
    KeyOperand operand;
    operand.kind = KeyOperand::Kind::kParameter;
    operand.parameter = static_cast<int>(number);
    return operand;
  }
  if (value.type != "TypeCast") return std::nullopt;
  const std::optional<CastTarget> target = cast_target(value.body);
  const std::optional<Node> argument = node(value.body, "arg");
  if (!target || !argument) return std::nullopt;
  std::optional<KeyOperand> operand = operand_of(*argument);
  // A column that is cast is not the column, and what is cast twice is too much of a good thing.
  if (!operand || operand->kind == KeyOperand::Kind::kColumn || operand->cast) return std::nullopt;
  operand->cast = target->type;
  operand->cast_to_array = target->array;
  return operand;
}

bool append_operands(const array& items, std::vector<KeyOperand>& out) {
  if (items.size() > limits::kKeyValuesMax) return true;
  for (const element item : items) {
    const std::optional<Node> found = unwrap(item);
    std::optional<KeyOperand> operand = found ? operand_of(*found) : std::nullopt;
    if (!operand) return false;
    out.push_back(std::move(*operand));
  }
  return true;
}

// ── Conditions ───────────────────────────────────────────────────────────────────────────────────

// ARRAY[…], or ARRAY[…]::type[], as the list of its elements. Without the cast an element that is
// a parameter takes a type of its own making, so it must not be taken for the column's.
bool take_array(const Node& value, KeyCondition& out) {
  if (value.type == "A_ArrayExpr") {
    const auto elements = list(value.body, "elements");
    if (!elements || !append_operands(*elements, out.right)) return false;
    out.form = KeyCondition::Form::kIn;
    return true;
  }
  if (value.type != "TypeCast") return false;
  const std::optional<Node> argument = node(value.body, "arg");
  const std::optional<CastTarget> target = cast_target(value.body);
  if (!argument || argument->type != "A_ArrayExpr" || !target || !target->array) return false;
  if (!take_array(*argument, out)) return false;
  for (KeyOperand& each : out.right) {
    if (each.cast.value_or(target->type) != target->type) return false;
    each.cast = target->type;
  }
  return true;
}

bool take_any(const Node& right, KeyCondition& out) {
  if (take_array(right, out)) {
    // See take_array().
    return std::all_of(out.right.begin(), out.right.end(), [](const KeyOperand& each) {
      return each.cast || each.kind != KeyOperand::Kind::kParameter;
    });
  }
  out.right.clear();
  std::optional<KeyOperand> operand = operand_of(right);
  if (!operand || operand->kind == KeyOperand::Kind::kColumn) return false;
  if (operand->cast && !operand->cast_to_array) return false;
  out.form = KeyCondition::Form::kAny;
  out.right.push_back(std::move(*operand));
  return true;
}

bool take_in(const Node& right, KeyCondition& out) {
  const auto items = right.type == "List" ? list(right.body, "items") : std::nullopt;
  out.form = KeyCondition::Form::kIn;
  return items && append_operands(*items, out.right);
}

std::optional<KeyCondition> condition_of(const object& expression) {
  const std::string kind = text(expression, "kind");
  const std::optional<Name> op = name_of(expression, "name");
  const std::optional<Node> left = node(expression, "lexpr");
  const auto right_element = member(expression, "rexpr");
  if (!op || op->name != "=" || !left || !right_element) return std::nullopt;
  KeyCondition condition;
  condition.op = *op;
  std::optional<KeyOperand> left_operand = operand_of(*left);
  const std::optional<Node> right = unwrap(*right_element);
  if (!left_operand || !right) return std::nullopt;
  condition.left = std::move(*left_operand);
  bool taken = false;
  if (kind == "AEXPR_OP") {
    std::optional<KeyOperand> operand = operand_of(*right);
    taken = operand.has_value();
    if (taken) condition.right.push_back(std::move(*operand));
  } else if (kind == "AEXPR_IN") {
    taken = take_in(*right, condition);
  } else if (kind == "AEXPR_OP_ANY") {
    taken = take_any(*right, condition);
  }
  if (!taken) return std::nullopt;
  const bool column_right = condition.form == KeyCondition::Form::kEqual &&
                            condition.right.front().kind == KeyOperand::Kind::kColumn;
  if (condition.left.kind != KeyOperand::Kind::kColumn) {
    if (!column_right) return std::nullopt;
    std::swap(condition.left, condition.right.front());
  }
  return condition;
}

// The conjuncts of an expression. Recursion is bounded by the depth of the tree.
void take_conjuncts(const Node& expression, std::vector<KeyCondition>& out) {
  if (expression.type == "BoolExpr" && text(expression.body, "boolop") == "AND_EXPR") {
    const auto arguments = list(expression.body, "args");
    if (!arguments) return;
    for (const element argument : *arguments) {
      if (const std::optional<Node> found = unwrap(argument)) take_conjuncts(*found, out);
    }
    return;
  }
  if (expression.type != "A_Expr" || out.size() >= kLevelConditionsMax) return;
  if (std::optional<KeyCondition> found = condition_of(expression.body)) {
    out.push_back(std::move(*found));
  }
}

// ── FROM ─────────────────────────────────────────────────────────────────────────────────────────

class FromReader {
 public:
  FromReader(QueryLevel& level, const std::vector<std::string>& ctes)
      : level_(level), ctes_(ctes) {}

  // The item's place; nullopt: too many.
  std::optional<size_t> item(const element& value);
  std::optional<size_t> add(FromItem item) {
    if (level_.items.size() >= kLevelItemsMax) return std::nullopt;
    level_.items.push_back(std::move(item));
    return level_.items.size() - 1;
  }

 private:
  static void take_alias(const object& body, FromItem& out);
  [[nodiscard]] FromItem table(const object& body) const;
  std::optional<size_t> join(const object& body);

  QueryLevel& level_;
  const std::vector<std::string>& ctes_;
};

void FromReader::take_alias(const object& body, FromItem& out) {
  const auto alias = structure(body, "alias");
  if (!alias) return;
  out.has_alias = true;
  out.known_as = text(*alias, "aliasname");
  out.renames_columns = member(*alias, "colnames").has_value();
}

FromItem FromReader::table(const object& body) const {
  FromItem out;
  out.table = {text(body, "schemaname"), text(body, "relname")};
  out.known_as = out.table.name;
  take_alias(body, out);
  const bool is_cte = out.table.schema.empty() &&
                      std::find(ctes_.begin(), ctes_.end(), out.table.name) != ctes_.end();
  if (is_cte) return out;
  int64_t location = 0;  // left out when it is zero
  if (const auto found = member(body, "location")) {
    if (found->get(location) != simdjson::SUCCESS) location = -1;
  }
  out.location = location;
  out.kind = FromItem::Kind::kTable;
  return out;
}

std::optional<size_t> FromReader::join(const object& body) {
  FromItem out;
  const std::string type = text(body, "jointype");
  if (type == "JOIN_INNER") out.kind = FromItem::Kind::kInner;
  if (type == "JOIN_LEFT") out.kind = FromItem::Kind::kLeft;
  if (type == "JOIN_RIGHT") out.kind = FromItem::Kind::kRight;
  if (type == "JOIN_FULL") out.kind = FromItem::Kind::kFull;
  const auto left = member(body, "larg");
  const auto right = member(body, "rarg");
  const auto using_columns = strings(body, "usingClause");
  if (!out.is_join() || !left || !right || !using_columns) return std::nullopt;
  take_alias(body, out);
  out.natural = boolean(body, "isNatural");
  out.using_columns = *using_columns;
  if (const auto alias = structure(body, "join_using_alias")) {
    out.using_alias = text(*alias, "aliasname");
  }
  if (const auto quals = node(body, "quals")) take_conjuncts(*quals, out.on);
  const std::optional<size_t> left_place = item(*left);
  const std::optional<size_t> right_place = item(*right);
  if (!left_place || !right_place) return std::nullopt;
  out.left = *left_place;
  out.right = *right_place;
  return add(std::move(out));
}

std::optional<size_t> FromReader::item(const element& value) {
  const std::optional<Node> found = unwrap(value);
  if (!found) return std::nullopt;
  if (found->type == "RangeVar") return add(table(found->body));
  if (found->type == "JoinExpr") return join(found->body);
  FromItem other;
  take_alias(found->body, other);
  return add(std::move(other));
}

}  // namespace

std::optional<Name> name_of(const object& body, std::string_view field) {
  const auto parts = strings(body, field);
  if (!parts || parts->empty() || parts->size() > 2) return std::nullopt;
  if (parts->size() == 1) return Name{{}, parts->front()};
  return Name{parts->front(), parts->back()};
}

size_t operands_of(const QueryLevel& level) {
  const auto count = [](const std::vector<KeyCondition>& conditions) {
    size_t total = 0;
    for (const KeyCondition& each : conditions) total += 1 + each.right.size();
    return total;
  };
  size_t total = count(level.where);
  for (const FromItem& item : level.items) total += count(item.on);
  return total;
}

std::optional<CastTarget> cast_target(const object& cast) {
  const auto type = structure(cast, "typeName");
  if (!type || member(*type, "typmods") || boolean(*type, "setof") || boolean(*type, "pct_type")) {
    return std::nullopt;
  }
  const std::optional<Name> name = name_of(*type, "names");
  if (!name) return std::nullopt;
  const size_t dimensions = count(*type, "arrayBounds");
  if (dimensions > 1) return std::nullopt;
  return CastTarget{*name, dimensions == 1};
}

std::optional<QueryLevel> collect_level(const object& select,
                                        const std::vector<std::string>& ctes) {
  const auto from = list(select, "fromClause");
  if (!from || from->size() == 0) return std::nullopt;
  QueryLevel level;
  FromReader reader(level, ctes);
  std::optional<size_t> root;
  for (const element value : *from) {
    const std::optional<size_t> place = reader.item(value);
    if (!place) return std::nullopt;
    if (!root) {
      root = place;
      continue;
    }
    FromItem both;
    both.kind = FromItem::Kind::kInner;
    both.left = *root;
    both.right = *place;
    root = reader.add(std::move(both));
    if (!root) return std::nullopt;
  }
  if (const auto where = node(select, "whereClause")) take_conjuncts(*where, level.where);
  return level;
}

}  // namespace pgfresh::query
