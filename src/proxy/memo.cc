#include "proxy/memo.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/hash.h"
#include "proxy/key.h"
#include "query/canonical.h"

namespace pgfresh::proxy {
namespace {

// Texts remembered by one worker, whatever their number: with its parse a text takes a few times
// its own length.
constexpr size_t kMemoBytesMax = 32 * 1024 * 1024;
// Patterns remembered by one worker. Their number is that of an application's statements; when
// there are more, all are learnt anew.
constexpr size_t kPatternsMax = 4096;
constexpr size_t kPatternBytesMax = 8 * 1024 * 1024;
constexpr size_t kPatternBytes = 1024;
// Scopes resolved per text before the oldest is replaced.
constexpr size_t kResolutionsMax = 4;

size_t charge(const MemoText& text) { return 1536 + 8 * text.statement().text.size(); }

}  // namespace

const Resolution& MemoText::resolve(const Scope& scope, const freshness::Domain& domain,
                                    const query::Catalog& catalog) {
  Resolution* place = nullptr;
  for (Resolution& resolution : resolutions_) {
    if (resolution.parse_id != scope.parse_id || resolution.domain != &domain) continue;
    if (resolution.verdict.catalog_generation == catalog.generation()) {
      if (resolution.scope_id != scope.id) take_scope(resolution, scope);
      return resolution;
    }
    place = &resolution;
  }
  if (place == nullptr) {
    if (resolutions_.size() < kResolutionsMax) {
      place = &resolutions_.emplace_back();
    } else {
      place = &resolutions_[replace_next_++ % kResolutionsMax];
    }
  }
  Resolution made;
  made.parse_id = scope.parse_id;
  made.scope_id = scope.id;
  made.domain = &domain;
  made.verdict = query::resolve(*statement_, catalog, scope.search_path);
  made.verdict.catalog_generation = catalog.generation();
  made.schema_token = catalog.schema_token();
  made.catalog = catalog.content_hash();
  if (made.verdict.cacheable()) {
    made.slots = SlotPlan(made.verdict, domain.tokens(),
                          scope.utf8 ? SlotPlan::Encoding::kUtf8 : SlotPlan::Encoding::kOther);
    made.key_prefix = key_prefix(scope, statement_->canonical);
    made.plain_key = made.key_prefix;
    append_plain_execution(made.plain_key);
    made.plain_hash = hash128(made.plain_key);
  }
  *place = std::move(made);
  return *place;
}

// Scopes that differ in custom settings alone have verdict and dependencies in common.
void MemoText::take_scope(Resolution& resolution, const Scope& scope) {
  resolution.scope_id = scope.id;
  if (!resolution.verdict.cacheable()) return;
  change_scope(resolution.key_prefix, scope);
  change_scope(resolution.plain_key, scope);
  resolution.plain_hash = hash128(resolution.plain_key);
}

MemoRef Memo::find_or_analyze(std::string_view text, uint32_t text_bytes_max,
                              uint32_t entries_max) {
  if (text.size() <= text_bytes_max) {
    const std::string_view bare = query::without_last_comment(text);
    if (bare.size() != text.size()) {
      MemoRef found = find_or_analyze_as_is(bare, text_bytes_max, entries_max);
      const std::vector<Reason>& reasons = found->statement().reasons;
      const auto unparsable = std::find(reasons.begin(), reasons.end(), Reason::kUnparsable);
      if (unparsable == reasons.end()) return found;
    }
  }
  return find_or_analyze_as_is(text, text_bytes_max, entries_max);
}

MemoRef Memo::find_or_analyze_as_is(std::string_view text, uint32_t text_bytes_max,
                                    uint32_t entries_max) {
  const uint64_t hash = hash64(text);
  Place& place = place_of(hash);
  if (place.text) place.text->prefetch_hot();
  if (place.text && place.text->text() == text) {
    place.visited = true;
    counters_.add(Counter::kMemoHits);
    return place.text;
  }
  counters_.add(Counter::kMemoMisses);
  const bool taken = place.text != nullptr;
  auto made = std::make_shared<MemoText>(analyze(text, text_bytes_max));
  if (taken || text.size() > text_bytes_max) return made;
  make_room(entries_max);
  if (4 * (count_ + 1) > 3 * texts_.size()) grow();
  bytes_ += charge(*made);
  ++count_;
  place_of(hash) = {hash, made, false};
  return made;
}

// The text with this hash, or where it would stand.
Memo::Place& Memo::place_of(uint64_t hash) {
  size_t at = home_of(hash);
  while (texts_[at].text && texts_[at].hash != hash) at = (at + 1) & (texts_.size() - 1);
  return texts_[at];
}

void Memo::grow() {
  std::vector<Place> old(2 * texts_.size());
  old.swap(texts_);
  --shift_;
  hand_ = 0;
  for (Place& place : old) {
    if (place.text) place_of(place.hash) = std::move(place);
  }
}

std::shared_ptr<const query::Statement> Memo::analyze(std::string_view text,
                                                      uint32_t text_bytes_max) {
  if (text.size() > text_bytes_max || !skeleton_.take(text)) {
    return query::analyze(text, text_bytes_max);
  }
  const uint64_t hash = hash64(skeleton_.bytes);
  const auto found = patterns_.find(hash);
  if (found == patterns_.end()) {
    auto statement = query::analyze(text, text_bytes_max);
    uint64_t& seen = seen_[hash / (UINT64_MAX / kSeen + 1)];
    if (std::exchange(seen, hash) == hash) learn(hash, statement);
    return statement;
  }
  const PatternSlot& slot = found->second;
  if (slot.pattern != nullptr && slot.skeleton == skeleton_.bytes) {
    if (auto filled = slot.pattern->fill(text, skeleton_)) {
      counters_.add(Counter::kPatternHits);
      return filled;
    }
  }
  return query::analyze(text, text_bytes_max);
}

void Memo::learn(uint64_t hash, const std::shared_ptr<const query::Statement>& statement) {
  const size_t bytes = kPatternBytes + 8 * skeleton_.bytes.size();
  if (patterns_.size() >= kPatternsMax || pattern_bytes_ + bytes > kPatternBytesMax) {
    patterns_.clear();
    pattern_bytes_ = 0;
  }
  pattern_bytes_ += bytes;
  patterns_.emplace(hash,
                    PatternSlot{skeleton_.bytes, query::Pattern::learn(statement, skeleton_)});
}

void Memo::make_room(uint32_t entries_max) {
  while (count_ > 0 && (count_ >= entries_max || bytes_ > kMemoBytesMax)) {
    Place& place = texts_[hand_];
    if (place.text && !std::exchange(place.visited, false)) {
      empty(hand_);  // another may stand here now
    } else {
      hand_ = (hand_ + 1) & (texts_.size() - 1);
    }
  }
}

// Whoever would not be found behind an empty place moves into it.
void Memo::empty(size_t at) {
  bytes_ -= charge(*texts_[at].text);
  --count_;
  const size_t mask = texts_.size() - 1;
  for (size_t next = (at + 1) & mask; texts_[next].text; next = (next + 1) & mask) {
    const size_t home = home_of(texts_[next].hash);
    if (((next - home) & mask) < ((next - at) & mask)) continue;
    texts_[at] = std::move(texts_[next]);
    at = next;
  }
  texts_[at] = {};
}

}  // namespace pgfresh::proxy
