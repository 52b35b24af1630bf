#include "app/worker_thread.h"

#include <pthread.h>

#include "base/check.h"

namespace pgfresh::app {
namespace {

// libpg_query recurses: about 64 KB of flat SQL overflow 8 MB. 16 KB of text on 256 MB of address
// space (touched only as far as used) leave a factor of a hundred.
constexpr size_t kStackBytes = size_t{256} * 1024 * 1024;

// Console sessions of one worker; more are refused.
constexpr size_t kConsolesMax = 100;

// std::thread has no way to ask for a stack; the default attributes of the process have.
void set_default_stack() {
  pthread_attr_t attributes;
  PGFRESH_CHECK(pthread_attr_init(&attributes) == 0);
  PGFRESH_CHECK(pthread_attr_setstacksize(&attributes, kStackBytes) == 0);
  PGFRESH_CHECK(pthread_setattr_default_np(&attributes) == 0);
  PGFRESH_CHECK(pthread_attr_destroy(&attributes) == 0);
}

}  // namespace

WorkerThread::WorkerThread(std::shared_ptr<const net::Upstream> upstream, const RedisSetup& redis,
                           proxy::Shared& shared, proxy::SettingsRef settings, ConsoleSetup console)
    : shared_(shared),
      connector_(loop_, std::move(upstream)),
      console_setup_(std::move(console)),
      backend_(console_setup_.make_backend(loop_)),
      redis_(redis.way ? std::make_unique<RedisLevel>(loop_, redis) : nullptr),
      worker_(std::make_unique<proxy::Worker>(
          loop_, connector_, shared, std::move(settings),
          [this](proxy::ConsoleClient client) { adopt_console(std::move(client)); })) {
  if (redis_) worker_->set_remote({&redis_->store(), unix_ms});
}

WorkerThread::~WorkerThread() { PGFRESH_CHECK(!thread_.joinable()); }

void WorkerThread::start() {
  set_default_stack();
  if (redis_) loop_.post([this] { redis_->start(); });
  thread_ = std::thread([this] { loop_.run(); });
}

void WorkerThread::finish() {
  if (!thread_.joinable()) return;
  loop_.post([this] {
    worker_->stop();
    if (redis_) redis_->stop();
    for (auto& [id, session] : consoles_) {
      session->stop("57P01", "terminating connection due to administrator command");
    }
    loop_.defer([this] {
      consoles_.clear();
      loop_.stop();
    });
  });
  thread_.join();
}

void WorkerThread::accept(int fd, net::SocketKind kind) {
  std::unique_ptr<Stream> stream = net::UvStream::adopt(loop_, fd, kind);
  if (stream && worker_) worker_->accept(std::move(stream));
}

std::vector<proxy::SessionInfo> WorkerThread::sessions() const {
  std::vector<proxy::SessionInfo> infos = worker_->sessions();
  for (const auto& [id, console] : consoles_) {
    proxy::SessionInfo info;
    info.id = id;
    info.user = console->user();
    info.database = "pgfresh";
    info.application = console->application_name();
    info.state = console->state_name();
    info.peer = console->stream().peer();
    info.connected_ns = console->connected_ns();
    info.active_ns = console->active_ns();
    info.queries = console->queries();
    infos.push_back(std::move(info));
  }
  return infos;
}

bool WorkerThread::kill(uint64_t session) {
  const auto console = consoles_.find(session);
  if (console == consoles_.end()) return worker_->kill(session);
  console->second->stop("57P01", "terminating connection due to administrator command");
  return true;
}

void WorkerThread::adopt_console(proxy::ConsoleClient client) {
  if (consoles_.size() >= kConsolesMax) {
    std::string message;
    wire::write_error(message, wire::Severity::kFatal, "53300", "too many console sessions");
    const Slice slice{message, nullptr};
    client.stream->write({&slice, 1});
    // The stream's event may be on the stack: it goes at the end of this turn.
    auto gone = std::make_shared<std::unique_ptr<Stream>>(std::move(client.stream));
    loop_.defer([gone] { gone->reset(); });
    return;
  }
  // Numbers of clients and consoles come from one counter: KILL takes either.
  const uint64_t id = shared_.next_session.fetch_add(1, std::memory_order_relaxed);
  auto session = std::make_unique<console::ConsoleSession>(
      loop_, std::move(client.stream), client.startup, std::move(client.unread), *backend_,
      console_setup_.access(), console_setup_.session_options(),
      [this, id](std::string_view) { loop_.defer([this, id] { consoles_.erase(id); }); });
  console::ConsoleSession& started = *session;
  consoles_.emplace(id, std::move(session));
  started.start();
}

}  // namespace pgfresh::app
