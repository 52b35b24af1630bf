// The extended protocol: Parse, Bind and Describe are held until an Execute, a Sync or a Flush
// shows whether their answers are at hand.
#include "base/check.h"
#include "base/limits.h"
#include "proxy/session.h"

namespace pgfresh::proxy {
namespace {

// What a second Execute of a portal without rows left says.
constexpr std::string_view kSelectNothingTag{
    "C\0\0\0\xd"
    "SELECT 0\0",
    14};

// Statements whose description may be at hand.
bool describes_here(query::Kind kind) {
  return kind == query::Kind::kSelect || kind == query::Kind::kShowLast;
}

}  // namespace

// Nothing sent to PostgreSQL is unanswered, so an answer given here keeps its place; and PostgreSQL
// has not said FATAL, after which no client expects anything.
bool Session::may_answer_here() const {
  return !server_said_last_ && server_->replies().empty() && !server_->replies().skipping() &&
         transaction_.status() != 'E';
}

bool Session::may_hold(const MemoText& text, const wire::Frame& frame) const {
  if (!may_answer_here()) return false;
  size_t size = frame.bytes.size();
  for (const Held& held : held_) size += held.raw.size();
  if (size > limits::kHeldBytesMax) return false;
  switch (text.statement().kind) {
    case query::Kind::kShowLast:
      return true;
    case query::Kind::kSelect:
    case query::Kind::kBegin:
    case query::Kind::kCommit:
    case query::Kind::kRollback:
      return caching();
    case query::Kind::kSession:
      return caching() && transaction_.deferred() && !text.statement().setting_changes.empty();
    case query::Kind::kEmpty:
    case query::Kind::kSavepoint:
    case query::Kind::kWrite:
    case query::Kind::kShow:
    case query::Kind::kNotify:
    case query::Kind::kDeallocate:
    case query::Kind::kDdl:
    case query::Kind::kMany:
    case query::Kind::kUnknown:
      return false;
  }
  return false;
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
    held.description.reset();  // of an Execute that was put back
    const Answer answer = ask_cache({*prepared->text, Wanted::kDescription, prepared.get()});
    if (answer != Answer::kHit) return answer;
    held.description = std::move(hit_);
  }
  return Answer::kHit;
}

// Of the description that has been found for this statement and is shown if the rows are, too; 0:
// none.
uint64_t Session::found_shape(const PreparedRef& prepared) const {
  for (const Held& held : held_) {
    if (held.prepared == prepared && held.description) return held.description->shape;
  }
  return 0;
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
  const Settings& settings = worker_.settings();
  MemoRef text = worker_.memo().find_or_analyze(message->query, settings.text_bytes_max,
                                                settings.memo_entries_max);
  note_inband(*text);
  if (const PreparedRef standing = prepared_.find(message->statement);
      standing && !message->statement.empty()) {
    // PostgreSQL will refuse the name, unless it knows that it is free. Until it has, it knows
    // better than we do.
    forward_held();
    before_forward();
    ensure_on_server(standing, standing->name);
    prepared_.erase(message->statement);
    server_->forget(message->statement);
    server_->sent(Asked::kParseAgain, standing);
    server_->outbox().add(frame.bytes);
    return;
  }
  // Constants are folded under the settings in force now, so they are read now.
  // Also while the feed is away: the statement may live longer than that.
  if (text->statement().kind == query::Kind::kSelect && text->statement().reasons.empty() &&
      caching() && domain_->trouble() != Reason::kNotInstalled && wants_probe()) {
    send_probe();
    input_.assign(frame.bytes);
    return;
  }
  probed_ = false;
  materialize_before(*text);
  PreparedRef before = prepared_.find(message->statement);
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
  // Whether the name is free PostgreSQL alone knows, where SQL has made statements.
  const bool free = sql_prepared_ == 0 || prepared->name.empty();
  if (free && may_hold(*prepared->text, frame)) {
    held_.push_back({'P', frame.bytes, std::move(prepared), std::move(before)});
    return;
  }
  forward_held();
  before_forward(prepared->text.get());
  forward_one({'P', frame.bytes, std::move(prepared), std::move(before)});
}

// The settings it is parsed under: PostgreSQL folds constants at Parse.
void Session::note_scope(PreparedStatement& prepared) {
  if (domain_ == nullptr) return;
  note_catalog(prepared);
  note_settings(prepared);
}

void Session::note_settings(PreparedStatement& prepared) const {
  prepared.epoch = domain_->settings_epoch();
  prepared.doubts = scope_.doubts();
  const Scope* scope = scope_.known(prepared.epoch);
  prepared.parse_id = scope != nullptr ? scope->parse_id : 0;
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
  if (prepared && message->portal.empty() && may_hold(*prepared->text, frame)) {
    held_.push_back({'B', frame.bytes, std::move(prepared)});
    return;
  }
  if (check_first(prepared, frame)) return;
  if (prepared) materialize_before(*prepared->text);
  forward_held();
  before_forward(prepared ? prepared->text.get() : nullptr);
  use_on_server(prepared, message->statement);
  portals_.define(message->portal, std::move(prepared));
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
  if (of_portal && target->name.empty() && held_bind() != nullptr &&
      may_hold(*held_bind()->prepared->text, frame)) {
    held_.push_back({'D', frame.bytes, held_bind()->prepared, nullptr, true});
    return;
  }
  if (of_portal && target->name.empty() && done_portal_ && done_portal_->entry->has_description() &&
      held_.empty() && may_answer_here()) {
    const cache::EntryRef& entry = done_portal_->entry;
    client_out_.add(entry, entry->body().substr(0, entry->description_bytes));
    return;
  }
  PreparedRef prepared = of_portal ? nullptr : prepared_.find(target->name);
  if (prepared && describes_here(prepared->text->statement().kind) &&
      may_hold(*prepared->text, frame)) {
    held_.push_back({'D', frame.bytes, std::move(prepared)});
    return;
  }
  if (check_held(frame) || check_first(prepared, frame)) return;
  forward_held();
  before_forward();
  if (of_portal) {
    if (target->name.empty()) materialize_portal();
    prepared = portals_.find(target->name);
  } else {
    use_on_server(prepared, target->name);
  }
  server_->sent(Asked::kDescribe, std::move(prepared));
  server_->outbox().add(frame.bytes);
}

// The Execute in hand is followed by its Sync, outside a block: its portal ends here, whether all
// rows have been taken or not, so that an answer with a row limit is complete in itself.
bool Session::ends_portal_now() const {
  constexpr std::string_view kSync("S\0\0\0\4", 5);
  return transaction_.is_implicit() && ahead_.starts_with(kSync);
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
    if (check_held(frame)) return;
    forward_held();
    if (message->portal.empty()) materialize_portal();
    const PreparedRef portal = portals_.find(message->portal);
    MemoText* text = portal ? portal->text.get() : nullptr;
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
      if (check_held(frame)) return;
      bypass(text, Reason::kPipelined);
      forward_held();
      forward_execute(frame, &text);
      return;
  }
  // A row limit would end set_config() otherwise; BEGIN and the like have no rows.
  const bool limited = message->max_rows != 0 && !text.statement().setting_changes.empty();
  if (!limited && answer_control(frame, text, /*extended=*/true)) return;
  if (text.statement().kind == query::Kind::kSelect && message->max_rows != 0 &&
      !ends_portal_now()) {
    bypass(text, Reason::kRowLimit);
  } else if (text.statement().kind == query::Kind::kSelect) {
    const auto bind_message = wire::read_bind(bind->raw.substr(wire::kHeaderBytes));
    PGFRESH_CHECK(bind_message.has_value());
    const Wanted wanted =
        held_portal_description() != nullptr ? Wanted::kDescribedRows : Wanted::kRows;
    switch (ask_cache(
        {text, wanted, prepared.get(), &*bind_message, message->max_rows, found_shape(prepared)})) {
      case Answer::kHit:
        serve_extended();
        // There may be more rows, but nobody can ask for them (ends_portal_now()).
        if (message->max_rows != 0) done_portal_.reset();
        return;
      case Answer::kWait:
        input_.assign(frame.bytes);
        return;
      case Answer::kForward:
        break;
    }
  }
  if (text.statement().kind != query::Kind::kSelect) bypass(text, Reason::kNotSelect);
  if (check_held(frame)) return;
  if (fetch_) fetch_->prepared = prepared;
  if (text.statement().setting_changes.empty()) {
    forward_held();
    forward_execute(frame, &text);
    return;
  }
  // What it sets may be in the Bind, whose bytes go with it.
  const std::string kept(held_bind()->raw);
  const auto bind_message = wire::read_bind(std::string_view(kept).substr(wire::kHeaderBytes));
  PGFRESH_CHECK(bind_message.has_value());
  forward_held();
  forward_execute(frame, &text, prepared, &*bind_message);
}

void Session::forward_execute(const wire::Frame& frame, MemoText* text, const PreparedRef& bound,
                              const wire::BindMessage* bind) {
  before_forward(text);
  if (text != nullptr && concerns_prepared(*text)) materialize_prepared(text);
  const uint64_t sequence = server_->sent(Asked::kExecute);
  if (fetch_ && fetch_->answer_sequence == 0) fetch_->answer_sequence = sequence;
  time_answer(sequence);
  server_->outbox().add(frame.bytes);
  note_sent(text, sequence, bound, bind);
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
    PreparedRef before = prepared_.find(target->name);
    prepared_.erase(target->name);
    server_->sent_close(target->name, std::move(before));
  } else {
    portals_.erase(target->name);
    if (target->name.empty()) done_portal_.reset();
    server_->sent(Asked::kClose);
  }
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
      append_last_description(description);
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
  if (answer_statement(frame) || check_held(frame)) return;
  forward_held();
  // Where no block is begun or ended in front of it, a transaction ends here, and its portals do.
  if (transaction_.is_implicit() && transaction_.allows_isolation()) done_portal_.reset();
  if (!server_->segment_open() && server_->replies().empty() && !server_said_last_) {
    reply_ready();
    return;
  }
  server_->sent(Asked::kSync);
  server_->outbox().add(frame.bytes);
}

void Session::take_flush(const wire::Frame& frame) {
  if (answer_statement(frame) || check_held(frame)) return;
  forward_held();
  if (server_->segment_open()) server_->outbox().add(frame.bytes);
}

}  // namespace pgfresh::proxy
