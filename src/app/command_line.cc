#include "app/command_line.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "app/option_table.h"

namespace pgfresh::app {
namespace {

constexpr const char* kForms =
    "usage: pgfresh -c FILE\n"
    "       pgfresh --check -c FILE\n"
    "       pgfresh --upstream URL [--listen HOST:PORT] [--http HOST:PORT] [--redis URL]\n"
    "               [--set NAME=VALUE …]\n"
    "       pgfresh --version | --help\n";

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  // Empty, or what is wrong.
  [[nodiscard]] std::string parse(CommandLine& line);

 private:
  [[nodiscard]] std::string argument(CommandLine& line);
  // The value of an option: behind '=' or the next argument. False when there is none.
  [[nodiscard]] bool take_value(std::string& value);
  [[nodiscard]] std::string with_value(CommandLine& line, const std::string& value);

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
  std::string name_;    // of the argument being read
  std::string inline_;  // what stood behind its '='
  bool has_inline_ = false;
  std::string listen_;  // --listen may come several times
};

bool wants_value(const std::string& name) {
  return name == "-c" || name == "--config" || name == "--upstream" || name == "--listen" ||
         name == "--http" || name == "--redis" || name == "--set";
}

bool Parser::take_value(std::string& value) {
  if (has_inline_) {
    value = inline_;
    return true;
  }
  if (next_ == arguments_.size()) return false;
  value = arguments_[next_++];
  return true;
}

std::string Parser::parse(CommandLine& line) {
  while (next_ < arguments_.size()) {
    const std::string& text = arguments_[next_++];
    const size_t equals = text.starts_with("--") ? text.find('=') : std::string::npos;
    name_ = text.substr(0, equals);
    has_inline_ = equals != std::string::npos;
    inline_ = has_inline_ ? text.substr(equals + 1) : "";
    std::string trouble = argument(line);
    if (!trouble.empty()) return trouble;
  }
  if (!listen_.empty()) line.settings.emplace_back("listen.tcp", listen_);
  std::set<std::string> names;
  for (const auto& [name, value] : line.settings) {
    if (!names.insert(name).second) return shown_name(name) + ": is given twice";
  }
  if (line.action == CommandLine::Action::kCheck && line.file.empty()) {
    return "--check needs -c FILE";
  }
  const bool runs = line.action == CommandLine::Action::kRun;
  if (runs && line.file.empty() && line.settings.empty())
    return "-c FILE or --upstream URL is needed";
  return {};
}

std::string Parser::argument(CommandLine& line) {
  if (wants_value(name_)) {
    std::string value;
    if (!take_value(value)) return name_ + " needs a value";
    return with_value(line, value);
  }
  if (has_inline_) return name_ + " takes no value, or is not known";
  if (name_ == "--check") {
    line.action = CommandLine::Action::kCheck;
  } else if (name_ == "--version" || name_ == "-V") {
    line.action = CommandLine::Action::kVersion;
  } else if (name_ == "--help" || name_ == "-h") {
    line.action = CommandLine::Action::kHelp;
  } else if (name_.starts_with('-')) {
    return "\"" + shown_name(name_) + "\" is not known";
  } else {
    return "a value stands where the name of an option is wanted; that of a URL is --upstream";
  }
  return {};
}

std::string Parser::with_value(CommandLine& line, const std::string& value) {
  if (name_ == "-c" || name_ == "--config") {
    if (!line.file.empty()) return "-c is given twice";
    line.file = value;
  } else if (name_ == "--upstream") {
    line.settings.emplace_back("upstream.url", value);
  } else if (name_ == "--listen") {
    listen_ += (listen_.empty() ? "" : ",") + value;
  } else if (name_ == "--http") {
    line.settings.emplace_back("listen.http", value);
  } else if (name_ == "--redis") {
    line.settings.emplace_back("redis.url", value);
  } else {
    const size_t equals = value.find('=');
    if (equals == std::string::npos || equals == 0) return "--set needs NAME=VALUE";
    line.settings.emplace_back(value.substr(0, equals), value.substr(equals + 1));
  }
  return {};
}

}  // namespace

tl::expected<CommandLine, std::string> CommandLine::parse(
    const std::vector<std::string>& arguments) {
  CommandLine line;
  const std::string trouble = Parser(arguments).parse(line);
  if (!trouble.empty()) return tl::make_unexpected(trouble + " (see --help)");
  return line;
}

CommandLine::Loaded CommandLine::load() const {
  Loaded loaded{Options::defaults(), {}};
  Troubles& troubles = loaded.troubles;
  const bool read = file.empty() || read_options_file(file, loaded.options, troubles);
  for (const auto& [name, value] : settings) {
    std::string trouble = set_option(loaded.options, name, value);
    if (!trouble.empty()) troubles.push_back(std::move(trouble));
  }
  if (!read) return loaded;
  for (const std::string& trouble : check_complete(loaded.options)) {
    const std::string_view name = std::string_view(trouble).substr(0, trouble.find(' '));
    const bool told = std::any_of(troubles.begin(), troubles.end(), [name](const auto& other) {
      return other.find(name) != std::string::npos;
    });
    if (!told) troubles.push_back(file.empty() ? trouble : file + ": " + trouble);
  }
  return loaded;
}

std::string help_text() {
  std::ostringstream out;
  out << "pgfresh: a caching proxy in front of PostgreSQL.\n\n"
      << kForms
      << "\nOptions of the file, and of --set; durations 300ms 5s 15min 24h, sizes 64KB 1GB:\n";
  for (const Option& option : option_table()) {
    out << "  " << option.name;
    if (!option.default_text.empty()) out << "=" << option.default_text;
    out << "\n      " << option.why << "\n      Allowed: " << allowed_text(option) << ".\n";
  }
  return out.str();
}

}  // namespace pgfresh::app
