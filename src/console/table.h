// A result the console makes itself: typed columns, rows, and the messages they become on the
// wire, in text or in the binary format of PostgreSQL's own types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace pgfresh::console {

enum class Type : uint8_t { kText, kInt8, kFloat8, kBool };

struct Column {
  std::string name;
  Type type = Type::kText;
  friend bool operator==(const Column&, const Column&) = default;
};
using Columns = std::vector<Column>;

// monostate is NULL.
using Value = std::variant<std::monostate, std::string, int64_t, double, bool>;
using Row = std::vector<Value>;

class Table {
 public:
  // `tag`: what CommandComplete says. A tag that ends in a space gets the number of rows sent.
  Table(Columns columns, std::string tag);

  // REQUIRES: as many values as columns, each NULL or of its column's type.
  void add(Row row);

  [[nodiscard]] const Columns& columns() const { return columns_; }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  [[nodiscard]] std::string tag(size_t rows_sent) const;

 private:
  Columns columns_;
  std::string tag_;
  std::vector<Row> rows_;
};

enum class Format : uint8_t { kText, kBinary };

// One format per column, from the raw codes of a Bind message (none: all text; one: it is for
// all). nullopt: their number fits neither, or a code is neither 0 nor 1.
[[nodiscard]] std::optional<std::vector<Format>> read_formats(std::string_view raw_codes,
                                                              size_t columns);

// `formats`: empty means text for all.
void write_description(std::string& out, const Columns& columns,
                       const std::vector<Format>& formats);
// REQUIRES: `row` belongs to a table of these formats.
void write_row(std::string& out, const Row& row, const std::vector<Format>& formats);

}  // namespace pgfresh::console
