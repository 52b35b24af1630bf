#include "app/http.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

namespace pgfresh::app {
namespace {

std::string fetch(uint16_t port, const std::string& request_line) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const std::string request = request_line + " HTTP/1.1\r\nHost: x\r\n\r\n";
  REQUIRE(::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  ssize_t count = 0;
  while ((count = ::read(fd, buffer, sizeof buffer)) > 0) {
    answer.append(buffer, static_cast<size_t>(count));
  }
  ::close(fd);
  return answer;
}

}  // namespace

TEST_CASE("the pages and their status") {
  std::atomic<bool> ready = true;
  HttpServer server([] { return "a_metric 1\n"; },
                    [&] {
                      Readiness readiness;
                      readiness.ready = ready;
                      freshness::FeedStatus feed;
                      feed.database = "app";
                      feed.state = "lost";
                      feed.lease_left_ms = -123456;
                      feed.trouble = "no \"route\"";
                      readiness.feeds.push_back(feed);
                      return readiness;
                    });
  REQUIRE(server.listen("127.0.0.1:0") == "");
  const uint16_t port = server.port();
  REQUIRE(port != 0);

  const std::string metrics = fetch(port, "GET /metrics");
  CHECK(metrics.find("HTTP/1.1 200 OK\r\n") == 0);
  CHECK(metrics.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n") !=
        std::string::npos);
  CHECK(metrics.ends_with("\r\n\r\na_metric 1\n"));
  CHECK(fetch(port, "GET /healthz").find("HTTP/1.1 200") == 0);
  CHECK(fetch(port, "GET /").find("/readyz") != std::string::npos);
  CHECK(fetch(port, "GET /nothing").find("HTTP/1.1 404") == 0);
  CHECK(fetch(port, "POST /metrics").find("HTTP/1.1 405") == 0);
  CHECK(fetch(port, "HEAD /metrics").ends_with("\r\n\r\n"));

  const std::string body =
      "{\"ready\":true,\"postgres\":false,\"databases\":[{\"database\":\"app\",\"feed\":\"lost\","
      "\"trouble\":"
      "\"no \\\"route\\\"\",\"lease_left_ms\":0,\"tables_watched\":0}]}\n";
  const std::string answer = fetch(port, "GET /readyz");
  CHECK(answer.find("HTTP/1.1 200") == 0);
  CHECK(answer.ends_with(body));
  ready = false;
  CHECK(fetch(port, "GET /readyz").find("HTTP/1.1 503") == 0);

  HttpServer second([] { return ""; }, [] { return Readiness{}; });
  const std::string taken = second.listen("127.0.0.1:" + std::to_string(port));
  CHECK(taken.find("cannot listen on 127.0.0.1:" + std::to_string(port)) == 0);
}

}  // namespace pgfresh::app
