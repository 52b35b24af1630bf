// Where Redis is and how to log in: what --redis and redis.url say.
//
//   redis://[[user]:password@]host[:port][/database]
//   rediss://…                                    the same over TLS, 1.2 or newer, verified
//   unix://[[user]:password@]/path[?db=database]
//
// One primary that has all keys: no list of hosts, no Cluster, no Sentinel.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "net/connector.h"

namespace pgfresh::net {

struct RedisTarget {
  std::string host;  // empty: the socket
  uint16_t port = 6379;
  std::string socket;  // a path
  std::string user;    // empty: the default user
  std::string password;
  int database = 0;
  bool tls = false;

  // The error is one line and quotes no password.
  [[nodiscard]] static tl::expected<RedisTarget, std::string> parse(std::string_view url);
  // For logs and SHOW CONFIG: without the password.
  [[nodiscard]] std::string describe() const;
};

// Of rediss://; files in PEM.
struct RedisTls {
  std::string ca;           // empty: the certificates the system trusts
  std::string certificate;  // of the client; empty: none
  std::string key;          // empty: it stands in the certificate's file
  std::string server_name;  // in the server's certificate; empty: the host of the URL
};

// What an UpstreamConnector needs to reach it. Reads the certificates; the error is one line.
[[nodiscard]] tl::expected<std::shared_ptr<const Upstream>, std::string> open_redis(
    const RedisTarget& target, const RedisTls& tls, int64_t connect_ms_max);

}  // namespace pgfresh::net
