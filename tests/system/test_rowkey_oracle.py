"""Row-aware dependencies against PostgreSQL itself.

Random questions on random tables are asked through pgfresh again and again, with a random write in
between, and each answer is compared with PostgreSQL's own. The writes go through pgfresh, so
promise P1 holds for each of them and nothing has to be waited for: an answer that a write should
have thrown away, and did not, is caught at once. That many answers survive writes to the tables
they read is asserted too, or the comparison would prove nothing.

ROWKEY_SEED=n repeats one run, ROWKEY_WORLDS=n makes it longer.
"""
import os
import random

import psycopg
import pytest

from rowkey_world import World

SEED = int(os.environ.get("ROWKEY_SEED", random.randrange(10**6)))
WORLDS = int(os.environ.get("ROWKEY_WORLDS", "4"))
QUESTIONS = 40
WRITES = 45
SKIPPED = (psycopg.errors.SyntaxErrorOrAccessRuleViolation, psycopg.errors.DataError,
           psycopg.errors.FeatureNotSupported)


def answer(connection, sql, parameters):
    """The rows in any order; None where PostgreSQL (or the driver) does not like the question."""
    try:
        rows = connection.execute(sql.encode(), parameters or None).fetchall()
    except (*SKIPPED, psycopg.ProgrammingError):
        return None
    return sorted(rows, key=repr)


def questions_of(world, direct):
    chosen = []
    asked = 0
    while len(chosen) < QUESTIONS:
        sql, parameters = world.question()
        asked += 1
        assert asked < 100 * QUESTIONS, "hardly any question is one to PostgreSQL"
        if answer(direct, sql, parameters) is not None:
            chosen.append((sql, parameters))
    return chosen


def write(connection, world):
    """Until one is taken."""
    for _ in range(50):
        sql = world.write()
        try:
            connection.execute(sql.encode())
            return sql
        except psycopg.errors.IntegrityError:  # no such partition
            continue
    raise AssertionError("no write is taken")


@pytest.mark.seconds(60 + 30 * WORLDS)
def test_answers_are_those_of_postgresql(own_play):
    play = own_play()
    direct = play.direct()
    survived = 0
    for number in range(WORLDS):
        seed = SEED + number
        direct.execute("DROP SCHEMA IF EXISTS world CASCADE; CREATE SCHEMA world")
        direct.execute("SET search_path = world")
        world = World(seed)
        direct.execute(world.ddl().encode())
        app = play.app(options="-c search_path=world")
        writer = play.app(options="-c search_path=world")
        for _ in range(10):
            write(writer, world)
        play.hot(app, "SELECT count(*) FROM r0 WHERE id = 1", seconds=15)
        questions = questions_of(world, direct)
        history = []
        for _ in range(WRITES):
            before = play.metrics().hits
            for sql, parameters in questions:
                found = answer(app, sql, parameters)
                wanted = answer(direct, sql, parameters)
                assert found == wanted, (
                    f"seed {seed}: {sql}\nwith {parameters}\nis {found}\nnot {wanted}\nafter "
                    + "\n".join(history[-5:]) + f"\n{world.ddl()}")
            survived += play.metrics().hits - before
            history.append(write(writer, world))
    share = survived / (WORLDS * WRITES * QUESTIONS)
    print(f"seed {SEED}: {share:.0%} of the questions were answered from memory")
    assert share > 0.4, f"seed {SEED}: {share:.0%} of the answers survived a write"
