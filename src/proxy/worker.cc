#include "proxy/worker.h"

#include <utility>

#include "proxy/session.h"

namespace pgfresh::proxy {
namespace {

constexpr int64_t kSweepMs = 1000;
// Between two lines about a PostgreSQL that nobody reaches.
constexpr int64_t kUnreachableNs = 10 * kNsPerSecond;
// Connections beyond limits.clients that are heard, if only to be told that there are too many.
constexpr uint64_t kClientsSpare = 200;
// Cancel requests under way at once, and how long one may take once it is connected.
constexpr size_t kCancelsMax = 1000;
constexpr int64_t kCancelMs = 10'000;

// One cancel request on its way to PostgreSQL: connects, sends 16 bytes, and waits for the server
// to close, which is how it says that the signal has been sent.
class CancelCourier final : public PendingConnect, public Stream::Events {
 public:
  CancelCourier(Worker& worker, wire::BackendKey key, std::function<void()> done)
      : worker_(worker), key_(key), done_(std::move(done)) {
    connecting_ =
        worker_.connector().connect([this](std::unique_ptr<Stream> stream, const std::string&) {
          connected(std::move(stream));
        });
  }

  void on_bytes(std::string_view) override {}
  void on_drained() override {}
  void on_end(std::string_view) override { finished(); }

 private:
  void connected(std::unique_ptr<Stream> stream) {
    if (!stream) {
      finished();
      return;
    }
    stream_ = std::move(stream);
    stream_->start(this);
    patience_ = worker_.loop().after(kCancelMs, [this] { finished(); });
    std::string bytes;
    wire::write_cancel_request(bytes, key_.pid, key_.secret);
    const Slice slice{bytes, nullptr};
    stream_->write({&slice, 1});
  }
  void finished() {
    if (done_) std::exchange(done_, nullptr)();
  }

  Worker& worker_;
  wire::BackendKey key_;
  std::function<void()> done_;
  std::unique_ptr<PendingConnect> connecting_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Timer> patience_;
};

}  // namespace

// A server connection on its way out: sends what is queued, then closes. The stream bounds the
// time.
class Worker::Departure final : public Stream::Events {
 public:
  Departure(std::unique_ptr<ServerLink> link, std::function<void()> gone)
      : link_(std::move(link)), gone_(std::move(gone)) {
    link_->stream().start(this);
    link_->stream().resume();
    link_->stream().finish();
  }
  void on_bytes(std::string_view) override {}
  void on_drained() override {}
  void on_end(std::string_view) override { gone_(); }

 private:
  std::unique_ptr<ServerLink> link_;
  std::function<void()> gone_;
};

void Worker::see_off(std::unique_ptr<ServerLink> link) {
  link->stream().flush();
  if (link->stream().queued_bytes() == 0) {
    auto gone = std::make_shared<std::unique_ptr<ServerLink>>(std::move(link));
    loop_.defer([gone] { gone->reset(); });
    return;
  }
  const uint64_t number = next_number_++;
  departures_[number] = std::make_unique<Departure>(std::move(link), [this, number] {
    loop_.defer([this, number] { departures_.erase(number); });
  });
}

Worker::Worker(Loop& loop, Connector& connector, Shared& shared, SettingsRef settings,
               std::function<void(ConsoleClient)> console)
    : loop_(loop),
      connector_(connector),
      shared_(shared),
      settings_(std::move(settings)),
      console_(std::move(console)),
      memo_(counters_),
      unreachable_lines_(kUnreachableNs) {
  sweep_timer_ = loop_.every(kSweepMs, [this] { sweep(); });
}

Worker::~Worker() = default;

void Worker::accept(std::unique_ptr<Stream> stream) {
  counters_.add(Counter::kClientsAccepted);
  // Cancel requests and refusals need room beside the clients that are served.
  if (shared_.clients.load(std::memory_order_relaxed) >= settings_->clients_max + kClientsSpare) {
    counters_.add(Counter::kClientsRefused);
    return;
  }
  shared_.clients.fetch_add(1, std::memory_order_relaxed);
  const uint64_t id = shared_.next_session.fetch_add(1, std::memory_order_relaxed);
  auto session = std::make_unique<Session>(*this, id, std::move(stream));
  Session& started = *session;
  sessions_.emplace(id, std::move(session));
  started.start();
}

void Worker::note_reached(std::string_view why) {
  if (shared_.unreachable.load(std::memory_order_relaxed) == why.empty()) {
    shared_.unreachable = !why.empty();
  }
  if (why.empty() || !unreachable_lines_.admits(now_ns())) return;
  shared_.log.event(LogLevel::kWarn, "server_unreachable",
                    {{"why", std::string(why.substr(0, why.find('\n')))},
                     {"left_out", std::to_string(unreachable_lines_.left_out())}});
}

void Worker::remove(uint64_t session) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  // Its callback may be on the stack: it goes at the end of this turn.
  auto gone = std::make_shared<std::unique_ptr<Session>>(std::move(found->second));
  sessions_.erase(found);
  loop_.defer([this, gone] {
    gone->reset();
    if (draining_ && sessions_.empty() && drained_) std::exchange(drained_, nullptr)();
  });
}

Session* Worker::find(uint64_t session) {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second.get();
}

const query::Catalog* Worker::catalog(const freshness::Domain& domain) {
  std::shared_ptr<const query::Catalog>& known = catalogs_[&domain];
  const uint64_t generation = domain.catalog_generation();
  if (generation == 0) {
    known.reset();
  } else if (known == nullptr || known->generation() != generation) {
    known = domain.catalog();
  }
  return known.get();
}

void Worker::sweep() {
  const int64_t now_ns = loop_.clock().now_ns();
  std::vector<uint64_t> ids;
  ids.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) ids.push_back(id);
  for (const uint64_t id : ids) {
    Session* session = find(id);
    if (session == nullptr) continue;
    session->check_time(now_ns);
    if (!draining_) continue;
    // The kernel has the farewell of the last sweep: a client that does not read delays nothing.
    if (session->has_said_all()) {
      remove(id);
    } else {
      session->end_if_idle();
    }
  }
}

void Worker::drain(std::function<void()> done) {
  draining_ = true;
  drained_ = std::move(done);
  sweep();
  if (sessions_.empty() && drained_) {
    std::exchange(drained_, nullptr)();
    return;
  }
  // Idle sessions go at once, the others when their transaction ends.
  sweep_timer_ = loop_.every(50, [this] { sweep(); });
  drain_timer_ = loop_.after(settings_->drain_ms_max, [this] { stop(); });
}

void Worker::stop() {
  std::vector<uint64_t> ids;
  for (const auto& [id, session] : sessions_) ids.push_back(id);
  for (const uint64_t id : ids) {
    if (Session* session = find(id)) {
      session->end("57P01", "terminating connection due to administrator command");
      session->stop_hearing();
      remove(id);
    }
  }
}

bool Worker::kill(uint64_t session) {
  Session* found = find(session);
  if (found == nullptr) return false;
  // PostgreSQL does not notice in the middle of a statement that nobody waits for its answer.
  const bool asks = found->info().state == "active";
  const std::optional<wire::BackendKey> key = asks ? found->cancel_target() : std::nullopt;
  found->end("57P01", "terminating connection due to administrator command");
  if (key) send_cancel(*key, [] {});
  return true;
}

void Worker::cancel(uint64_t session, std::function<void()> done) {
  Session* found = find(session);
  if (found != nullptr && found->keep_cancel(done)) return;
  const std::optional<wire::BackendKey> key = found ? found->cancel_target() : std::nullopt;
  if (key) {
    send_cancel(*key, std::move(done));
  } else {
    done();
  }
}

void Worker::send_cancel(const wire::BackendKey& key, std::function<void()> done) {
  if (cancels_.size() >= kCancelsMax) {
    done();
    return;
  }
  const uint64_t id = next_number_++;
  cancels_[id] = std::make_unique<CancelCourier>(*this, key, [this, id, done = std::move(done)] {
    done();
    auto gone = std::make_shared<std::unique_ptr<PendingConnect>>(std::move(cancels_[id]));
    cancels_.erase(id);
    loop_.defer([gone] { gone->reset(); });
  });
}

std::vector<SessionInfo> Worker::sessions() const {
  std::vector<SessionInfo> infos;
  infos.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) infos.push_back(session->info());
  return infos;
}

}  // namespace pgfresh::proxy
