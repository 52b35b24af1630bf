#include "freshness/vigil.h"

#include <algorithm>

#include "base/limits.h"

namespace pgfresh::freshness {
namespace {

constexpr int64_t kColdShare = 2;  // of the staleness
constexpr int64_t kLookShare = 4;

}  // namespace

std::string prepared_name(uint32_t xid) { return "p" + std::to_string(xid); }

void Vigil::begin_session(int64_t now_ns) {
  publishers_.clear();
  too_many_ = false;
  noted_.clear();
  cold_ = blocked_ = window_ = true;
  since_ns_ = now_ns;
  looked_ns_ = 0;
  window_end_ns_ = now_ns + staleness_ns_ / kColdShare;
}

void Vigil::session_lost() {
  publishers_.clear();
  noted_.clear();
  too_many_ = cold_ = blocked_ = window_ = false;
}

void Vigil::adopt(const std::vector<PublisherAge>& publishers, int64_t asked_ns) {
  session_lost();
  for (const PublisherAge& one : publishers) {
    publishers_.emplace(one.sender,
                        Publisher{asked_ns - one.told_age_ns, asked_ns - one.beat_age_ns, true});
  }
}

std::vector<PublisherAge> Vigil::ages(int64_t now_ns) const {
  std::vector<PublisherAge> ages;
  for (const auto& [sender, publisher] : publishers_) {
    ages.push_back({sender, std::max<int64_t>(now_ns - publisher.told_ns, 0),
                    std::max<int64_t>(now_ns - publisher.beat_ns, 0)});
  }
  return ages;
}

void Vigil::heard(const Beat& beat) {
  const auto found = publishers_.find(beat.sender);
  if (found != publishers_.end()) {
    found->second.told_ns = std::max(found->second.told_ns, found->second.beat_ns);
    found->second.beat_ns = std::max(found->second.beat_ns, beat.since_ns);
    found->second.adopted = false;
  } else if (publishers_.size() < limits::kPublishersMax) {
    // Of one that we have missed before, all that is older than our base is of no interest, and a
    // new base is to come where there is no lease.
    const bool young = beat.first || blocked_;
    const int64_t told_ns = young ? beat.since_ns : std::min(beat.base_ns, beat.since_ns);
    publishers_.emplace(beat.sender, Publisher{told_ns, beat.since_ns});
  } else {
    too_many_ = true;
  }
}

bool Vigil::give_up(int64_t now_ns) {
  const int64_t silence_ns = staleness_ns_ / 4 * 3;
  const size_t given_up = std::erase_if(publishers_, [&](const auto& publisher) {
    return now_ns - publisher.second.told_ns > silence_ns;
  });
  if (given_up == 0 && !too_many_) return false;
  too_many_ = false;
  mourn(now_ns);
  return true;
}

void Vigil::mourn(int64_t now_ns) {
  blocked_ = window_ = true;
  since_ns_ = now_ns;
  // A cold start's window is the longer one then, and ends with the new base it did not need.
  window_end_ns_ = now_ns + staleness_ns_;
}

bool Vigil::look_due(int64_t now_ns) const {
  if (!mourning()) return false;
  if (looked_ns_ < since_ns_) return true;
  const int64_t due_ns = looked_ns_ + staleness_ns_ / kLookShare;
  return now_ns >= (cold_ ? std::min(due_ns, window_end_ns_) : due_ns);
}

Vigil::Outcome Vigil::looked(int64_t begun_ns, const Running& running) {
  if (!mourning() || begun_ns < since_ns_) return Outcome::kNothing;
  looked_ns_ = begun_ns;
  const std::unordered_set<std::string> now(running.transactions.begin(),
                                            running.transactions.end());
  if (window_) {
    const bool alone = !running.others && now.empty();
    if (begun_ns >= window_end_ns_ || (cold_ && alone)) window_ = false;
    if (cold_ && window_) return Outcome::kNothing;
    const bool served = !cold_;
    cold_ = blocked_ = false;
    noted_ = now;
    return served ? Outcome::kNewBase : Outcome::kNothing;
  }
  const bool all_run =
      std::all_of(noted_.begin(), noted_.end(), [&](const auto& one) { return now.contains(one); });
  if (all_run) return Outcome::kNothing;
  std::erase_if(noted_, [&](const auto& one) { return !now.contains(one); });
  // One that ended may have been prepared: it runs under another name.
  for (const uint32_t xid : running.prepared) noted_.insert(prepared_name(xid));
  return Outcome::kNewBase;
}

bool Vigil::blocks_lease() const {
  return blocked_ || std::any_of(publishers_.begin(), publishers_.end(),
                                 [](const auto& one) { return one.second.adopted; });
}

int64_t Vigil::lease_end_ns() const {
  if (blocks_lease()) return 0;
  int64_t end_ns = mourning() ? looked_ns_ + staleness_ns_ : INT64_MAX;
  if (!publishers_.empty()) end_ns = std::min(end_ns, heard_ns() + staleness_ns_);
  return end_ns;
}

int64_t Vigil::heard_ns() const {
  int64_t oldest_ns = publishers_.empty() ? 0 : INT64_MAX;
  for (const auto& [sender, publisher] : publishers_) {
    oldest_ns = std::min(oldest_ns, publisher.told_ns);
  }
  return oldest_ns;
}

}  // namespace pgfresh::freshness
