"""Drivers as their users use them: answers right, own writes seen, and hits rising."""
import asyncio
import glob
import json
import os
import re
import shutil
import subprocess

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy import orm

from play import one

HERE = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PG")}


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=ENVIRONMENT,
                          **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# -- SQLAlchemy ---------------------------------------------------------------------------------

Base = orm.declarative_base()


class Item(Base):
    __tablename__ = "item"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    name = sqlalchemy.Column(sqlalchemy.Text, nullable=False)
    price = sqlalchemy.Column(sqlalchemy.Numeric)
    parts = orm.relationship("Part", order_by="Part.id", back_populates="item")


class Part(Base):
    __tablename__ = "part"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    item_id = sqlalchemy.Column(sqlalchemy.Integer, sqlalchemy.ForeignKey("item.id"))
    name = sqlalchemy.Column(sqlalchemy.Text, nullable=False)
    item = orm.relationship(Item, back_populates="parts")


def test_sqlalchemy_orm(play):
    engine = sqlalchemy.create_engine(play.url(scheme="postgresql+psycopg2"), pool_size=3,
                                      pool_pre_ping=True)
    make = orm.sessionmaker(engine)
    try:
        before = play.metrics()
        for _ in range(30):
            with make() as session:
                item = session.get(Item, 30)
                assert [part.name for part in item.parts] == ["part 59", "part 60"]
        rise = play.metrics().hits - before.hits
        assert rise >= 30, f"{rise} hits of 60 reads"
        with make() as session:
            session.get(Item, 30).name = "by the ORM"
            session.add(Part(id=10_000, item_id=30, name="new part"))
            session.flush()
            assert session.query(Part).filter_by(item_id=30).count() == 3
            session.commit()
            assert session.get(Item, 30).name == "by the ORM"
        with make() as session:
            assert [part.id for part in session.get(Item, 30).parts] == [59, 60, 10_000]
    finally:
        engine.dispose()


def test_sqlalchemy_blocks_of_hits_are_free(play):
    """Its BEGIN … ROLLBACK around every read never reaches PostgreSQL once the reads hit."""
    engine = sqlalchemy.create_engine(play.url(scheme="postgresql+psycopg2"))
    sql = sqlalchemy.text("SELECT name FROM item WHERE id = 31")
    try:
        for _ in range(5):
            with engine.connect() as connection:
                connection.execute(sql)
        with play.expect(hits=10, misses=0, bypasses=0, local_blocks_total=10,
                         server_sent_bytes_total=0):
            for _ in range(10):
                with engine.connect() as connection:
                    assert connection.execute(sql).scalar() == "item 31"
    finally:
        engine.dispose()


# -- asyncpg ------------------------------------------------------------------------------------


def test_asyncpg_pool(play):
    """Giving a connection back resets it, and asyncpg's fetchval asks for one row only."""

    async def go():
        async with asyncpg.create_pool(play.url(), min_size=3, max_size=3) as pool:
            for turn in range(30):
                name = f"turn {turn}"
                await pool.execute("UPDATE item SET name = $1 WHERE id = 32", name)
                seen = await asyncio.gather(*(pool.fetchval(
                    "SELECT name FROM item WHERE id = $1", 32) for _ in range(3)))
                assert seen == [name] * 3
            before = play.metrics()
            for _ in range(30):
                rows = await pool.fetch("SELECT name FROM item WHERE id = $1", 33)
                assert rows[0][0] == "item 33"
            rise = play.metrics()
            assert rise.hits - before.hits >= 20, rise.bypasses - before.bypasses

    asyncio.run(asyncio.wait_for(go(), 40))


def test_asyncpg_fetchrow_and_fetchval_hit(play):
    """They ask for one row at most, and their Sync ends the portal: such an answer is complete."""
    row_sql = "SELECT id, name FROM item WHERE id = $1"
    value_sql = "SELECT name FROM item WHERE id > $1 ORDER BY id"  # more rows than are asked for

    async def hot(connection, what, *question):
        for _ in range(100):
            before = play.metrics().hits
            await what(*question)
            if play.metrics().hits > before:
                return
        raise AssertionError(f"no hit: {question}; {play.metrics().bypasses}")

    async def go():
        connection = await asyncpg.connect(play.url())
        try:
            await hot(connection, connection.fetchrow, row_sql, 35)
            await hot(connection, connection.fetchval, value_sql, 35)
            with play.expect(hits=20, misses=0, bypasses=0):
                for _ in range(10):
                    assert tuple(await connection.fetchrow(row_sql, 35)) == (35, "item 35")
                    assert await connection.fetchval(value_sql, 35) == "item 36"
            # All rows are another answer than the first of them.
            assert len(await connection.fetch(value_sql, 35)) > 1
            assert await connection.fetchval(value_sql, 35) == "item 36"
            await connection.execute("UPDATE item SET name = 'other' WHERE id = 36")
            assert await connection.fetchval(value_sql, 35) == "other"
            async with connection.transaction():  # there the portal lives on
                before = play.metrics()
                for _ in range(3):
                    assert await connection.fetchval(value_sql, 35) == "other"
                assert play.metrics().hits == before.hits
        finally:
            await connection.close()

    asyncio.run(asyncio.wait_for(go(), 40))


# -- psycopg 3 ----------------------------------------------------------------------------------


def test_psycopg_prepared_after_five_executions(play):
    app = play.app(prepare_threshold=5)
    sql = "SELECT name FROM item WHERE id = %s"
    for turn in range(40):
        app.execute("UPDATE item SET name = %s WHERE id = %s", (f"turn {turn}", 34))
        assert one(app, sql, (34,)) == f"turn {turn}"
    play.hot(app, sql, (34,))
    with play.expect(hits=20, misses=0, bypasses=0):
        for _ in range(20):
            assert one(app, sql, (34,)) == "turn 39"
    assert one(app, "SELECT count(*) FROM pg_prepared_statements") >= 1


# -- node-postgres ------------------------------------------------------------------------------


def test_node_postgres(play):
    if not os.path.isdir(f"{HERE}/node/node_modules/pg"):
        pytest.skip("tests/system/node/node_modules is missing: npm ci")
    before = play.metrics()
    report = json.loads(run(["node", f"{HERE}/node/drive.js", play.url()]))
    assert report == {
        "answers": ["item 1, item 2, item 3"], "own": "by node", "rolledBack": "item 70",
        "code": "22012", "parallel": ",".join(str(n + 1) for n in range(40)), "heard": "heard"}
    assert play.metrics().hits - before.hits > 90  # of 180 reads before the first write


# -- postgres.js --------------------------------------------------------------------------------


def test_postgres_js(play):
    if not os.path.isdir(f"{HERE}/node/node_modules/postgres"):
        pytest.skip("tests/system/node/node_modules is missing: npm ci")
    before = play.metrics()
    report = json.loads(run(["node", f"{HERE}/node/drive_postgres.js", play.url()]))
    old, new = "72, item 72, 73, item 73", "72, by postgres.js, 73, by postgres.js"
    assert report == {
        "answers": [old] * 4, "again": old, "written": [new] * 3,
        "own": "72, not for long, 73, by postgres.js", "end": "rolled back", "rolledBack": new}
    # The description is kept by the first, the rows by the second of the four connections.
    assert play.metrics().hits - before.hits >= 4


# -- JDBC ---------------------------------------------------------------------------------------


def test_jdbc(play, tmp_path):
    jars = glob.glob("/usr/share/java/postgresql.jar")
    if not shutil.which("javac") or not jars:
        pytest.skip("javac or libpostgresql-jdbc-java is missing")
    run(["javac", "-d", str(tmp_path), f"{HERE}/Drive.java"])
    before = play.metrics()
    url = (f"jdbc:postgresql://127.0.0.1:{play.proxy.port}/{play.database}?user=postgres"
           "&sslmode=disable&loginTimeout=10")
    said = run(["java", "-cp", f"{tmp_path}:{jars[0]}", "Drive", url])
    assert dict(line.split("=", 1) for line in said.splitlines()) == {
        "answers": "[5 item 5 7.5]", "own": "by jdbc", "rolledBack": "item 80", "fetched": "50",
        "stale": "none", "batch": "batch 99", "code": "22012"}
    assert play.metrics().hits - before.hits > 40


# -- pgbench ------------------------------------------------------------------------------------


@pytest.fixture
def bench_tables(play):
    run(["pgbench", "-i", "-q", "-s", "1", play.server.url(database=play.database)])
    play.sql("SELECT pgfresh.watch('pgbench_accounts')")
    yield
    play.sql("DROP TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history")


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_select_only(play, bench_tables, mode, tmp_path):
    script = tmp_path / "select.sql"
    script.write_text("\\set aid random(1, 50)\n"
                      "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n")
    play.hot(play.app(), "SELECT abalance FROM pgbench_accounts WHERE aid = 1")
    before = play.metrics()
    said = run(["pgbench", "-n", "-f", str(script), "-M", mode, "-c", "8", "-j", "2", "-T", "3",
                play.url()])
    done = int(re.search(r"number of transactions actually processed: (\d+)", said).group(1))
    assert "number of failed transactions: 0 " in said
    after = play.metrics()
    assert done > 500
    assert after.hits - before.hits > 0.8 * done


@pytest.mark.parametrize("mode", ["simple", "prepared"])
def test_pgbench_reads_and_writes(play, bench_tables, mode):
    said = run(["pgbench", "-n", "-M", mode, "-c", "8", "-j", "2", "-T", "3", play.url()])
    assert "number of failed transactions: 0 " in said
    assert play.sql("SELECT (SELECT sum(abalance) FROM pgbench_accounts) = "
                    "(SELECT sum(bbalance) FROM pgbench_branches)") == "t"
