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

class FileReader {
 public:
  FileReader(const std::string& path, Options& options) : path_(path), options_(options) {}

  [[nodiscard]] std::string read(const YAML::Node& root) {
    if (root.IsNull()) return {};
    if (!root.IsMap()) return at(root, "a section with options is wanted, such as \"listen:\"");
    return section(root, "");
  }

 private:
  [[nodiscard]] std::string at(const YAML::Node& node, const std::string& what) const {
    return path_ + ":" + std::to_string(node.Mark().line + 1) + ": " + what;
  }

  [[nodiscard]] std::string section(const YAML::Node& map, const std::string& prefix);
  [[nodiscard]] std::string value(const Option& option, const YAML::Node& key,
                                  const YAML::Node& node);
  [[nodiscard]] std::string item(const Option& option, const YAML::Node& node, Texts& items) const;

  const std::string& path_;
  Options& options_;
  std::set<std::string> seen_;
};

bool is_section(const std::string& name) {
  for (const Option& option : option_table()) {
    if (option.name.starts_with(name + ".")) return true;
  }
  return false;
}

std::string FileReader::section(const YAML::Node& map, const std::string& prefix) {
  for (const auto& pair : map) {
    if (!pair.first.IsScalar()) return at(pair.first, "a name is wanted");
    const std::string name = prefix + pair.first.Scalar();
    std::string trouble;
    if (const Option* option = find_option(name)) {
      trouble = value(*option, pair.first, pair.second);
    } else if (!is_section(name)) {
      trouble = at(pair.first, name + ": there is no such option; `pgfresh --help` lists them");
    } else if (pair.second.IsMap()) {
      trouble = section(pair.second, name + ".");
    } else if (!pair.second.IsNull()) {
      trouble = at(pair.first, name + ": is a section of options, not a value");
    }
    if (!trouble.empty()) return trouble;
  }
  return {};
}

std::string FileReader::value(const Option& option, const YAML::Node& key, const YAML::Node& node) {
  const std::string name(option.name);
  if (!seen_.insert(name).second) return at(key, name + ": is given twice");
  const bool list = option.kind == Kind::kTexts || option.kind == Kind::kUsers;
  Texts items;
  if (node.IsSequence() && list) {
    for (const YAML::Node& one : node) {
      std::string trouble = item(option, one, items);
      if (!trouble.empty()) return trouble;
    }
  } else if (node.IsNull()) {
    if (!list) items.emplace_back();  // "log.file:" with nothing behind it
  } else {
    std::string trouble = item(option, node, items);
    if (!trouble.empty()) return trouble;
  }
  const std::string trouble = put(option, options_, items);
  return trouble.empty() ? trouble : at(key, trouble);
}

std::string FileReader::item(const Option& option, const YAML::Node& node, Texts& items) const {
  if (node.IsScalar()) {
    items.push_back(node.Scalar());
    return {};
  }
  const std::string wrong =
      std::string(option.name) + ": a value is wanted; allowed: " + allowed_text(option);
  if (option.kind != Kind::kUsers || !node.IsMap()) return at(node, wrong);
  std::string name;
  std::string password;
  for (const auto& pair : node) {
    const bool known = pair.first.IsScalar() && pair.second.IsScalar() &&
                       (pair.first.Scalar() == "name" || pair.first.Scalar() == "password");
    if (!known) return at(pair.first, wrong);
    (pair.first.Scalar() == "name" ? name : password) = pair.second.Scalar();
  }
  items.push_back(name + ":" + password);
  return {};
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

namespace {

// What is wrong may quote the file, and what it quotes may hold anything: it stays one line.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c >= '\0' && c < ' ') c = '?';
  }
  return text;
}

}  // namespace

std::string read_options_file(const std::string& path, Options& options) {
  std::ifstream file(path);
  if (!file) return path + ": cannot be read";
  std::ostringstream text;
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (file.bad() || text.fail()) return path + ": cannot be read";
  try {
    const YAML::Node root = YAML::Load(text.str());
    return one_line(FileReader(path, options).read(root));
  } catch (const YAML::Exception& error) {
    const std::string line = error.mark.is_null() ? "" : ":" + std::to_string(error.mark.line + 1);
    return one_line(path + line + ": not YAML: " + error.msg);
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
