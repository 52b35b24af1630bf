// One shard: an index from hash to entries, two queues of entries (S3-FIFO), and the rings of the
// slots that their stamps name. An entry is in the index, in one queue and in as many rings as it
// has links, or it is in none of them: link_in() and take_out() are the only places that change any
// of these. All links lie in the entries themselves; an entry that is linked in has one
// reference that nobody else holds, given up there and taken back by the graveyard.
//
// A miss costs what it touches: where there are many entries, each look into one of them is a wait
// for memory. So an expired entry is passed over, and replaced, by its hash alone.
//
// Not done: expiry by time. An entry that nobody asks for falls out of its queue by itself.
#include "cache/memory_store.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "cache/slot_rings.h"

namespace pgfresh::cache {
namespace {

using freshness::TokenTable;

// Rule 9 is for memory only: an event whose slot very many entries name frees some of them, in
// 0.1 ms or so; the others are found stale by their readers or fall out of their queues.
constexpr int kRemovedPerShardMax = 256;

// Most slots that an event touches are named by no entry; a counter for all slots of like hash
// says so without the lock. 4 KB a shard.
constexpr size_t kHints = 1024;

constexpr uint8_t kMarksMax = 3;
constexpr size_t kSmallShare = 10;  // the small queue's part of the room: one in so many

// Keys evicted of late are remembered by hash, as many as entries of 4 KB would fill the shard.
constexpr size_t kGhostEntryBytes = 4096;
constexpr size_t kGhostsMin = 64;
constexpr size_t kGhostsMax = 65'536;  // × 8 bytes = 512 KB a shard

constexpr size_t kBucketsMin = 64;

constexpr int64_t kWhateverItsAge = std::numeric_limits<int64_t>::min();

struct Queue {
  const Entry* head = nullptr;  // youngest
  const Entry* tail = nullptr;  // oldest
  size_t bytes = 0;
};

size_t ghosts_for(size_t bytes_max) {
  return std::bit_ceil(std::clamp(bytes_max / kGhostEntryBytes, kGhostsMin, kGhostsMax));
}

}  // namespace

// Entries on their way out, chained; let go of when the shard's lock has been left.
class MemoryStore::Graveyard {
 public:
  Graveyard() = default;
  ~Graveyard() {
    while (first_ != nullptr) {
      const EntryRef gone(SharedBytes::take_back(first_));
      first_ = std::exchange(gone->place_.next, nullptr);
    }
  }
  Graveyard(const Graveyard&) = delete;
  Graveyard& operator=(const Graveyard&) = delete;

  void bury(const Entry& entry) { entry.place_.next = std::exchange(first_, &entry); }

 private:
  const Entry* first_ = nullptr;
};

struct MemoryStore::Shard {
  std::mutex mutex;                                                          // everything below
  std::vector<const Entry*> index = std::vector<const Entry*>(kBucketsMin);  // a power of two
  size_t entries = 0;
  SlotRings rings;
  std::array<std::atomic<uint32_t>, kHints> ring_hints{};  // rings; read without the lock
  Queue small;
  Queue main;
  std::vector<uint64_t> ghosts;  // a hash at its remainder's place; a newer one overwrites
  size_t bytes_max = 0;
  StoreStats stats;

  [[nodiscard]] std::atomic<uint32_t>& hint(const SlotName& name) {
    return ring_hints[name.hash() % kHints];
  }

  [[nodiscard]] size_t bytes() const { return small.bytes + main.bytes; }

  void set_bytes_max(size_t bytes, Graveyard& graveyard) {
    bytes_max = bytes;
    ghosts.assign(ghosts_for(bytes), 0);
    make_room(graveyard);
  }

  [[nodiscard]] const Entry*& bucket_of(const Hash128& hash) {
    return index[hash.low & (index.size() - 1)];
  }

  // The first with this hash, or the next one behind `after`.
  [[nodiscard]] const Entry* find_hash(const Hash128& hash, const Entry* after = nullptr) {
    const Entry* entry = after != nullptr ? after->place_.next : bucket_of(hash);
    while (entry != nullptr && entry->hash != hash) entry = entry->place_.next;
    return entry;
  }

  [[nodiscard]] const Entry* find(const Hash128& hash, std::string_view key,
                                  int64_t now_ns = kWhateverItsAge) {
    const Entry* entry = find_hash(hash);
    while (entry != nullptr && (entry->expires_ns <= now_ns || entry->key() != key)) {
      entry = find_hash(hash, entry);
    }
    return entry;
  }

  [[nodiscard]] uint64_t& ghost_of(const Hash128& hash) {
    return ghosts[hash.low & (ghosts.size() - 1)];
  }
  [[nodiscard]] static uint64_t ghost_name(const Hash128& hash) {
    return (hash.high ^ std::rotl(hash.low, 32)) | 1;  // zero is an empty place
  }

  void insert(EntryRef owned, Graveyard& graveyard) {
    const Entry& entry = *owned;
    bool replaces = false;
    bool to_main = false;
    const Entry* old = find_hash(entry.hash);
    while (old != nullptr) {
      const Entry& each = *std::exchange(old, find_hash(entry.hash, old));
      if (each.expires_ns > entry.stored_ns && each.key() != entry.key()) continue;
      replaces = true;
      to_main = each.place_.in_main;
      entry.place_.marks = each.place_.marks;
      take_out(each, graveyard);
    }
    if (uint64_t& ghost = ghost_of(entry.hash); !replaces && ghost == ghost_name(entry.hash)) {
      ghost = 0;
      to_main = true;
    }
    link_in(std::move(owned), to_main ? main : small);
    ++stats.insertions;
    make_room(graveyard);
  }

  void link_in(EntryRef owned, Queue& queue) {
    const Entry& entry = *owned;
    push_young(queue, entry);
    for (RingLink& link : entry.links()) {
      if (rings.add(link) == SlotRings::Ring::kAlone) {
        hint({entry.table, link.slot}).fetch_add(1, std::memory_order_relaxed);
      }
    }
    if (entries >= index.size()) grow();
    const Entry*& bucket = bucket_of(entry.hash);
    entry.place_.next = std::exchange(bucket, &entry);
    ++entries;
    SharedBytes::give_up(std::move(owned).release());
  }

  void take_out(const Entry& entry, Graveyard& graveyard) {
    pull(entry);
    for (RingLink& link : entry.links()) {
      if (rings.remove(link) == SlotRings::Ring::kAlone) {
        hint({entry.table, link.slot}).fetch_sub(1, std::memory_order_relaxed);
      }
    }
    const Entry** place = &bucket_of(entry.hash);
    while (*place != &entry) {
      PGFRESH_CHECK(*place != nullptr);
      place = &(*place)->place_.next;
    }
    *place = entry.place_.next;
    --entries;
    graveyard.bury(entry);
  }

  void grow() {
    std::vector<const Entry*> old(index.size() * 2, nullptr);
    old.swap(index);
    for (const Entry* entry : old) {
      while (entry != nullptr) {
        const Entry* next = entry->place_.next;
        entry->place_.next = std::exchange(bucket_of(entry->hash), entry);
        entry = next;
      }
    }
  }

  void push_young(Queue& queue, const Entry& entry) {
    entry.place_.in_main = &queue == &main;
    entry.place_.younger = nullptr;
    entry.place_.older = queue.head;
    (queue.head != nullptr ? queue.head->place_.younger : queue.tail) = &entry;
    queue.head = &entry;
    queue.bytes += entry.charge();
  }

  void pull(const Entry& entry) {
    Queue& queue = entry.place_.in_main ? main : small;
    const Entry::Place& place = entry.place_;
    (place.younger != nullptr ? place.younger->place_.older : queue.head) = place.older;
    (place.older != nullptr ? place.older->place_.younger : queue.tail) = place.younger;
    queue.bytes -= entry.charge();
  }

  // For another reason than room. What had made it into the main queue was worth it: its next
  // answer goes there at once, or a hot row would have to prove itself after every write.
  void remove(const Entry& entry, Graveyard& graveyard) {
    if (entry.place_.in_main) ghost_of(entry.hash) = ghost_name(entry.hash);
    take_out(entry, graveyard);
    ++stats.removals;
  }

  // No ring leads to the entries of a database: those are its whose table is.
  void remove_oldest_of(const TokenTable* table, const Freed& freed, Graveyard& graveyard) {
    int looked_at = 0;
    for (const Queue* queue : {&main, &small}) {
      const Entry* entry = queue->tail;
      for (; entry != nullptr && looked_at < kRemovedPerShardMax; ++looked_at) {
        const Entry& each = *std::exchange(entry, entry->place_.younger);
        if (each.table != table) continue;
        if (freed) freed(each);
        remove(each, graveyard);
      }
    }
  }

  void make_room(Graveyard& graveyard) {
    while (bytes() > bytes_max) {
      const bool from_small = small.bytes > bytes_max / kSmallShare || main.tail == nullptr;
      const Entry& oldest = *(from_small ? small.tail : main.tail);
      uint8_t& marks = oldest.place_.marks;
      if (marks == 0) {
        if (from_small) ghost_of(oldest.hash) = ghost_name(oldest.hash);
        take_out(oldest, graveyard);
        ++stats.evictions;
        continue;
      }
      marks = from_small ? uint8_t{0} : static_cast<uint8_t>(marks - 1);
      pull(oldest);
      push_young(main, oldest);
    }
  }
};

MemoryStore::MemoryStore(size_t bytes_max, size_t shards) {
  PGFRESH_CHECK(std::has_single_bit(shards));
  for (size_t i = 0; i < shards; ++i) shards_.push_back(std::make_unique<Shard>());
  set_bytes_max(bytes_max);
}

MemoryStore::~MemoryStore() { clear(); }

MemoryStore::Shard& MemoryStore::shard_of(const Hash128& hash) {
  return *shards_[hash.high & (shards_.size() - 1)];
}

EntryRef MemoryStore::find(const Key& key, int64_t now_ns) {
  Shard& shard = shard_of(key.hash);
  const std::lock_guard lock(shard.mutex);
  const Entry* entry = shard.find(key.hash, key.bytes, now_ns);
  if (entry == nullptr) return nullptr;
  if (entry->place_.marks < kMarksMax) ++entry->place_.marks;
  return EntryRef(SharedBytes::share(entry));
}

EntryRef MemoryStore::peek(const Key& key) {
  Shard& shard = shard_of(key.hash);
  const std::lock_guard lock(shard.mutex);
  const Entry* entry = shard.find(key.hash, key.bytes);
  return entry == nullptr ? nullptr : EntryRef(SharedBytes::share(entry));
}

bool MemoryStore::insert(EntryRef entry) {
  Shard& shard = shard_of(entry->hash);
  Graveyard graveyard;
  const std::lock_guard lock(shard.mutex);
  if (entry->charge() > shard.bytes_max) return false;
  shard.insert(std::move(entry), graveyard);
  return true;
}

void MemoryStore::remove(const Entry& entry) {
  Shard& shard = shard_of(entry.hash);
  Graveyard graveyard;
  const std::lock_guard lock(shard.mutex);
  if (shard.find(entry.hash, entry.key()) == &entry) shard.remove(entry, graveyard);
}

void MemoryStore::remove_slot(const TokenTable* table, uint32_t slot, const Freed& freed) {
  if (slot == freshness::kSchemaSlot) {
    for (const auto& shard : shards_) {
      Graveyard graveyard;
      const std::lock_guard lock(shard->mutex);
      shard->remove_oldest_of(table, freed, graveyard);
    }
    return;
  }
  const SlotName name{table, slot};
  for (const auto& shard : shards_) {
    if (shard->hint(name).load(std::memory_order_relaxed) == 0) continue;
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    for (int removed = 0; removed < kRemovedPerShardMax; ++removed) {
      // The oldest first: the youngest may already be a new answer.
      const RingLink* link = shard->rings.oldest(name);
      if (link == nullptr) break;
      if (freed) freed(*link->entry);
      shard->remove(*link->entry, graveyard);
    }
  }
}

size_t MemoryStore::remove_if(const std::function<bool(const Entry&)>& named) {
  size_t removed = 0;
  for (const auto& shard : shards_) {
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    std::vector<const Entry*> found;
    for (const Entry* first : shard->index) {
      for (const Entry* entry = first; entry != nullptr; entry = entry->place_.next) {
        if (named(*entry)) found.push_back(entry);
      }
    }
    for (const Entry* entry : found) shard->remove(*entry, graveyard);
    removed += found.size();
  }
  return removed;
}

void MemoryStore::clear() {
  for (const auto& shard : shards_) {
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    for (const Queue* queue : {&shard->small, &shard->main}) {
      while (queue->tail != nullptr) {
        shard->take_out(*queue->tail, graveyard);
        ++shard->stats.removals;
      }
    }
  }
}

void MemoryStore::set_bytes_max(size_t bytes_max) {
  for (const auto& shard : shards_) {
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    shard->set_bytes_max(bytes_max / shards_.size(), graveyard);
  }
}

StoreStats MemoryStore::stats() const {
  StoreStats total;
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    total.entries += shard->entries;
    total.bytes += shard->bytes();
    total.bytes_max += shard->bytes_max;
    total.insertions += shard->stats.insertions;
    total.evictions += shard->stats.evictions;
    total.removals += shard->stats.removals;
  }
  return total;
}

}  // namespace pgfresh::cache
