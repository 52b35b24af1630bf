#include "app/query_report.h"

#include <algorithm>
#include <map>
#include <utility>

#include "console/values.h"

namespace pgfresh::app {
namespace {

void add(proxy::QueryStat& sum, const proxy::QueryStat& share) {
  sum.counts.add(share.counts);
  sum.remote.add(share.remote);
  if (share.called_ns > sum.called_ns) {
    sum.called_ns = share.called_ns;
    if (share.reason_last != Reason::kNone) sum.reason_last = share.reason_last;
  }
  sum.hit_ns = std::max(sum.hit_ns, share.hit_ns);
  for (size_t i = 0; i < sum.reasons.size(); ++i) sum.reasons[i] += share.reasons[i];
  if (share.causes_generation > sum.causes_generation) {
    sum.causes = share.causes;
    sum.causes_generation = share.causes_generation;
  }
}

// The name of the table whose write came last, as the present snapshot has it.
std::string table_name(const freshness::Domain& domain, freshness::Oid root) {
  if (root == 0) return "DDL";
  const auto catalog = domain.catalog();
  const query::Relation* relation = catalog == nullptr ? nullptr : catalog->relation(root);
  if (relation == nullptr) return "oid " + std::to_string(root);
  return relation->schema + "." + relation->name;
}

Reason usual_reason(const proxy::QueryStat& stat) {
  const auto most = std::max_element(stat.reasons.begin(), stat.reasons.end());
  if (*most == 0) return Reason::kNone;
  return static_cast<Reason>(most - stat.reasons.begin());
}

}  // namespace

const QuerySum* QuerySums::find(uint64_t id, const freshness::Domain* domain) const {
  const auto found = std::find_if(queries.begin(), queries.end(), [&](const QuerySum& sum) {
    return sum.stat.id == id && (domain == nullptr || sum.stat.domain == domain);
  });
  return found == queries.end() ? nullptr : &*found;
}

QuerySums sum_queries(const std::vector<QueryShare>& shares) {
  QuerySums sums;
  std::map<std::pair<uint64_t, const freshness::Domain*>, size_t> places;
  for (const QueryShare& share : shares) {
    sums.dropped_queries += share.dropped_queries;
    sums.dropped.add(share.dropped);
    for (const proxy::QueryStat& stat : share.stats) {
      const auto [place, made] = places.try_emplace({stat.id, stat.domain}, sums.queries.size());
      if (made) {
        sums.queries.push_back({stat, {}, {}});
      } else {
        add(sums.queries[place->second].stat, stat);
      }
    }
  }
  for (QuerySum& sum : sums.queries) {
    if (sum.stat.domain == nullptr) continue;
    const freshness::WriteLog::Query* writes = sum.stat.domain->writes().query(sum.stat.id);
    if (writes == nullptr) continue;
    sum.writes = *writes;
    sum.writes_table = table_name(*sum.stat.domain, writes->root);
  }
  return sums;
}

std::string causes_text(const std::vector<query::Cause>& causes) {
  std::string text;
  const query::Cause* previous = nullptr;
  for (const query::Cause& cause : causes) {
    if (previous != nullptr && previous->reason == cause.reason) {
      text += ", ";
    } else {
      if (previous != nullptr) text += "; ";
      text += reason_label(cause.reason);
      if (!cause.object.empty()) text += ": ";
    }
    text += cause.object;
    previous = &cause;
  }
  return text;
}

std::vector<console::QueryRow> query_rows(const QuerySums& sums,
                                          const std::function<int64_t(int64_t)>& unix_s) {
  const auto time = [&](int64_t loop_ns) { return loop_ns == 0 ? 0 : unix_s(loop_ns); };
  const auto row_of = [](const proxy::QueryCounts& counts) {
    console::QueryRow row;
    row.hits_l1 = counts.hits_l1;
    row.hits_l2 = counts.hits_l2;
    row.misses = counts.misses;
    row.bypasses = counts.bypasses;
    row.fills = counts.fills;
    row.upstream = counts.upstream;
    row.upstream_ns = counts.upstream_ns;
    row.saved_ns = counts.saved_ns;
    row.hit_bytes = counts.hit_bytes;
    row.answer_bytes = counts.answer_bytes;
    row.invalidations = counts.stale;
    return row;
  };
  std::vector<console::QueryRow> rows;
  for (const QuerySum& sum : sums.queries) {
    const proxy::QueryStat& stat = sum.stat;
    console::QueryRow row = row_of(stat.counts);
    row.id = stat.id;
    if (stat.domain != nullptr) row.database = stat.domain->database();
    row.invalidations += sum.writes.freed;
    row.invalidated_by = sum.writes_table;
    row.invalidated_unix_s = time(sum.writes.last_ns);
    if (const Reason reason = usual_reason(stat); reason != Reason::kNone) {
      row.reason = reason_label(reason);
    }
    row.why_not = console::printable(causes_text(stat.causes));
    row.hit_unix_s = time(stat.hit_ns);
    row.called_unix_s = time(stat.called_ns);
    row.query = console::printable(stat.text);
    rows.push_back(std::move(row));
  }
  if (sums.dropped_queries != 0) {
    rows.push_back(row_of(sums.dropped));
    rows.back().dropped = sums.dropped_queries;
  }
  return rows;
}

}  // namespace pgfresh::app
