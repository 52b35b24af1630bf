// What the session's settings are: read by the probe, followed where that is safe, doubted
// otherwise.
//
// Followed are custom settings (with a dot in the name) that something in the catalog reads, given
// a value to the letter: PostgreSQL keeps that value as it is, for this session or until the end of
// the transaction, and takes it back when the transaction rolls back (to '', if there was none); a
// value that an extension refuses is an error, and then nothing has changed. Settings that nothing
// reads, and those that cannot change an answer, are let through. Everything else is doubted, and
// read again: what SET DateStyle comes to depends on what it was, RESET on what the session began
// with, SET ROLE on who is a member of what.
#include <algorithm>

#include "proxy/session.h"
#include "query/policy.h"
#include "query/statement.h"

namespace pgfresh::proxy {
namespace {

// The CommandComplete of a SET.
constexpr std::string_view kSetTag{
    "C\0\0\0\x8"
    "SET\0",
    9};
// Values that are kept in memory for each session and scope: JSON web tokens' claims, say.
constexpr size_t kFollowedBytesMax = 8 * 1024;

// Types whose values reach set_config() as they were sent (pg_type.dat): 0, left open; text,
// unknown, varchar.
constexpr uint32_t kVerbatimOids[] = {0, 25, 705, 1043};

bool is_verbatim(std::string_view oids, size_t index) {
  if (oids.size() < (index + 1) * 4) return true;  // left open
  uint32_t oid = 0;
  for (size_t i = 0; i < 4; ++i) oid = (oid << 8) | static_cast<uint8_t>(oids[index * 4 + i]);
  return std::find(std::begin(kVerbatimOids), std::end(kVerbatimOids), oid) !=
         std::end(kVerbatimOids);
}

// What the setting is given; nullopt: that is not known.
std::optional<std::string> value_of(const query::SettingChange& change, std::string_view oids,
                                    const wire::BindMessage* bind) {
  using To = query::SettingChange::To;
  if (change.to == To::kValue) return change.value;
  if (change.to != To::kParameter || bind == nullptr) return std::nullopt;
  const auto index = static_cast<size_t>(change.parameter - 1);
  if (index >= bind->parameter_count || !is_verbatim(oids, index)) return std::nullopt;
  const std::optional<wire::BindParameter> given = wire::bind_parameter(*bind, index + 1);
  if (!given || !given->value) return std::nullopt;
  return std::string(*given->value);
}

bool has_value(const Scope& scope, const std::string& name) {
  return std::any_of(scope.custom.begin(), scope.custom.end(),
                     [&](const CustomSetting& setting) { return setting.first == name; });
}

}  // namespace

// One probe for one message, and only while nothing it could disturb is going on. In a block too:
// what was SET in it counts there, and is doubted again when the block ends.
bool Session::wants_probe() {
  return !probed_ && scope_.needs_probe(domain_->settings_epoch()) &&
         transaction_.server_status() != 'E' && server_->at_rest();
}

void Session::send_probe() {
  worker_.counters().add(Counter::kProbes);
  probed_ = true;
  // The epoch first: it changes behind the list of settings (Domain::publish_catalog).
  const uint64_t epoch = domain_->settings_epoch();
  probe_names_.clear();
  if (const auto policies = domain_->policies()) {
    probe_names_ = policies->settings();
    for (const std::string& name : scope_.names_spoken_of()) {
      if (!policies->reads_setting(name) && policies->setting_matters(name) &&
          !is_keyed_setting(name)) {
        probe_names_.push_back(name);
      }
    }
  }
  std::sort(probe_names_.begin(), probe_names_.end());
  // What was set in a block that PostgreSQL has not been told of must be set there to be seen.
  const bool in_block = transaction_.server_status() != 'I' || transaction_.settings_deferred();
  if (transaction_.settings_deferred()) before_forward();
  scope_.probe_sent(epoch, in_block ? ScopeTracker::Place::kBlock : ScopeTracker::Place::kIdle);
  server_->inject_probe(probe_sql(probe_names_));
  block(Block::kProbe);
}

void Session::take_probe_row() {
  const std::string message = std::exchange(probe_row_, {});
  const auto row = wire::read_data_row(std::string_view(message).substr(wire::kHeaderBytes));
  if (row) probe_answer_ = read_probe(database_name(), *row, probe_names_);
}

void Session::take_probe_reply(const wire::Frame& frame) {
  switch (frame.type) {
    case 'D':
      // A row comes in parts when it does not lie whole in what was read.
      if (frame.size > limits::kBackendWholeMax) return;
      if (frame.first || frame.bytes.size() == frame.size) probe_row_.clear();
      probe_row_.append(frame.bytes);
      if (frame.last || frame.bytes.size() == frame.size) take_probe_row();
      return;
    case 'E':
      // A cancel request of the client's met it, or a time-out: nothing has been learnt.
      scope_.doubt();
      keep_own_error(frame);
      return;
    case 'Z': {
      const uint64_t sequence = server_->replies().front().sequence;
      server_->replies().pop();
      idle_from_ns_ = heard_ns_;
      settle(transaction_.ready(wire::read_ready(frame.body()).value_or('I'), sequence));
      if (probe_answer_ && probe_answer_->unmarked) unmarked_ = true;
      if (probe_answer_) {
        statement_timeout_ms_ = probe_answer_->statement_timeout_ms;
        idle_limit_ms_ = probe_answer_->idle_limit_ms;
        idle_in_block_limit_ms_ = probe_answer_->idle_in_block_limit_ms;
      }
      if (probe_answer_ && backend_of_ == 0) {
        backend_of_ = probe_answer_->server_started;
        domain_->backend_is_of(server_->key.pid, backend_of_);
        const uint64_t feeds = domain_->server_started();
        if (feeds != 0 && backend_of_ != feeds) domain_->settler().elsewhere();
      }
      // Another PostgreSQL's sessions are neither served nor believed.
      if (probe_answer_ && probe_answer_->server_started != domain_->server_started()) {
        probe_answer_->opaque = true;
      }
      if (probe_answer_ && !probe_answer_->opaque && !scope_.crowded()) {
        scope_.probe_answered(worker_.shared().scopes.intern(std::move(probe_answer_->scope)));
      } else {
        scope_.probe_answered_opaque();
      }
      probe_answer_.reset();
      probe_names_ = {};
      unblock(Block::kProbe);
      return;
    }
    default:
      return;
  }
}

// SET of a time limit is not followed: between two probes it is enough to know how short one may
// be. What cannot be told from the statement the next probe tells; what a rollback or the end of a
// block brings back is not shorter than what the probe before has told, or is probed anew.
void Session::note_time_limits(const MemoText& text, std::string_view oids,
                               const wire::BindMessage* bind) {
  if (text.consequences().may_set_time_limit) set_statement_timeout(std::nullopt);
  for (const query::SettingChange& change : text.statement().setting_changes) {
    const bool of_blocks = change.name == "idle_in_transaction_session_timeout";
    const bool of_statements = change.name == "statement_timeout";
    if (!of_blocks && !of_statements && change.name != "idle_session_timeout") continue;
    const std::optional<std::string> value = value_of(change, oids, bind);
    const std::optional<int64_t> ms = value ? read_timeout_ms(*value) : std::nullopt;
    if (of_statements) {
      set_statement_timeout(ms);
    } else if (ms) {
      int64_t& limit_ms = of_blocks ? idle_in_block_limit_ms_ : idle_limit_ms_;
      limit_ms = shorter_limit_ms(limit_ms, *ms);
    } else {
      scope_.doubt();
    }
  }
}

void Session::set_statement_timeout(std::optional<int64_t> ms) {
  if (!ms) scope_.doubt();
  statement_timeout_ms_ = shorter_limit_ms(statement_timeout_ms_, ms.value_or(1));
}

// Custom settings that came with the login.
void Session::note_startup_settings() {
  for (const auto& [name, value] : startup_.parameters) {
    std::string lower = query::lower_setting(name);
    if (lower == "options") {
      for (std::string& each : custom_names_of_options(value)) scope_.speak_of(std::move(each));
    } else if (query::is_custom_setting(lower)) {
      scope_.speak_of(std::move(lower));
    }
  }
}

// ── Following ────────────────────────────────────────────────────────────────────────────────────

// The changes that count, with their values; nullopt: not all of it is understood.
std::optional<std::vector<Session::FollowedChange>> Session::understood_changes(
    const query::Statement& statement, const query::Catalog& catalog, std::string_view oids,
    const wire::BindMessage* bind) {
  const query::PolicyBook& policies = catalog.policies();
  std::vector<FollowedChange> changes;
  for (const query::SettingChange& change : statement.setting_changes) {
    const bool custom = query::is_custom_setting(change.name);
    if (change.name.starts_with("pgfresh.")) return std::nullopt;
    if (!policies.setting_matters(change.name)) {
      if (!custom && !query::is_harmless_setting(change.name)) return std::nullopt;
      continue;
    }
    if (!custom || !policies.reads_setting(change.name)) {
      if (custom && !is_keyed_setting(change.name)) scope_.speak_of(change.name);
      return std::nullopt;
    }
    std::optional<std::string> value = value_of(change, oids, bind);
    if (!value || value->size() > kFollowedBytesMax) return std::nullopt;
    changes.push_back({change.name, std::move(*value), change.local});
  }
  return changes;
}

// What `statement` turns the session's settings into; nullopt: not known.
std::optional<Session::Following> Session::following(const query::Statement& statement,
                                                     std::string_view oids,
                                                     const wire::BindMessage* bind) {
  if (statement.setting_changes.empty() || !caching()) return std::nullopt;
  const Scope* scope = scope_.known(domain_->settings_epoch());
  const query::Catalog* catalog = worker_.catalog(*domain_);
  if (scope == nullptr || catalog == nullptr) return std::nullopt;
  // A function of that name that somebody declared may be the one that is meant.
  if (statement.kind == query::Kind::kSelect &&
      !catalog->is_builtin_alone(scope->search_path, "set_config")) {
    return std::nullopt;
  }
  auto changes = understood_changes(statement, *catalog, oids, bind);
  if (!changes) return std::nullopt;
  // What becomes of its name when the value goes is known unless an extension, loaded or not, has a
  // say in it.
  for (const FollowedChange& change : *changes) {
    if (catalog->policies().is_of_extension(change.name) && !has_value(*scope, change.name)) {
      return std::nullopt;
    }
  }
  Following following;
  following.changes = std::move(*changes);
  if (following.changes.empty()) return following;
  std::vector<CustomSetting> now;
  std::vector<CustomSetting> later;
  for (const FollowedChange& change : following.changes) {
    now.emplace_back(change.name, change.value);
    if (!change.local) later.emplace_back(change.name, change.value);
  }
  ScopeTable& scopes = worker_.shared().scopes;
  following.after_commit = scopes.intern(with_settings(scope_.after_commit(), later));
  following.now = scopes.intern(with_settings(*scope, now));
  return following;
}

// The statement is being sent. True: what it does to the session is known.
bool Session::follow_settings(const query::Statement& statement, std::string_view oids,
                              const wire::BindMessage* bind, uint64_t sequence) {
  if (statement.setting_changes.empty() || transaction_.server_status() == 'E' ||
      transaction_.end_sent() || server_->replies().owes_results_before(sequence)) {
    return false;
  }
  std::optional<Following> found = following(statement, oids, bind);
  if (!found) return false;
  if (found->now) {
    worker_.counters().add(Counter::kSettingsFollowed);
    scope_.follow(std::move(found->now), std::move(found->after_commit), sequence);
  }
  return true;
}

// ── Answering ────────────────────────────────────────────────────────────────────────────────────

// SET LOCAL, or set_config(…, true), in a block that PostgreSQL has not been told of: answered here
// and sent with the BEGIN, if that is ever sent. Only what PostgreSQL is certain to take: settings
// that a policy reads and no extension defines, given plain values, by who may EXECUTE
// set_config(), which is what they are sent as. True: it has been answered.
bool Session::answer_setting(const query::Statement& statement, bool extended) {
  if (!transaction_.deferred() || !caching() || !server_->at_rest()) return false;
  const Held* held = extended ? held_bind() : nullptr;
  std::optional<wire::BindMessage> bind;
  std::string_view oids;
  if (held != nullptr) {
    bind = wire::read_bind(held->raw.substr(wire::kHeaderBytes));
    oids = held->prepared->parameter_oids;
    const auto is_text = [](char byte) { return byte == 0; };
    if (!bind || !std::all_of(bind->result_formats.begin(), bind->result_formats.end(), is_text)) {
      return false;
    }
  }
  const std::optional<Following> found = following(statement, oids, bind ? &*bind : nullptr);
  const query::Catalog* catalog = worker_.catalog(*domain_);  // following() may have renewed it
  if (catalog == nullptr || !catalog->set_config_is_public() || !found || !found->now) return false;
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~'; };
  for (const FollowedChange& change : found->changes) {
    if (!change.local || !catalog->policies().setting_is_free(change.name) ||
        !std::all_of(change.value.begin(), change.value.end(), is_plain)) {
      return false;
    }
  }
  // Each of them in one call, as many as the statement has.
  if (found->changes.size() != statement.setting_changes.size()) return false;
  std::string sql;
  for (const FollowedChange& change : found->changes) {
    sql += "; SELECT pg_catalog.set_config('" + change.name + "', '";
    for (const char c : change.value) {
      sql += c;
      if (c == '\'') sql += c;
    }
    sql += "', true)";
  }
  if (!transaction_.defer_settings(sql)) return false;
  worker_.counters().add(Counter::kSettingsFollowed);
  scope_.follow_here(found->now, found->after_commit);
  reply_setting(statement, found->changes, extended);
  return true;
}

void Session::reply_setting(const query::Statement& statement,
                            const std::vector<FollowedChange>& changes, bool extended) {
  if (statement.kind != query::Kind::kSelect) {
    reply_command(kSetTag, extended);
    return;
  }
  std::vector<wire::Column> columns;
  std::vector<std::optional<std::string>> values;
  for (size_t i = 0; i < changes.size(); ++i) {
    columns.push_back({statement.setting_changes[i].column});
    values.emplace_back(changes[i].value);
  }
  std::string description;
  wire::write_row_description(description, columns);
  std::string rows;
  wire::write_data_row(rows, values);
  wire::write_command_complete(rows, "SELECT 1");
  reply_rows(description, rows, extended);
}

}  // namespace pgfresh::proxy
