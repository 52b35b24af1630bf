// The settler's books (freshness.md, rule 4): which slots wait for what before they are closed.
// Two regimes: slots of ended transactions wait for a fence begun after the end was heard of;
// slots of lost server connections wait until PostgreSQL no longer shows the backend, and then for
// such a fence. Pure book-keeping, no input or output; it does not lock, its owner does.
//
// Bounded: above limits of its own a batch forgets which transaction opened what, and keeps a
// count for each slot, of which there are finitely many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "freshness/token_table.h"

namespace pgfresh::freshness {

// Slots to be closed together, with multiplicity.
class SlotBatch {
 public:
  // One transaction's slots.
  void add(const std::vector<uint32_t>& slots);
  // Takes over what `other` holds and leaves it empty.
  void take(SlotBatch& other);
  // Closes every slot as often as it was added, and empties the batch.
  void close_all(TokenTable& table);

  [[nodiscard]] bool empty() const { return transactions_ == 0; }
  [[nodiscard]] int64_t transactions() const { return transactions_; }
  // What the batch keeps in memory: single slots and counters.
  [[nodiscard]] size_t items() const { return singles_.size() + counts_.size(); }

  // 100,000 transactions of a handful of slots each: 4 bytes × 400,000 = 1.6 MB.
  static constexpr size_t kSinglesMax = 400'000;

 private:
  void collapse();

  std::vector<uint32_t> singles_;
  std::unordered_map<uint32_t, uint32_t> counts_;
  int64_t transactions_ = 0;
};

class Settlement {
 public:
  explicit Settlement(TokenTable& table) : table_(table) {}
  Settlement(const Settlement&) = delete;
  Settlement& operator=(const Settlement&) = delete;

  // These slots are closed by the next fence that is begun.
  void at_next_fence(SlotBatch& slots) { next_.take(slots); }
  [[nodiscard]] bool fence_wanted() const { return !next_.empty(); }
  // At most one fence is under way.
  void fence_begun();
  void fence_completed();
  // The feed was lost: what the fence under way was to settle waits for the next one.
  void fence_lost();

  // Backends whose transactions have an unknown outcome.
  void lost(uint32_t pid, const std::vector<uint32_t>& slots);
  [[nodiscard]] bool backends_waited_for() const { return !backends_.empty(); }
  // The backends to look for now. What is lost after this call waits for the next look.
  [[nodiscard]] std::vector<uint32_t> begin_look();

  // What PostgreSQL shows of one backend; `started` is empty where the role may not see it.
  struct Seen {
    uint32_t pid = 0;
    std::string started;
  };
  // `seen` answers the look begun last: slots of backends that are gone go to the next fence. A
  // pid with another start time than at the first look belongs to somebody else.
  void look_completed(const std::vector<Seen>& seen);

  [[nodiscard]] int64_t transactions() const;

 private:
  struct Backend {
    SlotBatch slots;
    bool looked_for = false;             // part of the look under way
    std::optional<std::string> started;  // what the first look showed
  };

  TokenTable& table_;
  SlotBatch next_;
  SlotBatch under_way_;
  std::unordered_map<uint32_t, Backend> backends_;
};

}  // namespace pgfresh::freshness
