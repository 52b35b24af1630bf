// The options the data path needs, as one immutable value; a reload swaps it whole.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace pgfresh::proxy {

enum class CacheMode : uint8_t { kOn, kOff };
// When the second level is asked: where it pays (remote_cost.h), or whenever it is there.
enum class RemoteAsk : uint8_t { kWherePays, kAlways };
// One fetch for a key among all proxies of the fleet, where that pays; or each for itself.
enum class FleetFlight : uint8_t { kOff, kWherePays };

struct Settings {
  CacheMode cache_mode = CacheMode::kOn;

  int64_t ttl_ms = 300'000;            // how long an entry lives without any write
  int ttl_jitter_percent = 10;         // each entry's TTL is shortened by up to this share
  uint32_t entry_bytes_max = 1 << 20;  // larger answers are not stored
  int64_t single_flight_wait_ms = 1000;
  // The second level, where there is one.
  int64_t remote_budget_ms = 20;  // no request waits longer for it
  int64_t remote_ttl_ms = 0;      // of entries there; 0: ttl_ms
  RemoteAsk remote_ask = RemoteAsk::kWherePays;
  FleetFlight fleet_flight = FleetFlight::kWherePays;
  uint32_t text_bytes_max = 16 * 1024;  // longer query texts are forwarded unanalysed
  uint32_t memo_entries_max = 10'000;   // analysed texts remembered, per worker

  uint32_t clients_max = 10'000;
  uint32_t message_bytes_max = 0x3fffffff;
  int64_t login_ms_max = 60'000;
  int64_t idle_ms_max = 0;        // 0: no limit
  int64_t drain_ms_max = 30'000;  // TERM: how long transactions may go on
};

using SettingsRef = std::shared_ptr<const Settings>;

}  // namespace pgfresh::proxy
