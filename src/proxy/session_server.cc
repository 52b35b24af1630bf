// What PostgreSQL sends: told apart by the reply queue, forwarded, recorded, kept from the client
// where pgfresh asked; and the in-band notices that open the slots of a write before anything
// behind them is forwarded (freshness.md, rule 4).
#include "base/check.h"
#include "freshness/event.h"
#include "proxy/session.h"
#include "query/statement.h"

namespace pgfresh::proxy {
namespace {

constexpr std::string_view kInbandCode = "PF001";
constexpr std::string_view kBlockHasFailed = "25P02";
// The head of a notice: severities and code, and a payload of less than 8000 bytes.
constexpr size_t kNoticeHeadBytes = 16 * 1024;
// Slots one transaction holds open by themselves; beyond, schema(D) stands for all.
constexpr size_t kOpenSlotsMax = 10'000;
// Session::opened_under_; no catalog's generation.
constexpr uint64_t kSeveralCatalogs = UINT64_MAX;

// The complete fields at the front of a notice's body.
wire::NoticeFields read_notice_head(std::string_view body) {
  wire::NoticeFields head;
  while (!body.empty() && body.front() != '\0') {
    const size_t end = body.find('\0');
    if (end == std::string_view::npos) break;
    const std::string_view value = body.substr(1, end - 1);
    if (body.front() == 'C') head.sqlstate = value;
    if (body.front() == 'M') head.message = value;
    if (body.front() == 'D') head.detail = value;
    body.remove_prefix(end + 1);
  }
  return head;
}

// DDL that event triggers do not see, or not always: roles (whose security labels may mask
// columns), databases, server settings, event triggers, REASSIGN OWNED
// (src/include/tcop/cmdtaglist.h), and what EXPLAIN ANALYZE carries out.
bool escapes_event_triggers(std::string_view tag) {
  return tag.find("ROLE") != std::string_view::npos ||
         tag.find("DATABASE") != std::string_view::npos ||
         tag.find("SYSTEM") != std::string_view::npos ||
         tag.find("EVENT TRIGGER") != std::string_view::npos ||
         tag.find("REASSIGN") != std::string_view::npos ||
         tag.find("TABLESPACE") != std::string_view::npos || tag == "SECURITY LABEL" ||
         tag == "EXPLAIN";
}

// DDL, where a statement in the message is CREATE TABLE AS or the like: which one has ended, when
// there are several, is not told.
bool may_have_made_table(const ReplyItem& item, std::string_view tag) {
  return item.makes_table && (tag.starts_with("SELECT") || tag == "EXPLAIN");
}

}  // namespace

void Session::on_server_bytes(std::string_view bytes) {
  worker_.counters().add(Counter::kBytesFromServers, bytes.size());
  heard_ns_ = worker_.now_ns();
  const std::string_view all = bytes;
  wire::Frame frame;
  while (server_ && (state_ == State::kLogin || state_ == State::kReady || hearing_)) {
    const wire::Cut cut = server_->framer().next(bytes, frame);
    if (cut == wire::Cut::kNeedMore) break;
    if (cut == wire::Cut::kBroken) {
      worker_.counters().add(Counter::kServersFailed);
      server_gone_ = true;
      end("08P01", "the server broke the protocol: " + server_->framer().error());
      return;
    }
    take_server_frame(frame);
    const bool lies_in_input =
        frame.bytes.data() >= all.data() && frame.bytes.data() < all.data() + all.size();
    if (!lies_in_input) flush();
  }
  if (hearing_) {
    hear();
    return;
  }
  if (state_ == State::kRaw && server_) client_out_.add(bytes);
  flush();
  unblock_queue();
  if (block_ == Block::kStatements && !waits_for_statements(input_)) unblock(Block::kStatements);
  pass_on_cancel();
}

void Session::take_server_frame(const wire::Frame& frame) {
  if (state_ == State::kLogin) {
    take_login_reply(frame);
    return;
  }
  switch (frame.type) {
    case 'N':
      take_notice(frame);
      return;
    case 'S':
      if (frame.whole()) {
        const auto status = wire::read_parameter_status(frame.body());
        if (status && is_keyed_setting(status->first)) scope_.doubt();
      }
      drop_fetch(Reason::kNotQuiet);
      forward_to_client(frame);
      return;
    case 'A':
      drop_fetch(Reason::kNotQuiet);
      forward_to_client(frame);
      return;
    default:
      take_reply(frame);
  }
}

void Session::take_reply(const wire::Frame& frame) {
  ReplyQueue& replies = server_->replies();
  if (replies.empty()) {
    take_uncounted(frame);
    return;
  }
  const ReplyItem& item = replies.front();
  if (item.purpose == Purpose::kProbe) {
    take_probe_reply(frame);
    return;
  }
  if (item.purpose == Purpose::kCheck && frame.type != 'E') {
    take_check_reply(frame);
    return;
  }
  const bool shown = item.purpose == Purpose::kClient;
  const uint64_t sequence = item.sequence;
  switch (frame.type) {
    case 'Z':
      take_ready(frame);
      return;
    case 'E':
      if (frame.first || frame.whole()) {
        take_error(frame);
      } else {
        forward_to_client(frame);
      }
      return;
    case 'C':
      if (frame.whole()) {
        take_command_complete(frame);
        return;
      }
      break;
    case 'T':
      if (frame.whole()) {
        take_row_description(frame, item);
      } else {
        drop_fetch(Reason::kTooLarge);
      }
      if (item.asked == Asked::kDescribe && (frame.whole() || frame.last)) replies.pop();
      break;
    case 'D':
      record(frame, sequence);
      break;
    case 't':
      if (frame.whole()) {
        if (shown && item.prepared) item.prepared->shown_oids = wire::parameter_types(frame.bytes);
        record(frame, sequence);
      } else {
        drop_fetch(Reason::kTooLarge);
      }
      break;
    case 'n':
      if (fetch_ && fetch_->of_description) record(frame, sequence);
      replies.pop();
      break;
    case '1':
      // The name was free, and is no longer: of a statement that is not known here.
      if (item.asked == Asked::kParseAgain) sql_prepared_ = sequence;
      if (item.asked == Asked::kParse && item.prepared) note_analysed(*item.prepared);
      [[fallthrough]];
    case '2':
    case '3':
      replies.pop();
      break;
    case 's':
      if (fetch_ && fetch_->row_limited && fetch_->answer_sequence == sequence) {
        record(frame, sequence);
        if (fetch_) finish_fetch();
      }
      [[fallthrough]];
    case 'I':
      drop_fetch(Reason::kNotQuiet);
      if (item.asked == Asked::kExecute) replies.pop();
      break;
    case 'G':
      drop_fetch(Reason::kNotQuiet);
      replies.copy_in_started();
      break;
    case 'H':
      drop_fetch(Reason::kNotQuiet);
      break;
    case 'W':
      // START_REPLICATION: whatever follows is not ours.
      drop_fetch(Reason::kNotQuiet);
      forward_to_client(frame);
      flush();
      state_ = State::kRaw;
      return;
    default:
      break;
  }
  if (shown) forward_to_client(frame);
}

void Session::take_row_description(const wire::Frame& frame, const ReplyItem& item) {
  const bool recorded = records(item.sequence);
  if (!item.prepared && !recorded) return;
  const uint64_t shape = worker_.shapes().of(frame.bytes);
  if (item.prepared) item.prepared->shape = shape;
  // Rows of a statement that is described in front of them have these columns.
  if (fetch_ && item.prepared && fetch_->prepared == item.prepared) fetch_->shape = shape;
  if (!recorded) return;
  fetch_->description_bytes = frame.size;
  fetch_->shape = shape;
  record(frame, item.sequence);
}

// Nothing is owed: PostgreSQL is ending the session, or a Sync that COPY seemed to ignore was read
// after all.
void Session::take_uncounted(const wire::Frame& frame) {
  if (frame.type == 'E') note_last_words(frame);
  if (frame.type == 'Z' && frame.whole()) {
    server_->replies().resync();
    const uint64_t sequence = server_->replies().last_sequence();
    settle(transaction_.ready(wire::read_ready(frame.body()).value_or('I'), sequence));
  }
  forward_to_client(frame);
}

void Session::note_last_words(const wire::Frame& frame) {
  if (!frame.whole()) return;
  const auto notice = wire::read_notice(frame.body());
  if (notice && (notice->severity == "FATAL" || notice->severity == "PANIC")) {
    server_said_last_ = true;
  }
}

// What a statement looks like to PostgreSQL that the client was shown.
void Session::take_check_reply(const wire::Frame& frame) {
  ReplyQueue& replies = server_->replies();
  const PreparedRef prepared = replies.front().prepared;
  switch (frame.type) {
    case '1':
      note_analysed(*prepared);
      replies.pop();
      return;
    case 't':
      if (!prepared->pinned && !prepared->shown_oids.empty() &&
          prepared->shown_oids != wire::parameter_types(frame.bytes)) {
        prepared->pinned = true;
        // Once more, with the types that the client knows of.
        prepared_.renew(*prepared);
      }
      return;
    case 'T':
    case 'n':
      if (server_->holds(*prepared)) {
        prepared->outdated = frame.type == 'n' || !frame.whole() ||
                             worker_.shapes().of(frame.bytes) != prepared->shape;
        prepared->unchecked = false;
        prepared->checked_generation = domain_ != nullptr ? domain_->catalog_generation() : 0;
      }
      if (!frame.whole() && !frame.last) return;
      replies.pop();
      if (block_ != Block::kCheck && (prepared->outdated || !server_->holds(*prepared))) {
        end("0A000", "cached plan must not change result type");
        return;
      }
      unblock(Block::kCheck);
      return;
    default:
      return;
  }
}

void Session::take_command_complete(const wire::Frame& frame) {
  ReplyQueue& replies = server_->replies();
  const uint64_t sequence = replies.front().sequence;
  const Purpose purpose = replies.front().purpose;
  const auto tag = wire::read_command_tag(frame.body());
  const bool ddl = tag && (query::is_ddl_tag(*tag) || may_have_made_table(replies.front(), *tag));
  if (replies.front().asked == Asked::kExecute) replies.pop();
  if (tag == "COMMIT") scope_.end_seen(ScopeTracker::End::kCommit);
  if (tag == "ROLLBACK") scope_.end_seen(ScopeTracker::End::kRollback);
  if (ddl && domain_ != nullptr) {
    worker_.counters().add(Counter::kDdlSeen);
    open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
    const query::Catalog* catalog = worker_.catalog(*domain_);
    const bool covered =
        catalog != nullptr && catalog->event_triggers() && !escapes_event_triggers(*tag);
    if (!covered) transaction_.saw_ddl();
  }
  if ((tag == "DISCARD ALL" || tag == "DEALLOCATE ALL") && sequence > sql_prepared_) {
    sql_prepared_ = 0;
  }
  note_answered(sequence);
  server_->answered(sequence);
  const bool block_ends = tag == "COMMIT" || tag == "PREPARE TRANSACTION";
  if (block_ends || transaction_.server_status() == 'I') keep_open_what_is_meant_now();
  if (block_ends) block_ended_here(tag == "COMMIT");
  if (tag == "COMMIT PREPARED" && domain_ != nullptr) {
    // Whose it was, and what it wrote, may be known to nobody.
    open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
    transaction_.saw_ddl();
  }
  if (fetch_ && fetch_->answer_sequence == sequence) {
    record(frame, sequence);
    if (fetch_) finish_fetch();
  }
  if (purpose == Purpose::kClient) forward_to_client(frame);
}

// Not at the end of the message: COMMIT may be followed by another block, or by a statement that
// takes an hour, and what was committed is to be published now (rule 14).
void Session::block_ended_here(bool committed) {
  Transaction::Ended ended = transaction_.take_ended();
  if (committed) {
    committed_ = true;
    settle(std::move(ended));
  } else if (domain_ != nullptr && !ended.writes.empty()) {
    if (ended.ddl) ended.writes.events.add({});  // everything
    domain_->settler().prepared(std::move(ended.writes));
  }
  keep_unmarked_open();
}

// What an unmarked session sends is behind an open slot from its sending to its end, and each end
// takes the slot along.
void Session::keep_unmarked_open() {
  if (!unmarked_ || domain_ == nullptr || transaction_.only_read()) return;
  open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
}

void Session::take_error(const wire::Frame& frame) {
  drop_fetch(Reason::kNotQuiet);
  scope_.error_seen();
  ReplyQueue& replies = server_->replies();
  const uint64_t sequence = replies.front().sequence;
  const Purpose purpose = replies.front().purpose;
  const Asked asked = replies.front().asked;
  note_last_words(frame);
  if (purpose == Purpose::kRefuse && !server_said_last_) {
    std::string message;
    // pgjdbc prepares such a statement anew where it sees the routine.
    wire::write_error(message, wire::Severity::kError, "0A000",
                      "cached plan must not change result type", {}, {}, "RevalidateCachedQuery");
    send_to_client(message);
  } else if (purpose == Purpose::kInband) {
    const auto error = wire::read_notice(frame.body());
    server_->inband_failed(error ? error->sqlstate : std::string_view());
  } else if (purpose == Purpose::kPlans) {
    keep_own_error(frame);
  } else if (purpose != Purpose::kQuiet && !tell_own_error(frame)) {
    forward_to_client(frame);
  }
  if (asked == Asked::kQuery || asked == Asked::kSync) {
    if (purpose == Purpose::kSetup) {
      // BEGIN itself was refused: the client has been told that it is in a block, and it is not.
      flush();
      close("a deferred BEGIN was refused");
    }
    return;
  }
  replies.skip_to_sync([&](const ReplyItem& other) { undo(other, other.sequence == sequence); });
  if (!replies.owes(Purpose::kCheck)) unblock(Block::kCheck);
}

void Session::keep_own_error(const wire::Frame& frame) {
  if (frame.whole() && transaction_.server_status() == 'T') own_error_ = frame.bytes;
}

// The client is told what has failed its block, and not that it had failed before.
bool Session::tell_own_error(const wire::Frame& frame) {
  const std::string error = std::exchange(own_error_, {});
  if (error.empty() || !frame.whole()) return false;
  const auto notice = wire::read_notice(frame.body());
  if (!notice || notice->sqlstate != kBlockHasFailed) return false;
  send_to_client(error);
  return true;
}

// A message has `failed`, or was skipped because of one before it: the statement of its name is the
// one it was. What we sent ourselves the session has, whatever PostgreSQL holds.
void Session::undo(const ReplyItem& item, bool failed) {
  switch (item.asked) {
    case Asked::kParse: {
      if (!item.prepared) return;
      const std::string& name = item.prepared->name;
      // The unnamed one goes before another takes its place, whether that parses or not.
      const bool gone = failed && name.empty();
      stands_again(name, gone ? 0 : item.held_before);
      if (item.purpose != Purpose::kClient) return;
      stands_again(name, item.prepared, gone ? nullptr : item.before);
      return;
    }
    case Asked::kParseAgain:  // refused or not, what stood there stands
      if (!item.prepared) return;
      stands_again(item.prepared->name, item.prepared->id);
      stands_again(item.prepared->name, nullptr, item.prepared);
      return;
    case Asked::kQuery:
    case Asked::kClose: {
      if (failed) return;
      const std::string_view name = item.before ? std::string_view(item.before->name) : "";
      if (item.held_before != 0) stands_again(name, item.held_before);
      if (item.before) stands_again(name, nullptr, item.before);
      return;
    }
    case Asked::kBind:
    case Asked::kDescribe:
    case Asked::kExecute:
    case Asked::kSync:
    case Asked::kCopyEnd:
      return;
  }
}

// PostgreSQL holds this, 0: nothing, under the name; if something sent since, in a later segment,
// has to do with the name, that is what stood there before.
void Session::stands_again(std::string_view name, uint64_t held) {
  ReplyItem* later = server_->replies().later(name, [](const ReplyItem&) { return true; });
  if (later == nullptr) {
    server_->set_held(name, held);
  } else if (later->asked != Asked::kParseAgain) {
    later->held_before = held;
  }
}

// The same for the session, which had put `instead` in its place.
void Session::stands_again(std::string_view name, const PreparedRef& instead,
                           const PreparedRef& before) {
  ReplyItem* later = server_->replies().later(
      name, [](const ReplyItem& item) { return item.purpose == Purpose::kClient; });
  if (later != nullptr) {
    (later->asked == Asked::kParseAgain ? later->prepared : later->before) = before;
    return;
  }
  if (prepared_.find(name) != instead) return;
  prepared_.erase(name);
  if (before) prepared_.restore(before);
}

void Session::take_ready(const wire::Frame& frame) {
  ReplyQueue& replies = server_->replies();
  const uint64_t sequence = replies.front().sequence;
  const Purpose purpose = replies.front().purpose;
  const Asked asked = replies.front().asked;
  const auto status = wire::read_ready(frame.body());
  if (!status || (asked != Asked::kQuery && asked != Asked::kSync)) {
    end("08P01", "the server's answers do not match the requests");
    return;
  }
  replies.pop();
  idle_from_ns_ = heard_ns_;
  if (*status == 'I') keep_open_what_is_meant_now();
  settle(transaction_.ready(*status, sequence));
  keep_unmarked_open();
  // A block that follows upon COMMIT, in the same message or by AND CHAIN, was begun under no lease
  // of ours: what is written in it from now on is published by PostgreSQL.
  if (std::exchange(committed_, false) && *status != 'I' && server_->at_rest()) stop_carrying();
  scope_.ready(*status, sequence, worker_.shared().scopes);
  if (purpose == Purpose::kInband) {
    server_->inband_answered(sequence);
    return;
  }
  if (*status == 'I') {
    disavowed_ = false;
    worker_.counters().add(Counter::kTransactions);
    portals_.clear();
    done_portal_.reset();
  }
  if (purpose == Purpose::kClient) {
    own_error_.clear();
    forward_to_client(frame);
  }
}

void Session::forward_to_client(const wire::Frame& frame) { client_out_.add(frame.bytes); }

// ── In-band notices ──────────────────────────────────────────────────────────────────────────────

void Session::take_notice(const wire::Frame& frame) {
  drop_fetch(Reason::kNotQuiet);
  if (!frame.whole()) {
    take_notice_part(frame);
    return;
  }
  {
    const auto notice = wire::read_notice(frame.body());
    if (notice && notice->sqlstate == kInbandCode) {
      worker_.counters().add(Counter::kNotices);
      take_event(*notice);
      return;
    }
  }
  forward_to_client(frame);
}

// A notice too long to be seen whole (its CONTEXT quotes the statement): its head decides.
void Session::take_notice_part(const wire::Frame& frame) {
  if (frame.first) {
    notice_part_ = NoticePart::kCollecting;
    notice_head_.clear();
  }
  if (notice_part_ == NoticePart::kCollecting) {
    notice_head_.append(frame.bytes);
    if (notice_head_.size() < kNoticeHeadBytes && !frame.last) return;
    const wire::NoticeFields head =
        read_notice_head(std::string_view(notice_head_).substr(wire::kHeaderBytes));
    if (head.sqlstate == kInbandCode) {
      notice_part_ = NoticePart::kSwallowing;
      worker_.counters().add(Counter::kNotices);
      take_event(head);
    } else {
      notice_part_ = NoticePart::kForwarding;
      send_to_client(notice_head_);
    }
    notice_head_ = {};
  } else if (notice_part_ == NoticePart::kForwarding) {
    forward_to_client(frame);
  }
  if (frame.last) notice_part_ = NoticePart::kNone;
}

// Its trigger has notified if it says so; else the event is this proxy's to publish (freshness.md,
// rule 14), in whatever way the session came to carry.
void Session::take_event(const wire::NoticeFields& notice) {
  if (domain_ == nullptr) return;
  const std::string_view payload = notice.message;
  if (notice.detail != "on") transaction_.carry(payload);
  if (notice.detail == "carry") server_->found_carrying();
  std::vector<uint64_t> tags;
  const query::Catalog* catalog = worker_.catalog(*domain_);
  const uint64_t generation = catalog != nullptr ? catalog->generation() : 0;
  if (transaction_.held_open() == 0) {
    opened_under_ = generation;
  } else if (opened_under_ != generation) {
    opened_under_ = kSeveralCatalogs;
  }
  if (const auto event = freshness::parse_event(payload)) {
    if (catalog != nullptr) {
      freshness::append_event_tags(*event, catalog->root_of(event->relation), tags,
                                   catalog->key_columns_of(event->relation));
    } else {
      tags.push_back(freshness::schema_tag());
    }
  } else {
    worker_.counters().add(Counter::kNoticesBroken);
    tags.push_back(freshness::schema_tag());
  }
  for (const uint64_t tag : tags) open_slot(domain_->tokens().slot_of(tag));
}

// Before anybody hears of a commit: which tags a notice means the catalog of its time has told.
// With other key columns since (pgfresh.watch() asks for no lock that would wait for the writer),
// answers rest on tags that are not open.
void Session::keep_open_what_is_meant_now() {
  if (domain_ == nullptr || transaction_.held_open() == 0) return;
  if (domain_->catalog_generation() == opened_under_) return;
  open_slot(domain_->tokens().slot_of(freshness::schema_tag()));
}

void Session::open_slot(uint32_t slot) {
  // One that writes everywhere opens everything.
  if (transaction_.held_open() >= kOpenSlotsMax) {
    slot = domain_->tokens().slot_of(freshness::schema_tag());
  }
  if (transaction_.hold_open(slot)) domain_->tokens().open(slot);
}

}  // namespace pgfresh::proxy
