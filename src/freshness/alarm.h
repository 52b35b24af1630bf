// A one-shot timer that may be set again and cancelled from anywhere, its own callback included.
// The timer it replaces is destroyed at the end of the loop's turn, never under its own feet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "pgfresh/loop.h"

namespace pgfresh::freshness {

class Alarm {
 public:
  Alarm(Loop& loop, std::function<void()> ring) : loop_(loop), ring_(std::move(ring)) {}
  ~Alarm() { cancel(); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  // Rings once at `due_ns` of the loop's clock, or as soon as possible after it.
  void set(int64_t due_ns) {
    cancel();
    const int64_t wait_ns = std::max<int64_t>(due_ns - loop_.clock().now_ns(), 0);
    due_ns_ = due_ns;
    timer_ = loop_.after((wait_ns + kNsPerMs - 1) / kNsPerMs, [this, number = number_] {
      if (number != number_) return;
      cancel();
      ring_();
    });
  }
  void cancel() {
    ++number_;
    if (timer_ != nullptr) loop_.defer([doomed = std::shared_ptr<Timer>(std::move(timer_))] {});
  }
  [[nodiscard]] bool is_set() const { return timer_ != nullptr; }
  [[nodiscard]] int64_t due_ns() const { return due_ns_; }  // REQUIRES: is_set()

 private:
  Loop& loop_;
  const std::function<void()> ring_;
  std::unique_ptr<Timer> timer_;
  uint64_t number_ = 0;  // of the timer in force
  int64_t due_ns_ = 0;
};

}  // namespace pgfresh::freshness
