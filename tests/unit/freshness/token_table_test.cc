#include "freshness/token_table.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "freshness/stamp.h"

namespace pgfresh::freshness {
namespace {

constexpr uint64_t kBase = (uint64_t{1} << 63) + 17;

TEST_CASE("tags of different things differ") {
  std::set<uint64_t> tags = {schema_tag()};
  for (Oid root = 1; root <= 50; ++root) {
    tags.insert(any_tag(root));
    tags.insert(whole_tag(root));
    for (int16_t column = 1; column <= 3; ++column) {
      tags.insert(key_tag(root, column, "7"));
      tags.insert(key_tag(root, column, ""));
    }
  }
#ifndef PGFRESH_WEAK_HASH
  CHECK(tags.size() == 1 + 50 * 8);
#endif
  CHECK(key_tag(3, 1, "a") == key_tag(3, 1, "a"));
}

TEST_CASE("the schema's slot is nobody else's") {
  const TokenTable table(2, kBase);
  CHECK(table.slot_of(schema_tag()) == 0);
  for (Oid root = 1; root <= 1000; ++root) {
    const uint32_t slot = table.slot_of(any_tag(root));
    CHECK(slot >= 1);
    CHECK(slot <= 3);
  }
}

TEST_CASE("a slot holds the base until an event touches it") {
  TokenTable table(10, kBase);
  CHECK(table.token(5) == kBase);
  table.touch(5, 700);
  CHECK(table.token(5) != kBase);
  CHECK(table.token(6) == kBase);
}

TEST_CASE("no event brings an older token back") {
  TokenTable table(10, kBase);
  std::set<uint64_t> seen = {table.token(5)};
  // The same xids again and again, as a forger could send them, or a server that was restored.
  for (int round = 0; round < 100; ++round) {
    for (uint64_t xid = 700; xid < 710; ++xid) {
      table.touch(5, xid);
      CHECK(seen.insert(table.token(5)).second);
    }
  }
}

TEST_CASE("equal streams make equal tokens, other orders do not") {
  TokenTable one(10, kBase);
  TokenTable two(10, kBase);
  TokenTable swapped(10, kBase);
  TokenTable other_base(10, kBase + 1);
  for (const uint64_t xid : {7U, 8U}) {
    one.touch(1, xid);
    two.touch(1, xid);
    other_base.touch(1, xid);
  }
  swapped.touch(1, 8);
  swapped.touch(1, 7);
  CHECK(one.token(1) == two.token(1));
  CHECK(one.token(1) != swapped.token(1));
  CHECK(one.token(1) != other_base.token(1));
}

TEST_CASE("a new base is every slot's token") {
  TokenTable table(20, kBase);
  std::vector<uint64_t> before;
  for (uint32_t slot = 0; slot < (1U << 20); slot += 4099) {
    table.touch(slot, 9);
    before.push_back(table.token(slot));
  }
  table.rebase(kBase + 1);
  size_t i = 0;
  for (uint32_t slot = 0; slot < (1U << 20); slot += 4099) {
    CHECK(table.token(slot) == kBase + 1);
    table.touch(slot, 9);
    CHECK(table.token(slot) != before[i++]);  // the same xid after it says something else
  }
}

TEST_CASE("open counts are counts") {
  TokenTable table(4, kBase);
  table.open(3);
  table.open(3);
  CHECK(table.open_total() == 2);
  table.close(3);
  CHECK(table.is_open(3));
  table.close(3);
  CHECK_FALSE(table.is_open(3));
  CHECK(table.open_total() == 0);
}

TEST_CASE("a stamp is judged by token and open count") {
  TokenTable table(4, kBase);
  const std::vector<uint32_t> slots = {1, 2};
  Stamp stamp;
  REQUIRE(capture(table, slots, stamp));
  CHECK(judge(table, stamp) == Judgement::kFresh);
  table.open(2);
  CHECK(judge(table, stamp) == Judgement::kOpen);
  Stamp other;
  CHECK_FALSE(capture(table, slots, other));
  CHECK(other.empty());
  table.touch(2, 50);
  table.close(2);
  CHECK(judge(table, stamp) == Judgement::kStale);
}

// A writer opens, the feed touches and closes; a reader that sees the slot closed after the write
// was announced must see its token. Run under the thread sanitizer, too.
TEST_CASE("who sees the slot closed sees the token") {
  TokenTable table(4, kBase);
  constexpr uint64_t kWrites = 20'000;
  std::atomic<uint64_t> written{0};  // the write that was acknowledged last
  std::atomic<uint64_t> stale{0};
  std::vector<uint64_t> token_of(kWrites + 1);  // after write i; published by `written`
  TokenTable oracle(4, kBase);
  token_of[0] = kBase;
  for (uint64_t i = 1; i <= kWrites; ++i) {
    oracle.touch(1, i);
    token_of[i] = oracle.token(1);
  }
  std::atomic<uint64_t> to_settle{0};
  std::thread feed([&] {
    for (uint64_t i = 1; i <= kWrites; ++i) {
      while (to_settle.load(std::memory_order_acquire) < i) std::this_thread::yield();
      table.touch(1, i);
      table.close(1);
    }
  });
  std::thread writer([&] {
    for (uint64_t i = 1; i <= kWrites; ++i) {
      table.open(1);
      written.store(i, std::memory_order_release);
      to_settle.store(i, std::memory_order_release);
      while (table.is_open(1)) std::this_thread::yield();
    }
  });
  std::thread reader([&] {
    while (true) {
      const uint64_t known = written.load(std::memory_order_acquire);
      const bool open = table.is_open(1);
      const uint64_t token = table.token(1);
      if (!open) {
        bool recent = false;
        for (uint64_t i = known; i <= kWrites && i <= known + 50; ++i)
          recent |= token == token_of[i];
        if (!recent && written.load(std::memory_order_acquire) <= known + 50) ++stale;
      }
      if (known == kWrites) break;
    }
  });
  feed.join();
  writer.join();
  reader.join();
  CHECK(stale.load() == 0);
  CHECK(table.open_total() == 0);
}

}  // namespace
}  // namespace pgfresh::freshness
