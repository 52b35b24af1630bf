// Short visits to PostgreSQL on behalf of the console: one control connection, one text, and its
// answer, whatever becomes of it. Control loop only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "pgfresh/loop.h"
#include "pgfresh/sql_client.h"

namespace pgfresh::app {

class Visits {
 public:
  static constexpr size_t kAtOnceMax = 4;         // the others wait for their turn
  static constexpr size_t kWaitingMax = 100;      // beyond, the answer is an error
  static constexpr int64_t kPatienceMs = 10'000;  // for one visit, from connecting to the answer

  // REQUIRES: both outlive this.
  Visits(Loop& loop, SqlClientFactory& factory);
  ~Visits();
  Visits(const Visits&) = delete;
  Visits& operator=(const Visits&) = delete;

  // `done` is called exactly once, later, unless close() comes first. A connection that cannot be
  // made or is lost, and silence, are errors in the result.
  using Done = std::function<void(const SqlResult&)>;
  void ask(const std::string& database, std::string sql, Done done);
  // Ends all visits; nobody is called any more.
  void close();

 private:
  class Visit;
  struct Request {
    std::string database;
    std::string sql;
    Done done;
  };

  void begin(Request request);
  void end(uint64_t id);

  Loop& loop_;
  SqlClientFactory& factory_;
  std::map<uint64_t, std::unique_ptr<Visit>> visits_;
  std::deque<Request> waiting_;
  uint64_t next_id_ = 1;
  bool closed_ = false;
};

}  // namespace pgfresh::app
