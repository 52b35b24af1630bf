// See tree_rules.h. What a node means beyond its fields is in shape.cc.

#include "query/tree_rules.h"

#include <unordered_map>
#include <vector>

namespace pgfresh::query {
namespace {

using Rules = std::unordered_map<std::string_view, std::vector<FieldRule>>;

constexpr FieldRule skip(std::string_view name) { return {name, Field::kIgnore, {}}; }
constexpr FieldRule nodes(std::string_view name) { return {name, Field::kNodes, {}}; }
constexpr FieldRule body(std::string_view name, std::string_view type) {
  return {name, Field::kStruct, type};
}

const Rules& rules() {
  static const Rules table = {
      // ---- SELECT ----
      {"SelectStmt",
       {nodes("distinctClause"),
        body("intoClause", "IntoClause"),
        nodes("targetList"),
        nodes("fromClause"),
        nodes("whereClause"),
        nodes("groupClause"),
        skip("groupDistinct"),
        nodes("havingClause"),
        nodes("windowClause"),
        nodes("valuesLists"),
        nodes("sortClause"),
        nodes("limitOffset"),
        nodes("limitCount"),
        skip("limitOption"),
        nodes("lockingClause"),
        body("withClause", "WithClause"),
        skip("op"),
        skip("all"),
        body("larg", "SelectStmt"),
        body("rarg", "SelectStmt")}},
      {"WithClause", {nodes("ctes"), skip("recursive"), skip("location")}},
      {"CommonTableExpr",
       {skip("ctename"), skip("aliascolnames"), skip("ctematerialized"), nodes("ctequery"),
        skip("location")}},
      {"RangeVar",
       {skip("schemaname"), skip("relname"), skip("inh"), skip("relpersistence"),
        body("alias", "Alias"), skip("location")}},
      {"RangeSubselect", {skip("lateral"), nodes("subquery"), body("alias", "Alias")}},
      {"RangeFunction",
       {skip("lateral"), skip("ordinality"), skip("is_rowsfrom"), nodes("functions"),
        body("alias", "Alias"), nodes("coldeflist")}},
      // Here of a function's columns only: no default, no constraint.
      {"ColumnDef",
       {skip("colname"), body("typeName", "TypeName"), skip("is_local"), skip("location")}},
      {"RangeTableSample",
       {nodes("relation"), skip("method"), nodes("args"), nodes("repeatable"), skip("location")}},
      {"JoinExpr",
       {skip("jointype"), skip("isNatural"), nodes("larg"), nodes("rarg"), skip("usingClause"),
        body("join_using_alias", "Alias"), nodes("quals"), body("alias", "Alias"),
        skip("rtindex")}},
      {"Alias", {skip("aliasname"), skip("colnames")}},
      {"ResTarget", {skip("name"), nodes("indirection"), nodes("val"), skip("location")}},
      {"SortBy",
       {nodes("node"), skip("sortby_dir"), skip("sortby_nulls"), skip("useOp"), skip("location")}},
      {"WindowDef",
       {skip("name"), skip("refname"), nodes("partitionClause"), nodes("orderClause"),
        skip("frameOptions"), nodes("startOffset"), nodes("endOffset"), skip("location")}},
      {"GroupingSet", {skip("kind"), nodes("content"), skip("location")}},
      {"GroupingFunc", {nodes("args"), nodes("refs"), skip("agglevelsup"), skip("location")}},
      // What follows makes a statement uncacheable by itself; its inside does not matter.
      {"LockingClause", {skip("lockedRels"), skip("strength"), skip("waitPolicy")}},
      {"IntoClause",
       {skip("rel"), skip("colNames"), skip("accessMethod"), skip("options"), skip("onCommit"),
        skip("tableSpaceName"), skip("viewQuery"), skip("skipData")}},
      {"SQLValueFunction", {skip("op"), skip("type"), skip("typmod"), skip("location")}},
      // ---- Expressions ----
      {"A_Const",
       {skip("ival"), skip("fval"), skip("boolval"), skip("sval"), skip("bsval"), skip("isnull"),
        skip("location")}},
      {"ColumnRef", {skip("fields"), skip("location")}},
      {"ParamRef", {skip("number"), skip("location")}},
      {"A_Expr", {skip("kind"), skip("name"), nodes("lexpr"), nodes("rexpr"), skip("location")}},
      {"BoolExpr", {skip("boolop"), nodes("args"), skip("location")}},
      {"NullTest", {nodes("arg"), skip("nulltesttype"), skip("argisrow"), skip("location")}},
      {"BooleanTest", {nodes("arg"), skip("booltesttype"), skip("location")}},
      {"FuncCall",
       {skip("funcname"), nodes("args"), nodes("agg_order"), nodes("agg_filter"),
        body("over", "WindowDef"), skip("agg_within_group"), skip("agg_star"), skip("agg_distinct"),
        skip("func_variadic"), skip("funcformat"), skip("location")}},
      {"NamedArgExpr", {nodes("arg"), skip("name"), skip("argnumber"), skip("location")}},
      {"SubLink",
       {skip("subLinkType"), skip("subLinkId"), nodes("testexpr"), skip("operName"),
        nodes("subselect"), skip("location")}},
      {"TypeCast", {nodes("arg"), body("typeName", "TypeName"), skip("location")}},
      {"TypeName",
       {skip("names"), skip("typmods"), skip("typemod"), skip("arrayBounds"), skip("location")}},
      {"CollateClause", {nodes("arg"), skip("collname"), skip("location")}},
      {"XmlExpr",
       {skip("op"), skip("name"), nodes("named_args"), skip("arg_names"), nodes("args"),
        skip("xmloption"), skip("type"), skip("typmod"), skip("location")}},
      {"XmlSerialize",
       {skip("xmloption"), nodes("expr"), body("typeName", "TypeName"), skip("location")}},
      {"CaseExpr", {nodes("arg"), nodes("args"), nodes("defresult"), skip("location")}},
      {"CaseWhen", {nodes("expr"), nodes("result"), skip("location")}},
      {"CoalesceExpr", {nodes("args"), skip("location")}},
      {"MinMaxExpr", {skip("op"), nodes("args"), skip("location")}},
      {"A_Indirection", {nodes("arg"), nodes("indirection")}},
      {"A_Indices", {skip("is_slice"), nodes("lidx"), nodes("uidx")}},
      {"A_ArrayExpr", {nodes("elements"), skip("location")}},
      {"A_Star", {}},
      {"RowExpr", {nodes("args"), skip("row_format"), skip("colnames"), skip("location")}},
      {"List", {nodes("items")}},
      {"String", {skip("sval")}},
      {"Integer", {skip("ival")}},
      // ---- Writes: reviewed for their effect only ----
      {"InsertStmt",
       {body("relation", "RangeVar"), nodes("cols"), nodes("selectStmt"),
        body("onConflictClause", "OnConflictClause"), nodes("returningList"),
        body("withClause", "WithClause"), skip("override")}},
      {"OnConflictClause",
       {skip("action"), body("infer", "InferClause"), nodes("targetList"), nodes("whereClause"),
        skip("location")}},
      {"InferClause",
       {nodes("indexElems"), nodes("whereClause"), skip("conname"), skip("location")}},
      {"IndexElem",
       {skip("name"), nodes("expr"), skip("collation"), skip("opclass"), skip("ordering"),
        skip("nulls_ordering")}},
      {"UpdateStmt",
       {body("relation", "RangeVar"), nodes("targetList"), nodes("whereClause"),
        nodes("fromClause"), nodes("returningList"), body("withClause", "WithClause")}},
      {"DeleteStmt",
       {body("relation", "RangeVar"), nodes("usingClause"), nodes("whereClause"),
        nodes("returningList"), body("withClause", "WithClause")}},
      {"MergeStmt",
       {body("relation", "RangeVar"), nodes("sourceRelation"), nodes("joinCondition"),
        nodes("mergeWhenClauses"), body("withClause", "WithClause")}},
      {"MergeWhenClause",
       {skip("matched"), skip("commandType"), skip("override"), nodes("condition"),
        nodes("targetList"), nodes("values")}},
      {"MultiAssignRef", {nodes("source"), skip("colno"), skip("ncolumns")}},
      {"SetToDefault", {skip("typeId"), skip("typeMod"), skip("collation"), skip("location")}},
      {"CurrentOfExpr", {skip("cvarno"), skip("cursor_name"), skip("cursor_param")}},
      {"TruncateStmt", {nodes("relations"), skip("restart_seqs"), skip("behavior")}},
      {"CopyStmt",
       {body("relation", "RangeVar"), nodes("query"), skip("attlist"), skip("is_from"),
        skip("is_program"), skip("filename"), skip("options"), nodes("whereClause")}},
  };
  return table;
}

}  // namespace

NodeRule node_rule(std::string_view type) {
  const auto found = rules().find(type);
  if (found == rules().end()) return {};
  const std::vector<FieldRule>& fields = found->second;
  return {true, fields.data(), fields.data() + fields.size()};
}

const FieldRule* field_rule(const NodeRule& rule, std::string_view field) {
  for (const FieldRule* it = rule.first; it != rule.last; ++it) {
    if (it->name == field) return it;
  }
  return nullptr;
}

}  // namespace pgfresh::query
