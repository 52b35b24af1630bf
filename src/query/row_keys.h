// Which rows of a table a statement can see at most: the conditions `column = value` of one level
// of a query, collected from the parse tree once per text (row_keys_collect.cc), and the keys that
// follow from them, found per catalog snapshot (row_keys.cc). freshness.md, "Row-aware
// dependencies", is the law; why a condition may be used for a table is argued in row_keys.cc.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "query/statement.h"

namespace pgfresh::query {

struct SelectShape;

struct Name {
  std::string schema;  // empty: to be found by search_path
  std::string name;
  friend auto operator<=>(const Name&, const Name&) = default;
};

// The list of String nodes `field` of a node: name or schema.name. nullopt: longer
// (database.schema.name), empty, or something else.
[[nodiscard]] std::optional<Name> name_of(const simdjson::dom::object& body,
                                          std::string_view field);

// One side of a condition.
struct KeyOperand {
  enum class Kind : uint8_t { kColumn, kNumber, kString, kBool, kParameter };
  Kind kind = Kind::kColumn;
  std::string schema;     // kColumn, may be empty
  std::string qualifier;  // kColumn, may be empty
  std::string text;       // the column's name, the literal
  int parameter = 0;
  std::optional<Name> cast;  // value::type, without length; of an array: its elements' type
  bool cast_to_array = false;
  int64_t location = -1;  // kNumber, kString: the constant's place in the text

  friend bool operator==(const KeyOperand&, const KeyOperand&) = default;
};

// A conjunct that can only be true of rows where `left` equals one of `right`.
struct KeyCondition {
  enum class Form : uint8_t {
    kEqual,  // left = right[0]
    kIn,     // left IN (right…), left = ANY (ARRAY[right…])
    kAny     // left = ANY (right[0]), an array
  };
  Form form = Form::kEqual;
  Name op;
  KeyOperand left;                // kIn, kAny: a column
  std::vector<KeyOperand> right;  // at most limits::kKeyValuesMax; none: there were more

  friend bool operator==(const KeyCondition&, const KeyCondition&) = default;
};

// A node of the tree of joins in FROM.
struct FromItem {
  enum class Kind : uint8_t { kTable, kOther, kInner, kLeft, kRight, kFull };
  Kind kind = Kind::kOther;
  std::string known_as;     // alias, or the table's name; empty: nothing can be qualified by it
  std::string using_alias;  // JOIN … USING (…) AS using_alias
  bool has_alias = false;
  bool renames_columns = false;  // t AS a (x, y)
  Name table;                    // kTable
  int64_t location = -1;         // kTable: its place in the text, which names the occurrence
  size_t left = 0;               // joins: places in QueryLevel::items
  size_t right = 0;
  bool natural = false;
  std::vector<std::string> using_columns;
  std::vector<KeyCondition> on;

  [[nodiscard]] bool is_join() const { return kind >= Kind::kInner; }
  friend bool operator==(const FromItem&, const FromItem&) = default;
};

// FROM and WHERE of one SELECT. The items of FROM are joined by kInner nodes; the last item is the
// root of all.
struct QueryLevel {
  std::vector<FromItem> items;
  std::vector<KeyCondition> where;

  friend bool operator==(const QueryLevel&, const QueryLevel&) = default;
};

// A table named somewhere in a statement.
struct TableUse {
  Name table;
  int64_t location = -1;

  friend bool operator==(const TableUse&, const TableUse&) = default;
};

// The places a parameter stands in. PostgreSQL decides the type of one that Parse leaves open at
// the first of them.
struct ParameterUse {
  int uses = 0;
  int casts = 0;  // how many of the uses are $n::cast
  Name cast;      // of the first of those
  bool cast_to_array = false;
  bool casts_differ = false;

  friend bool operator==(const ParameterUse&, const ParameterUse&) = default;
  [[nodiscard]] bool type_is_certain() const {
    return uses == 1 || (casts == uses && !casts_differ);
  }
};

// Bounds: beyond, the tables of a level are read as a whole. 256 operands of some 200 bytes and 256
// items of some 400 are 150 KB a text at the very worst; ordinary ones take 1 or 2 KB.
inline constexpr size_t kLevelItemsMax = 64;
inline constexpr size_t kLevelConditionsMax = 128;
inline constexpr size_t kStatementItemsMax = 256;
inline constexpr size_t kStatementOperandsMax = 256;
// What a level counts for.
[[nodiscard]] size_t operands_of(const QueryLevel& level);

// `ctes`: the names that mean a WITH query and no table here. nullopt: nothing to be used.
[[nodiscard]] std::optional<QueryLevel> collect_level(const simdjson::dom::object& select,
                                                      const std::vector<std::string>& ctes);
// The type of a cast without length; nullopt for anything else.
struct CastTarget {
  Name type;
  bool array = false;
};
[[nodiscard]] std::optional<CastTarget> cast_target(const simdjson::dom::object& cast);

// Finds the keys for one shape under one catalog snapshot and search_path, which outlive it.
class KeyFinder {
 public:
  KeyFinder(const SelectShape& shape, const Catalog& catalog,
            const std::vector<std::string>& search_path);
  ~KeyFinder();
  KeyFinder(const KeyFinder&) = delete;
  KeyFinder& operator=(const KeyFinder&) = delete;

  // One dependency for each use in the shape of `relation` under the name `name`; at least one.
  void add(const Name& name, const Relation& relation, Verdict& verdict);

 private:
  class Level;
  [[nodiscard]] Dependency find(const TableUse& use, const Relation& relation);

  const SelectShape& shape_;
  const Catalog& catalog_;
  const std::vector<std::string>& search_path_;
  std::vector<std::unique_ptr<Level>> levels_;  // as in the shape; null: not bound yet
};

}  // namespace pgfresh::query
