// Cancel keys: what a client is given instead of PostgreSQL's own, so that a cancel request finds
// the session it was meant for and, through it, only what that session is waiting for.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "wire/messages.h"

namespace pgfresh::proxy {

class Worker;

// All sessions of the process. Any thread.
class CancelRegistry {
 public:
  struct Target {
    Worker* worker = nullptr;
    uint64_t session = 0;
  };

  // A key nobody has; `random` draws the secret (and the number that stands for a pid).
  [[nodiscard]] wire::BackendKey add(Target target, const std::function<uint64_t()>& random) {
    const std::lock_guard lock(mutex_);
    for (;;) {
      const uint64_t drawn = random();
      const wire::BackendKey key{static_cast<uint32_t>(drawn >> 33),  // positive as a signed int
                                 static_cast<uint32_t>(drawn)};
      if (key.pid == 0 || targets_.contains(key.pid)) continue;
      targets_.emplace(key.pid, Entry{key.secret, target});
      return key;
    }
  }
  void remove(const wire::BackendKey& key) {
    const std::lock_guard lock(mutex_);
    targets_.erase(key.pid);
  }
  [[nodiscard]] std::optional<Target> find(uint32_t pid, uint32_t secret) const {
    const std::lock_guard lock(mutex_);
    const auto found = targets_.find(pid);
    if (found == targets_.end() || found->second.secret != secret) return std::nullopt;
    return found->second.target;
  }

 private:
  struct Entry {
    uint32_t secret;
    Target target;
  };
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, Entry> targets_;
};

}  // namespace pgfresh::proxy
