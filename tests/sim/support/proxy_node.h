// One pgfresh process in the simulation: a worker and a control loop, its own cache, domain and
// feed, in front of a model PostgreSQL. Everything src/app would wire, without a socket.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache/flights.h"
#include "cache/memory_store.h"
#include "fake_postgres.h"
#include "fake_redis.h"
#include "freshness/domain.h"
#include "freshness/feed.h"
#include "manual_loop.h"
#include "memory_stream.h"
#include "pgfresh/log.h"
#include "proxy/worker.h"

namespace pgfresh::sim {

// A generator of our own (splitmix64): the same numbers everywhere, for any standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  [[nodiscard]] uint64_t next();
  // 0 … count-1. REQUIRES: count > 0.
  [[nodiscard]] uint64_t below(uint64_t count) { return next() % count; }
  [[nodiscard]] bool one_in(uint64_t count) { return below(count) == 0; }

 private:
  uint64_t state_;
};

class QuietLog final : public Log {
 public:
  [[nodiscard]] bool enabled(LogLevel /*level*/) const override { return false; }
  void event(LogLevel /*level*/, std::string_view /*noun*/,
             std::initializer_list<LogField> /*fields*/) override {}
};

// What a test may break on purpose, to see that the judge finds it.
enum class Sabotage : uint8_t {
  kNone,
  kSettleEarly,   // slots are closed when the transaction has ended, not when it is settled
  kKeepEvents,    // carried events are not published
  kVouchUnheard,  // what a session may have committed unheard is vouched for
  kStampLate,     // what is put into the second level has the stamp of that moment
};

struct NodeOptions {
  freshness::FeedOptions feed;
  proxy::Settings settings;
  int slot_bits = 10;
  bool free_on_event = true;  // rule 9: remove what an event killed at once
  Sabotage sabotage = Sabotage::kNone;
  FakeRedis* redis = nullptr;  // the second level, if there is one
};

class ProxyNode {
 public:
  ProxyNode(ManualTime& time, FakePostgres& server, NodeOptions options, uint64_t seed);
  ~ProxyNode();
  ProxyNode(const ProxyNode&) = delete;
  ProxyNode& operator=(const ProxyNode&) = delete;

  // A client's stream on `loop`, connected to the worker.
  [[nodiscard]] MemoryPair accept(Loop& loop);
  // The process gets no processor; the clock goes on.
  void freeze();
  void thaw();
  // The process is gone; what PostgreSQL and the clients find of it is a cut connection.
  void kill();

  [[nodiscard]] proxy::Worker& worker() { return *worker_; }
  [[nodiscard]] const Counters& counters() const { return worker_->counters(); }
  [[nodiscard]] uint64_t count(Counter counter) const { return counters().get(counter); }
  [[nodiscard]] uint64_t bypasses(Reason reason) const { return counters().bypasses(reason); }
  [[nodiscard]] freshness::Domain& domain() { return domain_; }
  [[nodiscard]] freshness::FeedStatus feed() const { return feed_->status(); }
  // As the console's FLUSH does when it cannot say what it flushes.
  void forget() { feed_->forget(); }
  // Null without a second level.
  [[nodiscard]] FakeRemote* remote() { return remote_.get(); }
  [[nodiscard]] ManualLoop& worker_loop() { return worker_loop_; }
  [[nodiscard]] ManualLoop& control_loop() { return control_loop_; }
  void set_settings(const proxy::Settings& settings);
  // What a restart does to memory, and nothing else.
  void clear_memory() { store_.clear(); }
  // Clients of the console's database.
  [[nodiscard]] std::vector<proxy::ConsoleClient>& consoles() { return consoles_; }

 private:
  class BadSettler;

  FakePostgres& server_;
  ManualLoop worker_loop_;
  ManualLoop control_loop_;
  Random random_;
  QuietLog log_;
  cache::MemoryStore store_;
  cache::Flights flights_;
  proxy::ScopeTable scopes_;
  proxy::CancelRegistry cancels_;
  std::unique_ptr<Connector> connector_;
  std::unique_ptr<SqlClientFactory> control_;
  std::unique_ptr<FakeRemote> control_remote_;
  freshness::Domain domain_;
  std::unique_ptr<freshness::Feed> feed_;
  std::unique_ptr<freshness::Settler> bad_;
  proxy::Shared shared_;
  std::vector<proxy::ConsoleClient> consoles_;
  std::vector<std::weak_ptr<MemoryPipe>> pipes_;
  bool dead_ = false;
  std::unique_ptr<FakeRemote> remote_;
  std::unique_ptr<proxy::Worker> worker_;
};

}  // namespace pgfresh::sim
