"""Conversations by chance: what one or two clients may say to PostgreSQL, message by message.

A conversation is a list of steps; a step is what one client sends in one write (or in pieces cut
anywhere), before it listens. Messages are kept as text, as a test would write them with pgwire.py:

    Step(0, ["parse('SELECT 1', 's1')", "bind('s1')", "execute()", "sync()"])

so that a difference can be printed, made smaller by leaving out, and pasted into a test. WARM is
nobody's step: it asks the questions of the conversation through pgfresh alone, on a connection of
its own, so that later reads find an answer in memory that somebody else has left there.

Two clients write different rows and lock nothing else, or who waits for whom would decide; unless
nobody waits for longer than a lock_timeout (the family "locks"). Only one who is alone makes
tables, takes locks and exclusive things. conversation_stage.py plays them.

Each seed is of a family, which says what its conversations have more of than others.
"""
import dataclasses
import random

from conversation_words import (BROKEN, COPY_IN, COPY_OUT, FOREIGN, FUNCTION_CALLS, INT, LONG, READS,
                                SETTINGS, WITH_PARAMETERS)

WARM = -1
ROWS = {*READS, *(text for text, _ in WITH_PARAMETERS)}


@dataclasses.dataclass
class Step:
    client: int
    parts: list
    cuts: tuple = ()  # where the bytes are cut, in thousandths
    cancelled: bool = False  # a cancel request comes while it is carried out


@dataclasses.dataclass
class Conversation:
    seed: int
    users: list
    parameters: list
    questions: list   # what WARM asks: lists of parts
    steps: list
    rebuild: bool = False  # the world must be made anew afterwards

    def __str__(self):
        out = [f"seed {self.seed}, {list(zip(self.users, self.parameters))}"]
        for step in self.steps:
            who = "warm" if step.client == WARM else f"{step.client} "
            out.append(f"  {who}: {', '.join(step.parts)}"
                       + (f"  cut at {step.cuts}" if step.cuts else "")
                       + ("  cancelled" if step.cancelled else ""))
        return "\n".join(out)


# What there is more of: the tastes of Maker, and its switches.
FAMILIES = {"any": {}, "any too": {}, "blocks": {"block": 3, "set": 3},
            "cancel": {"cancel": True}, "cancelled blocks": {"cancel": True, "block": 3},
            "hurry": {"hurry": True, "block": 1}, "locks": {"locks": True, "write": 3, "block": 3},
            "serializable": {"serializable": True, "write": 2, "block": 3},
            "encodings": {"encodings": True}, "copy": {"copy": 3, "block": 1},
            "cursors": {"cursor": 3, "block": 3}, "statements": {"sql_prepare": 3, "set": 1},
            "calls": {"call": 3, "set": 1}, "notify": {"notify": 3, "block": 1},
            "temp": {"temp": 2, "set": 1}, "odd": {"odd": 3, "broken": 1}}


class Maker:
    """Makes one conversation of a seed."""

    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        r = self.random
        self.family = sorted(FAMILIES)[seed % len(FAMILIES)]
        more = FAMILIES[self.family]
        self.cancel, self.hurry, self.locks, self.serializable, self.encodings = (
            more.get(name, False)
            for name in ("cancel", "hurry", "locks", "serializable", "encodings"))
        self.timed = self.cancel or self.hurry or self.locks  # what is told depends on the time
        # A Query that is not well-formed ends the unnamed statement or not; see the README.
        self.encodings = self.encodings and r.choice(["latin1", "latin1", "sql_ascii", "SJIS"])
        self.clients = 1 if r.random() < 0.55 and not (self.locks or self.serializable) else 2
        self.alone = self.clients == 1
        self.ddl = self.alone and r.random() < 0.25
        self.client = 0
        self.reads = r.sample(READS[:20], 2) + r.sample(READS, r.randint(1, 4))
        self.read_share = r.choice([0.3, 0.6, 0.85, 0.95])
        self.asked = [self.parameterised() for _ in range(r.randint(1, 3))]
        self.questions = []
        # What these are good for differs from conversation to conversation.
        self.taste = {name: r.choice([0, 1, 1, 3]) for name in
                      ("block", "set", "write", "cursor", "sql_prepare", "broken", "copy", "odd",
                       "temp", "notify", "call")}
        if r.random() < 0.5:  # calm: of two kinds only
            for name in r.sample(sorted(self.taste), len(self.taste) - 2):
                self.taste[name] = 0
        self.taste.update((name, much) for name, much in more.items() if name in self.taste)
        self.extended_share = r.choice([0.1, 0.5, 0.9])
        self.names = ["", "", "s1", "s2", "s3"]
        self.portals = ["", "", "", "p1", "p2", r.choice(["p1", "c1"])]
        self.known = {}

    def parameterised(self):
        """A question with its parameters: (text, oids, formats, values)."""
        r = self.random
        text, kinds = r.choice(WITH_PARAMETERS)
        return (text, kinds, self.oids(kinds))

    def oids(self, kinds):
        r = self.random
        if r.random() < 0.5:
            return ()
        return tuple(r.choice([kind[1], kind[1], 0]) for kind in kinds)[:r.randint(0, len(kinds))]

    def make(self):
        r = self.random
        users = [r.choice(["postgres", "anna", "anna", "bert"]) for _ in range(self.clients)]
        parameters = [r.choice([{}, {}, {"DateStyle": "German"}, {"options": "-c app.tenant=a"},
                                {"application_name": "x"}]) for _ in users]
        parameters = [{"options": "", **p} for p in parameters]
        for p in parameters:
            p["options"] = (p["options"] + " -c search_path=world,public").strip()
            if self.hurry:
                p["options"] += " -c statement_timeout=200ms"
            if self.locks or self.serializable:
                p["options"] += " -c lock_timeout=60ms"
            if self.encodings:
                p["client_encoding"] = self.encodings
        steps = []
        for text in self.reads:
            self.questions.append([f"query({text!r})"])
        for text, kinds, oids in self.asked:
            self.questions.append(self.unit(text, kinds, oids, plain=True) + ["sync()"])
        for _ in range(r.randint(4, 22)):
            self.client = r.randrange(self.clients)
            if r.random() < 0.15:
                steps.append(Step(WARM, []))
            parts = []
            for _ in range(r.choice([1, 1, 1, 2, 3, 5])):
                parts += self.segment()
            cuts = ()
            if r.random() < 0.25:
                cuts = tuple(sorted(r.randrange(1000) for _ in range(r.randint(1, 4))))
            cancelled = self.cancel and r.random() < 0.25
            if cancelled:
                parts += self.long()
            steps.append(Step(self.client, parts, cuts, cancelled))
        return Conversation(self.seed, users, parameters, self.questions, steps, self.ddl)

    # -- segments -----------------------------------------------------------------------------

    def long(self):
        """What takes so long that a cancel request meets it, and what is sent behind it."""
        r = self.random
        text = r.choice(LONG)
        read = r.choice(self.reads)
        behind = r.choice([[], [], self.segment()])
        return r.choice([
            [f"query({text!r})"], [f"query({read.rstrip(';') + '; ' + text!r})"],
            [f"query({text + '; ' + read!r})"],
            [f"parse({text!r})", "bind()", "execute()", "sync()"],
            [f"parse({read!r}, 's3')", f"parse({text!r})", "bind()", "describe('P')", "execute()",
             "sync()"],
            [f"parse({read!r})", "bind()", "execute()", f"parse({text!r})", "bind()", "execute()",
             f"parse({read!r})", "bind()", "execute()", "sync()"],
            ["query('BEGIN')", f"query({read!r})", f"query({text!r})"]]) + behind

    def segment(self):
        r = self.random
        if r.random() < 0.04 * self.taste["call"]:
            return [r.choice(FUNCTION_CALLS)]
        if self.encodings == "latin1" and r.random() < 0.2:
            return [f"query({r.choice(FOREIGN)!r})"]
        if r.random() < 0.04 * self.taste["copy"]:
            return self.copy_in()
        if r.random() < 0.02 * self.taste["odd"]:
            return [r.choice(["function_call(1231, [b'\\0\\0\\0\\5'], (1,), 1)", "sync()",
                              "flush()", "query('')", "query(';')", "query('-- nothing')",
                              "copy_data(b'x')", "copy_done()", "copy_fail('x')",
                              "function_call(1, [], (), 0)", "function_call(1231, [b'5'], (), 0)",
                              "query('SELECT length(\\'' + 'x' * 70000 + '\\')')",
                              "query('SELECT name FROM thing WHERE id = 1' + ' ' * 70000)",
                              "message('Q', b'SELECT 1\\0SELECT 2\\0')",
                              "message('Q', b'SELECT 1')", "message('E', b'x')",
                              "message('P', b'')", "message('B', b'\\0\\0')",
                              "message('D', b'X\\0')", "message('C', b'X\\0')"])]
        if r.random() < self.extended_share:
            parts = []
            for _ in range(r.choice([1, 1, 1, 2, 3])):
                parts += self.extended()
            end = r.random()
            return parts + (["sync()"] if end < 0.9 else ["flush()"] if end < 0.97 else [])
        if r.random() < 0.12:
            texts = [self.statement() for _ in range(r.randint(2, 4))]
            return [f"query({r.choice(['; ', ';', ' ;' + chr(10)]).join(texts)!r})"]
        return [f"query({self.statement()!r})"]

    def statement(self):
        """A text without parameters."""
        r = self.random
        if r.random() < self.read_share:
            return r.choice(self.reads)
        kinds = ["block", "set", "write", "cursor", "sql_prepare", "broken", "temp", "notify",
                 "odd", "call"]
        kind = r.choices(kinds, [self.taste[k] + 0.02 for k in kinds])[0]
        if self.ddl and r.random() < 0.12:
            kind = "ddl"
        if self.hurry and r.random() < 0.15:
            return r.choice(LONG)
        return getattr(self, "_" + kind)()

    def _block(self):
        if self.serializable and self.random.random() < 0.4:
            return self.random.choice(["BEGIN ISOLATION LEVEL SERIALIZABLE",
                                       "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT",
                                       "BEGIN ISOLATION LEVEL REPEATABLE READ"])
        return self.random.choice(["BEGIN", "BEGIN", "BEGIN", "START TRANSACTION", "COMMIT",
                                   "COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK", "END", "ABORT",
                                   "SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO a", "ROLLBACK TO b",
                                   "RELEASE a", "RELEASE b", "COMMIT AND CHAIN",
                                   "ROLLBACK AND CHAIN", "BEGIN ISOLATION LEVEL REPEATABLE READ",
                                   "BEGIN READ ONLY",
                                   "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY"
                                   + (", DEFERRABLE" if self.alone else ""),
                                   "BEGIN READ WRITE", "BEGIN ISOLATION LEVEL READ COMMITTED",
                                   "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                                   "SET TRANSACTION READ ONLY", "SHOW transaction_isolation",
                                   "SHOW transaction_read_only", "SET CONSTRAINTS ALL IMMEDIATE",
                                   "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
                                   "BEGIN NOT DEFERRABLE", "SHOW transaction_deferrable"])

    def _set(self):
        r = self.random
        name, values = r.choice(SETTINGS)
        if name == "client_encoding" and (self.encodings or r.random() < 0.7):
            name, values = "app.tenant", ["'a'", "'b'"]
        value = r.choice(values)
        kind = r.random()
        if kind < 0.35:
            return f"SET {name} = {value}"
        if kind < 0.6:
            return f"SET LOCAL {name} = {value}"
        if kind < 0.7:
            return f"SHOW {name}"
        if kind < 0.78:
            return f"RESET {name}"
        if kind < 0.9:
            text = value if value.startswith("'") else f"'{value}'"
            return f"SELECT set_config('{name}', {text}, {r.choice(['true', 'false'])})"
        return r.choice(["RESET ALL", "DISCARD ALL", "SET ROLE anna", "SET ROLE bert", "RESET ROLE",
                         "SET LOCAL ROLE bert", "SET SESSION AUTHORIZATION anna", "DISCARD PLANS",
                         "RESET SESSION AUTHORIZATION", "SET LOCAL TIME ZONE 'Asia/Tokyo'",
                         "SET NAMES 'utf8'", "SET SCHEMA 'beyond'", "DISCARD TEMP",
                         "SET ROLE nobody", "DISCARD SEQUENCES", "SHOW search_path",
                         "SET TIME ZONE 5"])

    def _write(self):
        r = self.random
        shared = self.locks or self.serializable
        mine = r.choice([1, 2, 3, 4]) + 4 * (0 if shared else self.client)
        if shared and r.random() < 0.2:
            return r.choice(["SELECT pg_advisory_lock(9)", "SELECT pg_advisory_unlock(9)",
                             "SELECT pg_try_advisory_lock(9)", "SELECT pg_advisory_xact_lock(9)",
                             "LOCK TABLE thing IN EXCLUSIVE MODE", "LOCK TABLE plain NOWAIT",
                             "SELECT name FROM thing WHERE id < 3 FOR UPDATE SKIP LOCKED",
                             "SELECT name FROM thing WHERE id = 1 FOR UPDATE NOWAIT",
                             "SELECT name FROM thing ORDER BY id FOR SHARE"])
        return r.choice([f"UPDATE thing SET name = 'new {r.randrange(9)}' WHERE id = {mine}",
                         f"UPDATE thing SET name = name WHERE id = {mine} RETURNING *",
                         f"UPDATE thing SET name = 'forbidden' WHERE id = {mine}",
                         f"INSERT INTO thing (id, name) VALUES ({mine}{r.randrange(3)}, 'more')",
                         f"INSERT INTO thing (id, name) VALUES ({mine}, 'again') "
                         "ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                         f"INSERT INTO thing (id, name) VALUES ({mine}, NULL)",
                         f"INSERT INTO thing (id, name) VALUES ({mine}, 'twice')",
                         f"DELETE FROM thing WHERE id = {mine}",
                         f"DELETE FROM piece WHERE id = {mine}",
                         f"INSERT INTO piece VALUES ({mine}9, 777, 'orphan {mine}')",
                         f"SELECT rename({mine}, 'by function')",
                         f"SELECT name FROM thing WHERE id = {mine} FOR UPDATE",
                         f"WITH u AS (UPDATE thing SET price = 5 WHERE id = {mine} RETURNING id) "
                         "SELECT * FROM u",
                         f"UPDATE note SET words = 'new' WHERE id = {self.client + 1}",
                         f"UPDATE guarded SET secret = 'new' WHERE id = {self.client + 1}",
                         f"UPDATE kinds SET t = 'new' WHERE id = {self.client + 1}",
                         f"CALL commits({mine})",
                         f"DO $$ BEGIN UPDATE world.thing SET name = 'by do' "
                         f"WHERE id = {mine}; END $$",
                         "SELECT tells(1)",
                         "SELECT nextval('counter')" if self.alone else "SELECT tells(2)",
                         "SELECT pg_advisory_xact_lock_shared(7)",
                         f"UPDATE plain SET name = 'new' WHERE id = {self.client + 1}",
                         f"UPDATE beyond.thing SET name = 'far' WHERE id = {mine}",
                         "TRUNCATE piece" if self.alone else "SELECT 5"])

    def _cursor(self):
        r = self.random
        name = r.choice(["c1", "c2"])
        return r.choice([
            f"DECLARE {name} CURSOR FOR {r.choice(self.reads).rstrip(';')}",
            f"DECLARE {name} CURSOR WITH HOLD FOR SELECT id, name FROM thing ORDER BY id",
            f"DECLARE {name} SCROLL CURSOR FOR SELECT id FROM thing ORDER BY id",
            f"FETCH 2 FROM {name}", f"FETCH ALL FROM {name}", f"MOVE 1 IN {name}", f"CLOSE {name}",
            f"FETCH BACKWARD 1 FROM {name}", "CLOSE ALL", f"FETCH {name}", "FETCH 1 FROM p1",
            "MOVE 1 IN p1", "CLOSE p1", "FETCH ALL FROM p2"])

    def _sql_prepare(self):
        r = self.random
        name = r.choice(["s1", "s2", "q1"])
        return r.choice([f"PREPARE {name} AS {r.choice(self.reads).rstrip(';')}",
                         f"PREPARE {name} (int) AS SELECT name FROM thing WHERE id = $1",
                         f"EXECUTE {name}", f"EXECUTE {name} (1)", f"EXECUTE {name} (5)",
                         f"DEALLOCATE {name}", "DEALLOCATE ALL",
                         f"EXPLAIN (COSTS OFF) {r.choice(self.reads).rstrip(';')}"])

    def _broken(self):
        return self.random.choice(BROKEN)

    def _temp(self):
        if not self.alone:
            return self._block()
        return self.random.choice(["CREATE TEMP TABLE thing (id int, name text)",
                                   "INSERT INTO thing VALUES (1, 'temporary')",
                                   "DROP TABLE pg_temp.thing",
                                   "CREATE TEMP TABLE t1 AS SELECT 1 AS x", "SELECT * FROM t1",
                                   "CREATE TEMP TABLE thing ON COMMIT DROP AS "
                                   "SELECT 1 AS id, 'dropped'::text AS name",
                                   "CREATE TEMP VIEW thing_name AS "
                                   "SELECT 3 AS id, 'of a view' AS name",
                                   "DROP TABLE IF EXISTS t1",
                                   "SELECT 7 AS id, 'into'::text AS name INTO TEMP thing"])

    def _notify(self):
        return self.random.choice(["LISTEN ch", "NOTIFY ch, 'x'", "SELECT pg_notify('ch', 'y')",
                                   "UNLISTEN *", "NOTIFY ch", "SELECT pg_listening_channels()",
                                   "UNLISTEN ch"])

    def _call(self):
        return self.random.choice(["SELECT tells(3)", "SELECT rename(4 * 0 + 9, 'nine')",
                                   "DO $$ BEGIN PERFORM 1; END $$",
                                   "DO $$ BEGIN RAISE EXCEPTION 'done'; END $$",
                                   "DO $$ BEGIN SET app.tenant = 'b'; END $$",
                                   "DO $$ BEGIN PERFORM set_config('app.tenant', 'a', false); END $$",
                                   "CALL sets('b')", "SELECT sets_locally('a')", "CALL commits(9)",
                                   "SELECT tenant()", "CALL rolls_back(9)"]) if self.alone else (
            self.random.choice(["SELECT tells(3)", "CALL sets('b')", "SELECT sets_locally('a')",
                                "SELECT tenant()"]))

    def _odd(self):
        return self.random.choice(["", "-- only this", "SELECT 1 /* open",
                                   "SELECT pg_advisory_lock_shared(5)",
                                   "SELECT pg_advisory_unlock_shared(5)",
                                   "LOCK TABLE thing IN ACCESS SHARE MODE",
                                   "EXPLAIN (COSTS OFF) SELECT name FROM thing WHERE id = 1",
                                   "SHOW server_version_num", "SELECT nextval('missing')",
                                   "LOAD 'nothing'", "COPY thing TO STDOUT", "CHECKPOINT now",
                                   "SELECT pg_sleep(0)", "SELECT txid_current() > 0", *COPY_OUT])

    def _ddl(self):
        return self.random.choice(["ALTER TABLE thing ADD COLUMN extra int",
                                   "ALTER TABLE thing DROP COLUMN extra",
                                   "ALTER TABLE thing DROP COLUMN price",
                                   "ALTER TABLE thing RENAME name TO title",
                                   "ALTER TABLE thing RENAME title TO name",
                                   "ALTER TABLE thing ALTER name TYPE varchar(40)",
                                   "CREATE OR REPLACE FUNCTION fails(n int) RETURNS int "
                                   "LANGUAGE sql STABLE AS 'SELECT -n'",
                                   "CREATE OR REPLACE VIEW thing_name AS "
                                   "SELECT id, upper(name) AS name FROM thing",
                                   "CREATE TABLE extra (id int)", "DROP TABLE extra",
                                   "DROP TABLE piece", "ALTER TABLE thing RENAME TO thang",
                                   "ALTER TABLE thang RENAME TO thing",
                                   "REVOKE SELECT ON kinds FROM anna",
                                   "GRANT SELECT ON kinds TO anna",
                                   "ALTER TABLE note DISABLE ROW LEVEL SECURITY",
                                   "CREATE INDEX ON thing (name)", "DROP VIEW thing_name",
                                   "ALTER TABLE thing ALTER made SET DEFAULT now()",
                                   "COMMENT ON TABLE thing IS 'x'",
                                   "CREATE OR REPLACE FUNCTION doubled(n int) RETURNS int "
                                   "LANGUAGE sql IMMUTABLE AS 'SELECT n * 3'",
                                   "ALTER TABLE thing SET SCHEMA beyond",
                                   "CREATE TABLE beyond.kinds AS SELECT 1 AS id, 'far' AS t"])

    def copy_in(self):
        r = self.random
        text = r.choice(COPY_IN)
        between = "\\t" if "thing" in text else ","
        line = rf"{self.client + 1}{r.randrange(30, 40)}{between}copied\n"
        data = [f"copy_data(b'{line}')" for _ in range(r.randint(0, 2))]
        if r.random() < 0.15:
            data.append("copy_data(b'garbage\\n')")
        end = [r.choice(["copy_done()", "copy_done()", "copy_fail('no more')"])]
        if r.random() < 0.5:
            return [f"query({text!r})"] + data + end
        return [f"parse({text!r})", "bind()", "execute()"] + data + end + ["sync()"]

    # -- extended -----------------------------------------------------------------------------

    def extended(self):
        r = self.random
        if r.random() < 0.5:
            return self.unit(*r.choice(self.asked))
        return self.unit(self.statement(), [], self.oids([INT]) if r.random() < 0.03 else ())

    def unit(self, text, kinds, oids, plain=False):
        """Parse, Bind, Describe, Execute, Close of one statement, or some of these."""
        r = self.random
        name = "" if plain else r.choice(self.names)
        portal = "" if plain else r.choice(self.portals)
        parts = []
        if not plain and name in self.known.get(self.client, {}) and r.random() < 0.55:
            text, kinds, oids = self.known[self.client][name]
        elif plain or r.random() < 0.95:
            if name and r.random() < 0.5:
                parts.append(f"close('S', {name!r})")
            parts.append(f"parse({text!r}, {name!r}, {oids!r})")
            if not plain:
                self.known.setdefault(self.client, {})[name] = (text, kinds, oids)
        if r.random() < 0.35:
            parts.append(f"describe('S', {name!r})")
        if not plain and r.random() < 0.08:
            return parts
        parts.append(self.bind(name, portal, kinds, plain))
        if r.random() < 0.5:
            parts.append(f"describe('P', {portal!r})")
        if plain or r.random() < 0.93:
            limit = 0 if plain or r.random() < 0.75 else r.randint(1, 3)
            parts.append(f"execute({portal!r}, {limit})")
            # That of a BEGIN that was answered here is not there at all, which is an error, too.
            if limit and text in ROWS and r.random() < 0.5:
                parts.append(f"execute({portal!r}, {r.choice([0, 1, 2])})")
        if not plain and r.random() < 0.1:
            parts.append(f"close('P', {portal!r})")
        if not plain and r.random() < 0.06 and parts:
            r.shuffle(parts)
        if not plain and r.random() < 0.05:
            parts.insert(r.randrange(len(parts) + 1), "flush()")
        return parts

    def bind(self, name, portal, kinds, plain):
        r = self.random
        values, formats = [], []
        for kind in kinds:
            binary = r.random() < 0.3
            chosen = kind[2] if binary else kind[0]
            values.append(r.choice(chosen if r.random() < 0.3 else chosen[:2]))
            formats.append(int(binary))
        if not any(formats):
            formats = r.choice([[], [0], formats])
        elif all(formats):
            formats = r.choice([[1], formats])
        results = r.choice([(), (), (), (0,), (1,), (1,)])
        if not plain and r.random() < 0.05:
            results = r.choice([(0, 1), (1, 0, 1), (2,)])
        if not plain and r.random() < 0.03:
            values.append("1")
        if not plain and r.random() < 0.03:
            formats = [0, 0, 0]
        return f"bind({name!r}, {values!r}, {portal!r}, {tuple(formats)!r}, {results!r})"
