// A server connection while a session borrows it: the stream, what PostgreSQL still owes on it,
// and which prepared statements it holds. It knows nothing of the client.
//
// Statements of the session may differ from those PostgreSQL holds: defined here, or ended here,
// without its knowing. They are made equal before they are used, by messages of our own. While one
// of these, or a message of the client's about a name that differs, is unanswered, it is not known
// whether an error in front of it makes PostgreSQL skip it: unsure(). Nothing of another segment is
// sent then, for what would be needed in front of it is not known either.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "pgfresh/stream.h"
#include "proxy/outbox.h"
#include "proxy/prepared.h"
#include "proxy/reply_queue.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::proxy {

class ServerLink {
 public:
  explicit ServerLink(std::unique_ptr<Stream> stream);

  [[nodiscard]] Stream& stream() { return *stream_; }
  [[nodiscard]] const Stream& stream() const { return *stream_; }
  [[nodiscard]] wire::Framer& framer() { return framer_; }
  [[nodiscard]] ReplyQueue& replies() { return replies_; }
  [[nodiscard]] const ReplyQueue& replies() const { return replies_; }
  [[nodiscard]] Outbox& outbox() { return outbox_; }

  // Idle: everything sent has been answered, and no extended-protocol segment is open.
  [[nodiscard]] bool at_rest() const { return replies_.empty() && !segment_open(); }
  // PostgreSQL waits for a Sync; behind an error it skips everything until that, queries too.
  [[nodiscard]] bool segment_open() const { return segment_open_ || replies_.skipping(); }

  // Notes that a message of the client is being sent; the bytes go through outbox().
  uint64_t sent(Asked asked, PreparedRef prepared = nullptr);
  // The same for those that change what stands under a name: Query ends the unnamed statement.
  // `before`: what the session had there.
  uint64_t sent_query(PreparedRef before);
  void sent_parse(const PreparedRef& prepared, PreparedRef before);
  void sent_close(std::string_view name, PreparedRef before);
  void sent_flush() { segment_open_ = true; }

  // Sends a message of our own whose answer the client does not see. Flushes what stands before.
  void inject_query(std::string_view sql, Purpose purpose);
  // By the extended protocol and under a name of its own, so that it disturbs neither the unnamed
  // statement nor a portal. One item of the reply queue stands for all of it. REQUIRES: at_rest().
  void inject_probe(std::string_view sql);
  // What else PostgreSQL holds under the name is closed first.
  void inject_parse(const PreparedRef& statement, Purpose purpose);
  void inject_close_unnamed();
  // The session's unnamed statement and portal have ended without PostgreSQL's knowing, as a simple
  // query answered here ends them. Both are closed there before the next segment of the extended
  // protocol. REQUIRES: at_rest().
  void outlive_unnamed() { outlived_ = true; }
  void close_outlived();
  // A simple Query goes next, and ends them.
  void forget_outlived() { outlived_ = false; }
  void inject_sync();
  void inject_terminate();
  // Describe, Flush: what the statement looks like to PostgreSQL now.
  void inject_check(const PreparedRef& statement);
  void inject_refusal();
  // This Bind of the unnamed portal, and Execute.
  void inject_run(std::string_view bind);

  // PostgreSQL keeps plans, of prepared statements and of what functions ask, and in them what
  // functions gave when they were made; it makes them anew where something changes that they name,
  // and not where that rests on something else which changes.
  //
  // All of them were made under this generation of the catalog, or later; 0: not known.
  void have_plans_since(uint64_t generation) { plans_since_ = generation; }
  // Makes it so, unless it is: what is sent behind it is planned anew. REQUIRES: in front of a
  // simple Query no segment is open.
  enum class Before : uint8_t { kQuery, kExecute };
  void renew_plans(uint64_t generation, Before before);
  // CommandComplete of the message with this sequence number.
  void answered(uint64_t sequence) {
    if (sequence == discard_sequence_) plans_since_ = discarded_for_;
  }

  // Bytes written to the server since the last call.
  [[nodiscard]] uint64_t take_bytes_written() { return std::exchange(bytes_written_, 0); }
  void flush() { bytes_written_ += outbox_.flush(*stream_); }

  // Statements by name, as far as we sent them.
  [[nodiscard]] bool holds(const PreparedStatement& statement) const;
  void note_holds(const PreparedStatement& statement);
  // `id` of a PreparedStatement, 0: none.
  void set_held(std::string_view name, uint64_t id);
  void forget(std::string_view name) { set_held(name, 0); }
  [[nodiscard]] bool unsure() const;
  // The same for the unnamed statement, where a SET of ours may come between, which ends it: it
  // would have to be parsed again, and perhaps it never was, or never went.
  [[nodiscard]] bool unsure_of_unnamed() const;
  void forget_all();
  void forget_named() { statement_ids_.clear(); }
  [[nodiscard]] bool holds_unnamed() const { return unnamed_id_ != 0; }

  // What pgfresh.inband was set to on this connection by us. SQL may set it, too: which events are
  // this proxy's to publish, each notice tells by itself.
  enum class Inband : uint8_t { kOn, kCarry, kUnknown };
  [[nodiscard]] Inband inband() const { return inband_; }
  void doubt_inband() {
    if (inband_ == Inband::kCarry) inband_ = Inband::kUnknown;
  }
  // It carries, and we did not say so, or no longer.
  void found_carrying() {
    if (inband_ == Inband::kOn) inband_ = Inband::kUnknown;
  }
  // Which PostgreSQL the connection was told to carry for (Domain::server_started()); 0: none.
  [[nodiscard]] uint64_t carries_for() const { return carries_for_; }
  // From now on it carries, if it leads to this PostgreSQL: which it knows itself. Where it is
  // another one it notifies, and what is published of its events as well can only remove. Outside a
  // transaction block.
  void inject_carry(uint64_t server);
  // Outside a transaction block the setting is known when it has been answered.
  enum class Place : uint8_t { kOutside, kPerhapsInside };
  void inject_notify(Place place);
  // An injected SET was refused. Who may not EXECUTE set_config() is not asked again; what else
  // stood in its way (a time limit, a lack of memory) passes.
  void inband_failed(std::string_view sqlstate) {
    inband_wanted_ = Inband::kUnknown;
    if (sqlstate == kPermissionDenied) may_carry_ = false;
  }
  [[nodiscard]] bool may_carry() const { return may_carry_; }
  // ReadyForQuery for an injected SET with this sequence number.
  void inband_answered(uint64_t sequence) {
    if (sequence == inband_sequence_) inband_ = inband_wanted_;
  }

  wire::BackendKey key;  // PostgreSQL's own, for cancel requests

 private:
  static constexpr std::string_view kPermissionDenied = "42501";

  void inject(std::string_view bytes);
  // Runs it under a name that no client has, so that nothing of the client's is disturbed.
  [[nodiscard]] static std::string own_statement(std::string_view name, std::string_view sql);
  void inject_close(const PreparedRef& statement);
  void inject_inband(std::string_view sql, Inband wanted);
  [[nodiscard]] uint64_t held_id(std::string_view name) const;

  std::unique_ptr<Stream> stream_;
  wire::Framer framer_;
  ReplyQueue replies_;
  Outbox outbox_;
  bool segment_open_ = false;
  bool outlived_ = false;  // close_outlived() has something to do
  uint64_t unnamed_id_ = 0;
  uint64_t doubtful_ = 0;         // the last message that unsure() waits for
  uint64_t changed_unnamed_ = 0;  // the last message that parsed or ended the unnamed statement
  std::unordered_map<std::string, uint64_t> statement_ids_;
  uint64_t bytes_written_ = 0;
  Inband inband_ = Inband::kOn;  // as the startup packet says
  Inband inband_wanted_ = Inband::kOn;
  uint64_t inband_sequence_ = 0;
  uint64_t carries_for_ = 0;
  bool may_carry_ = true;
  uint64_t plans_since_ = 0;
  uint64_t discarded_for_ = 0;     // what plans_since_ will be when it has been answered:
  uint64_t discard_sequence_ = 0;  // the last DISCARD PLANS, 0: none was sent
};

}  // namespace pgfresh::proxy
