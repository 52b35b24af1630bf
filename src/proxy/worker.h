// One thread's share of the clients: its sessions, its statement memo, its counters. Everything
// here runs on the worker's loop unless it says "any thread".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/counters.h"
#include "base/throttle.h"
#include "cache/flights.h"
#include "cache/memory_store.h"
#include "freshness/domain.h"
#include "pgfresh/log.h"
#include "pgfresh/loop.h"
#include "pgfresh/remote_store.h"
#include "pgfresh/stream.h"
#include "proxy/cancel.h"
#include "proxy/fetch.h"
#include "proxy/memo.h"
#include "proxy/query_stats.h"
#include "proxy/scope.h"
#include "proxy/settings.h"
#include "wire/messages.h"

namespace pgfresh::proxy {

class Session;
class ServerLink;

// What all workers share. The referents outlive every worker; each is thread-safe.
struct Shared {
  cache::MemoryStore& store;
  cache::Flights& flights;
  ScopeTable& scopes;
  CancelRegistry& cancels;
  Log& log;
  // The domain of a database, made when it is not there; null when there are too many.
  std::function<freshness::Domain*(const std::string& database)> domain_of;
  // A client is about to ask for what PostgreSQL does only where nobody is connected.
  std::function<void(const std::string& database)> vacate;
  std::function<uint64_t()> random64;
  std::atomic<uint64_t> clients{0};  // connected, of all workers
  std::atomic<uint64_t> next_session{1};
  // The last attempt of anybody's to reach PostgreSQL came to nothing.
  std::atomic<bool> unreachable{false};
};

// A client that asked for the console's database: its stream, what it sent to begin with, and what
// has been read behind that.
struct ConsoleClient {
  std::unique_ptr<Stream> stream;
  wire::StartupMessage startup;
  std::string unread;
};

// One session as SHOW CLIENTS and SHOW SERVERS tell it.
struct SessionInfo {
  uint64_t id = 0;
  std::string user;
  std::string database;
  std::string application;
  std::string state;  // "login", "idle", "active", "idle in transaction", "waiting"
  std::string peer;
  int64_t connected_ns = 0;  // the loop's clock
  int64_t active_ns = 0;     // last message
  bool has_server = false;
  uint32_t server_pid = 0;
  std::string server_peer;
  bool server_encrypted = false;
  uint64_t hits = 0;
  uint64_t queries = 0;
  ScopeRef scope;  // null: not known
};

class Worker {
 public:
  // `console` takes over clients of the console's database; it is called on the worker's loop.
  Worker(Loop& loop, Connector& connector, Shared& shared, SettingsRef settings,
         std::function<void(ConsoleClient)> console);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // A new client; the stream is not started.
  void accept(std::unique_ptr<Stream> stream);

  // No new clients; sessions end when they are idle, the rest after settings().drain_ms_max.
  // `done` is called when the last is gone.
  void drain(std::function<void()> done);
  // Ends every session now.
  void stop();

  // The second level, for the fills and look-ups from now on. REQUIRES: before the first client;
  // `store` outlives the worker.
  struct Remote {
    RemoteStore* store = nullptr;        // null: there is none
    std::function<int64_t()> unix_ms{};  // the time of day
  };
  void set_remote(Remote remote) { remote_ = std::move(remote); }

  void set_settings(SettingsRef settings) { settings_ = std::move(settings); }
  // False when there is no such session here.
  bool kill(uint64_t session);
  // Passes a cancel request on to the session; `done` is called, on this loop, when PostgreSQL has
  // taken it or it has come to nothing.
  void cancel(uint64_t session, std::function<void()> done);
  // Asks PostgreSQL to cancel what the process with this key is at; `done` as above.
  void send_cancel(const wire::BackendKey& key, std::function<void()> done);
  [[nodiscard]] std::vector<SessionInfo> sessions() const;

  // For sessions.
  [[nodiscard]] Loop& loop() { return loop_; }
  [[nodiscard]] int64_t now_ns() const { return loop_.clock().now_ns(); }
  [[nodiscard]] Connector& connector() { return connector_; }
  [[nodiscard]] Shared& shared() { return shared_; }
  [[nodiscard]] const Settings& settings() const { return *settings_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }  // any thread
  [[nodiscard]] Memo& memo() { return memo_; }
  [[nodiscard]] QueryStats& query_stats() { return query_stats_; }
  [[nodiscard]] FetchPool& fetches() { return fetches_; }
  [[nodiscard]] ShapeMemo& shapes() { return shapes_; }
  [[nodiscard]] const Remote& remote() const { return remote_; }
  [[nodiscard]] bool draining() const { return draining_; }
  // What became of an attempt to reach PostgreSQL; `why` is empty where it was reached.
  void note_reached(std::string_view why);
  // The session is closed and will be destroyed at the end of this turn.
  void remove(uint64_t session);
  void hand_to_console(ConsoleClient client) { console_(std::move(client)); }
  // Keeps a server connection that no session wants any more until its last bytes have left.
  void see_off(std::unique_ptr<ServerLink> link);
  // The worker's own view of a domain's snapshot, fetched only when its generation changes.
  [[nodiscard]] const query::Catalog* catalog(const freshness::Domain& domain);
  // For a wake-up from another thread: null when the session is gone.
  [[nodiscard]] Session* find(uint64_t session);
  // A key buffer to build in, so that a look-up allocates nothing.
  [[nodiscard]] std::string& key_buffer() { return key_buffer_; }
  [[nodiscard]] std::vector<uint32_t>& slots_buffer() { return slots_buffer_; }

 private:
  void sweep();

  Loop& loop_;
  Connector& connector_;
  Shared& shared_;
  SettingsRef settings_;
  std::function<void(ConsoleClient)> console_;
  Remote remote_;
  Counters counters_;
  Memo memo_;
  QueryStats query_stats_;
  ShapeMemo shapes_;
  FetchPool fetches_;
  std::unordered_map<uint64_t, std::unique_ptr<Session>> sessions_;
  std::unordered_map<const freshness::Domain*, std::shared_ptr<const query::Catalog>> catalogs_;
  std::string key_buffer_;
  std::vector<uint32_t> slots_buffer_;
  Throttle unreachable_lines_;
  std::unique_ptr<Timer> sweep_timer_;
  std::unique_ptr<Timer> drain_timer_;
  bool draining_ = false;
  std::function<void()> drained_;
  class Departure;
  std::unordered_map<uint64_t, std::unique_ptr<PendingConnect>> cancels_;
  std::unordered_map<uint64_t, std::unique_ptr<Departure>> departures_;
  uint64_t next_number_ = 1;
};

}  // namespace pgfresh::proxy
