// A statement judged against one catalog snapshot and one search_path: what it reads, whether its
// answer depends on anything else, and what carrying it out may do. All reasons are collected,
// because people will ask; the first one is the decisive one.

#include <algorithm>
#include <memory>

#include "query/reviewed.h"
#include "query/shape.h"
#include "query/statement.h"

namespace pgfresh::query {
namespace {

// Columns defined by columns defined by columns …
constexpr size_t kFollowedMax = 16;
// Views upon views: far beyond what anyone declares, small enough for the stack.
constexpr int kViewDepthMax = 64;

bool is_system_schema(std::string_view schema) {
  return schema == "pg_catalog" || schema == "information_schema" || schema.starts_with("pg_toast");
}

class Resolver {
 public:
  Resolver(const SelectShape& shape, const Catalog& catalog,
           const std::vector<std::string>& search_path, Verdict& verdict)
      : shape_(shape),
        catalog_(catalog),
        search_path_(search_path),
        verdict_(verdict),
        keys_(shape, catalog, search_path) {}

  void run() {
    for (const Name& table : shape_.tables) about(table).judge_table(table);
    about({});
    const bool clean = verdict_.reasons.empty();
    if (shape_.tables.empty() || (verdict_.dependencies.empty() && clean)) refuse(Reason::kNoTable);
    for (const FunctionUse& use : shape_.functions) about(use.name).judge_function(use);
    for (const Name& name : shape_.operators) about(name).judge_operator(name);
    for (const CastUse& cast : shape_.casts) about(cast.type).judge_cast(cast);
    for (const ZoneUse& zone : shape_.zones) about({"", "time zone"}).judge_zone(zone);
    for (const FieldUse& field : shape_.fields) {
      about({field.qualifier, field.name}).judge_field(field);
    }
    about({}).judge_projection();
    if (shape_.writes && catalog_.writes_may_change_session()) raise_to(Effect::kChangesSession);
  }

 private:
  // Sets what the reasons from here on are about, as the statement names it.
  Resolver& about(const Name& object) {
    object_ = object.schema.empty() ? object.name : object.schema + "." + object.name;
    return *this;
  }
  void refuse(Reason reason) {
    add_reason(verdict_.reasons, reason);
    add_cause(verdict_.causes, {reason, object_});
  }
  void raise_to(Effect effect) { raise(verdict_.effect, effect); }
  // What a function that is not known may do when the session's functions are suspect.
  void raise_as_suspected() {
    raise_to(catalog_.writes_may_change_session() ? Effect::kChangesSession : Effect::kWritesRows);
  }

  const Relation* find(const Name& table) const {
    return table.schema.empty() ? catalog_.find_relation(search_path_, table.name)
                                : catalog_.find_relation(table.schema, table.name);
  }
  const Catalog::Type* find_type(const Name& name) const {
    return catalog_.find_type(search_path_, name.schema, name.name);
  }
  Catalog::NamedSafety find_function(const Name& name) const {
    return catalog_.function_safety(search_path_, name.schema, name.name);
  }

  void judge_table(const Name& table);
  // `name`: as the statement itself names it; null: read by a view or a function.
  void judge_relation(const Relation& relation, const Name* name);
  void judge_view(Oid oid);
  void judge_view_calls(const View& view);
  void judge_plain_table(const Relation& relation);
  void judge_function(const FunctionUse& use);
  void apply(Safety safety, bool in_from);
  void judge_operator(const Name& name);
  void apply_to_operator(Safety safety);
  void judge_cast(const CastUse& cast);
  void judge_zone(const ZoneUse& zone);
  void judge_field(const FieldUse& field);
  void judge_projection();

  [[nodiscard]] bool gives_no_string(const CastUse& cast) const;
  [[nodiscard]] bool is_date_time_column(const std::string& column) const;
  [[nodiscard]] bool is_timeless_column(const std::string& column) const;
  [[nodiscard]] bool has_geography() const;
  [[nodiscard]] bool is_column(const FieldUse& field) const;

  const SelectShape& shape_;
  const Catalog& catalog_;
  const std::vector<std::string>& search_path_;
  Verdict& verdict_;
  KeyFinder keys_;
  Projection projection_ = Projection::kNone;
  mutable std::vector<std::string> followed_;  // defined columns being looked into
  std::vector<Oid> views_;                     // judged so far
  int depth_ = 0;                              // of views around
  std::string object_;                         // what the next reason is about
};

void Resolver::judge_table(const Name& table) {
  if (table.schema.starts_with("pg_temp")) return refuse(Reason::kUnlogged);
  const Relation* relation = find(table);
  if (relation == nullptr) {
    // A temporary table, a slip, or a view too new for this snapshot.
    refuse(Reason::kUnknownTable);
    raise_to(Effect::kChangesSession);
    return;
  }
  judge_relation(*relation, &table);
}

void Resolver::judge_relation(const Relation& relation, const Name* name) {
  about({relation.schema, relation.name});
  if (is_system_schema(relation.schema)) return refuse(Reason::kSystemTable);
  switch (relation.kind) {
    case 'r':
    case 'p':
      judge_plain_table(relation);
      if (name != nullptr) {
        keys_.add(*name, relation, verdict_);
      } else {
        verdict_.depend_on_any(relation, AnyReason::kNotLookedAt);
      }
      break;
    case 'v':
      judge_view(relation.oid);
      break;
    default:
      refuse(Reason::kRelationKind);
      break;
  }
}

// A view counts as what it reads: whatever stands against its definition, or against anything
// beneath, stands against the statement. Whose rights the definition is carried out with does not
// matter: the caller is in the key, the view's owner and options change with schema(D), and what is
// read with either's rights is judged without looking at rights. Row-level security beneath a view
// is the owner's, who is not in the key; judge_plain_table() must not let it pass.
void Resolver::judge_view(Oid oid) {
  if (std::find(views_.begin(), views_.end(), oid) != views_.end()) return;
  views_.push_back(oid);
  const View* view = catalog_.view(oid);
  if (view == nullptr || depth_ >= kViewDepthMax) {
    refuse(Reason::kView);
    return raise_to(Effect::kChangesSession);
  }
  for (const Reason reason : view->reasons) refuse(reason);
  if (view->may_do_anything) raise_to(Effect::kChangesSession);
  judge_view_calls(*view);
  if (view->projects) projection_ = Projection::kAlways;
  ++depth_;
  for (const Oid read : view->reads) {
    const Relation* relation = catalog_.relation(read);
    if (relation != nullptr) {
      judge_relation(*relation, nullptr);
    } else {
      refuse(Reason::kUnknownTable);
      raise_to(Effect::kChangesSession);
    }
  }
  --depth_;
}

void Resolver::judge_view_calls(const View& view) {
  for (const Safety safety : view.functions) apply(safety, false);
  for (const Safety safety : view.operators) apply_to_operator(safety);
}

void Resolver::judge_plain_table(const Relation& relation) {
  if (relation.persistence != 'p') {
    refuse(Reason::kUnlogged);
  } else if (relation.foreign_member) {
    refuse(Reason::kRelationKind);
  }
  if (!relation.watched) refuse(Reason::kNotWatched);
  if (relation.row_security) {
    refuse(Reason::kRowSecurity);
    if (catalog_.writes_may_change_session()) raise_to(Effect::kChangesSession);
  }
  if (relation.unsafe_types) refuse(Reason::kUnsafeType);
}

void Resolver::apply(Safety safety, bool in_from) {
  switch (safety) {
    case Safety::kSafe:
      break;
    case Safety::kTime:
      refuse(Reason::kTimeFunction);
      break;
    case Safety::kSession:
      refuse(Reason::kSessionFunction);
      break;
    case Safety::kVolatile:
      refuse(Reason::kVolatileFunction);
      break;
    case Safety::kUnsafe:
      refuse(in_from ? Reason::kTableFunction : Reason::kUnsafeFunction);
      raise_as_suspected();
      break;
    case Safety::kWrites:
      refuse(Reason::kVolatileFunction);
      raise_to(Effect::kWritesRows);
      break;
    case Safety::kEffects:
      refuse(Reason::kVolatileFunction);
      raise_to(Effect::kChangesSession);
      break;
  }
}

void Resolver::judge_function(const FunctionUse& use) {
  const Catalog::NamedSafety found = find_function(use.name);
  if (found.found) {
    if (reads_clock(use.name.name, use.argument_count)) refuse(Reason::kTimeFunction);
    projection_ = std::max(projection_, found.projection);
    return apply(found.safety, use.in_from);
  }
  // date(x) and the like are casts; judge_cast says the rest.
  if (use.argument_count == 1 && find_type(use.name) != nullptr) return;
  refuse(Reason::kUnknownFunction);
  raise_to(Effect::kChangesSession);
}

void Resolver::judge_operator(const Name& name) {
  const Catalog::NamedSafety found = catalog_.operator_safety(search_path_, name.schema, name.name);
  projection_ = std::max(projection_, found.projection);
  if (found.found && found.safety == Safety::kSafe) return;
  apply_to_operator(found.found ? found.safety : Safety::kEffects);
}

void Resolver::apply_to_operator(Safety safety) {
  refuse(Reason::kUnsafeOperator);
  if (safety == Safety::kEffects) return raise_to(Effect::kChangesSession);
  raise_as_suspected();
}

void Resolver::judge_cast(const CastUse& cast) {
  const Catalog::Type* type = find_type(cast.type);
  if (type == nullptr) {
    if (!cast.by_call) refuse(Reason::kUnsafeType);
    return;
  }
  if (!type->safe) {
    refuse(Reason::kUnsafeType);
    // A domain's CHECK, a declared cast; PostgreSQL's own types do nothing but read and write text.
    if (!is_system_schema(type->schema)) raise_as_suspected();
  }
  if (type->date_time && !gives_no_string(cast)) refuse(Reason::kTimeLiteral);
}

bool Resolver::gives_no_string(const CastUse& cast) const {
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
         std::all_of(
             cast.operators.begin(), cast.operators.end(),
             [&](const Name& name) {
               return no_text(catalog_.operator_safety(search_path_, name.schema, name.name));
             }) &&
         std::all_of(cast.types.begin(), cast.types.end(), [this](const Name& name) {
           const Catalog::Type* type = find_type(name);
           return type != nullptr && type->date_time;
         });
}

// Which table a column belongs to is not worked out: every table read that has a column of that
// name must have it as a date/time, and whatever the statement makes of that name must be no
// string either. A name that is being looked into says nothing new about itself.
bool Resolver::is_date_time_column(const std::string& column) const {
  if (shape_.function_in_from) return false;
  bool seen = false;
  const auto defined = shape_.defined.find(column);
  if (defined != shape_.defined.end()) {
    if (defined->second.opaque || followed_.size() > kFollowedMax) return false;
    if (std::find(followed_.begin(), followed_.end(), column) != followed_.end()) return true;
    followed_.push_back(column);
    const std::vector<CastUse>& parts = defined->second.made_of;
    const bool fits = std::all_of(parts.begin(), parts.end(),
                                  [this](const CastUse& part) { return gives_no_string(part); });
    followed_.pop_back();
    if (!fits) return false;
    seen = true;
  }
  for (const Name& table : shape_.tables) {
    const Relation* relation = find(table);
    if (relation == nullptr) return false;
    const Attribute* attribute = find_attribute(*relation, column);
    if (attribute == nullptr) continue;
    const Catalog::Type* type = catalog_.type(attribute->type);
    if (type == nullptr || !type->date_time) return false;
    seen = true;
  }
  return seen;
}

// As above: no table may have it as a time of day, and the statement may not make it.
bool Resolver::is_timeless_column(const std::string& column) const {
  if (shape_.function_in_from || shape_.defined.contains(column)) return false;
  bool seen = false;
  for (const Name& table : shape_.tables) {
    const Relation* relation = find(table);
    if (relation == nullptr) return false;
    const Attribute* attribute = find_attribute(*relation, column);
    if (attribute == nullptr) continue;
    const Catalog::Type* type = catalog_.type(attribute->type);
    if (type == nullptr || type->time_of_day) return false;
    seen = true;
  }
  return seen;
}

void Resolver::judge_zone(const ZoneUse& zone) {
  const bool timeless =
      zone.possible &&
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
  if (!timeless) refuse(Reason::kTimeFunction);
}

bool Resolver::has_geography() const {
  const auto is_geographic = [](const Catalog::Type* type) {
    return type == nullptr || type->geographic;
  };
  return std::any_of(shape_.casts.begin(), shape_.casts.end(),
                     [&](const CastUse& cast) {
                       const Catalog::Type* type = find_type(cast.type);
                       return type != nullptr && type->geographic;
                     }) ||
         std::any_of(shape_.tables.begin(), shape_.tables.end(), [&](const Name& table) {
           const Relation* relation = find(table);
           return relation == nullptr ||
                  std::any_of(relation->attributes.begin(), relation->attributes.end(),
                              [&](const Attribute& attribute) {
                                return is_geographic(catalog_.type(attribute.type));
                              });
         });
}

// Projections and ellipsoids come from a table like any other.
void Resolver::judge_projection() {
  if (projection_ == Projection::kNone) return;
  if (projection_ == Projection::kGeography && !has_geography()) return;
  for (const Oid table : catalog_.projection_tables()) {
    if (const Relation* relation = catalog_.relation(table)) {
      judge_relation(*relation, nullptr);
    }
  }
}

bool Resolver::is_column(const FieldUse& field) const {
  bool seen = false;
  for (const RangeName& range : shape_.ranges) {
    if (range.name != field.qualifier) continue;
    if (!range.is_table) return false;
    const Relation* relation = find(range.table);
    if (relation == nullptr || find_attribute(*relation, field.name) == nullptr) return false;
    seen = true;
  }
  return seen;
}

// t.f where t has no column f calls f(t), and so does (…).f.
void Resolver::judge_field(const FieldUse& field) {
  const Catalog::NamedSafety found = find_function({{}, field.name});
  if (!found.found || !found.takes_row) return;
  if (found.safety == Safety::kSafe && !reads_clock(field.name, 1)) return;
  if (!is_column(field)) apply(found.safety, false);
}

}  // namespace

std::vector<Oid> Verdict::roots() const {
  std::vector<Oid> roots;
  for (const Dependency& each : dependencies) {
    if (std::find(roots.begin(), roots.end(), each.root) == roots.end()) {
      roots.push_back(each.root);
    }
  }
  return roots;
}

void Verdict::depend_on_any(const Relation& relation, AnyReason why) {
  Dependency dependency;
  dependency.relation = relation.oid;
  dependency.root = relation.root;
  dependency.why_any = why;
  dependencies.push_back(std::move(dependency));
}

Verdict resolve(const Statement& statement, const Catalog& catalog,
                const std::vector<std::string>& search_path) {
  Verdict verdict;
  verdict.catalog_generation = catalog.generation();
  for (const Reason reason : statement.reasons) add_reason(verdict.reasons, reason);
  verdict.causes = causes_of(statement);
  if (statement.shape == nullptr) return verdict;
  verdict.effect = statement.shape->effect_floor;
  verdict.time_parameters = statement.shape->parameters;
  Resolver(*statement.shape, catalog, search_path, verdict).run();
  // What is not one SELECT is refused for that alone; the rest would only be noise.
  if (statement.kind != Kind::kSelect) {
    verdict.reasons = statement.reasons;
    verdict.causes = causes_of(statement);
  }
  return verdict;
}

std::vector<Cause> causes_of(const Statement& statement) {
  std::vector<Cause> causes;
  for (const Reason reason : statement.reasons) {
    add_cause(causes, {reason, reason == Reason::kUnparsable ? statement.parse_error : ""});
  }
  return causes;
}

}  // namespace pgfresh::query
