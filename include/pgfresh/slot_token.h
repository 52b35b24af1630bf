// One pair of a stamp: a slot of a database's token table, and the token it held. What a token is,
// and why equal tokens mean equal pasts, is told in freshness/token_table.h.
#pragma once

#include <cstdint>

namespace pgfresh::freshness {

struct SlotToken {
  uint32_t slot = 0;
  uint64_t token = 0;
  friend bool operator==(const SlotToken&, const SlotToken&) = default;
};

}  // namespace pgfresh::freshness
