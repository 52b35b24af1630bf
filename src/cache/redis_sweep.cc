#include "cache/redis_sweep.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"

namespace pgfresh::cache {
namespace {

// Names of one step. Those that are read come with what lies there, so that they are fewer.
constexpr std::string_view kStepText = "256";
constexpr std::string_view kReadingStepText = "32";

}  // namespace

RedisSweep::RedisSweep(RedisClient& client, const RedisNames& names, Counters& counters)
    : client_(client), names_(names), counters_(counters) {}

void RedisSweep::begin(Picks picks, Swept done) {
  if (walks_.size() >= limits::kRedisWalksMax) {
    done(false);
    return;
  }
  walks_.push_back({std::move(picks), std::move(done)});
  if (walks_.size() == 1) step();
}

void RedisSweep::step() {
  const Walk& walk = walks_.front();
  const std::string pattern = names_.entry_pattern();
  const auto asked =
      client_.send(std::array<std::string_view, 6>{"SCAN", walk.cursor, "MATCH", pattern, "COUNT",
                                                   walk.picks ? kReadingStepText : kStepText},
                   [this](RedisClient::Outcome, const RedisReply& reply) { scanned(reply); });
  if (asked != RedisClient::Sent::kSent) end(false);
}

// The next cursor, and names. A late answer is no answer.
void RedisSweep::scanned(const RedisReply& reply) {
  if (reply.kind != RedisReply::Kind::kArray || reply.items.size() != 2) {
    end(false);
    return;
  }
  Walk& walk = walks_.front();
  walk.cursor = reply.items[0].text;
  walk.picked.clear();
  walk.waited_for = 1;  // this function itself
  for (const RedisReply& name : reply.items[1].items) {
    if (walk.picks) {
      look_at(name.text);
    } else {
      walk.picked.push_back(name.text);
    }
  }
  looked();
}

void RedisSweep::look_at(const std::string& name) {
  Walk& walk = walks_.front();
  const auto asked =
      client_.send(std::array<std::string_view, 2>{"GET", name},
                   [this, name](RedisClient::Outcome outcome, const RedisReply& reply) {
                     Walk& under_way = walks_.front();
                     if (outcome != RedisClient::Outcome::kReply || reply.is_error())
                       under_way.whole = false;
                     const bool there = reply.kind == RedisReply::Kind::kString;
                     if (there && under_way.picks(reply.text)) under_way.picked.push_back(name);
                     looked();
                   });
  if (asked == RedisClient::Sent::kSent) {
    ++walk.waited_for;
  } else {
    walk.whole = false;
  }
}

void RedisSweep::looked() {
  Walk& walk = walks_.front();
  if (--walk.waited_for != 0) return;
  if (walk.picked.empty()) {
    step_ended();
  } else {
    unlink();
  }
}

void RedisSweep::unlink() {
  std::vector<std::string_view> command = {"UNLINK"};
  for (const std::string& name : walks_.front().picked) command.emplace_back(name);
  const auto told = client_.send(command, [this](RedisClient::Outcome, const RedisReply& reply) {
    if (reply.kind != RedisReply::Kind::kInteger) {
      end(false);
      return;
    }
    counters_.add(Counter::kRedisFreed, static_cast<uint64_t>(std::max<int64_t>(reply.integer, 0)));
    step_ended();
  });
  if (told != RedisClient::Sent::kSent) end(false);
}

void RedisSweep::step_ended() {
  const Walk& walk = walks_.front();
  if (walk.cursor == "0") {
    end(walk.whole);
  } else {
    step();
  }
}

// The next walk, if there is one, may end from inside this, too: so the one that ends is taken out
// first.
void RedisSweep::end(bool whole) {
  const Swept done = std::move(walks_.front().done);
  walks_.pop_front();
  if (!walks_.empty()) step();
  done(whole);
}

}  // namespace pgfresh::cache
