// The settler's books (freshness.md, rule 4): which slots wait for what before they are closed.
// Three regimes: slots of ended transactions wait for a fence begun after the end was heard of;
// writes of lost server connections wait until PostgreSQL no longer shows the backend, those of
// prepared transactions until it no longer shows these, and then for such a fence; what of them
// this proxy has to publish (rule 14) is handed out then. Pure book-keeping, no input or output; it
// does not lock, its owner does.
//
// Bounded: above limits of its own a batch forgets which transaction opened what, and keeps a
// count for each slot, of which there are finitely many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "freshness/domain.h"
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
  void lost(uint32_t pid, Writes writes);
  [[nodiscard]] bool backends_waited_for() const { return !backends_.empty(); }
  // The backends to look for now. What is lost after this call waits for the next look.
  [[nodiscard]] std::vector<uint32_t> begin_look();

  // What PostgreSQL shows of one backend; `started` is empty where the role may not see it.
  struct Seen {
    uint32_t pid = 0;
    std::string started;
  };
  // `seen` answers the look begun last: slots of backends that are gone go to the next fence. A
  // pid with another start time than at the first look belongs to somebody else. (Events of a
  // backend that is gone may be those of a transaction that it prepared.)
  void look_completed(const std::vector<Seen>& seen);

  // Writes of a transaction that was prepared, or may have been.
  void prepared(SlotBatch& slots, Carried& events);
  [[nodiscard]] bool prepared_waited_for() const { return !prepared_.empty(); }
  void begin_prepared_look();
  // `xids`: of every prepared transaction at the look begun last. Slots of those that are gone go
  // to the next fence; their events are added to `events`, to be published before it.
  void prepared_look_completed(const std::vector<uint32_t>& xids, Carried& events);

  [[nodiscard]] int64_t transactions() const;

 private:
  struct Backend {
    SlotBatch slots;
    Carried events;
    bool looked_for = false;             // part of the look under way
    std::optional<std::string> started;  // what the first look showed
  };

  struct Prepared {
    SlotBatch slots;
    Carried events;
    bool looked_for = false;
    // Gone when none of these is there; nullopt: all that were there at the first look.
    std::optional<std::unordered_set<uint32_t>> xids;
  };

  TokenTable& table_;
  SlotBatch next_;
  SlotBatch under_way_;
  std::unordered_map<uint32_t, Backend> backends_;
  std::vector<Prepared> prepared_;
};

}  // namespace pgfresh::freshness
