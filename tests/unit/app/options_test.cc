#include "app/options.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "app/command_line.h"
#include "app/option_table.h"
#include "app/units.h"

namespace pgfresh::app {
namespace {

struct TemporaryFile {
  std::string path;
  explicit TemporaryFile(const std::string& text) {
    char name[] = "/tmp/pgfresh-test-conf-XXXXXX";
    const int fd = ::mkstemp(name);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(fd);
    path = name;
  }
  ~TemporaryFile() { ::unlink(path.c_str()); }
};

// The errors of reading `text`, a line each, without the file's name.
std::string trouble(const std::string& text, Options* options = nullptr) {
  const TemporaryFile file(text);
  Options read = Options::defaults();
  Troubles troubles;
  const bool whole = read_options_file(file.path, read, troubles);
  CHECK((whole || troubles.size() == 1));
  if (options != nullptr) *options = read;
  std::string all;
  for (std::string& error : troubles) {
    if (error.starts_with(file.path)) error.erase(0, file.path.size());
    all += (all.empty() ? "" : "\n") + error;
  }
  return all;
}

std::string project_file(const std::string& name) {
  std::string path = __FILE__;
  path = path.substr(0, path.rfind("tests/unit/app/")) + name;
  std::ifstream file(path);
  REQUIRE_MESSAGE(file, path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("durations and sizes") {
  CHECK(parse_duration_ms("300ms") == 300);
  CHECK(parse_duration_ms("5s") == 5000);
  CHECK(parse_duration_ms("15min") == 900'000);
  CHECK(parse_duration_ms("24 h") == 86'400'000);
  CHECK(parse_duration_ms("0") == 0);
  for (const char* bad : {"", "5", "s", "-5s", "5m", "1.5s", "5s ", "99999999999999999h"}) {
    CHECK_MESSAGE(parse_duration_ms(bad) == std::nullopt, bad);
  }
  CHECK(parse_bytes("64KB") == 65'536);
  CHECK(parse_bytes("64kb") == 65'536);
  CHECK(parse_bytes("1GB") == int64_t{1} << 30);
  CHECK(parse_bytes("7B") == 7);
  CHECK(parse_bytes("7 XB") == std::nullopt);
  for (const int64_t value :
       {int64_t{0}, int64_t{1}, int64_t{1500}, int64_t{60'000}, int64_t{86'400'000}}) {
    CHECK(parse_duration_ms(duration_text(value)) == value);
    CHECK(parse_bytes(bytes_text(value)) == value);
  }
  CHECK(duration_text(300'000) == "5min");
  CHECK(bytes_text(256 << 20) == "256MB");
}

TEST_CASE("the table: names unique, defaults allowed, and equal to those of the structs") {
  std::set<std::string_view> names;
  for (const Option& option : option_table()) {
    CHECK_MESSAGE(names.insert(option.name).second, option.name);
    CHECK_FALSE(option.why.empty());
    CHECK_FALSE(allowed_text(option).empty());
  }
  const Options options = Options::defaults();
  const proxy::Settings session;
  CHECK(options.session.cache_mode == session.cache_mode);
  CHECK(options.session.ttl_ms == session.ttl_ms);
  CHECK(options.session.ttl_jitter_percent == session.ttl_jitter_percent);
  CHECK(options.session.entry_bytes_max == session.entry_bytes_max);
  CHECK(options.session.single_flight_wait_ms == session.single_flight_wait_ms);
  CHECK(options.session.text_bytes_max == session.text_bytes_max);
  CHECK(options.session.memo_entries_max == session.memo_entries_max);
  CHECK(options.session.clients_max == session.clients_max);
  CHECK(options.session.message_bytes_max == session.message_bytes_max);
  CHECK(options.session.login_ms_max == session.login_ms_max);
  CHECK(options.session.idle_ms_max == session.idle_ms_max);
  CHECK(options.session.drain_ms_max == session.drain_ms_max);
  const freshness::FeedOptions feed;
  CHECK(options.feed.staleness_ms == feed.staleness_ms);
  CHECK(options.feed.catalog_poll_ms == feed.catalog_poll_ms);
  CHECK(options.feed.audit_ms == feed.audit_ms);
  CHECK(options.feed.idle_ms == feed.idle_ms);
  CHECK(options.feed.publish == feed.publish);
  CHECK(options.slots_log2 == 20);
  CHECK(options.listen_tcp == Texts{"127.0.0.1:6543"});
  CHECK(options.listen_http == "127.0.0.1:9643");
  CHECK(options.unix_port() == 6543);
}

TEST_CASE("conf/pgfresh.yml is the table, and reads back to the defaults") {
  CHECK(project_file("conf/pgfresh.yml") == sample_file());
  Options options;
  CHECK(trouble(sample_file(), &options) == "");
  const auto rows = config_rows(options);
  for (const console::ConfigRow& row : rows) {
    if (row.key == "listen.unix") continue;  // what auto has become
    CHECK_MESSAGE(row.value == row.default_value, row.key);
  }
  const Options defaults = Options::defaults();
  CHECK(shown_default(*find_option("listen.unix"), defaults) == "auto");
  CHECK(rows.size() == option_table().size());
}

TEST_CASE("conf/pgfresh-minimal.yml is complete") {
  Options options;
  CHECK(trouble(project_file("conf/pgfresh-minimal.yml"), &options) == "");
  CHECK(check_complete(options).empty());
}

TEST_CASE("a file with sections, dotted names and users") {
  Options options;
  CHECK(trouble("upstream:\n  url: postgresql://me:hidden@db/app\n"
                "listen:\n  tcp: [0.0.0.0:7000, '[::1]:7000']\n  unix: none\n  http: none\n"
                "cache.bytes: 1GB\n"
                "cache:\n  mode: off\n  ttl_jitter: 25\n"
                "console:\n  users:\n    - name: admin\n      password: a:b,c\n    - x:y\n"
                "  viewers: v:w\n  peer_users: [root, 1234]\n"
                "workers: 3\n",
                &options) == "");
  CHECK(options.listen_tcp == Texts{"0.0.0.0:7000", "[::1]:7000"});
  CHECK(options.unix_port() == 7000);
  CHECK(options.listen_unix == "");
  CHECK(options.cache_bytes == size_t{1} << 30);
  CHECK(options.session.cache_mode == proxy::CacheMode::kOff);
  CHECK(options.session.ttl_jitter_percent == 25);
  CHECK(options.workers == 3);
  CHECK(options.console_users == Texts{"admin:a:b,c", "x:y"});
  const console::Access access = make_access(options, 5, std::string(32, 's'));
  CHECK(access.users.size() == 3);
  CHECK(access.role_of("v") == console::Role::kLooks);
  CHECK(access.role_of("admin") == console::Role::kAdministers);
  CHECK(access.trusted_peer_uids == std::set<int>{0, 1234});
  CHECK(access.daemon_uid == 5);
  for (const console::ConfigRow& row : config_rows(options)) {
    CHECK(row.value.find("hidden") == std::string::npos);
    CHECK(row.value.find("a:b") == std::string::npos);
  }
}

TEST_CASE("errors name file, line, option, what is wrong and what is allowed") {
  CHECK(trouble("cache:\n  bytes: much\n") ==
        ":2: cache.bytes: \"much\" cannot be read; allowed: 1MB to 16TB");
  CHECK(trouble("cache:\n  bytes: 1KB\n") ==
        ":2: cache.bytes: \"1KB\" is out of range; allowed: 1MB to 16TB");
  CHECK(trouble("cache:\n  mode: maybe\n") ==
        ":2: cache.mode: \"maybe\" cannot be read; allowed: on or off");
  CHECK(trouble("\n\ncash:\n  mode: on\n") ==
        ":3: cash: there is no such option; `pgfresh --help` lists them");
  CHECK(trouble("cache:\n  size: 1\n") ==
        ":2: cache.size: there is no such option; `pgfresh --help` lists them");
  CHECK(trouble("cache: 5\n") == ":1: cache: is a section of options, not a value");
  CHECK(trouble("workers: [1, 2]\n") == ":1: workers: a value is wanted; allowed: 0 to 256");
  CHECK(trouble("workers: 1\nworkers: 2\n").find("given twice") != std::string::npos);
  CHECK(trouble("cache.mode: on\ncache:\n  mode: on\n") == ":3: cache.mode: is given twice");
  CHECK(trouble("a: [1\n").find(": not YAML: ") != std::string::npos);
  CHECK(trouble("\nlisten.tcp: *:6543\n").find(":2: not YAML") == 0);
  CHECK(trouble("listen.tcp: *:6543\n").find("stands in quotes: \"*:6543\"") != std::string::npos);
  CHECK(trouble("\"a\\nb\": 1\n").find(":1: a…: there is no such option") == 0);  // one line
  CHECK(trouble("- 1\n").find(":1: a section") == 0);
  CHECK(trouble("listen.tcp: ':7000'\n").find("every address is *:7000;") != std::string::npos);
  CHECK(trouble("listen:\n  tcp: [nonsense]\n").find(":2: listen.tcp: \"nonsense\"") == 0);
  CHECK(trouble("upstream:\n  url: postgresql://h/?sslmode=sure\n").find(":2: upstream.url: ") ==
        0);
  CHECK(trouble("console:\n  users: [{name: x}]\n").find("each user needs a name") !=
        std::string::npos);
  CHECK(trouble("console:\n  users: [{name: x, pass: y}]\n").find(":2: console.users: a value") ==
        0);
  CHECK(trouble("console:\n  peer_users: [no-such-user-here]\n").find("no system user") !=
        std::string::npos);
  CHECK(trouble("console:\n  users: ['x:SCRAM-SHA-256$garbage']\n").find("garbled") !=
        std::string::npos);
  CHECK(trouble("console.users: ['x:y', 'x:z']\n").find("user \"x\" is given twice") !=
        std::string::npos);
  CHECK(trouble("console.users: ['x:md50123456789abcdef0123456789abcdef']\n").find("MD5 hash") !=
        std::string::npos);
  CHECK(trouble("console.users: ['x:md5']\n") == "");
  CHECK(trouble("log:\n  file: /tmp\n").find(":2: log.file: \"/tmp\" is a directory") == 0);
  Options options;
  for (const std::string path : {"/tmp", "/nonexistent.yml"}) {
    Troubles troubles;
    CHECK_FALSE(read_options_file(path, options, troubles));
    CHECK(troubles == Troubles{path + ": cannot be read"});
  }
  CHECK(trouble("", &options) == "");
  REQUIRE(check_complete(options).size() == 1);
  CHECK(check_complete(options).front().find("upstream.url: is missing") == 0);
}

TEST_CASE("all errors are told, not only the first") {
  CHECK(trouble("cache:\n  bytes: much\n  speed: 1\nworkers: -1\nlog: 5\n") ==
        ":2: cache.bytes: \"much\" cannot be read; allowed: 1MB to 16TB\n"
        ":3: cache.speed: there is no such option; `pgfresh --help` lists them\n"
        ":4: workers: \"-1\" is out of range; allowed: 0 to 256\n"
        ":5: log: is a section of options, not a value");
  const TemporaryFile file("workers: -1\nupstream:\n  url: postgresql://h:0/\n");
  const auto line = CommandLine::parse(
      {"-c", file.path, "--set", "cache.ttl=5", "--set", "listen.http=127.0.0.1:6543"});
  const Troubles troubles = line->load().troubles;
  REQUIRE(troubles.size() == 4);  // not that the URL is missing, as well
  CHECK(troubles[0].find(":1: workers: ") != std::string::npos);
  CHECK(troubles[1].find(":3: upstream.url: ") != std::string::npos);
  CHECK(troubles[2].find("cache.ttl: \"5\"") == 0);
  CHECK(troubles[3] == file.path +
                           ": listen.http: 127.0.0.1:6543 is the port of listen.tcp "
                           "127.0.0.1:6543, too");
}

TEST_CASE("a quote that is not closed is told with the line where it was opened") {
  const std::string opened = ": not YAML: a quote is opened and not closed";
  CHECK(trouble("a: &a {b: *a}\nc: 'open\n").ends_with(opened));  // which stands in itself
  CHECK(trouble("log:\n  level: info\n  file: \"x\n\nworkers: 3\n") == ":3" + opened);
  CHECK(trouble("workers: 'x\n") == ":1" + opened);
  CHECK(trouble("workers: 3\nlisten:\n  tcp:\n    - a:1\n    - 'b:1\n") == ":5" + opened);
  CHECK(trouble("log.file: \"x\"") == "");
  CHECK(trouble("---\nlog.file: 'it''s'\n...\n") == "");
  CHECK(trouble("log.file: |\n  \"x\n# \"") == "");
}

TEST_CASE("an upstream that is pgfresh itself is refused") {
  const auto refused = [](std::string_view url, std::string_view listen,
                          std::string_view directory = "none") {
    Options options = Options::defaults();
    REQUIRE(set_option(options, "upstream.url", url).empty());
    REQUIRE(set_option(options, "listen.tcp", listen).empty());
    REQUIRE(set_option(options, "listen.unix", directory).empty());
    const Troubles troubles = check_complete(options);
    return !troubles.empty() &&
           troubles.front().find("leads to pgfresh itself") != std::string::npos;
  };
  CHECK(refused("postgresql://127.0.0.1:6543/db", "127.0.0.1:6543"));
  CHECK(refused("postgresql://localhost:6543/db", "127.0.0.1:6543"));
  CHECK(refused("postgresql://127.0.0.1:6543/db", "localhost:6543"));
  CHECK(refused("postgresql://127.0.0.1:6543/db", "*:6543"));
  CHECK(refused("postgresql://[::1]:6543/db", "[::1]:6543"));
  CHECK(refused("postgresql:///db?host=/tmp&port=6543", "127.0.0.1:6543", "/tmp"));
  CHECK_FALSE(refused("postgresql://127.0.0.1:5432/db", "127.0.0.1:6543"));
  CHECK_FALSE(refused("postgresql://db.example:6543/db", "*:6543"));
  CHECK_FALSE(refused("postgresql://10.0.0.7:6543/db", "127.0.0.1:6543"));
  CHECK_FALSE(refused("postgresql:///db?host=/tmp&port=5432", "127.0.0.1:6543", "/tmp"));
}

TEST_CASE("one port for two purposes is refused") {
  const auto troubles = [](const std::string& tcp, const std::string& http) {
    Options options = Options::defaults();
    REQUIRE(set_option(options, "upstream.url", "h").empty());
    REQUIRE(set_option(options, "listen.tcp", tcp).empty());
    REQUIRE(set_option(options, "listen.http", http).empty());
    return check_complete(options).size();
  };
  CHECK(troubles("127.0.0.1:1", "127.0.0.1:1") == 1);
  CHECK(troubles("*:1", "127.0.0.1:1") == 1);
  CHECK(troubles("127.0.0.1:2,127.0.0.1:1", "0.0.0.0:1") == 1);
  CHECK(troubles("127.0.0.1:1,127.0.0.1:1", "none") == 1);
  CHECK(troubles("127.0.0.1:1,[::1]:1", "127.0.0.2:1") == 0);
  CHECK(troubles("127.0.0.1:0", "127.0.0.1:0") == 0);
}

TEST_CASE("a viewer who may use every command is refused") {
  Options options = Options::defaults();
  REQUIRE(set_option(options, "upstream.url", "h").empty());
  REQUIRE(set_option(options, "console.users", "ann:a").empty());
  REQUIRE(set_option(options, "console.viewers", "anna:a").empty());
  CHECK(check_complete(options).empty());
  REQUIRE(set_option(options, "console.viewers", "ann:b").empty());
  CHECK(check_complete(options) ==
        Troubles{"console.viewers: \"ann\" is one of console.users, too"});
}

TEST_CASE("no error quotes what may be a password") {
  for (const char* text : {
           "upstream.url: postgresql://u:SECRET@SECRET@h/db\n",
           "upstream.url: postgresql://u:SECRET%zz@h/db\n",
           "upstream.url: mysql://u:SECRET@h/db\n",
           "redis.url: redis://u:1/SECRET@h/0\n",
           "listen.tcp: postgresql://u:SECRET@h/db\n",
           "workers: postgresql://u:SECRET@h/db\n",
           "listen.http: ':SECRET@h'\n",
           "listen.unix: u:SECRET@h\n",
           "redis.prefix: redis://u:SECRET@h\n",
           "console.users: *SECRET\n",
           "console.peer_users: [nobody-here:SECRET]\n",
           "console.users: ['x:SCRAM-SHA-256$SECRET']\n",
           "redis.encryption_key_file: 1 SECRET89abcdef0123456789abcdef0123456789abcdef\n",
           "postgresql://u:SECRET@h: x\n",
       }) {
    const std::string said = trouble(text);
    CHECK_MESSAGE(said != "", text);
    CHECK_MESSAGE(said.find("SECRET") == std::string::npos, said);
  }
  const std::string url = "postgresql://u:SECRET=1@h/db";
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{url},
                                                    {"--set", url},
                                                    {"-u" + url},
                                                    {"--upstream", "h", url},
                                                    {"--http", url, "--upstream", "h"}}) {
    const auto line = CommandLine::parse(arguments);
    const std::string said = line ? line->load().troubles.at(0) : line.error();
    CHECK_MESSAGE(said.find("SECRET") == std::string::npos, said);
  }
}

TEST_CASE("a file with passwords that everybody may read is told of") {
  const TemporaryFile file("");
  const auto told = [&file](mode_t mode, std::string_view name, std::string_view value) {
    Options options = Options::defaults();
    REQUIRE(set_option(options, name, value).empty());
    ::chmod(file.path.c_str(), mode);
    return exposed_passwords(file.path, options);
  };
  const std::string secret = "postgresql://u:SECRET@h/db";
  CHECK(told(0644, "upstream.url", secret) ==
        file.path + " has passwords and is open to everybody on this host; chmod o= it");
  CHECK(told(0640, "upstream.url", secret) == "");
  CHECK(told(0644, "upstream.url", "postgresql://u@h/db") == "");
  CHECK(told(0644, "redis.url", "redis://:SECRET@h") != "");
  CHECK(told(0644, "console.users", "ada:SECRET") != "");
  CHECK(told(0644, "console.viewers", "ada:SECRET") != "");
  CHECK(told(0644, "cache.ttl", "1min") == "");
  CHECK(exposed_passwords("", Options::defaults()) == "");
  CHECK(told(0644, "console.users",
             "ada:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d"
             "8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
             "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=") == "");
}

TEST_CASE("a reload takes what may change and leaves the rest") {
  Options running = Options::defaults();
  Options fresh = Options::defaults();
  REQUIRE(set_option(fresh, "cache.bytes", "1GB") == "");
  REQUIRE(set_option(fresh, "workers", "7") == "");
  REQUIRE(set_option(fresh, "console.users", "a:b") == "");
  REQUIRE(set_option(fresh, "limits.message_bytes", "1GB") == "");
  CHECK(running.needing_restart(fresh) == Texts{"workers"});
  running.take_reloadable(fresh);
  CHECK(running.cache_bytes == size_t{1} << 30);
  CHECK(running.workers == 0);
  CHECK(running.console_users == Texts{"a:b"});
  CHECK(running.session.message_bytes_max == 0x3fffffffU);
}

TEST_CASE("the command line") {
  const auto parse = [](std::vector<std::string> arguments) {
    return CommandLine::parse(arguments);
  };
  const auto error = [&](std::vector<std::string> arguments) {
    const auto line = parse(std::move(arguments));
    return line ? "" : line.error();
  };
  CHECK(parse({"--version"})->action == CommandLine::Action::kVersion);
  CHECK(parse({"--help"})->action == CommandLine::Action::kHelp);
  CHECK(parse({"--check", "-c", "f"})->action == CommandLine::Action::kCheck);
  const auto line =
      parse({"--upstream", "postgresql://db/", "--listen", "127.0.0.1:1", "--listen=127.0.0.1:2",
             "--http", "127.0.0.1:3", "--set", "cache.ttl=1min", "--set=log.level=debug"});
  REQUIRE(line);
  REQUIRE(line->load().troubles.empty());
  const Options options = line->load().options;
  CHECK(options.upstream_url == "postgresql://db/");
  CHECK(options.listen_tcp == Texts{"127.0.0.1:1", "127.0.0.1:2"});
  CHECK(options.listen_http == "127.0.0.1:3");
  CHECK(options.session.ttl_ms == 60'000);
  CHECK(options.log_level == LogLevel::kDebug);

  CHECK(error({}) == "-c FILE or --upstream URL is needed (see --help)");
  CHECK(error({"-c"}) == "-c needs a value (see --help)");
  CHECK(error({"--check"}) == "--check needs -c FILE (see --help)");
  CHECK(error({"--nonsense"}) == "\"--nonsense\" is not known (see --help)");
  CHECK(error({"--set", "x"}) == "--set needs NAME=VALUE (see --help)");
  CHECK(parse({"--upstream", "h", "--redis", "redis://:pw@h:1/2"})->load().options.redis.url ==
        "redis://:pw@h:1/2");
  CHECK(parse({"--set", "no.such=1", "--upstream", "h"})->load().troubles ==
        Troubles{"no.such: there is no such option; `pgfresh --help` lists them"});
  CHECK(
      parse({"--set", "cache.ttl=1min"})->load().troubles.at(0).find("upstream.url: is missing") ==
      0);
  CHECK(error({"--listen", "a:1", "--set", "listen.tcp=b:2"}) ==
        "listen.tcp: is given twice (see --help)");
  CHECK(error({"--upstream", "h", "postgresql://h/"}).find("that of a URL is --upstream") !=
        std::string::npos);
  for (const Option& option : option_table()) {
    CHECK(help_text().find(std::string(option.name)) != std::string::npos);
  }
}

TEST_CASE("redis: options, a key file, what is shown") {
  CHECK(trouble("redis:\n  url: redys://h\n") ==
        ":2: redis.url: the URL must begin with redis://, rediss:// or unix://; allowed: " +
            allowed_text(*find_option("redis.url")));
  CHECK(trouble("redis:\n  prefix: 'a*'\n").find(":2: redis.prefix: \"a*\" is no prefix") == 0);
  CHECK(trouble("redis:\n  encryption_key_file: /does/not/exist\n").find("cannot be read") !=
        std::string::npos);
  const TemporaryFile keys("1 " + std::string(64, 'a') + "\n2 " + std::string(64, 'b') + "\n");
  Options options = Options::defaults();
  REQUIRE(set_option(options, "redis.encryption_key_file", keys.path).empty());
  CHECK(options.redis.keys.size() == 2);
  ::chmod(keys.path.c_str(), 0644);
  CHECK(set_option(options, "redis.encryption_key_file", keys.path).find("open to everybody") !=
        std::string::npos);
  CHECK(options.redis.keys.size() == 2);
  const TemporaryFile none("1 zz\n");
  CHECK(set_option(options, "redis.encryption_key_file", none.path)
            .find("line 1: the key must have 64 hexadecimal digits") != std::string::npos);

  options = Options::defaults();
  CHECK_FALSE(*open_redis(options));
  REQUIRE(set_option(options, "redis.url", "rediss://ada:hidden@h:1/2").empty());
  CHECK(shown_value(*find_option("redis.url"), options) == "rediss://ada@h:1/2");
  REQUIRE(set_option(options, "redis.budget", "7ms").empty());
  REQUIRE(set_option(options, "freshness.slots_log2", "16").empty());
  const cache::RedisStoreOptions store = redis_store_options(options);
  CHECK(store.client.user == "ada");
  CHECK(store.client.password == "hidden");
  CHECK(store.client.database == 2);
  CHECK(store.client.budget_ms == 7);
  CHECK(store.codec.slot_bits == 16);
  CHECK(store.prefix == "pgfresh:");
  CHECK(*open_redis(options));
}

}  // namespace pgfresh::app
