#include "proxy/key.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace pgfresh::proxy {
namespace {

enum class Part : char { kExecution = 'E', kDescription = 'D' };

void append_number(std::string& key, uint64_t number) {
  char bytes[sizeof number];
  std::memcpy(bytes, &number, sizeof number);
  key.append(bytes, sizeof bytes);
}

void append_sized(std::string& key, std::string_view bytes) {
  append_number(key, bytes.size());
  key += bytes;
}

bool all_text(std::string_view formats) {
  return std::all_of(formats.begin(), formats.end(), [](char byte) { return byte == 0; });
}

}  // namespace

std::string key_prefix(const Scope& scope, std::string_view canonical) {
  std::string key;
  key.reserve(canonical.size() + 64);
  append_number(key, scope.id);
  append_sized(key, canonical);
  return key;
}

void change_scope(std::string& key, const Scope& scope) {
  key.replace(0, sizeof scope.id, reinterpret_cast<const char*>(&scope.id), sizeof scope.id);
}

void append_plain_execution(std::string& key) {
  key += static_cast<char>(Part::kExecution);
  append_sized(key, {});
  append_sized(key, {});
  append_sized(key, {});
}

void append_execution(std::string& key, std::string_view parameter_oids,
                      const wire::BindMessage& bind, uint32_t max_rows) {
  key += static_cast<char>(Part::kExecution);
  append_sized(key, parameter_oids);
  append_sized(key, bind.parameter_count == 0 ? std::string_view{} : bind.parameters);
  append_sized(key, all_text(bind.result_formats) ? std::string_view{} : bind.result_formats);
  if (max_rows != 0) append_number(key, max_rows);
}

// Numbers lie in it as in memory: processes on machines of the other byte order share nothing.
void append_portable_key(std::string& out, std::string_view server, uint64_t catalog,
                         const Scope& scope, std::string_view key) {
  PGFRESH_CHECK(key.size() >= sizeof scope.id);
  constexpr char kVersion = '2';  // of what canonical texts, scopes and executions look like
  out += kVersion;
  append_sized(out, server);
  append_number(out, catalog);
  append_sized(out, scope.bytes);
  out += key.substr(sizeof scope.id);
}

bool is_plain_execution(std::string_view parameter_oids, const wire::BindMessage& bind) {
  return parameter_oids.empty() && bind.parameter_count == 0 && all_text(bind.result_formats);
}

void append_description(std::string& key, std::string_view parameter_oids) {
  key += static_cast<char>(Part::kDescription);
  append_sized(key, parameter_oids);
}

}  // namespace pgfresh::proxy
