// What a view reads and calls, by oid, from the tree PostgreSQL stores of it
// (pg_rewrite.ev_action). The stored tree and not the text of the definition: it names everything
// by oid, shows the casts nobody wrote, and reading it takes no lock on the tables beneath, as
// pg_get_viewdef() does.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "pgfresh/reason.h"
#include "query/catalog.h"

namespace pgfresh::query {

struct ViewTree {
  // Each without repetition; relations may contain the view itself.
  std::vector<Oid> relations;
  std::vector<Oid> functions;  // and aggregates, window functions
  std::vector<Oid> operators;
  std::vector<Oid> types;     // of everything computed
  std::vector<Oid> io_types;  // that strings are turned into by their input functions
  std::vector<Reason> reasons;
  bool unreviewed = false;  // some node is not known here and may call anything
};

// nullopt: not the form that nodeToString() of PostgreSQL 14 to 18 writes.
[[nodiscard]] std::optional<ViewTree> read_view_tree(std::string_view text);

}  // namespace pgfresh::query
