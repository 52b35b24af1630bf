// The clock of production: CLOCK_BOOTTIME, which goes on while the machine is suspended.
//
// Asked anew at each call (about 20 ns, no system call on x86 and arm). Deliberately not cached
// for a turn of the loop: a process that is frozen in the middle of a turn and wakes must find its
// lease expired before it judges the next answer (freshness.md, rule 11).
#pragma once

#include "pgfresh/clock.h"

namespace pgfresh::net {

class BoottimeClock final : public Clock {
 public:
  [[nodiscard]] int64_t now_ns() const override;
};

}  // namespace pgfresh::net
