// Rate limit for log lines about a trouble that may come a million times: one line a period, with
// the number of those left out.
#pragma once

#include <cstdint>

namespace pgfresh {

// One thread.
class Throttle {
 public:
  explicit Throttle(int64_t period_ns) : period_ns_(period_ns) {}

  // Whether to write now; then left_out() says how many were refused since the last time.
  [[nodiscard]] bool admits(int64_t now_ns) {
    if (written_once_ && now_ns - written_ns_ < period_ns_) {
      ++refused_;
      return false;
    }
    written_once_ = true;
    written_ns_ = now_ns;
    left_out_ = refused_;
    refused_ = 0;
    return true;
  }
  [[nodiscard]] uint64_t left_out() const { return left_out_; }

 private:
  int64_t period_ns_;
  bool written_once_ = false;
  int64_t written_ns_ = 0;
  uint64_t refused_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace pgfresh
