// Protocol messages as values. Readers take the body of a whole message (behind type and length)
// and return nullopt when it is malformed; views point into that body. Writers append whole
// messages to a string. Formats: PostgreSQL manual, "Message Formats".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "wire/bytes.h"

namespace pgfresh::wire {

// ── Startup phase: packets without a type byte ───────────────────────────────────────────────────

struct SslRequest {};
struct GssEncRequest {};
struct CancelRequest {
  uint32_t pid = 0;
  uint32_t secret = 0;
};
struct StartupMessage {
  uint16_t major = 3;
  uint16_t minor = 0;
  std::vector<std::pair<std::string, std::string>> parameters;  // in the client's order

  [[nodiscard]] std::string_view get(std::string_view name) const;  // empty when absent
};
struct StartupBroken {
  std::string why;
  std::string_view sqlstate = "08P01";  // a literal; 0A000 for another major version
};
struct StartupNeedsMore {};
using StartupPacket = std::variant<StartupNeedsMore, StartupBroken, SslRequest, GssEncRequest,
                                   CancelRequest, StartupMessage>;

// Takes one packet from the front of `in` and advances it (not for StartupNeedsMore). Lengths are
// checked against limits::kStartupBytesMax before anything else; after a wrong one all is taken.
[[nodiscard]] StartupPacket read_startup_packet(std::string_view& in);

void write_startup_message(std::string& out, const StartupMessage& message);
void write_ssl_request(std::string& out);
void write_cancel_request(std::string& out, uint32_t pid, uint32_t secret);

// NegotiateProtocolVersion: the newest minor version of 3 we speak, and the options we do not know.
void write_negotiate_version(std::string& out, uint32_t newest_minor,
                             std::span<const std::string> unknown_options);

// ── Frontend messages ────────────────────────────────────────────────────────────────────────────

struct ParseMessage {
  std::string_view statement;
  std::string_view query;
  std::string_view parameter_oids;  // raw: count × 4 bytes, big endian
  [[nodiscard]] size_t parameter_count() const { return parameter_oids.size() / 4; }
};
struct BindMessage {
  std::string_view portal;
  std::string_view statement;
  std::string_view parameters;      // raw: from the count of format codes to the last value
  std::string_view result_formats;  // raw: count × 2 bytes, big endian
  size_t parameter_count = 0;
};
struct TargetMessage {  // Describe and Close
  char kind = 0;        // 'S' or 'P'
  std::string_view name;
};
struct ExecuteMessage {
  std::string_view portal;
  uint32_t max_rows = 0;  // 0: all
};

// nullopt: PostgreSQL answers such a message with an error and goes on, so forwarding it is right.
[[nodiscard]] std::optional<std::string_view> read_query(std::string_view body);
[[nodiscard]] std::optional<ParseMessage> read_parse(std::string_view body);
[[nodiscard]] std::optional<BindMessage> read_bind(std::string_view body);
[[nodiscard]] std::optional<TargetMessage> read_target(std::string_view body);
[[nodiscard]] std::optional<ExecuteMessage> read_execute(std::string_view body);

// One parameter of a Bind.
struct BindParameter {
  uint16_t format = 0;                    // 0 text, 1 binary
  std::optional<std::string_view> value;  // nullopt: NULL
};
// All of them, in order. REQUIRES: `bind` came from read_bind.
class BindParameters {
 public:
  explicit BindParameters(const BindMessage& bind);
  // Nullopt behind the last.
  [[nodiscard]] std::optional<BindParameter> next();

 private:
  ByteReader rest_;
  std::string_view formats_;
  size_t count_;
  size_t given_ = 0;
};
// The one that the text calls $`number`; nullopt when there is none.
[[nodiscard]] std::optional<BindParameter> bind_parameter(const BindMessage& bind, size_t number);

// A whole message of any type.
void write_message(std::string& out, char type, std::string_view body);
void write_query(std::string& out, std::string_view sql);
void write_parse(std::string& out, std::string_view statement, std::string_view query,
                 std::string_view raw_parameter_oids);
void write_sync(std::string& out);
void write_terminate(std::string& out);
void write_password(std::string& out, std::string_view body);

// ── Backend messages ─────────────────────────────────────────────────────────────────────────────

struct NoticeFields {         // ErrorResponse and NoticeResponse
  std::string_view severity;  // never translated, where the server sends that (since 9.6)
  std::string_view sqlstate;
  std::string_view message;
  std::string_view detail;
};
struct BackendKey {  // of protocol 3.0; the longer secrets of 3.2 are not read
  uint32_t pid = 0;
  uint32_t secret = 0;
};

[[nodiscard]] std::optional<NoticeFields> read_notice(std::string_view body);
[[nodiscard]] std::optional<BackendKey> read_backend_key(std::string_view body);
[[nodiscard]] std::optional<std::pair<std::string_view, std::string_view>> read_parameter_status(
    std::string_view body);
// 'I', 'T' or 'E'.
[[nodiscard]] std::optional<char> read_ready(std::string_view body);
[[nodiscard]] std::optional<std::string_view> read_command_tag(std::string_view body);
// The number that tells what kind of Authentication message this is; 0 is AuthenticationOk.
[[nodiscard]] std::optional<uint32_t> read_authentication(std::string_view body);
// The values of a DataRow; nullopt inside is NULL.
[[nodiscard]] std::optional<std::vector<std::optional<std::string_view>>> read_data_row(
    std::string_view body);

enum class Severity : uint8_t { kError, kFatal, kWarning, kNotice, kInfo };

// `routine`: of PostgreSQL's source, by which drivers tell some errors apart.
void write_error(std::string& out, Severity severity, std::string_view sqlstate,
                 std::string_view message, std::string_view detail = {}, std::string_view hint = {},
                 std::string_view routine = {});
// A NoticeResponse; REQUIRES: severity is neither kError nor kFatal.
void write_notice(std::string& out, Severity severity, std::string_view sqlstate,
                  std::string_view message, std::string_view detail = {});
void write_ready(std::string& out, char status);
void write_command_complete(std::string& out, std::string_view tag);
void write_parameter_status(std::string& out, std::string_view name, std::string_view value);
void write_backend_key(std::string& out, uint32_t pid, uint32_t secret);
void write_authentication(std::string& out, uint32_t kind, std::string_view data = {});

// A column of a result that pgfresh makes itself.
struct Column {
  std::string_view name;
  uint32_t type_oid = 25;  // text; 20 int8, 701 float8, 16 bool (pg_type.dat)
  int16_t type_size = -1;
};
void write_row_description(std::string& out, std::span<const Column> columns);
void write_data_row(std::string& out, std::span<const std::optional<std::string>> values);
void write_parameter_description(std::string& out, std::span<const uint32_t> oids);
// The type of each parameter, four bytes each, of the ParameterDescription that `bytes` begin with;
// empty: there is none, or no parameters.
[[nodiscard]] std::string_view parameter_types(std::string_view bytes);

// Messages without content: ParseComplete '1', BindComplete '2', CloseComplete '3', NoData 'n',
// EmptyQueryResponse 'I', PortalSuspended 's'.
inline constexpr std::string_view kParseComplete{"1\0\0\0\4", 5};
inline constexpr std::string_view kBindComplete{"2\0\0\0\4", 5};
inline constexpr std::string_view kCloseComplete{"3\0\0\0\4", 5};
inline constexpr std::string_view kNoData{"n\0\0\0\4", 5};
inline constexpr std::string_view kEmptyQuery{"I\0\0\0\4", 5};
inline constexpr std::string_view kReadyIdle{"Z\0\0\0\5I", 6};
inline constexpr std::string_view kReadyInBlock{"Z\0\0\0\5T", 6};
inline constexpr std::string_view kReadyFailed{"Z\0\0\0\5E", 6};

}  // namespace pgfresh::wire
