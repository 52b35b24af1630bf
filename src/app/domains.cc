#include "app/domains.h"

#include <algorithm>
#include <utility>

namespace pgfresh::app {
namespace {

// Databases cached at once. Each has 12 bytes a slot: 2^20 slots are 12 MB, of which only what
// writes have touched is resident, and two control connections.
// One that has been cached keeps its place, for sessions that come back to it.
constexpr size_t kDomainsMax = 256;

// Between two lines about databases that there is no place for.
constexpr int64_t kRefusalPauseNs = 60 * kNsPerSecond;

// freshness.idle_timeout at most, where pgfresh is not installed.
constexpr int64_t kBareIdleMs = 1000;

// As long as PostgreSQL waits for others to leave, and a bit.
constexpr int64_t kVacateNs = 6 * kNsPerSecond;

// A base is 2^63 or above (token_table.h).
uint64_t random_base(const std::function<uint64_t()>& random64) {
  return random64() | (uint64_t{1} << 63);
}

}  // namespace

Domains::Domains(Loop& control, SqlClientFactory& factory, cache::MemoryStore& store,
                 int slots_log2, freshness::FeedOptions options, std::function<uint64_t()> random64)
    : control_(control),
      factory_(factory),
      store_(store),
      slots_log2_(slots_log2),
      random64_(std::move(random64)),
      options_(options),
      refusals_(kRefusalPauseNs) {}

void Domains::set_fleet(RemoteStore* store, Mailbox* mailbox) {
  const std::lock_guard lock(mutex_);
  remote_ = store;
  options_.mailbox = mailbox;
}

freshness::Domain* Domains::get(const std::string& database) {
  const std::lock_guard lock(mutex_);
  const auto found = items_.find(database);
  if (found != items_.end()) return found->second.domain.get();
  if (items_.size() >= kDomainsMax) {
    refused_ = database;
    return nullptr;
  }
  Item item(control_.clock().now_ns());
  item.domain = std::make_unique<freshness::Domain>(database, slots_log2_, random_base(random64_));
  freshness::Domain* domain = item.domain.get();
  cache::MemoryStore* store = &store_;
  item.feed = std::make_unique<freshness::Feed>(
      *item.domain, control_, factory_, options_, random64_,
      [store, domain, remote = remote_](uint32_t slot, uint64_t token_before) {
        if (remote != nullptr) remote->freed(slot, token_before);
        store->remove_slot(&domain->tokens(), slot, [domain](const cache::Entry& entry) {
          domain->writes().freed(entry.query_id);
        });
      });
  item.domain->set_settler(item.feed.get());
  return items_.emplace(database, std::move(item)).first->second.domain.get();
}

std::vector<freshness::FeedStatus> Domains::status() const {
  const std::lock_guard lock(mutex_);
  std::vector<freshness::FeedStatus> all;
  for (const auto& [database, item] : items_) {
    if (item.feed) all.push_back(item.feed->status());
  }
  return all;
}

std::vector<const freshness::Domain*> Domains::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<const freshness::Domain*> all;
  for (const auto& [database, item] : items_) all.push_back(item.domain.get());
  return all;
}

void Domains::set_options(const freshness::FeedOptions& options) {
  const std::lock_guard lock(mutex_);
  Mailbox* const mailbox = options_.mailbox;
  options_ = options;
  options_.mailbox = mailbox;
  for (auto& [database, item] : items_) item.feed->set_options(options);
}

void Domains::keep(const std::string& database) {
  freshness::Domain* domain = get(database);
  if (domain == nullptr) return;
  {
    const std::lock_guard lock(mutex_);
    items_.find(database)->second.kept = true;
  }
  domain->settler().wanted();
}

void Domains::vacate(const std::string& database) {
  control_.post([this, database] {
    const std::lock_guard lock(mutex_);
    const auto found = items_.find(database);
    if (found == items_.end() || !found->second.feed) return;
    found->second.vacated_until_ns = control_.clock().now_ns() + kVacateNs;
    see_whether_used(found->second);
  });
}

// A feed that refuses to rest is asked again with the next look.
void Domains::see_whether_used(Item& item) {
  const int64_t now_ns = control_.clock().now_ns();
  if (item.domain->take_used()) item.used_ns = now_ns;
  // Where nothing is cached there is nothing to keep, and others may want it empty: template1.
  const bool bare = item.domain->trouble() == Reason::kNotInstalled;
  const int64_t idle_ms = bare ? std::min(options_.idle_ms, kBareIdleMs) : options_.idle_ms;
  const bool idle = !item.kept && idle_ms != 0 && now_ns - item.used_ns >= idle_ms * kNsPerMs;
  if (idle || now_ns < item.vacated_until_ns) {
    (void)item.feed->rest();
  } else if (item.kept) {
    item.domain->settler().wanted();
  }
}

void Domains::look(Log& log) {
  const std::lock_guard lock(mutex_);
  for (auto& [database, item] : items_) {
    if (!item.feed) continue;
    see_whether_used(item);
    item.report.look(item.feed->status(), control_.clock().now_ns(), log);
  }
  const std::string refused = std::exchange(refused_, {});
  if (!refused.empty() && refusals_.admits(control_.clock().now_ns())) {
    log.event(LogLevel::kWarn, "too_many_databases",
              {{"not_cached", refused}, {"max", std::to_string(kDomainsMax)}});
  }
}

void Domains::forget(const std::string& database) {
  const std::lock_guard lock(mutex_);
  const auto found = items_.find(database);
  if (found != items_.end()) found->second.feed->forget();
}

void Domains::leave(std::function<void()> done) {
  const std::lock_guard lock(mutex_);
  auto left = std::make_shared<size_t>(items_.size());
  const auto one_left = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  if (items_.empty()) {
    ++*left;
    one_left();
  }
  for (auto& [database, item] : items_) item.feed->leave(one_left);
}

void Domains::close() {
  const std::lock_guard lock(mutex_);
  for (auto& [database, item] : items_) {
    item.domain->set_lease(0);
    item.feed.reset();
  }
}

}  // namespace pgfresh::app
