#include "cache/resp.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "cache/redis_trouble.h"

namespace pgfresh::cache {
namespace {

using Kind = RedisReply::Kind;
using Read = ReplyReader::Read;

RedisReply read_one(const std::string& bytes) {
  ReplyReader reader(1000);
  reader.feed(bytes);
  RedisReply reply;
  REQUIRE(reader.next(reply) == Read::kReply);
  return reply;
}

Read read_bad(const std::string& bytes, size_t bytes_max = 1000) {
  ReplyReader reader(bytes_max);
  RedisReply reply;
  Read read = Read::kMore;
  for (size_t at = 0; at < bytes.size() && read != Read::kBroken; at += 100) {
    reader.feed(std::string_view(bytes).substr(at, 100));
    read = reader.next(reply);
  }
  return read;
}

TEST_CASE("commands are written as Redis reads them") {
  std::string out = "before";
  append_command(out, std::array<std::string_view, 3>{"SET", "a", std::string_view("x\0y", 3)});
  CHECK(out == std::string("before*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nx\0y\r\n", 35));
}

TEST_CASE("answers of every kind") {
  CHECK(read_one("+OK\r\n").kind == Kind::kStatus);
  CHECK(read_one("+OK\r\n").text == "OK");
  CHECK(read_one("-ERR no\r\n").is_error());
  CHECK(read_one("-ERR no\r\n").text == "ERR no");
  CHECK(read_one(":-42\r\n").integer == -42);
  CHECK(read_one("$-1\r\n").kind == Kind::kNil);
  CHECK(read_one("*-1\r\n").kind == Kind::kNil);
  CHECK(read_one(std::string("$3\r\na\0b\r\n", 9)).text == std::string("a\0b", 3));
  const RedisReply list = read_one("*3\r\n$1\r\na\r\n:7\r\n*2\r\n+x\r\n$-1\r\n");
  REQUIRE(list.items.size() == 3);
  CHECK(list.items[0].text == "a");
  CHECK(list.items[1].integer == 7);
  REQUIRE(list.items[2].items.size() == 2);
  CHECK(list.items[2].items[0].text == "x");
  CHECK(list.items[2].items[1].kind == Kind::kNil);
}

TEST_CASE("answers come in any pieces, and several in one") {
  const std::string bytes = "+OK\r\n*2\r\n$5\r\nhello\r\n:1\r\n$-1\r\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    ReplyReader reader(1000);
    std::string seen;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      reader.feed(std::string_view(bytes).substr(at, piece));
      RedisReply reply;
      while (reader.next(reply) == Read::kReply) {
        seen += reply.kind == Kind::kArray ? reply.items[0].text : reply.text + ";";
      }
    }
    CHECK(seen == "OK;hello;");
  }
}

TEST_CASE("garbage and answers out of bounds break the connection, not the process") {
  CHECK(read_bad("HTTP/1.1 400 Bad Request\r\n\r\n") == Read::kBroken);
  CHECK(read_bad(std::string(300, '\0')) == Read::kBroken);
  CHECK(read_bad("*1000000000\r\n") == Read::kBroken);
  CHECK(read_bad("*4294967297\r\n") == Read::kBroken);
  std::string nested;
  for (int i = 0; i < 6; ++i) nested += "*1000\r\n";
  CHECK(read_bad(nested) == Read::kBroken);
  CHECK(read_bad("$2000\r\n" + std::string(2000, 'x') + "\r\n") == Read::kBroken);
  CHECK(read_bad("*2\r\n$600\r\n" + std::string(600, 'x') + "\r\n$600\r\n" + std::string(600, 'x') +
                 "\r\n") == Read::kBroken);
  CHECK(read_bad("$999999999\r\n" + std::string(10'000, 'x')) == Read::kBroken);
  CHECK(read_bad("$900\r\n" + std::string(900, 'x') + "\r\n") == Read::kReply);
}

TEST_CASE("errors are sorted") {
  CHECK(classify("READONLY You can't write against a read only replica.") ==
        RedisTrouble::kReplica);
  CHECK(classify("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set") ==
        RedisTrouble::kReplica);
  CHECK(classify("LOADING Redis is loading the dataset in memory") == RedisTrouble::kLoading);
  CHECK(classify("OOM command not allowed when used memory > 'maxmemory'.") == RedisTrouble::kFull);
  CHECK(classify("MISCONF Redis is configured to save RDB snapshots") == RedisTrouble::kNotWriting);
  CHECK(classify("NOAUTH Authentication required.") == RedisTrouble::kLogin);
  CHECK(classify("WRONGPASS invalid username-password pair") == RedisTrouble::kLogin);
  CHECK(classify("NOPERM this user has no permissions") == RedisTrouble::kForbidden);
  CHECK(classify("MOVED 3999 127.0.0.1:6381") == RedisTrouble::kCluster);
  CHECK(classify("CLUSTERDOWN Hash slot not served") == RedisTrouble::kCluster);
  CHECK(classify("ERR max number of clients reached") == RedisTrouble::kBusy);
  CHECK(classify("WRONGTYPE Operation against a key") == RedisTrouble::kOther);
  CHECK(classify("") == RedisTrouble::kOther);
}

TEST_CASE("INFO is read, Redis' and Valkey's") {
  RedisInfo info = read_info(
      "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Persistence\r\nloading:0\r\n"
      "async_loading:1\r\n# Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n");
  CHECK(info.version == "7.0.15");
  CHECK(info.server == "redis");
  CHECK_FALSE((info.cluster || info.sentinel || info.replica || info.loading));
  info = read_info("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nserver_mode:cluster\r\n");
  CHECK(info.server == "valkey");
  CHECK(info.version == "8.0.1");
  CHECK(info.cluster);
  CHECK(read_info("redis_mode:sentinel\r\n").sentinel);
  CHECK(read_info("x_role:master\r\nrole:slave\r\nloading:1").replica);
  CHECK(read_info("role:slave\r\nloading:1").loading);
  CHECK_FALSE(read_info("nothing of the kind").cluster);
}

}  // namespace
}  // namespace pgfresh::cache
