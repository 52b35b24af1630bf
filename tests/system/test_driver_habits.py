"""What drivers do by habit and applications rely on: the same script, played directly and through
pgfresh, must tell the same, errors and their order included. Each is played until the cache has
answered some of it, so that what is compared is not only what passes through."""
import asyncio
import glob
import json
import os
import shutil

import asyncpg
import psycopg
import pytest

from test_drivers import HERE, run

WORLD = """
SET client_min_messages = warning;
DROP TABLE IF EXISTS habit CASCADE;
CREATE TABLE habit (id int PRIMARY KEY, name text, kind text, price numeric DEFAULT 1);
INSERT INTO habit SELECT n, 'habit ' || n, 'a' FROM generate_series(1, 30) n;
SELECT pgfresh.watch('habit');
"""
BY_ID = "SELECT * FROM habit WHERE id = {}"


def same(play, script, rounds=4):
    """`script(url)` gives a list; it is that of PostgreSQL each time."""
    play.sql(WORLD)
    expected = script(play.server.url(database=play.database))
    before = play.metrics().hits
    for _ in range(rounds):
        play.sql(WORLD)
        play.hot(play.app(), BY_ID.format(1), seconds=15)
        got = script(play.url())
        for a, b in zip(expected, got):
            assert a == b
        assert len(expected) == len(got)
    assert play.metrics().hits - before > 2 * rounds, "what never hits proves nothing"


def told(error):
    return type(error).__name__, getattr(error, "sqlstate", None), str(error).split("\n")[0]


# -- psycopg 3 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [None, 0, 2])
def test_psycopg_pipeline(play, prepare):
    def script(url):
        out = []
        with psycopg.connect(url, autocommit=True, prepare_threshold=prepare) as app:
            sql = BY_ID.format("%s")
            for turn in range(4):
                with app.pipeline():
                    cursors = [app.execute(sql, (n,)) for n in (1, 2, 1, 99)]
                    cursors.append(app.execute("UPDATE habit SET name = %s WHERE id = 2",
                                               (f"turn {turn}",)))
                    cursors += [app.execute(sql, (n,)) for n in (2, 1)]
                out.append([c.fetchall() if c.description else c.rowcount for c in cursors])
                # One fails: what is behind it, up to the Sync, is aborted.
                try:
                    with app.pipeline() as pipeline:
                        first = app.execute(sql, (1,))
                        app.execute("SELECT 1 / (id - %s) FROM habit WHERE id = 1", (1,))
                        app.execute(sql, (2,))
                        pipeline.sync()
                        app.execute(sql, (3,))
                except psycopg.Error as error:
                    out.append([first.fetchall(), told(error)])
                try:
                    with app.pipeline(), app.transaction():
                        app.execute("UPDATE habit SET name = 'inner' WHERE id = 3")
                        with app.transaction():
                            app.execute(sql, (3,))
                            app.execute("INSERT INTO habit VALUES (1)")
                            app.execute(sql, (3,))
                except psycopg.Error as error:
                    out.append(told(error))
                out.append(app.execute(sql, (3,)).fetchall())
                with app.transaction(), app.cursor("c", scrollable=True) as cursor:
                    cursor.execute("SELECT id FROM habit ORDER BY id")
                    out.append([cursor.fetchmany(3), app.execute(sql, (1,)).fetchone(),
                                cursor.scroll(-2), cursor.fetchmany(2)])
        return out

    same(play, script)


@pytest.mark.parametrize("change", ["ALTER TABLE habit ADD COLUMN extra int DEFAULT 7",
                                    "ALTER TABLE habit ALTER kind TYPE varchar(9)",
                                    "ALTER TABLE habit DROP COLUMN kind",
                                    "ALTER TABLE habit RENAME kind TO sort"])
def test_psycopg_prepared_before_ddl(play, change):
    def script(url):
        out = []
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as app, \
                psycopg.connect(url, autocommit=True) as other:
            app.execute(BY_ID.format("%s"), (1,))
            for turn in range(6):
                out.append(app.execute(BY_ID.format("%s"), (1,)).fetchall())
            other.execute(change)
            for turn in range(3):
                try:
                    out.append(app.execute(BY_ID.format("%s"), (1,)).fetchall())
                except psycopg.Error as error:
                    out.append(told(error))
            try:
                with app.transaction():
                    out.append(app.execute("SELECT name FROM habit WHERE id = %s", (2,)).fetchall())
                    out.append(app.execute(BY_ID.format("%s"), (1,)).fetchall())
            except psycopg.Error as error:
                out.append(told(error))
            app.execute("DEALLOCATE ALL")
            out.append(app.execute("SELECT count(*) FROM pg_prepared_statements").fetchone())
        return out

    same(play, script)


# -- asyncpg --------------------------------------------------------------------------------------


def with_asyncpg(body):
    def script(url):
        async def go():
            out = []
            one, other = await asyncpg.connect(url), await asyncpg.connect(url)
            try:
                await body(one, other, out)
            finally:
                await one.close()
                await other.close()
            return out

        return asyncio.run(asyncio.wait_for(go(), 40))

    return script


@pytest.mark.parametrize("place", ["outside", "block"])
@pytest.mark.parametrize("change", ["ALTER TABLE habit ADD COLUMN extra int DEFAULT 7",
                                    "ALTER TABLE habit ALTER kind TYPE varchar(9)",
                                    "DROP TABLE habit; CREATE TABLE habit (id int, other text)"])
def test_asyncpg_statement_cache(play, place, change):
    """Its cached statements are outdated by DDL: outside a block it asks again by itself."""
    async def body(one, other, out):
        for turn in range(6):
            out.append([tuple(row) for row in await one.fetch(BY_ID.format("$1"), 1)])
            out.append(await one.fetchval("SELECT name FROM habit WHERE id = $1", 2))
        await other.execute(change)
        for turn in range(3):
            try:
                if place == "block":
                    async with one.transaction():
                        out.append([tuple(r) for r in await one.fetch(BY_ID.format("$1"), 1)])
                else:
                    out.append([tuple(row) for row in await one.fetch(BY_ID.format("$1"), 1)])
            except asyncpg.PostgresError as error:
                out.append(told(error))
        out.append(await one.fetchval("SELECT count(*) FROM pg_prepared_statements"))

    same(play, with_asyncpg(body))


def test_asyncpg_cursors_and_timeouts(play):
    async def body(one, _, out):
        statement = await one.prepare("SELECT id, name FROM habit WHERE id > $1 ORDER BY id")
        for turn in range(4):
            out.append([tuple(r) for r in await one.fetch(BY_ID.format("$1"), 1)])
            async with one.transaction():
                cursor = await statement.cursor(20)
                out.append([tuple(r) for r in await cursor.fetch(3)])
                out.append([tuple(r) for r in await one.fetch(BY_ID.format("$1"), 1)])
                out.append([tuple(r) for r in await cursor.fetch(3)])
                out.append([tuple(r) async for r in statement.cursor(25, prefetch=2)])
            try:
                await one.fetch("SELECT *, pg_sleep(5) FROM habit WHERE id = 1", timeout=0.2)
            except asyncio.TimeoutError as error:
                out.append(told(error))
            out.append([tuple(r) for r in await one.fetch(BY_ID.format("$1"), 2)])
            await one.reset()
            out.append(await statement.fetchval(3))

    same(play, with_asyncpg(body))


# -- node-postgres, postgres.js, JDBC -------------------------------------------------------------


def test_node_postgres_and_postgres_js(play):
    if not os.path.isdir(f"{HERE}/node/node_modules/pg"):
        pytest.skip("tests/system/node/node_modules is missing: npm ci")
    same(play, lambda url: json.loads(run(["node", f"{HERE}/node/habits.js", url])), rounds=3)


@pytest.fixture(scope="module")
def java_habits(tmp_path_factory):
    """Habits as a command; its virtual machine does not optimise what is soon over."""
    jars = glob.glob("/usr/share/java/postgresql.jar")
    if not shutil.which("javac") or not jars:
        pytest.skip("javac or libpostgresql-jdbc-java is missing")
    folder = tmp_path_factory.mktemp("habits")
    run(["javac", "-d", str(folder), f"{HERE}/Habits.java"])
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{folder}:{jars[0]}",
            "Habits"]


@pytest.mark.parametrize("options", ["prepareThreshold=1", "prepareThreshold=5",
                                     "prepareThreshold=0", "preferQueryMode=simple",
                                     "preferQueryMode=extendedCacheEverything",
                                     "prepareThreshold=2&autosave=always",
                                     "defaultRowFetchSize=4&binaryTransfer=false"])
def test_jdbc(play, java_habits, options):
    def script(url):
        return run([*java_habits,
                    f"jdbc:{url.replace('postgres@', '')}?user=postgres&sslmode=disable"
                    f"&{options}"]).splitlines()

    same(play, script, rounds=2)
