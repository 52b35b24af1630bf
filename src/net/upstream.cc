#include "net/upstream.h"

#include <libpq-fe.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/text.h"

namespace pgfresh::net {
namespace {

// libpq's own default on Debian; where there is no such directory, TCP.
constexpr const char* kDefaultSocketDirectory = "/var/run/postgresql";

constexpr std::string_view kAllowedParameters =
    "host, hostaddr, port, dbname, user, password, sslmode, sslrootcert, sslcert, sslkey, "
    "connect_timeout, application_name";

constexpr const char* kSeveralHosts = "several hosts are not supported";

constexpr std::string_view kHidden = "…";
constexpr const char* kPercentHint =
    "in the user and password of a URL @ : / # ? % are written %40 %3A %2F %23 %3F %25";

// A URL that is read otherwise than it was meant has parts of its password anywhere: only what
// stands behind all that may be one is ever quoted.
bool may_be_secret(std::string_view url, std::string_view part) {
  const size_t place = url.rfind(part);
  if (part.empty() || place == std::string_view::npos) return true;
  const std::string_view before = url.substr(0, place);
  const bool is_list = url.find("://") == std::string_view::npos;  // host=… port=…
  const bool in_query = before.find('?') != std::string_view::npos;
  return before.find("password") != std::string_view::npos ||
         url.substr(place).find('@') != std::string_view::npos || (!is_list && !in_query);
}

std::string quoted(std::string_view url, std::string_view part) {
  return "\"" + std::string(may_be_secret(url, part) ? kHidden : part) + "\"";
}

// libpq's messages quote what they could not read, and a text with quotes in it, too: all from the
// first quote to the last one goes, but for the marks that libpq's grammar wants.
std::string without_secrets(std::string_view url, std::string message) {
  size_t first = message.find('"');
  while (first != std::string::npos && first + 2 < message.size() && message[first + 2] == '"' &&
         std::string_view("=]").find(message[first + 1]) != std::string_view::npos) {
    first = message.find('"', first + 3);
  }
  const size_t last = message.rfind('"');
  if (first == std::string::npos || last <= first) return message;
  const std::string part = message.substr(first + 1, last - first - 1);
  return message.replace(first, last - first + 1, quoted(url, part));
}

// An @ that is not the one between login and host: libpq would take the first one for that, and
// look for a host that begins with the rest of the password.
bool has_stray_at(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return false;
  url = url.substr(scheme + 3);
  url = url.substr(0, url.find('?'));
  const size_t at = url.find('@');
  if (at == std::string_view::npos) return false;
  return at != url.rfind('@') || url.substr(0, at).find('/') != std::string_view::npos;
}

std::optional<SslMode> read_ssl_mode(std::string_view text) {
  if (text == "allow") return SslMode::kPrefer;
  for (const SslMode mode : {SslMode::kDisable, SslMode::kPrefer, SslMode::kRequire,
                             SslMode::kVerifyCa, SslMode::kVerifyFull}) {
    if (text == ssl_mode_name(mode)) return mode;
  }
  return std::nullopt;
}

// Empty, or what is wrong. `url`: what the value comes from.
std::string take(UpstreamTarget& target, std::string_view keyword, const std::string& value,
                 std::string_view url) {
  if (keyword == "host") {
    target.host = value;
  } else if (keyword == "hostaddr") {
    target.hostaddr = value;
  } else if (keyword == "port") {
    if (value.find(',') != std::string::npos) return kSeveralHosts;
    if (!read_number<uint16_t>(value, 1, 65'535, target.port)) {
      return "port " + quoted(url, value) + " is not a number from 1 to 65535";
    }
  } else if (keyword == "dbname") {
    target.database = value;
  } else if (keyword == "user") {
    target.user = value;
  } else if (keyword == "password") {
    target.password = value;
  } else if (keyword == "sslmode") {
    const std::optional<SslMode> mode = read_ssl_mode(value);
    if (!mode) {
      return "sslmode " + quoted(url, value) +
             " is not known; disable, allow, prefer, require, verify-ca or verify-full";
    }
    target.ssl_mode = *mode;
  } else if (keyword == "sslrootcert") {
    target.ssl_root_cert = value;
  } else if (keyword == "sslcert") {
    target.ssl_cert = value;
  } else if (keyword == "sslkey") {
    target.ssl_key = value;
  } else if (keyword == "connect_timeout") {
    int64_t seconds = 0;
    if (!read_number<int64_t>(value, 0, 3600, seconds)) {
      return "connect_timeout " + quoted(url, value) + " is not a number of seconds from 0 to 3600";
    }
    if (seconds > 0) target.connect_timeout_ms = seconds * 1000;
  } else if (keyword !=
             "application_name") {  // accepted and of no use: control sessions say pgfresh
    return "parameter " + quoted(url, keyword) + " is not supported; " +
           std::string(kAllowedParameters);
  }
  return {};
}

std::string home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  const passwd* entry = ::getpwuid(::geteuid());
  return entry != nullptr ? entry->pw_dir : "";
}

void default_file(std::string& setting, const std::string& directory, const char* name) {
  const std::string path = directory + "/" + name;
  if (setting.empty() && ::access(path.c_str(), R_OK) == 0) setting = path;
}

// Empty, or what is wrong.
std::string complete(UpstreamTarget& target) {
  if (target.host.find(',') != std::string::npos) return kSeveralHosts;
  if (target.host.empty()) {
    target.host = !target.hostaddr.empty()                       ? target.hostaddr
                  : ::access(kDefaultSocketDirectory, X_OK) == 0 ? kDefaultSocketDirectory
                                                                 : "localhost";
  }
  if (target.is_unix() || target.ssl_mode == SslMode::kDisable) return {};
  // libpq's defaults for certificates, in the home directory of the process's user.
  const std::string directory = home_directory() + "/.postgresql";
  default_file(target.ssl_root_cert, directory, "root.crt");
  if (target.ssl_cert.empty()) {
    default_file(target.ssl_cert, directory, "postgresql.crt");
    if (!target.ssl_cert.empty()) default_file(target.ssl_key, directory, "postgresql.key");
  }
  const bool verifies =
      target.ssl_mode == SslMode::kVerifyCa || target.ssl_mode == SslMode::kVerifyFull;
  if (verifies && target.ssl_root_cert.empty()) {
    return "root certificate file \"" + directory +
           "/root.crt\" does not exist; provide the file, name another with sslrootcert, say "
           "sslrootcert=system, or change sslmode to disable server certificate verification";
  }
  if (target.ssl_root_cert == "system" && target.ssl_mode != SslMode::kVerifyFull) {
    return "weak sslmode \"" + std::string(ssl_mode_name(target.ssl_mode)) +
           "\" may not be used with sslrootcert=system (use \"verify-full\")";
  }
  return {};
}

}  // namespace

std::string_view ssl_mode_name(SslMode mode) {
  switch (mode) {
    case SslMode::kDisable:
      return "disable";
    case SslMode::kPrefer:
      return "prefer";
    case SslMode::kRequire:
      return "require";
    case SslMode::kVerifyCa:
      return "verify-ca";
    case SslMode::kVerifyFull:
      return "verify-full";
  }
  return "";
}

tl::expected<UpstreamTarget, std::string> UpstreamTarget::parse(const std::string& text) {
  // A word without '=' and without a scheme would be a database name to libpq; here it can only be
  // a host.
  const bool bare = text.find("://") == std::string::npos && text.find('=') == std::string::npos;
  const std::string full = bare && !text.empty() ? "postgresql://" + text : text;
  const bool is_url = full.find("://") != std::string::npos;
  const auto wrong = [is_url](std::string why) {
    if (is_url && why.find(kHidden) != std::string::npos) why += "; " + std::string(kPercentHint);
    return tl::make_unexpected(std::move(why));
  };
  if (has_stray_at(full)) {
    return tl::make_unexpected("the URL cannot be read: an @ where none belongs; " +
                               std::string(kPercentHint));
  }
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(full.c_str(), &message), &PQconninfoFree);
  if (options == nullptr) {
    const std::string why(message != nullptr ? trimmed(message) : "out of memory");
    PQfreemem(message);
    return wrong("the URL cannot be read: " + without_secrets(full, why));
  }
  UpstreamTarget target;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr || *option->val == '\0') continue;
    std::string trouble = take(target, option->keyword, option->val, full);
    if (!trouble.empty()) return wrong(std::move(trouble));
  }
  std::string trouble = complete(target);
  if (!trouble.empty()) return wrong(std::move(trouble));
  return target;
}

std::string UpstreamTarget::socket_path() const {
  if (!socket_file.empty()) return socket_file;
  return host + "/.s.PGSQL." + std::to_string(port);
}

std::string UpstreamTarget::describe() const {
  std::string text = "postgresql://";
  if (!user.empty()) text += user + "@";
  if (is_unix()) {
    text += "/" + database + "?host=" + host + "&port=" + std::to_string(port);
  } else {
    const bool v6 = host.find(':') != std::string::npos;
    text += (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port) + "/" + database +
            "?sslmode=" + std::string(ssl_mode_name(ssl_mode));
  }
  return text;
}

}  // namespace pgfresh::net
