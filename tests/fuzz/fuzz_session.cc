// Whole sessions: recorded conversations, their messages in any order and any packets, against the
// simulated proxy with caching and without (tests/sim/support/script.h). Oracle: the clients hear
// the same bytes, and nobody gets a hit in a failed block.
//
// Input: a script.
#include "expect.h"
#include "script.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pgfresh::sim::ScriptCoverage coverage;
  const std::string found =
      pgfresh::sim::find_difference(pgfresh::fuzz::as_view(data, size), coverage);
  if (!found.empty()) std::fprintf(stderr, "%s\n", found.c_str());
  FUZZ_EXPECT(found.empty());
  return 0;
}
