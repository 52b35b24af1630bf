// One control connection that is kept up: connects, reconnects with back-off and jitter, gives up
// on a server that does not answer. What is said over it is its owner's business.
//
// A SqlClient is never destroyed from inside one of its callbacks: it is let go at the end of the
// loop's turn, and whatever it still says before that is not heard.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "freshness/alarm.h"
#include "pgfresh/loop.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::freshness {

class Line {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void on_line_ready(Line& line) = 0;
    virtual void on_line_notification(Line& line, std::string_view channel,
                                      std::string_view payload, uint32_t sender) = 0;
    // Reconnecting is arranged already. The pending statement's callback does not come. Comes for
    // attempts that fail as well.
    virtual void on_line_lost(Line& line, std::string_view why) = 0;
  };
  struct Backoff {
    int64_t ms_min = 50;
    int64_t ms_max = 5000;
  };

  // All on the control loop. REQUIRES: `owner`, `loop` and `factory` outlive the line.
  Line(std::string database, Loop& loop, SqlClientFactory& factory,
       std::function<uint64_t()> random64, Owner& owner);
  ~Line();
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  void start();
  // Ends the connection, and every attempt at one, until start(); nobody is told. Not from inside a
  // callback of its own.
  void stop();
  void set_backoff(const Backoff& backoff) { backoff_ = backoff; }
  // Ends this connection as if it were lost. REQUIRES: started.
  void drop(std::string_view why);
  // Drops the connection when a statement has been unanswered for `patience_ns`, or an attempt to
  // connect for as long and ten seconds.
  void drop_if_silent(int64_t patience_ns);
  // The connection is of use: the next back-off begins from its minimum.
  void confirm() { failures_ = 0; }

  [[nodiscard]] bool started() const { return started_; }
  [[nodiscard]] bool ready() const;
  [[nodiscard]] bool idle() const;  // ready, and no statement pending
  // PostgreSQL's process at the other end; 0 while it is not ready.
  [[nodiscard]] uint32_t backend_pid() const;
  // REQUIRES: idle().
  void query(std::string_view sql, SqlClient::Done done);

 private:
  struct Attempt;

  void connect();
  void let_go();
  void lose(std::string_view why);
  [[nodiscard]] int64_t next_delay_ms();

  const std::string database_;
  Loop& loop_;
  SqlClientFactory& factory_;
  const std::function<uint64_t()> random64_;
  Owner& owner_;
  Backoff backoff_;
  bool started_ = false;
  int failures_ = 0;  // since confirm()
  std::shared_ptr<Attempt> attempt_;
  Alarm retry_;
};

}  // namespace pgfresh::freshness
