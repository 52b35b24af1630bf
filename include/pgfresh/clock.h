// Time as the data path sees it: a parameter, never a call into the operating system.
#pragma once

#include <cstdint>

namespace pgfresh {

inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerSecond = 1'000'000'000;

// Two implementations: CLOCK_BOOTTIME (src/net) and a clock that tests turn by hand.
class Clock {
 public:
  virtual ~Clock() = default;

  // Nanoseconds of a clock that never goes back and that counts the time a machine was
  // suspended: a lease judged by it has expired when a frozen process wakes. Any thread.
  [[nodiscard]] virtual int64_t now_ns() const = 0;
};

}  // namespace pgfresh
