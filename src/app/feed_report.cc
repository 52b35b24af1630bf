#include "app/feed_report.h"

#include <string_view>

#include "pgfresh/reason.h"

namespace pgfresh::app {
namespace {

// Between two lines about one database's trouble.
constexpr int64_t kPauseNs = 60 * kNsPerSecond;

// So long a feed may take to begin, or to read the catalog after DDL, without a line.
constexpr int64_t kPassingNs = 5 * kNsPerSecond;

}  // namespace

FeedReport::FeedReport(int64_t now_ns) : begun_ns_(now_ns), lived_ns_(now_ns), lines_(kPauseNs) {}

void FeedReport::look(const freshness::FeedStatus& status, int64_t now_ns, Log& log) {
  count(status, log);
  const bool live = status.state == "live";
  const bool rests = status.state == "off";
  if (rests) begun_ns_ = now_ns;
  if (rests || live) lived_ns_ = now_ns;
  if (!live && passes(status, now_ns)) return;
  if (live == live_ && (live || status.trouble == trouble_)) return;
  if (live != live_) lines_ = Throttle(kPauseNs);
  if (!live && !rests && !lines_.admits(now_ns)) return;
  // A database that never had pgfresh passes through, and nothing is wrong with that.
  const bool bare = !live_ && status.trouble == reason_text(Reason::kNotInstalled);
  live_ = live;
  trouble_ = status.trouble;
  if (live) {
    log.event(LogLevel::kInfo, "feed_live", {{"database", status.database}});
  } else if (rests) {
    log.event(LogLevel::kInfo, "feed_off",
              {{"database", status.database}, {"why", "no clients are connected to it"}});
  } else if (bare) {
    log.event(LogLevel::kInfo, "not_cached",
              {{"database", status.database},
               {"why", status.trouble},
               {"remedy", "psql -v ON_ERROR_STOP=1 -f sql/install.sql"}});
  } else {
    log.event(LogLevel::kWarn, "feed_not_live",
              {{"database", status.database}, {"state", status.state}, {"why", status.trouble}});
  }
}

void FeedReport::count(const freshness::FeedStatus& status, Log& log) {
  if (status.publishers_lost > publishers_lost_) {
    publishers_lost_ = status.publishers_lost;
    log.event(LogLevel::kWarn, "publisher_lost",
              {{"database", status.database}, {"total", std::to_string(publishers_lost_)}});
  }
  if (status.commits_late > commits_late_) {
    commits_late_ = status.commits_late;
    log.event(LogLevel::kWarn, "commit_late",
              {{"database", status.database}, {"total", std::to_string(commits_late_)}});
  }
  if (status.refusal == refusal_) return;
  refusal_ = status.refusal;
  if (refusal_.empty()) {
    log.event(LogLevel::kInfo, "publishing", {{"database", status.database}});
  } else {
    log.event(LogLevel::kWarn, "publishing_refused",
              {{"database", status.database}, {"why", refusal_}});
  }
}

// Nothing is wrong with a feed that begins, or that reads the catalog because DDL has changed it.
bool FeedReport::passes(const freshness::FeedStatus& status, int64_t now_ns) const {
  if (status.state == "lost") return false;
  if (status.trouble == reason_text(Reason::kNoLease)) return now_ns - begun_ns_ < kPassingNs;
  return status.trouble == reason_text(Reason::kNoCatalog) && now_ns - lived_ns_ < kPassingNs;
}

}  // namespace pgfresh::app
