// Which nodes of PostgreSQL 15's raw parse tree, and which of their fields, have been reviewed for
// caching. One table; a node or field that is not in it makes the statement uncacheable and its
// effect unknown. Fields as in src/include/nodes/parsenodes.h and primnodes.h; libpg_query leaves
// out of its JSON what has the default value.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgfresh::query {

enum class Field : uint8_t {
  kIgnore,  // says nothing about tables, functions, types
  kNodes,   // a node or a list of nodes
  kStruct,  // the fields of one node, without the node's name around them
};

struct FieldRule {
  std::string_view name;
  Field field = Field::kIgnore;
  std::string_view type;  // kStruct: of the node
};

struct NodeRule {
  bool reviewed = false;
  const FieldRule* first = nullptr;
  const FieldRule* last = nullptr;
};

[[nodiscard]] NodeRule node_rule(std::string_view type);
// nullptr: not reviewed.
[[nodiscard]] const FieldRule* field_rule(const NodeRule& rule, std::string_view field);

}  // namespace pgfresh::query
