#include "proxy/scope.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"
#include "freshness/domain.h"
#include "query/policy.h"

namespace pgfresh::proxy {
namespace {

// Scopes kept in the table, and their memory: they are of about a kilobyte each, but settings may
// be long. An application whose users are told apart by a custom setting has one for each of them.
constexpr size_t kScopesMax = 50'000;
constexpr size_t kScopesBytesMax = size_t{64} << 20;

// Settings that can change the bytes or the meaning of an answer (PostgreSQL manual, "Client
// Connection Defaults", "Version and Platform Compatibility"), and those of extensions that
// operators or index scans read (pg_trgm, pgvector). What else extensions have, and what policies
// read, comes from the catalog (query/policy.h).
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
    std::string_view{"restrict_nonsystem_relation_kind"},
    std::string_view{"default_transaction_isolation"},
    std::string_view{"pgfresh.inband"},
    std::string_view{"pgfresh.cache"},
    std::string_view{"pgfresh.max_age"},
};

// Custom settings a session may speak of besides those the catalog names.
constexpr size_t kNamesMax = 16;

// Columns in front of the settings.
enum Column : size_t {
  kSessionUser,
  kCurrentUser,
  kSchemas,
  kTemporary,
  kServer,
  kStatementTimeout,
  kIdleTimeout,
  kIdleInBlockTimeout,
  kFixedColumns
};

constexpr char kSeparator = '\x1f';

constexpr std::string_view kProbeHead =
    "SELECT session_user, current_user, "
    "pg_catalog.array_to_string(pg_catalog.current_schemas(true), pg_catalog.chr(31)), "
    "CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0 THEN false ELSE "
    "EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace "
    "OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) OR "
    "EXISTS (SELECT 1 FROM pg_catalog.pg_type t WHERE t.typnamespace "
    "OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) END, ";

void append_setting(std::string& sql, std::string_view name) {
  sql += ", pg_catalog.current_setting('";
  sql += name;
  sql += "', true)";
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

// The last part of a scope's bytes.
void write_custom(Scope& scope) {
  scope.bytes.resize(scope.parse_bytes);
  for (const auto& [name, value] : scope.custom) {
    append_field(scope.bytes, name);
    append_field(scope.bytes, value);
  }
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

// As PostgreSQL reads a boolean: "on", "yes", "true" or what they begin with, and 1.
bool is_true(std::string_view text) {
  std::string low(text);
  for (char& c : low) c = lower(c);
  const auto begins = [&low](std::string_view word) {
    return !low.empty() && word.starts_with(low);
  };
  return low == "1" || low == "on" || begins("true") || begins("yes");
}

// "2s", "500ms", "1min", or a bare number of `bare`; nullopt when it is none of these.
std::optional<int64_t> read_duration_ms(std::string_view text, std::string_view bare) {
  int64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number < 0 || number > 1'000'000'000) return std::nullopt;
  std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  if (unit.empty()) unit = bare;
  if (unit == "ms") return number;
  if (unit == "s") return number * 1000;
  if (unit == "min") return number * 60'000;
  if (unit == "h") return number * 3'600'000;
  if (unit == "d") return number * 24 * 3'600'000;
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> read_timeout_ms(std::string_view text) {
  return read_duration_ms(text, "ms");
}

int64_t shorter_limit_ms(int64_t a_ms, int64_t b_ms) {
  return a_ms == 0 || b_ms == 0 ? std::max(a_ms, b_ms) : std::min(a_ms, b_ms);
}

std::string probe_sql(const std::vector<std::string>& custom) {
  std::string sql(kProbeHead);
  sql += freshness::kServerStartedSql;
  append_setting(sql, "statement_timeout");
  append_setting(sql, "idle_session_timeout");
  append_setting(sql, "idle_in_transaction_session_timeout");
  for (const std::string_view name : kKeyed) append_setting(sql, name);
  for (const std::string& name : custom) append_setting(sql, name);
  return sql;
}

bool is_probe(std::string_view sql) { return sql.starts_with(kProbeHead); }

const std::vector<std::string_view>& keyed_settings() {
  static const std::vector<std::string_view> names(kKeyed.begin(), kKeyed.end());
  return names;
}

bool is_keyed_setting(std::string_view name) {
  return std::find(kKeyed.begin(), kKeyed.end(), name) != kKeyed.end();
}

std::optional<ProbeAnswer> read_probe(std::string_view database,
                                      const std::vector<std::optional<std::string_view>>& row,
                                      const std::vector<std::string>& custom) {
  if (row.size() != kFixedColumns + kKeyed.size() + custom.size()) return std::nullopt;
  ProbeAnswer answer;
  Scope& scope = answer.scope;
  append_field(scope.bytes, database);
  append_field(scope.bytes, row[kSessionUser].value_or(""));
  append_field(scope.bytes, row[kCurrentUser].value_or(""));
  append_field(scope.bytes, row[kSchemas].value_or(""));
  scope.search_path = split_schemas(row[kSchemas].value_or(""));
  answer.opaque = row[kTemporary] != "f";
  const std::string_view started = row[kServer].value_or("");
  std::from_chars(started.data(), started.data() + started.size(), answer.server_started);
  const auto limit_ms = [&row](Column column) {
    return read_timeout_ms(row[column].value_or("0")).value_or(1);
  };
  answer.statement_timeout_ms = limit_ms(kStatementTimeout);
  answer.idle_limit_ms = limit_ms(kIdleTimeout);
  answer.idle_in_block_limit_ms = limit_ms(kIdleInBlockTimeout);
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
    // PostgreSQL takes any text for them. What cannot be read asks for less than all there is.
    if (value.empty()) continue;
    if (name == "pgfresh.cache" && !is_true(value)) scope.cache_off = true;
    if (name == "pgfresh.max_age") {
      const std::optional<int64_t> age_ms = read_duration_ms(value, "s");
      scope.max_age_ms = age_ms.value_or(0);
      if (!age_ms) scope.cache_off = true;
    }
  }
  scope.parse_bytes = scope.bytes.size();
  for (size_t i = 0; i < custom.size(); ++i) {
    // One that is not set is not the same as one set to nothing: current_setting() tells.
    const auto& value = row[kFixedColumns + kKeyed.size() + i];
    if (value) scope.custom.emplace_back(custom[i], *value);
  }
  write_custom(scope);
  return answer;
}

std::vector<ScopePart> parts_of(const Scope& scope) {
  std::vector<ScopePart> parts;
  std::string_view bytes = scope.bytes;
  for (size_t field = 0; field < 1 + kTemporary + kKeyed.size(); ++field) {
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
  for (const auto& [name, value] : scope.custom) parts.push_back({name, value});
  return parts;
}

Scope with_settings(const Scope& scope, const std::vector<CustomSetting>& changes) {
  Scope made = scope;
  made.id = 0;
  for (const CustomSetting& change : changes) {
    const auto at = std::lower_bound(
        made.custom.begin(), made.custom.end(), change.first,
        [](const CustomSetting& each, const std::string& name) { return each.first < name; });
    if (at != made.custom.end() && at->first == change.first) {
      at->second = change.second;
    } else {
      made.custom.insert(at, change);
    }
  }
  write_custom(made);
  return made;
}

std::vector<std::string> custom_names_of_options(std::string_view options) {
  std::vector<std::string> names;
  std::string word;
  bool value_of_c = false;
  const auto take = [&] {
    std::string_view setting = word;
    if (value_of_c) {
      value_of_c = false;
    } else if (setting == "-c") {
      value_of_c = true;
      return;
    } else if (setting.starts_with("-c") || setting.starts_with("--")) {
      setting.remove_prefix(2);
    } else {
      return;
    }
    std::string name(setting.substr(0, setting.find('=')));
    for (char& c : name) {
      if (c == '-') c = '_';
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
    }
    if (query::is_custom_setting(name)) names.push_back(std::move(name));
  };
  for (size_t i = 0; i <= options.size(); ++i) {
    const bool ends =
        i == options.size() || options[i] == ' ' || (options[i] >= '\t' && options[i] <= '\r');
    if (ends) {
      if (!word.empty()) take();
      word.clear();
    } else {
      if (options[i] == '\\' && i + 1 < options.size()) ++i;
      word += options[i];
    }
  }
  return names;
}

// What a scope and its place in the table cost.
size_t ScopeTable::charge(const Scope& scope) {
  constexpr size_t kFixedBytes = 512;
  size_t bytes = kFixedBytes + 2 * scope.bytes.size();
  for (const auto& [name, value] : scope.custom) bytes += name.size() + value.size();
  return bytes;
}

ScopeRef ScopeTable::intern(Scope scope) {
  const std::lock_guard lock(mutex_);
  if (const auto found = scopes_.find(scope.bytes); found != scopes_.end()) return found->second;
  const size_t bytes = charge(scope);
  const auto is_room = [&] {
    return scopes_.size() < kScopesMax && bytes_ + bytes <= kScopesBytesMax;
  };
  if (!is_room()) make_room();
  scope.id = next_id_++;
  std::string parsed_under = scope.bytes.substr(0, scope.parse_bytes);
  // Then prepared statements are parsed once more before they are looked up again.
  if (parse_ids_.size() >= kScopesMax || parse_bytes_ > kScopesBytesMax) {
    parse_ids_.clear();
    parse_bytes_ = 0;
  }
  const auto [parsed, made] = parse_ids_.try_emplace(std::move(parsed_under), scope.id);
  if (made) parse_bytes_ += scope.parse_bytes;
  scope.parse_id = parsed->second;
  auto shared = std::make_shared<const Scope>(std::move(scope));
  if (is_room()) {
    scopes_.emplace(shared->bytes, shared);
    bytes_ += bytes;
  }
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

// The older half of those that no session holds.
void ScopeTable::make_room() {
  std::vector<uint64_t> idle;
  for (const auto& [bytes, scope] : scopes_) {
    if (scope.use_count() == 1) idle.push_back(scope->id);
  }
  if (idle.empty()) return;
  const auto middle = idle.begin() + static_cast<std::ptrdiff_t>(idle.size() / 2);
  std::nth_element(idle.begin(), middle, idle.end());
  const uint64_t newest = *middle;
  std::erase_if(scopes_, [this, newest](const auto& item) {
    const bool gone = item.second.use_count() == 1 && item.second->id <= newest;
    if (gone) bytes_ -= charge(*item.second);
    return gone;
  });
}

size_t ScopeTable::size() const {
  const std::lock_guard lock(mutex_);
  return scopes_.size();
}

namespace {

// The custom settings of `now` that `then` does not have, set to nothing.
std::vector<CustomSetting> left_empty(const Scope& now, const Scope& then) {
  std::vector<CustomSetting> left;
  auto at = then.custom.begin();
  for (const CustomSetting& setting : now.custom) {
    while (at != then.custom.end() && at->first < setting.first) ++at;
    if (at == then.custom.end() || at->first != setting.first) left.emplace_back(setting.first, "");
  }
  return left;
}

}  // namespace

// ── What one session knows ───────────────────────────────────────────────────────────────────────

void ScopeTracker::forget_transaction() {
  before_.reset();
  after_commit_.reset();
  failed_ = false;
}

void ScopeTracker::doubt() {
  ++doubts_;
  forget_transaction();
  if (state_ == State::kProbing) {
    doubted_ = true;
  } else {
    state_ = State::kUnknown;
  }
}

void ScopeTracker::probe_sent(uint64_t epoch, Place place) {
  forget_transaction();
  state_ = State::kProbing;
  in_block_ = place == Place::kBlock;
  doubted_ = false;
  epoch_ = epoch;
}

void ScopeTracker::probe_answered(ScopeRef scope) {
  scope_ = std::move(scope);
  state_ = doubted_ ? State::kUnknown : State::kKnown;
}

void ScopeTracker::follow(ScopeRef now, ScopeRef after_commit, uint64_t sequence) {
  follow_here(std::move(now), std::move(after_commit));
  follow_sequence_ = sequence;
  state_ = State::kFollowing;
  end_ = End::kNone;
}

void ScopeTracker::follow_here(ScopeRef now, ScopeRef after_commit) {
  if (!before_) before_ = scope_;
  scope_ = std::move(now);
  after_commit_ = std::move(after_commit);
}

void ScopeTracker::ready(char status, uint64_t sequence, ScopeTable& scopes) {
  const End end = std::exchange(end_, End::kNone);
  // That of a BEGIN of our own in front of it.
  if (state_ == State::kFollowing && sequence < follow_sequence_) return;
  if (status == 'I') {
    end_transaction(end, &scopes);
    return;
  }
  // Another block has begun in the same segment.
  if (end != End::kNone && (in_block_ || before_)) {
    doubt();
    return;
  }
  if (state_ != State::kFollowing) return;
  // Behind an error the block can only end, or go back to a savepoint.
  if (!failed_) {
    state_ = State::kKnown;
  } else if (status != 'E') {
    doubt();
  }
}

void ScopeTracker::end_transaction(End end, ScopeTable* scopes) {
  if (std::exchange(in_block_, false)) {
    doubt();
    return;
  }
  if (!before_) return;
  const bool under_way = state_ == State::kFollowing;
  const bool failed = under_way && failed_;
  ScopeRef then = after_commit_ ? after_commit_ : scope_;
  if (end == End::kRollback || failed) {
    then = before_;
  } else if (end != End::kCommit && !under_way) {
    doubt();
    return;
  }
  if (const auto left = left_empty(*scope_, *then); scopes != nullptr && !left.empty()) {
    // Whether it was set before the error came is not known.
    if (failed) {
      doubt();
      return;
    }
    then = scopes->intern(with_settings(*then, left));
  }
  scope_ = std::move(then);
  if (under_way) state_ = State::kKnown;
  forget_transaction();
}

bool ScopeTracker::leaves_names() const {
  return before_ && !left_empty(*scope_, *before_).empty();
}

void ScopeTracker::speak_of(std::string lower_name) {
  if (std::find(names_.begin(), names_.end(), lower_name) != names_.end()) return;
  if (names_.size() >= kNamesMax) {
    crowded_ = true;
    return;
  }
  names_.push_back(std::move(lower_name));
}

}  // namespace pgfresh::proxy
