// What pgfresh knows of one database's schema: relations, their trees and triggers, functions,
// operators, types. Read in one statement over the control connection, immutable afterwards,
// shared by all workers. A statement is judged against one snapshot, and its answer is only valid
// while schema(D) holds the token the snapshot was read under (freshness.md, rule 12).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <tl/expected.hpp>

#include "pgfresh/reason.h"
#include "pgfresh/sql_client.h"
#include "query/key_value.h"

namespace pgfresh::query {

using Oid = uint32_t;

class CatalogSeals;
class PolicyBook;
struct Statement;  // NOLINT(bugprone-forward-declaration-namespace): of query/statement.h

struct Attribute {
  std::string name;
  int16_t number = 0;
  Oid type = 0;
  KeyType key = KeyType::kNone;  // may be compared by canonical values, see key_value.h
};

// A column whose old and new values the triggers of every member of a tree tell.
struct KeyColumn {
  std::string name;
  int16_t number = 0;   // in the root
  bool unique = false;  // alone, in the root
};

struct Relation {
  Oid oid = 0;
  Oid root = 0;  // of its partition or inheritance tree; itself when it has none
  std::string schema;
  std::string name;
  char kind = 'r';         // pg_class.relkind
  char persistence = 'p';  // pg_class.relpersistence
  // Of this relation itself: PostgreSQL applies the policies of the table that is named, to the
  // rows of its partitions and children too, and not those of the children.
  bool row_security = false;
  bool policies_proven = false;  // under a search_path of public: for people to see
  bool watched = false;          // our ENABLE ALWAYS triggers on every member of the tree
  bool foreign_member = false;   // a member of the tree is a foreign or unlogged table
  bool unsafe_types = false;     // an attribute's type is not safe, see Catalog::Type
  std::vector<Attribute> attributes;
  uint64_t seal = 0;  // of oid and attributes with their types, see Verdict::meaning
  std::vector<KeyColumn> key_columns;  // of the tree, in the order of pgfresh.watch()
};

[[nodiscard]] const Attribute* find_attribute(const Relation& relation, std::string_view name);

// How far the result of a function, operator or type may be trusted to depend on its arguments
// and on keyed settings alone. Ordered from best to worst.
enum class Safety : uint8_t {
  kSafe,      // immutable, or stable and on the reviewed list of settings-dependent ones
  kTime,      // depends on the time of day
  kSession,   // identity, session, privileges, visibility, catalog
  kVolatile,  // VOLATILE, but known to change nothing: random(), clock_timestamp()
  kUnsafe,    // STABLE and not reviewed; may call what writes, but not what changes the session
  kWrites,   // writes, locks or signals, but leaves settings and temporary objects alone: nextval()
  kEffects,  // may write or change the session: VOLATILE and not on any reviewed list
};

// Whether a PostGIS function reads spatial_ref_sys: where it is called on geographies, or always.
enum class Projection : uint8_t { kNone, kGeography, kAlways };

// What a view's definition says by itself; what it reads is judged in its turn.
struct View {
  std::vector<Oid> reads;         // without repetition; tables, views and whatever else has an oid
  std::vector<Safety> functions;  // how safe those it calls are, each once, kSafe left out
  std::vector<Safety> operators;
  std::vector<Reason> reasons;
  bool may_do_anything = false;  // something in it is not known
  bool projects = false;         // reads spatial_ref_sys through PostGIS
};

class Catalog {
 public:
  // The query text whose last statement's rows build() takes; one round trip. To be sent as one
  // simple query outside a transaction, for it begins with SET LOCAL. Works on
  // PostgreSQL 14 to 17, for any role that may read pg_catalog.
  [[nodiscard]] static std::string_view load_sql();
  // A cheap one of the same kind, one row with one text column, whose value changes when the
  // catalog has changed in a way no event trigger may have told (roles, membership, role settings,
  // reloads of the configuration; tables, functions, policies where event triggers are not
  // installed).
  [[nodiscard]] static std::string_view fingerprint_sql();

  // `schema_token`: the token of schema(D) the snapshot belongs to.
  [[nodiscard]] static tl::expected<std::shared_ptr<const Catalog>, std::string> build(
      const SqlRows& rows, uint64_t generation, uint64_t schema_token);

  // Of the rows themselves: equal where two readings found the same, in this process or another.
  [[nodiscard]] static uint64_t content_hash(const SqlRows& rows);
  [[nodiscard]] uint64_t content_hash() const { return content_hash_; }

  // Names are as the catalog stores them (already folded). nullptr when there is none. The
  // unqualified form walks `search_path` (effective schemas in order, as current_schemas(true)
  // gives them).
  [[nodiscard]] const Relation* find_relation(std::string_view schema, std::string_view name) const;
  [[nodiscard]] const Relation* find_relation(const std::vector<std::string>& search_path,
                                              std::string_view name) const;
  [[nodiscard]] const Relation* relation(Oid oid) const;
  // nullptr: `oid` is no view.
  [[nodiscard]] const View* view(Oid oid) const;
  // The tables named spatial_ref_sys, which PostGIS's projecting functions read.
  [[nodiscard]] const std::vector<Oid>& projection_tables() const { return projection_tables_; }
  // The root of `oid`'s tree; 0 when the snapshot does not know `oid`.
  [[nodiscard]] Oid root_of(Oid oid) const;
  // Of the tree of `oid`.
  [[nodiscard]] std::span<const KeyColumn> key_columns_of(Oid oid) const;

  [[nodiscard]] uint64_t generation() const { return generation_; }
  [[nodiscard]] uint64_t schema_token() const { return schema_token_; }
  // The schema pgfresh is installed in this database, in a version we know.
  [[nodiscard]] bool installed() const { return installed_; }
  [[nodiscard]] bool event_triggers() const { return event_triggers_; }
  // What names mean, but for those of relations.
  [[nodiscard]] const CatalogSeals& seals() const { return *seals_; }
  // Everybody may EXECUTE set_config().
  [[nodiscard]] bool set_config_is_public() const { return set_config_is_public_; }
  // Some user-declared function that a write can reach (by a trigger, rule, default, constraint or
  // policy) may change session settings or create temporary objects: then a write, too, may leave
  // the session changed. Judged by the words in the functions' bodies.
  [[nodiscard]] bool writes_may_change_session() const { return writes_may_change_session_; }
  [[nodiscard]] const std::unordered_map<Oid, Relation>& relations() const { return relations_; }
  // Policies of row-level security, and what they read.
  [[nodiscard]] const PolicyBook& policies() const { return *policies_; }
  [[nodiscard]] std::shared_ptr<const PolicyBook> share_policies() const { return policies_; }
  // The worst safety over every function (aggregate, window function, procedure) of that name in
  // the schemas of the path, or in `schema` alone when that is not empty. `found` is false when
  // there is none.
  struct NamedSafety {
    bool found = false;
    Safety safety = Safety::kSafe;
    bool text_result = false;  // some result may be a string (or is polymorphic, or a record):
                               // casting it to a date/time type may read 'now', 'today' …
    bool time_result = false;  // some result may be a time or timetz (as for text_result)
    bool by_user = false;      // some was declared by neither PostgreSQL nor an extension
    bool takes_row = false;    // some function can be called on a whole row, as in `t.function`
    Projection projection = Projection::kNone;  // the worst
  };
  [[nodiscard]] NamedSafety function_safety(const std::vector<std::string>& search_path,
                                            std::string_view schema, std::string_view name) const;
  // No schema of the path but pg_catalog has a function of that name.
  [[nodiscard]] bool is_builtin_alone(const std::vector<std::string>& search_path,
                                      std::string_view name) const;
  // The worst over every operator of that name in the path; `schema` as above.
  [[nodiscard]] NamedSafety operator_safety(const std::vector<std::string>& search_path,
                                            std::string_view schema, std::string_view name) const;
  // Some schema of the path other than pg_catalog has an operator = that takes a key type, so that
  // `=` need not mean equality of canonical values.
  [[nodiscard]] bool foreign_equality(const std::vector<std::string>& search_path) const;
  struct Type {
    Oid oid = 0;
    std::string schema;
    std::string name;
    bool safe = false;         // its input and output functions, and those of its parts
    bool date_time = false;    // date, time, timetz, timestamp, timestamptz or an array, range,
                               // domain, composite of them: its input may read 'now', 'today' …
    bool time_of_day = false;  // time, timetz, or made of them: its conversions may read the clock
    bool geographic = false;   // PostGIS's geography, or made of it
  };
  [[nodiscard]] const Type* type(Oid oid) const;
  [[nodiscard]] const Type* find_type(const std::vector<std::string>& search_path,
                                      std::string_view schema, std::string_view name) const;

 private:
  friend class CatalogBuilder;

  uint64_t generation_ = 0;
  uint64_t schema_token_ = 0;
  uint64_t content_hash_ = 0;
  std::shared_ptr<const CatalogSeals> seals_;
  bool installed_ = false;
  bool event_triggers_ = false;
  bool set_config_is_public_ = true;
  bool writes_may_change_session_ = false;
  std::unordered_map<Oid, Relation> relations_;
  std::unordered_map<Oid, View> views_;
  std::vector<Oid> projection_tables_;
  // "schema\0name" → what stands there.
  std::unordered_map<std::string, Oid> relation_names_;
  std::unordered_map<std::string, NamedSafety> functions_;
  std::unordered_map<std::string, NamedSafety> operators_;
  std::vector<std::string> equality_schemas_;  // see foreign_equality()
  std::unordered_map<Oid, Type> types_;
  std::unordered_map<std::string, Oid> type_names_;
  std::shared_ptr<const PolicyBook> policies_;
};

}  // namespace pgfresh::query
