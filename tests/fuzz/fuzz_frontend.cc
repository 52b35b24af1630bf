// The readers of frontend messages under any body. Oracles: views lie in the body; what was
// accepted is written back to the same bytes; no accepted body is accepted with a byte more.
//
// Input: the message's type, then its body.
#include <string>
#include <vector>

#include "expect.h"
#include "wire/bytes.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

void check_inside(std::string_view view, std::string_view body) {
  if (view.empty()) return;
  FUZZ_EXPECT(view.data() >= body.data() && view.data() + view.size() <= body.data() + body.size());
}

// A Bind's body, made again from the values that were read.
std::string rebuilt(const BindMessage& bind) {
  std::string out;
  append_cstring(out, bind.portal);
  append_cstring(out, bind.statement);
  out += bind.parameters;
  append_u16(out, static_cast<uint16_t>(bind.result_formats.size() / 2));
  out += bind.result_formats;
  return out;
}

bool check_bind(std::string_view body) {
  const auto bind = read_bind(body);
  if (!bind) return false;
  FUZZ_EXPECT(rebuilt(*bind) == body);
  std::vector<BindParameter> parameters;
  BindParameters reader(*bind);
  while (const auto parameter = reader.next()) parameters.push_back(*parameter);
  FUZZ_EXPECT(parameters.size() == bind->parameter_count);
  std::string values;
  append_u16(values, static_cast<uint16_t>(parameters.size()));
  for (const BindParameter& parameter : parameters) {
    FUZZ_EXPECT(parameter.format <= 1);
    append_u32(values, parameter.value ? static_cast<uint32_t>(parameter.value->size()) : ~0u);
    if (!parameter.value) continue;
    check_inside(*parameter.value, body);
    values += *parameter.value;
  }
  FUZZ_EXPECT(bind->parameters.ends_with(values));
  const size_t count = parameters.size();
  FUZZ_EXPECT(!bind_parameter(*bind, 0) && !bind_parameter(*bind, count + 1));
  for (const size_t number : {size_t{1}, count / 2, count}) {
    if (number == 0 || number > count) continue;
    const auto one = bind_parameter(*bind, number);
    FUZZ_EXPECT(one && one->format == parameters[number - 1].format);
    FUZZ_EXPECT(one->value == parameters[number - 1].value);
  }
  return true;
}

bool check_query(std::string_view body) {
  const auto sql = read_query(body);
  if (!sql) return false;
  check_inside(*sql, body);
  std::string again;
  write_query(again, *sql);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

bool check_parse(std::string_view body) {
  const auto parse = read_parse(body);
  if (!parse) return false;
  std::string again;
  write_parse(again, parse->statement, parse->query, parse->parameter_oids);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  FUZZ_EXPECT(parse->parameter_count() * 4 == parse->parameter_oids.size());
  return true;
}

bool check_target(std::string_view body) {
  const auto target = read_target(body);
  if (!target) return false;
  FUZZ_EXPECT(target->kind == 'S' || target->kind == 'P');
  FUZZ_EXPECT(target->name.size() + 2 == body.size());
  check_inside(target->name, body);
  return true;
}

bool check_execute(std::string_view body) {
  const auto execute = read_execute(body);
  if (!execute) return false;
  FUZZ_EXPECT(execute->portal.size() + 5 == body.size());
  FUZZ_EXPECT(execute->max_rows <= 0x7fffffff);
  check_inside(execute->portal, body);
  return true;
}

bool check(char type, std::string_view body) {
  switch (type) {
    case 'Q':
      return check_query(body);
    case 'P':
      return check_parse(body);
    case 'B':
      return check_bind(body);
    case 'D':
    case 'C':
      return check_target(body);
    case 'E':
      return check_execute(body);
    default:
      return false;
  }
}

}  // namespace
}  // namespace pgfresh::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  if (size == 0) return 0;
  const fuzz::Exact body(fuzz::as_view(data + 1, size - 1));
  const char type = static_cast<char>(data[0]);
  if (!wire::check(type, body.view())) return 0;
  const std::string longer = std::string(body.view()) + '\0';
  FUZZ_EXPECT(!wire::check(type, longer));
  return 0;
}
