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
// as in "1 7741 r 16402 1 1 2 1:7 2:42". Proxies that publish the events of others (rules 14, 15)
// say
//
//   message = "3 m" {" " byte-length ":" event}      several events
//           | "3 b" publisher sequence               a beat: "I am here, and have published all"
//           | "3 e" publisher                        the end: "I have published all, and stop"
//
// Proxies that do not know "3" forget everything at each; "2 …" is for words of versions to come
// that nobody who does not know them has to act upon. Anybody may NOTIFY anything, so reading never
// trusts a length and never throws; what it cannot read is "forget everything" (freshness.md,
// anomaly 17).
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
[[nodiscard]] std::string format_whole_event(uint64_t xid, Oid relation);

struct Message {
  enum class Kind : uint8_t { kEvents, kBeat, kEnd };
  Kind kind = Kind::kEvents;
  std::vector<std::string_view> events;  // kEvents: into the payload; each can be parsed
  uint64_t publisher = 0;                // kBeat, kEnd
  uint64_t sequence = 0;                 // kBeat
};
inline constexpr std::string_view kMessageHead = "3 ";
inline constexpr std::string_view kMergedHead = "3 m";
// Of a payload that begins with kMessageHead; nullopt as above.
[[nodiscard]] std::optional<Message> parse_message(std::string_view payload);
[[nodiscard]] std::string format_beat(uint64_t publisher, uint64_t sequence);
[[nodiscard]] std::string format_end(uint64_t publisher);

// The tags an event touches, given the root of its relation's tree (0: unknown, then the whole
// database: schema_tag()) and the key columns that results may depend on. Rule 2.
void append_event_tags(const Event& event, Oid root, std::vector<uint64_t>& tags,
                       std::span<const query::KeyColumn> key_columns = {});

}  // namespace pgfresh::freshness
