// What code without libuv may ask of the loop it runs on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "pgfresh/clock.h"

namespace pgfresh {

// One timer; destroying it stops it. Belongs to the thread of its loop.
class Timer {
 public:
  virtual ~Timer() = default;
};

class Loop {
 public:
  virtual ~Loop() = default;

  [[nodiscard]] virtual const Clock& clock() const = 0;

  // Runs `task` on the loop's thread, soon, in order of posting. Any thread. Tasks posted after
  // the loop has stopped are destroyed unrun.
  virtual void post(std::function<void()> task) = 0;

  // Runs `task` at the end of this turn of the loop, when no callback of any stream or timer is
  // on the stack: where sessions and streams are destroyed. Loop thread only.
  virtual void defer(std::function<void()> task) = 0;

  // Calls `fire` once after `delay_ms`, or every `delay_ms` with every(). Loop thread only.
  [[nodiscard]] virtual std::unique_ptr<Timer> after(int64_t delay_ms,
                                                     std::function<void()> fire) = 0;
  [[nodiscard]] virtual std::unique_ptr<Timer> every(int64_t period_ms,
                                                     std::function<void()> fire) = 0;
};

}  // namespace pgfresh
