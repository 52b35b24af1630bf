// A client of the random runs: does one small thing after the other, tells the judge what it did
// and saw, and comes back when its connection breaks. A thing is a list of steps; a step is what
// is said in one piece, how many ReadyForQuery end its answer, and what is made of that.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "judge.h"
#include "proxy_node.h"
#include "wire_client.h"

namespace pgfresh::sim {

// What row 1 of the table `side` holds, for good.
inline constexpr int64_t kSideValue = 7;

struct ActorOptions {
  int proxy = kDirectly;
  std::optional<int64_t> writes_row;  // nullopt: a reader
  bool mirror = false;                // the rows are in table `mirror`, too
  int64_t rows = 0;  // rows are 1 … rows; row rows+1 cannot be read without error
};

class Actor {
 public:
  // `connect` gives a fresh stream, or null when there is nobody to connect to.
  Actor(Loop& loop, Judge& judge, Random& random, ActorOptions options,
        std::function<std::unique_ptr<Stream>()> connect);
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  // Nothing is under way.
  [[nodiscard]] bool idle() const { return steps_.empty() && !waiting_; }
  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] const ActorOptions& options() const { return options_; }
  // Begins something at random, or connects. REQUIRES: idle().
  void act();
  [[nodiscard]] uint64_t losses() const { return losses_; }
  [[nodiscard]] uint64_t savepoints_undone() const { return savepoints_undone_; }
  [[nodiscard]] uint64_t functions_wrote() const { return functions_wrote_; }
  [[nodiscard]] uint64_t mirrors_read() const { return mirrors_read_; }

 private:
  using Heard = std::vector<WireClient::Message>;
  struct Step {
    std::function<void()> say;
    std::function<void(const Heard&)> hear;
    int readies = 1;
  };

  // The name of the prepared one.
  [[nodiscard]] std::string statement() const { return "get" + std::to_string(statements_); }

  void on_message(char type);
  void next();
  void lost();
  void log_in();

  // Readers.
  void read_once();
  void read_in_block();
  void read_in_snapshot();
  void read_pipelined();
  void read_in_one_segment();
  void read_sum();
  void change_setting();
  [[nodiscard]] Step reading(int64_t row);
  void say_read(int64_t row);
  [[nodiscard]] int64_t any_row();
  void judge_rows(const Heard& heard, const std::vector<int64_t>& rows, Judge::Moment sent);

  // Writers.
  void write_once();
  void write_in_block();
  void write_behind_savepoint();
  void write_and_read_pipelined();
  void write_and_fail();
  void begin_version();
  void say_update();
  void say_write();
  [[nodiscard]] Step control(const std::string& sql);
  [[nodiscard]] Step reading_side();
  void take_write(const Heard& heard);
  void acknowledge();
  void abort();

  Judge& judge_;
  Random& random_;
  const ActorOptions options_;
  const std::function<std::unique_ptr<Stream>()> connect_;
  WireClient client_;
  std::deque<Step> steps_;
  bool connected_ = false;
  bool waiting_ = false;  // for the answer of a step
  int readies_ = 0;
  bool prepared_ = false;  // statement()
  int statements_ = 0;
  uint64_t losses_ = 0;
  uint64_t savepoints_undone_ = 0;
  uint64_t functions_wrote_ = 0;
  uint64_t mirrors_read_ = 0;

  // The write under way.
  std::optional<int64_t> version_;
  bool undecided_ = false;  // something was sent that may commit it
  bool failed_ = false;     // a statement of the block has failed
  Judge::Moment sent_;
  std::optional<int64_t> snapshot_;  // what the block read first
};

}  // namespace pgfresh::sim
