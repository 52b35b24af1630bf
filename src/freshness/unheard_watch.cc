#include "freshness/unheard_watch.h"

#include <algorithm>
#include <utility>

namespace pgfresh::freshness {
namespace {

// Of the staleness.
constexpr int64_t kLongShare = 4;   // who waits for so long is looked for
constexpr int64_t kPauseShare = 8;  // so far apart
constexpr int64_t kGraceShare = 4;  // what is on its way meanwhile is no trouble
constexpr int64_t kBlindLooks = 3;  // so many that were due have not been taken

}  // namespace

bool UnheardWatch::waits_long(const Waiter& waiter, int64_t now_ns) const {
  return now_ns - waiter.since_ns >= staleness_ns_ / kLongShare;
}

bool UnheardWatch::look_due(int64_t now_ns, const Waiters& waiters) const {
  return now_ns - begun_ns_ >= staleness_ns_ / kPauseShare &&
         std::any_of(waiters.begin(), waiters.end(),
                     [&](const Waiter& one) { return waits_long(one, now_ns); });
}

// One that has waited for a moment only may not have begun.
std::vector<uint32_t> UnheardWatch::look_begins(int64_t now_ns, const Waiters& waiters) {
  begun_ns_ = now_ns;
  std::unordered_map<uint64_t, Seen> seen;
  std::vector<uint32_t> pids;
  for (const Waiter& one : waiters) {
    if (!waits_long(one, now_ns)) continue;
    seen.emplace(one.ticket, std::move(seen_[one.ticket]));
    pids.push_back(one.backend_pid);
  }
  seen_ = std::move(seen);
  return pids;
}

void UnheardWatch::looked(const std::unordered_map<uint32_t, std::string>& running,
                          const Waiters& waiters) {
  for (const Waiter& one : waiters) {
    const auto looked_for = seen_.find(one.ticket);
    if (looked_for == seen_.end()) continue;
    Seen& seen = looked_for->second;
    const auto found = running.find(one.backend_pid);
    const std::string name = found == running.end() ? std::string() : found->second;
    const bool same = name == seen.transaction;
    // What runs is what was waited for, or nothing that was not told of has ended before it.
    const bool proves =
        !name.empty() && (one.goes_on ? same && (seen.missed_ns == 0 || seen.told)
                                      : same || seen.transaction.empty() || seen.told);
    if (proves) {
      seen = Seen{name, begun_ns_};
    } else if (seen.told && (!one.goes_on || (same && name.empty()))) {
      seen.known_ns = begun_ns_;
    } else if (seen.told || seen.missed_ns == 0) {
      seen.missed_ns = begun_ns_;
      seen.told = false;
    }
    if (one.goes_on) seen.transaction = name;
  }
}

bool UnheardWatch::take_late(int64_t now_ns, const Waiters& waiters) {
  bool late = false;
  for (const Waiter& one : waiters) {
    const auto found = seen_.find(one.ticket);
    if (found == seen_.end() || found->second.missed_ns == 0) continue;
    Seen& seen = found->second;
    if (!seen.told && now_ns - seen.missed_ns >= staleness_ns_ / kGraceShare) {
      seen.known_ns = now_ns;
      late = seen.told = true;
    } else if (seen.told && one.sent_ns > seen.missed_ns) {
      seen.told = false;
      seen.missed_ns = 0;
    }
  }
  return late;
}

int64_t UnheardWatch::known_ns(const Waiters& waiters) const {
  int64_t known_ns = INT64_MAX;
  for (const Waiter& one : waiters) {
    const auto found = seen_.find(one.ticket);
    const int64_t seen_ns = found == seen_.end() ? 0 : found->second.known_ns;
    known_ns = std::min(known_ns, std::max(one.since_ns, seen_ns));
  }
  return known_ns;
}

bool UnheardWatch::blind(int64_t now_ns, const Waiters& waiters) const {
  return now_ns - known_ns(waiters) > staleness_ns_ / kPauseShare * kBlindLooks;
}

}  // namespace pgfresh::freshness
