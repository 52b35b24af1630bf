#include "cache/redis_client.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pgfresh::cache {
namespace {

// Pauses between attempts to connect, and between probes: doubled from the first to the last,
// shortened by chance down to a half.
constexpr int64_t kPauseMsMin = 100;
constexpr int64_t kPauseMsMax = 5'000;
// Answers in a row that came too late, though they came, before Redis is left alone for a while.
constexpr int kLateInARowMax = 8;
// A connection on which nothing has come for so long, though something is owed, is given up.
constexpr int64_t kSilentNsMax = 2 * kNsPerSecond;
// How long nothing is written after Redis said that it takes no writes.
constexpr int64_t kNoWritesNs = kNsPerSecond;
constexpr int64_t kLogPeriodNs = 10 * kNsPerSecond;

constexpr std::string_view kClusterText =
    "it is a node of a Redis Cluster, which is not supported: give one primary that has all keys";
constexpr std::string_view kSentinelText =
    "it is a Redis Sentinel, which is not supported: give the address of the primary, or a name "
    "that follows it";

// A server's text as people may see it.
std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 200));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

}  // namespace

std::string_view state_name(RedisState state) {
  switch (state) {
    case RedisState::kWaiting:
      return "waiting";
    case RedisState::kConnecting:
      return "connecting";
    case RedisState::kGreeting:
      return "greeting";
    case RedisState::kReady:
      return "ready";
    case RedisState::kTripped:
      return "tripped";
    case RedisState::kProbing:
      return "probing";
    case RedisState::kStopped:
      return "stopped";
  }
  return "";
}

// One connection: its stream and what has been cut out of it. It outlives the client's interest in
// it until the end of the turn, because its callback may be on the stack.
class RedisClient::Link final : public Stream::Events {
 public:
  Link(RedisClient& client, std::unique_ptr<Stream> stream, size_t reply_bytes_max)
      : client_(&client), stream_(std::move(stream)), replies_(reply_bytes_max) {
    stream_->start(this);
  }

  [[nodiscard]] Stream& stream() { return *stream_; }
  [[nodiscard]] ReplyReader& replies() { return replies_; }
  [[nodiscard]] bool orphaned() const { return client_ == nullptr; }
  void orphan() {
    client_ = nullptr;
    stream_->pause();
  }

 private:
  void on_bytes(std::string_view bytes) override {
    if (client_ != nullptr) client_->take(bytes);
  }
  void on_drained() override {}
  void on_end(std::string_view why) override {
    if (client_ != nullptr) client_->retry(Retry::kSoon, std::string(why));
  }

  RedisClient* client_;  // null: nobody listens any more
  std::unique_ptr<Stream> stream_;
  ReplyReader replies_;
};

RedisClient::RedisClient(Loop& loop, Connector& connector, RedisClientOptions options,
                         std::function<uint64_t()> random, Counters& counters, Log& log)
    : loop_(loop),
      connector_(connector),
      random_(std::move(random)),
      counters_(counters),
      log_(log),
      options_(std::move(options)),
      since_ns_(loop.clock().now_ns()),
      away_throttle_(kLogPeriodNs),
      slow_throttle_(kLogPeriodNs),
      refused_throttle_(kLogPeriodNs),
      self_(std::make_shared<RedisClient*>(this)) {}

RedisClient::~RedisClient() { *self_ = nullptr; }

void RedisClient::start() {
  PGFRESH_CHECK(state_ == RedisState::kWaiting && !state_timer_);
  connect();
}

void RedisClient::stop() {
  drop();
  trouble_ = "stopped";
  enter(RedisState::kStopped);
}

void RedisClient::enter(RedisState state) {
  state_ = state;
  since_ns_ = loop_.clock().now_ns();
  gauges_.state = state;
  state_timer_.reset();
}

// ── The connection ───────────────────────────────────────────────────────────────────────────────

void RedisClient::connect() {
  enter(RedisState::kConnecting);
  attempt_ = connector_.connect([this](std::unique_ptr<Stream> stream, const std::string& error) {
    connected(std::move(stream), error);
  });
}

void RedisClient::connected(std::unique_ptr<Stream> stream, const std::string& error) {
  attempt_.reset();
  if (!stream) {
    retry(Retry::kSoon, error.substr(0, error.find('\n')));
    return;
  }
  peer_ = stream->peer();
  link_ = std::make_unique<Link>(*this, std::move(stream), options_.reply_bytes_max);
  received_ns_ = loop_.clock().now_ns();
  enter(RedisState::kGreeting);
  state_timer_ = loop_.after(options_.connect_ms_max,
                             [this] { retry(Retry::kSoon, "no answer to the greeting"); });
  greet();
}

// All of it is sent at once; what is wrong is told by the first that refuses, but for what INFO
// knows better: a Sentinel, for one, has no SELECT.
void RedisClient::greet() {
  greeting_trouble_.clear();
  info_ = {};
  const auto must = [this](Outcome, RedisReply& reply) {
    if (reply.is_error() && greeting_trouble_.empty()) greeting_trouble_ = printable(reply.text);
  };
  if (!options_.password.empty() && !options_.user.empty()) {
    enqueue(std::array<std::string_view, 3>{"AUTH", options_.user, options_.password}, must);
  } else if (!options_.password.empty()) {
    enqueue(std::array<std::string_view, 2>{"AUTH", options_.password}, must);
  }
  if (options_.database != 0) {
    const std::string number = std::to_string(options_.database);
    enqueue(std::array<std::string_view, 2>{"SELECT", number}, must);
  }
  enqueue(std::array<std::string_view, 3>{"CLIENT", "SETNAME", "pgfresh"}, {});
  enqueue(std::array<std::string_view, 1>{"INFO"}, [this](Outcome outcome, RedisReply& reply) {
    if (outcome != Outcome::kReply) return;
    if (reply.kind == RedisReply::Kind::kString) info_ = read_info(reply.text);
    // A user may be forbidden INFO; then what is wrong shows later. But whoever must log in first
    // is told so here at the latest.
    const bool locked = reply.is_error() && classify(reply.text) != RedisTrouble::kForbidden;
    if (locked && greeting_trouble_.empty()) greeting_trouble_ = printable(reply.text);
    greeted();
  });
}

void RedisClient::greeted() {
  const auto count = [this](RedisTrouble trouble) {
    gauges_.errors[static_cast<size_t>(trouble)].fetch_add(1, std::memory_order_relaxed);
  };
  if (info_.cluster || info_.sentinel) {
    count(info_.cluster ? RedisTrouble::kCluster : RedisTrouble::kSentinel);
    retry(Retry::kLater, std::string(info_.cluster ? kClusterText : kSentinelText));
  } else if (!greeting_trouble_.empty()) {
    const RedisTrouble trouble = classify(greeting_trouble_);
    count(trouble);
    retry(trouble == RedisTrouble::kLoading || trouble == RedisTrouble::kBusy ? Retry::kSoon
                                                                              : Retry::kLater,
          greeting_trouble_);
  } else if (info_.replica) {
    count(RedisTrouble::kReplica);
    retry(Retry::kSoon, "it is a replica, and a primary is wanted");
  } else if (info_.loading) {
    count(RedisTrouble::kLoading);
    retry(Retry::kSoon, "it is loading its data");
  } else {
    trouble_.clear();
    slow_said_ = false;  // redis_connected ends it
    late_in_a_row_ = failed_probes_ = 0;
    writes_from_ns_ = 0;
    counters_.add(Counter::kRedisConnects);
    enter(RedisState::kReady);
    log_.event(LogLevel::kInfo, "redis_connected",
               {{"peer", peer_}, {"server", info_.server}, {"version", info_.version}});
  }
}

// The connection, or the attempt to make one, has failed.
void RedisClient::retry(Retry retry, std::string why) {
  if (state_ == RedisState::kReady || state_ == RedisState::kTripped ||
      state_ == RedisState::kProbing) {
    counters_.add(Counter::kRedisBreaks);
  }
  trouble_ = std::move(why);
  // Another reason is news; how many there are in a while, the pauses between attempts bound.
  if (trouble_ != away_why_) away_throttle_ = Throttle(kLogPeriodNs);
  away_why_ = trouble_;
  say("redis_away", away_throttle_);
  drop();
  wait(retry);
}

void RedisClient::distrust(std::string why) {
  if (link_) retry(Retry::kSoon, std::move(why));
}

// Ends what there is of a connection. Never destroys the link at once: it may be on the stack.
void RedisClient::drop() {
  attempt_.reset();
  clock_timer_.reset();
  out_.clear();
  if (link_) {
    link_->orphan();
    std::shared_ptr<Link> orphan = std::move(link_);
    loop_.defer([orphan] {});
  }
  if (!requests_.empty()) {
    auto requests = std::make_shared<std::vector<Request>>(
        std::make_move_iterator(requests_.begin()), std::make_move_iterator(requests_.end()));
    loop_.defer([self = self_, requests] {
      if (*self != nullptr) (*self)->fail_all(*requests);
    });
  }
  requests_.clear();
  request_bytes_ = 0;
  expired_ = 0;
  publish_load();
}

void RedisClient::fail_all(std::vector<Request>& requests) {
  for (Request& request : requests) {
    RedisReply none;
    if (request.done) request.done(Outcome::kBroken, none);
  }
}

// Doubled from the least pause to the longest, between a half and the whole of it.
int64_t RedisClient::pause_ms(int failures) {
  const int64_t whole = std::min(kPauseMsMin << std::min(failures, 10), kPauseMsMax);
  return whole / 2 + static_cast<int64_t>(random_() % static_cast<uint64_t>(whole / 2 + 1));
}

void RedisClient::wait(Retry retry) {
  enter(RedisState::kWaiting);
  constexpr int kManyFailures = 10;
  const int64_t ms = pause_ms(retry == Retry::kLater ? kManyFailures : failed_attempts_);
  failed_attempts_ = std::min(failed_attempts_ + 1, kManyFailures);
  state_timer_ = loop_.after(ms, [this] { connect(); });
}

// ── The breaker ──────────────────────────────────────────────────────────────────────────────────

void RedisClient::trip(std::string_view why) {
  const int64_t now_ns = loop_.clock().now_ns();
  const int64_t quiet_since = std::max(received_ns_, requests_.empty() ? 0 : requests_[0].sent_ns);
  if (!requests_.empty() && now_ns - quiet_since > kSilentNsMax) {
    retry(Retry::kSoon, "it has been silent for too long");
    return;
  }
  if (state_ == RedisState::kReady) {
    counters_.add(Counter::kRedisTrips);
    trouble_ = why;
    slow_said_ = say("redis_slow", slow_throttle_) || slow_said_;
  }
  enter(RedisState::kTripped);
  state_timer_ = loop_.after(pause_ms(failed_probes_), [this] { probe(); });
  failed_probes_ = std::min(failed_probes_ + 1, 10);
}

// An answer in time is what is asked for, be it an error: a Redis that cannot save, for one,
// answers PING with MISCONF and gives out what it has. Errors that end the connection do so
// themselves.
void RedisClient::probe() {
  enter(RedisState::kProbing);
  enqueue(std::array<std::string_view, 1>{"PING"}, [this](Outcome outcome, RedisReply&) {
    if (state_ != RedisState::kProbing) return;
    if (outcome == Outcome::kReply) {
      failed_probes_ = late_in_a_row_ = 0;
      trouble_.clear();
      enter(RedisState::kReady);
      if (std::exchange(slow_said_, false)) log_.event(LogLevel::kInfo, "redis_in_time", {});
    } else if (outcome == Outcome::kLate) {
      trip("no answer to a probe");
    }
  });
}

// ── Requests and answers ─────────────────────────────────────────────────────────────────────────

bool RedisClient::writable() const { return ready() && loop_.clock().now_ns() >= writes_from_ns_; }

RedisClient::Sent RedisClient::send(std::span<const std::string_view> arguments, Done done,
                                    Late late) {
  Sent sent = Sent::kSent;
  if (state_ != RedisState::kReady) {
    sent = Sent::kAway;
  } else if (requests_.size() >= options_.requests_max || request_bytes_ >= options_.bytes_max) {
    sent = Sent::kFull;
  }
  if (sent == Sent::kSent) {
    enqueue(arguments, std::move(done), std::move(late));
  } else {
    counters_.add(Counter::kRedisNotAsked);
  }
  return sent;
}

void RedisClient::enqueue(std::span<const std::string_view> arguments, Done done, Late late) {
  PGFRESH_CHECK(link_ != nullptr);
  const size_t before = out_.size();
  append_command(out_, arguments);
  requests_.push_back(
      {loop_.clock().now_ns(), out_.size() - before, std::move(done), std::move(late)});
  request_bytes_ += requests_.back().bytes;
  counters_.add(Counter::kRedisRequests);
  publish_load();
  watch_clock();
  if (std::exchange(flush_due_, true)) return;
  loop_.defer([self = self_] {
    if (*self != nullptr) (*self)->flush();
  });
}

void RedisClient::flush() {
  flush_due_ = false;
  if (!link_ || out_.empty()) return;
  const Slice slice{out_, nullptr};
  link_->stream().write({&slice, 1});
  counters_.add(Counter::kRedisBytesSent, out_.size());
  constexpr size_t kKeptBytes = size_t{256} * 1024;
  if (out_.capacity() > kKeptBytes) std::string().swap(out_);
  out_.clear();
}

void RedisClient::take(std::string_view bytes) {
  received_ns_ = loop_.clock().now_ns();
  counters_.add(Counter::kRedisBytesReceived, bytes.size());
  // Answers may end the connection; the link lives on until the end of the turn.
  Link& link = *link_;
  link.replies().feed(bytes);
  while (!link.orphaned()) {
    RedisReply reply;
    switch (link.replies().next(reply)) {
      case ReplyReader::Read::kReply:
        if (requests_.empty()) {
          retry(Retry::kSoon, "it answered what was not asked");
          return;
        }
        answer(reply);
        break;
      case ReplyReader::Read::kMore:
        return;
      case ReplyReader::Read::kBroken:
        retry(Retry::kSoon, "it does not speak Redis' protocol");
        return;
    }
  }
}

void RedisClient::answer(RedisReply& reply) {
  // Of the greeting, its own Done judges the errors.
  const bool greeted = state_ != RedisState::kGreeting;
  Request request = std::move(requests_.front());
  requests_.pop_front();
  request_bytes_ -= request.bytes;
  publish_load();
  if (greeted) gauges_.latencies.add(received_ns_ - request.sent_ns);
  if (expired_ > 0) {
    --expired_;  // the clock was faster
    if (request.late) request.late(reply);
  } else {
    late_in_a_row_ = 0;
    measure(received_ns_ - request.sent_ns);
    if (request.done) request.done(Outcome::kReply, reply);
  }
  if (!greeted || !link_) return;
  if (reply.is_error()) {
    judge_error(reply.text);
  } else {
    failed_attempts_ = 0;
  }
}

void RedisClient::judge_error(std::string_view text) {
  const RedisTrouble trouble = classify(text);
  gauges_.errors[static_cast<size_t>(trouble)].fetch_add(1, std::memory_order_relaxed);
  switch (trouble) {
    case RedisTrouble::kReplica:
    case RedisTrouble::kLoading:
    case RedisTrouble::kBusy:
      retry(Retry::kSoon, printable(text));
      return;
    case RedisTrouble::kCluster:
    case RedisTrouble::kSentinel:
      retry(Retry::kLater, std::string(kClusterText));
      return;
    case RedisTrouble::kLogin:
      retry(Retry::kLater, printable(text));
      return;
    case RedisTrouble::kFull:
    case RedisTrouble::kNotWriting:
      writes_from_ns_ = loop_.clock().now_ns() + kNoWritesNs;
      break;
    case RedisTrouble::kForbidden:
    case RedisTrouble::kOther:
      break;
  }
  trouble_ = printable(text);
  say("redis_refused", refused_throttle_);
}

// Whether the line was written.
bool RedisClient::say(std::string_view noun, Throttle& throttle) {
  if (!throttle.admits(loop_.clock().now_ns())) return false;
  log_.event(LogLevel::kWarn, noun,
             {{"why", trouble_}, {"left_out", std::to_string(throttle.left_out())}});
  return true;
}

void RedisClient::measure(int64_t round_trip_ns) {
  const int64_t before = gauges_.round_trip_ns.load(std::memory_order_relaxed);
  gauges_.round_trip_ns.store(mean_round_trip_ns(before, round_trip_ns), std::memory_order_relaxed);
  counters_.add(Counter::kRedisAnswers);
  counters_.add(Counter::kRedisWaitNs, static_cast<uint64_t>(std::max<int64_t>(round_trip_ns, 0)));
}

// ── The clock ────────────────────────────────────────────────────────────────────────────────────

// One timer, for the oldest request that may still be in time; the others are younger, and their
// budget is the same.
void RedisClient::watch_clock() {
  if (clock_timer_ || expired_ == requests_.size()) return;
  const int64_t due_ns = requests_[expired_].sent_ns + options_.budget_ms * kNsPerMs;
  const int64_t left_ns = due_ns - loop_.clock().now_ns();
  const int64_t ms = std::max<int64_t>((left_ns + kNsPerMs - 1) / kNsPerMs, 1);
  clock_timer_ = loop_.after(ms, [this, due_ns] {
    clock_timer_.reset();
    // When this loop itself was late, the answers may lie unread: they are read first.
    const bool was_late = loop_.clock().now_ns() - due_ns > options_.budget_ms * kNsPerMs;
    if (!was_late) {
      expire();
      return;
    }
    clock_timer_ = loop_.after(1, [this] {
      clock_timer_.reset();
      expire();
    });
  });
}

void RedisClient::expire() {
  const int64_t now_ns = loop_.clock().now_ns();
  const int64_t sent_before_ns = now_ns - options_.budget_ms * kNsPerMs;
  const bool greeting = state_ == RedisState::kGreeting;  // has a patience of its own
  bool silent = false;
  while (!greeting && expired_ < requests_.size() &&
         requests_[expired_].sent_ns <= sent_before_ns) {
    Request& request = requests_[expired_++];
    silent = silent || received_ns_ <= request.sent_ns;
    ++late_in_a_row_;
    const Done done = std::exchange(request.done, {});
    RedisReply none;
    if (done) {
      counters_.add(Counter::kRedisTimeouts);
      done(Outcome::kLate, none);
    }
  }
  if (state_ == RedisState::kReady && silent) {
    trip("no answer within the budget");
  } else if (state_ == RedisState::kReady && late_in_a_row_ >= kLateInARowMax) {
    trip("several answers in a row came too late");
  }
  if (!greeting) watch_clock();
}

void RedisClient::publish_load() {
  gauges_.in_flight.store(requests_.size(), std::memory_order_relaxed);
  gauges_.bytes_in_flight.store(request_bytes_, std::memory_order_relaxed);
}

}  // namespace pgfresh::cache
