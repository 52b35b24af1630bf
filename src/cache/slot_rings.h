// For each slot that some stamp names, the ring of the pairs that name it, oldest first: how an
// event finds the entries it has killed. The links lie in the entries, so that naming a slot
// allocates nothing but, now and then, a larger table. Under the lock of whoever owns it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/entry.h"

namespace pgfresh::cache {

// A slot of one domain.
struct SlotName {
  const freshness::TokenTable* table = nullptr;
  uint32_t slot = 0;

  [[nodiscard]] size_t hash() const;
};

class SlotRings {
 public:
  SlotRings();

  enum class Ring : uint8_t { kAlone, kShared };  // the only pair of its slot, or not
  // REQUIRES: `link` is in no ring, and stays where it is until it is removed.
  Ring add(RingLink& link);
  // REQUIRES: `link` is in a ring. kAlone: the ring is gone with it.
  Ring remove(RingLink& link);
  // Null when no pair names it.
  [[nodiscard]] RingLink* oldest(const SlotName& name) const;
  [[nodiscard]] size_t size() const { return rings_; }

 private:
  [[nodiscard]] RingLink*& bucket_of(const SlotName& name) {
    return buckets_[name.hash() & (buckets_.size() - 1)];
  }
  void grow();

  std::vector<RingLink*> buckets_;  // the oldest of each ring, chained; a power of two
  size_t rings_ = 0;
};

}  // namespace pgfresh::cache
