// One client's session: the state machine between its stream and the server connection it borrows.
//
// Bytes come in through two streams and go out through two outboxes, written once per event. Each
// client message is either answered here (a hit, a deferred BEGIN, what pgfresh is asked about
// itself) or forwarded; the reply queue of the server link says to whom each answer belongs. A hit
// is only given when nothing sent to PostgreSQL is unanswered, so answers never overtake.
//
// Extended-protocol messages are *held* until an Execute shows whether the answer is at hand, or
// until a Sync, a Flush or a lack of room forces them on; held messages lie in the read buffer and
// are copied only when the read ends before the decision.
//
// The code is in files by what moves it: session.cc (life and death, input, output),
// session_login.cc, session_client.cc (messages of the client; the simple protocol),
// session_extended.cc (the extended one), session_forward.cc (sending on), session_server.cc
// (messages of PostgreSQL), session_cache.cc (may this be answered here?), session_remote.cc (the
// second level), session_scope.cc (the session's settings).
//
// Invariants
//  - held_ is empty whenever something has been forwarded behind it.
//  - a deferred BEGIN exists only while no segment is open on the link; forwarding sends it first.
//  - while input is blocked, unread client bytes wait in input_ and the client stream is paused.
//  - slots opened for this session are handed to the settler exactly once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pgfresh/stream.h"
#include "proxy/fetch.h"
#include "proxy/outbox.h"
#include "proxy/prepared.h"
#include "proxy/remote_lookup.h"
#include "proxy/scope.h"
#include "proxy/server_link.h"
#include "proxy/transaction.h"
#include "proxy/worker.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::proxy {

class Session {
 public:
  Session(Worker& worker, uint64_t id, std::unique_ptr<Stream> stream);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start();
  [[nodiscard]] uint64_t id() const { return id_; }
  [[nodiscard]] SessionInfo info() const;

  // Ends the session with a FATAL error of this code and text.
  void end(std::string_view sqlstate, std::string_view text);
  // The daemon stops: end if idle outside a transaction. True when the session has ended.
  bool end_if_idle();
  // Nothing is left to be sent, the farewell included; only the client's own end is waited for.
  [[nodiscard]] bool has_said_all() const {
    return state_ == State::kClosing && !hearing_ && client_->queued_bytes() == 0;
  }
  // Lets go of PostgreSQL, whatever it may still have to say to a session that has ended.
  void stop_hearing();
  // Called once a second.
  void check_time(int64_t now_ns);
  // The fetch this session waits for has ended.
  void flight_ended();
  // PostgreSQL's key to cancel what this session is waiting for; nothing when it waits for nothing.
  [[nodiscard]] std::optional<wire::BackendKey> cancel_target();
  // A cancel request that would meet what we ask PostgreSQL ourselves is kept until the client's
  // own message is there, and is then passed on with `done`. False when it need not wait.
  [[nodiscard]] bool keep_cancel(std::function<void()>& done);

 private:
  enum class State : uint8_t {
    kStartup,     // reading startup packets
    kConnecting,  // waiting for the server connection
    kLogin,       // relaying authentication
    kReady,       // serving
    kRaw,         // a stream of replication: bytes pass unread for good
    kClosing,     // the last bytes are on their way to the client
    kClosed,      // waiting to be destroyed
  };
  // Why no client message is taken now.
  enum class Block : uint8_t {
    kNone,
    kLogin,
    kProbe,
    kCheck,
    kFlight,
    kRemote,
    kQueue,
    kStatements
  };

  class ClientSide final : public Stream::Events {
   public:
    explicit ClientSide(Session& session) : session_(session) {}
    void on_bytes(std::string_view bytes) override { session_.on_client_bytes(bytes); }
    void on_drained() override { session_.on_client_drained(); }
    bool on_half_close() override { return session_.on_client_half_close(); }
    void on_end(std::string_view why) override { session_.on_client_end(why); }

   private:
    Session& session_;
  };
  class ServerSide final : public Stream::Events {
   public:
    explicit ServerSide(Session& session) : session_(session) {}
    void on_bytes(std::string_view bytes) override { session_.on_server_bytes(bytes); }
    void on_drained() override { session_.on_server_drained(); }
    void on_end(std::string_view why) override { session_.on_server_end(why); }

   private:
    Session& session_;
  };

  // A message held back, in held_'s order.
  struct Held {
    char type = 0;                          // 'P', 'B', 'D'
    std::string_view raw = {};              // the whole message
    PreparedRef prepared = nullptr;         // 'P': the one it defines; 'B', 'D': its target
    PreparedRef before = nullptr;           // 'P': what stood under its name
    bool of_portal = false;                 // 'D': of the unnamed portal, not of a statement
    cache::EntryRef description = nullptr;  // 'D' of a statement: found; shown if the rows are, too
  };
  // The unnamed portal was answered here and has no more rows.
  struct DonePortal {
    cache::EntryRef entry;
    // What makes it at PostgreSQL; nothing where it ends at once.
    PreparedRef statement;
    std::string bind;
  };
  // What the cache says to a SELECT.
  enum class Answer : uint8_t {
    kHit,      // hit_ is set
    kForward,  // send it on; fetch_ is set when the answer is to be recorded
    kWait,     // input is blocked; the same message comes again
  };
  // What is asked for.
  enum class Wanted : uint8_t {
    kRows,           // an Execute behind a Bind
    kDescribedRows,  // the same, RowDescription included; a simple Query
    kDescription,    // Describe of a statement
    kAcceptance,     // whether PostgreSQL would take the statement at all: Parse alone
  };
  struct Question {
    MemoText& text;
    Wanted wanted = Wanted::kDescribedRows;
    PreparedStatement* prepared = nullptr;    // null: simple Query
    const wire::BindMessage* bind = nullptr;  // null: simple Query, kDescription
    uint32_t max_rows = 0;                    // of Execute; 0: all
    uint64_t found_shape = 0;  // kRows, kDescribedRows: of the description that goes with them
  };
  struct LastVerdict {
    std::string_view verdict = "none";  // "hit", "miss", "bypass", "none"
    Reason reason = Reason::kNone;
    int64_t age_ms = 0;
    std::string_view tier = "";
    uint64_t query_id = 0;
    std::string detail = {};  // what object the reason is about
  };

  // session.cc
  void on_client_bytes(std::string_view bytes);
  void on_client_drained();
  [[nodiscard]] bool on_client_half_close();
  void on_goodbye();
  [[nodiscard]] bool client_said_all() const { return said_goodbye_ || client_closed_sending_; }
  void pass_on_end();
  void on_client_end(std::string_view why);
  void on_server_drained();
  void on_server_end(std::string_view why);
  void take_input(std::string_view bytes);
  void resume_input();
  void block(Block why);
  void unblock(Block why);
  [[nodiscard]] bool blocked() const { return block_ != Block::kNone; }
  void flush();
  void send_to_client(std::string_view bytes);
  void unblock_queue();
  [[nodiscard]] bool waits_for_statements(std::string_view next) const;
  void close(std::string_view why, std::string_view last_bytes = {});
  [[nodiscard]] bool reads_on();
  [[nodiscard]] bool must_hear() const;
  void hear();
  void release_server();
  void destroy_later();
  void leave();
  void settle(Transaction::Ended ended);
  void stop_carrying();
  void tell_whether_we_wait();
  void word_came();
  [[nodiscard]] bool asks_for_itself() const;
  void pass_on_cancel();
  void cancel_what_is_ours(int64_t now_ns);

  // session_login.cc
  void take_startup(std::string_view bytes);
  void begin_session(wire::StartupMessage startup);
  void server_connected(std::unique_ptr<Stream> stream, const std::string& error);
  void take_login_reply(const wire::Frame& frame);
  void take_authentication(const wire::Frame& frame);
  [[nodiscard]] bool waits_for_login(std::string_view next) const;
  void take_login_message(const wire::Frame& frame);
  [[nodiscard]] std::string database_name() const;
  void login_done();

  // session_client.cc, session_extended.cc, session_forward.cc
  void take_client_frame(const wire::Frame& frame);
  void count_query();
  [[nodiscard]] bool ends_portal_now() const;
  void take_part(const wire::Frame& frame);
  uint64_t begin_part(Asked asked);
  void forget_names(uint64_t sequence);
  void take_query(const wire::Frame& frame);
  void take_parse(const wire::Frame& frame);
  void take_bind(const wire::Frame& frame);
  void take_describe(const wire::Frame& frame);
  void take_execute(const wire::Frame& frame);
  void take_close(const wire::Frame& frame);
  void take_sync(const wire::Frame& frame);
  void take_flush(const wire::Frame& frame);
  void forward_query(const wire::Frame& frame, MemoText* text);
  void forward_blind(const wire::Frame& frame, Asked asked);
  void forward_execute(const wire::Frame& frame, MemoText* text, const PreparedRef& bound = nullptr,
                       const wire::BindMessage* bind = nullptr);
  void forward_held();
  void forward_one(const Held& held);
  // `text`: of the statement that is, or may be, begun by what is sent now; null: not known.
  void before_forward(MemoText* text = nullptr);
  void choose_inband(MemoText* text);
  [[nodiscard]] bool would_carry(const MemoText* text) const;
  void ensure_on_server(const PreparedRef& prepared, std::string_view name);
  void parse_on_server(const PreparedRef& prepared, Purpose purpose);
  void use_on_server(const PreparedRef& prepared, std::string_view name);
  [[nodiscard]] bool is_at_home(const PreparedStatement& prepared) const;
  void compare_meaning(PreparedStatement& prepared, const query::Verdict& verdict);
  void note_analysed(PreparedStatement& prepared) const;
  [[nodiscard]] bool is_due_anew(const PreparedStatement& prepared);
  void note_catalog(PreparedStatement& prepared);
  void note_parsed(PreparedStatement& prepared);
  void note_use(PreparedStatement& prepared) const;
  bool parsed_under(PreparedStatement& prepared, const Scope& scope, uint64_t epoch) const;
  [[nodiscard]] bool is_undisturbed(const PreparedStatement& prepared, uint64_t epoch) const;
  [[nodiscard]] bool concerns_prepared(MemoText& text);
  void materialize_before(MemoText& text);
  void materialize_accepted();
  void note_accepted(const PreparedRef& prepared);
  void materialize_portal();
  void materialize_prepared(const MemoText* text);
  [[nodiscard]] bool may_not_parse(const PreparedStatement& prepared);
  void stand_in(const PreparedRef& prepared, Purpose purpose);
  void materialize_all();
  void note_sent(MemoText* text, uint64_t sequence, const PreparedRef& bound = nullptr,
                 const wire::BindMessage* bind = nullptr);
  void note_scope(PreparedStatement& prepared);
  void note_settings(PreparedStatement& prepared) const;
  void note_effect(query::Effect effect, uint64_t sequence);
  void note_settings_change(uint64_t sequence);
  [[nodiscard]] bool needs_check(const PreparedRef& prepared);
  [[nodiscard]] bool is_outdated_still(const PreparedStatement& prepared) const;
  [[nodiscard]] bool holds_parse() const;
  [[nodiscard]] bool check_first(const PreparedRef& prepared, const wire::Frame& frame);
  [[nodiscard]] bool check_held(const wire::Frame& frame);
  void check_part(const wire::Frame& frame);
  void note_inband(const MemoText& text);
  void note_deallocation(const MemoText& text);
  [[nodiscard]] bool may_answer_here() const;
  [[nodiscard]] bool may_hold(const MemoText& text, const wire::Frame& frame) const;
  void keep_held_bytes();
  bool answer_control(const wire::Frame& frame, MemoText& text, bool extended);
  void reply_held(std::string_view row_description, const cache::EntryRef& entry);
  void reply_command(std::string_view tag, bool extended);
  static void append_last_description(std::string& out);
  void reply_show_last(bool extended);
  void reply_rows(std::string_view description, std::string_view rows, bool extended);
  void reply_ready();
  void show_life();
  void end_unnamed();
  [[nodiscard]] bool answer_statement(const wire::Frame& frame);
  [[nodiscard]] const Held* held_statement() const;
  [[nodiscard]] const Held* held_bind() const;
  [[nodiscard]] const Held* held_portal_description() const;
  [[nodiscard]] Answer find_descriptions();
  [[nodiscard]] uint64_t found_shape(const PreparedRef& prepared) const;

  // session_server.cc
  void on_server_bytes(std::string_view bytes);
  void take_server_frame(const wire::Frame& frame);
  void take_reply(const wire::Frame& frame);
  void take_error(const wire::Frame& frame);
  void keep_own_error(const wire::Frame& frame);
  [[nodiscard]] bool tell_own_error(const wire::Frame& frame);
  void undo(const ReplyItem& item, bool failed);
  void stands_again(std::string_view name, uint64_t held);
  void stands_again(std::string_view name, const PreparedRef& instead, const PreparedRef& before);
  void take_uncounted(const wire::Frame& frame);
  void note_last_words(const wire::Frame& frame);
  void take_ready(const wire::Frame& frame);
  void take_command_complete(const wire::Frame& frame);
  void block_ended_here(bool committed);
  void keep_unmarked_open();
  void take_notice(const wire::Frame& frame);
  void take_notice_part(const wire::Frame& frame);
  void take_check_reply(const wire::Frame& frame);
  void take_row_description(const wire::Frame& frame, const ReplyItem& item);
  void take_event(const wire::NoticeFields& notice);
  void open_slot(uint32_t slot);
  void keep_open_what_is_meant_now();
  void forward_to_client(const wire::Frame& frame);

  // session_cache.cc
  [[nodiscard]] Answer ask_cache(const Question& question);
  [[nodiscard]] Reason standing_reason(const query::Statement& statement, int64_t now_ns) const;
  [[nodiscard]] const Resolution* resolve(MemoText& text);
  [[nodiscard]] query::Effect effect_of(MemoText& text);
  [[nodiscard]] cache::Key make_key(const Question& question, const Resolution& resolution);
  [[nodiscard]] Answer look_up(const Question& question, const Scope& scope,
                               const Resolution& resolution, int64_t asked_ns);
  [[nodiscard]] Answer start_fetch(const Question& question, const Scope& scope,
                                   const Resolution& resolution, const cache::Key& key,
                                   int64_t asked_ns);
  [[nodiscard]] cache::Flights::Part join_flight(Fetch& fetch);
  [[nodiscard]] Answer wait_for_flight();
  [[nodiscard]] static bool young_enough(const cache::Entry& entry, const Scope& scope,
                                         int64_t now_ns, int64_t hint_ttl_ms);
  [[nodiscard]] Reason session_reason(const Question& question, const Scope& scope, uint64_t epoch);
  [[nodiscard]] bool caching() const;
  void note_miss(MemoText& text, int64_t now_ns);
  void bypass(MemoText& text, Reason reason);
  void explain_bypass(MemoText& text, const query::Verdict& verdict);
  void time_answer(uint64_t sequence);
  void note_answered(uint64_t sequence);
  void refuse(const Question& question, Reason reason);
  QueryStat& stat_of(MemoText& text) {
    return worker_.query_stats().of(text.stat(), text.statement(), domain_);
  }
  [[nodiscard]] static bool is_for_rows(const Question& question);
  void serve_simple();
  void serve_extended();
  void serve_description();
  void note_hit(const cache::Entry& entry);
  [[nodiscard]] bool records(uint64_t sequence) const;
  void record(const wire::Frame& frame, uint64_t sequence);
  void finish_fetch();
  void drop_fetch(Reason reason);
  void count_dropped_fill(Reason reason);

  // session_remote.cc
  [[nodiscard]] bool ask_remote(const Question& question, const Scope& scope, FetchRef& fetch);
  void remote_answered(RemoteLookup::End end, const RemoteEntry* entry);
  [[nodiscard]] bool promote(const RemoteEntry& entry);
  void remote_ended();
  void forget_remote();
  void choose_put(const Question& question, const Scope& scope, Fetch& fetch);
  void put_remote(const cache::Entry& entry, const Fetch& fetch);

  // session_scope.cc
  struct FollowedChange {
    std::string name;
    std::string value;
    bool local = false;
  };
  struct Following {
    ScopeRef now;  // null: nothing that matters has changed
    ScopeRef after_commit;
    std::vector<FollowedChange> changes;
  };
  [[nodiscard]] bool wants_probe();
  void send_probe();
  void take_probe_reply(const wire::Frame& frame);
  void take_probe_row();
  void note_startup_settings();
  void note_time_limits(const MemoText& text, std::string_view oids, const wire::BindMessage* bind);
  void set_statement_timeout(std::optional<int64_t> ms);
  [[nodiscard]] std::optional<std::vector<FollowedChange>> understood_changes(
      const query::Statement& statement, const query::Catalog& catalog, std::string_view oids,
      const wire::BindMessage* bind);
  [[nodiscard]] std::optional<Following> following(const query::Statement& statement,
                                                   std::string_view oids,
                                                   const wire::BindMessage* bind);
  [[nodiscard]] bool answer_setting(const query::Statement& statement, bool extended);
  void reply_setting(const query::Statement& statement, const std::vector<FollowedChange>& changes,
                     bool extended);
  [[nodiscard]] bool follow_settings(const query::Statement& statement, std::string_view oids,
                                     const wire::BindMessage* bind, uint64_t sequence);

  // Constant after construction.
  Worker& worker_;
  const uint64_t id_;
  ClientSide client_side_{*this};
  ServerSide server_side_{*this};

  State state_ = State::kStartup;
  Block block_ = Block::kNone;
  bool taking_input_ = false;
  bool left_ = false;
  bool replication_ = false;  // never cached, for PostgreSQL takes no probe; what it writes is seen
  bool physical_ = false;     // of replication: takes no SQL
  uint8_t encryption_requests_ = 0;

  std::unique_ptr<Stream> client_;
  wire::Framer client_framer_;
  Outbox client_out_;
  std::string input_;       // client bytes not yet taken
  std::string_view ahead_;  // while a message is taken: what was read behind it

  std::unique_ptr<PendingConnect> connecting_;
  std::unique_ptr<ServerLink> server_;
  wire::StartupMessage startup_;
  wire::BackendKey cancel_key_;
  freshness::Domain* domain_ = nullptr;  // null: this session is not cached
  // Which PostgreSQL server_ leads to, as Domain::server_started(); 0: it has not been asked.
  uint64_t backend_of_ = 0;

  Transaction transaction_;
  ScopeTracker scope_;
  PreparedTable prepared_;
  // Statements without rows that were parsed here alone since something was sent last; the last
  // few.
  std::vector<PreparedRef> accepted_;
  uint64_t sql_prepared_ = 0;  // the last message that may have said PREPARE; 0: none in force
  PortalTable portals_;        // on the server, until the block ends
  std::optional<DonePortal> done_portal_;
  std::vector<Held> held_;
  std::string held_bytes_;         // what held_ points to once the read buffer is gone
  cache::EntryRef hit_;            // between ask_cache and serve
  QueryStat* hit_stat_ = nullptr;  // between ask_cache and serve
  QueryStatRef timed_;             // of the SELECT that PostgreSQL answers, if one is timed
  uint64_t timed_sequence_ = 0;    // of that answer; 0: not sent yet
  int64_t timed_from_ns_ = 0;
  FetchRef fetch_;
  // The second level, for the message in hand: what is looked up, or has been, and what was found.
  FetchRef remote_fetch_;  // leads its flight, unless it was found
  std::unique_ptr<RemoteLookup> remote_;
  int64_t remote_from_ns_ = 0;
  cache::EntryRef remote_entry_;
  std::unique_ptr<cache::Flights::Wait> wait_;
  std::unique_ptr<Timer> wait_timer_;
  // The shortest statement_timeout that this session may have had since the last probe, 0: none.
  int64_t statement_timeout_ms_ = 0;
  int64_t idle_limit_ms_ = 0;  // … and the shortest limits of an idle one (ProbeAnswer)
  int64_t idle_in_block_limit_ms_ = 0;
  bool waited_ = false;        // the message in hand has waited once; it does not wait again
  bool probed_ = false;        // … has caused one probe; it does not cause another
  std::string probe_row_;      // its DataRow, while it comes in parts
  uint64_t opened_under_ = 0;  // generation of the catalog by which open slots were found; 0: none
  bool unmarked_ = false;      // pgfresh.inband spoken of, or off: writes may bring no notices
  bool carrying_ = false;      // Domain::end_carrying() is owed
  uint64_t waits_ = 0;         // the ticket, while Domain::word_came() is owed
  uint64_t waits_for_ = 0;     // the last message sent
  bool committed_ = false;     // a COMMIT has come since the last ReadyForQuery
  bool disavowed_ = false;     // the settler has been told of it: unheard()
  bool hearing_ = false;       // closing, but for what PostgreSQL has still to say
  bool said_goodbye_ = false;  // by Terminate behind what is not answered yet
  bool client_closed_sending_ = false;  // … and may still listen
  bool end_passed_on_ = false;          // … which PostgreSQL has been told
  bool client_gone_ = false;
  bool server_gone_ = false;
  bool server_in_message_ = false;  // closing: what PostgreSQL was sent last is not whole
  bool server_said_last_ = false;   // PostgreSQL has told the client why it ends
  std::string notice_head_;         // of a NoticeResponse that comes in parts
  enum class NoticePart : uint8_t { kNone, kCollecting, kForwarding, kSwallowing };
  NoticePart notice_part_ = NoticePart::kNone;
  std::optional<ProbeAnswer> probe_answer_;
  std::vector<std::string> probe_names_;  // the custom settings a probe under way asks for
  LastVerdict last_;
  std::string own_error_;  // a probe has failed the block that the message in hand is in
  std::function<void()> kept_cancel_;  // of a cancel request that waits; null: there is none
  int64_t cancel_kept_ns_ = 0;         // since when

  int64_t connected_ns_ = 0;
  int64_t active_ns_ = 0;     // the client was heard last
  int64_t heard_ns_ = 0;      // PostgreSQL was heard last
  int64_t idle_from_ns_ = 0;  // it was ready last
  uint64_t hits_ = 0;
  uint64_t queries_ = 0;
};

}  // namespace pgfresh::proxy
