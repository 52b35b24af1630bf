#include "freshness/carried.h"

#include <charconv>
#include <map>

#include "base/check.h"
#include "base/limits.h"
#include "freshness/event.h"

namespace pgfresh::freshness {
namespace {

// "1 <xid>" with any xid is "everything"; that of nobody in particular.
constexpr uint64_t kNobody = 1;

}  // namespace

template <typename Take>
void Carried::for_each(Take take) const {
  std::string_view rest = pieces_;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    PGFRESH_CHECK(colon != std::string_view::npos);
    size_t length = 0;
    std::from_chars(rest.data() + 1, rest.data() + colon, length);
    take(rest.substr(colon + 1, length), rest.substr(0, colon + 1 + length));
    rest.remove_prefix(colon + 1 + length);
  }
}

void Carried::append(std::string_view payload) {
  pieces_ += ' ';
  pieces_ += std::to_string(payload.size());
  pieces_ += ':';
  last_at_ = pieces_.size();
  pieces_ += payload;
  ++count_;
}

void Carried::add(std::string_view payload) {
  // A loop that writes the same row again and again says the same again and again.
  if (count_ != 0 && std::string_view(pieces_).substr(last_at_) == payload) return;
  if (parse_event(payload).has_value()) {
    append(payload);
  } else {
    append(format_schema_event(kNobody));
    forgotten_ = true;
  }
  if (pieces_.size() > kBytesMax) collapse();
}

void Carried::take(Carried& other) {
  if (other.empty()) return;
  if (empty()) {
    std::swap(*this, other);
  } else {
    last_at_ = pieces_.size() + other.last_at_;
    pieces_ += other.pieces_;
    count_ += other.count_;
    forgotten_ = forgotten_ || other.forgotten_;
  }
  other.clear();
  if (pieces_.size() > kBytesMax) collapse();
}

void Carried::clear() { *this = Carried(); }

void Carried::collapse_to_schema() {
  clear();
  append(format_schema_event(kNobody));
  forgotten_ = true;
}

void Carried::collapse() {
  std::map<Oid, uint64_t> relations;
  bool schema = false;
  for_each([&](std::string_view payload, std::string_view /*piece*/) {
    const auto event = parse_event(payload);
    if (!event.has_value() || event->kind == Event::Kind::kSchema) {
      schema = true;
    } else {
      relations[event->relation] = event->xid;
    }
  });
  clear();
  forgotten_ = true;
  for (const auto& [relation, xid] : relations) append(format_whole_event(xid, relation));
  if (schema || pieces_.size() > kBytesMax / 2) collapse_to_schema();
}

bool Carried::writers(std::unordered_set<uint32_t>& xids) const {
  for_each([&](std::string_view payload, std::string_view /*piece*/) {
    const auto event = parse_event(payload);
    if (event.has_value()) xids.insert(static_cast<uint32_t>(event->xid));
  });
  return !forgotten_;
}

void Carried::append_payloads(std::vector<std::string>& payloads) const {
  std::string merged;
  std::string_view only;  // the one event in `merged`
  const auto flush = [&] {
    if (!only.empty()) {
      payloads.emplace_back(only);
    } else if (!merged.empty()) {
      payloads.push_back(std::string(kMergedHead) + merged);
    }
    merged.clear();
    only = {};
  };
  for_each([&](std::string_view payload, std::string_view piece) {
    if (kMergedHead.size() + merged.size() + piece.size() >= limits::kEventBytesMax) flush();
    only = merged.empty() ? payload : std::string_view();
    merged += piece;
  });
  flush();
}

}  // namespace pgfresh::freshness
