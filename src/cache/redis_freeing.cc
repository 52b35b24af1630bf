#include "cache/redis_freeing.h"

#include <array>
#include <utility>

#include "base/limits.h"

namespace pgfresh::cache {
namespace {

using freshness::SlotToken;

// How long pairs are collected before they are looked at, by chance between these.
constexpr int64_t kCollectMsMin = 200;
constexpr int64_t kCollectMsMax = 2'000;
// Sets asked for in one command.
constexpr size_t kLookedAtMax = 128;
// Members popped by one command, and entries unlinked by one.
constexpr size_t kPoppedMax = 256;
constexpr std::string_view kPoppedText = "256";

std::vector<std::string_view> command(std::string_view name, const std::vector<std::string>& rest) {
  std::vector<std::string_view> arguments = {name};
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  return arguments;
}

}  // namespace

RedisFreeing::RedisFreeing(Loop& loop, RedisClient& client, const RedisNames& names,
                           std::function<uint64_t()> random, Counters& counters)
    : loop_(loop),
      client_(client),
      names_(names),
      random_(std::move(random)),
      counters_(counters) {}

void RedisFreeing::freed(const SlotToken& pair) {
  if (!client_.ready() || waiting_.size() >= limits::kRedisFreedMax) return;
  waiting_.push_back(pair);
  if (timer_) return;
  const auto spread = static_cast<uint64_t>(kCollectMsMax - kCollectMsMin + 1);
  timer_ = loop_.after(kCollectMsMin + static_cast<int64_t>(random_() % spread), [this] {
    timer_.reset();
    look();
  });
}

void RedisFreeing::look() {
  std::vector<SlotToken> pairs;
  for (const SlotToken& pair : std::exchange(waiting_, {})) {
    pairs.push_back(pair);
    if (pairs.size() == kLookedAtMax) look_at(std::exchange(pairs, {}));
  }
  if (!pairs.empty()) look_at(std::move(pairs));
}

void RedisFreeing::look_at(std::vector<SlotToken> pairs) {
  std::vector<std::string> names;
  names.reserve(pairs.size());
  for (const SlotToken& pair : pairs) names.push_back(names_.tag(pair));
  const auto asked =
      client_.send(command("EXISTS", names),
                   [this, pairs = std::move(pairs)](RedisClient::Outcome, const RedisReply& reply) {
                     if (reply.kind != RedisReply::Kind::kInteger || reply.integer == 0) return;
                     for (const SlotToken& pair : pairs) pop(pair);
                   });
  static_cast<void>(asked);
}

void RedisFreeing::pop(const SlotToken& pair) {
  const std::string name = names_.tag(pair);
  const auto asked = client_.send(
      std::array<std::string_view, 3>{"ZPOPMIN", name, kPoppedText},
      [this, pair](RedisClient::Outcome, const RedisReply& reply) { popped(pair, reply); });
  static_cast<void>(asked);
}

// Members and their scores take turns.
void RedisFreeing::popped(const SlotToken& pair, const RedisReply& reply) {
  if (reply.kind != RedisReply::Kind::kArray || reply.items.empty()) return;
  std::vector<std::string> entries;
  for (size_t i = 0; i < reply.items.size(); i += 2) {
    entries.push_back(names_.entry_of_member(reply.items[i].text));
  }
  unlink(entries);
  if (entries.size() >= kPoppedMax) pop(pair);
}

void RedisFreeing::unlink(const std::vector<std::string>& names) {
  const auto told =
      client_.send(command("UNLINK", names), [this](RedisClient::Outcome, const RedisReply& reply) {
        if (reply.kind != RedisReply::Kind::kInteger || reply.integer <= 0) return;
        counters_.add(Counter::kRedisFreed, static_cast<uint64_t>(reply.integer));
      });
  static_cast<void>(told);
}

}  // namespace pgfresh::cache
