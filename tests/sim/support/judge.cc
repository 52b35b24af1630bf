#include "judge.h"

#include "base/check.h"

namespace pgfresh::sim {
namespace {

constexpr size_t kViolationsMax = 20;

std::string in_us(std::optional<int64_t> ns) { return ns ? std::to_string(*ns / 1000) : "-"; }

std::string shown(std::optional<int64_t> version) {
  return version ? std::to_string(*version) : "nothing";
}

}  // namespace

void Judge::add_row(int64_t row) {
  Version first;
  first.visible_ns = INT64_MIN / 2;
  rows_[row].push_back(first);
}

Judge::Moment Judge::now() { return {time_.now_ns(), ++order_}; }

int64_t Judge::begin_write(int64_t row) {
  std::vector<Version>& versions = rows_.at(row);
  versions.emplace_back().begun = now();
  ++writes_;
  return static_cast<int64_t>(versions.size()) - 1;
}

void Judge::visible(int64_t row, int64_t version) {
  rows_.at(row).at(static_cast<size_t>(version)).visible_ns = time_.now_ns();
}

void Judge::acknowledged(int64_t row, int64_t version, int proxy) {
  Version& one = rows_.at(row).at(static_cast<size_t>(version));
  one.acknowledged = now();
  one.proxy = proxy;
}

void Judge::aborted(int64_t row, int64_t version) {
  Version& one = rows_.at(row).at(static_cast<size_t>(version));
  PGFRESH_CHECK(!one.acknowledged);
  one.aborted = true;
  if (one.seen) {
    violation("row " + std::to_string(row) + ": version " + std::to_string(version) +
              " was read and never committed");
  }
}

void Judge::lost(int64_t row, int64_t version) {
  Version& one = rows_.at(row).at(static_cast<size_t>(version));
  one.lost_ns = time_.now_ns();
  if (one.seen) ++lost_after_read_;
}

// The newest version that a read sent at `sent` must not miss.
int64_t Judge::lower_bound(const std::vector<Version>& versions, int proxy, Moment sent) const {
  for (size_t i = versions.size(); i-- > 0;) {
    const Version& one = versions[i];
    if (one.lost_ns) continue;
    const bool own = proxy != kDirectly && one.proxy == proxy && one.acknowledged &&
                     one.acknowledged->order < sent.order;
    const bool old = one.visible_ns && *one.visible_ns < sent.ns - staleness_ns_;
    if (own || old) return static_cast<int64_t>(i);
  }
  return 0;
}

void Judge::read(int64_t row, std::optional<int64_t> version, int proxy, Moment sent) {
  ++reads_;
  std::vector<Version>& versions = rows_.at(row);
  const std::string where = "row " + std::to_string(row) + " through proxy " +
                            std::to_string(proxy) + ": read " + shown(version);
  if (!version || *version < 0 || *version >= static_cast<int64_t>(versions.size())) {
    violation(where + ", which was never written");
    return;
  }
  Version& one = versions[static_cast<size_t>(*version)];
  one.seen = true;
  if (one.aborted) violation(where + ", which was rolled back");
  if (one.lost_ns && *one.lost_ns < sent.ns - staleness_ns_) {
    violation(where + " at " + std::to_string(sent.ns / 1000) + " us, which a crash had lost at " +
              std::to_string(*one.lost_ns / 1000) + " us");
  }
  const int64_t lower = lower_bound(versions, proxy, sent);
  if (*version < lower) {
    const Version& missed = versions[static_cast<size_t>(lower)];
    violation(where + " at " + std::to_string(sent.ns / 1000) + " us, but " +
              std::to_string(lower) + ", written through proxy " + std::to_string(missed.proxy) +
              ", was visible at " + in_us(missed.visible_ns) + " us and acknowledged at " +
              in_us(missed.acknowledged ? std::optional(missed.acknowledged->ns) : std::nullopt) +
              " us");
  }
}

void Judge::read_sum(int64_t count, int64_t sum, int proxy, Moment sent) {
  ++reads_;
  int64_t lower = 0;
  int64_t upper = 0;
  for (const auto& [row, versions] : rows_) {
    lower += lower_bound(versions, proxy, sent);
    upper += static_cast<int64_t>(versions.size()) - 1;
  }
  if (count == static_cast<int64_t>(rows_.size()) && lower <= sum && sum <= upper) return;
  violation("sum through proxy " + std::to_string(proxy) + ": read " + std::to_string(count) +
            " rows and " + std::to_string(sum) + ", expected " + std::to_string(lower) + " to " +
            std::to_string(upper));
}

void Judge::read_own(int64_t row, int64_t expected, std::optional<int64_t> version) {
  ++reads_;
  if (version == expected) return;
  violation("row " + std::to_string(row) + ": expected " + std::to_string(expected) + " and read " +
            shown(version));
}

void Judge::final_read(int64_t row, std::optional<int64_t> version, std::optional<int64_t> truth) {
  ++reads_;
  if (version != truth) {
    violation("row " + std::to_string(row) + " after quiet: read " + shown(version) + ", is " +
              shown(truth));
  }
  const std::vector<Version>& versions = rows_.at(row);
  const int64_t lower = lower_bound(versions, kDirectly, {INT64_MAX, UINT64_MAX});
  if (!truth || *truth < lower || versions.at(static_cast<size_t>(*truth)).aborted) {
    violation("row " + std::to_string(row) + " after quiet is " + shown(truth) +
              ": the model lost " + std::to_string(lower));
  }
}

void Judge::violation(std::string text) {
  if (violations_.size() < kViolationsMax) violations_.push_back(std::move(text));
}

}  // namespace pgfresh::sim
