#include "scripted_sql.h"

#include <utility>

#include "base/check.h"

namespace pgfresh::sim {

SqlResult sql_error(std::string message, std::string sqlstate) {
  SqlResult result;
  result.error = std::move(message);
  result.sqlstate = std::move(sqlstate);
  return result;
}

SqlResult sql_value(std::string value) {
  SqlResult result;
  result.rows.columns = {"value"};
  result.rows.rows.push_back({std::move(value)});
  return result;
}

SqlResult sql_rows(SqlRows rows) {
  SqlResult result;
  result.rows = std::move(rows);
  return result;
}

// The program's end.
class ScriptedSql::Client final : public SqlClient {
 public:
  explicit Client(ConnectionRef connection) : connection_(std::move(connection)) {}
  ~Client() override { connection_->events_ = nullptr; }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void query(std::string_view sql, Done done) override { connection_->sent(sql, std::move(done)); }
  [[nodiscard]] uint32_t backend_pid() const override { return connection_->pid(); }

 private:
  const ConnectionRef connection_;
};

std::unique_ptr<SqlClient> ScriptedSql::connect(const std::string& database,
                                                SqlClient::Events* events) {
  const auto pid = static_cast<uint32_t>(1 + connections_.size());
  auto connection = std::make_shared<Connection>(*this, database, events, pid);
  connections_.push_back(connection);
  switch (admission_) {
    case Admission::kByHand:
      break;
    case Admission::kAccept:
      connection->accept();
      break;
    case Admission::kRefuse:
      connection->lose("connection refused");
      break;
  }
  return std::make_unique<Client>(connection);
}

ScriptedSql::ConnectionRef ScriptedSql::listener() const {
  for (auto it = connections_.rbegin(); it != connections_.rend(); ++it) {
    if ((*it)->open() && (*it)->listens()) return *it;
  }
  return nullptr;
}

ScriptedSql::ConnectionRef ScriptedSql::other() const {
  for (auto it = connections_.rbegin(); it != connections_.rend(); ++it) {
    if ((*it)->open() && !(*it)->listens()) return *it;
  }
  return nullptr;
}

void ScriptedSql::notify(std::string_view channel, std::string_view payload, uint32_t sender) {
  for (const ConnectionRef& connection : connections_) {
    if (connection->open() && connection->listens()) connection->notify(channel, payload, sender);
  }
}

void ScriptedSql::lose_all(std::string_view why) {
  for (const ConnectionRef& connection : connections_) {
    if (connection->open()) connection->lose(why);
  }
}

// ---- a connection ----

// Words in flight when the program destroys its end are not heard.
void ScriptedSql::Connection::say(std::function<void(SqlClient::Events&)> words) {
  factory_.loop_.post([self = shared_from_this(), words = std::move(words)] {
    if (self->events_ != nullptr) words(*self->events_);
  });
}

void ScriptedSql::Connection::accept() {
  PGFRESH_CHECK(!accepted_ && !lost_);
  accepted_ = true;
  say([](SqlClient::Events& events) { events.on_ready(); });
}

void ScriptedSql::Connection::lose(std::string_view why) {
  PGFRESH_CHECK(!lost_);
  lost_ = true;
  pending_.reset();
  say([reason = std::string(why)](SqlClient::Events& events) { events.on_lost(reason); });
}

void ScriptedSql::Connection::notify(std::string_view channel, std::string_view payload,
                                     uint32_t sender) {
  PGFRESH_CHECK(accepted_ && !lost_);
  say([c = std::string(channel), p = std::string(payload), sender](SqlClient::Events& events) {
    events.on_notification(c, p, sender);
  });
}

void ScriptedSql::Connection::sent(std::string_view sql, SqlClient::Done done) {
  PGFRESH_CHECK(accepted_);
  PGFRESH_CHECK(!done_);  // one statement at a time
  log_.emplace_back(sql);
  done_ = std::move(done);
  if (lost_) return;  // the news has not arrived yet
  pending_ = std::string(sql);
  if (sql.starts_with("LISTEN")) listens_ = true;
  if (!factory_.responder_) return;
  if (std::optional<SqlResult> result = factory_.responder_(*this, *pending_)) {
    answer(*std::move(result));
  }
}

void ScriptedSql::Connection::answer(SqlResult result) {
  PGFRESH_CHECK(pending_.has_value() && !lost_);
  pending_.reset();
  say([this, result = std::move(result)](SqlClient::Events&) {
    SqlClient::Done done = std::move(done_);
    done_ = nullptr;
    done(result);
  });
}

size_t ScriptedSql::Connection::count(std::string_view containing) const {
  size_t found = 0;
  for (const std::string& sql : log_) {
    const bool same = containing.empty() ? sql.empty() : sql.find(containing) != std::string::npos;
    found += same ? 1U : 0U;
  }
  return found;
}

}  // namespace pgfresh::sim
