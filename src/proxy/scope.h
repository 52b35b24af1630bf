// Who asks, and under which settings: the part of the cache key that belongs to the session rather
// than to the statement. It is read from the session's own server connection by one statement (the
// probe) and believed until something might have changed it; then it is read again, when the
// session is idle. Reading beats guessing: PostgreSQL itself says what a rolled-back SET LOCAL, a
// function with set_config or a temporary table has left behind.
//
// One kind of change is followed without asking: custom settings (app.tenant) set to a value that
// PostgreSQL keeps to the letter, as applications with row-level security do for every request.
// Others are known to be harmless. See session_scope.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pgfresh/reason.h"

namespace pgfresh::proxy {

// A custom setting that has a value: name in lower case, value.
using CustomSetting = std::pair<std::string, std::string>;

// Immutable. Two sessions with equal `bytes` share one Scope, so comparing ids compares all.
struct Scope {
  uint64_t id = 0;        // never used for other bytes in this process
  uint64_t parse_id = 0;  // the same for the first `parse_bytes` bytes
  // Database, session user, effective role, schemas, every keyed setting; then the custom settings.
  // Means the same in every process.
  std::string bytes;
  size_t parse_bytes = 0;  // what is in front of the custom settings: a statement parsed under it
                           // stays what it is when a custom setting changes
  std::vector<CustomSetting> custom;     // in the order of their names
  std::vector<std::string> search_path;  // effective, as current_schemas(true)
  bool reads_committed = false;  // default_transaction_isolation is READ COMMITTED or weaker
  bool utf8 = false;             // client_encoding
  bool cache_off = false;        // pgfresh.cache = off
  int64_t max_age_ms = 0;        // pgfresh.max_age; 0: not set
};
using ScopeRef = std::shared_ptr<const Scope>;

// `scope` after these custom settings have been given these values; its ids are 0.
[[nodiscard]] Scope with_settings(const Scope& scope, const std::vector<CustomSetting>& changes);

// The statement, and the reading of its one row. kOpaque: temporary objects, an encoding or a
// quoting mode in which pgfresh does not read texts as PostgreSQL does. `custom`: custom settings
// to be read besides the keyed ones, in lower case; see is_custom_setting().
struct ProbeAnswer {
  bool opaque = false;
  bool unmarked = false;        // the session's writes bring no notices
  uint64_t server_started = 0;  // see Domain::server_started()
  int64_t statement_timeout_ms = 0;
  // After which PostgreSQL ends an idle session, outside a block and in one; 0: it does not.
  int64_t idle_limit_ms = 0;
  int64_t idle_in_block_limit_ms = 0;
  Scope scope;  // ids 0
};
// A value of statement_timeout or the like, as PostgreSQL shows it or a client sets it; nullopt
// when it is not understood.
[[nodiscard]] std::optional<int64_t> read_timeout_ms(std::string_view text);
// The shorter of two such limits, of which 0 is none.
[[nodiscard]] int64_t shorter_limit_ms(int64_t a_ms, int64_t b_ms);
[[nodiscard]] std::string probe_sql(const std::vector<std::string>& custom);
[[nodiscard]] bool is_probe(std::string_view sql);
[[nodiscard]] std::optional<ProbeAnswer> read_probe(
    std::string_view database, const std::vector<std::optional<std::string_view>>& row,
    const std::vector<std::string>& custom);

// The names of settings with a dot in a startup packet's `options`, as the backend's command line
// has them (-c name=value, --name=value); in lower case.
[[nodiscard]] std::vector<std::string> custom_names_of_options(std::string_view options);

// What a scope says, for people: "database", "session_user", "current_user", "schemas" (separated
// by blanks), then every keyed setting that is set.
struct ScopePart {
  std::string name;
  std::string value;
};
[[nodiscard]] std::vector<ScopePart> parts_of(const Scope& scope);

// Settings that are keyed, by name; for tests and the manual.
[[nodiscard]] const std::vector<std::string_view>& keyed_settings();
// A ParameterStatus with this name tells of a keyed setting.
[[nodiscard]] bool is_keyed_setting(std::string_view name);

// All scopes of the process. Any thread. Bounded: scopes no session holds are dropped, older ones
// first, when there are too many; the entries filled under them are never found again.
class ScopeTable {
 public:
  [[nodiscard]] ScopeRef intern(Scope scope);
  // Those that are remembered, the latest first.
  [[nodiscard]] std::vector<ScopeRef> all() const;
  [[nodiscard]] size_t size() const;

 private:
  [[nodiscard]] static size_t charge(const Scope& scope);
  void make_room();

  mutable std::mutex mutex_;
  std::unordered_map<std::string, ScopeRef> scopes_;
  size_t bytes_ = 0;  // charged for them
  std::unordered_map<std::string, uint64_t> parse_ids_;
  size_t parse_bytes_ = 0;  // of their keys
  uint64_t next_id_ = 1;
};

// What one session knows about its scope. Pure book-keeping.
//
// Following. A change that is followed is on its way from follow() until the ReadyForQuery behind
// it; in between nothing is known. From then to the transaction's end three scopes are kept: what
// holds now, after a commit, after a rollback. Anything that might change the session otherwise
// makes all three doubtful.
//
// A custom setting that had no value before is not gone when its value is: PostgreSQL keeps the
// name, and says '' where it said NULL. So the session does not return to the scope it came from.
class ScopeTracker {
 public:
  enum class State : uint8_t { kUnknown, kProbing, kKnown, kFollowing, kOpaque };

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] const Scope* known(uint64_t epoch) const {
    return state_ == State::kKnown && epoch_ == epoch ? scope_.get() : nullptr;
  }
  // The same, whatever the epoch; for people.
  [[nodiscard]] ScopeRef last_known() const { return state_ == State::kKnown ? scope_ : nullptr; }
  [[nodiscard]] bool needs_probe(uint64_t epoch) const {
    return state_ == State::kUnknown ||
           (state_ != State::kProbing && state_ != State::kFollowing && epoch_ != epoch);
  }

  // Something was sent that may change the session. While a probe is out its answer will not be
  // believed.
  void doubt();
  enum class Place : uint8_t { kIdle, kBlock };
  void probe_sent(uint64_t epoch, Place place);
  void probe_answered(ScopeRef scope);
  void probe_answered_opaque() { state_ = doubted_ ? State::kUnknown : State::kOpaque; }

  // What holds after a commit as things stand. REQUIRES: known().
  [[nodiscard]] const Scope& after_commit() const {
    return after_commit_ ? *after_commit_ : *scope_;
  }
  // Statements were sent that turn the scope into `now` and, after a commit, into `after_commit`.
  // They are what was sent with this sequence number. REQUIRES: known().
  void follow(ScopeRef now, ScopeRef after_commit, uint64_t sequence);
  // The same, answered by pgfresh inside a block that PostgreSQL has not been told of.
  void follow_here(ScopeRef now, ScopeRef after_commit);
  // Something else was sent: what is on its way may be overtaken by the end of its transaction.
  void sent_more_than_reads() {
    if (state_ == State::kFollowing) doubt();
  }
  // COMMIT or ROLLBACK was sent. What was read in the block says nothing of what holds behind it.
  void sent_end() {
    if (in_block_) doubt();
  }
  void error_seen() { failed_ = failed_ || state_ == State::kFollowing; }
  // CommandComplete of COMMIT or ROLLBACK, ROLLBACK TO included.
  enum class End : uint8_t { kNone, kCommit, kRollback };
  void end_seen(End end) { end_ = end; }
  // ReadyForQuery with this status, for the item with this sequence number. What holds then is
  // taken from `scopes`, if it is something new.
  void ready(char status, uint64_t sequence, ScopeTable& scopes);
  // Part of the block was rolled back: what was SET in it may be gone.
  void rolled_back_to_savepoint() {
    if (in_block_ || before_) doubt();
  }
  // The block leaves the session with the name of a custom setting that it did not know before: so
  // it must not end without PostgreSQL's knowing.
  [[nodiscard]] bool leaves_names() const;
  // The block was answered by pgfresh alone, its end too. REQUIRES: !leaves_names().
  void block_ended_here(End end) { end_transaction(end, nullptr); }

  // Custom settings that came with the login or were spoken of in a way that is not followed: they
  // are read with the others where they matter.
  void speak_of(std::string lower_name);
  [[nodiscard]] const std::vector<std::string>& names_spoken_of() const { return names_; }
  // They are too many to be read.
  [[nodiscard]] bool crowded() const { return crowded_; }

  // Unchanged while nothing was sent that may change the session.
  [[nodiscard]] uint64_t doubts() const { return doubts_; }
  [[nodiscard]] Reason reason() const {
    return state_ == State::kOpaque ? Reason::kSessionOpaque : Reason::kSessionUnknown;
  }

 private:
  void forget_transaction();
  // `scopes`: null when PostgreSQL was told nothing.
  void end_transaction(End end, ScopeTable* scopes);

  State state_ = State::kUnknown;
  bool doubted_ = false;
  bool in_block_ = false;  // probed inside a transaction block
  bool failed_ = false;    // an error came while a change was on its way
  bool crowded_ = false;
  End end_ = End::kNone;
  uint64_t doubts_ = 0;
  uint64_t epoch_ = 0;
  uint64_t follow_sequence_ = 0;  // of what is on its way
  ScopeRef scope_;
  ScopeRef before_;        // what holds after a rollback; null: nothing was followed
  ScopeRef after_commit_;  // null: scope_
  std::vector<std::string> names_;
};

}  // namespace pgfresh::proxy
