// One connection to the model PostgreSQL: the protocol's server side, from the startup packet on.
// Each message is handled in a task of its own on the server's loop, and a commit takes two (the
// rows become visible, then the listeners are told and the client gets its answer), so that
// everything may happen in between.
//
// A backend that is stalled reads nothing and notices nothing, not even that its client has gone:
// what a server does whose process does not get the processor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_database.h"
#include "memory_stream.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::sim {

class FakePostgres;

enum class Login : uint8_t { kTrust, kPassword, kSasl };

class FakeBackend final : public Stream::Events, public std::enable_shared_from_this<FakeBackend> {
 public:
  FakeBackend(FakePostgres& server, ManualLoop& loop, std::unique_ptr<Stream> stream,
              std::shared_ptr<MemoryPipe> pipe, wire::BackendKey key);
  ~FakeBackend() override;

  void start() { stream_->start(this); }

  [[nodiscard]] const wire::BackendKey& key() const { return key_; }
  [[nodiscard]] const std::shared_ptr<MemoryPipe>& pipe() const { return pipe_; }
  // Its row in pg_stat_activity is there.
  [[nodiscard]] bool alive() const { return alive_; }
  [[nodiscard]] bool logged_in() const { return logged_in_; }
  [[nodiscard]] bool in_transaction() const { return block_ != 'I' || tx_.xid != 0; }
  // Its rows are visible, and neither listeners nor its client have been told.
  [[nodiscard]] bool committing() const { return busy_; }
  [[nodiscard]] bool of_proxy() const { return !startup_.get("pgfresh.inband").empty(); }
  // Ended so far: with the process's number, the name of the running one.
  [[nodiscard]] uint64_t transactions() const { return transactions_; }
  [[nodiscard]] const wire::StartupMessage& startup() const { return startup_; }
  [[nodiscard]] bool stalled() const { return stalled_; }

  void stall() { stalled_ = true; }
  void go_on();
  // The next Query or Execute fails as canceled.
  void cancel() { canceled_ = true; }
  // The server process dies: no commit, no farewell.
  void die();
  // pg_terminate_backend(): a FATAL error, then the end.
  void terminate();
  // FATAL, while the end of the stream is still on its way.
  void say_last_words();
  // Something PostgreSQL sends without being asked.
  void send_notice(std::string_view message);
  // Nothing that was said waits for a Flush or Sync.
  [[nodiscard]] bool has_said_all() const { return out_.empty(); }
  void send_pf001(std::string_view payload);
  void send_notification(std::string_view channel, std::string_view payload);

  void on_bytes(std::string_view bytes) override;
  void on_drained() override {}
  void on_end(std::string_view why) override;

 private:
  struct Statement {
    std::string text;
    size_t parameters = 0;
    FakeOutcome description;
  };
  struct Portal {
    std::string text;
    std::vector<std::optional<std::string>> parameters;
    std::vector<uint16_t> formats;
    FakeOutcome outcome;
    bool run = false;
    size_t next_row = 0;
  };
  struct Script {
    std::vector<std::string> statements;
    size_t next = 0;
  };
  struct Copy {
    std::string table;
    std::string lines;
    bool simple = false;
  };
  using Continue = std::function<void()>;

  void schedule();
  void step();
  [[nodiscard]] bool take_startup();
  void take_password();
  void log_in();
  void take(const wire::Frame& frame);
  void take_copy(const wire::Frame& frame);
  void take_parse(std::string_view body);
  void take_bind(std::string_view body);
  void take_describe(std::string_view body);
  void take_execute(std::string_view body);
  void take_close(std::string_view body);
  void take_sync();
  void run_script(std::shared_ptr<Script> script);
  void run_portal(const std::string& name, uint32_t max_rows);
  void continue_portal(Portal& portal, uint32_t max_rows);

  // The statement's outcome, or nullopt: it is a COMMIT, and `then` follows it.
  [[nodiscard]] std::optional<FakeOutcome> run(
      const std::string& sql, const std::vector<std::optional<std::string>>& parameters,
      const Continue& then);
  [[nodiscard]] std::optional<FakeOutcome> control(const std::vector<std::string>& tokens,
                                                   const Continue& then);
  void forget_named();
  [[nodiscard]] FakeOutcome begin(const std::vector<std::string>& tokens);
  [[nodiscard]] FakeOutcome set(const std::vector<std::string>& tokens);
  [[nodiscard]] FakeOutcome set_config(const std::vector<std::string>& tokens,
                                       const std::vector<std::optional<std::string>>& parameters);
  void change_setting(const std::string& name, const std::string& value, bool local);
  [[nodiscard]] FakeOutcome probe(std::string_view sql) const;
  void note(std::string line);
  [[nodiscard]] FakeOutcome describe(const std::string& sql, size_t& parameters) const;
  void keep_events(size_t count);
  void commit(const Continue& then);
  void roll_back();
  void restore_settings();
  void end_block();

  void reply_rows(const FakeOutcome& outcome, const std::vector<uint16_t>& formats, size_t from,
                  size_t count);
  void reply_description(const FakeOutcome& outcome, const std::vector<uint16_t>& formats);
  void reply_messages(const FakeOutcome& outcome);
  void reply_ready();
  void fail(std::string_view sqlstate, std::string_view message);
  void fail_segment(std::string_view sqlstate, std::string_view message);
  void flush();

  FakePostgres& server_;
  ManualLoop& loop_;
  std::unique_ptr<Stream> stream_;
  const std::shared_ptr<MemoryPipe> pipe_;
  const wire::BackendKey key_;
  wire::Framer framer_;
  wire::StartupMessage startup_;
  std::string input_;
  std::string out_;

  bool alive_ = true;
  bool started_ = false;  // the startup packet has come
  bool logged_in_ = false;
  bool ended_ = false;  // the client has gone
  bool stalled_ = false;
  bool busy_ = false;  // a commit is under way
  bool scheduled_ = false;
  bool canceled_ = false;
  bool skipping_ = false;  // to the next Sync

  char block_ = 'I';
  uint64_t transactions_ = 0;
  FakeDatabase::Transaction tx_;
  std::map<std::string, std::string> settings_;
  std::map<std::string, std::string> settings_before_;                // of the transaction
  std::map<std::string, std::optional<std::string>> settings_local_;  // what COMMIT restores
  bool temporary_ = false;
  bool quiet_ = false;  // a probe's messages are not noted
  std::map<std::string, Statement> statements_;
  std::map<std::string, Portal> portals_;
  std::optional<Copy> copy_;
  std::shared_ptr<Script> script_;  // waits for a COPY
};

}  // namespace pgfresh::sim
