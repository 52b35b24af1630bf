// Any text: analyze() and resolve() end and agree with each other, and the canonical form is a
// fixed point that means the same: it has the parse tree of the text, but for places, and the same
// is said of it.
#include <cctype>
#include <string>

#include "../unit/query/catalog_fixture.h"
#include "expect.h"
#include "pg_query.h"
#include "query/pattern.h"
#include "query/statement.h"

namespace {

using namespace pgfresh;
using namespace pgfresh::query;

constexpr size_t kTextBytesMax = 4096;

const Catalog& catalog() {
  static const std::shared_ptr<const Catalog> made = test::CatalogFixture().build();
  return *made;
}

void expect_sane(const Statement& statement, const Verdict& verdict) {
  FUZZ_EXPECT((statement.kind == Kind::kSelect) || !statement.reasons.empty());
  FUZZ_EXPECT(statement.kind != Kind::kUnknown || verdict.effect == Effect::kChangesSession);
  if (!verdict.cacheable()) return;
  FUZZ_EXPECT(statement.kind == Kind::kSelect);
  FUZZ_EXPECT(verdict.effect == Effect::kPureRead);
  FUZZ_EXPECT(!verdict.roots().empty());
  FUZZ_EXPECT(!statement.hint_off);
}

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-'; }

// libpg_query's JSON without the members that tell places in the text. A number of the value 0 is
// left out of the JSON, and so is what this takes away.
std::string without_places(std::string json) {
  for (const std::string_view name : {"\"location\":", "\"stmt_len\":", "\"stmt_location\":"}) {
    size_t at = 0;
    while ((at = json.find(name, at)) != std::string::npos) {
      size_t end = at + name.size();
      while (end < json.size() && is_digit(json[end])) ++end;
      if (end < json.size() && json[end] == ',') {
        ++end;
      } else if (at > 0 && json[at - 1] == ',') {
        --at;
      }
      json.erase(at, end - at);
    }
  }
  return json;
}

// Empty: PostgreSQL's parser refuses the text.
std::string tree_of(std::string_view text) {
  const PgQueryParseResult parsed = pg_query_parse(std::string(text).c_str());
  std::string tree;
  if (parsed.error == nullptr) tree = without_places(parsed.parse_tree);
  pg_query_free_parse_result(parsed);
  return tree;
}

// Another text of the same skeleton: each literal as long as before, digits made of other digits.
// What a pattern says of it is what analyze() says.
void expect_pattern_agrees(std::string_view text, const std::shared_ptr<const Statement>& first) {
  Skeleton skeleton;
  if (!skeleton.take(text)) return;
  const auto pattern = Pattern::learn(first, skeleton);
  if (pattern == nullptr) return;
  std::string other(text);
  for (const Literal& literal : skeleton.literals) {
    const bool is_string = literal.kind == Literal::Class::kString;
    for (size_t i = is_string ? 1 : 0; i + (is_string ? 1 : 0) < literal.size; ++i) {
      char& c = other[literal.begin + i];
      if (std::isdigit(static_cast<unsigned char>(c)) != 0) c = '1';
      if (is_string && std::isalpha(static_cast<unsigned char>(c)) != 0) c = 'w';
    }
  }
  Skeleton again;
  FUZZ_EXPECT(again.take(other));
  if (again.bytes != skeleton.bytes) return;  // a smaller number
  const auto filled = pattern->fill(other, again);
  if (filled == nullptr) return;
  const auto analysed = analyze(other, kTextBytesMax);
  FUZZ_EXPECT(filled->kind == analysed->kind);
  FUZZ_EXPECT(filled->canonical == analysed->canonical);
  FUZZ_EXPECT(filled->reasons == analysed->reasons);
  FUZZ_EXPECT(filled->hint_off == analysed->hint_off);
  FUZZ_EXPECT(filled->hint_ttl_ms == analysed->hint_ttl_ms);
  const Verdict one = resolve(*filled, catalog(), test::kPath);
  const Verdict two = resolve(*analysed, catalog(), test::kPath);
  FUZZ_EXPECT(one.reasons == two.reasons);
  FUZZ_EXPECT(one.dependencies.size() == two.dependencies.size());
  for (size_t i = 0; i < one.dependencies.size(); ++i) {
    FUZZ_EXPECT(one.dependencies[i].root == two.dependencies[i].root);
    FUZZ_EXPECT(one.dependencies[i].why_any == two.dependencies[i].why_any);
    FUZZ_EXPECT(one.dependencies[i].values.literals == two.dependencies[i].values.literals);
  }
  FUZZ_EXPECT(one.effect == two.effect);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Exact input(fuzz::as_view(data, size));
  const std::string_view text = input.view();
  const auto statement = analyze(text, kTextBytesMax);
  const Verdict verdict = resolve(*statement, catalog(), test::kPath);
  expect_sane(*statement, verdict);
  static_cast<void>(is_time_word(text));
  static_cast<void>(is_ddl_tag(text));

  if (text.size() > kTextBytesMax) return 0;
  expect_pattern_agrees(text, statement);
  const auto canonical = canonicalize(text);
  if (!canonical) return 0;
  FUZZ_EXPECT(statement->canonical == *canonical || statement->reasons.front() == Reason::kSyntax);
  FUZZ_EXPECT(canonicalize(*canonical) == canonical);
  FUZZ_EXPECT(tree_of(text) == tree_of(*canonical));
  // A blank between any two tokens at most doubles a text.
  const auto again = analyze(*canonical, 2 * kTextBytesMax);
  if (statement->hint_off) return 0;
  FUZZ_EXPECT(again->kind == statement->kind);
  FUZZ_EXPECT(again->reasons == statement->reasons);
  const Verdict verdict_again = resolve(*again, catalog(), test::kPath);
  FUZZ_EXPECT(verdict_again.reasons == verdict.reasons);
  FUZZ_EXPECT(verdict_again.roots() == verdict.roots());
  FUZZ_EXPECT(verdict_again.effect == verdict.effect);
  return 0;
}
