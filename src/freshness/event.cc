// Reads and writes event payloads. The reader goes once from left to right, allocates only for
// what it has read, and accepts exactly what the grammar of event.h says: one blank, no leading
// zeros, nothing behind the end. Whether the relation exists is not its business.
#include "freshness/event.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/limits.h"

namespace pgfresh::freshness {
namespace {

constexpr uint64_t kXidMax = (uint64_t{1} << 63) - 1;
constexpr uint64_t kOidMax = std::numeric_limits<Oid>::max();
constexpr uint64_t kAttributeMax = std::numeric_limits<int16_t>::max();

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  [[nodiscard]] bool literal(char wanted) {
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  [[nodiscard]] bool number(uint64_t min, uint64_t max, uint64_t& out) {
    size_t digits = 0;
    uint64_t value = 0;
    while (digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9') {
      const auto digit = static_cast<uint64_t>(rest_[digits] - '0');
      if (value > (max - digit) / 10 || digit > max) return false;
      value = value * 10 + digit;
      ++digits;
    }
    if (digits == 0 || value < min || (digits > 1 && rest_.front() == '0')) return false;
    rest_.remove_prefix(digits);
    out = value;
    return true;
  }

  // A blank and a number.
  [[nodiscard]] bool next_number(uint64_t min, uint64_t max, uint64_t& out) {
    return literal(' ') && number(min, max, out);
  }

  [[nodiscard]] bool next_value(std::string_view& out) {
    uint64_t length = 0;
    if (!next_number(0, limits::kEventBytesMax, length) || !literal(':')) return false;
    if (length > rest_.size()) return false;
    out = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

 private:
  std::string_view rest_;
};

bool read_column(Reader& reader, Event::Column& column) {
  uint64_t number = 0;
  uint64_t values = 0;
  if (!reader.next_number(1, kAttributeMax, number)) return false;
  if (!reader.next_number(0, limits::kEventKeysMax, values)) return false;
  column.number = static_cast<int16_t>(number);
  for (uint64_t i = 0; i < values; ++i) {
    std::string_view value;
    if (!reader.next_value(value)) return false;
    column.values.push_back(value);
  }
  return true;
}

bool read_relation(Reader& reader, Event& event) {
  uint64_t relation = 0;
  if (!reader.next_number(1, kOidMax, relation)) return false;
  event.relation = static_cast<Oid>(relation);
  return true;
}

bool read_rows(Reader& reader, Event& event) {
  uint64_t columns = 0;
  if (!read_relation(reader, event)) return false;
  if (!reader.next_number(0, kAttributeMax, columns)) return false;
  for (uint64_t i = 0; i < columns; ++i) {
    if (!read_column(reader, event.columns.emplace_back())) return false;
  }
  return true;
}

bool read_kind(Reader& reader, Event& event) {
  if (!reader.literal(' ')) return false;
  if (reader.literal('r')) {
    event.kind = Event::Kind::kRows;
    return read_rows(reader, event);
  }
  if (reader.literal('w')) {
    event.kind = Event::Kind::kWhole;
    return read_relation(reader, event);
  }
  event.kind = Event::Kind::kSchema;
  return reader.literal('s');
}

// The trigger may have been made for other columns than those the catalog shows: between the
// watching of a table anew and its schema event, or because somebody has changed it.
bool tells_all(const Event& event, std::span<const query::KeyColumn> key_columns) {
  return std::all_of(key_columns.begin(), key_columns.end(), [&event](const auto& wanted) {
    return std::any_of(
        event.columns.begin(), event.columns.end(),
        [&wanted](const Event::Column& told) { return told.number == wanted.number; });
  });
}

}  // namespace

std::optional<Event> parse_event(std::string_view payload) {
  if (payload.size() > limits::kEventBytesMax) return std::nullopt;
  Reader reader(payload);
  Event event;
  if (!reader.literal('1') || !reader.next_number(1, kXidMax, event.xid)) return std::nullopt;
  if (!read_kind(reader, event) || !reader.at_end()) return std::nullopt;
  return event;
}

std::string format_schema_event(uint64_t xid) {
  PGFRESH_CHECK(xid != 0 && xid <= kXidMax);
  return "1 " + std::to_string(xid) + " s";
}

std::string format_whole_event(uint64_t xid, Oid relation) {
  PGFRESH_CHECK(xid != 0 && xid <= kXidMax);
  return "1 " + std::to_string(xid) + " w " + std::to_string(relation);
}

std::optional<Message> parse_message(std::string_view payload) {
  if (payload.size() > limits::kEventBytesMax) return std::nullopt;
  Reader reader(payload);
  Message message;
  if (!reader.literal('3') || !reader.literal(' ')) return std::nullopt;
  if (reader.literal('m')) {
    while (!reader.at_end()) {
      std::string_view event;
      if (!reader.next_value(event) || !parse_event(event)) return std::nullopt;
      message.events.push_back(event);
    }
    return message.events.empty() ? std::nullopt : std::optional(std::move(message));
  }
  if (reader.literal('b')) {
    message.kind = Message::Kind::kBeat;
    if (!reader.next_number(1, kXidMax, message.publisher)) return std::nullopt;
    if (!reader.next_number(1, kXidMax, message.sequence)) return std::nullopt;
  } else {
    message.kind = Message::Kind::kEnd;
    if (!reader.literal('e')) return std::nullopt;
    if (!reader.next_number(1, kXidMax, message.publisher)) return std::nullopt;
  }
  return reader.at_end() ? std::optional(std::move(message)) : std::nullopt;
}

std::string format_beat(uint64_t publisher, uint64_t sequence) {
  return "3 b " + std::to_string(publisher) + " " + std::to_string(sequence);
}

std::string format_end(uint64_t publisher) { return "3 e " + std::to_string(publisher); }

void append_event_tags(const Event& event, Oid root, std::vector<uint64_t>& tags,
                       std::span<const query::KeyColumn> key_columns) {
  if (event.kind == Event::Kind::kSchema || root == 0) {
    tags.push_back(schema_tag());
    return;
  }
  tags.push_back(any_tag(root));
  // A member of a tree that was written directly; it may have been a tree of its own until lately.
  const bool member = event.relation != root;
  if (member) tags.push_back(any_tag(event.relation));
  if (event.kind == Event::Kind::kWhole || !tells_all(event, key_columns)) {
    tags.push_back(whole_tag(root));
    if (member) tags.push_back(whole_tag(event.relation));
  }
  // Triggers number the columns as in the root, whichever member was named in the statement.
  for (const Event::Column& column : event.columns) {
    for (const std::string_view value : column.values) {
      tags.push_back(key_tag(root, column.number, value));
      if (member) tags.push_back(key_tag(event.relation, column.number, value));
    }
  }
}

}  // namespace pgfresh::freshness
