#include "net/pg_client.h"

#include <libpq-fe.h>

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "net/resolver.h"

namespace pgfresh::net {
namespace {

// From the look-up of the name to the end of the login.
constexpr int64_t kConnectMsMax = 5'000;

struct FreePg {
  void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
  void operator()(PGresult* result) const noexcept { PQclear(result); }
  void operator()(PGnotify* notify) const noexcept { PQfreemem(notify); }
};
using Result = std::unique_ptr<PGresult, FreePg>;

// keyword and value pairs as PQconnectStartParams() wants them.
class Parameters {
 public:
  void add(const char* keyword, std::string value) {
    if (value.empty()) return;
    keywords_.push_back(keyword);
    values_.push_back(std::move(value));
  }
  [[nodiscard]] PGconn* start() const {
    return PQconnectStartParams(terminated(keywords_).data(), terminated(pointers()).data(), 0);
  }
  [[nodiscard]] PGPing ping() const {
    return PQpingParams(terminated(keywords_).data(), terminated(pointers()).data(), 0);
  }

 private:
  [[nodiscard]] static std::vector<const char*> terminated(std::vector<const char*> list) {
    list.push_back(nullptr);
    return list;
  }
  [[nodiscard]] std::vector<const char*> pointers() const {
    std::vector<const char*> values;
    for (const std::string& value : values_) values.push_back(value.c_str());
    return values;
  }

  std::vector<const char*> keywords_;
  std::vector<std::string> values_;
};

Parameters parameters_for(const UpstreamTarget& target, const std::string& database,
                          const std::vector<sockaddr_storage>& addresses) {
  Parameters parameters;
  std::string hosts;
  std::string numeric;
  for (const sockaddr_storage& address : addresses) {
    hosts += (hosts.empty() ? "" : ",") + target.host;
    numeric += (numeric.empty() ? "" : ",") + numeric_host(address);
  }
  parameters.add("host", target.is_unix() ? target.host : hosts);
  parameters.add("hostaddr", numeric);
  parameters.add("port", std::to_string(target.port));
  parameters.add("user", target.user);
  parameters.add("password", target.password);
  parameters.add("dbname", database);
  parameters.add("sslmode", std::string(ssl_mode_name(target.ssl_mode)));
  parameters.add("sslrootcert", target.ssl_root_cert == "system" ? system_certificate_file()
                                                                 : target.ssl_root_cert);
  parameters.add("sslcert", target.ssl_cert);
  parameters.add("sslkey", target.ssl_key);
  parameters.add("gssencmode", "disable");
  parameters.add("application_name", "pgfresh");
  parameters.add("client_encoding", "UTF8");
  parameters.add("keepalives", "1");
  parameters.add("keepalives_idle", "10");
  parameters.add("keepalives_interval", "5");
  parameters.add("keepalives_count", "3");
  return parameters;
}

// What roles, databases and servers set for applications would end what is asked here, or the
// connection while it listens. Not as a startup parameter, which poolers refuse, nor by
// set_config(), for which one needs a right.
std::string settings_sql(int server_version) {
  std::string sql =
      "SET standard_conforming_strings = on; SET statement_timeout = 0; SET lock_timeout = 0";
  if (server_version >= 140'000) sql += "; SET idle_session_timeout = 0";
  if (server_version >= 170'000) sql += "; SET transaction_timeout = 0";
  return sql;
}

SqlRows rows_of(const PGresult* result) {
  SqlRows rows;
  const int columns = PQnfields(result);
  const int count = PQntuples(result);
  for (int column = 0; column < columns; ++column) {
    rows.columns.emplace_back(PQfname(result, column));
  }
  rows.rows.reserve(static_cast<size_t>(count));
  for (int row = 0; row < count; ++row) {
    auto& fields = rows.rows.emplace_back();
    fields.reserve(static_cast<size_t>(columns));
    for (int column = 0; column < columns; ++column) {
      if (PQgetisnull(result, row, column) != 0) {
        fields.emplace_back(std::nullopt);
      } else {
        fields.emplace_back(std::string(PQgetvalue(result, row, column),
                                        static_cast<size_t>(PQgetlength(result, row, column))));
      }
    }
  }
  return rows;
}

// A connection. Shared by the client and by the callbacks under way, since what is told to the
// owner may destroy the client; events_ is null from then on.
class Session final : public std::enable_shared_from_this<Session> {
 public:
  Session(UvLoop& loop, std::shared_ptr<const Upstream> upstream, std::string database,
          SqlClient::Events* events)
      : loop_(loop),
        upstream_(std::move(upstream)),
        database_(std::move(database)),
        events_(events) {}

  void begin();
  void close();
  void query(std::string_view sql, SqlClient::Done done);
  [[nodiscard]] uint32_t backend_pid() const {
    return static_cast<uint32_t>(PQbackendPID(connection_.get()));
  }

 private:
  enum class State : uint8_t { kConnecting, kIdle, kBusy, kLost };

  void resolved(const std::vector<sockaddr_storage>& addresses, const std::string& error);
  void step();
  void login();
  void ready();
  void work(int events);
  void read_results();
  void take(Result result);
  void tell_notifications();
  void tell_result();
  void lost(std::string why);
  void watch(int events);
  void broken();
  static void on_notice(void* session, const PGresult* notice) noexcept;
  static void on_ready(uv_poll_t* handle, int status, int events) noexcept;

  // Constant after construction.
  UvLoop& loop_;
  std::shared_ptr<const Upstream> upstream_;
  std::string database_;

  // Control loop only. The connection is declared before the watch on its socket, which ends first.
  SqlClient::Events* events_;
  State state_ = State::kConnecting;
  std::unique_ptr<PGconn, FreePg> connection_;
  UvHandle<uv_poll_t> poll_;
  std::unique_ptr<Resolution> resolution_;
  std::unique_ptr<Timer> timeout_;
  SqlClient::Done done_;
  SqlResult result_;
  std::string last_words_;  // a FATAL error outside any statement
  bool complete_ = false;   // result_ is whole, ReadyForQuery has come
};

void Session::begin() {
  timeout_ = loop_.after(kConnectMsMax, [this] { lost("timeout expired"); });
  const UpstreamTarget& target = upstream_->target;
  if (target.is_unix()) {
    loop_.defer([self = shared_from_this()] { self->resolved({}, {}); });
    return;
  }
  resolution_ = std::make_unique<Resolution>(
      loop_, target.hostaddr.empty() ? target.host : target.hostaddr, target.port,
      [this](const std::vector<sockaddr_storage>& addresses, const std::string& error) {
        const auto self = shared_from_this();
        resolved(addresses, error);
      });
}

void Session::close() {
  events_ = nullptr;
  done_ = nullptr;
  state_ = State::kLost;
  resolution_.reset();
  timeout_.reset();
  poll_.reset();
  connection_.reset();
}

void Session::resolved(const std::vector<sockaddr_storage>& addresses, const std::string& error) {
  if (events_ == nullptr) return;
  if (!error.empty()) {
    lost(error);
    return;
  }
  connection_.reset(parameters_for(upstream_->target, database_, addresses).start());
  if (connection_ == nullptr) {
    lost("out of memory");
    return;
  }
  if (PQstatus(connection_.get()) == CONNECTION_BAD) {
    lost(PQerrorMessage(connection_.get()));
    return;
  }
  PQsetNoticeReceiver(connection_.get(), &Session::on_notice, this);
  watch(UV_WRITABLE);  // the manual: behave as if PQconnectPoll had returned WRITING
}

void Session::on_notice(void* session, const PGresult* notice) noexcept {
  // To an idle connection the server's last words come as a notice.
  const char* severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
  const char* text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
  if (severity == nullptr || text == nullptr) return;
  const std::string_view level(severity);
  if (level == "FATAL" || level == "PANIC") static_cast<Session*>(session)->last_words_ = text;
}

void Session::watch(int events) {
  if (poll_ == nullptr) {
    auto* poll = new uv_poll_t;
    const int rc = uv_poll_init(loop_.uv(), poll, PQsocket(connection_.get()));
    if (rc != 0) {
      delete poll;
      lost(std::string("cannot watch the socket: ") + uv_strerror(rc));
      return;
    }
    poll->data = this;
    poll_.reset(poll);
  }
  uv_poll_start(poll_.get(), events, &Session::on_ready);
}

void Session::on_ready(uv_poll_t* handle, int status, int events) noexcept {
  const auto self = static_cast<Session*>(handle->data)->shared_from_this();
  if (self->state_ == State::kConnecting) {
    self->step();
  } else {
    // An error on the socket: reading will say which.
    self->work(status == 0 ? events : UV_READABLE);
  }
}

void Session::step() {
  // While connecting, libpq may close its socket and open another, even under the same number:
  // each step gets a new watch, and the old one ends while its descriptor still stands.
  poll_.reset();
  switch (PQconnectPoll(connection_.get())) {
    case PGRES_POLLING_READING:
      watch(UV_READABLE);
      return;
    case PGRES_POLLING_WRITING:
      watch(UV_WRITABLE);
      return;
    case PGRES_POLLING_OK:
      login();
      return;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
      lost(PQerrorMessage(connection_.get()));
      return;
  }
}

void Session::login() {
  if (PQsetnonblocking(connection_.get(), 1) != 0) {
    lost(PQerrorMessage(connection_.get()));
    return;
  }
  state_ = State::kIdle;
  watch(UV_READABLE);
  query(settings_sql(PQserverVersion(connection_.get())), [this](const SqlResult& result) {
    if (result.error.empty()) {
      ready();
    } else {
      lost(result.error);
    }
  });
}

void Session::ready() {
  timeout_.reset();
  if (events_ != nullptr && state_ == State::kIdle) events_->on_ready();
}

void Session::query(std::string_view sql, SqlClient::Done done) {
  if (state_ == State::kLost) return;  // on_lost is on its way or has come
  PGFRESH_CHECK(state_ == State::kIdle);
  state_ = State::kBusy;
  done_ = std::move(done);
  result_ = {};
  complete_ = false;
  int unsent = -1;
  if (PQsendQuery(connection_.get(), std::string(sql).c_str()) == 1) {
    unsent = PQflush(connection_.get());
  }
  if (unsent < 0) {
    // The server's last words may still be unread; they say more than "broken pipe".
    loop_.defer([self = shared_from_this()] {
      if (self->state_ == State::kBusy) self->work(UV_READABLE);
    });
    return;
  }
  watch(unsent == 0 ? UV_READABLE : UV_READABLE | UV_WRITABLE);
}

void Session::work(int events) {
  if (state_ == State::kLost) return;
  if ((events & UV_READABLE) != 0 && PQconsumeInput(connection_.get()) == 0) {
    broken();
    return;
  }
  if (const int unsent = PQflush(connection_.get()); unsent >= 0) {
    watch(unsent == 0 ? UV_READABLE : UV_READABLE | UV_WRITABLE);
  }
  read_results();
  if (state_ == State::kLost) return;
  if (PQstatus(connection_.get()) == CONNECTION_BAD) {
    broken();
    return;
  }
  tell_notifications();
  tell_result();
}

void Session::broken() {
  const std::string why = PQerrorMessage(connection_.get());
  read_results();  // may hold the server's reason
  tell_notifications();
  lost(!result_.error.empty() ? result_.error : !last_words_.empty() ? last_words_ : why);
}

void Session::read_results() {
  while (state_ == State::kBusy && !complete_ && PQisBusy(connection_.get()) == 0) {
    Result result(PQgetResult(connection_.get()));
    if (result == nullptr) {
      complete_ = true;
    } else {
      take(std::move(result));
    }
  }
}

void Session::take(Result result) {
  switch (PQresultStatus(result.get())) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_SINGLE_TUPLE:
    case PGRES_NONFATAL_ERROR:
      if (result_.error.empty()) result_.rows = rows_of(result.get());
      return;
    case PGRES_BAD_RESPONSE:
    case PGRES_FATAL_ERROR: {
      if (!result_.error.empty()) return;  // the first says why, the next what came of it
      const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
      const char* primary = PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
      result_.rows = {};
      result_.error = trimmed(primary != nullptr ? primary : PQresultErrorMessage(result.get()));
      if (result_.error.empty()) result_.error = "unknown error";
      result_.sqlstate = state != nullptr ? state : "";
      return;
    }
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
      // PQgetResult() would return this for ever.
      result_.error = "COPY on a control connection";
      complete_ = true;
      lost(result_.error);
      return;
  }
}

void Session::tell_notifications() {
  while (events_ != nullptr && state_ != State::kLost) {
    const std::unique_ptr<PGnotify, FreePg> notify(PQnotifies(connection_.get()));
    if (notify == nullptr) return;
    events_->on_notification(notify->relname, notify->extra, static_cast<uint32_t>(notify->be_pid));
  }
}

void Session::tell_result() {
  if (state_ != State::kBusy || !complete_) return;
  state_ = State::kIdle;
  complete_ = false;
  const SqlClient::Done done = std::exchange(done_, nullptr);
  SqlResult result = std::exchange(result_, {});
  if (done) done(std::move(result));
}

void Session::lost(std::string why) {
  if (state_ == State::kLost && events_ == nullptr) return;
  SqlClient::Events* told = events_;
  close();
  if (told == nullptr) return;
  std::string text(trimmed(why));
  // Not from inside a call; and not once the client is gone.
  events_ = told;
  loop_.defer([self = shared_from_this(), text = text.empty() ? "connection lost" : text] {
    SqlClient::Events* listener = std::exchange(self->events_, nullptr);
    if (listener != nullptr) listener->on_lost(text);
  });
}

class PgClient final : public SqlClient {
 public:
  explicit PgClient(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  ~PgClient() override { session_->close(); }
  void query(std::string_view sql, Done done) override { session_->query(sql, std::move(done)); }
  [[nodiscard]] uint32_t backend_pid() const override { return session_->backend_pid(); }

 private:
  std::shared_ptr<Session> session_;
};

}  // namespace

PgClientFactory::PgClientFactory(UvLoop& loop, std::shared_ptr<const Upstream> upstream)
    : loop_(loop), upstream_(std::move(upstream)) {}

std::unique_ptr<SqlClient> PgClientFactory::connect(const std::string& database,
                                                    SqlClient::Events* events) {
  auto session = std::make_shared<Session>(loop_, upstream_, database, events);
  session->begin();
  return std::make_unique<PgClient>(std::move(session));
}

// A server that wants a password has answered, too; it is not given one.
bool accepts_connections(const Upstream& upstream) {
  const UpstreamTarget& target = upstream.target;
  Parameters parameters;
  parameters.add("host", target.host);
  parameters.add("hostaddr", target.hostaddr);
  parameters.add("port", std::to_string(target.port));
  parameters.add("user", target.user);
  parameters.add("dbname", target.database);
  parameters.add("application_name", "pgfresh");
  parameters.add("connect_timeout", "2");
  return parameters.ping() == PQPING_OK;
}

}  // namespace pgfresh::net
