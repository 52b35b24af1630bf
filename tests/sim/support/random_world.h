// A random run: proxies in front of one PostgreSQL, readers and writers through them and past
// them, and chaos (random_world_chaos.cc). Everything follows from the seed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actor.h"
#include "fake_postgres.h"
#include "freshness/join.h"
#include "judge.h"
#include "manual_loop.h"
#include "memory_stream.h"
#include "proxy_node.h"

namespace pgfresh::sim {

// What is broken on purpose, to see whether the judge finds it.
enum class Fault : uint8_t {
  kNone,
  kNoNotices,        // triggers send no in-band notice: rule 4 has nothing to open
  kNoNotifications,  // triggers send no NOTIFY
  kSettleEarly,      // slots are closed at the end of the transaction
  kLongLease,        // the lease is many times what was promised
  kKeepEvents,       // carried events are not published
  kVouchUnheard,     // what a session may have committed unheard is vouched for
  kBlindLooks,       // whoever waits to hear of a commit is told that it has not happened yet
  kDeadBeats,        // dead publishers go on beating, so that nobody notices
  kCarryForEver,     // sessions carry without a carry lease
  kStampIgnored,     // entries of the second level are taken for what was asked for
  kStampLate,        // their stamps are taken when they are put
  kQuietCascade,     // what triggers write into other tables has no notice
  kFeedOutlives,     // feeds notice nothing of a crash, so what it loses is remembered
  kOldMaps,          // who joins is given tokens of an earlier place in the stream
};

class RandomWorld {
 public:
  static constexpr int64_t kStalenessMs = 60;

  RandomWorld(uint64_t seed, Fault fault);
  ~RandomWorld();
  RandomWorld(const RandomWorld&) = delete;
  RandomWorld& operator=(const RandomWorld&) = delete;

  // Stops early when the judge has found something.
  void run(uint64_t steps);
  // Heals everything, lets the actors finish, and compares every row with the truth.
  void finish();

  [[nodiscard]] const Judge& judge() const { return judge_; }
  // Adds what happened here, by name.
  void add_coverage(std::map<std::string, uint64_t>& coverage) const;

 private:
  struct Later {
    int64_t due_ns = 0;
    std::function<void()> task;
  };

  [[nodiscard]] std::unique_ptr<ProxyNode> make_proxy();
  void add_actors();
  [[nodiscard]] std::unique_ptr<Stream> connect(int proxy);
  void act();
  void disturb();
  void disturb_pipe();
  void disturb_feed();
  void disturb_server();
  void crash();
  void disturb_commits();
  void commit_late();
  void speak_late();
  void freeze_somebody();
  void forge();
  [[nodiscard]] uint64_t happened_of(const std::string& what) const;
  void kill_somebody();
  void kill_everybody();
  void disturb_redis();
  void lie();
  void give_old_maps();
  [[nodiscard]] bool somebody_has_events() const;
  void later(int64_t after_ms, std::function<void()> task);
  void do_what_is_due(int64_t now_ns);
  void read_all(size_t proxy);
  // Mostly a few milliseconds, sometimes longer than the staleness bound.
  [[nodiscard]] int64_t some_ms(bool long_too = true);

  Random random_;
  const Fault fault_;
  const uint64_t writers_rest_;  // a writer acts once in so many times
  const uint64_t calm_;          // so many times in ten nothing is disturbed
  const bool schema_changes_;
  const bool kills_;
  const uint64_t publishing_;  // which proxies do
  ManualTime time_;
  ManualLoop client_loop_{time_};
  ManualLoop server_loop_{time_};
  FakePostgres postgres_{server_loop_};
  Random redis_random_;   // its own, so that runs without Redis are what they were
  Random commit_random_;  // the same, for what is done to commits
  const bool asynchronous_;
  const bool mirror_;
  std::unique_ptr<ManualLoop> redis_loop_;
  std::unique_ptr<FakeRedis> redis_;  // null: there is none
  bool few_slots_fleet_ = false;
  std::map<uint64_t, freshness::SlotMap> old_maps_;  // by base
  std::string last_nonce_;
  std::vector<std::unique_ptr<ProxyNode>> proxies_;
  std::vector<std::unique_ptr<ProxyNode>> dead_;
  Judge judge_;
  std::vector<std::weak_ptr<MemoryPipe>> pipes_;
  std::vector<std::unique_ptr<Actor>> actors_;
  std::vector<Later> later_;
  std::map<std::string, uint64_t> happened_;
  bool few_slots_ = false;
  int64_t feed_held_until_ns_ = 0;
};

}  // namespace pgfresh::sim
