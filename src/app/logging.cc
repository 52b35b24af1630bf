#include "app/logging.h"

#include <spdlog/async.h>
#include <spdlog/details/file_helper.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "app/json.h"

namespace pgfresh::app {
namespace {

// Lines waiting for the writer: 8192 of at most a few hundred bytes, 4 MB.
constexpr size_t kQueueLines = 8192;
// A value is cut here, so that no query text fills the log.
constexpr size_t kValueBytesMax = 1024;

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

bool is_number(std::string_view text) {
  if (text.size() > 1 && text.front() == '-') text.remove_prefix(1);
  // JSON has no leading zeros, and readers keep 15 digits exactly.
  const bool zero_led = text.size() > 1 && text.front() == '0';
  return !text.empty() && text.size() <= 15 && !zero_led &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
  });
}

// A file that can be opened anew when something like logrotate has moved it away.
class FileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FileSink(const std::string& path) : path_(path) {
    make();
    file_.open(path, false);
  }

  // Throws spdlog_ex; then the file that was open is closed.
  void reopen() {
    const std::lock_guard lock(mutex_);
    make();
    file_.reopen(false);
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    file_.write(line);
  }
  void flush_() override { file_.flush(); }

  // A new one is not for everybody: it names users and databases. Errors are open()'s to tell.
  void make() const {
    constexpr mode_t kOwnerAndGroup = 0640;
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK,
                          kOwnerAndGroup);
    if (fd >= 0) ::close(fd);
  }

  const std::string path_;
  spdlog::details::file_helper file_;
};

class SpdLog final : public Log {
 public:
  SpdLog(const LogOptions& options, spdlog::sink_ptr sink, std::shared_ptr<FileSink> file)
      : file_(std::move(file)),
        level_(options.level),
        format_(options.format),
        pool_(std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1)),
        logger_(std::make_shared<spdlog::async_logger>(
            "pgfresh", std::move(sink), pool_, spdlog::async_overflow_policy::overrun_oldest)) {
    logger_->set_level(spdlog::level::trace);  // level_ decides
    logger_->flush_on(spdlog::level::trace);
    logger_->set_pattern(options.format == LogFormat::kJson
                             ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                             : "%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                         spdlog::pattern_time_type::utc);
  }

  [[nodiscard]] bool enabled(LogLevel level) const override { return level >= level_; }
  void set_level(LogLevel level) override { level_ = level; }

  void event(LogLevel level, std::string_view noun,
             std::initializer_list<LogField> fields) override {
    if (!enabled(level)) return;
    logger_->log(level_of(level), spdlog::string_view_t("{}"), log_line(format_, noun, fields));
    const size_t lost = pool_->overrun_counter();
    if (lost == lost_.exchange(lost)) return;
    const std::string count = std::to_string(lost);
    logger_->log(spdlog::level::warn, spdlog::string_view_t("{}"),
                 log_line(format_, "log_lines_lost", {{"total", count}}));
  }

  [[nodiscard]] std::string reopen() override {
    if (!file_) return {};
    try {
      file_->reopen();
    } catch (const spdlog::spdlog_ex& error) {
      return "log.file: " + std::string(error.what());
    }
    return {};
  }

 private:
  const std::shared_ptr<FileSink> file_;  // null: standard error
  std::atomic<LogLevel> level_;
  const LogFormat format_;
  std::shared_ptr<spdlog::details::thread_pool> pool_;  // its destructor writes what is queued
  std::shared_ptr<spdlog::async_logger> logger_;
  std::atomic<size_t> lost_ = 0;
};

}  // namespace

std::string log_line(LogFormat format, std::string_view noun,
                     std::initializer_list<LogField> fields) {
  const bool json = format == LogFormat::kJson;
  std::string line = json ? "\"event\":" + json_string(noun) : std::string(noun);
  for (const LogField& field : fields) {
    const std::string_view value = std::string_view(field.value).substr(0, kValueBytesMax);
    if (json) {
      line += "," + json_string(field.key) + ":";
      line += is_number(value) ? std::string(value) : json_string(value);
    } else {
      line += " " + std::string(field.key) + "=";
      line += is_plain(value) ? std::string(value) : json_string(value);
    }
  }
  return line;
}

std::string log_file_trouble(const std::string& path) {
  if (path.empty()) return {};
  std::filesystem::path place = path;
  std::error_code ignored;
  const bool exists = std::filesystem::exists(place, ignored);
  if (!exists) place = place.has_parent_path() ? place.parent_path() : ".";
  if (std::filesystem::is_directory(place, ignored) == exists) {
    return "\"" + place.string() + "\" is " + (exists ? "a directory" : "not a directory");
  }
  if (::access(place.c_str(), exists ? W_OK : W_OK | X_OK) != 0) {
    return "\"" + path + "\" may not be written by this user";
  }
  return {};
}

tl::expected<std::unique_ptr<Log>, std::string> open_log(const LogOptions& options) {
  if (const std::string trouble = log_file_trouble(options.file); !trouble.empty()) {
    return tl::make_unexpected("log.file: " + trouble);
  }
  try {
    if (options.file.empty()) {
      return std::make_unique<SpdLog>(options, std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                      nullptr);
    }
    auto file = std::make_shared<FileSink>(options.file);
    return std::make_unique<SpdLog>(options, file, file);
  } catch (const spdlog::spdlog_ex& error) {
    return tl::make_unexpected("log.file: " + std::string(error.what()));
  }
}

}  // namespace pgfresh::app
