// A worker and the thread it lives on: its loop, its way to PostgreSQL, its console sessions.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "app/redis_level.h"
#include "console/console_session.h"
#include "net/connector.h"
#include "net/uv_loop.h"
#include "net/uv_stream.h"
#include "proxy/worker.h"

namespace pgfresh::app {

// What console sessions need; the same for all workers. `access` is swapped by a reload: sessions
// that are logging in see the new one.
struct ConsoleSetup {
  std::function<std::shared_ptr<const console::Access>()> access;
  std::function<std::unique_ptr<console::Backend>(Loop& home)> make_backend;
  std::function<console::SessionOptions()> session_options;
};

class WorkerThread {
 public:
  WorkerThread(std::shared_ptr<const net::Upstream> upstream, const RedisSetup& redis,
               proxy::Shared& shared, proxy::SettingsRef settings, ConsoleSetup console);
  // REQUIRES: finish() has been called, or start() never was.
  ~WorkerThread();

  void start();
  // Closes every session, ends the thread and waits for it.
  void finish();

  [[nodiscard]] net::UvLoop& loop() { return loop_; }
  // On the worker's loop only, but for what Worker calls "any thread".
  [[nodiscard]] proxy::Worker& worker() { return *worker_; }
  [[nodiscard]] const Counters& counters() const { return std::as_const(*worker_).counters(); }
  [[nodiscard]] RedisLevel* redis() { return redis_.get(); }  // null: there is none
  // The sessions of clients, those of the console among them.
  [[nodiscard]] std::vector<proxy::SessionInfo> sessions() const;
  // For the connections that are made from now on, as its certificates are now.
  void set_upstream(std::shared_ptr<const net::Upstream> upstream) {
    connector_.set_upstream(std::move(upstream));
  }
  // False when there is no such session here.
  bool kill(uint64_t session);
  // A client's socket, on the worker's loop.
  void accept(int fd, net::SocketKind kind);

 private:
  void adopt_console(proxy::ConsoleClient client);

  proxy::Shared& shared_;
  net::UvLoop loop_;
  net::UpstreamConnector connector_;
  ConsoleSetup console_setup_;
  std::unique_ptr<console::Backend> backend_;
  std::unique_ptr<RedisLevel> redis_;  // outlives the worker, whose sessions ask it
  std::unique_ptr<proxy::Worker> worker_;
  std::map<uint64_t, std::unique_ptr<console::ConsoleSession>> consoles_;
  std::thread thread_;
};

}  // namespace pgfresh::app
