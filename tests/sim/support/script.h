// Conversations made of bytes, for random tests and for the fuzzer: any input is one. Two clients
// talk to PostgreSQL through the proxy and a third around it, message by message, in any order the
// protocol has or has not, cut into packets anywhere; the feed is held and let go; time passes.
//
// The oracle is the proxy itself with caching off, on a database of its own: what the clients hear
// must be the same, byte for byte. Everything is let happen after each act, so there is one right
// answer to everything; the third client writes only while the feed is not held, because what he
// writes may be seen late. Whatever differs is a defect, or a lack of the model PostgreSQL.
//
// Not said here: SHOW pgfresh.last, which is meant to differ; cancel requests, whose time matters;
// and what rests on a statement whose name was used again in a pipeline behind an error (the second
// Parse, or a Close, is skipped; pgfresh has forgotten the first, of which PostgreSQL may never
// have been told). A driver that has heard an error makes its statements anew, and so do these
// clients.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pgfresh::sim {

struct ScriptCoverage {
  uint64_t acts = 0;
  uint64_t statements = 0;
  uint64_t hits = 0;
  uint64_t hits_in_blocks = 0;
  uint64_t fills = 0;
  uint64_t notices = 0;
  uint64_t bypassed_open = 0;
  uint64_t deferred_begins = 0;
  uint64_t errors_heard = 0;
  uint64_t ended_sessions = 0;
};

// What went differently with caching than without, in words; empty when nothing did.
[[nodiscard]] std::string find_difference(std::string_view script, ScriptCoverage& coverage);

}  // namespace pgfresh::sim
