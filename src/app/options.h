// The configuration: what a file, the command line and RELOAD can say, as one value.
//
// One table (option_table.h) lists every option; the reader of the file, --set, SHOW CONFIG and
// conf/pgfresh.yml derive from it. The values the data path needs are kept in its own structs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "cache/redis_store.h"
#include "console/access.h"
#include "console/tables.h"
#include "freshness/feed.h"
#include "net/redis_target.h"
#include "pgfresh/log.h"
#include "proxy/settings.h"

namespace pgfresh::app {

enum class LogFormat : uint8_t { kText, kJson };

// The second level: where it is and how it is used. What sessions need of it is in proxy::Settings.
struct RedisOptions {
  std::string url;  // empty: there is none
  std::string prefix;
  net::RedisTls tls;
  int64_t connect_ms_max = 0;
  size_t requests_max = 0;
  size_t bytes_max = 0;
  size_t pack_bytes_min = 0;
  std::string key_file;  // empty: entries are not encrypted
  cache::SealKeys keys;  // what was read from it
};

struct Options {
  std::vector<std::string> listen_tcp;  // "127.0.0.1:6543"
  std::string listen_unix;              // a directory; empty: no unix socket
  bool unix_unwanted = false;           // listen.unix is none: nobody misses it
  std::string listen_http;              // "127.0.0.1:9643"; empty: no pages
  std::string upstream_url;

  int workers = 0;  // 0: one for each core
  size_t cache_bytes = 0;
  int slots_log2 = 0;
  proxy::Settings session;
  freshness::FeedOptions feed;
  RedisOptions redis;

  std::vector<std::string> console_users;       // "name:password", may use every command
  std::vector<std::string> console_viewers;     // the same, may only look
  std::vector<std::string> console_peer_users;  // system users, by name or number

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  std::string log_file;  // empty: standard error

  // Every option at the table's default.
  [[nodiscard]] static Options defaults();

  // Takes over the options that may change while running; the others keep their values.
  void take_reloadable(const Options& fresh);

  // The names of the options that differ and need a restart to change, for a warning.
  [[nodiscard]] std::vector<std::string> needing_restart(const Options& fresh) const;

  // The port that names the unix socket: that of the first TCP address, else 6543.
  [[nodiscard]] uint16_t unix_port() const;
};

// What is wrong, one line each: "cache.bytes: what is wrong; what is allowed", behind file and line
// where it comes from a file. None quotes what may be a password.
using Troubles = std::vector<std::string>;

// Empty, or one such line.
[[nodiscard]] std::string set_option(Options& options, std::string_view name,
                                     std::string_view value);
// Whether nothing that is necessary is missing, and the values go together.
[[nodiscard]] Troubles check_complete(const Options& options);

// Reads a YAML file over `options`, and adds to `troubles`; the options that are wrong keep their
// values. False: nothing of the file could be read.
[[nodiscard]] bool read_options_file(const std::string& path, Options& options, Troubles& troubles);

// conf/pgfresh.yml: every option with its reason, default and range.
[[nodiscard]] std::string sample_file();

// SHOW CONFIG; passwords are left out.
[[nodiscard]] std::vector<console::ConfigRow> config_rows(const Options& options);

// For --check: whether the unix socket and the log can be made. Not when the file is read: systemd
// makes the directories when the service starts.
[[nodiscard]] Troubles check_places(const Options& options);

// A warning where everybody on this host may read the passwords in the file at `path`; empty:
// nobody may, there are none, or there is no file.
[[nodiscard]] std::string exposed_passwords(const std::string& path, const Options& options);

// What each loop's store is told. REQUIRES: redis.url is not empty.
[[nodiscard]] cache::RedisStoreOptions redis_store_options(const Options& options);
// The way to Redis; null without a redis.url. Reads the certificates; the error is one line.
[[nodiscard]] tl::expected<std::shared_ptr<const net::Upstream>, std::string> open_redis(
    const Options& options);

// Who may use the console. `mock_seed`: 32 random bytes (console/access.h).
[[nodiscard]] console::Access make_access(const Options& options, int daemon_uid,
                                          std::string mock_seed);

}  // namespace pgfresh::app
