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
  define(text(body, "aliasname"));
  const auto columns = strings(body, "colnames");
  if (!columns) return unreviewed();
  for (const std::string& column : *columns) define(column);
}

void ShapeCollector::note_range(const Object& body, std::string_view field, bool is_function) {
  Object alias;
  const auto given = member(body, field);
  if (!given || given->get(alias) != simdjson::SUCCESS) return;
  shape_.ranges.insert({text(alias, "aliasname"), false, is_function, {}});
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
    shape_.ranges.insert({known_as, false, false, {}});
  } else {
    shape_.ranges.insert({known_as, true, false, table});
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
  for (const std::string& column : *columns) define(column);
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
}

// (x).f is f(x) wherever x has no column f, whatever x is: a call, or the cast that a call may be.
void ShapeCollector::see_indirection(const Object& body) {
  const auto list = member(body, "indirection");
  const auto argument = member(body, "arg");
  simdjson::dom::array parts;
  if (!list || !argument || list->get(parts) != simdjson::SUCCESS) return unreviewed();
  bool first = true;
  for (const Element part : parts) {
    const bool of_argument = std::exchange(first, false);
    const std::optional<Node> found = unwrap(part);
    if (!found || found->type != "String") continue;
    const std::string name = text(found->body, "sval");
    if (system_column(name)) add_reason(reasons_, Reason::kSystemColumn);
    note_field({}, name);
    CastUse cast;
    cast.type = {{}, name};
    cast.by_call = true;
    of_argument ? require_no_string(*argument, cast) : void(cast.possible = false);
    shape_.casts.push_back(std::move(cast));
  }
}

// Who asks, in which database and schema, is in the key; what time it is cannot be.
void ShapeCollector::see_clock_or_user(const Object& body) {
  const std::string op = text(body, "op");
  for (const std::string_view keyed :
       {"SVFOP_CURRENT_ROLE", "SVFOP_CURRENT_USER", "SVFOP_USER", "SVFOP_SESSION_USER",
        "SVFOP_CURRENT_CATALOG", "SVFOP_CURRENT_SCHEMA"}) {
    if (op == keyed) return;
  }
  add_reason(reasons_, Reason::kTimeFunction);
}

void ShapeCollector::see_locking(const Object&) {
  add_reason(reasons_, Reason::kLocking);
  raise(shape_.effect_floor, Effect::kWritesRows);
}

// The new table may be a temporary one.
void ShapeCollector::see_into(const Object&) {
  add_reason(reasons_, Reason::kModifyingCte);
  raise(shape_.effect_floor, Effect::kChangesSession);
  shape_.makes_table = true;
}

// A column of `f(…) AS t(name type …)`: its value may be read from text.
void ShapeCollector::see_column_definition(const Object& body) {
  define(text(body, "colname"));
  Object target;
  const auto type = member(body, "typeName");
  if (!type || type->get(target) != simdjson::SUCCESS) return unreviewed();
  const std::optional<Name> name = name_of(target, "names");
  if (!name) return unreviewed();
  CastUse cast;
  cast.type = *name;
  cast.possible = false;
  shape_.casts.push_back(std::move(cast));
}

void ShapeCollector::see_sample(const Object&) { add_reason(reasons_, Reason::kTablesample); }

void ShapeCollector::note_call(const Object& body, bool in_from) {
  const std::optional<Name> name = name_of(body, "funcname");
  if (!name) return unreviewed();
  shape_.functions.insert({*name, count(body, "args"), in_from});
  if (name->name == "timezone") note_zone(body);
  if (name->name == "current_setting") note_setting(body);
  if (!looks_like_cast(body)) return;
  CastUse cast;
  cast.type = *name;
  cast.by_call = true;
  require_all(body, "args", cast);
  shape_.casts.push_back(std::move(cast));
}

// Whether the name is that of PostgreSQL's own function is for the catalog to say.
void ShapeCollector::note_setting(const Object& call) {
  const auto list = member(call, "args");
  simdjson::dom::array arguments;
  if (!list || list->get(arguments) != simdjson::SUCCESS || arguments.size() == 0) return;
  const std::optional<std::string> name = string_literal(*arguments.begin());
  if (!name) {
    shape_.settings_computed = true;
    return;
  }
  shape_.settings_read.insert(lower_ascii(*name));
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
  for (size_t i = 1; i <= columns; ++i) define("column" + std::to_string(i));
}

// FigureColnameInternal() of parse_target.c.
ShapeCollector::ColumnName ShapeCollector::column_name(const Element& value) {
  const std::optional<Node> found = unwrap(value);
  const std::string_view type = found ? found->type : std::string_view();
  if (type == "FuncCall") {
    const auto name = name_of(found->body, "funcname");
    return {name ? name->name : std::string(), true};
  }
  if (type == "ColumnRef") {
    const auto parts = strings(found->body, "fields");
    return {parts && !parts->empty() ? parts->back() : std::string(), true};
  }
  if (type == "A_Indirection") {
    const auto parts = strings(found->body, "indirection");
    if (parts && !parts->empty()) return {parts->back(), true};
  }
  if (type == "SubLink") return subselect_name(found->body);
  const bool around = type == "TypeCast" || type == "CollateClause" || type == "A_Indirection";
  const auto inner = around               ? member(found->body, "arg")
                     : type == "CaseExpr" ? member(found->body, "defresult")
                                          : std::nullopt;
  ColumnName name = inner ? column_name(*inner) : ColumnName{"?column?", false};
  if (name.strong) return name;
  Object target;
  const auto made = type == "TypeCast" ? member(found->body, "typeName") : std::nullopt;
  if (made && made->get(target) == simdjson::SUCCESS) {
    const auto type_name = name_of(target, "names");
    return {type_name ? type_name->name : std::string(), false};
  }
  if (type == "CaseExpr") return {"case", false};
  if (type == "A_Expr" && text(found->body, "kind") == "AEXPR_NULLIF") return {"nullif", true};
  if (type == "CoalesceExpr") return {"coalesce", true};
  if (type == "MinMaxExpr") {
    return {text(found->body, "op") == "IS_GREATEST" ? "greatest" : "least", true};
  }
  if (type == "A_ArrayExpr") return {"array", true};
  if (type == "RowExpr") return {"row", true};
  if (type == "GroupingFunc") return {"grouping", true};
  return name;
}

ShapeCollector::ColumnName ShapeCollector::subselect_name(const Object& body) {
  const std::string kind = text(body, "subLinkType");
  if (kind == "EXISTS_SUBLINK") return {"exists", true};
  if (kind == "ARRAY_SUBLINK") return {"array", true};
  const auto query = member(body, "subselect");
  std::optional<Node> select = query ? unwrap(*query) : std::nullopt;
  Object arm;
  // The names of a set operation are those of its first arm.
  while (select && kind == "EXPR_SUBLINK" && member(select->body, "larg") &&
         member(select->body, "larg")->get(arm) == simdjson::SUCCESS) {
    select->body = arm;
  }
  const auto list = select ? member(select->body, "targetList") : std::nullopt;
  simdjson::dom::array targets;
  if (kind != "EXPR_SUBLINK" || !list || list->get(targets) != simdjson::SUCCESS ||
      targets.size() == 0) {
    return {"?column?", false};
  }
  const std::optional<Node> target = unwrap(*targets.begin());
  const auto given = target ? member(target->body, "val") : std::nullopt;
  if (!given) return {"?column?", false};
  const std::string name = text(target->body, "name");
  return name.empty() ? column_name(*given) : ColumnName{name, true};
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
  } else if (type == "CaseExpr") {
    return require_case(found->body, cast);
  } else if (type == "SubLink") {
    return require_subselect(found->body, cast);
  }
  cast.possible = false;
}

void ShapeCollector::require_case(const Object& body, CastUse& cast) {
  if (const auto otherwise = member(body, "defresult")) require_no_string(*otherwise, cast);
  const auto list = member(body, "args");
  simdjson::dom::array whens;
  if (!list || list->get(whens) != simdjson::SUCCESS) return;
  for (const Element item : whens) {
    const std::optional<Node> when = unwrap(item);
    const auto result = when ? member(when->body, "result") : std::nullopt;
    result ? require_no_string(*result, cast) : void(cast.possible = false);
  }
}

// (SELECT x FROM …), which gives what x is.
void ShapeCollector::require_subselect(const Object& body, CastUse& cast) {
  const auto query = member(body, "subselect");
  const std::optional<Node> select = query ? unwrap(*query) : std::nullopt;
  const auto list = select ? member(select->body, "targetList") : std::nullopt;
  simdjson::dom::array targets;
  cast.possible = cast.possible && text(body, "subLinkType") == "EXPR_SUBLINK" && list &&
                  list->get(targets) == simdjson::SUCCESS && targets.size() == 1;
  if (!cast.possible) return;
  const std::optional<Node> target = unwrap(*targets.begin());
  const auto given = target ? member(target->body, "val") : std::nullopt;
  given ? require_no_string(*given, cast) : void(cast.possible = false);
}

// x AT TIME ZONE z is timezone(z, x).
void ShapeCollector::note_zone(const Object& call) {
  const auto list = member(call, "args");
  simdjson::dom::array arguments;
  if (!list || list->get(arguments) != simdjson::SUCCESS || arguments.size() == 0) return;
  ZoneUse zone;
  require_no_time(arguments.at(arguments.size() - 1).value_unsafe(), zone);
  shape_.zones.push_back(std::move(zone));
}

void ShapeCollector::require_no_time_in(const Object& body, std::string_view field, ZoneUse& zone) {
  const auto value = member(body, field);
  if (!value) return;
  simdjson::dom::array items;
  if (value->get(items) != simdjson::SUCCESS) return require_no_time(*value, zone);
  for (const Element item : items) require_no_time(item, zone);
}

// A bare constant is taken for a timestamptz. The arithmetic that gives a time has one among its
// operands. What AT TIME ZONE itself gives is a time only if it is applied to one.
void ShapeCollector::require_no_time(const Element& argument, ZoneUse& zone) {
  const std::optional<Node> found = unwrap(argument);
  const std::string_view type = found ? found->type : std::string_view();
  if (type == "A_Const" || type == "SQLValueFunction") return;
  if (type == "ColumnRef") {
    const auto parts = strings(found->body, "fields");
    if (parts && !parts->empty()) return zone.columns.push_back(parts->back());
  } else if (type == "TypeCast") {
    Object target;
    const auto made = member(found->body, "typeName");
    if (made && made->get(target) == simdjson::SUCCESS) {
      if (const auto name = name_of(target, "names")) return zone.types.push_back(*name);
    }
  } else if (type == "FuncCall") {
    const auto name = name_of(found->body, "funcname");
    if (name && name->name == "timezone") return;
    if (name && (name->name == "min" || name->name == "max")) {
      return require_no_time_in(found->body, "args", zone);
    }
    if (name) return zone.functions.push_back(*name);
  } else if (type == "A_Expr" && text(found->body, "kind") == "AEXPR_OP") {
    require_no_time_in(found->body, "lexpr", zone);
    return require_no_time_in(found->body, "rexpr", zone);
  } else if (type == "CoalesceExpr" || type == "MinMaxExpr") {
    return require_no_time_in(found->body, "args", zone);
  } else if (type == "CaseExpr") {
    require_no_time_in(found->body, "args", zone);
    return require_no_time_in(found->body, "defresult", zone);
  } else if (type == "CaseWhen") {
    return require_no_time_in(found->body, "result", zone);
  }
  zone.possible = false;
}

}  // namespace pgfresh::query
