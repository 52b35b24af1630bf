// Where a session stands in its transaction, and what follows from that for the cache: whether a
// hit or a fill is allowed now, which slots its writes hold open (freshness.md, rule 4 and "Where a
// hit, and a fill, is allowed"). Pure book-keeping.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pgfresh::proxy {

class Transaction {
 public:
  // What ReadyForQuery says to the client now: a deferred BEGIN counts as sent.
  [[nodiscard]] char status() const { return deferred() ? 'T' : server_status_; }
  [[nodiscard]] char server_status() const { return server_status_; }

  // A hit may be given: outside a block, or in a READ COMMITTED block that has not failed.
  [[nodiscard]] bool allows_hits() const {
    if (deferred() || server_status_ == 'I') return true;
    return server_status_ == 'T' && block_reads_committed_;
  }
  // An answer may be recorded: a hit could be given, and the transaction has only read.
  [[nodiscard]] bool allows_fills() const {
    return allows_hits() && wrote_sequence_ <= ended_sequence_;
  }
  [[nodiscard]] bool only_read() const { return wrote_sequence_ <= ended_sequence_; }

  // BEGIN was answered by the proxy; `text` is sent before anything else goes to the server.
  void defer(std::string text) { deferred_begin_ = std::move(text); }
  [[nodiscard]] bool deferred() const { return !deferred_begin_.empty(); }
  // COMMIT or ROLLBACK of a block nothing of which was sent, or the text is being sent now.
  [[nodiscard]] std::string take_deferred() { return std::exchange(deferred_begin_, {}); }

  // A message with this sequence number was sent, and it may do more than read.
  void sent_write(uint64_t sequence) { wrote_sequence_ = sequence; }
  enum class Block : uint8_t { kReadCommitted, kOther };
  // A BEGIN was sent.
  void sent_begin(Block block) { next_block_reads_committed_ = block == Block::kReadCommitted; }
  // A text was sent that may begin a block in a way not looked into.
  void sent_unknown() { next_block_reads_committed_ = false; }

  // An in-band notice opened this slot; it stays open until the transaction is settled.
  void hold_open(uint32_t slot) { open_slots_.push_back(slot); }
  [[nodiscard]] bool holds_open() const { return !open_slots_.empty(); }
  void saw_ddl() { ddl_ = true; }

  struct Ended {
    std::vector<uint32_t> slots;
    bool ddl = false;
  };
  // ReadyForQuery for the item with this sequence number. The result is not empty when a
  // transaction that held slots open has ended.
  [[nodiscard]] Ended ready(char status, uint64_t sequence) {
    if (status == 'T' && server_status_ == 'I') {
      block_reads_committed_ = next_block_reads_committed_;
    }
    server_status_ = status;
    if (status != 'I') return {};
    ended_sequence_ = sequence;
    block_reads_committed_ = false;
    return take_ended();
  }
  // The server connection is gone.
  [[nodiscard]] Ended lost() { return take_ended(); }

 private:
  [[nodiscard]] Ended take_ended() {
    Ended ended{std::exchange(open_slots_, {}), std::exchange(ddl_, false)};
    return ended;
  }

  char server_status_ = 'I';
  bool block_reads_committed_ = false;
  bool next_block_reads_committed_ = false;
  bool ddl_ = false;
  uint64_t wrote_sequence_ = 0;  // of the last message sent that may do more than read
  uint64_t ended_sequence_ = 0;  // of the last ReadyForQuery that said idle
  std::string deferred_begin_;
  std::vector<uint32_t> open_slots_;
};

}  // namespace pgfresh::proxy
