// Startup packets: what PostgreSQL accepts is accepted, everything else is refused with its text.
#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <variant>

#include "base/limits.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

using namespace std::string_literals;

std::string with_length(const std::string& body) {
  const size_t length = body.size() + 4;
  std::string out;
  for (const unsigned shift : {24u, 16u, 8u, 0u}) {
    out.push_back(static_cast<char>((length >> shift) & 0xff));
  }
  return out + body;
}

std::string why_broken(std::string_view in) {
  const StartupPacket packet = read_startup_packet(in);
  const auto* broken = std::get_if<StartupBroken>(&packet);
  return broken == nullptr ? "not broken" : broken->why;
}

TEST_CASE("startup: parameters come back in the client's order, the last of a name counts") {
  StartupMessage sent;
  sent.minor = 2;
  sent.parameters = {{"user", "ada"}, {"database", ""}, {"_pq_.x", "1"}, {"user", "grace"}};
  std::string bytes;
  write_startup_message(bytes, sent);
  const size_t size = bytes.size();
  bytes += "next";

  for (size_t have = 0; have < size; ++have) {
    std::string_view in = std::string_view(bytes).substr(0, have);
    REQUIRE(std::holds_alternative<StartupNeedsMore>(read_startup_packet(in)));
    REQUIRE(in.size() == have);
  }
  std::string_view in = bytes;
  const StartupPacket packet = read_startup_packet(in);
  CHECK(in == "next");
  const auto* got = std::get_if<StartupMessage>(&packet);
  REQUIRE(got != nullptr);
  CHECK(got->major == 3);
  CHECK(got->minor == 2);
  CHECK(got->parameters == sent.parameters);
  CHECK(got->get("user") == "grace");
  CHECK(got->get("database").empty());
  CHECK(got->get("absent").empty());
}

TEST_CASE("startup: the three requests") {
  std::string bytes;
  write_ssl_request(bytes);
  CHECK(bytes == "\0\0\0\x08\x04\xd2\x16\x2f"s);
  std::string_view in = bytes;
  CHECK(std::holds_alternative<SslRequest>(read_startup_packet(in)));
  CHECK(in.empty());

  const std::string gss = "\0\0\0\x08\x04\xd2\x16\x30"s;
  in = gss;
  CHECK(std::holds_alternative<GssEncRequest>(read_startup_packet(in)));
  CHECK(in.empty());

  bytes.clear();
  write_cancel_request(bytes, 4711, 0xdeadbeef);
  in = bytes;
  const StartupPacket packet = read_startup_packet(in);
  const auto* cancel = std::get_if<CancelRequest>(&packet);
  REQUIRE(cancel != nullptr);
  CHECK(cancel->pid == 4711);
  CHECK(cancel->secret == 0xdeadbeef);
  CHECK(in.empty());
}

TEST_CASE("startup: lengths are judged before the bytes are there") {
  const std::string wrong = "invalid length of startup packet";
  CHECK(why_broken("\0\0\0\0"s) == wrong);
  CHECK(why_broken("\0\0\0\7"s) == wrong);
  CHECK(why_broken("GET "s) == wrong);
  CHECK(why_broken("\xff\xff\xff\xff"s) == wrong);
  CHECK(why_broken("\0\0\x27\x15"s) == wrong);  // 10,000 + 4 + 1
  std::string_view in("\0\0\x27\x14", 4);
  CHECK(std::holds_alternative<StartupNeedsMore>(read_startup_packet(in)));
  CHECK(why_broken(with_length("\x04\xd2\x16\x2f!"s)) == wrong);
  CHECK(why_broken(with_length("\x04\xd2\x16\x2e\0\0\0\1"s)) == wrong);
  CHECK(why_broken(with_length("\x04\xd2\x16\x2e\0\0\0\1\0\0\0\2\3"s)) == wrong);
}

TEST_CASE("startup: parameters must be pairs, ended by one zero byte and nothing else") {
  const std::string wrong = "invalid startup packet layout: expected terminator as last byte";
  const std::string version = "\0\3\0\0"s;
  CHECK(why_broken(with_length(version + "\0"s)) == "not broken");
  CHECK(why_broken(with_length(version)) == wrong);
  CHECK(why_broken(with_length(version + "user\0ada\0"s)) == wrong);
  CHECK(why_broken(with_length(version + "user\0ada\0\0\0"s)) == wrong);
  CHECK(why_broken(with_length(version + "user\0\0"s)) == wrong);
  CHECK(why_broken(with_length(version + "user\0ada"s)) == wrong);
}

TEST_CASE("startup: another major version is refused as PostgreSQL does") {
  const std::string bytes = with_length("\0\2\0\0"s);
  std::string_view in = bytes;
  const StartupPacket packet = read_startup_packet(in);
  const auto* broken = std::get_if<StartupBroken>(&packet);
  REQUIRE(broken != nullptr);
  CHECK(broken->why == "unsupported frontend protocol 2.0: server supports 3.0 to 3.0");
  CHECK(broken->sqlstate == "0A000");
  CHECK(in.empty());
}

TEST_CASE("startup: NegotiateProtocolVersion has the bytes libpq expects") {
  std::string bytes;
  write_negotiate_version(bytes, 0, std::vector<std::string>{"_pq_.x"});
  CHECK(bytes == "v\0\0\0\x13\0\3\0\0\0\0\0\1_pq_.x\0"s);
}

}  // namespace
}  // namespace pgfresh::wire
