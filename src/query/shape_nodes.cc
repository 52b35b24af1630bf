// What single nodes of the parse tree contribute to a SelectShape. Each function says what
// PostgreSQL does with the node that its fields do not show: the operator a CASE compares with, the
// cast that looks like a call, the function that looks like a column.

#include <algorithm>
#include <string>
#include <utility>

#include "query/reviewed.h"
#include "query/shape_collector.h"
#include "query/tree_json.h"

namespace pgfresh::query {
namespace {

// schema.name or name; nullopt for anything longer (database.schema.name) or empty.
std::optional<Name> name_of(const simdjson::dom::object& body, std::string_view field) {
  const auto parts = strings(body, field);
  if (!parts || parts->empty() || parts->size() > 2) return std::nullopt;
  if (parts->size() == 1) return Name{{}, parts->front()};
  return Name{parts->front(), parts->back()};
}

// The cast that a call with one plain argument may be (func_get_detail in parse_func.c).
bool looks_like_cast(const simdjson::dom::object& call) {
  if (count(call, "args") != 1) return false;
  for (const std::string_view field : {"agg_order", "agg_filter", "over"}) {
    if (member(call, field)) return false;
  }
  return !boolean(call, "agg_star") && !boolean(call, "agg_distinct") &&
         !boolean(call, "func_variadic");
}

}  // namespace

void ShapeCollector::see_alias(const Object& body) {
  shape_.defined.insert(text(body, "aliasname"));
  const auto columns = strings(body, "colnames");
  if (!columns) return unreviewed();
  shape_.defined.insert(columns->begin(), columns->end());
}

void ShapeCollector::note_range(const Object& body, std::string_view field) {
  Object alias;
  const auto given = member(body, field);
  if (!given || given->get(alias) != simdjson::SUCCESS) return;
  shape_.ranges.insert({text(alias, "aliasname"), false, {}});
}

void ShapeCollector::see_table(const Object& body) {
  const Name table{text(body, "schemaname"), text(body, "relname")};
  std::string known_as = table.name;
  bool renamed = false;  // t AS a(x, y): the columns are not the table's own names any more
  Object alias;
  const auto given = member(body, "alias");
  if (given && given->get(alias) == simdjson::SUCCESS) {
    known_as = text(alias, "aliasname");
    renamed = member(alias, "colnames").has_value();
  }
  const bool is_cte =
      table.schema.empty() && std::find(scope_.begin(), scope_.end(), table.name) != scope_.end();
  if (!is_cte) {
    shape_.tables.insert(table);
    int64_t location = 0;  // left out when it is zero
    if (const auto found = member(body, "location")) {
      if (found->get(location) != simdjson::SUCCESS) return unreviewed();
    }
    shape_.uses.push_back({table, location});
  }
  if (is_cte || renamed) {
    shape_.ranges.insert({known_as, false, {}});
  } else {
    shape_.ranges.insert({known_as, true, table});
  }
}

void ShapeCollector::see_subselect(const Object& body) { note_range(body, "alias"); }

void ShapeCollector::see_join(const Object& body) {
  if (boolean(body, "isNatural") || member(body, "usingClause")) note_operator(Name{{}, "="});
  note_range(body, "alias");
  note_range(body, "join_using_alias");
}

void ShapeCollector::see_cte(const Object& body) {
  const auto columns = strings(body, "aliascolnames");
  if (!columns) return unreviewed();
  shape_.defined.insert(columns->begin(), columns->end());
  const auto query = member(body, "ctequery");
  const std::optional<Node> found = query ? unwrap(*query) : std::nullopt;
  if (!found || found->type != "SelectStmt") add_reason(reasons_, Reason::kModifyingCte);
}

// a, t.a, s.t.a, t.*; the last name is the column.
void ShapeCollector::see_column(const Object& body) {
  const auto list = member(body, "fields");
  simdjson::dom::array parts;
  if (!list || list->get(parts) != simdjson::SUCCESS) return unreviewed();
  std::string qualifier;
  std::string last;
  for (const Element part : parts) {
    const std::optional<Node> found = unwrap(part);
    if (found && found->type == "A_Star") return;
    if (!found || found->type != "String") return unreviewed();
    qualifier = std::move(last);
    last = text(found->body, "sval");
  }
  // A keyword since PostgreSQL 16, a name for the grammar of 15 that reads it here.
  if (qualifier.empty() && last == "system_user") add_reason(reasons_, Reason::kSessionFunction);
  if (system_column(last)) add_reason(reasons_, Reason::kSystemColumn);
  if (!qualifier.empty()) note_field(qualifier, last);
  note_output_name(last);
}

void ShapeCollector::see_constant(const Object& body) {
  const auto value = member(body, "sval");
  Object string;
  if (!value) return;
  if (value->get(string) != simdjson::SUCCESS) return unreviewed();
  if (is_time_word(text(string, "sval"))) add_reason(reasons_, Reason::kTimeLiteral);
}

void ShapeCollector::see_parameter(const Object& body) {
  shape_.parameters = true;
  int64_t number = 0;
  const auto found = member(body, "number");
  if (!found || found->get(number) != simdjson::SUCCESS) return unreviewed();
  ++shape_.parameter_uses[static_cast<int>(number)].uses;
}

// Called for the cast around a parameter, before the parameter itself is seen.
void ShapeCollector::note_parameter_cast(const Object& cast, const Object& parameter) {
  int64_t number = 0;
  const auto found = member(parameter, "number");
  const std::optional<CastTarget> target = cast_target(cast);
  if (!target || !found || found->get(number) != simdjson::SUCCESS) return;
  ParameterUse& use = shape_.parameter_uses[static_cast<int>(number)];
  if (use.casts++ == 0) {
    use.cast = target->type;
    use.cast_to_array = target->array;
  } else if (use.cast != target->type || use.cast_to_array != target->array) {
    use.casts_differ = true;
  }
}

void ShapeCollector::see_expression(const Object& body) {
  const std::string kind = text(body, "kind");
  if (kind.ends_with("BETWEEN") || kind.ends_with("BETWEEN_SYM")) {
    for (const char* name : {"<", "<=", ">", ">="}) note_operator(Name{{}, name});
    return;
  }
  for (const std::string_view known :
       {"AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT",
        "AEXPR_NULLIF", "AEXPR_IN", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"}) {
    if (kind == known) return note_operator(name_of(body, "name"));
  }
  unreviewed();
}

void ShapeCollector::see_sublink(const Object& body) {
  if (member(body, "operName")) return note_operator(name_of(body, "operName"));
  note_operator(Name{{}, "="});  // IN
}

void ShapeCollector::see_case(const Object& body) {
  if (member(body, "arg")) note_operator(Name{{}, "="});
}

void ShapeCollector::see_sort(const Object& body) {
  if (member(body, "useOp")) note_operator(name_of(body, "useOp"));
}

void ShapeCollector::see_call(const Object& body) { note_call(body, false); }

void ShapeCollector::see_cast(const Object& body) {
  Object target;
  const auto type = member(body, "typeName");
  if (!type || type->get(target) != simdjson::SUCCESS) return unreviewed();
  const std::optional<Name> name = name_of(target, "names");
  const auto argument = member(body, "arg");
  if (!name || !argument) return unreviewed();
  const std::optional<Node> inner = unwrap(*argument);
  if (inner && inner->type == "ParamRef") note_parameter_cast(body, inner->body);
  CastUse cast;
  cast.type = *name;
  require_no_string(*argument, cast);
  shape_.casts.push_back(std::move(cast));
  note_output_name(name->name);
}

void ShapeCollector::see_indirection(const Object& body) {
  const auto list = member(body, "indirection");
  simdjson::dom::array parts;
  if (!list || list->get(parts) != simdjson::SUCCESS) return unreviewed();
  for (const Element part : parts) {
    const std::optional<Node> found = unwrap(part);
    if (!found || found->type != "String") continue;
    const std::string name = text(found->body, "sval");
    if (system_column(name)) add_reason(reasons_, Reason::kSystemColumn);
    note_field({}, name);
    note_output_name(name);
  }
}

void ShapeCollector::see_clock_or_user(const Object& body) {
  const std::string op = text(body, "op");
  const bool clock = op.starts_with("SVFOP_CURRENT_DATE") || op.starts_with("SVFOP_CURRENT_TIME") ||
                     op.starts_with("SVFOP_LOCALTIME");
  add_reason(reasons_, clock ? Reason::kTimeFunction : Reason::kSessionFunction);
}

void ShapeCollector::see_locking(const Object&) {
  add_reason(reasons_, Reason::kLocking);
  raise(shape_.effect_floor, Effect::kWritesRows);
}

// The new table may be a temporary one.
void ShapeCollector::see_into(const Object&) {
  add_reason(reasons_, Reason::kModifyingCte);
  raise(shape_.effect_floor, Effect::kChangesSession);
}

void ShapeCollector::see_sample(const Object&) { add_reason(reasons_, Reason::kTablesample); }

void ShapeCollector::note_call(const Object& body, bool in_from) {
  const std::optional<Name> name = name_of(body, "funcname");
  if (!name) return unreviewed();
  shape_.functions.insert({*name, count(body, "args"), in_from});
  note_output_name(name->name);
  if (!looks_like_cast(body)) return;
  CastUse cast;
  cast.type = *name;
  cast.by_call = true;
  require_all(body, "args", cast);
  shape_.casts.push_back(std::move(cast));
}

void ShapeCollector::note_field(const std::string& qualifier, const std::string& name) {
  shape_.fields.insert({qualifier, name});
}

// The columns of VALUES are column1, column2 …
void ShapeCollector::note_values(const Object& body) {
  const auto lists = member(body, "valuesLists");
  simdjson::dom::array rows;
  if (level_ == 0 || !lists || lists->get(rows) != simdjson::SUCCESS || rows.size() == 0) return;
  const std::optional<Node> first = unwrap(*rows.begin());
  const size_t columns = first ? count(first->body, "items") : 0;
  for (size_t i = 1; i <= columns; ++i) shape_.defined.insert("column" + std::to_string(i));
}

void ShapeCollector::note_output_name(const std::string& name) {
  if (unnamed_ > 0) shape_.defined.insert(name);
}

void ShapeCollector::note_operator(const std::optional<Name>& name) {
  if (!name) return unreviewed();
  shape_.operators.insert(*name);
}

void ShapeCollector::require_all(const Object& body, std::string_view field, CastUse& cast) {
  const auto list = member(body, field);
  simdjson::dom::array items;
  if (!list || list->get(items) != simdjson::SUCCESS) return;
  for (const Element item : items) require_no_string(item, cast);
}

// Constants are looked at wherever they stand, parameters when they are bound: both are harmless
// here. Anything not listed might give a string.
void ShapeCollector::require_no_string(const Element& argument, CastUse& cast) {
  const std::optional<Node> found = unwrap(argument);
  const std::string_view type = found ? found->type : std::string_view();
  if (type == "A_Const" || type == "ParamRef") return;
  if (type == "ColumnRef") {
    const auto parts = strings(found->body, "fields");
    if (parts && !parts->empty()) return cast.columns.push_back(parts->back());
  } else if (type == "TypeCast") {
    Object target;
    const auto inner = member(found->body, "typeName");
    if (inner && inner->get(target) == simdjson::SUCCESS) {
      if (const auto name = name_of(target, "names")) return cast.types.push_back(*name);
    }
  } else if (type == "FuncCall") {
    if (const auto name = name_of(found->body, "funcname")) {
      if (name->name != "min" && name->name != "max") return cast.functions.push_back(*name);
      cast.by_argument.push_back(*name);
      return require_all(found->body, "args", cast);
    }
  } else if (type == "A_Expr" && text(found->body, "kind") == "AEXPR_OP") {
    if (const auto name = name_of(found->body, "name")) return cast.operators.push_back(*name);
  } else if (type == "CoalesceExpr" || type == "MinMaxExpr") {
    return require_all(found->body, "args", cast);
  }
  cast.possible = false;
}

}  // namespace pgfresh::query
