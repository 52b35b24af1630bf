// The startup phase: packets without a type byte (PostgreSQL manual, "Message Formats":
// StartupMessage, SSLRequest, GSSENCRequest, CancelRequest, NegotiateProtocolVersion). The checks
// and texts are those of PostgreSQL's ProcessStartupPacket, so that a client cannot tell who
// answered. Not done here: which minor versions and options are accepted, whether a user is named.
#include <algorithm>

#include "base/limits.h"
#include "wire/bytes.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

// src/include/libpq/pqcomm.h: PG_PROTOCOL(1234, n), a major version no protocol will have.
constexpr uint32_t kCancelRequestCode = (1234u << 16) | 5678;
constexpr uint32_t kSslRequestCode = (1234u << 16) | 5679;
constexpr uint32_t kGssEncRequestCode = (1234u << 16) | 5680;

constexpr uint32_t kLengthBytes = 4;
constexpr uint32_t kCodeBytes = 4;

StartupPacket read_parameters(uint32_t version, ByteReader& reader) {
  StartupMessage message;
  message.major = static_cast<uint16_t>(version >> 16);
  message.minor = static_cast<uint16_t>(version & 0xffff);
  while (reader.ok()) {
    const std::string_view name = reader.cstring();
    if (name.empty()) break;
    message.parameters.emplace_back(name, reader.cstring());
  }
  if (!reader.at_end()) {
    return StartupBroken{"invalid startup packet layout: expected terminator as last byte"};
  }
  return message;
}

StartupPacket read_body(std::string_view body) {
  ByteReader reader(body);
  const uint32_t code = reader.u32();
  switch (code) {
    case kSslRequestCode:
      if (reader.at_end()) return SslRequest{};
      return StartupBroken{"invalid length of startup packet"};
    case kGssEncRequestCode:
      if (reader.at_end()) return GssEncRequest{};
      return StartupBroken{"invalid length of startup packet"};
    case kCancelRequestCode: {
      CancelRequest cancel;
      cancel.pid = reader.u32();
      cancel.secret = reader.u32();
      if (reader.at_end()) return cancel;
      return StartupBroken{"invalid length of startup packet"};
    }
    default:
      if (code >> 16 == 3) return read_parameters(code, reader);
      return StartupBroken{"unsupported frontend protocol " + std::to_string(code >> 16) + "." +
                               std::to_string(code & 0xffff) + ": server supports 3.0 to 3.0",
                           "0A000"};
  }
}

}  // namespace

std::string_view StartupMessage::get(std::string_view name) const {
  // The last one counts, as in PostgreSQL.
  const auto found = std::find_if(parameters.rbegin(), parameters.rend(),
                                  [&](const auto& parameter) { return parameter.first == name; });
  return found == parameters.rend() ? std::string_view() : std::string_view(found->second);
}

StartupPacket read_startup_packet(std::string_view& in) {
  if (in.size() < kLengthBytes) return StartupNeedsMore{};
  const uint32_t length = load_u32(in.data());
  // As PostgreSQL, the bound is for the packet without its length.
  if (length < kLengthBytes + kCodeBytes || length - kLengthBytes > limits::kStartupBytesMax) {
    in.remove_prefix(in.size());
    return StartupBroken{"invalid length of startup packet"};
  }
  if (in.size() < length) return StartupNeedsMore{};
  const std::string_view body = in.substr(kLengthBytes, length - kLengthBytes);
  in.remove_prefix(length);
  return read_body(body);
}

void write_startup_message(std::string& out, const StartupMessage& message) {
  const MessageFrame frame(out, 0);
  append_u16(out, message.major);
  append_u16(out, message.minor);
  for (const auto& [name, value] : message.parameters) {
    PGFRESH_CHECK(!name.empty());
    append_cstring(out, name);
    append_cstring(out, value);
  }
  out.push_back('\0');
}

void write_ssl_request(std::string& out) {
  const MessageFrame frame(out, 0);
  append_u32(out, kSslRequestCode);
}

void write_cancel_request(std::string& out, uint32_t pid, uint32_t secret) {
  const MessageFrame frame(out, 0);
  append_u32(out, kCancelRequestCode);
  append_u32(out, pid);
  append_u32(out, secret);
}

void write_negotiate_version(std::string& out, uint32_t newest_minor,
                             std::span<const std::string> unknown_options) {
  const MessageFrame frame(out, 'v');
  // The manual says "newest minor version"; PostgreSQL sends, and libpq expects, major and minor.
  append_u32(out, (3u << 16) | newest_minor);
  append_u32(out, static_cast<uint32_t>(unknown_options.size()));
  for (const std::string& option : unknown_options) append_cstring(out, option);
}

}  // namespace pgfresh::wire
