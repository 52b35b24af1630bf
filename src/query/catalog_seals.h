// Seals of what PostgreSQL fixes when it analyses a text (Verdict::meaning): which functions,
// operators and types its words name, and what these are made of. Equal seals, equal meaning. What
// functions do is not in them.
//
// Built with a catalog snapshot, immutable afterwards.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "query/catalog.h"
#include "query/scan.h"
#include "query/shape.h"

namespace pgfresh::query {

// Adds to a seal; the order counts.
void seal(uint64_t& sum, uint64_t value);

// The words and operators of a text, each once, as hashes: whatever it names is among them, and
// `implied`, which it names by IN, LIKE and the like.
[[nodiscard]] std::vector<uint64_t> words_of(const std::vector<Token>& tokens,
                                             const std::set<Name>& implied);
[[nodiscard]] uint64_t word(std::string_view name);

class CatalogSeals {
 public:
  // Of all that these words may name in any schema, and of what is meant without a name: casts,
  // orders and collations. A word among `tables` is not taken for the type of a table's rows: in
  // other schemas tables of that name may come and go.
  [[nodiscard]] uint64_t of_words(std::span<const uint64_t> words,
                                  std::span<const uint64_t> tables) const;
  // A type, with its labels and parts.
  [[nodiscard]] uint64_t of_type(Oid type) const;

 private:
  friend class SealsBuilder;

  uint64_t common_ = 0;
  std::unordered_map<uint64_t, uint64_t> names_;  // by word
  std::unordered_map<uint64_t, uint64_t> rows_;   // the same of tables, as types
  std::unordered_map<Oid, uint64_t> types_;       // PostgreSQL's own are not here: they stay
};

// Takes what it needs of a snapshot's rows.
class SealsBuilder {
 public:
  struct RawType {
    Oid oid = 0;
    std::string schema;
    std::string name;
    std::string detail;  // what is the type's own
    Oid part = 0;        // element, base or subtype; 0: none
    Oid relation = 0;    // of a composite type; 0: none
  };

  void take_common(std::string_view text);
  // Functions or operators of one name: a sum over them, and the types they take and give, as
  // numbers with something else between.
  void take_names(std::string_view name, std::string_view sum, std::string_view types);
  void take_type(RawType type);
  // Seals the relations, too.
  [[nodiscard]] std::shared_ptr<const CatalogSeals> finish(
      std::unordered_map<Oid, Relation>& relations);

 private:
  struct Named {
    std::string name;
    std::string sum;
    std::vector<Oid> types;
  };

  // Of its columns, those that are not PostgreSQL's own.
  [[nodiscard]] std::vector<Oid> users_types(const Relation& relation) const;

  std::shared_ptr<CatalogSeals> seals_ = std::make_shared<CatalogSeals>();
  std::vector<Named> named_;
  std::unordered_map<Oid, RawType> types_;
};

}  // namespace pgfresh::query
