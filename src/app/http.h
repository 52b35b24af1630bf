// The pages for machines, served by civetweb on two threads of its own: /metrics, /healthz,
// /readyz, and / which names them. It knows nothing but what the providers return.
//
// Deliberately not done: TLS and log-in. The default address is local; elsewhere a proxy stands in
// front.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "freshness/feed.h"

namespace pgfresh::app {

struct Readiness {
  bool ready = false;     // PostgreSQL takes connections, and nobody has asked to stop
  bool postgres = false;  // PostgreSQL takes connections
  std::vector<freshness::FeedStatus> feeds;
};

class HttpServer {
 public:
  // Called on the server's threads, also several at a time; they may wait for a second or so.
  using MetricsPage = std::function<std::string()>;
  using AskReady = std::function<Readiness()>;

  HttpServer(MetricsPage metrics, AskReady ready);
  // Waits for the requests under way.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "127.0.0.1:9643"; port 0 lets the kernel choose. Empty, or why it cannot. Once.
  [[nodiscard]] std::string listen(const std::string& address);
  // REQUIRES: listen() has succeeded.
  [[nodiscard]] uint16_t port() const;

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

// The body of /readyz.
[[nodiscard]] std::string readiness_json(const Readiness& readiness);

}  // namespace pgfresh::app
