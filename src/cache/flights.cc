// A flight is in its shard's table from the leader's join to the end of the leader's duty. Waiters
// are taken out of it under the lock and woken outside: each is woken once or withdraws, and a
// wake-up that was taken out just before a withdrawal still comes, as the header says.
//
// A place keeps its shard alive, so that the order in which sessions and Flights are destroyed
// does not matter.
#include "cache/flights.h"

#include <bit>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace pgfresh::cache {
namespace {

struct KeyHash {
  size_t operator()(const Hash128& hash) const { return hash.low; }
};

}  // namespace

struct Flights::Flight {
  std::string key;
  Hash128 hash;
  freshness::Stamp stamp;
  std::unordered_map<uint64_t, Wake> waiters;  // by number; under the shard's lock
  uint64_t next_number = 0;
};

struct Flights::Shard {
  std::mutex mutex;
  std::unordered_multimap<Hash128, std::shared_ptr<Flight>, KeyHash> flights;

  [[nodiscard]] std::shared_ptr<Flight> find(const Key& key) {
    auto [it, end] = flights.equal_range(key.hash);
    while (it != end && it->second->key != key.bytes) ++it;
    return it != end ? it->second : nullptr;
  }

  void erase(const Flight& flight) {
    auto [it, end] = flights.equal_range(flight.hash);
    while (it != end && it->second.get() != &flight) ++it;
    PGFRESH_CHECK(it != end);
    flights.erase(it);
  }
};

class Flights::LeadPlace final : public Flights::Lead {
 public:
  LeadPlace(std::shared_ptr<Shard> shard, std::shared_ptr<Flight> flight)
      : shard_(std::move(shard)), flight_(std::move(flight)) {}
  ~LeadPlace() override {
    std::unordered_map<uint64_t, Wake> waiters;
    {
      const std::lock_guard lock(shard_->mutex);
      shard_->erase(*flight_);
      waiters.swap(flight_->waiters);
    }
    for (const auto& [number, wake] : waiters) wake();
  }
  LeadPlace(const LeadPlace&) = delete;
  LeadPlace& operator=(const LeadPlace&) = delete;

 private:
  const std::shared_ptr<Shard> shard_;
  const std::shared_ptr<Flight> flight_;
};

class Flights::WaitPlace final : public Flights::Wait {
 public:
  WaitPlace(std::shared_ptr<Shard> shard, std::shared_ptr<Flight> flight, uint64_t number)
      : shard_(std::move(shard)), flight_(std::move(flight)), number_(number) {}
  ~WaitPlace() override {
    Wake withdrawn;  // destroyed outside the lock: it may own anything
    const std::lock_guard lock(shard_->mutex);
    const auto place = flight_->waiters.find(number_);
    if (place == flight_->waiters.end()) return;
    withdrawn = std::move(place->second);
    flight_->waiters.erase(place);
  }
  WaitPlace(const WaitPlace&) = delete;
  WaitPlace& operator=(const WaitPlace&) = delete;

 private:
  const std::shared_ptr<Shard> shard_;
  const std::shared_ptr<Flight> flight_;
  const uint64_t number_;
};

Flights::Flights(size_t shards) {
  PGFRESH_CHECK(std::has_single_bit(shards));
  for (size_t i = 0; i < shards; ++i) shards_.push_back(std::make_shared<Shard>());
}

Flights::~Flights() = default;

Flights::Ticket Flights::join(const Key& key, const freshness::Stamp& stamp, Wake wake) {
  const std::shared_ptr<Shard>& shard = shards_[key.hash.high & (shards_.size() - 1)];
  const std::lock_guard lock(shard->mutex);
  Ticket ticket;
  std::shared_ptr<Flight> flight = shard->find(key);
  if (flight == nullptr) {
    flight = std::make_shared<Flight>();
    flight->key = key.bytes;
    flight->hash = key.hash;
    flight->stamp = stamp;
    shard->flights.emplace(key.hash, flight);
    ticket.lead = std::make_unique<LeadPlace>(shard, std::move(flight));
    return ticket;
  }
  if (flight->stamp != stamp || flight->waiters.size() >= kWaitersMax) return ticket;
  const uint64_t number = flight->next_number++;
  flight->waiters.emplace(number, std::move(wake));
  ticket.wait = std::make_unique<WaitPlace>(shard, std::move(flight), number);
  return ticket;
}

uint64_t Flights::in_flight() const {
  uint64_t total = 0;
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    total += shard->flights.size();
  }
  return total;
}

}  // namespace pgfresh::cache
