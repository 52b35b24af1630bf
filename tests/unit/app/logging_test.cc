#include "app/logging.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <string>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/throttle.h"

namespace pgfresh::app {
namespace {

std::string read_whole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("one shape of line, as text and as JSON") {
  CHECK(log_line(LogFormat::kText, "session_ended",
                 {{"session", "12"}, {"why", "end of stream"}, {"user", "a\"b\n"}, {"x", ""}}) ==
        "session_ended session=12 why=\"end of stream\" user=\"a\\\"b\\n\" x=\"\"");
  CHECK(log_line(LogFormat::kJson, "session_ended",
                 {{"session", "12"}, {"why", "end\x01\xff\xc3\xa9"}, {"zip", "007"}}) ==
        "\"event\":\"session_ended\",\"session\":12,\"why\":\"end\\u0001\\ufffd\xc3\xa9\","
        "\"zip\":\"007\"");
  CHECK(log_line(LogFormat::kText, "e", {{"sql", std::string(5000, 'x')}}).size() < 1100);
}

TEST_CASE("a log file is appended to, from the level asked for on") {
  char path[] = "/tmp/pgfresh-test-log-XXXXXX";
  ::close(::mkstemp(path));
  for (const char* word : {"first", "second"}) {
    auto log = open_log({LogLevel::kInfo, LogFormat::kText, path});
    REQUIRE(log);
    CHECK((*log)->enabled(LogLevel::kInfo));
    CHECK_FALSE((*log)->enabled(LogLevel::kDebug));
    (*log)->event(LogLevel::kDebug, "unseen", {});
    (*log)->event(LogLevel::kWarn, word, {{"n", "1"}, {"brace", "{}"}});
  }
  const std::string text = read_whole(path);
  ::unlink(path);
  // "2026-11-20T22:45:41.123Z" stands before each line.
  std::istringstream lines(text);
  for (const char* word : {"first", "second"}) {
    std::string line;
    REQUIRE(std::getline(lines, line));
    REQUIRE(line.size() > 24);
    CHECK(line[10] == 'T');
    CHECK(line[23] == 'Z');
    CHECK(line.substr(24) == std::string(" warning ") + word + " n=1 brace={}");
  }
  CHECK(lines.peek() == EOF);
}

TEST_CASE("the level can change while it is written") {
  const std::string path = "/tmp/pgfresh-level-" + std::to_string(::getpid());
  {
    const auto log = open_log({LogLevel::kWarn, LogFormat::kText, path});
    REQUIRE(log);
    (*log)->event(LogLevel::kInfo, "unseen", {});
    (*log)->set_level(LogLevel::kDebug);
    (*log)->event(LogLevel::kDebug, "seen", {});
    (*log)->set_level(LogLevel::kError);
    (*log)->event(LogLevel::kWarn, "unseen", {});
  }
  const std::string text = read_whole(path);
  ::unlink(path.c_str());
  CHECK(text.find(" debug seen") != std::string::npos);
  CHECK(text.find("unseen") == std::string::npos);
}

TEST_CASE("a log that cannot be opened is told") {
  const auto log = open_log({LogLevel::kInfo, LogFormat::kText, "/dev/null/pgfresh.log"});
  REQUIRE_FALSE(log);
  CHECK(log.error().find("log.file: ") == 0);
  const std::string missing = "/tmp/pgfresh-missing-" + std::to_string(::getpid());
  const auto mistyped = open_log({LogLevel::kInfo, LogFormat::kText, missing + "/x.log"});
  REQUIRE_FALSE(mistyped);
  CHECK(mistyped.error() == "log.file: \"" + missing + "\" is not a directory");
  CHECK(::access(missing.c_str(), F_OK) != 0);  // nothing was made
}

TEST_CASE("a log file that was moved away is opened anew") {
  const std::string path = "/tmp/pgfresh-log-" + std::to_string(::getpid());
  const std::string moved = path + ".1";
  {
    const auto log = open_log({LogLevel::kInfo, LogFormat::kText, path});
    REQUIRE(log);
    (*log)->event(LogLevel::kInfo, "before", {});
    REQUIRE(std::rename(path.c_str(), moved.c_str()) == 0);
    CHECK((*log)->reopen() == "");
    (*log)->event(LogLevel::kInfo, "after", {});
  }
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  CHECK(text.str().find("after") != std::string::npos);
  for (const std::string& each : {path, moved}) {
    struct stat status {};
    REQUIRE(::stat(each.c_str(), &status) == 0);
    CHECK((status.st_mode & S_IRWXO) == 0);  // it names users and databases
  }
  std::remove(path.c_str());
  std::remove(moved.c_str());
}

TEST_CASE("a throttle admits one line a period and counts the rest") {
  Throttle throttle(1000);
  CHECK(throttle.admits(5));
  CHECK(throttle.left_out() == 0);
  CHECK_FALSE(throttle.admits(6));
  CHECK_FALSE(throttle.admits(1004));
  CHECK(throttle.admits(1005));
  CHECK(throttle.left_out() == 2);
  CHECK(throttle.admits(5000));
  CHECK(throttle.left_out() == 0);
}

}  // namespace pgfresh::app
