#include "cache/memory_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"

namespace pgfresh::cache {
namespace {

using freshness::TokenTable;

constexpr uint64_t kBase = (uint64_t{1} << 63) + 5;

constexpr int64_t kNow = 500;
constexpr int64_t kLater = 1000;

Key key_of(const std::string& text) { return {text, hash128(text)}; }

EntryRef find(MemoryStore& store, const Key& key) { return store.find(key, kNow); }

struct Shop {
  TokenTable table{10, kBase};

  [[nodiscard]] EntryRef entry(const std::string& key, size_t body_bytes,
                               const std::vector<uint32_t>& slots = {1}) const {
    return entry_under(key, hash128(key), body_bytes, slots);
  }
  [[nodiscard]] EntryRef entry_under(const std::string& key, const Hash128& hash, size_t body_bytes,
                                     const std::vector<uint32_t>& slots = {1},
                                     int64_t expires_ns = kLater) const {
    freshness::Stamp stamp;
    for (const uint32_t slot : slots) stamp.push_back({slot, table.token(slot)});
    const std::string body(body_bytes, 'b');
    return Entry::make({.key = {key, hash},
                        .stamp = stamp,
                        .table = &table,
                        .body = body,
                        .stored_ns = kNow,
                        .expires_ns = expires_ns});
  }
};

std::string name(const char* prefix, int i) { return prefix + std::to_string(i); }

TEST_CASE("finds what was inserted, by its whole key") {
  const Shop shop;
  MemoryStore store(1 << 20, 4);
  CHECK(find(store, key_of("a")) == nullptr);
  const auto a = shop.entry("a", 100);
  REQUIRE(store.insert(a));
  CHECK(find(store, key_of("a")) == a);
  // Another key with the same hash is another key.
  CHECK(find(store, {"b", hash128("a")}) == nullptr);
  const auto b = shop.entry_under("b", hash128("a"), 100);
  REQUIRE(store.insert(b));
  CHECK(find(store, {"b", hash128("a")}) == b);
  CHECK(find(store, key_of("a")) == a);
  CHECK(store.stats().entries == 2);
}

TEST_CASE("an entry of the same key replaces the old one; remove knows them apart") {
  const Shop shop;
  MemoryStore store(1 << 20, 1);
  const auto old = shop.entry("a", 100);
  const auto fresh = shop.entry("a", 5000);
  store.insert(old);
  store.insert(fresh);
  CHECK(store.stats().entries == 1);
  CHECK(store.stats().bytes == fresh->charge());
  store.remove(*old);
  CHECK(find(store, key_of("a")) == fresh);
  store.remove(*fresh);
  CHECK(find(store, key_of("a")) == nullptr);
  CHECK(store.stats().bytes == 0);
  CHECK(store.stats().removals == 1);
}

TEST_CASE("what has expired is passed over, and replaced by whoever comes with its hash") {
  const Shop shop;
  MemoryStore store(1 << 20, 1);
  const Hash128 hash = hash128("a");
  const auto expired = shop.entry_under("a", hash, 100, {1}, kNow);
  store.insert(expired);
  CHECK(store.find({"a", hash}, kNow - 1) == expired);
  CHECK(store.find({"a", hash}, kNow) == nullptr);
  CHECK(store.peek({"a", hash}) == expired);
  const auto other = shop.entry_under("b", hash, 100);
  store.insert(other);
  CHECK(store.stats().entries == 1);
  // Behind one that has expired, too, all of the same key goes.
  store.insert(shop.entry_under("c", hash, 100, {1}, kNow));
  const auto again = shop.entry_under("b", hash, 200);
  store.insert(again);
  CHECK(store.stats().entries == 1);
  CHECK(find(store, {"b", hash}) == again);
}

TEST_CASE("an entry is one piece of memory with all its parts") {
  const Shop shop;
  const freshness::Stamp stamp = {{7, 70}, {9, 90}, {9, 90}};
  const EntryRef entry = Entry::make({.key = key_of("the key"),
                                      .stamp = stamp,
                                      .table = &shop.table,
                                      .body = "description rows",
                                      .description_bytes = 11,
                                      .shape = 5,
                                      .stored_ns = 1,
                                      .expires_ns = 2,
                                      .upstream_ns = 3});
  CHECK(entry->key() == "the key");
  CHECK(entry->hash == hash128("the key"));
  CHECK(std::equal(stamp.begin(), stamp.end(), entry->stamp().begin(), entry->stamp().end()));
  CHECK(entry->table == &shop.table);
  CHECK(entry->body() == "description rows");
  CHECK(entry->has_description());
  CHECK(entry->shape == 5);
  CHECK(entry->expires_ns - entry->stored_ns == 1);
  CHECK(entry->upstream_ns == 3);
  CHECK(entry.bytes().view().data() == reinterpret_cast<const char*>(entry.get()));
  const EntryRef bare = Entry::make({});
  CHECK(bare->key().empty());
  CHECK(bare->body().empty());
  CHECK(bare->stamp().empty());
  CHECK(EntryRef() == nullptr);
}

TEST_CASE("the tables grow with what is in them, and all is found again") {
  const Shop shop;
  MemoryStore store(64 << 20, 1);
  const auto slot_of = [](int i) { return static_cast<uint32_t>(2 + i % 900); };
  for (int i = 0; i < 5000; ++i) store.insert(shop.entry(name("k", i), 10, {0, slot_of(i)}));
  for (int i = 0; i < 5000; ++i) REQUIRE(find(store, key_of(name("k", i))) != nullptr);
  store.remove_slot(&shop.table, slot_of(17));
  for (int i = 0; i < 5000; ++i) {
    const bool freed = slot_of(i) == slot_of(17);
    REQUIRE((find(store, key_of(name("k", i))) == nullptr) == freed);
  }
  store.clear();
  CHECK(store.stats().entries == 0);
}

TEST_CASE("what is larger than a shard's share is refused") {
  const Shop shop;
  MemoryStore store(64 * 1024, 4);
  CHECK_FALSE(store.insert(shop.entry("a", 16 * 1024)));
  CHECK(store.insert(shop.entry("a", 8 * 1024)));
}

TEST_CASE("bytes stay below the bound, whatever is inserted") {
  const Shop shop;
  MemoryStore store(256 * 1024, 2);
  for (int i = 0; i < 5000; ++i) {
    const auto n = static_cast<uint32_t>(i);
    store.insert(shop.entry(name("k", i), 50 + n * 7919 % 4000, {n % 1000, n % 37, 3}));
    if (i % 3 == 0) (void)find(store, key_of(name("k", i / 2)));
    CHECK(store.stats().bytes <= 256 * 1024);
  }
  CHECK(store.stats().evictions > 4000);
  CHECK(store.stats().entries > 20);
  store.clear();
  CHECK(store.stats().entries == 0);
  CHECK(store.stats().bytes == 0);
}

TEST_CASE("an entry is charged for its body, key and places") {
  const Shop shop;
  const auto small = shop.entry("k", 10, {1});
  CHECK(shop.entry("k", 1034, {1})->charge() == small->charge() + 1024);
  CHECK(shop.entry("k", 10, {1, 2, 3})->charge() > small->charge() + 100);
}

#ifndef PGFRESH_WEAK_HASH  // where every key looks as if it had been evicted a short while ago
TEST_CASE("a scan does not push out what is in use") {
  const Shop shop;
  constexpr size_t kRoom = 200;
  const size_t one = shop.entry("hot0000", 1000)->charge();
  MemoryStore store(one * kRoom, 1);
  for (int i = 0; i < 100; ++i) store.insert(shop.entry(name("hot", i), 1000));
  for (int i = 0; i < 100; ++i) REQUIRE(find(store, key_of(name("hot", i))) != nullptr);
  for (int i = 0; i < 5000; ++i) store.insert(shop.entry(name("scan", i), 1000));
  int left = 0;
  for (int i = 0; i < 100; ++i) left += find(store, key_of(name("hot", i))) != nullptr ? 1 : 0;
  CHECK(left >= 95);
  CHECK(store.stats().evictions > 4000);
}
#endif

TEST_CASE("a key that was evicted a short while ago goes to the main queue") {
  const Shop shop;
  const size_t one = shop.entry("key0000", 1000)->charge();
  MemoryStore store(one * 50, 1);
  for (int i = 0; i < 80; ++i) store.insert(shop.entry(name("key", i), 1000));
  REQUIRE(find(store, key_of("key2")) == nullptr);
  store.insert(shop.entry("key2", 1000));  // missed twice
  for (int i = 100; i < 300; ++i) store.insert(shop.entry(name("key", i), 1000));
  CHECK(find(store, key_of("key2")) != nullptr);
}

TEST_CASE("what is not used for long leaves the main queue in the end") {
  const Shop shop;
  const size_t one = shop.entry("key0000", 1000)->charge();
  MemoryStore store(one * 50, 1);
  store.insert(shop.entry("once", 1000));
  (void)find(store, key_of("once"));
  for (int i = 0; i < 400; ++i) {
    store.insert(shop.entry(name("key", i), 1000));
    (void)find(store, key_of(name("key", i)));
  }
  CHECK(find(store, key_of("once")) == nullptr);
}

TEST_CASE("a touched slot frees the entries that named it") {
  const Shop shop;
  const TokenTable other(10, kBase);
  MemoryStore store(1 << 20, 4);
  for (int i = 0; i < 100; ++i) {
    store.insert(shop.entry(name("a", i), 100, {1, 5}));
    store.insert(shop.entry(name("b", i), 100, {1, 6, 6}));
  }
  store.remove_slot(&other, 5);
  store.remove_slot(&shop.table, 7);
  CHECK(store.stats().entries == 200);
  store.remove_slot(&shop.table, 6);
  CHECK(store.stats().entries == 100);
  CHECK(find(store, key_of("a7")) != nullptr);
  CHECK(find(store, key_of("b7")) == nullptr);
  store.remove_slot(&shop.table, 1);
  CHECK(store.stats().entries == 0);
  CHECK(store.stats().removals == 200);
  CHECK(store.stats().evictions == 0);
}

TEST_CASE("a change of the schema frees some of its database's entries, and nobody else's") {
  const Shop shop;
  const Shop other;
  MemoryStore store(1 << 20, 1);
  for (int i = 0; i < 100; ++i) {
    store.insert(shop.entry(name("a", i), 100, {freshness::kSchemaSlot, 5}));
    store.insert(other.entry(name("b", i), 100, {freshness::kSchemaSlot, 5}));
    if (i % 2 == 0) (void)find(store, key_of(name("a", i)));
  }
  int told = 0;
  store.remove_slot(&shop.table, freshness::kSchemaSlot, [&](const Entry& entry) {
    CHECK(entry.table == &shop.table);
    ++told;
  });
  CHECK(told == 100);
  CHECK(store.stats().entries == 100);
  CHECK(find(store, key_of("b7")) != nullptr);
  for (int i = 0; i < 1000; ++i) {
    store.insert(shop.entry(name("c", i), 100, {freshness::kSchemaSlot, 5}));
  }
  store.remove_slot(&shop.table, freshness::kSchemaSlot);
  CHECK(store.stats().entries > 700);  // bounded, as for any slot
}

TEST_CASE("freeing after an event has a bound, and goes on with the next one") {
  const Shop shop;
  MemoryStore store(64 << 20, 1);
  for (int i = 0; i < 1000; ++i) store.insert(shop.entry(name("a", i), 10));
  store.remove_slot(&shop.table, 1);
  CHECK(store.stats().entries == 1000 - 256);
  for (int i = 0; i < 3; ++i) store.remove_slot(&shop.table, 1);
  CHECK(store.stats().entries == 0);
}

TEST_CASE("a smaller bound takes effect at once") {
  const Shop shop;
  MemoryStore store(1 << 20, 2);
  for (int i = 0; i < 300; ++i) store.insert(shop.entry(name("a", i), 1000));
  store.set_bytes_max(100 * 1024);
  CHECK(store.stats().bytes <= 100 * 1024);
  CHECK(store.stats().bytes_max == 100 * 1024);
  store.set_bytes_max(1 << 20);
  for (int i = 0; i < 300; ++i) store.insert(shop.entry(name("a", i), 1000));
  CHECK(store.stats().entries == 300);
}

TEST_CASE("an entry outlives its removal in the hands of a reader") {
  const Shop shop;
  MemoryStore store(1 << 20, 1);
  store.insert(shop.entry("a", 100));
  const EntryRef held = find(store, key_of("a"));
  store.clear();
  CHECK(held->body().size() == 100);
}

// For the thread sanitizer as much as for the checks.
TEST_CASE("readers, fillers and events at once") {
  TokenTable table(10, kBase);
  MemoryStore store(512 * 1024, 4);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> found{0};
  const auto work = [&](int seed) {
    uint64_t random = static_cast<uint64_t>(seed) * 7919 + 1;
    while (!stop.load(std::memory_order_relaxed)) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      const std::string key = name("k", static_cast<int>((random >> 33) % 500));
      if (const EntryRef entry = find(store, key_of(key))) {
        found.fetch_add(1, std::memory_order_relaxed);
        if (entry->key() != key || entry->body().substr(0, key.size()) != key) std::abort();
        if (freshness::judge(table, entry->stamp()) != freshness::Judgement::kFresh) {
          store.remove(*entry);
        }
        continue;
      }
      const auto slot = static_cast<uint32_t>(1 + (random >> 40) % 50);
      const freshness::Stamp stamp = {{0, table.token(0)}, {slot, table.token(slot)}};
      const std::string body = key + std::string((random >> 50) % 3000, 'x');
      store.insert(Entry::make({.key = {key, hash128(key)},
                                .stamp = stamp,
                                .table = &table,
                                .body = body,
                                .expires_ns = kLater}));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(work, i);
  // Until something has happened: on a busy machine the threads may begin late.
  const auto idle = [&] { return found.load() == 0 || store.stats().removals == 0; };
  for (uint64_t xid = 1; xid <= 3000 || idle(); ++xid) {
    const auto slot = static_cast<uint32_t>(1 + xid * 31 % 50);
    table.touch(slot, xid);
    store.remove_slot(&table, slot);
    if (xid % 100 == 0) CHECK(store.stats().bytes <= 512 * 1024);
    if (xid % 1000 == 0) store.clear();
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(found.load() > 0);
  CHECK(store.stats().removals > 0);
}

}  // namespace
}  // namespace pgfresh::cache
