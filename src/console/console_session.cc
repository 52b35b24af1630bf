// The session is one loop, pump(): while nothing is awaited it takes the next statement of the
// simple query being answered, or else the next message. An outcome that comes later starts it
// again.
#include "console/console_session.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "console/tables.h"
#include "console/values.h"

namespace pgfresh::console {
namespace {

// AuthenticationOk, …SASL, …SASLContinue, …SASLFinal (PostgreSQL manual, "Message Formats").
constexpr uint32_t kAuthOk = 0;
constexpr uint32_t kAuthSasl = 10;
constexpr uint32_t kAuthSaslContinue = 11;
constexpr uint32_t kAuthSaslFinal = 12;
// A list of mechanisms, ended by an empty one.
constexpr std::string_view kMechanisms{"SCRAM-SHA-256\0\0", 15};
constexpr size_t kNonceBytes = 18;
constexpr std::string_view kPortalSuspended{"s\0\0\0\4", 5};

std::string result_of(const Outcome& outcome) {
  const auto* failure = std::get_if<Failure>(&outcome);
  return failure == nullptr ? "ok" : printable(failure->sqlstate + " " + failure->message);
}

}  // namespace

ConsoleSession::ConsoleSession(Loop& loop, std::unique_ptr<Stream> stream,
                               const wire::StartupMessage& startup, std::string leftover,
                               Backend& backend, std::shared_ptr<const Access> access,
                               SessionOptions options,
                               std::function<void(std::string_view why)> on_done)
    : loop_(loop),
      stream_(std::move(stream)),
      backend_(backend),
      access_(std::move(access)),
      options_(std::move(options)),
      on_done_(std::move(on_done)),
      user_(startup.get("user")),
      application_name_(startup.get("application_name")),
      desk_(SessionFacts{user_, std::string(startup.get("database")), application_name_,
                         options_.version, options_.pid}),
      statements_(desk_),
      framer_(wire::Side::kFrontend, limits::kFrontendWholeMax),
      input_(std::move(leftover)),
      connected_ns_(loop.clock().now_ns()),
      active_ns_(connected_ns_) {
  PGFRESH_CHECK(stream_ != nullptr && access_ != nullptr);
}

ConsoleSession::~ConsoleSession() = default;

void ConsoleSession::start() {
  PGFRESH_CHECK(state_ == State::kNew);
  stream_->start(this);
  login_timer_ = loop_.after(options_.login_ms_max, [this] {
    if (state_ != State::kSaslFirst && state_ != State::kSaslFinal) return;
    fatal("57014", "canceling authentication due to timeout");
    flush();
  });
  begin_login();
  pump();
}

void ConsoleSession::stop(std::string_view sqlstate, std::string_view message) {
  if (state_ == State::kClosing || state_ == State::kEnded) return;
  fatal(sqlstate, message);
  flush();
}

std::string_view ConsoleSession::state_name() const {
  switch (state_) {
    case State::kNew:
    case State::kSaslFirst:
    case State::kSaslFinal:
      return "login";
    case State::kReady:
      return then_ || in_query_ ? "active" : "idle";
    case State::kClosing:
    case State::kEnded:
      return "closing";
  }
  return "closing";
}

// ── Login ────────────────────────────────────────────────────────────────────────────────────────

void ConsoleSession::begin_login() {
  if (user_.empty()) {
    fatal("28000", "no PostgreSQL user name specified in startup packet");
    return;
  }
  if (access_->trusts_peer(stream_->peer_uid())) {
    role_ = Role::kAdministers;
    welcome();
    return;
  }
  scram_.emplace(access_->secret_for(user_, options_.random_bytes(32)),
                 options_.random_bytes(kNonceBytes));
  wire::write_authentication(output_, kAuthSasl, kMechanisms);
  state_ = State::kSaslFirst;
}

void ConsoleSession::sasl_first(std::string_view body) {
  const auto answer = scram_->first(body);
  if (!answer) {
    fatal("08P01", "malformed SCRAM message");
    return;
  }
  wire::write_authentication(output_, kAuthSaslContinue, *answer);
  state_ = State::kSaslFinal;
}

void ConsoleSession::sasl_final(std::string_view body) {
  const auto answer = scram_->final(body);
  if (!answer || !access_->users.contains(user_)) {
    refuse_login();
    return;
  }
  wire::write_authentication(output_, kAuthSaslFinal, *answer);
  role_ = access_->role_of(user_);
  welcome();
}

void ConsoleSession::refuse_login() {
  if (options_.audit) {
    options_.audit({printable(user_), stream_->peer(), "LOGIN", "28P01 refused"});
  }
  fatal("28P01", "password authentication failed for user \"" + user_ + "\"");
}

void ConsoleSession::welcome() {
  login_timer_.reset();
  scram_.reset();
  wire::write_authentication(output_, kAuthOk);
  for (const auto& [name, value] : desk_.reported()) {
    wire::write_parameter_status(output_, name, value);
  }
  wire::write_backend_key(output_, options_.pid, options_.secret);
  state_ = State::kReady;
  ready_for_query();
}

// ── Input ────────────────────────────────────────────────────────────────────────────────────────

void ConsoleSession::on_bytes(std::string_view bytes) {
  if (state_ == State::kClosing || state_ == State::kEnded) return;
  input_ += bytes;
  pump();
}

void ConsoleSession::on_drained() { pump(); }

void ConsoleSession::on_end(std::string_view why) {
  if (state_ == State::kEnded) return;
  const std::string reason = state_ == State::kClosing ? end_reason_ : std::string(why);
  state_ = State::kEnded;
  login_timer_.reset();
  on_done_(reason);
}

bool ConsoleSession::may_go_on() const {
  if (state_ == State::kNew || state_ == State::kClosing || state_ == State::kEnded) return false;
  return !then_ && stream_->queued_bytes() + output_.size() < limits::kQueueHighBytes;
}

// Takes what can be taken, sends what was made, and reads on only when there is nothing to wait
// for.
void ConsoleSession::pump() {
  if (pumping_) return;
  pumping_ = true;
  for (;;) {
    while (may_go_on()) {
      if (in_query_) {
        run_next();
      } else if (!take_message()) {
        break;
      }
    }
    // Sending may make room for more.
    const bool stuck = !may_go_on();
    flush();
    if (!stuck || !may_go_on()) break;
  }
  pumping_ = false;
  input_.erase(0, std::exchange(input_at_, 0));
  if (state_ == State::kEnded) return;
  if (state_ == State::kClosing) {
    input_.clear();
    return;
  }
  const bool waits = !may_go_on();
  if (waits == paused_) return;
  paused_ = waits;
  if (waits) {
    stream_->pause();
  } else {
    stream_->resume();
  }
}

// False: a whole message is not there.
bool ConsoleSession::take_message() {
  std::string_view in = std::string_view(input_).substr(input_at_);
  wire::Frame frame;
  const wire::Cut cut = framer_.next(in, frame);
  switch (cut) {
    case wire::Cut::kMessage:
      handle(frame);
      break;
    case wire::Cut::kPart:
      // CopyData, which PostgreSQL ignores outside COPY. Before login nothing else than a password
      // is due.
      if (state_ != State::kReady) fatal("08P01", "expected a password response");
      break;
    case wire::Cut::kNeedMore:
      break;
    case wire::Cut::kBroken:
      fatal("08P01", framer_.error());
      break;
  }
  input_at_ = input_.size() - in.size();
  return cut != wire::Cut::kNeedMore;
}

void ConsoleSession::handle(const wire::Frame& frame) {
  if (frame.type == 'X') {
    end_reason_ = "client terminated the session";
    state_ = State::kClosing;
    return;
  }
  if (state_ != State::kReady) {
    handle_login(frame);
    return;
  }
  if (skipping_ && frame.type != 'S') return;
  switch (frame.type) {
    case 'Q':
      return handle_query(frame.body());
    case 'P':
      return handle_parse(frame.body());
    case 'B':
      return handle_bind(frame.body());
    case 'D':
      return handle_describe(frame.body());
    case 'C':
      return handle_close(frame.body());
    case 'E':
      return handle_execute(frame.body());
    case 'S':
      return handle_sync();
    case 'H':  // Flush: pump() sends all that was made anyway.
    case 'd':  // COPY's messages are ignored outside COPY, as PostgreSQL does.
    case 'c':
    case 'f':
      return;
    case 'F':
      // FunctionCall is answered like a simple query: no Sync follows it.
      in_query_ = true;
      fail({"0A000", "the pgfresh console has no functions to call", ""});
      return end_query();
    default:
      fatal("08P01", "unexpected message type \"" + printable(std::string(1, frame.type)) + "\"");
  }
}

void ConsoleSession::handle_login(const wire::Frame& frame) {
  if (frame.type != 'p') {
    fatal("08P01", "expected a password response");
    return;
  }
  if (state_ == State::kSaslFirst) {
    sasl_first(frame.body());
  } else {
    sasl_final(frame.body());
  }
}

void ConsoleSession::handle_query(std::string_view body) {
  const auto text = wire::read_query(body);
  if (!text) return fatal("08P01", "malformed Query message");
  statements_.drop_unnamed();
  auto parsed = interpret(*text, desk_);
  note_command();
  queue_at_ = 0;
  queue_.clear();
  in_query_ = true;
  if (!parsed) {
    fail(parsed.error());
    return end_query();
  }
  queue_ = std::move(*parsed);
  if (queue_.empty()) {
    output_ += wire::kEmptyQuery;
    end_query();
  }
}

void ConsoleSession::handle_parse(std::string_view body) {
  const auto message = wire::read_parse(body);
  if (!message) return fatal("08P01", "malformed Parse message");
  if (const auto failure = statements_.parse(*message)) return fail(*failure);
  output_ += wire::kParseComplete;
}

void ConsoleSession::handle_bind(std::string_view body) {
  const auto message = wire::read_bind(body);
  if (!message) return fatal("08P01", "malformed Bind message");
  if (const auto failure = statements_.bind(*message)) return fail(*failure);
  output_ += wire::kBindComplete;
}

void ConsoleSession::handle_describe(std::string_view body) {
  const auto message = wire::read_target(body);
  if (!message) return fatal("08P01", "malformed Describe message");
  if (const auto failure = statements_.describe(output_, *message)) return fail(*failure);
}

void ConsoleSession::handle_close(std::string_view body) {
  const auto message = wire::read_target(body);
  if (!message) return fatal("08P01", "malformed Close message");
  statements_.close(*message);
  output_ += wire::kCloseComplete;
}

void ConsoleSession::handle_execute(std::string_view body) {
  const auto message = wire::read_execute(body);
  if (!message) return fatal("08P01", "malformed Execute message");
  note_command();
  run_portal(std::string(message->portal), message->max_rows);
}

void ConsoleSession::handle_sync() {
  skipping_ = false;
  if (desk_.block() == 'I') statements_.drop_portals();
  ready_for_query();
}

void ConsoleSession::note_command() {
  ++queries_;
  active_ns_ = loop_.clock().now_ns();
}

// ── Running ──────────────────────────────────────────────────────────────────────────────────────

void ConsoleSession::run_next() {
  if (queue_at_ == queue_.size()) return end_query();
  const StatementRef statement = queue_[queue_at_++];
  run(*statement, [this](Outcome outcome) { answer_simple(std::move(outcome)); });
}

void ConsoleSession::end_query() {
  in_query_ = false;
  queue_.clear();
  if (desk_.block() == 'I') statements_.drop_portals();
  ready_for_query();
}

// `then` comes at once or, when the command is with the backend, later; no message and no statement
// is taken in between. REQUIRES: nothing is awaited.
void ConsoleSession::run(const Statement& statement, Then then) {
  PGFRESH_CHECK(!then_ && statement.kind != Statement::Kind::kEmpty);
  if (desk_.refuses(statement.tokens)) {
    // The desk knows the words for it.
    then(std::move(desk_.answer(statement.tokens)->outcome));
    return;
  }
  if (statement.kind == Statement::Kind::kCommand) {
    run_command(statement.command, std::move(then));
    return;
  }
  auto answer = desk_.answer(statement.tokens);
  PGFRESH_CHECK(answer.has_value());
  statements_.forget(answer->forget);
  const auto changes = desk_.take_changes();
  then(std::move(answer->outcome));
  for (const auto& [name, value] : changes) wire::write_parameter_status(output_, name, value);
}

void ConsoleSession::run_command(const Command& command, Then then) {
  if (command.verb == Verb::kShowHelp) return then(help_table());
  if (command.verb == Verb::kShowVersion) return then(version_table(options_.version));

  AuditRecord record;
  const bool acts = effect_of(command.verb) == Effect::kActs;
  if (acts) {
    record = {printable(user_), stream_->peer(), printable(to_text(command)), "asked"};
    if (role_ != Role::kAdministers) {
      const Failure failure{"42501", "only administrators of the pgfresh console may do this", ""};
      record.result = result_of(failure);
      if (options_.audit) options_.audit(record);
      return then(failure);
    }
    if (options_.audit) options_.audit(record);
  }
  then_ = std::move(then);
  backend_.run(command, [this, alive = std::weak_ptr<const int>(alive_), verb = command.verb, acts,
                         record, audit = options_.audit](Outcome outcome) mutable {
    if (acts && audit) {
      record.result = result_of(outcome);
      audit(record);
    }
    if (alive.expired()) return;
    if (const auto* table = std::get_if<Table>(&outcome)) {
      PGFRESH_CHECK(table->columns() == columns_of(verb));
    }
    settle(std::move(outcome));
  });
}

// The backend has answered.
void ConsoleSession::settle(Outcome outcome) {
  PGFRESH_CHECK(then_);
  const Then then = std::exchange(then_, nullptr);
  if (state_ != State::kReady) return;
  then(std::move(outcome));
  pump();
}

void ConsoleSession::answer_simple(Outcome outcome) {
  if (const auto* failure = std::get_if<Failure>(&outcome)) {
    fail(*failure);
    queue_at_ = queue_.size();
    return;
  }
  if (const auto* done = std::get_if<Done>(&outcome)) return send_done(*done);
  const Table& table = std::get<Table>(outcome);
  write_description(output_, table.columns(), {});
  for (const Row& row : table.rows()) write_row(output_, row, {});
  wire::write_command_complete(output_, table.tag(table.rows().size()));
}

void ConsoleSession::run_portal(const std::string& name, uint32_t max_rows) {
  Portal* portal = statements_.portal(name);
  if (portal == nullptr) return fail({"34000", "portal \"" + name + "\" does not exist", ""});
  switch (portal->state) {
    case Portal::State::kRows:
      return send_rows(*portal, max_rows);
    case Portal::State::kDone:
      return fail({"55000", "portal \"" + name + "\" cannot be run", ""});
    case Portal::State::kFresh:
      break;
  }
  if (portal->statement->kind == Statement::Kind::kEmpty) {
    output_ += wire::kEmptyQuery;
    return;
  }
  const StatementRef statement = portal->statement;
  run(*statement, [this, name, max_rows](Outcome outcome) {
    // Nothing was taken in since, but the command itself may have been a COMMIT or DISCARD.
    Portal* answered = statements_.portal(name);
    PGFRESH_CHECK(answered != nullptr);
    if (const auto* failure = std::get_if<Failure>(&outcome)) return fail(*failure);
    if (const auto* done = std::get_if<Done>(&outcome)) {
      answered->state = Portal::State::kDone;
      return send_done(*done);
    }
    answered->state = Portal::State::kRows;
    answered->table = std::move(std::get<Table>(outcome));
    send_rows(*answered, max_rows);
  });
}

void ConsoleSession::send_done(const Done& done) {
  if (!done.notice.empty()) {
    wire::write_notice(output_, wire::Severity::kWarning, "01000", done.notice);
  }
  wire::write_command_complete(output_, done.tag);
}

// As PostgreSQL: a limit that the last row meets exactly still suspends the portal.
void ConsoleSession::send_rows(Portal& portal, uint32_t max_rows) {
  const std::vector<Row>& rows = portal.table->rows();
  const size_t left = rows.size() - portal.next_row;
  const size_t sent = max_rows == 0 ? left : std::min<size_t>(left, max_rows);
  for (size_t i = 0; i < sent; ++i) write_row(output_, rows[portal.next_row + i], portal.formats);
  portal.next_row += sent;
  if (max_rows != 0 && sent == max_rows) {
    output_ += kPortalSuspended;
  } else {
    wire::write_command_complete(output_, portal.table->tag(sent));
  }
}

// ── Output ───────────────────────────────────────────────────────────────────────────────────────

void ConsoleSession::fail(const Failure& failure) {
  wire::write_error(output_, wire::Severity::kError, failure.sqlstate, failure.message, {},
                    failure.hint);
  desk_.failed();
  if (!in_query_) skipping_ = true;
}

void ConsoleSession::fatal(std::string_view sqlstate, std::string_view message) {
  wire::write_error(output_, wire::Severity::kFatal, sqlstate, message);
  end_reason_ = message;
  state_ = State::kClosing;
}

void ConsoleSession::ready_for_query() { wire::write_ready(output_, desk_.block()); }

void ConsoleSession::flush() {
  if (!output_.empty()) {
    const std::array<Slice, 1> slices{Slice{output_, nullptr}};
    stream_->write(slices);
    output_.clear();
  }
  if (state_ != State::kClosing || finished_) return;
  finished_ = true;
  stream_->finish();
}

}  // namespace pgfresh::console
