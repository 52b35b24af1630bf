// How often something may be done: now and then at once, and one each `spacing` in the long run.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pgfresh {

// One thread. A leaky bucket, kept as the time at which it will be empty.
class Pace {
 public:
  // `burst`: so many may follow one another after a rest. REQUIRES: spacing_ns > 0, burst > 0.
  constexpr Pace(int64_t spacing_ns, int64_t burst) : spacing_ns_(spacing_ns), burst_(burst) {}

  // It is done, whether it was due or not.
  void spend(int64_t now_ns) { empty_ns_ = std::max(empty_ns_, now_ns) + spacing_ns_; }
  // When the next one is due; not later than now: at once.
  [[nodiscard]] int64_t due_ns() const { return empty_ns_ - (burst_ - 1) * spacing_ns_; }

 private:
  const int64_t spacing_ns_;
  const int64_t burst_;
  int64_t empty_ns_ = INT64_MIN / 2;
};

}  // namespace pgfresh
