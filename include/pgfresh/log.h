// Where the parts of pgfresh tell what happened, without knowing who writes it down. One shape: an
// event noun, then key=value fields, as in `session_ended session=12 why="end of stream"`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace pgfresh {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };

struct LogField {
  std::string_view key;
  std::string value;
};

// Any thread. Two implementations: spdlog (src/app) and one that tests read.
class Log {
 public:
  virtual ~Log() = default;
  // Cheap; ask before making fields for a debug line.
  [[nodiscard]] virtual bool enabled(LogLevel level) const = 0;
  virtual void event(LogLevel level, std::string_view noun,
                     std::initializer_list<LogField> fields) = 0;
  // From now on; what is less important is not written.
  virtual void set_level(LogLevel /*level*/) {}
  // Opens the file by its name anew, where there is one: it may have been moved away. Empty, or
  // why that failed.
  [[nodiscard]] virtual std::string reopen() { return {}; }
};

}  // namespace pgfresh
