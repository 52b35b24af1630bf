// A slot is closed exactly as often as it was opened; every path through here moves batches whole,
// so none is closed twice and none is dropped.
#include "freshness/settle.h"

#include <algorithm>
#include <utility>

namespace pgfresh::freshness {

void SlotBatch::add(const std::vector<uint32_t>& slots) {
  ++transactions_;
  singles_.insert(singles_.end(), slots.begin(), slots.end());
  if (singles_.size() > kSinglesMax) collapse();
}

void SlotBatch::take(SlotBatch& other) {
  transactions_ += std::exchange(other.transactions_, 0);
  if (singles_.empty()) {
    singles_.swap(other.singles_);
  } else {
    singles_.insert(singles_.end(), other.singles_.begin(), other.singles_.end());
    other.singles_.clear();
  }
  if (counts_.empty()) {
    counts_.swap(other.counts_);
  } else {
    for (const auto& [slot, count] : other.counts_) counts_[slot] += count;
    other.counts_.clear();
  }
  if (singles_.size() > kSinglesMax) collapse();
}

void SlotBatch::close_all(TokenTable& table) {
  for (const uint32_t slot : singles_) table.close(slot);
  for (const auto& [slot, count] : counts_) {
    for (uint32_t i = 0; i < count; ++i) table.close(slot);
  }
  singles_.clear();
  counts_.clear();
  transactions_ = 0;
}

void SlotBatch::collapse() {
  for (const uint32_t slot : singles_) ++counts_[slot];
  singles_.clear();
  singles_.shrink_to_fit();
}

void Settlement::fence_begun() { under_way_.take(next_); }

void Settlement::fence_completed() { under_way_.close_all(table_); }

void Settlement::fence_lost() { next_.take(under_way_); }

// A pid that comes again while it is waited for: the older transactions then wait together with
// the younger, which is late, not wrong.
void Settlement::lost(uint32_t pid, Writes writes) {
  Backend& backend = backends_[pid];
  backend.slots.add(writes.slots);
  backend.events.take(writes.events);
  backend.looked_for = false;
  backend.started.reset();
}

std::vector<uint32_t> Settlement::begin_look() {
  std::vector<uint32_t> pids;
  pids.reserve(backends_.size());
  for (auto& [pid, backend] : backends_) {
    pids.push_back(pid);
    backend.looked_for = true;
  }
  return pids;
}

void Settlement::look_completed(const std::vector<Seen>& seen) {
  std::unordered_map<uint32_t, const std::string*> present;
  for (const Seen& one : seen) present[one.pid] = &one.started;
  for (auto it = backends_.begin(); it != backends_.end();) {
    Backend& backend = it->second;
    const auto shown = present.find(it->first);
    const bool there = shown != present.end() &&
                       (!backend.started.has_value() || *backend.started == *shown->second);
    if (!backend.looked_for || there) {
      if (backend.looked_for) backend.started = *shown->second;
      ++it;
      continue;
    }
    if (backend.events.empty()) {
      next_.take(backend.slots);
    } else {
      prepared(backend.slots, backend.events);
    }
    it = backends_.erase(it);
  }
}

void Settlement::prepared(SlotBatch& slots, Carried& events) {
  Prepared& one = prepared_.emplace_back();
  one.slots.take(slots);
  std::unordered_set<uint32_t> xids;
  if (events.writers(xids)) one.xids = std::move(xids);
  one.events.take(events);
}

void Settlement::begin_prepared_look() {
  for (Prepared& one : prepared_) one.looked_for = true;
}

void Settlement::prepared_look_completed(const std::vector<uint32_t>& xids, Carried& events) {
  std::erase_if(prepared_, [&](Prepared& one) {
    if (!one.looked_for) return false;
    if (!one.xids.has_value()) one.xids.emplace(xids.begin(), xids.end());
    const bool there = std::any_of(xids.begin(), xids.end(),
                                   [&](uint32_t xid) { return one.xids->contains(xid); });
    if (there) return false;
    next_.take(one.slots);
    events.take(one.events);
    return true;
  });
}

int64_t Settlement::transactions() const {
  int64_t total = next_.transactions() + under_way_.transactions();
  for (const auto& [pid, backend] : backends_) total += backend.slots.transactions();
  for (const Prepared& one : prepared_) total += one.slots.transactions();
  return total;
}

}  // namespace pgfresh::freshness
