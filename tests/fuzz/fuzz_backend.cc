// The readers of backend messages under any body. Oracles as in fuzz_frontend.cc.
//
// Input: the message's type, then its body.
#include <string>

#include "expect.h"
#include "wire/bytes.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

bool check_notice(std::string_view body) {
  const auto fields = read_notice(body);
  if (!fields) return false;
  const size_t seen = fields->severity.size() + fields->sqlstate.size() + fields->message.size() +
                      fields->detail.size();
  FUZZ_EXPECT(seen < body.size());
  if (fields->sqlstate.size() == 5) {
    std::string again;
    write_notice(again, Severity::kInfo, fields->sqlstate, fields->message, fields->detail);
    const auto second = read_notice(std::string_view(again).substr(5));
    FUZZ_EXPECT(second && second->severity == "INFO");
    FUZZ_EXPECT(second->sqlstate == fields->sqlstate && second->message == fields->message &&
                second->detail == fields->detail);
  }
  return true;
}

bool check_key(std::string_view body) {
  const auto key = read_backend_key(body);
  if (!key) return false;
  std::string again;
  write_backend_key(again, key->pid, key->secret);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

bool check_parameter_status(std::string_view body) {
  const auto status = read_parameter_status(body);
  if (!status) return false;
  std::string again;
  write_parameter_status(again, status->first, status->second);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

bool check_tag(std::string_view body) {
  const auto tag = read_command_tag(body);
  if (!tag) return false;
  std::string again;
  write_command_complete(again, *tag);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

bool check_ready(std::string_view body) {
  const auto status = read_ready(body);
  if (!status) return false;
  std::string again;
  write_ready(again, *status);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

bool check_row(std::string_view body) {
  const auto row = read_data_row(body);
  if (!row) return false;
  std::vector<std::optional<std::string>> values;
  for (const auto& value : *row) {
    values.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
  }
  std::string again;
  write_data_row(again, values);
  FUZZ_EXPECT(std::string_view(again).substr(5) == body);
  return true;
}

// Authentication may have anything behind its number, so it is no case of `check`.
void check_authentication(std::string_view body) {
  const auto kind = read_authentication(body);
  FUZZ_EXPECT(kind.has_value() == (body.size() >= 4));
  if (kind) FUZZ_EXPECT(*kind == load_u32(body.data()));
}

bool check(char type, std::string_view body) {
  switch (type) {
    case 'E':
    case 'N':
      return check_notice(body);
    case 'K':
      return check_key(body);
    case 'S':
      return check_parameter_status(body);
    case 'C':
      return check_tag(body);
    case 'Z':
      return check_ready(body);
    case 'D':
      return check_row(body);
    default:
      check_authentication(body);
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
