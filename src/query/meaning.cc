#include "query/meaning.h"

#include <algorithm>

namespace pgfresh::query {
namespace {

// Columns defined by columns defined by columns …
constexpr size_t kFollowedMax = 16;

}  // namespace

bool Meaning::gives_no_string(const CastUse& cast) const {
  if (!cast.possible) return false;
  const auto no_text = [](const Catalog::NamedSafety& found) {
    return found.found && !found.text_result;
  };
  // An extension's min, as citext has one, is for its own types.
  const auto gives_what_it_takes = [this](const Name& name) {
    const Catalog::NamedSafety found = find_function(name);
    return found.found && !found.by_user;
  };
  return std::all_of(cast.columns.begin(), cast.columns.end(),
                     [this](const std::string& name) { return is_date_time_column(name); }) &&
         std::all_of(cast.functions.begin(), cast.functions.end(),
                     [&](const Name& name) { return no_text(find_function(name)); }) &&
         std::all_of(cast.by_argument.begin(), cast.by_argument.end(), gives_what_it_takes) &&
         std::all_of(cast.operators.begin(), cast.operators.end(),
                     [&](const Name& name) { return no_text(find_operator(name)); }) &&
         std::all_of(cast.types.begin(), cast.types.end(), [this](const Name& name) {
           const Catalog::Type* type = find_type(name);
           return type != nullptr && type->date_time;
         });
}

// Which table a column belongs to is not worked out: every table read that has a column of that
// name must have it as one that fits.
Meaning::Columns Meaning::tables_have(const std::string& column, TypeTest fits) const {
  Columns found = Columns::kNone;
  for (const Name& table : shape_.tables) {
    const Relation* relation = find_relation(table);
    if (relation == nullptr) return Columns::kUnfit;
    const Attribute* attribute = find_attribute(*relation, column);
    if (attribute == nullptr) continue;
    const Catalog::Type* type = catalog_.type(attribute->type);
    if (type == nullptr || !fits(*type)) return Columns::kUnfit;
    found = Columns::kFit;
  }
  return found;
}

// Whatever the statement makes of that name must be no string either. A name that is being looked
// into says nothing new about itself.
bool Meaning::is_date_time_column(const std::string& column) const {
  if (shape_.function_in_from) return false;
  const auto defined = shape_.defined.find(column);
  const bool made = defined != shape_.defined.end();
  if (made) {
    if (defined->second.opaque || followed_.size() > kFollowedMax) return false;
    if (std::find(followed_.begin(), followed_.end(), column) != followed_.end()) return true;
    followed_.push_back(column);
    const std::vector<CastUse>& parts = defined->second.made_of;
    const bool no_string = std::all_of(
        parts.begin(), parts.end(), [this](const CastUse& part) { return gives_no_string(part); });
    followed_.pop_back();
    if (!no_string) return false;
  }
  const auto fits = [](const Catalog::Type& type) { return type.date_time; };
  const Columns columns = tables_have(column, fits);
  return columns == Columns::kFit || (columns == Columns::kNone && made);
}

// What the statement itself makes of that name is not looked into.
bool Meaning::is_timeless_column(const std::string& column) const {
  if (shape_.function_in_from || shape_.defined.contains(column)) return false;
  const auto fits = [](const Catalog::Type& type) { return !type.time_of_day; };
  return tables_have(column, fits) == Columns::kFit;
}

bool Meaning::gives_no_time_of_day(const ZoneUse& zone) const {
  return zone.possible &&
         std::all_of(zone.columns.begin(), zone.columns.end(),
                     [this](const std::string& name) { return is_timeless_column(name); }) &&
         std::all_of(zone.functions.begin(), zone.functions.end(),
                     [this](const Name& name) {
                       const Catalog::NamedSafety found = find_function(name);
                       return found.found && !found.time_result;
                     }) &&
         std::all_of(zone.types.begin(), zone.types.end(), [this](const Name& name) {
           const Catalog::Type* type = find_type(name);
           return type != nullptr && !type->time_of_day;
         });
}

bool Meaning::has_geography() const {
  const auto is_geographic = [](const Catalog::Type* type) {
    return type == nullptr || type->geographic;
  };
  return std::any_of(shape_.casts.begin(), shape_.casts.end(),
                     [&](const CastUse& cast) {
                       const Catalog::Type* type = find_type(cast.type);
                       return type != nullptr && type->geographic;
                     }) ||
         std::any_of(shape_.tables.begin(), shape_.tables.end(), [&](const Name& table) {
           const Relation* relation = find_relation(table);
           return relation == nullptr ||
                  std::any_of(relation->attributes.begin(), relation->attributes.end(),
                              [&](const Attribute& attribute) {
                                return is_geographic(catalog_.type(attribute.type));
                              });
         });
}

bool Meaning::is_column(const FieldUse& field) const {
  bool seen = false;
  for (const RangeName& range : shape_.ranges) {
    if (range.name != field.qualifier) continue;
    if (!range.is_table) return false;
    const Relation* relation = find_relation(range.table);
    if (relation == nullptr || find_attribute(*relation, field.name) == nullptr) return false;
    seen = true;
  }
  return seen;
}

bool Meaning::is_of_row(const FieldUse& field) const {
  return !field.qualifier.empty() &&
         std::none_of(shape_.ranges.begin(), shape_.ranges.end(), [&](const RangeName& range) {
           return range.is_function && range.name == field.qualifier;
         });
}

}  // namespace pgfresh::query
