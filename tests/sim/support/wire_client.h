// A client that speaks the protocol message by message. What it says is gathered and sent in one
// piece by send(); what it hears is kept as messages, and told as one line of text:
//
//   R:0         Authentication, its kind     Z:I       ReadyForQuery
//   T:id,v      RowDescription (v/b: binary) D:1,2     DataRow (- for NULL)
//   C:SELECT 1  CommandComplete              E:22012   ErrorResponse, its SQLSTATE
//   N:text      NoticeResponse               S:a=b     ParameterStatus
//   t:2         ParameterDescription         A:payload NotificationResponse
//
// and the type alone for every other message, in order, with a blank between.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "pgfresh/loop.h"
#include "pgfresh/stream.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::sim {

class WireClient final : public Stream::Events {
 public:
  struct Message {
    char type = 0;
    std::string body;
  };
  using Parameters = std::vector<std::pair<std::string, std::string>>;
  enum class Format : uint8_t { kText, kBinary };

  explicit WireClient(Loop& loop)
      : loop_(loop), framer_(wire::Side::kBackend, limits::kMessageBytesMax) {}
  ~WireClient() override;
  WireClient(const WireClient&) = delete;
  WireClient& operator=(const WireClient&) = delete;

  // Speaks over this stream from now on; what was heard before is forgotten.
  void connect(std::unique_ptr<Stream> stream);
  // Goes without a word.
  void disconnect();
  [[nodiscard]] Stream& stream() { return *stream_; }

  WireClient& startup(const Parameters& parameters = {{"user", "app"}, {"database", "shop"}});
  WireClient& password(std::string_view text);
  WireClient& query(std::string_view sql);
  WireClient& parse(std::string_view name, std::string_view sql,
                    const std::vector<uint32_t>& oids = {});
  WireClient& bind(std::string_view portal, std::string_view statement,
                   const std::vector<std::string>& values = {}, Format results = Format::kText,
                   Format parameters = Format::kText);
  WireClient& describe(char kind, std::string_view name);
  WireClient& execute(std::string_view portal = "", uint32_t max_rows = 0);
  WireClient& close(char kind, std::string_view name);
  WireClient& sync() { return bare('S'); }
  WireClient& flush_please() { return bare('H'); }
  WireClient& copy_data(std::string_view bytes) { return bare('d', bytes); }
  WireClient& copy_done() { return bare('c'); }
  WireClient& copy_fail(std::string_view why);
  WireClient& terminate() { return bare('X'); }
  // Any message, any bytes.
  WireClient& bare(char type, std::string_view body = {});
  WireClient& raw(std::string_view bytes);
  void send();
  [[nodiscard]] bool has_unsent() const { return !unsent_.empty(); }

  // What was heard since the last call, as text.
  [[nodiscard]] std::string take();
  [[nodiscard]] const std::vector<Message>& messages() const { return messages_; }
  void forget() { messages_.clear(); }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] const std::string& end_reason() const { return end_reason_; }
  [[nodiscard]] size_t bytes_heard() const { return bytes_heard_; }

  // Called behind each message, and at the end with type 0.
  void set_listener(std::function<void(char type)> listener) { listener_ = std::move(listener); }

  void on_bytes(std::string_view bytes) override;
  void on_drained() override {}
  void on_end(std::string_view why) override;

 private:
  Loop& loop_;
  std::unique_ptr<Stream> stream_;
  wire::Framer framer_;
  std::string unsent_;
  std::string partial_;  // of a message that comes in parts
  std::vector<Message> messages_;
  std::function<void(char)> listener_;
  bool ended_ = false;
  std::string end_reason_;
  size_t bytes_heard_ = 0;
};

// One message as text.
[[nodiscard]] std::string told(const WireClient::Message& message);
// The int8 columns of a DataRow in text format; nullopt: NULL.
[[nodiscard]] std::vector<std::optional<int64_t>> numbers_of(const WireClient::Message& message);

}  // namespace pgfresh::sim
