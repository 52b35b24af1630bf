#include "net/upstream.h"

#include <doctest/doctest.h>

namespace pgfresh::net {
namespace {

UpstreamTarget good(const std::string& text) {
  auto target = UpstreamTarget::parse(text);
  if (!target) FAIL(target.error());
  return *target;
}

std::string trouble(const std::string& text) {
  auto target = UpstreamTarget::parse(text);
  return target ? "" : target.error();
}

}  // namespace

TEST_CASE("a URL is read whole") {
  const UpstreamTarget target = good(
      "postgresql://me:s%40crt@db.example:5433/shop?sslmode=require&sslcert=/c&sslkey=/k"
      "&sslrootcert=/r&connect_timeout=3");
  CHECK(target.host == "db.example");
  CHECK(target.port == 5433);
  CHECK(target.user == "me");
  CHECK(target.password == "s@crt");
  CHECK(target.database == "shop");
  CHECK(target.ssl_mode == SslMode::kRequire);
  CHECK(target.ssl_cert == "/c");
  CHECK(target.ssl_key == "/k");
  CHECK(target.ssl_root_cert == "/r");
  CHECK(target.connect_timeout_ms == 3000);
  CHECK_FALSE(target.is_unix());
  CHECK(target.describe() == "postgresql://me@db.example:5433/shop?sslmode=require");
}

TEST_CASE("unix sockets, IPv6, bare hosts and keyword lists") {
  CHECK(good("postgresql://%2Frun%2Fpg/x").socket_path() == "/run/pg/.s.PGSQL.5432");
  CHECK(good("postgresql:///x?host=/tmp&port=5555").socket_path() == "/tmp/.s.PGSQL.5555");
  CHECK(good("postgres://u@[::1]:6000/").host == "::1");
  CHECK(good("db1").host == "db1");
  CHECK(good("db1:6000").port == 6000);
  CHECK(good("host=db2 port=7000 user=x").port == 7000);
  CHECK(good("postgresql://h/?sslmode=allow").ssl_mode == SslMode::kPrefer);
  CHECK(good("postgresql://h/").ssl_mode == SslMode::kPrefer);
  CHECK_FALSE(good("").host.empty());
}

TEST_CASE("what cannot be right is refused in one line") {
  CHECK(trouble("postgresql://h:99999/").find("is not a number from 1 to 65535") !=
        std::string::npos);
  CHECK(trouble("host=h port=99999").find("port \"99999\"") == 0);
  CHECK(trouble("postgresql://h/?sslmode=sure") ==
        "sslmode \"sure\" is not known; disable, allow, prefer, require, verify-ca or verify-full");
  CHECK(trouble("postgresql://h/?target_session_attrs=any").find("is not supported") !=
        std::string::npos);
  CHECK(trouble("postgresql://a,b/") == "several hosts are not supported");
  CHECK(trouble("postgresql://h/?no_such=1").find("the URL cannot be read") == 0);
  CHECK(trouble("postgresql://h/?sslmode=require&sslrootcert=system").find("verify-full") !=
        std::string::npos);
  for (const char* text : {"postgresql://h:99999/", "postgresql://h/?no_such=1"}) {
    CHECK(trouble(text).find('\n') == std::string::npos);
  }
}

TEST_CASE("what may be a password is not quoted, and how to write it is said") {
  for (const char* text : {
           "postgresql://me:SECRET@SECRET@h:5432/db",
           "postgresql://me:SECRET/SECRET@h:5432/db",
           "postgresql://me:5/SECRET@h:5432/db",
           "postgresql://me:SECRET#SECRET/@h:5432/db",
           "postgresql://me:%SECRET@h:5432/db",
           "postgresql://me:SECRET%zz@h:5432/db",
           "postgresql://me:SECRET/?SECRET@h:5432/db",
           "postgresql://me:5/?SECRET=1@h:5432/db",
           "postgresql://me:5/?sslmode=SECRET@h:5432/db",
           "postgresql://me:SECRET\"SECRET%@h/db",
           "postgresql://me:x@[::1]SECRET@h/db",
           "me:SECRET@SECRET@h",
           "http://me:SECRET@h/db",
       }) {
    const std::string said = trouble(text);
    CHECK_MESSAGE(said != "", text);
    CHECK_MESSAGE(said.find("SECRET") == std::string::npos, said);
    CHECK_MESSAGE(said.find("%40 %3A %2F %23 %3F %25") != std::string::npos, said);
  }
  for (const char* text : {
           "postgresql://h:SECRET/db",
           "postgresql://me:SECRET",
           "postgresql://h/db?password=5&SECRET=7",
           "postgresql://h/db?password=5&SECRET",
           "host=h password=5 SECRET",
           "host=h password=5 SECRET=7",
           "host=h password='SECRET",
           "me:SE=CRET@h",
           "me:SECRET=1@h",
       }) {
    const std::string said = trouble(text);
    CHECK_MESSAGE(said != "", text);
    CHECK_MESSAGE(said.find("CRET") == std::string::npos, said);
  }
  CHECK(trouble("postgresql://me:pw@h/?no_such=1").find("\"no_such\"") != std::string::npos);
  CHECK(trouble("postgresql://me:pw@h/db?application_name=a@b") == "");
  CHECK(good("postgresql://me:p:w?x@h/db").password == "p:w?x");
}

}  // namespace pgfresh::net
