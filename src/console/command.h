// The console's command language: one table of commands, from which the parser and SHOW HELP
// derive. What drivers send on their own (BEGIN, SET client_encoding, SELECT 1) is not here but in
// courtesy.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "console/table.h"
#include "console/tokens.h"

namespace pgfresh::console {

// kLooks: any user of the console may. kActs: administrators only, and reported to the audit log.
// kNotYet: fixed in the contract, not in this version; answered with an error that says so.
enum class Effect : uint8_t { kLooks, kActs, kNotYet };

// X(enumerator, effect, pattern, what it does)
// The pattern's language: WORD as it stands in any case; [WORD] may be left out; <id> a number;
// <table> a name of up to three parts, "database.schema.table"; <rest> anything.
#define PGFRESH_CONSOLE_COMMANDS(X)                                                              \
  X(kShowHelp, kLooks, "SHOW HELP", "this list")                                                 \
  X(kShowVersion, kLooks, "SHOW VERSION", "version of pgfresh")                                  \
  X(kShowStats, kLooks, "SHOW STATS", "totals per database since the start")                     \
  X(kShowCache, kLooks, "SHOW CACHE",                                                            \
    "the cache's size, every counter, and why statements were "                                  \
    "not answered from it")                                                                      \
  X(kShowTables, kLooks, "SHOW TABLES", "tables known, whether they may be cached, and why not") \
  X(kShowClients, kLooks, "SHOW CLIENTS", "client connections")                                  \
  X(kShowServers, kLooks, "SHOW SERVERS", "connections to PostgreSQL")                           \
  X(kShowFeeds, kLooks, "SHOW FEEDS", "invalidation feeds: state, lease, events")                \
  X(kShowConfig, kLooks, "SHOW CONFIG", "options in force")                                      \
  X(kSetCacheOn, kActs, "SET CACHE ON", "answer from the cache and fill it")                     \
  X(kSetCacheOff, kActs, "SET CACHE OFF", "send everything to PostgreSQL")                       \
  X(kFlushAll, kActs, "FLUSH [ALL]", "forget every cached answer")                               \
  X(kFlushTable, kActs, "FLUSH TABLE <table>", "forget the answers that depend on a table")      \
  X(kReload, kActs, "RELOAD", "read the configuration file again")                               \
  X(kKill, kActs, "KILL <id>", "end the client connection of that id, as SHOW CLIENTS gives it") \
  X(kShutdownWait, kActs, "SHUTDOWN WAIT", "stop when the running transactions have ended")      \
  X(kShutdown, kActs, "SHUTDOWN", "stop now")                                                    \
  X(kFlushQuery, kNotYet, "FLUSH QUERY <rest>", "")                                              \
  X(kShowQueries, kNotYet, "SHOW QUERIES", "")                                                   \
  X(kShowPools, kNotYet, "SHOW POOLS", "")                                                       \
  X(kShowRedis, kNotYet, "SHOW REDIS", "")                                                       \
  X(kShowRules, kNotYet, "SHOW RULES", "")                                                       \
  X(kExplainCache, kNotYet, "EXPLAIN CACHE <rest>", "")                                          \
  X(kDoctor, kNotYet, "DOCTOR [<rest>]", "")                                                     \
  X(kPause, kNotYet, "PAUSE [<rest>]", "")                                                       \
  X(kResume, kNotYet, "RESUME [<rest>]", "")                                                     \
  X(kReconnect, kNotYet, "RECONNECT [<rest>]", "")                                               \
  X(kSetCacheObserve, kNotYet, "SET CACHE OBSERVE", "")

enum class Verb : uint8_t {
#define PGFRESH_CONSOLE_VERB(name, effect, pattern, help) name,
  PGFRESH_CONSOLE_COMMANDS(PGFRESH_CONSOLE_VERB)
#undef PGFRESH_CONSOLE_VERB
};

// A table as a person names it; parts not given are empty and mean "any".
struct TableName {
  std::string database;
  std::string schema;
  std::string name;
};

struct Command {
  Verb verb = Verb::kShowHelp;
  TableName table;  // kFlushTable
  uint64_t id = 0;  // kKill
};

[[nodiscard]] Effect effect_of(Verb verb);
[[nodiscard]] std::string_view pattern_of(Verb verb);

// nullopt: not a console command.
[[nodiscard]] std::optional<Command> parse_command(TokenSpan tokens);

// The command in one spelling, for the audit log: "FLUSH TABLE public.doctors".
[[nodiscard]] std::string to_text(const Command& command);

// What is wrong and what would be right, for a text that is neither a command nor a courtesy.
struct Advice {
  std::string message;
  std::string hint;
};
[[nodiscard]] Advice advise(TokenSpan tokens);

// The answer to SHOW HELP, and its columns.
[[nodiscard]] Columns help_columns();
[[nodiscard]] Table help_table();

}  // namespace pgfresh::console
