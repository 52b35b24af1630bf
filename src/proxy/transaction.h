// Where a session stands in its transaction, and what follows from that for the cache: whether a
// hit or a fill is allowed now, which slots its writes hold open (freshness.md, rule 4 and "Where a
// hit, and a fill, is allowed"). Pure book-keeping.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "freshness/domain.h"

namespace pgfresh::proxy {

class Transaction {
 public:
  // What ReadyForQuery says to the client now: a deferred BEGIN counts as sent.
  [[nodiscard]] char status() const { return deferred() ? 'T' : server_status_; }
  [[nodiscard]] char server_status() const { return server_status_; }

  // A hit may be given, and an answer recorded: outside a block, or in a READ COMMITTED block that
  // has not failed and has only read. What does more may have waited for a lock, behind whose owner
  // PostgreSQL reads from then on, however fresh our news of its writes is.
  [[nodiscard]] bool allows_hits() const { return allows_isolation() && only_read(); }
  [[nodiscard]] bool allows_isolation() const {
    if (begin_sent_ || end_sent_) return false;
    if (deferred() || server_status_ == 'I') return true;
    return server_status_ == 'T' && block_reads_committed_;
  }
  // Its isolation is that of the session's default: no block, or none that PostgreSQL knows of.
  [[nodiscard]] bool is_implicit() const { return !deferred() && server_status_ == 'I'; }
  [[nodiscard]] bool only_read() const { return wrote_sequence_ <= ended_sequence_; }

  // BEGIN was answered by the proxy; `text` is sent before anything else goes to the server.
  void defer(std::string text) { deferred_begin_ = std::move(text); }
  [[nodiscard]] bool deferred() const { return !deferred_begin_.empty(); }
  // Statements that set something until the end of the block, and are sent with its BEGIN; `sql`:
  // each behind "; ". False, and nothing is done, when there is no room. REQUIRES: deferred().
  [[nodiscard]] bool defer_settings(std::string_view sql) {
    if (deferred_begin_.size() + sql.size() > limits::kDeferredBytesMax) return false;
    deferred_begin_.append(sql);
    settings_deferred_ = true;
    return true;
  }
  [[nodiscard]] bool settings_deferred() const { return settings_deferred_; }
  // A query was answered. In a block it counts for what may come later, and PostgreSQL knows
  // nothing of it; nor, perhaps, of the block.
  void read() { read_unseen_ = read_unseen_ || status() == 'T'; }
  [[nodiscard]] bool take_read_unseen() { return std::exchange(read_unseen_, false); }
  // The text is being sent now.
  [[nodiscard]] std::string take_deferred() {
    settings_deferred_ = false;
    return std::exchange(deferred_begin_, {});
  }
  // COMMIT or ROLLBACK of a block nothing of which was sent.
  void end_deferred() {
    static_cast<void>(take_deferred());
    read_unseen_ = false;
  }

  // A message with this sequence number was sent, and it may do more than read.
  void sent_write(uint64_t sequence) { wrote_sequence_ = sequence; }
  // … and it may commit a block.
  void sent_possible_commit(uint64_t sequence) {
    if (commit_sequence_ <= ready_sequence_) first_commit_sequence_ = sequence;
    commit_sequence_ = sequence;
  }
  // … and go on behind that in the same text.
  void sent_text_that_goes_on(uint64_t sequence) { goes_on_sequence_ = sequence; }
  [[nodiscard]] bool text_goes_on() const { return goes_on_sequence_ > ready_sequence_; }
  // Of what has not been answered, the first that may commit a block; UINT64_MAX: there is none.
  [[nodiscard]] uint64_t first_commit() const {
    if (commit_sequence_ <= ready_sequence_) return UINT64_MAX;
    return std::max(first_commit_sequence_, ready_sequence_);
  }
  // What was written may be committed, or be about to, and PostgreSQL's word of it has not come.
  [[nodiscard]] bool outcome_unheard() const {
    if (only_read()) return false;
    return server_status_ == 'I' || commit_sequence_ > ready_sequence_;
  }
  enum class Block : uint8_t { kReadCommitted, kOther };
  // A BEGIN was sent. Until a ReadyForQuery behind it has come (it may be a while, with Flush), it
  // is not known in what kind of block the session is. Where there was a block before, it may be
  // that one still, or one that began behind its end without an idle moment between the two: it
  // allows hits if either of them would.
  void sent_begin(Block block, uint64_t sequence) {
    note_sent(block, sequence);
    other_sent_ = other_sent_ || block == Block::kOther;
  }
  // A text was sent that may begin a block, or change the isolation of one, in a way not looked
  // into.
  void sent_unknown(uint64_t sequence) { sent_begin(Block::kOther, sequence); }
  // A text that may change anything, but neither ends a block nor changes its isolation.
  // (What it does is known with its ReadyForQuery; the block it may be in is as it was begun.)
  void sent_in_block(uint64_t sequence) {
    if (!begin_sent_) next_block_reads_committed_ = false;
    begin_sent_ = true;
    begin_sequence_ = sequence;
  }
  // COMMIT or ROLLBACK was sent. Until a ReadyForQuery behind it has come, it is not known whether
  // the session is in a block, nor in which.
  void sent_end(uint64_t sequence) {
    end_sent_ = true;
    end_sequence_ = sequence;
  }
  [[nodiscard]] bool end_sent() const { return end_sent_; }

  // The transaction is to keep this slot open until it is settled. False when it does already.
  [[nodiscard]] bool hold_open(uint32_t slot) { return open_slots_.insert(slot).second; }
  [[nodiscard]] size_t held_open() const { return open_slots_.size(); }
  void saw_ddl() { ddl_ = true; }
  // A notice whose event nobody else will publish.
  void carry(std::string_view payload) { carried_.add(payload); }

  struct Ended {
    freshness::Writes writes;
    bool ddl = false;
  };
  // ReadyForQuery for the item with this sequence number. The result is not empty when a
  // transaction that held slots open has ended.
  [[nodiscard]] Ended ready(char status, uint64_t sequence) {
    if (status == 'T' && server_status_ == 'I') {
      block_reads_committed_ = next_block_reads_committed_;
    }
    server_status_ = status;
    ready_sequence_ = sequence;
    if (sequence >= end_sequence_) end_sent_ = false;
    if (sequence >= begin_sequence_) {
      begin_sent_ = false;
      if (std::exchange(other_sent_, false)) block_reads_committed_ = false;
    }
    if (status != 'I') return {};
    if (!deferred()) read_unseen_ = false;
    ended_sequence_ = sequence;
    block_reads_committed_ = false;
    return take_ended();
  }
  // What all that has been seen so far leaves behind: the transaction ended in the middle of a
  // message (COMMIT; …), or the server connection is gone.
  [[nodiscard]] Ended take_ended() {
    if (open_slots_.empty() && carried_.empty() && !ddl_) return {};
    const std::unordered_set<uint32_t> slots = std::exchange(open_slots_, {});
    return {{{slots.begin(), slots.end()}, std::exchange(carried_, {})},
            std::exchange(ddl_, false)};
  }

 private:
  void note_sent(Block block, uint64_t sequence) {
    const bool committed = block == Block::kReadCommitted;
    next_block_reads_committed_ = committed && (!begin_sent_ || next_block_reads_committed_);
    begin_sent_ = true;
    begin_sequence_ = sequence;
  }

  char server_status_ = 'I';
  bool block_reads_committed_ = false;
  bool next_block_reads_committed_ = false;
  bool begin_sent_ = false;  // and no ReadyForQuery behind it has come
  bool other_sent_ = false;  // among what was sent since then, one that is not READ COMMITTED
  uint64_t begin_sequence_ = 0;
  bool end_sent_ = false;  // and no ReadyForQuery behind it has come
  uint64_t end_sequence_ = 0;
  bool ddl_ = false;
  freshness::Carried carried_;
  uint64_t wrote_sequence_ = 0;         // of the last message sent that may do more than read
  uint64_t ended_sequence_ = 0;         // of the last ReadyForQuery that said idle
  uint64_t ready_sequence_ = 0;         // of the last one
  uint64_t commit_sequence_ = 0;        // of the last message sent that may commit a block
  uint64_t first_commit_sequence_ = 0;  // … of the first since all of them were answered
  uint64_t goes_on_sequence_ = 0;       // of the last whose text may go on behind a commit
  std::string deferred_begin_;          // and what is sent with it
  bool settings_deferred_ = false;
  bool read_unseen_ = false;
  std::unordered_set<uint32_t> open_slots_;
};

}  // namespace pgfresh::proxy
