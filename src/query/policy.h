// Row-level security as a catalog snapshot knows it: the conditions under which PostgreSQL shows
// rows, the SQL functions those conditions may call, and the settings that any of this reads.
//
// A policy's condition is judged like a query of its table (resolve.cc), with one difference: what
// it learns of the asking session (who it is, a setting by its name) is part of the cache key, so
// it may depend on that. All policies of a table are judged, whatever role they are for: then an
// answer is a function of the key, of the tables read and of the catalog, and it does not matter
// which of the policies PostgreSQL picks for the asking role, nor in which order it evaluates them
// (security_barrier, LEAKPROOF), nor whether a view's owner stands in for the asking role. Who is a
// member of what, BYPASSRLS and the ownership of tables are catalog too: a change of these ends
// every entry, by an event or by the poll of the fingerprint.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "query/catalog.h"

namespace pgfresh::query {

// A user-declared function in SQL.
struct SqlFunction {
  std::shared_ptr<const Statement> body;  // one SELECT; null: it is not looked into
  bool qualified = false;                 // the body names everything in full
  bool own_path = false;                  // it runs under a search_path of its own: `path`
  std::vector<std::string> path;
};

class PolicyBook {
 public:
  using Conditions = std::vector<std::shared_ptr<const Statement>>;

  // Each as SELECT FROM the table WHERE condition, qualified for a search_path of pg_catalog alone.
  // nullptr: the relation has no policy that shows rows.
  [[nodiscard]] const Conditions* conditions(Oid relation) const;
  // Every overload of that name; nullptr when there is none by a user, or no policy anywhere.
  [[nodiscard]] const std::vector<SqlFunction>* functions(std::string_view schema,
                                                          std::string_view name) const;

  // Settings, in lower case and in order, that an answer may depend on besides those that every
  // session's key holds: read by a policy or a function, defined by an extension, or given to a
  // role or database. At most kSettingsMax.
  [[nodiscard]] const std::vector<std::string>& settings() const { return settings_; }
  [[nodiscard]] bool reads_setting(std::string_view lower_name) const;
  // The setting may change an answer: it is one of settings(), or it belongs to an extension.
  [[nodiscard]] bool setting_matters(std::string_view lower_name) const;
  // A policy reads it and no extension has defined it: PostgreSQL takes any value for it.
  [[nodiscard]] bool setting_is_free(std::string_view lower_name) const;
  // An installed extension defines it, or may when it is loaded.
  [[nodiscard]] bool is_of_extension(std::string_view lower_name) const;
  // Differs when settings() differs; 0 when there are none.
  [[nodiscard]] uint64_t settings_signature() const { return settings_signature_; }

  static constexpr size_t kSettingsMax = 64;

 private:
  friend class PolicyBookBuilder;

  std::unordered_map<Oid, Conditions> conditions_;
  std::unordered_map<std::string, std::vector<SqlFunction>> functions_;  // by qualified()
  std::vector<std::string> settings_;
  std::vector<std::string> read_by_policies_;  // of these; in order
  std::vector<std::string> extensions_;
  uint64_t settings_signature_ = 0;
};

// Takes the rows of kinds p, q, g and x of Catalog::load_sql(); false: not understood.
class PolicyBookBuilder {
 public:
  using Row = std::vector<std::optional<std::string>>;

  [[nodiscard]] bool take_policy(const Row& row);
  [[nodiscard]] bool take_function(const Row& row);
  [[nodiscard]] bool take_setting(const Row& row);
  [[nodiscard]] bool take_extension(const Row& row);
  [[nodiscard]] std::shared_ptr<const PolicyBook> finish();

 private:
  struct Source {
    std::optional<std::string> body;
    bool qualified = false;
    bool definer = false;
    std::optional<std::string> config;  // JSON: ["name=value" …]
  };
  static SqlFunction read_function(const Source& source);
  void collect(const Statement& statement);
  void look_into(const std::string& key);

  std::shared_ptr<PolicyBook> book_ = std::make_shared<PolicyBook>();
  std::unordered_map<std::string, std::vector<Source>> sources_;          // by qualified()
  std::unordered_map<std::string, std::vector<std::string>> schemas_of_;  // by function name
  std::vector<std::string> wished_;  // settings not read by a policy
};

// A name that current_setting() may be given in a policy: a custom one, or one of the few others
// that change by SET alone.
[[nodiscard]] bool policy_may_read(std::string_view lower_name);
// As PostgreSQL compares the names of settings.
[[nodiscard]] std::string lower_setting(std::string_view name);
// name.name, of letters, digits, '_' and '$'.
[[nodiscard]] bool is_custom_setting(std::string_view name);

}  // namespace pgfresh::query
