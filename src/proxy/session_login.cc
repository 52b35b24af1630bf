// From the first byte to the first ReadyForQuery. The client authenticates against PostgreSQL
// itself: its startup parameters and its password messages pass through, and so does whatever
// PostgreSQL answers. pgfresh adds one parameter, keeps the cancel key, and removes what only works
// on PostgreSQL's own TLS connection (channel binding).
#include <algorithm>

#include "base/limits.h"
#include "base/text.h"
#include "proxy/session.h"

namespace pgfresh::proxy {
namespace {

// SSLRequest and GSSENCRequest, one each and one to spare.
constexpr int kEncryptionRequestsMax = 3;
constexpr uint32_t kAuthenticationOk = 0;
constexpr uint32_t kAuthenticationSasl = 10;
constexpr uint32_t kAuthenticationSaslFinal = 12;  // the server's own proof: wants no answer
constexpr std::string_view kConsoleDatabase = "pgfresh";
constexpr uint16_t kProtocolMajor = 3;

// What PostgreSQL reads as true, or "database"; what it cannot read it refuses (parse_bool()).
bool wants_replication(const wire::StartupMessage& startup) {
  const std::string_view value = startup.get("replication");
  if (value == "database" || value == "1") return true;
  const auto begins = [value](std::string_view word, size_t least) {
    return value.size() >= least && value.size() <= word.size() &&
           std::equal(value.begin(), value.end(), word.begin(),
                      [](char given, char wanted) { return lower(given) == wanted; });
  };
  return begins("true", 1) || begins("yes", 1) || begins("on", 2);
}

// The mechanisms of AuthenticationSASL without SCRAM-SHA-256-PLUS: the client's TLS, if it has
// any, does not end at PostgreSQL.
std::string without_channel_binding(std::string_view mechanisms) {
  std::string kept;
  while (!mechanisms.empty() && mechanisms.front() != '\0') {
    const size_t end = mechanisms.find('\0');
    if (end == std::string_view::npos) break;
    const std::string_view name = mechanisms.substr(0, end);
    if (!name.ends_with("-PLUS")) kept.append(name).push_back('\0');
    mechanisms.remove_prefix(end + 1);
  }
  kept.push_back('\0');
  return kept;
}

}  // namespace

void Session::take_startup(std::string_view bytes) {
  for (;;) {
    wire::StartupPacket packet = wire::read_startup_packet(bytes);
    if (std::holds_alternative<wire::StartupNeedsMore>(packet)) {
      input_.append(bytes);
      return;
    }
    if (const auto* broken = std::get_if<wire::StartupBroken>(&packet)) {
      worker_.counters().add(Counter::kProtocolErrors);
      worker_.counters().add(Counter::kLoginsFailed);
      end("08P01", broken->why);
      return;
    }
    if (const auto* request = std::get_if<wire::CancelRequest>(&packet)) {
      const auto target = worker_.shared().cancels.find(request->pid, request->secret);
      if (!target) {
        close("cancel request with an unknown key");
        return;
      }
      worker_.counters().add(Counter::kCancels);
      Worker* home = &worker_;
      const uint64_t self = id_;
      target->worker->loop().post([target, home, self] {
        target->worker->cancel(target->session, [home, self] {
          home->loop().post([home, self] {
            if (Session* session = home->find(self)) session->close("cancel request done");
          });
        });
      });
      state_ = State::kConnecting;  // nothing more is expected from this client
      client_->pause();
      return;
    }
    if (auto* startup = std::get_if<wire::StartupMessage>(&packet)) {
      input_.assign(bytes);
      begin_session(std::move(*startup));
      return;
    }
    // SSLRequest or GSSENCRequest. Bytes behind it were sent before the answer could be known:
    // somebody is playing with an unencrypted prefix (CVE-2021-23214).
    if (!bytes.empty() || ++encryption_requests_ > kEncryptionRequestsMax) {
      worker_.counters().add(Counter::kProtocolErrors);
      close("bytes behind an encryption request");
      return;
    }
    send_to_client("N");
  }
}

void Session::begin_session(wire::StartupMessage startup) {
  if (startup.major != kProtocolMajor) {
    end("0A000", "unsupported frontend protocol " + std::to_string(startup.major) + "." +
                     std::to_string(startup.minor) + ": server supports 3.0 to 3.0");
    return;
  }
  std::vector<std::string> unknown;
  std::erase_if(startup.parameters, [&unknown](const auto& parameter) {
    if (!parameter.first.starts_with("_pq_.")) return false;
    unknown.push_back(parameter.first);
    return true;
  });
  if (startup.minor != 0 || !unknown.empty()) {
    std::string message;
    wire::write_negotiate_version(message, 0, unknown);
    send_to_client(message);
    startup.minor = 0;
  }
  if (startup.get("user").empty()) {
    end("28000", "no PostgreSQL user name specified in startup packet");
    return;
  }
  startup_ = std::move(startup);
  if (startup_.get("database") == kConsoleDatabase && !wants_replication(startup_)) {
    state_ = State::kClosed;
    worker_.hand_to_console({std::move(client_), std::move(startup_), std::move(input_)});
    worker_.remove(id_);
    return;
  }
  const Settings& settings = worker_.settings();
  if (worker_.shared().clients.load(std::memory_order_relaxed) > settings.clients_max) {
    worker_.counters().add(Counter::kClientsRefused);
    end("53300", "sorry, too many clients already (limits.clients)");
    return;
  }
  if (worker_.draining()) {
    end("57P03", "the database system is shutting down");
    return;
  }
  replication_ = wants_replication(startup_);
  physical_ = replication_ && startup_.get("replication") != "database";
  state_ = State::kConnecting;
  client_->pause();
  connecting_ =
      worker_.connector().connect([this](std::unique_ptr<Stream> stream, const std::string& error) {
        server_connected(std::move(stream), error);
      });
}

void Session::server_connected(std::unique_ptr<Stream> stream, const std::string& error) {
  // The attempt cannot be destroyed from inside its own callback.
  auto done = std::make_shared<std::unique_ptr<PendingConnect>>(std::move(connecting_));
  worker_.loop().defer([done] { done->reset(); });
  if (stream == nullptr) {
    worker_.counters().add(Counter::kServersFailed);
    worker_.counters().add(Counter::kLoginsFailed);
    worker_.note_reached(error);
    end("08006", error);
    return;
  }
  worker_.note_reached({});
  worker_.counters().add(Counter::kServersOpened);
  server_ = std::make_unique<ServerLink>(std::move(stream));
  wire::StartupMessage message = startup_;
  std::erase_if(message.parameters,
                [](const auto& parameter) { return parameter.first == "pgfresh.inband"; });
  if (!physical_) message.parameters.emplace_back("pgfresh.inband", "on");
  std::string bytes;
  wire::write_startup_message(bytes, message);
  state_ = State::kLogin;
  server_->stream().start(&server_side_);
  server_->outbox().add(bytes);
  flush();
  client_->resume();
  resume_input();
}

// What is no password may be meant for later, where none is asked for. It waits, and is not cut
// into messages, until that is known.
bool Session::waits_for_login(std::string_view next) const {
  return state_ == State::kLogin && client_framer_.at_boundary() && !next.empty() &&
         next.front() != 'p' && next.front() != 'X';
}

// The client's side of the exchange: passwords, in whatever form PostgreSQL asked for.
void Session::take_login_message(const wire::Frame& frame) {
  if (frame.type == 'X') {
    close("client gave up during login");
    return;
  }
  server_->outbox().add(frame.bytes);
}

void Session::take_login_reply(const wire::Frame& frame) {
  switch (frame.type) {
    case 'R':
      take_authentication(frame);
      return;
    case 'K':
      if (const auto key = wire::read_backend_key(frame.body())) {
        server_->key = *key;
        cancel_key_ =
            worker_.shared().cancels.add({&worker_, id_}, key->pid, worker_.shared().random64);
        std::string message;
        wire::write_backend_key(message, cancel_key_.pid, cancel_key_.secret);
        send_to_client(message);
      }
      return;
    case 'Z':
      forward_to_client(frame);
      login_done();
      return;
    case 'N':
      take_notice(frame);
      return;
    case 'E':
    case 'S':
    case 'v':
      forward_to_client(frame);
      return;
    default:
      end("08P01", "unexpected message from the server during login");
  }
}

void Session::take_authentication(const wire::Frame& frame) {
  const auto kind = wire::read_authentication(frame.body());
  const bool asks = kind != kAuthenticationOk && kind != kAuthenticationSaslFinal;
  if (block_ == Block::kLogin && asks) {
    worker_.counters().add(Counter::kProtocolErrors);
    end("08P01", "expected password response");
    return;
  }
  if (block_ == Block::kNone && kind == kAuthenticationOk) block(Block::kLogin);
  if (kind == kAuthenticationSasl) {
    std::string message;
    wire::write_authentication(message, *kind, without_channel_binding(frame.body().substr(4)));
    send_to_client(message);
    return;
  }
  forward_to_client(frame);
}

// As PostgreSQL has it: a longer name means the same database (NAMEDATALEN).
std::string Session::database_name() const {
  constexpr size_t kNameBytesMax = 63;
  const std::string_view given = startup_.get("database");
  std::string_view name = given.empty() ? startup_.get("user") : given;
  if (name.size() <= kNameBytesMax) return std::string(name);
  size_t end = kNameBytesMax;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;  // UTF-8
  return std::string(name.substr(0, end));
}

void Session::login_done() {
  worker_.counters().add(Counter::kLogins);
  if (physical_) {
    flush();
    state_ = State::kRaw;
    unblock(Block::kLogin);
    return;
  }
  state_ = State::kReady;
  domain_ = worker_.shared().domain_of(database_name());
  if (domain_ != nullptr) {
    domain_->add_backend(server_->key.pid);
    server_->have_plans_since(domain_->catalog_generation());
    domain_->settler().wanted();
  }
  note_startup_settings();
  unblock(Block::kLogin);
}

}  // namespace pgfresh::proxy
