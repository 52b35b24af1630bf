// Log over spdlog: one line for each event, as text or as JSON.
//
//   2026-11-20T22:45:41.123Z info session_ended session=12 why="end of stream"
//   {"time":"2026-11-20T22:45:41.123Z","level":"info","event":"session_ended","session":12,"why":…}
//
// Written by a thread of its own from a bounded queue: when the disk or the journal stands still,
// old lines are lost and counted, and nobody waits.
#pragma once

#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "app/options.h"
#include "pgfresh/log.h"

namespace pgfresh::app {

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  std::string file;  // empty: standard error
};

// Why this file cannot be appended to or made; empty when it can. No directory is made for it.
[[nodiscard]] std::string log_file_trouble(const std::string& path);

// The error is one line. Destroying the log writes what is queued.
[[nodiscard]] tl::expected<std::unique_ptr<Log>, std::string> open_log(const LogOptions& options);

// What stands behind the time and the level; apart, for the tests.
[[nodiscard]] std::string log_line(LogFormat format, std::string_view noun,
                                   std::initializer_list<LogField> fields);

}  // namespace pgfresh::app
