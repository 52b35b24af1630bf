// Which slots an answer depends on: schema(D), any(R) of the tables that are read as a whole, and
// for the others whole(R) and the keys they are looked for with. What follows from the text alone
// is computed once; keys that come in bind parameters at each execution, without an allocation.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "freshness/token_table.h"
#include "query/statement.h"
#include "wire/messages.h"

namespace pgfresh::proxy {

class SlotPlan {
 public:
  // Of the session the texts and parameters come from. Triggers tell values in UTF-8, or, where
  // the database cannot, do not tell those beyond ASCII.
  enum class Encoding : uint8_t { kUtf8, kOther };

  SlotPlan() = default;
  SlotPlan(const query::Verdict& verdict, const freshness::TokenTable& tokens, Encoding encoding);

  // Makes `out` the slots of one execution; the first is schema(D)'s. `parameter_oids` as in Parse.
  // `bind` is null where there are no parameters.
  void slots(const freshness::TokenTable& tokens, std::string_view parameter_oids,
             const wire::BindMessage* bind, std::vector<uint32_t>& out) const;
  [[nodiscard]] const std::vector<uint32_t>& fixed() const { return fixed_; }

 private:
  struct Lookup {  // a table that is looked for by parameters
    query::Oid root = 0;
    int16_t column = 0;
    query::KeyType type = query::KeyType::kNone;
    std::vector<query::KeyParameter> parameters;
  };
  struct Execution;

  bool add_literals(const query::Dependency& dependency, const freshness::TokenTable& tokens);
  bool add_parameter(const Execution& execution, const Lookup& lookup,
                     const query::KeyParameter& parameter, std::vector<uint32_t>& out) const;
  bool add_array(const Execution& execution, const Lookup& lookup, query::Oid type,
                 const wire::BindParameter& given, std::vector<uint32_t>& out) const;
  [[nodiscard]] bool readable(std::string_view value) const;

  Encoding encoding_ = Encoding::kOther;
  std::vector<uint32_t> fixed_;
  std::vector<Lookup> lookups_;
};

}  // namespace pgfresh::proxy
