#include "net/redis_target.h"

#include <doctest/doctest.h>

#include <string>

namespace pgfresh::net {
namespace {

RedisTarget parsed(const std::string& url) {
  const auto target = RedisTarget::parse(url);
  REQUIRE_MESSAGE(target, target.error());
  return *target;
}

std::string trouble(const std::string& url) {
  const auto target = RedisTarget::parse(url);
  return target ? "none: " + target->describe() : target.error();
}

TEST_CASE("redis URLs") {
  RedisTarget target = parsed("redis://cache.example");
  CHECK(target.host == "cache.example");
  CHECK(target.port == 6379);
  CHECK(target.database == 0);
  CHECK_FALSE(target.tls);

  target = parsed("rediss://ada:p%40ss:w%2ford@cache.example:7000/3");
  CHECK(target.tls);
  CHECK(target.user == "ada");
  CHECK(target.password == "p@ss:w/ord");
  CHECK(target.port == 7000);
  CHECK(target.database == 3);
  CHECK(target.describe() == "rediss://ada@cache.example:7000/3");

  target = parsed("redis://:secret@[::1]:7000/?db=2");
  CHECK(target.user.empty());
  CHECK(target.password == "secret");
  CHECK(target.host == "::1");
  CHECK(target.database == 2);
  CHECK(target.describe() == "redis://[::1]:7000/2");

  target = parsed("unix://ada:secret@/run/redis.sock?db=4");
  CHECK(target.socket == "/run/redis.sock");
  CHECK(target.database == 4);
  CHECK(target.describe() == "unix://ada@/run/redis.sock?db=4");
  CHECK(parsed("redis://").host == "127.0.0.1");
}

TEST_CASE("redis URLs that are none") {
  CHECK(trouble("cache.example:6379") == "the URL must begin with redis://, rediss:// or unix://");
  CHECK(trouble("http://h") == "the URL must begin with redis://, rediss:// or unix://");
  CHECK(trouble("redis://a,b") == "several hosts are not supported");
  CHECK(trouble("redis://h:0") == "the port is not a number from 1 to 65535");
  CHECK(trouble("redis://h:99999") == "the port is not a number from 1 to 65535");
  CHECK(trouble("redis://[::1:5") == "the ] of the address is missing");
  CHECK(trouble("redis://h/x") == "the database is not a number");
  CHECK(trouble("redis://h?timeout=3") == "only ?db=NUMBER may stand behind the ?");
  CHECK(trouble("redis://ada@h") == "a user needs a password: user:password@");
  CHECK(trouble("redis://:%zz@h") == "a % in user or password must have two hexadecimal digits");
  CHECK(trouble("unix://run/redis.sock") == "the path of the socket must begin with /");
  // Nothing of a password is ever quoted.
  CHECK(trouble("redis://:hidden%@h").find("hidden") == std::string::npos);
  CHECK(trouble("redis://:hidden@h:port").find("hidden") == std::string::npos);
  for (const char* url : {"redis://:hid/hidden@h", "redis://:1/hidden@h", "redis://:1?hidden@h"}) {
    CHECK(trouble(url) ==
          "an @ stands behind the host; in user and password / ? % are written %2F %3F %25");
  }
}

TEST_CASE("redis: how it is reached") {
  const auto plain = open_redis(parsed("redis://h:1"), {}, 500);
  REQUIRE(plain);
  CHECK((*plain)->tls == nullptr);
  CHECK((*plain)->target.connect_timeout_ms == 500);
  const auto socket = open_redis(parsed("unix:///tmp/r.sock"), {}, 500);
  REQUIRE(socket);
  CHECK((*socket)->target.is_unix());
  CHECK((*socket)->target.socket_path() == "/tmp/r.sock");
  RedisTls tls;
  tls.ca = "/does/not/exist.pem";
  const auto secured = open_redis(parsed("rediss://h:1"), tls, 500);
  REQUIRE_FALSE(secured);
  CHECK(secured.error().find("/does/not/exist.pem") != std::string::npos);
}

}  // namespace
}  // namespace pgfresh::net
