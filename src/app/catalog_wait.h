// What the console asks about a database whose catalog is being read, after DDL, waits for it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "pgfresh/loop.h"

namespace pgfresh::app {

// Loop thread only.
class CatalogWait {
 public:
  // Has `retry` called a moment later, which must keep this alive. False, and nothing: it has been
  // waited for two seconds, long enough.
  [[nodiscard]] bool again(Loop& loop, std::function<void()> retry) {
    if (waits_ == kWaits) return false;
    ++waits_;
    timer_ = loop.after(kWaitMs, [this, &loop, retry = std::move(retry)] {
      // A timer must not be destroyed under its own call.
      loop.defer([timer = std::shared_ptr<Timer>(std::move(timer_))] {});
      retry();
    });
    return true;
  }

 private:
  static constexpr int kWaits = 40;
  static constexpr int64_t kWaitMs = 50;

  std::unique_ptr<Timer> timer_;
  int waits_ = 0;
};

}  // namespace pgfresh::app
