// The payload reader under any bytes. Oracle: it never reads outside the payload; what it accepts
// keeps the bounds of event.h, and written down again by the grammar is the payload, byte by byte.
//
// Input: the payload.
#include <string>
#include <vector>

#include "base/limits.h"
#include "expect.h"
#include "freshness/event.h"

namespace pgfresh::freshness {
namespace {

std::string written(const Event& event) {
  std::string text = "1 " + std::to_string(event.xid);
  switch (event.kind) {
    case Event::Kind::kSchema:
      return text + " s";
    case Event::Kind::kWhole:
      return text + " w " + std::to_string(event.relation);
    case Event::Kind::kRows:
      break;
  }
  text += " r " + std::to_string(event.relation) + " " + std::to_string(event.columns.size());
  for (const Event::Column& column : event.columns) {
    text += " " + std::to_string(column.number) + " " + std::to_string(column.values.size());
    for (const std::string_view value : column.values) {
      text += " " + std::to_string(value.size()) + ":";
      text += value;
    }
  }
  return text;
}

void judge_input(std::string_view bytes) {
  const fuzz::Exact payload(bytes);
  const std::optional<Event> event = parse_event(payload.view());
  if (!event.has_value()) return;
  FUZZ_EXPECT(bytes.size() <= limits::kEventBytesMax);
  FUZZ_EXPECT(event->xid != 0 && event->xid < (uint64_t{1} << 63));
  FUZZ_EXPECT((event->relation == 0) == (event->kind == Event::Kind::kSchema));
  for (const Event::Column& column : event->columns) {
    FUZZ_EXPECT(column.number > 0);
    FUZZ_EXPECT(column.values.size() <= limits::kEventKeysMax);
  }
  FUZZ_EXPECT(written(*event) == bytes);
  std::vector<uint64_t> tags;
  append_event_tags(*event, event->relation, tags);
  append_event_tags(*event, 1, tags);
  append_event_tags(*event, 0, tags);
  FUZZ_EXPECT(tags.size() >= 3);
}

}  // namespace
}  // namespace pgfresh::freshness

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pgfresh::freshness::judge_input(pgfresh::fuzz::as_view(data, size));
  return 0;
}
