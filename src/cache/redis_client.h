// One loop's connection to Redis: pipelined, bounded, and never waited for longer than the budget.
//
// Redis is trusted with nothing and relied on for nothing. So there is no queue for better times:
// a request is sent now or refused now, and one that is sent is answered, by Redis or by the
// clock, within the budget. What is refused is a miss.
//
//   kWaiting ──▶ kConnecting ──▶ kGreeting ──▶ kReady ◀──▶ kTripped, kProbing
//      ▲──────────────┴───────────────┴───────────┴────────────┘   (whatever breaks the connection)
//
// The circuit breaker is part of that: it trips when a request got no answer and nothing else came
// either since it was sent, or when several in a row were late. Then nothing is sent but, after a
// pause, one PING; its answer in time closes the breaker (half open). A connection that stays
// silent is given up. Attempts to connect have pauses that double, shortened by chance, so that a
// fleet does not come back all at once; each resolves the name anew, so that a name that follows
// the primary is followed.
//
// A late answer is matched to its request by the order of the pipeline, and dropped, unless
// somebody has said that he wants to know it even then.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/counters.h"
#include "base/histogram.h"
#include "base/throttle.h"
#include "cache/redis_trouble.h"
#include "cache/resp.h"
#include "pgfresh/log.h"
#include "pgfresh/loop.h"
#include "pgfresh/stream.h"

namespace pgfresh::cache {

struct RedisClientOptions {
  std::string user;  // empty: the default user
  std::string password;
  int database = 0;
  int64_t connect_ms_max = 1000;  // from the first byte to the end of the greeting
  int64_t budget_ms = 20;
  size_t requests_max = 1000;  // under way
  size_t bytes_max = size_t{16} << 20;
  size_t reply_bytes_max = size_t{16} << 20;
};

enum class RedisState : uint8_t {
  kWaiting,     // until the next attempt to connect
  kConnecting,  // also resolves the name and shakes hands
  kGreeting,    // AUTH, SELECT, INFO
  kReady,
  kTripped,  // connected, and not asked until the next probe
  kProbing,  // a PING is under way
  kStopped,
};
[[nodiscard]] std::string_view state_name(RedisState state);

// The mean of round trips with the newest among them; 0: none before.
[[nodiscard]] constexpr int64_t mean_round_trip_ns(int64_t before_ns, int64_t newest_ns) {
  constexpr int64_t kShare = 8;
  return before_ns == 0 ? newest_ns : before_ns + (newest_ns - before_ns) / kShare;
}

// For SHOW REDIS and the metrics page: written by the client's thread, read by any.
struct RedisGauges {
  std::atomic<RedisState> state{RedisState::kWaiting};
  std::atomic<uint64_t> in_flight{0};
  std::atomic<uint64_t> bytes_in_flight{0};
  std::atomic<int64_t> round_trip_ns{0};  // smoothed; 0: none yet
  Histogram latencies;                    // of all answers that came, late ones too
  std::array<std::atomic<uint64_t>, kRedisTroubleCount> errors{};
};

// Everything on the loop's thread, but for gauges().
class RedisClient {
 public:
  enum class Outcome : uint8_t {
    kReply,
    kLate,    // nothing within the budget
    kBroken,  // the connection ended before the answer came
  };
  // Comes once for each request that was sent, never from inside send(). `reply` is kNil unless
  // kReply. May send, must not destroy the client.
  using Done = std::function<void(Outcome outcome, RedisReply& reply)>;
  // The answer to a request that has ended with kLate, if it comes after all. As Done.
  using Late = std::function<void(const RedisReply& reply)>;
  enum class Sent : uint8_t {
    kSent,
    kAway,  // not connected, or the breaker is open
    kFull,  // too much under way
  };

  // REQUIRES: all references outlive the client. `connector` leads to a stream that is ready for
  // RESP: TLS is done.
  RedisClient(Loop& loop, Connector& connector, RedisClientOptions options,
              std::function<uint64_t()> random, Counters& counters, Log& log);
  // Outstanding requests are forgotten: their Done is destroyed uncalled.
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  void start();
  // Ends the connection for good. Outstanding requests end with kBroken, at the end of the turn.
  void stop();

  // One command. The bytes leave at the end of this turn of the loop, with those of others.
  [[nodiscard]] Sent send(std::span<const std::string_view> arguments, Done done, Late late = {});
  // The same for a command whose answer nobody waits for.
  Sent tell(std::span<const std::string_view> arguments) { return send(arguments, {}); }

  // What it answers makes no sense: the connection is given up, and made anew. Also from inside a
  // Done; the questions under way end with kBroken.
  void distrust(std::string why);

  [[nodiscard]] bool ready() const { return state_ == RedisState::kReady; }
  // Whether writes have a chance: false for a while after an answer that said it is full.
  [[nodiscard]] bool writable() const;
  [[nodiscard]] int64_t round_trip_ns() const { return gauges_.round_trip_ns; }
  // Budget and bounds; the rest of `options` counts for the next connection.
  void set_options(RedisClientOptions options) { options_ = std::move(options); }

  // For people; loop thread.
  [[nodiscard]] RedisState state() const { return state_; }
  // Why it is not ready, or what was wrong last: "connection refused", "it is a replica".
  [[nodiscard]] const std::string& trouble() const { return trouble_; }
  [[nodiscard]] const RedisInfo& info() const { return info_; }
  [[nodiscard]] const std::string& peer() const { return peer_; }
  [[nodiscard]] int64_t since_ns() const { return since_ns_; }         // when the state was entered
  [[nodiscard]] const RedisGauges& gauges() const { return gauges_; }  // any thread

 private:
  class Link;
  struct Request {
    int64_t sent_ns = 0;
    size_t bytes = 0;
    Done done;  // empty: nobody waits, or it was late
    Late late;
  };
  // How soon the next attempt follows.
  enum class Retry : uint8_t { kSoon, kLater };

  void enter(RedisState state);
  void connect();
  void connected(std::unique_ptr<Stream> stream, const std::string& error);
  void greet();
  void greeted();
  void retry(Retry retry, std::string why);
  void drop();
  [[nodiscard]] int64_t pause_ms(int failures);
  void wait(Retry retry);
  void trip(std::string_view why);
  void probe();

  void enqueue(std::span<const std::string_view> arguments, Done done, Late late = {});
  void flush();
  void take(std::string_view bytes);
  void answer(RedisReply& reply);
  void judge_error(std::string_view text);
  bool say(std::string_view noun, Throttle& throttle);  // why: trouble_
  void measure(int64_t round_trip_ns);
  void watch_clock();
  void expire();
  void fail_all(std::vector<Request>& requests);
  void publish_load();

  // Constant after construction.
  Loop& loop_;
  Connector& connector_;
  const std::function<uint64_t()> random_;
  Counters& counters_;
  Log& log_;

  // Loop thread only.
  RedisClientOptions options_;
  RedisState state_ = RedisState::kWaiting;
  int64_t since_ns_ = 0;
  std::string trouble_;
  std::string peer_;
  RedisInfo info_;
  std::string greeting_trouble_;
  std::unique_ptr<PendingConnect> attempt_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<Timer> state_timer_;  // the end of a pause, or of patience
  std::unique_ptr<Timer> clock_timer_;  // the oldest request's budget
  std::deque<Request> requests_;        // sent and not answered by Redis, in order
  size_t request_bytes_ = 0;
  size_t expired_ = 0;  // of the front of requests_: answered by the clock already
  std::string out_;     // formatted in this turn
  bool flush_due_ = false;
  int64_t received_ns_ = 0;
  int64_t writes_from_ns_ = 0;
  int late_in_a_row_ = 0;  // requests, by the clock
  int failed_attempts_ = 0;
  int failed_probes_ = 0;
  Throttle away_throttle_;
  std::string away_why_;  // of the last failure
  Throttle slow_throttle_;
  bool slow_said_ = false;  // the log has redis_slow without its end
  Throttle refused_throttle_;
  std::shared_ptr<RedisClient*> self_;  // for deferred steps: null inside once destroyed

  // Shared.
  RedisGauges gauges_;
};

}  // namespace pgfresh::cache
