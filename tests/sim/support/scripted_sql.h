// Control connections that a test plays PostgreSQL for. Every connection the program makes is kept
// in the factory, in order; the test accepts or refuses it, reads the statement that is pending,
// answers, notifies, or breaks it. Whatever the test says arrives through the loop, in order, and
// never inside the call that said it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgfresh/loop.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::sim {

[[nodiscard]] SqlResult sql_error(std::string message, std::string sqlstate = "XX000");
// A result of one row and one column.
[[nodiscard]] SqlResult sql_value(std::string value);
[[nodiscard]] SqlResult sql_rows(SqlRows rows);

class ScriptedSql final : public SqlClientFactory {
 public:
  class Connection;
  using ConnectionRef = std::shared_ptr<Connection>;
  // Asked for each statement as it is sent: an answer, or nullopt to leave it pending.
  using Responder = std::function<std::optional<SqlResult>(Connection&, const std::string& sql)>;

  static constexpr uint32_t kSomebody = 1'000'000;

  enum class Admission : uint8_t { kByHand, kAccept, kRefuse };

  explicit ScriptedSql(Loop& loop) : loop_(loop) {}

  [[nodiscard]] std::unique_ptr<SqlClient> connect(const std::string& database,
                                                   SqlClient::Events* events) override;

  // What becomes of connections that are made from now on.
  void set_admission(Admission admission) { admission_ = admission; }
  void set_responder(Responder responder) { responder_ = std::move(responder); }

  [[nodiscard]] const std::vector<ConnectionRef>& connections() const { return connections_; }
  // The youngest open connection on which LISTEN was sent, and the youngest on which it was not;
  // null when there is none.
  [[nodiscard]] ConnectionRef listener() const;
  [[nodiscard]] ConnectionRef other() const;
  // To every open connection that listens.
  // `sender`: the process that notified, here and below.
  void notify(std::string_view channel, std::string_view payload, uint32_t sender = kSomebody);
  void lose_all(std::string_view why);

 private:
  friend class Connection;
  class Client;

  Loop& loop_;
  Admission admission_ = Admission::kByHand;
  Responder responder_;
  std::vector<ConnectionRef> connections_;
};

// The server's end of one connection.
class ScriptedSql::Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ScriptedSql& factory, std::string database, SqlClient::Events* events, uint32_t pid)
      : factory_(factory), database_(std::move(database)), events_(events), pid_(pid) {}

  [[nodiscard]] const std::string& database() const { return database_; }
  // Neither lost nor destroyed by the program.
  [[nodiscard]] bool open() const { return events_ != nullptr && !lost_; }
  [[nodiscard]] bool accepted() const { return accepted_; }
  [[nodiscard]] bool listens() const { return listens_; }

  void accept();
  void lose(std::string_view why);  // refuses it when it was not accepted
  void notify(std::string_view channel, std::string_view payload, uint32_t sender = kSomebody);
  [[nodiscard]] uint32_t pid() const { return pid_; }

  // The statement waiting for an answer; nullopt: none.
  [[nodiscard]] const std::optional<std::string>& pending() const { return pending_; }
  void answer(SqlResult result);  // REQUIRES: pending()
  void answer() { answer(SqlResult{}); }

  // Every statement ever sent here.
  [[nodiscard]] const std::vector<std::string>& log() const { return log_; }
  [[nodiscard]] size_t count(std::string_view containing) const;

 private:
  friend class ScriptedSql;
  friend class Client;

  void sent(std::string_view sql, SqlClient::Done done);
  void say(std::function<void(SqlClient::Events&)> words);

  ScriptedSql& factory_;
  const std::string database_;
  SqlClient::Events* events_;  // null: the program destroyed its end
  const uint32_t pid_;
  bool accepted_ = false;
  bool listens_ = false;
  bool lost_ = false;
  std::optional<std::string> pending_;
  SqlClient::Done done_;
  std::vector<std::string> log_;
};

}  // namespace pgfresh::sim
