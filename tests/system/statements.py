"""Statements made from the catalog of the database under test: every function, operator, cast,
aggregate and type for which there is a sample value. Used by test_equality.py.

`make(connection, random)` creates the watched table `sample` (a column for each type in SAMPLES,
three rows of which the last is NULLs) and returns the statements, in random order.
"""
import collections

# type → (value of row 1, value of row 2). Types that are not cacheable are left out: a statement
# that needs one is refused for that alone.
SAMPLES = {
    "bool": ("t", "f"), "int2": ("3", "-4"), "int4": ("5", "7"), "int8": ("11", "9000000000"),
    "float4": ("1.5", "-0.25"), "float8": ("0.1", "1234.5678"), "numeric": ("12.50", "-7"),
    "money": ("12.34", "-5"), "oid": ("25", "1259"), "text": ("abc", "Déjà vu 2"),
    "varchar": ("var", "char"), "bpchar": ("b", "pad  "), "name": ("some_name", "other"),
    "char": ("x", "y"), "bytea": (r"\x00ff41", r"\x"), "uuid":
    ("0123456789abcdef0123456789abcdef", "11111111-2222-3333-4444-555555555555"),
    "date": ("2026-03-04", "1999-12-31"), "time": ("05:06:07.8", "23:59:59"),
    "timestamp": ("2026-03-04 05:06:07", "1999-12-31 23:00:00"),
    "timestamptz": ("2026-07-04 05:06:07+02", "2026-01-04 05:06:07+00"),
    "interval": ("1 year 2 days 03:04:05", "-2 hours"), "json": ('{"a": [1, "x"]}', '[1, 2]'),
    "jsonb": ('{"a": [1, "x"], "b": null}', '[3, "2026-01-01T00:00:00+00"]'),
    "jsonpath": ("$.a", "$[*].datetime()"), "xml": ("<a>1</a>", "<b/>"), "bit": ("1", "0"),
    "varbit": ("101", "0"), "inet": ("10.0.0.1/8", "::1"), "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    "macaddr8": ("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"), "point": ("(1,2)", "(0,0)"),
    "line": ("{1,2,3}", "{1,-1,0}"), "lseg": ("[(0,0),(1,2)]", "[(0,0),(1,1)]"),
    "box": ("(0,0),(1,2)", "(1,1),(3,3)"), "path": ("((0,0),(1,1),(2,0))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1),(2,0))", "((0,0),(0,1),(1,1))"), "circle": ("<(0,0),2>", "<(1,1),1>"),
    "tsvector": ("'a':1 'fat':2", "cat"), "tsquery": ("a & b", "fat"), "pg_lsn": ("0/16B3748", "0/0"),
    "int4range": ("[1,5)", "empty"), "numrange": ("[1.5,2]", "(,3)"),
    "tsrange": ("[2026-01-01,2026-02-01)", "(,)"), "tstzrange": ("[2026-01-01,2026-02-01)", "(,)"),
    "daterange": ("[2026-01-01,2026-02-01)", "(,)"), "int8range": ("[1,9)", "[2,3]"),
    "int4multirange": ("{[1,5),[7,9)}", "{}"), "nummultirange": ("{[1,5)}", "{}"),
    "datemultirange": ("{[2026-01-01,2026-02-01)}", "{}"), "_int4": ("{1,NULL,3}", "{}"),
    "tstzmultirange": ("{[2026-01-01,2026-02-01)}", "{}"), "_text": ("{x,\"y z\"}", "{abc}"),
    "_int8": ("{1,2}", "{3}"), "_timestamptz": ("{2026-01-01 00:00+00}", "{}"),
    "_numeric": ("{1.5,2}", "{}"), "_jsonb": ('{"{}"}', "{}"), "_date": ("{2026-01-01}", "{}"),
    "_float8": ("{1.5,2}", "{3}"), "_bool": ("{t,f}", "{}"), "_uuid":
    ("{0123456789abcdef0123456789abcdef}", "{}"),
    # of extensions and of the test itself
    "mood": ("fine", "low"), "positive": ("5", "1"), "pair": ("(1,x)", "(2,)"),
    "citext": ("CaSe", "other"), "hstore": ("a=>1,b=>NULL", "c=>x"), "ltree": ("a.b.c", "a"),
    "lquery": ("a.*", "*.b"), "cube": ("(1,2),(3,4)", "(0)"), "seg": ("1..2", "3"),
    "geometry": ("SRID=4326;POINT(8.5 47.4)", "SRID=4326;POLYGON((0 0,0 1,1 1,0 0))"),
    "geography": ("POINT(8.5 47.4)", "POINT(8.6 47.5)"), "box2d": ("BOX(0 0,1 1)", "BOX(1 1,2 2)"),
    "box3d": ("BOX3D(0 0 0,1 1 1)", "BOX3D(1 1 1,2 2 2)"),
}
POLYMORPHIC = {"anyelement": "int4", "anycompatible": "int4", "anynonarray": "text",
               "anyarray": "_int4", "anycompatiblearray": "_int4", "any": "timestamptz",
               "anyenum": "mood", "anyrange": "daterange", "anymultirange": "int4multirange",
               "anycompatiblerange": "int4range", "anycompatiblenonarray": "int4",
               "record": None, "cstring": None}
EXTENSIONS = ("postgis", "hstore", "citext", "pg_trgm", "unaccent", "ltree", "cube", "seg",
              "fuzzystrmatch", "pgcrypto", "uuid-ossp", "intarray", "earthdistance", "tablefunc")
# Slow; and two of PostGIS 3.3 that print memory nobody has set: for geometries without a Z, for text
# that is no polyline.
LEFT_OUT = {"st_3dextent", "st_linefromencodedpolyline", "database_to_xml", "database_to_xmlschema", "database_to_xml_and_xmlschema",
            "schema_to_xml", "schema_to_xmlschema", "schema_to_xml_and_xmlschema", "pg_sleep",
            "pg_sleep_for", "pg_sleep_until"}
# VOLATILE functions that are run, too, because they change nothing.
HARMLESS_VOLATILE = ("random", "clock_timestamp", "timeofday", "gen_random_uuid",
                     "pg_backend_pid", "uuid_generate_v4", "gen_random_bytes", "gen_salt")

FUNCTIONS = """
SELECT n.nspname, p.proname, p.prokind, p.oid,
       ARRAY(SELECT t.typname FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, n)
             JOIN pg_type t ON t.oid = a.oid ORDER BY a.n)::text[], p.proretset, p.provariadic <> 0,
       coalesce(g.aggkind, 'n'), coalesce(g.aggnumdirectargs, 0)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
WHERE n.nspname NOT IN ('pgfresh', 'information_schema') AND p.prokind IN ('f', 'a', 'w')
  AND (p.provolatile <> 'v' OR p.proname = ANY (%s)) AND NOT p.proname = ANY (%s)
ORDER BY p.oid"""
CASTS = """
SELECT s.typname, t.typname FROM pg_cast c JOIN pg_type s ON s.oid = c.castsource
       JOIN pg_type t ON t.oid = c.casttarget ORDER BY c.oid"""
OPERATORS = """
SELECT n.nspname, o.oprname, l.typname, r.typname
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
     LEFT JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright ORDER BY o.oid"""


def install(connection):
    """Extensions that are there, and types of the test's own."""
    installed = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
    for name in EXTENSIONS:
        if name in installed:
            connection.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}"')
    connection.execute("CREATE TYPE mood AS ENUM ('low', 'fine')")
    connection.execute("CREATE TYPE pair AS (a int, b text)")
    connection.execute("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    known = {row[0] for row in connection.execute("SELECT typname FROM pg_type")}
    types = [name for name in SAMPLES if name in known]
    columns = ", ".join(f'c_{name} {_type(name)}' for name in types)
    connection.execute(f"CREATE TABLE sample (id int PRIMARY KEY, {columns})")
    for row in (0, 1):
        values = ", ".join(f"%s::{_type(name)}" for name in types)
        connection.execute(f"INSERT INTO sample VALUES ({row + 1}, {values})",
                           [SAMPLES[name][row] for name in types])
    connection.execute("INSERT INTO sample (id) VALUES (3)")
    connection.execute("SELECT pgfresh.watch('sample')")
    if "spatial_ref_sys" in {row[0] for row in connection.execute("SELECT relname FROM pg_class")}:
        connection.execute("SELECT pgfresh.watch('spatial_ref_sys')")
    return types


def _type(name):
    """As SQL spells it."""
    return f'"{name}"' if name == "char" else name[1:] + "[]" if name[0] == "_" else name


class Maker:
    def __init__(self, types, random):
        self.types = set(types)
        self.random = random

    def argument(self, name):
        """An expression of that type; None when there is no sample of it."""
        name = POLYMORPHIC.get(name, name)
        if name not in self.types:
            return None
        if self.random.random() < 0.75:
            return f"s.c_{name}"
        value = self.random.choice(SAMPLES[name]).replace("'", "''")
        return f"'{value}'::{_type(name)}"

    def arguments(self, names):
        made = [self.argument(name) for name in names]
        return None if None in made else made

    def select(self, expression, where=None):
        return f"SELECT {expression} FROM sample s WHERE {where or self.where()}"

    def where(self):
        return self.random.choice(["s.id = 1", "s.id = 1", "s.id = 2", "s.id <= 2", "s.id = 3"])

    def function(self, row):
        schema, name, kind, _, types, returns_set, variadic, aggregate, direct = row
        made = self.arguments(types)
        if made is None:
            return None
        call = f'"{schema}"."{name}"'
        if variadic:
            made[-1] = "VARIADIC " + made[-1] if types[-1] != "any" else made[-1]
        if kind == "a" and aggregate != "n":
            first, rest = made[:direct], made[direct:]
            return self.select(f"{call}({', '.join(first)}) WITHIN GROUP (ORDER BY "
                               f"{', '.join(rest)})", "s.id <= 2")
        inside = ", ".join(made) or ("*" if name == "count" else "")
        if kind == "w":
            return self.select(f"{call}({inside}) OVER (ORDER BY s.id)", "s.id <= 2")
        if kind == "a":
            return self.select(f"{call}({inside})", "s.id <= 2")
        if returns_set and self.random.random() < 0.5:
            return f"SELECT f.* FROM sample s, {call}({inside}) f WHERE s.id = 1"
        return self.select(f"{call}({inside})")

    def operator(self, row):
        schema, name, left, right = row
        made = self.arguments([right] if left is None else [left, right])
        if made is None:
            return None
        spelt = name if self.random.random() < 0.7 else f'OPERATOR("{schema}".{name})'
        return self.select(f"{made[0]} {spelt} {made[1]}" if left else f"{spelt} {made[0]}")

    def cast(self, source, target):
        return self.select(f"s.c_{source}::{_type(target)}")

    def type(self, name):
        column = f"s.c_{name}"
        return [self.select(column), self.select(f"ARRAY[{column}]"), self.select(f"ROW({column})"),
                self.select(f"to_json({column}), {column}::text"),
                self.select(f"json_agg({column}), array_agg({column} ORDER BY id)", "id <= 2"),
                self.select(f"coalesce({column}, NULL), CASE WHEN id = 1 THEN {column} END"),
                f"SELECT DISTINCT {column} FROM sample s WHERE id = 1"]


def make(connection, random):
    types = install(connection)
    maker = Maker(types, random)
    made = collections.OrderedDict()
    for row in connection.execute(FUNCTIONS, (list(HARMLESS_VOLATILE), list(LEFT_OUT))).fetchall():
        made[maker.function(row)] = True
    for row in connection.execute(OPERATORS).fetchall():
        made[maker.operator(row)] = True
    casts = connection.execute(CASTS).fetchall()
    casts += [pair for name in types for pair in ((name, "text"), ("text", name))]
    for source, target in casts:
        if source in maker.types and target in maker.types:
            made[maker.cast(source, target)] = True
    for name in types:
        made.update(dict.fromkeys(maker.type(name), True))
    made.pop(None, None)
    statements = list(made)
    random.shuffle(statements)
    return statements
