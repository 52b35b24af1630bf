// See policy.h. Texts are parsed here, once per snapshot and on the control loop: a policy or a
// body costs some tens of microseconds, and only bodies that a policy can reach are parsed.

#include "query/policy.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/hash.h"
#include "base/text.h"
#include "query/catalog_names.h"
#include "query/shape.h"
#include "query/statement.h"
#include "query/tree_json.h"

namespace pgfresh::query {
namespace {

// As for clients' texts by default; the control loop's stack is the process's, 8 MB.
constexpr size_t kTextBytesMax = 16 * 1024;

constexpr std::string_view kPathSetting = "search_path=";

bool is_name_part(std::string_view part) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !part.empty() && letter(part.front()) &&
         std::all_of(part.begin(), part.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '$'; });
}

// A search_path as pg_proc.proconfig holds it: names between commas, quoted where they must be.
// nullopt: it says "$user", or is not understood.
std::optional<std::vector<std::string>> read_path(std::string_view text) {
  std::vector<std::string> path;
  while (!(text = trimmed(text)).empty()) {
    std::string name;
    if (text.front() == '"') {
      const size_t end = text.find('"', 1);
      if (end == std::string_view::npos) return std::nullopt;
      name = text.substr(1, end - 1);
      text.remove_prefix(end + 1);
    } else {
      const size_t end = std::min(text.find(','), text.size());
      name = trimmed(text.substr(0, end));
      text.remove_prefix(end);
    }
    text = trimmed(text);
    if (!text.empty() && text.front() != ',') return std::nullopt;  // a quote in a name
    if (!text.empty()) text.remove_prefix(1);
    if (name == "$user") return std::nullopt;
    if (!name.empty() && name != "pg_temp") path.push_back(std::move(name));
  }
  if (std::find(path.begin(), path.end(), "pg_catalog") == path.end()) {
    path.insert(path.begin(), "pg_catalog");
  }
  return path;
}

// pg_get_function_sqlbody() gives RETURN expression, or BEGIN ATOMIC statements END.
std::string plain_body(std::string_view body) {
  constexpr std::string_view kReturn = "RETURN ";
  constexpr std::string_view kBegin = "BEGIN ATOMIC";
  constexpr std::string_view kEnd = "END";
  body = trimmed(body);
  if (body.starts_with(kReturn)) return "SELECT " + std::string(body.substr(kReturn.size()));
  if (body.starts_with(kBegin) && body.ends_with(kEnd)) {
    body.remove_prefix(kBegin.size());
    body.remove_suffix(kEnd.size());
  }
  return std::string(body);
}

}  // namespace

std::string lower_setting(std::string_view name) { return lower_ascii(name); }

bool is_custom_setting(std::string_view name) {
  size_t parts = 0;
  for (;;) {
    const size_t dot = name.find('.');
    if (!is_name_part(name.substr(0, dot))) return false;
    ++parts;
    if (dot == std::string_view::npos) return parts > 1;
    name.remove_prefix(dot + 1);
  }
}

bool policy_may_read(std::string_view lower_name) {
  if (lower_name.starts_with("pgfresh.")) return false;
  if (is_custom_setting(lower_name)) return true;
  constexpr std::array kOthers = {std::string_view{"role"},
                                  std::string_view{"session_authorization"},
                                  std::string_view{"search_path"}, std::string_view{"timezone"},
                                  std::string_view{"application_name"}};
  return std::find(kOthers.begin(), kOthers.end(), lower_name) != kOthers.end();
}

const PolicyBook::Conditions* PolicyBook::conditions(Oid relation) const {
  const auto found = conditions_.find(relation);
  return found == conditions_.end() ? nullptr : &found->second;
}

const std::vector<SqlFunction>* PolicyBook::functions(std::string_view schema,
                                                      std::string_view name) const {
  const auto found = functions_.find(qualified(schema, name));
  return found == functions_.end() ? nullptr : &found->second;
}

bool PolicyBook::reads_setting(std::string_view lower_name) const {
  return std::binary_search(settings_.begin(), settings_.end(), lower_name);
}

bool PolicyBook::setting_matters(std::string_view lower_name) const {
  return reads_setting(lower_name) || is_of_extension(lower_name);
}

bool PolicyBook::is_of_extension(std::string_view lower_name) const {
  const std::string_view owner = lower_name.substr(0, lower_name.find('.'));
  return std::find(extensions_.begin(), extensions_.end(), owner) != extensions_.end();
}

bool PolicyBook::setting_is_free(std::string_view lower_name) const {
  return is_custom_setting(lower_name) && !is_of_extension(lower_name) &&
         std::binary_search(read_by_policies_.begin(), read_by_policies_.end(), lower_name);
}

bool PolicyBookBuilder::take_policy(const Row& row) {
  Oid relation = 0;
  if (!row[1] || !row[2]) return false;
  const auto [end, error] =
      std::from_chars(row[1]->data(), row[1]->data() + row[1]->size(), relation);
  if (error != std::errc() || end != row[1]->data() + row[1]->size()) return false;
  book_->conditions_[relation].push_back(analyze(*row[2], kTextBytesMax));
  return true;
}

bool PolicyBookBuilder::take_function(const Row& row) {
  if (!row[1] || !row[2] || !row[4] || row[4]->size() != 2) return false;
  Source source;
  source.body = row[3];
  source.config = row[5];
  source.definer = (*row[4])[1] == 'd';
  source.qualified = (*row[4])[0] == 'b';  // its names were found when it was declared
  if (source.qualified && source.body) source.body = plain_body(*source.body);
  std::vector<Source>& overloads = sources_[qualified(*row[1], *row[2])];
  if (overloads.empty()) schemas_of_[*row[2]].push_back(*row[1]);
  overloads.push_back(std::move(source));
  return true;
}

bool PolicyBookBuilder::take_setting(const Row& row) {
  if (!row[1]) return false;
  wished_.push_back(*row[1]);
  return true;
}

bool PolicyBookBuilder::take_extension(const Row& row) {
  if (!row[1]) return false;
  book_->extensions_.push_back(*row[1]);
  return true;
}

// A function whose names are looked up by the caller's search_path is judged by the session's. One
// that runs as its owner is not, for "$user" and the rights to schemas are then the owner's.
SqlFunction PolicyBookBuilder::read_function(const Source& source) {
  SqlFunction function;
  function.qualified = source.qualified;
  if (!source.body) return function;
  if (source.config) {
    simdjson::dom::parser parser;
    simdjson::dom::array settings;
    if (parser.parse(*source.config).get(settings) != simdjson::SUCCESS) return function;
    for (const simdjson::dom::element item : settings) {
      std::string_view setting;
      if (item.get(setting) != simdjson::SUCCESS || !setting.starts_with(kPathSetting)) {
        return function;
      }
      auto path = read_path(setting.substr(kPathSetting.size()));
      if (!path) return function;
      function.own_path = true;
      function.path = std::move(*path);
    }
  }
  if (source.definer && !function.own_path) return function;
  auto body = analyze(*source.body, kTextBytesMax);
  if (body->kind == Kind::kSelect && body->shape != nullptr) function.body = std::move(body);
  return function;
}

void PolicyBookBuilder::collect(const Statement& statement) {
  if (statement.shape == nullptr) return;
  for (const std::string& name : statement.shape->settings_read) {
    if (policy_may_read(name)) book_->settings_.push_back(name);
  }
  for (const FunctionUse& use : statement.shape->functions) {
    const auto schemas = schemas_of_.find(use.name.name);
    if (schemas == schemas_of_.end()) continue;
    for (const std::string& schema : schemas->second) look_into(qualified(schema, use.name.name));
  }
}

void PolicyBookBuilder::look_into(const std::string& key) {
  if (book_->functions_.contains(key)) return;
  // The map may grow below: a copy is walked, and the entry stands before its callees are.
  std::vector<SqlFunction> functions;
  for (const Source& source : sources_.at(key)) functions.push_back(read_function(source));
  book_->functions_.emplace(key, functions);
  for (const SqlFunction& function : functions) {
    if (function.body) collect(*function.body);
  }
}

std::shared_ptr<const PolicyBook> PolicyBookBuilder::finish() {
  for (const auto& [relation, conditions] : book_->conditions_) {
    for (const auto& condition : conditions) collect(*condition);
  }
  std::vector<std::string>& settings = book_->settings_;
  const auto tidy = [&settings] {
    std::sort(settings.begin(), settings.end());
    settings.erase(std::unique(settings.begin(), settings.end()), settings.end());
  };
  tidy();
  // A policy that reads one beyond the limit is refused: reads_setting() says no.
  if (settings.size() > PolicyBook::kSettingsMax) settings.resize(PolicyBook::kSettingsMax);
  book_->read_by_policies_ = settings;
  std::sort(wished_.begin(), wished_.end());
  for (const std::string& name : wished_) {
    if (settings.size() >= PolicyBook::kSettingsMax) break;
    if (is_custom_setting(name) && !name.starts_with("pgfresh.")) settings.push_back(name);
  }
  tidy();
  std::string all;
  for (const std::string& name : settings) all.append(name).push_back('\n');
  book_->settings_signature_ = all.empty() ? 0 : hash64(all) | 1;
  return book_;
}

}  // namespace pgfresh::query
