// Messages that a client sends (PostgreSQL manual, "Message Formats"). A body is good only when
// every count and length in it fits and nothing is left over, as PostgreSQL's pq_getmsgend demands;
// what is refused here would be refused there. Values of parameters are not looked into.
#include "base/check.h"
#include "wire/bytes.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

// `count` format codes, all of them 0 (text) or 1 (binary).
bool good_formats(std::string_view codes) {
  for (size_t at = 0; at < codes.size(); at += 2) {
    if (load_u16(codes.data() + at) > 1) return false;
  }
  return true;
}

}  // namespace

std::optional<std::string_view> read_query(std::string_view body) {
  ByteReader reader(body);
  const std::string_view sql = reader.cstring();
  if (!reader.at_end()) return std::nullopt;
  return sql;
}

std::optional<ParseMessage> read_parse(std::string_view body) {
  ByteReader reader(body);
  ParseMessage parse;
  parse.statement = reader.cstring();
  parse.query = reader.cstring();
  const size_t count = reader.u16();
  parse.parameter_oids = reader.bytes(count * 4);
  if (!reader.at_end()) return std::nullopt;
  return parse;
}

std::optional<BindMessage> read_bind(std::string_view body) {
  ByteReader reader(body);
  BindMessage bind;
  bind.portal = reader.cstring();
  bind.statement = reader.cstring();

  const std::string_view from_formats = reader.rest();
  const size_t format_count = reader.u16();
  const std::string_view formats = reader.bytes(format_count * 2);
  bind.parameter_count = reader.u16();
  for (size_t i = 0; i < bind.parameter_count && reader.ok(); ++i) {
    const uint32_t length = reader.u32();
    // Any other negative length is far beyond what a body can hold, so bytes() refuses it.
    if (length != kNullLength) static_cast<void>(reader.bytes(length));
  }
  bind.parameters = from_formats.substr(0, from_formats.size() - reader.rest().size());

  const size_t result_count = reader.u16();
  bind.result_formats = reader.bytes(result_count * 2);
  if (!reader.at_end()) return std::nullopt;
  if (format_count > 1 && format_count != bind.parameter_count) return std::nullopt;
  if (!good_formats(formats) || !good_formats(bind.result_formats)) return std::nullopt;
  return bind;
}

BindParameters::BindParameters(const BindMessage& bind) : rest_(bind.parameters) {
  const size_t format_count = rest_.u16();
  formats_ = rest_.bytes(format_count * 2);
  count_ = rest_.u16();
}

std::optional<BindParameter> BindParameters::next() {
  if (given_ == count_) {
    PGFRESH_CHECK(rest_.at_end());
    return std::nullopt;
  }
  BindParameter parameter;
  // No codes: all text. One code: it goes for all.
  if (!formats_.empty()) {
    parameter.format = load_u16(formats_.data() + (formats_.size() == 2 ? 0 : given_ * 2));
  }
  const uint32_t length = rest_.u32();
  if (length != kNullLength) parameter.value = rest_.bytes(length);
  ++given_;
  return parameter;
}

std::optional<BindParameter> bind_parameter(const BindMessage& bind, size_t number) {
  if (number == 0 || number > bind.parameter_count) return std::nullopt;
  BindParameters parameters(bind);
  for (size_t before = 1; before < number; ++before) static_cast<void>(parameters.next());
  return parameters.next();
}

std::optional<TargetMessage> read_target(std::string_view body) {
  ByteReader reader(body);
  TargetMessage target;
  target.kind = reader.u8();
  target.name = reader.cstring();
  if (!reader.at_end() || (target.kind != 'S' && target.kind != 'P')) return std::nullopt;
  return target;
}

std::optional<ExecuteMessage> read_execute(std::string_view body) {
  ByteReader reader(body);
  ExecuteMessage execute;
  execute.portal = reader.cstring();
  execute.max_rows = reader.u32();
  if (!reader.at_end()) return std::nullopt;
  // PostgreSQL takes the number as signed, and all that is not positive as "no limit".
  if (execute.max_rows > 0x7fffffff) execute.max_rows = 0;
  return execute;
}

void write_message(std::string& out, char type, std::string_view body) {
  const MessageFrame frame(out, type);
  out += body;
}

void write_query(std::string& out, std::string_view sql) {
  const MessageFrame frame(out, 'Q');
  append_cstring(out, sql);
}

void write_parse(std::string& out, std::string_view statement, std::string_view query,
                 std::string_view raw_parameter_oids) {
  PGFRESH_CHECK(raw_parameter_oids.size() % 4 == 0 && raw_parameter_oids.size() / 4 <= 0xffff);
  const MessageFrame frame(out, 'P');
  append_cstring(out, statement);
  append_cstring(out, query);
  append_u16(out, static_cast<uint16_t>(raw_parameter_oids.size() / 4));
  out.append(raw_parameter_oids);
}

void write_sync(std::string& out) { const MessageFrame frame(out, 'S'); }

void write_terminate(std::string& out) { const MessageFrame frame(out, 'X'); }

void write_password(std::string& out, std::string_view body) {
  const MessageFrame frame(out, 'p');
  out.append(body);
}

}  // namespace pgfresh::wire
