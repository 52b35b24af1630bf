// Messages that a server sends (PostgreSQL manual, "Message Formats"). Readers serve the few that
// pgfresh must understand; writers make those it sends in its own name: errors, the console's
// results, the end of a login. RowDescription is not read: it is forwarded and compared as bytes.
#include "base/check.h"
#include "wire/bytes.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

constexpr std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "ERROR";
    case Severity::kFatal:
      return "FATAL";
    case Severity::kWarning:
      return "WARNING";
    case Severity::kNotice:
      return "NOTICE";
    case Severity::kInfo:
      return "INFO";
  }
  return "ERROR";
}

void append_field(std::string& out, char code, std::string_view text) {
  if (text.empty()) return;
  out.push_back(code);
  append_text(out, text);
}

// The manual, "Error and Notice Message Fields": S may be translated, V never is.
void append_fields(std::string& out, Severity severity, std::string_view sqlstate,
                   std::string_view message, std::string_view detail, std::string_view hint,
                   std::string_view routine) {
  PGFRESH_CHECK(sqlstate.size() == 5);
  append_field(out, 'S', severity_name(severity));
  append_field(out, 'V', severity_name(severity));
  append_field(out, 'C', sqlstate);
  // The message must be there, even empty.
  out.push_back('M');
  append_text(out, message);
  append_field(out, 'D', detail);
  append_field(out, 'H', hint);
  append_field(out, 'R', routine);
  out.push_back('\0');
}

}  // namespace

std::optional<NoticeFields> read_notice(std::string_view body) {
  ByteReader reader(body);
  NoticeFields fields;
  std::string_view translated_severity;
  while (const char code = reader.u8()) {
    const std::string_view text = reader.cstring();
    switch (code) {
      case 'V':
        fields.severity = text;
        break;
      case 'S':
        translated_severity = text;
        break;
      case 'C':
        fields.sqlstate = text;
        break;
      case 'M':
        fields.message = text;
        break;
      case 'D':
        fields.detail = text;
        break;
      default:  // "frontends should silently ignore fields of unrecognized type"
        break;
    }
  }
  if (!reader.at_end()) return std::nullopt;
  if (fields.severity.empty()) fields.severity = translated_severity;
  return fields;
}

std::optional<BackendKey> read_backend_key(std::string_view body) {
  ByteReader reader(body);
  BackendKey key;
  key.pid = reader.u32();
  key.secret = reader.u32();
  if (!reader.at_end()) return std::nullopt;
  return key;
}

std::optional<std::pair<std::string_view, std::string_view>> read_parameter_status(
    std::string_view body) {
  ByteReader reader(body);
  const std::string_view name = reader.cstring();
  const std::string_view value = reader.cstring();
  if (!reader.at_end()) return std::nullopt;
  return std::pair(name, value);
}

std::optional<char> read_ready(std::string_view body) {
  ByteReader reader(body);
  const char status = reader.u8();
  if (!reader.at_end() || (status != 'I' && status != 'T' && status != 'E')) return std::nullopt;
  return status;
}

std::optional<std::string_view> read_command_tag(std::string_view body) {
  ByteReader reader(body);
  const std::string_view tag = reader.cstring();
  if (!reader.at_end()) return std::nullopt;
  return tag;
}

std::optional<uint32_t> read_authentication(std::string_view body) {
  ByteReader reader(body);
  const uint32_t kind = reader.u32();
  if (!reader.ok()) return std::nullopt;
  return kind;
}

std::optional<std::vector<std::optional<std::string_view>>> read_data_row(std::string_view body) {
  ByteReader reader(body);
  const size_t count = reader.u16();
  // Each value has a length, so a false count is found before memory is taken for it.
  if (reader.rest().size() < count * 4) return std::nullopt;
  std::vector<std::optional<std::string_view>> values(count);
  for (auto& value : values) {
    const uint32_t length = reader.u32();
    if (length != kNullLength) value = reader.bytes(length);
  }
  if (!reader.at_end()) return std::nullopt;
  return values;
}

void write_error(std::string& out, Severity severity, std::string_view sqlstate,
                 std::string_view message, std::string_view detail, std::string_view hint,
                 std::string_view routine) {
  const MessageFrame frame(out, 'E');
  append_fields(out, severity, sqlstate, message, detail, hint, routine);
}

void write_notice(std::string& out, Severity severity, std::string_view sqlstate,
                  std::string_view message, std::string_view detail) {
  PGFRESH_CHECK(severity != Severity::kError && severity != Severity::kFatal);
  const MessageFrame frame(out, 'N');
  append_fields(out, severity, sqlstate, message, detail, {}, {});
}

void write_ready(std::string& out, char status) {
  PGFRESH_CHECK(status == 'I' || status == 'T' || status == 'E');
  const MessageFrame frame(out, 'Z');
  out.push_back(status);
}

void write_command_complete(std::string& out, std::string_view tag) {
  const MessageFrame frame(out, 'C');
  append_text(out, tag);
}

void write_parameter_status(std::string& out, std::string_view name, std::string_view value) {
  const MessageFrame frame(out, 'S');
  append_text(out, name);
  append_text(out, value);
}

void write_backend_key(std::string& out, uint32_t pid, uint32_t secret) {
  const MessageFrame frame(out, 'K');
  append_u32(out, pid);
  append_u32(out, secret);
}

void write_authentication(std::string& out, uint32_t kind, std::string_view data) {
  const MessageFrame frame(out, 'R');
  append_u32(out, kind);
  out.append(data);
}

void write_row_description(std::string& out, std::span<const Column> columns) {
  PGFRESH_CHECK(columns.size() <= 0xffff);
  const MessageFrame frame(out, 'T');
  append_u16(out, static_cast<uint16_t>(columns.size()));
  for (const Column& column : columns) {
    append_text(out, column.name);
    append_u32(out, 0);  // of no table,
    append_u16(out, 0);  // hence no column of it
    append_u32(out, column.type_oid);
    append_u16(out, static_cast<uint16_t>(column.type_size));
    append_u32(out, 0xffffffff);  // type modifier: none
    append_u16(out, 0);           // text
  }
}

void write_data_row(std::string& out, std::span<const std::optional<std::string>> values) {
  PGFRESH_CHECK(values.size() <= 0xffff);
  const MessageFrame frame(out, 'D');
  append_u16(out, static_cast<uint16_t>(values.size()));
  for (const auto& value : values) {
    if (!value) {
      append_u32(out, kNullLength);
      continue;
    }
    PGFRESH_CHECK(value->size() <= limits::kMessageBytesMax);
    append_u32(out, static_cast<uint32_t>(value->size()));
    out.append(*value);
  }
}

std::string_view parameter_types(std::string_view bytes) {
  constexpr size_t kHead = kHeaderBytes + 2;  // and how many there are
  if (bytes.size() < kHead || bytes.front() != 't') return {};
  const size_t size = size_t{load_u32(bytes.data() + 1)} + 1;
  return size < kHead || size > bytes.size() ? std::string_view()
                                             : bytes.substr(kHead, size - kHead);
}

void write_parameter_description(std::string& out, std::span<const uint32_t> oids) {
  PGFRESH_CHECK(oids.size() <= 0xffff);
  const MessageFrame frame(out, 't');
  append_u16(out, static_cast<uint16_t>(oids.size()));
  for (const uint32_t oid : oids) append_u32(out, oid);
}

}  // namespace pgfresh::wire
