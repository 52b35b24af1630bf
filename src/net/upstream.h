// Where the PostgreSQL server is and how to reach it: what --upstream and upstream.url say.
//
// The text is a connection string of libpq, read by libpq itself: a URL or keyword=value pairs.
// What libpq would take from the environment (PGHOST, PGSSLMODE …) is not looked at, so that one
// configuration file means one thing. Deliberately not done: several hosts, service files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace pgfresh::net {

// As libpq names them; "allow" is read as prefer.
enum class SslMode : uint8_t { kDisable, kPrefer, kRequire, kVerifyCa, kVerifyFull };

[[nodiscard]] std::string_view ssl_mode_name(SslMode mode);

struct UpstreamTarget {
  std::string host;      // a name, an address, or the directory of a unix socket ("/…")
  std::string hostaddr;  // the address of `host`, where it is not to be looked up
  uint16_t port = 5432;
  std::string user;  // of the control connections; empty: the process's own user
  std::string password;
  std::string database;  // empty: named like the user
  SslMode ssl_mode = SslMode::kPrefer;
  std::string ssl_root_cert;  // a file; "system": the certificates the system trusts; or empty
  std::string ssl_cert;
  std::string ssl_key;
  int64_t connect_timeout_ms = 10'000;  // for each address tried
  // For servers that are not PostgreSQL (redis_target.h).
  std::string socket_file;  // a unix socket with a name of its own; `host` is the same
  bool tls_first = false;   // TLS begins at once; the server is not asked whether it has it

  // The error is one line: what is wrong, what is allowed.
  [[nodiscard]] static tl::expected<UpstreamTarget, std::string> parse(const std::string& text);

  [[nodiscard]] bool is_unix() const { return !host.empty() && host.front() == '/'; }
  // REQUIRES: is_unix().
  [[nodiscard]] std::string socket_path() const;
  // For logs and SHOW CONFIG: without the password.
  [[nodiscard]] std::string describe() const;
};

}  // namespace pgfresh::net
