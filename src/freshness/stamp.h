// The (slot, token) pairs of a result's dependencies, captured before its query is sent, judged
// again at every hit (freshness.md, rules 5 and 6).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "freshness/token_table.h"
#include "pgfresh/slot_token.h"

namespace pgfresh::freshness {

using Stamp = std::vector<SlotToken>;

// The present tokens of `slots`. False, and `out` is empty, when one of them is open.
[[nodiscard]] inline bool capture(const TokenTable& table, std::span<const uint32_t> slots,
                                  Stamp& out) {
  out.clear();
  for (const uint32_t slot : slots) {
    if (table.is_open(slot)) {
      out.clear();
      return false;
    }
    out.push_back({slot, table.token(slot)});
  }
  return true;
}

enum class Judgement : uint8_t { kFresh, kOpen, kStale };

// Reads the open count before the token: the feed writes the token before it closes the slot, so
// whoever sees the slot closed sees the new token too.
[[nodiscard]] inline Judgement judge(const TokenTable& table, std::span<const SlotToken> stamp) {
  for (const SlotToken& pair : stamp) {
    if (table.is_open(pair.slot)) return Judgement::kOpen;
    if (table.token(pair.slot) != pair.token) return Judgement::kStale;
  }
  return Judgement::kFresh;
}

}  // namespace pgfresh::freshness
