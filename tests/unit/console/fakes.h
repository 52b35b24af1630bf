// A console client in a test's memory: the session's stream and loop, and the client's end of both,
// with the messages spelled out one by one.
#pragma once

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "console/console_session.h"
#include "console/tables.h"
#include "pgfresh/loop.h"
#include "pgfresh/stream.h"
#include "wire/framer.h"
#include "wire/messages.h"

namespace pgfresh::console::testing {

class FakeLoop final : public Loop, private Clock {
 public:
  [[nodiscard]] const Clock& clock() const override { return *this; }
  void post(std::function<void()> task) override { task(); }
  void defer(std::function<void()> task) override { task(); }
  [[nodiscard]] std::unique_ptr<Timer> after(int64_t, std::function<void()> fire) override {
    fire_ = std::move(fire);
    return std::make_unique<Timer>();
  }
  [[nodiscard]] std::unique_ptr<Timer> every(int64_t, std::function<void()>) override {
    return std::make_unique<Timer>();
  }
  void time_passes() { fire_(); }

 private:
  [[nodiscard]] int64_t now_ns() const override { return 1; }
  std::function<void()> fire_;
};

// What the test and the stream, which the session owns, both see.
struct Pipe {
  Stream::Events* session = nullptr;
  std::string sent;   // by the session
  size_t stuck = 0;   // bytes of it that the "kernel" has not taken
  bool takes = true;  // false: the client does not read
  bool paused = false;
  bool finished = false;
  bool destroyed = false;
};

class FakeStream final : public Stream {
 public:
  FakeStream(Pipe& pipe, int uid) : pipe_(pipe), uid_(uid) {}
  ~FakeStream() override { pipe_.destroyed = true; }
  void start(Events* events) override { pipe_.session = events; }
  void flush() override {}
  void write(std::span<const Slice> slices) override {
    for (const Slice& slice : slices) {
      pipe_.sent += slice.bytes;
      if (!pipe_.takes) pipe_.stuck += slice.bytes.size();
    }
  }
  [[nodiscard]] size_t queued_bytes() const override { return pipe_.stuck; }
  void pause() override { pipe_.paused = true; }
  void resume() override { pipe_.paused = false; }
  void close_sending() override {}
  void finish() override { pipe_.finished = true; }
  [[nodiscard]] const std::string& peer() const override { return peer_; }
  [[nodiscard]] int peer_uid() const override { return uid_; }
  [[nodiscard]] bool encrypted() const override { return false; }

 private:
  Pipe& pipe_;
  int uid_;
  std::string peer_ = "10.0.0.7:51234";
};

// Answers SHOW STATS and SHOW CONFIG at once and keeps every other command until the test answers.
class FakeBackend final : public Backend {
 public:
  void run(const Command& command, std::function<void(Outcome)> done) override {
    commands.push_back(command);
    if (command.verb == Verb::kShowStats) {
      CounterTotals totals;
      totals.counters[static_cast<size_t>(Counter::kHitsL1)] = 3;
      totals.counters[static_cast<size_t>(Counter::kMisses)] = 1;
      return done(stats_table({{"care", totals}}));
    }
    if (command.verb == Verb::kShowConfig) {
      return done(
          config_table({{"a", "1", "0", true}, {"b", "2", "2", false}, {"c", "", "", true}}));
    }
    pending = std::move(done);
  }
  std::vector<Command> commands;
  std::function<void(Outcome)> pending;
};

// A backend message as the client sees it.
struct Answer {
  char type = 0;
  std::string body;
};

class Client {
 public:
  static constexpr int kStranger = 1234;

  explicit Client(int uid = 0, std::string user = "ada", std::string leftover = {}) {
    auto access = std::make_shared<Access>();
    access->daemon_uid = 777;
    access->mock_seed = std::string(32, 'm');
    access->users["ada"] = {wire::ScramSecret::derive("engine", std::string(16, 's')),
                            Role::kAdministers};
    access->users["lou"] = {wire::ScramSecret::derive("look", std::string(16, 't')), Role::kLooks};
    wire::StartupMessage startup;
    startup.parameters = {{"user", user}, {"database", "pgfresh"}, {"application_name", "test"}};
    SessionOptions options;
    options.version = "0.1";
    options.pid = 42;
    options.secret = 43;
    options.random_bytes = [](size_t count) { return std::string(count, 'r'); };
    options.audit = [this](const AuditRecord& record) {
      audit.push_back(record.user + " " + record.peer + " " + record.action + ": " + record.result);
    };
    session = std::make_unique<ConsoleSession>(
        loop, std::make_unique<FakeStream>(pipe, uid), startup, std::move(leftover), backend,
        access, std::move(options), [this](std::string_view why) { ended.emplace_back(why); });
    session->start();
  }

  void send(std::string_view bytes) { pipe.session->on_bytes(bytes); }
  void query(std::string_view sql) {
    std::string out;
    wire::write_query(out, sql);
    send(out);
  }

  // What has come since the last call.
  std::vector<Answer> answers() {
    std::vector<Answer> result;
    std::string_view in(pipe.sent);
    wire::Framer framer(wire::Side::kBackend, 1 << 24);
    wire::Frame frame;
    while (framer.next(in, frame) == wire::Cut::kMessage) {
      result.push_back({frame.type, std::string(frame.body())});
    }
    broken = !in.empty() || !framer.at_boundary();
    pipe.sent.clear();
    return result;
  }
  // Their types alone, such as "TDDCZ"; `last` keeps them.
  std::string types() {
    last = answers();
    std::string result;
    for (const Answer& answer : last) result += answer.type;
    return result;
  }
  // Of the messages that types() gave.
  [[nodiscard]] std::string sqlstate() const {
    for (const Answer& answer : last) {
      if (answer.type != 'E') continue;
      return std::string(wire::read_notice(answer.body).value_or(wire::NoticeFields{}).sqlstate);
    }
    return "";
  }
  [[nodiscard]] std::string tag() const {
    for (const Answer& answer : last) {
      if (answer.type == 'C') return std::string(wire::read_command_tag(answer.body).value_or("?"));
    }
    return "";
  }
  // The rows, values joined by '|', NULL as '~'.
  [[nodiscard]] std::vector<std::string> rows() const {
    std::vector<std::string> result;
    for (const Answer& answer : last) {
      if (answer.type != 'D') continue;
      std::string text;
      const auto values = wire::read_data_row(answer.body);
      for (size_t i = 0; i < values->size(); ++i) {
        text += (i == 0 ? "" : "|") + std::string((*values)[i].value_or("~"));
      }
      result.push_back(text);
    }
    return result;
  }
  [[nodiscard]] char status() const {
    return last.empty() || last.back().type != 'Z' ? '?' : last.back().body[0];
  }

  FakeLoop loop;
  FakeBackend backend;
  Pipe pipe;
  std::vector<std::string> audit;
  std::vector<std::string> ended;
  std::vector<Answer> last;
  bool broken = false;
  std::unique_ptr<ConsoleSession> session;
};

// ── Frontend messages the wire has no writers for ────────────────────────────────────────────────

inline std::string message(char type, std::string_view body) {
  const auto length = static_cast<uint32_t>(body.size() + 4);
  std::string out(1, type);
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(length >> shift & 0xff));
  }
  return out.append(body);
}
inline std::string zero_ended(std::string_view text) { return std::string(text) + '\0'; }

inline std::string parse(std::string_view name, std::string_view sql) {
  return message('P', zero_ended(name) + zero_ended(sql) + std::string(2, '\0'));
}
// `formats`: one character '0' or '1' per code.
inline std::string bind(std::string_view portal, std::string_view name, std::string_view formats) {
  std::string body = zero_ended(portal) + zero_ended(name) + std::string(4, '\0');
  body += '\0';
  body += static_cast<char>(formats.size());
  for (const char format : formats) {
    body += '\0';
    body += static_cast<char>(format - '0');
  }
  return message('B', body);
}
inline std::string describe(char kind, std::string_view name) {
  return message('D', kind + zero_ended(name));
}
inline std::string close(char kind, std::string_view name) {
  return message('C', kind + zero_ended(name));
}
inline std::string execute(std::string_view portal, char max_rows) {
  return message('E', zero_ended(portal) + std::string(3, '\0') + max_rows);
}
inline std::string sync() { return message('S', ""); }

}  // namespace pgfresh::console::testing
