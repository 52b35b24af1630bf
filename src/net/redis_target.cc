#include "net/redis_target.h"

#include <charconv>
#include <optional>
#include <utility>

#include "base/text.h"

namespace pgfresh::net {
namespace {

constexpr int kDatabaseMax = 1'000'000;

tl::unexpected<std::string> wrong(std::string why) { return tl::make_unexpected(std::move(why)); }

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    unsigned char byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) return std::nullopt;
    plain += static_cast<char>(byte);
    i += 2;
  }
  return plain;
}

// Takes "user:password@" from the front of `rest`. Empty, or what is wrong.
std::string take_login(std::string_view& rest, RedisTarget& target) {
  // The last one: an unescaped @ in a password is a password's.
  const size_t at = rest.substr(0, rest.find_first_of("/?")).rfind('@');
  if (at == std::string_view::npos) return {};
  const std::string_view login = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  const size_t colon = login.find(':');
  const auto user = percent_decoded(login.substr(0, colon));
  const auto password = percent_decoded(colon == std::string_view::npos ? std::string_view()
                                                                        : login.substr(colon + 1));
  if (!user || !password) return "a % in user or password must have two hexadecimal digits";
  if (password->empty()) return "a user needs a password: user:password@";
  target.user = *user;
  target.password = *password;
  return {};
}

std::string take_host(std::string_view host, RedisTarget& target) {
  if (host.find(',') != std::string_view::npos) return "several hosts are not supported";
  std::string_view port;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos) return "the ] of the address is missing";
    port = host.substr(end + 1);
    host = host.substr(1, end - 1);
  } else {
    const size_t colon = host.find(':');
    if (colon != std::string_view::npos) port = host.substr(colon);
    host = host.substr(0, colon);
  }
  if (!port.empty() &&
      (port[0] != ':' || !read_number<uint16_t>(port.substr(1), 1, 65'535, target.port))) {
    return "the port is not a number from 1 to 65535";
  }
  target.host = host.empty() ? "127.0.0.1" : std::string(host);
  return {};
}

std::string take_database(std::string_view text, RedisTarget& target) {
  if (text.empty() || read_number(text, 0, kDatabaseMax, target.database)) return {};
  return "the database is not a number";
}

}  // namespace

tl::expected<RedisTarget, std::string> RedisTarget::parse(std::string_view url) {
  RedisTarget target;
  const size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, colon);
  const bool is_unix = scheme == "unix";
  if (colon == std::string_view::npos || (!is_unix && scheme != "redis" && scheme != "rediss")) {
    return wrong("the URL must begin with redis://, rediss:// or unix://");
  }
  target.tls = scheme == "rediss";
  std::string_view rest = url.substr(colon + 3);
  std::string trouble = take_login(rest, target);
  if (!trouble.empty()) return wrong(std::move(trouble));
  if (!is_unix && rest.find('@') != std::string_view::npos) {
    return wrong("an @ stands behind the host; in user and password / ? % are written %2F %3F %25");
  }
  std::string_view query;
  if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (!query.empty()) {
    if (!query.starts_with("db=")) return wrong("only ?db=NUMBER may stand behind the ?");
    trouble = take_database(query.substr(3), target);
  }
  if (!trouble.empty()) return wrong(std::move(trouble));
  if (is_unix) {
    if (!rest.starts_with('/')) return wrong("the path of the socket must begin with /");
    target.socket = rest;
    return target;
  }
  const size_t slash = rest.find('/');
  trouble = take_host(rest.substr(0, slash), target);
  if (trouble.empty() && slash != std::string_view::npos) {
    trouble = take_database(rest.substr(slash + 1), target);
  }
  if (!trouble.empty()) return wrong(std::move(trouble));
  return target;
}

std::string RedisTarget::describe() const {
  const std::string login = user.empty() ? "" : user + "@";
  if (!socket.empty()) return "unix://" + login + socket + "?db=" + std::to_string(database);
  const bool v6 = host.find(':') != std::string::npos;
  return (tls ? "rediss://" : "redis://") + login + (v6 ? "[" + host + "]" : host) + ":" +
         std::to_string(port) + "/" + std::to_string(database);
}

tl::expected<std::shared_ptr<const Upstream>, std::string> open_redis(const RedisTarget& target,
                                                                      const RedisTls& tls,
                                                                      int64_t connect_ms_max) {
  auto upstream = std::make_shared<Upstream>();
  UpstreamTarget& way = upstream->target;
  way.host = target.socket.empty() ? target.host : target.socket;
  way.socket_file = target.socket;
  way.port = target.port;
  way.connect_timeout_ms = connect_ms_max;
  way.ssl_mode = target.tls ? SslMode::kVerifyFull : SslMode::kDisable;
  if (!target.tls) return upstream;
  way.tls_first = true;
  UpstreamTarget verified = way;
  if (!tls.server_name.empty()) verified.host = tls.server_name;
  verified.ssl_root_cert = tls.ca.empty() ? "system" : tls.ca;
  verified.ssl_cert = tls.certificate;
  verified.ssl_key = tls.key;
  auto context = TlsContext::make(verified);
  if (!context) return wrong(context.error());
  upstream->tls = std::move(*context);
  return upstream;
}

}  // namespace pgfresh::net
