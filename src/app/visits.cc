#include "app/visits.h"

#include <utility>

namespace pgfresh::app {

class Visits::Visit final : public SqlClient::Events {
 public:
  Visit(Visits& owner, uint64_t id, Request request)
      : owner_(owner), id_(id), request_(std::move(request)) {
    patience_ = owner_.loop_.after(kPatienceMs, [this] {
      finish(failed("no answer within " + std::to_string(kPatienceMs / 1000) + " s"));
    });
    client_ = owner_.factory_.connect(request_.database, this);
  }

  void on_ready() override {
    client_->query(request_.sql, [this](const SqlResult& result) { finish(result); });
  }
  void on_notification(std::string_view, std::string_view, uint32_t) override {}
  void on_lost(std::string_view why) override { finish(failed(std::string(why))); }

 private:
  static SqlResult failed(std::string why) {
    SqlResult result;
    result.error = std::move(why);
    result.sqlstate = "08006";
    return result;
  }

  // The client's or the timer's call is on the stack, so all of this goes at the end of the turn.
  void finish(const SqlResult& result) {
    if (!request_.done) return;
    const Done done = std::exchange(request_.done, nullptr);
    done(result);
    owner_.loop_.defer([owner = &owner_, id = id_] { owner->end(id); });
  }

  Visits& owner_;
  const uint64_t id_;
  Request request_;
  std::unique_ptr<Timer> patience_;
  std::unique_ptr<SqlClient> client_;
};

Visits::Visits(Loop& loop, SqlClientFactory& factory) : loop_(loop), factory_(factory) {}
Visits::~Visits() = default;

void Visits::ask(const std::string& database, std::string sql, Done done) {
  if (closed_) return;
  Request request{database, std::move(sql), std::move(done)};
  if (visits_.size() < kAtOnceMax) return begin(std::move(request));
  if (waiting_.size() < kWaitingMax) {
    waiting_.push_back(std::move(request));
    return;
  }
  loop_.post([done = std::move(request.done)] {
    SqlResult result;
    result.error = "too many questions at once";
    result.sqlstate = "53300";
    done(result);
  });
}

void Visits::begin(Request request) {
  const uint64_t id = next_id_++;
  visits_.emplace(id, std::make_unique<Visit>(*this, id, std::move(request)));
}

void Visits::end(uint64_t id) {
  visits_.erase(id);
  if (waiting_.empty() || closed_) return;
  Request next = std::move(waiting_.front());
  waiting_.pop_front();
  begin(std::move(next));
}

void Visits::close() {
  closed_ = true;
  waiting_.clear();
  visits_.clear();
}

}  // namespace pgfresh::app
