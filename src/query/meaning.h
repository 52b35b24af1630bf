// What the names in a statement stand for, and of what type its expressions can be, as far as a
// catalog tells without PostgreSQL's own analysis: every answer errs on the side of "cannot say".
#pragma once

#include <string>
#include <vector>

#include "query/catalog.h"
#include "query/shape.h"

namespace pgfresh::query {

// Nothing that it is made from is owned; all of it outlives this.
class Meaning {
 public:
  Meaning(const SelectShape& shape, const Catalog& catalog,
          const std::vector<std::string>& search_path)
      : shape_(shape), catalog_(catalog), search_path_(search_path) {}

  // Null, or not `found`: unknown to the catalog.
  [[nodiscard]] const Relation* find_relation(const Name& table) const {
    return table.schema.empty() ? catalog_.find_relation(search_path_, table.name)
                                : catalog_.find_relation(table.schema, table.name);
  }
  [[nodiscard]] const Catalog::Type* find_type(const Name& name) const {
    return catalog_.find_type(search_path_, name.schema, name.name);
  }
  [[nodiscard]] Catalog::NamedSafety find_function(const Name& name) const {
    return catalog_.function_safety(search_path_, name.schema, name.name);
  }
  [[nodiscard]] Catalog::NamedSafety find_operator(const Name& name) const {
    return catalog_.operator_safety(search_path_, name.schema, name.name);
  }

  // What is cast is certainly no string, which 'now' could be.
  [[nodiscard]] bool gives_no_string(const CastUse& cast) const;
  // What is brought to a zone is certainly no time of day, which takes today's date for it.
  [[nodiscard]] bool gives_no_time_of_day(const ZoneUse& zone) const;
  // Some column read may be, or some cast is to, a geography.
  [[nodiscard]] bool has_geography() const;
  // q.f is a column of the table q, or of every one of that name.
  [[nodiscard]] bool is_column(const FieldUse& field) const;
  // What stands in front of the dot can be nothing but a row.
  [[nodiscard]] bool is_of_row(const FieldUse& field) const;

 private:
  using TypeTest = bool (*)(const Catalog::Type&);
  enum class Columns : uint8_t { kNone, kFit, kUnfit };

  [[nodiscard]] Columns tables_have(const std::string& column, TypeTest fits) const;
  [[nodiscard]] bool is_date_time_column(const std::string& column) const;
  [[nodiscard]] bool is_timeless_column(const std::string& column) const;

  const SelectShape& shape_;
  const Catalog& catalog_;
  const std::vector<std::string>& search_path_;
  mutable std::vector<std::string> followed_;  // defined columns being looked into
};

}  // namespace pgfresh::query
