// The stage of a play: time, one PostgreSQL, one proxy, clients. `run()` sends what the clients
// have to say and lets everything happen that can happen now.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_postgres.h"
#include "manual_loop.h"
#include "proxy_node.h"
#include "wire_client.h"

namespace pgfresh::sim {

class World {
 public:
  enum class Level2 : uint8_t { kNone, kRedis };

  explicit World(NodeOptions options = {}, Level2 level2 = Level2::kNone)
      : redis_loop(level2 == Level2::kRedis ? std::make_unique<ManualLoop>(time) : nullptr),
        redis(redis_loop ? std::make_unique<FakeRedis>(*redis_loop) : nullptr),
        proxy(time, postgres, with_redis(std::move(options), redis.get()), 1) {
    for (int64_t id = 1; id <= 3; ++id) postgres.database().put(id, id * 10);
  }

  // A client connected to the proxy, or to PostgreSQL itself; nothing is said yet.
  WireClient& client() {
    clients_.push_back(std::make_unique<WireClient>(client_loop));
    MemoryPair pair = proxy.accept(client_loop);
    pipes.push_back(pair.pipe);
    clients_.back()->connect(std::move(pair.first));
    return *clients_.back();
  }
  WireClient& direct_client() {
    clients_.push_back(std::make_unique<WireClient>(client_loop));
    clients_.back()->connect(postgres.accept(client_loop));
    return *clients_.back();
  }
  // A client that is logged in, in a world where the feed is live.
  WireClient& session() {
    WireClient& made = client();
    made.startup();
    run();
    advance_ms(10);
    made.forget();
    static_cast<void>(postgres.take_log());
    return made;
  }

  void run() {
    for (const auto& client : clients_) client->send();
    time.settle();
  }
  void advance_ms(int64_t ms) {
    for (const auto& client : clients_) client->send();
    time.advance_ms(ms);
  }
  // Says it, lets it happen, and tells what came back.
  std::string ask(WireClient& who, std::string_view sql) {
    who.query(sql);
    run();
    return who.take();
  }
  // What PostgreSQL has been sent since the last call. A BEGIN of pgfresh's own, which names its
  // isolation, is told as any other.
  std::string sent() {
    constexpr std::string_view kOwnBegin = "begin isolation level read committed";
    std::string log = postgres.take_log();
    const size_t at = log.find(kOwnBegin);
    if (at != std::string::npos) log.replace(at, kOwnBegin.size(), "BEGIN");
    return log;
  }
  [[nodiscard]] uint64_t count(Counter counter) const { return proxy.count(counter); }
  [[nodiscard]] uint64_t hits() const { return proxy.count(Counter::kHitsL1); }

  ManualTime time;
  ManualLoop client_loop{time};
  ManualLoop server_loop{time};
  FakePostgres postgres{server_loop};
  std::unique_ptr<ManualLoop> redis_loop;
  std::unique_ptr<FakeRedis> redis;
  ProxyNode proxy;
  std::vector<std::shared_ptr<MemoryPipe>> pipes;  // of client(), in order; side 1 is the proxy's

 private:
  static NodeOptions with_redis(NodeOptions options, FakeRedis* redis) {
    options.redis = redis;
    return options;
  }

  std::vector<std::unique_ptr<WireClient>> clients_;
};

// Everything on its way from the feed to the proxy, and back, stands still.
struct HeldFeed {
  explicit HeldFeed(World& world_in) : world(world_in) { world.postgres.hold_control(true, true); }
  ~HeldFeed() { world.postgres.release_control(); }
  HeldFeed(const HeldFeed&) = delete;
  HeldFeed& operator=(const HeldFeed&) = delete;
  World& world;
};

}  // namespace pgfresh::sim
