// Is the second level worth asking for this query? It is when what its hits save outweighs what
// its misses cost: with the share p of look-ups that were hits, an upstream that takes u and a
// look-up that takes r, asking costs r + (1 - p) u on average and not asking costs u. So it is
// asked where p·u > r. All three are measured, of late, per query and worker; a query that is not
// asked for is tried again now and then, or nobody would notice that times have changed.
//
// Pure arithmetic; one worker's thread.
#pragma once

#include <cstdint>

namespace pgfresh::proxy {

class RemoteCost {
 public:
  enum class Advice : uint8_t {
    kAsk,      // it pays, or nothing is known yet
    kExplore,  // it did not pay, and is tried again
    kSkip,
  };

  // Of the next look-up; `round_trip_ns` is what the store takes for anybody, 0: not known.
  [[nodiscard]] Advice advise(int64_t round_trip_ns);
  // The same, asked by people: counts nothing.
  [[nodiscard]] bool pays(int64_t round_trip_ns) const;
  // A fill is put there, if it could ever pay: whether it does is for the others to find out.
  [[nodiscard]] bool worth_storing(int64_t round_trip_ns) const;
  // The fleet waits for one fetch: PostgreSQL must be slow enough for two more questions.
  [[nodiscard]] bool worth_locking(int64_t round_trip_ns) const;

  void found(int64_t took_ns);
  void not_found(int64_t took_ns);
  void upstream_took(int64_t took_ns);

  // For people: as if one worker had seen what two have. Averages weigh as their numbers do.
  void add(const RemoteCost& other);
  // For people. Times in ns, 0: not known.
  [[nodiscard]] double hit_share() const { return hit_share_; }
  [[nodiscard]] int64_t upstream_ns() const { return static_cast<int64_t>(upstream_ns_); }
  [[nodiscard]] int64_t lookup_ns() const { return static_cast<int64_t>(lookup_ns_); }
  [[nodiscard]] uint64_t asked() const { return asked_; }
  [[nodiscard]] uint64_t skipped() const { return skipped_; }

 private:
  void looked_up(int64_t took_ns, double share);
  [[nodiscard]] double lookup_or(int64_t round_trip_ns) const;

  double hit_share_ = 0;    // smoothed
  double upstream_ns_ = 0;  // smoothed; 0: not known
  double lookup_ns_ = 0;
  uint64_t asked_ = 0;
  uint64_t upstreams_ = 0;
  uint64_t skipped_ = 0;
  uint32_t skips_in_a_row_ = 0;
};

}  // namespace pgfresh::proxy
