// The catalog snapshot's place in the domain. The generation is written behind the pointer, under
// the same lock: who reads a generation and then fetches finds that snapshot or a later one.
#include "freshness/domain.h"

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

void Domain::publish_catalog(std::shared_ptr<const query::Catalog> catalog) {
  const uint64_t generation = catalog == nullptr ? 0 : catalog->generation();
  {
    const std::lock_guard lock(catalog_mutex_);
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

void Domain::add_backend(uint32_t pid) {
  const std::lock_guard lock(backends_mutex_);
  backends_.insert(pid);
  used_ = true;
}

void Domain::remove_backend(uint32_t pid) {
  const std::lock_guard lock(backends_mutex_);
  const auto found = backends_.find(pid);
  if (found != backends_.end()) backends_.erase(found);
  used_ = true;
}

std::vector<uint32_t> Domain::backends() const {
  const std::lock_guard lock(backends_mutex_);
  return {backends_.begin(), backends_.end()};
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
