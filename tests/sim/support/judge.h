// The oracle of the random runs, as the end of freshness.md has it. Each row has one writer and
// increasing versions. A read on [s, e] that returned v is right iff v was begun before e and no
// version above v was visible in PostgreSQL before s − Δ, or acknowledged through the reader's own
// proxy before s; and v was never rolled back. A version that a crash has lost was never there, and
// may be read for one Δ more.
//
// Simulated time stands still while many things happen, so "before" within one proxy goes by the
// order of the calls, and the staleness bound by the clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "manual_loop.h"

namespace pgfresh::sim {

inline constexpr int kDirectly = -1;  // through no proxy

class Judge {
 public:
  // A moment: of the clock, and in the order of events.
  struct Moment {
    int64_t ns = 0;
    uint64_t order = 0;
  };

  Judge(const ManualTime& time, int64_t staleness_ns) : time_(time), staleness_ns_(staleness_ns) {}

  // A row that has always been there, with version 0.
  void add_row(int64_t row);
  // The next version of a row, about to be written.
  [[nodiscard]] int64_t begin_write(int64_t row);
  // PostgreSQL shows it from now on.
  void visible(int64_t row, int64_t version);
  void acknowledged(int64_t row, int64_t version, int proxy);
  // Rolled back, and the writer was told so; or it cannot have been committed.
  void aborted(int64_t row, int64_t version);
  // It had been committed, and a crash has undone that just now.
  void lost(int64_t row, int64_t version);

  [[nodiscard]] Moment now();
  // A read was sent at `sent` and has been answered now.
  void read(int64_t row, std::optional<int64_t> version, int proxy, Moment sent);
  void read_sum(int64_t count, int64_t sum, int proxy, Moment sent);
  // A read that can only see one version: of its writer behind the write, of a snapshot its own.
  void read_own(int64_t row, int64_t expected, std::optional<int64_t> version);
  // The end, after quiet: what a proxy says and what is true.
  void final_read(int64_t row, std::optional<int64_t> version, std::optional<int64_t> truth);

  void violation(std::string text);
  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  [[nodiscard]] uint64_t reads() const { return reads_; }
  [[nodiscard]] uint64_t writes() const { return writes_; }
  [[nodiscard]] uint64_t lost_after_read() const { return lost_after_read_; }

 private:
  struct Version {
    Moment begun;
    std::optional<int64_t> visible_ns;
    std::optional<Moment> acknowledged;
    int proxy = kDirectly;
    bool aborted = false;
    std::optional<int64_t> lost_ns;
    bool seen = false;  // by a reader who was not its writer
  };

  [[nodiscard]] int64_t lower_bound(const std::vector<Version>& versions, int proxy,
                                    Moment sent) const;

  const ManualTime& time_;
  const int64_t staleness_ns_;
  uint64_t order_ = 0;
  std::map<int64_t, std::vector<Version>> rows_;  // a version is its index
  std::vector<std::string> violations_;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t lost_after_read_ = 0;
};

}  // namespace pgfresh::sim
