// pgfresh: reads the command line, wires the daemon, runs it.
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "app/command_line.h"
#include "app/daemon.h"
#include "app/logging.h"
#include "app/version.h"
#include "net/connector.h"

namespace pgfresh::app {
namespace {

int fail(const std::string& error, int status) {
  std::fprintf(stderr, "pgfresh: %s\n", error.c_str());
  return status;
}

int run(const CommandLine& line) {
  tl::expected<Options, std::string> options = line.load();
  if (!options) return fail(options.error(), 1);
  auto upstream = net::Upstream::open(options->upstream_url);
  if (!upstream) return fail("upstream.url: " + upstream.error(), 1);
  auto redis = open_redis(*options);
  if (!redis) return fail("redis.url: " + redis.error(), 1);
  if (line.action == CommandLine::Action::kCheck) {
    const std::string error = check_places(*options);
    return error.empty() ? 0 : fail(error, 1);
  }
  auto log = open_log({options->log_level, options->log_format, options->log_file});
  if (!log) return fail(log.error(), 1);
  Daemon daemon(std::move(*options), {*upstream, *redis}, **log, [&line] { return line.load(); });
  if (const std::string error = daemon.start(); !error.empty()) return fail(error, 1);
  return daemon.run();
}

int main_with(const std::vector<std::string>& arguments) {
  const auto line = CommandLine::parse(arguments);
  if (!line) return fail(line.error(), kUsageStatus);
  switch (line->action) {
    case CommandLine::Action::kVersion:
      std::printf("pgfresh %.*s\n", static_cast<int>(kVersion.size()), kVersion.data());
      return 0;
    case CommandLine::Action::kHelp:
      std::fputs(help_text().c_str(), stdout);
      return 0;
    case CommandLine::Action::kRun:
    case CommandLine::Action::kCheck:
      return run(*line);
  }
  return kUsageStatus;
}

}  // namespace
}  // namespace pgfresh::app

int main(int argc, char** argv) {
  try {
    return pgfresh::app::main_with({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    return pgfresh::app::fail(error.what(), 1);
  }
}
