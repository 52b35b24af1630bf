// The slots of one database: for each, the token of the last event that touched it, and how many
// unsettled transactions of this proxy have written one of its tags. See freshness.md, "Words".
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace pgfresh::freshness {

using Oid = uint32_t;

// Names of things a result depends on, within one database. Hashes: a collision costs a miss.
[[nodiscard]] uint64_t any_tag(Oid root);
[[nodiscard]] uint64_t whole_tag(Oid root);
[[nodiscard]] uint64_t key_tag(Oid root, int16_t column, std::string_view canonical_value);
[[nodiscard]] uint64_t schema_tag();

// Tokens are written by the feed's thread alone; open counts by any thread; both are read by all.
class TokenTable {
 public:
  // 2^slot_bits slots; 12 bytes each, of which only touched pages are resident.
  // REQUIRES: 2 <= slot_bits <= 24.
  TokenTable(int slot_bits, uint64_t base);
  ~TokenTable();
  TokenTable(const TokenTable&) = delete;
  TokenTable& operator=(const TokenTable&) = delete;

  [[nodiscard]] uint32_t slot_of(uint64_t tag) const {
    return static_cast<uint32_t>(tag >> (64 - slot_bits_));
  }

  // The slot's token: the xid8 of the last event, or the base.
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

  void open(uint32_t slot);
  // REQUIRES: a matching open().
  void close(uint32_t slot);
  // Slots opened and not closed, counted with their multiplicity.
  [[nodiscard]] int64_t open_total() const { return open_total_.load(std::memory_order_relaxed); }

 private:
  const int slot_bits_;
  std::atomic<uint64_t>* tokens_;  // 2^slot_bits, zero: the base; memory of its own mapping
  std::atomic<uint32_t>* opens_;
  std::atomic<uint64_t> base_;
  std::atomic<int64_t> open_total_{0};
};

}  // namespace pgfresh::freshness
