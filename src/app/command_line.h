// What the command line says, and the configuration it leads to.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "app/options.h"

namespace pgfresh::app {

// Exit status for a command line that cannot be understood.
inline constexpr int kUsageStatus = 2;

struct CommandLine {
  enum class Action : uint8_t { kRun, kCheck, kVersion, kHelp };

  Action action = Action::kRun;
  std::string file;  // empty: none
  // Dotted name and value, in the order given; --upstream, --listen and --http are among them.
  std::vector<std::pair<std::string, std::string>> settings;

  // `arguments` without the program's name. The error is one line, for standard error, and the
  // status is kUsageStatus.
  [[nodiscard]] static tl::expected<CommandLine, std::string> parse(
      const std::vector<std::string>& arguments);

  struct Loaded {
    Options options;    // complete, where there are no troubles
    Troubles troubles;  // all of them
  };
  // Defaults, then the file, then the settings. Called again for a reload.
  [[nodiscard]] Loaded load() const;
};

// For --help: the forms, and every option.
[[nodiscard]] std::string help_text();

}  // namespace pgfresh::app
