#include "proxy/scope.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace pgfresh::proxy {
namespace {

// Scopes kept in the table; each is a few hundred bytes: 4 MB.
constexpr size_t kScopesMax = 10'000;

// Settings that can change the bytes or the meaning of an answer (PostgreSQL manual, "Client
// Connection Defaults", "Version and Platform Compatibility"), and those of extensions that
// operators or index scans read (pg_trgm, pgvector). Other settings that only extension functions
// read are not here: such functions are STABLE or VOLATILE and never cached.
constexpr std::array kKeyed = {
    std::string_view{"client_encoding"},
    std::string_view{"DateStyle"},
    std::string_view{"IntervalStyle"},
    std::string_view{"TimeZone"},
    std::string_view{"timezone_abbreviations"},
    std::string_view{"extra_float_digits"},
    std::string_view{"bytea_output"},
    std::string_view{"xmlbinary"},
    std::string_view{"xmloption"},
    std::string_view{"lc_monetary"},
    std::string_view{"lc_numeric"},
    std::string_view{"lc_time"},
    std::string_view{"default_text_search_config"},
    std::string_view{"array_nulls"},
    std::string_view{"transform_null_equals"},
    std::string_view{"standard_conforming_strings"},
    std::string_view{"backslash_quote"},
    std::string_view{"quote_all_identifiers"},
    std::string_view{"search_path"},
    std::string_view{"role"},
    std::string_view{"session_authorization"},
    std::string_view{"row_security"},
    std::string_view{"gin_fuzzy_search_limit"},
    std::string_view{"pg_trgm.similarity_threshold"},
    std::string_view{"pg_trgm.word_similarity_threshold"},
    std::string_view{"pg_trgm.strict_word_similarity_threshold"},
    std::string_view{"hnsw.ef_search"},
    std::string_view{"ivfflat.probes"},
    std::string_view{"default_transaction_isolation"},
    std::string_view{"pgfresh.inband"},
    std::string_view{"pgfresh.cache"},
    std::string_view{"pgfresh.max_age"},
};

// Columns in front of the settings.
enum Column : size_t { kSessionUser, kCurrentUser, kSchemas, kTemporary, kFixedColumns };

constexpr char kSeparator = '\x1f';

std::string make_probe_sql() {
  std::string sql =
      "SELECT session_user, current_user, "
      "pg_catalog.array_to_string(pg_catalog.current_schemas(true), pg_catalog.chr(31)), "
      "CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0 THEN false ELSE "
      "EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace "
      "OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) OR "
      "EXISTS (SELECT 1 FROM pg_catalog.pg_type t WHERE t.typnamespace "
      "OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) END";
  for (const std::string_view name : kKeyed) {
    sql += ", pg_catalog.current_setting('";
    sql += name;
    sql += "', true)";
  }
  return sql;
}

// An extension's settings are unknown to a session until it has loaded the extension; then they
// have these values.
std::string_view value_before_loading(std::string_view name) {
  if (name == "pg_trgm.similarity_threshold") return "0.3";
  if (name == "pg_trgm.word_similarity_threshold") return "0.6";
  if (name == "pg_trgm.strict_word_similarity_threshold") return "0.5";
  if (name == "hnsw.ef_search") return "40";
  if (name == "ivfflat.probes") return "1";
  return "";
}

void append_field(std::string& bytes, std::string_view field) {
  bytes += std::to_string(field.size());
  bytes += ':';
  bytes += field;
}

// Encodings whose multi-byte characters contain no ASCII byte, and which PostgreSQL therefore
// scans as pgfresh does.
bool ascii_safe_encoding(std::string_view name) {
  return name == "UTF8" || name == "SQL_ASCII" || name.starts_with("LATIN") ||
         name.starts_with("WIN125") || name.starts_with("ISO_8859");
}

std::vector<std::string> split_schemas(std::string_view text) {
  std::vector<std::string> schemas;
  while (!text.empty()) {
    const size_t end = text.find(kSeparator);
    schemas.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return schemas;
}

// "2s", "500ms", "1min", or a bare number of seconds; 0 when it is none of these.
int64_t read_age_ms(std::string_view text) {
  int64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number < 0 || number > 1'000'000'000) return 0;
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  if (unit == "ms") return number;
  if (unit.empty() || unit == "s") return number * 1000;
  if (unit == "min") return number * 60'000;
  if (unit == "h") return number * 3'600'000;
  return 0;
}

}  // namespace

std::string_view probe_sql() {
  static const std::string sql = make_probe_sql();
  return sql;
}

const std::vector<std::string_view>& keyed_settings() {
  static const std::vector<std::string_view> names(kKeyed.begin(), kKeyed.end());
  return names;
}

bool is_keyed_setting(std::string_view name) {
  return std::find(kKeyed.begin(), kKeyed.end(), name) != kKeyed.end();
}

std::optional<ProbeAnswer> read_probe(std::string_view database,
                                      const std::vector<std::optional<std::string_view>>& row) {
  if (row.size() != kFixedColumns + kKeyed.size()) return std::nullopt;
  ProbeAnswer answer;
  Scope& scope = answer.scope;
  append_field(scope.bytes, database);
  append_field(scope.bytes, row[kSessionUser].value_or(""));
  append_field(scope.bytes, row[kCurrentUser].value_or(""));
  append_field(scope.bytes, row[kSchemas].value_or(""));
  scope.search_path = split_schemas(row[kSchemas].value_or(""));
  answer.opaque = row[kTemporary] != "f";
  for (size_t i = 0; i < kKeyed.size(); ++i) {
    const std::string_view name = kKeyed[i];
    const std::string_view value = row[kFixedColumns + i].value_or(value_before_loading(name));
    // Carrying or not, the answers are the same.
    append_field(scope.bytes, name == "pgfresh.inband" && value == "carry" ? "on" : value);
    if (name == "client_encoding") {
      if (!ascii_safe_encoding(value)) answer.opaque = true;
      scope.utf8 = value == "UTF8";
    }
    if (name == "standard_conforming_strings" && value != "on") answer.opaque = true;
    if (name == "default_transaction_isolation") {
      scope.reads_committed = value == "read committed" || value == "read uncommitted";
    }
    // Without notices this session's own writes would not be known in time.
    if (name == "pgfresh.inband" && value != "on" && value != "carry") {
      answer.opaque = true;
      answer.unmarked = true;
    }
    if (name == "pgfresh.cache") scope.cache_off = value == "off" || value == "false";
    if (name == "pgfresh.max_age") scope.max_age_ms = read_age_ms(value);
  }
  return answer;
}

std::vector<ScopePart> parts_of(const Scope& scope) {
  std::vector<ScopePart> parts;
  std::string_view bytes = scope.bytes;
  for (size_t field = 0; field < 1 + kFixedColumns - 1 + kKeyed.size(); ++field) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), length);
    if (error != std::errc{}) break;
    bytes.remove_prefix(static_cast<size_t>(end - bytes.data()) + 1);
    std::string value(bytes.substr(0, length));
    bytes.remove_prefix(length);
    switch (field) {
      case 0:
        parts.push_back({"database", value});
        break;
      case 1:
        parts.push_back({"session_user", value});
        break;
      case 2:
        parts.push_back({"current_user", value});
        break;
      case 3:
        std::replace(value.begin(), value.end(), kSeparator, ' ');
        parts.push_back({"schemas", value});
        break;
      default:
        if (!value.empty()) parts.push_back({std::string(kKeyed[field - 4]), value});
    }
  }
  return parts;
}

ScopeRef ScopeTable::intern(Scope scope) {
  const std::lock_guard lock(mutex_);
  if (const auto found = scopes_.find(scope.bytes); found != scopes_.end()) return found->second;
  if (scopes_.size() >= kScopesMax) {
    std::erase_if(scopes_, [](const auto& item) { return item.second.use_count() == 1; });
  }
  scope.id = next_id_++;
  auto shared = std::make_shared<const Scope>(std::move(scope));
  if (scopes_.size() < kScopesMax) scopes_.emplace(shared->bytes, shared);
  return shared;
}

std::vector<ScopeRef> ScopeTable::all() const {
  std::vector<ScopeRef> scopes;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [bytes, scope] : scopes_) scopes.push_back(scope);
  }
  std::sort(scopes.begin(), scopes.end(),
            [](const ScopeRef& left, const ScopeRef& right) { return left->id > right->id; });
  return scopes;
}

size_t ScopeTable::size() const {
  const std::lock_guard lock(mutex_);
  return scopes_.size();
}

}  // namespace pgfresh::proxy
