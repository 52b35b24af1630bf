// The statements a backend carries out itself: transactions, settings, prepared statements, COPY.
#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "fake_backend.h"
#include "fake_postgres.h"
#include "proxy/scope.h"
#include "wire/bytes.h"

namespace pgfresh::sim {
namespace {

FakeOutcome done(std::string tag) {
  FakeOutcome outcome;
  outcome.tag = std::move(tag);
  return outcome;
}

// As PostgreSQL spells it.
std::string setting_name(const std::string& lower) {
  for (const std::string_view name : proxy::keyed_settings()) {
    const bool same = std::equal(name.begin(), name.end(), lower.begin(), lower.end(),
                                 [](unsigned char a, char b) { return std::tolower(a) == b; });
    if (same) return std::string(name);
  }
  return lower;
}

bool is_control(const std::vector<std::string>& tokens) {
  static const std::vector<std::string> words = {
      "begin", "start", "commit", "end",     "rollback",   "abort",   "savepoint", "release",
      "set",   "reset", "show",   "prepare", "deallocate", "discard", "copy"};
  return std::find(words.begin(), words.end(), tokens[0]) != words.end();
}

// SELECT set_config('name', 'value', true), the value a word or $1.
bool is_set_config(const std::vector<std::string>& tokens) {
  return tokens.size() > 10 && tokens[0] == "select" &&
         (tokens[1] == "set_config" || tokens[1] == "pg_catalog.set_config");
}

}  // namespace

FakeOutcome FakeBackend::describe(const std::string& sql, size_t& parameters) const {
  parameters = 0;
  if (proxy::is_probe(sql)) return {};
  const std::vector<std::string> tokens = fake_tokens(sql);
  if (tokens.empty()) return {};
  if (is_set_config(tokens)) {
    parameters = tokens[7] == "$1" ? 1 : 0;
    FakeOutcome outcome;
    outcome.columns = {{"set_config", 25}};
    return outcome;
  }
  if (is_control(tokens)) {
    FakeOutcome outcome;
    if (tokens[0] == "show") outcome.columns = {{tokens[1], 25}};
    return outcome;
  }
  return server_.database().describe(sql, parameters);
}

std::optional<FakeOutcome> FakeBackend::run(
    const std::string& sql, const std::vector<std::optional<std::string>>& parameters,
    const Continue& then) {
  if (settings_before_.empty()) settings_before_ = settings_;
  if (proxy::is_probe(sql)) return probe(sql);
  if (sql.starts_with("SELECT pg_catalog.set_config('pgfresh.inband', CASE WHEN ")) {
    change_setting("pgfresh.inband", "carry", false);
    FakeOutcome outcome = done("SELECT 1");
    outcome.columns = {{"set_config", 25}};
    outcome.rows.push_back({"carry"});
    return outcome;
  }
  const std::vector<std::string> tokens = fake_tokens(sql);
  if (tokens.empty()) return FakeOutcome{};
  const bool ends = tokens[0] == "rollback" || tokens[0] == "commit" || tokens[0] == "end" ||
                    tokens[0] == "abort";
  if (block_ == 'E' && !ends)
    return FakeOutcome::failure("25P02", "current transaction is aborted");
  if (tokens.size() == 1 && tokens[0] == "select") return done("SELECT 1");
  if (is_control(tokens)) return control(tokens, then);
  if (is_set_config(tokens)) return set_config(tokens, parameters);
  if (tokens.size() > 2 && tokens[0] == "create" && tokens[1] == "temp") {
    temporary_ = true;
    return done("CREATE TABLE");
  }
  const size_t events = tx_.events.size();
  FakeOutcome outcome = server_.database().execute(tx_, sql, parameters);
  keep_events(events);
  return outcome;
}

// A session that carries does not notify.
void FakeBackend::keep_events(size_t count) {
  if (settings_["pgfresh.inband"] == "carry") tx_.events.resize(count);
}

// DropAllPreparedStatements() knows nothing of the unnamed one.
void FakeBackend::forget_named() {
  std::erase_if(statements_, [](const auto& one) { return !one.first.empty(); });
}

std::optional<FakeOutcome> FakeBackend::control(const std::vector<std::string>& tokens,
                                                const Continue& then) {
  const std::string& word = tokens[0];
  if (word == "begin" || word == "start") return begin(tokens);
  if (word == "commit" || word == "end") {
    if (block_ == 'E') {
      roll_back();
      return done("ROLLBACK");
    }
    block_ = 'I';
    commit([this, then] {
      wire::write_command_complete(out_, "COMMIT");
      then();
    });
    return std::nullopt;
  }
  if (word == "rollback" && tokens.size() > 1 && tokens[1] == "to") {
    if (!server_.database().rollback_to(tx_, tokens.back()))
      return FakeOutcome::failure("3B001", "no savepoint");
    block_ = 'T';
    return done("ROLLBACK");
  }
  if (word == "rollback" || word == "abort") {
    roll_back();
    return done("ROLLBACK");
  }
  if (word == "savepoint") {
    FakeDatabase::savepoint(tx_, tokens.back());
    return done("SAVEPOINT");
  }
  if (word == "release") {
    if (!FakeDatabase::release(tx_, tokens.back()))
      return FakeOutcome::failure("3B001", "no savepoint");
    return done("RELEASE");
  }
  if (word == "prepare") {  // PREPARE name AS SELECT …
    if (statements_.contains(tokens[1])) return FakeOutcome::failure("42P05", "already exists");
    std::string text;
    for (size_t i = 3; i < tokens.size(); ++i) text += tokens[i] + " ";
    Statement statement{text, 0, {}};
    statement.description = describe(text, statement.parameters);
    statements_[tokens[1]] = std::move(statement);
    return done("PREPARE");
  }
  if (word == "deallocate") {
    if (tokens.back() == "all") {
      forget_named();
      return done("DEALLOCATE ALL");
    }
    if (statements_.erase(tokens.back()) == 0)
      return FakeOutcome::failure("26000", "no such statement");
    return done("DEALLOCATE");
  }
  if (word == "copy") {
    const bool in = tokens[2] == "from";
    if (in) {
      copy_ = Copy{tokens[1], {}, false};
      out_ += std::string_view("G\0\0\0\x7\0\0\0", 8);
      flush();
      return FakeOutcome{};
    }
    out_ += std::string_view("H\0\0\0\x7\0\0\0", 8);
    out_ += std::string_view(
        "d\0\0\0\x8"
        "1\t1\n",
        9);
    out_ += std::string_view("c\0\0\0\4", 5);
    return done("COPY 1");
  }
  return set(tokens);
}

FakeOutcome FakeBackend::begin(const std::vector<std::string>& tokens) {
  const bool snapshot = std::find(tokens.begin(), tokens.end(), "serializable") != tokens.end() ||
                        std::find(tokens.begin(), tokens.end(), "repeatable") != tokens.end();
  if (snapshot) tx_.visibility = Visibility::kSnapshot;
  block_ = 'T';
  server_.note_begin();
  return done(tokens[0] == "start" ? "START TRANSACTION" : "BEGIN");
}

// SET name = value, SET name TO value, RESET name, RESET ALL, SHOW name, DISCARD ALL.
FakeOutcome FakeBackend::set(const std::vector<std::string>& tokens) {
  const std::string name = setting_name(tokens[1]);
  if (tokens[0] == "show") {
    FakeOutcome outcome = done("SHOW");
    outcome.columns = {{name, 25}};
    outcome.rows.push_back({settings_[name]});
    return outcome;
  }
  if (tokens[0] == "discard" && tokens[1] == "plans") {
    server_.note_discard();
    return done("DISCARD PLANS");
  }
  if (tokens[0] == "discard") {
    forget_named();
    temporary_ = false;
    return done("DISCARD ALL");
  }
  if (tokens[0] == "reset") {
    if (name.find('.') == std::string::npos) {
      settings_.erase(name);
    } else if (settings_.contains(name)) {
      settings_[name].clear();
    }
    return done("RESET");
  }
  const bool local = tokens[1] == "local";
  const size_t at = local ? 2 : 1;
  std::string value;
  for (size_t i = at + 2; i < tokens.size(); ++i) {
    if (tokens[i] != "'") value += tokens[i];
  }
  if (value == "refused") return FakeOutcome::failure("22023", "invalid value");
  change_setting(setting_name(tokens[at]), value, local);
  FakeOutcome outcome = done("SET");
  outcome.parameter_status = name == "TimeZone";
  return outcome;
}

FakeOutcome FakeBackend::set_config(const std::vector<std::string>& tokens,
                                    const std::vector<std::optional<std::string>>& parameters) {
  const bool bound = tokens[7] == "$1";
  const std::string value = bound ? parameters.at(0).value_or("") : tokens[8];
  change_setting(tokens[4], value, tokens[tokens.size() - 2] == "true");
  FakeOutcome outcome = done("SELECT 1");
  outcome.columns = {{"set_config", 25}};
  outcome.rows.push_back({value});
  return outcome;
}

void FakeBackend::change_setting(const std::string& name, const std::string& value, bool local) {
  if (!local) {
    settings_local_.erase(name);
  } else if (!settings_local_.contains(name)) {
    const auto before = settings_.find(name);
    settings_local_[name] =
        before == settings_.end() ? std::nullopt : std::optional(before->second);
  }
  settings_[name] = value;
}

FakeOutcome FakeBackend::probe(std::string_view sql) const {
  FakeOutcome outcome = done("SELECT 1");
  const std::string user(startup_.get("user"));
  FakeRow row = {user, user, "pg_catalog\x1fpublic", temporary_ ? "t" : "f", "1"};
  constexpr std::string_view kAsks = "current_setting('";
  while (true) {
    const size_t at = sql.find(kAsks);
    if (at == std::string_view::npos) break;
    sql.remove_prefix(at + kAsks.size());
    const auto setting = settings_.find(std::string(sql.substr(0, sql.find('\''))));
    row.push_back(setting == settings_.end() ? std::nullopt : std::optional(setting->second));
  }
  for (size_t i = 0; i < row.size(); ++i) {
    outcome.columns.push_back({"c" + std::to_string(i), 25});
  }
  outcome.rows.push_back(std::move(row));
  return outcome;
}

// Two turns: what others may see in between is the new rows, and no event yet.
void FakeBackend::commit(const Continue& then) {
  portals_.clear();
  settings_before_.clear();
  for (const auto& [name, value] : settings_local_) {
    settings_[name] = value.value_or("");  // a custom one: its name stays
  }
  settings_local_.clear();
  ++transactions_;
  const bool wrote = tx_.xid != 0;
  std::vector<std::string> events = server_.database().commit(tx_);
  if (!wrote) {
    then();
    return;
  }
  busy_ = true;
  if (ended_ && of_proxy()) server_.note_late_commit();
  loop_.post([self = shared_from_this(), events = std::move(events), then] {
    self->busy_ = false;
    if (!self->alive_) return;
    self->server_.notify(events);
    then();
    self->schedule();
  });
}

// A custom setting that is new keeps its name.
void FakeBackend::restore_settings() {
  if (settings_before_.empty()) return;
  for (auto& [name, value] : settings_) value.clear();
  for (const auto& [name, value] : settings_before_) settings_[name] = value;
}

void FakeBackend::roll_back() {
  ++transactions_;
  server_.database().rollback(tx_);
  restore_settings();
  settings_before_.clear();
  settings_local_.clear();
  portals_.clear();
  block_ = 'I';
}

}  // namespace pgfresh::sim
