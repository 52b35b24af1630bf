#include "cache/slot_rings.h"

#include "base/check.h"

namespace pgfresh::cache {
namespace {

constexpr size_t kRingBucketsMin = 64;

SlotName name_of(const RingLink& link) { return {link.entry->table, link.slot}; }

bool names(const RingLink& link, const SlotName& name) {
  return link.slot == name.slot && link.entry->table == name.table;
}

}  // namespace

size_t SlotName::hash() const {
  uint64_t mixed = (reinterpret_cast<uintptr_t>(table) >> 4) + slot;
  mixed *= 0x9E3779B97F4A7C15U;
  return mixed ^ (mixed >> 32);
}

SlotRings::SlotRings() : buckets_(kRingBucketsMin, nullptr) {}

RingLink* SlotRings::oldest(const SlotName& name) const {
  RingLink* link = buckets_[name.hash() & (buckets_.size() - 1)];
  while (link != nullptr && !names(*link, name)) link = link->chain;
  return link;
}

SlotRings::Ring SlotRings::add(RingLink& link) {
  const SlotName name = name_of(link);
  if (RingLink* oldest = this->oldest(name)) {
    RingLink* youngest = oldest->older;
    link.older = youngest;
    link.younger = oldest;
    youngest->younger = &link;
    oldest->older = &link;
    link.is_oldest = false;
    return Ring::kShared;
  }
  if (rings_ >= buckets_.size()) grow();
  link.older = link.younger = &link;
  link.is_oldest = true;
  RingLink*& bucket = bucket_of(name);
  link.chain = bucket;
  bucket = &link;
  ++rings_;
  return Ring::kAlone;
}

SlotRings::Ring SlotRings::remove(RingLink& link) {
  const bool alone = link.younger == &link;
  if (link.is_oldest) {
    RingLink** place = &bucket_of(name_of(link));
    while (*place != &link) {
      PGFRESH_CHECK(*place != nullptr);
      place = &(*place)->chain;
    }
    *place = link.chain;
    if (!alone) {
      RingLink& heir = *link.younger;
      heir.is_oldest = true;
      heir.chain = *place;
      *place = &heir;
    }
  }
  if (alone) {
    --rings_;
    return Ring::kAlone;
  }
  link.older->younger = link.younger;
  link.younger->older = link.older;
  return Ring::kShared;
}

void SlotRings::grow() {
  std::vector<RingLink*> old(buckets_.size() * 2, nullptr);
  old.swap(buckets_);
  for (RingLink* link : old) {
    while (link != nullptr) {
      RingLink* next = link->chain;
      RingLink*& bucket = bucket_of(name_of(*link));
      link->chain = bucket;
      bucket = link;
      link = next;
    }
  }
}

}  // namespace pgfresh::cache
