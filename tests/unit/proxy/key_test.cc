#include "proxy/key.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace pgfresh::proxy {
namespace {

Scope scope(uint64_t id) {
  Scope made;
  made.id = id;
  return made;
}

// A Bind with parameters and result formats as they lie in the message.
wire::BindMessage a_bind(std::string_view parameters, size_t count, std::string_view formats) {
  wire::BindMessage message;
  message.parameters = parameters;
  message.parameter_count = count;
  message.result_formats = formats;
  return message;
}

std::string execution(std::string_view oids, const wire::BindMessage& message,
                      uint32_t max_rows = 0) {
  std::string key = key_prefix(scope(1), "select 1");
  append_execution(key, oids, message, max_rows);
  return key;
}

constexpr std::string_view kText("\0\0", 2);
constexpr std::string_view kBinary("\0\1", 2);
constexpr std::string_view kFourBytes("\0\0\0\x17", 4);

TEST_CASE("key: scope and text tell apart") {
  const std::set<std::string> keys = {key_prefix(scope(1), "select 1"),
                                      key_prefix(scope(2), "select 1"),
                                      key_prefix(scope(1), "select 2")};
  CHECK(keys.size() == 3);
}

TEST_CASE("key: parameter types, parameters and result formats tell apart") {
  const std::set<std::string> keys = {
      execution("", a_bind("one", 1, "")), execution("", a_bind("two", 1, "")),
      execution(kFourBytes, a_bind("one", 1, "")), execution("", a_bind("one", 1, kBinary))};
  CHECK(keys.size() == 4);
}

TEST_CASE("key: row limits tell apart") {
  const std::set<std::string> keys = {execution("", a_bind("", 0, "")),
                                      execution("", a_bind("", 0, ""), 1),
                                      execution("", a_bind("", 0, ""), 2)};
  CHECK(keys.size() == 3);
}

TEST_CASE("key: no part runs into the next") {
  // The same bytes, cut elsewhere.
  CHECK(execution("ab", a_bind("c", 1, "")) != execution("a", a_bind("bc", 1, "")));
  CHECK(execution("", a_bind("a\1", 1, "")) != execution("", a_bind("a", 1, "\1")));
}

TEST_CASE("key: all text is all text, however the Bind says so") {
  std::string plain = key_prefix(scope(1), "select 1");
  append_plain_execution(plain);
  for (const std::string_view formats :
       {std::string_view(), kText, std::string_view("\0\0\0\0", 4)}) {
    CHECK(is_plain_execution("", a_bind("", 0, formats)));
    CHECK(execution("", a_bind("", 0, formats)) == plain);
  }
  CHECK_FALSE(is_plain_execution("", a_bind("", 0, kBinary)));
  CHECK_FALSE(is_plain_execution(kFourBytes, a_bind("", 0, "")));
  CHECK_FALSE(is_plain_execution("", a_bind("x", 1, "")));
}

TEST_CASE("key: a description is no execution") {
  std::string described = key_prefix(scope(1), "select 1");
  append_description(described, "");
  std::string executed = key_prefix(scope(1), "select 1");
  append_plain_execution(executed);
  CHECK(described != executed);
  std::string typed = key_prefix(scope(1), "select 1");
  append_description(typed, kFourBytes);
  CHECK(typed != described);
}

TEST_CASE("key: the portable one says what the scope says, not what it is called here") {
  Scope here = scope(1);
  here.bytes = "4:shop3:app";
  Scope there = scope(77);
  there.bytes = here.bytes;
  Scope other = scope(1);
  other.bytes = "4:shop5:other";
  const auto portable = [](std::string_view server, const Scope& who, uint64_t catalog = 1) {
    std::string key = key_prefix(who, "select 1");
    append_plain_execution(key);
    std::string out;
    append_portable_key(out, server, catalog, who, key);
    return out;
  };
  CHECK(portable("db", here) == portable("db", there));
  CHECK(portable("db", here) != portable("db", other));
  CHECK(portable("db", here) != portable("db2", here));
  CHECK(portable("db", here) != portable("db", here, 2));
  // No part runs into the next.
  other.bytes = "x" + here.bytes;
  CHECK(portable("d", other) != portable("dx", here));
}

}  // namespace
}  // namespace pgfresh::proxy
