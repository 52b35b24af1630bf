#include "manual_loop.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace pgfresh::sim {

// ---- time ----

void ManualTime::settle() {
  while (ManualLoop* loop = next_runnable()) loop->run_one();
}

bool ManualTime::step() {
  ManualLoop* loop = next_runnable();
  if (loop != nullptr) loop->run_one();
  return loop != nullptr;
}

void ManualTime::advance_ns(int64_t ns) {
  const int64_t until_ns = now_ns_ + ns;
  settle();
  while (next_due_ns() <= until_ns) {
    now_ns_ = std::max(now_ns_, next_due_ns());
    settle();
  }
  now_ns_ = until_ns;
}

int64_t ManualTime::next_due_ns() const {
  int64_t due_ns = INT64_MAX;
  for (const ManualLoop* loop : loops_) {
    if (!loop->stopped_) due_ns = std::min(due_ns, loop->next_due_ns());
  }
  return due_ns;
}

ManualLoop* ManualTime::next_runnable() {
  std::vector<ManualLoop*> runnable;
  for (size_t i = 0; i < loops_.size(); ++i) {
    ManualLoop* loop = loops_[(turn_ + i) % loops_.size()];
    if (loop->runnable()) runnable.push_back(loop);
  }
  ++turn_;
  if (runnable.empty()) return nullptr;
  return runnable[chooser_ ? chooser_(runnable.size()) % runnable.size() : 0];
}

// ---- a loop ----

class ManualLoop::TimerHandle final : public Timer {
 public:
  TimerHandle(ManualLoop& loop, uint64_t number) : loop_(loop), number_(number) {}
  ~TimerHandle() override {
    const auto key = loop_.timer_keys_.find(number_);
    if (key == loop_.timer_keys_.end()) return;
    loop_.timers_.erase(key->second);
    loop_.timer_keys_.erase(key);
  }
  TimerHandle(const TimerHandle&) = delete;
  TimerHandle& operator=(const TimerHandle&) = delete;

 private:
  ManualLoop& loop_;
  const uint64_t number_;
};

ManualLoop::ManualLoop(ManualTime& time) : time_(time) { time_.loops_.push_back(this); }

// What waits is destroyed while the loop still stands: it may own timers.
ManualLoop::~ManualLoop() {
  while (true) {
    std::deque<std::function<void()>> doomed;
    {
      const std::lock_guard lock(mutex_);
      doomed.swap(posted_);
    }
    std::deque<std::function<void()>> deferred;
    deferred.swap(deferred_);
    if (doomed.empty() && deferred.empty()) break;
  }
  std::erase(time_.loops_, this);
}

void ManualLoop::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  posted_.push_back(std::move(task));
}

void ManualLoop::defer(std::function<void()> task) { deferred_.push_back(std::move(task)); }

std::unique_ptr<Timer> ManualLoop::after(int64_t delay_ms, std::function<void()> fire) {
  return add_timer(delay_ms, 0, std::move(fire));
}

std::unique_ptr<Timer> ManualLoop::every(int64_t period_ms, std::function<void()> fire) {
  PGFRESH_CHECK(period_ms > 0);
  return add_timer(period_ms, period_ms * kNsPerMs, std::move(fire));
}

std::unique_ptr<Timer> ManualLoop::add_timer(int64_t delay_ms, int64_t period_ns,
                                             std::function<void()> fire) {
  PGFRESH_CHECK(delay_ms >= 0);
  const uint64_t number = ++timer_number_;
  const TimerKey key{time_.now_ns() + delay_ms * kNsPerMs, number};
  timers_[key] = {period_ns, std::make_shared<std::function<void()>>(std::move(fire))};
  timer_keys_[number] = key;
  return std::make_unique<TimerHandle>(*this, number);
}

int64_t ManualLoop::next_due_ns() const {
  return timers_.empty() ? INT64_MAX : timers_.begin()->first.first;
}

bool ManualLoop::runnable() {
  if (stopped_) return false;
  if (!deferred_.empty() || next_due_ns() <= time_.now_ns()) return true;
  const std::lock_guard lock(mutex_);
  return !posted_.empty();
}

bool ManualLoop::take_posted(std::function<void()>& task) {
  const std::lock_guard lock(mutex_);
  if (posted_.empty()) return false;
  task = std::move(posted_.front());
  posted_.pop_front();
  return true;
}

// A timer that repeats is set again before it fires, from now on: after a freeze it fires once,
// as libuv's do.
void ManualLoop::run_one() {
  if (next_due_ns() <= time_.now_ns()) {
    const auto [due, number] = timers_.begin()->first;
    const TimerState state = timers_.begin()->second;
    timers_.erase(timers_.begin());
    timer_keys_.erase(number);
    if (state.period_ns != 0) {
      const TimerKey key{time_.now_ns() + state.period_ns, number};
      timers_[key] = state;
      timer_keys_[number] = key;
    }
    (*state.fire)();
  } else if (std::function<void()> task; take_posted(task)) {
    task();
  }
  run_deferred();
}

void ManualLoop::run_deferred() {
  while (!deferred_.empty()) {
    const std::function<void()> task = std::move(deferred_.front());
    deferred_.pop_front();
    task();
  }
}

}  // namespace pgfresh::sim
