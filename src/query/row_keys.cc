// Which keys of a table a level of a query can see: the proof, and the search that follows it.
//
// An occurrence R in FROM may depend on key(R,c,v) alone when R can be replaced by the rows of R
// where c = v without changing the result of the level; then no other row matters, and aggregates,
// ORDER BY and LIMIT, which come later, do not change that. (An error that PostgreSQL might raise
// for another row, depending on its plan, is not a result.)
//
// All conditions used are equalities by pg_catalog's operators on key types: they are strict (never
// true of NULL) and transitive. A *context* of a node T of the join tree is a set of them such that
// T may be replaced by the rows of T for which all of them are true. A context may speak of columns
// outside of T; it then holds for each fixed row of what is outside. Less is always right.
//
// - The root's context are the conjuncts of WHERE.
// - Inner join X, Y ON q with context C: a row (x, y) that matters fulfils C and q. So both C and q
//   are a context of X and of Y.
// - X LEFT JOIN Y ON q with context C. When C has a condition on a column of Y, a row (x, null)
//   never fulfils it, and the join is as good as an inner one. Otherwise: the rows of X that matter
//   fulfil C (q does not hold for x without a partner), so X has C. A row y matters only where
//   q(x, y) holds for some x that fulfils C: so Y has C and q. Dropping other rows of Y takes no
//   partner from an x that matters.
// - RIGHT JOIN: the same, mirrored.
// - FULL JOIN: a condition of C on X excludes the rows (null, y), which makes it a LEFT JOIN; one
// on
//   Y makes it a RIGHT JOIN; without either, neither side has a context.
//
// At R, c = v holds when the conditions of its context imply it: c is connected to another column
// by equalities, and that column to v by one of them. Substituting for one occurrence after the
// other needs nothing but each one's own argument, so all of them may be substituted.
//
// Names. A name belongs to a column of this level only when PostgreSQL must find it there: an
// unqualified name that one table of the level has is that table's column, or ambiguous (an error)
// if an item whose columns are not known has it too, or, with USING and NATURAL, the merged column.
// What cannot be decided is no condition.
#include "query/row_keys.h"

#include <algorithm>
#include <bitset>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "query/shape.h"

namespace pgfresh::query {
namespace {

struct ColumnRef {
  size_t item = 0;
  const Attribute* attribute = nullptr;  // null: none
  friend bool operator==(const ColumnRef&, const ColumnRef&) = default;
};

// column = column, or column = one of values.
struct Predicate {
  ColumnRef left;
  ColumnRef right;
  KeyValues values;

  [[nodiscard]] bool has_values() const { return right.attribute == nullptr; }
};

// What a name means at this level.
struct Found {
  enum class Kind : uint8_t { kNothing, kColumn, kUnsure };
  Kind kind = Kind::kNothing;
  ColumnRef column;

  static Found unsure() { return {Kind::kUnsure, {}}; }
};

// From where a condition sees the tables: WHERE sees the root from outside, ON a join from inside,
// where the join's own alias hides nothing.
struct Spot {
  enum class From : uint8_t { kOutside, kInside };
  size_t node = 0;
  From from = From::kOutside;
};

using Items = std::bitset<kLevelItemsMax>;
using Context = std::vector<const Predicate*>;

}  // namespace

class KeyFinder::Level {
 public:
  Level(const QueryLevel& level, const KeyFinder& finder);

  [[nodiscard]] std::optional<size_t> item_at(int64_t location) const;
  [[nodiscard]] Dependency dependency(size_t item, const Relation& relation) const;

 private:
  // Names.
  [[nodiscard]] Found column_of(Spot place, const KeyOperand& operand) const;
  [[nodiscard]] Found unqualified(size_t node, const std::string& name) const;
  [[nodiscard]] Found unqualified_inside(const FromItem& join, const std::string& name) const;
  [[nodiscard]] Found merged(const FromItem& join, const std::string& name) const;
  [[nodiscard]] Found qualified(size_t node, const KeyOperand& operand) const;
  [[nodiscard]] Found qualified_inside(const FromItem& join, const KeyOperand& operand) const;
  [[nodiscard]] Found in_table(size_t node, const std::string& name) const;
  [[nodiscard]] bool columns_known(size_t node) const;

  // Conditions.
  void bind_node(size_t node);
  void bind(Spot place, const std::vector<KeyCondition>& conditions, std::vector<Predicate>& out);
  void bind_merged(size_t node, const std::string& name);
  [[nodiscard]] bool is_equality(const Name& op);
  [[nodiscard]] std::optional<KeyValues> values_of(const KeyCondition& condition,
                                                   const Attribute& column);
  [[nodiscard]] bool take_value(const KeyOperand& operand, const Attribute& column,
                                KeyValues& out) const;
  [[nodiscard]] bool take_array(const KeyOperand& operand, const Attribute& column,
                                KeyValues& out) const;
  [[nodiscard]] KeyParameter parameter(const KeyOperand& operand, Oid inferred) const;
  [[nodiscard]] Oid cast_oid(const KeyOperand& operand, KeyType wanted) const;

  // Contexts.
  void spread(size_t node, const Context& context);
  [[nodiscard]] FromItem::Kind reduced(const FromItem& join, const Context& context) const;
  [[nodiscard]] bool mentions(const Context& context, size_t node) const;
  [[nodiscard]] std::vector<const KeyValues*> values_for(const Context& context,
                                                         const ColumnRef& column) const;

  const QueryLevel& level_;
  const SelectShape& shape_;
  const Catalog& catalog_;
  const std::vector<std::string>& search_path_;
  const bool foreign_equality_;
  bool met_foreign_equality_ = false;
  bool met_too_many_ = false;
  std::vector<const Relation*> relations_;          // by item; null: columns not known
  std::vector<Items> below_;                        // the tables of each node
  std::vector<std::vector<Predicate>> predicates_;  // ON of each join; WHERE behind them
  std::vector<Context> contexts_;                   // of the tables
};

KeyFinder::Level::Level(const QueryLevel& level, const KeyFinder& finder)
    : level_(level),
      shape_(finder.shape_),
      catalog_(finder.catalog_),
      search_path_(finder.search_path_),
      foreign_equality_(catalog_.foreign_equality(search_path_)),
      relations_(level.items.size()),
      below_(level.items.size()),
      predicates_(level.items.size() + 1),
      contexts_(level.items.size()) {
  // A join stands behind what it joins.
  for (size_t node = 0; node < level_.items.size(); ++node) bind_node(node);
  const size_t root = level_.items.size() - 1;
  bind({root, Spot::From::kOutside}, level_.where, predicates_.back());
  Context where;
  for (const Predicate& each : predicates_.back()) where.push_back(&each);
  spread(root, where);
}

void KeyFinder::Level::bind_node(size_t node) {
  const FromItem& item = level_.items[node];
  if (!item.is_join()) {
    below_[node].set(node);
    if (item.kind != FromItem::Kind::kTable || item.renames_columns) return;
    const Relation* relation = item.table.schema.empty()
                                   ? catalog_.find_relation(search_path_, item.table.name)
                                   : catalog_.find_relation(item.table.schema, item.table.name);
    if (relation != nullptr && !relation->attributes.empty()) relations_[node] = relation;
    return;
  }
  below_[node] = below_[item.left] | below_[item.right];
  for (const std::string& name : item.using_columns) bind_merged(node, name);
  if (item.natural && columns_known(item.left) && columns_known(item.right)) {
    for (size_t table = 0; table < relations_.size(); ++table) {
      if (!below_[item.left].test(table)) continue;
      for (const Attribute& each : relations_[table]->attributes) bind_merged(node, each.name);
    }
  }
  bind({node, Spot::From::kInside}, item.on, predicates_[node]);
}

std::optional<size_t> KeyFinder::Level::item_at(int64_t location) const {
  for (size_t item = 0; item < level_.items.size(); ++item) {
    const FromItem& each = level_.items[item];
    if (each.kind == FromItem::Kind::kTable && each.location == location) return item;
  }
  return std::nullopt;
}

// ── Names ────────────────────────────────────────────────────────────────────────────────────────

Found KeyFinder::Level::column_of(Spot place, const KeyOperand& operand) const {
  const FromItem& item = level_.items[place.node];
  const bool plain = operand.qualifier.empty();
  if (place.from == Spot::From::kOutside) {
    return plain ? unqualified(place.node, operand.text) : qualified(place.node, operand);
  }
  return plain ? unqualified_inside(item, operand.text) : qualified_inside(item, operand);
}

Found KeyFinder::Level::in_table(size_t node, const std::string& name) const {
  if (relations_[node] == nullptr) return {};
  const Attribute* attribute = find_attribute(*relations_[node], name);
  if (attribute == nullptr) return {};
  return {Found::Kind::kColumn, {node, attribute}};
}

bool KeyFinder::Level::columns_known(size_t node) const {
  for (size_t item = 0; item < relations_.size(); ++item) {
    if (below_[node].test(item) && relations_[item] == nullptr) return false;
  }
  for (size_t item = 0; item <= node; ++item) {
    const bool inside = level_.items[item].is_join() && (below_[item] & ~below_[node]).none();
    if (inside && level_.items[item].renames_columns) return false;
  }
  return true;
}

Found KeyFinder::Level::unqualified(size_t node, const std::string& name) const {
  const FromItem& item = level_.items[node];
  if (!item.is_join()) return in_table(node, name);
  return item.renames_columns ? Found::unsure() : unqualified_inside(item, name);
}

Found KeyFinder::Level::unqualified_inside(const FromItem& item, const std::string& name) const {
  if (item.natural && !(columns_known(item.left) && columns_known(item.right))) {
    return Found::unsure();
  }
  const auto& names = item.using_columns;
  if (std::find(names.begin(), names.end(), name) != names.end()) return merged(item, name);
  const Found left = unqualified(item.left, name);
  const Found right = unqualified(item.right, name);
  if (left.kind == Found::Kind::kNothing) return right;
  if (right.kind == Found::Kind::kNothing) return left;
  return item.natural ? merged(item, name) : Found::unsure();
}

// The column of a join that stands for one of either side (buildMergedJoinVar in parse_clause.c).
Found KeyFinder::Level::merged(const FromItem& join, const std::string& name) const {
  const Found left = unqualified(join.left, name);
  const Found right = unqualified(join.right, name);
  if (left.kind != Found::Kind::kColumn || right.kind != Found::Kind::kColumn ||
      left.column.attribute->key == KeyType::kNone ||
      left.column.attribute->key != right.column.attribute->key) {
    return Found::unsure();
  }
  if (join.kind == FromItem::Kind::kFull) return Found::unsure();
  return join.kind == FromItem::Kind::kRight ? right : left;
}

// An alias of a join hides what is in it; one for its merged columns does not.
Found KeyFinder::Level::qualified(size_t node, const KeyOperand& operand) const {
  const FromItem& item = level_.items[node];
  if (!item.is_join()) {
    if (item.known_as != operand.qualifier) return {};
    if (relations_[node] == nullptr) return Found::unsure();
    if (!operand.schema.empty() && (item.has_alias || relations_[node]->schema != operand.schema)) {
      return {};
    }
    return in_table(node, operand.text);
  }
  if (item.using_alias == operand.qualifier) return Found::unsure();
  if (item.has_alias) {
    return item.known_as == operand.qualifier ? Found::unsure() : Found();
  }
  return qualified_inside(item, operand);
}

Found KeyFinder::Level::qualified_inside(const FromItem& item, const KeyOperand& operand) const {
  const Found left = qualified(item.left, operand);
  const Found right = qualified(item.right, operand);
  if (left.kind == Found::Kind::kNothing) return right;
  if (right.kind == Found::Kind::kNothing) return left;
  return Found::unsure();
}

// ── Conditions ───────────────────────────────────────────────────────────────────────────────────

bool KeyFinder::Level::is_equality(const Name& op) {
  if (op.schema == "pg_catalog") return true;
  if (!op.schema.empty()) return false;
  met_foreign_equality_ = met_foreign_equality_ || foreign_equality_;
  return !foreign_equality_;
}

void KeyFinder::Level::bind(Spot place, const std::vector<KeyCondition>& conditions,
                            std::vector<Predicate>& out) {
  for (const KeyCondition& condition : conditions) {
    const Found left = column_of(place, condition.left);
    if (left.kind != Found::Kind::kColumn) continue;
    const Attribute& column = *left.column.attribute;
    if (column.key == KeyType::kNone || !is_equality(condition.op)) continue;
    if (condition.right.empty()) {
      met_too_many_ = true;
      continue;
    }
    if (condition.right.front().kind == KeyOperand::Kind::kColumn) {
      if (condition.form != KeyCondition::Form::kEqual) continue;
      const Found right = column_of(place, condition.right.front());
      if (right.kind != Found::Kind::kColumn || right.column.attribute->key != column.key) continue;
      out.push_back({left.column, right.column, {}});
    } else if (auto values = values_of(condition, column)) {
      out.push_back({left.column, {}, std::move(*values)});
    }
  }
}

// The condition that USING and NATURAL imply for one column name.
void KeyFinder::Level::bind_merged(size_t node, const std::string& name) {
  const FromItem& join = level_.items[node];
  const Found left = unqualified(join.left, name);
  const Found right = unqualified(join.right, name);
  if (left.kind != Found::Kind::kColumn || right.kind != Found::Kind::kColumn) return;
  if (left.column.attribute->key == KeyType::kNone ||
      left.column.attribute->key != right.column.attribute->key || !is_equality({{}, "="})) {
    return;
  }
  predicates_[node].push_back({left.column, right.column, {}});
}

std::optional<KeyValues> KeyFinder::Level::values_of(const KeyCondition& condition,
                                                     const Attribute& column) {
  KeyValues values;
  for (const KeyOperand& each : condition.right) {
    const bool taken = condition.form == KeyCondition::Form::kAny
                           ? take_array(each, column, values)
                           : take_value(each, column, values);
    if (!taken) return std::nullopt;
  }
  std::sort(values.literals.begin(), values.literals.end());
  values.literals.erase(std::unique(values.literals.begin(), values.literals.end()),
                        values.literals.end());
  if (values.literals.size() + values.parameters.size() > limits::kKeyValuesMax) {
    met_too_many_ = true;
    return std::nullopt;
  }
  return values;
}

// The oid of the type a value is cast to, when that is one the column is compared with by canonical
// values; else 0.
Oid KeyFinder::Level::cast_oid(const KeyOperand& operand, KeyType wanted) const {
  const Catalog::Type* type =
      catalog_.find_type(search_path_, operand.cast->schema, operand.cast->name);
  return type != nullptr && key_type(type->oid) == wanted ? type->oid : 0;
}

KeyParameter KeyFinder::Level::parameter(const KeyOperand& operand, Oid inferred) const {
  const auto use = shape_.parameter_uses.find(operand.parameter);
  const bool certain = use != shape_.parameter_uses.end() && use->second.type_is_certain();
  KeyParameter out;
  out.number = operand.parameter;
  out.cast = operand.cast.has_value();
  out.inferred = certain ? inferred : 0;
  return out;
}

bool KeyFinder::Level::take_value(const KeyOperand& operand, const Attribute& column,
                                  KeyValues& out) const {
  const KeyType wanted = column.key;
  if (operand.cast_to_array) return false;
  const Oid cast = operand.cast ? cast_oid(operand, wanted) : 0;
  if (operand.cast && cast == 0) return false;
  switch (operand.kind) {
    case KeyOperand::Kind::kColumn:
      return false;
    case KeyOperand::Kind::kNumber:
      if (wanted != KeyType::kInteger) return false;
      break;
    case KeyOperand::Kind::kBool:
      if (wanted != KeyType::kBool) return false;
      break;
    case KeyOperand::Kind::kString:
      break;
    case KeyOperand::Kind::kParameter: {
      // varchar is compared as text.
      constexpr Oid kTextOid = 25;
      const Oid own = wanted == KeyType::kText ? kTextOid : column.type;
      out.parameters.push_back(parameter(operand, cast != 0 ? cast : own));
      return true;
    }
  }
  KeyBuffer buffer;
  const auto canonical = canonical_text(wanted, operand.text, buffer);
  if (canonical) out.literals.emplace_back(*canonical);
  return canonical.has_value();
}

bool KeyFinder::Level::take_array(const KeyOperand& operand, const Attribute& column,
                                  KeyValues& out) const {
  const KeyType wanted = column.key;
  const Oid cast = operand.cast ? cast_oid(operand, wanted) : 0;
  if (operand.cast && cast == 0) return false;
  if (operand.kind == KeyOperand::Kind::kParameter) {
    constexpr Oid kTextOid = 25;
    const Oid own = wanted == KeyType::kText ? kTextOid : column.type;
    KeyParameter made = parameter(operand, key_array_oid(cast != 0 ? cast : own));
    made.array = true;
    out.parameters.push_back(made);
    return true;
  }
  if (operand.kind != KeyOperand::Kind::kString) return false;
  TextArrayReader reader(operand.text);
  KeyBuffer buffer;
  while (const auto element = reader.next()) {
    // Under array_nulls = off it is a word; of the other types none is spelled so.
    if (element->is_null && wanted == KeyType::kText) return false;
    if (element->is_null) continue;
    const auto canonical = canonical_text(wanted, element->text, buffer);
    if (!canonical) return false;
    out.literals.emplace_back(*canonical);
  }
  return reader.ok();
}

// ── Contexts ─────────────────────────────────────────────────────────────────────────────────────

bool KeyFinder::Level::mentions(const Context& context, size_t node) const {
  return std::any_of(context.begin(), context.end(), [&](const Predicate* each) {
    return below_[node].test(each->left.item) ||
           (!each->has_values() && below_[node].test(each->right.item));
  });
}

FromItem::Kind KeyFinder::Level::reduced(const FromItem& join, const Context& context) const {
  const bool has_left = join.kind == FromItem::Kind::kInner || mentions(context, join.left);
  const bool has_right = join.kind == FromItem::Kind::kInner || mentions(context, join.right);
  switch (join.kind) {
    case FromItem::Kind::kLeft:
      return has_right ? FromItem::Kind::kInner : FromItem::Kind::kLeft;
    case FromItem::Kind::kRight:
      return has_left ? FromItem::Kind::kInner : FromItem::Kind::kRight;
    case FromItem::Kind::kFull:
      if (has_left && has_right) return FromItem::Kind::kInner;
      if (has_left) return FromItem::Kind::kLeft;
      return has_right ? FromItem::Kind::kRight : FromItem::Kind::kFull;
    case FromItem::Kind::kTable:
    case FromItem::Kind::kOther:
    case FromItem::Kind::kInner:
      break;
  }
  return join.kind;
}

void KeyFinder::Level::spread(size_t node, const Context& context) {
  const FromItem& item = level_.items[node];
  if (!item.is_join()) {
    contexts_[node] = context;
    return;
  }
  const FromItem::Kind kind = reduced(item, context);
  if (kind == FromItem::Kind::kFull) {
    spread(item.left, {});
    spread(item.right, {});
    return;
  }
  Context both = context;
  for (const Predicate& each : predicates_[node]) both.push_back(&each);
  spread(item.left, kind == FromItem::Kind::kLeft ? context : both);
  spread(item.right, kind == FromItem::Kind::kRight ? context : both);
}

// The values of all conditions that are connected with `column` by equalities.
std::vector<const KeyValues*> KeyFinder::Level::values_for(const Context& context,
                                                           const ColumnRef& column) const {
  std::vector<ColumnRef> equal = {column};
  const auto has = [&equal](const ColumnRef& each) {
    return std::find(equal.begin(), equal.end(), each) != equal.end();
  };
  for (size_t before = 0; before != equal.size();) {
    before = equal.size();
    for (const Predicate* each : context) {
      if (each->has_values()) continue;
      const bool left = has(each->left);
      const bool right = has(each->right);
      if (left && !right) equal.push_back(each->right);
      if (right && !left) equal.push_back(each->left);
    }
  }
  std::vector<const KeyValues*> values;
  for (const Predicate* each : context) {
    if (each->has_values() && has(each->left)) values.push_back(&each->values);
  }
  return values;
}

Dependency KeyFinder::Level::dependency(size_t item, const Relation& relation) const {
  Dependency out;
  out.relation = relation.oid;
  out.root = relation.root;
  if (relation.key_columns.empty()) {
    out.why_any = AnyReason::kNoKeyColumns;
    return out;
  }
  out.why_any = AnyReason::kNoCondition;
  if (met_too_many_) out.why_any = AnyReason::kTooManyValues;
  if (met_foreign_equality_) out.why_any = AnyReason::kForeignEquality;
  if (relations_[item] != &relation) return out;
  // The most selective: unique before others, truth values last, few values before many; then as
  // they were named when the table was watched.
  constexpr size_t kArrayValues = 8;
  using Rank = std::tuple<bool, bool, size_t>;
  std::optional<Rank> best;
  for (const KeyColumn& column : relation.key_columns) {
    const Attribute* attribute = find_attribute(relation, column.name);
    if (attribute == nullptr || attribute->key == KeyType::kNone) continue;
    for (const KeyValues* values : values_for(contexts_[item], {item, attribute})) {
      size_t many = values->literals.size();
      for (const KeyParameter& each : values->parameters) many += each.array ? kArrayValues : 1;
      const Rank rank{attribute->key == KeyType::kBool, !column.unique, many};
      if (best && *best <= rank) continue;
      best = rank;
      out.why_any = AnyReason::kNone;
      out.column = column.number;
      out.column_name = column.name;
      out.type = attribute->key;
      out.values = *values;
    }
  }
  return out;
}

// ── All levels ───────────────────────────────────────────────────────────────────────────────────

KeyFinder::KeyFinder(const SelectShape& shape, const Catalog& catalog,
                     const std::vector<std::string>& search_path)
    : shape_(shape), catalog_(catalog), search_path_(search_path), levels_(shape.levels.size()) {}

KeyFinder::~KeyFinder() = default;

void KeyFinder::add(const Name& name, const Relation& relation, Verdict& verdict) {
  bool found = false;
  for (const TableUse& use : shape_.uses) {
    if (use.table != name) continue;
    verdict.dependencies.push_back(find(use, relation));
    found = true;
  }
  if (!found) verdict.depend_on_any(relation, AnyReason::kNotLookedAt);
}

Dependency KeyFinder::find(const TableUse& use, const Relation& relation) {
  for (size_t i = 0; i < levels_.size(); ++i) {
    const auto& items = shape_.levels[i].items;
    const bool here = std::any_of(items.begin(), items.end(), [&use](const FromItem& each) {
      return each.kind == FromItem::Kind::kTable && each.location == use.location;
    });
    if (!here) continue;
    if (levels_[i] == nullptr) levels_[i] = std::make_unique<Level>(shape_.levels[i], *this);
    return levels_[i]->dependency(*levels_[i]->item_at(use.location), relation);
  }
  Dependency nowhere;
  nowhere.relation = relation.oid;
  nowhere.root = relation.root;
  return nowhere;
}

std::string_view any_reason_text(AnyReason reason) {
  switch (reason) {
    case AnyReason::kNone:
      return "by its keys";
    case AnyReason::kNotLookedAt:
      return "read where conditions are not looked at (a view, a policy)";
    case AnyReason::kNoKeyColumns:
      return "watched without key columns: pgfresh.watch(table, '{column, …}')";
    case AnyReason::kNoCondition:
      return "no condition key column = value where it is read";
    case AnyReason::kForeignEquality:
      return "a schema of the search_path has an operator = of its own for these types";
    case AnyReason::kTooManyValues:
      return "compared with more than 64 values";
  }
  return {};
}

}  // namespace pgfresh::query
