// The second level in Redis: one for each loop, over a RedisClient of its own. Loop thread only,
// but for what says otherwise.
//
// What a put costs Redis: SET, and for each slot of the stamp but schema's a ZADD and a PEXPIRE of
// its set, all in one write. Schema's slot has no set: every entry would be in it. What a schema
// event kills expires, or is evicted.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/counters.h"
#include "base/throttle.h"
#include "cache/entry_codec.h"
#include "cache/redis_client.h"
#include "cache/redis_freeing.h"
#include "cache/redis_names.h"
#include "cache/redis_sweep.h"
#include "pgfresh/remote_store.h"

namespace pgfresh::cache {

struct RedisStoreOptions {
  RedisClientOptions client;
  CodecOptions codec;
  std::string prefix = "pgfresh:";
};

class RedisStore final : public RemoteStore, public Mailbox {
 public:
  using Pending = RemoteStore::Pending;
  // For SHOW REDIS and the metrics page, by Decoded. Any thread.
  using BrokenGauges = std::array<std::atomic<uint64_t>, kDecodedCount>;

  // As for RedisClient. `unix_ms`: the wall clock, for expiry alone.
  RedisStore(Loop& loop, Connector& connector, RedisStoreOptions options,
             std::function<uint64_t()> random, std::function<int64_t()> unix_ms, Counters& counters,
             Log& log);

  void start() { client_.start(); }
  void stop() { client_.stop(); }

  [[nodiscard]] bool available() const override { return client_.ready(); }
  [[nodiscard]] int64_t round_trip_ns() const override { return round_trip_ns_; }
  [[nodiscard]] std::unique_ptr<Pending> get(std::string_view key,
                                             std::span<const freshness::SlotToken> stamp,
                                             Got done) override;
  void put(const RemoteEntry& entry) override;
  [[nodiscard]] std::unique_ptr<Pending> lock(std::string_view key,
                                              std::span<const freshness::SlotToken> stamp,
                                              int64_t ttl_ms, LockDone done) override;
  void unlock(std::string_view key, std::span<const freshness::SlotToken> stamp) override;
  void freed(uint32_t slot, uint64_t token) override { freeing_.freed({slot, token}); }

  [[nodiscard]] bool mail_available() const override { return client_.ready(); }
  [[nodiscard]] std::unique_ptr<Pending> post(std::string_view address, std::string_view bytes,
                                              int64_t ttl_ms, Posted done) override;
  [[nodiscard]] std::unique_ptr<Pending> collect(std::string_view address, Collected done) override;

  // What may change while it runs: the client's budget and bounds, and the keys.
  void set_options(RedisClientOptions client, const SealKeys& keys);
  // Frees all entries there are, of all databases, in the background.
  void flush_all() {
    sweep_.begin({}, [](bool) {});
  }
  // Frees the answers to one query, of all databases. `done`: as RedisSweep's, with how many were
  // found.
  void flush_query(uint64_t query_id, std::function<void(bool whole, size_t found)> done);

  [[nodiscard]] RedisClient& client() { return client_; }
  [[nodiscard]] const RedisClient& client() const { return client_; }
  [[nodiscard]] const BrokenGauges& broken() const { return broken_; }  // any thread

 private:
  template <typename Callback>
  class Asked;

  struct Question {
    Hash128 hash;  // the entry's name
    int64_t asked_ns = 0;
  };

  void got(RedisClient::Outcome outcome, const RedisReply& reply, const Question& question,
           const Got& done);
  void collected(const std::string& address, const RedisReply& reply, const Collected& done);
  void register_tags(const RemoteEntry& entry, const Hash128& hash, int64_t now_unix_ms);
  void count_broken(Decoded decoded);
  void release(const std::string& name);
  void give_back(const std::string& name, int64_t until_ns);
  void give_back_owed();
  void forget_old_locks(int64_t now_ns);

  // Constant after construction.
  Loop& loop_;
  const std::function<uint64_t()> random_;
  const std::function<int64_t()> unix_ms_;
  Counters& counters_;
  const RedisNames names_;

  // Loop thread only.
  EntryCodec codec_;
  EntryCodec mail_codec_;
  Log& log_;
  Throttle keys_throttle_;
  std::string encoded_;
  int64_t round_trip_ns_ = 0;
  int64_t longest_ttl_ms_ = 0;
  std::unordered_map<std::string, int64_t> locks_;  // names of those held, until when (loop clock)
  std::vector<std::pair<std::string, int64_t>> owed_;  // locks to be given back when Redis listens
  RedisClient client_;
  RedisFreeing freeing_;
  RedisSweep sweep_;

  // Shared.
  BrokenGauges broken_{};
};

}  // namespace pgfresh::cache
