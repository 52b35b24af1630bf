#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "query/canonical.h"
#include "query/statement.h"

namespace pgfresh::query {
namespace {

TEST_CASE("canonical form: what it looks like") {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"SELECT  *\nFROM Users WHERE ID = $1 ;", "select * from users where id = $1"},
      {"select u.\"Name\", u.* from s . users u -- why\n", "select u.\"Name\",u.* from s.users u"},
      {"/* a /* nested */ b */ select 1", "select 1"},
      {"select 'It''s  KEPT', E'a\\'B', $x$ Kept $x$, x'1F', B'01'",
       "select 'It''s  KEPT',E'a\\'B',$x$ Kept $x$,x'1F',B'01'"},
      {"select a[1:2], f( x ), -1, - -1", "select a[1 : 2],f(x),- 1,- - 1"},
      {"select 'a'\n  'b'", "select 'a'\n  'b'"},
      {";;", ""},
      {"", ""},
      {"select 1.5E3, 1 .5", "select 1.5E3,1 .5"},
  };
  for (const auto& [shown, expected] : cases) {
    const auto& text = shown;
    CAPTURE(text);
    const auto canonical = canonicalize(text);
    REQUIRE(canonical.has_value());
    CHECK(*canonical == expected);
    CHECK(canonicalize(*canonical) == canonical);
  }
}

TEST_CASE("canonical form: texts that mean the same, and texts that do not") {
  const auto same = [](std::string_view a, std::string_view b) {
    const auto one = canonicalize(a);
    const auto other = canonicalize(b);
    return one.has_value() && one == other;
  };
  CHECK(same("select 1", "SELECT/**/1"));
  CHECK(same("select a.b", "select a . b"));
  CHECK(same("select A", "select a"));
  CHECK(same("select 1;", "select 1 -- end"));
  CHECK_FALSE(same("select \"A\"", "select \"a\""));
  CHECK_FALSE(same("select \"a\"", "select a"));
  CHECK_FALSE(same("select 'a'", "select 'A'"));
  CHECK_FALSE(same("select e'a'", "select e 'a'"));
  CHECK_FALSE(same("select a- -1", "select a --1\n"));
  CHECK_FALSE(same("select 1 2", "select 12"));
  CHECK_FALSE(same("select a b", "select ab"));
  CHECK_FALSE(same("select a <- 1", "select a < -1.0"));
  CHECK_FALSE(same("select '/* a */'", "select ''"));
  CHECK_FALSE(same("select 'a' 'b'", "select 'a'\n'b'"));
}

TEST_CASE("canonical form: letters beyond ASCII are left alone") {
  CHECK(canonicalize("SELECT É, 'É'") == "select É,'É'");
}

TEST_CASE("canonical form: refused where the scanner cannot be trusted") {
  for (const std::string_view text :
       {"select 'open", "select /* open", "select U&'d\\0061t'", "select U&\"d\\0061t\"",
        "select n'a'", "select 'a' -- c\n'b'", "select 1a", "select $1a"}) {
    CAPTURE(text);
    CHECK_FALSE(canonicalize(text).has_value());
  }
  CHECK_FALSE(canonicalize(std::string("select 1\0, 2", 12)).has_value());
  CHECK_FALSE(canonicalize("select " + std::string(300, '+') + "1").has_value());
  CHECK(canonicalize("select 1 -- " + std::string(200, '-')).has_value());
}

TEST_CASE("a comment at the end is left off") {
  for (const char* text :
       {"SELECT 1/*a*/", "SELECT 1 /* traceparent='00-ab-01',route='%2Fx' */", "SELECT 1 /**/ ",
        "SELECT 1 /*a*/;", "SELECT 1/*a*/ ; \n", "SELECT 1 /* a /b* c */"}) {
    CHECK(without_last_comment(text) == "SELECT 1");
  }
  CHECK(without_last_comment("/*a*/") == "");
  CHECK(without_last_comment("SELECT 1; /*a*/") == "SELECT 1;");
  CHECK(without_last_comment("SELECT 1 /*a*/ /*b*/") == "SELECT 1 /*a*/");
  CHECK(without_last_comment("SELECT 1 -- /*a*/") == "SELECT 1 --");
}

TEST_CASE("a comment that says something, or is none, stays") {
  for (const char* text :
       {"SELECT 1", "SELECT 1;", "", ";", "*/", "/*/", "SELECT 1 */", "SELECT '/*a*/'",
        "SELECT 1 /* pgfresh: off */", "SELECT 1 /*+ SeqScan(t) */", "SELECT 1 /*a\n*/",
        "SELECT 1 -- /*a\n, 2 */", "SELECT 1 /* a /* b */ */", "SELECT 1 /*a*/;;",
        "SELECT 1 /*a*/ -- b"}) {
    CHECK(without_last_comment(text) == text);
  }
}

bool parses(const Statement& statement) {
  const auto& reasons = statement.reasons;
  return std::find(reasons.begin(), reasons.end(), Reason::kUnparsable) == reasons.end();
}

// PostgreSQL's own parser is the judge: what is left, if it parses, is what the whole text is.
TEST_CASE("a comment at the end is left off: by chance") {
  constexpr std::string_view kPieces[] = {"'",  "''", "\"", "$$",   "$a$",       "/*", "*/", "*",
                                          "/",  "--", "\n", "E'",   "\\",        ";",  " ",  "+",
                                          "1",  "x",  "@",  "U&'",  "SELECT 1 ", ", ", "(",  ")",
                                          "$1", "N'", "-",  "/**/", "a.",        "'b'"};
  std::mt19937_64 random(4711);
  int left_off = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text = "SELECT 1 ";
    for (size_t n = random() % 7; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    text += random() % 8 == 0 ? "*/" : "/* x'y */";
    const std::string_view bare = without_last_comment(text);
    if (bare.size() == text.size()) continue;
    const auto rest = analyze(bare, 1000);
    if (!parses(*rest)) continue;
    ++left_off;
    const auto whole = analyze(text, 1000);
    CHECK_MESSAGE(parses(*whole), text);
    const auto canonical = canonicalize(text);  // none: the scanner is not trusted with N'' and U&
    if (canonical) CHECK_MESSAGE(rest->canonical == *canonical, text);
    CHECK_MESSAGE(whole->kind == rest->kind, text);
    CHECK_MESSAGE(whole->reasons == rest->reasons, text);
  }
  CHECK(left_off > 5'000);
}

TEST_CASE("hints in comments") {
  const auto ttl = [](std::string_view text) { return analyze(text, 16384)->hint_ttl_ms; };
  CHECK(ttl("select 1 /* pgfresh: ttl=30s */") == 30'000);
  CHECK(ttl("/*pgfresh:ttl=250ms*/ select 1") == 250);
  CHECK(ttl("/* pgfresh: ttl=5min */ select 1") == 300'000);
  CHECK(ttl("/* pgfresh: ttl=1h, off */ select 1") == 3'600'000);
  CHECK_FALSE(ttl("/* pgfresh: ttl=30 */ select 1").has_value());
  CHECK(analyze("/* pgfresh: ttl=30 */ select 1", 16384)->hint_off);
  CHECK_FALSE(ttl("/* pgfresh: ttl=-1s */ select 1").has_value());
  CHECK_FALSE(ttl("/* pgfresh: ttl=99999999999999999999s */ select 1").has_value());
  CHECK_FALSE(ttl("/* pgfresh: ttl=99999999999999h */ select 1").has_value());
  CHECK_FALSE(ttl("select '/* pgfresh: ttl=30s */'").has_value());
  CHECK(analyze("select 1 /* pgfresh: off */", 16384)->hint_off);
  CHECK(analyze("select 1 /* pgfresh: off */", 16384)->reasons == std::vector{Reason::kHint});
  CHECK_FALSE(analyze("select 1 /* pgfresh: offset */", 16384)->hint_off);
  CHECK_FALSE(analyze("select 1 /* not pgfresh: off */", 16384)->hint_off);
}

TEST_CASE("texts that differ in constants alone are one query") {
  const auto grouped = [](std::string_view text) { return analyze(text, 16384)->grouped; };
  CHECK(grouped("SELECT a FROM t WHERE b = 7 AND c = 'x' -- why\n;") ==
        "select a from t where b = ? and c = ?");
  CHECK(grouped("select a from t where b in (1, 2, 3) and c = any(array['x','y'])") ==
        "select a from t where b in(?)and c = any(array[?])");
  CHECK(grouped("select a from t where b in (1, $2, c, 4)") == "select a from t where b in(?,c,?)");
  CHECK(grouped("select f(1, 2)") == "select f(?,?)");
  const auto id = [](std::string_view text) { return analyze(text, 16384)->query_id; };
  CHECK(id("select a from t where b = 7") == id("SELECT a  FROM t WHERE b = $1"));
  CHECK(id("select a from t where b in (7)") == id("select a from t where b in (8, 9)"));
  CHECK(id("select a from t where b = 7") != id("select a from t where c = 7"));
  CHECK((id("select a from t where b = 7") >> 63) == 0);
  CHECK(grouped(" Select U&'a secret' from t") == "select ... (a text that is not read)");
  CHECK(grouped(std::string(20'000, 'x')) == "xxxxxxxxxxxxxxxx ... (a text that is not read)");
  const std::string deep(3000, 'x');
  CHECK(id("select " + deep + "a") != id("select " + deep + "b"));
  CHECK(grouped("select " + deep).size() == kGroupedBytesMax);
}

TEST_CASE("time words") {
  for (const std::string_view word :
       {"now", "NOW", " today ", "Tomorrow", "yesterday", "now()", "2020-01-01 now", "{now,x}",
        "[today,]", "{\"now\"}", "{n\\ow}", "(n\"o\"w)", "12now", "now12:00", "call me now"}) {
    CAPTURE(word);
    CHECK(is_time_word(word));
  }
  for (const std::string_view word :
       {"", "known", "nowhere", "2020-01-01", "todays", "yesterdays", "no w", "n", "infinity"}) {
    CAPTURE(word);
    CHECK_FALSE(is_time_word(word));
  }
}

TEST_CASE("command tags of DDL") {
  for (const std::string_view tag :
       {"CREATE TABLE", "ALTER POLICY", "DROP FUNCTION", "GRANT", "GRANT ROLE", "REVOKE", "COMMENT",
        "REFRESH MATERIALIZED VIEW", "SECURITY LABEL"}) {
    CHECK(is_ddl_tag(tag));
  }
  for (const std::string_view tag : {"SELECT 5", "INSERT 0 1", "SET", "BEGIN", "TRUNCATE TABLE"}) {
    CHECK_FALSE(is_ddl_tag(tag));
  }
}

}  // namespace
}  // namespace pgfresh::query
