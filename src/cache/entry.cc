#include "cache/entry.h"

#include <cstring>
#include <limits>
#include <new>

#include "base/check.h"

namespace pgfresh::cache {
namespace {

using freshness::SlotToken;

// The store's tables: a pointer in the index and one for each slot that nobody else names, with
// tables at most twice as large as they are full.
constexpr size_t kIndexBytes = 16;
constexpr size_t kRingBytes = 16;
// glibc's malloc: 8 bytes a chunk, and chunks of multiples of 16.
constexpr size_t kChunkHeader = 8;
constexpr size_t kChunkUnit = 16;

// The pairs that have a place in a ring of their slot; see RingLink.
std::span<const SlotToken> linked(std::span<const SlotToken> stamp) {
  const bool of_schema = !stamp.empty() && stamp.front().slot == freshness::kSchemaSlot;
  return stamp.subspan(of_schema ? 1 : 0);
}

size_t total_bytes(size_t pairs, size_t links, size_t key_bytes, size_t body_bytes) {
  return sizeof(Entry) + pairs * sizeof(SlotToken) + links * sizeof(RingLink) + key_bytes +
         body_bytes;
}

}  // namespace

EntryRef Entry::make(const EntryDraft& draft) {
  constexpr size_t kPartMax = std::numeric_limits<uint32_t>::max();
  const std::string_view key = draft.key.bytes;
  PGFRESH_CHECK(key.size() < kPartMax && draft.body.size() < kPartMax);
  char* memory = nullptr;
  const std::span<const SlotToken> links = linked(draft.stamp);
  SharedBytes bytes = SharedBytes::make(
      total_bytes(draft.stamp.size(), links.size(), key.size(), draft.body.size()), memory);
  const Entry* entry = new (memory) Entry(draft);
  char* at = memory + sizeof(Entry);
  for (const SlotToken& pair : draft.stamp) {
    new (at) SlotToken(pair);
    at += sizeof(SlotToken);
  }
  for (const SlotToken& pair : links) {
    auto* link = new (at) RingLink;
    link->entry = entry;
    link->slot = pair.slot;
    at += sizeof(RingLink);
  }
  if (!key.empty()) std::memcpy(at, key.data(), key.size());
  if (!draft.body.empty()) std::memcpy(at + key.size(), draft.body.data(), draft.body.size());
  return EntryRef(std::move(bytes));
}

Entry::Entry(const EntryDraft& draft)
    : hash(draft.key.hash),
      expires_ns(draft.expires_ns),
      key_bytes_(static_cast<uint32_t>(draft.key.bytes.size())),
      body_bytes_(static_cast<uint32_t>(draft.body.size())),
      pairs_(static_cast<uint32_t>(draft.stamp.size())),
      links_(static_cast<uint32_t>(linked(draft.stamp).size())),
      description_bytes(draft.description_bytes),
      table(draft.table),
      shape(draft.shape),
      query_id(draft.query_id),
      stored_ns(draft.stored_ns),
      upstream_ns(draft.upstream_ns) {}

size_t Entry::charge() const {
  const size_t block =
      alignof(std::max_align_t) + total_bytes(pairs_, links_, key_bytes_, body_bytes_);
  const size_t chunk = (block + kChunkHeader + kChunkUnit - 1) / kChunkUnit * kChunkUnit;
  return chunk + kIndexBytes + links_ * kRingBytes;
}

}  // namespace pgfresh::cache
