// Messages: what a writer writes its reader reads; a body with one byte missing or one too many is
// refused by every reader.
#include "wire/messages.h"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace pgfresh::wire {
namespace {

using namespace std::string_literals;

// The body of the one message in `bytes`, whose type must be `type`.
std::string_view body_of(const std::string& bytes, char type) {
  REQUIRE(bytes.size() >= 5);
  REQUIRE(bytes[0] == type);
  size_t length = 0;
  for (size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  REQUIRE(length + 1 == bytes.size());
  return std::string_view(bytes).substr(5);
}

std::vector<BindParameter> all_parameters(const BindMessage& bind) {
  std::vector<BindParameter> all;
  BindParameters parameters(bind);
  while (const auto parameter = parameters.next()) all.push_back(*parameter);
  return all;
}

// Every beginning of a good body, and the body with a byte behind it, must be refused.
template <typename Read>
void check_exact(std::string_view body, Read read) {
  REQUIRE(read(body).has_value());
  for (size_t size = 0; size < body.size(); ++size) {
    // Memory of the exact size, so that the address sanitizer sees a read behind it.
    const std::vector<char> shorter(body.begin(), body.begin() + static_cast<ptrdiff_t>(size));
    CAPTURE(size);
    CHECK_FALSE(read(std::string_view(shorter.data(), size)).has_value());
  }
  CHECK_FALSE(read(std::string(body) + '\0').has_value());
}

TEST_CASE("messages: Query and Parse") {
  std::string bytes;
  write_query(bytes, "select 1");
  CHECK(read_query(body_of(bytes, 'Q')) == "select 1");
  check_exact(body_of(bytes, 'Q'), read_query);

  bytes.clear();
  write_parse(bytes, "s1", "select $1, $2", "\0\0\0\x14\0\0\0\x19"s);
  const std::string_view body = body_of(bytes, 'P');
  const auto parse = read_parse(body);
  REQUIRE(parse.has_value());
  CHECK(parse->statement == "s1");
  CHECK(parse->query == "select $1, $2");
  CHECK(parse->parameter_count() == 2);
  CHECK(parse->parameter_oids == "\0\0\0\x14\0\0\0\x19"s);
  check_exact(body, read_parse);
}

TEST_CASE("messages: Bind") {
  const std::string from_formats = "\0\2\0\0\0\1\0\2\xff\xff\xff\xff\0\0\0\3abc"s;
  const std::string body = "p\0s\0"s + from_formats + "\0\1\0\1"s;
  const auto bind = read_bind(body);
  REQUIRE(bind.has_value());
  CHECK(bind->portal == "p");
  CHECK(bind->statement == "s");
  CHECK(bind->parameter_count == 2);
  CHECK(bind->parameters == from_formats);
  CHECK(bind->result_formats == "\0\1"s);
  check_exact(body, read_bind);

  const auto parameters = all_parameters(*bind);
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].format == 0);
  CHECK_FALSE(parameters[0].value.has_value());
  CHECK(parameters[1].format == 1);
  CHECK(parameters[1].value == "abc");
}

TEST_CASE("messages: Bind with no format code, and with one for all") {
  const std::string no_code = "\0\0\0\0\0\2\0\0\0\0\0\0\0\1x\0\0"s;
  auto bind = read_bind(no_code);
  REQUIRE(bind.has_value());
  auto parameters = all_parameters(*bind);
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].format == 0);
  CHECK(parameters[0].value == "");
  CHECK(parameters[1].format == 0);
  CHECK(parameters[1].value == "x");
  CHECK(bind->result_formats.empty());

  const std::string one_code = "\0\0\0\1\0\1\0\2\0\0\0\0\0\0\0\1x\0\0"s;
  bind = read_bind(one_code);
  REQUIRE(bind.has_value());
  parameters = all_parameters(*bind);
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].format == 1);
  CHECK(parameters[1].format == 1);

  const std::string empty = "\0\0\0\0\0\0\0\0"s;
  bind = read_bind(empty);
  REQUIRE(bind.has_value());
  CHECK(all_parameters(*bind).empty());
}

TEST_CASE("messages: a Bind whose counts, lengths or codes do not fit is refused") {
  // Two codes for one parameter; a code of 2; a result code of 2; lengths of -2 and of 2^31 - 1.
  CHECK_FALSE(read_bind("\0\0\0\2\0\0\0\0\0\1\0\0\0\0\0\0"s).has_value());
  CHECK_FALSE(read_bind("\0\0\0\1\0\2\0\1\0\0\0\0\0\0"s).has_value());
  CHECK_FALSE(read_bind("\0\0\0\0\0\0\0\1\0\2"s).has_value());
  CHECK_FALSE(read_bind("\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"s).has_value());
  CHECK_FALSE(read_bind("\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"s).has_value());
  // 65,535 parameters announced and none there.
  CHECK_FALSE(read_bind("\0\0\0\0\xff\xff\0\0"s).has_value());
  // One code without a parameter is what PostgreSQL accepts.
  CHECK(read_bind("\0\0\0\1\0\1\0\0\0\0"s).has_value());
}

TEST_CASE("messages: Describe, Close, Execute") {
  const std::string describe = "Sname\0"s;
  const auto target = read_target(describe);
  REQUIRE(target.has_value());
  CHECK(target->kind == 'S');
  CHECK(target->name == "name");
  check_exact("P\0"s, read_target);
  CHECK_FALSE(read_target("Xname\0"s).has_value());

  const std::string body = "portal\0\0\0\1\0"s;
  const auto execute = read_execute(body);
  REQUIRE(execute.has_value());
  CHECK(execute->portal == "portal");
  CHECK(execute->max_rows == 256);
  check_exact(body, read_execute);
  // Negative is no limit, as in PostgreSQL.
  CHECK(read_execute("\0\xff\xff\xff\xff"s)->max_rows == 0);
}

TEST_CASE("messages: errors and notices") {
  std::string bytes;
  write_error(bytes, Severity::kFatal, "08P01", "bad\0hidden"s, "a detail", "a hint");
  CHECK(body_of(bytes, 'E') == "SFATAL\0VFATAL\0C08P01\0Mbad\0Da detail\0Ha hint\0\0"s);
  const auto error = read_notice(body_of(bytes, 'E'));
  REQUIRE(error.has_value());
  CHECK(error->severity == "FATAL");
  CHECK(error->sqlstate == "08P01");
  CHECK(error->message == "bad");
  check_exact(body_of(bytes, 'E'), read_notice);

  bytes.clear();
  write_notice(bytes, Severity::kInfo, "PF001", "", "carry");
  const auto notice = read_notice(body_of(bytes, 'N'));
  REQUIRE(notice.has_value());
  CHECK(notice->severity == "INFO");
  CHECK(notice->sqlstate == "PF001");
  CHECK(notice->message.empty());
  CHECK(notice->detail == "carry");

  // Translated severity only (before 9.6), unknown fields, no fields at all.
  CHECK(read_notice("SFEHLER\0zwhat\0\0"s)->severity == "FEHLER");
  CHECK(read_notice("VERROR\0SFEHLER\0\0"s)->severity == "ERROR");
  CHECK(read_notice("\0"s)->sqlstate.empty());
  CHECK_FALSE(read_notice("").has_value());
}

TEST_CASE("messages: end of login, end of command") {
  std::string bytes;
  write_backend_key(bytes, 1, 0xfffffffe);
  const auto key = read_backend_key(body_of(bytes, 'K'));
  REQUIRE(key.has_value());
  CHECK(key->pid == 1);
  CHECK(key->secret == 0xfffffffe);
  check_exact(body_of(bytes, 'K'), read_backend_key);

  bytes.clear();
  write_parameter_status(bytes, "TimeZone", "Asia/Kolkata");
  const auto status = read_parameter_status(body_of(bytes, 'S'));
  REQUIRE(status.has_value());
  CHECK(status->first == "TimeZone");
  CHECK(status->second == "Asia/Kolkata");
  check_exact(body_of(bytes, 'S'), read_parameter_status);

  bytes.clear();
  write_command_complete(bytes, "UPDATE 3");
  CHECK(read_command_tag(body_of(bytes, 'C')) == "UPDATE 3");
  check_exact(body_of(bytes, 'C'), read_command_tag);

  bytes.clear();
  write_authentication(bytes, 10, "SCRAM-SHA-256\0\0"s);
  CHECK(body_of(bytes, 'R') == "\0\0\0\x0aSCRAM-SHA-256\0\0"s);
  CHECK(read_authentication(body_of(bytes, 'R')) == 10);
  CHECK_FALSE(read_authentication("\0\0\0"s).has_value());

  for (const char state : {'I', 'T', 'E'}) {
    bytes.clear();
    write_ready(bytes, state);
    CHECK(read_ready(body_of(bytes, 'Z')) == state);
    check_exact(body_of(bytes, 'Z'), read_ready);
  }
  CHECK_FALSE(read_ready("X").has_value());
  bytes.clear();
  write_ready(bytes, 'I');
  CHECK(bytes == kReadyIdle);
}

TEST_CASE("messages: rows") {
  std::string bytes;
  const std::vector<std::optional<std::string>> values{"1", std::nullopt, "", "a\0b"s};
  write_data_row(bytes, values);
  const auto row = read_data_row(body_of(bytes, 'D'));
  REQUIRE(row.has_value());
  REQUIRE(row->size() == values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK((*row)[i].has_value() == values[i].has_value());
    if (values[i]) CHECK((*row)[i] == *values[i]);
  }
  check_exact(body_of(bytes, 'D'), read_data_row);
  CHECK_FALSE(read_data_row("\xff\xff"s).has_value());

  bytes.clear();
  write_row_description(bytes, std::vector<Column>{{"n", 20, 8}});
  CHECK(body_of(bytes, 'T') == "\0\1n\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0"s);
  bytes.clear();
  write_parameter_description(bytes, std::vector<uint32_t>{20, 0x01020304});
  CHECK(body_of(bytes, 't') == "\0\2\0\0\0\x14\1\2\3\4"s);
}

TEST_CASE("the types of a ParameterDescription, alone or in front of other messages") {
  std::string message;
  write_parameter_description(message, std::array<uint32_t, 2>{23, 25});
  const std::string_view types("\0\0\0\x17\0\0\0\x19", 8);
  CHECK(parameter_types(message) == types);
  CHECK(parameter_types(message + "T") == types);
  CHECK(parameter_types(message.substr(0, message.size() - 1)).empty());
  CHECK(parameter_types("T" + message).empty());
  CHECK(parameter_types("").empty());
  std::string none;
  write_parameter_description(none, {});
  CHECK(parameter_types(none + message).empty());
}

TEST_CASE("messages: those without content") {
  for (const std::string_view message :
       {kParseComplete, kBindComplete, kCloseComplete, kNoData, kEmptyQuery}) {
    CHECK(message.size() == 5);
    CHECK(body_of(std::string(message), message[0]).empty());
  }
  std::string bytes;
  write_sync(bytes);
  CHECK(bytes == "S\0\0\0\4"s);
  bytes.clear();
  write_terminate(bytes);
  CHECK(bytes == "X\0\0\0\4"s);
}

}  // namespace
}  // namespace pgfresh::wire
