// What the client sends: answered here, held, or forwarded.
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
constexpr std::string_view kSelectNothingTag{
    "C\0\0\0\xd"
    "SELECT 0\0",
    14};

// SHOW pgfresh.last.
constexpr wire::Column kLastColumns[] = {
    {"verdict"}, {"reason"}, {"age_ms"}, {"tier"}, {"query_id"}};

// Statements whose description may be at hand.
bool describes_here(query::Kind kind) {
  return kind == query::Kind::kSelect || kind == query::Kind::kShowLast;
}

bool is_whole(const wire::Frame& frame) { return frame.bytes.size() == frame.size; }

}  // namespace

void Session::take_client_frame(const wire::Frame& frame) {
  if (state_ == State::kLogin) {
    take_login_message(frame);
    return;
  }
  if (frame.type == 'X') {
    close("client said goodbye");
    return;
  }
  if (!is_whole(frame)) {
    take_part(frame);
    return;
  }
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
  if (waited_ || probed_) return;  // the same message, come again
  ++queries_;
  worker_.counters().add(Counter::kQueries);
}

// Messages that are forwarded without being looked into: COPY data, function calls, and whatever
// is too long to be looked at whole.
void Session::take_part(const wire::Frame& frame) {
  const bool begins = frame.first || is_whole(frame);
  if (begins && frame.type != 'd') {
    forward_held();
    if (frame.type == 'c' || frame.type == 'f') {
      server_->sent(Asked::kCopyEnd);
    } else {
      before_forward();
      // Its statement may be any of ours; PostgreSQL must know them all.
      materialize_prepared();
      Asked asked = Asked::kQuery;
      if (frame.type == 'P') asked = Asked::kParse;
      if (frame.type == 'B') asked = Asked::kBind;
      if (frame.type == 'P' || frame.type == 'Q') {
        prepared_.erase("");
        server_->forget("");
      }
      done_portal_.reset();
      portals_.clear();
      if (frame.type != 'p') note_sent(nullptr, server_->sent(asked));
    }
  }
  server_->outbox().add(frame.bytes);
}

// ── Simple protocol ──────────────────────────────────────────────────────────────────────────────

void Session::take_query(const wire::Frame& frame) {
  count_query();
  forward_held();
  const auto sql = wire::read_query(frame.body());
  if (!sql) {
    forward_query(frame, nullptr);
    return;
  }
  const Settings& settings = worker_.settings();
  const MemoRef text =
      worker_.memo().find_or_analyze(*sql, settings.text_bytes_max, settings.memo_entries_max);
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
  before_forward();
  if (text == nullptr || text->statement().kind == query::Kind::kDeallocate ||
      text->statement().kind == query::Kind::kMany) {
    materialize_prepared();
  }
  const uint64_t sequence = server_->sent(Asked::kQuery);
  if (fetch_ && fetch_->answer_sequence == 0) fetch_->answer_sequence = sequence;
  server_->outbox().add(frame.bytes);
  note_sent(text, sequence);
  // A simple query destroys the unnamed statement and portal.
  prepared_.erase("");
  server_->forget("");
  portals_.erase("");
  done_portal_.reset();
}

// BEGIN, COMMIT, ROLLBACK and questions about pgfresh itself, where they need no server. True when
// the message has been dealt with, or put back until the session's settings are known.
bool Session::answer_control(const wire::Frame& frame, MemoText& text, bool extended) {
  const query::Statement& statement = text.statement();
  switch (statement.kind) {
    case query::Kind::kBegin: {
      if (!caching() || transaction_.status() != 'I' || !server_->at_rest() ||
          !statement.deferrable_begin || standing_reason(statement) != Reason::kNone) {
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
      transaction_.defer(statement.text);
      reply_command(statement.canonical.starts_with("start") ? kStartTag : kBeginTag, extended);
      return true;
    }
    case query::Kind::kCommit:
    case query::Kind::kRollback:
      if (!transaction_.deferred()) return false;
      static_cast<void>(transaction_.take_deferred());
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
    prepared_.erase("");
    done_portal_.reset();
  }
  client_out_.add(tag);
  if (!extended) reply_ready();
}

void Session::reply_ready() {
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

void Session::reply_show_last(bool extended) {
  std::string description;
  wire::write_row_description(description, kLastColumns);
  std::string rows;
  const bool hit = last_.verdict == "hit";
  const std::optional<std::string> values[] = {
      std::string(last_.verdict),
      last_.reason == Reason::kNone ? std::nullopt
                                    : std::optional(std::string(reason_label(last_.reason))),
      hit ? std::optional(std::to_string(last_.age_ms)) : std::nullopt,
      hit ? std::optional(std::string(last_.tier)) : std::nullopt, std::to_string(last_.query_id)};
  wire::write_data_row(rows, values);
  wire::write_command_complete(rows, "SHOW");
  if (extended) {
    reply_held(description, nullptr);
  } else {
    prepared_.erase("");
    done_portal_.reset();
    client_out_.add(description);
  }
  client_out_.add(rows);
  if (!extended) reply_ready();
  flush();
}

// ── Extended protocol ────────────────────────────────────────────────────────────────────────────

// Nothing sent to PostgreSQL is unanswered, so an answer given here keeps its place.
bool Session::may_answer_here() const {
  return server_->replies().empty() && !server_->replies().skipping() &&
         transaction_.status() != 'E';
}

bool Session::may_hold(const MemoText& text) const {
  if (!may_answer_here()) return false;
  switch (text.statement().kind) {
    case query::Kind::kShowLast:
      return true;
    case query::Kind::kSelect:
    case query::Kind::kBegin:
    case query::Kind::kCommit:
    case query::Kind::kRollback:
      return caching();
    case query::Kind::kEmpty:
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

void Session::hold(Held held) {
  size_t size = held.raw.size();
  for (const Held& other : held_) size += other.raw.size();
  held_.push_back(std::move(held));
  if (size > limits::kHeldBytesMax) forward_held();
}

// The read buffer goes: what is held moves into memory of its own.
void Session::keep_held_bytes() {
  if (held_.empty()) return;
  std::string bytes;
  for (const Held& held : held_) bytes.append(held.raw);
  held_bytes_ = std::move(bytes);
  size_t at = 0;
  for (Held& held : held_) {
    held.raw = std::string_view(held_bytes_).substr(at, held.raw.size());
    at += held.raw.size();
  }
}

const Session::Held* Session::held_bind() const {
  for (auto held = held_.rbegin(); held != held_.rend(); ++held) {
    if (held->type == 'B') return &*held;
  }
  return nullptr;
}

bool Session::holds_statement_description() const {
  for (const Held& held : held_) {
    if (held.type == 'D' && !held.of_portal) return true;
  }
  return false;
}

const Session::Held* Session::held_portal_description() const {
  for (auto held = held_.rbegin(); held != held_.rend(); ++held) {
    if (held->type == 'B') return nullptr;
    if (held->type == 'D' && held->of_portal) return &*held;
  }
  return nullptr;
}

void Session::take_parse(const wire::Frame& frame) {
  const auto message = wire::read_parse(frame.body());
  PreparedRef prepared;
  if (message) {
    if (const PreparedRef standing = prepared_.find(message->statement);
        standing && !message->statement.empty()) {
      // PostgreSQL will refuse the name, if it knows that it is taken.
      forward_held();
      before_forward();
      ensure_on_server(standing, standing->name);
      server_->sent(Asked::kParse);
      server_->outbox().add(frame.bytes);
      return;
    }
    const Settings& settings = worker_.settings();
    MemoRef text = worker_.memo().find_or_analyze(message->query, settings.text_bytes_max,
                                                  settings.memo_entries_max);
    prepared = prepared_.define(message->statement, std::move(text), message->parameter_oids);
  }
  if (prepared && may_hold(*prepared->text)) {
    hold({'P', frame.bytes, std::move(prepared)});
    return;
  }
  forward_held();
  before_forward();
  if (prepared) {
    forward_one({'P', frame.bytes, std::move(prepared)});
    return;
  }
  if (message && message->statement.empty()) {
    prepared_.erase("");
    server_->forget("");
  }
  server_->sent(Asked::kParse);
  server_->outbox().add(frame.bytes);
}

void Session::take_bind(const wire::Frame& frame) {
  const auto message = wire::read_bind(frame.body());
  if (!message) {
    forward_held();
    before_forward();
    server_->sent(Asked::kBind);
    server_->outbox().add(frame.bytes);
    return;
  }
  PreparedRef prepared = prepared_.find(message->statement);
  if (prepared && message->portal.empty() && may_hold(*prepared->text)) {
    hold({'B', frame.bytes, std::move(prepared)});
    return;
  }
  forward_held();
  before_forward();
  ensure_on_server(prepared, message->statement);
  if (prepared) {
    portals_[std::string(message->portal)] = std::move(prepared);
  } else {
    portals_.erase(std::string(message->portal));
  }
  if (message->portal.empty()) done_portal_.reset();
  server_->sent(Asked::kBind);
  server_->outbox().add(frame.bytes);
}

void Session::take_describe(const wire::Frame& frame) {
  const auto target = wire::read_target(frame.body());
  const bool of_portal = target && target->kind == 'P';
  if (of_portal && target->name.empty() && held_bind() != nullptr) {
    hold({'D', frame.bytes, held_bind()->prepared, true});
    return;
  }
  if (of_portal && target->name.empty() && done_portal_ && done_portal_->has_description() &&
      held_.empty() && may_answer_here()) {
    client_out_.add(done_portal_,
                    done_portal_->body.view().substr(0, done_portal_->description_bytes));
    return;
  }
  PreparedRef prepared = target && !of_portal ? prepared_.find(target->name) : nullptr;
  if (prepared && describes_here(prepared->text->statement().kind) && may_hold(*prepared->text)) {
    hold({'D', frame.bytes, std::move(prepared)});
    return;
  }
  forward_held();
  before_forward();
  if (of_portal) {
    const auto portal = portals_.find(std::string(target->name));
    if (portal != portals_.end()) prepared = portal->second;
  } else if (target) {
    ensure_on_server(prepared, target->name);
  }
  server_->sent(Asked::kDescribe, std::move(prepared));
  server_->outbox().add(frame.bytes);
}

void Session::take_execute(const wire::Frame& frame) {
  count_query();
  const auto message = wire::read_execute(frame.body());
  const Held* bind = held_bind();
  if (!message || !message->portal.empty() || bind == nullptr) {
    if (message && message->portal.empty() && done_portal_ && held_.empty() && may_answer_here()) {
      client_out_.add(kSelectNothingTag);
      return;
    }
    forward_held();
    const auto portal = portals_.find(std::string(message ? message->portal : ""));
    MemoText* text = message && portal != portals_.end() ? portal->second->text.get() : nullptr;
    if (text != nullptr && text->statement().kind == query::Kind::kSelect) {
      bypass(*text, may_answer_here() ? Reason::kRowLimit : Reason::kPipelined);
    }
    forward_execute(frame, text);
    return;
  }
  const PreparedRef prepared = bind->prepared;
  MemoText& text = *prepared->text;
  if (holds_statement_description()) {
    // Two answers would be needed at once; PostgreSQL has both.
    bypass(text, Reason::kPipelined);
    forward_held();
    forward_execute(frame, &text);
    return;
  }
  if (answer_control(frame, text, /*extended=*/true)) return;
  if (text.statement().kind == query::Kind::kSelect && message->max_rows != 0) {
    bypass(text, Reason::kRowLimit);
  } else if (text.statement().kind == query::Kind::kSelect) {
    const auto bind_message = wire::read_bind(bind->raw.substr(5));
    PGFRESH_CHECK(bind_message.has_value());
    const Wanted wanted =
        held_portal_description() != nullptr ? Wanted::kDescribedRows : Wanted::kRows;
    switch (ask_cache({text, wanted, prepared.get(), &*bind_message})) {
      case Answer::kHit:
        serve_extended();
        return;
      case Answer::kWait:
        input_.assign(frame.bytes);
        return;
      case Answer::kForward:
        break;
    }
  }
  if (text.statement().kind != query::Kind::kSelect) bypass(text, Reason::kNotSelect);
  if (fetch_) fetch_->prepared = prepared;
  forward_held();
  forward_execute(frame, &text);
}

void Session::forward_execute(const wire::Frame& frame, MemoText* text) {
  before_forward();
  if (text != nullptr && text->statement().kind == query::Kind::kDeallocate) {
    materialize_prepared();
  }
  const uint64_t sequence = server_->sent(Asked::kExecute);
  if (fetch_ && fetch_->answer_sequence == 0) fetch_->answer_sequence = sequence;
  server_->outbox().add(frame.bytes);
  note_sent(text, sequence);
}

void Session::take_close(const wire::Frame& frame) {
  const auto target = wire::read_target(frame.body());
  if (target && held_.empty() && may_answer_here()) {
    if (target->kind == 'P' && target->name.empty() && done_portal_) {
      done_portal_.reset();
      client_out_.add(wire::kCloseComplete);
      return;
    }
    const PreparedRef prepared = target->kind == 'S' ? prepared_.find(target->name) : nullptr;
    if (prepared && !server_->holds(*prepared) &&
        !(target->name.empty() && server_->holds_unnamed())) {
      prepared_.erase(target->name);
      client_out_.add(wire::kCloseComplete);
      return;
    }
  }
  forward_held();
  before_forward();
  if (target && target->kind == 'S') {
    prepared_.erase(target->name);
    server_->forget(target->name);
  } else if (target) {
    portals_.erase(std::string(target->name));
    if (target->name.empty()) done_portal_.reset();
  }
  server_->sent(Asked::kClose);
  server_->outbox().add(frame.bytes);
}

// The one statement that is held to be parsed, described, or both, when nothing else is.
const Session::Held* Session::held_statement() const {
  const Held* one = nullptr;
  for (const Held& held : held_) {
    if (held.type == 'B' || held.of_portal) return nullptr;
    if (one != nullptr && (held.type == 'P' || held.prepared != one->prepared)) return nullptr;
    one = &held;
  }
  return one;
}

// Parse alone, or with Describe, at the end of a segment: what PostgreSQL would say may be known.
// True when the message in `frame` has been put back until it is.
bool Session::answer_statement(const wire::Frame& frame) {
  const Held* held = held_statement();
  if (held == nullptr) return false;
  const PreparedRef prepared = held->prepared;
  const bool describes = held->type == 'D';
  if (prepared->text->statement().kind != query::Kind::kSelect) {
    std::string description;
    if (describes) {
      wire::write_parameter_description(description, {});
      wire::write_row_description(description, kLastColumns);
    }
    reply_held(description, nullptr);
    flush();
    return false;
  }
  const Wanted wanted = describes ? Wanted::kDescription : Wanted::kAcceptance;
  switch (ask_cache({*prepared->text, wanted, prepared.get()})) {
    case Answer::kHit:
      serve_description();
      return false;
    case Answer::kWait:
      input_.assign(frame.bytes);
      return true;
    case Answer::kForward:
      return false;
  }
  return false;
}

void Session::take_sync(const wire::Frame& frame) {
  if (answer_statement(frame)) return;
  forward_held();
  if (!server_->segment_open() && server_->replies().empty()) {
    if (transaction_.status() == 'I') done_portal_.reset();
    reply_ready();
    return;
  }
  server_->sent(Asked::kSync);
  server_->outbox().add(frame.bytes);
}

void Session::take_flush(const wire::Frame& frame) {
  if (answer_statement(frame)) return;
  forward_held();
  if (server_->segment_open()) server_->outbox().add(frame.bytes);
}

// ── Forwarding ───────────────────────────────────────────────────────────────────────────────────

// A deferred BEGIN goes first.
void Session::before_forward() {
  if (!transaction_.deferred()) return;
  PGFRESH_CHECK(server_->at_rest());
  server_->inject_query(transaction_.take_deferred(), Purpose::kSetup);
  transaction_.sent_begin(Transaction::Block::kReadCommitted);
}

void Session::forward_held() {
  if (held_.empty()) return;
  before_forward();
  const std::vector<Held> held = std::exchange(held_, {});
  for (const Held& message : held) forward_one(message);
  if (!held_bytes_.empty()) {
    server_->flush();
    held_bytes_.clear();
    held_bytes_.shrink_to_fit();
  }
}

void Session::forward_one(const Held& held) {
  switch (held.type) {
    case 'P':
      server_->sent(Asked::kParse, held.prepared);
      server_->note_holds(*held.prepared);
      break;
    case 'B':
      ensure_on_server(held.prepared, held.prepared->name);
      portals_[std::string()] = held.prepared;
      done_portal_.reset();
      server_->sent(Asked::kBind);
      break;
    case 'D': {
      const uint64_t sequence = server_->sent(Asked::kDescribe, held.prepared);
      if (fetch_ && fetch_->of_description) {
        fetch_->answer_sequence = sequence;
      } else if (fetch_ && fetch_->answer_sequence == 0) {
        fetch_->describe_sequence = sequence;
      }
      break;
    }
    default:
      PGFRESH_CHECK(false);
  }
  server_->outbox().add(held.raw);
}

// A statement that PostgreSQL has not been told of is parsed there before it is used; one that the
// session believes gone is closed there, so that PostgreSQL says the same.
void Session::ensure_on_server(const PreparedRef& prepared, std::string_view name) {
  if (prepared) {
    if (!server_->holds(*prepared)) server_->inject_parse(prepared, Purpose::kSetup);
  } else if (name.empty() && server_->holds_unnamed()) {
    server_->inject_close_unnamed();
  }
}

// SQL is about to speak of prepared statements by name.
void Session::materialize_prepared() {
  const bool alone = !server_->segment_open();
  const Purpose purpose = alone ? Purpose::kQuiet : Purpose::kSetup;
  bool injected = false;
  for (const auto& [name, prepared] : prepared_.named()) {
    if (server_->holds(*prepared)) continue;
    server_->inject_parse(prepared, purpose);
    injected = true;
  }
  if (injected && alone) server_->inject_sync();
}

void Session::note_sent(MemoText* text, uint64_t sequence) {
  if (text == nullptr) {
    transaction_.sent_unknown();
    transaction_.sent_write(sequence);
    scope_.doubt();
    return;
  }
  const query::Statement& statement = text->statement();
  if (statement.kind == query::Kind::kBegin) {
    const Scope* scope = domain_ ? scope_.known(domain_->settings_epoch()) : nullptr;
    const bool committed =
        statement.isolation == query::Isolation::kReadCommitted ||
        (statement.isolation == query::Isolation::kDefault && scope && scope->reads_committed);
    transaction_.sent_begin(committed && statement.deferrable_begin
                                ? Transaction::Block::kReadCommitted
                                : Transaction::Block::kOther);
    return;
  }
  const query::Effect effect = effect_of(*text);
  if (effect != query::Effect::kPureRead) transaction_.sent_write(sequence);
  if (effect == query::Effect::kChangesSession) {
    transaction_.sent_unknown();
    scope_.doubt();
  }
  note_deallocation(statement);
}

void Session::note_deallocation(const query::Statement& statement) {
  if (statement.kind == query::Kind::kDeallocate && !statement.deallocated_name.empty()) {
    prepared_.erase(statement.deallocated_name);
    server_->forget(statement.deallocated_name);
    return;
  }
  const bool among_many = statement.kind == query::Kind::kMany &&
                          (statement.canonical.find("deallocate") != std::string::npos ||
                           statement.canonical.find("discard") != std::string::npos);
  if (statement.deallocates_all || among_many) {
    prepared_.clear();
    server_->forget_all();
  }
}

// Answers what is held, in order; `row_description` is a RowDescription or NoData and, where
// `entry` is set, lies in its body.
void Session::reply_held(std::string_view row_description, const cache::EntryRef& entry) {
  for (const Held& held : held_) {
    switch (held.type) {
      case 'P':
        client_out_.add(wire::kParseComplete);
        break;
      case 'B':
        client_out_.add(wire::kBindComplete);
        break;
      case 'D':
        if (entry) {
          client_out_.add(entry, row_description);
        } else {
          client_out_.add(row_description);
        }
        break;
      default:
        PGFRESH_CHECK(false);
    }
  }
  held_.clear();
  held_bytes_.clear();
}

}  // namespace pgfresh::proxy
