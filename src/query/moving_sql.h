// What a trigger must fire for to see each UPDATE that may move a row to another partition: a MERGE
// that does so is told by the fifth trigger alone (sql/install.sql: trigger_kinds).
#pragma once

#include <string_view>

namespace pgfresh::query {

// Two common table expressions, for a WITH RECURSIVE. moving(root, by_any, columns): of whatever is
// partitioned, the columns that say where a row lies there or below; or any column, because a key
// is an expression, or a trigger may change rows on their way.
inline constexpr std::string_view kMovingSql = R"sql(below(root, member) AS (
  SELECT k.partrelid, k.partrelid FROM pg_catalog.pg_partitioned_table k
  UNION
  SELECT b.root, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.member),
moving AS MATERIALIZED (
  SELECT b.root, bool_or(k.partattrs IS NULL AND t.oid IS NOT NULL OR o.attnum IS NULL
                           AND k.partattrs IS NOT NULL) AS by_any,
         pg_catalog.array_agg(o.attnum) FILTER (WHERE o.attnum IS NOT NULL) AS columns
  FROM below b
       LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.member AND t.tgtype & 19 = 19
       LEFT JOIN pg_catalog.pg_partitioned_table k ON k.partrelid = b.member AND t.oid IS NULL
       LEFT JOIN LATERAL pg_catalog.unnest(k.partattrs::int2[]) AS n(attnum) ON true
       LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = b.member AND a.attnum = n.attnum
                                              AND n.attnum > 0
       LEFT JOIN pg_catalog.pg_attribute o ON o.attrelid = b.root AND o.attname = a.attname
                                              AND NOT o.attisdropped
  GROUP BY b.root))sql";

}  // namespace pgfresh::query
