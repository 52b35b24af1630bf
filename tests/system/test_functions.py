"""The reviewed lists of src/query/reviewed.cc against the server's own catalog: every STABLE function
of PostgreSQL itself must be on a list on purpose, whatever the version. A function that is on none
is not cached, so nothing breaks when this fails; somebody has to think.
"""
import pathlib
import re

import pytest

REVIEWED = pathlib.Path(__file__).parent.parent.parent / "src" / "query" / "reviewed.cc"
# Of the session or the catalog by their first letters, as session_prefix() has it.
PREFIXES = ("pg_", "has_", "inet_", "to_reg", "_pg_", "reg")
# Not callable from SQL with anything that matters: input, output and send functions of types are
# judged with their type (safe_builtin_type), the others take or give `internal`.
STABLE = """
SELECT DISTINCT p.proname FROM pg_proc p
WHERE p.oid < 16384 AND p.provolatile = 's' AND p.pronamespace = 'pg_catalog'::regnamespace
  AND NOT 'internal'::regtype = ANY (p.proargtypes)
  AND p.oid NOT IN (SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin,
                                        typmodout]::oid[]) FROM pg_type)
  AND p.proname NOT IN ('enum_in', 'enum_out', 'enum_send', 'anyenum_in', 'anyenum_out')
ORDER BY 1"""
OPERATORS = """
SELECT DISTINCT o.oprname FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
WHERE o.oid < 16384 AND p.provolatile <> 'i'"""
TYPES = """
SELECT typname FROM pg_type WHERE oid < 16384 AND typtype = 'b' AND typelem = 0
  AND typnamespace = 'pg_catalog'::regnamespace"""
# Types of PostgreSQL 15 that are refused, each on purpose.
UNSAFE_TYPES = {
    "timetz",                                                   # takes today's offset
    "regproc", "regprocedure", "regoper", "regoperator", "regclass", "regtype", "regconfig",
    "regdictionary", "regnamespace", "regrole", "regcollation",  # print by search_path and catalog
    "tid", "xid", "xid8", "cid",                                # change without a trigger
    "aclitem", "refcursor", "txid_snapshot", "pg_snapshot", "gtsvector",
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"}


@pytest.fixture(scope="module")
def names():
    return set(re.findall(r'"([^"]+)"', REVIEWED.read_text(encoding="utf-8")))


def ask(server, sql):
    return [line for line in server.psql(sql).split("\n") if line]


def test_every_stable_function_is_reviewed(server, names):
    unknown = [name for name in ask(server, STABLE)
               if name not in names and not name.startswith(PREFIXES)]
    assert not unknown


def test_every_stable_operator_is_reviewed(server, names):
    assert not set(ask(server, OPERATORS)) - names


def test_every_type_is_reviewed(server, names):
    found = ask(server, TYPES)
    assert not [name for name in found if name not in names and name not in UNSAFE_TYPES]
    safe = set(re.search(r"bool safe_builtin_type.*?\};", REVIEWED.read_text(encoding="utf-8"),
                         re.DOTALL).group().split('"')[1::2])
    assert not safe & UNSAFE_TYPES
    assert len(safe & set(found)) > 30


# Whose results depend on more than arguments, though they are declared IMMUTABLE or STABLE: by name,
# with an example of what each would have made wrong.
@pytest.mark.parametrize("sql, reason", [
    ("SELECT jsonb_path_exists_tz('[\"12:00:00\"]', '$[*].datetime()') FROM item", "time_function"),
    ("SELECT time '12:00' AT TIME ZONE 'Europe/Berlin' FROM item", "time_function"),
    ("SELECT timetz(time '12:00') FROM item", "time_function"),
    ("SELECT timezone('Europe/Berlin', tm) FROM kinds", "time_function"),
    ("SELECT age(made) FROM item", "time_function"),
    ("SELECT table_to_xml('plain', true, true, '') FROM item", "unsafe_function"),
    ("SELECT date_in('now') FROM item", "time_literal"),
    ("SELECT pg_column_size(name) FROM item", "session_function"),
    ("SELECT json_populate_record(null::kinds, '{}') FROM kinds", "unsafe_function"),
    ("SELECT obj_description('item'::regclass) FROM item", "session_function"),
])
def test_refused(play, sql, reason):
    app = play.app()
    play.hot(app, "SELECT name FROM item WHERE id = 1")
    with play.expect(hits=0, reason=reason):
        for _ in range(2):
            app.execute(sql)
