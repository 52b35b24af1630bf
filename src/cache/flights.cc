// A flight is in its shard's table from join() to the end of the leader's duty. Waiters are taken
// out of it under the lock and woken outside: each is woken once or withdraws, and a wake-up that
// was taken out just before a withdrawal still comes, as the header says.
//
// A place keeps its shard alive, so that the order in which sessions and Flights are destroyed
// does not matter.
#include "cache/flights.h"

#include <array>
#include <bit>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace pgfresh::cache {
namespace {

// As many fetches run at once as there are sessions: a few in each bucket at the very most.
constexpr size_t kBuckets = 256;

}  // namespace

// Under the shard's lock.
struct Flights::Waiters {
  std::unordered_map<uint64_t, Wake> by_number;
  uint64_t next_number = 0;
};

struct Flights::Shard {
  std::mutex mutex;
  std::array<Lead*, kBuckets> buckets{};
  uint64_t flights = 0;

  [[nodiscard]] Lead*& bucket_of(const Hash128& hash) { return buckets[hash.low % kBuckets]; }
};

void Flights::Lead::end() {
  if (shard_ == nullptr) return;
  const std::shared_ptr<Shard> shard = std::move(shard_);
  std::unordered_map<uint64_t, Wake> woken;
  {
    const std::lock_guard lock(shard->mutex);
    Lead** place = &shard->bucket_of(key_.hash);
    while (*place != this) {
      PGFRESH_CHECK(*place != nullptr);
      place = &(*place)->next_;
    }
    *place = next_;
    --shard->flights;
    if (waiters_ != nullptr) woken.swap(waiters_->by_number);
  }
  waiters_.reset();
  for (const auto& [number, wake] : woken) wake();
}

class Flights::WaitPlace final : public Flights::Wait {
 public:
  WaitPlace(std::shared_ptr<Shard> shard, std::shared_ptr<Waiters> waiters, uint64_t number)
      : shard_(std::move(shard)), waiters_(std::move(waiters)), number_(number) {}
  ~WaitPlace() override {
    Wake withdrawn;  // destroyed outside the lock: it may own anything
    const std::lock_guard lock(shard_->mutex);
    const auto place = waiters_->by_number.find(number_);
    if (place == waiters_->by_number.end()) return;
    withdrawn = std::move(place->second);
    waiters_->by_number.erase(place);
  }
  WaitPlace(const WaitPlace&) = delete;
  WaitPlace& operator=(const WaitPlace&) = delete;

 private:
  const std::shared_ptr<Shard> shard_;
  const std::shared_ptr<Waiters> waiters_;
  const uint64_t number_;
};

Flights::Flights(size_t shards) {
  PGFRESH_CHECK(std::has_single_bit(shards));
  for (size_t i = 0; i < shards; ++i) shards_.push_back(std::make_shared<Shard>());
}

Flights::~Flights() = default;

Flights::Part Flights::join(const Key& key, const freshness::Stamp& stamp, const Wake& wake,
                            Lead& lead, std::unique_ptr<Wait>& wait) {
  PGFRESH_CHECK(!lead);
  const std::shared_ptr<Shard>& shard = shards_[key.hash.high & (shards_.size() - 1)];
  const std::lock_guard lock(shard->mutex);
  Lead*& bucket = shard->bucket_of(key.hash);
  Lead* flight = bucket;
  while (flight != nullptr && (flight->key_.hash != key.hash || flight->key_.bytes != key.bytes)) {
    flight = flight->next_;
  }
  if (flight == nullptr) {
    lead.shard_ = shard;
    lead.key_ = key;
    lead.stamp_ = &stamp;
    lead.next_ = std::exchange(bucket, &lead);
    ++shard->flights;
    return Part::kLead;
  }
  if (*flight->stamp_ != stamp) return Part::kAlone;
  if (flight->waiters_ == nullptr) flight->waiters_ = std::make_shared<Waiters>();
  const std::shared_ptr<Waiters>& waiters = flight->waiters_;
  if (waiters->by_number.size() >= kWaitersMax) return Part::kAlone;
  const uint64_t number = waiters->next_number++;
  waiters->by_number.emplace(number, wake);
  wait = std::make_unique<WaitPlace>(shard, waiters, number);
  return Part::kWait;
}

uint64_t Flights::in_flight() const {
  uint64_t total = 0;
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    total += shard->flights;
  }
  return total;
}

}  // namespace pgfresh::cache
