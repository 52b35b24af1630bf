#include "app/units.h"

#include <array>
#include <charconv>
#include <limits>
#include <span>

namespace pgfresh::app {
namespace {

struct Unit {
  std::string_view name;
  int64_t factor;
};

// Ascending: the last that divides a value writes it.
constexpr std::array<Unit, 4> kTimeUnits = {
    {{"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}}};
constexpr std::array<Unit, 5> kSizeUnits = {{{"B", 1},
                                             {"KB", int64_t{1} << 10},
                                             {"MB", int64_t{1} << 20},
                                             {"GB", int64_t{1} << 30},
                                             {"TB", int64_t{1} << 40}}};

bool same_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if ((a[i] | 0x20) != (b[i] | 0x20)) return false;
  }
  return true;
}

std::optional<int64_t> parse(std::string_view text, std::span<const Unit> units) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  if (text.empty()) return number == 0 ? std::optional<int64_t>(0) : std::nullopt;
  for (const Unit& unit : units) {
    if (!same_ignoring_case(text, unit.name)) continue;
    if (number > std::numeric_limits<int64_t>::max() / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

std::string write(int64_t value, std::span<const Unit> units) {
  if (value == 0) return "0";
  const Unit* best = units.data();
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) best = &unit;
  }
  return std::to_string(value / best->factor) + std::string(best->name);
}

}  // namespace

std::optional<int64_t> parse_duration_ms(std::string_view text) { return parse(text, kTimeUnits); }

std::optional<int64_t> parse_bytes(std::string_view text) { return parse(text, kSizeUnits); }

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string duration_text(int64_t ms) { return write(ms, kTimeUnits); }

std::string bytes_text(int64_t bytes) { return write(bytes, kSizeUnits); }

}  // namespace pgfresh::app
