// SqlClient over asynchronous libpq, on the control loop.
//
// Logs in as the upstream URL says (user, password, certificates), into the database asked for.
// Whatever the role's settings say, backslashes in its statements mean what they mean by default,
// and nothing has a time limit: who is silent for too long is let go by its owner. The name is
// resolved before libpq is called, which would block. Deliberately not done: COPY, several
// statements in flight, reconnecting (the feed decides when).
#pragma once

#include <memory>
#include <string>

#include "net/connector.h"
#include "net/uv_loop.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::net {

class PgClientFactory final : public SqlClientFactory {
 public:
  // REQUIRES: the loop outlives the factory and its clients.
  PgClientFactory(UvLoop& loop, std::shared_ptr<const Upstream> upstream);

  [[nodiscard]] std::unique_ptr<SqlClient> connect(const std::string& database,
                                                   SqlClient::Events* events) override;

 private:
  UvLoop& loop_;
  std::shared_ptr<const Upstream> upstream_;
};

// Whether PostgreSQL takes connections now: not while it starts, stops or is away. Any thread but a
// loop's: it waits, up to two seconds for each address.
[[nodiscard]] bool accepts_connections(const Upstream& upstream);

}  // namespace pgfresh::net
