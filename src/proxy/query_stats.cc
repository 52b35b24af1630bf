#include "proxy/query_stats.h"

#include <algorithm>
#include <utility>

namespace pgfresh::proxy {

void QueryCounts::add(const QueryCounts& other) {
  hits_l1 += other.hits_l1;
  hits_l2 += other.hits_l2;
  misses += other.misses;
  bypasses += other.bypasses;
  fills += other.fills;
  stale += other.stale;
  upstream += other.upstream;
  upstream_ns += other.upstream_ns;
  saved_ns += other.saved_ns;
  hit_bytes += other.hit_bytes;
  answer_bytes += other.answer_bytes;
}

QueryStat& QueryStats::find(QueryStatRef& known, const query::Statement& statement,
                            const freshness::Domain* domain) {
  const Name name{statement.query_id, domain};
  const auto found = stats_.find(name);
  if (found != stats_.end()) {
    known = found->second;
    return *known;
  }
  if (stats_.size() >= kMax) make_room();
  known = std::make_shared<QueryStat>();
  known->id = statement.query_id;
  known->domain = domain;
  known->text = statement.grouped;
  known->causes = query::causes_of(statement);
  stats_.emplace(name, known);
  return *known;
}

// Those with the fewest calls; of equals, those called longest ago.
void QueryStats::make_room() {
  std::vector<QueryStatRef> order;
  order.reserve(stats_.size());
  for (const auto& [name, stat] : stats_) order.push_back(stat);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(order.size() / 2);
  std::nth_element(order.begin(), middle, order.end(),
                   [](const QueryStatRef& left, const QueryStatRef& right) {
                     return std::pair(left->counts.calls(), left->called_ns) <
                            std::pair(right->counts.calls(), right->called_ns);
                   });
  for (auto it = order.begin(); it != middle; ++it) {
    QueryStat& stat = **it;
    stats_.erase(Name{stat.id, stat.domain});
    ++dropped_queries_;
    dropped_.add(stat.counts);
    stat.dropped = true;
    stat.text = {};
    stat.causes = {};
  }
}

std::vector<QueryStat> QueryStats::all() const {
  std::vector<QueryStat> copies;
  copies.reserve(stats_.size());
  for (const auto& [name, stat] : stats_) copies.push_back(*stat);
  return copies;
}

}  // namespace pgfresh::proxy
