#include "proxy/remote_cost.h"

#include <algorithm>

namespace pgfresh::proxy {
namespace {

// An average of the last dozen or so.
constexpr double kNewestShare = 1.0 / 8;
// So many look-ups are made before their results count for anything.
constexpr uint64_t kLookupsToLearn = 8;
// Of look-ups that would not pay, one in so many is made all the same: 3 % of what it costs.
constexpr uint32_t kExploreEvery = 32;
// A lock, and one more look at least.
constexpr double kLookupsPerWait = 3;

void smooth(double& average, double newest) {
  average = average == 0 ? newest : average + (newest - average) * kNewestShare;
}

}  // namespace

double RemoteCost::lookup_or(int64_t round_trip_ns) const {
  return lookup_ns_ != 0 ? lookup_ns_ : static_cast<double>(round_trip_ns);
}

bool RemoteCost::pays(int64_t round_trip_ns) const {
  if (asked_ < kLookupsToLearn || upstream_ns_ == 0) return true;
  return hit_share_ * upstream_ns_ > lookup_or(round_trip_ns);
}

RemoteCost::Advice RemoteCost::advise(int64_t round_trip_ns) {
  if (pays(round_trip_ns)) {
    skips_in_a_row_ = 0;
    return Advice::kAsk;
  }
  if (++skips_in_a_row_ < kExploreEvery) {
    ++skipped_;
    return Advice::kSkip;
  }
  skips_in_a_row_ = 0;
  return Advice::kExplore;
}

bool RemoteCost::worth_storing(int64_t round_trip_ns) const {
  return upstream_ns_ == 0 || upstream_ns_ > lookup_or(round_trip_ns);
}

bool RemoteCost::worth_locking(int64_t round_trip_ns) const {
  return upstream_ns_ > kLookupsPerWait * std::max(lookup_or(round_trip_ns), 1.0);
}

void RemoteCost::looked_up(int64_t took_ns, double share) {
  ++asked_;
  smooth(lookup_ns_, static_cast<double>(std::max<int64_t>(took_ns, 1)));
  // Not smooth(): a share of 0 is a share.
  hit_share_ = asked_ == 1 ? share : hit_share_ + (share - hit_share_) * kNewestShare;
}

void RemoteCost::found(int64_t took_ns) { looked_up(took_ns, 1); }

void RemoteCost::not_found(int64_t took_ns) { looked_up(took_ns, 0); }

void RemoteCost::add(const RemoteCost& other) {
  const auto mean = [](double& mine, uint64_t count, double others, uint64_t others_count) {
    if (others_count == 0) return;
    const double weight =
        static_cast<double>(others_count) / static_cast<double>(count + others_count);
    mine += (others - mine) * weight;
  };
  mean(hit_share_, asked_, other.hit_share_, other.asked_);
  mean(lookup_ns_, asked_, other.lookup_ns_, other.asked_);
  mean(upstream_ns_, upstreams_, other.upstream_ns_, other.upstreams_);
  asked_ += other.asked_;
  upstreams_ += other.upstreams_;
  skipped_ += other.skipped_;
}

void RemoteCost::upstream_took(int64_t took_ns) {
  ++upstreams_;
  smooth(upstream_ns_, static_cast<double>(std::max<int64_t>(took_ns, 1)));
}

}  // namespace pgfresh::proxy
