// Tags, and the table of slots they fall into. The two arrays are anonymous mappings: the kernel
// gives zero pages when they are first written, and takes them back at a new base, so that a table
// of 2^20 slots costs what its events touch.
#include "freshness/token_table.h"

#include <sys/mman.h>

#include <bit>

#include "base/check.h"
#include "base/hash.h"

namespace pgfresh::freshness {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == 8 && sizeof(std::atomic<uint32_t>) == 4);

enum class TagKind : uint32_t { kAny = 1, kWhole = 2, kKey = 3 };

// What is hashed. Without padding, so that equal tags are equal bytes.
struct TagParts {
  TagKind kind;
  Oid root;
  int64_t column;
  uint64_t value_hash;
};
static_assert(std::has_unique_object_representations_v<TagParts>);

uint64_t tag_of(const TagParts& parts) {
  const uint64_t hash = hash64({reinterpret_cast<const char*>(&parts), sizeof parts});
  return hash != schema_tag() ? hash : 1;
}

template <typename T>
T* map_zeroes(size_t count) {
  void* memory = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PGFRESH_CHECK(memory != MAP_FAILED);
  return static_cast<T*>(memory);
}

// Not invertible by accident and never the same for two xids after the same token: odd factors,
// xors with a shift and rotations each map 2^64 values onto themselves.
uint64_t mixed(uint64_t token, uint64_t xid) {
  uint64_t value = std::rotl(token, 23) * 0x9E3779B97F4A7C15U ^ xid * 0xD6E8FEB86659FD93U;
  value ^= value >> 32;
  value *= 0xD6E8FEB86659FD93U;
  value ^= value >> 32;
  return value != 0 ? value : 1;
}

// What a touched slot has in the digest.
uint64_t share(uint32_t slot, uint64_t token) { return mixed(token, uint64_t{slot} + 1); }

}  // namespace

uint64_t any_tag(Oid root) { return tag_of({TagKind::kAny, root, 0, 0}); }

uint64_t whole_tag(Oid root) { return tag_of({TagKind::kWhole, root, 0, 0}); }

uint64_t key_tag(Oid root, int16_t column, std::string_view canonical_value) {
  return tag_of({TagKind::kKey, root, column, hash64(canonical_value)});
}

TokenTable::TokenTable(int slot_bits, uint64_t base) : slot_bits_(slot_bits), base_(base) {
  PGFRESH_CHECK(slot_bits >= 2 && slot_bits <= 24);
  PGFRESH_CHECK(base >= kBaseBit);
  tokens_ = map_zeroes<std::atomic<uint64_t>>(slots());
  opens_ = map_zeroes<std::atomic<uint32_t>>(slots());
}

TokenTable::~TokenTable() {
  munmap(tokens_, slots() * sizeof *tokens_);
  munmap(opens_, slots() * sizeof *opens_);
}

void TokenTable::touch(uint32_t slot, uint64_t xid) {
  PGFRESH_CHECK(slot < slots());
  PGFRESH_CHECK(xid != 0 && xid < kBaseBit);
  const uint64_t before = tokens_[slot].load(std::memory_order_relaxed);
  const uint64_t after = mixed(token(slot), xid);
  if (before != 0) digest_ ^= share(slot, before);
  digest_ ^= share(slot, after);
  tokens_[slot].store(after, std::memory_order_release);
}

// The base first, then the zeroes: the other way round a touched slot would for a moment show the
// old base, and with it entries that an event has killed.
void TokenTable::rebase(uint64_t base) {
  PGFRESH_CHECK(base >= kBaseBit && base != base_.load(std::memory_order_relaxed));
  base_.store(base, std::memory_order_seq_cst);
  digest_ = 0;
  if (madvise(tokens_, slots() * sizeof *tokens_, MADV_DONTNEED) == 0) return;
  for (size_t slot = 0; slot < slots(); ++slot) {
    tokens_[slot].store(0, std::memory_order_release);
  }
}

void TokenTable::adopt(uint64_t between, uint64_t base, const std::vector<SlotToken>& touched) {
  PGFRESH_CHECK(base >= kBaseBit && base != between);
  rebase(between);
  uint64_t schema = 0;
  for (const SlotToken& pair : touched) {
    PGFRESH_CHECK(pair.slot < slots() && pair.token != 0);
    digest_ ^= share(pair.slot, pair.token);
    if (pair.slot == 0) {
      schema = pair.token;
    } else {
      tokens_[pair.slot].store(pair.token, std::memory_order_release);
    }
  }
  // Up to here schema(D) shows `between`, from here the base, and then its own token if it has one:
  // the others are in place before either.
  base_.store(base, std::memory_order_seq_cst);
  if (schema != 0) tokens_[0].store(schema, std::memory_order_seq_cst);
}

std::vector<SlotToken> TokenTable::touched() const {
  std::vector<SlotToken> pairs;
  for (uint32_t slot = 0; slot < slots(); ++slot) {
    const uint64_t own = tokens_[slot].load(std::memory_order_relaxed);
    if (own != 0) pairs.push_back({slot, own});
  }
  return pairs;
}

void TokenTable::open(uint32_t slot) {
  PGFRESH_CHECK(slot < slots());
  open_total_.fetch_add(1, std::memory_order_relaxed);
  opens_[slot].fetch_add(1, std::memory_order_seq_cst);
}

void TokenTable::close(uint32_t slot) {
  PGFRESH_CHECK(slot < slots());
  const uint32_t before = opens_[slot].fetch_sub(1, std::memory_order_acq_rel);
  PGFRESH_CHECK(before != 0);
  open_total_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace pgfresh::freshness
