// The catalog snapshot's place in the domain. The generation is written behind the pointer, under
// the same lock: who reads a generation and then fetches finds that snapshot or a later one.
#include "freshness/domain.h"

#include <algorithm>
#include <utility>

#include "query/policy.h"

namespace pgfresh::freshness {

std::shared_ptr<const query::Catalog> Domain::catalog() const {
  const std::lock_guard lock(catalog_mutex_);
  return catalog_;
}

std::shared_ptr<const query::PolicyBook> Domain::policies() const {
  const std::lock_guard lock(catalog_mutex_);
  return policies_;
}

std::optional<int64_t> Domain::catalog_true_until_ns(uint64_t generation) const {
  const std::lock_guard lock(catalog_mutex_);
  const Former& former = former_[generation % former_.size()];
  if (generation == 0 || former.generation != generation) return std::nullopt;
  return former.true_until_ns;
}

void Domain::publish_catalog(std::shared_ptr<const query::Catalog> catalog,
                             int64_t heard_until_ns) {
  const uint64_t generation = catalog == nullptr ? 0 : catalog->generation();
  {
    const std::lock_guard lock(catalog_mutex_);
    if (catalog_) {
      const uint64_t former = catalog_->generation();
      former_[former % former_.size()] = {former, heard_until_ns};
    }
    if (catalog != nullptr) {
      const uint64_t before = policies_ ? policies_->settings_signature() : 0;
      policies_ = catalog->share_policies();
      // In front of the generation: who sees the new snapshot sees that its scope is outdated.
      if (policies_->settings_signature() != before) bump_settings_epoch();
    }
    catalog_.swap(catalog);
    catalog_generation_.store(generation, std::memory_order_release);
  }
  // The snapshot before it, when this was its last owner, is freed here, outside the lock.
}

uint64_t Domain::wait_for_word(uint32_t backend_pid, int64_t since_ns, bool goes_on) {
  const std::lock_guard lock(waiters_mutex_);
  const uint64_t ticket = ++tickets_;
  waiters_.emplace(ticket, Waiter{ticket, backend_pid, since_ns, since_ns, goes_on});
  return ticket;
}

void Domain::sent_more(uint64_t ticket, int64_t now_ns, bool goes_on) {
  const std::lock_guard lock(waiters_mutex_);
  Waiter& waiter = waiters_.at(ticket);
  waiter.sent_ns = now_ns;
  waiter.goes_on = waiter.goes_on || goes_on;
}

void Domain::word_came(uint64_t ticket) {
  const std::lock_guard lock(waiters_mutex_);
  waiters_.erase(ticket);
}

std::vector<Waiter> Domain::waiters() const {
  std::vector<Waiter> waiters;
  const std::lock_guard lock(waiters_mutex_);
  waiters.reserve(waiters_.size());
  for (const auto& [ticket, waiter] : waiters_) waiters.push_back(waiter);
  return waiters;
}

void Domain::set_server_started(uint64_t time_us) {
  const uint64_t before = server_started_.exchange(time_us, std::memory_order_acq_rel);
  if (before == time_us) return;
  if (before != 0) {
    const std::lock_guard lock(backends_mutex_);
    other_server_seen_ = true;
  }
  bump_settings_epoch();
}

void Domain::add_backend(uint32_t pid) {
  const std::lock_guard lock(backends_mutex_);
  backends_.emplace(pid, 0);
  used_ = true;
}

void Domain::backend_is_of(uint32_t pid, uint64_t server) {
  const std::lock_guard lock(backends_mutex_);
  const auto [begin, end] = backends_.equal_range(pid);
  const auto unknown = std::find_if(begin, end, [](const auto& each) { return each.second == 0; });
  if (unknown != end) unknown->second = server;
}

void Domain::remove_backend(uint32_t pid, uint64_t server) {
  const std::lock_guard lock(backends_mutex_);
  const auto [begin, end] = backends_.equal_range(pid);
  const auto found =
      std::find_if(begin, end, [server](const auto& each) { return each.second == server; });
  if (found != end) backends_.erase(found);
  used_ = true;
}

std::vector<uint32_t> Domain::backends() const {
  const uint64_t here = server_started();
  const std::lock_guard lock(backends_mutex_);
  std::vector<uint32_t> pids;
  for (const auto& [pid, server] : backends_) {
    if (server == here || (server == 0 && !other_server_seen_)) pids.push_back(pid);
  }
  return pids;
}

bool Domain::take_used() {
  const std::lock_guard lock(backends_mutex_);
  return std::exchange(used_, false) || !backends_.empty();
}

bool Domain::has_backends() const {
  const std::lock_guard lock(backends_mutex_);
  return !backends_.empty();
}

}  // namespace pgfresh::freshness
