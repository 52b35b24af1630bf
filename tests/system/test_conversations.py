"""Random conversations, held with PostgreSQL and with pgfresh: each byte must be the same.

CONVERSATION_SEED chooses the first one and CONVERSATION_SECONDS says for how long they go on; with a
fixed seed the same ones are held each time, as many as fit. What differs is made as short as can be.
"""
import collections
import itertools
import os
import time

import pytest

from conversation import Maker
from conversation_stage import Side, Stage, shrunk
from conversation_words import WORLD
from pgfresh_proc import Pgfresh, wait_until
from pgwire import Wire, rows

SEED = int(os.environ.get("CONVERSATION_SEED", "1"))
SECONDS = float(os.environ.get("CONVERSATION_SECONDS", "20"))


@pytest.fixture
def stage(server):
    """Two databases that are the same to the last oid, one of them behind a pgfresh."""
    names = ("conversed_a", "conversed_b")
    server.create_database("conversed", template="stage")
    server.psql(WORLD, database="conversed")
    for name in names:
        server.create_database(name, template="conversed")
    first_oid = int(server.psql("CREATE TEMP TABLE newest (); SELECT 'newest'::regclass::oid"))
    with Pgfresh(server.url()) as proxy:
        made = Stage(Side(server.port, names[0], first_oid), Side(proxy.port, names[1], first_oid),
                     lambda: proxy.metrics().hits)
        yield made
        made.close()
    for name in (*names, "conversed"):
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def wake(side):
    """The feed of a database begins with its first client."""
    with Wire(port=side.port).login("postgres", side.database) as wire:
        wait_until(lambda: wire.query("SELECT name FROM world.thing WHERE id = 1")
                   and rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit", "a hit")


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 100)
def test_conversations(stage):
    wake(stage.through)
    until = time.monotonic() + SECONDS
    hits, played = collections.Counter(), collections.Counter()
    for seed in itertools.count(SEED):
        if time.monotonic() > until:
            break
        maker = Maker(seed)
        conversation = maker.make()
        before = stage.client_hits
        difference = stage.play(conversation)
        played[maker.family] += 1
        hits[maker.family] += stage.client_hits - before
        if difference:
            less = shrunk(stage, conversation)
            if less is None and maker.timed:
                continue  # a machine that was slow for a moment
            pytest.fail(f"CONVERSATION_SEED={seed} ({maker.family}): {difference}\n\n{less or 'not again'}\n"
                        f"{less and stage.play(less)}")
    print(f"{stage.played} conversations, {stage.messages} messages, {stage.reads} descriptions, "
          f"{stage.client_hits} hits: {dict(hits)}")
    assert all(hits[family] for family in played if played[family] >= 8), (hits, played)
    assert stage.client_hits > stage.played // 2, "what is not asked of the cache proves nothing"
