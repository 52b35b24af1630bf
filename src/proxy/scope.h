// Who asks, and under which settings: the part of the cache key that belongs to the session rather
// than to the statement. It is read from the session's own server connection by one statement (the
// probe) and believed until something might have changed it; then it is read again, when the
// session is idle. Reading beats following SET: PostgreSQL itself says what a rolled-back SET
// LOCAL, a function with set_config or a temporary table has left behind.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pgfresh/reason.h"

namespace pgfresh::proxy {

// Immutable. Two sessions with equal `bytes` share one Scope, so comparing ids compares all.
struct Scope {
  uint64_t id = 0;    // never used for other bytes in this process
  std::string bytes;  // database, session user, effective role, every keyed setting
  std::vector<std::string> search_path;  // effective, as current_schemas(true)
  bool reads_committed = false;  // default_transaction_isolation is READ COMMITTED or weaker
  bool utf8 = false;             // client_encoding
  bool cache_off = false;        // pgfresh.cache = off
  int64_t max_age_ms = 0;        // pgfresh.max_age; 0: not set
};
using ScopeRef = std::shared_ptr<const Scope>;

// The statement, and the reading of its one row. kOpaque: temporary objects, an encoding or a
// quoting mode in which pgfresh does not read texts as PostgreSQL does.
struct ProbeAnswer {
  bool opaque = false;
  bool unmarked = false;  // the session's writes bring no notices
  Scope scope;            // id 0
};
[[nodiscard]] std::string_view probe_sql();
[[nodiscard]] std::optional<ProbeAnswer> read_probe(
    std::string_view database, const std::vector<std::optional<std::string_view>>& row);

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

// All scopes of the process. Any thread. Bounded: scopes no session holds are dropped when there
// are too many; the entries filled under them are never found again.
class ScopeTable {
 public:
  [[nodiscard]] ScopeRef intern(Scope scope);
  // Those that are remembered, the latest first.
  [[nodiscard]] std::vector<ScopeRef> all() const;
  [[nodiscard]] size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, ScopeRef> scopes_;
  uint64_t next_id_ = 1;
};

// What one session knows about its scope.
class ScopeTracker {
 public:
  enum class State : uint8_t { kUnknown, kProbing, kKnown, kOpaque };

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] const Scope* known(uint64_t settings_epoch) const {
    return state_ == State::kKnown && epoch_ == settings_epoch ? scope_.get() : nullptr;
  }
  // The same, whatever the epoch; for people.
  [[nodiscard]] ScopeRef last_known() const { return state_ == State::kKnown ? scope_ : nullptr; }
  [[nodiscard]] bool needs_probe(uint64_t settings_epoch) const {
    return state_ == State::kUnknown || (state_ != State::kProbing && epoch_ != settings_epoch);
  }

  // Something was sent that may change the session. While a probe is out its answer will not be
  // believed.
  void doubt() {
    ++doubts_;
    if (state_ == State::kProbing) {
      doubted_ = true;
    } else {
      state_ = State::kUnknown;
    }
  }
  enum class Place : uint8_t { kIdle, kBlock };
  void probe_sent(uint64_t settings_epoch, Place place) {
    state_ = State::kProbing;
    in_block_ = place == Place::kBlock;
    doubted_ = false;
    epoch_ = settings_epoch;
  }
  void probe_answered(ScopeRef scope) {
    scope_ = std::move(scope);
    state_ = doubted_ ? State::kUnknown : State::kKnown;
  }
  void probe_answered_opaque() { state_ = doubted_ ? State::kUnknown : State::kOpaque; }
  // The block has ended, or part of it was rolled back: what was SET in it may be gone.
  void block_undone() {
    if (in_block_) doubt();
    in_block_ = false;
  }
  // Unchanged while nothing was sent that may change the session.
  [[nodiscard]] uint64_t doubts() const { return doubts_; }
  [[nodiscard]] Reason reason() const {
    return state_ == State::kOpaque ? Reason::kSessionOpaque : Reason::kSessionUnknown;
  }

 private:
  State state_ = State::kUnknown;
  bool doubted_ = false;
  bool in_block_ = false;  // probed inside a transaction block
  uint64_t doubts_ = 0;
  uint64_t epoch_ = 0;
  ScopeRef scope_;
};

}  // namespace pgfresh::proxy
