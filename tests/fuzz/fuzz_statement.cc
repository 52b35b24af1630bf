// Any text: analyze() and resolve() end and agree with each other, and the canonical form is a
// fixed point that means the same: what is said of the canonical text is what was said of the text.
#include "../unit/query/catalog_fixture.h"
#include "expect.h"
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
  FUZZ_EXPECT(!verdict.roots.empty());
  FUZZ_EXPECT(!statement.hint_off);
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
  const auto canonical = canonicalize(text);
  if (!canonical) return 0;
  FUZZ_EXPECT(statement->canonical == *canonical || statement->reasons.front() == Reason::kSyntax);
  FUZZ_EXPECT(canonicalize(*canonical) == canonical);
  // A blank between any two tokens at most doubles a text.
  const auto again = analyze(*canonical, 2 * kTextBytesMax);
  if (statement->hint_off) return 0;
  FUZZ_EXPECT(again->kind == statement->kind);
  FUZZ_EXPECT(again->reasons == statement->reasons);
  const Verdict verdict_again = resolve(*again, catalog(), test::kPath);
  FUZZ_EXPECT(verdict_again.reasons == verdict.reasons);
  FUZZ_EXPECT(verdict_again.roots == verdict.roots);
  FUZZ_EXPECT(verdict_again.effect == verdict.effect);
  return 0;
}
