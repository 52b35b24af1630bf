#include "console/console_session.h"

#include <doctest/doctest.h>

#include "fakes.h"

namespace pgfresh::console::testing {
namespace {

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string hmac(std::string_view key, std::string_view text) {
  std::string digest(32, '\0');
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       reinterpret_cast<unsigned char*>(digest.data()), &size);
  return digest;
}

// The client's side of SCRAM-SHA-256, as RFC 5802 has it. `salt`: what the server's answer should
// carry.
void scram(Client& client, std::string_view password, std::string_view salt) {
  CHECK(client.types() == "R");
  const std::string bare = "n=,r=clientnonce";
  const std::string first = "n,," + bare;
  std::string body = zero_ended("SCRAM-SHA-256") + std::string(3, '\0');
  body += static_cast<char>(first.size());
  client.send(message('p', body + first));
  REQUIRE(client.types() == "R");
  REQUIRE(wire::read_authentication(client.last[0].body) == 11);
  const std::string server_first = client.last[0].body.substr(4);

  std::string salted(32, '\0');
  PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()),
                    reinterpret_cast<const unsigned char*>(salt.data()),
                    static_cast<int>(salt.size()), 4096, EVP_sha256(), 32,
                    reinterpret_cast<unsigned char*>(salted.data()));
  const std::string client_key = hmac(salted, "Client Key");
  std::string stored(32, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(client_key.data()), client_key.size(),
         reinterpret_cast<unsigned char*>(stored.data()));
  const std::string nonce = server_first.substr(2, server_first.find(',') - 2);
  const std::string final = "c=biws,r=" + nonce;
  std::string proof = hmac(stored, bare + "," + server_first + "," + final);
  for (size_t i = 0; i < proof.size(); ++i) {
    proof[i] = static_cast<char>(proof[i] ^ client_key[i]);
  }
  client.send(message('p', final + ",p=" + base64(proof)));
}

TEST_CASE("console: the unix socket of root, the daemon or nobody else is trusted") {
  Client root(0);
  CHECK(root.types() == "RSSSSSSSSSSSSSKZ");
  CHECK(root.status() == 'I');
  CHECK_FALSE(root.broken);

  Client daemon(777);
  CHECK(daemon.types().ends_with("Z"));

  Client stranger(Client::kStranger);
  CHECK(stranger.types() == "R");
  CHECK(wire::read_authentication(stranger.last[0].body) == 10);
}

TEST_CASE("console: what is reported at login") {
  Client client;
  client.types();
  std::vector<std::string> statuses;
  for (const Answer& answer : client.last) {
    if (answer.type != 'S') continue;
    const auto status = wire::read_parameter_status(answer.body);
    statuses.push_back(std::string(status->first) + "=" + std::string(status->second));
  }
  const auto has = [&](const char* text) {
    return std::find(statuses.begin(), statuses.end(), text) != statuses.end();
  };
  CHECK(has("server_version=15.0 (pgfresh 0.1)"));
  CHECK(has("client_encoding=UTF8"));
  CHECK(has("integer_datetimes=on"));
  CHECK(has("standard_conforming_strings=on"));
  CHECK(has("application_name=test"));
  CHECK(has("session_authorization=ada"));
  const auto key = wire::read_backend_key(client.last[client.last.size() - 2].body);
  CHECK(key->pid == 42);
  CHECK(key->secret == 43);
}

TEST_CASE("console: SCRAM lets the right password in") {
  Client client(-1);
  scram(client, "engine", std::string(16, 's'));
  CHECK(client.types() == "RRSSSSSSSSSSSSSKZ");
  CHECK(wire::read_authentication(client.last[0].body) == 12);
  CHECK(client.audit.empty());
}

TEST_CASE("console: SCRAM refuses a wrong password and an unknown user alike") {
  Client wrong(-1);
  scram(wrong, "difference", std::string(16, 's'));
  CHECK(wrong.types() == "E");
  CHECK(wrong.sqlstate() == "28P01");
  CHECK(wrong.pipe.finished);
  CHECK(wrong.audit == std::vector<std::string>{"ada 10.0.0.7:51234 LOGIN: 28P01 refused"});

  Client unknown(-1, "mallory");
  scram(unknown, "engine", std::string(16, 's'));
  CHECK(unknown.types() == "E");
  CHECK(unknown.sqlstate() == "28P01");
  wrong.pipe.session->on_end("end of stream");
  REQUIRE(wrong.ended.size() == 1);
  CHECK(wrong.ended[0].find("password authentication failed") == 0);
}

TEST_CASE("console: an unknown user is shown the same salt each time, and no other's") {
  const auto salt_shown_to = [](const std::string& user) {
    Client client(-1, user);
    client.types();
    const std::string first = "n,,n=,r=abc";
    std::string body = zero_ended("SCRAM-SHA-256") + std::string(3, '\0');
    body += static_cast<char>(first.size());
    client.send(message('p', body + first));
    client.types();
    const std::string text = client.last[0].body;
    return text.substr(text.find(",s="));
  };
  CHECK(salt_shown_to("mallory") == salt_shown_to("mallory"));
  CHECK(salt_shown_to("mallory") != salt_shown_to("trudy"));
}

TEST_CASE("console: nothing but a password is taken before login") {
  std::string query;
  wire::write_query(query, "SHUTDOWN");
  Client early(-1, "ada", query);
  CHECK(early.types() == "RE");
  CHECK(early.sqlstate() == "08P01");
  CHECK(early.backend.commands.empty());

  Client malformed(-1);
  malformed.types();
  malformed.send(message('p', "nonsense"));
  CHECK(malformed.types() == "E");
  CHECK(malformed.sqlstate() == "08P01");

  Client nobody(0, "");
  CHECK(nobody.types() == "E");
  CHECK(nobody.sqlstate() == "28000");
}

TEST_CASE("console: a login that takes too long is ended, a session that stays is not") {
  Client slow(-1);
  slow.types();
  slow.loop.time_passes();
  CHECK(slow.types() == "E");
  CHECK(slow.sqlstate() == "57014");
  CHECK(slow.pipe.finished);

  Client quick(0);
  quick.types();
  quick.loop.time_passes();
  CHECK(quick.types().empty());
}

TEST_CASE("console: bytes behind the startup message are served") {
  std::string query;
  wire::write_query(query, "SHOW VERSION");
  Client client(0, "ada", query);
  CHECK(client.types() == "RSSSSSSSSSSSSSKZTDCZ");
  CHECK(client.rows() == std::vector<std::string>{"pgfresh 0.1"});
}

TEST_CASE("console: simple queries") {
  Client client;
  client.types();
  client.query("show stats;");
  CHECK(client.types() == "TDCZ");
  CHECK(client.tag() == "SHOW");
  CHECK(client.rows()[0].starts_with("care|"));
  CHECK(client.rows()[0].find("|3|1|0|75|") != std::string::npos);

  client.query(" -- nothing\n");
  CHECK(client.types() == "IZ");

  client.query("SHOW VERSION; SELECT 1; BEGIN");
  CHECK(client.types() == "TDCTDCCZ");
  CHECK(client.status() == 'T');

  client.query("SHOW HELP");
  client.types();
  CHECK(client.rows().size() > 12);
}

TEST_CASE("console: a text is run whole or not at all") {
  Client client;
  client.types();
  client.query("FLUSH ALL; KIL 3");
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "42601");
  CHECK(client.backend.commands.empty());
}

TEST_CASE("console: an unknown command is told where help is; one of later says so") {
  Client client;
  client.types();
  client.query("SELECT * FROM pg_class");
  client.types();
  CHECK(client.sqlstate() == "42601");
  CHECK(client.last[0].body.find("SHOW HELP") != std::string::npos);
  client.query("PAUSE");
  client.types();
  CHECK(client.sqlstate() == "0A000");
  client.query(std::string(9000, 'x'));
  client.types();
  CHECK(client.sqlstate() == "54000");
  CHECK(client.status() == 'I');
}

TEST_CASE("console: a command that takes time holds back what comes behind it") {
  Client client;
  client.types();
  client.query("RELOAD; SHOW VERSION");
  client.query("SHOW STATS");
  CHECK(client.types().empty());
  CHECK(client.pipe.paused);
  CHECK(client.session->state_name() == "active");
  REQUIRE(client.backend.commands.size() == 1);

  client.backend.pending(Done{"RELOAD"});
  CHECK(client.types() == "CTDCZTDCZ");
  CHECK_FALSE(client.pipe.paused);
  CHECK(client.session->state_name() == "idle");
  CHECK(client.session->queries() == 2);
}

TEST_CASE("console: a failure of the backend is an error, and the rest of the text is not run") {
  Client client;
  client.types();
  client.query("KILL 9; FLUSH ALL");
  client.backend.pending(Failure{"42704", "there is no client 9", ""});
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "42704");
  CHECK(client.backend.commands.size() == 1);
  CHECK(client.backend.commands[0].id == 9);
}

TEST_CASE("console: acts are reported with user and address, looks are not") {
  Client client;
  client.query("SHOW STATS; SET CACHE off");
  client.backend.pending(Done{"SET"});
  CHECK(client.audit == std::vector<std::string>{"ada 10.0.0.7:51234 SET CACHE OFF: asked",
                                                 "ada 10.0.0.7:51234 SET CACHE OFF: ok"});
}

TEST_CASE("console: who may only look may not act") {
  Client client(-1, "lou");
  scram(client, "look", std::string(16, 't'));
  client.types();
  client.query("SHOW STATS");
  CHECK(client.types() == "TDCZ");
  client.query("SHUTDOWN");
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "42501");
  CHECK(client.backend.commands.size() == 1);
  REQUIRE(client.audit.size() == 1);
  CHECK(client.audit[0].starts_with("lou 10.0.0.7:51234 SHUTDOWN: 42501"));
}

TEST_CASE("console: a session that goes while its command runs") {
  Client client;
  client.query("RELOAD");
  const auto done = client.backend.pending;
  client.pipe.session->on_end("connection reset by peer");
  CHECK(client.ended == std::vector<std::string>{"connection reset by peer"});
  client.session.reset();
  CHECK(client.pipe.destroyed);
  done(Done{"RELOAD"});
  // The act is in the audit log all the same.
  REQUIRE(client.audit.size() == 2);
  CHECK(client.audit[1] == "ada 10.0.0.7:51234 RELOAD: ok");
}

TEST_CASE("console: extended protocol, named and unnamed") {
  Client client;
  client.types();
  client.send(parse("", "SHOW STATS") + bind("", "", "") + describe('P', "") + execute("", 0) +
              sync());
  CHECK(client.types() == "12TDCZ");

  client.send(parse("s1", "show config") + describe('S', "s1") + sync());
  CHECK(client.types() == "1tTZ");
  client.send(bind("p1", "s1", "") + execute("p1", 0) + close('P', "p1") + close('S', "s1") +
              close('S', "never there") + sync());
  CHECK(client.types() == "2DDDC333Z");
  client.send(bind("", "s1", "") + sync());
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "26000");

  client.send(parse("", "SET CACHE on") + describe('S', "") + bind("", "", "") + execute("", 0) +
              sync());
  CHECK(client.types() == "1tn2");
  client.backend.pending(Done{"SET"});
  CHECK(client.types() == "CZ");

  client.send(parse("", "") + bind("", "", "") + describe('P', "") + execute("", 0) + sync());
  CHECK(client.types() == "12nIZ");
}

TEST_CASE("console: row limits suspend the portal") {
  Client client;
  client.types();
  client.send(parse("", "SHOW CONFIG") + bind("", "", "") + execute("", 2) + execute("", 2) +
              execute("", 2) + sync());
  CHECK(client.types() == "12DDsDCCZ");
  // Sync ended the transaction and the portal with it.
  client.send(execute("", 0) + sync());
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "34000");
}

TEST_CASE("console: binary results where Bind asks for them") {
  Client client;
  client.types();
  client.send(parse("", "SELECT 258, 'x', true, null") + bind("", "", "1") + describe('P', "") +
              execute("", 0) + sync());
  CHECK(client.types() == "12TDCZ");
  CHECK(client.tag() == "SELECT 1");
  const auto values = wire::read_data_row(client.last[3].body);
  REQUIRE(values->size() == 4);
  CHECK((*values)[0] == std::string_view("\0\0\0\0\0\0\1\2", 8));
  CHECK((*values)[1] == "x");
  CHECK((*values)[2] == std::string_view("\1", 1));
  CHECK_FALSE((*values)[3].has_value());
  // Each column of the description ends in its format code.
  CHECK(client.last[2].body.ends_with(std::string_view("\0\1", 2)));

  client.send(parse("", "SELECT 1, 2") + bind("", "", "010") + sync());
  CHECK(client.types() == "1EZ");
  CHECK(client.sqlstate() == "08P01");
}

TEST_CASE("console: after an error nothing is answered until Sync") {
  Client client;
  client.types();
  client.send(parse("", "NONSENSE") + bind("", "", "") + describe('P', "") + execute("", 0) +
              message('H', ""));
  CHECK(client.types() == "E");
  client.query("SHUTDOWN");
  CHECK(client.types().empty());
  client.send(sync());
  CHECK(client.types() == "Z");
  CHECK(client.backend.commands.empty());
}

TEST_CASE("console: parameters are refused clearly") {
  Client client;
  client.types();
  client.send(parse("", "KILL $1") + sync());
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "0A000");
  client.send(parse("", "SELECT $1") + sync());
  CHECK(client.types() == "EZ");
  CHECK(client.sqlstate() == "0A000");
}

TEST_CASE("console: statements are bounded") {
  Client client;
  client.types();
  std::string all;
  for (int i = 0; i < 65; ++i) all += parse("s" + std::to_string(i), "SELECT 1");
  client.send(all + sync());
  CHECK(client.types() == std::string(64, '1') + "EZ");
  CHECK(client.sqlstate() == "53400");
  client.query("DISCARD ALL");
  client.types();
  client.send(parse("s0", "SELECT 1") + sync());
  CHECK(client.types() == "1Z");
}

TEST_CASE("console: transaction blocks as drivers expect them") {
  Client client;
  client.types();
  client.query("BEGIN");
  client.types();
  CHECK(client.status() == 'T');
  client.query("GIBBERISH");
  client.types();
  CHECK(client.status() == 'E');
  client.query("SHOW STATS");
  client.types();
  CHECK(client.sqlstate() == "25P02");
  client.query("COMMIT");
  client.types();
  CHECK(client.tag() == "ROLLBACK");
  CHECK(client.status() == 'I');
}

TEST_CASE("console: a changed parameter is reported") {
  Client client;
  client.types();
  client.query("SET application_name TO 'other'");
  CHECK(client.types() == "CSZ");
  CHECK(wire::read_parameter_status(client.last[1].body)->second == "other");
}

TEST_CASE("console: a client that does not read is not read from") {
  Client client;
  client.types();
  client.pipe.takes = false;
  for (int i = 0; i < 2000 && !client.pipe.paused; ++i) client.query("SHOW HELP");
  CHECK(client.pipe.paused);
  CHECK(client.pipe.stuck < 300 * 1024);
  client.pipe.takes = true;
  client.pipe.stuck = 0;
  client.pipe.session->on_drained();
  CHECK_FALSE(client.pipe.paused);
}

TEST_CASE("console: Terminate, garbage, oversize and stop") {
  Client quits;
  quits.types();
  quits.send(message('X', ""));
  CHECK(quits.pipe.finished);
  CHECK(quits.types().empty());
  quits.pipe.session->on_end("end of stream");
  CHECK(quits.ended == std::vector<std::string>{"client terminated the session"});

  Client garbage;
  garbage.types();
  garbage.send("\xff\xfe GET / HTTP/1.1\r\n");
  CHECK(garbage.types() == "E");
  CHECK(garbage.sqlstate() == "08P01");
  CHECK(garbage.pipe.finished);
  garbage.send("more");
  CHECK(garbage.types().empty());

  Client large;
  large.types();
  large.send(std::string("Q\x7f\xff\xff\xff", 5));
  CHECK(large.types() == "E");
  CHECK(large.sqlstate() == "08P01");

  Client short_body;
  short_body.types();
  short_body.send(message('B', "x"));
  CHECK(short_body.types() == "E");
  CHECK(short_body.sqlstate() == "08P01");

  Client stopped;
  stopped.types();
  stopped.session->stop("57P01", "terminating connection due to administrator command");
  CHECK(stopped.types() == "E");
  CHECK(stopped.sqlstate() == "57P01");
  CHECK(stopped.pipe.finished);
}

TEST_CASE("console: a message may come byte by byte") {
  Client client;
  client.types();
  std::string query;
  wire::write_query(query, "SHOW VERSION");
  for (const char byte : query) client.send(std::string(1, byte));
  CHECK(client.types() == "TDCZ");
}

}  // namespace
}  // namespace pgfresh::console::testing
