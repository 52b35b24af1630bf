// What PostgreSQL still owes: one item for each forwarded message that will be answered, in order.
// It tells whose answer is arriving, what must be kept from the client because pgfresh asked for
// it itself, and what an error makes the server skip. Pure book-keeping.
//
// Source of the rules: PostgreSQL manual, "Message Flow" (Extended Query, COPY Operations,
// Pipelining); src/backend/tcop/postgres.c (ignore_till_sync).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "proxy/prepared.h"

namespace pgfresh::proxy {

// The message that will be answered, by what ends its answer.
enum class Asked : uint8_t {
  kQuery,       // Query, FunctionCall: ReadyForQuery
  kParseAgain,  // of a name that is taken: ErrorResponse, unless PostgreSQL knows better
  kParse,       // ParseComplete
  kBind,        // BindComplete
  kDescribe,    // RowDescription or NoData
  kExecute,     // CommandComplete, EmptyQueryResponse or PortalSuspended
  kClose,       // CloseComplete
  kSync,        // ReadyForQuery
  kCopyEnd,     // CopyDone or CopyFail: not answered; marks which Syncs came after it
};

// For whom.
enum class Purpose : uint8_t {
  kClient,  // forwarded: the answer is the client's
  kSetup,   // injected so that the client's next message works: only an error is shown
  kQuiet,   // injected, and not even an error is shown
  kCheck,   // injected to see whether a statement still has the shape its client was shown
  kRefuse,  // injected so that it fails: the client is told that its statement is outdated
  kProbe,   // reading the session's settings: nothing is shown
  kInband,  // setting pgfresh.inband: nothing is shown
  kPlans,   // DISCARD PLANS in front of a simple query: nothing is shown, unless it fails a block
};

struct ReplyItem {
  uint64_t sequence = 0;
  Asked asked = Asked::kQuery;
  Purpose purpose = Purpose::kClient;
  // kQuery, kExecute: it may make a table, see query::Statement.
  bool makes_table = false;
  bool is_call = false;  // kQuery: a FunctionCall, which leaves the unnamed statement as it is
  // kParse: the statement it defines. kDescribe: the one whose shape the client is being shown.
  std::shared_ptr<PreparedStatement> prepared = nullptr;
  // kQuery, kParse, kClose: what stood under the name before, in the session and, by its id, at
  // PostgreSQL (0: nothing). It stands there again if the message is skipped.
  std::shared_ptr<PreparedStatement> before = nullptr;
  uint64_t held_before = 0;
  std::unique_ptr<std::string> closes = nullptr;  // kClose: this statement; null: a portal

  // It defines or ends the statement of this name.
  [[nodiscard]] bool concerns(std::string_view statement) const {
    switch (asked) {
      case Asked::kQuery:
        return statement.empty() && !is_call;
      case Asked::kParse:
      case Asked::kParseAgain:
        return prepared != nullptr && prepared->name == statement;
      case Asked::kClose:
        return closes != nullptr && *closes == statement;
      case Asked::kBind:
      case Asked::kDescribe:
      case Asked::kExecute:
      case Asked::kSync:
      case Asked::kCopyEnd:
        return false;
    }
    return false;
  }
};

static_assert(sizeof(ReplyItem) <= 64, "one line of the processor's cache");

class ReplyQueue {
 public:
  [[nodiscard]] bool empty() const { return first_ == items_.size(); }
  [[nodiscard]] size_t size() const { return items_.size() - first_; }
  [[nodiscard]] bool full() const { return size() >= limits::kOutstandingMax; }
  [[nodiscard]] const ReplyItem& front() const { return items_[first_]; }
  [[nodiscard]] const ReplyItem& back() const { return items_.back(); }
  // Some message of the client's in front of `sequence` has still to be carried out.
  [[nodiscard]] bool owes_results_before(uint64_t sequence) const {
    for (const ReplyItem& item : owed()) {
      if (item.sequence >= sequence) break;
      const bool runs = item.asked == Asked::kQuery || item.asked == Asked::kExecute ||
                        item.asked == Asked::kSync;
      if (runs && item.purpose != Purpose::kSetup) return true;
    }
    return false;
  }
  // Something is to be carried out behind `sequence`, or behind the first end of a segment where
  // that comes before.
  [[nodiscard]] bool goes_on_behind(uint64_t sequence, bool or_segment) const {
    for (const ReplyItem& item : owed()) {
      const bool ends = item.asked == Asked::kQuery || item.asked == Asked::kSync;
      if (item.sequence > sequence &&
          (ends ? item.asked == Asked::kQuery : item.asked == Asked::kExecute)) {
        return true;
      }
      if (ends && or_segment) sequence = std::min(sequence, item.sequence);
    }
    return false;
  }
  [[nodiscard]] bool owes(Purpose purpose) const {
    return std::any_of(owed().begin(), owed().end(),
                       [&](const ReplyItem& item) { return item.purpose == purpose; });
  }
  [[nodiscard]] uint64_t last_sequence() const { return next_sequence_ - 1; }

  // A message is being sent. Returns its sequence number; while the server skips to the next Sync
  // nothing but a Sync is answered, and only that is noted.
  uint64_t push(Asked asked, Purpose purpose, std::shared_ptr<PreparedStatement> prepared = nullptr,
                std::shared_ptr<PreparedStatement> before = nullptr, uint64_t held_before = 0,
                std::unique_ptr<std::string> closes = nullptr) {
    const uint64_t sequence = next_sequence_++;
    if (asked == Asked::kCopyEnd) {
      if (copy_in_) {
        copy_in_ = false;
        return sequence;
      }
      if (empty()) return sequence;
    }
    if (asked == Asked::kSync && copy_in_) return sequence;
    if (skipping_) {
      if (asked != Asked::kSync) return sequence;
      skipping_ = false;
    }
    items_.push_back({.sequence = sequence,
                      .asked = asked,
                      .purpose = purpose,
                      .prepared = std::move(prepared),
                      .before = std::move(before),
                      .held_before = held_before,
                      .closes = std::move(closes)});
    return sequence;
  }

  // What was sent last, with this sequence number, may make a table.
  void note_makes_table(uint64_t sequence) {
    if (!empty() && items_.back().sequence == sequence) items_.back().makes_table = true;
  }

  // What was sent last, with this sequence number, is a FunctionCall.
  void note_call(uint64_t sequence) {
    if (!empty() && items_.back().sequence == sequence) items_.back().is_call = true;
  }

  // The front item has had its answer.
  void pop() {
    PGFRESH_CHECK(!empty());
    if (front().asked == Asked::kQuery) copy_in_ = false;
    do {
      drop(1);
    } while (!empty() && front().asked == Asked::kCopyEnd);
  }

  // CopyInResponse for the front item. The server ignores Syncs until the copy has ended: those
  // sent before it, and those sent before CopyDone or CopyFail.
  void copy_in_started() {
    if (empty()) return;
    for (size_t i = first_ + 1; i < items_.size();) {
      if (items_[i].asked == Asked::kCopyEnd) return;
      if (items_[i].asked == Asked::kSync) {
        items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
    copy_in_ = true;
  }

  // ErrorResponse while an extended-protocol item is at the front: that has failed, and the server
  // skips everything up to the next Sync. `undo(item)` is called for what is skipped, the last one
  // first, and for the failed one at the end.
  template <typename Undo>
  void skip_to_sync(Undo undo) {
    copy_in_ = false;
    size_t sync = first_;
    while (sync < items_.size() && items_[sync].asked != Asked::kSync) ++sync;
    for (size_t i = sync; i > first_; --i) undo(items_[i - 1]);
    drop(sync - first_);
    if (empty()) skipping_ = true;
  }

  // The first message behind the next Sync that concerns this statement and fulfils `condition`;
  // null when there is none.
  template <typename Condition>
  [[nodiscard]] ReplyItem* later(std::string_view statement, Condition condition) {
    bool behind = false;
    for (ReplyItem& item : owed()) {
      if (behind && item.concerns(statement) && condition(item)) return &item;
      behind = behind || item.asked == Asked::kSync;
    }
    return nullptr;
  }

  // ReadyForQuery though no Sync was counted: one that COPY seemed to ignore was read after all,
  // because the copy had failed by then. Everything sent has been answered.
  void resync() {
    drop(size());
    skipping_ = false;
    copy_in_ = false;
  }

  [[nodiscard]] bool skipping() const { return skipping_; }
  [[nodiscard]] bool copying_in() const { return copy_in_; }

 private:
  // Memory for so many is kept while nothing is owed, which is nearly always: 1 KB.
  static constexpr size_t kKept = 16;

  [[nodiscard]] std::span<ReplyItem> owed() { return std::span(items_).subspan(first_); }
  [[nodiscard]] std::span<const ReplyItem> owed() const {
    return std::span(items_).subspan(first_);
  }
  // The first `count` items. They are destroyed when all have been answered, or most.
  void drop(size_t count) {
    first_ += count;
    if (empty()) {
      items_.clear();
      if (items_.capacity() > kKept) items_.shrink_to_fit();
      first_ = 0;
    } else if (first_ >= kKept && 2 * first_ >= items_.size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }

  std::vector<ReplyItem> items_;  // owed: from first_ on
  size_t first_ = 0;
  uint64_t next_sequence_ = 1;
  bool skipping_ = false;  // an error came, and no Sync has been sent since
  bool copy_in_ = false;   // COPY FROM STDIN, CopyDone not yet sent
};

}  // namespace pgfresh::proxy
