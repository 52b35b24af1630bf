// The database of the model PostgreSQL: a few tables of (id, v) rows, READ COMMITTED or snapshot
// visibility, row locks, savepoints, and the events that the triggers of sql/install.sql would
// send. It understands the handful of SQL texts the simulation uses, listed in fake_database.cc,
// and refuses every other with a syntax error. No protocol, no connections, no time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pgfresh/sql_client.h"

namespace pgfresh::sim {

struct FakeColumn {
  std::string name;
  uint32_t type_oid = 20;  // int8; 23 int4, 1700 numeric, 25 text
  friend bool operator==(const FakeColumn&, const FakeColumn&) = default;
};
using FakeRow = std::vector<std::optional<std::string>>;

// What one statement came to.
struct FakeOutcome {
  std::string error;  // empty on success
  std::string sqlstate;
  std::string tag;
  std::vector<FakeColumn> columns;  // empty: the statement returns no rows
  std::vector<FakeRow> rows;
  std::vector<std::string> events;  // payloads its triggers sent
  bool notice = false;              // an ordinary NOTICE comes before the tag
  bool parameter_status = false;    // a ParameterStatus of TimeZone comes before the tag

  static FakeOutcome failure(std::string sqlstate, std::string error);
};

// What is odd about a row: reading it does more than answer.
enum class Quirk : uint8_t { kError, kNotice, kParameterStatus };

enum class Visibility : uint8_t { kReadCommitted, kSnapshot };

// What a trigger of `bench` writes into another table, as a foreign key's cascade would: nothing,
// the same row of `mirror`; kUntold: and the notice of that is lacking.
enum class Mirror : uint8_t { kNone, kTold, kUntold };

class FakeDatabase {
 public:
  using Key = std::pair<std::string, int64_t>;  // table, id
  struct Transaction {
    uint64_t xid = 0;  // 0: none assigned yet
    Visibility visibility = Visibility::kReadCommitted;
    std::map<Key, int64_t> writes;
    std::vector<std::string> events;  // to be notified at commit, without repetition
    std::optional<std::map<Key, int64_t>> snapshot;
    struct Savepoint {
      std::string name;
      std::map<Key, int64_t> writes;
      size_t events = 0;
    };
    std::vector<Savepoint> savepoints;
  };

  FakeDatabase();

  // Rows that were always there.
  void put(int64_t id, int64_t v, const std::string& table = "bench") { rows_[{table, id}] = v; }
  void set_quirk(int64_t id, Quirk quirk) { quirks_[id] = quirk; }
  // The text of column `pad`, for large answers.
  void set_pad(std::string pad) { pad_ = std::move(pad); }
  void set_mirror(Mirror mirror) { mirror_ = mirror; }
  void set_event_triggers(bool on) { event_triggers_ = on; }
  [[nodiscard]] bool event_triggers() const { return event_triggers_; }
  [[nodiscard]] std::optional<int64_t> committed(int64_t id,
                                                 const std::string& table = "bench") const;

  // Parameters are int8 in decimal. REQUIRES: not a transaction control statement.
  [[nodiscard]] FakeOutcome execute(Transaction& tx, std::string_view sql,
                                    const std::vector<std::optional<std::string>>& parameters);
  // The same without doing it: columns and error only; `parameters` gets their number.
  [[nodiscard]] FakeOutcome describe(std::string_view sql, size_t& parameters) const;
  // The rows of COPY FROM STDIN.
  [[nodiscard]] FakeOutcome copy_in(Transaction& tx, const std::string& table,
                                    std::string_view lines);

  // Called for each row as it becomes visible.
  void set_on_visible(std::function<void(const Key& key, int64_t value)> on_visible) {
    on_visible_ = std::move(on_visible);
  }
  // Makes the writes visible and frees the locks. Returns what is to be notified.
  [[nodiscard]] std::vector<std::string> commit(Transaction& tx);
  void rollback(Transaction& tx);
  // synchronous_commit = off: commits are on disk after the next flush(), or one with DDL.
  void set_asynchronous(bool on) { asynchronous_ = on; }
  void flush();
  [[nodiscard]] bool flushed() const { return unflushed_.empty(); }
  // A crash: what was not flushed is gone, and its xids come again. Returns the versions lost.
  [[nodiscard]] std::vector<std::pair<Key, int64_t>> lose_unflushed();
  static void savepoint(Transaction& tx, std::string name);
  // False: there is no such savepoint.
  [[nodiscard]] bool rollback_to(Transaction& tx, const std::string& name);
  [[nodiscard]] static bool release(Transaction& tx, const std::string& name);

  [[nodiscard]] uint64_t assign_xid(Transaction& tx);
  // A transaction of a control connection that does nothing but notify.
  [[nodiscard]] uint64_t next_xid() { return next_xid_++; }
  // What Catalog::load_sql() and fingerprint_sql() give.
  [[nodiscard]] SqlRows catalog_rows() const;
  [[nodiscard]] std::string fingerprint() const { return std::to_string(ddl_); }

 private:
  struct Values;
  [[nodiscard]] std::optional<int64_t> read(const Transaction& tx, const Key& key) const;
  [[nodiscard]] std::vector<std::pair<int64_t, int64_t>> scan(const Transaction& tx,
                                                              const std::string& table) const;
  [[nodiscard]] FakeOutcome select(Transaction& tx, const Values& values);
  [[nodiscard]] FakeOutcome write(Transaction& tx, const Values& values);
  [[nodiscard]] FakeOutcome call(Transaction& tx, const Values& values);
  void write_mirror(Transaction& tx, const Values& values, const std::vector<int64_t>& ids,
                    FakeOutcome& outcome);
  [[nodiscard]] FakeOutcome change_schema(Transaction& tx, std::string_view sql);
  [[nodiscard]] size_t added_of(const std::string& table) const;
  [[nodiscard]] std::string attributes_of(const std::string& table) const;
  [[nodiscard]] bool lock(Transaction& tx, const Key& key);
  void fire_triggers(Transaction& tx, const std::string& table, const std::vector<int64_t>& ids,
                     FakeOutcome& outcome);

  std::map<std::string, uint32_t> tables_;
  std::map<Key, int64_t> rows_;
  std::map<Key, const Transaction*> locks_;
  std::map<int64_t, Quirk> quirks_;
  std::string pad_ = "pad";
  bool event_triggers_ = true;
  struct Unflushed {
    Key key;
    std::optional<int64_t> before;
    int64_t after = 0;
  };

  Mirror mirror_ = Mirror::kNone;
  bool asynchronous_ = false;
  std::function<void(const Key&, int64_t)> on_visible_;
  std::vector<Unflushed> unflushed_;  // in order of their commits
  uint64_t next_xid_ = 1000;
  uint64_t flushed_xid_ = 1000;  // next_xid_ as a crash would leave it
  uint64_t ddl_ = 0;
  std::map<std::string, size_t> added_;  // columns, by table
};

// "SELECT v FROM bench -- x" → "select", "v", "from", "bench": words in lower case, numbers, and
// single other characters; without comments.
[[nodiscard]] std::vector<std::string> fake_tokens(std::string_view sql);

}  // namespace pgfresh::sim
