#include "proxy/memo.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

namespace pgfresh::proxy {
namespace {

constexpr uint32_t kTextMax = 16 * 1024;

TEST_CASE("memo: a text is analysed once") {
  Counters counters;
  Memo memo(counters);
  const MemoRef first = memo.find_or_analyze("SELECT 1", kTextMax, 10);
  CHECK(memo.find_or_analyze("SELECT 1", kTextMax, 10) == first);
  CHECK(memo.find_or_analyze("SELECT 2", kTextMax, 10) != first);
  CHECK(first->statement().kind == query::Kind::kSelect);
  CHECK(counters.get(Counter::kMemoHits) == 1);
  CHECK(counters.get(Counter::kMemoMisses) == 2);
}

TEST_CASE("memo: bounded in entries; what was asked for again stays") {
  Counters counters;
  Memo memo(counters);
  constexpr uint32_t kEntries = 50;
  const MemoRef kept = memo.find_or_analyze("SELECT 'kept'", kTextMax, kEntries);
  for (int i = 0; i < 1000; ++i) {
    static_cast<void>(memo.find_or_analyze("SELECT " + std::to_string(i), kTextMax, kEntries));
    CHECK(memo.find_or_analyze("SELECT 'kept'", kTextMax, kEntries) == kept);
    CHECK(memo.size() <= kEntries);
  }
}

TEST_CASE("memo: whatever comes and goes, a text is what it says, and is found while it is there") {
  Counters counters;
  Memo memo(counters);
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const uint32_t entries = i % 5000 < 2500 ? 100 : 30;  // the bound may change
    const std::string text = "SELECT " + std::to_string(random() % 200);
    const MemoRef made = memo.find_or_analyze(text, kTextMax, entries);
    CHECK(made->statement().text == text);
    CHECK(memo.find_or_analyze(text, kTextMax, entries) == made);
    CHECK(memo.size() <= 100);
  }
  const uint64_t hits = counters.get(Counter::kMemoHits);
  CHECK(hits > 20'000 + 3'000);
  CHECK(hits < 40'000 - 3'000);
}

TEST_CASE("memo: a text that is too long is not remembered, and not parsed") {
  Counters counters;
  Memo memo(counters);
  const std::string text = "SELECT '" + std::string(kTextMax, 'x') + "'";
  const MemoRef made = memo.find_or_analyze(text, kTextMax, 10);
  CHECK(made->statement().kind == query::Kind::kUnknown);
  CHECK(memo.size() == 0);
}

TEST_CASE("memo: bounded in bytes") {
  Counters counters;
  Memo memo(counters);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = "SELECT '" + std::string(15'000, 'x') + std::to_string(i) + "'";
    static_cast<void>(memo.find_or_analyze(text, kTextMax, 100'000));
  }
  // 32 MB, at four times a text's length each.
  CHECK(memo.size() < 600);
  CHECK(memo.size() > 100);
}

TEST_CASE("memo: texts that differ in constants only are parsed twice, then filled in") {
  Counters counters;
  Memo memo(counters);
  for (int i = 1; i <= 100; ++i) {
    const std::string text = "SELECT * FROM t WHERE id = " + std::to_string(i);
    const MemoRef made = memo.find_or_analyze(text, kTextMax, 1000);
    CHECK(made->statement().text == text);
    CHECK(made->statement().kind == query::Kind::kSelect);
    CHECK(made->statement().canonical == "select * from t where id = " + std::to_string(i));
  }
  CHECK(memo.patterns() == 1);
  CHECK(counters.get(Counter::kPatternHits) == 98);
  CHECK(counters.get(Counter::kMemoMisses) == 100);
  // What no pattern can be made of is remembered, too.
  for (int i = 0; i < 10; ++i) {
    static_cast<void>(memo.find_or_analyze("SET x = " + std::to_string(i), kTextMax, 1000));
  }
  CHECK(memo.patterns() == 2);
  CHECK(counters.get(Counter::kPatternHits) == 98);
}

TEST_CASE("memo: what a tracing tool puts at the end is not looked at") {
  Counters counters;
  Memo memo(counters);
  const MemoRef first = memo.find_or_analyze("SELECT 1 FROM t /*trace='1'*/", 1000, 100);
  CHECK(memo.find_or_analyze("SELECT 1 FROM t /*trace='2'*/;", 1000, 100) == first);
  CHECK(memo.find_or_analyze("SELECT 1 FROM t", 1000, 100) == first);
  CHECK(counters.get(Counter::kMemoMisses) == 1);
  const MemoRef off = memo.find_or_analyze("SELECT 1 FROM t /* pgfresh: off */", 1000, 100);
  CHECK(off->statement().hint_off);
  // The comment is in a string that does not end: PostgreSQL's error is about the whole text.
  const std::string broken = "SELECT 'a /*b*/";
  CHECK(memo.find_or_analyze(broken, 1000, 100)->statement().text == broken);
  const std::string operators = "SELECT '/*' */";
  CHECK(memo.find_or_analyze(operators, 1000, 100)->statement().text == operators);
}

TEST_CASE("memo: patterns have a bound") {
  Counters counters;
  Memo memo(counters);
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = "t" + std::to_string(i);
    for (const char* value : {"1", "2"}) {
      const std::string text = "SELECT a FROM " + name + " WHERE id = " + value;
      static_cast<void>(memo.find_or_analyze(text, kTextMax, 10));
    }
  }
  CHECK(memo.patterns() > 0);
  CHECK(memo.patterns() <= 4096);
}

}  // namespace
}  // namespace pgfresh::proxy
