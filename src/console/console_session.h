// One client of the console: logs it in, reads its messages, runs its commands one after the other
// and answers them, over the simple and the extended protocol. It takes over a client's stream when
// the startup message has named the database "pgfresh".
//
// Invariants: at most one command is with the backend, and no message is looked at meanwhile; what
// the client sends then waits in its kernel. Input is bounded by the framer (64 KB a message) and
// one read of the stream; output stops input at limits::kQueueHighBytes.
// Not done: parameters, COPY, function calls, cancelling (commands are short), channel binding.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "console/access.h"
#include "console/backend.h"
#include "console/courtesy.h"
#include "console/statements.h"
#include "pgfresh/loop.h"
#include "pgfresh/stream.h"
#include "wire/framer.h"
#include "wire/messages.h"
#include "wire/scram.h"

namespace pgfresh::console {

// For the audit log. Every command of Effect::kActs gives two records: result "asked" before it is
// run, then "ok" or "<SQLSTATE> <message>". One that the user's role forbids, and a login that is
// refused (action "LOGIN"), give one. Control characters have been taken out.
struct AuditRecord {
  std::string user;
  std::string peer;  // as Stream::peer() gives it
  std::string action;
  std::string result;
};

struct SessionOptions {
  std::string version;  // of pgfresh: "0.1"
  uint32_t pid = 0;     // BackendKeyData; a cancel request with it does nothing
  uint32_t secret = 0;
  int64_t login_ms_max = 60'000;
  std::function<std::string(size_t)> random_bytes;  // fit for nonces
  std::function<void(const AuditRecord&)> audit;    // outlives the session: a command's end may
};

// Loop thread only.
class ConsoleSession final : public Stream::Events {
 public:
  // `leftover`: bytes read behind the startup message. `on_done(why)` comes once, when the stream
  // has ended; it is called from inside an event of the stream or of the loop, so the owner
  // destroys the session by Loop::defer. REQUIRES: loop and backend outlive the session.
  ConsoleSession(Loop& loop, std::unique_ptr<Stream> stream, const wire::StartupMessage& startup,
                 std::string leftover, Backend& backend, std::shared_ptr<const Access> access,
                 SessionOptions options, std::function<void(std::string_view why)> on_done);
  // Closes the stream at once; a command that is running goes on without it.
  ~ConsoleSession() override;
  ConsoleSession(const ConsoleSession&) = delete;
  ConsoleSession& operator=(const ConsoleSession&) = delete;

  // Begins the login. Once.
  void start();
  // Ends the session with a FATAL error, such as 57P01 when pgfresh stops. on_done follows.
  void stop(std::string_view sqlstate, std::string_view message);

  // For SHOW CLIENTS.
  [[nodiscard]] const std::string& user() const { return user_; }
  [[nodiscard]] const std::string& application_name() const { return application_name_; }
  [[nodiscard]] const Stream& stream() const { return *stream_; }
  [[nodiscard]] std::string_view state_name() const;
  [[nodiscard]] uint64_t queries() const { return queries_; }
  [[nodiscard]] int64_t connected_ns() const { return connected_ns_; }  // the loop's clock
  [[nodiscard]] int64_t active_ns() const { return active_ns_; }        // the last command

  void on_bytes(std::string_view bytes) override;
  void on_drained() override;
  void on_end(std::string_view why) override;

 private:
  enum class State : uint8_t {
    kNew,        // start() has not come
    kSaslFirst,  // the client's first SCRAM message is awaited
    kSaslFinal,  // its second
    kReady,      // serves
    kClosing,    // all is said; the peer's end is awaited
    kEnded,
  };
  using Then = std::function<void(Outcome)>;

  // Login.
  void begin_login();
  void sasl_first(std::string_view body);
  void sasl_final(std::string_view body);
  void refuse_login();
  void welcome();

  // Input.
  void pump();
  [[nodiscard]] bool may_go_on() const;
  [[nodiscard]] bool take_message();
  void handle(const wire::Frame& frame);
  void handle_login(const wire::Frame& frame);
  void handle_query(std::string_view body);
  void handle_parse(std::string_view body);
  void handle_bind(std::string_view body);
  void handle_describe(std::string_view body);
  void handle_close(std::string_view body);
  void handle_execute(std::string_view body);
  void handle_sync();
  void note_command();

  // Running.
  void run_next();
  void end_query();
  void run(const Statement& statement, Then then);
  void run_command(const Command& command, Then then);
  void settle(Outcome outcome);
  void answer_simple(Outcome outcome);
  void run_portal(const std::string& name, uint32_t max_rows);
  void send_done(const Done& done);
  void send_rows(Portal& portal, uint32_t max_rows);

  // Output.
  void fail(const Failure& failure);
  void fatal(std::string_view sqlstate, std::string_view message);
  void ready_for_query();
  void flush();

  // Constant after construction.
  Loop& loop_;
  const std::unique_ptr<Stream> stream_;
  Backend& backend_;
  const std::shared_ptr<const Access> access_;
  const SessionOptions options_;
  const std::function<void(std::string_view)> on_done_;
  const std::string user_;
  const std::string application_name_;

  State state_ = State::kNew;
  Role role_ = Role::kLooks;
  std::optional<wire::ScramServer> scram_;
  std::unique_ptr<Timer> login_timer_;
  std::string end_reason_;  // kClosing: why, for on_done

  CourtesyDesk desk_;
  StatementStore statements_;

  wire::Framer framer_;
  std::string input_;  // read; looked at up to input_at_
  size_t input_at_ = 0;
  std::string output_;  // made and not handed to the stream yet
  bool pumping_ = false;
  bool paused_ = false;
  bool finished_ = false;  // kClosing: the stream has been told

  std::vector<StatementRef> queue_;  // of the simple query being answered
  size_t queue_at_ = 0;
  bool in_query_ = false;
  bool skipping_ = false;  // after an error in the extended protocol, until Sync
  Then then_;              // set while a command is with the backend
  uint64_t queries_ = 0;
  const int64_t connected_ns_;
  int64_t active_ns_;

  // Gone when the session is: a late outcome asks it.
  std::shared_ptr<const int> alive_ = std::make_shared<const int>(0);
};

}  // namespace pgfresh::console
