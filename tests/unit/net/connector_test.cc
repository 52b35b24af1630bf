#include "net/connector.h"

#include <doctest/doctest.h>

#include "net_fixture.h"
#include "tls_server.h"

namespace pgfresh::net {
namespace {

struct Outcome {
  std::unique_ptr<Stream> stream;
  std::string error;
  bool told = false;
};

std::shared_ptr<const Upstream> open(const std::string& url) {
  auto upstream = Upstream::open(url);
  if (!upstream) FAIL(upstream.error());
  return *upstream;
}

Outcome connect(UvLoop& loop, const std::string& url) {
  UpstreamConnector connector(loop, open(url));
  Outcome outcome;
  const auto pending = connector.connect([&](std::unique_ptr<Stream> stream, std::string error) {
    outcome = {std::move(stream), std::move(error), true};
  });
  CHECK_FALSE(outcome.told);
  CHECK(turn_until(loop, [&] { return outcome.told; }));
  return outcome;
}

std::string url_of(const TlsServer& server, const std::string& host, const std::string& more) {
  return "postgresql://" + host + ":" + std::to_string(server.port()) + "/?" + more;
}

void check_echo(UvLoop& loop, Stream& stream, size_t size) {
  Recorder recorder;
  stream.start(&recorder);
  std::string sent(size, '\0');
  for (size_t i = 0; i < size; ++i) sent[i] = static_cast<char>(i % 253);
  put(stream, sent);
  CHECK(turn_until(
      loop, [&] { return recorder.bytes.size() >= size; }, 20'000));
  CHECK(recorder.bytes == sent);
  stream.finish();
  CHECK(turn_until(loop, [&] { return recorder.ends == 1; }));
}

}  // namespace

TEST_CASE("a refused connection is told in libpq's words") {
  UvLoop loop;
  uint16_t port = 0;
  loopback_listener(port).reset();
  const std::string number = std::to_string(port);
  CHECK(connect(loop, "postgresql://127.0.0.1:" + number + "/").error ==
        "connection to server at \"127.0.0.1\", port " + number +
            " failed: Connection refused\n"
            "\tIs the server running on that host and accepting TCP/IP connections?");
  CHECK(connect(loop, "postgresql://localhost:" + number + "/")
            .error.find("connection to server at \"localhost\" (127.0.0.1), port " + number) !=
        std::string::npos);
  CHECK(connect(loop, "postgresql:///?host=/nonexistent").error ==
        "connection to server on socket \"/nonexistent/.s.PGSQL.5432\" failed: No such file or "
        "directory\n\tIs the server running locally and accepting connections on that socket?");
  CHECK(connect(loop, "postgresql://no-such-host.invalid/")
            .error.find("could not translate host name \"no-such-host.invalid\" to address: ") ==
        0);
}

TEST_CASE("sslmode and the server's answer") {
  const Certificate certificate("DNS:localhost,IP:127.0.0.1");
  UvLoop loop;
  SUBCASE("disable asks for nothing") {
    TlsServer server("S", certificate);
    const Outcome outcome = connect(loop, url_of(server, "127.0.0.1", "sslmode=disable"));
    REQUIRE(outcome.stream != nullptr);
    CHECK_FALSE(outcome.stream->encrypted());
    check_echo(loop, *outcome.stream, 100);
    CHECK(server.requests() == 0);
  }
  SUBCASE("prefer takes TLS where it is offered, with SNI") {
    TlsServer server("S", certificate);
    const Outcome outcome = connect(loop, url_of(server, "localhost", "sslmode=prefer"));
    REQUIRE(outcome.stream != nullptr);
    CHECK(outcome.stream->encrypted());
    check_echo(loop, *outcome.stream, 3'000'000);
    CHECK(server.sni() == "localhost");
  }
  SUBCASE("prefer goes on in plain where it is not") {
    TlsServer server("N", certificate);
    const Outcome outcome = connect(loop, url_of(server, "127.0.0.1", "sslmode=prefer"));
    REQUIRE(outcome.stream != nullptr);
    CHECK_FALSE(outcome.stream->encrypted());
    check_echo(loop, *outcome.stream, 100'000);
  }
  SUBCASE("require does not") {
    TlsServer server("N", certificate);
    const Outcome outcome = connect(loop, url_of(server, "127.0.0.1", "sslmode=require"));
    CHECK(outcome.error.find("server does not support SSL, but SSL was required") !=
          std::string::npos);
    CHECK(outcome.stream == nullptr);
  }
  SUBCASE("bytes behind the answer are refused") {
    for (const char* answer : {"SX", "NX"}) {
      TlsServer server(answer, certificate);
      const Outcome outcome = connect(loop, url_of(server, "127.0.0.1", "sslmode=prefer"));
      CHECK(outcome.error.find("received unencrypted data after SSL response") !=
            std::string::npos);
    }
  }
  SUBCASE("another answer is refused") {
    TlsServer server("?", certificate);
    CHECK(connect(loop, url_of(server, "127.0.0.1", "sslmode=require"))
              .error.find("received invalid response to SSL negotiation: ?") != std::string::npos);
    TlsServer error("Exxxx", certificate);
    CHECK(connect(loop, url_of(error, "127.0.0.1", "sslmode=require"))
              .error.find("server sent an error response during SSL exchange") !=
          std::string::npos);
  }
}

TEST_CASE("certificates are verified as sslmode says") {
  const Certificate certificate("DNS:localhost,IP:127.0.0.1");
  const Certificate other("DNS:elsewhere.example");
  UvLoop loop;
  TlsServer server("S", certificate);
  TlsServer stranger("S", other);
  const std::string known = "&sslrootcert=" + certificate.file();
  const std::string wrong = "&sslrootcert=" + other.file();
  CHECK(connect(loop, url_of(server, "localhost", "sslmode=verify-full" + known)).error == "");
  CHECK(connect(loop, url_of(server, "127.0.0.1", "sslmode=verify-full" + known)).error == "");
  CHECK(server.sni() == "localhost");  // the address was not sent
  CHECK(connect(loop, url_of(server, "localhost", "sslmode=verify-ca" + wrong))
            .error.find("certificate verify failed: self-signed certificate") != std::string::npos);
  CHECK(connect(loop, url_of(server, "localhost", "sslmode=require" + wrong))
            .error.find("certificate verify failed") != std::string::npos);
  CHECK(connect(loop, url_of(stranger, "localhost", "sslmode=verify-full" + wrong))
            .error.find("server certificate does not match host name \"localhost\"") !=
        std::string::npos);
  CHECK(connect(loop, url_of(stranger, "127.0.0.1", "sslmode=verify-full" + wrong))
            .error.find("does not match host name \"127.0.0.1\"") != std::string::npos);
  CHECK(connect(loop, url_of(stranger, "localhost", "sslmode=verify-ca" + wrong)).error == "");
}

TEST_CASE("old TLS is refused; prefer then goes on in plain") {
  const Certificate certificate("DNS:localhost");
  UvLoop loop;
  TlsServer server("S", certificate);
  server.version_max = TLS1_1_VERSION;
  CHECK(connect(loop, url_of(server, "localhost", "sslmode=require")).error.find("SSL error") !=
        std::string::npos);
  const Outcome plain = connect(loop, url_of(server, "localhost", "sslmode=prefer"));
  REQUIRE(plain.stream != nullptr);
  CHECK_FALSE(plain.stream->encrypted());
}

TEST_CASE("TLS 1.2 works, and what the server says first waits for start()") {
  const Certificate certificate("DNS:localhost");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    UvLoop loop;
    TlsServer server("S", certificate);
    server.version_max = version;
    server.greeting = std::string(40'000, 'g');
    const Outcome outcome = connect(loop, url_of(server, "localhost", "sslmode=require"));
    REQUIRE(outcome.stream != nullptr);
    turn_for(loop, 30);
    Recorder recorder;
    recorder.then = [&](std::string_view bytes) {
      recorder.bytes.append(bytes);
      outcome.stream->pause();  // one piece at a time
    };
    outcome.stream->start(&recorder);
    CHECK(turn_until(loop, [&] {
      outcome.stream->resume();
      return recorder.bytes.size() >= server.greeting.size();
    }));
    CHECK(recorder.bytes == server.greeting);
  }
}

TEST_CASE("a TLS stream with a slow reader keeps its queue bounded by the caller's pause") {
  const Certificate certificate("DNS:localhost");
  UvLoop loop;
  TlsServer server("S", certificate);
  const Outcome outcome = connect(loop, url_of(server, "localhost", "sslmode=require"));
  REQUIRE(outcome.stream != nullptr);
  // An echo: what is written comes back. Written in portions, each when the last has drained.
  struct Echo final : Stream::Events {
    Stream* stream = nullptr;
    size_t received = 0;
    bool right = true;
    void on_bytes(std::string_view bytes) override {
      for (size_t i = 0; i < bytes.size(); i += 101) {
        right = right && bytes[i] == static_cast<char>((received + i) % 256);
      }
      received += bytes.size();
    }
    void on_drained() override {}
    void on_end(std::string_view) override {}
  } echo;
  outcome.stream->start(&echo);
  constexpr size_t kTotal = 20UL * 1024 * 1024;
  std::string block(256UL * 1024, '\0');
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i % 256);
  size_t sent = 0;
  CHECK(turn_until(
      loop,
      [&] {
        if (sent < kTotal && outcome.stream->queued_bytes() == 0) {
          put(*outcome.stream, block);
          sent += block.size();
        }
        return echo.received == kTotal;
      },
      30'000));
  CHECK(echo.right);
}

TEST_CASE("an attempt may be abandoned at any step") {
  const Certificate certificate("DNS:localhost");
  TlsServer server("S", certificate);
  UvLoop loop;
  UpstreamConnector connector(loop, open(url_of(server, "localhost", "sslmode=require")));
  for (int turns = 0; turns < 12; ++turns) {
    auto pending =
        connector.connect([](std::unique_ptr<Stream>, std::string) { /* may come in time */ });
    const auto tick = loop.every(1, [] {});
    for (int i = 0; i < turns; ++i) loop.turn();
    pending.reset();
  }
  // And the handle may go from inside the callback.
  std::unique_ptr<PendingConnect> pending;
  bool told = false;
  pending = connector.connect([&](std::unique_ptr<Stream> stream, const std::string&) {
    told = true;
    pending.reset();
    stream.reset();
  });
  CHECK(turn_until(loop, [&] { return told; }));
}

TEST_CASE("a loop may go while an abandoned look-up is under way") {
  UvLoop loop;
  UpstreamConnector connector(loop, open("postgresql://no-such-host.invalid/"));
  auto pending = connector.connect([](std::unique_ptr<Stream>, std::string) { FAIL("abandoned"); });
  pending.reset();
}

TEST_CASE("a server that accepts and says nothing runs into connect_timeout") {
  UvLoop loop;
  uint16_t port = 0;
  const UniqueFd silent = loopback_listener(port);
  CHECK(connect(loop, "postgresql://127.0.0.1:" + std::to_string(port) + "/?connect_timeout=1")
            .error == "connection to server at \"127.0.0.1\", port " + std::to_string(port) +
                          " failed: timeout expired");
}

}  // namespace pgfresh::net
