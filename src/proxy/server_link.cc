#include "proxy/server_link.h"

#include "freshness/domain.h"

namespace pgfresh::proxy {

ServerLink::ServerLink(std::unique_ptr<Stream> stream)
    : stream_(std::move(stream)), framer_(wire::Side::kBackend, limits::kMessageBytesMax) {}

uint64_t ServerLink::sent(Asked asked, PreparedRef prepared) {
  switch (asked) {
    case Asked::kSync:
    case Asked::kQuery:
      segment_open_ = false;
      break;
    case Asked::kParse:
    case Asked::kParseAgain:
    case Asked::kBind:
    case Asked::kDescribe:
    case Asked::kExecute:
    case Asked::kClose:
      segment_open_ = true;
      break;
    case Asked::kCopyEnd:
      // The Sync that the server ignored during the copy is still owed.
      if (!replies_.empty() && replies_.back().asked != Asked::kQuery) segment_open_ = true;
      break;
  }
  return replies_.push(asked, Purpose::kClient, std::move(prepared));
}

uint64_t ServerLink::sent_query(PreparedRef before) {
  segment_open_ = false;
  const uint64_t sequence =
      replies_.push(Asked::kQuery, Purpose::kClient, nullptr, std::move(before), unnamed_id_);
  changed_unnamed_ = sequence;
  if (!replies_.skipping()) forget("");
  return sequence;
}

void ServerLink::sent_parse(const PreparedRef& prepared, PreparedRef before) {
  const uint64_t held_before = held_id(prepared->name);
  const bool differed = held_before != (before ? before->id : 0);
  segment_open_ = true;
  const uint64_t sequence =
      replies_.push(Asked::kParse, Purpose::kClient, prepared, std::move(before), held_before);
  if (differed) doubtful_ = sequence;
  if (prepared->name.empty()) changed_unnamed_ = sequence;
  if (!replies_.skipping()) note_holds(*prepared);
}

void ServerLink::sent_close(std::string_view name, PreparedRef before) {
  const uint64_t held_before = before || name.empty() ? held_id(name) : 0;
  const bool differed = held_before != (before ? before->id : 0);
  segment_open_ = true;
  const uint64_t sequence =
      replies_.push(Asked::kClose, Purpose::kClient, nullptr, std::move(before), held_before,
                    std::make_unique<std::string>(name));
  if (differed) doubtful_ = sequence;
  if (!replies_.skipping()) forget(name);
}

void ServerLink::inject(std::string_view bytes) {
  flush();
  const Slice slice{bytes, nullptr};
  stream_->write({&slice, 1});
  bytes_written_ += bytes.size();
}

void ServerLink::inject_query(std::string_view sql, Purpose purpose) {
  std::string message;
  wire::write_query(message, sql);
  inject(message);
  segment_open_ = false;
  forget("");  // a simple query destroys the unnamed statement
  forget_outlived();
  replies_.push(Asked::kQuery, purpose);
}

// One that failed half-way may have left its statement behind.
std::string ServerLink::own_statement(std::string_view name, std::string_view sql) {
  std::string statement = "S" + std::string(name);
  statement.push_back('\0');
  std::string bind(name);
  bind.push_back('\0');
  std::string execute = bind + std::string(4, '\0');  // no row limit
  bind += bind + std::string(6, '\0');                // no parameters, every column in text
  std::string portal = "P" + std::string(name);
  portal.push_back('\0');
  std::string bytes;
  wire::write_message(bytes, 'C', statement);
  wire::write_parse(bytes, name, sql, {});
  wire::write_message(bytes, 'B', bind);
  wire::write_message(bytes, 'E', execute);
  wire::write_message(bytes, 'C', portal);
  wire::write_message(bytes, 'C', statement);
  return bytes;
}

void ServerLink::inject_probe(std::string_view sql) {
  inject(own_statement("pgfresh probe", sql) + "S" + std::string("\0\0\0\4", 4));
  segment_open_ = false;
  replies_.push(Asked::kSync, Purpose::kProbe);
}

void ServerLink::renew_plans(uint64_t generation, Before before) {
  constexpr std::string_view kDiscard = "DISCARD PLANS";
  if (replies_.skipping()) return;
  const bool under_way = !replies_.empty() && replies_.front().sequence <= discard_sequence_;
  if ((under_way ? discarded_for_ : plans_since_) == generation) return;
  discarded_for_ = generation;
  if (before == Before::kQuery) {
    inject_query(kDiscard, Purpose::kPlans);
    discard_sequence_ = replies_.last_sequence();
    return;
  }
  inject(own_statement("pgfresh plans", kDiscard));
  segment_open_ = true;
  replies_.push(Asked::kClose, Purpose::kSetup);
  replies_.push(Asked::kParse, Purpose::kSetup);
  replies_.push(Asked::kBind, Purpose::kSetup);
  discard_sequence_ = replies_.push(Asked::kExecute, Purpose::kSetup);
  replies_.push(Asked::kClose, Purpose::kSetup);
  replies_.push(Asked::kClose, Purpose::kSetup);
}

void ServerLink::inject_parse(const PreparedRef& statement, Purpose purpose) {
  if (replies_.skipping()) return;  // it would be skipped too, and must not be taken for known
  if (!statement->name.empty() && held_id(statement->name) != 0) inject_close(statement);
  std::string message;
  wire::write_parse(message, statement->name, statement->text->statement().text,
                    statement->pinned ? statement->shown_oids : statement->parameter_oids);
  inject(message);
  segment_open_ = true;
  doubtful_ = replies_.push(Asked::kParse, purpose, statement, nullptr, held_id(statement->name));
  note_holds(*statement);
}

void ServerLink::inject_close(const PreparedRef& statement) {
  std::string target = "S" + statement->name;
  target.push_back('\0');
  std::string message;
  wire::write_message(message, 'C', target);
  inject(message);
  segment_open_ = true;
  doubtful_ =
      replies_.push(Asked::kClose, Purpose::kSetup, nullptr, statement, held_id(statement->name),
                    std::make_unique<std::string>(statement->name));
  forget(statement->name);
}

void ServerLink::inject_close_unnamed() {
  if (replies_.skipping()) return;
  inject(std::string_view("C\0\0\0\6S\0", 7));
  segment_open_ = true;
  doubtful_ = replies_.push(Asked::kClose, Purpose::kSetup, nullptr, nullptr, unnamed_id_,
                            std::make_unique<std::string>());
  forget("");
}

// Nothing stands before these in their segment and they cannot fail: they are not skipped.
void ServerLink::close_outlived() {
  if (!std::exchange(outlived_, false)) return;
  inject(std::string_view("C\0\0\0\6S\0C\0\0\0\6P\0", 14));
  segment_open_ = true;
  replies_.push(Asked::kClose, Purpose::kSetup, nullptr, nullptr, 0,
                std::make_unique<std::string>());
  replies_.push(Asked::kClose, Purpose::kSetup);
  forget("");
}

void ServerLink::inject_check(const PreparedRef& statement) {
  std::string describe = "S" + statement->name;
  describe.push_back('\0');
  std::string message;
  wire::write_message(message, 'D', describe);
  message += std::string_view("H\0\0\0\4", 5);
  inject(message);
  segment_open_ = true;
  replies_.push(Asked::kDescribe, Purpose::kCheck, statement);
}

// Bind of a statement that cannot exist: PostgreSQL fails the transaction and skips to Sync, just
// as it would have done for the statement itself.
void ServerLink::inject_refusal() {
  std::string message;
  wire::write_message(message, 'B', std::string_view("\0\1pgfresh\0\0\0\0\0\0\0", 16));
  inject(message);
  segment_open_ = true;
  replies_.push(Asked::kBind, Purpose::kRefuse);
}

void ServerLink::inject_run(std::string_view bind) {
  inject(bind);
  inject(std::string_view("E\0\0\0\x9\0\0\0\0\0", 10));
  segment_open_ = true;
  replies_.push(Asked::kBind, Purpose::kSetup);
  replies_.push(Asked::kExecute, Purpose::kSetup);
}

void ServerLink::inject_carry(uint64_t server) {
  std::string sql = "SELECT pg_catalog.set_config('pgfresh.inband', CASE WHEN ";
  sql += freshness::kServerStartedSql;
  sql +=
      " OPERATOR(pg_catalog.=) " + std::to_string(server) + " THEN 'carry' ELSE 'on' END, false)";
  inject_inband(sql, Inband::kCarry);
  carries_for_ = server;
}

void ServerLink::inject_notify(Place place) {
  inject_inband("SET pgfresh.inband = 'on'",
                place == Place::kOutside ? Inband::kOn : Inband::kUnknown);
}

void ServerLink::inject_inband(std::string_view sql, Inband wanted) {
  inject_query(sql, Purpose::kInband);
  inband_ = Inband::kUnknown;
  inband_wanted_ = wanted;
  inband_sequence_ = replies_.last_sequence();
  carries_for_ = 0;
}

void ServerLink::inject_sync() {
  inject(std::string_view("S\0\0\0\4", 5));
  segment_open_ = false;
  replies_.push(Asked::kSync, Purpose::kQuiet);
}

void ServerLink::inject_terminate() {
  std::string message;
  wire::write_terminate(message);
  inject(message);
}

bool ServerLink::unsure() const {
  return !replies_.empty() && replies_.front().sequence <= doubtful_;
}

bool ServerLink::unsure_of_unnamed() const {
  return inband_ != Inband::kOn && !replies_.empty() &&
         replies_.front().sequence <= changed_unnamed_;
}

bool ServerLink::holds(const PreparedStatement& statement) const {
  return held_id(statement.name) == statement.id;
}

void ServerLink::note_holds(const PreparedStatement& statement) {
  set_held(statement.name, statement.id);
}

uint64_t ServerLink::held_id(std::string_view name) const {
  if (name.empty()) return unnamed_id_;
  const auto found = statement_ids_.find(std::string(name));
  return found == statement_ids_.end() ? 0 : found->second;
}

void ServerLink::set_held(std::string_view name, uint64_t id) {
  if (name.empty()) {
    unnamed_id_ = id;
  } else if (id == 0) {
    statement_ids_.erase(std::string(name));
  } else {
    statement_ids_[std::string(name)] = id;
  }
}

void ServerLink::forget_all() {
  unnamed_id_ = 0;
  statement_ids_.clear();
}

}  // namespace pgfresh::proxy
