// EXPLAIN CACHE and DOCTOR: gathers, step by step and each on its own thread, what explain.h and
// doctor.h make rows of. Statements are analysed on a worker, which has the stack for it.
#pragma once

#include <functional>

#include "console/backend.h"
#include "console/command.h"
#include "pgfresh/loop.h"

namespace pgfresh::app {

class Daemon;

// Both: any thread; `done` is called once, on any thread. `home`: a worker's loop. REQUIRES: all
// outlive the answer.
using ReportDone = std::function<void(console::Outcome)>;
void explain_cache(Daemon& daemon, Loop& home, const console::Command& command, ReportDone done);
void run_doctor(Daemon& daemon, const console::Command& command, ReportDone done);

}  // namespace pgfresh::app
