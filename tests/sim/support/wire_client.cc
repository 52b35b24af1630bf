#include "wire_client.h"

#include <algorithm>
#include <cctype>

#include "wire/bytes.h"

namespace pgfresh::sim {
namespace {

std::string readable(std::string_view bytes) {
  const bool plain =
      std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return std::isprint(c) != 0; });
  if (plain) return std::string(bytes);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "x";
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += kDigits[value >> 4];
    text += kDigits[value & 15];
  }
  return text;
}

std::string description_text(std::string_view body) {
  wire::ByteReader reader(body);
  const uint16_t count = reader.u16();
  std::string text;
  for (uint16_t i = 0; i < count; ++i) {
    if (i != 0) text += ',';
    text += reader.cstring();
    static_cast<void>(reader.bytes(16));
    if (reader.u16() != 0) text += "/b";
  }
  return text;
}

std::string row_text(std::string_view body) {
  std::string text;
  const auto row = wire::read_data_row(body);
  for (const auto& value : *row) {
    if (!text.empty()) text += ',';
    text += value ? readable(*value) : "-";
  }
  return text;
}

}  // namespace

std::string told(const WireClient::Message& message) {
  const std::string_view body = message.body;
  const std::string start(1, message.type);
  wire::ByteReader reader(body);
  switch (message.type) {
    case 'R':
      return "R:" + std::to_string(reader.u32());
    case 'Z':
      return start + ":" + std::string(body);
    case 'T':
      return "T:" + description_text(body);
    case 'D':
      return "D:" + row_text(body);
    case 'C':
      return "C:" + std::string(reader.cstring());
    case 't':
      return "t:" + std::to_string(reader.u16());
    case 'E':
      return "E:" + std::string(wire::read_notice(body)->sqlstate);
    case 'N':
      return "N:" + std::string(wire::read_notice(body)->message);
    case 'S': {
      const auto status = wire::read_parameter_status(body);
      return "S:" + std::string(status->first) + "=" + std::string(status->second);
    }
    case 'A':
      static_cast<void>(reader.u32());
      static_cast<void>(reader.cstring());
      return "A:" + std::string(reader.cstring());
    default:
      return start;
  }
}

std::vector<std::optional<int64_t>> numbers_of(const WireClient::Message& message) {
  std::vector<std::optional<int64_t>> numbers;
  const auto row = wire::read_data_row(message.body);
  for (const auto& value : *row) {
    numbers.push_back(value ? std::optional(std::stoll(std::string(*value))) : std::nullopt);
  }
  return numbers;
}

WireClient::~WireClient() = default;

void WireClient::connect(std::unique_ptr<Stream> stream) {
  stream_ = std::move(stream);
  framer_ = wire::Framer(wire::Side::kBackend, limits::kMessageBytesMax);
  unsent_.clear();
  partial_.clear();
  messages_.clear();
  ended_ = false;
  end_reason_.clear();
  stream_->start(this);
}

void WireClient::disconnect() {
  loop_.defer([doomed = std::shared_ptr<Stream>(std::move(stream_))] {});
  ended_ = true;
}

WireClient& WireClient::bare(char type, std::string_view body) {
  const wire::MessageFrame message(unsent_, type);
  unsent_.append(body);
  return *this;
}

WireClient& WireClient::raw(std::string_view bytes) {
  unsent_.append(bytes);
  return *this;
}

WireClient& WireClient::startup(const Parameters& parameters) {
  wire::StartupMessage message;
  message.parameters = parameters;
  wire::write_startup_message(unsent_, message);
  return *this;
}

WireClient& WireClient::password(std::string_view text) {
  return bare('p', std::string(text) + '\0');
}

WireClient& WireClient::query(std::string_view sql) {
  wire::write_query(unsent_, sql);
  return *this;
}

WireClient& WireClient::parse(std::string_view name, std::string_view sql,
                              const std::vector<uint32_t>& oids) {
  std::string raw_oids;
  for (const uint32_t oid : oids) wire::append_u32(raw_oids, oid);
  wire::write_parse(unsent_, name, sql, raw_oids);
  return *this;
}

WireClient& WireClient::bind(std::string_view portal, std::string_view statement,
                             const std::vector<std::string>& values, Format results,
                             Format parameters) {
  const wire::MessageFrame message(unsent_, 'B');
  wire::append_cstring(unsent_, portal);
  wire::append_cstring(unsent_, statement);
  wire::append_u16(unsent_, 1);
  wire::append_u16(unsent_, parameters == Format::kBinary ? 1 : 0);
  wire::append_u16(unsent_, static_cast<uint16_t>(values.size()));
  for (const std::string& value : values) {
    wire::append_u32(unsent_, static_cast<uint32_t>(value.size()));
    unsent_ += value;
  }
  wire::append_u16(unsent_, 1);
  wire::append_u16(unsent_, results == Format::kBinary ? 1 : 0);
  return *this;
}

WireClient& WireClient::describe(char kind, std::string_view name) {
  return bare('D', kind + std::string(name) + '\0');
}

WireClient& WireClient::execute(std::string_view portal, uint32_t max_rows) {
  const wire::MessageFrame message(unsent_, 'E');
  wire::append_cstring(unsent_, portal);
  wire::append_u32(unsent_, max_rows);
  return *this;
}

WireClient& WireClient::close(char kind, std::string_view name) {
  return bare('C', kind + std::string(name) + '\0');
}

WireClient& WireClient::copy_fail(std::string_view why) {
  return bare('f', std::string(why) + '\0');
}

void WireClient::send() {
  if (unsent_.empty()) return;
  const std::string bytes = std::exchange(unsent_, {});
  if (!stream_) return;
  const Slice slice{bytes, nullptr};
  stream_->write({&slice, 1});
}

std::string WireClient::take() {
  std::string text;
  for (const Message& message : std::exchange(messages_, {})) {
    if (!text.empty()) text += ' ';
    text += told(message);
  }
  return text;
}

void WireClient::on_bytes(std::string_view bytes) {
  bytes_heard_ += bytes.size();
  wire::Frame frame;
  for (;;) {
    const wire::Cut cut = framer_.next(bytes, frame);
    if (cut == wire::Cut::kNeedMore) return;
    if (cut == wire::Cut::kBroken) {
      messages_.push_back({'!', framer_.error()});
      return;
    }
    partial_.append(frame.bytes);
    if (cut == wire::Cut::kPart && !frame.last) continue;
    const std::string whole = std::exchange(partial_, {});
    messages_.push_back({frame.type, whole.substr(5)});
    if (listener_) listener_(frame.type);
  }
}

void WireClient::on_end(std::string_view why) {
  ended_ = true;
  end_reason_ = why;
  if (listener_) listener_('\0');
}

}  // namespace pgfresh::sim
