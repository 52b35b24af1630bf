// Tags to slots. A key tag must be the one that freshness/event.cc makes of the trigger's text;
// whatever is not certain to give that one makes the table a dependency as a whole.
#include "proxy/slot_plan.h"

#include <algorithm>

#include "base/limits.h"

namespace pgfresh::proxy {
namespace {

using query::KeyType;
using query::Oid;

constexpr Oid kUnknownOid = 705;
// Room for keys: behind it there is room for any(R) of every table, whole(R) too.
constexpr size_t kKeySlotsMax = limits::kStampSlotsMax - limits::kTablesMax;

void add_slot(std::vector<uint32_t>& slots, uint32_t slot) {
  if (std::find(slots.begin(), slots.end(), slot) == slots.end()) slots.push_back(slot);
}

bool is_string(Oid type) { return query::key_type(type) == KeyType::kText; }

}  // namespace

struct SlotPlan::Execution {
  const freshness::TokenTable& tokens;
  std::string_view parameter_oids;
  const wire::BindMessage* bind;

  // The type Parse gave the parameter; 0: left open.
  [[nodiscard]] Oid given_type(int number) const {
    const size_t at = static_cast<size_t>(number - 1) * 4;
    if (at + 4 > parameter_oids.size()) return 0;
    Oid oid = 0;
    for (size_t i = 0; i < 4; ++i) oid = oid << 8 | static_cast<uint8_t>(parameter_oids[at + i]);
    return oid != kUnknownOid ? oid : 0;
  }
  [[nodiscard]] uint32_t key_slot(const Lookup& lookup, std::string_view value) const {
    return tokens.slot_of(freshness::key_tag(lookup.root, lookup.column, value));
  }
};

SlotPlan::SlotPlan(const query::Verdict& verdict, const freshness::TokenTable& tokens,
                   Encoding encoding)
    : encoding_(encoding) {
  add_slot(fixed_, tokens.slot_of(freshness::schema_tag()));
  const auto add_whole_table = [&](Oid root) {
    add_slot(fixed_, tokens.slot_of(freshness::any_tag(root)));
  };
  std::vector<Oid> whole;  // roots that are read as a whole: their keys need not be looked at
  const auto is_whole = [&whole](Oid root) {
    return std::find(whole.begin(), whole.end(), root) != whole.end();
  };
  for (const query::Dependency& each : verdict.dependencies) {
    if (each.row_aware() || is_whole(each.root)) continue;
    whole.push_back(each.root);
    add_whole_table(each.root);
  }
  for (const query::Dependency& each : verdict.dependencies) {
    if (is_whole(each.root)) continue;
    if (!add_literals(each, tokens)) {
      add_whole_table(each.root);
    } else if (!each.values.parameters.empty()) {
      lookups_.push_back({each.root, each.column, each.type, each.values.parameters});
    }
  }
}

// Triggers send other texts as UTF-8.
bool SlotPlan::readable(std::string_view value) const {
  return encoding_ == Encoding::kUtf8 || std::none_of(value.begin(), value.end(), [](char c) {
           return static_cast<unsigned char>(c) >= 0x80;
         });
}

// whole(R) and the keys that stand in the text. False: there is no room, or one cannot be read.
bool SlotPlan::add_literals(const query::Dependency& dependency,
                            const freshness::TokenTable& tokens) {
  const auto& literals = dependency.values.literals;
  if (fixed_.size() + literals.size() >= kKeySlotsMax) return false;
  if (!std::all_of(literals.begin(), literals.end(),
                   [this](const std::string& each) { return readable(each); })) {
    return false;
  }
  add_slot(fixed_, tokens.slot_of(freshness::whole_tag(dependency.root)));
  for (const std::string& each : literals) {
    add_slot(fixed_, tokens.slot_of(freshness::key_tag(dependency.root, dependency.column, each)));
  }
  return true;
}

void SlotPlan::slots(const freshness::TokenTable& tokens, std::string_view parameter_oids,
                     const wire::BindMessage* bind, std::vector<uint32_t>& out) const {
  out.assign(fixed_.begin(), fixed_.end());
  const Execution execution{tokens, parameter_oids, bind};
  for (const Lookup& lookup : lookups_) {
    const size_t before = out.size();
    const bool added = std::all_of(lookup.parameters.begin(), lookup.parameters.end(),
                                   [&](const query::KeyParameter& each) {
                                     return add_parameter(execution, lookup, each, out);
                                   });
    if (added && out.size() - before <= limits::kKeyValuesMax) continue;
    out.resize(before);
    add_slot(out, tokens.slot_of(freshness::any_tag(lookup.root)));
  }
}

// False: the value is not read for certain, or there is no room. NULL finds no row.
bool SlotPlan::add_parameter(const Execution& execution, const Lookup& lookup,
                             const query::KeyParameter& parameter,
                             std::vector<uint32_t>& out) const {
  if (execution.bind == nullptr || out.size() >= kKeySlotsMax) {
    return false;
  }
  const auto given = wire::bind_parameter(*execution.bind, static_cast<size_t>(parameter.number));
  if (!given) return false;
  const Oid declared = execution.given_type(parameter.number);
  const Oid type = declared != 0 ? declared : parameter.inferred;
  // A text that the statement casts is read as the type it is cast to.
  const bool cast_text = parameter.cast && is_string(type);
  const KeyType read_as = parameter.array ? query::key_type_of_array(type) : query::key_type(type);
  if (read_as != lookup.type && !cast_text) return false;
  if (!given->value) return true;
  if (parameter.array) return add_array(execution, lookup, type, *given, out);
  query::KeyBuffer buffer;
  const auto value = given->format == 0 || cast_text
                         ? query::canonical_text(lookup.type, *given->value, buffer)
                         : query::canonical_binary(type, *given->value, buffer);
  if (!value || !readable(*value)) return false;
  add_slot(out, execution.key_slot(lookup, *value));
  return true;
}

bool SlotPlan::add_array(const Execution& execution, const Lookup& lookup, Oid type,
                         const wire::BindParameter& given, std::vector<uint32_t>& out) const {
  query::KeyBuffer buffer;
  if (given.format == 0 || is_string(type)) {
    query::TextArrayReader reader(*given.value);
    while (const auto element = reader.next()) {
      // Under array_nulls = off it is a word.
      if (element->is_null && lookup.type == KeyType::kText) return false;
      if (element->is_null) continue;
      const auto value = query::canonical_text(lookup.type, element->text, buffer);
      if (!value || !readable(*value) || out.size() >= kKeySlotsMax) return false;
      add_slot(out, execution.key_slot(lookup, *value));
    }
    return reader.ok();
  }
  const Oid element_type = query::key_element_oid(type);
  query::BinaryArrayReader reader(*given.value, element_type);
  while (const auto element = reader.next()) {
    if (element->is_null) continue;
    const auto value = query::canonical_binary(element_type, element->bytes, buffer);
    if (!value || !readable(*value) || out.size() >= kKeySlotsMax) return false;
    add_slot(out, execution.key_slot(lookup, *value));
  }
  return reader.ok();
}

}  // namespace pgfresh::proxy
