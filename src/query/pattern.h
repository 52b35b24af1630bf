// Texts that differ in their constants only are analysed once: the first ones teach a Pattern, and
// the others are filled in. An application that writes its values into its texts pays for a look
// at each text, not for a parse.
//
// Why this is right. A skeleton is the text with some of its constants, the *literals*, replaced by
// marks that tell their class; a literal is a run of digits or a quoted string, chosen by a simple
// look at the bytes. Let A teach and B be filled in, of equal skeletons: they have the same bytes
// outside their literals, and literals of equal classes in the same places.
//  1. Each literal of A is exactly one token of PostgreSQL's own scanner, or the pattern is not
//     learnt (so it does not matter that the look at the bytes knows no comment, no $$ and no E'').
//     That scanner, outside of quotes, treats all ten digits alike and takes runs of them whole; in
//     a plain quoted string it treats all characters but quotes and backslashes alike, and neither
//     is in a literal. No rule of it wants a certain number of digits. So it goes through the same
//     states for A and B wherever they are equal, and over a literal from the same state to the
//     same state: the tokens of B are those of A, with B's literals in the places of A's.
//  2. The class tells what the scanner makes of digits by their value: ICONST up to 2^31 - 1,
//  FCONST
//     above; so the grammar sees equal sequences and builds equal trees but for the constants.
//     It looks at the value of one itself only for float(n), which is not learnt, and outside of
//     SELECT, INSERT, UPDATE, DELETE and MERGE, which are all that is learnt.
//  3. The analysis looks at constants for time words, and a text with such a literal neither
//     teaches nor is filled in; and for the values of row keys, which are replaced. That this is
//     all is not believed but tried: before a pattern is learnt, a text of the same skeleton with
//     all literals changed is analysed and filled in, and both must say the same to the last member
//     of SelectShape.
//     (Zero is no literal: libpg_query's tree does not tell it from a missing value.)
// tests/unit/query/pattern_test.cc and the statement fuzzer hold fill() against analyze().
// What follows for the key: it holds the canonical text, with every constant.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "query/statement.h"

namespace pgfresh::query {

struct Literal {
  enum class Class : uint8_t {
    kInt4 = 1,  // digits, at most 2^31 - 1
    kInt8 = 2,  // digits above that, at most 2^63 - 1
    kString = 3
  };
  Class kind = Class::kInt4;
  uint32_t begin = 0;  // in the text; a string's quotes are part of it
  uint32_t size = 0;
};

struct Skeleton {
  std::string bytes;
  std::vector<Literal> literals;  // in order

  // Of `text`; its buffers are used again. False: no use in looking for a pattern, since there is
  // no literal, or a character that skeletons do not know.
  [[nodiscard]] bool take(std::string_view text);
};

class Pattern {
 public:
  // `statement` is the analysis of a text with this skeleton. Null when other texts of the same
  // skeleton may have to be analysed differently.
  [[nodiscard]] static std::shared_ptr<const Pattern> learn(
      const std::shared_ptr<const Statement>& statement, const Skeleton& skeleton);

  // What analyze() says to `text`, whose skeleton equals the one that was learnt. Null: it has to
  // be asked.
  [[nodiscard]] std::shared_ptr<const Statement> fill(std::string_view text,
                                                      const Skeleton& skeleton) const;

 private:
  Pattern() = default;

  static constexpr size_t kNone = static_cast<size_t>(-1);

  [[nodiscard]] bool find_places(const Skeleton& skeleton);
  [[nodiscard]] bool find_keys(const Skeleton& skeleton);
  [[nodiscard]] bool holds_for_another(const Skeleton& skeleton) const;
  [[nodiscard]] std::shared_ptr<const SelectShape> fill_keys(std::string_view text,
                                                             const Skeleton& skeleton) const;

  std::shared_ptr<const Statement> model_;
  std::vector<uint32_t> places_;  // of the literals in the model's canonical form
  std::vector<uint32_t> sizes_;
  // For each constant among the row keys of the shape, in the order of for_each_constant(), the
  // literal it comes from, or kNone. Empty when none comes from a literal.
  std::vector<size_t> key_literals_;
};

}  // namespace pgfresh::query
