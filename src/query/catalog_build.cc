// From the rows of Catalog::load_sql() (see catalog_load.cc for their form) to a snapshot. The rows
// come from our own statement, but over a wire and from a server that may be of another version:
// whatever does not have the expected form ends the build with an error, and there is no snapshot.
//
// Three things are computed here and not in SQL: trees (the connected components of inheritance,
// because a table with two parents ties both trees together), the safety of types (recursive), and
// what stands against a view (by oid, from its stored tree).

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/hash.h"
#include "query/catalog.h"
#include "query/catalog_names.h"
#include "query/catalog_seals.h"
#include "query/policy.h"
#include "query/reviewed.h"
#include "query/shape.h"
#include "query/statement.h"
#include "query/view_tree.h"

namespace pgfresh::query {
namespace {

// A statement's first row tells the columns; kind and a … i.
constexpr size_t kColumns = 10;
// Types within types: far beyond what anyone declares, small enough for the stack.
constexpr int kTypeDepthMax = 32;

using Row = std::vector<std::optional<std::string>>;

struct RawType {
  char type_type = 'b';  // pg_type.typtype
  Origin origin = Origin::kUser;
  bool immutable_io = false;
  bool harmless = false;  // no bad CHECK, no bad cast
  Oid part = 0;           // element, base or subtype
  Oid relation = 0;       // of a composite type
};

// age(timestamptz) and age(timestamp): the overloads that read the clock (pg_proc.dat).
constexpr Oid kAgeOfTimestamptz = 1386;
constexpr Oid kAgeOfTimestamp = 2059;
constexpr Oid kRecord = 2249;
constexpr Oid kRecordArray = 2287;

struct Judged {
  bool safe = false;
  bool date_time = false;
  bool time_of_day = false;
  bool geographic = false;
};

Origin origin_of(char letter) {
  if (letter == 'b') return Origin::kBuiltin;
  // g: an extension's function that takes a geography.
  return letter == 'e' || letter == 'g' ? Origin::kExtension : Origin::kUser;
}

Volatility volatility_of(char letter) {
  if (letter == 'i') return Volatility::kImmutable;
  return letter == 's' ? Volatility::kStable : Volatility::kVolatile;
}

}  // namespace

class CatalogBuilder {
 public:
  CatalogBuilder() : catalog_(std::make_shared<Catalog>()) {}

  std::string take(const SqlRows& rows);
  std::shared_ptr<Catalog> finish(uint64_t generation, uint64_t schema_token);

 private:
  bool take_row(const Row& row);
  bool take_meta(const Row& row);
  bool take_relation(const Row& row);
  bool take_system_relations(const Row& row);
  bool take_key_columns(const Row& row);
  bool take_inheritance(const Row& row);
  bool take_view(const Row& row);
  bool take_names(const Row& row, bool functions);
  bool take_type(const Row& row);

  void build_trees();
  void build_key_columns();
  void judge_types();
  Judged judge(Oid type, int depth);
  Judged judge_base(const Catalog::Type& type, const RawType& raw) const;
  Judged judge_composite(Oid relation, int depth);
  void judge_projections();
  void judge_relations();
  void judge_views();
  View judge_view(Oid oid, const ViewTree& tree) const;
  static void note(std::vector<Safety>& kept, const std::unordered_map<Oid, Safety>& known,
                   const std::vector<Oid>& oids);

  // Field access: text of a column; "" for NULL.
  static std::string_view text(const Row& row, size_t column);
  static bool number(std::string_view digits, Oid& value);
  static bool flag(const Row& row, size_t column) { return text(row, column) == "true"; }
  bool add_relation(Relation relation);
  bool array(std::string_view json, simdjson::dom::array& out);

  std::shared_ptr<Catalog> catalog_;
  simdjson::dom::parser parser_;
  std::unordered_map<Oid, RawType> raw_types_;
  std::unordered_map<Oid, Judged> judged_;
  std::vector<std::pair<Oid, Oid>> inheritance_;  // parent, child
  std::unordered_map<Oid, Safety> functions_;
  std::unordered_map<Oid, Safety> operators_;
  std::unordered_set<Oid> projecting_;  // functions that read spatial_ref_sys
  std::unordered_set<Oid> projecting_operators_;
  std::unordered_set<std::string> planar_;  // names with an overload that does not
  std::vector<std::pair<Oid, std::optional<ViewTree>>> views_;
  PolicyBookBuilder policies_;
  SealsBuilder seals_;
  bool meta_seen_ = false;
};

std::string_view CatalogBuilder::text(const Row& row, size_t column) {
  const auto& field = row[column];
  return field ? std::string_view(*field) : std::string_view();
}

bool CatalogBuilder::number(std::string_view digits, Oid& value) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() && !digits.empty();
}

bool CatalogBuilder::array(std::string_view json, simdjson::dom::array& out) {
  return parser_.parse(json.data(), json.size()).get(out) == simdjson::SUCCESS;
}

std::string CatalogBuilder::take(const SqlRows& rows) {
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    const Row& row = rows.rows[i];
    if (row.size() != kColumns || !take_row(row)) {
      return "row " + std::to_string(i) + " of the catalog snapshot is not understood (kind '" +
             (row.empty() ? std::string() : std::string(text(row, 0))) + "')";
    }
  }
  return meta_seen_ ? std::string() : "the catalog snapshot has no row of kind 'm'";
}

bool CatalogBuilder::take_row(const Row& row) {
  const std::string_view kind = text(row, 0);
  if (kind.size() != 1) return false;
  switch (kind.front()) {
    case 'm':
      return take_meta(row);
    case 'r':
      return take_relation(row);
    case 's':
      return take_system_relations(row);
    case 'k':
      return take_key_columns(row);
    case 'e':
      catalog_->equality_schemas_.emplace_back(text(row, 1));
      return true;
    case 'i':
      return take_inheritance(row);
    case 'v':
      return take_view(row);
    case 'f':
    case 'o':
      return take_names(row, kind.front() == 'f');
    case 'y':
      return take_type(row);
    case 'w':
      seals_.take_names(text(row, 1), text(row, 2), text(row, 3));
      return true;
    case 'p':
      return policies_.take_policy(row);
    case 'q':
      return policies_.take_function(row);
    case 'g':
      return policies_.take_setting(row);
    case 'x':
      return policies_.take_extension(row);
    default:
      return false;
  }
}

bool CatalogBuilder::take_meta(const Row& row) {
  const std::string_view version = text(row, 1);
  catalog_->installed_ = version == "1" || version.starts_with("1.");
  catalog_->event_triggers_ = text(row, 2) == "2";
  catalog_->writes_may_change_session_ = text(row, 3) != "false";
  catalog_->set_config_is_public_ = text(row, 4) != "false";
  seals_.take_common(text(row, 5));
  meta_seen_ = true;
  return true;
}

bool CatalogBuilder::add_relation(Relation relation) {
  const Oid oid = relation.oid;
  relation.root = oid;
  catalog_->relation_names_.emplace(qualified(relation.schema, relation.name), oid);
  if (relation.name == "spatial_ref_sys") catalog_->projection_tables_.push_back(oid);
  return catalog_->relations_.emplace(oid, std::move(relation)).second;
}

bool CatalogBuilder::take_relation(const Row& row) {
  Relation relation;
  if (!number(text(row, 1), relation.oid)) return false;
  relation.schema = text(row, 2);
  relation.name = text(row, 3);
  if (text(row, 4).size() != 1 || text(row, 5).size() != 1) return false;
  relation.kind = text(row, 4).front();
  relation.persistence = text(row, 5).front();
  relation.row_security = flag(row, 6);
  relation.watched = flag(row, 7);
  // A subscription's apply worker fires row triggers only, so never ours.
  relation.foreign_member = relation.kind == 'f' || relation.persistence != 'p' || flag(row, 8);
  if (row[9]) {
    simdjson::dom::array attributes;
    if (!array(*row[9], attributes)) return false;
    for (const simdjson::dom::element item : attributes) {
      int64_t attribute_number = 0;
      int64_t type = 0;
      std::string_view name;
      if (item.at(0).get(attribute_number) != simdjson::SUCCESS ||
          item.at(1).get(type) != simdjson::SUCCESS || item.at(2).get(name) != simdjson::SUCCESS) {
        return false;
      }
      bool deterministic = false;
      if (item.at(3).get(deterministic) != simdjson::SUCCESS) return false;
      relation.attributes.push_back(
          {std::string(name), static_cast<int16_t>(attribute_number), static_cast<Oid>(type),
           deterministic ? key_type(static_cast<Oid>(type)) : KeyType::kNone});
    }
  }
  relation.seal = seal128(std::to_string(relation.oid) + std::string(text(row, 9))).low;
  return add_relation(std::move(relation));
}

// The head of a trigger function. Anybody who may create functions in our schema can write another
// one, so what does not read as two lists of equal length is no list of key columns.
bool CatalogBuilder::take_key_columns(const Row& row) {
  Oid oid = 0;
  if (!number(text(row, 1), oid)) return false;
  const auto relation = catalog_->relations_.find(oid);
  if (relation == catalog_->relations_.end()) return false;
  simdjson::dom::array unique;
  if (row[4] && !array(*row[4], unique)) return false;
  TextArrayReader names(text(row, 2));
  TextArrayReader numbers(text(row, 3));
  std::vector<KeyColumn> columns;
  while (const auto name = names.next()) {
    KeyColumn column;
    column.name = name->text;
    const auto place = numbers.next();
    Oid value = 0;
    if (!place || !number(place->text, value) || value > INT16_MAX) return true;
    column.number = static_cast<int16_t>(value);
    if (row[4]) {
      column.unique = std::any_of(unique.begin(), unique.end(), [value](const auto& each) {
        int64_t found = 0;
        return each.get(found) == simdjson::SUCCESS && found == static_cast<int64_t>(value);
      });
    }
    columns.push_back(std::move(column));
  }
  if (!names.ok() || numbers.next() || !numbers.ok()) return true;
  relation->second.key_columns = std::move(columns);
  return true;
}

bool CatalogBuilder::take_system_relations(const Row& row) {
  simdjson::dom::array relations;
  if (!row[2] || !array(*row[2], relations)) return false;
  for (const simdjson::dom::element item : relations) {
    int64_t oid = 0;
    std::string_view name;
    std::string_view kind;
    if (item.at(0).get(oid) != simdjson::SUCCESS || item.at(1).get(name) != simdjson::SUCCESS ||
        item.at(2).get(kind) != simdjson::SUCCESS || kind.size() != 1) {
      return false;
    }
    Relation relation;
    relation.oid = static_cast<Oid>(oid);
    relation.schema = text(row, 1);
    relation.name = name;
    relation.kind = kind.front();
    if (!add_relation(std::move(relation))) return false;
  }
  return true;
}

bool CatalogBuilder::take_inheritance(const Row& row) {
  Oid parent = 0;
  Oid child = 0;
  if (!number(text(row, 1), parent) || !number(text(row, 2), child)) return false;
  inheritance_.emplace_back(parent, child);
  return true;
}

bool CatalogBuilder::take_view(const Row& row) {
  Oid oid = 0;
  if (!number(text(row, 1), oid) || !catalog_->relations_.contains(oid)) return false;
  views_.emplace_back(oid, read_view_tree(text(row, 2)));
  return true;
}

bool CatalogBuilder::take_names(const Row& row, bool functions) {
  const std::string_view code = text(row, 2);
  simdjson::dom::array names;
  if (code.size() != 5 || !row[3] || !array(*row[3], names)) return false;
  const Origin origin = origin_of(code[0]);
  const Volatility volatility = volatility_of(code[1]);
  auto& table = functions ? catalog_->functions_ : catalog_->operators_;
  auto& by_oid = functions ? functions_ : operators_;
  for (const simdjson::dom::element item : names) {
    int64_t oid = 0;
    std::string_view name;
    if (item.at(0).get(oid) != simdjson::SUCCESS || item.at(1).get(name) != simdjson::SUCCESS) {
      return false;
    }
    Safety safety = functions ? classify_function(origin, volatility, name)
                              : classify_operator(origin, volatility, name);
    if (code[2] == 's') safety = Safety::kEffects;
    by_oid.emplace(static_cast<Oid>(oid), safety);
    Catalog::NamedSafety& entry = table[qualified(text(row, 1), name)];
    entry.found = true;
    entry.safety = std::max(entry.safety, safety);
    entry.text_result = entry.text_result || code[3] == 't' || code[3] == 'a';
    entry.time_result = entry.time_result || code[3] == 'z' || code[3] == 'a';
    if (origin == Origin::kExtension) {
      const bool always = functions && always_projects(name);
      const Projection projection = always           ? Projection::kAlways
                                    : code[0] == 'g' ? Projection::kGeography
                                                     : Projection::kNone;
      entry.projection = std::max(entry.projection, projection);
      if (projection != Projection::kNone) {
        (functions ? projecting_ : projecting_operators_).insert(static_cast<Oid>(oid));
      } else if (functions) {
        planar_.insert(qualified(text(row, 1), name));
      }
    }
    entry.by_user = entry.by_user || origin == Origin::kUser;
    entry.takes_row = entry.takes_row || code[4] == 'r';
  }
  return true;
}

bool CatalogBuilder::take_type(const Row& row) {
  Catalog::Type type;
  RawType raw;
  if (!number(text(row, 1), type.oid)) return false;
  type.schema = text(row, 2);
  type.name = text(row, 3);
  const std::string_view code = text(row, 5);
  if (text(row, 4).size() != 1 || code.size() != 3) return false;
  raw.type_type = text(row, 4).front();
  raw.origin = origin_of(code[0]);
  raw.immutable_io = code[1] == 'i';
  raw.harmless = code[2] == '-';
  if (row[6] && !number(*row[6], raw.part)) return false;
  if (row[7] && !number(*row[7], raw.relation)) return false;
  const Oid oid = type.oid;
  seals_.take_type(
      {oid, type.schema, type.name, std::string(text(row, 8)), raw.part, raw.relation});
  catalog_->type_names_.emplace(qualified(type.schema, type.name), oid);
  raw_types_.emplace(oid, raw);
  return catalog_->types_.emplace(oid, std::move(type)).second;
}

std::shared_ptr<Catalog> CatalogBuilder::finish(uint64_t generation, uint64_t schema_token) {
  catalog_->generation_ = generation;
  catalog_->schema_token_ = schema_token;
  catalog_->policies_ = policies_.finish();
  catalog_->seals_ = seals_.finish(catalog_->relations_);
  judge_types();
  judge_projections();
  judge_relations();
  build_trees();
  build_key_columns();
  judge_views();
  for (auto& [oid, relation] : catalog_->relations_) {
    if (!relation.row_security) continue;
    relation.policies_proven = policies_proven(*catalog_, relation, {"pg_catalog", "public"});
  }
  return catalog_;
}

// A tree is a connected component of pg_inherits. Its root is the member without parents; with
// several of those, the one with the smallest oid: any name for the component will do, as long as
// every member has the same.
void CatalogBuilder::build_trees() {
  std::map<Oid, Oid> above;  // union-find; absent: itself
  const auto top = [&above](Oid oid) {
    for (auto it = above.find(oid); it != above.end(); it = above.find(oid)) oid = it->second;
    return oid;
  };
  std::unordered_map<Oid, bool> has_parent;
  for (const auto& [parent, child] : inheritance_) {
    has_parent[child] = true;
    has_parent.try_emplace(parent, false);
    const Oid one = top(parent);
    const Oid other = top(child);
    if (one != other) above[std::max(one, other)] = std::min(one, other);
  }
  std::map<Oid, std::vector<Oid>> components;
  for (const auto& [oid, unused] : has_parent) components[top(oid)].push_back(oid);
  for (auto& [name, members] : components) {
    std::sort(members.begin(), members.end());
    const auto root =
        std::find_if(members.begin(), members.end(), [&](Oid oid) { return !has_parent[oid]; });
    Relation whole;
    whole.root = root == members.end() ? name : *root;
    whole.watched = true;
    for (const Oid oid : members) {
      const Relation* member = catalog_->relation(oid);
      whole.watched = whole.watched && member != nullptr && member->watched;
      whole.foreign_member = whole.foreign_member || member == nullptr || member->foreign_member;
      whole.unsafe_types = whole.unsafe_types || member == nullptr || member->unsafe_types;
    }
    for (const Oid oid : members) {
      const auto member = catalog_->relations_.find(oid);
      if (member == catalog_->relations_.end()) continue;
      member->second.root = whole.root;
      member->second.watched = whole.watched;
      member->second.foreign_member = whole.foreign_member;
      member->second.unsafe_types = whole.unsafe_types;
    }
  }
}

// A key column of a tree is one that the triggers of every member tell under the same name and
// number, and that has this number in the root and a key type everywhere: a statement fires the
// triggers of the member it names alone.
void CatalogBuilder::build_key_columns() {
  std::unordered_map<Oid, std::vector<KeyColumn>> of_root;
  for (const auto& [oid, relation] : catalog_->relations_) {
    if (oid == relation.root) of_root[oid] = relation.key_columns;
  }
  for (const auto& [oid, member] : catalog_->relations_) {
    const auto found = of_root.find(member.root);
    if (found == of_root.end()) continue;
    std::erase_if(found->second, [&, &member = member, oid = oid](const KeyColumn& column) {
      const Attribute* attribute = find_attribute(member, column.name);
      if (attribute == nullptr || attribute->key == KeyType::kNone) return true;
      if (oid == member.root && attribute->number != column.number) return true;
      return std::none_of(member.key_columns.begin(), member.key_columns.end(),
                          [&column](const KeyColumn& each) {
                            return each.name == column.name && each.number == column.number;
                          });
    });
  }
  for (auto& [oid, relation] : catalog_->relations_) {
    const auto found = of_root.find(relation.root);
    if (found != of_root.end()) {
      relation.key_columns = found->second;
    } else {
      relation.key_columns.clear();
    }
  }
}

void CatalogBuilder::judge_types() {
  for (auto& [oid, type] : catalog_->types_) {
    const Judged judged = judge(oid, 0);
    type.safe = judged.safe;
    type.date_time = judged.date_time;
    type.time_of_day = judged.time_of_day;
    type.geographic = judged.geographic;
  }
}

Judged CatalogBuilder::judge(Oid oid, int depth) {
  const auto known = judged_.find(oid);
  if (known != judged_.end()) return known->second;
  const auto raw = raw_types_.find(oid);
  if (raw == raw_types_.end() || depth > kTypeDepthMax) return {};
  const RawType& type = raw->second;
  Judged judged;
  switch (type.type_type) {
    case 'b':
      judged =
          type.part != 0 ? judge(type.part, depth + 1) : judge_base(catalog_->types_.at(oid), type);
      break;
    case 'd':  // a domain; its CHECKs run when a value is cast to it
    case 'r':  // a range of its subtype
    case 'm':  // a multirange of its range
      judged = type.part != 0 ? judge(type.part, depth + 1) : Judged{};
      break;
    case 'c':
      judged = judge_composite(type.relation, depth);
      break;
    case 'e':
      judged.safe = true;
      break;
    default:  // pseudo-types, and kinds to come
      break;
  }
  judged.safe = judged.safe && type.harmless;
  judged_.emplace(oid, judged);
  return judged;
}

Judged CatalogBuilder::judge_base(const Catalog::Type& type, const RawType& raw) const {
  if (raw.origin == Origin::kBuiltin && type.schema == "pg_catalog") {
    return {safe_builtin_type(type.name), date_time_builtin_type(type.name),
            time_of_day_builtin_type(type.name), false};
  }
  const bool extension = raw.origin == Origin::kExtension;
  return {extension && raw.immutable_io, false, false, extension && type.name == "geography"};
}

Judged CatalogBuilder::judge_composite(Oid relation, int depth) {
  const Relation* found = catalog_->relation(relation);
  if (found == nullptr || found->attributes.empty()) return {};
  Judged judged;
  judged.safe = true;
  for (const Attribute& attribute : found->attributes) {
    const Judged part = judge(attribute.type, depth + 1);
    judged.safe = judged.safe && part.safe;
    judged.date_time = judged.date_time || part.date_time;
    judged.time_of_day = judged.time_of_day || part.time_of_day;
    judged.geographic = judged.geographic || part.geographic;
  }
  return judged;
}

// A function that is there for geographies alone makes one of whatever it is called on.
void CatalogBuilder::judge_projections() {
  for (auto& [name, entry] : catalog_->functions_) {
    if (entry.projection == Projection::kGeography && !planar_.contains(name)) {
      entry.projection = Projection::kAlways;
    }
  }
}

void CatalogBuilder::judge_relations() {
  for (auto& [oid, relation] : catalog_->relations_) {
    relation.unsafe_types = !std::all_of(
        relation.attributes.begin(), relation.attributes.end(), [this](const Attribute& attribute) {
          const Catalog::Type* type = catalog_->type(attribute.type);
          return type != nullptr && type->safe;
        });
  }
}

// How safe `oids` are, each degree once; one that is not known may do anything.
void CatalogBuilder::note(std::vector<Safety>& kept, const std::unordered_map<Oid, Safety>& known,
                          const std::vector<Oid>& oids) {
  for (const Oid oid : oids) {
    const auto found = known.find(oid);
    Safety safety = found == known.end() ? Safety::kEffects : found->second;
    if (oid == kAgeOfTimestamptz || oid == kAgeOfTimestamp) safety = Safety::kTime;
    if (safety == Safety::kSafe) continue;
    if (std::find(kept.begin(), kept.end(), safety) == kept.end()) kept.push_back(safety);
  }
}

View CatalogBuilder::judge_view(Oid oid, const ViewTree& tree) const {
  View view;
  std::copy_if(tree.relations.begin(), tree.relations.end(), std::back_inserter(view.reads),
               [oid](Oid read) { return read != oid; });
  note(view.functions, functions_, tree.functions);
  note(view.operators, operators_, tree.operators);
  view.projects = std::any_of(tree.functions.begin(), tree.functions.end(),
                              [this](Oid function) { return projecting_.contains(function); }) ||
                  std::any_of(tree.operators.begin(), tree.operators.end(),
                              [this](Oid op) { return projecting_operators_.contains(op); });
  view.reasons = tree.reasons;
  view.may_do_anything = tree.unreviewed;
  for (const Oid computed : tree.types) {
    if (computed == kRecord || computed == kRecordArray) continue;  // its fields are judged
    const Catalog::Type* type = catalog_->type(computed);
    if (type == nullptr || !type->safe) add_reason(view.reasons, Reason::kUnsafeType);
  }
  for (const Oid made : tree.io_types) {
    const Catalog::Type* type = catalog_->type(made);
    if (type == nullptr || type->date_time) add_reason(view.reasons, Reason::kTimeLiteral);
  }
  return view;
}

void CatalogBuilder::judge_views() {
  for (const auto& [oid, tree] : views_) {
    View& view = catalog_->views_[oid];
    if (tree) {
      view = judge_view(oid, *tree);
    } else {
      view.reasons.push_back(Reason::kView);
      view.may_do_anything = true;
    }
  }
}

tl::expected<std::shared_ptr<const Catalog>, std::string> Catalog::build(const SqlRows& rows,
                                                                         uint64_t generation,
                                                                         uint64_t schema_token) {
  CatalogBuilder builder;
  std::string error = builder.take(rows);
  if (!error.empty()) return tl::unexpected(std::move(error));
  std::shared_ptr<Catalog> catalog = builder.finish(generation, schema_token);
  catalog->content_hash_ = content_hash(rows);
  return std::shared_ptr<const Catalog>(std::move(catalog));
}

}  // namespace pgfresh::query
