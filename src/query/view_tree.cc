// See view_tree.h. The form (src/backend/nodes/outfuncs.c): {TAG :field value :field value …},
// where a value is a node, a list in parentheses, or a word, which a binary constant follows with
// [ bytes ]. A backslash takes the meaning from the character behind it. Whether a word is a
// field's name is told by its place alone, because a column may be called ":funcid".

#include "query/view_tree.h"

#include <algorithm>
#include <charconv>
#include <unordered_set>

#include "query/shape.h"

namespace pgfresh::query {
namespace {

// Deeper is not looked into: no view that somebody wrote comes near.
constexpr size_t kDepthMax = 2000;

using Words = std::unordered_set<std::string_view>;

// Tags of PostgreSQL 14 and 15, and of 16 and later, where some are spelt out.
bool is_reviewed(std::string_view tag) {
  static const Words tags = {
      "QUERY", "RTE", "RANGETBLENTRY", "RTEPERMISSIONINFO", "ALIAS", "TARGETENTRY", "FROMEXPR",
      "JOINEXPR", "RANGETBLREF", "RANGETBLFUNCTION", "COMMONTABLEEXPR", "SETOPERATIONSTMT",
      "SORTGROUPCLAUSE", "GROUPINGSET", "GROUPINGFUNC", "WINDOWCLAUSE", "ROWMARKCLAUSE",
      "TABLESAMPLECLAUSE",
      // Expressions.
      "VAR", "CONST", "PARAM", "AGGREF", "WINDOWFUNC", "FUNCEXPR", "NAMEDARGEXPR", "OPEXPR",
      "DISTINCTEXPR", "NULLIFEXPR", "SCALARARRAYOPEXPR", "BOOLEXPR", "SUBLINK", "FIELDSELECT",
      "RELABELTYPE", "COERCEVIAIO", "ARRAYCOERCEEXPR", "CONVERTROWTYPEEXPR", "COERCETODOMAIN",
      "COERCETODOMAINVALUE", "COLLATE", "COLLATEEXPR", "CASE", "CASEEXPR", "WHEN", "CASEWHEN",
      "CASETESTEXPR", "ARRAY", "ARRAYEXPR", "ROW", "ROWEXPR", "ROWCOMPARE", "ROWCOMPAREEXPR",
      "COALESCE", "COALESCEEXPR", "MINMAX", "MINMAXEXPR", "NULLTEST", "BOOLEANTEST",
      "SUBSCRIPTINGREF", "XMLEXPR", "SQLVALUEFUNCTION"};
  return tags.contains(tag);
}

bool tells_type(std::string_view field) {
  static const Words fields = {":vartype",      ":consttype",    ":paramtype",  ":funcresulttype",
                               ":opresulttype", ":resulttype",   ":aggtype",    ":wintype",
                               ":casetype",     ":coalescetype", ":minmaxtype", ":array_typeid",
                               ":row_typeid",   ":refrestype",   ":refelemtype"};
  return fields.contains(field);
}

// What pg_strtok() skips (src/backend/nodes/read.c): fewer than isspace().
bool is_gap(char c) { return c == ' ' || c == '\n' || c == '\t'; }
bool is_bracket(char c) { return c == '(' || c == ')' || c == '{' || c == '}'; }

void add(std::vector<Oid>& oids, Oid oid) {
  if (oid != 0 && std::find(oids.begin(), oids.end(), oid) == oids.end()) oids.push_back(oid);
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::optional<ViewTree> read() {
    while (true) {
      const std::string_view word = next();
      if (word.empty()) break;
      if (!take(word)) return std::nullopt;
    }
    if (!levels_.empty() || !seen_) return std::nullopt;
    return std::move(tree_);
  }

 private:
  // A node, or a list; `field`: the one of the node (or of the list's node) whose value comes.
  struct Level {
    bool list = false;
    std::string_view tag;
    std::string_view field;
  };

  std::string_view next();
  bool take(std::string_view word);
  bool open(bool list);
  bool close(bool list);
  bool take_value(const Level& level, std::string_view word);
  bool take_oid(std::string_view field, std::string_view word);
  void take_flag(const Level& level, std::string_view word);
  void take_tag(std::string_view tag);

  std::string_view rest_;
  std::vector<Level> levels_;
  ViewTree tree_;
  bool seen_ = false;
};

// Empty at the end.
std::string_view Reader::next() {
  while (!rest_.empty() && is_gap(rest_.front())) rest_.remove_prefix(1);
  if (rest_.empty()) return {};
  size_t end = 0;
  if (is_bracket(rest_.front())) {
    end = 1;
  } else {
    while (end < rest_.size() && !is_gap(rest_[end]) && !is_bracket(rest_[end])) {
      const bool escape = rest_[end] == '\\' && end + 1 < rest_.size();
      end += escape ? size_t{2} : size_t{1};
    }
  }
  const std::string_view word = rest_.substr(0, end);
  rest_.remove_prefix(end);
  return word;
}

bool Reader::take(std::string_view word) {
  if (word == "{" || word == "(") return open(word == "(");
  if (word == "}" || word == ")") return close(word == ")");
  if (levels_.empty()) return false;
  Level& level = levels_.back();
  if (level.list) return take_value(level, word);
  if (level.field.empty()) {
    level.field = word;
    return word.front() == ':';
  }
  if (!take_value(level, word)) return false;
  level.field = {};
  const std::string_view after = rest_;
  if (next() != "[") {
    rest_ = after;
    return true;
  }
  for (std::string_view byte = next(); byte != "]"; byte = next()) {
    if (byte.empty()) return false;
  }
  return true;
}

bool Reader::open(bool list) {
  Level level;
  level.list = list;
  if (levels_.empty()) {
    if (seen_) return false;
  } else {
    const Level& around = levels_.back();
    if (!around.list && around.field.empty()) return false;
    if (list) level.tag = around.tag, level.field = around.field;
  }
  seen_ = true;
  if (!list) {
    level.tag = next();
    take_tag(level.tag);
  }
  levels_.push_back(level);
  return levels_.size() <= kDepthMax;
}

bool Reader::close(bool list) {
  if (levels_.empty() || levels_.back().list != list) return false;
  if (!list && !levels_.back().field.empty()) return false;
  levels_.pop_back();
  if (!levels_.empty() && !levels_.back().list) levels_.back().field = {};
  return true;
}

void Reader::take_tag(std::string_view tag) {
  if (!is_reviewed(tag)) {
    tree_.unreviewed = true;
    add_reason(tree_.reasons, Reason::kSyntax);
  }
  if (tag == "TABLESAMPLECLAUSE") add_reason(tree_.reasons, Reason::kTablesample);
  if (tag == "ROWMARKCLAUSE") add_reason(tree_.reasons, Reason::kLocking);
}

// A word that is a value, or stands in a list. Lists of oids begin with the word "o".
bool Reader::take_value(const Level& level, std::string_view word) {
  if (level.list && level.field != ":opnos") return true;
  if (level.list && word == "o") return true;
  take_flag(level, word);
  if (level.tag == "COERCEVIAIO" && level.field == ":resulttype") {
    return take_oid(":io", word) && take_oid(level.field, word);
  }
  return take_oid(level.field, word);
}

bool Reader::take_oid(std::string_view field, std::string_view word) {
  std::vector<Oid>* kept = nullptr;
  if (field == ":relid") kept = &tree_.relations;
  if (field == ":funcid" || field == ":aggfnoid" || field == ":winfnoid") kept = &tree_.functions;
  if (field == ":opno" || field == ":opnos" || field == ":eqop" || field == ":sortop") {
    kept = &tree_.operators;
  }
  if (field == ":io") kept = &tree_.io_types;
  if (tells_type(field)) kept = &tree_.types;
  if (kept == nullptr) return true;
  Oid oid = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), oid);
  if (error != std::errc() || end != word.data() + word.size()) return false;
  add(*kept, oid);
  return true;
}

void Reader::take_flag(const Level& level, std::string_view word) {
  if (level.field == ":varattno" && word.front() == '-') {
    add_reason(tree_.reasons, Reason::kSystemColumn);
  }
  if (level.field == ":hasModifyingCTE" && word == "true") {
    add_reason(tree_.reasons, Reason::kModifyingCte);
  }
  // SVFOP_CURRENT_DATE 0 … SVFOP_LOCALTIMESTAMP_N 8 (primnodes.h); those behind, SVFOP_CURRENT_ROLE
  // 9 …, tell what is in the key.
  if (level.tag == "SQLVALUEFUNCTION" && level.field == ":op") {
    const bool keyed = word == "9" || (word.size() == 2 && word >= "10" && word <= "14");
    if (!keyed) add_reason(tree_.reasons, Reason::kTimeFunction);
  }
}

}  // namespace

std::optional<ViewTree> read_view_tree(std::string_view text) { return Reader(text).read(); }

}  // namespace pgfresh::query
