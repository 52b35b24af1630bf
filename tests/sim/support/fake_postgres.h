// A model of PostgreSQL on a loop of its own: backends for the wire protocol (fake_backend.h),
// control connections for the SqlClient seam, one database (fake_database.h).
//
// What it promises is what freshness.md builds on: a row version is visible at commit; every
// listener's notification is queued before the writer's CommandComplete is sent; a listener hears
// its pending notifications before the result of a statement that completed after them. Everything
// else, delays above all, is the test's to decide.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_backend.h"
#include "fake_database.h"
#include "manual_loop.h"
#include "pgfresh/sql_client.h"
#include "pgfresh/stream.h"

namespace pgfresh::sim {

class FakePostgres {
 public:
  explicit FakePostgres(ManualLoop& loop) : loop_(loop) {}
  ~FakePostgres();
  FakePostgres(const FakePostgres&) = delete;
  FakePostgres& operator=(const FakePostgres&) = delete;

  // Doors for a proxy (or a client) whose streams live on `loop`. They must not outlive this.
  [[nodiscard]] std::unique_ptr<Connector> connector(Loop& loop);
  [[nodiscard]] std::unique_ptr<SqlClientFactory> control(Loop& loop);
  // A connected stream; null while the server is down.
  [[nodiscard]] std::unique_ptr<Stream> accept(Loop& loop);

  [[nodiscard]] FakeDatabase& database() { return database_; }
  void set_login(Login login) { login_ = login; }
  [[nodiscard]] Login login() const { return login_; }

  // What triggers do, to be broken for tests of the judge.
  void set_notices(bool on) { notices_ = on; }
  void set_notifications(bool on) { notifications_ = on; }
  [[nodiscard]] bool sends_notices() const { return notices_; }

  // Everything breaks, open transactions are gone, nobody can connect until restart(). What becomes
  // of commits that are not on disk is the database's.
  void crash();
  // To be broken for tests of the judge: control connections notice nothing of a crash.
  void set_feeds_survive(bool on) { feeds_survive_ = on; }
  void restart() { down_ = false; }
  [[nodiscard]] bool down() const { return down_; }

  // One committed write by somebody who is no client of any proxy.
  void write_directly(int64_t id, int64_t v);

  [[nodiscard]] const std::vector<std::shared_ptr<FakeBackend>>& backends() const {
    return backends_;
  }
  // The youngest that is alive; null when there is none.
  [[nodiscard]] std::shared_ptr<FakeBackend> backend() const;
  [[nodiscard]] size_t backends_alive() const;
  // One of a proxy's whose commit others see already, and its client does not know of; or null.
  [[nodiscard]] std::shared_ptr<FakeBackend> committing() const;
  // Of a proxy's, whose connection was gone when they committed.
  [[nodiscard]] uint64_t late_commits() const { return late_commits_; }

  // Control connections, in order of their making.
  struct Control;
  // Of every connection there is, or of those made from `of`.
  void hold_control(bool words, bool statements, const Loop* of = nullptr);
  void release_control();
  // One held word of each connection gets through; the rest stays held.
  void trickle_control();
  // Hears what is notified, whether it is delivered or not.
  void set_eavesdropper(std::function<void(const std::string&)> hear) { hear_ = std::move(hear); }
  void lose_control(std::string_view why, const Loop* of = nullptr);
  [[nodiscard]] size_t listeners() const;
  // Statements on control connections that looked for lost backends.
  [[nodiscard]] uint64_t looks() const { return looks_; }
  // Beats and events that proxies have published.
  [[nodiscard]] uint64_t beats() const { return beats_; }
  [[nodiscard]] uint64_t publications() const { return publications_; }
  // To be broken for tests of the judge: what is looked for runs, always.
  void set_looks_blind(bool on) { looks_blind_ = on; }
  // Says the last beat of everybody who ever beat once more, as if from him.
  void repeat_beats();
  // A process whose streams live on `streams` and whose control connections on `control` is gone.
  // What it sent to a server process that is idle is lost or begun at once.
  void cut_off(const Loop& streams, const Loop& control);
  [[nodiscard]] uint64_t cancels() const { return cancels_; }
  // DISCARD PLANS that were carried out.
  [[nodiscard]] uint64_t discards() const { return discards_; }
  void note_discard() { ++discards_; }
  // Blocks begun.
  [[nodiscard]] uint64_t begins() const { return begins_; }

  // What frontend messages have come, as text: "Q SELECT …", "P name SELECT …", "B", "D", "E" ….
  [[nodiscard]] const std::vector<std::string>& log() const { return log_; }
  [[nodiscard]] std::string take_log();  // joined by ", "
  void set_logging(bool on) { logging_ = on; }

  // For backends and control connections.
  void note(std::string line);
  void note_begin() { ++begins_; }
  void note_late_commit() { ++late_commits_; }
  void notify(const std::vector<std::string>& payloads, uint32_t sender = 1);
  void cancel(uint32_t pid, uint32_t secret);
  [[nodiscard]] SqlResult answer_control(Control& control, std::string_view sql);
  [[nodiscard]] ManualLoop& loop() { return loop_; }

 private:
  class ControlFactory;
  class ControlClient;
  class Door;
  [[nodiscard]] SqlResult show_backends(std::string_view sql);
  [[nodiscard]] SqlResult show_transactions(const Control& asks, std::string_view sql) const;
  void publish(const Control& control, std::string_view sql);

  ManualLoop& loop_;
  FakeDatabase database_;
  Login login_ = Login::kTrust;
  bool notices_ = true;
  std::function<void(const std::string&)> hear_;
  bool notifications_ = true;
  bool down_ = false;
  bool looks_blind_ = false;
  bool feeds_survive_ = false;
  uint64_t late_commits_ = 0;
  bool logging_ = true;
  uint32_t next_pid_ = 100;
  uint64_t looks_ = 0;
  uint64_t beats_ = 0;
  uint64_t publications_ = 0;
  std::map<uint32_t, std::string> last_beats_;
  std::map<uint32_t, const Loop*> homes_;  // of backends' clients
  uint64_t cancels_ = 0;
  uint64_t discards_ = 0;
  uint64_t begins_ = 0;
  std::vector<std::shared_ptr<FakeBackend>> backends_;
  std::vector<std::shared_ptr<Control>> controls_;
  std::vector<std::string> log_;
};

}  // namespace pgfresh::sim
