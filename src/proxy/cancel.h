// Cancel keys: what a client is given instead of PostgreSQL's own, so that a cancel request finds
// the session it was meant for and, through it, only what that session is waiting for. The process
// number is PostgreSQL's all the same: it is what pg_backend_pid() says, and clients know by it
// which notifications are their own.
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

  // A key nobody has, of this process number; `random` draws the secret.
  [[nodiscard]] wire::BackendKey add(Target target, uint32_t pid,
                                     const std::function<uint64_t()>& random) {
    const std::lock_guard lock(mutex_);
    for (;;) {
      const wire::BackendKey key{pid, static_cast<uint32_t>(random())};
      if (targets_.emplace(packed(key), target).second) return key;
    }
  }
  void remove(const wire::BackendKey& key) {
    const std::lock_guard lock(mutex_);
    targets_.erase(packed(key));
  }
  [[nodiscard]] std::optional<Target> find(uint32_t pid, uint32_t secret) const {
    const std::lock_guard lock(mutex_);
    const auto found = targets_.find(packed({pid, secret}));
    if (found == targets_.end()) return std::nullopt;
    return found->second;
  }

 private:
  // Both halves: a number may be given again while the session that had it is still being ended.
  [[nodiscard]] static uint64_t packed(const wire::BackendKey& key) {
    return uint64_t{key.pid} << 32 | key.secret;
  }

  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Target> targets_;
};

}  // namespace pgfresh::proxy
