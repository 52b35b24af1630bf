#include "app/daemon.h"

#include <openssl/rand.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <future>
#include <thread>
#include <utility>

#include "app/console_backend.h"
#include "app/metrics.h"
#include "app/version.h"
#include "base/check.h"

namespace pgfresh::app {
namespace {

constexpr size_t kStoreShards = 64;
constexpr size_t kFlightShards = 64;
// How long a page waits for the control loop before it says nothing of the feeds.
constexpr std::chrono::seconds kControlPatience{1};
// How long the feeds may take to publish what is left when the daemon ends.
constexpr int64_t kFarewellMsMax = 1000;
// Each database is looked at so often: whether it is used, and what became of its feed.
constexpr int64_t kLookMs = 1000;

std::string random_bytes(size_t size) {
  std::string bytes(size, '\0');
  PGFRESH_CHECK(
      RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size)) == 1);
  return bytes;
}

// Cryptographic, because cancel keys come from it; buffered, so that a TTL's jitter is cheap.
uint64_t random64() {
  thread_local std::array<uint64_t, 64> buffer;
  thread_local size_t left = 0;
  if (left == 0) {
    PGFRESH_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(buffer.data()), sizeof buffer) == 1);
    left = buffer.size();
  }
  return buffer[--left];
}

// Two descriptors a client, one each side; as many as the system lets us have.
void raise_descriptor_limit(int64_t clients_max, Log& log) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  const int64_t wanted = 2 * clients_max;
  if (limit.rlim_cur == RLIM_INFINITY || static_cast<int64_t>(limit.rlim_cur) >= wanted) return;
  log.event(LogLevel::kWarn, "too_few_descriptors",
            {{"limit", std::to_string(limit.rlim_cur)},
             {"wanted", std::to_string(wanted)},
             {"why",
              "limits.clients, each with a connection to PostgreSQL: ulimit -n, or "
              "LimitNOFILE= of the service"}});
}

size_t worker_count(const Options& options) {
  if (options.workers > 0) return static_cast<size_t>(options.workers);
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

Daemon::Daemon(Options options, Ways ways, Log& log, Reread reread)
    : log_(log),
      reread_(std::move(reread)),
      upstream_(std::move(ways.postgres)),
      control_clients_(control_, upstream_),
      prober_(control_, upstream_),
      store_(options.cache_bytes, kStoreShards),
      flights_(kFlightShards),
      domains_(std::make_unique<Domains>(control_, control_clients_, store_, options.slots_log2,
                                         options.feed, random64)),
      visits_(control_, control_clients_),
      shared_{store_,
              flights_,
              scopes_,
              cancels_,
              log_,
              [this](const std::string& database) { return domains_->get(database); },
              [this](const std::string& database) { domains_->vacate(database); },
              random64},
      options_(std::move(options)),
      redis_setup_{std::move(ways.redis), {}, random64, &log},
      cache_mode_(options_.session.cache_mode),
      configured_cache_mode_(options_.session.cache_mode),
      login_ms_max_(options_.session.login_ms_max) {
  if (redis_setup_.way) {
    redis_setup_.store = redis_store_options(options_);
    redis_ = std::make_unique<RedisLevel>(control_, control_setup());
    domains_->set_fleet(&redis_->store(), &redis_->store());
  }
  std::atomic_store(&access_, std::make_shared<const console::Access>(make_access(
                                  options_, static_cast<int>(getuid()), random_bytes(32))));
}

Daemon::~Daemon() {
  for (auto& worker : workers_) worker->finish();
}

std::string Daemon::start() {
  raise_descriptor_limit(options_.session.clients_max, log_);
  const ConsoleSetup console{
      [this] { return std::atomic_load(&access_); },
      [this](Loop& home) { return std::make_unique<ConsoleBackend>(*this, home); },
      [this] {
        console::SessionOptions session;
        session.version = kVersion;
        session.pid = static_cast<uint32_t>(random64() >> 33);
        session.secret = static_cast<uint32_t>(random64());
        session.login_ms_max = login_ms_max_;
        session.random_bytes = random_bytes;
        session.audit = [this](const console::AuditRecord& record) {
          log_.event(LogLevel::kInfo, "console_command",
                     {{"user", record.user},
                      {"peer", record.peer},
                      {"action", record.action},
                      {"result", record.result}});
        };
        return session;
      }};
  const auto settings = std::make_shared<const proxy::Settings>(options_.session);
  for (size_t i = 0; i < worker_count(options_); ++i) {
    workers_.push_back(
        std::make_unique<WorkerThread>(upstream_, redis_setup_, shared_, settings, console));
  }
  // Whoever sees us listen may send one: it is taken when the loop runs.
  signals_ = std::make_unique<net::Signals>(
      control_, std::initializer_list<int>{SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2},
      [this](int number) { catch_signal(number); });
  for (std::string error : {open_listeners(), open_http()}) {
    if (!error.empty()) return error;
  }
  for (auto& worker : workers_) worker->start();
  if (redis_) redis_->start();
  // The database of the upstream URL is wanted for sure: its feed need not wait for a session.
  const std::string& database = upstream_->target.database;
  domains_->keep(database.empty() ? upstream_->target.user : database);
  look_timer_ = control_.every(kLookMs, [this] { look(); });
  for (const std::string& address : listener_->addresses()) {
    log_.event(LogLevel::kInfo, "listening", {{"address", address}});
  }
  if (http_) log_.event(LogLevel::kInfo, "pages", {{"address", options_.listen_http}});
  if (options_.listen_unix.empty() && !options_.unix_unwanted) {
    log_.event(LogLevel::kInfo, "no_unix_socket",
               {{"why", "listen.unix names no directory that may be written"}});
  }
  return {};
}

std::string Daemon::open_listeners() {
  std::vector<net::UvLoop*> loops;
  for (auto& worker : workers_) loops.push_back(&worker->loop());
  listener_ = std::make_unique<net::Listener>(
      control_, loops, [this](net::UvLoop& loop, int fd, net::SocketKind kind) {
        for (auto& worker : workers_) {
          if (&worker->loop() == &loop) {
            worker->accept(fd, kind);
            return;
          }
        }
        ::close(fd);
      });
  for (const int fd : net::inherited_sockets()) {
    if (std::string error = listener_->listen_inherited(fd); !error.empty()) return error;
  }
  if (!listener_->addresses().empty()) return {};  // socket activation replaces listen.*
  for (const std::string& address : options_.listen_tcp) {
    if (std::string error = listener_->listen_tcp(address); !error.empty()) return error;
  }
  if (!options_.listen_unix.empty()) {
    if (std::string error = listener_->listen_unix(options_.listen_unix, options_.unix_port());
        !error.empty()) {
      return error;
    }
  }
  return {};
}

std::string Daemon::open_http() {
  if (options_.listen_http.empty()) return {};
  http_ = std::make_unique<HttpServer>([this] { return metrics_page(); },
                                       [this] { return readiness(); });
  return http_->listen(options_.listen_http);
}

int Daemon::run() {
  control_.run();
  listener_.reset();
  http_.reset();
  signals_.reset();
  farewell_timer_.reset();
  look_timer_.reset();
  probe_.reset();
  for (auto& worker : workers_) worker->finish();
  visits_.close();
  domains_->close();
  if (redis_) redis_->stop();
  // Handles that were closed just now are freed by one more turn of the loop.
  log_.event(LogLevel::kInfo, "stopped", {});
  return exit_status_;
}

// Whom nobody could reach is tried until somebody can: a balancer that heard of it sends no
// clients.
void Daemon::look() {
  domains_->look(log_);
  const uint64_t pauses = listener_->pauses();
  if (std::exchange(pauses_seen_, pauses) != pauses) {
    log_.event(LogLevel::kError, "accept_paused",
               {{"times", std::to_string(pauses)},
                {"clients", std::to_string(clients())},
                {"why", "no descriptors or no memory left; clients wait for their connection"}});
  }
  if (!shared_.unreachable || probe_) return;
  probe_ = prober_.connect([this](const std::unique_ptr<Stream>& stream, const std::string&) {
    if (stream) shared_.unreachable = false;
    // The attempt cannot be destroyed from inside its own callback.
    control_.defer([this] { probe_.reset(); });
  });
}

void Daemon::catch_signal(int number) {
  if (number == SIGUSR1 || number == SIGUSR2) {
    log_.event(LogLevel::kWarn, "signal_ignored",
               {{"number", std::to_string(number)}, {"known", "HUP reload, TERM drain, INT stop"}});
    return;
  }
  if (number == SIGHUP) {
    const Reloaded reloaded = reload();
    if (!reloaded.error.empty()) {
      log_.event(LogLevel::kError, "reload_refused", {{"error", reloaded.error}});
    }
    return;
  }
  end(number == SIGINT ? Ending::kNow : Ending::kDrain);
}

void Daemon::end(Ending ending) {
  const bool again = ending_.exchange(true);
  if (ending == Ending::kNow || workers_.empty()) {
    control_.stop();
    return;
  }
  if (again) return;
  log_.event(LogLevel::kInfo, "draining", {{"clients", std::to_string(clients())}});
  listener_->close();
  draining_workers_ = workers_.size();
  for (auto& worker : workers_) {
    WorkerThread* thread = worker.get();
    thread->loop().post([this, thread] {
      thread->worker().drain([this] {
        control_.post([this] {
          if (--draining_workers_ == 0) say_farewell();
        });
      });
    });
  }
}

// What the last sessions wrote is published before the daemon ends; other proxies would find out
// by its silence, and forget everything.
void Daemon::say_farewell() {
  farewell_timer_ = control_.after(kFarewellMsMax, [this] { control_.stop(); });
  domains_->leave([this] { control_.stop(); });
}

// ── Reload ───────────────────────────────────────────────────────────────────────────────────────

Daemon::Reloaded Daemon::reload() {
  if (const std::string error = log_.reopen(); !error.empty()) {
    log_.event(LogLevel::kError, "log_not_reopened", {{"error", error}});
  }
  tl::expected<Options, std::string> fresh = reread_();
  if (!fresh) return {fresh.error(), {}};
  if (std::string error = read_certificates(); !error.empty()) return {std::move(error), {}};
  Reloaded reloaded{{}, options_.needing_restart(*fresh)};
  // What SET CACHE said stays, unless the file says something new.
  if (std::exchange(configured_cache_mode_, fresh->session.cache_mode) ==
      fresh->session.cache_mode) {
    fresh->session.cache_mode = cache_mode_;
  }
  options_.take_reloadable(*fresh);
  cache_mode_ = options_.session.cache_mode;
  login_ms_max_ = options_.session.login_ms_max;
  std::atomic_store(&access_, std::make_shared<const console::Access>(make_access(
                                  options_, static_cast<int>(getuid()), random_bytes(32))));
  store_.set_bytes_max(options_.cache_bytes);
  log_.set_level(options_.log_level);
  domains_->set_options(options_.feed);
  publish_settings();
  log_.event(LogLevel::kInfo, "reloaded", {});
  for (const std::string& name : reloaded.needing_restart) {
    log_.event(LogLevel::kWarn, "reload_needs_restart", {{"option", name}});
  }
  return reloaded;
}

// Where they lie is said at the start; what they are changes without us, by whoever renews them.
// (libpq reads them for each connection.) Empty, or what is wrong, and then all is as it was.
std::string Daemon::read_certificates() {
  auto upstream = net::Upstream::open(options_.upstream_url);
  if (!upstream) return "upstream.url: " + upstream.error();
  auto redis = open_redis(options_);
  if (!redis) return "redis.url: " + redis.error();
  prober_.set_upstream(*upstream);
  if (redis_) redis_->set_way(*redis);
  for (auto& worker : workers_) {
    WorkerThread* thread = worker.get();
    thread->loop().post([thread, upstream = *upstream, redis = *redis] {
      thread->set_upstream(upstream);
      if (thread->redis() != nullptr) thread->redis()->set_way(redis);
    });
  }
  return {};
}

// No request waits for what the control loop asks of Redis, and a map of slots is long.
RedisSetup Daemon::control_setup() const {
  constexpr int64_t kControlBudgetMs = 500;
  RedisSetup setup = redis_setup_;
  setup.store.client.budget_ms = std::max(setup.store.client.budget_ms, kControlBudgetMs);
  return setup;
}

void Daemon::set_cache_mode(proxy::CacheMode mode) {
  cache_mode_ = mode;
  options_.session.cache_mode = mode;
  publish_settings();
}

void Daemon::publish_settings() {
  const auto settings = std::make_shared<const proxy::Settings>(options_.session);
  if (redis_) redis_setup_.store = redis_store_options(options_);
  if (redis_) redis_->set_options(control_setup().store);
  for (auto& worker : workers_) {
    WorkerThread* thread = worker.get();
    thread->loop().post([thread, settings, redis = redis_setup_.store] {
      thread->worker().set_settings(settings);
      if (thread->redis() != nullptr) thread->redis()->set_options(redis);
    });
  }
}

// ── Questions ────────────────────────────────────────────────────────────────────────────────────

// One share for each worker, in their order.
template <typename Share>
void Daemon::ask_workers(std::function<Share(WorkerThread&)> ask,
                         std::function<void(std::vector<Share>)> done) {
  struct Asking {
    std::vector<Share> shares;
    size_t missing = 0;
    std::function<void(std::vector<Share>)> done;
  };
  auto asking = std::make_shared<Asking>();
  asking->shares.resize(workers_.size());
  asking->missing = workers_.size();
  asking->done = std::move(done);
  for (size_t i = 0; i < workers_.size(); ++i) {
    WorkerThread* thread = workers_[i].get();
    thread->loop().post([this, thread, asking, ask, i] {
      control_.post([asking, i, share = std::make_shared<Share>(ask(*thread))] {
        asking->shares[i] = std::move(*share);
        if (--asking->missing == 0) asking->done(std::move(asking->shares));
      });
    });
  }
}

void Daemon::gather_sessions(std::function<void(std::vector<proxy::SessionInfo>)> done) {
  using Share = std::vector<proxy::SessionInfo>;
  ask_workers<Share>([](WorkerThread& thread) { return thread.sessions(); },
                     [done = std::move(done)](const std::vector<Share>& shares) {
                       Share all;
                       for (const Share& each : shares) {
                         all.insert(all.end(), each.begin(), each.end());
                       }
                       done(std::move(all));
                     });
}

void Daemon::gather_queries(std::function<void(QuerySums)> done) {
  ask_workers<QueryShare>(
      [](WorkerThread& thread) {
        const proxy::QueryStats& stats = thread.worker().query_stats();
        return QueryShare{stats.all(), stats.dropped_queries(), stats.dropped()};
      },
      [done = std::move(done)](const std::vector<QueryShare>& shares) {
        done(sum_queries(shares));
      });
}

void Daemon::gather_redis(std::function<void(std::vector<console::RedisRow>)> done) {
  if (!redis_) return control_.post([done = std::move(done)] { done({}); });
  ask_workers<console::RedisRow>(
      [](WorkerThread& thread) { return thread.redis()->row({}, &thread.counters()); },
      [this, done = std::move(done)](std::vector<console::RedisRow> rows) {
        for (size_t i = 0; i < rows.size(); ++i) rows[i].loop = "worker " + std::to_string(i);
        rows.push_back(redis_->row("control", nullptr));
        done(std::move(rows));
      });
}

void Daemon::kill_session(uint64_t session, std::function<void(bool)> done) {
  ask_workers<bool>([session](WorkerThread& thread) { return thread.kill(session); },
                    [done = std::move(done)](const std::vector<bool>& found) {
                      done(std::find(found.begin(), found.end(), true) != found.end());
                    });
}

std::string Daemon::server_name() const {
  const net::UpstreamTarget& target = upstream_->target;
  return target.host + (target.is_unix() ? " port " : ":") + std::to_string(target.port);
}

console::CounterTotals Daemon::totals() const {
  console::CounterTotals totals;
  for (const auto& worker : workers_) {
    totals.add(worker->counters());
    if (worker->redis() != nullptr) totals.add(worker->redis()->counters());
  }
  if (redis_) totals.add(redis_->counters());
  return totals;
}

int64_t Daemon::unix_seconds_at(int64_t loop_ns) const {
  return (loop_ns + unix_offset_ns()) / kNsPerSecond;
}

int64_t Daemon::unix_offset_ns() const {
  return static_cast<int64_t>(std::time(nullptr)) * kNsPerSecond - control_.clock().now_ns();
}

// The page server has threads of its own; the feeds belong to the control loop.
std::vector<freshness::FeedStatus> Daemon::ask_feeds() {
  auto promise = std::make_shared<std::promise<std::vector<freshness::FeedStatus>>>();
  std::future<std::vector<freshness::FeedStatus>> answer = promise->get_future();
  control_.post([this, promise] { promise->set_value(domains_->status()); });
  if (answer.wait_for(kControlPatience) != std::future_status::ready) return {};
  try {
    return answer.get();
  } catch (const std::future_error&) {
    return {};  // the loop has stopped
  }
}

std::vector<console::RedisRow> Daemon::ask_redis() {
  if (!redis_) return {};
  auto promise = std::make_shared<std::promise<std::vector<console::RedisRow>>>();
  std::future<std::vector<console::RedisRow>> answer = promise->get_future();
  gather_redis(
      [promise](std::vector<console::RedisRow> rows) { promise->set_value(std::move(rows)); });
  if (answer.wait_for(kControlPatience) != std::future_status::ready) return {};
  try {
    return answer.get();
  } catch (const std::future_error&) {
    return {};  // a loop has stopped
  }
}

std::string Daemon::metrics_page() {
  MetricsInput input;
  input.totals = totals();
  input.store = store_.stats();
  input.feeds = ask_feeds();
  input.redis = ask_redis();
  input.clients = clients();
  return render_metrics(input);
}

Readiness Daemon::readiness() {
  Readiness readiness;
  readiness.feeds = ask_feeds();
  // A lease is word from PostgreSQL, not older than the staleness.
  const bool heard =
      std::any_of(readiness.feeds.begin(), readiness.feeds.end(),
                  [](const freshness::FeedStatus& feed) { return feed.lease_left_ms > 0; });
  // But it came on a connection that has been there: clients make new ones, on another way.
  readiness.postgres =
      !shared_.unreachable && (heard || (!ending_ && net::accepts_connections(*upstream_)));
  readiness.ready = !ending_ && readiness.postgres;
  return readiness;
}

}  // namespace pgfresh::app
