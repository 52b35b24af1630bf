// What the client sends: told apart, and the simple protocol: answered here or forwarded.
#include <algorithm>

#include "base/check.h"
#include "base/limits.h"
#include "proxy/session.h"

namespace pgfresh::proxy {
namespace {

// CommandComplete messages that pgfresh sends itself.
constexpr std::string_view kBeginTag{
    "C\0\0\0\xa"
    "BEGIN\0",
    11};
constexpr std::string_view kStartTag{
    "C\0\0\0\x16"
    "START TRANSACTION\0",
    23};
constexpr std::string_view kCommitTag{
    "C\0\0\0\xb"
    "COMMIT\0",
    12};
constexpr std::string_view kRollbackTag{
    "C\0\0\0\xd"
    "ROLLBACK\0",
    14};
// SHOW pgfresh.last.
constexpr wire::Column kLastColumns[] = {{"verdict"}, {"reason"},   {"age_ms"},
                                         {"tier"},    {"query_id"}, {"detail"}};

// BEGIN as it is sent later. The default isolation is written out: it was read committed when the
// client was answered, and must not have become something else by a reload in between.
std::string deferred_begin(const query::Statement& statement, const Scope& scope) {
  if (statement.isolation != query::Isolation::kDefault || !scope.reads_committed) {
    return statement.text;
  }
  std::string text = statement.canonical;
  while (!text.empty() && (text.back() == ';' || text.back() == ' ')) text.pop_back();
  return text + " isolation level read committed";
}

}  // namespace

void Session::take_client_frame(const wire::Frame& frame) {
  if (state_ == State::kLogin) {
    take_login_message(frame);
    return;
  }
  if (frame.type == 'X') {
    on_goodbye();
    return;
  }
  if (!frame.whole()) {
    take_part(frame);
    return;
  }
  // What sends on what is held; the others see to it themselves.
  const bool sends_on = std::string_view("QPBC").find(frame.type) != std::string_view::npos;
  if (sends_on && check_held(frame)) return;
  switch (frame.type) {
    case 'Q':
      take_query(frame);
      return;
    case 'P':
      take_parse(frame);
      return;
    case 'B':
      take_bind(frame);
      return;
    case 'D':
      take_describe(frame);
      return;
    case 'E':
      take_execute(frame);
      return;
    case 'C':
      take_close(frame);
      return;
    case 'S':
      take_sync(frame);
      return;
    case 'H':
      take_flush(frame);
      return;
    default:
      take_part(frame);
  }
}

void Session::count_query() {
  if (waited_ || probed_ || remote_fetch_) return;  // the same message, come again
  ++queries_;
  worker_.counters().add(Counter::kQueries);
}

// Messages that are forwarded without being looked into: COPY data, function calls, and whatever
// is too long to be looked at whole.
void Session::take_part(const wire::Frame& frame) {
  if (frame.first || frame.whole()) {
    forward_held();
    switch (frame.type) {
      case 'd':
        break;
      case 'c':
      case 'f':
        server_->sent(Asked::kCopyEnd);
        break;
      case 'Q':
        forget_names(begin_part(Asked::kQuery));
        break;
      case 'F':
        sql_prepared_ = begin_part(Asked::kQuery);
        server_->replies().note_call(sql_prepared_);
        break;
      case 'P':
        forget_names(begin_part(Asked::kParse));
        break;
      case 'B':
        check_part(frame);
        begin_part(Asked::kBind);
        break;
      default:
        // Describe, Execute, Close, Sync: a few names at most, never this long.
        worker_.counters().add(Counter::kProtocolErrors);
        end("08P01", "message is too long for its type");
        return;
    }
  }
  server_->outbox().add(frame.bytes);
}

// Whatever statement is named next, PostgreSQL knows it, and may be using it.
void Session::materialize_all() {
  if (server_->replies().skipping()) return;
  materialize_prepared(nullptr);
  ensure_on_server(prepared_.find(""), "");
  if (const PreparedRef unnamed = prepared_.find("")) note_use(*unnamed);
  for (const auto& [name, prepared] : prepared_.named()) note_use(*prepared);
}

// The first piece of a message that is not looked into. It may speak of any statement we know, so
// PostgreSQL must know them all.
uint64_t Session::begin_part(Asked asked) {
  before_forward();
  materialize_all();
  const uint64_t sequence = server_->sent(asked);
  done_portal_.reset();
  portals_.clear();
  note_sent(nullptr, sequence);
  return sequence;
}

// A Bind that is too long to be put back until the statement has been checked (check_first()): the
// check goes in front of it, and ends the session if the client would misread what follows.
void Session::check_part(const wire::Frame& frame) {
  const std::string_view body = frame.bytes.substr(wire::kHeaderBytes);
  const size_t portal_end = body.find('\0');
  if (portal_end == std::string_view::npos) return;
  const std::string_view rest = body.substr(portal_end + 1);
  const PreparedRef prepared = prepared_.find(rest.substr(0, rest.find('\0')));
  if (!needs_check(prepared) || server_->replies().skipping()) return;
  before_forward();
  materialize_all();
  server_->inject_check(prepared);
}

// Afterwards they may be others: which names are free, PostgreSQL alone knows.
void Session::forget_names(uint64_t sequence) {
  prepared_.clear();
  server_->forget_all();
  sql_prepared_ = sequence;
}

// ── Simple protocol ──────────────────────────────────────────────────────────────────────────────

void Session::take_query(const wire::Frame& frame) {
  count_query();
  forward_held();
  const auto sql = wire::read_query(frame.body());
  if (!sql || server_->replies().skipping()) {
    forward_blind(frame, Asked::kQuery);
    return;
  }
  const Settings& settings = worker_.settings();
  const MemoRef text =
      worker_.memo().find_or_analyze(*sql, settings.text_bytes_max, settings.memo_entries_max);
  note_inband(*text);
  const bool here = may_answer_here() && server_->at_rest();
  if (here && answer_control(frame, *text, /*extended=*/false)) return;
  if (text->statement().kind == query::Kind::kSelect) {
    if (!here) {
      bypass(*text, transaction_.status() == 'E' ? Reason::kTransaction : Reason::kPipelined);
    } else {
      switch (ask_cache({*text})) {
        case Answer::kHit:
          serve_simple();
          return;
        case Answer::kWait:
          input_.assign(frame.bytes);
          return;
        case Answer::kForward:
          break;
      }
    }
  } else {
    bypass(*text, text->statement().reasons.empty() ? Reason::kNotSelect
                                                    : text->statement().reasons.front());
  }
  forward_query(frame, text.get());
}

void Session::forward_query(const wire::Frame& frame, MemoText* text) {
  // In front of a deferred BEGIN: what no longer parses must not fail the client's block.
  if (text == nullptr || concerns_prepared(*text)) materialize_prepared(text);
  server_->forget_outlived();
  before_forward(text);
  const uint64_t sequence = server_->sent_query(prepared_.find(""));
  if (fetch_ && fetch_->answer_sequence == 0) fetch_->answer_sequence = sequence;
  time_answer(sequence);
  server_->outbox().add(frame.bytes);
  note_sent(text, sequence);
  // The unnamed statement and portal end with it.
  prepared_.erase("");
  portals_.erase({});
  done_portal_.reset();
}

// A message that PostgreSQL will refuse or skip: nothing is learnt from it. What is refused first
// may depend on the statement it names.
void Session::forward_blind(const wire::Frame& frame, Asked asked) {
  before_forward();
  materialize_all();
  note_sent(nullptr, server_->sent(asked));
  server_->outbox().add(frame.bytes);
}

// BEGIN, COMMIT, ROLLBACK and questions about pgfresh itself, where they need no server. True when
// the message has been dealt with, or put back until the session's settings are known.
bool Session::answer_control(const wire::Frame& frame, MemoText& text, bool extended) {
  const query::Statement& statement = text.statement();
  if (!statement.setting_changes.empty()) return answer_setting(statement, extended);
  switch (statement.kind) {
    case query::Kind::kBegin: {
      if (!caching() || transaction_.status() != 'I' || !server_->at_rest() ||
          !statement.deferrable_begin ||
          standing_reason(statement, worker_.now_ns()) != Reason::kNone) {
        return false;
      }
      if (wants_probe()) {
        send_probe();
        input_.assign(frame.bytes);
        return true;
      }
      probed_ = false;
      const Scope* scope = scope_.known(domain_->settings_epoch());
      if (scope == nullptr) return false;
      if (statement.isolation == query::Isolation::kDefault && !scope->reads_committed) {
        return false;
      }
      transaction_.defer(deferred_begin(statement, *scope));
      reply_command(statement.canonical.starts_with("start") ? kStartTag : kBeginTag, extended);
      return true;
    }
    case query::Kind::kCommit:
    case query::Kind::kRollback:
      if (!transaction_.deferred() || scope_.leaves_names()) return false;
      transaction_.end_deferred();
      scope_.block_ended_here(statement.kind == query::Kind::kCommit
                                  ? ScopeTracker::End::kCommit
                                  : ScopeTracker::End::kRollback);
      worker_.counters().add(Counter::kLocalBlocks);
      worker_.counters().add(Counter::kTransactions);
      reply_command(statement.kind == query::Kind::kCommit ? kCommitTag : kRollbackTag, extended);
      return true;
    case query::Kind::kShowLast:
      reply_show_last(extended);
      return true;
    case query::Kind::kEmpty:
    case query::Kind::kSelect:
    case query::Kind::kSavepoint:
    case query::Kind::kWrite:
    case query::Kind::kShow:
    case query::Kind::kNotify:
    case query::Kind::kDeallocate:
    case query::Kind::kSession:
    case query::Kind::kDdl:
    case query::Kind::kMany:
    case query::Kind::kUnknown:
      return false;
  }
  return false;
}

// `tag`: a CommandComplete in static memory.
void Session::reply_command(std::string_view tag, bool extended) {
  if (extended) {
    reply_held(wire::kNoData, nullptr);
  } else {
    end_unnamed();
  }
  client_out_.add(tag);
  if (!extended) reply_ready();
}

// A simple query is answered here: its like ends the unnamed statement and portal.
void Session::end_unnamed() {
  prepared_.erase("");
  portals_.erase({});
  done_portal_.reset();
  server_->outlive_unnamed();
}

void Session::reply_ready() {
  show_life();
  switch (transaction_.status()) {
    case 'T':
      client_out_.add(wire::kReadyInBlock);
      return;
    case 'E':
      client_out_.add(wire::kReadyFailed);
      return;
    default:
      client_out_.add(wire::kReadyIdle);
  }
}

// PostgreSQL ends sessions that send it nothing for a time (idle_session_timeout,
// idle_in_transaction_session_timeout). Who is answered here is not idle.
void Session::show_life() {
  constexpr int64_t kSigns = 16;  // in that time
  const bool in_block = transaction_.server_status() != 'I';
  const int64_t limit_ms = in_block ? idle_in_block_limit_ms_ : idle_limit_ms_;
  if (limit_ms == 0 || !server_->at_rest()) return;
  if (worker_.now_ns() - idle_from_ns_ > limit_ms * kNsPerMs / kSigns) server_->inject_sync();
}

void Session::append_last_description(std::string& out) {
  wire::write_row_description(out, kLastColumns);
}

void Session::reply_show_last(bool extended) {
  std::string description;
  append_last_description(description);
  std::string rows;
  const bool hit = last_.verdict == "hit";
  const std::optional<std::string> values[] = {
      std::string(last_.verdict),
      last_.reason == Reason::kNone ? std::nullopt
                                    : std::optional(std::string(reason_label(last_.reason))),
      hit ? std::optional(std::to_string(last_.age_ms)) : std::nullopt,
      hit ? std::optional(std::string(last_.tier)) : std::nullopt,
      std::to_string(last_.query_id),
      last_.detail.empty() || last_.reason == Reason::kNone ? std::nullopt
                                                            : std::optional(last_.detail)};
  wire::write_data_row(rows, values);
  wire::write_command_complete(rows, "SHOW");
  reply_rows(description, rows, extended);
}

// One answer of pgfresh's own; flushed at once, for the bytes are the caller's.
void Session::reply_rows(std::string_view description, std::string_view rows, bool extended) {
  if (extended) {
    reply_held(description, nullptr);
  } else {
    end_unnamed();
    client_out_.add(description);
  }
  client_out_.add(rows);
  if (!extended) reply_ready();
  flush();
}

}  // namespace pgfresh::proxy
