#include "app/feed_report.h"

#include <doctest/doctest.h>

#include <string>

#include "pgfresh/reason.h"

namespace pgfresh::app {
namespace {

class Lines final : public Log {
 public:
  [[nodiscard]] bool enabled(LogLevel /*level*/) const override { return true; }
  void event(LogLevel level, std::string_view noun,
             std::initializer_list<LogField> /*fields*/) override {
    text += level == LogLevel::kWarn ? "warn " : "info ";
    text += std::string(noun) + "\n";
  }
  std::string text;
};

// A feed in which something is the matter from now on, looked at once a second.
struct Watched {
  Lines log;
  int64_t now_ns = 0;
  FeedReport report{0};

  // The lines of so many seconds.
  std::string during(int seconds, const std::string& state, Reason trouble = Reason::kNone) {
    freshness::FeedStatus status;
    status.database = "care";
    status.state = state;
    if (trouble != Reason::kNone) status.trouble = std::string(reason_text(trouble));
    log.text.clear();
    for (int i = 0; i < seconds; ++i) {
      now_ns += kNsPerSecond;
      report.look(status, now_ns, log);
    }
    return log.text;
  }
};

TEST_CASE("the log: a feed that begins, and one that does not") {
  Watched feed;
  CHECK(feed.during(2, "connecting", Reason::kNoLease) == "");
  CHECK(feed.during(2, "starting", Reason::kNoCatalog) == "");
  CHECK(feed.during(9, "live") == "info feed_live\n");
  CHECK(feed.during(9, "lost", Reason::kNoLease) == "warn feed_not_live\n");
  CHECK(feed.during(9, "live") == "info feed_live\n");
  Watched other;
  CHECK(other.during(9, "connecting", Reason::kNoLease) == "warn feed_not_live\n");
}

TEST_CASE("the log: a catalog that is read after DDL is not worth a line, unless it lasts") {
  Watched feed;
  feed.during(9, "live");
  for (int i = 0; i < 9; ++i) {
    CHECK(feed.during(1, "starting", Reason::kNoCatalog) == "");
    CHECK(feed.during(1, "live") == "");
  }
  CHECK(feed.during(4, "starting", Reason::kNoCatalog) == "");
  CHECK(feed.during(9, "starting", Reason::kNoCatalog) == "warn feed_not_live\n");
  CHECK(feed.during(1, "live") == "info feed_live\n");
}

TEST_CASE("the log: a database without pgfresh is no trouble, one that has lost it is") {
  Watched bare;
  CHECK(bare.during(99, "starting", Reason::kNotInstalled) == "info not_cached\n");
  CHECK(bare.during(9, "live") == "info feed_live\n");
  CHECK(bare.during(9, "starting", Reason::kNotInstalled) == "warn feed_not_live\n");
}

TEST_CASE("the log: publishing that PostgreSQL refuses, and takes again") {
  Lines log;
  FeedReport report(0);
  freshness::FeedStatus status;
  status.state = "live";
  std::string seen;
  for (const char* refusal : {"", "denied", "denied", "full", "", ""}) {
    status.refusal = refusal;
    log.text.clear();
    report.look(status, 1, log);
    seen += "[" + log.text + "]";
  }
  CHECK(seen ==
        "[info feed_live\n][warn publishing_refused\n][][warn publishing_refused\n]"
        "[info publishing\n][]");
}

}  // namespace
}  // namespace pgfresh::app
