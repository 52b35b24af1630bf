#include "freshness/settle.h"

#include <doctest/doctest.h>

#include <vector>

namespace pgfresh::freshness {
namespace {

struct Books {
  TokenTable table{10, (uint64_t{1} << 63) + 1};
  Settlement settlement{table};

  void end(const std::vector<uint32_t>& slots) {
    SlotBatch batch;
    open(slots);
    batch.add(slots);
    settlement.at_next_fence(batch);
  }
  void open(const std::vector<uint32_t>& slots) {
    for (const uint32_t slot : slots) table.open(slot);
  }
};

TEST_CASE("only a fence begun after the end closes") {
  Books books;
  books.settlement.fence_begun();
  books.end({1, 2, 2});
  CHECK(books.settlement.fence_wanted());
  books.settlement.fence_completed();
  CHECK(books.table.open_total() == 3);
  books.settlement.fence_begun();
  CHECK_FALSE(books.settlement.fence_wanted());
  books.settlement.fence_completed();
  CHECK(books.table.open_total() == 0);
  CHECK(books.settlement.transactions() == 0);
}

TEST_CASE("a lost fence closes nothing and forgets nothing") {
  Books books;
  books.end({1});
  books.settlement.fence_begun();
  books.end({2});
  books.settlement.fence_lost();
  CHECK(books.table.open_total() == 2);
  CHECK(books.settlement.transactions() == 2);
  books.settlement.fence_begun();
  books.settlement.fence_completed();
  CHECK(books.table.open_total() == 0);
}

TEST_CASE("a batch that has grown counts by slot") {
  Books books;
  const std::vector<uint32_t> slots = {3, 4, 5, 3};
  constexpr int kTransactions = 250'000;
  SlotBatch batch;
  size_t items_max = 0;
  for (int i = 0; i < kTransactions; ++i) {
    books.open(slots);
    batch.add(slots);
    items_max = std::max(items_max, batch.items());
  }
  CHECK(items_max <= SlotBatch::kSinglesMax + 4);
  CHECK(batch.transactions() == kTransactions);
  SlotBatch other;
  other.add({});
  other.take(batch);
  CHECK(batch.empty());
  CHECK(other.transactions() == kTransactions + 1);
  books.settlement.at_next_fence(other);
  books.settlement.fence_begun();
  books.settlement.fence_completed();
  CHECK(books.table.open_total() == 0);
  CHECK_FALSE(books.table.is_open(3));
}

TEST_CASE("a lost backend: gone, then fenced") {
  Books books;
  books.open({1, 2});
  books.settlement.lost(77, {{1, 2}});
  CHECK(books.settlement.begin_look() == std::vector<uint32_t>{77});
  books.settlement.look_completed({{77, "10:00"}});
  CHECK(books.settlement.backends_waited_for());
  CHECK_FALSE(books.settlement.fence_wanted());
  (void)books.settlement.begin_look();
  books.settlement.look_completed({});
  CHECK_FALSE(books.settlement.backends_waited_for());
  CHECK(books.table.open_total() == 2);
  books.settlement.fence_begun();
  books.settlement.fence_completed();
  CHECK(books.table.open_total() == 0);
}

TEST_CASE("a pid that somebody else got") {
  Books books;
  books.open({1});
  books.settlement.lost(77, {{1}});
  (void)books.settlement.begin_look();
  books.settlement.look_completed({{77, "10:00"}});
  (void)books.settlement.begin_look();
  books.settlement.look_completed({{77, "10:05"}});
  CHECK_FALSE(books.settlement.backends_waited_for());
  CHECK(books.settlement.fence_wanted());
}

TEST_CASE("a backend lost during a look waits for the next one") {
  Books books;
  books.open({1, 2});
  books.settlement.lost(77, {{1}});
  (void)books.settlement.begin_look();
  books.settlement.lost(78, {{2}});
  books.settlement.look_completed({});
  CHECK(books.settlement.begin_look() == std::vector<uint32_t>{78});
}

}  // namespace
}  // namespace pgfresh::freshness
