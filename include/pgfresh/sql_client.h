// A control connection to PostgreSQL: the feed, the catalog, the outcome of a lost transaction.
// Two implementations: libpq on the control loop (src/net), and a scripted one in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgfresh {

// The rows of one statement, as text; nullopt is SQL NULL.
struct SqlRows {
  std::vector<std::string> columns;
  std::vector<std::vector<std::optional<std::string>>> rows;
};

struct SqlResult {
  std::string error;     // empty on success, else the server's message
  std::string sqlstate;  // with `error`
  SqlRows rows;          // of the last statement of the text
};

// One connection, one statement at a time. All calls and callbacks on the control loop's thread;
// no callback comes from inside a call. Destroying the client closes the connection silently.
class SqlClient {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    // Connected and authenticated.
    virtual void on_ready() = 0;
    // A NOTIFY on any channel this connection listens to, in stream order, and before the result
    // of a statement that completed after it. `sender`: PostgreSQL's process that notified.
    virtual void on_notification(std::string_view channel, std::string_view payload,
                                 uint32_t sender) = 0;
    // The connection could not be made or is lost. Comes once; nothing comes after it, and the
    // pending statement's callback never comes.
    virtual void on_lost(std::string_view why) = 0;
  };
  using Done = std::function<void(SqlResult)>;

  virtual ~SqlClient() = default;

  // Sends one simple query. REQUIRES: ready, and no statement pending.
  virtual void query(std::string_view sql, Done done) = 0;

  // PostgreSQL's process at the other end. REQUIRES: ready.
  [[nodiscard]] virtual uint32_t backend_pid() const = 0;
};

// Makes control connections to the server; `database` names the database to be connected to.
class SqlClientFactory {
 public:
  virtual ~SqlClientFactory() = default;
  // Never null; failure is told by on_lost. REQUIRES: `events` outlives the client.
  [[nodiscard]] virtual std::unique_ptr<SqlClient> connect(const std::string& database,
                                                           SqlClient::Events* events) = 0;
};

}  // namespace pgfresh
