// FLUSH: what is cached is forgotten, here and, where it is outdated by that, in all proxies.
#pragma once

#include "app/console_reports.h"
#include "console/command.h"

namespace pgfresh::app {

class Daemon;

// Control loop only. `done` is called once, on the control loop; the daemon outlives that.
void flush_all(Daemon& daemon, const ReportDone& done);
void flush_query(Daemon& daemon, uint64_t id, const ReportDone& done);
// Waits a while for a catalog that is being read: the table may have just been made.
void flush_table(Daemon& daemon, const console::TableName& table, const ReportDone& done);

}  // namespace pgfresh::app
