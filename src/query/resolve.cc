// A statement judged against one catalog snapshot and one search_path: what it reads, whether its
// answer depends on anything else, and what carrying it out may do. All reasons are collected,
// because people will ask; the first one is the decisive one.

#include <algorithm>
#include <bit>
#include <memory>
#include <set>
#include <utility>

#include "base/limits.h"
#include "query/catalog_seals.h"
#include "query/meaning.h"
#include "query/policy.h"
#include "query/reviewed.h"
#include "query/shape.h"
#include "query/statement.h"

namespace pgfresh::query {
namespace {

// Views upon views: far beyond what anyone declares, small enough for the stack.
constexpr int kViewDepthMax = 64;

bool is_system_schema(std::string_view schema) {
  return schema == "pg_catalog" || schema == "information_schema" || schema.starts_with("pg_toast");
}

// Where a shape stands: what a policy's condition, or a function that it calls, learns of the
// asking session is in the cache key (policy.h).
enum class Place : uint8_t { kQuery, kPolicy, kFunction };

using Names = std::vector<std::string>;

// What of a statement's policies has been looked into, so that each is once.
struct Seen {
  std::set<std::pair<Oid, const Names*>> guarded;  // and the search_path they were met under
  std::set<std::pair<const SqlFunction*, const Names*>> functions;
};

// Where names are looked up: those of this text, and those of functions it calls that have no
// search_path of their own. Not owned.
struct Paths {
  const Names& text;
  const Names& run;
};

// Of texts that name everything in full.
const Names& qualified_path() {
  static const Names path = {"pg_catalog"};
  return path;
}

class Resolver {
 public:
  Resolver(const SelectShape& shape, const Catalog& catalog, const Paths& paths, Place place,
           Seen& seen, Verdict& verdict)
      : shape_(shape),
        catalog_(catalog),
        search_path_(paths.text),
        run_path_(paths.run),
        place_(place),
        seen_(seen),
        verdict_(verdict),
        meaning_(shape, catalog, paths.text),
        keys_(shape, catalog, paths.text) {}

  void run_policies(const Relation& relation) { judge_policies(relation); }

  void run() {
    for (const Name& table : shape_.tables) about(table).judge_table(table);
    about({});
    const bool clean = verdict_.reasons.empty();
    const bool reads_nothing = shape_.tables.empty() || (verdict_.dependencies.empty() && clean);
    if (place_ == Place::kQuery && reads_nothing) refuse(Reason::kNoTable);
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

  [[nodiscard]] bool is_in_several(std::string_view name) const;
  void judge_table(const Name& table);
  // `name`: as the statement itself names it; null: read by a view or a function.
  void judge_relation(const Relation& relation, const Name* name);
  void judge_view(Oid oid);
  void judge_view_calls(const View& view);
  void judge_plain_table(const Relation& relation);
  void judge_policies(const Relation& relation);
  void look_into(const Statement& statement, const Paths& paths, Place place, Verdict& verdict);
  void judge_function(const FunctionUse& use);
  [[nodiscard]] bool told_by_key(const FunctionUse& use) const;
  [[nodiscard]] bool judge_body(const FunctionUse& use);
  [[nodiscard]] bool builtin_alone(const Name& name) const;
  void apply(Safety safety, bool in_from);
  void judge_operator(const Name& name);
  void apply_to_operator(Safety safety);
  void judge_cast(const CastUse& cast);
  void judge_zone(const ZoneUse& zone);
  void judge_field(const FieldUse& field);
  void judge_projection();

  const SelectShape& shape_;
  const Catalog& catalog_;
  const Names& search_path_;
  const Names& run_path_;
  const Place place_;
  Seen& seen_;
  Verdict& verdict_;
  const Meaning meaning_;
  KeyFinder keys_;
  Projection projection_ = Projection::kNone;
  std::vector<Oid> views_;  // judged so far
  int depth_ = 0;           // of views around
  std::string object_;      // what the next reason is about
};

// Which one a function means depends on its owner's rights to the schemas of the function's path.
bool Resolver::is_in_several(std::string_view name) const {
  return std::count_if(search_path_.begin(), search_path_.end(), [&](const std::string& schema) {
           return catalog_.find_relation(schema, name) != nullptr;
         }) > 1;
}

void Resolver::judge_table(const Name& table) {
  if (table.schema.starts_with("pg_temp")) return refuse(Reason::kUnlogged);
  const Relation* relation = meaning_.find_relation(table);
  if (place_ == Place::kQuery) {
    seal(verdict_.meaning, relation != nullptr ? relation->seal : 0);
    seal(verdict_.names, relation != nullptr ? relation->oid : 0);
  }
  if (place_ == Place::kFunction && table.schema.empty() && is_in_several(table.name)) {
    refuse(Reason::kUnknownTable);
  }
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
      // A policy is asked for each row, and a function's parameters are not the statement's.
      if (name != nullptr && place_ == Place::kQuery) {
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
// read with either's rights is judged without looking at rights: of row-level security, too, all
// policies count, whoever they are for (policy.h).
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
  if (relation.row_security) judge_policies(relation);
  if (relation.unsafe_types) refuse(Reason::kUnsafeType);
}

// The rows a policy shows depend on the key, on this table and on what the policy reads. Asked of
// every occurrence of the table, also in views: all policies count, whoever they are for.
void Resolver::judge_policies(const Relation& relation) {
  if (!seen_.guarded.insert({relation.oid, &run_path_}).second) return;
  const PolicyBook::Conditions* conditions = catalog_.policies().conditions(relation.oid);
  if (conditions == nullptr) return;  // no policy: no rows, or all of them to the owner
  Verdict verdict;
  verdict.effect = Effect::kPureRead;
  for (const auto& condition : *conditions) {
    look_into(*condition, {qualified_path(), run_path_}, Place::kPolicy, verdict);
  }
  for (const Dependency& each : verdict.dependencies) {
    verdict_.depend_on_any(*catalog_.relation(each.relation), AnyReason::kNotLookedAt);
  }
  raise_to(verdict.effect);
  if (verdict.reasons.empty()) return;
  refuse(Reason::kRowSecurity);
  for (const Reason reason : verdict.reasons) refuse(reason);
  if (catalog_.writes_may_change_session()) raise_to(Effect::kChangesSession);
}

// Judges one more statement as a part of this one.
void Resolver::look_into(const Statement& statement, const Paths& paths, Place place,
                         Verdict& verdict) {
  for (const Reason reason : statement.reasons) add_reason(verdict.reasons, reason);
  if (statement.shape == nullptr) return add_reason(verdict.reasons, Reason::kSyntax);
  raise(verdict.effect, statement.shape->effect_floor);
  Resolver(*statement.shape, catalog_, paths, place, seen_, verdict).run();
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

bool Resolver::builtin_alone(const Name& name) const {
  if (!name.schema.empty()) return name.schema == "pg_catalog";
  return catalog_.is_builtin_alone(search_path_, name.name);
}

// Functions of PostgreSQL's own that tell what the key holds, or who is a member of what, which
// ends every entry when it changes.
bool Resolver::told_by_key(const FunctionUse& use) const {
  if (!builtin_alone(use.name)) return false;
  const std::string& name = use.name.name;
  if (name == "current_database" || name == "current_schema" || name == "pg_has_role") return true;
  if (name != "current_setting" || shape_.settings_computed) return false;
  return std::all_of(
      shape_.settings_read.begin(), shape_.settings_read.end(),
      [&](const std::string& setting) { return catalog_.policies().reads_setting(setting); });
}

// A function in SQL is what its body is. False: there is none of that name to be looked into.
bool Resolver::judge_body(const FunctionUse& use) {
  const std::string* home = nullptr;
  for (const std::string& schema : search_path_) {
    if (!use.name.schema.empty()) break;
    if (!catalog_.function_safety({}, schema, use.name.name).found) continue;
    if (home != nullptr) return false;  // which one is meant needs the types of its arguments
    home = &schema;
  }
  if (home == nullptr) home = &use.name.schema;
  const std::vector<SqlFunction>* overloads = catalog_.policies().functions(*home, use.name.name);
  if (overloads == nullptr) return false;
  const bool all_known = std::all_of(overloads->begin(), overloads->end(),
                                     [](const SqlFunction& each) { return each.body != nullptr; });
  if (!all_known) return false;
  for (const SqlFunction& function : *overloads) {
    const Names& run = function.own_path ? function.path : run_path_;
    if (!seen_.functions.insert({&function, &run}).second) continue;
    look_into(*function.body, {function.qualified ? qualified_path() : run, run}, Place::kFunction,
              verdict_);
  }
  return true;
}

void Resolver::judge_function(const FunctionUse& use) {
  const Catalog::NamedSafety found = meaning_.find_function(use.name);
  if (found.found) {
    if (place_ != Place::kQuery && (told_by_key(use) || judge_body(use))) return;
    if (reads_clock(use.name.name, use.argument_count)) refuse(Reason::kTimeFunction);
    projection_ = std::max(projection_, found.projection);
    return apply(found.safety, use.in_from);
  }
  // date(x) and the like are casts; judge_cast says the rest.
  if (use.argument_count == 1 && meaning_.find_type(use.name) != nullptr) return;
  refuse(Reason::kUnknownFunction);
  raise_to(Effect::kChangesSession);
}

void Resolver::judge_operator(const Name& name) {
  const Catalog::NamedSafety found = meaning_.find_operator(name);
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
  const Catalog::Type* type = meaning_.find_type(cast.type);
  if (place_ == Place::kQuery && type != nullptr) {
    seal(verdict_.meaning, catalog_.seals().of_type(type->oid));
    seal(verdict_.names, catalog_.seals().of_type(type->oid));
  }
  if (type == nullptr) {
    if (!cast.by_call) refuse(Reason::kUnsafeType);
    return;
  }
  if (!type->safe) {
    refuse(Reason::kUnsafeType);
    // A domain's CHECK, a declared cast; PostgreSQL's own types do nothing but read and write text.
    if (!is_system_schema(type->schema)) raise_as_suspected();
  }
  // What a function is given may be any string.
  const bool open = place_ == Place::kFunction || !meaning_.gives_no_string(cast);
  if (type->date_time && open) refuse(Reason::kTimeLiteral);
}

void Resolver::judge_zone(const ZoneUse& zone) {
  if (!meaning_.gives_no_time_of_day(zone)) refuse(Reason::kTimeFunction);
}

// Projections and ellipsoids come from a table like any other.
void Resolver::judge_projection() {
  if (projection_ == Projection::kNone) return;
  if (projection_ == Projection::kGeography && !meaning_.has_geography()) return;
  for (const Oid table : catalog_.projection_tables()) {
    if (const Relation* relation = catalog_.relation(table)) {
      judge_relation(*relation, nullptr);
    }
  }
}

// t.f where t has no column f calls f(t), and so does (…).f. PostgreSQL does not ask for a row
// there: ('a'::text).f calls f(text), and (made).age is age(made).
void Resolver::judge_field(const FieldUse& field) {
  if (meaning_.is_column(field)) return;
  const bool of_row = meaning_.is_of_row(field);
  // Of (…).f the collector has noted the cast, with what it is applied to.
  if (!of_row && !field.qualifier.empty()) {
    CastUse cast;
    cast.type = {{}, field.name};
    cast.by_call = true;
    cast.possible = false;
    judge_cast(cast);
  }
  const Catalog::NamedSafety found = meaning_.find_function({{}, field.name});
  if (!found.found || (of_row && !found.takes_row)) return;
  projection_ = std::max(projection_, found.projection);
  if (reads_clock(field.name, 1)) refuse(Reason::kTimeFunction);
  apply(found.safety, false);
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
  std::vector<uint64_t> tables;
  for (const Name& table : statement.shape->tables) tables.push_back(word(table.name));
  verdict.names = catalog.seals().of_words(statement.shape->words, tables);
  verdict.meaning = verdict.names;
  Seen seen;
  Resolver(*statement.shape, catalog, {search_path, search_path}, Place::kQuery, seen, verdict)
      .run();
  verdict.meaning |= 1;
  if (verdict.roots().size() > limits::kTablesMax) {
    add_reason(verdict.reasons, Reason::kBusy);
    add_cause(verdict.causes, {Reason::kBusy, "more tables than a stamp holds"});
  }
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

bool policies_proven(const Catalog& catalog, const Relation& relation,
                     const std::vector<std::string>& search_path) {
  const SelectShape nothing;
  Verdict verdict;
  Seen seen;
  Resolver(nothing, catalog, {search_path, search_path}, Place::kPolicy, seen, verdict)
      .run_policies(relation);
  return verdict.cacheable();
}

}  // namespace pgfresh::query
