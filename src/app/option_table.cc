#include "app/option_table.h"

#include <algorithm>
#include <utility>

#include "app/option_texts.h"
#include "app/units.h"
#include "base/check.h"
#include "base/limits.h"
#include "net/upstream.h"

namespace pgfresh::app {
namespace {

constexpr int64_t kSecond = 1000;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kKb = 1024;
constexpr int64_t kMb = 1024 * kKb;
constexpr int64_t kGb = 1024 * kMb;

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────

// `member`: from Options& to a reference to an arithmetic member.
template <typename Member>
Option number(std::string_view name, Kind kind, std::string_view default_text, int64_t low,
              int64_t high, Change change, std::string_view why, Member member) {
  Option option;
  option.name = name;
  option.kind = kind;
  option.default_text = default_text;
  option.low = low;
  option.high = high;
  option.change = change;
  option.why = why;
  option.put_number = [member](Options& options, int64_t value) {
    auto& place = member(options);
    place = static_cast<std::remove_reference_t<decltype(place)>>(value);
  };
  option.get_number = [member](const Options& options) {
    return static_cast<int64_t>(member(options));
  };
  return option;
}

template <typename Member>
Option word(std::string_view name, std::vector<std::string_view> words, std::string_view standard,
            Change change, std::string_view why, Member member) {
  Option option = number(name, Kind::kWord, standard, 0, 0, change, why, member);
  option.words = std::move(words);
  return option;
}

Option texts(std::string_view name, Kind kind, std::string_view default_text,
             std::string_view allowed, Change change, std::string_view why,
             std::function<std::string(Options&, const Texts&)> put_texts,
             std::function<Texts(const Options&)> get_texts) {
  Option option;
  option.name = name;
  option.kind = kind;
  option.default_text = default_text;
  option.allowed = allowed;
  option.change = change;
  option.why = why;
  option.put_texts = std::move(put_texts);
  option.get_texts = std::move(get_texts);
  return option;
}

void add_listen(std::vector<Option>& table) {
  table.push_back(
      texts("listen.tcp", Kind::kTexts, "127.0.0.1:6543",
            "a list of HOST:PORT, [IPV6]:PORT or *:PORT", Change::kAtStart,
            "Where clients connect. There is no TLS towards clients yet: keep it local.",
            put_listen_tcp, [](const Options& o) { return o.listen_tcp; }));
  table.push_back(
      texts("listen.unix", Kind::kText, "auto",
            "a directory, auto (/run/pgfresh where it is writable) or none", Change::kAtStart,
            "Directory of the unix socket .s.PGSQL.PORT; PORT is that of listen.tcp.",
            put_listen_unix, [](const Options& o) { return one_or_none(o.listen_unix); }));
  table.push_back(texts("listen.http", Kind::kText, "127.0.0.1:9643", "HOST:PORT, *:PORT or none",
                        Change::kAtStart, "Pages for machines: /metrics, /healthz, /readyz.",
                        put_listen_http,
                        [](const Options& o) { return one_or_none(o.listen_http); }));
  table.push_back(texts(
      "upstream.url", Kind::kText, "", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…",
      Change::kAtStart,
      "The PostgreSQL server. User and password serve pgfresh's own connections to it; clients "
      "log in as themselves.",
      put_upstream, [](const Options& o) { return Texts{o.upstream_url}; }));
  table.push_back(number(
      "workers", Kind::kNumber, "0", 0, 256, Change::kAtStart,
      "Threads that serve clients; 0: one for each core.",
      [](auto& o) -> auto& { return o.workers; }));
}

void add_cache(std::vector<Option>& table) {
  table.push_back(word(
      "cache.mode", {"on", "off"}, "on", Change::kByReload, "off: everything passes through.",
      [](auto& o) -> auto& { return o.session.cache_mode; }));
  table.push_back(number(
      "cache.bytes", Kind::kBytes, "256MB", kMb, int64_t{16} << 40, Change::kByReload,
      "Memory for cached answers, of all workers together.",
      [](auto& o) -> auto& { return o.cache_bytes; }));
  table.push_back(number(
      "cache.ttl", Kind::kDuration, "5min", 1, 24 * 365 * kHour, Change::kByReload,
      "How long an answer is kept that no write has touched. Freshness does not "
      "depend on it.",
      [](auto& o) -> auto& { return o.session.ttl_ms; }));
  table.push_back(number(
      "cache.ttl_jitter", Kind::kPercent, "10%", 0, 90, Change::kByReload,
      "Shortens each TTL by chance, up to this, so that answers stored together "
      "do not expire together.",
      [](auto& o) -> auto& { return o.session.ttl_jitter_percent; }));
  table.push_back(number(
      "cache.entry_bytes", Kind::kBytes, "1MB", kKb, kGb, Change::kByReload,
      "Larger answers are not stored.",
      [](auto& o) -> auto& { return o.session.entry_bytes_max; }));
  table.push_back(number(
      "cache.single_flight_wait", Kind::kDuration, "1s", 0, kMinute, Change::kByReload,
      "How long a reader waits for another's fetch of the same answer.",
      [](auto& o) -> auto& { return o.session.single_flight_wait_ms; }));
}

void add_freshness(std::vector<Option>& table) {
  table.push_back(number(
      "freshness.staleness", Kind::kDuration, "1s", 20, kHour, Change::kByReload,
      "The bound: no answer is older than this, whoever wrote and whatever "
      "fails. Typically it is a millisecond; reads through pgfresh see writes "
      "through pgfresh at once.",
      [](auto& o) -> auto& { return o.feed.staleness_ms; }));
  table.push_back(number(
      "freshness.slots_log2", Kind::kNumber, "20", 2, 24, Change::kAtStart,
      "Slots of the token table of each database: 2 to this power, 12 bytes "
      "each. Collisions cost a miss.",
      [](auto& o) -> auto& { return o.slots_log2; }));
  table.push_back(number(
      "freshness.catalog_poll", Kind::kDuration, "5s", 100, kHour, Change::kByReload,
      "Between looks at a fingerprint of the catalog, for changes that no event "
      "trigger tells (roles).",
      [](auto& o) -> auto& { return o.feed.catalog_poll_ms; }));
  table.push_back(number(
      "freshness.audit", Kind::kDuration, "1min", kSecond, 24 * kHour, Change::kByReload,
      "Between re-readings of the whole catalog, such as for disabled triggers.",
      [](auto& o) -> auto& { return o.feed.audit_ms; }));
  table.push_back(number(
      "freshness.idle_timeout", Kind::kDuration, "1min", 0, 24 * kHour, Change::kByReload,
      "A database that has had no clients for so long is let go: pgfresh's own two connections "
      "to it end, and what was cached of it counts no longer. Not the database of the upstream "
      "URL. "
      "0: never.",
      [](auto& o) -> auto& { return o.feed.idle_ms; }));
  table.push_back(word(
      "freshness.publish", {"trigger", "proxy"}, "proxy", Change::kByReload,
      "Who tells of writes that come through pgfresh. proxy: pgfresh, after the commit; writers "
      "pay almost nothing. trigger: the database's triggers, by NOTIFY in the writer's "
      "transaction, which keeps commits from being flushed together.",
      [](auto& o) -> auto& { return o.feed.publish; }));
}

void add_query(std::vector<Option>& table) {
  table.push_back(number(
      "query.text_bytes", Kind::kBytes, "16KB", kKb,
      static_cast<int64_t>(limits::kFrontendWholeMax), Change::kByReload,
      "Longer query texts are forwarded unanalysed.",
      [](auto& o) -> auto& { return o.session.text_bytes_max; }));
  table.push_back(number(
      "query.memo_entries", Kind::kNumber, "10000", 16, 10'000'000, Change::kByReload,
      "Analysed query texts each worker remembers.",
      [](auto& o) -> auto& { return o.session.memo_entries_max; }));
}

// A row for a text that is taken as it is. `member`: from Options& to a std::string&.
template <typename Member>
Option plain_text(std::string_view name, std::string_view allowed, std::string_view why,
                  Member member) {
  return texts(
      name, Kind::kText, "", allowed, Change::kAtStart, why,
      [member](Options& options, const Texts& items) {
        member(options) = items.front();
        return std::string();
      },
      [member](const Options& options) { return Texts{member(options)}; });
}

void add_redis(std::vector<Option>& table) {
  table.push_back(texts(
      "redis.url", Kind::kText, "",
      "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss://… for TLS, "
      "unix://USER:PASSWORD@/PATH?db=DATABASE; empty: none",
      Change::kAtStart,
      "A Redis 7 or Valkey that all proxies of a fleet share as a second level. One primary with "
      "all keys; no Cluster, no Sentinel.",
      put_redis_url, [](const Options& o) { return Texts{o.redis.url}; }));
  table.push_back(texts("redis.prefix", Kind::kText,
                        "pgfresh:", "up to 64 letters, digits and : . _ - /", Change::kAtStart,
                        "What all keys in Redis begin with. Another prefix, another fleet.",
                        put_redis_prefix, [](const Options& o) { return Texts{o.redis.prefix}; }));
  table.push_back(number(
      "redis.budget", Kind::kDuration, "20ms", 1, 10 * kSecond, Change::kByReload,
      "No request waits longer for Redis; then it goes to PostgreSQL.",
      [](auto& o) -> auto& { return o.session.remote_budget_ms; }));
  table.push_back(number(
      "redis.connect_time", Kind::kDuration, "1s", 10, kMinute, Change::kAtStart,
      "For a connection to Redis; no request waits for that.",
      [](auto& o) -> auto& { return o.redis.connect_ms_max; }));
  table.push_back(number(
      "redis.ttl", Kind::kDuration, "0", 0, 24 * 365 * kHour, Change::kByReload,
      "How long an answer is kept in Redis that no write has touched; 0: as long as cache.ttl.",
      [](auto& o) -> auto& { return o.session.remote_ttl_ms; }));
  table.push_back(word(
      "redis.ask", {"where_it_pays", "always"}, "where_it_pays", Change::kByReload,
      "Whether Redis is asked only for queries that PostgreSQL answers more slowly, by measure.",
      [](auto& o) -> auto& { return o.session.remote_ask; }));
  table.push_back(word(
      "redis.single_flight", {"off", "where_it_pays"}, "where_it_pays", Change::kByReload,
      "Whether one proxy of the fleet fetches what several miss, and the others wait for it.",
      [](auto& o) -> auto& { return o.session.fleet_flight; }));
  table.push_back(number(
      "redis.in_flight", Kind::kNumber, "1000", 16, 1'000'000, Change::kByReload,
      "Commands under way on each worker's connection; more are not sent.",
      [](auto& o) -> auto& { return o.redis.requests_max; }));
  table.push_back(number(
      "redis.in_flight_bytes", Kind::kBytes, "16MB", 64 * kKb, kGb, Change::kByReload,
      "The same in bytes.", [](auto& o) -> auto& { return o.redis.bytes_max; }));
  table.push_back(number(
      "redis.compress_min", Kind::kBytes, "4KB", 0, kGb, Change::kAtStart,
      "Entries from this size on are compressed (zstd).",
      [](auto& o) -> auto& { return o.redis.pack_bytes_min; }));
  table.push_back(texts(
      "redis.encryption_key_file", Kind::kText, "",
      "a file with a line \"ID HEX\" for each key (openssl rand -hex 32); empty: none",
      Change::kByReload,
      "Entries are encrypted with the last key of this file (AES-256-GCM), and read with any of "
      "them. Without it, rows lie readable in Redis.",
      put_key_file, [](const Options& o) { return Texts{o.redis.key_file}; }));
  table.push_back(plain_text(
      "redis.tls_ca", "a file in PEM; empty: what the system trusts",
      "Whose signature the certificate of a rediss:// server must have.",
      [](auto& o) -> auto& { return o.redis.tls.ca; }));
  table.push_back(plain_text(
      "redis.tls_cert", "a file in PEM; empty: none", "pgfresh's own certificate.",
      [](auto& o) -> auto& { return o.redis.tls.certificate; }));
  table.push_back(plain_text(
      "redis.tls_key", "a file in PEM; empty: it stands in redis.tls_cert",
      "The key of that certificate.", [](auto& o) -> auto& { return o.redis.tls.key; }));
  table.push_back(plain_text(
      "redis.tls_server_name", "a name or an address; empty: the host of redis.url",
      "Whose certificate the server must show.",
      [](auto& o) -> auto& { return o.redis.tls.server_name; }));
}

void add_limits(std::vector<Option>& table) {
  table.push_back(number(
      "limits.clients", Kind::kNumber, "10000", 1, 1'000'000, Change::kByReload,
      "Client connections; more are refused with SQLSTATE 53300.",
      [](auto& o) -> auto& { return o.session.clients_max; }));
  Option message = number(
      "limits.message_bytes", Kind::kBytes, "1GB", 64 * kKb, kGb, Change::kByReload,
      "The longest message a client may send.",
      [](auto& o) -> auto& { return o.session.message_bytes_max; });
  // PostgreSQL's own limit is one byte less than 1 GB.
  message.put_number = [](Options& options, int64_t value) {
    options.session.message_bytes_max =
        std::min(static_cast<uint32_t>(value), limits::kMessageBytesMax);
  };
  message.get_number = [](const Options& options) {
    const uint32_t value = options.session.message_bytes_max;
    return static_cast<int64_t>(value == limits::kMessageBytesMax ? value + 1 : value);
  };
  table.push_back(std::move(message));
  table.push_back(number(
      "limits.login_time", Kind::kDuration, "1min", kSecond, kHour, Change::kByReload,
      "From accept to the end of the login.",
      [](auto& o) -> auto& { return o.session.login_ms_max; }));
  table.push_back(number(
      "limits.idle_time", Kind::kDuration, "0", 0, 24 * 365 * kHour, Change::kByReload,
      "Sessions idle longer than this are closed; 0: never.",
      [](auto& o) -> auto& { return o.session.idle_ms_max; }));
  table.push_back(number(
      "limits.drain_time", Kind::kDuration, "30s", 0, 24 * kHour, Change::kByReload,
      "After SIGTERM: how long transactions under way may go on.",
      [](auto& o) -> auto& { return o.session.drain_ms_max; }));
}

void add_console(std::vector<Option>& table) {
  constexpr std::string_view kUserForm =
      "a list of name and password; the password in clear or as SCRAM-SHA-256$…";
  table.push_back(texts(
      "console.users", Kind::kUsers, "", kUserForm, Change::kByReload,
      "Who may use the console (psql … pgfresh) with a password, every command.",
      [](Options& options, const Texts& items) {
        std::string trouble = check_users(items);
        if (trouble.empty()) options.console_users = items;
        return trouble;
      },
      [](const Options& o) { return o.console_users; }));
  table.push_back(texts(
      "console.viewers", Kind::kUsers, "", kUserForm, Change::kByReload,
      "Who may use the console to look only: SHOW.",
      [](Options& options, const Texts& items) {
        std::string trouble = check_users(items);
        if (trouble.empty()) options.console_viewers = items;
        return trouble;
      },
      [](const Options& o) { return o.console_viewers; }));
  table.push_back(texts(
      "console.peer_users", Kind::kTexts, "", "a list of system users, names or numbers",
      Change::kByReload,
      "Who may use the console over the unix socket without a password, besides root and "
      "pgfresh's own user.",
      [](Options& options, const Texts& items) {
        std::string trouble = check_peers(items);
        if (trouble.empty()) options.console_peer_users = items;
        return trouble;
      },
      [](const Options& o) { return o.console_peer_users; }));
}

void add_log(std::vector<Option>& table) {
  table.push_back(word(
      "log.level", {"debug", "info", "warn", "error"}, "info", Change::kByReload,
      "The least important line that is written.", [](auto& o) -> auto& { return o.log_level; }));
  table.push_back(word(
      "log.format", {"text", "json"}, "text", Change::kAtStart,
      "One line for each event, key=value or JSON.",
      [](auto& o) -> auto& { return o.log_format; }));
  table.push_back(texts("log.file", Kind::kText, "", "a file; empty: standard error",
                        Change::kAtStart,
                        "Where the log goes. The file is appended to; SIGHUP opens it anew.",
                        put_log_file, [](const Options& o) { return Texts{o.log_file}; }));
}

std::vector<Option> make_table() {
  std::vector<Option> table;
  add_listen(table);
  add_cache(table);
  add_freshness(table);
  add_query(table);
  add_redis(table);
  add_limits(table);
  add_console(table);
  add_log(table);
  return table;
}

// ── Values and texts ─────────────────────────────────────────────────────────────────────────────

std::string number_text(const Option& option, int64_t value) {
  switch (option.kind) {
    case Kind::kDuration:
      return duration_text(value);
    case Kind::kBytes:
      return bytes_text(value);
    case Kind::kPercent:
      return std::to_string(value) + "%";
    case Kind::kWord:
      return std::string(option.words[static_cast<size_t>(value)]);
    case Kind::kNumber:
    case Kind::kText:
    case Kind::kTexts:
    case Kind::kUsers:
      break;
  }
  return std::to_string(value);
}

std::optional<int64_t> read_number(const Option& option, std::string_view text) {
  switch (option.kind) {
    case Kind::kDuration:
      return parse_duration_ms(text);
    case Kind::kBytes:
      return parse_bytes(text);
    case Kind::kPercent:
      if (text.ends_with('%')) text.remove_suffix(1);
      return parse_number(text);
    case Kind::kWord: {
      const auto found = std::find(option.words.begin(), option.words.end(), text);
      if (found == option.words.end()) return std::nullopt;
      return found - option.words.begin();
    }
    case Kind::kNumber:
    case Kind::kText:
    case Kind::kTexts:
    case Kind::kUsers:
      break;
  }
  return parse_number(text);
}

std::string joined(const std::vector<std::string_view>& words, std::string_view last) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? last : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace

std::span<const Option> option_table() {
  static const std::vector<Option> table = make_table();
  return table;
}

const Option* find_option(std::string_view name) {
  for (const Option& option : option_table()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

std::string allowed_text(const Option& option) {
  if (option.kind == Kind::kWord) return joined(option.words, " or ");
  if (!option.put_number) return std::string(option.allowed);
  return number_text(option, option.low) + " to " + number_text(option, option.high);
}

std::string shown_name(std::string_view name) {
  const size_t end =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
  return std::string(name.substr(0, end)) + (end == std::string_view::npos ? "" : "…");
}

std::string put(const Option& option, Options& options, const Texts& items) {
  const bool list = option.kind == Kind::kTexts || option.kind == Kind::kUsers;
  std::string trouble;
  if (!list && items.size() != 1) {
    trouble = "one value is wanted";
  } else if (option.put_texts) {
    trouble = option.put_texts(options, items);
  } else {
    const std::optional<int64_t> value = read_number(option, items.front());
    if (!value) {
      trouble = quoted(items.front()) + " cannot be read";
    } else if (option.kind != Kind::kWord && (*value < option.low || *value > option.high)) {
      trouble = quoted(items.front()) + " is out of range";
    } else {
      option.put_number(options, *value);
    }
  }
  if (trouble.empty()) return {};
  return std::string(option.name) + ": " + trouble + "; allowed: " + allowed_text(option);
}

std::string shown_default(const Option& option, const Options& defaults) {
  const bool one_text = option.kind == Kind::kText;
  return one_text ? std::string(option.default_text) : shown_value(option, defaults);
}

std::string shown_value(const Option& option, const Options& options) {
  if (option.get_number) return number_text(option, option.get_number(options));
  if (option.name == "upstream.url") {
    if (options.upstream_url.empty()) return {};
    const auto target = net::UpstreamTarget::parse(options.upstream_url);
    return target ? target->describe() : "";
  }
  if (option.name == "redis.url") {
    const auto target = net::RedisTarget::parse(options.redis.url);
    return target ? target->describe() : "";
  }
  std::string text;
  for (const std::string& item : option.get_texts(options)) {
    if (!text.empty()) text += ", ";
    text += option.kind == Kind::kUsers ? user_name(item) : item;
  }
  return text;
}

}  // namespace pgfresh::app
