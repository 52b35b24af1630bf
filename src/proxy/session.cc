#include "proxy/session.h"

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"

namespace pgfresh::proxy {
namespace {

// A BEGIN that was answered here is sent when the client has been silent for so long.
constexpr int64_t kDeferredNsMax = 1000 * kNsPerMs;
// A cancel request waits so long for what is ours to end by itself.
constexpr int64_t kCancelKeptNsMax = 1000 * kNsPerMs;

}  // namespace

Session::Session(Worker& worker, uint64_t id, std::unique_ptr<Stream> stream)
    : worker_(worker),
      id_(id),
      client_(std::move(stream)),
      client_framer_(wire::Side::kFrontend, worker.settings().message_bytes_max),
      connected_ns_(worker.now_ns()),
      active_ns_(connected_ns_) {}

Session::~Session() {
  leave();
  if (cancel_key_.pid != 0) worker_.shared().cancels.remove(cancel_key_);
}

void Session::start() { client_->start(&client_side_); }

SessionInfo Session::info() const {
  SessionInfo info;
  info.id = id_;
  info.user = startup_.get("user");
  info.database = startup_.get("database");
  if (info.database.empty()) info.database = info.user;
  info.application = startup_.get("application_name");
  info.peer = client_ ? client_->peer() : std::string();
  info.connected_ns = connected_ns_;
  info.active_ns = active_ns_;
  info.hits = hits_;
  info.queries = queries_;
  info.scope = scope_.last_known();
  if (server_) {
    info.has_server = true;
    info.server_pid = server_->key.pid;
    info.server_peer = server_->stream().peer();
    info.server_encrypted = server_->stream().encrypted();
  }
  if (state_ != State::kReady) {
    info.state = state_ == State::kRaw ? "replication" : "login";
  } else if (block_ == Block::kFlight || block_ == Block::kRemote) {
    info.state = "waiting";
  } else if (server_ && !server_->replies().empty()) {
    info.state = "active";
  } else {
    info.state = transaction_.status() == 'I' ? "idle" : "idle in transaction";
  }
  return info;
}

// ── Input ────────────────────────────────────────────────────────────────────────────────────────

void Session::on_client_bytes(std::string_view bytes) {
  worker_.counters().add(Counter::kBytesFromClients, bytes.size());
  active_ns_ = worker_.now_ns();
  if (state_ == State::kClosing || state_ == State::kClosed) return;
  if (input_.empty() && !blocked()) {
    take_input(bytes);
  } else {
    input_.append(bytes);
    if (!blocked()) resume_input();
  }
  flush();
}

// Takes messages until the input is used up or something blocks; what is left is kept.
void Session::take_input(std::string_view bytes) {
  PGFRESH_CHECK(!taking_input_);
  if (state_ == State::kStartup) {
    take_startup(bytes);
    return;
  }
  if (state_ == State::kRaw) {
    server_->outbox().add(bytes);
    server_->flush();
    return;
  }
  if (state_ == State::kConnecting) {
    input_.append(bytes);
    return;
  }
  taking_input_ = true;
  const std::string_view all = bytes;
  wire::Frame frame;
  while (!blocked() && !said_goodbye_ && state_ != State::kClosed && state_ != State::kClosing) {
    if (waits_for_statements(bytes)) {
      block(Block::kStatements);
      break;
    }
    if (waits_for_login(bytes)) {
      block(Block::kLogin);
      break;
    }
    const wire::Cut cut = client_framer_.next(bytes, frame);
    if (cut == wire::Cut::kNeedMore) break;
    if (cut == wire::Cut::kBroken) {
      worker_.counters().add(Counter::kProtocolErrors);
      end("08P01", client_framer_.error());
      break;
    }
    ahead_ = bytes;
    take_client_frame(frame);
    if (block_ != Block::kRemote) forget_remote();
    const bool lies_in_input =
        frame.bytes.data() >= all.data() && frame.bytes.data() < all.data() + all.size();
    if (!lies_in_input) {
      // The framer gives its buffer to the next message: nothing may point there any more.
      keep_held_bytes();
      flush();
    } else if (client_out_.size() > limits::kQueueHighBytes) {
      flush();  // a thousand hits may lie in one read: a client that takes none waits for the rest
    }
  }
  taking_input_ = false;
  ahead_ = {};
  if (state_ == State::kClosed || state_ == State::kClosing) return;
  keep_held_bytes();
  flush();
  if (said_goodbye_) {
    pass_on_end();
    return;  // PostgreSQL reads nothing behind it
  }
  // A message that must come again was put into input_; what follows it goes behind.
  input_.append(bytes);
}

void Session::resume_input() {
  while (!input_.empty() && !blocked() && !taking_input_) {
    const std::string bytes = std::exchange(input_, {});
    take_input(bytes);
    if (state_ != State::kReady && state_ != State::kLogin) return;
  }
}

void Session::block(Block why) {
  PGFRESH_CHECK(block_ == Block::kNone);
  block_ = why;
  client_->pause();
}

void Session::unblock(Block why) {
  if (block_ != why) return;
  block_ = Block::kNone;
  if (state_ == State::kClosed || state_ == State::kClosing) return;
  client_->resume();
  resume_input();
  flush();
  pass_on_end();
}

// ── Output ───────────────────────────────────────────────────────────────────────────────────────

void Session::flush() {
  if (state_ == State::kClosed) return;
  tell_whether_we_wait();
  if (hearing_) {  // nobody is there to read
    client_out_.drop();
    if (!server_->outbox().empty()) server_->flush();
    return;
  }
  if (server_ && !server_->outbox().empty()) server_->flush();
  if (!client_out_.empty()) {
    worker_.counters().add(Counter::kBytesToClients, client_out_.flush(*client_));
  }
  if (server_) worker_.counters().add(Counter::kBytesToServers, server_->take_bytes_written());
  if (client_->queued_bytes() > limits::kQueueHighBytes) {
    if (server_ && !reads_on()) server_->stream().pause();
    if (block_ == Block::kNone) block(Block::kQueue);
  }
  if (server_ && block_ == Block::kNone &&
      (server_->stream().queued_bytes() > limits::kQueueHighBytes || server_->replies().full())) {
    block(Block::kQueue);
  }
}

// A client that does not read must not keep us from hearing that something was committed which we
// have to publish. What PostgreSQL sends in front of that is kept, up to a bound; beyond it we
// cannot vouch for what we have not heard.
bool Session::reads_on() {
  if (!carrying_ || !transaction_.outcome_unheard()) return false;
  if (client_->queued_bytes() <= limits::kUnheardBytesMax) return true;
  if (!std::exchange(disavowed_, true)) domain_->settler().unheard();
  return false;
}

void Session::on_client_drained() {
  if (server_) server_->stream().resume();
  unblock_queue();
}

void Session::on_server_drained() { unblock_queue(); }

// Takes client messages again once both queues, and what PostgreSQL owes, have room.
void Session::unblock_queue() {
  if (block_ != Block::kQueue || !server_ || server_->replies().full() ||
      client_->queued_bytes() > limits::kQueueHighBytes ||
      server_->stream().queued_bytes() > limits::kQueueHighBytes) {
    return;
  }
  unblock(Block::kQueue);
}

// Whether a segment may not begin yet: see server_link.h. What belongs to a COPY is let through,
// for PostgreSQL waits for it, and so is Terminate. A Query and a Parse of the unnamed statement do
// not care for the old one.
bool Session::waits_for_statements(std::string_view next) const {
  if (!server_ || server_->segment_open() || server_->replies().copying_in() ||
      !client_framer_.at_boundary() || next.starts_with('X')) {
    return false;
  }
  if (server_->unsure()) return true;
  const bool begins_anew =
      next.starts_with('Q') || (next.starts_with('P') && next.size() > wire::kHeaderBytes &&
                                next[wire::kHeaderBytes] == '\0');
  return !next.empty() && !begins_anew && server_->unsure_of_unnamed();
}

void Session::send_to_client(std::string_view bytes) {
  flush();
  const Slice slice{bytes, nullptr};
  client_->write({&slice, 1});
  worker_.counters().add(Counter::kBytesToClients, bytes.size());
}

// ── The end ──────────────────────────────────────────────────────────────────────────────────────

// As PostgreSQL does, what came before the end is carried out and answered. Then PostgreSQL is told
// in the same way, and what it makes of it ends the session. Until then the client keeps its place:
// one that is there and takes no answer stays, though PostgreSQL has gone. Where nothing is owed to
// anybody it is the end of all, and no middlebox that loses half an end can keep the two apart.
bool Session::on_client_half_close() {
  if (state_ != State::kReady || hearing_ || !server_) return false;
  client_->flush();
  const bool owed = blocked() || !held_.empty() || !server_->at_rest() ||
                    transaction_.server_status() != 'I' || client_->queued_bytes() != 0;
  if (!owed) return false;
  client_closed_sending_ = true;
  pass_on_end();
  return true;
}

// Terminate: the same end, told in words.
void Session::on_goodbye() {
  if (held_.empty() && server_->at_rest()) {
    close("client said goodbye");
    return;
  }
  said_goodbye_ = true;
}

void Session::pass_on_end() {
  if (!client_said_all() || blocked() || state_ != State::kReady) return;
  if (!std::exchange(end_passed_on_, true)) {
    forward_held();
    if (said_goodbye_) server_->inject_terminate();
    flush();
  }
  if (client_closed_sending_) server_->stream().close_sending();
}

void Session::on_client_end(std::string_view why) {
  if (state_ == State::kClosed) return;
  if (state_ == State::kStartup || state_ == State::kConnecting || state_ == State::kLogin) {
    worker_.counters().add(Counter::kLoginsFailed);
  }
  client_gone_ = true;
  close(why);
  if (!hearing_) destroy_later();
}

void Session::on_server_end(std::string_view why) {
  if (state_ == State::kClosed || !server_) return;
  if (!end_passed_on_) worker_.counters().add(Counter::kServersFailed);
  server_gone_ = true;
  if (hearing_) {
    stop_hearing();
    return;
  }
  if (state_ == State::kLogin) {
    // PostgreSQL has said why, or it has not; either way libpq expects the connection to end.
    worker_.counters().add(Counter::kLoginsFailed);
  }
  // Words of our own only where PostgreSQL found none, and never in the middle of a message.
  std::string message;
  if (state_ == State::kReady && !server_said_last_ && !end_passed_on_ &&
      server_->framer().at_boundary()) {
    wire::write_error(message, wire::Severity::kFatal, "08006",
                      "server closed the connection unexpectedly");
  }
  close(why, message);
}

void Session::end(std::string_view sqlstate, std::string_view text) {
  if (hearing_) {
    stop_hearing();
    return;
  }
  // In the middle of a message the client would take it for the rest of a row.
  std::string message;
  const bool in_message = state_ == State::kRaw || (server_ && server_->framer().in_parts());
  if (!in_message) wire::write_error(message, wire::Severity::kFatal, sqlstate, text);
  close(text, message);
}

bool Session::end_if_idle() {
  const bool idle = (state_ == State::kReady && block_ == Block::kNone && held_.empty() &&
                     transaction_.status() == 'I' && server_ && server_->at_rest() &&
                     client_framer_.at_boundary()) ||
                    state_ == State::kStartup || state_ == State::kConnecting ||
                    state_ == State::kLogin;
  if (idle) end("57P01", "terminating connection due to administrator command");
  return idle;
}

// From here on it takes no place among limits.clients, however long the client takes to hang up.
void Session::leave() {
  if (std::exchange(left_, true)) return;
  worker_.shared().clients.fetch_sub(1, std::memory_order_relaxed);
}

// Lets go of the server and sends the last words; the session goes when the client has gone.
void Session::close(std::string_view why, std::string_view last_bytes) {
  if (state_ == State::kClosed || state_ == State::kClosing) return;
  // Bytes of ours in the middle of what the client has not sent whole would complete it.
  if (state_ == State::kRaw || client_framer_.in_parts()) server_in_message_ = true;
  if (state_ != State::kRaw) flush();
  if (worker_.shared().log.enabled(LogLevel::kDebug)) {
    worker_.shared().log.event(LogLevel::kDebug, "session_ended",
                               {{"session", std::to_string(id_)}, {"why", std::string(why)}});
  }
  state_ = State::kClosing;
  leave();
  drop_fetch(Reason::kNotQuiet);
  pass_on_cancel();
  wait_.reset();
  wait_timer_.reset();
  forget_remote();
  connecting_.reset();
  hearing_ = must_hear();
  if (hearing_) {
    if (!std::exchange(end_passed_on_, true)) server_->inject_terminate();
    // PostgreSQL may look for that while it is busy (client_connection_check_interval).
    if (client_gone_) server_->stream().close_sending();
    server_->stream().resume();
  } else {
    release_server();
  }
  if (!last_bytes.empty()) {
    const Slice slice{last_bytes, nullptr};
    client_->write({&slice, 1});
    worker_.counters().add(Counter::kBytesToClients, last_bytes.size());
  }
  client_->resume();
  client_->finish();
}

// PostgreSQL finishes what it was sent, whether or not the client has gone meanwhile, as long as
// somebody takes what it says; and what that leaves to be published we learn only by listening.
// (What we end ourselves is heard out for the second alone. Where PostgreSQL waits for more to be
// sent there is no telling when it would end.)
bool Session::must_hear() const {
  return server_ && !server_gone_ && (client_gone_ || carrying_) &&
         transaction_.outcome_unheard() && !client_framer_.in_parts() && !server_->segment_open() &&
         !server_->replies().copying_in();
}

void Session::hear() {
  flush();
  if (!transaction_.outcome_unheard()) stop_hearing();
}

void Session::stop_hearing() {
  if (!std::exchange(hearing_, false)) return;
  release_server();
  if (client_gone_) destroy_later();
}

// The server connection goes with the session (session pooling). Slots its transaction holds open
// wait until PostgreSQL's backend is gone: only then is the outcome certain. What it may have
// written without our hearing of it no slot stands for.
void Session::release_server() {
  if (!server_) return;
  const bool unheard = carrying_ && transaction_.outcome_unheard();
  Transaction::Ended ended = transaction_.take_ended();
  if (domain_ != nullptr) {
    domain_->remove_backend(server_->key.pid, backend_of_);
    if (unheard) domain_->settler().unheard();
    if (ended.ddl) ended.writes.events.add({});  // everything, should it be committed
    if (!ended.writes.empty()) domain_->settler().lost(server_->key.pid, std::move(ended.writes));
  }
  word_came();
  stop_carrying();
  if (!server_in_message_ && !end_passed_on_) server_->inject_terminate();
  // Its events may be on the stack, and bytes of the client may still wait to be sent.
  worker_.see_off(std::move(server_));
}

void Session::destroy_later() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  worker_.remove(id_);
}

void Session::settle(Transaction::Ended ended) {
  word_came();  // of this one; of what is still in flight we are told at the end of the turn
  if (!ended.writes.empty()) {
    PGFRESH_CHECK(domain_ != nullptr);
    if (!ended.writes.events.empty()) worker_.counters().add(Counter::kCarried);
    if (ended.ddl) {
      domain_->settler().ddl_ended(std::move(ended.writes));
    } else {
      domain_->settler().ended(std::move(ended.writes));
    }
  }
  if (transaction_.server_status() == 'I' && server_->at_rest()) stop_carrying();
}

// A message that has not come whole is not carried out yet. (One that has not been sent on in parts
// is not there at all.)
void Session::tell_whether_we_wait() {
  const bool waits = carrying_ && server_ && transaction_.outcome_unheard() &&
                     (!client_framer_.in_parts() || server_->replies().size() > 1);
  if (!waits) {
    word_came();
    return;
  }
  const uint64_t last = server_->replies().last_sequence();
  if (waits_ != 0 && last == waits_for_) return;
  waits_for_ = last;
  const int64_t now_ns = worker_.loop().clock().now_ns();
  const bool goes_on = transaction_.text_goes_on() ||
                       server_->replies().goes_on_behind(transaction_.first_commit(),
                                                         transaction_.server_status() == 'I');
  if (waits_ == 0) {
    waits_ = domain_->wait_for_word(server_->key.pid, now_ns, goes_on);
  } else {
    domain_->sent_more(waits_, now_ns, goes_on);
  }
}

void Session::word_came() {
  if (const uint64_t ticket = std::exchange(waits_, 0)) domain_->word_came(ticket);
}

void Session::stop_carrying() {
  if (std::exchange(carrying_, false)) domain_->end_carrying();
}

void Session::check_time(int64_t now_ns) {
  const Settings& settings = worker_.settings();
  const bool logging_in =
      state_ == State::kStartup || state_ == State::kConnecting || state_ == State::kLogin;
  if (logging_in && settings.login_ms_max > 0 &&
      now_ns - connected_ns_ > settings.login_ms_max * kNsPerMs) {
    worker_.counters().add(Counter::kLoginsFailed);
    end("08P01", "login took longer than limits.login_time");
    return;
  }
  cancel_what_is_ours(now_ns);
  // PostgreSQL is told of a block that stays open: it shows it, and may end it
  // (idle_in_transaction_session_timeout).
  if (state_ == State::kReady && server_ && transaction_.deferred() && block_ == Block::kNone &&
      held_.empty() && !client_said_all() && now_ns - active_ns_ > kDeferredNsMax) {
    before_forward();
    flush();
  }
  if (state_ == State::kReady && settings.idle_ms_max > 0 && server_ &&
      server_->replies().empty() && block_ == Block::kNone &&
      now_ns - std::max(active_ns_, idle_from_ns_) > settings.idle_ms_max * kNsPerMs) {
    end("57P05", "terminating connection due to idle-session timeout (limits.idle_time)");
  }
}

// PostgreSQL is busy with what we want to know, or have sent in front of the client's message, and
// says when that is done. (Of a Parse or Bind of ours it may not, until the client's is done too. A
// check waits for locks as the client's statement would, and its error is the client's.)
bool Session::asks_for_itself() const {
  if (state_ != State::kReady || !server_ || server_->replies().empty()) return false;
  const ReplyItem& item = server_->replies().front();
  return item.purpose == Purpose::kProbe ||
         (item.purpose != Purpose::kClient && item.asked == Asked::kQuery);
}

bool Session::keep_cancel(std::function<void()>& done) {
  if (!asks_for_itself()) return false;
  if (kept_cancel_ == nullptr) cancel_kept_ns_ = worker_.now_ns();
  if (const auto before = std::exchange(kept_cancel_, std::move(done))) before();
  return true;
}

// What reads system catalogs waits for locks on them as long as somebody holds these. It is ended
// then, and the request made once more: for the client's statement, which comes behind it. If ours
// has ended by itself meanwhile, the client's is what was ended; one that has heard so, and asked
// for more, does not want this to be ended, too. (Without its BEGIN the client's block is lost.)
void Session::cancel_what_is_ours(int64_t now_ns) {
  if (kept_cancel_ == nullptr || now_ns - cancel_kept_ns_ < kCancelKeptNsMax ||
      !asks_for_itself() || server_->replies().front().purpose == Purpose::kSetup) {
    return;
  }
  worker_.send_cancel(server_->key, [&worker = worker_, id = id_, kept_ns = cancel_kept_ns_,
                                     done = std::exchange(kept_cancel_, nullptr)] {
    const Session* session = worker.find(id);
    if (session != nullptr && session->active_ns_ <= kept_ns) {
      worker.cancel(id, done);
    } else {
      done();
    }
  });
}

void Session::pass_on_cancel() {
  if (kept_cancel_ == nullptr || asks_for_itself()) return;
  worker_.cancel(id_, std::exchange(kept_cancel_, nullptr));
}

std::optional<wire::BackendKey> Session::cancel_target() {
  if (!server_ || state_ != State::kReady) return std::nullopt;
  // It goes to PostgreSQL alone, to be cancelled there.
  if (block_ == Block::kFlight) flight_ended();
  if (block_ == Block::kRemote) remote_ended();
  if (server_->replies().empty()) return std::nullopt;
  return server_->key;
}

}  // namespace pgfresh::proxy
