// Values to bytes. Text is what PostgreSQL's output functions give (int8out, float8out with
// extra_float_digits 1, boolout); binary is what its send functions give: big endian.
#include "console/table.h"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "wire/messages.h"

namespace pgfresh::console {
namespace {

// Oids and sizes from PostgreSQL's pg_type.dat.
wire::Column described(const Column& column) {
  switch (column.type) {
    case Type::kText:
      return {column.name, 25, -1};
    case Type::kInt8:
      return {column.name, 20, 8};
    case Type::kFloat8:
      return {column.name, 701, 8};
    case Type::kBool:
      return {column.name, 16, 1};
  }
  return {column.name, 25, -1};
}

bool fits(const Value& value, Type type) {
  if (std::holds_alternative<std::monostate>(value)) return true;
  switch (type) {
    case Type::kText:
      return std::holds_alternative<std::string>(value);
    case Type::kInt8:
      return std::holds_alternative<int64_t>(value);
    case Type::kFloat8:
      return std::holds_alternative<double>(value);
    case Type::kBool:
      return std::holds_alternative<bool>(value);
  }
  return false;
}

std::string big_endian(uint64_t value) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (56 - 8 * i) & 0xff);
  return bytes;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  std::array<char, 32> digits{};
  const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return {digits.data(), written.ptr};
}

struct Encoder {
  Format format;

  std::optional<std::string> operator()(std::monostate) const { return std::nullopt; }
  std::optional<std::string> operator()(const std::string& value) const { return value; }
  std::optional<std::string> operator()(int64_t value) const {
    if (format == Format::kBinary) return big_endian(static_cast<uint64_t>(value));
    return std::to_string(value);
  }
  std::optional<std::string> operator()(double value) const {
    if (format == Format::kBinary) return big_endian(std::bit_cast<uint64_t>(value));
    return float_text(value);
  }
  std::optional<std::string> operator()(bool value) const {
    if (format == Format::kBinary) return std::string(1, value ? '\1' : '\0');
    return value ? "t" : "f";
  }
};

Format format_of(const std::vector<Format>& formats, size_t column) {
  return formats.empty() ? Format::kText : formats[column];
}

}  // namespace

Table::Table(Columns columns, std::string tag)
    : columns_(std::move(columns)), tag_(std::move(tag)) {}

void Table::add(Row row) {
  PGFRESH_CHECK(row.size() == columns_.size());
  for (size_t i = 0; i < row.size(); ++i) PGFRESH_CHECK(fits(row[i], columns_[i].type));
  rows_.push_back(std::move(row));
}

std::string Table::tag(size_t rows_sent) const {
  return tag_.ends_with(' ') ? tag_ + std::to_string(rows_sent) : tag_;
}

std::optional<std::vector<Format>> read_formats(std::string_view raw_codes, size_t columns) {
  const size_t count = raw_codes.size() / 2;
  if (count > 1 && count != columns) return std::nullopt;
  std::vector<Format> formats(columns, Format::kText);
  for (size_t i = 0; i < count; ++i) {
    const char high = raw_codes[2 * i];
    const char low = raw_codes[2 * i + 1];
    if (high != 0 || (low != 0 && low != 1)) return std::nullopt;
    const Format format = low == 1 ? Format::kBinary : Format::kText;
    if (count == 1) return std::vector<Format>(columns, format);
    formats[i] = format;
  }
  return formats;
}

void write_description(std::string& out, const Columns& columns,
                       const std::vector<Format>& formats) {
  PGFRESH_CHECK(formats.empty() || formats.size() == columns.size());
  std::vector<wire::Column> described_columns;
  described_columns.reserve(columns.size());
  for (const Column& column : columns) described_columns.push_back(described(column));
  const size_t start = out.size();
  wire::write_row_description(out, described_columns);
  // The wire's writer says text everywhere. A column is its name, a zero byte and 18 bytes, the
  // last two of which are the format code; before the first one stand type, length and count.
  size_t at = start + 7;
  for (size_t i = 0; i < columns.size(); ++i) {
    at += columns[i].name.size() + 1 + 18;
    if (format_of(formats, i) == Format::kBinary) out[at - 1] = 1;
  }
}

void write_row(std::string& out, const Row& row, const std::vector<Format>& formats) {
  PGFRESH_CHECK(formats.empty() || formats.size() == row.size());
  std::vector<std::optional<std::string>> values;
  values.reserve(row.size());
  for (size_t i = 0; i < row.size(); ++i) {
    values.push_back(std::visit(Encoder{format_of(formats, i)}, row[i]));
  }
  wire::write_data_row(out, values);
}

}  // namespace pgfresh::console
