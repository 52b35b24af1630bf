// Canonical values. The grammars are those of PostgreSQL's input functions (int8in in int8.c,
// string_to_uuid in uuid.c, boolin in bool.c, array_in in arrayfuncs.c), or parts of them.
#include "query/key_value.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace pgfresh::query {
namespace {

struct KeyTypeRow {
  uint32_t oid;
  uint32_t array_oid;
  KeyType type;
  size_t bytes;  // of the binary form; 0: any
};
// bool, int8, int2, int4, text, varchar, uuid.
constexpr std::array<KeyTypeRow, 7> kTypes = {{{16, 1000, KeyType::kBool, 1},
                                               {20, 1016, KeyType::kInteger, 8},
                                               {21, 1005, KeyType::kInteger, 2},
                                               {23, 1007, KeyType::kInteger, 4},
                                               {25, 1009, KeyType::kText, 0},
                                               {1043, 1015, KeyType::kText, 0},
                                               {2950, 2951, KeyType::kUuid, 16}}};

template <typename Predicate>
const KeyTypeRow* find_type(Predicate wanted) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), wanted);
  return found == kTypes.end() ? nullptr : &*found;
}
const KeyTypeRow* by_oid(uint32_t oid) {
  return find_type([oid](const KeyTypeRow& row) { return row.oid == oid; });
}
const KeyTypeRow* by_array(uint32_t oid) {
  return find_type([oid](const KeyTypeRow& row) { return row.array_oid == oid; });
}

std::string_view spell(int64_t value, KeyBuffer& buffer) {
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), static_cast<size_t>(end - buffer.data())};
}

std::optional<std::string_view> canonical_integer(std::string_view text, KeyBuffer& buffer) {
  text = trimmed(text);
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (text.empty() || text.front() == '-') return std::nullopt;
  }
  int64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (text.empty() || error != std::errc() || end != last) return std::nullopt;
  return spell(value, buffer);
}

char hex_digit(char c) {
  if (c >= '0' && c <= '9') return c;
  if (c >= 'a' && c <= 'f') return c;
  if (c >= 'A' && c <= 'F') return static_cast<char>(c - 'A' + 'a');
  return '\0';
}

// 32 digits; a hyphen may stand behind every fourth, and braces around all.
std::optional<std::string_view> canonical_uuid(std::string_view text, KeyBuffer& buffer) {
  const bool braces = !text.empty() && text.front() == '{';
  if (braces) {
    if (text.back() != '}') return std::nullopt;
    text = text.substr(1, text.size() - 2);
  }
  size_t out = 0;
  for (size_t digit = 0; digit < 32; ++digit) {
    if (digit > 0 && digit % 4 == 0 && !text.empty() && text.front() == '-') text.remove_prefix(1);
    if (text.empty()) return std::nullopt;
    const char low = hex_digit(text.front());
    if (low == '\0') return std::nullopt;
    text.remove_prefix(1);
    if (digit == 8 || digit == 12 || digit == 16 || digit == 20) buffer[out++] = '-';
    buffer[out++] = low;
  }
  if (!text.empty()) return std::nullopt;
  return std::string_view(buffer.data(), out);
}

std::optional<std::string_view> canonical_boolean(std::string_view text) {
  text = trimmed(text);
  const auto is = [text](std::string_view word) {
    return std::equal(text.begin(), text.end(), word.begin(), word.end(), [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
    });
  };
  for (const std::string_view word : {"t", "true", "y", "yes", "on", "1"}) {
    if (is(word)) return "t";
  }
  for (const std::string_view word : {"f", "false", "n", "no", "off", "0"}) {
    if (is(word)) return "f";
  }
  return std::nullopt;
}

}  // namespace

KeyType key_type(uint32_t type_oid) {
  const KeyTypeRow* row = by_oid(type_oid);
  return row != nullptr ? row->type : KeyType::kNone;
}

KeyType key_type_of_array(uint32_t array_oid) {
  const KeyTypeRow* row = by_array(array_oid);
  return row != nullptr ? row->type : KeyType::kNone;
}

uint32_t key_array_oid(uint32_t type_oid) {
  const KeyTypeRow* row = by_oid(type_oid);
  return row != nullptr ? row->array_oid : 0;
}

uint32_t key_element_oid(uint32_t array_oid) {
  const KeyTypeRow* row = by_array(array_oid);
  return row != nullptr ? row->oid : 0;
}

std::optional<std::string_view> canonical_text(KeyType type, std::string_view text,
                                               KeyBuffer& buffer) {
  switch (type) {
    case KeyType::kNone:
      return std::nullopt;
    case KeyType::kInteger:
      return canonical_integer(text, buffer);
    case KeyType::kUuid:
      return canonical_uuid(text, buffer);
    case KeyType::kText:
      return text;
    case KeyType::kBool:
      return canonical_boolean(text);
  }
  return std::nullopt;
}

std::optional<std::string_view> canonical_binary(uint32_t type_oid, std::string_view bytes,
                                                 KeyBuffer& buffer) {
  const KeyTypeRow* row = by_oid(type_oid);
  if (row == nullptr || (row->bytes != 0 && row->bytes != bytes.size())) return std::nullopt;
  switch (row->type) {
    case KeyType::kNone:
      return std::nullopt;
    case KeyType::kText:
      return bytes;
    case KeyType::kBool:
      return bytes.front() != 0 ? "t" : "f";
    case KeyType::kInteger: {
      // Two's complement, big endian; the sign is that of the first byte.
      uint64_t value = static_cast<signed char>(bytes.front()) < 0 ? ~uint64_t{0} : 0;
      for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
      return spell(static_cast<int64_t>(value), buffer);
    }
    case KeyType::kUuid: {
      constexpr std::string_view kDigits = "0123456789abcdef";
      size_t out = 0;
      for (size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) buffer[out++] = '-';
        const auto byte = static_cast<uint8_t>(bytes[i]);
        buffer[out++] = kDigits[byte >> 4];
        buffer[out++] = kDigits[byte & 15];
      }
      return std::string_view(buffer.data(), out);
    }
  }
  return std::nullopt;
}

// ── Arrays ───────────────────────────────────────────────────────────────────────────────────────

TextArrayReader::TextArrayReader(std::string_view text) : rest_(trimmed(text)) {
  if (rest_.size() < 2 || rest_.front() != '{' || rest_.back() != '}') {
    ok_ = false;
    return;
  }
  rest_ = rest_.substr(1, rest_.size() - 2);
  skip_blanks();
  more_ = !rest_.empty();
}

std::optional<TextArrayReader::Element> TextArrayReader::next() {
  if (!ok_ || !more_) return std::nullopt;
  skip_blanks();
  if (rest_.empty()) return fail();
  return rest_.front() == '"' ? quoted() : bare();
}

std::optional<TextArrayReader::Element> TextArrayReader::fail() {
  ok_ = false;
  return std::nullopt;
}

std::optional<TextArrayReader::Element> TextArrayReader::quoted() {
  rest_.remove_prefix(1);
  size_t size = 0;
  while (!rest_.empty() && rest_.front() != '"') {
    if (rest_.front() == '\\') rest_.remove_prefix(1);
    if (rest_.empty() || size == unescaped_.size()) return fail();
    unescaped_[size++] = rest_.front();
    rest_.remove_prefix(1);
  }
  if (rest_.empty()) return fail();
  rest_.remove_prefix(1);
  if (!end_of_element()) return fail();
  return Element{{unescaped_.data(), size}, false};
}

// An element that is not quoted; one with a backslash, a quote or a brace in it is not read.
std::optional<TextArrayReader::Element> TextArrayReader::bare() {
  const size_t size = std::min(rest_.find(','), rest_.size());
  const std::string_view text = trimmed(rest_.substr(0, size));
  rest_.remove_prefix(size);
  if (text.empty() || text.find_first_of("\\\"{}") != std::string_view::npos) return fail();
  if (!end_of_element()) return fail();
  constexpr std::string_view kNull = "null";
  const bool is_null =
      std::equal(text.begin(), text.end(), kNull.begin(), kNull.end(),
                 [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; });
  return Element{text, is_null};
}

void TextArrayReader::skip_blanks() {
  while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
}

bool TextArrayReader::end_of_element() {
  skip_blanks();
  more_ = !rest_.empty();
  if (!more_) return true;
  if (rest_.front() != ',') return false;
  rest_.remove_prefix(1);
  return true;
}

BinaryArrayReader::BinaryArrayReader(std::string_view bytes, uint32_t element_oid) : rest_(bytes) {
  constexpr uint32_t kDimensionsMax = 6;  // MAXDIM
  uint32_t dimensions = 0;
  uint32_t flags = 0;
  uint32_t oid = 0;
  ok_ = number(dimensions) && number(flags) && number(oid) && oid == element_oid &&
        dimensions <= kDimensionsMax;
  left_ = ok_ && dimensions > 0 ? 1 : 0;
  for (uint32_t i = 0; ok_ && i < dimensions; ++i) {
    uint32_t size = 0;
    uint32_t lower_bound = 0;
    ok_ = number(size) && number(lower_bound);
    // More elements than bytes there cannot be.
    if (ok_) left_ = std::min<uint64_t>(left_ * size, uint64_t{1} << 32);
  }
}

std::optional<BinaryArrayReader::Element> BinaryArrayReader::next() {
  if (!ok_ || left_ == 0) {
    if (!rest_.empty()) ok_ = false;
    return std::nullopt;
  }
  constexpr uint32_t kNull = 0xffffffff;
  uint32_t length = 0;
  if (!number(length) || (length != kNull && length > rest_.size())) {
    ok_ = false;
    return std::nullopt;
  }
  --left_;
  if (length == kNull) return Element{{}, true};
  const Element element{rest_.substr(0, length), false};
  rest_.remove_prefix(length);
  return element;
}

bool BinaryArrayReader::number(uint32_t& value) {
  if (rest_.size() < 4) return false;
  value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(rest_[i]);
  rest_.remove_prefix(4);
  return true;
}

}  // namespace pgfresh::query
