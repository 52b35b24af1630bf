// One shard: an index from hash to nodes, two queues of nodes (S3-FIFO), and for each slot that
// some stamp names a ring of the nodes that name it. A node is in the index, in one queue and in
// as many rings as its stamp has slots, or it does not exist: link_in() and take_out() are the
// only places that change any of these.
//
// Not done: expiry by time. An entry that nobody asks for falls out of its queue by itself.
#include "cache/memory_store.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/check.h"

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

struct Node;

// A node's place in the ring of one slot, or the ring's anchor, whose node is null.
struct Link {
  Link* prev = this;
  Link* next = this;
  Node* node = nullptr;

  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
};

struct Queue {
  Node* head = nullptr;  // youngest
  Node* tail = nullptr;  // oldest
  size_t bytes = 0;
};

struct Node {
  std::shared_ptr<Entry> entry;
  std::unique_ptr<Link[]> links;  // one for each pair of the stamp
  size_t charge = 0;
  Queue* queue = nullptr;
  Node* younger = nullptr;
  Node* older = nullptr;
  uint8_t marks = 0;
};

struct SlotName {
  const TokenTable* table = nullptr;
  uint32_t slot = 0;
  friend bool operator==(const SlotName&, const SlotName&) = default;
};

struct SlotNameHash {
  size_t operator()(const SlotName& name) const {
    return (reinterpret_cast<uintptr_t>(name.table) >> 4) * 31 +
           name.slot * size_t{0x9E3779B97F4A7C15U};
  }
};

struct KeyHash {
  size_t operator()(const Hash128& hash) const { return hash.low; }
};

// Entries on their way out; freed when the shard's lock has been left.
using Graveyard = std::vector<std::shared_ptr<Entry>>;

void push_young(Queue& queue, Node& node) {
  node.queue = &queue;
  node.younger = nullptr;
  node.older = queue.head;
  (queue.head != nullptr ? queue.head->younger : queue.tail) = &node;
  queue.head = &node;
  queue.bytes += node.charge;
}

void pull(Node& node) {
  Queue& queue = *node.queue;
  (node.younger != nullptr ? node.younger->older : queue.head) = node.older;
  (node.older != nullptr ? node.older->younger : queue.tail) = node.younger;
  queue.bytes -= node.charge;
  node.queue = nullptr;
}

size_t ghosts_for(size_t bytes_max) {
  return std::bit_ceil(std::clamp(bytes_max / kGhostEntryBytes, kGhostsMin, kGhostsMax));
}

}  // namespace

struct MemoryStore::Shard {
  using Index = std::unordered_multimap<Hash128, std::unique_ptr<Node>, KeyHash>;

  std::mutex mutex;  // everything below
  Index index;
  std::unordered_map<SlotName, Link, SlotNameHash> rings;
  std::array<std::atomic<uint32_t>, kHints> ring_hints{};  // rings; read without the lock
  Queue small;
  Queue main;
  std::vector<uint64_t> ghosts;  // a hash at its remainder's place; a newer one overwrites
  size_t bytes_max = 0;
  StoreStats stats;

  [[nodiscard]] std::atomic<uint32_t>& hint(const SlotName& name) {
    return ring_hints[SlotNameHash()(name) % kHints];
  }

  [[nodiscard]] size_t bytes() const { return small.bytes + main.bytes; }

  void set_bytes_max(size_t bytes, Graveyard& graveyard) {
    bytes_max = bytes;
    ghosts.assign(ghosts_for(bytes), 0);
    make_room(graveyard);
  }

  [[nodiscard]] Index::iterator find(const Hash128& hash, std::string_view key) {
    auto [it, end] = index.equal_range(hash);
    while (it != end && it->second->entry->key != key) ++it;
    return it != end ? it : index.end();
  }

  [[nodiscard]] Index::iterator place_of(const Node& node) {
    auto [it, end] = index.equal_range(node.entry->hash);
    while (it != end && it->second.get() != &node) ++it;
    PGFRESH_CHECK(it != end);
    return it;
  }

  [[nodiscard]] uint64_t& ghost_of(const Hash128& hash) {
    return ghosts[hash.low & (ghosts.size() - 1)];
  }
  [[nodiscard]] static uint64_t ghost_name(const Hash128& hash) {
    return (hash.high ^ std::rotl(hash.low, 32)) | 1;  // zero is an empty place
  }

  void insert(std::shared_ptr<Entry> entry, size_t charge, Graveyard& graveyard) {
    auto node = std::make_unique<Node>();
    node->charge = charge;
    Queue* queue = &small;
    if (const auto old = find(entry->hash, entry->key); old != index.end()) {
      queue = old->second->queue;
      node->marks = old->second->marks;
      take_out(old, graveyard);
    } else if (uint64_t& ghost = ghost_of(entry->hash); ghost == ghost_name(entry->hash)) {
      ghost = 0;
      queue = &main;
    }
    node->entry = std::move(entry);
    link_in(std::move(node), *queue);
    ++stats.insertions;
    make_room(graveyard);
  }

  void link_in(std::unique_ptr<Node> owned, Queue& queue) {
    Node& node = *owned;
    const Entry& entry = *node.entry;
    push_young(queue, node);
    node.links = std::make_unique<Link[]>(entry.stamp.size());
    for (size_t i = 0; i < entry.stamp.size(); ++i) {
      const SlotName name{entry.table, entry.stamp[i].slot};
      const auto [ring, made] = rings.try_emplace(name);
      if (made) hint(name).fetch_add(1, std::memory_order_relaxed);
      Link& anchor = ring->second;
      Link& link = node.links[i];
      link.node = &node;
      link.prev = &anchor;
      link.next = anchor.next;
      anchor.next->prev = &link;
      anchor.next = &link;
    }
    index.emplace(entry.hash, std::move(owned));
  }

  void take_out(Index::iterator place, Graveyard& graveyard) {
    Node& node = *place->second;
    const Entry& entry = *node.entry;
    pull(node);
    for (size_t i = 0; i < entry.stamp.size(); ++i) {
      Link& link = node.links[i];
      link.prev->next = link.next;
      link.next->prev = link.prev;
      const bool last = link.prev == link.next && link.prev->node == nullptr;
      if (!last) continue;
      const SlotName name{entry.table, entry.stamp[i].slot};
      rings.erase(name);
      hint(name).fetch_sub(1, std::memory_order_relaxed);
    }
    graveyard.push_back(std::move(node.entry));
    index.erase(place);
  }

  // For another reason than room. What had made it into the main queue was worth it: its next
  // answer goes there at once, or a hot row would have to prove itself after every write.
  void remove(Index::iterator place, Graveyard& graveyard) {
    const Node& node = *place->second;
    if (node.queue == &main) ghost_of(node.entry->hash) = ghost_name(node.entry->hash);
    take_out(place, graveyard);
    ++stats.removals;
  }

  void make_room(Graveyard& graveyard) {
    while (bytes() > bytes_max) {
      const bool from_small = small.bytes > bytes_max / kSmallShare || main.tail == nullptr;
      Node& oldest = *(from_small ? small.tail : main.tail);
      if (oldest.marks == 0) {
        if (from_small) ghost_of(oldest.entry->hash) = ghost_name(oldest.entry->hash);
        take_out(place_of(oldest), graveyard);
        ++stats.evictions;
        continue;
      }
      oldest.marks = from_small ? uint8_t{0} : static_cast<uint8_t>(oldest.marks - 1);
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

MemoryStore::~MemoryStore() = default;

MemoryStore::Shard& MemoryStore::shard_of(const Hash128& hash) {
  return *shards_[hash.high & (shards_.size() - 1)];
}

EntryRef MemoryStore::find(const Key& key) {
  Shard& shard = shard_of(key.hash);
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.find(key.hash, key.bytes);
  if (place == shard.index.end()) return nullptr;
  Node& node = *place->second;
  if (node.marks < kMarksMax) ++node.marks;
  return node.entry;
}

EntryRef MemoryStore::peek(const Key& key) {
  Shard& shard = shard_of(key.hash);
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.find(key.hash, key.bytes);
  return place == shard.index.end() ? nullptr : place->second->entry;
}

bool MemoryStore::insert(std::shared_ptr<Entry> entry) {
  Shard& shard = shard_of(entry->hash);
  const size_t charge = entry->charge();
  Graveyard graveyard;
  const std::lock_guard lock(shard.mutex);
  if (charge > shard.bytes_max) return false;
  shard.insert(std::move(entry), charge, graveyard);
  return true;
}

void MemoryStore::remove(const Entry& entry) {
  Shard& shard = shard_of(entry.hash);
  Graveyard graveyard;
  const std::lock_guard lock(shard.mutex);
  const auto place = shard.find(entry.hash, entry.key);
  if (place == shard.index.end() || place->second->entry.get() != &entry) return;
  shard.remove(place, graveyard);
}

void MemoryStore::remove_slot(const TokenTable* table, uint32_t slot, const Freed& freed) {
  const SlotName name{table, slot};
  for (const auto& shard : shards_) {
    if (shard->hint(name).load(std::memory_order_relaxed) == 0) continue;
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    for (int removed = 0; removed < kRemovedPerShardMax; ++removed) {
      const auto ring = shard->rings.find(name);
      if (ring == shard->rings.end()) break;
      // The oldest first: the youngest may already be a new answer.
      const Node& oldest = *ring->second.prev->node;
      if (freed) freed(*oldest.entry);
      shard->remove(shard->place_of(oldest), graveyard);
    }
  }
}

size_t MemoryStore::remove_if(const std::function<bool(const Entry&)>& named) {
  size_t removed = 0;
  for (const auto& shard : shards_) {
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    std::vector<const Node*> found;
    for (const auto& [hash, node] : shard->index) {
      if (named(*node->entry)) found.push_back(node.get());
    }
    for (const Node* node : found) shard->remove(shard->place_of(*node), graveyard);
    removed += found.size();
  }
  return removed;
}

void MemoryStore::clear() {
  for (const auto& shard : shards_) {
    Graveyard graveyard;
    const std::lock_guard lock(shard->mutex);
    while (!shard->index.empty()) {
      shard->take_out(shard->index.begin(), graveyard);
      ++shard->stats.removals;
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
    total.entries += shard->index.size();
    total.bytes += shard->bytes();
    total.bytes_max += shard->bytes_max;
    total.insertions += shard->stats.insertions;
    total.evictions += shard->stats.evictions;
    total.removals += shard->stats.removals;
  }
  return total;
}

}  // namespace pgfresh::cache
