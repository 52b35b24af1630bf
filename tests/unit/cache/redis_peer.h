// A Redis in memory, for the tests of what talks to one: it keeps strings with their expiry and
// sorted sets, and answers as the test tells it to, or not at all.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manual_loop.h"
#include "memory_stream.h"
#include "pgfresh/log.h"
#include "pgfresh/stream.h"

namespace pgfresh::cache {

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}

class RedisPeer final : public Connector {
 public:
  using Command = std::vector<std::string>;

  // `loop`: of the client and of this.
  explicit RedisPeer(sim::ManualLoop& loop) : loop_(loop) {}

  // ── What the test says ──
  bool refusing = false;  // connections
  bool silent = false;    // commands are read, done and not answered
  std::string info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n";
  // Answers instead of the ordinary answer, when it has one.
  std::function<std::optional<std::string>(const Command&)> instead;
  void cut(std::string_view why = "connection reset by peer") {
    if (door_) door_->pipe->cut(why);
  }
  // The sizes of the pieces in which bytes travel, of connections from now on.
  std::function<size_t()> chunk;
  void say(std::string_view bytes) {
    if (!door_) return;
    const Slice slice{bytes, nullptr};
    door_->stream->write({&slice, 1});
  }
  void say_unsaid() { say(std::exchange(unsaid_, {})); }

  // ── What it has seen ──
  size_t connections = 0;
  std::vector<Command> commands;
  std::map<std::string, std::string> strings;
  std::map<std::string, int64_t> expiry_ms;  // as told, not as it passes
  std::map<std::string, std::map<std::string, double>> sets;
  [[nodiscard]] size_t count(std::string_view name) const {
    size_t found = 0;
    for (const Command& command : commands) found += command.front() == name ? 1U : 0U;
    return found;
  }
  [[nodiscard]] std::string names() const {
    std::string text;
    for (const Command& command : commands) text += (text.empty() ? "" : " ") + command.front();
    return text;
  }

  std::unique_ptr<PendingConnect> connect(Done done) override {
    auto attempt = std::make_unique<Attempt>();
    loop_.post([this, alive = attempt->alive, done = std::move(done)] {
      if (!*alive) return;
      ++connections;
      if (refusing) {
        done(nullptr, "connection to server failed: Connection refused\n\tIs it running?");
        return;
      }
      sim::MemoryPair pair = sim::connected_pair(loop_, loop_);
      unread_.clear();
      unsaid_.clear();
      if (chunk) pair.pipe->set_chunking(0, chunk);
      if (chunk) pair.pipe->set_chunking(1, chunk);
      door_ = std::make_unique<Door>(*this, std::move(pair.second), pair.pipe);
      done(std::move(pair.first), "");
    });
    return attempt;
  }

 private:
  struct Attempt final : PendingConnect {
    Attempt() = default;
    ~Attempt() override { *alive = false; }
    Attempt(const Attempt&) = delete;
    Attempt& operator=(const Attempt&) = delete;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };

  struct Door final : Stream::Events {
    Door(RedisPeer& server, std::unique_ptr<Stream> its_stream,
         std::shared_ptr<sim::MemoryPipe> its_pipe)
        : redis(server), stream(std::move(its_stream)), pipe(std::move(its_pipe)) {
      stream->start(this);
    }
    void on_bytes(std::string_view bytes) override { redis.take(bytes); }
    void on_drained() override {}
    void on_end(std::string_view /*why*/) override { redis.unread_.clear(); }

    RedisPeer& redis;
    std::unique_ptr<Stream> stream;
    std::shared_ptr<sim::MemoryPipe> pipe;
  };

  void take(std::string_view bytes) {
    unread_ += bytes;
    while (std::optional<Command> command = next()) {
      commands.push_back(*command);
      std::string reply = answer(*command);
      if (silent) {
        unsaid_ += reply;
      } else {
        say(reply);
      }
    }
  }

  // The next whole command; what a client sends here is well formed.
  std::optional<Command> next() {
    size_t at = 0;
    const auto number = [this, &at]() -> std::optional<size_t> {
      const size_t end = unread_.find("\r\n", at);
      if (end == std::string::npos) return std::nullopt;
      const size_t value = std::strtoull(unread_.c_str() + at + 1, nullptr, 10);
      at = end + 2;
      return value;
    };
    const std::optional<size_t> arguments = number();
    if (!arguments) return std::nullopt;
    Command command;
    for (size_t i = 0; i < *arguments; ++i) {
      const std::optional<size_t> size = number();
      if (!size || unread_.size() < at + *size + 2) return std::nullopt;
      command.push_back(unread_.substr(at, *size));
      at += *size + 2;
    }
    unread_.erase(0, at);
    return command;
  }

  std::string answer(const Command& command) {
    if (instead) {
      if (std::optional<std::string> told = instead(command)) return *told;
    }
    const std::string& name = command.front();
    if (name == "PING") return "+PONG\r\n";
    if (name == "INFO") return bulk(info);
    if (name == "GET") return get(command[1]);
    if (name == "SET") return set(command);
    if (name == "UNLINK" || name == "DEL") return remove(command);
    if (name == "ZADD") return add(command);
    if (name == "ZPOPMIN") return pop(command[1], std::strtoull(command[2].c_str(), nullptr, 10));
    if (name == "EXISTS") return exist(command);
    if (name == "SCAN") return scan(command);
    if (name == "ZREMRANGEBYSCORE") return ":0\r\n";
    if (name == "PEXPIRE") {
      expiry_ms[command[1]] = std::strtoll(command[2].c_str(), nullptr, 10);
      return ":1\r\n";
    }
    return "+OK\r\n";
  }

  std::string get(const std::string& key) {
    const auto found = strings.find(key);
    return found == strings.end() ? "$-1\r\n" : bulk(found->second);
  }
  std::string set(const Command& command) {
    bool only_new = false;
    for (size_t i = 3; i < command.size(); ++i) {
      if (command[i] == "NX") only_new = true;
      if (command[i] == "PX")
        expiry_ms[command[1]] = std::strtoll(command[i + 1].c_str(), nullptr, 10);
    }
    if (only_new && strings.count(command[1]) != 0) return "$-1\r\n";
    strings[command[1]] = command[2];
    return "+OK\r\n";
  }
  std::string remove(const Command& command) {
    size_t removed = 0;
    for (size_t i = 1; i < command.size(); ++i) removed += strings.erase(command[i]);
    return ":" + std::to_string(removed) + "\r\n";
  }
  std::string add(const Command& command) {
    sets[command[1]][command[3]] = std::strtod(command[2].c_str(), nullptr);
    return ":1\r\n";
  }
  std::string pop(const std::string& key, size_t count) {
    auto& members = sets[key];
    std::string reply;
    size_t popped = 0;
    while (popped < count && !members.empty()) {
      reply += bulk(members.begin()->first) + bulk("1");
      members.erase(members.begin());
      ++popped;
    }
    if (members.empty()) sets.erase(key);
    return "*" + std::to_string(popped * 2) + "\r\n" + reply;
  }
  // Two names at a time, of those that were there when the walk began.
  std::string scan(const Command& command) {
    const std::string_view pattern = command[3];
    size_t at = std::strtoull(command[1].c_str(), nullptr, 10);
    if (at == 0) {
      scanned_.clear();
      for (const auto& [name, value] : strings) {
        if (name.starts_with(pattern.substr(0, pattern.size() - 1))) scanned_.push_back(name);
      }
    }
    std::string names;
    size_t count = 0;
    for (; count < 2 && at < scanned_.size(); ++count) names += bulk(scanned_[at++]);
    const std::string cursor = std::to_string(at < scanned_.size() ? at : 0);
    return "*2\r\n" + bulk(cursor) + "*" + std::to_string(count) + "\r\n" + names;
  }
  std::string exist(const Command& command) {
    size_t found = 0;
    for (size_t i = 1; i < command.size(); ++i) found += sets.count(command[i]);
    return ":" + std::to_string(found) + "\r\n";
  }

  sim::ManualLoop& loop_;
  std::unique_ptr<Door> door_;
  std::string unread_;
  std::string unsaid_;
  std::vector<std::string> scanned_;
};

// What was logged, by noun.
class NotedLog final : public Log {
 public:
  [[nodiscard]] bool enabled(LogLevel /*level*/) const override { return true; }
  void event(LogLevel /*level*/, std::string_view noun,
             std::initializer_list<LogField> fields) override {
    text += std::string(noun);
    for (const LogField& field : fields) text += " " + std::string(field.key) + "=" + field.value;
    text += "\n";
  }
  std::string text;
};

}  // namespace pgfresh::cache
