// The key under which a catalog snapshot files a schema-qualified name.
#pragma once

#include <string>
#include <string_view>

namespace pgfresh::query {

// NUL cannot stand in a name, so no two pairs share a key.
[[nodiscard]] inline std::string qualified(std::string_view schema, std::string_view name) {
  std::string key;
  key.reserve(schema.size() + 1 + name.size());
  key.append(schema).push_back('\0');
  key.append(name);
  return key;
}

}  // namespace pgfresh::query
