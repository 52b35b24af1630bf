// The console's commands carried out on the running daemon. One for each worker, so that outcomes
// come back on that worker's loop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "console/backend.h"
#include "pgfresh/loop.h"
#include "proxy/worker.h"

namespace pgfresh::app {

class Daemon;

class ConsoleBackend final : public console::Backend {
 public:
  // REQUIRES: both outlive this.
  ConsoleBackend(Daemon& daemon, Loop& home) : daemon_(daemon), home_(home) {}

  void run(const console::Command& command, std::function<void(console::Outcome)> done) override;

 private:
  using Done = std::function<void(console::Outcome)>;

  // Wraps `done` so that it runs on the session's loop.
  [[nodiscard]] Done at_home(Done done);
  void on_control(std::function<void()> task);
  void show_sessions(console::Verb verb, Done done);
  void reload(const Done& done);

  Daemon& daemon_;
  Loop& home_;
};

}  // namespace pgfresh::app
