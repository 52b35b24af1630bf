// L1: entries in this process's memory, sharded by key hash, bounded in bytes. Any thread.
//
// Eviction is <the implementer says which and why, in this comment>: it must be resistant to scans, and a
// hit must not take a lock for writing anything but a mark.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/entry.h"

namespace pgfresh::cache {

struct StoreStats {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t bytes_max = 0;
  uint64_t insertions = 0;
  uint64_t evictions = 0;  // for room; not expiry, not invalidation
  uint64_t removals = 0;   // invalidated, expired or flushed
};

class MemoryStore {
 public:
  // REQUIRES: shards is a power of two.
  MemoryStore(size_t bytes_max, size_t shards);
  ~MemoryStore();
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;

  // The entry with exactly this key, whatever its age: the caller judges. Null when there is none.
  [[nodiscard]] EntryRef find(const Key& key);
  // Replaces an entry of the same key. False when it alone is larger than a shard's share.
  bool insert(std::shared_ptr<Entry> entry);
  // Removes `entry` if it is still the one stored (found stale or expired by a reader).
  void remove(const Entry& entry);
  // Rule 9: frees the entries whose stamp has this slot of this domain. Correctness never waits.
  void remove_slot(const freshness::TokenTable* table, uint32_t slot);
  void clear();
  void set_bytes_max(size_t bytes_max);
  [[nodiscard]] StoreStats stats() const;

 private:
  struct Shard;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace pgfresh::cache
