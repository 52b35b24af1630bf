// The configuration file: YAML in, the commented sample out. Sections nest as the dots of the
// options' names do; a dotted name in one piece is accepted too.
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>

#include "app/option_table.h"
#include "app/options.h"

namespace pgfresh::app {
namespace {

constexpr size_t kColumns = 100;

// What is wrong may quote the file, and what it quotes may hold anything: it stays one line.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c >= '\0' && c < ' ') c = '?';
  }
  return text;
}

class FileReader {
 public:
  FileReader(const std::string& path, Options& options, Troubles& troubles)
      : path_(path), options_(options), troubles_(troubles) {}

  void read(const YAML::Node& root) {
    if (root.IsNull()) return;
    if (root.IsMap()) {
      section(root, "");
    } else {
      complain(root, "a section with options is wanted, such as \"listen:\"");
    }
  }

 private:
  void complain(const YAML::Node& node, const std::string& what) {
    troubles_.push_back(one_line(path_ + ":" + std::to_string(node.Mark().line + 1) + ": " + what));
  }

  void section(const YAML::Node& map, const std::string& prefix);
  void value(const Option& option, const YAML::Node& key, const YAML::Node& node);
  // False: has been complained of.
  [[nodiscard]] bool item(const Option& option, const YAML::Node& node, Texts& items);

  const std::string& path_;
  Options& options_;
  Troubles& troubles_;
  std::set<std::string> seen_;
};

bool is_section(const std::string& name) {
  for (const Option& option : option_table()) {
    if (option.name.starts_with(name + ".")) return true;
  }
  return false;
}

void FileReader::section(const YAML::Node& map, const std::string& prefix) {
  for (const auto& pair : map) {
    if (!pair.first.IsScalar()) {
      complain(pair.first, "a name is wanted");
      continue;
    }
    const std::string name = prefix + pair.first.Scalar();
    if (const Option* option = find_option(name)) {
      value(*option, pair.first, pair.second);
    } else if (!is_section(name)) {
      complain(pair.first,
               shown_name(name) + ": there is no such option; `pgfresh --help` lists them");
    } else if (pair.second.IsMap()) {
      section(pair.second, name + ".");
    } else if (!pair.second.IsNull()) {
      complain(pair.first, name + ": is a section of options, not a value");
    }
  }
}

void FileReader::value(const Option& option, const YAML::Node& key, const YAML::Node& node) {
  const std::string name(option.name);
  if (!seen_.insert(name).second) return complain(key, name + ": is given twice");
  const bool list = option.kind == Kind::kTexts || option.kind == Kind::kUsers;
  Texts items;
  if (node.IsSequence() && list) {
    for (const YAML::Node& one : node) {
      if (!item(option, one, items)) return;
    }
  } else if (node.IsNull()) {
    if (!list) items.emplace_back();  // "log.file:" with nothing behind it
  } else if (!item(option, node, items)) {
    return;
  }
  const std::string trouble = put(option, options_, items);
  if (!trouble.empty()) complain(key, trouble);
}

bool FileReader::item(const Option& option, const YAML::Node& node, Texts& items) {
  if (node.IsScalar()) {
    items.push_back(node.Scalar());
    return true;
  }
  const auto refuse = [&](const YAML::Node& at) {
    complain(at,
             std::string(option.name) + ": a value is wanted; allowed: " + allowed_text(option));
    return false;
  };
  if (option.kind != Kind::kUsers || !node.IsMap()) return refuse(node);
  std::string name;
  std::string password;
  for (const auto& pair : node) {
    const bool known = pair.first.IsScalar() && pair.second.IsScalar() &&
                       (pair.first.Scalar() == "name" || pair.first.Scalar() == "password");
    if (!known) return refuse(pair.first);
    (pair.first.Scalar() == "name" ? name : password) = pair.second.Scalar();
  }
  items.push_back(name + ":" + password);
  return true;
}

// Where the text's last name or value begins. `left`: how many are looked at, for an alias may name
// what it stands in.
int last_line(const YAML::Node& node, int& left) {
  int line = node.Mark().line;
  if (!node.IsMap() && !node.IsSequence()) return line;
  for (const auto& child : node) {
    for (const YAML::Node& each : {child.first, child.second, YAML::Node(child)}) {
      if (!each.IsDefined() || each.IsNull() || --left < 0) continue;
      line = std::max(line, last_line(each, left));
    }
  }
  return line;
}

// yaml-cpp takes the end of the text for the missing quote of a value. A mark that no quoted text
// may have tells; where the quote was opened, the last value begins.
void refuse_open_quote(const std::string& text, const YAML::Node& root) {
  try {
    static_cast<void>(YAML::Load(text + "\n---\n"));
  } catch (const YAML::Exception&) {
    constexpr int kNodesMax = 1000;
    int left = kNodesMax;
    YAML::Mark mark;
    mark.line = last_line(root, left);
    throw YAML::ParserException(mark, "a quote is opened and not closed");
  }
}

// "# " lines of at most kColumns.
void comment(std::ostream& out, const std::string& indent, std::string text) {
  while (!text.empty()) {
    const size_t room = kColumns - indent.size() - 2;
    size_t cut = text.size();
    if (cut > room) cut = text.rfind(' ', room);
    out << indent << "# " << text.substr(0, cut) << "\n";
    text.erase(0, cut == text.size() ? cut : cut + 1);
  }
}

std::string default_yaml(const Option& option) {
  const std::string text(option.default_text);
  if (option.kind == Kind::kTexts || option.kind == Kind::kUsers) return "[" + text + "]";
  if (text.empty() || text.ends_with(':') || option.kind == Kind::kPercent)
    return "\"" + text + "\"";
  return text;
}

}  // namespace

bool read_options_file(const std::string& path, Options& options, Troubles& troubles) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (!file.is_open() || file.bad() || text.fail()) {
    troubles.push_back(path + ": cannot be read");
    return false;
  }
  try {
    const YAML::Node root = YAML::Load(text.str());
    refuse_open_quote(text.str(), root);
    FileReader(path, options, troubles).read(root);
    return true;
  } catch (const YAML::Exception& error) {
    const std::string line = error.mark.is_null() ? "" : ":" + std::to_string(error.mark.line + 1);
    // "the referenced anchor is not defined: " is followed by what may be a password with a *.
    const bool quotes = error.msg.find("anchor") != std::string::npos;
    std::string why = error.msg.substr(0, quotes ? error.msg.find(':') : std::string::npos);
    if (quotes) why += "; a value that begins with * or & stands in quotes: \"*:6543\"";
    troubles.push_back(one_line(path + line + ": not YAML: " + why));
    return false;
  }
}

std::string sample_file() {
  std::ostringstream out;
  out << "# pgfresh: every option, with its default. Only upstream.url has to be set.\n"
         "# Durations: 300ms, 5s, 15min, 24h. Sizes: 64KB, 256MB, 1GB.\n"
         "# An option marked \"reload\" can change while pgfresh runs: SIGHUP, or RELOAD on the "
         "console.\n";
  std::string section;
  for (const Option& option : option_table()) {
    const size_t dot = option.name.find('.');
    const bool nested = dot != std::string_view::npos;
    const std::string_view name = nested ? option.name.substr(dot + 1) : option.name;
    const std::string_view owner = nested ? option.name.substr(0, dot) : "";
    if (nested && owner != section) out << "\n" << owner << ":\n";
    if (!nested) out << "\n";
    section = owner;
    const std::string indent = nested ? "  " : "";
    comment(out, indent, std::string(option.why));
    comment(out, indent,
            "Allowed: " + allowed_text(option) + "." +
                (option.change == Change::kByReload ? " Reload." : ""));
    out << indent << name << ": " << default_yaml(option) << "\n";
  }
  return out.str();
}

}  // namespace pgfresh::app
