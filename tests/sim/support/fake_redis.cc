#include "fake_redis.h"

#include <cstring>

namespace pgfresh::sim {

RemoteEntry StoredEntry::view() const {
  RemoteEntry entry = rest;
  entry.key = key;
  entry.stamp = stamp;
  entry.body = body;
  return entry;
}

namespace {

StoredEntry keep(const RemoteEntry& entry) {
  StoredEntry stored;
  stored.key = entry.key;
  stored.stamp.assign(entry.stamp.begin(), entry.stamp.end());
  stored.body = entry.body;
  stored.rest = entry;
  stored.rest.key = {};
  stored.rest.stamp = {};
  stored.rest.body = {};
  return stored;
}

// A question; when it is destroyed nobody is told.
class Question final : public RemoteStore::Pending {
 public:
  explicit Question(std::shared_ptr<bool> wanted, std::function<void()> withdrawn)
      : wanted_(std::move(wanted)), withdrawn_(std::move(withdrawn)) {}
  ~Question() override {
    if (std::exchange(*wanted_, false) && withdrawn_) withdrawn_();
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

 private:
  std::shared_ptr<bool> wanted_;
  std::function<void()> withdrawn_;
};

}  // namespace

struct FakeRedis::Connection {
  explicit Connection(ManualLoop& home_in) : home(home_in) {}

  struct Request {
    // At the server; what it gives runs at home.
    std::function<std::function<void()>()> run;
    std::function<void()> fail;  // at home
  };
  ManualLoop& home;
  std::deque<Request> requests;
  std::deque<std::function<void()>> replies;
  bool gone = false;

  void deliver() {
    while (!replies.empty()) {
      home.post(std::move(replies.front()));
      replies.pop_front();
    }
  }
};

std::unique_ptr<FakeRemote> FakeRedis::connect(ManualLoop& home) {
  return std::make_unique<FakeRemote>(*this, home);
}

std::string FakeRedis::name_of(std::string_view key,
                               std::span<const freshness::SlotToken> stamp) const {
  std::string name(key);
  if (forget_stamps_) return name;
  for (const freshness::SlotToken& pair : stamp) {
    name += "/" + std::to_string(pair.slot) + ":" + std::to_string(pair.token);
  }
  return name;
}

// One request a turn, so that connections interleave.
void FakeRedis::pump(const std::shared_ptr<Connection>& connection) {
  if (hold_requests_ || connection->gone || connection->requests.empty()) return;
  Connection::Request request = std::move(connection->requests.front());
  connection->requests.pop_front();
  std::function<void()> reply = down_ ? std::move(request.fail) : request.run();
  if (reply) connection->replies.push_back(std::move(reply));
  if (!hold_replies_) connection->deliver();
}

void FakeRedis::set_down(bool down) {
  down_ = down;
  if (!down) return;
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    if (connection == nullptr) continue;
    for (Connection::Request& request : connection->requests) {
      if (request.fail) connection->replies.push_back(std::move(request.fail));
    }
    connection->requests.clear();
    if (!hold_replies_) connection->deliver();
  }
}

void FakeRedis::hold(bool requests, bool replies) {
  hold_requests_ = hold_requests_ || requests;
  hold_replies_ = hold_replies_ || replies;
}

void FakeRedis::release() {
  hold_requests_ = hold_replies_ = false;
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    if (connection == nullptr) continue;
    connection->deliver();
    for (size_t i = 0; i < connection->requests.size(); ++i) {
      loop_.post([this, connection] { pump(connection); });
    }
  }
}

void FakeRedis::save() { saved_ = entries_; }

void FakeRedis::restore() {
  entries_ = saved_;
  locks_.clear();
  mail_.clear();
}

void FakeRedis::clear() {
  entries_.clear();
  locks_.clear();
  mail_.clear();
}

void FakeRedis::evict(uint64_t n) {
  if (entries_.empty()) return;
  entries_.erase(std::next(entries_.begin(), static_cast<std::ptrdiff_t>(n % entries_.size())));
}

const StoredEntry* FakeRedis::any(uint64_t n) const {
  if (entries_.empty()) return nullptr;
  return &std::next(entries_.begin(), static_cast<std::ptrdiff_t>(n % entries_.size()))->second;
}

std::optional<StoredEntry> FakeRedis::look(const std::string& name, const freshness::Stamp& asked) {
  ++gets_;
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  ++found_;
  StoredEntry entry = found->second;
  if (forget_stamps_) entry.stamp = asked;
  return liar_ ? liar_(entry) : entry;
}

// ── A proxy's end ────────────────────────────────────────────────────────────────────────────────

FakeRemote::FakeRemote(FakeRedis& redis, ManualLoop& home)
    : redis_(redis), connection_(std::make_shared<FakeRedis::Connection>(home)) {
  redis_.connections_.push_back(connection_);
}

FakeRemote::~FakeRemote() { connection_->gone = true; }

template <typename Run, typename Fail>
std::unique_ptr<RemoteStore::Pending> FakeRemote::send(Run run, Fail fail,
                                                       std::function<void()> withdrawn) {
  if (!available()) return nullptr;
  auto wanted = std::make_shared<bool>(true);
  const auto once = [wanted](auto call) {
    return std::function<void()>([wanted, call = std::move(call)] {
      if (std::exchange(*wanted, false)) call();
    });
  };
  connection_->requests.push_back(
      {[run = std::move(run), once] { return once(run()); }, once(std::move(fail))});
  redis_.loop_.post([redis = &redis_, connection = connection_] { redis->pump(connection); });
  return std::make_unique<Question>(std::move(wanted), std::move(withdrawn));
}

std::unique_ptr<RemoteStore::Pending> FakeRemote::get(std::string_view key,
                                                      std::span<const freshness::SlotToken> stamp,
                                                      Got done) {
  const std::string name = redis_.name_of(key, stamp);
  const freshness::Stamp asked(stamp.begin(), stamp.end());
  return send(
      [this, name, asked, done] {
        std::optional<StoredEntry> entry = redis_.look(name, asked);
        return std::function<void()>([this, asked, entry = std::move(entry), done] {
          if (alive_ && entry && !alive_(asked)) ++replies_overtaken_;
          if (!entry) {
            done(Found::kMiss, nullptr);
            return;
          }
          const RemoteEntry view = entry->view();
          done(Found::kEntry, &view);
        });
      },
      [done] { done(Found::kUnavailable, nullptr); });
}

void FakeRemote::put(const RemoteEntry& entry) {
  StoredEntry stored = keep(entry);
  if (restamp_) restamp_(stored.stamp);
  const std::string name = redis_.name_of(stored.key, stored.stamp);
  const auto kept = send(
      [this, name, stored = std::move(stored)] {
        ++redis_.puts_;
        if (alive_ && !alive_(stored.stamp)) ++puts_overtaken_;
        redis_.entries_[name] = stored;
        return std::function<void()>([] {});
      },
      [] {});
}

std::unique_ptr<RemoteStore::Pending> FakeRemote::lock(std::string_view key,
                                                       std::span<const freshness::SlotToken> stamp,
                                                       int64_t ttl_ms, LockDone done) {
  const std::string name = redis_.name_of(key, stamp);
  const void* owner = this;
  return send(
      [redis = &redis_, owner, name, ttl_ms, done] {
        const int64_t now_ms = redis->unix_ms();
        FakeRedis::Lock& lock = redis->locks_[name];
        const bool mine = lock.owner == nullptr || lock.until_ms <= now_ms;
        if (mine) lock = {owner, now_ms + ttl_ms};
        if (!mine) ++redis->locks_refused_;
        return std::function<void()>([mine, done] { done(mine ? Locked::kMine : Locked::kTaken); });
      },
      [done] { done(Locked::kUnavailable); },
      [this, key = std::string(key), asked = freshness::Stamp(stamp.begin(), stamp.end())] {
        unlock(key, asked);
      });
}

void FakeRemote::unlock(std::string_view key, std::span<const freshness::SlotToken> stamp) {
  const std::string name = redis_.name_of(key, stamp);
  const void* owner = this;
  const auto kept = send(
      [redis = &redis_, owner, name] {
        const auto found = redis->locks_.find(name);
        if (found != redis->locks_.end() && found->second.owner == owner) {
          redis->locks_.erase(found);
        }
        return std::function<void()>([] {});
      },
      [] {});
}

void FakeRemote::freed(uint32_t slot, uint64_t token) {
  ++freed_;
  const auto kept = send(
      [redis = &redis_, slot, token] {
        std::erase_if(redis->entries_, [&](const auto& item) {
          for (const freshness::SlotToken& pair : item.second.stamp) {
            if (pair == freshness::SlotToken{slot, token}) return true;
          }
          return false;
        });
        return std::function<void()>([] {});
      },
      [] {});
}

std::unique_ptr<RemoteStore::Pending> FakeRemote::post(std::string_view address,
                                                       std::string_view bytes, int64_t /*ttl_ms*/,
                                                       Posted done) {
  return send(
      [redis = &redis_, address = std::string(address), bytes = std::string(bytes), done] {
        ++redis->letters_;
        redis->mail_[address] = bytes;
        return std::function<void()>([done] { done(true); });
      },
      [done] { done(false); });
}

std::unique_ptr<RemoteStore::Pending> FakeRemote::collect(std::string_view address,
                                                          Collected done) {
  return send(
      [redis = &redis_, address = std::string(address), done] {
        const auto found = redis->mail_.find(address);
        std::optional<std::string> bytes;
        if (found != redis->mail_.end()) {
          bytes = redis->forger_ ? redis->forger_(address, found->second) : found->second;
        }
        return std::function<void()>([bytes = std::move(bytes), done] {
          const std::string_view view = bytes ? std::string_view(*bytes) : std::string_view();
          done(bytes ? &view : nullptr);
        });
      },
      [done] { done(nullptr); });
}

}  // namespace pgfresh::sim
