#include "cache/entry.h"

namespace pgfresh::cache {
namespace {

// Of the memory store's tables (memory_store.cc), rounded up: the entry's control block, its node
// and the node's place in the index; and for each slot of the stamp a link, a list's anchor, which
// is seldom shared by less, and the anchor's place in the table of slots.
constexpr size_t kPlaceBytes = 240;
constexpr size_t kLinkBytes = 112;
constexpr size_t kBodyHeaderBytes = 32;

}  // namespace

size_t Entry::charge() const {
  return sizeof(Entry) + kPlaceBytes + key.capacity() + kBodyHeaderBytes + body.size() +
         stamp.capacity() * sizeof(freshness::SlotToken) + stamp.size() * kLinkBytes;
}

}  // namespace pgfresh::cache
