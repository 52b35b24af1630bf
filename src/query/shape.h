// What the parse tree of a text mentions, with nothing looked up yet: names, and the questions a
// catalog will have to answer about them. Collected once per text by ShapeCollector, judged by
// resolve() against each catalog snapshot.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pgfresh/reason.h"
#include "query/row_keys.h"
#include "query/statement.h"

namespace pgfresh::query {

struct FunctionUse {
  Name name;
  size_t argument_count = 0;
  bool in_from = false;
  friend auto operator<=>(const FunctionUse&, const FunctionUse&) = default;
};

// A cast, or a function call with one argument, which is a cast when a type has the function's
// name. When the target is a date/time type, its input must not be given a string that is made by
// the query (it may say 'now'): then `possible` must hold, and all of the names must be of
// date/time type, or give no string.
struct CastUse {
  Name type;
  bool by_call = false;
  bool possible = true;
  std::vector<std::string> columns;
  std::vector<Name> functions;
  std::vector<Name> by_argument;  // min, max: PostgreSQL's give what they are given
  std::vector<Name> operators;
  std::vector<Name> types;

  friend bool operator==(const CastUse&, const CastUse&) = default;
};

// What `… AT TIME ZONE` is applied to. A time or timetz there takes the offset of today's date:
// then `possible` must hold, and none of the names may be, or give, a time of day.
struct ZoneUse {
  bool possible = true;
  std::vector<std::string> columns;
  std::vector<Name> functions;
  std::vector<Name> types;

  friend bool operator==(const ZoneUse&, const ZoneUse&) = default;
};

// What the statement itself gives as a column of some name: the expressions behind `AS name`, or
// something that is not followed (column aliases, unnamed columns).
struct Definition {
  bool opaque = false;
  std::vector<CastUse> made_of;  // what must hold for it to be no string

  friend bool operator==(const Definition&, const Definition&) = default;
};

// `qualifier.name` or `(…).name`: a column, or a function called on what stands in front, which is
// a whole row only where that is one.
struct FieldUse {
  std::string qualifier;  // empty for `(…).name`
  std::string name;
  friend auto operator<=>(const FieldUse&, const FieldUse&) = default;
};

// A name that columns can be qualified with. `table` is meant only when `is_table`; else it stands
// for a CTE, subquery, join or function. A function need not give rows: then the name is its value.
struct RangeName {
  std::string name;
  bool is_table = false;
  bool is_function = false;
  Name table;
  friend auto operator<=>(const RangeName&, const RangeName&) = default;
};

struct SelectShape {
  Effect effect_floor = Effect::kPureRead;  // what the kinds of statements and nodes alone say
  bool writes = false;                      // triggers, rules, defaults may run
  bool makes_table = false;                 // SELECT … INTO
  bool parameters = false;
  bool function_in_from = false;
  std::set<Name> tables;                       // range variables that are not CTEs in scope
  std::vector<TableUse> uses;                  // the same, one for each place
  std::vector<QueryLevel> levels;              // one for each SELECT that has conditions to be used
  std::map<int, ParameterUse> parameter_uses;  // by number
  std::set<FunctionUse> functions;
  std::set<Name> operators;  // named, and implied by IN, BETWEEN, USING, CASE …
  std::vector<CastUse> casts;
  std::vector<ZoneUse> zones;
  std::set<FieldUse> fields;
  std::set<RangeName> ranges;
  std::map<std::string, Definition> defined;  // column names that the statement itself may make
  std::set<std::string> settings_read;        // by current_setting('name'), in lower case
  bool settings_computed = false;             // current_setting() of something that is no literal
  std::vector<uint64_t> words;                // all there are (words_of())

  // Of all there is: it is what tells whether constants have been looked at (pattern.h).
  friend bool operator==(const SelectShape&, const SelectShape&) = default;
};

// Raises `effect` to at least `floor`.
inline void raise(Effect& effect, Effect floor) {
  if (effect < floor) effect = floor;
}

// Causes kept of one verdict: more are of no help to anybody.
inline constexpr size_t kCausesMax = 32;

inline void add_cause(std::vector<Cause>& causes, Cause cause) {
  for (const Cause& known : causes) {
    if (known == cause) return;
  }
  if (causes.size() < kCausesMax) causes.push_back(std::move(cause));
}

inline void add_reason(std::vector<Reason>& reasons, Reason reason) {
  for (const Reason known : reasons) {
    if (known == reason) return;
  }
  reasons.push_back(reason);
}

}  // namespace pgfresh::query
