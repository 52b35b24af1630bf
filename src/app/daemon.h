// The running daemon: control loop, workers, listeners, feeds; wired here, by constructors.
//
// Threads: the control loop runs on the thread that calls run(); each worker has one. The console
// and the metrics page ask workers through gather_sessions() and read counters, which are atomics.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/domains.h"
#include "app/http.h"
#include "app/options.h"
#include "app/query_report.h"
#include "app/redis_level.h"
#include "app/visits.h"
#include "app/worker_thread.h"
#include "cache/flights.h"
#include "cache/memory_store.h"
#include "console/tables.h"
#include "net/listener.h"
#include "net/pg_client.h"
#include "net/signals.h"
#include "net/uv_loop.h"
#include "pgfresh/log.h"

namespace pgfresh::app {

class Daemon {
 public:
  // `reread`: reads the configuration again (SIGHUP, RELOAD); its error is one line.
  using Reread = std::function<tl::expected<Options, std::string>()>;

  struct Ways {
    std::shared_ptr<const net::Upstream> postgres;
    std::shared_ptr<const net::Upstream> redis;  // null: there is none
  };

  Daemon(Options options, Ways ways, Log& log, Reread reread);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Opens listeners and starts the workers. Empty, or why it cannot.
  [[nodiscard]] std::string start();
  // Until a signal or the console ends it; the exit status.
  [[nodiscard]] int run();

  // ── For the console and the metrics page ──
  // Any thread; `done` runs on the control loop.
  void gather_sessions(std::function<void(std::vector<proxy::SessionInfo>)> done);
  void gather_queries(std::function<void(QuerySums)> done);
  void gather_redis(std::function<void(std::vector<console::RedisRow>)> done);
  // Any thread; `done` runs on the control loop. Empty text: no such session.
  void kill_session(uint64_t session, std::function<void(bool found)> done);
  // Control loop only. `error`: empty, or what is wrong with the new configuration; then nothing
  // has changed. Options that differ and need a restart are named.
  struct Reloaded {
    std::string error;
    std::vector<std::string> needing_restart;
  };
  [[nodiscard]] Reloaded reload();
  void set_cache_mode(proxy::CacheMode mode);
  enum class Ending : uint8_t { kDrain, kNow };
  void end(Ending ending);
  [[nodiscard]] console::CounterTotals totals() const;  // any thread
  [[nodiscard]] Domains& domains() { return *domains_; }
  [[nodiscard]] Visits& visits() { return visits_; }
  [[nodiscard]] const proxy::ScopeTable& scopes() const { return scopes_; }
  [[nodiscard]] std::string server_name() const;  // host and port of PostgreSQL
  [[nodiscard]] cache::MemoryStore& store() { return store_; }
  // Control loop only; null: there is no Redis.
  [[nodiscard]] RedisLevel* redis() { return redis_.get(); }
  [[nodiscard]] net::UvLoop& control() { return control_; }
  [[nodiscard]] const std::string& control_user() const { return upstream_->target.user; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] proxy::CacheMode cache_mode() const { return cache_mode_.load(); }
  [[nodiscard]] uint64_t clients() const { return shared_.clients.load(); }
  [[nodiscard]] int64_t unix_seconds_at(int64_t loop_ns) const;
  // What the loops' clock lacks to the time of day.
  [[nodiscard]] int64_t unix_offset_ns() const;

 private:
  [[nodiscard]] std::string open_listeners();
  [[nodiscard]] std::string open_http();
  void apply(const Options& options);
  void publish_settings();
  // `done` runs on the control loop.
  template <typename Share>
  void ask_workers(std::function<Share(WorkerThread&)> ask,
                   std::function<void(std::vector<Share>)> done);
  [[nodiscard]] RedisSetup control_setup() const;
  [[nodiscard]] std::string read_certificates();
  void look();
  void catch_signal(int number);
  void say_farewell();
  [[nodiscard]] std::vector<freshness::FeedStatus> ask_feeds();
  [[nodiscard]] std::vector<console::RedisRow> ask_redis();
  [[nodiscard]] std::string metrics_page();
  [[nodiscard]] Readiness readiness();

  // Constant after construction.
  Log& log_;
  const Reread reread_;
  const std::shared_ptr<const net::Upstream> upstream_;

  net::UvLoop control_;
  net::PgClientFactory control_clients_;
  net::UpstreamConnector prober_;  // goes the way that clients' connections go
  cache::MemoryStore store_;
  cache::Flights flights_;
  proxy::ScopeTable scopes_;
  proxy::CancelRegistry cancels_;
  std::unique_ptr<RedisLevel> redis_;  // the control loop's; null: there is none
  std::unique_ptr<Domains> domains_;
  Visits visits_;
  proxy::Shared shared_;
  std::vector<std::unique_ptr<WorkerThread>> workers_;
  std::unique_ptr<net::Listener> listener_;
  std::unique_ptr<net::Signals> signals_;
  std::unique_ptr<HttpServer> http_;

  // Control loop only.
  Options options_;
  RedisSetup redis_setup_;
  size_t draining_workers_ = 0;
  uint64_t pauses_seen_ = 0;  // of the listener, at the last look
  std::unique_ptr<Timer> farewell_timer_;
  std::unique_ptr<Timer> look_timer_;
  std::unique_ptr<PendingConnect> probe_;  // null: none is under way
  int exit_status_ = 0;

  // Shared.
  std::atomic<proxy::CacheMode> cache_mode_;
  proxy::CacheMode configured_cache_mode_;  // as the options were read last
  std::atomic<int64_t> login_ms_max_;       // of console sessions, which workers make
  std::atomic<bool> ending_{false};
  std::shared_ptr<const console::Access> access_;  // by atomic_load, atomic_store
};

}  // namespace pgfresh::app
