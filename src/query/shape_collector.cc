// See shape_collector.h. This file walks; what single nodes contribute is in shape_nodes.cc.

#include "query/shape_collector.h"

#include <unordered_map>

#include "query/tree_json.h"

namespace pgfresh::query {

void ShapeCollector::unreviewed() {
  add_reason(reasons_, Reason::kSyntax);
  raise(shape_.effect_floor, Effect::kChangesSession);
}

void ShapeCollector::statement(std::string_view type, const Object& body) {
  if (type == "SelectStmt") {
    select_body(body);
  } else {
    node(type, body);
  }
}

// A node, a list of nodes, or the {} that stands for NULL in a list.
void ShapeCollector::value(const Element& value) {
  simdjson::dom::array list;
  if (value.get(list) == simdjson::SUCCESS) {
    for (const Element item : list) this->value(item);
    return;
  }
  if (is_empty(value)) return;
  const std::optional<Node> found = unwrap(value);
  if (!found) return unreviewed();
  node(found->type, found->body);
}

void ShapeCollector::structure(std::string_view type, const Element& value) {
  Object body;
  if (value.get(body) != simdjson::SUCCESS) return unreviewed();
  node(type, body);
}

void ShapeCollector::node(std::string_view type, const Object& body) {
  if (type == "SelectStmt") return select(body);
  if (type == "WithClause") return with_clause(body);
  if (type == "ResTarget") return result_target(body);
  if (type == "RangeFunction") return range_function(body);
  if (type == "InsertStmt" || type == "UpdateStmt" || type == "DeleteStmt" || type == "MergeStmt") {
    return modify(type, body);
  }
  if (const Handler see = handler(type)) (this->*see)(body);
  fields(type, body, {});
}

void ShapeCollector::fields(std::string_view type, const Object& body, std::string_view except) {
  const NodeRule rule = node_rule(type);
  if (!rule.reviewed) return unreviewed();
  for (const auto [key, element] : body) {
    if (key == except) continue;
    const FieldRule* field = field_rule(rule, key);
    if (field == nullptr) {
      unreviewed();
      continue;
    }
    switch (field->field) {
      case Field::kIgnore:
        break;
      case Field::kNodes:
        value(element);
        break;
      case Field::kStruct:
        // The arms of a set operation give the same columns as the whole: not a level deeper.
        if (type == "SelectStmt" && field->type == "SelectStmt") {
          Object arm;
          element.get(arm) == simdjson::SUCCESS ? select_body(arm) : unreviewed();
        } else {
          structure(field->type, element);
        }
        break;
    }
  }
}

ShapeCollector::Handler ShapeCollector::handler(std::string_view type) {
  static const std::unordered_map<std::string_view, Handler> handlers = {
      {"Alias", &ShapeCollector::see_alias},
      {"RangeVar", &ShapeCollector::see_table},
      {"RangeSubselect", &ShapeCollector::see_subselect},
      {"JoinExpr", &ShapeCollector::see_join},
      {"CommonTableExpr", &ShapeCollector::see_cte},
      {"ColumnRef", &ShapeCollector::see_column},
      {"A_Const", &ShapeCollector::see_constant},
      {"ParamRef", &ShapeCollector::see_parameter},
      {"A_Expr", &ShapeCollector::see_expression},
      {"SubLink", &ShapeCollector::see_sublink},
      {"CaseExpr", &ShapeCollector::see_case},
      {"SortBy", &ShapeCollector::see_sort},
      {"FuncCall", &ShapeCollector::see_call},
      {"TypeCast", &ShapeCollector::see_cast},
      {"A_Indirection", &ShapeCollector::see_indirection},
      {"SQLValueFunction", &ShapeCollector::see_clock_or_user},
      {"LockingClause", &ShapeCollector::see_locking},
      {"IntoClause", &ShapeCollector::see_into},
      {"RangeTableSample", &ShapeCollector::see_sample},
      {"ColumnDef", &ShapeCollector::see_column_definition},
  };
  const auto found = handlers.find(type);
  return found == handlers.end() ? nullptr : found->second;
}

void ShapeCollector::select(const Object& body) {
  ++level_;
  select_body(body);
  --level_;
}

// CTEs are visible in the statement their WITH belongs to, and below, and nowhere else.
void ShapeCollector::select_body(const Object& body) {
  const size_t outside = scope_.size();
  if (const auto with = member(body, "withClause")) structure("WithClause", *with);
  note_values(body);
  fields("SelectStmt", body, "withClause");
  note_level(body);
  scope_.resize(outside);
}

void ShapeCollector::note_level(const Object& body) {
  std::optional<QueryLevel> level = collect_level(body, scope_);
  if (!level) return;
  items_ += level->items.size();
  operands_ += operands_of(*level);
  if (items_ > kStatementItemsMax || operands_ > kStatementOperandsMax) return;
  shape_.levels.push_back(std::move(*level));
}

void ShapeCollector::modify(std::string_view type, const Object& body) {
  raise(shape_.effect_floor, Effect::kWritesRows);
  // A rule of that view makes a SET of it. (Views upon it the catalog knows of.)
  const auto target = member(body, "relation");
  if (Object table; target && target->get(table) == simdjson::SUCCESS &&
                    text(table, "relname") == "pg_settings") {
    raise(shape_.effect_floor, Effect::kChangesSession);
  }
  shape_.writes = true;
  const size_t outside = scope_.size();
  ++level_;
  if (const auto with = member(body, "withClause")) structure("WithClause", *with);
  fields(type, body, "withClause");
  --level_;
  scope_.resize(outside);
}

// Plain WITH: each query sees its elder siblings. WITH RECURSIVE: each sees all, itself too.
void ShapeCollector::with_clause(const Object& body) {
  const auto list = member(body, "ctes");
  simdjson::dom::array ctes;
  if (!list || list->get(ctes) != simdjson::SUCCESS) return unreviewed();
  const bool recursive = boolean(body, "recursive");
  const auto name_of = [](const Element& cte) {
    const std::optional<Node> found = unwrap(cte);
    return found ? text(found->body, "ctename") : std::string();
  };
  if (recursive) {
    for (const Element cte : ctes) scope_.push_back(name_of(cte));
  }
  for (const Element cte : ctes) {
    value(cte);
    if (!recursive) scope_.push_back(name_of(cte));
  }
  for (const auto [key, element] : body) {
    if (field_rule(node_rule("WithClause"), key) == nullptr) unreviewed();
  }
}

// The name of a result column matters only below the top: there it can be cast further up.
void ShapeCollector::result_target(const Object& body) {
  const auto target = member(body, "val");
  if (level_ > 0 && target) {
    std::string name = text(body, "name");
    if (name.empty()) name = column_name(*target).name;
    if (!name.empty()) {
      CastUse cast;
      require_no_string(*target, cast);
      shape_.defined[name].made_of.push_back(std::move(cast));
    }
  }
  fields("ResTarget", body, {});
}

// Each item of `functions` is a list: the call, and a list of column definitions or NULL.
void ShapeCollector::range_function(const Object& body) {
  shape_.function_in_from = true;
  const auto list = member(body, "functions");
  simdjson::dom::array functions;
  if (!list || list->get(functions) != simdjson::SUCCESS) return unreviewed();
  for (const Element item : functions) {
    const std::optional<Node> found = unwrap(item);
    const auto items = found && found->type == "List" ? member(found->body, "items") : std::nullopt;
    simdjson::dom::array pair;
    if (!items || items->get(pair) != simdjson::SUCCESS) return unreviewed();
    size_t place = 0;
    for (const Element part : pair) {
      const std::optional<Node> call = unwrap(part);
      if (place++ > 0) {
        if (!is_empty(part)) fields("List", call ? call->body : Object(), {});
      } else if (call && call->type == "FuncCall") {
        note_call(call->body, true);
        fields("FuncCall", call->body, {});
      } else {
        value(part);
      }
    }
  }
  note_range(body, "alias", true);
  if (!member(body, "alias")) {
    // Its columns are qualified with the function's name.
    for (const FunctionUse& use : shape_.functions) {
      if (use.in_from) shape_.ranges.insert({use.name.name, false, true, {}});
    }
  }
  fields("RangeFunction", body, "functions");
}

}  // namespace pgfresh::query
