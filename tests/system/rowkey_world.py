"""Random tables, questions and writes for test_rowkey_oracle.py.

The values come from small domains, so that writes meet what is asked for, and the tables share
column names, so that NATURAL, USING and unqualified names mean something. Many of the questions
are errors to PostgreSQL (ambiguous or missing names, types that do not compare); those are asked
once, directly, and thrown away.
"""
import random

UUIDS = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(4)]
DOMAINS = {
    "int2": [1, 2, 3, -1], "int4": [1, 2, 3, -1, 0], "int8": [1, 2, 3, 9999999999],
    "uuid": UUIDS, "text": ["a", "b", "ä", "", "a ", "A"], "varchar(4)": ["a", "b", "ä", "A"],
    "bool": [True, False], "numeric": [1, 2, 3], "bpchar": ["a", "b"],
}
KEYS = {"int2", "int4", "int8", "uuid", "text", "varchar(4)", "bool"}
COLUMNS = ["id", "k", "u", "s", "x"]


class Table:
    def __init__(self, rng, name):
        self.name = name
        kinds = {"id": ["int4", "int8"], "k": ["int2", "int4", "int8", "numeric"], "u": ["uuid"],
                 "s": ["text", "varchar(4)", "bpchar"], "x": ["bool", "int4", "text"]}
        extra = f"y{name[1:]}"  # a name no other table has
        self.columns = {c: rng.choice(kinds[c]) for c in COLUMNS if rng.random() < 0.8}
        self.columns["id"] = rng.choice(kinds["id"])
        self.columns[extra] = rng.choice(["int4", "text", "uuid"])
        self.shape = rng.choice(["plain", "plain", "plain", "partitioned", "inherited"])
        usable = [c for c, t in self.columns.items() if t in KEYS]
        self.watched = [c for c in usable if rng.random() < 0.7]
        self.parts = []

    def ddl(self):
        columns = ", ".join(f"{c} {t}" for c, t in self.columns.items())
        name = self.name
        out = [f"CREATE TABLE {name} ({columns})"]
        if self.shape == "partitioned":
            out[0] += " PARTITION BY LIST (id)"
            # The columns of a partition may stand in another order, with gaps.
            turned = ", ".join(f"{c} {t}" for c, t in reversed(self.columns.items()))
            out += [f"CREATE TABLE {name}_a (gone int, {turned})",
                    f"ALTER TABLE {name}_a DROP COLUMN gone",
                    f"ALTER TABLE {name} ATTACH PARTITION {name}_a FOR VALUES IN (1, 2)",
                    f"CREATE TABLE {name}_b PARTITION OF {name} DEFAULT"]
            self.parts = [f"{name}_a", f"{name}_b"]
        elif self.shape == "inherited":
            out.append(f"CREATE TABLE {name}_a (more int) INHERITS ({name})")
            self.parts = [f"{name}_a"]
        watched = "{" + ",".join(self.watched) + "}"
        out.append(f"SELECT pgfresh.watch('{name}', '{watched}')")
        return ";\n".join(out)


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class World:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.tables = [Table(self.rng, f"r{n}") for n in range(4)]

    def ddl(self):
        return ";\n".join(table.ddl() for table in self.tables)

    # -- writes -----------------------------------------------------------------------------------

    def row_value(self, kind):
        return None if self.rng.random() < 0.1 else self.rng.choice(DOMAINS[kind])

    def write(self):
        rng = self.rng
        table = rng.choice(self.tables)
        target = table.name
        if table.parts and rng.random() < 0.3:
            target = rng.choice(table.parts)
        columns = list(table.columns)
        wheel = rng.random()
        if wheel < 0.45:
            rows = []
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                values = {c: self.row_value(t) for c, t in table.columns.items()}
                if target.endswith("_a") and table.shape == "partitioned":
                    values["id"] = rng.choice([1, 2])
                if target.endswith("_b"):
                    values["id"] = 3
                rows.append("(" + ", ".join(literal(values[c]) for c in columns) + ")")
            return f"INSERT INTO {target} ({', '.join(columns)}) VALUES {', '.join(rows)}"
        some = rng.choice(columns)
        where = rng.choice([f"{some} = {literal(rng.choice(DOMAINS[table.columns[some]]))}",
                            f"{some} IS NULL", "random() < 0.3"])
        if wheel < 0.75:
            changed = rng.sample(columns, rng.choice([1, 1, 2]))
            if target != table.name and "id" in changed and table.shape == "partitioned":
                changed = [c for c in changed if c != "id"] or [columns[-1]]
            values = [f"{c} = {literal(self.row_value(table.columns[c]))}" for c in changed]
            return f"UPDATE {target} SET {', '.join(values)} WHERE {where}"
        if wheel < 0.98:
            return f"DELETE FROM {target} WHERE {where}"
        return f"TRUNCATE {target}"

    # -- questions --------------------------------------------------------------------------------

    def question(self):
        """(sql, parameters) for psycopg; the answer does not depend on the order of rows."""
        asker = Asker(self.rng, self.tables)
        sql = asker.select(0)
        if self.rng.random() < 0.1:
            sql += " UNION ALL " + asker.select(0)
        return sql, asker.parameters


class Asker:
    """Writes one question. `level`: of subqueries around."""

    def __init__(self, rng, tables):
        self.rng = rng
        self.tables = tables
        self.parameters = []
        self.aliases = 0

    def select(self, level):
        rng = self.rng
        scope = []  # (qualifier, table)
        source = self.source(level, scope)
        if rng.random() < 0.15:
            source += ", " + self.source(level, scope)
        conditions = [self.condition(scope, level) for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]
        where = " WHERE " + " AND ".join(conditions) if conditions else ""
        if not scope:
            return f"SELECT 1 AS id FROM {source}{where}"
        if level > 0:
            qualifier, table = rng.choice(scope)
            column = rng.choice(list(table.columns))
            return f"SELECT {qualifier}.{column} AS id FROM {source}{where}"
        shown = rng.choice(["count(*)", "*", "*", "1"])
        if shown == "*":  # as one text, for columns may have equal names
            shown = ", ".join(f"to_json({qualifier}.{rng.choice(list(table.columns))})::text"
                              for qualifier, table in scope)
        if rng.random() < 0.1:
            shown += f", (SELECT count(*) FROM ({self.select(1)}) c)"
        return f"SELECT {shown} FROM {source}{where}"

    def source(self, level, scope, depth=0):
        rng = self.rng
        if depth == 0:
            size = rng.choice([0, 1, 1, 1, 2])
        else:
            size = rng.choice([0, 0, 0, 1])
        out = self.item(level, scope)
        for _ in range(size):
            kind = rng.choice(["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN",
                               "CROSS JOIN", "NATURAL JOIN", "NATURAL LEFT JOIN"])
            nested = depth < 2 and rng.random() < 0.3
            other = "(" + self.source(level, scope, depth + 1) + ")" if nested else self.item(
                level, scope)
            out += f" {kind} {other}"
            if kind.startswith(("CROSS", "NATURAL")):
                continue
            if rng.random() < 0.2:
                out += f" USING ({', '.join(rng.sample(COLUMNS, rng.choice([1, 1, 2])))})"
            else:
                parts = [self.condition(scope, level, on=True)
                         for _ in range(rng.choice([1, 1, 2]))]
                if rng.random() < 0.6:
                    parts.append(self.equation(scope))
                out += " ON " + " AND ".join(parts)
        return out

    def item(self, level, scope):
        rng = self.rng
        table = rng.choice(self.tables)
        if level < 2 and rng.random() < 0.08:
            self.aliases += 1
            alias = f"q{self.aliases}"
            return f"({self.select(level + 1)}) {alias}"
        name = rng.choice([table.name] * 6 + table.parts + [f"ONLY {table.name}"])
        self.aliases += 1
        alias = f"a{self.aliases}"
        scope.append((alias, table))
        return f"{name} {alias}"

    def column(self, scope, wanted=None):
        """(text, type) of a column; seldom one that PostgreSQL finds elsewhere or not at all."""
        rng = self.rng
        if not scope:
            return "id", "int4"
        qualifier, table = rng.choice(scope)
        names = [c for c, t in table.columns.items() if wanted is None or t == wanted]
        name = rng.choice(names or list(table.columns))
        if rng.random() < 0.3:
            return name, table.columns[name]
        return f"{qualifier}.{name}", table.columns[name]

    def equation(self, scope):
        left, kind = self.column(scope)
        right, _ = self.column(scope, kind if self.rng.random() < 0.8 else None)
        return f"{left} = {right}"

    def condition(self, scope, level, on=False):
        rng = self.rng
        wheel = rng.random()
        if wheel < 0.12:
            return self.equation(scope)
        if wheel < 0.17 and level < 2 and not on:
            column, _ = self.column(scope)
            return rng.choice([
                f"EXISTS ({self.select(level + 1)} LIMIT 1)",
                f"EXISTS (SELECT 1 FROM {self.tables[0].name} e WHERE e.id = {column})",
                f"{column} IN ({self.select(level + 1)})"])
        column, kind = self.column(scope)
        if wheel < 0.25:
            return rng.choice([f"{column} IS NULL", f"{column} IS NOT NULL", "true",
                               f"NOT ({column} = {self.value(kind)})",
                               f"({column} = {self.value(kind)} OR {self.equation(scope)})",
                               f"{column} <> {self.value(kind)}"])
        if wheel < 0.35:
            values = ", ".join(self.value(kind) for _ in range(rng.choice([1, 2, 3])))
            return f"{column} IN ({values})"
        if wheel < 0.45:
            return f"{column} = ANY ({self.array(kind)})"
        left, right = column, self.value(kind)
        return f"{left} = {right}" if rng.random() < 0.8 else f"{right} = {left}"

    def parameter(self, value):
        self.parameters.append(value)
        return self.rng.choice(["%s", "%s", "%b", "%t"])

    def value(self, kind):
        rng = self.rng
        value = rng.choice(DOMAINS[kind])
        if rng.random() < 0.04:
            value = None
        plain = kind.split("(")[0]
        if rng.random() < 0.35:
            wheel = rng.random()
            cast = f"::{plain}" if rng.random() < 0.3 else ""
            if value is not None and wheel < 0.5:
                return self.parameter(self.spelled(kind, value)) + cast
            if kind == "uuid" and value is not None:
                import uuid
                return self.parameter(uuid.UUID(value)) + cast
            return self.parameter(value) + cast
        if value is None or rng.random() < 0.6:
            return literal(value)
        text = "'" + self.spelled(kind, value) + "'"
        if rng.random() < 0.3:
            text += "::" + rng.choice([plain, plain, kind, "text", "int8", "numeric"])
        return text

    def spelled(self, kind, value):
        rng = self.rng
        if kind == "uuid":
            return rng.choice([value, value.upper(), "{" + value + "}", value.replace("-", "")])
        if kind.startswith("int"):
            return rng.choice([str(value), f" {value} ", f"{value:04d}", f"+{value}"])
        if kind == "bool":
            return rng.choice(["t", "true", "TRUE", "on", "yes"] if value else ["f", "no", "off"])
        return str(value)

    def array(self, kind):
        rng = self.rng
        values = [rng.choice(DOMAINS[kind]) for _ in range(rng.choice([0, 1, 2, 3]))]
        plain = kind.split("(")[0]
        wheel = rng.random()
        if wheel < 0.3:
            quoted = ",".join('"' + self.spelled(kind, v).replace('"', '') + '"' for v in values)
            return "'{" + quoted + "}'" + rng.choice(["", f"::{plain}[]"])
        if wheel < 0.6 and values:
            inner = ", ".join(self.value(kind) for _ in values)
            return f"ARRAY[{inner}]" + rng.choice(["", f"::{plain}[]"])
        if kind == "uuid":
            import uuid
            return self.parameter([uuid.UUID(v) for v in values]) + f"::{plain}[]"
        return self.parameter(values) + rng.choice(["", f"::{plain}[]"])
