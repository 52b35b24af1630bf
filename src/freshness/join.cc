#include "freshness/join.h"

#include <charconv>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace pgfresh::freshness {
namespace {

constexpr std::string_view kAskHead = "2 j ";
constexpr std::string_view kLineageHead = "2 l ";
constexpr std::string_view kDigestHead = "2 d ";
constexpr size_t kNonceDigits = 32;

// What came behind a nonce: as much as may wait for a catalog (feed_core.cc).
constexpr size_t kKeptMax = 20'000;
constexpr size_t kKeptBytesMax = size_t{16} * 1024 * 1024;
// Questions of one join.
constexpr int64_t kQuestions = 4;

// The map. Numbers as in memory, little endian on every machine pgfresh is built for; a fleet of
// another kind does not find the version.
constexpr char kMagic[4] = {'p', 'g', 'f', 'M'};
constexpr uint32_t kVersion = 1;  // also of how an event changes a token
constexpr size_t kPairBytes = 12;
constexpr size_t kPublisherBytes = 20;
// An age that cannot be meant: ten years.
constexpr int64_t kAgeMax = int64_t{10} * 366 * 86'400 * 1'000'000'000;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
[[nodiscard]] bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof value) return false;
  std::memcpy(&value, in.data(), sizeof value);
  in.remove_prefix(sizeof value);
  return true;
}

void append_hex(std::string& out, uint64_t number) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) out += kDigits[(number >> shift) & 15];
}

// Sixteen digits.
[[nodiscard]] bool read_hex(std::string_view text, uint64_t& number) {
  if (text.size() != 16) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  return error == std::errc() && end == text.data() + text.size();
}

[[nodiscard]] bool read_base(std::string_view text, uint64_t& base) {
  return read_hex(text, base) && base >= kBaseBit;
}

// " " and sixteen characters.
[[nodiscard]] bool take_field(std::string_view& payload, std::string_view& field) {
  if (payload.size() < 17 || payload.front() != ' ') return false;
  field = payload.substr(1, 16);
  payload.remove_prefix(17);
  return true;
}

// Without the nonce nobody can make a map, nor change one.
Hash128 seal_of(std::string_view bytes, const Hash128& nonce) {
  std::string sealed;
  sealed.reserve(bytes.size() + 2 * sizeof nonce);
  put(sealed, nonce);
  sealed += bytes;
  put(sealed, nonce);
  return seal128(sealed);
}

}  // namespace

// ── Words ────────────────────────────────────────────────────────────────────────────────────────

std::string format_ask(const Hash128& nonce, uint64_t base, uint32_t peer) {
  PGFRESH_CHECK(base != 0 || peer == 0);
  std::string text(kAskHead);
  append_hex(text, nonce.high);
  append_hex(text, nonce.low);
  if (base == 0) return text;
  text += ' ';
  append_hex(text, base);
  if (peer == 0) return text;
  text += ' ';
  append_hex(text, peer);
  return text;
}

std::string format_lineage(uint64_t base) {
  std::string text(kLineageHead);
  append_hex(text, base);
  return text;
}

std::string format_digest(uint64_t digest) {
  std::string text(kDigestHead);
  append_hex(text, digest);
  return text;
}

std::optional<FleetWord> parse_fleet_word(std::string_view payload) {
  FleetWord word;
  if (payload.starts_with(kLineageHead)) {
    word.kind = FleetWord::Kind::kLineage;
    if (!read_base(payload.substr(kLineageHead.size()), word.base)) return std::nullopt;
    return word;
  }
  if (payload.starts_with(kDigestHead)) {
    word.kind = FleetWord::Kind::kDigest;
    if (!read_hex(payload.substr(kDigestHead.size()), word.digest)) return std::nullopt;
    return word;
  }
  if (!payload.starts_with(kAskHead)) return std::nullopt;
  payload.remove_prefix(kAskHead.size());
  if (payload.size() < kNonceDigits) return std::nullopt;
  constexpr size_t kHalf = kNonceDigits / 2;
  if (!read_hex(payload.substr(0, kHalf), word.nonce.high)) return std::nullopt;
  if (!read_hex(payload.substr(kHalf, kHalf), word.nonce.low)) return std::nullopt;
  payload.remove_prefix(kNonceDigits);
  if (payload.empty()) return word;
  std::string_view text;
  if (!take_field(payload, text) || !read_base(text, word.base)) return std::nullopt;
  if (payload.empty()) return word;
  uint64_t peer = 0;
  if (!take_field(payload, text) || !read_hex(text, peer) || !payload.empty()) return std::nullopt;
  word.peer = static_cast<uint32_t>(peer);
  if (peer == 0 || word.peer != peer) return std::nullopt;
  return word;
}

// ── The map ──────────────────────────────────────────────────────────────────────────────────────

std::optional<std::string> encode_map(const SlotMap& map, const Hash128& nonce) {
  const size_t size =
      map.touched.size() * kPairBytes + map.publishers.size() * kPublisherBytes + 128;
  if (size > kMapBytesMax || map.publishers.size() > limits::kPublishersMax) return std::nullopt;
  std::string out;
  out.reserve(size);
  out.append(kMagic, sizeof kMagic);
  put(out, kVersion);
  put(out, static_cast<uint32_t>(map.slot_bits));
  put(out, map.base);
  put(out, map.base_age_ns);
  put(out, static_cast<uint32_t>(map.touched.size()));
  put(out, static_cast<uint32_t>(map.publishers.size()));
  for (const SlotToken& pair : map.touched) {
    put(out, pair.slot);
    put(out, pair.token);
  }
  for (const PublisherAge& publisher : map.publishers) {
    put(out, publisher.sender);
    put(out, publisher.told_age_ns);
    put(out, publisher.beat_age_ns);
  }
  put(out, seal_of(out, nonce));
  return out;
}

std::optional<SlotMap> decode_map(std::string_view bytes, const Hash128& nonce) {
  if (bytes.size() < sizeof(Hash128) || bytes.size() > kMapBytesMax) return std::nullopt;
  std::string_view in = bytes.substr(0, bytes.size() - sizeof(Hash128));
  Hash128 seal;
  std::memcpy(&seal, in.data() + in.size(), sizeof seal);
  if (seal != seal_of(in, nonce)) return std::nullopt;
  SlotMap map;
  uint32_t version = 0;
  uint32_t slot_bits = 0;
  uint32_t touched = 0;
  uint32_t publishers = 0;
  if (!in.starts_with(std::string_view(kMagic, sizeof kMagic))) return std::nullopt;
  in.remove_prefix(sizeof kMagic);
  if (!take(in, version) || version != kVersion || !take(in, slot_bits) || slot_bits > 24 ||
      !take(in, map.base) || map.base < kBaseBit || !take(in, map.base_age_ns) ||
      map.base_age_ns < 0 || map.base_age_ns > kAgeMax || !take(in, touched) ||
      !take(in, publishers) || publishers > limits::kPublishersMax ||
      in.size() != size_t{touched} * kPairBytes + size_t{publishers} * kPublisherBytes) {
    return std::nullopt;
  }
  map.slot_bits = static_cast<int>(slot_bits);
  map.touched.resize(touched);
  for (SlotToken& pair : map.touched) {
    if (!take(in, pair.slot) || pair.slot >> slot_bits != 0) return std::nullopt;
    if (!take(in, pair.token) || pair.token == 0) return std::nullopt;
  }
  map.publishers.resize(publishers);
  for (PublisherAge& publisher : map.publishers) {
    if (!take(in, publisher.sender) || !take(in, publisher.told_age_ns) ||
        !take(in, publisher.beat_age_ns) || publisher.told_age_ns < 0 ||
        publisher.told_age_ns > kAgeMax || publisher.beat_age_ns < 0 ||
        publisher.beat_age_ns > kAgeMax) {
      return std::nullopt;
    }
  }
  return map;
}

std::string map_address(const Hash128& nonce) {
  std::string bytes = "map";
  put(bytes, nonce);
  const Hash128 hash = hash128(bytes);
  std::string address;
  append_hex(address, hash.high);
  append_hex(address, hash.low);
  return address;
}

// ── The newcomer's side ──────────────────────────────────────────────────────────────────────────

void Join::begin(Kind kind, int64_t now_ns, int64_t window_ns, uint64_t base, uint32_t peer) {
  cancel();
  state_ = State::kToAsk;
  kind_ = kind;
  base_ = base;
  peer_ = peer;
  until_ns_ = now_ns + window_ns;
  patience_ns_ = window_ns / kQuestions;
  asked_ns_ = 0;
}

void Join::cancel() {
  state_ = State::kIdle;
  kept_.clear();
  kept_bytes_ = 0;
}

bool Join::wants_to_ask(int64_t now_ns) const {
  if (state_ == State::kIdle || now_ns >= until_ns_) return false;
  return state_ == State::kToAsk || now_ns - asked_ns_ >= patience_ns_;
}

std::string Join::ask(int64_t now_ns, const Hash128& nonce) {
  PGFRESH_CHECK(wants_to_ask(now_ns));
  state_ = State::kAsked;
  asked_ns_ = now_ns;
  nonce_ = nonce;
  kept_.clear();
  kept_bytes_ = 0;
  return format_ask(nonce, base_, peer_);
}

bool Join::heard_question(const Hash128& nonce) {
  if (state_ == State::kIdle || state_ == State::kToAsk || nonce != nonce_) return false;
  // Heard twice, it was repeated by somebody else, and the map may be of either place: one of the
  // second has what is kept from between them applied already. Tokens would be touched twice, and
  // never be anybody else's again; so it is asked anew.
  if (state_ == State::kWaiting) {
    state_ = State::kToAsk;
    kept_.clear();
    kept_bytes_ = 0;
    return true;
  }
  state_ = State::kWaiting;
  return true;
}

bool Join::keep(Heard heard) {
  if (state_ != State::kWaiting) return true;
  kept_bytes_ += heard.payload.size();
  if (kept_.size() >= kKeptMax || kept_bytes_ > kKeptBytesMax) {
    cancel();
    return false;
  }
  kept_.push_back(std::move(heard));
  return true;
}

bool Join::expire(int64_t now_ns) {
  if (state_ == State::kIdle || now_ns < until_ns_) return false;
  cancel();
  return true;
}

std::vector<Join::Heard> Join::finish() {
  PGFRESH_CHECK(state_ == State::kWaiting);
  std::vector<Heard> kept = std::move(kept_);
  cancel();
  return kept;
}

}  // namespace pgfresh::freshness
