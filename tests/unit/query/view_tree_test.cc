#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "query/view_tree.h"

namespace pgfresh::query {
namespace {

using Oids = std::vector<Oid>;

// What PostgreSQL 15 stores of: SELECT id, email AS ":funcid", created_at::text::date AS d,
// current_date AS "a }) b" FROM users WHERE (id, role) < (id, 'x {'), shortened by fields that say
// nothing here.
constexpr std::string_view kTree = R"tree(
({QUERY :commandType 1 :querySource 0 :canSetTag true :utilityStmt <> :hasModifyingCTE false
 :hasForUpdate false :cteList <> :rtable ({RANGETBLENTRY :alias {ALIAS :aliasname old :colnames <>}
 :eref {ALIAS :aliasname old :colnames ("id" ":funcid" "d" "a\ \}\)\ b")} :rtekind 0 :relid 17500
 :relkind v :tablesample <> :selectedCols (b) :securityQuals <>} {RANGETBLENTRY :alias <> :eref
 {ALIAS :aliasname users :colnames ("id" "email" "created_at" "role")} :rtekind 0 :relid 17429
 :relkind r :selectedCols (b 8 9 10 11)}) :jointree {FROMEXPR :fromlist ({RANGETBLREF :rtindex 3})
 :quals {ROWCOMPAREEXPR :rctype 1 :opnos (o 2974 664) :opfamilies (o 2968 1994) :inputcollids
 (o 0 100) :largs ({VAR :varno 3 :varattno 1 :vartype 2950} {VAR :varno 3 :varattno 4 :vartype 25})
 :rargs ({VAR :varno 3 :varattno 1 :vartype 2950} {CONST :consttype 25 :constisnull false
 :constvalue 7 [ 28 0 0 0 120 32 123 ]})}} :targetList ({TARGETENTRY :expr {VAR :varattno 1 :vartype
 2950} :resno 1 :resname id} {TARGETENTRY :expr {VAR :varattno 2 :vartype 25} :resno 2 :resname
 :funcid :ressortgroupref 0} {TARGETENTRY :expr {COERCEVIAIO :arg {COERCEVIAIO :arg {VAR :varattno 3
 :vartype 1184} :resulttype 25 :coerceformat 1} :resulttype 1082 :coerceformat 1} :resno 3 :resname
 d} {TARGETENTRY :expr {SQLVALUEFUNCTION :op 0 :type 1082 :typmod -1} :resname a\ \}\)\ b})
 :sortClause ({SORTGROUPCLAUSE :tleSortGroupRef 1 :eqop 2972 :sortop 0}) :rowMarks <>})
)tree";

TEST_CASE("what a stored tree mentions") {
  const auto tree = read_view_tree(kTree);
  REQUIRE(tree);
  CHECK(tree->relations == Oids{17500, 17429});
  CHECK(tree->functions.empty());
  CHECK(tree->operators == Oids{2974, 664, 2972});
  CHECK(tree->types == Oids{2950, 25, 1184, 1082});
  CHECK(tree->io_types == Oids{25, 1082});
  CHECK(tree->reasons == std::vector{Reason::kTimeFunction});
  CHECK_FALSE(tree->unreviewed);
}

TEST_CASE("what stands against a view by itself") {
  const auto reasons = [](std::string_view inside) {
    const auto tree = read_view_tree("({QUERY " + std::string(inside) + "})");
    REQUIRE(tree);
    return tree->reasons;
  };
  using Reasons = std::vector<Reason>;
  CHECK(reasons(":a {VAR :varattno -6}") == Reasons{Reason::kSystemColumn});
  CHECK(reasons(":a {SQLVALUEFUNCTION :op 8}") == Reasons{Reason::kTimeFunction});
  CHECK(reasons(":a {SQLVALUEFUNCTION :op 10}") == Reasons{});
  CHECK(reasons(":a {SQLVALUEFUNCTION :op 15}") == Reasons{Reason::kTimeFunction});
  CHECK(reasons(":hasModifyingCTE true") == Reasons{Reason::kModifyingCte});
  CHECK(reasons(":rowMarks ({ROWMARKCLAUSE :rti 1})") == Reasons{Reason::kLocking});
  CHECK(reasons(":t {TABLESAMPLECLAUSE :tsmhandler 3313}") == Reasons{Reason::kTablesample});
  CHECK(reasons(":x {TABLEFUNC :op 1}") == Reasons{Reason::kSyntax});
  CHECK(read_view_tree("({QUERY :x {TABLEFUNC :op 1}})")->unreviewed);
}

TEST_CASE("functions of every kind") {
  const auto tree = read_view_tree(
      "({QUERY :l ({FUNCEXPR :funcid 1 :args <>} {AGGREF :aggfnoid 2} {WINDOWFUNC :winfnoid 3} "
      "{FUNCEXPR :funcid 1})})");
  REQUIRE(tree);
  CHECK(tree->functions == Oids{1, 2, 3});
}

TEST_CASE("what is not such a tree, and a tree cut anywhere") {
  for (const std::string_view text :
       {"", "<>", "word", "({QUERY :a 1)", "({QUERY :a 1}", "({QUERY :a})", "({QUERY a 1})",
        "({QUERY :relid x})", "({QUERY :relid -1})", "({QUERY :c 3 [ 1 2})", "(})", "({Q :a {})})",
        "({QUERY :a 1}) ({QUERY :a 1})", "({QUERY {VAR :varattno 1}})"}) {
    CAPTURE(text);
    CHECK_FALSE(read_view_tree(text));
  }
  const std::string_view whole = kTree.substr(0, kTree.find_last_of(')'));
  for (size_t length = 0; length < whole.size(); ++length) {
    CHECK_FALSE(read_view_tree(whole.substr(0, length)));
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "({A :b ";
  CHECK_FALSE(read_view_tree(deep));
}

}  // namespace
}  // namespace pgfresh::query
