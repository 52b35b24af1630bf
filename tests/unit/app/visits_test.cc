#include "app/visits.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "manual_loop.h"
#include "scripted_sql.h"

namespace pgfresh::app {
namespace {

struct Stage {
  sim::ManualTime time;
  sim::ManualLoop loop{time};
  sim::ScriptedSql sql{loop};
  Visits visits{loop, sql};
  std::vector<std::string> heard;

  void ask(const std::string& database) {
    visits.ask(database, "SELECT 1", [this, database](const SqlResult& result) {
      heard.push_back(database + ": " +
                      (result.error.empty() ? result.rows.rows[0][0].value() : result.error));
    });
  }
};

TEST_CASE("a visit connects, asks, answers, and goes") {
  Stage stage;
  stage.ask("care");
  stage.time.settle();
  REQUIRE(stage.sql.connections().size() == 1);
  const auto connection = stage.sql.connections()[0];
  CHECK(connection->database() == "care");
  connection->accept();
  stage.time.settle();
  CHECK(connection->pending() == "SELECT 1");
  connection->answer(sim::sql_value("7"));
  stage.time.settle();
  CHECK(stage.heard == std::vector<std::string>{"care: 7"});
  CHECK_FALSE(connection->open());
}

TEST_CASE("a refusal, a loss and silence are told, each once") {
  Stage stage;
  stage.ask("refused");
  stage.ask("lost");
  stage.ask("silent");
  stage.time.settle();
  stage.sql.connections()[0]->lose("no such database");
  stage.sql.connections()[1]->accept();
  stage.time.settle();
  stage.sql.connections()[1]->lose("gone");
  stage.time.settle();
  CHECK(stage.heard == std::vector<std::string>{"refused: no such database", "lost: gone"});
  stage.time.advance_ms(Visits::kPatienceMs + 1);
  REQUIRE(stage.heard.size() == 3);
  CHECK(stage.heard[2] == "silent: no answer within 10 s");
  stage.time.advance_ms(10 * Visits::kPatienceMs);
  CHECK(stage.heard.size() == 3);
}

TEST_CASE("few at once, the others wait their turn, too many are told so") {
  Stage stage;
  for (size_t i = 0; i < Visits::kAtOnceMax + Visits::kWaitingMax + 1; ++i) stage.ask("care");
  stage.time.settle();
  CHECK(stage.sql.connections().size() == Visits::kAtOnceMax);
  CHECK(stage.heard == std::vector<std::string>{"care: too many questions at once"});
  stage.sql.set_admission(sim::ScriptedSql::Admission::kRefuse);
  for (size_t i = 0; i < Visits::kAtOnceMax; ++i) stage.sql.connections()[i]->lose("x");
  stage.time.settle();
  CHECK(stage.heard.size() == Visits::kAtOnceMax + Visits::kWaitingMax + 1);
}

TEST_CASE("after close nobody is called") {
  Stage stage;
  for (size_t i = 0; i < Visits::kAtOnceMax + 1; ++i) stage.ask("care");
  stage.time.settle();
  stage.visits.close();
  stage.ask("care");
  stage.time.advance_ms(2 * Visits::kPatienceMs);
  CHECK(stage.heard.empty());
  CHECK(stage.sql.connections().size() == Visits::kAtOnceMax);
}

}  // namespace
}  // namespace pgfresh::app
