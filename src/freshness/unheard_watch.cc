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

bool waits(const UnheardWatch::Waiters& waiters, uint64_t ticket) {
  return std::any_of(waiters.begin(), waiters.end(),
                     [ticket](const Waiter& one) { return one.ticket == ticket; });
}

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
  std::erase_if(seen_, [&](const auto& one) { return !waits(waiters, one.first); });
  std::vector<uint32_t> pids;
  for (const Waiter& one : waiters) {
    if (!waits_long(one, now_ns)) continue;
    seen_[one.ticket].backend_pid = one.backend_pid;
    pids.push_back(one.backend_pid);
  }
  return pids;
}

void UnheardWatch::looked_on(Seen& seen, const std::string& name) const {
  const bool settled = seen.missed_ns == 0 || seen.told;
  if (settled && !name.empty() && name == seen.transaction) {
    seen = Seen{seen.backend_pid, name, begun_ns_};
  } else if (seen.told && name.empty() && seen.transaction.empty()) {
    seen.known_ns = begun_ns_;
  } else if (settled) {
    seen.missed_ns = begun_ns_;
    seen.told = false;
  }
  seen.transaction = name;
}

void UnheardWatch::looked(const std::unordered_map<uint32_t, std::string>& running,
                          const Waiters& waiters) {
  for (auto& [ticket, seen] : seen_) {
    const auto found = running.find(seen.backend_pid);
    const bool runs = found != running.end();
    if (std::any_of(waiters.begin(), waiters.end(),
                    [id = ticket](const Waiter& one) { return one.ticket == id && one.goes_on; })) {
      looked_on(seen, runs ? found->second : std::string());
      continue;
    }
    const bool first = seen.transaction.empty() || seen.told;
    if (runs && (first || seen.transaction == found->second)) {
      seen = Seen{seen.backend_pid, found->second, begun_ns_};
    } else if (seen.told) {
      seen.known_ns = begun_ns_;
    } else if (seen.missed_ns == 0) {
      seen.missed_ns = begun_ns_;
    }
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
