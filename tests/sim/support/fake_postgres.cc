#include "fake_postgres.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/check.h"
#include "freshness/domain.h"
#include "freshness/event.h"
#include "query/catalog.h"

namespace pgfresh::sim {

// A control connection. Statements travel to the server's loop and words back to the proxy's, each
// in order, one task each; either way may be held.
struct FakePostgres::Control : std::enable_shared_from_this<Control> {
  Control(FakePostgres& server_in, Loop& home_in, SqlClient::Events* events_in, uint32_t pid_in)
      : server(server_in), home(home_in), events(events_in), pid(pid_in) {}

  FakePostgres& server;
  Loop& home;
  SqlClient::Events* events;  // null: the proxy let it go
  const uint32_t pid;
  SqlClient::Done done;
  bool listens = false;
  bool lost = false;
  bool hold_words = false;
  bool hold_statements = false;
  std::deque<std::function<void(SqlClient::Events&)>> words;
  std::deque<std::string> statements;
  std::vector<std::pair<std::string, uint32_t>> notifications;  // with sender; not yet sent

  void say(std::function<void(SqlClient::Events&)> word) {
    words.push_back(std::move(word));
    home.post([self = shared_from_this()] { self->deliver_word(); });
  }
  void deliver_word() {
    if (hold_words || words.empty()) return;
    deliver_next_word();
  }
  void deliver_next_word() {
    if (words.empty()) return;
    const auto word = std::move(words.front());
    words.pop_front();
    if (events != nullptr) word(*events);
  }
  void deliver_statement() {
    if (hold_statements || statements.empty() || lost) return;
    const std::string sql = std::move(statements.front());
    statements.pop_front();
    SqlResult result = server.answer_control(*this, sql);
    send_notifications();
    say([self = shared_from_this(), result = std::move(result)](SqlClient::Events&) {
      const SqlClient::Done once = std::exchange(self->done, nullptr);
      once(result);
    });
  }
  void send_notifications() {
    if (lost) return;
    for (const auto& [payload, sender] : std::exchange(notifications, {})) {
      say([payload = payload, sender = sender](SqlClient::Events& to) {
        to.on_notification("pgfresh", payload, sender);
      });
    }
  }
  void lose(std::string_view why) {
    if (lost) return;
    lost = true;
    words.clear();
    hold_words = false;
    say([reason = std::string(why)](SqlClient::Events& to) { to.on_lost(reason); });
  }
  void release() {
    hold_words = false;
    hold_statements = false;
    for (size_t i = 0; i < words.size(); ++i) {
      home.post([self = shared_from_this()] { self->deliver_word(); });
    }
    for (size_t i = 0; i < statements.size(); ++i) {
      server.loop().post([self = shared_from_this()] { self->deliver_statement(); });
    }
  }
};

class FakePostgres::ControlClient final : public SqlClient {
 public:
  explicit ControlClient(std::shared_ptr<Control> control) : control_(std::move(control)) {}
  ~ControlClient() override {
    control_->events = nullptr;
    control_->lost = true;
    control_->done = nullptr;
    control_->words.clear();
  }
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  void query(std::string_view sql, Done done) override {
    PGFRESH_CHECK(!control_->done);
    control_->done = std::move(done);
    control_->statements.emplace_back(sql);
    control_->server.loop().post([control = control_] { control->deliver_statement(); });
  }
  [[nodiscard]] uint32_t backend_pid() const override { return control_->pid; }

 private:
  const std::shared_ptr<Control> control_;
};

class FakePostgres::ControlFactory final : public SqlClientFactory {
 public:
  ControlFactory(FakePostgres& server, Loop& loop) : server_(server), loop_(loop) {}

  std::unique_ptr<SqlClient> connect(const std::string& /*database*/,
                                     SqlClient::Events* events) override {
    auto control = std::make_shared<Control>(server_, loop_, events, server_.next_pid_++);
    if (server_.down_) {
      control->lose("connection refused");
    } else {
      std::erase_if(server_.controls_, [](const auto& old) { return old->lost; });
      server_.controls_.push_back(control);
      control->say([](SqlClient::Events& to) { to.on_ready(); });
    }
    return std::make_unique<ControlClient>(std::move(control));
  }

 private:
  FakePostgres& server_;
  Loop& loop_;
};

class FakePostgres::Door final : public Connector {
 public:
  Door(FakePostgres& server, Loop& loop) : server_(server), loop_(loop) {}

  std::unique_ptr<PendingConnect> connect(Done done) override {
    auto attempt = std::make_unique<Attempt>();
    loop_.post([this, alive = attempt->alive, done = std::move(done)] {
      if (!*alive) return;
      std::unique_ptr<Stream> stream = server_.accept(loop_);
      const bool refused = stream == nullptr;
      done(std::move(stream), refused ? "connection refused" : "");
    });
    return attempt;
  }

 private:
  struct Attempt final : PendingConnect {
    Attempt() = default;
    ~Attempt() override { *alive = false; }
    Attempt(const Attempt&) = delete;
    Attempt& operator=(const Attempt&) = delete;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };

  FakePostgres& server_;
  Loop& loop_;
};

FakePostgres::~FakePostgres() {
  for (const auto& backend : backends_) backend->die();
}

std::unique_ptr<Connector> FakePostgres::connector(Loop& loop) {
  return std::make_unique<Door>(*this, loop);
}

std::unique_ptr<SqlClientFactory> FakePostgres::control(Loop& loop) {
  return std::make_unique<ControlFactory>(*this, loop);
}

std::unique_ptr<Stream> FakePostgres::accept(Loop& loop) {
  if (down_) return nullptr;
  std::erase_if(backends_, [](const auto& backend) { return !backend->alive(); });
  MemoryPair pair = connected_pair(loop, loop_);
  const wire::BackendKey key{next_pid_, next_pid_ * 7919};
  ++next_pid_;
  backends_.push_back(
      std::make_shared<FakeBackend>(*this, loop_, std::move(pair.second), pair.pipe, key));
  backends_.back()->start();
  homes_[key.pid] = &loop;
  return std::move(pair.first);
}

std::shared_ptr<FakeBackend> FakePostgres::backend() const {
  for (auto it = backends_.rbegin(); it != backends_.rend(); ++it) {
    if ((*it)->alive()) return *it;
  }
  return nullptr;
}

size_t FakePostgres::backends_alive() const {
  return static_cast<size_t>(std::count_if(backends_.begin(), backends_.end(),
                                           [](const auto& one) { return one->alive(); }));
}

void FakePostgres::crash() {
  down_ = true;
  for (const auto& backend : backends_) {
    backend->pipe()->cut("connection reset by peer");
    backend->die();
  }
  if (!feeds_survive_) lose_control("connection reset by peer");
}

std::shared_ptr<FakeBackend> FakePostgres::committing() const {
  const auto found = std::find_if(backends_.begin(), backends_.end(), [](const auto& one) {
    return one->alive() && one->committing() && one->of_proxy();
  });
  return found == backends_.end() ? nullptr : *found;
}

void FakePostgres::lose_control(std::string_view why, const Loop* of) {
  for (const auto& control : controls_) {
    if (of == nullptr || &control->home == of) control->lose(why);
  }
}

void FakePostgres::hold_control(bool words, bool statements, const Loop* of) {
  for (const auto& control : controls_) {
    if (of != nullptr && &control->home != of) continue;
    control->hold_words = control->hold_words || (words && !control->lost);
    control->hold_statements = control->hold_statements || (statements && !control->lost);
  }
}

void FakePostgres::release_control() {
  for (const auto& control : controls_) control->release();
}

void FakePostgres::trickle_control() {
  for (const auto& control : controls_) {
    control->home.post([control] { control->deliver_next_word(); });
  }
}

size_t FakePostgres::listeners() const {
  return static_cast<size_t>(std::count_if(controls_.begin(), controls_.end(), [](const auto& one) {
    return one->listens && !one->lost;
  }));
}

void FakePostgres::write_directly(int64_t id, int64_t v) {
  FakeDatabase::Transaction tx;
  const FakeOutcome outcome = database_.execute(
      tx, "UPDATE bench SET v = " + std::to_string(v) + " WHERE id = " + std::to_string(id), {});
  PGFRESH_CHECK(outcome.error.empty());
  notify(database_.commit(tx));
}

// The listeners are signalled; they send what they have when they get a turn, or before their next
// result.
void FakePostgres::notify(const std::vector<std::string>& payloads, uint32_t sender) {
  if (!notifications_ || payloads.empty()) return;
  for (const std::string& payload : payloads) {
    if (hear_) hear_(payload);
  }
  for (const auto& control : controls_) {
    if (!control->listens || control->lost) continue;
    for (const std::string& payload : payloads) {
      control->notifications.emplace_back(payload, sender);
    }
    loop_.post([control] { control->send_notifications(); });
  }
}

void FakePostgres::cancel(uint32_t pid, uint32_t secret) {
  for (const auto& backend : backends_) {
    if (!backend->alive() || backend->key().pid != pid || backend->key().secret != secret) continue;
    ++cancels_;
    backend->cancel();
  }
}

SqlResult FakePostgres::answer_control(Control& control, std::string_view sql) {
  SqlResult result;
  if (sql == "SELECT " + std::string(freshness::kConfiguredSql)) return result;
  if (sql.starts_with("LISTEN")) {
    control.listens = true;
  } else if (sql.starts_with("NOTIFY pgfresh, '2 n'; ")) {
    control.notifications.emplace_back("2 n", control.pid);  // also where events are lost
    result.rows = {{"pg_backend_pid", "started"}, {{std::to_string(control.pid), "1"}}};
  } else if (sql == "SELECT " + std::string(freshness::kServerStartedSql)) {
    result.rows = {{"started"}, {{"1"}}};
  } else if (sql == query::Catalog::load_sql()) {
    result.rows = database_.catalog_rows();
  } else if (sql == query::Catalog::fingerprint_sql()) {
    result.rows = {{"fingerprint"}, {{database_.fingerprint()}}};
  } else if (sql.find("pg_locks") != std::string_view::npos) {
    result = show_transactions(control, sql);
  } else if (sql.find("pg_stat_activity") != std::string_view::npos) {
    result = show_backends(sql);
  } else if (sql.find("synchronous_commit") != std::string_view::npos) {
    publish(control, sql);
  } else if (sql.find("pg_notify") != std::string_view::npos) {
    notify({freshness::format_schema_event(database_.next_xid())});
  } else if (sql.find("pg_namespace") != std::string_view::npos) {
    result.rows = {{"?column?"}, {{"1"}}};
  } else {
    result.error = "the model does not know this statement";
    result.sqlstate = "0A000";
  }
  return result;
}

SqlResult FakePostgres::show_backends(std::string_view sql) {
  ++looks_;
  SqlResult result;
  result.rows.columns = {"pid", "backend_start"};
  const std::string list = "," + std::string(sql.substr(sql.rfind('(') + 1));
  for (const auto& backend : backends_) {
    const std::string pid = std::to_string(backend->key().pid);
    const bool asked = list.find("," + pid + ",") != std::string::npos ||
                       list.find("," + pid + ")") != std::string::npos;
    if (backend->alive() && asked) result.rows.rows.push_back({pid, "start" + pid});
  }
  return result;
}

// Own processes are listed in the statement, but for the one that asks.
SqlResult FakePostgres::show_transactions(const Control& asks, std::string_view sql) const {
  SqlResult result;
  result.rows.columns = {"kind", "name"};
  const size_t from = sql.find("pg_backend_pid()");
  const std::string own = std::string(sql.substr(from, sql.find(')', from + 17) - from)) + ",";
  bool others = std::any_of(controls_.begin(), controls_.end(), [&](const auto& control) {
    return control.get() != &asks && !control->lost && control->listens &&
           own.find("," + std::to_string(control->pid) + ",") == std::string::npos;
  });
  const size_t in = sql.find("l.pid IN (");
  const std::string looked_for =
      in == std::string_view::npos
          ? ""
          : "," + std::string(sql.substr(in + 10, sql.find(')', in) - in - 10)) + ",";
  for (const auto& backend : backends_) {
    const std::string pid = std::to_string(backend->key().pid);
    const std::string name = pid + "/" + std::to_string(backend->transactions());
    if (looked_for.find("," + pid + ",") != std::string::npos) {
      if (looks_blind_) result.rows.rows.push_back({"w", pid});
      if (backend->in_transaction()) result.rows.rows.push_back({"w", pid + " " + name});
    }
    if (!backend->alive() || own.find("," + pid + ",") != std::string::npos) continue;
    others = true;
    if (backend->in_transaction()) {
      result.rows.rows.push_back({"v", name});
    }
  }
  if (others) result.rows.rows.push_back({"o", "1"});
  return result;
}

void FakePostgres::publish(const Control& control, std::string_view sql) {
  constexpr std::string_view kHead = "'pgfresh', E'";
  std::vector<std::string> payloads;
  for (size_t at = sql.find(kHead); at != std::string_view::npos; at = sql.find(kHead, at)) {
    std::string payload;
    for (at += kHead.size(); !(sql[at] == '\'' && sql[at + 1] != '\''); ++at) {
      if (sql[at] == '\'' || sql[at] == '\\') ++at;
      payload += sql[at];
    }
    if (payload.starts_with("3 b")) {
      ++beats_;
      last_beats_[control.pid] = payload;
    } else if (payload.starts_with("3 e")) {
      last_beats_.erase(control.pid);
    } else {
      ++publications_;
    }
    payloads.push_back(std::move(payload));
  }
  notify(payloads, control.pid);
}

void FakePostgres::cut_off(const Loop& streams, const Loop& control) {
  for (const auto& backend : backends_) {
    if (homes_[backend->key().pid] != &streams) continue;
    backend->pipe()->cut("connection reset by peer");
    if (!backend->in_transaction()) backend->go_on();
  }
  for (const auto& one : controls_) {
    if (&one->home != &control) continue;
    one->lost = true;
    one->words.clear();
    one->statements.clear();
  }
}

void FakePostgres::repeat_beats() {
  for (const auto& [pid, beat] : last_beats_) notify({beat}, pid);
}

void FakePostgres::note(std::string line) {
  if (logging_) log_.push_back(std::move(line));
}

std::string FakePostgres::take_log() {
  std::string joined;
  for (const std::string& line : std::exchange(log_, {})) {
    if (!joined.empty()) joined += ", ";
    joined += line;
  }
  return joined;
}

}  // namespace pgfresh::sim
