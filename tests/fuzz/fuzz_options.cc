// The configuration under any bytes: a file, or a command line. Oracles: an error is one line that
// names the file and a line of it; what is accepted can be shown, and set again to what it shows.
//
// Input: 'f' and the text of a file, or anything else and arguments separated by line feeds.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "app/command_line.h"
#include "app/options.h"
#include "expect.h"

namespace pgfresh::app {
namespace {

void judge_message(const std::string& error, std::string_view begins) {
  FUZZ_EXPECT(!error.empty());
  FUZZ_EXPECT(error.find('\n') == std::string::npos);
  FUZZ_EXPECT(error.starts_with(begins));
}

void judge_file(std::string_view text) {
  const int file = ::memfd_create("options", 0);
  FUZZ_EXPECT(file >= 0);
  FUZZ_EXPECT(::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  Options options = Options::defaults();
  Troubles troubles;
  const bool read = read_options_file(path, options, troubles);
  ::close(file);
  FUZZ_EXPECT(read || !troubles.empty());
  for (const std::string& trouble : troubles) judge_message(trouble, path + ":");
  if (!troubles.empty()) return;
  static_cast<void>(check_complete(options));
  static_cast<void>(options.unix_port());
  for (const console::ConfigRow& row : config_rows(options)) FUZZ_EXPECT(!row.key.empty());
  Options again = Options::defaults();
  again.take_reloadable(options);
  static_cast<void>(again.needing_restart(options));
}

void judge_arguments(std::string_view text) {
  std::vector<std::string> arguments;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    arguments.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  const auto line = CommandLine::parse(arguments);
  if (!line) {
    FUZZ_EXPECT(!line.error().empty());
    return;
  }
  if (!line->file.empty()) return;  // no file of this machine is to be read
  for (const std::string& trouble : line->load().troubles) FUZZ_EXPECT(!trouble.empty());
}

}  // namespace
}  // namespace pgfresh::app

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest = pgfresh::fuzz::as_view(data + 1, size - 1);
  if (data[0] == 'f') {
    pgfresh::app::judge_file(rest);
  } else {
    pgfresh::app::judge_arguments(rest);
  }
  return 0;
}
