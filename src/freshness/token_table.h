// The slots of one database: for each, the token of the last event that touched it, and how many
// unsettled transactions of this proxy have written one of its tags. See freshness.md, "Words".
//
// A token names the events that touched the slot since the base: each event mixes its xid8 into
// the token before it, and the first into the base. So every event leaves a token that was never
// seen before, also when the xid has been seen: because anybody may NOTIFY anything (an old
// payload repeated, or a future xid, must not bring an entry back to life), and because a server
// that crashed or was restored may hand out an xid again. Tables of equal base that are fed the
// same stream hold equal tokens, whoever owns them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "pgfresh/slot_token.h"

namespace pgfresh::freshness {

using Oid = uint32_t;

// Every base has it, no xid8 does: what a slot holds tells which it is.
inline constexpr uint64_t kBaseBit = uint64_t{1} << 63;

// Names of things a result depends on, within one database. Hashes: a collision costs a miss.
[[nodiscard]] uint64_t any_tag(Oid root);
[[nodiscard]] uint64_t whole_tag(Oid root);
[[nodiscard]] uint64_t key_tag(Oid root, int16_t column, std::string_view canonical_value);
[[nodiscard]] constexpr uint64_t schema_tag() { return 0; }
inline constexpr uint32_t kSchemaSlot = 0;  // schema_tag()'s, in every table

// Tokens are written by the feed's thread alone; open counts by any thread; both are read by all.
class TokenTable {
 public:
  // 2^slot_bits slots; 12 bytes each, of which only touched pages are resident.
  // REQUIRES: 2 <= slot_bits <= 24; base as in rebase().
  TokenTable(int slot_bits, uint64_t base);
  ~TokenTable();
  TokenTable(const TokenTable&) = delete;
  TokenTable& operator=(const TokenTable&) = delete;

  // kSchemaSlot is schema_tag()'s alone: its token changes with a DDL event or a new base, and
  // never because of a write, or the catalog would have to be read again after each of these.
  [[nodiscard]] uint32_t slot_of(uint64_t tag) const {
    const auto slot = static_cast<uint32_t>(tag >> (64 - slot_bits_));
    return slot != kSchemaSlot || tag == schema_tag() ? slot : 1;
  }

  // The slot's token: what the events since the base have made of it, or the base.
  [[nodiscard]] uint64_t token(uint32_t slot) const {
    const uint64_t own = tokens_[slot].load(std::memory_order_acquire);
    return own != 0 ? own : base_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool is_open(uint32_t slot) const {
    return opens_[slot].load(std::memory_order_acquire) != 0;
  }

  // Feed thread only. REQUIRES: xid != 0, below 2^63.
  void touch(uint32_t slot, uint64_t xid);
  // Feed thread only: every slot's token becomes `base` (2^63 or above, never used before). The
  // caller has ended the lease first: a reader may meet slots of both kinds meanwhile.
  void rebase(uint64_t base);
  [[nodiscard]] uint64_t base() const { return base_.load(std::memory_order_acquire); }
  // Feed thread only: the table becomes a copy of another one, of this base and these touched slots
  // (join.h). `between`: a base never used, which is in force until the copy is whole. The lease
  // has been ended first. A token of schema(D) of the new kind is not to be seen before every other
  // slot is of the new kind, too: so whoever judges by a stamp of that kind, which begins with it,
  // meets no mixture. REQUIRES: all slots exist, no token is 0.
  void adopt(uint64_t between, uint64_t base, const std::vector<SlotToken>& touched);
  // Feed thread only: the slots whose token is not the base.
  [[nodiscard]] std::vector<SlotToken> touched() const;
  // Feed thread only: tables of equal base and equal touched slots have equal digests, others
  // (but for chance) different ones.
  [[nodiscard]] uint64_t digest() const { return digest_; }
  [[nodiscard]] int slot_bits() const { return slot_bits_; }

  void open(uint32_t slot);
  // REQUIRES: a matching open().
  void close(uint32_t slot);
  // Slots opened and not closed, counted with their multiplicity.
  [[nodiscard]] int64_t open_total() const { return open_total_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] size_t slots() const { return size_t{1} << slot_bits_; }

  const int slot_bits_;
  std::atomic<uint64_t>* tokens_;  // 2^slot_bits, zero: the base; memory of its own mapping
  std::atomic<uint32_t>* opens_;
  std::atomic<uint64_t> base_;
  std::atomic<int64_t> open_total_{0};
  // Of the touched slots, each by itself: what a touch changes is one of them.
  uint64_t digest_ = 0;
};

}  // namespace pgfresh::freshness
