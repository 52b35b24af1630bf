// A connection lives in an Attempt, which outlives the line's interest in it by at most one turn
// of the loop. Every callback goes through the attempt and asks whether its line still listens.
#include "freshness/line.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pgfresh::freshness {
namespace {

constexpr int64_t kConnectExtraNs = 10 * kNsPerSecond;
constexpr int kDoublingsMax = 20;

}  // namespace

struct Line::Attempt final : SqlClient::Events {
  Line* line = nullptr;  // null: let go, nobody listens
  std::unique_ptr<SqlClient> client;
  bool ready = false;
  bool pending = false;
  int64_t since_ns = 0;  // of the statement pending, or of the attempt to connect

  void on_ready() override {
    if (line == nullptr) return;
    ready = true;
    line->owner_.on_line_ready(*line);
  }
  void on_notification(std::string_view channel, std::string_view payload,
                       uint32_t sender) override {
    if (line != nullptr) line->owner_.on_line_notification(*line, channel, payload, sender);
  }
  void on_lost(std::string_view why) override {
    if (line != nullptr) line->lose(why);
  }
};

Line::Line(std::string database, Loop& loop, SqlClientFactory& factory,
           std::function<uint64_t()> random64, Owner& owner)
    : database_(std::move(database)),
      loop_(loop),
      factory_(factory),
      random64_(std::move(random64)),
      owner_(owner),
      retry_(loop, [this] { connect(); }) {}

Line::~Line() { let_go(); }

void Line::start() {
  if (started_) return;
  started_ = true;
  connect();
}

void Line::stop() {
  started_ = false;
  failures_ = 0;
  let_go();
}

bool Line::ready() const { return attempt_ != nullptr && attempt_->ready; }

bool Line::idle() const { return ready() && !attempt_->pending; }

uint32_t Line::backend_pid() const { return ready() ? attempt_->client->backend_pid() : 0; }

void Line::drop(std::string_view why) {
  PGFRESH_CHECK(started_);
  if (attempt_ != nullptr) lose(why);
}

void Line::drop_if_silent(int64_t patience_ns) {
  if (attempt_ == nullptr || (attempt_->ready && !attempt_->pending)) return;
  const int64_t allowed_ns = attempt_->ready ? patience_ns : patience_ns + kConnectExtraNs;
  if (loop_.clock().now_ns() - attempt_->since_ns >= allowed_ns) lose("no answer in time");
}

void Line::query(std::string_view sql, SqlClient::Done done) {
  PGFRESH_CHECK(idle());
  attempt_->pending = true;
  attempt_->since_ns = loop_.clock().now_ns();
  const std::weak_ptr<Attempt> weak = attempt_;
  attempt_->client->query(sql, [weak, done = std::move(done)](SqlResult result) {
    const std::shared_ptr<Attempt> attempt = weak.lock();
    if (attempt == nullptr || attempt->line == nullptr) return;
    attempt->pending = false;
    done(std::move(result));
  });
}

void Line::connect() {
  attempt_ = std::make_shared<Attempt>();
  attempt_->line = this;
  attempt_->since_ns = loop_.clock().now_ns();
  attempt_->client = factory_.connect(database_, attempt_.get());
}

void Line::let_go() {
  retry_.cancel();
  if (attempt_ == nullptr) return;
  attempt_->line = nullptr;
  loop_.defer([doomed = std::move(attempt_)]() mutable {
    doomed->client.reset();
    doomed.reset();
  });
  attempt_ = nullptr;
}

void Line::lose(std::string_view why) {
  const std::string reason(why);  // `why` may lie in the client
  let_go();
  retry_.set(loop_.clock().now_ns() + next_delay_ms() * kNsPerMs);
  owner_.on_line_lost(*this, reason);
}

// Doubled up to the maximum; between half of it and all of it, so that many proxies that lost the
// same server do not come back in step.
int64_t Line::next_delay_ms() {
  int64_t delay_ms = std::max<int64_t>(backoff_.ms_min, 1);
  for (int i = 0; i < std::min(failures_, kDoublingsMax) && delay_ms < backoff_.ms_max; ++i) {
    delay_ms *= 2;
  }
  delay_ms = std::max<int64_t>(std::min(delay_ms, backoff_.ms_max), 1);
  ++failures_;
  const auto half = static_cast<uint64_t>(delay_ms / 2);
  return delay_ms - static_cast<int64_t>(random64_() % (half + 1));
}

}  // namespace pgfresh::freshness
