// The event's payload: one text, sent by the triggers of sql/install.sql through NOTIFY and as a
// PF001 notice, written and read here. Grammar (single blanks; numbers in decimal):
//
//   event  = "1" xid8 kind
//   kind   = "r" relation column-count column{column-count}     rows known
//          | "w" relation                                       which rows: unknown
//          | "s"                                                DDL, privileges, policies
//   column = attnum value-count value{value-count}              distinct old and new values
//   value  = byte-length ":" bytes                              type's text form, never NULL
//
// as in "1 7741 r 16402 1 1 2 1:7 2:42". Anybody may NOTIFY anything, so reading never trusts a
// length and never throws; what it cannot read is "forget everything" (freshness.md, anomaly 17).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "freshness/token_table.h"
#include "query/catalog.h"

namespace pgfresh::freshness {

struct Event {
  enum class Kind : uint8_t { kRows, kWhole, kSchema };
  struct Column {
    int16_t number = 0;
    std::vector<std::string_view> values;  // into the payload
  };

  uint64_t xid = 0;
  Kind kind = Kind::kWhole;
  Oid relation = 0;             // 0 for kSchema
  std::vector<Column> columns;  // kRows
};

// nullopt: not an event. Bounds: limits::kEventBytesMax, limits::kEventKeysMax values a column.
[[nodiscard]] std::optional<Event> parse_event(std::string_view payload);
[[nodiscard]] std::string format_schema_event(uint64_t xid);

// The tags an event touches, given the root of its relation's tree (0: unknown, then the whole
// database: schema_tag()) and the key columns that results may depend on. Rule 2.
void append_event_tags(const Event& event, Oid root, std::vector<uint64_t>& tags,
                       std::span<const query::KeyColumn> key_columns = {});

}  // namespace pgfresh::freshness
