// Watches over what sessions that carry wait to hear (freshness.md, rule 14): that PostgreSQL has
// committed. What they wrote is published when that word has been read, and not before; where it
// is late (packets are lost on that connection alone, a worker is kept from running) nobody would
// know meanwhile. So who has waited for a quarter of the staleness is looked for among the running
// transactions, again and again. One whose transaction is not there, and who still waits a quarter
// later, has missed something: everything is to be forgotten, and again if more has been sent there
// since. While nobody can look, nobody vouches.
//
// Where more was sent behind what may commit first, what runs at the first look may be a later
// transaction: it proves nothing, and the first is said to be late. From then on it counts if it is
// still the same.
//
// Why this is enough. Looks are an eighth apart, so what commits unheard is missed by a look within
// 3/8 of the staleness, and said to be late within 3/4, by ticks that come every eighth. Whoever is
// blind has, as he stops to vouch, missed nothing older than 3/8; others give up 5/8 later.
//
// Pure book-keeping on the control loop; the looks themselves are catalog_watch.h's.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "freshness/domain.h"

namespace pgfresh::freshness {

class UnheardWatch {
 public:
  // `waiters`, here and below: Domain::waiters(), as of now.
  using Waiters = std::vector<Waiter>;

  void set_staleness(int64_t staleness_ns) { staleness_ns_ = staleness_ns; }

  [[nodiscard]] bool look_due(int64_t now_ns, const Waiters& waiters) const;
  // A look is begun. Returns the processes to look for.
  [[nodiscard]] std::vector<uint32_t> look_begins(int64_t now_ns, const Waiters& waiters);
  // It found these transactions running, by process. Names are never used twice.
  void looked(const std::unordered_map<uint32_t, std::string>& running, const Waiters& waiters);
  // True, once for what has been sent: somebody waits in vain.
  [[nodiscard]] bool take_late(int64_t now_ns, const Waiters& waiters);

  // What was committed after this may not be known of; INT64_MAX: everything is known.
  [[nodiscard]] int64_t known_ns(const Waiters& waiters) const;
  [[nodiscard]] bool blind(int64_t now_ns, const Waiters& waiters) const;

 private:
  struct Seen {
    std::string transaction = {};  // at the first look that saw one; at the last, where it goes on
    int64_t known_ns = 0;          // begin of the last look that saw it, or when it was told
    int64_t missed_ns = 0;         // begin of the first look that did not see it; 0: none
    bool told = false;             // … and it was said that it is late
  };

  [[nodiscard]] bool waits_long(const Waiter& waiter, int64_t now_ns) const;

  int64_t staleness_ns_ = 0;
  int64_t begun_ns_ = 0;                     // of the last look
  std::unordered_map<uint64_t, Seen> seen_;  // those looked for, by Waiter::ticket
};

}  // namespace pgfresh::freshness
