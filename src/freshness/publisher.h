// What this proxy has to say on the channel: events of transactions that carried them, beats, and
// the end (freshness.md, rules 14 and 15). It says it in the statements that the feed sends as
// fences anyway, so there is at most one in flight, and each one holds everything there was to say
// when it was begun.
//
// Vouching begins when a session first wants to carry and ends a while after the last did. While
// it lasts every statement beats, and the carry lease is what the last beat that came back is
// worth: a quarter of the staleness from its sending. Followers give up on a publisher after half
// of it, so a transaction that was begun under a lease is running, or over, by then (vigil.h).
//
// Pure book-keeping on the control loop; the domain hears of the carry lease.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "freshness/carried.h"
#include "freshness/domain.h"

namespace pgfresh::freshness {

// Who publishes what a proxied session writes.
enum class Publish : uint8_t { kTrigger, kProxy };

class Publisher {
 public:
  // `id`: random, never used by another proxy.
  Publisher(Domain& domain, uint64_t id);

  void set_options(Publish publish, int64_t staleness_ns);
  // A session would like to carry.
  void want(int64_t now_ns);
  // Those who follow us do not know this connection yet.
  void begin_session() { vouched_ns_ = 0; }
  // Called every pace_ns() or so.
  void tick(int64_t now_ns);
  // The daemon stops: no new carriers, and the end as soon as nothing is left.
  void leave();
  // Nobody is connected who would carry: the end is said soon, and not only after a while.
  void retire();
  // The connection is let go, and said or not, nobody is vouched for any more. What is queued
  // stays.
  void rest();
  [[nodiscard]] bool silent() const { return state_ == State::kSilent && !has_events(); }

  void queue(Carried& events) {
    queue_.take(events);
    queued_ = true;
  }
  [[nodiscard]] bool has_events() const { return !queue_.empty(); }

  // The statement that is begun now; empty: there is nothing to say. `others`: somebody carries, or
  // something is waited for that will have to be published. It must be known as of now, and who
  // carried looked at before what he left: the last word is said by it.
  // `kUnseen`: what is waited for has not been looked at for so long that nobody can vouch for it.
  enum class Others : uint8_t { kNone, kWaiting, kUnseen };
  [[nodiscard]] std::string begin(int64_t now_ns, Others others);
  // It completed. True: every event in it is known to have come back to us already.
  [[nodiscard]] bool completed();
  // PostgreSQL refused it; nothing of it was said. Without events in it that is a matter of rights,
  // say: nobody carries then, and after two in a row it is a while before the next try.
  void refused(int64_t now_ns, std::string_view why);
  [[nodiscard]] const std::string& refusal() const { return refusal_; }  // of the last; empty: none
  // The connection is gone; whether it was said is unknown.
  void lost();
  // A beat came over the feed; true: our own.
  bool heard(uint64_t publisher, uint64_t sequence);
  [[nodiscard]] uint64_t id() const { return id_; }

  // Beats are wanted so often.
  [[nodiscard]] bool vouching() const { return state_ != State::kSilent; }

  // For whoever joins (join.h). What was handed over before `told_ns` has been published; nothing
  // is known while others follow us and no beat of this session has come back to us yet.
  enum class Standing : uint8_t { kSilent, kVouching, kUnknown };
  [[nodiscard]] Standing standing() const {
    if (!vouching()) return Standing::kSilent;
    return vouched_ns_ != 0 ? Standing::kVouching : Standing::kUnknown;
  }
  [[nodiscard]] int64_t told_ns() const { return vouched_ns_; }

  // For SHOW FEEDS.
  [[nodiscard]] size_t queued() const { return queue_.count() + in_flight_.count(); }
  [[nodiscard]] uint64_t published() const { return published_; }
  [[nodiscard]] uint64_t statements() const { return statements_; }
  [[nodiscard]] int64_t beat_ns() const { return beat_ns_; }  // of the last that came back; 0: none

 private:
  enum class State : uint8_t {
    kSilent,    // nobody follows us
    kVouching,  // beats, and gives carry leases
    kLeaving,   // beats until everything is published
  };

  void end_lease() { domain_.set_carry_lease(0); }

  Domain& domain_;
  const uint64_t id_;
  Publish publish_ = Publish::kTrigger;
  int64_t staleness_ns_ = 0;

  State state_ = State::kSilent;
  int64_t used_ns_ = 0;  // when somebody last carried or wanted to
  bool stopping_ = false;

  Carried queue_;
  Carried in_flight_;
  // The statement in flight.
  bool beats_ = false;
  bool ends_ = false;
  bool came_back_ = false;
  int64_t begun_ns_ = 0;
  uint64_t sequence_ = 0;  // of the last beat begun

  std::string refusal_;
  bool queued_ = false;          // something was, since the last tick
  int64_t silent_until_ns_ = 0;  // nothing but events is said before, since it would be refused

  int64_t vouched_ns_ = 0;  // as beat_ns_, of this vouching and this connection alone; 0: none
  int64_t beat_begun_ns_ = 0;
  int64_t beat_ns_ = 0;
  uint64_t published_ = 0;
  uint64_t statements_ = 0;
};

}  // namespace pgfresh::freshness
