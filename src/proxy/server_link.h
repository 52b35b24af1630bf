// A server connection while a session borrows it: the stream, what PostgreSQL still owes on it,
// and which prepared statements it holds. It knows nothing of the client.
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
  void sent_flush() { segment_open_ = true; }

  // Sends a message of our own whose answer the client does not see. Flushes what stands before.
  void inject_query(std::string_view sql, Purpose purpose);
  // By the extended protocol and under a name of its own, so that it disturbs neither the unnamed
  // statement nor a portal. One item of the reply queue stands for all of it. REQUIRES: at_rest().
  void inject_probe(std::string_view sql);
  void inject_parse(const PreparedRef& statement, Purpose purpose);
  void inject_close_unnamed();
  void inject_sync();
  // Parse, Describe, Flush: what the statement looks like to PostgreSQL now.
  void inject_check(const PreparedRef& statement);
  void inject_refusal();

  // Bytes written to the server since the last call.
  [[nodiscard]] uint64_t take_bytes_written() { return std::exchange(bytes_written_, 0); }
  void flush() { bytes_written_ += outbox_.flush(*stream_); }

  // Statements by name, as far as we sent them.
  [[nodiscard]] bool holds(const PreparedStatement& statement) const;
  void note_holds(const PreparedStatement& statement);
  void forget(std::string_view name);
  void forget_all();
  void forget_named() { statement_ids_.clear(); }
  [[nodiscard]] bool holds_unnamed() const { return unnamed_id_ != 0; }

  // What pgfresh.inband is on this connection. While it is not known to be kOn, the events of its
  // notices are this proxy's to publish (freshness.md, rule 14).
  enum class Inband : uint8_t { kOn, kCarry, kUnknown };
  [[nodiscard]] Inband inband() const { return inband_; }
  void doubt_inband() {
    if (inband_ == Inband::kCarry) inband_ = Inband::kUnknown;
  }
  // Sends a SET. Outside a transaction block the setting is known when it has been answered.
  enum class Place : uint8_t { kOutside, kPerhapsInside };
  void inject_inband(Inband wanted, Place place);
  void inband_failed() { inband_wanted_ = Inband::kUnknown; }
  // ReadyForQuery for an injected SET with this sequence number.
  void inband_answered(uint64_t sequence) {
    if (sequence == inband_sequence_) inband_ = inband_wanted_;
  }

  wire::BackendKey key;  // PostgreSQL's own, for cancel requests

 private:
  void inject(std::string_view bytes);

  std::unique_ptr<Stream> stream_;
  wire::Framer framer_;
  ReplyQueue replies_;
  Outbox outbox_;
  bool segment_open_ = false;
  uint64_t unnamed_id_ = 0;
  std::unordered_map<std::string, uint64_t> statement_ids_;
  uint64_t bytes_written_ = 0;
  Inband inband_ = Inband::kOn;  // as the startup packet says
  Inband inband_wanted_ = Inband::kOn;
  uint64_t inband_sequence_ = 0;
};

}  // namespace pgfresh::proxy
