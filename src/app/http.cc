#include "app/http.h"

#include <civetweb.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "app/json.h"
#include "base/check.h"

namespace pgfresh::app {
namespace {

constexpr const char* kIndexPage =
    "<!DOCTYPE html><html lang=\"en\"><head><title>pgfresh</title></head><body><h1>pgfresh</h1><ul>"
    "<li><a href=\"/metrics\">/metrics</a>: counters for Prometheus</li>"
    "<li><a href=\"/healthz\">/healthz</a>: 200 while the process runs</li>"
    "<li><a href=\"/readyz\">/readyz</a>: 200 while clients are accepted and PostgreSQL takes "
    "connections; the state of each "
    "database's invalidation feed</li></ul></body></html>\n";

// What civetweb itself complains of while it starts.
struct Complaint {
  std::string text;
};

void respond(mg_connection* connection, int status, const char* type, std::string_view body) {
  const char* reason = status == 200   ? "OK"
                       : status == 404 ? "Not Found"
                       : status == 405 ? "Method Not Allowed"
                                       : "Service Unavailable";
  const std::string_view method = mg_get_request_info(connection)->request_method;
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            status, reason, type, body.size());
  if (method != "HEAD") mg_write(connection, body.data(), body.size());
}

// One connection to the address, closed at once. Failure does not matter.
void knock(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return;
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0) {
    static_cast<void>(::connect(fd, found->ai_addr, found->ai_addrlen));
    ::close(fd);
  }
  ::freeaddrinfo(found);
}

// The host of HOST:PORT or [IPV6]:PORT where the server can be reached from here.
std::string reachable_host(const std::string& place) {
  const size_t colon = place.rfind(':');
  if (colon == std::string::npos) return "127.0.0.1";  // all addresses
  std::string host = place.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  if (host == "0.0.0.0") return "127.0.0.1";
  return host == "::" ? "::1" : host;
}

}  // namespace

struct HttpServer::Server {
  MetricsPage metrics;
  AskReady ready;
  mg_context* context = nullptr;
  std::string host;  // to knock at
  Complaint complaint;

  void answer(mg_connection* connection) const {
    const mg_request_info* request = mg_get_request_info(connection);
    const std::string_view path = request->local_uri != nullptr ? request->local_uri : "";
    const std::string_view method = request->request_method;
    if (method != "GET" && method != "HEAD") {
      respond(connection, 405, "text/plain; charset=utf-8", "only GET\n");
    } else if (path == "/metrics") {
      respond(connection, 200, "text/plain; version=0.0.4; charset=utf-8", metrics());
    } else if (path == "/healthz") {
      respond(connection, 200, "text/plain; charset=utf-8", "ok\n");
    } else if (path == "/readyz") {
      const Readiness readiness = ready();
      respond(connection, readiness.ready ? 200 : 503, "application/json",
              readiness_json(readiness));
    } else if (path == "/") {
      respond(connection, 200, "text/html; charset=utf-8", kIndexPage);
    } else {
      respond(connection, 404, "text/plain; charset=utf-8", "there is no such page\n");
    }
  }
};

HttpServer::HttpServer(MetricsPage metrics, AskReady ready) : server_(std::make_unique<Server>()) {
  server_->metrics = std::move(metrics);
  server_->ready = std::move(ready);
}

HttpServer::~HttpServer() {
  if (server_->context == nullptr) return;
  // civetweb looks at its stop flag when a connection comes, else every two seconds.
  const uint16_t own_port = port();
  std::atomic<bool> stopped = false;
  std::thread stopper([this, &stopped] {
    mg_stop(server_->context);
    stopped = true;
  });
  while (!stopped) {
    knock(server_->host, own_port);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  stopper.join();
  mg_exit_library();
}

std::string HttpServer::listen(const std::string& address) {
  PGFRESH_CHECK(server_->context == nullptr);
  std::string place = address;
  if (place.starts_with("localhost:")) place.replace(0, 9, "127.0.0.1");
  if (place.starts_with("*:")) place.erase(0, 2);
  if (place.starts_with(":")) place.erase(0, 1);
  server_->host = reachable_host(place);
  const std::array options = {"listening_ports", place.c_str(),
                              // Who connects and says nothing has a thread until he is given up.
                              "num_threads", "16", "request_timeout_ms", "2000",
                              "linger_timeout_ms", "1000", "enable_keep_alive", "no",
                              "max_request_size", "8192", static_cast<const char*>(nullptr)};
  mg_callbacks callbacks{};
  callbacks.log_message = [](const mg_connection* connection, const char* message) {
    auto* server = static_cast<Server*>(mg_get_user_data(mg_get_context(connection)));
    if (server != nullptr && server->complaint.text.empty()) server->complaint.text = message;
    return 1;  // said by us, not written to standard error
  };
  mg_init_library(0);
  server_->context = mg_start(&callbacks, server_.get(), const_cast<const char**>(options.data()));
  if (server_->context == nullptr) {
    mg_exit_library();
    return "cannot listen on " + address + " for HTTP: " +
           (server_->complaint.text.empty() ? "address in use or not ours"
                                            : server_->complaint.text);
  }
  mg_set_request_handler(
      server_->context, "/",
      [](mg_connection* connection, void* server) {
        static_cast<const Server*>(server)->answer(connection);
        return 1;
      },
      server_.get());
  return {};
}

uint16_t HttpServer::port() const {
  mg_server_port ports{};
  PGFRESH_CHECK(mg_get_server_ports(server_->context, 1, &ports) == 1);
  return static_cast<uint16_t>(ports.port);
}

std::string readiness_json(const Readiness& readiness) {
  std::string json = "{\"ready\":";
  json += readiness.ready ? "true" : "false";
  json += ",\"postgres\":";
  json += readiness.postgres ? "true" : "false";
  json += ",\"databases\":[";
  for (size_t i = 0; i < readiness.feeds.size(); ++i) {
    const freshness::FeedStatus& feed = readiness.feeds[i];
    if (i > 0) json += ",";
    json += "{\"database\":" + json_string(feed.database) + ",\"feed\":" + json_string(feed.state) +
            ",\"trouble\":" + json_string(feed.trouble) +
            ",\"lease_left_ms\":" + std::to_string(std::max<int64_t>(feed.lease_left_ms, 0)) +
            ",\"tables_watched\":" + std::to_string(feed.relations_watched) + "}";
  }
  return json + "]}\n";
}

}  // namespace pgfresh::app
