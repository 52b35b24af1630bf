// L1: entries in this process's memory, sharded by key hash, bounded in bytes. Any thread; a shard
// is a mutex around its tables, held for a look-up or for a bounded number of changes (but for
// clear() and a smaller bound), never while an entry is freed.
//
// Eviction is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
// A new entry enters a small queue of a tenth of the room and moves on to the main queue only if
// it was hit there, or if its key had been evicted a short while ago. So a scan, a report that
// reads ten thousand rows once, passes through the tenth and leaves the rest alone; SIEVE, which
// is simpler, lets a scan through everything that has not been hit since its hand last passed. A
// hit writes one mark, up to three, in the entry's place and moves nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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

  // The entry with exactly this key, unless it has expired by `now_ns` (the loop's clock); whether
  // it is fresh and young enough, the caller judges. Null when there is none.
  [[nodiscard]] EntryRef find(const Key& key, int64_t now_ns);
  // The same whatever its age, for people: it does not count as a use.
  [[nodiscard]] EntryRef peek(const Key& key);
  // Replaces an entry of the same key. False when it alone is larger than a shard's share.
  bool insert(EntryRef entry);
  // Removes `entry` if it is still the one stored (found stale by a reader).
  void remove(const Entry& entry);
  // Rule 9: frees the entries whose stamp has this slot of this domain; a bounded number, for
  // correctness never waits. `freed` is told of each, under a shard's lock. For kSchemaSlot: some
  // of the domain's oldest.
  using Freed = std::function<void(const Entry&)>;
  void remove_slot(const freshness::TokenTable* table, uint32_t slot, const Freed& freed = {});
  // Removes every entry that `named` names; their number. For people: it looks at all entries.
  size_t remove_if(const std::function<bool(const Entry&)>& named);
  void clear();
  void set_bytes_max(size_t bytes_max);
  [[nodiscard]] StoreStats stats() const;

 private:
  struct Shard;
  class Graveyard;
  [[nodiscard]] Shard& shard_of(const Hash128& hash);

  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace pgfresh::cache
