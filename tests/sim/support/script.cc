#include "script.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "world.h"

namespace pgfresh::sim {
namespace {

constexpr size_t kActsMax = 300;
constexpr size_t kClients = 2;
constexpr int64_t kNoticeRow = 4;
constexpr int64_t kStatusRow = 5;
constexpr int64_t kErrorRow = 6;

constexpr std::string_view kReads[] = {
    "SELECT v FROM bench WHERE id = 1",   "SELECT v FROM bench WHERE id = 2",
    "SELECT v FROM bench WHERE id = 3",   "SELECT v FROM side WHERE id = 1",
    "SELECT count(*), sum(v) FROM bench", "SELECT id, v FROM bench ORDER BY id",
    "SELECT v FROM bench WHERE id = 9",   "SELECT pad FROM bench WHERE id = 1",
    "SELECT v FROM bench WHERE id = $1",
};
constexpr std::string_view kOthers[] = {
    "UPDATE bench SET v = 100 WHERE id = 1",
    "UPDATE bench SET v = 101 WHERE id = 2",
    "UPDATE bench SET v = 102",
    "UPDATE side SET v = 103 WHERE id = 1",
    "UPDATE bench SET v = $1 WHERE id = 3",
    "INSERT INTO bench VALUES (9, 9)",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "START TRANSACTION",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SELECT v FROM bench WHERE id = 4",  // with a notice
    "SELECT v FROM bench WHERE id = 5",  // with a ParameterStatus
    "SELECT v FROM bench WHERE id = 6",  // fails
    "SELECT v FROM bench WHERE id = 1 FOR UPDATE",
    "SELECT nonsense",
    "SET datestyle = german",
    "RESET datestyle",
    "SET timezone = x",
    "SET default_transaction_isolation = serializable",
    "RESET default_transaction_isolation",
    "SHOW datestyle",
    "DEALLOCATE ALL",
    "DEALLOCATE a",
    "DISCARD ALL",
    "COPY bench from stdin",
    "COPY bench to stdout",
    "",
    ";",
    "/* pgfresh: off */ SELECT v FROM bench WHERE id = 1",
    "SELECT v FROM bench WHERE id = 1; SELECT v FROM bench WHERE id = 2",
    "UPDATE bench SET v = 104 WHERE id = 1; SELECT v FROM bench WHERE id = 1",
    "BEGIN; UPDATE bench SET v = 105 WHERE id = 2; SELECT v FROM bench WHERE id = 2",
    "UPDATE bench SET v = 106 WHERE id = 3; SELECT v FROM bench WHERE id = 6",
};
constexpr std::string_view kNames[] = {"", "a", "b"};
constexpr std::string_view kPortals[] = {"", "", "", "p"};
// What the third client does: committed at once, on rows of their own as far as locks go.
constexpr std::string_view kDirectWrites[] = {
    "UPDATE bench SET v = 201 WHERE id = 1",
    "UPDATE bench SET v = 202 WHERE id = 2",
    "UPDATE bench SET v = 203",
    "UPDATE side SET v = 204 WHERE id = 1",
};
constexpr std::string_view kPayloads[] = {
    "",
    "1",
    "1 5 w 16402",
    "1 7 r 16402 1 1 1 1:1",
    "1 9 r 16402 1 1 64 1:1",
    "1 5 w 99",
    "1 1002 s",
    "2 5 s",
    "1 18446744073709551615 w 16402",
};
constexpr std::string_view kSchemaChange = "ALTER TABLE side ADD x int";

// The input, taken byte by byte; behind its end come zeroes.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  [[nodiscard]] size_t below(size_t count) {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    return byte % count;
  }
  template <size_t N>
  [[nodiscard]] std::string_view one_of(const std::string_view (&texts)[N]) {
    return texts[below(N)];
  }
  // Mostly reads, or there would never be a hit.
  [[nodiscard]] std::string_view text() {
    const size_t choice = below(64);
    if (choice == 63) return kSchemaChange;
    return choice < 44 ? one_of(kReads) : one_of(kOthers);
  }

 private:
  std::string_view rest_;
};

NodeOptions options_for(proxy::CacheMode mode) {
  NodeOptions options;
  options.settings.cache_mode = mode;
  return options;
}

// In a block that has failed, PostgreSQL takes nothing but its end, and what it says to the rest
// depends on whether it has been told of a statement. There only rows and ends are compared.
std::string raw(const WireClient::Message& message, char status) {
  const bool counts = message.type == 'D' || message.type == 'C' || message.type == 'Z';
  if (status == 'E' && !counts) return {};
  return message.type + message.body + '\n';
}

// Drops what both begin with. False: they go on differently.
bool take_common(std::string& one, std::string& other) {
  const auto [end, other_end] = std::mismatch(one.begin(), one.end(), other.begin(), other.end());
  const bool same = end == one.end() || other_end == other.end();
  const auto count = static_cast<size_t>(end - one.begin());
  one.erase(0, count);
  other.erase(0, count);
  return same;
}

class Stage {
 public:
  explicit Stage(proxy::CacheMode mode) : world_(options_for(mode)) {
    world_.postgres.set_logging(false);
    FakeDatabase& database = world_.postgres.database();
    for (const int64_t row : {kNoticeRow, kStatusRow, kErrorRow}) database.put(row, row);
    database.set_quirk(kNoticeRow, Quirk::kNotice);
    database.set_quirk(kStatusRow, Quirk::kParameterStatus);
    database.set_quirk(kErrorRow, Quirk::kError);
    database.put(1, 7, "side");
    direct_ = &world_.direct_client();
    direct_->startup();
    for (size_t who = 0; who < kClients; ++who) log_in(who);
  }

  // One act, and everything that follows from it. What it was, in words.
  std::string act(Input& input);
  // Everybody says what ends all segments.
  void end();
  // What each client has heard and nobody has taken yet, raw; the last is the one around the proxy.
  [[nodiscard]] std::string& heard(size_t who) { return heard_[who]; }
  // What was heard since the last call, in words.
  [[nodiscard]] std::string told() { return std::exchange(told_, {}); }

  void add_to(ScriptCoverage& coverage) const;
  // A hit that nobody may be given: the session was in a failed block.
  [[nodiscard]] const std::string& complaint() const { return complaint_; }

 private:
  void log_in(size_t who);
  std::string one_query(Input& input, WireClient& client);
  std::string one_execution(Input& input, WireClient& client);
  std::string one_block(Input& input, size_t who);
  std::string any_messages(Input& input, WireClient& client);
  std::string any_message(Input& input, WireClient& client);
  [[nodiscard]] std::string some_name(Input& input) const;
  std::string write_directly(Input& input);
  std::string forge(Input& input);
  std::string turn_the_feed();
  void choose_packets(Input& input);
  void recover(size_t who);
  void let_happen(size_t who);

  World world_;
  WireClient* direct_ = nullptr;
  std::array<WireClient*, kClients> clients_{};
  std::array<char, kClients> status_{'I', 'I'};
  // An error has come, and no unnamed statement been made since: see the head of script.h.
  std::array<bool, kClients> doubtful_{};
  std::array<bool, kClients> skipping_{};  // … nor a ReadyForQuery
  std::array<int, kClients> acts_in_failure_{};
  size_t speaking_ = 0;
  bool bound_ = false;  // the unnamed portal, in these messages
  bool feed_held_ = false;
  int acts_while_held_ = 0;
  uint64_t names_ = 0;
  std::array<std::string, kClients + 1> heard_;
  std::string told_;
  std::string complaint_;
  uint64_t errors_ = 0;
  uint64_t ended_ = 0;
  uint64_t hits_in_blocks_ = 0;
};

void Stage::log_in(size_t who) {
  clients_[who] = &world_.session();
  status_[who] = 'I';
  doubtful_[who] = skipping_[who] = false;
}

std::string Stage::one_query(Input& input, WireClient& client) {
  const std::string_view text = input.text();
  client.query(text);
  return "query " + std::string(text);
}

std::string Stage::one_execution(Input& input, WireClient& client) {
  std::string_view name = input.one_of(kNames);
  const size_t form = input.below(16);
  if ((form & 1U) != 0 && name.empty() && doubtful_[speaking_]) name = "a";
  std::string did = "execution of '" + std::string(name) + "'";
  if ((form & 1U) == 0) {
    const std::string_view text = input.text();
    client.parse(name, text);
    did += " = " + std::string(text);
  }
  const std::string value = std::to_string(1 + input.below(3));
  if ((form & 8U) != 0) {
    client.describe('S', name);
    did += " described";
  }
  client.bind("", name, {value},
              (form & 2U) != 0 ? WireClient::Format::kBinary : WireClient::Format::kText);
  if ((form & 4U) != 0) client.describe('P', "");
  client.execute().sync();
  return did;
}

// A block that reads: none of it need reach PostgreSQL.
std::string Stage::one_block(Input& input, size_t who) {
  std::string did = "block";
  const std::string_view end = input.below(2) == 0 ? "COMMIT" : "ROLLBACK";
  const std::string_view texts[] = {"BEGIN", input.one_of(kReads), input.one_of(kReads), end};
  for (const std::string_view text : texts) {
    clients_[who]->query(text);
    let_happen(who);
    did += " " + std::string(text) + ";";
  }
  return did;
}

std::string Stage::any_messages(Input& input, WireClient& client) {
  std::string did = "messages";
  bound_ = false;
  for (size_t count = 1 + input.below(8); count > 0; --count)
    did += " " + any_message(input, client);
  return did;
}

std::string Stage::some_name(Input& input) const {
  if (input.below(4) != 0 || names_ == 0) return std::string(input.one_of(kNames));
  return "n" + std::to_string(names_);
}

std::string Stage::any_message(Input& input, WireClient& client) {
  switch (input.below(16)) {
    case 0:
    case 1: {
      // A new name each time: see the head of script.h.
      const std::string name = input.below(3) == 0 ? "n" + std::to_string(++names_) : "";
      const std::string_view text = input.text();
      client.parse(name, text);
      return "P(" + name + "=" + std::string(text) + ")";
    }
    case 2:
    case 3: {
      const std::string_view portal = input.one_of(kPortals);
      std::string name = some_name(input);
      if (name.empty() && doubtful_[speaking_]) name = "a";
      bound_ = bound_ || portal.empty();
      client.bind(portal, name, {std::to_string(1 + input.below(3))});
      return "B(" + std::string(portal) + "," + name + ")";
    }
    case 4: {
      const bool portal = input.below(2) == 0;
      std::string name(portal ? input.one_of(kPortals) : input.one_of(kNames));
      if (!portal && name.empty() && doubtful_[speaking_]) name = "a";
      // Of a portal executed long ago nobody asks what it looks like; of a deferred BEGIN's pgfresh
      // could not say.
      if (portal && name.empty() && !bound_) name = "p";
      client.describe(portal ? 'P' : 'S', name);
      return std::string("D(") + (portal ? 'P' : 'S') + name + ")";
    }
    case 5:
    case 6:
    case 7: {
      std::string_view portal = input.one_of(kPortals);
      if (portal.empty() && !bound_) portal = "p";  // as with Describe
      const size_t limit = input.below(4) == 3 ? 1 : 0;
      client.execute(portal, static_cast<uint32_t>(limit));
      return "E(" + std::string(portal) + (limit != 0 ? ",1)" : ")");
    }
    case 8: {
      const std::string_view portal = input.one_of(kPortals);
      client.close('P', portal);
      return "C(P" + std::string(portal) + ")";
    }
    case 9:
    case 10:
      client.sync();
      return "S";
    case 11:
      client.flush_please();
      return "H";
    case 12: {
      const std::string_view text = input.text();
      client.query(text);
      return "Q(" + std::string(text) + ")";
    }
    case 13:
      client.copy_data("8\t8\n");
      return "d";
    case 14:
      client.copy_done();
      return "c";
    default:
      client.copy_fail("no");
      return "f";
  }
}

std::string Stage::write_directly(Input& input) {
  const std::string_view text = input.below(32) == 31 ? kSchemaChange : input.one_of(kDirectWrites);
  if (feed_held_) return "nothing";
  direct_->query(text);
  world_.run();
  heard_[kClients] += direct_->take() + '\n';
  return "direct " + std::string(text);
}

// Anybody may NOTIFY anything, and raise an INFO that looks like ours.
std::string Stage::forge(Input& input) {
  std::string payload(input.one_of(kPayloads));
  for (size_t more = input.below(4); more > 0; --more) {
    payload += static_cast<char>(1 + input.below(255));
  }
  if (input.below(2) == 0) {
    world_.postgres.notify({payload});
    return "forged notification " + payload;
  }
  for (const auto& backend : world_.postgres.backends()) {
    // Not into a segment: the notice would flush what PostgreSQL has answered so far, and what the
    // proxy holds back of the segment cannot be answered yet.
    if (backend->alive() && backend->logged_in() && backend->has_said_all()) {
      backend->send_pf001(payload);
    }
  }
  world_.run();
  direct_->forget();  // who gets it unhidden
  return "forged notice " + payload;
}

std::string Stage::turn_the_feed() {
  feed_held_ = !feed_held_;
  acts_while_held_ = 0;
  if (feed_held_) {
    world_.postgres.hold_control(true, false);
    return "feed held";
  }
  world_.postgres.release_control();
  return "feed let go";
}

// From here on bytes arrive in pieces of these sizes, in turn, at both ends of everything.
void Stage::choose_packets(Input& input) {
  auto sizes = std::make_shared<std::vector<size_t>>();
  for (size_t count = 1 + input.below(4); count > 0; --count) {
    sizes->push_back(1 + input.below(40));
  }
  const auto next = [sizes, at = size_t{0}]() mutable { return (*sizes)[at++ % sizes->size()]; };
  for (size_t side = 0; side < 2; ++side) {
    for (const auto& pipe : world_.pipes) pipe->set_chunking(side, next);
    for (const auto& backend : world_.postgres.backends()) {
      backend->pipe()->set_chunking(side, next);
    }
  }
}

void Stage::let_happen(size_t who) {
  const uint64_t hits = world_.hits();
  const char before = status_[who];
  world_.run();
  for (size_t i = 0; i < kClients; ++i) {
    for (const WireClient::Message& message : clients_[i]->messages()) {
      if (message.type == 'Z') {
        status_[i] = message.body.front();
        skipping_[i] = false;
      }
      if (message.type == 'E') doubtful_[i] = skipping_[i] = true;
      errors_ += message.type == 'E' ? 1U : 0U;
      heard_[i] += raw(message, status_[i]);
      told_ += std::to_string(i) + ":" + sim::told(message) + " ";
    }
    clients_[i]->forget();
  }
  const bool hit = world_.hits() > hits;
  if (hit && before == 'E' && status_[who] == 'E') complaint_ = "a hit in a failed block";
  if (hit && before == 'T') ++hits_in_blocks_;
}

// As every driver does that has heard an error: what it needs it makes anew, and after a while it
// gives up a block that has failed.
void Stage::recover(size_t who) {
  if (status_[who] == 'E' && !skipping_[who] && ++acts_in_failure_[who] > 3) {
    clients_[who]->query("ROLLBACK");
    let_happen(who);
  }
  if (status_[who] != 'E') acts_in_failure_[who] = 0;
  if (!doubtful_[who] || skipping_[who] || status_[who] == 'E') return;
  clients_[who]->parse("", kReads[0]).sync();
  let_happen(who);
  doubtful_[who] = false;
}

std::string Stage::act(Input& input) {
  const size_t who = input.below(kClients);
  speaking_ = who;
  if (clients_[who]->ended()) {
    ++ended_;
    log_in(who);
  }
  recover(who);
  WireClient& client = *clients_[who];
  std::string did = std::to_string(who) + " ";
  switch (input.below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      did += one_query(input, client);
      break;
    case 5:
    case 6:
      did += one_execution(input, client);
      break;
    case 7:
      did += one_block(input, who);
      break;
    case 8:
    case 9:
    case 10:
      // In a failed block one thing at a time: where PostgreSQL has not been told of a statement,
      // it refuses what it would otherwise describe, and skips what stands behind.
      did += status_[who] == 'E' ? one_query(input, client) : any_messages(input, client);
      break;
    case 11:
      did = write_directly(input);
      break;
    case 12:
      did = turn_the_feed();
      break;
    case 13:
      world_.advance_ms(static_cast<int64_t>(1 + input.below(100)) * 10);
      did = "time passes";
      break;
    case 14:
      choose_packets(input);
      did = "packets";
      break;
    default:
      if (input.below(4) != 0) {
        did = forge(input);
        break;
      }
      client.disconnect();
      world_.run();
      log_in(who);
      did += "comes back";
  }
  let_happen(who);
  if (feed_held_ && ++acts_while_held_ > 4) did += ", " + turn_the_feed();
  world_.advance_ms(2);
  return did;
}

void Stage::end() {
  for (size_t who = 0; who < kClients; ++who) {
    if (clients_[who]->ended()) continue;
    clients_[who]->copy_fail("over").sync();
    let_happen(who);
  }
}

void Stage::add_to(ScriptCoverage& coverage) const {
  coverage.statements += world_.count(Counter::kQueries);
  coverage.hits += world_.hits();
  coverage.hits_in_blocks += hits_in_blocks_;
  coverage.fills += world_.count(Counter::kFills);
  coverage.notices += world_.count(Counter::kNotices);
  coverage.bypassed_open += world_.proxy.bypasses(Reason::kOpen);
  coverage.deferred_begins += world_.count(Counter::kLocalBlocks);
  coverage.errors_heard += errors_;
  coverage.ended_sessions += ended_;
}

}  // namespace

std::string find_difference(std::string_view script, ScriptCoverage& coverage) {
  Stage cached(proxy::CacheMode::kOn);
  Stage plain(proxy::CacheMode::kOff);
  Input input(script);
  std::string story;
  std::string found;
  for (size_t acts = 0; acts < kActsMax && !input.empty() && found.empty(); ++acts) {
    ++coverage.acts;
    Input same = input;
    const std::string did = cached.act(input);
    static_cast<void>(plain.act(same));
    story += "\n  " + did + "\n    -> " + cached.told() + "\n    (without: " + plain.told() + ")";
    found = cached.complaint();
    // What is answered from memory may come before PostgreSQL would have flushed it.
    for (size_t who = 0; who <= kClients; ++who) {
      if (take_common(cached.heard(who), plain.heard(who))) continue;
      found = "these differ";
    }
  }
  cached.end();
  plain.end();
  for (size_t who = 0; who <= kClients && found.empty(); ++who) {
    if (cached.heard(who) == plain.heard(who)) continue;
    found = "at the end\n    -> " + cached.told() + "\n    (without: " + plain.told() + ")";
  }
  cached.add_to(coverage);
  return found.empty() ? found : story + "\n" + found;
}

}  // namespace pgfresh::sim
