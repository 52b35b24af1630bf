// One cached answer: the bytes PostgreSQL sent, ready for the wire, the whole key they answer and
// the stamp they are judged by. Immutable but for its statistics and its places in the store.
//
// All of it lies in one piece of shared memory, in this order:
//   [Entry][stamp: SlotToken…][links: RingLink…][key][body]
// so that a fill is one allocation, an eviction frees one, and a stream that cannot send the body
// at once keeps the whole by one reference.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/hash.h"
#include "freshness/stamp.h"
#include "pgfresh/shared_bytes.h"

namespace pgfresh::cache {

// A whole key and the hash that finds it. `bytes` are compared at every hit.
struct Key {
  std::string_view bytes;
  Hash128 hash;
};

class Entry;

// A counted reference to an entry, or nothing. Thread-safe as std::shared_ptr is.
class EntryRef {
 public:
  EntryRef() = default;
  EntryRef(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): as for any pointer
  explicit EntryRef(SharedBytes bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] const Entry* get() const {
    return reinterpret_cast<const Entry*>(bytes_.view().data());
  }
  const Entry* operator->() const { return get(); }
  const Entry& operator*() const { return *get(); }
  explicit operator bool() const { return static_cast<bool>(bytes_); }
  void reset() { bytes_ = SharedBytes(); }
  // The memory that the entry and its body lie in.
  [[nodiscard]] const SharedBytes& bytes() const { return bytes_; }
  [[nodiscard]] SharedBytes release() && { return std::move(bytes_); }

  friend bool operator==(const EntryRef& a, const EntryRef& b) { return a.get() == b.get(); }
  friend bool operator==(const EntryRef& a, std::nullptr_t) { return !a; }

 private:
  SharedBytes bytes_;
};

// One pair's place in the store's ring of its slot (slot_rings.h); under the shard's lock. The
// first pair has none where it is the schema's: every entry of its database would stand there.
struct RingLink {
  RingLink* older = nullptr;  // circular
  RingLink* younger = nullptr;
  RingLink* chain = nullptr;  // of the oldest of a ring: the next ring in its bucket
  const Entry* entry = nullptr;
  uint32_t slot = 0;
  bool is_oldest = false;
};

// What an entry is made from; the views are copied.
struct EntryDraft {
  Key key;
  std::span<const freshness::SlotToken> stamp;
  const freshness::TokenTable* table = nullptr;  // whose slots the stamp names; outlives the entry
  // [RowDescription][DataRow…][CommandComplete], or [ParameterDescription][RowDescription|NoData]
  // for the description of a statement. Without RowDescription when the client that filled it had
  // not asked for one.
  std::string_view body;
  uint32_t description_bytes = 0;  // length of the RowDescription at the front of `body`
  uint64_t shape = 0;     // names and types of its columns, hashed (proxy/fetch.h); 0: not known
  uint64_t query_id = 0;  // query::Statement::query_id of what it answers
  int64_t stored_ns = 0;  // on the loop's clock
  int64_t expires_ns = 0;
  int64_t upstream_ns = 0;  // what PostgreSQL took, first byte sent to last byte received
};

class Entry {
  // The store's, under its shard's lock.
  struct Place {
    const Entry* next = nullptr;  // in the same bucket, or in a graveyard
    const Entry* younger = nullptr;
    const Entry* older = nullptr;
    uint8_t marks = 0;
    bool in_main = false;  // of the two queues
  };

 public:
  // REQUIRES: key and body below 4 GB.
  [[nodiscard]] static EntryRef make(const EntryDraft& draft);
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  [[nodiscard]] std::string_view key() const { return {key_begin(), key_bytes_}; }
  [[nodiscard]] std::string_view body() const { return {key_begin() + key_bytes_, body_bytes_}; }
  [[nodiscard]] std::span<const freshness::SlotToken> stamp() const {
    return {reinterpret_cast<const freshness::SlotToken*>(this + 1), pairs_};
  }
  [[nodiscard]] bool has_description() const { return description_bytes != 0; }
  // What the entry is charged for: its memory, malloc's share of it, and its places in the tables.
  [[nodiscard]] size_t charge() const;

  // Constant; see EntryDraft. In front what finds an entry, and what passes over it.
  const Hash128 hash;
  const int64_t expires_ns;

 private:
  mutable Place place_;
  const uint32_t key_bytes_;
  const uint32_t body_bytes_;
  const uint32_t pairs_;
  const uint32_t links_;

 public:
  const uint32_t description_bytes;
  const freshness::TokenTable* const table;
  const uint64_t shape;
  const uint64_t query_id;
  const int64_t stored_ns;
  const int64_t upstream_ns;

  // Any thread.
  mutable std::atomic<uint64_t> hits{0};

 private:
  friend class MemoryStore;

  explicit Entry(const EntryDraft& draft);
  [[nodiscard]] std::span<RingLink> links() const {
    return {reinterpret_cast<RingLink*>(const_cast<freshness::SlotToken*>(stamp().data() + pairs_)),
            links_};
  }
  [[nodiscard]] const char* key_begin() const {
    return reinterpret_cast<const char*>(this + 1) + pairs_ * sizeof(freshness::SlotToken) +
           links_ * sizeof(RingLink);
  }
};

// Freed as bytes, without a destructor.
static_assert(std::is_trivially_destructible_v<Entry>);
static_assert(sizeof(Entry) % alignof(freshness::SlotToken) == 0);
static_assert(sizeof(freshness::SlotToken) % alignof(RingLink) == 0);

}  // namespace pgfresh::cache
