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

constexpr size_t kFixed = 4;  // session user, current user, schemas, temporary objects

Row ordinary_row() {
  Row row = {"app", "app", "pg_catalog\x1fpublic", "f"};
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

TEST_CASE("scope: an ordinary probe") {
  const auto answer = read_probe("shop", ordinary_row());
  REQUIRE(answer);
  CHECK_FALSE(answer->opaque);
  CHECK(answer->scope.search_path == std::vector<std::string>{"pg_catalog", "public"});
  CHECK(answer->scope.reads_committed);
  CHECK_FALSE(answer->scope.cache_off);
  CHECK(answer->scope.max_age_ms == 0);
}

TEST_CASE("scope: an extension's setting counts as its default before the extension is loaded") {
  const auto bytes = [](const Row& row) { return read_probe("shop", row)->scope.bytes; };
  const std::string plain = bytes(ordinary_row());
  CHECK(bytes(with("pg_trgm.similarity_threshold", "0.3")) == plain);
  CHECK(bytes(with("ivfflat.probes", "1")) == plain);
  CHECK(bytes(with("pg_trgm.similarity_threshold", "0.4")) != plain);
  CHECK(bytes(with("pg_trgm.word_similarity_threshold", "0.3")) != plain);
}

TEST_CASE("scope: a row of another width is no answer") {
  Row row = ordinary_row();
  row.pop_back();
  CHECK_FALSE(read_probe("shop", row));
  CHECK_FALSE(read_probe("shop", {}));
}

TEST_CASE("scope: database, users and every keyed setting tell scopes apart") {
  const std::string bytes = read_probe("shop", ordinary_row())->scope.bytes;
  CHECK(read_probe("other", ordinary_row())->scope.bytes != bytes);
  for (size_t column = 0; column < ordinary_row().size(); ++column) {
    if (column == 3) continue;  // temporary objects make it opaque instead
    Row row = ordinary_row();
    row[column] = "something else";
    CAPTURE(column);
    CHECK(read_probe("shop", row)->scope.bytes != bytes);
  }
}

TEST_CASE("scope: fields do not run into each other") {
  Row one = ordinary_row();
  one[0] = "ab";
  one[1] = "c";
  Row other = ordinary_row();
  other[0] = "a";
  other[1] = "bc";
  CHECK(read_probe("shop", one)->scope.bytes != read_probe("shop", other)->scope.bytes);
}

TEST_CASE("scope: what makes a session opaque") {
  Row temporary = ordinary_row();
  temporary[3] = "t";
  CHECK(read_probe("shop", temporary)->opaque);
  temporary[3] = std::nullopt;
  CHECK(read_probe("shop", temporary)->opaque);
  CHECK(read_probe("shop", with("client_encoding", "SJIS"))->opaque);
  CHECK(read_probe("shop", with("standard_conforming_strings", "off"))->opaque);
  CHECK(read_probe("shop", with("pgfresh.inband", "off"))->opaque);
  CHECK_FALSE(read_probe("shop", with("client_encoding", "LATIN1"))->opaque);
}

TEST_CASE("scope: isolation, hints and ages") {
  CHECK_FALSE(read_probe("shop", with("default_transaction_isolation", "serializable"))
                  ->scope.reads_committed);
  CHECK(read_probe("shop", with("pgfresh.cache", "off"))->scope.cache_off);
  const auto age = [](std::string_view text) {
    return read_probe("shop", with("pgfresh.max_age", text))->scope.max_age_ms;
  };
  CHECK(age("2s") == 2000);
  CHECK(age("2") == 2000);
  CHECK(age("500ms") == 500);
  CHECK(age("1min") == 60'000);
  CHECK(age("1h") == 3'600'000);
  CHECK(age("") == 0);
}

TEST_CASE("scope: the probe asks for every keyed setting, and names no schema but pg_catalog") {
  for (const std::string_view name : keyed_settings()) {
    CHECK(probe_sql().find("'" + std::string(name) + "'") != std::string_view::npos);
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
  for (int i = 0; i < 25'000; ++i) {
    Scope scope;
    scope.bytes = std::to_string(i);
    const ScopeRef made = table.intern(std::move(scope));
    CHECK(made->id > last);
    last = made->id;
  }
  CHECK(table.size() <= 10'000);
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

}  // namespace
}  // namespace pgfresh::proxy
