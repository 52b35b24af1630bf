// The stage of a play with several proxies and one Redis between them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fake_postgres.h"
#include "fake_redis.h"
#include "manual_loop.h"
#include "proxy_node.h"
#include "wire_client.h"

namespace pgfresh::sim {

class Fleet {
 public:
  explicit Fleet(NodeOptions options_in = {}) : options(std::move(options_in)) {
    options.redis = &redis;
    options.settings.remote_ask = proxy::RemoteAsk::kAlways;  // time stands still: nothing pays
    for (int64_t id = 1; id <= 3; ++id) postgres.database().put(id, id * 10);
  }

  // One more process, its feed wanted; what it needs to be live takes its time.
  ProxyNode& add() {
    nodes.push_back(std::make_unique<ProxyNode>(time, postgres, options, ++seed_));
    nodes.back()->domain().settler().wanted();
    time.settle();
    return *nodes.back();
  }
  // Its end; its place stays empty.
  void stop(ProxyNode& node) {
    node.kill();
    for (auto& one : nodes) {
      if (one.get() == &node) gone_.push_back(std::move(one));
    }
    std::erase(nodes, nullptr);
    time.settle();
  }
  WireClient& client(ProxyNode& node) {
    MemoryPair pair = node.accept(client_loop);
    pipes.push_back(pair.pipe);
    return logged_in(std::move(pair.first));
  }
  WireClient& direct() { return logged_in(postgres.accept(client_loop)); }

  std::string ask(WireClient& who, std::string_view sql) {
    who.query(sql);
    run();
    return who.take();
  }
  void run() {
    for (const auto& client : clients_) client->send();
    time.settle();
  }
  std::string sent() { return postgres.take_log(); }
  [[nodiscard]] static bool live(const ProxyNode& node) { return node.feed().state == "live"; }
  [[nodiscard]] static uint64_t base(ProxyNode& node) { return node.domain().tokens().base(); }
  // Equal in every slot.
  [[nodiscard]] static bool agree(ProxyNode& a, ProxyNode& b) {
    return base(a) == base(b) && a.domain().tokens().touched() == b.domain().tokens().touched();
  }

  NodeOptions options;
  ManualTime time;
  ManualLoop client_loop{time};
  ManualLoop server_loop{time};
  ManualLoop redis_loop{time};
  FakePostgres postgres{server_loop};
  FakeRedis redis{redis_loop};
  std::vector<std::unique_ptr<ProxyNode>> nodes;
  std::vector<std::shared_ptr<MemoryPipe>> pipes;  // of client(), in order; side 1 is the proxy's

 private:
  WireClient& logged_in(std::unique_ptr<Stream> stream) {
    clients_.push_back(std::make_unique<WireClient>(client_loop));
    WireClient& made = *clients_.back();
    made.connect(std::move(stream));
    made.startup();
    run();
    made.forget();
    static_cast<void>(sent());
    return made;
  }

  uint64_t seed_ = 0;
  std::vector<std::unique_ptr<ProxyNode>> gone_;
  std::vector<std::unique_ptr<WireClient>> clients_;
};

}  // namespace pgfresh::sim
