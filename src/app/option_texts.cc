#include "app/option_texts.h"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "app/units.h"
#include "net/listener.h"
#include "net/upstream.h"
#include "wire/scram.h"

namespace pgfresh::app {
namespace {

constexpr const char* kRunDirectory = "/run/pgfresh";
constexpr std::string_view kNone = "none";
constexpr std::string_view kScramPrefix = "SCRAM-SHA-256$";

std::string not_an_address(const std::string& text) {
  std::string trouble = quoted(text) + " is not an address to listen on";
  const bool port = net::is_listen_address("*" + text);
  if (port) trouble += ": it has no host; every address is *" + text;
  return trouble;
}

// As PostgreSQL keeps it: nobody could log in with it, for the console does not ask for MD5.
bool is_md5_hash(std::string_view secret) {
  constexpr size_t kHexDigits = 32;
  return secret.starts_with("md5") && secret.size() == 3 + kHexDigits &&
         secret.find_first_not_of("0123456789abcdef", 3) == std::string_view::npos;
}

bool looks_like_a_key(std::string_view text) {
  return text.find_first_of("/.") == std::string_view::npos && text.size() >= 32;
}

}  // namespace

std::string quoted(const std::string& value) {
  const size_t at = value.rfind('@');
  return "\"" + (at == std::string::npos ? value : "…" + value.substr(at)) + "\"";
}

std::string user_name(const std::string& user) { return user.substr(0, user.find(':')); }

std::string put_listen_tcp(Options& options, const Texts& items) {
  for (const std::string& item : items) {
    if (!net::is_listen_address(item)) return not_an_address(item);
  }
  options.listen_tcp = items;
  return {};
}

std::string put_listen_unix(Options& options, const Texts& items) {
  const std::string& text = items.front();
  options.unix_unwanted = text == kNone || text.empty();
  if (text == "auto") {
    options.listen_unix = ::access(kRunDirectory, W_OK | X_OK) == 0 ? kRunDirectory : "";
  } else if (text == kNone || text.empty()) {
    options.listen_unix.clear();
  } else if (text.front() == '/') {
    options.listen_unix = text;
  } else {
    return quoted(text) + " is not the path of a directory";
  }
  return {};
}

std::string put_listen_http(Options& options, const Texts& items) {
  const std::string& text = items.front();
  if (text == kNone || text.empty()) {
    options.listen_http.clear();
  } else if (net::is_listen_address(text)) {
    options.listen_http = text;
  } else {
    return not_an_address(text);
  }
  return {};
}

std::string put_upstream(Options& options, const Texts& items) {
  if (!items.front().empty()) {
    const auto target = net::UpstreamTarget::parse(items.front());
    if (!target) return target.error();
  }
  options.upstream_url = items.front();
  return {};
}

std::string put_redis_url(Options& options, const Texts& items) {
  if (!items.front().empty()) {
    const auto target = net::RedisTarget::parse(items.front());
    if (!target) return target.error();
  }
  options.redis.url = items.front();
  return {};
}

std::string put_redis_prefix(Options& options, const Texts& items) {
  if (!cache::is_redis_prefix(items.front())) return quoted(items.front()) + " is no prefix";
  options.redis.prefix = items.front();
  return {};
}

std::string put_key_file(Options& options, const Texts& items) {
  const std::string& path = items.front();
  // What was there stays until all is well: a reload must not end encryption by an error.
  if (path.empty()) {
    options.redis.keys.clear();
    options.redis.key_file.clear();
    return {};
  }
  struct stat status {};
  std::ifstream file(path);
  if (!file || ::stat(path.c_str(), &status) != 0) {
    // Somebody may have written the key itself here.
    return (looks_like_a_key(path) ? "\"…\"" : "\"" + path + "\"") + " cannot be read";
  }
  if ((status.st_mode & S_IRWXO) != 0) {
    return "\"" + path + "\" is open to everybody on this host; chmod o= it";
  }
  std::stringstream text;
  text << file.rdbuf();
  auto keys = cache::read_seal_keys(text.str());
  if (!keys) return "\"" + path + "\": " + keys.error();
  options.redis.keys = std::move(*keys);
  options.redis.key_file = path;
  return {};
}

std::string put_log_file(Options& options, const Texts& items) {
  struct stat status {};
  if (::stat(items.front().c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return quoted(items.front()) + " is a directory";
  }
  options.log_file = items.front();
  return {};
}

std::string check_users(const Texts& items) {
  std::set<std::string> names;
  for (const std::string& item : items) {
    const size_t colon = item.find(':');
    if (colon == 0 || colon == std::string::npos || colon + 1 == item.size()) {
      return "each user needs a name and a password";
    }
    const std::string_view secret = std::string_view(item).substr(colon + 1);
    if (secret.starts_with(kScramPrefix) && !wire::ScramSecret::parse(secret)) {
      return "the SCRAM secret of user \"" + user_name(item) + "\" is garbled";
    }
    if (is_md5_hash(secret)) {
      return "the password of user \"" + user_name(item) + "\" is an MD5 hash";
    }
    if (!names.insert(user_name(item)).second) {
      return "user \"" + user_name(item) + "\" is given twice";
    }
  }
  return {};
}

std::string check_peers(const Texts& items) {
  for (const std::string& item : items) {
    if (!parse_number(item) && ::getpwnam(item.c_str()) == nullptr) {
      return "there is no system user \"" + item.substr(0, item.find(':')) + "\"";
    }
  }
  return {};
}

Texts one_or_none(const std::string& text) { return {text.empty() ? std::string(kNone) : text}; }

}  // namespace pgfresh::app
