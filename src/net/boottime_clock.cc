#include "net/boottime_clock.h"

#include <ctime>

#include "base/check.h"

namespace pgfresh::net {

int64_t BoottimeClock::now_ns() const {
  timespec now{};
  PGFRESH_CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return static_cast<int64_t>(now.tv_sec) * kNsPerSecond + static_cast<int64_t>(now.tv_nsec);
}

}  // namespace pgfresh::net
