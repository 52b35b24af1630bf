// Rules from the PostgreSQL manual, "Message Flow", and src/backend/tcop/postgres.c. Kept simple:
// statements are not planned, so a Parse fails only on its syntax.
#include "fake_backend.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "fake_postgres.h"
#include "proxy/scope.h"
#include "wire/bytes.h"

namespace pgfresh::sim {
namespace {

constexpr uint32_t kPasswordWanted = 3;
constexpr uint32_t kSaslWanted = 10;

std::map<std::string, std::string> default_settings() {
  return {{"client_encoding", "UTF8"},
          {"DateStyle", "ISO, MDY"},
          {"TimeZone", "UTC"},
          {"search_path", "\"$user\", public"},
          {"standard_conforming_strings", "on"},
          {"default_transaction_isolation", "read committed"},
          {"role", "none"}};
}

// What a failed block still takes.
bool ends_block(std::string_view sql) {
  const std::vector<std::string> tokens = fake_tokens(sql);
  return tokens.empty() || tokens[0] == "rollback" || tokens[0] == "commit" || tokens[0] == "end" ||
         tokens[0] == "abort";
}

std::vector<std::string> split_statements(std::string_view sql) {
  std::vector<std::string> statements;
  while (!sql.empty()) {
    const size_t end = sql.find(';');
    const std::string_view one = sql.substr(0, end);
    if (!fake_tokens(one).empty()) statements.emplace_back(one);
    if (end == std::string_view::npos) break;
    sql.remove_prefix(end + 1);
  }
  return statements;
}

// A value of type int8 in binary becomes decimal text; int4 too, told by its length.
std::string value_text(const wire::BindParameter& parameter) {
  const std::string_view bytes = *parameter.value;
  if (parameter.format == 0) return std::string(bytes);
  uint64_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return std::to_string(static_cast<int64_t>(number));
}

std::string value_bytes(const std::string& text, uint32_t type_oid, uint16_t format) {
  if (format == 0 || type_oid != 20) return text;
  std::string bytes;
  const auto number = static_cast<uint64_t>(std::stoll(text));
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(number >> shift));
  return bytes;
}

uint16_t format_of(const std::vector<uint16_t>& formats, size_t column) {
  if (formats.empty()) return 0;
  return formats.size() == 1 ? formats[0] : formats[column];
}

FakeOutcome failure(std::string sqlstate, std::string error) {
  FakeOutcome outcome;
  outcome.sqlstate = std::move(sqlstate);
  outcome.error = std::move(error);
  return outcome;
}

}  // namespace

FakeBackend::FakeBackend(FakePostgres& server, ManualLoop& loop, std::unique_ptr<Stream> stream,
                         std::shared_ptr<MemoryPipe> pipe, wire::BackendKey key)
    : server_(server),
      loop_(loop),
      stream_(std::move(stream)),
      pipe_(std::move(pipe)),
      key_(key),
      framer_(wire::Side::kFrontend, limits::kMessageBytesMax),
      settings_(default_settings()) {}

FakeBackend::~FakeBackend() { server_.database().rollback(tx_); }

// ── Turns ────────────────────────────────────────────────────────────────────────────────────────

void FakeBackend::on_bytes(std::string_view bytes) {
  input_.append(bytes);
  schedule();
}

void FakeBackend::on_end(std::string_view /*why*/) {
  ended_ = true;
  schedule();
}

void FakeBackend::go_on() {
  stalled_ = false;
  schedule();
}

void FakeBackend::schedule() {
  if (scheduled_ || stalled_ || busy_ || !alive_) return;
  scheduled_ = true;
  loop_.post([self = shared_from_this()] {
    self->scheduled_ = false;
    if (!self->stalled_ && !self->busy_ && self->alive_) self->step();
  });
}

void FakeBackend::step() {
  if (!started_) {
    if (take_startup()) {
      schedule();
    } else if (ended_) {
      die();
    }
    return;
  }
  std::string_view rest(input_);
  wire::Frame frame;
  const wire::Cut cut = framer_.next(rest, frame);
  if (cut == wire::Cut::kMessage || cut == wire::Cut::kPart) {
    const std::string bytes(frame.bytes);  // taking it may lead anywhere
    frame.bytes = bytes;
    input_.erase(0, input_.size() - rest.size());
    take(frame);
    schedule();
    return;
  }
  input_.clear();
  if (ended_ || cut == wire::Cut::kBroken) die();
}

void FakeBackend::die() {
  if (!alive_) return;
  alive_ = false;
  server_.database().rollback(tx_);
  loop_.defer([self = shared_from_this()] { self->stream_.reset(); });
}

void FakeBackend::say_last_words() {
  wire::write_error(out_, wire::Severity::kFatal, "57P01",
                    "terminating connection due to administrator command");
  flush();
}

void FakeBackend::terminate() {
  say_last_words();
  die();
}

void FakeBackend::flush() {
  if (out_.empty() || !stream_) return;
  const Slice slice{out_, nullptr};
  stream_->write({&slice, 1});
  out_.clear();
}

void FakeBackend::send_notice(std::string_view message) {
  wire::write_notice(out_, wire::Severity::kNotice, "00000", message);
  flush();
}

void FakeBackend::send_pf001(std::string_view payload) {
  wire::write_notice(out_, wire::Severity::kInfo, "PF001", payload);
  flush();
}

void FakeBackend::send_notification(std::string_view channel, std::string_view payload) {
  {
    const wire::MessageFrame message(out_, 'A');
    wire::append_u32(out_, 1);
    wire::append_cstring(out_, channel);
    wire::append_cstring(out_, payload);
  }
  flush();
}

// ── Startup ──────────────────────────────────────────────────────────────────────────────────────

// True when there may be more to take.
bool FakeBackend::take_startup() {
  std::string_view rest(input_);
  wire::StartupPacket packet = wire::read_startup_packet(rest);
  if (std::holds_alternative<wire::StartupNeedsMore>(packet)) return false;
  input_.erase(0, input_.size() - rest.size());
  if (const auto* request = std::get_if<wire::CancelRequest>(&packet)) {
    server_.cancel(request->pid, request->secret);
    die();
    return false;
  }
  if (auto* startup = std::get_if<wire::StartupMessage>(&packet)) {
    startup_ = std::move(*startup);
    started_ = true;
    if (server_.login() == Login::kTrust) {
      log_in();
    } else if (server_.login() == Login::kPassword) {
      wire::write_authentication(out_, kPasswordWanted);
    } else {
      wire::write_authentication(out_, kSaslWanted,
                                 std::string_view("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", 34));
    }
    flush();
    return true;
  }
  out_ += 'N';
  flush();
  return true;
}

void FakeBackend::take_password() {
  log_in();
  flush();
}

void FakeBackend::log_in() {
  logged_in_ = true;
  for (const auto& [name, value] : startup_.parameters) {
    if (name.find('.') != std::string::npos) settings_[name] = value;
  }
  wire::write_authentication(out_, 0);
  wire::write_parameter_status(out_, "server_version", "15.8");
  wire::write_backend_key(out_, key_.pid, key_.secret);
  wire::write_ready(out_, 'I');
}

// ── Messages ─────────────────────────────────────────────────────────────────────────────────────

void FakeBackend::take(const wire::Frame& frame) {
  if (!logged_in_) {
    if (frame.type == 'p') take_password();
    return;
  }
  if (copy_) {
    take_copy(frame);
    return;
  }
  if (frame.type == 'd') return;  // of a COPY that has ended
  const std::string_view body = frame.body();
  // What pgfresh does by itself comes in several messages, which are noted as one, or counted.
  if (frame.type != 'S') {
    quiet_ = body.find("pgfresh p") != std::string_view::npos || body.starts_with("DISCARD PLANS");
  }
  if (frame.type != 'S' && skipping_) return;
  switch (frame.type) {
    case 'Q': {
      const auto sql = wire::read_query(body);
      note("Q " + std::string(*sql));
      statements_.erase("");
      portals_.erase("");
      auto script = std::make_shared<Script>();
      script->statements = split_statements(*sql);
      if (script->statements.empty()) out_ += wire::kEmptyQuery;
      run_script(std::move(script));
      return;
    }
    case 'P':
      take_parse(body);
      return;
    case 'B':
      take_bind(body);
      return;
    case 'D':
      take_describe(body);
      return;
    case 'E':
      take_execute(body);
      return;
    case 'C':
      take_close(body);
      return;
    case 'S':
      take_sync();
      return;
    case 'H':
      note("H");
      flush();
      return;
    case 'X':
      die();
      return;
    default:
      return;
  }
}

void FakeBackend::run_script(std::shared_ptr<Script> script) {
  while (script->next < script->statements.size()) {
    const std::string sql = script->statements[script->next++];
    const std::vector<std::string> tokens = fake_tokens(sql);
    if (canceled_) {
      canceled_ = false;
      fail("57014", "canceling statement due to user request");
      break;
    }
    std::optional<FakeOutcome> outcome = run(sql, {}, [this, script] { run_script(script); });
    if (!outcome) return;
    if (copy_) {
      script_ = script;
      copy_->simple = true;
      return;
    }
    if (!outcome->error.empty()) {
      fail(outcome->sqlstate, outcome->error);
      break;
    }
    reply_description(*outcome, {});
    reply_rows(*outcome, {}, 0, outcome->rows.size());
    reply_messages(*outcome);
    if (!outcome->tag.empty()) wire::write_command_complete(out_, outcome->tag);
  }
  if (block_ == 'I') {
    commit([this] { reply_ready(); });
  } else {
    reply_ready();
  }
}

void FakeBackend::take_copy(const wire::Frame& frame) {
  if (frame.type == 'd') {
    copy_->lines.append(frame.first ? frame.bytes.substr(5) : frame.bytes);
    return;
  }
  if (frame.type == 'S' || frame.type == 'H') return;
  if (frame.type != 'c' && frame.type != 'f') {
    // As PostgreSQL 15 has it: the error is raised in the middle of the message.
    wire::write_error(out_, wire::Severity::kError, "08P01",
                      "unexpected message type during COPY from stdin");
    wire::write_error(out_, wire::Severity::kFatal, "08P01",
                      "terminating connection because protocol synchronization was lost");
    flush();
    die();
    return;
  }
  const Copy copy = *std::exchange(copy_, std::nullopt);
  FakeOutcome outcome = failure("57014", "COPY from stdin failed");
  const size_t events = tx_.events.size();
  if (frame.type == 'c') outcome = server_.database().copy_in(tx_, copy.table, copy.lines);
  keep_events(events);
  if (!outcome.error.empty()) {
    if (copy.simple) {
      fail(outcome.sqlstate, outcome.error);
      reply_ready();
    } else {
      fail_segment(outcome.sqlstate, outcome.error);
    }
    return;
  }
  reply_messages(outcome);
  wire::write_command_complete(out_, outcome.tag);
  if (copy.simple) run_script(std::exchange(script_, nullptr));
}

void FakeBackend::note(std::string line) {
  if (!quiet_) server_.note(std::move(line));
}

// ── Extended protocol ────────────────────────────────────────────────────────────────────────────

void FakeBackend::take_parse(std::string_view body) {
  const auto message = wire::read_parse(body);
  const std::string name(message->statement);
  if (proxy::is_probe(message->query)) server_.note("Q probe");
  note("P " + name + (name.empty() ? "" : " ") + std::string(message->query));
  if (!name.empty() && statements_.contains(name)) {
    fail_segment("42P05", "prepared statement already exists");
    return;
  }
  if (block_ == 'E' && !ends_block(message->query)) {
    fail_segment("25P02", "current transaction is aborted");
    return;
  }
  Statement statement;
  statement.text = message->query;
  statement.description = describe(statement.text, statement.parameters);
  if (!statement.description.error.empty()) {
    fail_segment(statement.description.sqlstate, statement.description.error);
    return;
  }
  statements_[name] = std::move(statement);
  out_ += wire::kParseComplete;
}

void FakeBackend::take_bind(std::string_view body) {
  note("B");
  const auto message = wire::read_bind(body);
  const auto statement = statements_.find(std::string(message->statement));
  if (statement == statements_.end()) {
    fail_segment("26000", "prepared statement does not exist");
    return;
  }
  if (block_ == 'E' && !ends_block(statement->second.text)) {
    fail_segment("25P02", "current transaction is aborted");
    return;
  }
  size_t parameters = 0;
  if (describe(statement->second.text, parameters).columns !=
      statement->second.description.columns) {
    fail_segment("0A000", "cached plan must not change result type");
    return;
  }
  Portal portal;
  portal.text = statement->second.text;
  wire::BindParameters given(*message);
  while (const auto parameter = given.next()) {
    portal.parameters.push_back(parameter->value ? std::optional(value_text(*parameter))
                                                 : std::nullopt);
  }
  wire::ByteReader formats(message->result_formats);
  while (!formats.rest().empty()) portal.formats.push_back(formats.u16());
  portal.outcome = statement->second.description;
  portals_[std::string(message->portal)] = std::move(portal);
  out_ += wire::kBindComplete;
}

void FakeBackend::take_describe(std::string_view body) {
  const auto target = wire::read_target(body);
  note(std::string("D ") + target->kind);
  if (target->kind == 'S') {
    const auto statement = statements_.find(std::string(target->name));
    if (statement == statements_.end()) {
      fail_segment("26000", "prepared statement does not exist");
      return;
    }
    const std::vector<uint32_t> oids(statement->second.parameters, 20);
    wire::write_parameter_description(out_, oids);
    reply_description(statement->second.description, {});
    if (statement->second.description.columns.empty()) out_ += wire::kNoData;
    return;
  }
  const auto portal = portals_.find(std::string(target->name));
  if (portal == portals_.end()) {
    fail_segment("34000", "portal does not exist");
    return;
  }
  reply_description(portal->second.outcome, portal->second.formats);
  if (portal->second.outcome.columns.empty()) out_ += wire::kNoData;
}

void FakeBackend::take_execute(std::string_view body) {
  const auto message = wire::read_execute(body);
  note("E");
  if (canceled_) {
    canceled_ = false;
    fail_segment("57014", "canceling statement due to user request");
    return;
  }
  run_portal(std::string(message->portal), message->max_rows);
}

void FakeBackend::run_portal(const std::string& name, uint32_t max_rows) {
  const auto found = portals_.find(name);
  if (found == portals_.end()) {
    fail_segment("34000", "portal does not exist");
    return;
  }
  Portal& portal = found->second;
  if (!portal.run) {
    const std::string sql = portal.text;
    std::optional<FakeOutcome> outcome = run(sql, portal.parameters, [] {});
    if (!outcome || copy_) return;
    if (!outcome->error.empty()) {
      fail_segment(outcome->sqlstate, outcome->error);
      return;
    }
    if (!portals_.contains(name)) {  // a ROLLBACK took the portal with it
      wire::write_command_complete(out_, outcome->tag);
      return;
    }
    portal.outcome = std::move(*outcome);
    portal.run = true;
    reply_messages(portal.outcome);
  } else if (portal.outcome.columns.empty()) {
    // PostgreSQL says 55000, "cannot be run". A deferred BEGIN has left no portal there at all, and
    // nobody shall mind which of the two errors it is.
    fail_segment("34000", "portal does not exist");
    return;
  }
  continue_portal(portal, max_rows);
}

void FakeBackend::continue_portal(Portal& portal, uint32_t max_rows) {
  if (portal.outcome.columns.empty()) {
    wire::write_command_complete(out_, portal.outcome.tag);
    return;
  }
  const size_t left = portal.outcome.rows.size() - portal.next_row;
  const size_t count = max_rows == 0 ? left : std::min<size_t>(left, max_rows);
  reply_rows(portal.outcome, portal.formats, portal.next_row, count);
  portal.next_row += count;
  if (max_rows != 0 && count == max_rows) {
    out_ += std::string_view("s\0\0\0\4", 5);
  } else {
    wire::write_command_complete(out_, "SELECT " + std::to_string(count));
  }
}

void FakeBackend::take_close(std::string_view body) {
  const auto target = wire::read_target(body);
  note(std::string("C ") + target->kind);
  if (target->kind == 'S') {
    statements_.erase(std::string(target->name));
  } else {
    portals_.erase(std::string(target->name));
  }
  out_ += wire::kCloseComplete;
}

void FakeBackend::take_sync() {
  note("S");
  quiet_ = false;
  skipping_ = false;
  if (block_ == 'I') {
    commit([this] { reply_ready(); });
  } else {
    reply_ready();
  }
}

// ── Answers ──────────────────────────────────────────────────────────────────────────────────────

void FakeBackend::reply_description(const FakeOutcome& outcome,
                                    const std::vector<uint16_t>& formats) {
  if (outcome.columns.empty()) return;
  const wire::MessageFrame message(out_, 'T');
  wire::append_u16(out_, static_cast<uint16_t>(outcome.columns.size()));
  for (size_t i = 0; i < outcome.columns.size(); ++i) {
    wire::append_cstring(out_, outcome.columns[i].name);
    wire::append_u32(out_, 0);
    wire::append_u16(out_, 0);
    wire::append_u32(out_, outcome.columns[i].type_oid);
    wire::append_u16(out_, 8);
    wire::append_u32(out_, 0xffffffff);
    wire::append_u16(out_, format_of(formats, i));
  }
}

void FakeBackend::reply_rows(const FakeOutcome& outcome, const std::vector<uint16_t>& formats,
                             size_t from, size_t count) {
  for (size_t row = from; row < from + count; ++row) {
    std::vector<std::optional<std::string>> values;
    for (size_t i = 0; i < outcome.columns.size(); ++i) {
      const auto& text = outcome.rows[row][i];
      values.push_back(text ? std::optional(value_bytes(*text, outcome.columns[i].type_oid,
                                                        format_of(formats, i)))
                            : std::nullopt);
    }
    wire::write_data_row(out_, values);
  }
}

// What comes beside the rows. PF001 is sent at once, as RAISE INFO is.
void FakeBackend::reply_messages(const FakeOutcome& outcome) {
  if (outcome.notice) {
    wire::write_notice(out_, wire::Severity::kNotice, "00000", "beware");
    flush();
  }
  if (outcome.parameter_status) {
    wire::write_parameter_status(out_, "TimeZone", settings_["TimeZone"]);
  }
  const std::string& inband = settings_["pgfresh.inband"];
  if ((inband != "on" && inband != "carry") || !server_.sends_notices()) return;
  for (const std::string& event : outcome.events) {
    wire::write_notice(out_, wire::Severity::kInfo, "PF001", event, inband);
    flush();
  }
}

void FakeBackend::reply_ready() {
  wire::write_ready(out_, block_);
  flush();
}

void FakeBackend::fail(std::string_view sqlstate, std::string_view message) {
  wire::write_error(out_, wire::Severity::kError, sqlstate, message);
  flush();
  server_.database().rollback(tx_);
  restore_settings();
  if (block_ != 'I') block_ = 'E';
}

void FakeBackend::fail_segment(std::string_view sqlstate, std::string_view message) {
  fail(sqlstate, message);
  skipping_ = true;
}

}  // namespace pgfresh::sim
