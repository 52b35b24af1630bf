// Joining a fleet (freshness.md, rule 10): how a proxy comes to hold the same tokens as others that
// feed on the same stream, so that what they have put into the second level lives for it, too.
//
// The newcomer says a nonce on the channel. A peer that hears it, and is settled, writes its map
// under the nonce: base and touched slots, as they are when the nonce passes it in the stream. The
// newcomer keeps what comes behind its own nonce, adopts the map, and applies what it kept.
//
// Why the newcomer's table then equals the peer's, at each place of the stream. Whoever hears the
// nonce listens on the same channel: NOTIFY reaches the same database of the same running server,
// nobody else, in one order for all; identity needs no further proof, and an answer from before a
// restart, or from an old state of Redis, cannot exist, for the nonce is new. At the place of the
// nonce the tables are equal because one is the copy of the other; behind it both apply the same
// events by the same function (token_table.h; a change of it is a new version of the map).
// So every judgement of the newcomer is one that the peer could have made at the same place, and
// how far its place may lag is bounded by its own fences, as ever.
//
// What a peer answers for besides tokens. All that it knows to be missing from its table must be
// known to the newcomer. It does not answer while something is: while its catalog is not current
// and events wait for it, a new base is to come, a fingerprint is not explained, it owes an event
// of its own, its vigil mourns, a transaction may have ended without an event, or it is joining
// itself. Publishers whom it follows come with the map, each with the age of what it has vouched
// for; ages are counted from the moment the nonce was said, which was before the map was written,
// so nobody is given more time than the peer gives him. A peer that publishes names itself. Open
// counts are each proxy's own and stay: they are closed by fences.
//
// The order in which a map is taken over, so that no reader can meet a mixture that lives:
// TokenTable::adopt().
//
// Two ways to begin. kStart: a feed session has begun, nothing was served since, and there is no
// lease until the join is over, one way or the other. kMerge: this proxy has a base of its own
// (nobody answered, or it had to forget) while others have another. Bases are announced, and
// whoever hears of a smaller one than his own asks for that, serving by his own meanwhile; so a
// fleet that fell apart comes together. Anybody may announce anything: it costs one question.
//
// Tables of one base can still come to differ: what an event touches may depend on the catalog by
// which it was applied, and a proxy touches schema(D) by itself when it is told of a relation that
// it does not know. Each would be right, and they would share nothing any more. So bases are
// announced again now and then, and whoever did so tells the digest of its table at the place of
// its announcement; who had another one there takes over the table of him, if that has the smaller
// digest, and announces its own otherwise.
//
// Pure book-keeping on the control loop, and the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "freshness/stamp.h"

namespace pgfresh::freshness {

// ── What is said on the channel, numbers in hex ──────────────────────────────────────────────────
// "2 j <nonce> [<base> [<peer>]]", "2 l <base>", "2 d <digest>"

struct FleetWord {
  enum class Kind : uint8_t {
    kAsk,      // for the map under `nonce`; with a base: of those who hold that one
    kLineage,  // "my base is"
    kDigest,   // "and where I said so last, this was TokenTable::digest()"
  };
  Kind kind = Kind::kAsk;
  Hash128 nonce;
  uint64_t base = 0;  // kAsk: 0, whoever is settled
  uint32_t peer = 0;  // kAsk: PostgreSQL's process of the feed that is asked; 0, any
  uint64_t digest = 0;
};
inline constexpr std::string_view kFleetHead = "2 ";
inline constexpr std::string_view kNothingToSay = "2 n";
// REQUIRES: no peer without a base.
[[nodiscard]] std::string format_ask(const Hash128& nonce, uint64_t base, uint32_t peer);
[[nodiscard]] std::string format_lineage(uint64_t base);
[[nodiscard]] std::string format_digest(uint64_t digest);
// nullopt: a word of a version to come, or anything else.
[[nodiscard]] std::optional<FleetWord> parse_fleet_word(std::string_view payload);

// ── The map ──────────────────────────────────────────────────────────────────────────────────────

struct PublisherAge {
  uint32_t sender = 0;      // PostgreSQL's process of its feed
  int64_t told_age_ns = 0;  // Vigil::Publisher, as ages
  int64_t beat_age_ns = 0;
};

struct SlotMap {
  int slot_bits = 0;
  uint64_t base = 0;
  int64_t base_age_ns = 0;
  std::vector<SlotToken> touched;
  std::vector<PublisherAge> publishers;
};

// 4 MB: 340,000 touched slots. Beyond, a newcomer begins cold.
inline constexpr size_t kMapBytesMax = size_t{4} * 1024 * 1024;
// Nothing when it is too large.
[[nodiscard]] std::optional<std::string> encode_map(const SlotMap& map, const Hash128& nonce);
// Nothing unless it is a whole map, of this version, under this nonce.
[[nodiscard]] std::optional<SlotMap> decode_map(std::string_view bytes, const Hash128& nonce);
// Where it lies. Whoever sees the address does not know the nonce, which seals the map.
[[nodiscard]] std::string map_address(const Hash128& nonce);

// ── The newcomer's side ──────────────────────────────────────────────────────────────────────────

class Join {
 public:
  enum class Kind : uint8_t { kStart, kMerge };
  // Something that came behind the nonce, as it came.
  struct Heard {
    std::string payload;
    uint32_t sender = 0;
    int64_t since_ns = 0;  // it was committed after this
  };

  // All questions together take at most `window_ns`; a question that brings nothing is asked again
  // after a quarter of it. `base`: kMerge, the one to be had; `peer`: whose table, 0: anybody's.
  void begin(Kind kind, int64_t now_ns, int64_t window_ns, uint64_t base, uint32_t peer);
  // Over, without a map.
  void cancel();

  [[nodiscard]] bool under_way() const { return state_ != State::kIdle; }
  [[nodiscard]] bool blocks_lease() const { return under_way() && kind_ == Kind::kStart; }
  [[nodiscard]] Kind kind() const { return kind_; }

  // A question is to be said now.
  [[nodiscard]] bool wants_to_ask(int64_t now_ns) const;
  // It is being said; its payload. `nonce`: random, never used before.
  [[nodiscard]] std::string ask(int64_t now_ns, const Hash128& nonce);
  // A question came over the feed. True: it is the last one we have said.
  bool heard_question(const Hash128& nonce);
  // Anything else came; kept if it is behind the nonce. False: too much was to be kept, and the
  // join is over.
  [[nodiscard]] bool keep(Heard heard);

  // The mailbox is worth a look.
  [[nodiscard]] bool may_collect() const { return state_ == State::kWaiting; }
  [[nodiscard]] const Hash128& nonce() const { return nonce_; }
  [[nodiscard]] uint32_t peer() const { return peer_; }
  [[nodiscard]] int64_t asked_ns() const { return asked_ns_; }
  // True: it has just ended, because its time is up.
  [[nodiscard]] bool expire(int64_t now_ns);
  // The map is here: what came behind the nonce, in order. The join is over.
  [[nodiscard]] std::vector<Heard> finish();

 private:
  enum class State : uint8_t {
    kIdle,
    kToAsk,    // a question is to be said
    kAsked,    // it was said, and has not passed us in the stream
    kWaiting,  // it has
  };

  State state_ = State::kIdle;
  Kind kind_ = Kind::kStart;
  uint64_t base_ = 0;
  uint32_t peer_ = 0;
  int64_t until_ns_ = 0;
  int64_t patience_ns_ = 0;
  int64_t asked_ns_ = 0;
  Hash128 nonce_;
  std::vector<Heard> kept_;
  size_t kept_bytes_ = 0;
};

}  // namespace pgfresh::freshness
