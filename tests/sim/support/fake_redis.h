// A model of Redis, and of the stores that talk to it: entries, the fleet's locks, mailboxes; on a
// loop of its own, so that what different proxies do to it interleaves at will, while each
// connection keeps its order. It can be held, lose, evict, return to an old state, and lie.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "freshness/stamp.h"
#include "manual_loop.h"
#include "pgfresh/remote_store.h"

namespace pgfresh::sim {

class FakeRemote;

// An entry with memory of its own.
struct StoredEntry {
  std::string key;
  freshness::Stamp stamp;
  std::string body;
  RemoteEntry rest;  // its views are not used

  [[nodiscard]] RemoteEntry view() const;
};

class FakeRedis {
 public:
  explicit FakeRedis(ManualLoop& loop) : loop_(loop) {}
  FakeRedis(const FakeRedis&) = delete;
  FakeRedis& operator=(const FakeRedis&) = delete;

  // A store whose callbacks come on `home`.
  [[nodiscard]] std::unique_ptr<FakeRemote> connect(ManualLoop& home);
  // The time of day of every process.
  [[nodiscard]] int64_t unix_ms() const {
    return 1'700'000'000'000 + loop_.clock().now_ns() / 1'000'000;
  }

  // ── Trouble ──
  // Connections refuse, and what is under way comes to nothing.
  void set_down(bool down);
  [[nodiscard]] bool down() const { return down_; }
  // Requests, or replies, of all connections wait; in order, each connection for itself.
  void hold(bool requests, bool replies);
  void release();
  void save();     // as BGSAVE
  void restore();  // what was saved is there again, and nothing else
  void clear();
  // The n-th entry, n taken modulo their number.
  void evict(uint64_t n);
  // What becomes of an entry that is given out: it may change it, or make nothing of it.
  void set_liar(std::function<std::optional<StoredEntry>(const StoredEntry&)> liar) {
    liar_ = std::move(liar);
  }
  // Deliberate faults. The stamp is neither part of the name nor the entry's own: whatever was put
  // last under a key is given out under the stamp that was asked for.
  void forget_stamps() { forget_stamps_ = true; }
  // What becomes of a letter that is collected.
  using Forger = std::function<std::string(const std::string& address, const std::string& bytes)>;
  void set_forger(Forger forger) { forger_ = std::move(forger); }
  // One entry that lies here, for liars.
  [[nodiscard]] const StoredEntry* any(uint64_t n) const;

  [[nodiscard]] size_t entries() const { return entries_.size(); }
  [[nodiscard]] uint64_t gets() const { return gets_; }
  [[nodiscard]] uint64_t found() const { return found_; }
  [[nodiscard]] uint64_t puts() const { return puts_; }
  [[nodiscard]] size_t locks_held() const { return locks_.size(); }
  [[nodiscard]] uint64_t locks_refused() const { return locks_refused_; }
  [[nodiscard]] uint64_t letters() const { return letters_; }

 private:
  friend class FakeRemote;
  struct Connection;
  struct Lock {
    const void* owner = nullptr;
    int64_t until_ms = 0;
  };

  [[nodiscard]] std::string name_of(std::string_view key,
                                    std::span<const freshness::SlotToken> stamp) const;
  void pump(const std::shared_ptr<Connection>& connection);
  [[nodiscard]] std::optional<StoredEntry> look(const std::string& name,
                                                const freshness::Stamp& asked);

  ManualLoop& loop_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::map<std::string, StoredEntry> entries_;
  std::map<std::string, StoredEntry> saved_;
  std::map<std::string, Lock> locks_;
  std::map<std::string, std::string> mail_;
  std::function<std::optional<StoredEntry>(const StoredEntry&)> liar_;
  Forger forger_;
  bool down_ = false;
  bool hold_requests_ = false;
  bool hold_replies_ = false;
  bool forget_stamps_ = false;
  uint64_t gets_ = 0;
  uint64_t found_ = 0;
  uint64_t puts_ = 0;
  uint64_t locks_refused_ = 0;
  uint64_t letters_ = 0;
};

// A proxy's end: what src/app would make of a RedisStore.
class FakeRemote final : public RemoteStore, public Mailbox {
 public:
  FakeRemote(FakeRedis& redis, ManualLoop& home);
  ~FakeRemote() override;
  FakeRemote(const FakeRemote&) = delete;
  FakeRemote& operator=(const FakeRemote&) = delete;

  using Pending = RemoteStore::Pending;

  [[nodiscard]] bool available() const override { return !redis_.down_ && !cut_; }
  [[nodiscard]] int64_t round_trip_ns() const override { return round_trip_ns_; }
  [[nodiscard]] std::unique_ptr<Pending> get(std::string_view key,
                                             std::span<const freshness::SlotToken> stamp,
                                             Got done) override;
  void put(const RemoteEntry& entry) override;
  [[nodiscard]] std::unique_ptr<Pending> lock(std::string_view key,
                                              std::span<const freshness::SlotToken> stamp,
                                              int64_t ttl_ms, LockDone done) override;
  void unlock(std::string_view key, std::span<const freshness::SlotToken> stamp) override;
  void freed(uint32_t slot, uint64_t token) override;

  [[nodiscard]] bool mail_available() const override { return available(); }
  [[nodiscard]] std::unique_ptr<Pending> post(std::string_view address, std::string_view bytes,
                                              int64_t ttl_ms, Posted done) override;
  [[nodiscard]] std::unique_ptr<Pending> collect(std::string_view address, Collected done) override;

  void set_round_trip_ns(int64_t ns) { round_trip_ns_ = ns; }
  // This proxy alone does not reach Redis.
  void set_cut(bool cut) { cut_ = cut; }
  // A deliberate fault: what is put carries this stamp instead.
  void set_restamp(std::function<void(freshness::Stamp&)> restamp) {
    restamp_ = std::move(restamp);
  }
  // For coverage: whether a stamp is still what holds at this proxy. Counts what came late.
  void set_alive(std::function<bool(const freshness::Stamp&)> alive) { alive_ = std::move(alive); }
  [[nodiscard]] uint64_t puts_overtaken() const { return puts_overtaken_; }
  [[nodiscard]] uint64_t replies_overtaken() const { return replies_overtaken_; }
  [[nodiscard]] uint64_t freed_count() const { return freed_; }

 private:
  // `run` runs at the server and gives what runs here.
  using Reply = std::function<void()>;
  template <typename Run, typename Fail>
  [[nodiscard]] std::unique_ptr<Pending> send(Run run, Fail fail,
                                              std::function<void()> withdrawn = {});

  FakeRedis& redis_;
  const std::shared_ptr<FakeRedis::Connection> connection_;
  std::function<void(freshness::Stamp&)> restamp_;
  std::function<bool(const freshness::Stamp&)> alive_;
  uint64_t puts_overtaken_ = 0;
  uint64_t replies_overtaken_ = 0;
  int64_t round_trip_ns_ = 0;
  bool cut_ = false;
  uint64_t freed_ = 0;
};

}  // namespace pgfresh::sim
