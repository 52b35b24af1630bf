#include "freshness/write_log.h"

#include <algorithm>
#include <vector>

namespace pgfresh::freshness {

void WriteLog::begin(Oid root, Rows rows, int64_t now_ns) {
  root_ = tables_.size() < kTablesMax || tables_.contains(root) ? root : 0;
  now_ns_ = now_ns;
  Table& table = tables_[root_];
  ++table.events;
  if (rows == Rows::kUnknown) ++table.whole;
  table.last_ns = now_ns;
}

void WriteLog::freed(uint64_t query_id) {
  ++tables_[root_].freed;
  if (queries_.size() >= kQueriesMax && !queries_.contains(query_id)) make_room();
  Query& query = queries_[query_id];
  ++query.freed;
  query.root = root_;
  query.last_ns = now_ns_;
}

void WriteLog::make_room() {
  std::vector<int64_t> times;
  times.reserve(queries_.size());
  for (const auto& [id, query] : queries_) times.push_back(query.last_ns);
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  const int64_t oldest_ns = *middle;
  std::erase_if(queries_, [&](const auto& item) { return item.second.last_ns <= oldest_ns; });
}

const WriteLog::Table* WriteLog::table(Oid root) const {
  const auto found = tables_.find(root);
  return found == tables_.end() ? nullptr : &found->second;
}

const WriteLog::Query* WriteLog::query(uint64_t query_id) const {
  const auto found = queries_.find(query_id);
  return found == queries_.end() ? nullptr : &found->second;
}

}  // namespace pgfresh::freshness
