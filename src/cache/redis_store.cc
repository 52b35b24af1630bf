#include "cache/redis_store.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/limits.h"

namespace pgfresh::cache {
namespace {

// Between two lines about entries of other keys.
constexpr int64_t kKeysPauseNs = 60 * kNsPerSecond;

using freshness::SlotToken;
using Outcome = RedisClient::Outcome;
using Sent = RedisClient::Sent;

// Sets one entry is put in; what depends on more is found by the first of them, or expires.
constexpr size_t kTagsMax = 8;
// One put in so many also takes what has expired out of the sets that it touches.
constexpr uint64_t kTrimOneIn = 64;
// One answer too many or too few, and from then on each would go to the wrong question.
constexpr const char* kOutOfStep = "its answers do not fit the questions";

CodecOptions mail_options(CodecOptions options) {
  options.plain_bytes_max = limits::kMailBytesMax + 4096;  // and its address
  return options;
}

}  // namespace

// A question: what is to be called, until it is withdrawn.
template <typename Callback>
class RedisStore::Asked final : public RemoteStore::Pending {
 public:
  explicit Asked(Callback done) : done_(std::make_shared<Callback>(std::move(done))) {}
  ~Asked() override { *done_ = nullptr; }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;

  // Empties itself when it is withdrawn.
  [[nodiscard]] std::shared_ptr<Callback> done() const { return done_; }

 private:
  std::shared_ptr<Callback> done_;
};

RedisStore::RedisStore(Loop& loop, Connector& connector, RedisStoreOptions options,
                       std::function<uint64_t()> random, std::function<int64_t()> unix_ms,
                       Counters& counters, Log& log)
    : loop_(loop),
      random_(random),
      unix_ms_(std::move(unix_ms)),
      counters_(counters),
      names_(std::move(options.prefix)),
      codec_(options.codec, random),
      mail_codec_(mail_options(options.codec), random),
      log_(log),
      keys_throttle_(kKeysPauseNs),
      client_(loop, connector, std::move(options.client), random, counters, log),
      freeing_(loop, client_, names_, random, counters),
      sweep_(client_, names_, counters) {}

void RedisStore::set_options(RedisClientOptions client, const SealKeys& keys) {
  client_.set_options(std::move(client));
  codec_.set_keys(keys);
  mail_codec_.set_keys(keys);
}

// ── Entries ──────────────────────────────────────────────────────────────────────────────────────

std::unique_ptr<RemoteStore::Pending> RedisStore::get(std::string_view key,
                                                      std::span<const SlotToken> stamp, Got done) {
  const Question question{RedisNames::hash_of(key, stamp), loop_.clock().now_ns()};
  const std::string name = names_.entry(question.hash);
  give_back_owed();
  auto asked = std::make_unique<Asked<Got>>(std::move(done));
  const Sent sent =
      client_.send(std::array<std::string_view, 2>{"GET", name},
                   [this, question, its = asked->done()](Outcome outcome, RedisReply& reply) {
                     const Got told = std::exchange(*its, nullptr);
                     if (told) got(outcome, reply, question, told);
                   });
  if (sent != Sent::kSent) return nullptr;
  return asked;
}

void RedisStore::got(Outcome outcome, const RedisReply& reply, const Question& question,
                     const Got& done) {
  if (outcome != Outcome::kReply) {
    done(outcome == Outcome::kLate ? Found::kTimeout : Found::kUnavailable, nullptr);
    return;
  }
  const int64_t took_ns = loop_.clock().now_ns() - question.asked_ns;
  round_trip_ns_ = mean_round_trip_ns(round_trip_ns_, took_ns);
  switch (reply.kind) {
    case RedisReply::Kind::kNil:
      done(Found::kMiss, nullptr);
      return;
    case RedisReply::Kind::kString: {
      RemoteEntry entry;
      const Decoded decoded = codec_.decode(reply.text, entry);
      if (decoded != Decoded::kEntry) {
        count_broken(decoded);
        done(Found::kBroken, nullptr);
      } else if (RedisNames::hash_of(entry.key, entry.stamp) == question.hash) {
        done(Found::kEntry, &entry);
      } else {
        client_.distrust(kOutOfStep);
        done(Found::kBroken, nullptr);
      }
      return;
    }
    case RedisReply::Kind::kStatus:
    case RedisReply::Kind::kInteger:
    case RedisReply::Kind::kArray:
      client_.distrust(kOutOfStep);
      break;
    case RedisReply::Kind::kError:
      break;
  }
  done(Found::kUnavailable, nullptr);
}

void RedisStore::put(const RemoteEntry& entry) {
  const int64_t now_unix_ms = unix_ms_();
  const int64_t ttl_ms = entry.expires_unix_ms - now_unix_ms;
  if (!client_.writable() || ttl_ms <= 0 || !codec_.encode(entry, encoded_)) return;
  const Hash128 hash = RedisNames::hash_of(entry.key, entry.stamp);
  register_tags(entry, hash, now_unix_ms);
  const std::string name = names_.entry(hash);
  const std::string ttl = std::to_string(ttl_ms);
  const Sent sent = client_.tell(std::array<std::string_view, 5>{"SET", name, encoded_, "PX", ttl});
  if (sent == Sent::kSent) counters_.add(Counter::kRedisStored);
}

// The sets live as long as the longest-lived entry this store has put: entries of other lifetimes
// must not shorten those of their neighbours.
void RedisStore::register_tags(const RemoteEntry& entry, const Hash128& hash, int64_t now_unix_ms) {
  longest_ttl_ms_ = std::max(longest_ttl_ms_, entry.expires_unix_ms - now_unix_ms);
  const std::string ttl = std::to_string(longest_ttl_ms_);
  const std::string expires = std::to_string(entry.expires_unix_ms);
  const std::string now = std::to_string(now_unix_ms);
  const std::string member = RedisNames::member(hash);
  const bool trims = random_() % kTrimOneIn == 0;
  size_t tags = 0;
  for (const SlotToken& pair : entry.stamp) {
    if (pair.slot == 0) continue;
    if (++tags > kTagsMax) break;
    const std::string tag = names_.tag(pair);
    client_.tell(std::array<std::string_view, 4>{"ZADD", tag, expires, member});
    client_.tell(std::array<std::string_view, 3>{"PEXPIRE", tag, ttl});
    if (!trims) continue;
    client_.tell(std::array<std::string_view, 4>{"ZREMRANGEBYSCORE", tag, "-inf", now});
  }
}

void RedisStore::count_broken(Decoded decoded) {
  counters_.add(Counter::kRedisBroken);
  auto& count = broken_[static_cast<size_t>(decoded)];
  count.fetch_add(1, std::memory_order_relaxed);
  const bool keys = decoded == Decoded::kKeyUnknown || decoded == Decoded::kNotSealed;
  if (!keys || !keys_throttle_.admits(loop_.clock().now_ns())) return;
  log_.event(LogLevel::kWarn, "redis_keys_differ",
             {{"why", decoded == Decoded::kKeyUnknown
                          ? "entries are encrypted with a key that redis.encryption_key_file lacks"
                          : "entries are not encrypted, and here they are"},
              {"total", std::to_string(count.load(std::memory_order_relaxed))}});
}

// What cannot be read is nobody's answer here, and is left to whoever can.
void RedisStore::flush_query(uint64_t query_id,
                             std::function<void(bool whole, size_t found)> done) {
  auto found = std::make_shared<size_t>(0);
  sweep_.begin(
      [this, query_id, found](std::string_view bytes) {
        RemoteEntry entry;
        const bool is_it =
            codec_.decode(bytes, entry) == Decoded::kEntry && entry.query_id == query_id;
        if (is_it) ++*found;
        return is_it;
      },
      [found, done = std::move(done)](bool whole) { done(whole, *found); });
}

// ── Locks ────────────────────────────────────────────────────────────────────────────────────────

std::unique_ptr<RemoteStore::Pending> RedisStore::lock(std::string_view key,
                                                       std::span<const SlotToken> stamp,
                                                       int64_t ttl_ms, LockDone done) {
  const std::string name = names_.lock(RedisNames::hash_of(key, stamp));
  const std::string ttl = std::to_string(ttl_ms);
  const int64_t until_ns = loop_.clock().now_ns() + ttl_ms * kNsPerMs;
  auto asked = std::make_unique<Asked<LockDone>>(std::move(done));
  if (!client_.writable()) return nullptr;
  give_back_owed();
  const Sent sent = client_.send(
      std::array<std::string_view, 6>{"SET", name, "1", "NX", "PX", ttl},
      [this, name, until_ns, its = asked->done()](Outcome outcome, RedisReply& reply) {
        Locked locked = Locked::kUnavailable;
        if (reply.kind == RedisReply::Kind::kStatus) {
          locked = Locked::kMine;
          forget_old_locks(loop_.clock().now_ns());
          locks_[name] = until_ns;
        } else if (outcome == Outcome::kReply && reply.kind == RedisReply::Kind::kNil) {
          locked = Locked::kTaken;
        } else if (outcome == Outcome::kReply && !reply.is_error()) {
          client_.distrust(kOutOfStep);
        }
        const LockDone told = std::exchange(*its, nullptr);
        if (told) {
          told(locked);
        } else if (locked == Locked::kMine) {
          release(name);  // it comes too late
        }
      },
      [this, name, until_ns](const RedisReply& reply) {
        if (reply.kind == RedisReply::Kind::kStatus) give_back(name, until_ns);
      });
  if (sent != Sent::kSent) return nullptr;
  return asked;
}

void RedisStore::unlock(std::string_view key, std::span<const SlotToken> stamp) {
  release(names_.lock(RedisNames::hash_of(key, stamp)));
}

void RedisStore::release(const std::string& name) {
  const auto held = locks_.find(name);
  if (held == locks_.end()) return;
  const int64_t until_ns = held->second;
  locks_.erase(held);
  give_back(name, until_ns);
}

// Later it may be somebody else's. When Redis has just been slow, nothing can be said for a while.
void RedisStore::give_back(const std::string& name, int64_t until_ns) {
  if (loop_.clock().now_ns() >= until_ns) return;
  const Sent sent = client_.tell(std::array<std::string_view, 2>{"UNLINK", name});
  if (sent == Sent::kSent || owed_.size() >= limits::kRedisLocksMax) return;
  owed_.emplace_back(name, until_ns);
}

void RedisStore::give_back_owed() {
  if (owed_.empty() || !client_.ready()) return;
  std::vector<std::pair<std::string, int64_t>> owed = std::exchange(owed_, {});
  while (!owed.empty() && owed_.empty()) {  // until one is refused
    give_back(owed.back().first, owed.back().second);
    owed.pop_back();
  }
  owed_.insert(owed_.end(), std::make_move_iterator(owed.begin()),
               std::make_move_iterator(owed.end()));
}

void RedisStore::forget_old_locks(int64_t now_ns) {
  if (locks_.size() < limits::kRedisLocksMax) return;
  std::erase_if(locks_, [now_ns](const auto& held) { return held.second <= now_ns; });
  if (locks_.size() >= limits::kRedisLocksMax) locks_.clear();
}

// ── Mail ─────────────────────────────────────────────────────────────────────────────────────────

std::unique_ptr<RemoteStore::Pending> RedisStore::post(std::string_view address,
                                                       std::string_view bytes, int64_t ttl_ms,
                                                       Posted done) {
  RemoteEntry letter;
  letter.key = address;
  letter.body = bytes;
  if (!client_.writable() || !mail_codec_.encode(letter, encoded_)) return nullptr;
  const std::string name = names_.mail(address);
  const std::string ttl = std::to_string(ttl_ms);
  auto asked = std::make_unique<Asked<Posted>>(std::move(done));
  const Sent sent = client_.send(std::array<std::string_view, 5>{"SET", name, encoded_, "PX", ttl},
                                 [its = asked->done()](Outcome, RedisReply& reply) {
                                   const Posted told = std::exchange(*its, nullptr);
                                   if (told) told(reply.kind == RedisReply::Kind::kStatus);
                                 });
  if (sent != Sent::kSent) return nullptr;
  return asked;
}

std::unique_ptr<RemoteStore::Pending> RedisStore::collect(std::string_view address,
                                                          Collected done) {
  const std::string name = names_.mail(address);
  auto asked = std::make_unique<Asked<Collected>>(std::move(done));
  const Sent sent = client_.send(
      std::array<std::string_view, 2>{"GET", name},
      [this, its = asked->done(), expected = std::string(address)](Outcome, RedisReply& reply) {
        const Collected told = std::exchange(*its, nullptr);
        if (told) collected(expected, reply, told);
      });
  if (sent != Sent::kSent) return nullptr;
  return asked;
}

// A letter is sealed with its address, so that nobody can answer with one meant for another.
void RedisStore::collected(const std::string& address, const RedisReply& reply,
                           const Collected& done) {
  RemoteEntry letter;
  if (reply.kind != RedisReply::Kind::kString) {
    done(nullptr);
    return;
  }
  const Decoded decoded = mail_codec_.decode(reply.text, letter);
  if (decoded != Decoded::kEntry) count_broken(decoded);
  const bool good = decoded == Decoded::kEntry && letter.key == address;
  done(good ? &letter.body : nullptr);
}

}  // namespace pgfresh::cache
