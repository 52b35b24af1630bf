// What one worker remembers about query texts, so that a repeated text costs one hash and one
// comparison. Worker thread only. Bounded in entries and bytes; a hand goes round, and the texts
// that were not asked for since it passed go (CLOCK), so that unique texts do not push out others.
//
// Texts that were never seen, but differ from others in their constants only, are filled into a
// pattern (query/pattern.h) instead of being parsed. A pattern is learnt when a second text of its
// skeleton has had to be parsed, so that texts that come once cost no more than before.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/counters.h"
#include "base/hash.h"
#include "base/prefetch.h"
#include "freshness/domain.h"
#include "proxy/consequences.h"
#include "proxy/query_stats.h"
#include "proxy/scope.h"
#include "proxy/slot_plan.h"
#include "query/pattern.h"
#include "query/statement.h"

namespace pgfresh::proxy {

// What a text is for one scope and one catalog snapshot. What each look-up reads lies in front.
struct Resolution {
  uint64_t parse_id = 0;  // the scope's
  uint64_t scope_id = 0;  // whose keys they are
  const freshness::Domain* domain = nullptr;
  uint64_t schema_token = 0;  // of the snapshot: the stamp's first pair
  uint64_t catalog = 0;       // its content_hash()
  Hash128 plain_hash;
  std::string plain_key;  // the whole key of an execution without parameters, all text
  SlotPlan slots;         // of its dependencies; empty if not cacheable
  query::Verdict verdict;
  std::string key_prefix;  // of every key of this text in this scope
};

class MemoText {
 public:
  explicit MemoText(std::shared_ptr<const query::Statement> statement)
      : text_(statement->text),
        statement_(std::move(statement)),
        consequences_(consequences_of(*statement_)) {}

  [[nodiscard]] std::string_view text() const { return text_; }
  [[nodiscard]] const query::Statement& statement() const { return *statement_; }
  // Asks for what every execution reads of it.
  void prefetch_hot() const {
    prefetch(statement_.get(), offsetof(query::Statement, text));
    prefetch(resolutions_.data(), offsetof(Resolution, verdict.causes));
  }
  // For QueryStats::of().
  [[nodiscard]] QueryStatRef& stat() { return stat_; }
  [[nodiscard]] const Consequences& consequences() const { return consequences_; }

  // The resolution under `catalog`, made when it is not there. The reference is valid until the
  // next call.
  [[nodiscard]] const Resolution& resolve(const Scope& scope, const freshness::Domain& domain,
                                          const query::Catalog& catalog);

 private:
  static void take_scope(Resolution& resolution, const Scope& scope);

  const std::string_view text_;  // the statement's
  const std::shared_ptr<const query::Statement> statement_;
  std::vector<Resolution> resolutions_;  // a few scopes; replaced in turn
  const Consequences consequences_;
  QueryStatRef stat_;
  size_t replace_next_ = 0;
};
using MemoRef = std::shared_ptr<MemoText>;

class Memo {
 public:
  explicit Memo(Counters& counters) : counters_(counters) {}

  // Never null. Its text lacks the comment at the end, where that says nothing.
  [[nodiscard]] MemoRef find_or_analyze(std::string_view text, uint32_t text_bytes_max,
                                        uint32_t entries_max);
  [[nodiscard]] size_t size() const { return count_; }
  [[nodiscard]] size_t patterns() const { return patterns_.size(); }

 private:
  struct PatternSlot {
    std::string skeleton;
    std::shared_ptr<const query::Pattern> pattern;  // null: its texts are parsed one by one
  };
  static constexpr size_t kSeen = 1024;
  static constexpr int kPlacesBitsMin = 6;

  [[nodiscard]] MemoRef find_or_analyze_as_is(std::string_view text, uint32_t text_bytes_max,
                                              uint32_t entries_max);
  [[nodiscard]] std::shared_ptr<const query::Statement> analyze(std::string_view text,
                                                                uint32_t text_bytes_max);
  void learn(uint64_t hash, const std::shared_ptr<const query::Statement>& statement);
  struct Place {
    uint64_t hash = 0;
    MemoRef text;  // null: nobody is here
    bool visited = false;
  };
  [[nodiscard]] size_t home_of(uint64_t hash) const { return hash >> shift_; }
  [[nodiscard]] Place& place_of(uint64_t hash);
  void grow();
  void make_room(uint32_t entries_max);
  void empty(size_t at);

  Counters& counters_;
  // By hash, each at its home or in the next place that was free: one look finds nearly every text.
  // One text a hash. A power of two, of which three quarters are taken at most.
  std::vector<Place> texts_ = std::vector<Place>(size_t{1} << kPlacesBitsMin);
  int shift_ = 64 - kPlacesBitsMin;
  size_t count_ = 0;
  size_t hand_ = 0;
  size_t bytes_ = 0;

  query::Skeleton skeleton_;            // of the text in hand
  std::array<uint64_t, kSeen> seen_{};  // hashes of skeletons whose text was parsed once
  std::unordered_map<uint64_t, PatternSlot> patterns_;
  size_t pattern_bytes_ = 0;
};

}  // namespace pgfresh::proxy
