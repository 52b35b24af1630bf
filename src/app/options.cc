#include "app/options.h"

#include <openssl/rand.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "app/logging.h"
#include "app/option_table.h"
#include "app/option_texts.h"
#include "app/units.h"
#include "base/check.h"
#include "base/limits.h"
#include "net/uv_stream.h"
#include "wire/scram.h"

namespace pgfresh::app {
namespace {

constexpr uint16_t kDefaultPort = 6543;
// What an entry in Redis has besides its answer: a key of at most two long messages, and its stamp.
constexpr size_t kKeyBytesRoom = size_t{256} * 1024;

// The items of a value in one text, as --set and the table's defaults have it.
Texts items_of(const Option& option, std::string_view text) {
  if (option.kind != Kind::kTexts && option.kind != Kind::kUsers) return {std::string(text)};
  Texts items;
  if (option.kind == Kind::kUsers) {
    if (!text.empty()) items.emplace_back(text);  // a password may have commas
    return items;
  }
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (!item.empty()) items.emplace_back(item);
  }
  return items;
}

wire::ScramSecret secret_of(std::string_view password) {
  if (auto secret = wire::ScramSecret::parse(password)) return *secret;
  std::string salt(16, '\0');
  PGFRESH_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(salt.data()),
                           static_cast<int>(salt.size())) == 1);
  return wire::ScramSecret::derive(password, salt);
}

void add_users(console::Access& access, const Texts& users, console::Role role) {
  for (const std::string& user : users) {
    const std::string_view secret = std::string_view(user).substr(user.find(':') + 1);
    access.users[user_name(user)] = {secret_of(secret), role};
  }
}

// Of "name:password": whether one is not the hash of a password.
bool any_plain(const Texts& users) {
  return std::any_of(users.begin(), users.end(), [](std::string_view user) {
    return !wire::ScramSecret::parse(user.substr(user.find(':') + 1));
  });
}

// Names are not looked up: what this does not see, the system says when pgfresh starts.
bool same_port(std::string_view a, std::string_view b) {
  const console::Address one = console::split_address(a);
  const console::Address other = console::split_address(b);
  if (one.port != other.port || one.port == 0) return false;
  const auto is_any = [](std::string_view host) {
    return host == "*" || host == "0.0.0.0" || host == "::";
  };
  return one.host == other.host || is_any(one.host) || is_any(other.host);
}

// Names but localhost are not looked up.
bool leads_back(const Options& options) {
  const auto target = net::UpstreamTarget::parse(options.upstream_url);
  if (!target || options.upstream_url.empty()) return false;
  if (target->is_unix()) {
    return target->host == options.listen_unix && target->port == options.unix_port();
  }
  constexpr std::string_view kLocalhost = "localhost";
  const std::string host = target->host == kLocalhost ? "127.0.0.1" : target->host;
  const bool v6 = host.find(':') != std::string::npos;
  const std::string place = (v6 ? "[" + host + "]" : host) + ":" + std::to_string(target->port);
  return std::any_of(options.listen_tcp.begin(), options.listen_tcp.end(), [&](std::string each) {
    if (each.starts_with("localhost:")) each.replace(0, kLocalhost.size(), "127.0.0.1");
    const bool any =
        each.starts_with("*:") || each.starts_with("0.0.0.0:") || each.starts_with("[::]:");
    return same_port(each, place) && (!any || host == "127.0.0.1" || host == "::1");
  });
}

// Each: empty, or why it cannot be made.
std::string socket_trouble(const Options& options) {
  const std::string& place = options.listen_unix;
  if (place.empty()) return {};
  const std::string path = place + "/.s.PGSQL." + std::to_string(options.unix_port());
  struct stat status {};
  if (!net::socket_path_fits(path)) {
    return "the path " + path + " is too long for a unix socket";
  }
  if (::stat(place.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    return "\"" + place + "\" is not a directory";
  }
  if (::access(place.c_str(), W_OK | X_OK) != 0) {
    return "\"" + place + "\" may not be written by this user";
  }
  return {};
}

}  // namespace

Options Options::defaults() {
  Options options;
  for (const Option& option : option_table()) {
    const std::string trouble = put(option, options, items_of(option, option.default_text));
    PGFRESH_CHECK(trouble.empty());
  }
  return options;
}

void Options::take_reloadable(const Options& fresh) {
  for (const Option& option : option_table()) {
    if (option.change != Change::kByReload) continue;
    if (option.put_number) {
      option.put_number(*this, option.get_number(fresh));
    } else {
      // Has been checked when `fresh` was read; a system user deleted since changes nothing.
      static_cast<void>(option.put_texts(*this, option.get_texts(fresh)));
    }
  }
}

std::vector<std::string> Options::needing_restart(const Options& fresh) const {
  std::vector<std::string> names;
  for (const Option& option : option_table()) {
    if (option.change != Change::kAtStart) continue;
    const bool same = option.get_number ? option.get_number(*this) == option.get_number(fresh)
                                        : option.get_texts(*this) == option.get_texts(fresh);
    if (!same) names.emplace_back(option.name);
  }
  return names;
}

uint16_t Options::unix_port() const {
  if (listen_tcp.empty()) return kDefaultPort;
  const std::string& first = listen_tcp.front();
  const auto port = parse_number(std::string_view(first).substr(first.rfind(':') + 1));
  return port && *port > 0 ? static_cast<uint16_t>(*port) : kDefaultPort;
}

std::string set_option(Options& options, std::string_view name, std::string_view value) {
  const Option* option = find_option(name);
  if (option == nullptr) {
    return shown_name(name) + ": there is no such option; `pgfresh --help` lists them";
  }
  return put(*option, options, items_of(*option, value));
}

Troubles check_complete(const Options& options) {
  Troubles troubles;
  if (options.upstream_url.empty()) {
    troubles.push_back("upstream.url: is missing; allowed: " +
                       allowed_text(*find_option("upstream.url")));
  }
  if (leads_back(options)) {
    troubles.push_back("upstream.url: leads to pgfresh itself, see listen.tcp; allowed: " +
                       allowed_text(*find_option("upstream.url")));
  }
  if (options.listen_tcp.empty() && options.listen_unix.empty()) {
    troubles.push_back("listen.tcp: nothing to listen on, and no listen.unix; allowed: " +
                       allowed_text(*find_option("listen.tcp")));
  }
  for (const std::string& viewer : options.console_viewers) {
    for (const std::string& user : options.console_users) {
      if (user_name(viewer) != user_name(user)) continue;
      troubles.push_back("console.viewers: \"" + user_name(user) +
                         "\" is one of console.users, too");
    }
  }
  for (size_t i = 0; i < options.listen_tcp.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (same_port(options.listen_tcp[i], options.listen_tcp[j])) {
        troubles.push_back("listen.tcp: " + options.listen_tcp[j] + " and " +
                           options.listen_tcp[i] + " are one port");
      }
    }
    if (same_port(options.listen_tcp[i], options.listen_http)) {
      troubles.push_back("listen.http: " + options.listen_http + " is the port of listen.tcp " +
                         options.listen_tcp[i] + ", too");
    }
  }
  return troubles;
}

Troubles check_places(const Options& options) {
  Troubles troubles;
  for (const auto& [name, trouble] : {std::pair{"listen.unix", socket_trouble(options)},
                                      std::pair{"log.file", log_file_trouble(options.log_file)}}) {
    if (trouble.empty()) continue;
    troubles.push_back(name + (": " + trouble) + "; allowed: " + allowed_text(*find_option(name)));
  }
  return troubles;
}

std::string exposed_passwords(const std::string& path, const Options& options) {
  struct stat status {};
  if (path.empty() || ::stat(path.c_str(), &status) != 0 || (status.st_mode & S_IROTH) == 0) {
    return {};
  }
  const auto upstream = net::UpstreamTarget::parse(options.upstream_url);
  const auto redis = net::RedisTarget::parse(options.redis.url);
  const bool exposed = (upstream && !upstream->password.empty()) ||
                       (redis && !redis->password.empty()) || any_plain(options.console_users) ||
                       any_plain(options.console_viewers);
  return exposed ? path + " has passwords and is open to everybody on this host; chmod o= it" : "";
}

cache::RedisStoreOptions redis_store_options(const Options& options) {
  const auto target = net::RedisTarget::parse(options.redis.url);
  PGFRESH_CHECK(target.has_value());
  cache::RedisStoreOptions store;
  store.client.user = target->user;
  store.client.password = target->password;
  store.client.database = target->database;
  store.client.connect_ms_max = options.redis.connect_ms_max;
  store.client.budget_ms = options.session.remote_budget_ms;
  store.client.requests_max = options.redis.requests_max;
  store.client.bytes_max = options.redis.bytes_max;
  // An answer is an entry or a letter; with room for their frames.
  const size_t entry_bytes_max = size_t{options.session.entry_bytes_max} + kKeyBytesRoom;
  store.client.reply_bytes_max = 2 * std::max(entry_bytes_max, limits::kMailBytesMax);
  store.codec.slot_bits = options.slots_log2;
  store.codec.pack_bytes_min = options.redis.pack_bytes_min;
  store.codec.plain_bytes_max = entry_bytes_max;
  store.codec.keys = options.redis.keys;
  store.prefix = options.redis.prefix;
  return store;
}

tl::expected<std::shared_ptr<const net::Upstream>, std::string> open_redis(const Options& options) {
  if (options.redis.url.empty()) return nullptr;
  const auto target = net::RedisTarget::parse(options.redis.url);
  PGFRESH_CHECK(target.has_value());
  return net::open_redis(*target, options.redis.tls, options.redis.connect_ms_max);
}

std::vector<console::ConfigRow> config_rows(const Options& options) {
  const Options defaults = Options::defaults();
  std::vector<console::ConfigRow> rows;
  for (const Option& option : option_table()) {
    rows.push_back({std::string(option.name), shown_value(option, options),
                    shown_default(option, defaults), option.change == Change::kByReload});
  }
  return rows;
}

console::Access make_access(const Options& options, int daemon_uid, std::string mock_seed) {
  console::Access access;
  access.daemon_uid = daemon_uid;
  access.mock_seed = std::move(mock_seed);
  add_users(access, options.console_viewers, console::Role::kLooks);
  add_users(access, options.console_users, console::Role::kAdministers);
  for (const std::string& peer : options.console_peer_users) {
    if (const auto number = parse_number(peer)) {
      access.trusted_peer_uids.insert(static_cast<int>(*number));
    } else if (const passwd* entry = ::getpwnam(peer.c_str()); entry != nullptr) {
      access.trusted_peer_uids.insert(static_cast<int>(entry->pw_uid));
    }
  }
  return access;
}

}  // namespace pgfresh::app
