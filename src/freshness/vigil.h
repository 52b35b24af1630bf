// Watches over the publishers on the channel (freshness.md, rule 15), and over what one that fell
// silent may have left: a transaction whose events nobody will publish, committed already or still
// to commit. Then everything is to be forgotten, at once, and again whenever a transaction may have
// ended that was running at that time.
//
// Why this is enough. (1) What is missing. A beat says: all that I was told of before I sent this
// is published. When it was sent is not known here, but it was after the beat before it had come
// back, and that one was not yet committed when the fence was begun that completed last before we
// heard it. So silence is counted from there; the lease never lasts longer than one Δ after it, and
// after 3Δ/4 we give up. (2) What is still running. A publisher begins a carrying transaction only
// within Δ/4 of sending a beat that has come back to it (publisher.h). After giving up, for one Δ
// more (the *window*), each look at the running transactions is followed by a new base: it covers
// whatever ended before the look, and what is running is noted. So a transaction is covered if
// PostgreSQL has begun it within Δ of its being sent. Between looks the lease ends one Δ after the
// last was begun.
//
// A *cold* start may have missed a publisher that died before it was heard: there is no lease until
// a look has found nobody who could be one, or one that was begun Δ/2 after the start has noted
// what runs. Prepared transactions count as running.
//
// Who has *adopted* what a peer knows may be the successor of a publisher that died a moment ago,
// and whose clients come back to it (P1): there is no lease until each publisher that the peer
// follows has been heard, has said its end, or was given up.
//
// Pure book-keeping on the control loop; the looks themselves are catalog_watch.h's.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "freshness/join.h"

namespace pgfresh::freshness {

// What a look has found in this database, the proxy's own connections left out.
struct Running {
  std::vector<std::string> transactions;  // names that are never used twice
  std::vector<uint32_t> prepared;         // the xids of those among them that are prepared
  bool others = false;                    // there are other connections
  // Of own ones that were asked about: the name of each one's transaction, by process.
  std::unordered_map<uint32_t, std::string> looked_for;
};

[[nodiscard]] std::string prepared_name(uint32_t xid);

class Vigil {
 public:
  void set_staleness(int64_t staleness_ns) { staleness_ns_ = staleness_ns; }

  // LISTEN has completed.
  void begin_session(int64_t now_ns);
  void session_lost();
  // The feed has taken over what a peer knows (join.h): nothing is missing but what these
  // publishers may still have to say. `asked_ns`: ages are counted from there.
  void adopt(const std::vector<PublisherAge>& publishers, int64_t asked_ns);
  // What such a peer would tell.
  [[nodiscard]] std::vector<PublisherAge> ages(int64_t now_ns) const;
  // Something may be missing.
  [[nodiscard]] bool mourning() const { return blocked_ || window_ || !noted_.empty(); }

  struct Beat {
    uint32_t sender = 0;   // PostgreSQL's process, so that nobody can speak for another
    bool first = false;    // before it came back its sender has carried nothing
    int64_t since_ns = 0;  // it was committed after this
    int64_t base_ns = 0;   // when we last forgot everything
  };
  void heard(const Beat& beat);
  void ended(uint32_t sender) { publishers_.erase(sender); }
  // True: a publisher has been silent too long, or there is no keeping count of them. From now on
  // there is no lease until a look has been taken.
  [[nodiscard]] bool give_up(int64_t now_ns);

  [[nodiscard]] bool look_due(int64_t now_ns) const;
  enum class Outcome : uint8_t { kNothing, kNewBase };
  // A look begun at `begun_ns` found this.
  [[nodiscard]] Outcome looked(int64_t begun_ns, const Running& running);

  // No lease at all, or none beyond a moment.
  [[nodiscard]] bool blocks_lease() const;
  [[nodiscard]] int64_t lease_end_ns() const;

  // Something is watched more often than an idle feed would look.
  [[nodiscard]] bool busy() const { return !publishers_.empty() || mourning(); }
  [[nodiscard]] size_t publishers() const { return publishers_.size(); }
  [[nodiscard]] size_t noted() const { return noted_.size(); }
  // From when on something may be missing; 0: nobody is followed.
  [[nodiscard]] int64_t heard_ns() const;

 private:
  void mourn(int64_t now_ns);

  int64_t staleness_ns_ = 0;
  struct Publisher {
    int64_t told_ns = 0;   // all it was told of before this has been published
    int64_t beat_ns = 0;   // the next beat will be sent after this
    bool adopted = false;  // known from a peer alone
  };
  std::unordered_map<uint32_t, Publisher> publishers_;  // by sender
  bool too_many_ = false;

  bool cold_ = false;     // nothing has been served since the session began
  bool blocked_ = false;  // there is no lease before the next look that counts
  bool window_ = false;   // until a look begun at window_end_ns_ or later
  int64_t window_end_ns_ = 0;
  int64_t since_ns_ = 0;   // looks begun before this do not count
  int64_t looked_ns_ = 0;  // begin of the last that did
  std::unordered_set<std::string> noted_;
};

}  // namespace pgfresh::freshness
