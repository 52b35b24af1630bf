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
// <table> a name of up to three parts, "database.schema.table"; <name> one name; <rest> anything.
// EXPLAIN CACHE is not cut into tokens and has a parser of its own, parse_explain().
#define PGFRESH_CONSOLE_COMMANDS(X)                                                              \
  X(kShowHelp, kLooks, "SHOW HELP", "this list")                                                 \
  X(kShowVersion, kLooks, "SHOW VERSION", "version of pgfresh")                                  \
  X(kShowStats, kLooks, "SHOW STATS", "totals since the start, of all databases")                \
  X(kShowCache, kLooks, "SHOW CACHE",                                                            \
    "the cache's size, every counter, and why statements were "                                  \
    "not answered from it")                                                                      \
  X(kShowTables, kLooks, "SHOW TABLES", "tables known, whether they may be cached, and why not") \
  X(kShowQueries, kLooks, "SHOW QUERIES",                                                        \
    "the 100 queries that take or save most time: calls, hits, why not")                         \
  X(kShowQueriesAll, kLooks, "SHOW QUERIES ALL", "all of them that are remembered")              \
  X(kExplainCache, kLooks, "EXPLAIN CACHE [FOR db.user] <sql>",                                  \
    "whether a statement may be cached, why not, what its answer depends on")                    \
  X(kDoctor, kLooks, "DOCTOR [<name>]",                                                          \
    "proves that every write to a watched table is seen; what is wrong, and the remedy")         \
  X(kShowClients, kLooks, "SHOW CLIENTS", "client connections")                                  \
  X(kShowServers, kLooks, "SHOW SERVERS", "connections to PostgreSQL")                           \
  X(kShowFeeds, kLooks, "SHOW FEEDS", "invalidation feeds: state, lease, events")                \
  X(kShowRedis, kLooks, "SHOW REDIS",                                                            \
    "the second level: each loop's connection, its state, what was asked and what went wrong")   \
  X(kShowConfig, kLooks, "SHOW CONFIG", "options in force")                                      \
  X(kSetCacheOn, kActs, "SET CACHE ON", "answer from the cache and fill it")                     \
  X(kSetCacheOff, kActs, "SET CACHE OFF", "send everything to PostgreSQL")                       \
  X(kFlushAll, kActs, "FLUSH [ALL]", "forget every cached answer")                               \
  X(kFlushQuery, kActs, "FLUSH QUERY <id>",                                                      \
    "forget the answers to a query, whose id SHOW QUERIES and SHOW pgfresh.last give")           \
  X(kFlushTable, kActs, "FLUSH TABLE <table>", "forget the answers that depend on a table")      \
  X(kReload, kActs, "RELOAD", "read the configuration file again")                               \
  X(kKill, kActs, "KILL <id>", "end the client connection of that id, as SHOW CLIENTS gives it") \
  X(kShutdownWait, kActs, "SHUTDOWN WAIT", "stop when the running transactions have ended")      \
  X(kShutdown, kActs, "SHUTDOWN", "stop now")                                                    \
  X(kShowPools, kNotYet, "SHOW POOLS", "")                                                       \
  X(kShowRules, kNotYet, "SHOW RULES", "")                                                       \
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
  uint64_t id = 0;  // kKill, kFlushQuery

  std::string database;  // kDoctor, kExplainCache; empty: not named
  std::string user;      // kExplainCache; empty: not named
  std::string sql;       // kExplainCache: as it came
};

[[nodiscard]] Effect effect_of(Verb verb);
[[nodiscard]] std::string_view pattern_of(Verb verb);

// nullopt: not a console command.
[[nodiscard]] std::optional<Command> parse_command(TokenSpan tokens);

// The command if `text` begins with EXPLAIN CACHE; nullopt otherwise. Everything behind it, and
// behind FOR db.user, is the statement: comments, semicolons and all. Its `sql` may be empty.
[[nodiscard]] std::optional<Command> parse_explain(std::string_view text);

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
