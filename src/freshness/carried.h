// The events of one or many transactions that carry them (freshness.md, rule 14): the payloads of
// their in-band notices, to be published once the transactions have ended.
//
// They lie one after another, each with its length in front, just as they stand in a merged NOTIFY
// (event.h), so a merged payload is cut out, not composed.
//
// Bounded by kBytesMax: above it the events say "which rows: unknown" of each relation, and where
// that is too much as well, one event says "everything".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace pgfresh::freshness {

class Carried {
 public:
  // `payload`: of a notice. What is no event becomes "everything".
  void add(std::string_view payload);
  // Takes over what `other` holds and leaves it empty.
  void take(Carried& other);
  void clear();
  // Everything that is carried becomes one event that says "everything".
  void collapse_to_schema();

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] size_t bytes() const { return pieces_.size(); }

  // As PostgreSQL shows them in pg_prepared_xacts: the low half of the writers' xids. False: some
  // have been forgotten.
  [[nodiscard]] bool writers(std::unordered_set<uint32_t>& xids) const;
  // The texts of as few notifications as hold all events (each below limits::kEventBytesMax).
  void append_payloads(std::vector<std::string>& payloads) const;

  // 4,000 events of one row each; ten such transactions a worker at once are 3 MB.
  static constexpr size_t kBytesMax = 256 * 1024;

 private:
  void append(std::string_view payload);
  void collapse();
  template <typename Take>
  void for_each(Take take) const;  // take(payload, piece)

  std::string pieces_;  // " 17:1 7741 w 16402 17:1 …"
  size_t count_ = 0;
  size_t last_at_ = 0;      // where the payload added last begins
  bool forgotten_ = false;  // some writers' xids
};

}  // namespace pgfresh::freshness
