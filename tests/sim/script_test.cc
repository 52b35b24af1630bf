// Random conversations, with caching and without: what the clients hear must be the same bytes.
//
// PGFRESH_SIM_SEED=n runs that seed alone, as the message of a failure says; PGFRESH_SIM_SCRIPTS=n
// runs more or fewer.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "support/environment.h"
#include "support/proxy_node.h"
#include "support/script.h"

namespace pgfresh::sim {
namespace {

constexpr uint64_t kScripts = 150;  // tests/run.sh asks for more
constexpr size_t kScriptBytes = 600;

std::string random_script(uint64_t seed) {
  Random random(seed);
  std::string script;
  for (size_t i = 0; i < kScriptBytes; ++i) script += static_cast<char>(random.below(256));
  return script;
}

TEST_CASE("random conversations are the same with caching and without") {
  const uint64_t only = number_from_environment("PGFRESH_SIM_SEED", 0);
  const uint64_t scripts =
      only != 0 ? only : number_from_environment("PGFRESH_SIM_SCRIPTS", kScripts);
  ScriptCoverage coverage;
  for (uint64_t seed = only != 0 ? only : 1; seed <= scripts; ++seed) {
    const std::string difference = find_difference(random_script(seed), coverage);
    REQUIRE_MESSAGE(difference.empty(), "PGFRESH_SIM_SEED=" << seed << difference);
  }
  if (only != 0) return;
  MESSAGE("acts " << coverage.acts << ", statements " << coverage.statements << ", hits "
                  << coverage.hits << ", in blocks " << coverage.hits_in_blocks << ", fills "
                  << coverage.fills << ", notices " << coverage.notices << ", refused as open "
                  << coverage.bypassed_open << ", local blocks " << coverage.deferred_begins
                  << ", errors " << coverage.errors_heard << ", sessions ended "
                  << coverage.ended_sessions);
  CHECK(coverage.hits > coverage.statements / 60);  // also where hashes have four bits
  CHECK(coverage.hits_in_blocks > 0);
  CHECK(coverage.fills > 0);
  CHECK(coverage.notices > 0);
  CHECK(coverage.bypassed_open > 0);
  CHECK(coverage.deferred_begins > 0);
  CHECK(coverage.errors_heard > 0);
}

}  // namespace
}  // namespace pgfresh::sim
