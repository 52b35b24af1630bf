// What the client sends: answered here, held, or forwarded.
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

bool contains_word(std::string_view text, std::string_view lower_case_word) {
  const auto same = [](char a, char b) { return a == b || (a >= 'A' && a <= 'Z' && a + 32 == b); };
  return std::search(text.begin(), text.end(), lower_case_word.begin(), lower_case_word.end(),
                     same) != text.end();
}

// SQL that may use or drop prepared statements by name.
bool speaks_of_statements(const query::Statement& statement) {
  switch (statement.kind) {
    case query::Kind::kDeallocate:
      return true;
    case query::Kind::kSession:
    case query::Kind::kMany:
    case query::Kind::kUnknown:
      return contains_word(statement.text, "deallocate") ||
             contains_word(statement.text, "discard") || contains_word(statement.text, "execute");
    case query::Kind::kEmpty:
    case query::Kind::kSelect:
    case query::Kind::kBegin:
    case query::Kind::kCommit:
    case query::Kind::kRollback:
    case query::Kind::kSavepoint:
    case query::Kind::kWrite:
    case query::Kind::kShowLast:
    case query::Kind::kShow:
    case query::Kind::kNotify:
    case query::Kind::kDdl:
      return false;
  }
  return true;
}

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
  if (frame.first || is_whole(frame)) {
    forward_held();
    switch (frame.type) {
      case 'd':
        break;
      case 'c':
      case 'f':
        server_->sent(Asked::kCopyEnd);
        break;
      case 'Q':
      case 'F':
        begin_part(Asked::kQuery);
        break;
      case 'P':
        begin_part(Asked::kParse);
        break;
      case 'B':
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

// The first piece of a message that is not looked into. It may speak of any statement we know, so
// PostgreSQL must know them all; and afterwards they may be others.
void Session::begin_part(Asked asked) {
  before_forward();
  if (!server_->replies().skipping()) {
    materialize_prepared();
    ensure_on_server(prepared_.find(""), "");
  }
  if (asked == Asked::kParse || asked == Asked::kQuery) {
    prepared_.clear();
    server_->forget_all();
  }
  done_portal_.reset();
  portals_.clear();
  note_sent(nullptr, server_->sent(asked));
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
  note_inband(*sql);
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
  // In front of a deferred BEGIN: what no longer parses must not fail the client's block.
  if (text == nullptr || concerns_prepared(*text)) materialize_prepared();
  before_forward();
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

// A message that PostgreSQL will refuse or skip: nothing is learnt from it.
void Session::forward_blind(const wire::Frame& frame, Asked asked) {
  before_forward();
  note_sent(nullptr, server_->sent(asked));
  server_->outbox().add(frame.bytes);
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
      transaction_.defer(deferred_begin(statement, *scope));
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

// Looks up the descriptions of statements that are held in front of an Execute; kHit when all of
// them, or none, have been found.
Session::Answer Session::find_descriptions() {
  for (Held& held : held_) {
    if (held.type != 'D' || held.of_portal) continue;
    const PreparedRef prepared = held.prepared;
    if (prepared->text->statement().kind != query::Kind::kSelect) return Answer::kForward;
    const Answer answer = ask_cache({*prepared->text, Wanted::kDescription, prepared.get()});
    if (answer != Answer::kHit) return answer;
    held.description = std::move(hit_);
    prepared->shape = held.description->shape;
  }
  return Answer::kHit;
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
  if (!message || server_->replies().skipping()) {
    forward_held();
    forward_blind(frame, Asked::kParse);
    return;
  }
  note_inband(message->query);
  if (const PreparedRef standing = prepared_.find(message->statement);
      standing && !message->statement.empty()) {
    // PostgreSQL will refuse the name, if it knows that it is taken; from here on it knows better.
    forward_held();
    before_forward();
    ensure_on_server(standing, standing->name);
    prepared_.erase(message->statement);
    server_->forget(message->statement);
    server_->sent(Asked::kParse);
    server_->outbox().add(frame.bytes);
    return;
  }
  const Settings& settings = worker_.settings();
  MemoRef text = worker_.memo().find_or_analyze(message->query, settings.text_bytes_max,
                                                settings.memo_entries_max);
  // Constants are folded under the settings in force now, so they are read now.
  // Also while the feed is away: the statement may live longer than that.
  if (text->statement().kind == query::Kind::kSelect && text->statement().reasons.empty() &&
      caching() && domain_->trouble() != Reason::kNotInstalled && wants_probe()) {
    send_probe();
    input_.assign(frame.bytes);
    return;
  }
  probed_ = false;
  PreparedRef prepared =
      prepared_.define(message->statement, std::move(text), message->parameter_oids);
  if (prepared == nullptr) {  // no room: PostgreSQL alone will know it
    forward_held();
    before_forward();
    server_->sent(Asked::kParse);
    server_->outbox().add(frame.bytes);
    return;
  }
  note_scope(*prepared);
  if (may_hold(*prepared->text)) {
    hold({'P', frame.bytes, std::move(prepared)});
    return;
  }
  forward_held();
  before_forward();
  forward_one({'P', frame.bytes, std::move(prepared)});
}

// The settings it is parsed under: PostgreSQL folds constants at Parse.
void Session::note_scope(PreparedStatement& prepared) const {
  if (domain_ == nullptr) return;
  prepared.epoch = domain_->settings_epoch();
  prepared.doubts = scope_.doubts();
  const Scope* scope = scope_.known(prepared.epoch);
  prepared.scope_id = scope != nullptr ? scope->id : 0;
}

void Session::take_bind(const wire::Frame& frame) {
  const auto message = wire::read_bind(frame.body());
  if (!message || server_->replies().skipping()) {
    forward_held();
    forward_blind(frame, Asked::kBind);
    return;
  }
  // One execution is held at a time: each Describe belongs to the Bind before it.
  if (held_bind() != nullptr) forward_held();
  PreparedRef prepared = prepared_.find(message->statement);
  // What is asked about it first must not overtake a Parse before it.
  if (needs_check(prepared) && holds_parse()) forward_held();
  if (prepared && message->portal.empty() && may_hold(*prepared->text)) {
    hold({'B', frame.bytes, std::move(prepared)});
    return;
  }
  if (check_first(prepared, frame)) return;
  forward_held();
  before_forward();
  ensure_on_server(prepared, message->statement);
  if (prepared && prepared->outdated) server_->inject_refusal();
  if (portals_.size() >= limits::kPreparedMax) portals_.clear();
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
  if (!target || server_->replies().skipping()) {
    forward_held();
    forward_blind(frame, Asked::kDescribe);
    return;
  }
  const bool of_portal = target->kind == 'P';
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
  PreparedRef prepared = of_portal ? nullptr : prepared_.find(target->name);
  if (prepared && describes_here(prepared->text->statement().kind) && may_hold(*prepared->text)) {
    hold({'D', frame.bytes, std::move(prepared)});
    return;
  }
  forward_held();
  before_forward();
  if (of_portal) {
    const auto portal = portals_.find(std::string(target->name));
    if (portal != portals_.end()) prepared = portal->second;
  } else {
    ensure_on_server(prepared, target->name);
  }
  server_->sent(Asked::kDescribe, std::move(prepared));
  server_->outbox().add(frame.bytes);
}

void Session::take_execute(const wire::Frame& frame) {
  count_query();
  const auto message = wire::read_execute(frame.body());
  if (!message || server_->replies().skipping()) {
    forward_held();
    forward_blind(frame, Asked::kExecute);
    return;
  }
  const Held* bind = held_bind();
  if (!message->portal.empty() || bind == nullptr) {
    if (message->portal.empty() && done_portal_ && held_.empty() && may_answer_here()) {
      client_out_.add(kSelectNothingTag);
      return;
    }
    forward_held();
    const auto portal = portals_.find(std::string(message->portal));
    MemoText* text = message && portal != portals_.end() ? portal->second->text.get() : nullptr;
    if (text != nullptr && text->statement().kind == query::Kind::kSelect) {
      bypass(*text, may_answer_here() ? Reason::kRowLimit : Reason::kPipelined);
    }
    forward_execute(frame, text);
    return;
  }
  const PreparedRef prepared = bind->prepared;
  MemoText& text = *prepared->text;
  switch (find_descriptions()) {
    case Answer::kHit:
      break;
    case Answer::kWait:
      input_.assign(frame.bytes);
      return;
    case Answer::kForward:
      // The description is being recorded; the rows will be the next time.
      if (check_first(prepared, frame)) return;
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
  if (check_first(prepared, frame)) return;
  if (fetch_) fetch_->prepared = prepared;
  forward_held();
  forward_execute(frame, &text);
}

void Session::forward_execute(const wire::Frame& frame, MemoText* text) {
  before_forward();
  if (text != nullptr && concerns_prepared(*text)) materialize_prepared();
  const uint64_t sequence = server_->sent(Asked::kExecute);
  if (fetch_ && fetch_->answer_sequence == 0) fetch_->answer_sequence = sequence;
  server_->outbox().add(frame.bytes);
  note_sent(text, sequence);
}

void Session::take_close(const wire::Frame& frame) {
  const auto target = wire::read_target(frame.body());
  if (!target || server_->replies().skipping()) {
    forward_held();
    forward_blind(frame, Asked::kClose);
    return;
  }
  if (held_.empty() && may_answer_here()) {
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
  if (target->kind == 'S') {
    prepared_.erase(target->name);
    server_->forget(target->name);
  } else {
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
  PGFRESH_CHECK(!server_->segment_open());
  server_->inject_query(transaction_.take_deferred(), Purpose::kSetup);
  transaction_.sent_begin(Transaction::Block::kReadCommitted, server_->replies().last_sequence());
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
      if (!server_->replies().skipping()) server_->note_holds(*held.prepared);
      break;
    case 'B':
      ensure_on_server(held.prepared, held.prepared->name);
      if (held.prepared->outdated) server_->inject_refusal();
      portals_[std::string()] = held.prepared;
      done_portal_.reset();
      server_->sent(Asked::kBind);
      break;
    case 'D': {
      if (!held.of_portal) ensure_on_server(held.prepared, held.prepared->name);
      const uint64_t sequence = server_->sent(Asked::kDescribe, held.prepared);
      if (fetch_ && fetch_->of_description) {
        fetch_->answer_sequence = sequence;
      } else if (fetch_ && held.of_portal) {
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

// Statements that PostgreSQL has not been told of must be, before this text is sent: it speaks of
// them by name, or changes the settings under which they would be parsed. (In a block the second is
// left out: a statement that no longer parses would fail the client's transaction.)
bool Session::concerns_prepared(const MemoText& text) const {
  const query::Statement& statement = text.statement();
  if (speaks_of_statements(statement)) return true;
  const bool may_set = statement.kind == query::Kind::kSession ||
                       statement.kind == query::Kind::kMany ||
                       statement.kind == query::Kind::kUnknown;
  return may_set && transaction_.server_status() == 'I';
}

void Session::materialize_prepared() {
  if (transaction_.status() == 'E') return;  // there PostgreSQL takes nothing but ROLLBACK
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
    note_effect(query::Effect::kChangesSession, sequence);
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
                                : Transaction::Block::kOther,
                            sequence);
    return;
  }
  if (statement.kind == query::Kind::kSavepoint) scope_.block_undone();
  note_effect(effect_of(*text), sequence);
  note_deallocation(statement);
}

void Session::note_effect(query::Effect effect, uint64_t sequence) {
  if (effect == query::Effect::kPureRead) return;
  transaction_.sent_write(sequence);
  if (unmarked_ && domain_ != nullptr) {
    // No notice may come for what this writes: nobody is served until it is settled.
    open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
  }
  if (effect != query::Effect::kChangesSession) return;
  transaction_.sent_unknown(sequence);
  scope_.doubt();
}

// A text that speaks of our setting may switch the notices off.
void Session::note_inband(std::string_view text) {
  constexpr std::string_view kSetting = "pgfresh.inband";
  if (!unmarked_ && contains_word(text, kSetting)) unmarked_ = true;
}

bool Session::needs_check(const PreparedRef& prepared) const {
  return prepared && prepared->shape != 0 && !prepared->outdated && !server_->holds(*prepared);
}

bool Session::holds_parse() const {
  return std::any_of(held_.begin(), held_.end(), [](const Held& held) { return held.type == 'P'; });
}

// A statement that the client was shown, but PostgreSQL was never told of: before it is executed
// there, PostgreSQL is asked whether it still looks the same. True when `frame` has been put back
// until it has said so.
bool Session::check_first(const PreparedRef& prepared, const wire::Frame& frame) {
  if (!needs_check(prepared) || server_->replies().skipping()) return false;
  fetch_.reset();
  before_forward();
  server_->inject_check(prepared);
  input_.assign(frame.bytes);
  block(Block::kCheck);
  return true;
}

void Session::note_deallocation(const query::Statement& statement) {
  if (statement.kind == query::Kind::kDeallocate && !statement.deallocated_name.empty()) {
    prepared_.erase(statement.deallocated_name);
    server_->forget(statement.deallocated_name);
    return;
  }
  if (statement.deallocates_all ||
      (statement.kind != query::Kind::kDeallocate && speaks_of_statements(statement))) {
    prepared_.clear_named();
    server_->forget_named();
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
        if (held.description) {
          client_out_.add(held.description, held.description->body.view());
        } else if (entry) {
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
