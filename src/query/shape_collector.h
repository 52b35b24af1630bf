// Walks a raw parse tree (libpg_query's JSON) and collects its SelectShape. Every node and field it
// meets must be in tree_rules.h, or the statement becomes uncacheable with an unknown effect.
// Recursion is bounded by the depth simdjson accepts, see analyze.cc.
#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "query/shape.h"
#include "query/tree_rules.h"

namespace pgfresh::query {

class ShapeCollector {
 public:
  using Object = simdjson::dom::object;
  using Element = simdjson::dom::element;

  // Adds to both; they must outlive the collector.
  ShapeCollector(SelectShape& shape, std::vector<Reason>& reasons)
      : shape_(shape), reasons_(reasons) {}

  // One statement of the text: the name of its node and the node's fields.
  void statement(std::string_view type, const Object& body);
  // A construct that has not been reviewed.
  void unreviewed();

 private:
  using Handler = void (ShapeCollector::*)(const Object&);

  // Walking.
  void value(const Element& value);
  void node(std::string_view type, const Object& body);
  void fields(std::string_view type, const Object& body, std::string_view except);
  void structure(std::string_view type, const Element& value);
  static Handler handler(std::string_view type);

  // Nodes that walk their own fields.
  void select(const Object& body);
  void select_body(const Object& body);
  void modify(std::string_view type, const Object& body);
  void with_clause(const Object& body);
  void result_target(const Object& body);
  void range_function(const Object& body);

  // Nodes that add something and are then walked by their rule.
  void see_alias(const Object& body);
  void see_table(const Object& body);
  void see_subselect(const Object& body);
  void see_join(const Object& body);
  void see_cte(const Object& body);
  void see_column(const Object& body);
  void see_constant(const Object& body);
  void see_parameter(const Object& body);
  void see_expression(const Object& body);
  void see_sublink(const Object& body);
  void see_case(const Object& body);
  void see_sort(const Object& body);
  void see_call(const Object& body);
  void see_cast(const Object& body);
  void see_indirection(const Object& body);
  void see_clock_or_user(const Object& body);
  void see_locking(const Object& body);
  void see_into(const Object& body);
  void see_column_definition(const Object& body);
  void see_sample(const Object& body);

  void define(const std::string& name) { shape_.defined[name].opaque = true; }
  void note_level(const Object& body);
  void note_range(const Object& body, std::string_view field, bool is_function = false);
  void note_call(const Object& body, bool in_from);
  void note_parameter_cast(const Object& cast, const Object& parameter);
  void note_setting(const Object& call);
  void note_field(const std::string& qualifier, const std::string& name);
  void note_values(const Object& body);
  // The name PostgreSQL gives a result column without one; empty for a plain column, which keeps
  // its own. A weak name gives way to that of a cast or CASE around it.
  struct ColumnName {
    std::string name;
    bool strong = false;
  };
  static ColumnName column_name(const Element& value);
  static ColumnName subselect_name(const Object& body);
  void note_operator(const std::optional<Name>& name);
  // Adds to `cast` what must hold for `argument` to give no string made by the query.
  void require_no_string(const Element& argument, CastUse& cast);
  void require_all(const Object& body, std::string_view field, CastUse& cast);
  void require_case(const Object& body, CastUse& cast);
  void require_subselect(const Object& body, CastUse& cast);
  // The same for `argument` to be no time of day.
  void note_zone(const Object& call);
  void require_no_time(const Element& argument, ZoneUse& zone);
  void require_no_time_in(const Object& body, std::string_view field, ZoneUse& zone);

  SelectShape& shape_;
  std::vector<Reason>& reasons_;
  std::vector<std::string> scope_;  // names of the CTEs visible here
  int level_ = 0;                   // of SELECTs around; 0: its columns are the answer's
  size_t items_ = 0;                // of the levels so far, and their operands
  size_t operands_ = 0;
};

}  // namespace pgfresh::query
