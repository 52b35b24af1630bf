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
    for (const Name& table : shape_.tables) judge_table(table);
    if (shape_.tables.empty()) refuse(Reason::kNoTable);
    for (const FunctionUse& use : shape_.functions) judge_function(use);
    for (const Name& name : shape_.operators) judge_operator(name);
    for (const CastUse& cast : shape_.casts) judge_cast(cast);
    for (const FieldUse& field : shape_.fields) judge_field(field);
    if (shape_.writes && catalog_.writes_may_change_session()) raise_to(Effect::kChangesSession);
  }

 private:
  void refuse(Reason reason) { add_reason(verdict_.reasons, reason); }
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
  void judge_plain_table(const Name& name, const Relation& relation);
  void judge_function(const FunctionUse& use);
  void apply(Safety safety, bool in_from);
  void judge_operator(const Name& name);
  void judge_cast(const CastUse& cast);
  void judge_field(const FieldUse& field);

  [[nodiscard]] bool gives_no_string(const CastUse& cast) const;
  [[nodiscard]] bool is_date_time_column(const std::string& column) const;
  [[nodiscard]] bool is_column(const FieldUse& field) const;

  const SelectShape& shape_;
  const Catalog& catalog_;
  const std::vector<std::string>& search_path_;
  Verdict& verdict_;
  KeyFinder keys_;
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
  if (is_system_schema(relation->schema)) return refuse(Reason::kSystemTable);
  switch (relation->kind) {
    case 'r':
    case 'p':
      judge_plain_table(table, *relation);
      break;
    case 'v':
      refuse(Reason::kView);
      if (relation->effects_suspected || catalog_.writes_may_change_session()) {
        raise_to(Effect::kChangesSession);
      }
      break;
    default:
      refuse(Reason::kRelationKind);
      break;
  }
}

void Resolver::judge_plain_table(const Name& name, const Relation& relation) {
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
  keys_.add(name, relation, verdict_);
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
    return apply(found.safety, use.in_from);
  }
  // date(x) and the like are casts; judge_cast says the rest.
  if (use.argument_count == 1 && find_type(use.name) != nullptr) return;
  refuse(Reason::kUnknownFunction);
  raise_to(Effect::kChangesSession);
}

void Resolver::judge_operator(const Name& name) {
  const Catalog::NamedSafety found = catalog_.operator_safety(search_path_, name.schema, name.name);
  if (found.found && found.safety == Safety::kSafe) return;
  refuse(Reason::kUnsafeOperator);
  if (!found.found || found.safety == Safety::kEffects) return raise_to(Effect::kChangesSession);
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
  const auto builtin_alone = [this](const Name& name) {
    if (!name.schema.empty()) return name.schema == "pg_catalog";
    return std::none_of(search_path_.begin(), search_path_.end(), [&](const std::string& schema) {
      return schema != "pg_catalog" && catalog_.function_safety({}, schema, name.name).found;
    });
  };
  return std::all_of(cast.columns.begin(), cast.columns.end(),
                     [this](const std::string& name) { return is_date_time_column(name); }) &&
         std::all_of(cast.functions.begin(), cast.functions.end(),
                     [&](const Name& name) { return no_text(find_function(name)); }) &&
         std::all_of(cast.by_argument.begin(), cast.by_argument.end(), builtin_alone) &&
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
// name must have it as a date/time, and nothing in the statement may make another of that name.
bool Resolver::is_date_time_column(const std::string& column) const {
  if (shape_.function_in_from || shape_.defined.contains(column)) return false;
  bool seen = false;
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
  if (statement.shape == nullptr) return verdict;
  verdict.effect = statement.shape->effect_floor;
  verdict.time_parameters = statement.shape->parameters;
  Resolver(*statement.shape, catalog, search_path, verdict).run();
  // What is not one SELECT is refused for that alone; the rest would only be noise.
  if (statement.kind != Kind::kSelect) verdict.reasons = statement.reasons;
  return verdict;
}

}  // namespace pgfresh::query
