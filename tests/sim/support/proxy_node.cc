#include "proxy_node.h"

#include <utility>

namespace pgfresh::sim {
namespace {

constexpr uint64_t kTopBit = uint64_t{1} << 63;

}  // namespace

uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15U;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// What a proxy would do without rule 4's patience, or without rule 14.
class ProxyNode::BadSettler final : public freshness::Settler {
 public:
  BadSettler(freshness::Domain& domain, freshness::Settler& real, Sabotage sabotage)
      : domain_(domain),
        real_(real),
        early_(sabotage == Sabotage::kSettleEarly),
        deaf_(sabotage == Sabotage::kVouchUnheard) {}

  void ended(freshness::Writes writes) override {
    if (early_) {
      close(writes.slots);
      writes.slots.clear();
    } else if (!deaf_) {
      writes.events.clear();
    }
    real_.ended(std::move(writes));
  }
  void lost(uint32_t backend_pid, freshness::Writes writes) override {
    if (early_) {
      close(writes.slots);
      writes.slots.clear();
    } else if (!deaf_) {
      writes.events.clear();
    }
    real_.lost(backend_pid, std::move(writes));
  }
  void ddl_ended(freshness::Writes writes) override { real_.ddl_ended(std::move(writes)); }
  void prepared(freshness::Writes writes) override { real_.prepared(std::move(writes)); }
  void unheard() override {
    if (!deaf_) real_.unheard();
  }
  void elsewhere() override { real_.elsewhere(); }
  void wanted() override { real_.wanted(); }
  void carrying_wanted() override { real_.carrying_wanted(); }

 private:
  void close(const std::vector<uint32_t>& slots) {
    for (const uint32_t slot : slots) domain_.tokens().close(slot);
  }

  freshness::Domain& domain_;
  freshness::Settler& real_;
  const bool early_;
  const bool deaf_;
};

ProxyNode::ProxyNode(ManualTime& time, FakePostgres& server, NodeOptions options, uint64_t seed)
    : server_(server),
      worker_loop_(time),
      control_loop_(time),
      random_(seed),
      store_(size_t{1} << 20, 1),
      flights_(1),
      connector_(server.connector(worker_loop_)),
      control_(server.control(control_loop_)),
      domain_("shop", options.slot_bits, random_.next() | kTopBit),
      shared_{store_,
              flights_,
              scopes_,
              cancels_,
              log_,
              [this](const std::string&) { return &domain_; },
              [](const std::string&) {},
              [this] { return random_.next(); }} {
  const auto on_touched = [this, free = options.free_on_event](uint32_t slot, uint64_t before) {
    if (!free) return;
    store_.remove_slot(&domain_.tokens(), slot);
    if (control_remote_) control_remote_->freed(slot, before);
  };
  if (options.redis != nullptr) {
    control_remote_ = options.redis->connect(control_loop_);
    options.feed.mailbox = control_remote_.get();
  }
  feed_ = std::make_unique<freshness::Feed>(
      domain_, control_loop_, *control_, options.feed, [this] { return random_.next(); },
      on_touched);
  domain_.set_settler(feed_.get());
  if (options.sabotage != Sabotage::kNone) {
    bad_ = std::make_unique<BadSettler>(domain_, *feed_, options.sabotage);
    domain_.set_settler(bad_.get());
  }
  worker_ = std::make_unique<proxy::Worker>(
      worker_loop_, *connector_, shared_, std::make_shared<proxy::Settings>(options.settings),
      [this](proxy::ConsoleClient client) { consoles_.push_back(std::move(client)); });
  if (options.redis == nullptr) return;
  FakeRedis* redis = options.redis;
  remote_ = redis->connect(worker_loop_);
  remote_->set_alive([this](const freshness::Stamp& stamp) {
    return freshness::judge(domain_.tokens(), stamp) == freshness::Judgement::kFresh;
  });
  if (options.sabotage == Sabotage::kStampLate) {
    remote_->set_restamp([this](freshness::Stamp& stamp) {
      for (freshness::SlotToken& pair : stamp) pair.token = domain_.tokens().token(pair.slot);
    });
  }
  worker_->set_remote({remote_.get(), [redis] { return redis->unix_ms(); }});
}

ProxyNode::~ProxyNode() = default;

MemoryPair ProxyNode::accept(Loop& loop) {
  MemoryPair pair = connected_pair(loop, worker_loop_);
  std::erase_if(pipes_, [](const auto& pipe) { return pipe.expired(); });
  pipes_.push_back(pair.pipe);
  worker_->accept(std::move(pair.second));
  return pair;
}

void ProxyNode::freeze() {
  worker_loop_.stop();
  control_loop_.stop();
}

void ProxyNode::kill() {
  freeze();
  dead_ = true;
  server_.cut_off(worker_loop_, control_loop_);
  for (const auto& weak : pipes_) {
    if (const auto pipe = weak.lock()) pipe->cut("connection reset by peer");
  }
}

void ProxyNode::thaw() {
  if (dead_) return;
  worker_loop_.go_on();
  control_loop_.go_on();
}

void ProxyNode::set_settings(const proxy::Settings& settings) {
  worker_->set_settings(std::make_shared<proxy::Settings>(settings));
}

}  // namespace pgfresh::sim
