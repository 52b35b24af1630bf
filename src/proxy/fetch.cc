#include "proxy/fetch.h"

#include "base/hash.h"

namespace pgfresh::proxy {

// RowDescription: type, length, count, then for each column a name ending in NUL, table oid (4),
// attribute number (2), type oid (4), size (2), modifier (4), format (2).
uint64_t row_shape(std::string_view message) {
  constexpr size_t kHeader = 7;
  constexpr size_t kFixed = 18;
  constexpr size_t kOrigin = 6;
  constexpr size_t kFormat = 2;
  std::string columns(message);
  size_t at = kHeader;
  while (at < columns.size()) {
    const size_t name_end = columns.find('\0', at);
    if (name_end == std::string::npos || name_end + 1 + kFixed > columns.size()) break;
    columns.replace(name_end + 1, kOrigin, kOrigin, '\0');
    at = name_end + 1 + kFixed;
    columns.replace(at - kFormat, kFormat, kFormat, '\0');
  }
  const uint64_t hash = hash64(columns);
  return hash == 0 ? 1 : hash;
}

}  // namespace pgfresh::proxy
