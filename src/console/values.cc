#include "console/values.h"

#include <algorithm>
#include <array>
#include <ctime>

namespace pgfresh::console {
namespace {

// Bytes of the UTF-8 character at the front of `text`, 0 if there is none. Overlong forms and
// surrogates pass: whoever reads them complains or shows a box.
size_t character_bytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  size_t length = 0;
  if (first < 0x80) length = 1;
  if (first >= 0xc2 && first < 0xe0) length = 2;
  if (first >= 0xe0 && first < 0xf0) length = 3;
  if (first >= 0xf0 && first < 0xf5) length = 4;
  if (length == 0 || text.size() < length) return 0;
  const bool whole =
      std::all_of(text.begin() + 1, text.begin() + static_cast<int>(length),
                  [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; });
  return whole ? length : 0;
}

}  // namespace

Value number(uint64_t value) {
  constexpr uint64_t kMax = static_cast<uint64_t>(INT64_MAX);
  return static_cast<int64_t>(std::min(value, kMax));
}

Value number_or_null(uint64_t value) {
  return value == 0 ? Value(std::monostate()) : number(value);
}

Value time_text(int64_t unix_s) {
  if (unix_s == 0) return std::monostate();
  const std::time_t seconds = unix_s;
  std::tm parts{};
  std::array<char, 32> text{};
  if (gmtime_r(&seconds, &parts) == nullptr) return std::monostate();
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return std::string(text.data(), length);
}

Value text_or_null(std::string_view text) {
  if (text.empty()) return std::monostate();
  return std::string(text);
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = character_bytes(text);
    const char first = text.front();
    if (first == '\n' || first == '\r' || first == '\t') {
      result += ' ';
      text.remove_prefix(1);
    } else if (length == 0 || static_cast<unsigned char>(first) < ' ' || first == '\x7f') {
      result += '?';
      text.remove_prefix(1);
    } else {
      result += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return result;
}

}  // namespace pgfresh::console
