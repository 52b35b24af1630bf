// What a query text is. Two steps, because the first depends on the text alone and is remembered
// for good, while the second depends on a catalog snapshot and on the session's search_path.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgfresh/reason.h"
#include "query/catalog.h"
#include "query/key_value.h"
#include "query/setting_change.h"

namespace pgfresh::query {

enum class Kind : uint8_t {
  kEmpty,       // no statement at all
  kSelect,      // one SELECT, VALUES or TABLE
  kBegin,       // BEGIN, START TRANSACTION
  kCommit,      // COMMIT, END without AND CHAIN
  kRollback,    // ROLLBACK, ABORT without AND CHAIN; not ROLLBACK TO
  kSavepoint,   // SAVEPOINT, RELEASE, ROLLBACK TO
  kWrite,       // one INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY
  kShowLast,    // SHOW pgfresh.last
  kShow,        // another SHOW
  kNotify,      // LISTEN, UNLISTEN, NOTIFY
  kDeallocate,  // DEALLOCATE name or ALL, PREPARE, EXECUTE, DISCARD: touches prepared statements
  kSession,     // SET, RESET, DO, CALL, and everything else that may change the session
  kDdl,         // CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT …
  kMany,        // several statements in one text
  kUnknown,     // unparsable, too long, or not recognised
};

// What BEGIN asks for; kDefault: default_transaction_isolation decides.
enum class Isolation : uint8_t { kDefault, kReadCommitted, kOther };

// Bytes of a grouped form that are kept, for people to read.
inline constexpr size_t kGroupedBytesMax = 512;

// What carrying a statement out may do.
enum class Effect : uint8_t {
  kPureRead,       // reads; changes neither rows nor session
  kWritesRows,     // may change rows; leaves the session's settings and temporary objects alone
  kChangesSession  // may change anything
};

// What the parse tree mentions, collected once; resolved against a catalog later.
struct SelectShape;

// Immutable; shared by the sessions of one worker.
struct Statement {
  Statement();
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // What is asked at every execution lies in front, up to the text (MemoText::prefetch_hot).
  Kind kind = Kind::kUnknown;
  bool hint_off = false;                      // /* pgfresh: off */
  Isolation isolation = Isolation::kDefault;  // kBegin
  bool deferrable_begin = false;  // kBegin: nothing but isolation READ COMMITTED, READ WRITE,
                                  // READ ONLY or [NOT] DEFERRABLE is asked for
  bool deallocates_all = false;   // kDeallocate: DEALLOCATE ALL, DISCARD ALL; kMany: some statement
                                  // deallocates something, so that no name is known any more
  bool makes_table = false;     // CREATE … AS or SELECT … INTO is, or is among, what it carries
                                // out: its command tag, SELECT n, does not tell
  bool runs_code = false;       // kSession: CALL or DO, which may commit and go on
  bool rolls_back_to = false;   // kSavepoint: ROLLBACK TO
  uint64_t query_id = 0;        // of all texts with this grouped form; 63 bits
  std::vector<Reason> reasons;  // what the text alone says against caching
  std::optional<int64_t> hint_ttl_ms;          // /* pgfresh: ttl=30s */
  std::vector<SettingChange> setting_changes;  // all it does, unless that is more or unknown

  std::string text;              // as it came
  std::string vacant_database;   // must be without connections for it: DROP, RENAME … DATABASE
  std::string deallocated_name;  // kDeallocate: DEALLOCATE name
  std::string canonical;         // see canonicalize(); the text itself where that gave nothing
  std::string grouped;           // see grouped_form(); cut to kGroupedBytesMax
  std::string parse_error;       // kUnparsable: PostgreSQL's message, if it gave one
  std::shared_ptr<const SelectShape> shape;  // null when the text was not parsed; see pattern.h
};

// Why a result depends on every change of a table (any(R)), not on some keys of it alone.
enum class AnyReason : uint8_t {
  kNone,             // it does not: it depends on keys
  kNotLookedAt,      // read in a place whose conditions are not looked at
  kNoKeyColumns,     // the table is watched without key columns that could be used
  kNoCondition,      // no condition `key column = value` at the level of the query that reads it
  kForeignEquality,  // some schema of the search_path has an operator = for these types
  kTooManyValues,    // more values than limits::kKeyValuesMax
};
[[nodiscard]] std::string_view any_reason_text(AnyReason reason);

// The values a key column is compared with: the result depends on key(R,c,v) for each v.
struct KeyParameter {
  int number = 0;      // as in $1
  bool array = false;  // c = ANY($1)
  bool cast = false;   // $1::type; a text is then read as that type
  Oid inferred = 0;    // the type PostgreSQL gives it when Parse leaves it open; 0: not certain
};
struct KeyValues {
  std::vector<std::string> literals;  // canonical
  std::vector<KeyParameter> parameters;
};

// One occurrence of a table in a statement, and how far its rows matter (freshness.md, "Row-aware
// dependencies").
struct Dependency {
  Oid relation = 0;  // as named
  Oid root = 0;      // of its tree: what the tags are of
  AnyReason why_any = AnyReason::kNotLookedAt;
  // When row-aware: key(root, column, v) and whole(root).
  int16_t column = 0;  // number in the root
  std::string column_name;
  KeyType type = KeyType::kNone;
  KeyValues values;

  [[nodiscard]] bool row_aware() const { return why_any == AnyReason::kNone; }
};

// A reason and what gives it: "public.my_function", "=", "xid8". `object` is empty where the reason
// is about the whole statement.
struct Cause {
  Reason reason = Reason::kNone;
  std::string object;
  friend bool operator==(const Cause&, const Cause&) = default;
};

// What a statement is for one catalog snapshot and one search_path.
struct Verdict {
  uint64_t catalog_generation = 0;
  Effect effect = Effect::kChangesSession;
  // A seal of what PostgreSQL fixes when it analyses the text under this snapshot: which relations,
  // functions, operators, types and labels it names, and so the types of its parameters. 0: the
  // text was not parsed.
  uint64_t meaning = 0;
  uint64_t names = 0;            // the same, but for the columns of its relations
  bool time_parameters = false;  // text parameters must not be 'now', 'today' … (is_time_word)
  std::vector<Reason> reasons;   // all of them, without repetition; empty: cacheable
  std::vector<Cause> causes;     // of these reasons, each with each of its objects; for people
  // What it reads. A table that is read in several places is there several times; whoever finds
  // out that a table is read adds to it (depend_on_any() where keys are out of the question).
  std::vector<Dependency> dependencies;

  [[nodiscard]] bool cacheable() const { return reasons.empty(); }
  [[nodiscard]] Reason reason() const { return reasons.empty() ? Reason::kNone : reasons.front(); }
  // Of the dependencies, without repetition, in their order.
  [[nodiscard]] std::vector<Oid> roots() const;
  void depend_on_any(const Relation& relation, AnyReason why);
};

// What the text alone says, with PostgreSQL's message where it does not parse.
[[nodiscard]] std::vector<Cause> causes_of(const Statement& statement);

// Parses one text with libpg_query. Thread-safe: libpg_query's state is per thread. Texts longer
// than `text_bytes_max` are not parsed (kUnknown, kTooLong), for libpg_query recurses without a
// guard: the worst texts known need 64 bytes of stack for each byte of text. REQUIRES: a stack of
// 100 × text_bytes_max or more, which 8 MB are for 64 KB; workers have 64 MB.
[[nodiscard]] std::shared_ptr<const Statement> analyze(std::string_view text,
                                                       size_t text_bytes_max);

[[nodiscard]] Verdict resolve(const Statement& statement, const Catalog& catalog,
                              const std::vector<std::string>& search_path);

// Whether row-level security stands against caching what reads the relation.
[[nodiscard]] bool policies_proven(const Catalog& catalog, const Relation& relation,
                                   const std::vector<std::string>& search_path);

// PostgreSQL's tokens without comments and white space, one blank where two tokens would run
// together, unquoted words in lower case, constants kept to the letter, no semicolon at the end.
// Two texts with the same canonical form mean the same to PostgreSQL. nullopt: the scanner refused
// the text, or it holds a construct whose bounds the scanner does not tell (U&'…').
[[nodiscard]] std::optional<std::string> canonicalize(std::string_view text);

// A word that date/time input reads as the present: a string that contains now, today, tomorrow
// or yesterday as a word of its own (any case).
[[nodiscard]] bool is_time_word(std::string_view value);

// `text` has the word in it, in any case, wherever it stands. REQUIRES: `word` in lower case.
[[nodiscard]] bool contains_word(std::string_view text, std::string_view word);

// The effect of COMMIT tags on the catalog: true for tags of DDL, GRANT, REVOKE and the like
// ("CREATE TABLE", "ALTER POLICY", "REFRESH MATERIALIZED VIEW"), which change schema(D).
[[nodiscard]] bool is_ddl_tag(std::string_view command_tag);

}  // namespace pgfresh::query
