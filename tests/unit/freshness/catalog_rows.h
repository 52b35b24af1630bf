// The rows of query::Catalog::load_sql(), as PostgreSQL would send them for a small database.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pgfresh/sql_client.h"
#include "query/catalog.h"

namespace pgfresh::freshness {

struct SmallDatabase {
  bool installed = true;
  bool event_triggers = true;
  std::vector<query::Oid> tables = {100, 200};
  std::vector<std::pair<query::Oid, query::Oid>> members;  // parent, child

  [[nodiscard]] SqlRows rows() const {
    SqlRows out;
    out.columns = {"kind", "a", "b", "c", "d", "e", "f", "g", "h", "i"};
    out.rows.push_back(row({"m", installed ? "1" : "", event_triggers ? "2" : "0", "false"}));
    for (const query::Oid oid : tables) {
      out.rows.push_back(row({"r", std::to_string(oid), "public", "t" + std::to_string(oid), "r",
                              "p", "false", "true", "false", R"([[1, 23, "id", true]])"}));
    }
    for (const auto& [parent, child] : members) {
      out.rows.push_back(row({"i", std::to_string(parent), std::to_string(child)}));
    }
    return out;
  }

 private:
  using Row = std::vector<std::optional<std::string>>;
  [[nodiscard]] static Row row(Row cells) {
    cells.resize(10);
    return cells;
  }
};

}  // namespace pgfresh::freshness
