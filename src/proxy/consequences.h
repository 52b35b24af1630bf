// What a text may do beside giving its answer, once it is sent: worked out when the text is seen
// first, asked at each execution. In doubt it may.
#pragma once

#include "query/statement.h"

namespace pgfresh::proxy {

struct Consequences {
  // A query that leaves the session as it is, but for its Effect.
  bool only_answers = false;
  // It uses or drops prepared statements by name.
  bool speaks_of_statements = false;
  bool may_prepare = false;
  // Statements that PostgreSQL has not been told of must be, first: as above, or it asks which
  // there are.
  bool concerns_statements = false;
  // It may change the settings under which a text is parsed. (A custom setting alone does not.)
  bool may_change_parsing = false;
  // The same where its Effect, for which one needs the catalog, is kChangesSession: by a function.
  bool may_change_parsing_by_effect = false;
  // RESET ALL and DISCARD ALL return to what the startup packet said.
  bool may_reset_settings = false;
  // More than Statement::setting_changes tell.
  bool may_set_time_limit = false;
  // It may end the block and begin another, or change the isolation of the one it is in.
  bool may_change_block = false;
  // Begun outside a block, it may commit and go on, for hours, and not say so: what it carried
  // would be published at its end.
  bool may_commit_within = false;
  // It may switch the in-band notices off.
  bool speaks_of_inband = false;
};

[[nodiscard]] Consequences consequences_of(const query::Statement& statement);

}  // namespace pgfresh::proxy
