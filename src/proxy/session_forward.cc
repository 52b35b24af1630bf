// Sending a client's message on: what must go before it, what is noted of it, and how held messages
// are answered when nothing has to be sent.
#include <algorithm>

#include "base/check.h"
#include "base/limits.h"
#include "proxy/session.h"
#include "query/policy.h"

namespace pgfresh::proxy {

// A deferred BEGIN goes first, and before that whatever has to be said about notices; then what has
// outlived the session.
void Session::before_forward(MemoText* text) {
  if (domain_ != nullptr && !replication_ && !server_->segment_open()) choose_inband(text);
  if (text != nullptr && !text->statement().vacant_database.empty()) {
    worker_.shared().vacate(text->statement().vacant_database);
  }
  // Behind a query PostgreSQL refuses another isolation, so it must have seen one.
  const bool shows_query = !server_->segment_open() && transaction_.status() == 'T' &&
                           (text == nullptr || text->consequences().may_change_block) &&
                           transaction_.take_read_unseen();
  if (transaction_.deferred()) {
    PGFRESH_CHECK(!server_->segment_open());
    std::string begin = transaction_.take_deferred();
    if (shows_query) begin += "; SELECT";
    server_->inject_query(begin, Purpose::kSetup);
    transaction_.sent_begin(Transaction::Block::kReadCommitted, server_->replies().last_sequence());
  } else if (shows_query) {
    server_->inject_query("SELECT", Purpose::kQuiet);
  }
  // What everybody will be told is not to rest on what this session has found before.
  // (A description rests on no plan, and its client has executed nothing.)
  if (fetch_ && !fetch_->of_description) {
    server_->renew_plans(fetch_->generation, fetch_->prepared ? ServerLink::Before::kExecute
                                                              : ServerLink::Before::kQuery);
  }
  materialize_accepted();
  server_->close_outlived();
}

// Rules 14 to 16. A transaction is begun in a session that carries only under a carry lease, and
// with nothing unanswered before it, so that PostgreSQL begins it at once. All that follows in it
// may go on without one: others wait for the end of what was running when they gave up on us.
void Session::choose_inband(MemoText* text) {
  using Inband = ServerLink::Inband;
  if (carrying_ && transaction_.server_status() != 'I') return;
  const bool plain = server_->inband() == Inband::kOn;
  if (plain && (unmarked_ || !would_carry(text))) return;
  if (transaction_.server_status() == 'I' && server_->at_rest()) {
    stop_carrying();  // of a message that was not sent after all
    const bool may_carry =
        !unmarked_ && server_->may_carry() &&
        (transaction_.deferred() || (text != nullptr && !text->consequences().may_commit_within));
    const uint64_t server = may_carry ? domain_->begin_carrying(worker_.loop().clock()) : 0;
    if (server != 0) {
      carrying_ = true;
      if (server_->inband() != Inband::kCarry || server_->carries_for() != server) {
        server_->inject_carry(server);
      }
      return;
    }
    if (may_carry) domain_->want_carrying();
    if (!plain) server_->inject_notify(ServerLink::Place::kOutside);
    return;
  }
  if (plain || transaction_.server_status() == 'E') return;
  if (text != nullptr && effect_of(*text) == query::Effect::kPureRead) return;
  server_->inject_notify(ServerLink::Place::kPerhapsInside);
}

// Worth a SET: it writes, or others will that follow in its block.
bool Session::would_carry(const MemoText* text) const {
  if (text == nullptr) return false;
  switch (text->statement().kind) {
    case query::Kind::kBegin:
    case query::Kind::kWrite:
    case query::Kind::kDdl:
      return true;
    case query::Kind::kMany:
      return !text->consequences().may_commit_within;
    case query::Kind::kEmpty:
    case query::Kind::kSelect:
    case query::Kind::kCommit:
    case query::Kind::kRollback:
    case query::Kind::kSavepoint:
    case query::Kind::kShowLast:
    case query::Kind::kShow:
    case query::Kind::kNotify:
    case query::Kind::kDeallocate:
    case query::Kind::kSession:
    case query::Kind::kUnknown:
      return false;
  }
  return false;
}

void Session::forward_held() {
  if (held_.empty()) return;
  before_forward(held_.front().prepared ? held_.front().prepared->text.get() : nullptr);
  std::vector<Held> held = std::exchange(held_, {});
  for (const Held& message : held) forward_one(message);
  held.clear();
  if (held_.empty()) held_.swap(held);  // its capacity is wanted again
  if (!held_bytes_.empty()) {
    server_->flush();
    held_bytes_.clear();
    held_bytes_.shrink_to_fit();
  }
}

void Session::forward_one(const Held& held) {
  switch (held.type) {
    case 'P':
      server_->sent_parse(held.prepared, held.before);
      break;
    case 'B':
      use_on_server(held.prepared, held.prepared->name);
      portals_.define({}, held.prepared);
      done_portal_.reset();
      server_->sent(Asked::kBind);
      break;
    case 'D': {
      if (!held.of_portal) use_on_server(held.prepared, held.prepared->name);
      const uint64_t sequence = server_->sent(Asked::kDescribe, held.prepared);
      if (fetch_ && fetch_->of_description) {
        // They were asked about in order, up to the first that was not found (find_descriptions()).
        const bool asked = !held.of_portal && !held.description && fetch_->answer_sequence == 0;
        if (asked) fetch_->answer_sequence = sequence;
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
    if (!server_->holds(*prepared)) parse_on_server(prepared, Purpose::kSetup);
  } else if (name.empty() && server_->holds_unnamed()) {
    server_->inject_close_unnamed();
  }
}

void Session::parse_on_server(const PreparedRef& prepared, Purpose purpose) {
  server_->inject_parse(prepared, purpose);
  note_parsed(*prepared);
  prepared->unchecked = prepared->shape != 0;
}

// Unless that is skipped, PostgreSQL has it as it is parsed now.
void Session::note_parsed(PreparedStatement& prepared) {
  if (server_->holds(prepared)) {
    prepared.astray = false;
    note_catalog(prepared);
    if (prepared.parse_id == 0) note_settings(prepared);
  }
  note_use(prepared);
}

// What it means is asked when its first answer is, but where that may be long after.
void Session::note_catalog(PreparedStatement& prepared) {
  if (domain_ == nullptr) return;
  prepared.generation = domain_->catalog_generation();
  prepared.meaning = 0;
  if (prepared.name.empty() || prepared.text->statement().kind != query::Kind::kSelect) return;
  const Resolution* resolution = resolve(*prepared.text);
  if (resolution != nullptr) compare_meaning(prepared, resolution->verdict);
}

// In front of a Bind or Describe of it. One that went astray is parsed anew, once the settings are
// again those of its Parse: so a hit is what PostgreSQL would answer, and may be recorded. One that
// has other columns now than the client was shown is refused.
void Session::use_on_server(const PreparedRef& prepared, std::string_view name) {
  if (prepared && is_due_anew(*prepared)) prepared_.renew(*prepared);
  ensure_on_server(prepared, name);
  if (!prepared) return;
  note_use(*prepared);
  if (prepared->outdated) server_->inject_refusal();
}

// Unless a new one would mean something else.
bool Session::is_due_anew(const PreparedStatement& prepared) {
  if (!prepared.astray || !server_->holds(prepared) || !is_at_home(prepared)) return false;
  const Resolution* resolution = resolve(*prepared.text);
  return resolution != nullptr && resolution->verdict.cacheable() &&
         (prepared.meaning == 0 || prepared.meaning == resolution->verdict.meaning);
}

bool Session::is_at_home(const PreparedStatement& prepared) const {
  const Scope* scope = domain_ ? scope_.known(domain_->settings_epoch()) : nullptr;
  return scope != nullptr && (prepared.parse_id == 0 || prepared.parse_id == scope->parse_id);
}

// It is parsed or used at PostgreSQL, under the settings in force now.
void Session::note_use(PreparedStatement& prepared) const {
  if (domain_ == nullptr) return;
  const uint64_t epoch = domain_->settings_epoch();
  const Scope* scope = scope_.known(epoch);
  const bool at_home =
      scope != nullptr ? parsed_under(prepared, *scope, epoch) : is_undisturbed(prepared, epoch);
  if (!at_home) {
    prepared.astray = true;
  } else if (scope != nullptr) {
    prepared.doubts = scope_.doubts();
    prepared.epoch = epoch;
  }
}

// Statements that PostgreSQL has not been told of must be, before this text is sent: it asks for
// them, speaks of them by name, or changes the settings under which they would be parsed. (In a
// block the second is left out: a statement that no longer parses would fail the client's
// transaction.)
bool Session::concerns_prepared(MemoText& text) {
  if (prepared_.named().empty()) return false;
  const Consequences& consequences = text.consequences();
  if (consequences.concerns_statements) return true;
  if (transaction_.server_status() != 'I') return false;
  if (consequences.may_change_parsing) return true;
  if (!consequences.may_change_parsing_by_effect || !caching()) return false;
  const Resolution* resolution = resolve(text);
  return resolution != nullptr && resolution->verdict.effect == query::Effect::kChangesSession;
}

// The same for a text whose Parse or Bind is about to be sent, in a segment of its own: there a
// statement that no longer parses does not fail the client's. (A stand-in always does, and is made
// when it is to be deallocated indeed.)
void Session::materialize_before(MemoText& text) {
  if (!text.statement().deallocated_name.empty()) return;
  if (held_.empty() && server_->at_rest() && concerns_prepared(text)) materialize_prepared(&text);
}

// `text`: what is about to be sent, null where that is not known.
void Session::materialize_prepared(const MemoText* text) {
  if (transaction_.status() == 'E') return;  // there PostgreSQL takes nothing but ROLLBACK
  const bool alone = !server_->segment_open();
  const Purpose purpose = alone ? Purpose::kQuiet : Purpose::kSetup;
  const bool fails_others = !alone || transaction_.server_status() != 'I';
  bool injected = false;
  const query::Statement* said = text != nullptr ? &text->statement() : nullptr;
  if (said != nullptr && said->kind == query::Kind::kDeallocate && said->deallocates_all) return;
  if (said != nullptr && !said->deallocated_name.empty()) {
    const PreparedRef prepared = prepared_.find(said->deallocated_name);
    if (prepared == nullptr || server_->holds(*prepared)) return;
    stand_in(prepared, purpose);
    injected = true;
  } else {
    for (const auto& [name, prepared] : prepared_.named()) {
      if (server_->holds(*prepared)) continue;
      // SQL's EXECUTE names the one it is about: what becomes of that is the client's business.
      const bool named = said != nullptr && said->text.find(name) != std::string_view::npos;
      if (fails_others && !named && may_not_parse(*prepared)) continue;
      parse_on_server(prepared, purpose);
      injected = true;
    }
  }
  if (injected && alone) server_->inject_sync();
}

// It means something else now, or nothing, or nobody can say. (To parse it in the client's
// transaction could fail that, which has not asked for it.)
bool Session::may_not_parse(const PreparedStatement& prepared) {
  if (!caching()) return false;
  const Resolution* resolution = resolve(*prepared.text);
  if (resolution == nullptr) return prepared.generation != domain_->catalog_generation();
  return resolution->verdict.meaning != prepared.meaning;
}

// A statement of this name that always parses, to be deallocated.
void Session::stand_in(const PreparedRef& prepared, Purpose purpose) {
  const Settings& settings = worker_.settings();
  const auto other = std::make_shared<PreparedStatement>();
  other->name = prepared->name;
  other->text =
      worker_.memo().find_or_analyze("SELECT", settings.text_bytes_max, settings.memo_entries_max);
  prepared_.renew(*other);
  server_->inject_parse(other, purpose);
}

// In a failed block PostgreSQL describes a statement that has no rows, but parses none. So those
// that were accepted here are parsed there with the first thing that is sent: nothing has failed
// since.
void Session::materialize_accepted() {
  if (accepted_.empty()) return;
  const bool alone = !server_->segment_open();
  bool injected = false;
  for (const PreparedRef& prepared : std::exchange(accepted_, {})) {
    if (prepared_.find(prepared->name) != prepared || server_->holds(*prepared)) continue;
    parse_on_server(prepared, alone ? Purpose::kQuiet : Purpose::kSetup);
    injected = true;
  }
  if (injected && alone) server_->inject_sync();
}

// The unnamed portal was run here, and PostgreSQL is asked about it: it is made there, and run to
// its end, as it would stand there. (Where its statement has gone since it stays unknown. Behind
// COMMIT or ROLLBACK it has gone itself.)
void Session::materialize_portal() {
  if (!done_portal_ || done_portal_->bind.empty() || server_->replies().skipping() ||
      transaction_.end_sent()) {
    return;
  }
  const PreparedRef& statement = done_portal_->statement;
  if (prepared_.find(statement->name) != statement) return;
  before_forward(statement->text.get());
  use_on_server(statement, statement->name);
  server_->inject_run(done_portal_->bind);
  portals_.define({}, statement);
  done_portal_.reset();
}

void Session::note_accepted(const PreparedRef& prepared) {
  const query::Kind kind = prepared->text->statement().kind;
  if (kind == query::Kind::kSelect || kind == query::Kind::kShowLast) return;  // they have rows
  if (prepared->name.empty()) return;  // drivers that send BEGIN so would pay for it each time
  std::erase_if(accepted_, [&](const PreparedRef& one) {
    return prepared_.find(one->name) != one || one == prepared;
  });
  if (accepted_.size() < limits::kAcceptedMax) accepted_.push_back(prepared);
}

// `bound`, `bind`: of an Execute behind a Bind that was looked at.
void Session::note_sent(MemoText* text, uint64_t sequence, const PreparedRef& bound,
                        const wire::BindMessage* bind) {
  if (text == nullptr) {
    server_->doubt_inband();
    transaction_.sent_possible_commit(sequence);
    transaction_.sent_text_that_goes_on(sequence);
    note_effect(query::Effect::kChangesSession, sequence);
    transaction_.sent_unknown(sequence);
    return;
  }
  const Consequences& consequences = text->consequences();
  if (consequences.only_answers) {
    const query::Effect effect = effect_of(*text);
    note_effect(effect, sequence);
    if (effect == query::Effect::kChangesSession) transaction_.sent_possible_commit(sequence);
    return;
  }
  const query::Statement& statement = text->statement();
  if (consequences.may_prepare) sql_prepared_ = sequence;
  if (statement.makes_table) server_->replies().note_makes_table(sequence);
  if (consequences.may_reset_settings) server_->doubt_inband();
  const std::string_view oids =
      bound ? std::string_view(bound->parameter_oids) : std::string_view();
  note_time_limits(*text, oids, bind);
  if (follow_settings(statement, oids, bind, sequence)) return;
  if (statement.kind != query::Kind::kSelect) scope_.sent_more_than_reads();
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
  if (statement.rolls_back_to) scope_.rolled_back_to_savepoint();
  const query::Effect effect = effect_of(*text);
  // (What sets something writes nothing: answers behind it may be recorded.)
  if (statement.setting_changes.empty()) {
    note_effect(effect, sequence);
  } else {
    note_settings_change(sequence);
  }
  if (consequences.may_change_block) transaction_.sent_unknown(sequence);
  if (statement.kind == query::Kind::kCommit || statement.kind == query::Kind::kRollback) {
    scope_.sent_end();
    transaction_.sent_end(sequence);
  }
  if (statement.kind == query::Kind::kCommit || effect == query::Effect::kChangesSession) {
    transaction_.sent_possible_commit(sequence);
  }
  if (statement.kind == query::Kind::kMany || consequences.may_commit_within) {
    transaction_.sent_text_that_goes_on(sequence);
  }
  note_deallocation(*text);
}

void Session::note_effect(query::Effect effect, uint64_t sequence) {
  if (effect == query::Effect::kPureRead) return;
  scope_.sent_more_than_reads();
  transaction_.sent_write(sequence);
  if (unmarked_ && domain_ != nullptr) {
    // No notice may come for what this writes: nobody is served until it is settled.
    open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
  }
  if (effect == query::Effect::kChangesSession) note_settings_change(sequence);
}

void Session::note_settings_change(uint64_t sequence) {
  transaction_.sent_in_block(sequence);
  scope_.doubt();
}

// A text that speaks of our setting may switch the notices off.
void Session::note_inband(const MemoText& text) {
  if (text.consequences().speaks_of_inband) unmarked_ = true;
}

bool Session::needs_check(const PreparedRef& prepared) {
  if (!prepared || prepared->shape == 0) return false;
  if (prepared->outdated) return !is_outdated_still(*prepared);
  return !server_->holds(*prepared) || prepared->unchecked || is_due_anew(*prepared);
}

// Nothing has changed since.
bool Session::is_outdated_still(const PreparedStatement& prepared) const {
  return domain_ == nullptr || prepared.checked_generation == domain_->catalog_generation();
}

bool Session::holds_parse() const {
  return std::any_of(held_.begin(), held_.end(), [](const Held& held) { return held.type == 'P'; });
}

// A statement that the client was shown, but PostgreSQL was not told of when it was, or has to be
// told of anew: before it is used there, PostgreSQL is asked whether it still looks the same. True
// when `frame` has been put back until it has said so.
bool Session::check_first(const PreparedRef& prepared, const wire::Frame& frame) {
  if (!needs_check(prepared) || server_->replies().skipping()) return false;
  fetch_.reset();
  before_forward();
  if (prepared->outdated || is_due_anew(*prepared)) prepared_.renew(*prepared);
  if (!server_->holds(*prepared)) {
    server_->inject_parse(prepared, Purpose::kCheck);
    note_parsed(*prepared);
  }
  server_->inject_check(prepared);
  input_.assign(frame.bytes);
  block(Block::kCheck);
  return true;
}

// In front of what sends it on.
bool Session::check_held(const wire::Frame& frame) {
  for (const Held& held : held_) {
    const bool uses = held.type == 'B' || (held.type == 'D' && !held.of_portal);
    if (uses && check_first(held.prepared, frame)) return true;
  }
  return false;
}

void Session::note_deallocation(const MemoText& text) {
  const query::Statement& statement = text.statement();
  if (transaction_.status() == 'E') return;  // refused; and what PostgreSQL was not told of stays
  if (statement.kind == query::Kind::kDeallocate && !statement.deallocated_name.empty()) {
    prepared_.erase(statement.deallocated_name);
    server_->forget(statement.deallocated_name);
    return;
  }
  if (statement.deallocates_all ||
      (statement.kind != query::Kind::kDeallocate && text.consequences().speaks_of_statements)) {
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
        note_accepted(held.prepared);
        break;
      case 'B':
        client_out_.add(wire::kBindComplete);
        break;
      case 'D':
        if (held.description) {
          client_out_.add(held.description, held.description->body());
          held.prepared->shown_oids = wire::parameter_types(held.description->body());
          held.prepared->shape = held.description->shape;
        } else if (entry) {
          client_out_.add(entry, row_description);
          if (!held.of_portal) held.prepared->shown_oids = wire::parameter_types(row_description);
          held.prepared->shape = entry->shape;
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
