#include "proxy/scope.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgfresh::proxy {
namespace {

using Row = std::vector<std::optional<std::string_view>>;

// Session user, current user, schemas, temporary objects, server, statement_timeout, and the limits
// for an idle session, outside a block and in one.
constexpr size_t kFixed = 8;

Row ordinary_row() {
  Row row = {"app", "app", "pg_catalog\x1fpublic", "f", "1", "5s", "0", "1min"};
  for (const std::string_view name : keyed_settings()) {
    if (name == "client_encoding") {
      row.emplace_back("UTF8");
    } else if (name == "standard_conforming_strings") {
      row.emplace_back("on");
    } else if (name == "pgfresh.inband") {
      row.emplace_back("on");
    } else if (name == "default_transaction_isolation") {
      row.emplace_back("read committed");
    } else {
      row.emplace_back(std::nullopt);
    }
  }
  return row;
}

Row with(std::string_view name, std::string_view value) {
  Row row = ordinary_row();
  const auto& names = keyed_settings();
  const auto at = std::find(names.begin(), names.end(), name) - names.begin();
  row.at(kFixed + static_cast<size_t>(at)) = value;
  return row;
}

std::optional<ProbeAnswer> probe(std::string_view database, const Row& row) {
  return read_probe(database, row, {});
}

TEST_CASE("scope: an ordinary probe") {
  const auto answer = probe("shop", ordinary_row());
  REQUIRE(answer);
  CHECK_FALSE(answer->opaque);
  CHECK(answer->scope.search_path == std::vector<std::string>{"pg_catalog", "public"});
  CHECK(answer->scope.reads_committed);
  CHECK_FALSE(answer->scope.cache_off);
  CHECK(answer->scope.max_age_ms == 0);
  CHECK(answer->statement_timeout_ms == 5000);
  CHECK(answer->idle_limit_ms == 0);
  CHECK(answer->idle_in_block_limit_ms == 60'000);
}

TEST_CASE("scope: time limits, as they are shown and set") {
  CHECK(read_timeout_ms("0") == 0);
  CHECK(read_timeout_ms("250ms") == 250);
  CHECK(read_timeout_ms("250") == 250);
  CHECK(read_timeout_ms("2s") == 2000);
  CHECK(read_timeout_ms("5min") == 300'000);
  CHECK(read_timeout_ms("1h") == 3'600'000);
  CHECK(read_timeout_ms("1d") == 86'400'000);
  CHECK_FALSE(read_timeout_ms("1.5s"));  // not understood
}

TEST_CASE("scope: an extension's setting counts as its default before the extension is loaded") {
  const auto bytes = [](const Row& row) { return probe("shop", row)->scope.bytes; };
  const std::string plain = bytes(ordinary_row());
  CHECK(bytes(with("pg_trgm.similarity_threshold", "0.3")) == plain);
  CHECK(bytes(with("ivfflat.probes", "1")) == plain);
  CHECK(bytes(with("pg_trgm.similarity_threshold", "0.4")) != plain);
  CHECK(bytes(with("pg_trgm.word_similarity_threshold", "0.3")) != plain);
}

TEST_CASE("scope: a row of another width is no answer") {
  Row row = ordinary_row();
  row.pop_back();
  CHECK_FALSE(probe("shop", row));
  CHECK_FALSE(probe("shop", {}));
}

TEST_CASE("scope: database, users and every keyed setting tell scopes apart") {
  const std::string bytes = probe("shop", ordinary_row())->scope.bytes;
  CHECK(probe("other", ordinary_row())->scope.bytes != bytes);
  for (size_t column = 0; column < ordinary_row().size(); ++column) {
    if (column == 3) continue;                     // temporary objects make it opaque instead
    if (column == 4) continue;                     // the server is compared with the feed's
    if (column >= 5 && column < kFixed) continue;  // time limits change no answer
    Row row = ordinary_row();
    row[column] = "something else";
    CAPTURE(column);
    CHECK(probe("shop", row)->scope.bytes != bytes);
  }
}

TEST_CASE("scope: fields do not run into each other") {
  Row one = ordinary_row();
  one[0] = "ab";
  one[1] = "c";
  Row other = ordinary_row();
  other[0] = "a";
  other[1] = "bc";
  CHECK(probe("shop", one)->scope.bytes != probe("shop", other)->scope.bytes);
}

TEST_CASE("scope: what makes a session opaque") {
  Row temporary = ordinary_row();
  temporary[3] = "t";
  CHECK(probe("shop", temporary)->opaque);
  temporary[3] = std::nullopt;
  CHECK(probe("shop", temporary)->opaque);
  CHECK(probe("shop", with("client_encoding", "SJIS"))->opaque);
  CHECK(probe("shop", with("standard_conforming_strings", "off"))->opaque);
  CHECK(probe("shop", with("pgfresh.inband", "off"))->opaque);
  CHECK_FALSE(probe("shop", with("client_encoding", "LATIN1"))->opaque);
}

TEST_CASE("scope: isolation, hints and ages") {
  CHECK_FALSE(
      probe("shop", with("default_transaction_isolation", "serializable"))->scope.reads_committed);
  for (const char* off : {"off", "OFF", "of", "false", "f", "no", "n", "0", "o", "offside", "2"}) {
    CHECK(probe("shop", with("pgfresh.cache", off))->scope.cache_off);
  }
  for (const char* on : {"on", "ON", "", "1", "true", "t", "yes"}) {
    CHECK_FALSE(probe("shop", with("pgfresh.cache", on))->scope.cache_off);
  }
  const auto age = [](std::string_view text) {
    return probe("shop", with("pgfresh.max_age", text))->scope.max_age_ms;
  };
  CHECK(age("2s") == 2000);
  CHECK(age("2") == 2000);
  CHECK(age("500ms") == 500);
  CHECK(age("1min") == 60'000);
  CHECK(age("1h") == 3'600'000);
  CHECK(age("") == 0);
  CHECK_FALSE(probe("shop", with("pgfresh.max_age", "2s"))->scope.cache_off);
  CHECK_FALSE(probe("shop", with("pgfresh.max_age", ""))->scope.cache_off);
  for (const char* unread : {"soon", "2 weeks", "-1s"}) {
    CHECK(probe("shop", with("pgfresh.max_age", unread))->scope.cache_off);
  }
}

TEST_CASE("scope: the probe asks for every keyed setting, and names no schema but pg_catalog") {
  for (const std::string_view name : keyed_settings()) {
    CHECK(probe_sql({}).find("'" + std::string(name) + "'") != std::string_view::npos);
    CHECK(is_keyed_setting(name));
  }
  CHECK_FALSE(is_keyed_setting("application_name"));
}

TEST_CASE("scope table: equal bytes share a scope, others do not") {
  ScopeTable table;
  Scope one;
  one.bytes = "a";
  Scope other;
  other.bytes = "b";
  const ScopeRef first = table.intern(one);
  CHECK(table.intern(one) == first);
  CHECK(table.intern(other)->id != first->id);
  CHECK(table.size() == 2);
}

TEST_CASE("scope table: bounded, and an id is never used twice") {
  ScopeTable table;
  uint64_t last = 0;
  for (int i = 0; i < 120'000; ++i) {
    Scope scope;
    scope.bytes = std::to_string(i);
    const ScopeRef made = table.intern(std::move(scope));
    CHECK(made->id > last);
    last = made->id;
  }
  CHECK(table.size() <= 50'000);
}

TEST_CASE("scope tracker: what is known, until it is doubted or the epoch changes") {
  ScopeTracker tracker;
  CHECK(tracker.needs_probe(1));
  CHECK(tracker.known(1) == nullptr);
  tracker.probe_sent(1, ScopeTracker::Place::kIdle);
  CHECK_FALSE(tracker.needs_probe(1));
  tracker.probe_answered(std::make_shared<const Scope>());
  CHECK(tracker.known(1) != nullptr);
  CHECK(tracker.known(2) == nullptr);
  CHECK(tracker.needs_probe(2));
  tracker.doubt();
  CHECK(tracker.known(1) == nullptr);
  CHECK(tracker.needs_probe(1));
}

TEST_CASE("scope tracker: an answer that was doubted while it was on its way is not believed") {
  ScopeTracker tracker;
  tracker.probe_sent(1, ScopeTracker::Place::kIdle);
  tracker.doubt();
  tracker.probe_answered(std::make_shared<const Scope>());
  CHECK(tracker.known(1) == nullptr);
  CHECK(tracker.needs_probe(1));
}

TEST_CASE("scope tracker: opaque until something changes") {
  ScopeTracker tracker;
  tracker.probe_sent(1, ScopeTracker::Place::kIdle);
  tracker.probe_answered_opaque();
  CHECK(tracker.known(1) == nullptr);
  CHECK_FALSE(tracker.needs_probe(1));
  CHECK(tracker.reason() == Reason::kSessionOpaque);
  tracker.doubt();
  CHECK(tracker.needs_probe(1));
}

// ── Custom settings ──────────────────────────────────────────────────────────────────────────────

Row with_custom(std::vector<std::optional<std::string_view>> values) {
  Row row = ordinary_row();
  row.insert(row.end(), values.begin(), values.end());
  return row;
}

TEST_CASE("scope: custom settings are asked for, and tell scopes apart") {
  const std::vector<std::string> names = {"app.role", "app.tenant"};
  CHECK(probe_sql(names).find("current_setting('app.tenant', true)") != std::string::npos);
  CHECK(is_probe(probe_sql(names)));
  CHECK_FALSE(is_probe("SELECT session_user, current_user"));
  const auto bytes = [&](std::optional<std::string_view> role,
                         std::optional<std::string_view> tenant) {
    return read_probe("shop", with_custom({role, tenant}), names)->scope.bytes;
  };
  CHECK(bytes("a", "b") != bytes("b", "a"));
  CHECK(bytes("a", std::nullopt) != bytes(std::nullopt, "a"));
  CHECK(bytes("", std::nullopt) != bytes(std::nullopt, std::nullopt));  // as current_setting() says
  CHECK(bytes(std::nullopt, std::nullopt) == probe("shop", ordinary_row())->scope.bytes);
  CHECK_FALSE(read_probe("shop", with_custom({"a"}), names));
}

TEST_CASE("scope: a followed setting comes to the same bytes as a probed one") {
  const std::vector<std::string> names = {"app.role", "app.tenant"};
  const Scope none = read_probe("shop", with_custom({std::nullopt, std::nullopt}), names)->scope;
  const Scope both = read_probe("shop", with_custom({"x", "7"}), names)->scope;
  const Scope one = with_settings(none, {{"app.tenant", "6"}});
  CHECK(with_settings(one, {{"app.role", "x"}, {"app.tenant", "7"}}).bytes == both.bytes);
  CHECK(one.bytes != both.bytes);
  CHECK(one.parse_bytes == both.parse_bytes);
  ScopeTable table;
  const ScopeRef first = table.intern(one);
  const ScopeRef second = table.intern(both);
  CHECK(first->id != second->id);
  CHECK(first->parse_id == second->parse_id);
}

TEST_CASE("scope: the names in a startup packet's options") {
  using Names = std::vector<std::string>;
  CHECK(custom_names_of_options("-c app.tenant=7") == Names{"app.tenant"});
  CHECK(custom_names_of_options("  -cApp.Tenant=a\\ b\t--my-app.user-id=3 -c work_mem=1MB") ==
        Names{"app.tenant", "my_app.user_id"});
  CHECK(custom_names_of_options("-c").empty());
  CHECK(custom_names_of_options("-B 7 -c geqo=off app.x=1").empty());
}

ScopeRef a_scope(uint64_t id) {
  Scope scope;
  scope.id = id;
  return std::make_shared<const Scope>(scope);
}

// In a session whose scope is 1.
ScopeTracker a_tracker() {
  ScopeTracker tracker;
  tracker.probe_sent(1, ScopeTracker::Place::kIdle);
  tracker.probe_answered(a_scope(1));
  return tracker;
}

uint64_t known_id(const ScopeTracker& tracker) {
  const Scope* scope = tracker.known(1);
  return scope == nullptr ? 0 : scope->id;
}

using End = ScopeTracker::End;

TEST_CASE("following: outside a block, what holds after the commit holds") {
  ScopeTable scopes;
  ScopeTracker tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  CHECK(known_id(tracker) == 0);
  CHECK_FALSE(tracker.needs_probe(1));
  tracker.ready('I', 7, scopes);
  CHECK(known_id(tracker) == 3);
}

TEST_CASE("following: an error outside a block changes nothing") {
  ScopeTable scopes;
  ScopeTracker tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  tracker.error_seen();
  tracker.ready('I', 7, scopes);
  CHECK(known_id(tracker) == 1);
}

TEST_CASE("following: in a block, until its end") {
  ScopeTable scopes;
  for (const End end : {End::kCommit, End::kRollback, End::kNone}) {
    ScopeTracker tracker = a_tracker();
    tracker.follow(a_scope(2), a_scope(1), 7);  // SET LOCAL
    tracker.ready('T', 6, scopes);              // of the BEGIN in front of it
    CHECK(known_id(tracker) == 0);
    tracker.ready('T', 7, scopes);
    CHECK(known_id(tracker) == 2);
    tracker.follow(a_scope(4), a_scope(3), 8);  // SET
    tracker.ready('T', 8, scopes);
    CHECK(known_id(tracker) == 4);
    tracker.end_seen(end);
    tracker.ready('I', 9, scopes);
    CHECK(known_id(tracker) == (end == End::kCommit ? 3 : end == End::kRollback ? 1 : 0));
    CHECK(tracker.needs_probe(1) == (end == End::kNone));
  }
}

TEST_CASE("following: a failed block that is rolled back") {
  ScopeTable scopes;
  ScopeTracker tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  tracker.error_seen();
  tracker.ready('E', 7, scopes);
  CHECK(known_id(tracker) == 0);
  tracker.end_seen(End::kRollback);
  tracker.ready('I', 8, scopes);
  CHECK(known_id(tracker) == 1);
}

TEST_CASE("following: what else is sent behind it, savepoints and probes make it doubtful") {
  ScopeTable scopes;
  ScopeTracker tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  tracker.sent_more_than_reads();
  tracker.ready('I', 7, scopes);
  CHECK(tracker.needs_probe(1));

  tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  tracker.ready('T', 7, scopes);
  tracker.rolled_back_to_savepoint();
  CHECK(tracker.needs_probe(1));

  tracker = a_tracker();
  tracker.follow(a_scope(2), a_scope(3), 7);
  tracker.ready('T', 7, scopes);
  tracker.doubt();
  tracker.probe_sent(1, ScopeTracker::Place::kBlock);
  tracker.probe_answered(a_scope(4));
  CHECK(known_id(tracker) == 4);
  tracker.end_seen(End::kCommit);
  tracker.ready('I', 8, scopes);
  CHECK(tracker.needs_probe(1));
}

TEST_CASE("following: another block may have begun where the one before it ended") {
  ScopeTable scopes;
  for (const End end : {End::kCommit, End::kRollback}) {
    ScopeTracker tracker = a_tracker();
    tracker.follow(a_scope(2), a_scope(1), 7);
    tracker.ready('T', 7, scopes);
    tracker.end_seen(end);
    tracker.ready('T', 9, scopes);
    CHECK(tracker.needs_probe(1));
  }
}

TEST_CASE("following: what was probed in a block is doubted when its end is sent") {
  ScopeTable scopes;
  ScopeTracker tracker;
  tracker.probe_sent(1, ScopeTracker::Place::kBlock);
  tracker.probe_answered(a_scope(1));
  tracker.sent_end();
  CHECK(tracker.needs_probe(1));

  tracker = a_tracker();
  tracker.sent_end();
  CHECK(known_id(tracker) == 1);
  tracker.end_seen(End::kCommit);
  tracker.ready('T', 7, scopes);  // nothing was set in it
  CHECK(known_id(tracker) == 1);
}

ScopeRef a_scope(ScopeTable& scopes, std::vector<CustomSetting> custom) {
  return scopes.intern(with_settings({}, custom));
}

TEST_CASE("following: a name outlives its value") {
  using Custom = std::vector<CustomSetting>;
  ScopeTable scopes;
  const auto follow_local = [&](ScopeTracker& tracker) {
    tracker.probe_sent(1, ScopeTracker::Place::kIdle);
    tracker.probe_answered(a_scope(scopes, {{"app.c", "c"}}));
    const ScopeRef later = a_scope(scopes, {{"app.b", "b"}, {"app.c", "c"}});
    tracker.follow(a_scope(scopes, {{"app.a", "a"}, {"app.b", "b"}, {"app.c", "d"}}), later, 7);
  };
  for (const End end : {End::kCommit, End::kRollback}) {
    ScopeTracker tracker;
    follow_local(tracker);
    tracker.ready('T', 7, scopes);
    tracker.end_seen(end);
    tracker.ready('I', 8, scopes);
    REQUIRE(tracker.known(1) != nullptr);
    const std::string b = end == End::kCommit ? "b" : "";
    CHECK(tracker.known(1)->custom == Custom{{"app.a", ""}, {"app.b", b}, {"app.c", "c"}});
    CHECK(tracker.known(1)->id == a_scope(scopes, tracker.known(1)->custom)->id);
  }
  ScopeTracker failed;  // before or behind it
  follow_local(failed);
  failed.error_seen();
  failed.ready('I', 7, scopes);
  CHECK(failed.needs_probe(1));

  ScopeTracker here;
  here.probe_sent(1, ScopeTracker::Place::kIdle);
  here.probe_answered(a_scope(scopes, {{"app.a", ""}}));
  CHECK_FALSE(here.leaves_names());
  here.follow_here(a_scope(scopes, {{"app.a", "a"}}), here.last_known());
  CHECK_FALSE(here.leaves_names());
  here.block_ended_here(End::kCommit);
  CHECK(here.known(1)->custom == Custom{{"app.a", ""}});
  here.follow_here(a_scope(scopes, {{"app.a", ""}, {"app.b", "b"}}), here.last_known());
  CHECK(here.leaves_names());
}

TEST_CASE("names spoken of are few") {
  ScopeTracker tracker;
  for (int i = 0; i < 3; ++i) tracker.speak_of("app.a");
  CHECK(tracker.names_spoken_of().size() == 1);
  for (int i = 0; i < 40; ++i) tracker.speak_of("app.n" + std::to_string(i));
  CHECK(tracker.names_spoken_of().size() == 16);
  CHECK(tracker.crowded());
}

}  // namespace
}  // namespace pgfresh::proxy
