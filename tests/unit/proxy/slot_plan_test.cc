#include "proxy/slot_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"

namespace pgfresh::proxy {
namespace {

using freshness::any_tag;
using freshness::key_tag;
using freshness::whole_tag;
using query::AnyReason;
using query::Dependency;
using query::KeyParameter;
using query::KeyType;

constexpr query::Oid kInt4 = 23, kInt8 = 20, kText = 25, kUuid = 2950, kInt4Array = 1007,
                     kTextArray = 1009, kNumeric = 1700;

std::string be(uint32_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift & 255);
  }
  return out;
}

// A Bind of values that are all of one format.
class Bind {
 public:
  Bind(uint16_t format, std::vector<std::optional<std::string>> values) {
    bytes_ = be(1, 2) + be(format, 2) + be(static_cast<uint32_t>(values.size()), 2);
    for (const auto& value : values) {
      bytes_ += be(value ? static_cast<uint32_t>(value->size()) : 0xffffffff, 4);
      if (value) bytes_ += *value;
    }
    message_.parameters = bytes_;
    message_.parameter_count = values.size();
  }
  [[nodiscard]] const wire::BindMessage* get() const { return &message_; }

 private:
  std::string bytes_;
  wire::BindMessage message_;
};

struct Play {
  freshness::TokenTable tokens{20, uint64_t{1} << 63};
  query::Verdict verdict;
  SlotPlan::Encoding encoding = SlotPlan::Encoding::kUtf8;

  void any(query::Oid root) {
    Dependency out;
    out.root = root;
    out.why_any = AnyReason::kNoCondition;
    verdict.dependencies.push_back(out);
  }
  void keys(query::Oid root, KeyType type, std::vector<std::string> literals,
            std::vector<KeyParameter> parameters = {}) {
    Dependency out;
    out.root = root;
    out.why_any = AnyReason::kNone;
    out.column = 3;
    out.type = type;
    out.values = {std::move(literals), std::move(parameters)};
    verdict.dependencies.push_back(out);
  }
  std::vector<uint32_t> slots(const std::string& oids, const wire::BindMessage* bind) const {
    std::vector<uint32_t> out;
    SlotPlan(verdict, tokens, encoding).slots(tokens, oids, bind, out);
    REQUIRE_FALSE(out.empty());
    CHECK(out.front() == tokens.slot_of(freshness::schema_tag()));
    out.erase(out.begin());
    std::sort(out.begin(), out.end());
    return out;
  }
  std::vector<uint32_t> of(const std::vector<uint64_t>& tags) const {
    std::vector<uint32_t> out;
    for (const uint64_t tag : tags) out.push_back(tokens.slot_of(tag));
    std::sort(out.begin(), out.end());
    return out;
  }
};

TEST_CASE("what stands in the text") {
  Play play;
  play.any(1);
  play.keys(2, KeyType::kText, {"a", "b"});
  play.keys(1, KeyType::kText, {"c"});  // read as a whole elsewhere
  CHECK(play.slots("", nullptr) ==
        play.of({any_tag(1), whole_tag(2), key_tag(2, 3, "a"), key_tag(2, 3, "b")}));
}

TEST_CASE("parameters in text and binary") {
  Play play;
  play.keys(2, KeyType::kInteger, {}, {{1, false, false, kInt4}});
  const auto found = play.of({whole_tag(2), key_tag(2, 3, "42")});
  const auto whole = play.of({whole_tag(2), any_tag(2)});
  CHECK(play.slots("", Bind(0, {"42"}).get()) == found);
  CHECK(play.slots("", Bind(0, {" 042"}).get()) == found);
  CHECK(play.slots("", Bind(1, {be(42, 4)}).get()) == found);
  CHECK(play.slots(be(kInt4, 4), Bind(1, {be(42, 4)}).get()) == found);
  CHECK(play.slots(be(kInt8, 4), Bind(1, {be(0, 4) + be(42, 4)}).get()) == found);
  CHECK(play.slots(be(705, 4), Bind(0, {"42"}).get()) == found);
  // NULL finds no row.
  CHECK(play.slots("", Bind(0, {std::nullopt}).get()) == play.of({whole_tag(2)}));
  // Not read for certain.
  CHECK(play.slots("", Bind(1, {be(0, 4) + be(42, 4)}).get()) == whole);
  CHECK(play.slots("", Bind(0, {"4.2"}).get()) == whole);
  CHECK(play.slots(be(kNumeric, 4), Bind(0, {"42"}).get()) == whole);
  CHECK(play.slots(be(kText, 4), Bind(0, {"42"}).get()) == whole);
  CHECK(play.slots("", Bind(0, {}).get()) == whole);
  CHECK(play.slots("", nullptr) == whole);
}

TEST_CASE("a type that Parse leaves open counts only where it is certain") {
  Play play;
  play.keys(2, KeyType::kInteger, {}, {{2, false, false, 0}});
  CHECK(play.slots("", Bind(0, {"1", "42"}).get()) == play.of({whole_tag(2), any_tag(2)}));
  CHECK(play.slots(be(0, 4) + be(kInt4, 4), Bind(0, {"1", "42"}).get()) ==
        play.of({whole_tag(2), key_tag(2, 3, "42")}));
}

TEST_CASE("a text that the statement casts") {
  Play play;
  const std::string uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
  play.keys(2, KeyType::kUuid, {}, {{1, false, true, kUuid}});
  const auto found = play.of({whole_tag(2), key_tag(2, 3, uuid)});
  CHECK(play.slots(be(kText, 4), Bind(1, {"{" + uuid + "}"}).get()) == found);
  CHECK(play.slots("", Bind(0, {uuid}).get()) == found);
  CHECK(play.slots(be(kText, 4), Bind(1, {std::string(16, 'x')}).get()) ==
        play.of({whole_tag(2), any_tag(2)}));
}

TEST_CASE("arrays") {
  Play play;
  play.keys(2, KeyType::kInteger, {"7"}, {{1, true, false, kInt4Array}});
  const auto found =
      play.of({whole_tag(2), key_tag(2, 3, "7"), key_tag(2, 3, "1"), key_tag(2, 3, "2")});
  const auto whole = play.of({whole_tag(2), key_tag(2, 3, "7"), any_tag(2)});
  CHECK(play.slots("", Bind(0, {"{1,2,NULL,2}"}).get()) == found);
  const std::string binary = be(1, 4) + be(0, 4) + be(kInt4, 4) + be(2, 4) + be(1, 4) + be(4, 4) +
                             be(1, 4) + be(4, 4) + be(2, 4);
  CHECK(play.slots("", Bind(1, {binary}).get()) == found);
  CHECK(play.slots("", Bind(1, {binary.substr(0, binary.size() - 1)}).get()) == whole);
  CHECK(play.slots("", Bind(0, {"{1,{2}}"}).get()) == whole);
  CHECK(play.slots(be(kInt4, 4), Bind(0, {"{1}"}).get()) == whole);
  std::string many = "{0";
  for (int i = 1; i < 64; ++i) many += "," + std::to_string(i + 100);
  CHECK(play.slots("", Bind(0, {many + "}"}).get()).size() == 1 + 1 + 64);
  CHECK(play.slots("", Bind(0, {many + ",500}"}).get()) == whole);
}

TEST_CASE("text arrays: an unquoted NULL may be a word") {
  Play play;
  play.keys(2, KeyType::kText, {}, {{1, true, false, kTextArray}});
  CHECK(play.slots("", Bind(0, {"{a}"}).get()) == play.of({whole_tag(2), key_tag(2, 3, "a")}));
  CHECK(play.slots("", Bind(0, {"{a,NULL}"}).get()) == play.of({whole_tag(2), any_tag(2)}));
}

TEST_CASE("texts beyond ASCII are told in UTF-8") {
  Play play;
  play.keys(2, KeyType::kText, {"\xc3\xa4"});
  play.keys(4, KeyType::kText, {}, {{1, false, false, kText}});
  const Bind bind(0, {"\xc3\xa4"});
  CHECK(play.slots("", bind.get()) == play.of({whole_tag(2), key_tag(2, 3, "\xc3\xa4"),
                                               whole_tag(4), key_tag(4, 3, "\xc3\xa4")}));
  play.encoding = SlotPlan::Encoding::kOther;
  CHECK(play.slots("", bind.get()) == play.of({any_tag(2), whole_tag(4), any_tag(4)}));
}

TEST_CASE("however many keys, the stamp keeps its bound") {
  Play play;
  std::vector<std::string> literals;
  for (int i = 0; i < 64; ++i) literals.push_back(std::to_string(i));
  std::vector<KeyParameter> parameters;
  for (int i = 1; i <= 64; ++i) parameters.push_back({i, false, false, kInt4});
  std::vector<std::optional<std::string>> values;
  for (int i = 0; i < 64; ++i) values.emplace_back(std::to_string(i + 1000));
  for (query::Oid root = 1; root <= 32; ++root) play.keys(root, KeyType::kInteger, literals);
  for (query::Oid root = 33; root <= 64; ++root) {
    play.keys(root, KeyType::kInteger, {}, parameters);
  }
  CHECK(play.slots("", Bind(0, values).get()).size() < limits::kStampSlotsMax);
}

}  // namespace
}  // namespace pgfresh::proxy
