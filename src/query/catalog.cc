// Look-ups in a catalog snapshot. Names are found by schema and name; unqualified ones by walking
// the effective search_path. Functions and operators are judged by name over all their overloads,
// because which one a call means needs the types of its arguments, and those are not known here.

#include "query/catalog.h"

#include <algorithm>

#include "base/hash.h"
#include "query/catalog_names.h"

namespace pgfresh::query {
namespace {

void merge(Catalog::NamedSafety& into, const Catalog::NamedSafety& other) {
  into.found = true;
  into.safety = std::max(into.safety, other.safety);
  into.text_result = into.text_result || other.text_result;
  into.time_result = into.time_result || other.time_result;
  into.by_user = into.by_user || other.by_user;
  into.projection = std::max(into.projection, other.projection);
  into.takes_row = into.takes_row || other.takes_row;
}

// Unlike tables, an overload in a later schema is not hidden by one in an earlier schema.
Catalog::NamedSafety worst(const std::unordered_map<std::string, Catalog::NamedSafety>& names,
                           const std::vector<std::string>& search_path, std::string_view schema,
                           std::string_view name) {
  Catalog::NamedSafety result;
  const auto look = [&](std::string_view where) {
    const auto found = names.find(qualified(where, name));
    if (found != names.end()) merge(result, found->second);
  };
  if (!schema.empty()) {
    look(schema);
    return result;
  }
  for (const std::string& where : search_path) look(where);
  return result;
}

}  // namespace

const Attribute* find_attribute(const Relation& relation, std::string_view name) {
  const auto found = std::find_if(relation.attributes.begin(), relation.attributes.end(),
                                  [&](const Attribute& each) { return each.name == name; });
  return found == relation.attributes.end() ? nullptr : &*found;
}

const Relation* Catalog::find_relation(std::string_view schema, std::string_view name) const {
  const auto found = relation_names_.find(qualified(schema, name));
  return found == relation_names_.end() ? nullptr : relation(found->second);
}

const Relation* Catalog::find_relation(const std::vector<std::string>& search_path,
                                       std::string_view name) const {
  for (const std::string& schema : search_path) {
    if (const Relation* found = find_relation(schema, name)) return found;
  }
  return nullptr;
}

const Relation* Catalog::relation(Oid oid) const {
  const auto found = relations_.find(oid);
  return found == relations_.end() ? nullptr : &found->second;
}

const View* Catalog::view(Oid oid) const {
  const auto found = views_.find(oid);
  return found == views_.end() ? nullptr : &found->second;
}

Oid Catalog::root_of(Oid oid) const {
  const Relation* found = relation(oid);
  return found == nullptr ? 0 : found->root;
}

std::span<const KeyColumn> Catalog::key_columns_of(Oid oid) const {
  const Relation* found = relation(oid);
  return found == nullptr ? std::span<const KeyColumn>() : std::span(found->key_columns);
}

Catalog::NamedSafety Catalog::function_safety(const std::vector<std::string>& search_path,
                                              std::string_view schema,
                                              std::string_view name) const {
  return worst(functions_, search_path, schema, name);
}

bool Catalog::is_builtin_alone(const std::vector<std::string>& search_path,
                               std::string_view name) const {
  return std::none_of(search_path.begin(), search_path.end(), [&](const std::string& schema) {
    return schema != "pg_catalog" && functions_.contains(qualified(schema, name));
  });
}

Catalog::NamedSafety Catalog::operator_safety(const std::vector<std::string>& search_path,
                                              std::string_view schema,
                                              std::string_view name) const {
  return worst(operators_, search_path, schema, name);
}

bool Catalog::foreign_equality(const std::vector<std::string>& search_path) const {
  return std::any_of(search_path.begin(), search_path.end(), [this](const std::string& schema) {
    return std::find(equality_schemas_.begin(), equality_schemas_.end(), schema) !=
           equality_schemas_.end();
  });
}

const Catalog::Type* Catalog::type(Oid oid) const {
  const auto found = types_.find(oid);
  return found == types_.end() ? nullptr : &found->second;
}

const Catalog::Type* Catalog::find_type(const std::vector<std::string>& search_path,
                                        std::string_view schema, std::string_view name) const {
  const auto look = [&](std::string_view where) -> const Type* {
    const auto found = type_names_.find(qualified(where, name));
    return found == type_names_.end() ? nullptr : type(found->second);
  };
  if (!schema.empty()) return look(schema);
  for (const std::string& where : search_path) {
    if (const Type* found = look(where)) return found;
  }
  return nullptr;
}

// Without regard to the order of the rows, which no ORDER BY may promise.
uint64_t Catalog::content_hash(const SqlRows& rows) {
  uint64_t sum = rows.rows.size();
  std::string line;
  for (const auto& row : rows.rows) {
    line.clear();
    for (const auto& cell : row) {
      line += cell.has_value() ? std::to_string(cell->size()) + ":" + *cell : "-";
    }
    sum += hash64(line);
  }
  return sum;
}

}  // namespace pgfresh::query
