#include "freshness/join.h"

#include <doctest/doctest.h>

#include <string>

#include "freshness/token_table.h"
#include "freshness/vigil.h"

namespace pgfresh::freshness {
namespace {

constexpr uint64_t kTopBit = uint64_t{1} << 63;
constexpr int64_t kMs = 1'000'000;
constexpr Hash128 kNonce{0x0123456789abcdefU, 0xfedcba9876543210U};

SlotMap some_map() {
  SlotMap map;
  map.slot_bits = 10;
  map.base = kTopBit + 77;
  map.base_age_ns = 5000 * kMs;
  map.touched = {{0, 5}, {3, kTopBit - 1}, {1023, 9}};
  map.publishers = {{4711, 3 * kMs, 2 * kMs}};
  return map;
}

TEST_CASE("join words: there and back") {
  const auto ask = parse_fleet_word(format_ask(kNonce, 0, 0));
  REQUIRE(ask);
  CHECK(ask->kind == FleetWord::Kind::kAsk);
  CHECK(ask->nonce == kNonce);
  CHECK(ask->base == 0);
  CHECK(format_ask(kNonce, 0, 0) == "2 j fedcba98765432100123456789abcdef");
  const auto merge = parse_fleet_word(format_ask(kNonce, kTopBit + 1, 0));
  REQUIRE(merge);
  CHECK(merge->base == kTopBit + 1);
  const auto lineage = parse_fleet_word(format_lineage(kTopBit + 2));
  REQUIRE(lineage);
  CHECK(lineage->kind == FleetWord::Kind::kLineage);
  CHECK(lineage->base == kTopBit + 2);
  const auto of_one = parse_fleet_word(format_ask(kNonce, kTopBit, 4711));
  REQUIRE(of_one);
  CHECK(of_one->base == kTopBit);
  CHECK(of_one->peer == 4711);
  const auto digest = parse_fleet_word(format_digest(12));
  REQUIRE(digest);
  CHECK(digest->kind == FleetWord::Kind::kDigest);
  CHECK(digest->digest == 12);
}

TEST_CASE("join words: what is none of these is nothing") {
  const std::string ask = format_ask(kNonce, kTopBit, 4711);
  for (size_t size = 0; size < ask.size(); ++size) {
    if (size == 4 + 32 || size == 4 + 32 + 17) continue;  // without a base, without a peer
    CHECK_FALSE(parse_fleet_word(ask.substr(0, size)));
  }
  CHECK_FALSE(parse_fleet_word(ask + "0"));
  CHECK_FALSE(parse_fleet_word(format_ask(kNonce, kTopBit, 0) + " 0000000000000000"));
  CHECK_FALSE(parse_fleet_word(format_ask(kNonce, kTopBit, 0) + " 0000000100000000"));
  CHECK_FALSE(parse_fleet_word("2 d 1"));
  CHECK_FALSE(parse_fleet_word("2 x 1"));
  CHECK_FALSE(parse_fleet_word("2 l 0000000000000001"));  // no base
  CHECK_FALSE(parse_fleet_word("2 l +000000000000001"));
  CHECK_FALSE(parse_fleet_word("2 l 8000000000000001 "));
}

TEST_CASE("join map: there and back, and nothing else") {
  const auto bytes = encode_map(some_map(), kNonce);
  REQUIRE(bytes);
  const auto map = decode_map(*bytes, kNonce);
  REQUIRE(map);
  CHECK(map->slot_bits == 10);
  CHECK(map->base == kTopBit + 77);
  CHECK(map->base_age_ns == 5000 * kMs);
  CHECK(map->touched == some_map().touched);
  REQUIRE(map->publishers.size() == 1);
  CHECK(map->publishers[0].sender == 4711);
  CHECK(map->publishers[0].told_age_ns == 3 * kMs);
  CHECK(map->publishers[0].beat_age_ns == 2 * kMs);
  // Under another nonce, cut anywhere, or with any bit turned it is no map.
  CHECK_FALSE(decode_map(*bytes, {kNonce.high, kNonce.low}));
  for (size_t size = 0; size < bytes->size(); ++size) {
    CHECK_FALSE(decode_map(std::string_view(*bytes).substr(0, size), kNonce));
  }
  for (size_t at = 0; at < bytes->size(); ++at) {
    std::string turned = *bytes;
    turned[at] = static_cast<char>(turned[at] ^ 16);
    CHECK_FALSE(decode_map(turned, kNonce));
  }
  CHECK_FALSE(decode_map(*bytes + "x", kNonce));
}

TEST_CASE("join map: sealed rightly, and still not to be believed") {
  const auto refused = [](auto change) {
    SlotMap map = some_map();
    change(map);
    const auto bytes = encode_map(map, kNonce);
    return bytes && !decode_map(*bytes, kNonce);
  };
  CHECK(refused([](SlotMap& map) { map.touched[2].slot = 1024; }));
  CHECK(refused([](SlotMap& map) { map.touched[0].token = 0; }));
  CHECK(refused([](SlotMap& map) { map.base = 1; }));
  CHECK(refused([](SlotMap& map) { map.slot_bits = 25; }));
  CHECK(refused([](SlotMap& map) { map.base_age_ns = -1; }));
  CHECK(refused([](SlotMap& map) { map.publishers[0].told_age_ns = INT64_MAX; }));
  CHECK(refused([](SlotMap& map) { map.publishers[0].beat_age_ns = -1; }));
  SlotMap large = some_map();
  large.touched.assign(kMapBytesMax / 12, SlotToken{1, 1});
  CHECK_FALSE(encode_map(large, kNonce));
}

TEST_CASE("join map: where it lies does not tell the nonce") {
  CHECK(map_address(kNonce) == map_address(kNonce));
  CHECK(map_address(kNonce) != map_address({kNonce.high, kNonce.low}));
  CHECK(map_address(kNonce).find("0123456789abcdef") == std::string::npos);
}

TEST_CASE("join: asks, hears itself, keeps what follows") {
  Join join;
  CHECK_FALSE(join.under_way());
  join.begin(Join::Kind::kStart, 0, 1000 * kMs, 0, 0);
  CHECK(join.blocks_lease());
  REQUIRE(join.wants_to_ask(0));
  CHECK(join.ask(0, kNonce) == format_ask(kNonce, 0, 0));
  CHECK_FALSE(join.wants_to_ask(249 * kMs));
  CHECK(join.keep({"1 5 s", 1, 0}));  // before its own word has come: the map holds it
  CHECK_FALSE(join.heard_question({1, 2}));
  CHECK(join.heard_question(kNonce));
  CHECK(join.may_collect());
  CHECK(join.keep({"1 6 s", 1, 0}));
  const auto kept = join.finish();
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].payload == "1 6 s");
  CHECK_FALSE(join.under_way());
}

TEST_CASE("join: asks again under another nonce, and ends in time") {
  Join join;
  join.begin(Join::Kind::kStart, 0, 1000 * kMs, 0, 0);
  static_cast<void>(join.ask(0, kNonce));
  CHECK(join.heard_question(kNonce));
  CHECK(join.keep({"1 5 s", 1, 0}));
  REQUIRE(join.wants_to_ask(250 * kMs));
  static_cast<void>(join.ask(250 * kMs, {1, 2}));
  CHECK_FALSE(join.may_collect());  // answers to the first one are not waited for
  CHECK_FALSE(join.heard_question(kNonce));
  CHECK(join.heard_question({1, 2}));
  CHECK(join.keep({"1 6 s", 1, 0}));
  CHECK(join.asked_ns() == 250 * kMs);
  CHECK_FALSE(join.expire(999 * kMs));
  CHECK(join.expire(1000 * kMs));
  CHECK_FALSE(join.under_way());
  CHECK_FALSE(join.wants_to_ask(2000 * kMs));
}

TEST_CASE("join: a question that somebody repeats is asked anew") {
  Join join;
  join.begin(Join::Kind::kMerge, 0, 1000 * kMs, kTopBit, 0);
  CHECK_FALSE(join.blocks_lease());
  CHECK(join.ask(0, kNonce) == format_ask(kNonce, kTopBit, 0));
  CHECK(join.heard_question(kNonce));
  CHECK(join.heard_question(kNonce));
  CHECK_FALSE(join.may_collect());
  CHECK(join.wants_to_ask(0));
}

TEST_CASE("join: what is kept has a bound") {
  Join join;
  join.begin(Join::Kind::kStart, 0, 1000 * kMs, 0, 0);
  static_cast<void>(join.ask(0, kNonce));
  CHECK(join.heard_question(kNonce));
  int kept = 0;
  while (join.keep({"1 6 w 16402", 1, 0})) ++kept;
  CHECK(kept == 20'000);
  CHECK_FALSE(join.under_way());
}

TEST_CASE("token table: a copy is equal in every slot, and goes on alike") {
  TokenTable peer(8, kTopBit + 5);
  for (uint32_t slot = 0; slot < 256; slot += 7) peer.touch(slot, 100 + slot);
  TokenTable copy(8, kTopBit + 6);
  copy.touch(3, 50);
  copy.touch(0, 51);
  copy.adopt(kTopBit + 7, peer.base(), peer.touched());
  for (uint32_t slot = 0; slot < 256; ++slot) CHECK(copy.token(slot) == peer.token(slot));
  CHECK(copy.touched() == peer.touched());
  CHECK(copy.digest() == peer.digest());
  for (TokenTable* table : {&peer, &copy}) {
    table->touch(0, 900);
    table->touch(8, 901);
  }
  for (uint32_t slot = 0; slot < 256; ++slot) CHECK(copy.token(slot) == peer.token(slot));
}

TEST_CASE(
    "token table: its digest tells whether another one is equal, in whatever order it came to be") {
  TokenTable one(8, kTopBit + 5);
  TokenTable two(8, kTopBit + 5);
  CHECK(one.digest() == two.digest());
  one.touch(3, 50);
  CHECK(one.digest() != two.digest());
  one.touch(9, 51);
  two.touch(9, 51);
  two.touch(3, 50);
  CHECK(one.digest() == two.digest());
  one.touch(0, 60);
  two.touch(1, 60);
  CHECK(one.digest() != two.digest());
  one.touch(1, 60);
  two.touch(0, 60);
  CHECK(one.digest() == two.digest());
  one.rebase(kTopBit + 6);
  CHECK(one.digest() == TokenTable(8, kTopBit + 7).digest());
}

TEST_CASE("vigil: publishers that are taken over get no more time than the peer gives them") {
  Vigil peer;
  peer.set_staleness(1000 * kMs);
  peer.begin_session(1000 * kMs);
  REQUIRE(peer.looked(1000 * kMs, {}) == Vigil::Outcome::kNothing);  // alone
  peer.heard({7, true, 2000 * kMs, 0});
  peer.heard({8, true, 2100 * kMs, 0});
  CHECK_FALSE(peer.mourning());

  Vigil newcomer;
  newcomer.set_staleness(1000 * kMs);
  newcomer.begin_session(50'000 * kMs);
  CHECK(newcomer.mourning());
  // Its clock says otherwise; it asked 20 ms before the peer wrote its map.
  newcomer.adopt(peer.ages(2300 * kMs), 50'280 * kMs);
  CHECK_FALSE(newcomer.mourning());
  CHECK(newcomer.publishers() == 2);
  CHECK(newcomer.heard_ns() == 49'980 * kMs);
  CHECK_FALSE(newcomer.give_up(50'700 * kMs));
  CHECK(newcomer.give_up(50'731 * kMs));
  CHECK(newcomer.publishers() == 1);
  CHECK(newcomer.blocks_lease());
}

}  // namespace
}  // namespace pgfresh::freshness
