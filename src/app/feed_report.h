// The log's lines about one database's feed: that it is live, or is not any more and why. Looked at
// rather than told: what comes and goes within a moment is not worth a line, and a trouble that
// lasts is worth one, and another when it is a different one; but two connections that are refused
// by turns are not.
#pragma once

#include <cstdint>
#include <string>

#include "base/throttle.h"
#include "freshness/feed.h"
#include "pgfresh/log.h"

namespace pgfresh::app {

class FeedReport {
 public:
  explicit FeedReport(int64_t now_ns);

  // To be called about once a second.
  void look(const freshness::FeedStatus& status, int64_t now_ns, Log& log);

 private:
  void count(const freshness::FeedStatus& status, Log& log);
  [[nodiscard]] bool passes(const freshness::FeedStatus& status, int64_t now_ns) const;

  // What was reported last.
  bool live_ = false;
  std::string trouble_;
  std::string refusal_;
  uint64_t publishers_lost_ = 0;
  uint64_t commits_late_ = 0;

  int64_t begun_ns_;  // when the feed was last seen at rest, or made
  int64_t lived_ns_;  // when it was last seen at rest or live, or made
  Throttle lines_;
};

}  // namespace pgfresh::app
