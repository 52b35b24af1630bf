// The seam between the console and the rest of pgfresh: a command goes in, an outcome comes back.
// The console knows the protocol and the language; the implementation (src/app) knows the workers.
//
// How to implement it: switch over command.verb; for a kLooks verb gather the row structs of
// console/tables.h (from every worker, on its own loop; then on the control loop), hand them to the
// function of the same name there, and pass its Table to `done`. For a kActs verb do it and answer
// Done{"FLUSH"} and the like, or a Failure. SHOW HELP, SHOW VERSION
// and verbs of kind kNotYet never arrive here.
#pragma once

#include <functional>
#include <string>
#include <variant>

#include "console/command.h"
#include "console/table.h"

namespace pgfresh::console {

// Done without rows; `tag` is what CommandComplete says.
struct Done {
  std::string tag;
  std::string notice = {};  // a WARNING in front of it; empty: none
};

// Shown to the client as an ErrorResponse of severity ERROR; the session goes on.
struct Failure {
  std::string sqlstate;
  std::string message;
  std::string hint;
};

using Outcome = std::variant<Table, Done, Failure>;

class Backend {
 public:
  virtual ~Backend() = default;

  // `done` is to be called exactly once, on the thread of the calling session's loop: from inside
  // run() or any time later, also when the session is gone by then (it ignores the call). A Table
  // must have the columns that columns_of(command.verb) gives (tables.h): a client may have been
  // told them before the command ran. Called on the session's loop thread.
  //
  // kShutdown, kShutdownWait: call `done` first, and let a loop turn pass, so that the client gets
  // its answer.
  virtual void run(const Command& command, std::function<void(Outcome)> done) = 0;
};

}  // namespace pgfresh::console
