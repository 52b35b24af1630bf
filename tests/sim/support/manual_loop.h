// Time and loops that a test turns by hand. One ManualTime has the clock and any number of loops,
// one for each "thread" of the program under test; everything runs on the test's own thread, one
// task at a time, in an order that depends on nothing but the test: posted tasks in order of
// posting, timers in order of their due time and then of their making, loops in turn or, with
// set_chooser(), as a seeded generator says.
//
// Tasks a loop has not run when it is destroyed are destroyed unrun. post() alone may be called
// from other threads.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "pgfresh/loop.h"

namespace pgfresh::sim {

class ManualLoop;

class ManualTime final : public Clock {
 public:
  ManualTime() = default;
  ManualTime(const ManualTime&) = delete;
  ManualTime& operator=(const ManualTime&) = delete;

  [[nodiscard]] int64_t now_ns() const override { return now_ns_; }
  [[nodiscard]] int64_t now_ms() const { return now_ns_ / kNsPerMs; }

  // Runs what can run now, everywhere, until nothing is left. Time stands still.
  void settle();
  // Runs one task somewhere; false when there is none.
  bool step();
  // Settles, then goes forward and fires each timer at its time, settling after each.
  void advance_ms(int64_t ms) { advance_ns(ms * kNsPerMs); }
  void advance_ns(int64_t ns);
  // The clock jumps, and what was due meanwhile comes late: a process that was frozen.
  void freeze_ms(int64_t ms) { now_ns_ += ms * kNsPerMs; }
  // When the next timer is due; INT64_MAX when there is none.
  [[nodiscard]] int64_t next_due_ns() const;

  // Which of `count` loops with something to do goes next; without it, they take turns.
  void set_chooser(std::function<size_t(size_t count)> chooser) { chooser_ = std::move(chooser); }

 private:
  friend class ManualLoop;
  [[nodiscard]] ManualLoop* next_runnable();

  int64_t now_ns_ = 1000 * kNsPerSecond;  // not zero, which code may take for "never"
  std::vector<ManualLoop*> loops_;
  size_t turn_ = 0;
  std::function<size_t(size_t)> chooser_;
};

class ManualLoop final : public Loop {
 public:
  // REQUIRES: `time` outlives the loop, and the loop its timers.
  explicit ManualLoop(ManualTime& time);
  ~ManualLoop() override;
  ManualLoop(const ManualLoop&) = delete;
  ManualLoop& operator=(const ManualLoop&) = delete;

  [[nodiscard]] const Clock& clock() const override { return time_; }
  void post(std::function<void()> task) override;
  void defer(std::function<void()> task) override;
  [[nodiscard]] std::unique_ptr<Timer> after(int64_t delay_ms, std::function<void()> fire) override;
  [[nodiscard]] std::unique_ptr<Timer> every(int64_t period_ms,
                                             std::function<void()> fire) override;

  // A loop that is stopped keeps its tasks and timers and runs none: a thread that is not
  // scheduled, while the others go on.
  void stop() { stopped_ = true; }
  void go_on() { stopped_ = false; }

  // Timers alive: for tests that nothing is left behind.
  [[nodiscard]] size_t timers() const { return timers_.size(); }

 private:
  friend class ManualTime;
  class TimerHandle;
  // Due time, then order of making.
  using TimerKey = std::pair<int64_t, uint64_t>;
  struct TimerState {
    int64_t period_ns = 0;  // 0: once
    std::shared_ptr<std::function<void()>> fire;
  };

  [[nodiscard]] bool runnable();
  // One posted task or due timer, and the deferred tasks after it.
  void run_one();
  void run_deferred();
  [[nodiscard]] bool take_posted(std::function<void()>& task);
  [[nodiscard]] std::unique_ptr<Timer> add_timer(int64_t delay_ms, int64_t period_ns,
                                                 std::function<void()> fire);
  [[nodiscard]] int64_t next_due_ns() const;

  ManualTime& time_;
  bool stopped_ = false;
  std::mutex mutex_;
  std::deque<std::function<void()>> posted_;  // under mutex_
  std::deque<std::function<void()>> deferred_;
  std::map<TimerKey, TimerState> timers_;
  std::map<uint64_t, TimerKey> timer_keys_;  // by number
  uint64_t timer_number_ = 0;
};

}  // namespace pgfresh::sim
