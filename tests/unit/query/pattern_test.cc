#include "query/pattern.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "catalog_fixture.h"
#include "query/shape.h"

namespace pgfresh::query {
namespace {

constexpr size_t kTextMax = 16 * 1024;

// '#' for an int4, '%' for an int8, '@' for a string.
std::string shown(std::string_view text) {
  Skeleton skeleton;
  if (!skeleton.take(text)) return "none";
  std::string out;
  for (const char c : skeleton.bytes) out.push_back(c == 1 ? '#' : c == 2 ? '%' : c == 3 ? '@' : c);
  return out;
}

std::shared_ptr<const Pattern> learnt(std::string_view text) {
  Skeleton skeleton;
  if (!skeleton.take(text)) return nullptr;
  return Pattern::learn(analyze(text, kTextMax), skeleton);
}

std::shared_ptr<const Statement> filled(const Pattern& pattern, std::string_view text) {
  Skeleton skeleton;
  REQUIRE(skeleton.take(text));
  return pattern.fill(text, skeleton);
}

const Catalog& catalog() {
  static const std::shared_ptr<const Catalog> made = test::CatalogFixture().build();
  return *made;
}

void check_same(const Statement& one, const Statement& other) {
  CAPTURE(one.text);
  CHECK(one.text == other.text);
  CHECK(one.canonical == other.canonical);
  CHECK(one.kind == other.kind);
  CHECK(one.isolation == other.isolation);
  CHECK(one.deferrable_begin == other.deferrable_begin);
  CHECK(one.deallocates_all == other.deallocates_all);
  CHECK(one.deallocated_name == other.deallocated_name);
  CHECK(one.hint_off == other.hint_off);
  CHECK(one.hint_ttl_ms == other.hint_ttl_ms);
  CHECK(one.reasons == other.reasons);
  const Verdict a = resolve(one, catalog(), test::kPath);
  const Verdict b = resolve(other, catalog(), test::kPath);
  CHECK(a.effect == b.effect);
  CHECK(a.reasons == b.reasons);
  REQUIRE(a.dependencies.size() == b.dependencies.size());
  for (size_t i = 0; i < a.dependencies.size(); ++i) {
    const Dependency& x = a.dependencies[i];
    const Dependency& y = b.dependencies[i];
    CHECK(x.relation == y.relation);
    CHECK(x.root == y.root);
    CHECK(x.why_any == y.why_any);
    CHECK(x.column == y.column);
    CHECK(x.type == y.type);
    CHECK(x.values.literals == y.values.literals);
    CHECK(x.values.parameters.size() == y.values.parameters.size());
  }
  CHECK(a.time_parameters == b.time_parameters);
}

TEST_CASE("skeletons: what is a literal, and of which class") {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"select * from t where id = 42", "select * from t where id = #"},
      {"select 2147483647, 2147483648", "select #, %"},
      {"select 9223372036854775807, 9223372036854775808", "select %, 9223372036854775808"},
      {"select 0, 00, 007, 7", "select 0, 00, 007, #"},
      {"select 1.5, .5, 5., 1e5, 12abc, t.5", "none"},
      {"select 'a', 'it''s', 'a\\b', E'x', b'1', 'caf\xc3\xa9'",
       "select @, 'it''s', 'a\\b', E'x', b'1', 'caf\xc3\xa9'"},
      {"select a1, a$1, $1, \"t\".\"c\", 1", "select a1, a$1, $1, \"t\".\"c\", #"},
      {"select * from t limit 10 offset 20", "select * from t limit # offset #"},
      {"select -5, +5, 3-2", "select -#, +#, #-#"},
      {"select '", "none"},
      {"select", "none"},
      {"select 1\x01", "none"},
      {"select '\x03', 1", "none"},
  };
  for (const auto& [given, wanted] : cases) {
    const auto& text = given;
    CAPTURE(text);
    CHECK(shown(text) == wanted);
  }
}

TEST_CASE("patterns: what cannot be proven is not learnt") {
  for (const std::string_view text : {
           "select 5 /* 12 */",                     // within a comment
           "select $$ 12 $$",                       // within a string
           "select \"a 12\" from t",                // within a name
           "select 5 -- 'a'",                       // a quote in a comment
           "select 1e+5",                           // part of a number
           "select a::float(24) from t",            // its value is looked at
           "select a::float /* a */ ( 24) from t",  //
           "select * from users where created_at > 'yesterday'",
           "select 5 into t",
           "set x = 5",
           "begin; select 5",
           "copy users from '/tmp/5'",
           "declare c cursor for select 5",
           "execute a(5)",
           "select 5 from",
           "select 'a' \n 'b'",
           "select u&'5'",
       }) {
    CAPTURE(text);
    CHECK(learnt(text) == nullptr);
  }
  CHECK(learnt("select * from users where id = 5 /* a comment */") != nullptr);
  CHECK(learnt("insert into users (full_name) values ('a')") != nullptr);
}

TEST_CASE("patterns: a text is filled in as it would be analysed") {
  const auto pattern =
      learnt("SELECT * FROM users /* pgfresh: ttl=5s */ WHERE id=17 AND \"role\"  = 'a';");
  REQUIRE(pattern != nullptr);
  const std::string_view text =
      "SELECT * FROM users /* pgfresh: ttl=5s */ WHERE id=123456 AND \"role\"  = 'doctor; --';";
  const auto made = filled(*pattern, text);
  REQUIRE(made != nullptr);
  CHECK(made->canonical == "select * from users where id = 123456 and \"role\" = 'doctor; --'");
  CHECK(made->hint_ttl_ms == 5000);
  check_same(*made, *analyze(text, kTextMax));
}

TEST_CASE("patterns: row keys are those of the text in hand") {
  const auto pattern = learnt("select * from users where id = 5 and email in ('a', 'b')");
  REQUIRE(pattern != nullptr);
  const std::string_view text = "select * from users where id = 77 and email in ('c', 'dd')";
  const auto made = filled(*pattern, text);
  REQUIRE(made != nullptr);
  REQUIRE(made->shape->levels.size() == 1);
  const std::vector<KeyCondition>& where = made->shape->levels[0].where;
  REQUIRE(where.size() == 2);
  CHECK(where[0].right[0].text == "77");
  CHECK(where[1].right[0].text == "c");
  CHECK(where[1].right[1].text == "dd");
  check_same(*made, *analyze(text, kTextMax));
  // A sign is part of the constant, a zero is none for libpg_query.
  CHECK(learnt("select * from users where id = -3000000000") == nullptr);
  CHECK(learnt("select * from users where id = 0") == nullptr);
  const auto signs = learnt("select * from users where id = -5 and id = 6");
  REQUIRE(signs != nullptr);
  const std::string_view other = "select * from users where id = -7 and id = 8";
  check_same(*filled(*signs, other), *analyze(other, kTextMax));
}

TEST_CASE("patterns: a time word is never filled in") {
  const auto pattern = learnt("select * from users where created_at > '2026-01-01'");
  REQUIRE(pattern != nullptr);
  CHECK(filled(*pattern, "select * from users where created_at > '2027-01-01'") != nullptr);
  CHECK(filled(*pattern, "select * from users where created_at > 'Now'") == nullptr);
  CHECK(filled(*pattern, "select * from users where created_at > '" + std::string(300, '-') +
                             "'") == nullptr);
}

// Texts made of a template and random constants: what is filled in is what analyze() says.
TEST_CASE("patterns: filled in or analysed, the same") {
  const std::vector<std::string_view> templates = {
      "SELECT * FROM users WHERE id = ~",
      "select id, full_name from users where id in (~,~, ~) order by 1 limit ~ offset ~",
      "select * from users u join doctors d on d.user_id = u.id where u.email=~ and d.rating>~",
      "select count(*), ~ from appointments where status <> ~ group by ~",
      "select ~::text, cast(~ as bigint), date ~, interval ~, numeric(10,2) ~ from users",
      "select case when id = ~ then ~ else -~ end from users where created_at between ~ and ~",
      "select * from users where full_name like ~ || ~ and id=any(array[~,~])",
      "with a as (select ~ as x) select * from a, users where users.id = a.x -- ~ end",
      "select substring(full_name from ~ for ~), extract(epoch from created_at) - ~ from users",
      "update users set full_name = ~ where id = ~",
      "insert into users (id, full_name) values (~, ~), (~, ~) on conflict (id) do nothing",
      "delete from users where id = ~ returning id + ~",
      "select ~ ~",
      "select id ~ from users",
      "select * from users where id = ~ for update",
      "select * from users where a = ~ and pg_sleep(~) is null",
      "select f.x[~] from (values (~, ~)) as f(x, y)",
      "select * from users tablesample system (~) where id=~",
      "select $1, ~, $2::int from users where id=$1+~",
      "select now() - interval ~ from users",
      "select ~.~, ~e~, ~",
  };
  const std::vector<std::string_view> constants = {"1",
                                                   "0",
                                                   "42",
                                                   "-3000000000",
                                                   "007",
                                                   "2147483647",
                                                   "2147483648",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "1.5",
                                                   "1e5",
                                                   "''",
                                                   "'a'",
                                                   "'now'",
                                                   "'it''s'",
                                                   "'today'",
                                                   "'x\\'",
                                                   "'2020-01-01'",
                                                   "E'a'",
                                                   "'a; drop table'",
                                                   "'--'",
                                                   "'/*'",
                                                   "null",
                                                   "true",
                                                   "-5",
                                                   "$$a 5$$",
                                                   "'caf\xc3\xa9'",
                                                   "'1 day'",
                                                   "'yesterday'"};
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto instance = [&](std::string_view from) {
    std::string out;
    // Of few kinds, so that skeletons meet.
    const std::string_view favourite = constants[random() % constants.size()];
    for (const char c : from) {
      if (c != '~') {
        out.push_back(c);
      } else if (random() % 4 != 0) {
        out += random() % 2 == 0 ? std::to_string(random() % 100'000) : std::string(favourite);
      } else {
        out += constants[random() % constants.size()];
      }
    }
    return out;
  };
  int learnt_count = 0;
  int filled_count = 0;
  for (int round = 0; round < 600; ++round) {
    const std::string_view from = templates[random() % templates.size()];
    const std::string first = instance(from);
    CAPTURE(first);
    Skeleton skeleton;
    if (!skeleton.take(first)) continue;
    const auto pattern = Pattern::learn(analyze(first, kTextMax), skeleton);
    if (pattern == nullptr) continue;
    ++learnt_count;
    // Another text of the same skeleton: its literals changed within their classes.
    for (int i = 0; i < 3; ++i) {
      std::string text = first;
      for (auto literal = skeleton.literals.rbegin(); literal != skeleton.literals.rend();
           ++literal) {
        std::string value = std::to_string(random() % 2'000'000'000);
        if (literal->kind == Literal::Class::kInt8)
          value = std::to_string(3'000'000'000 + random());
        if (literal->kind == Literal::Class::kString) {
          constexpr std::string_view kWords[] = {"",       "x",          "now",      "today we",
                                                 "a -- b", "/* ",        "42",       "$1",
                                                 "\"",     "2020-02-30", "tomorrow", "nowhere"};
          value = "'" + std::string(kWords[random() % std::size(kWords)]) + "'";
        }
        text.replace(literal->begin, literal->size, value);
      }
      CAPTURE(text);
      Skeleton again;
      REQUIRE(again.take(text));
      REQUIRE(again.bytes == skeleton.bytes);
      const auto made = pattern->fill(text, again);
      if (made == nullptr) continue;
      ++filled_count;
      check_same(*made, *analyze(text, kTextMax));
    }
  }
  CHECK(learnt_count > 50);
  CHECK(filled_count > 100);
}

}  // namespace
}  // namespace pgfresh::query
