// pgfresh: reads the command line, wires the daemon, runs it.
#include <malloc.h>

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

int fail(const Troubles& troubles) {
  for (const std::string& trouble : troubles) static_cast<void>(fail(trouble, 1));
  return 1;
}

// Large answers come and go, and glibc would keep their room in pieces that nothing fits into:
// twice cache.bytes was resident. What is mapped by itself goes back whole. (Also the number of
// mappings that a process may have is bounded; what comes beyond ours lies in the heap.)
void set_up_allocator() {
  constexpr int kMappedBytesMin = 64 * 1024;
  constexpr int kMappedMax = 16 * 1024;
  mallopt(M_MMAP_THRESHOLD, kMappedBytesMin);
  mallopt(M_MMAP_MAX, kMappedMax);
}

tl::expected<Options, std::string> reload(const CommandLine& line) {
  CommandLine::Loaded loaded = line.load();
  if (loaded.troubles.empty()) return std::move(loaded.options);
  std::string text;
  for (const std::string& trouble : loaded.troubles) text += (text.empty() ? "" : " | ") + trouble;
  return tl::make_unexpected(std::move(text));
}

int run(const CommandLine& line) {
  set_up_allocator();
  auto [options, troubles] = line.load();
  Daemon::Ways ways;
  if (!options.upstream_url.empty()) {
    auto upstream = net::Upstream::open(options.upstream_url);
    if (upstream) {
      ways.postgres = *upstream;
    } else {
      troubles.push_back("upstream.url: " + upstream.error());
    }
  }
  if (auto redis = open_redis(options)) {
    ways.redis = *redis;
  } else {
    troubles.push_back("redis.url: " + redis.error());
  }
  const bool checks = line.action == CommandLine::Action::kCheck;
  if (checks) {
    for (std::string& each : check_places(options)) troubles.push_back(std::move(each));
  }
  if (!troubles.empty()) return fail(troubles);
  const std::string exposed = exposed_passwords(line.file, options);
  if (checks) {
    if (!exposed.empty()) static_cast<void>(fail("warning: " + exposed, 0));
    std::printf("%s: ok\n", line.file.c_str());
    return 0;
  }
  auto log = open_log({options.log_level, options.log_format, options.log_file});
  if (!log) return fail(log.error(), 1);
  (*log)->event(LogLevel::kInfo, "starting",
                {{"version", std::string(kVersion)},
                 {"file", line.file},
                 {"upstream", ways.postgres->target.describe()}});
  if (!exposed.empty()) (*log)->event(LogLevel::kWarn, "passwords_exposed", {{"why", exposed}});
  Daemon daemon(std::move(options), std::move(ways), **log, [&line] { return reload(line); });
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
