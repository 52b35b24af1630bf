"""A standby that is promoted, behind a name that moves, while the old primary lives on. Whoever
reads, reads what the PostgreSQL of his own session would have said; what is written reaches all
who read there."""
import contextlib
import time

import pytest

import judge_load
from conftest import HBA, set_the_stage
from judge import Judge
from pgfresh_proc import Pgfresh, wait_until
from pgserver import PrivatePostgres, Standby
from play import STALENESS_S, Play, one
from redis_server import Door
from relay import ANSWER, REQUEST, Relay

pytestmark = pytest.mark.seconds(120)
NAME = "SELECT name FROM item WHERE id = {}"
DATABASE = "moved"


@pytest.fixture(scope="module")
def primary():
    with PrivatePostgres(hba=HBA) as postgres:
        set_the_stage(postgres)
        postgres.create_database(DATABASE, template="stage")
        yield postgres


@pytest.fixture
def standby(primary):
    """One that has all that the primary has."""
    with Standby(primary) as postgres:
        yield postgres


@pytest.fixture
def stages():
    """A factory of pgfreshs before a relay, or before a server."""
    with contextlib.ExitStack() as stack:
        def make(server, port=None, **settings):
            url = f"postgresql://postgres@127.0.0.1:{port or server.port}/{DATABASE}"
            stage = Play(server, DATABASE, stack.enter_context(Pgfresh(url, settings)))
            stack.callback(stage.send_home)
            return stage

        yield make


def promoted(primary, standby):
    standby.catch_up()
    standby.promote()


def carried(play):
    return play.metrics().value("pgfresh_carried_total")


def make_carry(play, app):
    def once():
        before = carried(play)
        app.execute("UPDATE item SET name = name || '' WHERE id = 99")
        return carried(play) > before

    wait_until(once, "a session that carries")


def told_of(writer, play, reader):
    """What the one writes, the other reads within the bound, and from memory before and after."""
    for turn in range(5):
        name = f"turn {turn}"
        writer.execute("UPDATE item SET name = %s WHERE id = 1", (name,))
        wait_until(lambda: one(reader, NAME.format(1)) == name,  # noqa: B023
                   "the answer of the other proxy", STALENESS_S)
        play.hot(reader, NAME.format(1))


def test_a_write_on_the_new_primary_is_told_there(primary, standby, stages):
    """The old one lives on, and with it the feed of a proxy whose new sessions come to the new one:
    what they carried, it would publish where nobody reads."""
    with Relay(primary.port) as relay:
        moved = stages(primary, relay.port)
        make_carry(moved, moved.app())
        promoted(primary, standby)
        other = stages(standby)
        reader = other.app()
        other.hot(reader, NAME.format(1), seconds=15)
        relay.target_port = standby.port
        told_of(moved.app(), other, reader)


def test_a_session_on_the_old_primary_tells_there(primary, standby, stages):
    """It has carried, and carries no more when the feed has gone to the new one."""
    with Relay(primary.port) as relay:
        moved, other = stages(primary, relay.port), stages(primary)
        writer, reader = moved.app(), other.app()
        make_carry(moved, writer)
        promoted(primary, standby)
        relay.target_port = standby.port
        for kind in ("feed", "catalog"):
            relay.cut("rst", of=kind)
        there = moved.app()
        moved.hot(there, NAME.format(1), seconds=15)
        make_carry(moved, there)
        other.hot(reader, NAME.format(1), seconds=15)
        told_of(writer, other, reader)


def test_the_catalog_comes_from_where_the_feed_listens(primary, standby, stages):
    """The feed comes to the new primary; what pgfresh reads catalogs by has stayed on the old one,
    where a view is another."""
    view = "CREATE OR REPLACE VIEW item_name AS SELECT id, name FROM {}"
    with Relay(primary.port) as relay:
        moved = stages(primary, relay.port)
        moved.hot(moved.app(), NAME.format(1), seconds=15)
        primary.psql(view.format("item"), database=DATABASE)
        promoted(primary, standby)
        standby.psql(view.format("part"), database=DATABASE)
        relay.target_port = standby.port
        relay.cut("rst", of="feed")
        there = moved.app()
        name = "SELECT name FROM item_name WHERE id = 1"
        moved.hot(there, name, seconds=15)
        for turn in range(3):
            standby.psql(f"UPDATE part SET name = 'turn {turn}' WHERE id = 1", database=DATABASE)
            time.sleep(STALENESS_S)
            assert one(there, name) == f"turn {turn}"
            moved.hot(there, name)


def test_a_new_session_shows_where_the_name_leads(primary, standby, stages):
    """Both of pgfresh's own connections have stayed on the old primary, which lives on."""
    with Relay(primary.port) as relay:
        moved = stages(primary, relay.port)
        stays = moved.app()
        moved.hot(stays, NAME.format(1), seconds=15)
        promoted(primary, standby)
        standby.psql("UPDATE item SET name = 'there' WHERE id = 1", database=DATABASE)
        relay.target_port = standby.port
        there = moved.app()
        assert one(there, NAME.format(1)) == "there"
        assert moved.hot(there, NAME.format(1), seconds=10) == [("there",)]
        assert one(stays, NAME.format(1)) == primary.psql(NAME.format(1), database=DATABASE)
        standby.psql("UPDATE item SET name = 'there again' WHERE id = 1", database=DATABASE)
        wait_until(lambda: one(there, NAME.format(1)) == "there again", "it", STALENESS_S)


def test_a_number_of_the_old_primary_hides_nobody_on_the_new_one(primary, standby, stages):
    """A session stays on the old one, and the number of its process there is on the new one that of
    a stranger, whose proxy dies while it commits: that commit is waited for."""
    with Relay(primary.port) as relay, contextlib.ExitStack() as stack:
        far_relay = stack.enter_context(Relay(standby.port))
        promoted(primary, standby)
        far = stages(standby, far_relay.port)
        stranger = far.app()
        make_carry(far, stranger)
        number = stranger.info.backend_pid.to_bytes(4, "big")
        moved = stages(primary, relay.port)
        with relay.replace(lambda key: key[:5] + number + key[9:], ANSWER, "K"):
            stays = moved.app()
        assert stays.info.backend_pid == stranger.info.backend_pid
        moved.hot(stays, NAME.format(1), seconds=15)
        relay.target_port = standby.port
        for kind in ("feed", "catalog"):
            relay.cut("rst", of=kind)
        reader = moved.app()
        moved.hot(reader, NAME.format(1), seconds=15)
        wait_until(lambda: value(moved, "publishers") == 1, "a publisher that is followed")
        stranger.execute("BEGIN")
        stranger.execute("UPDATE item SET name = 'of the dead' WHERE id = 1")
        with far_relay.hold(REQUEST, "Q", containing="COMMIT") as commit:
            stranger.pgconn.send_query(b"COMMIT")
            commit.wait()
            far.proxy.kill()
            wait_until(lambda: value(moved, "publishers_lost_total") >= 1, "it is missed")
            time.sleep(2 * STALENESS_S)
            moved.hot(reader, NAME.format(1))
            assert value(moved, "transactions_noted") >= 1
        wait_until(lambda: one(reader, NAME.format(1)) == "of the dead", "it", STALENESS_S)


def value(play, name):
    return play.metrics().value(f"pgfresh_feed_{name}", database=play.database)


@pytest.mark.slow
@pytest.mark.parametrize("publish", ["trigger", "proxy"])
def test_promoted_under_load(stages, tmp_path, publish):
    """The primary dies among writers and readers. It has waited for its standby with each commit,
    so whatever was acknowledged is what the new one holds."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(PrivatePostgres(hba=HBA))
        set_the_stage(primary)
        primary.create_database(DATABASE, template="stage")
        primary.psql(judge_load.schema(), database=DATABASE)
        standby = stack.enter_context(Standby(primary))
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.reload()
        door = stack.enter_context(Door(primary.port))
        play = stages(primary, door.port, **{"freshness.publish": publish})
        direct = f"postgresql://postgres@127.0.0.1:{door.port}/{DATABASE}"
        play.hot(play.app(), "SELECT version FROM judged_0 WHERE id = 1", seconds=15)
        with judge_load.running(judge_load.Load(play.url(), direct, str(tmp_path))) as logs:
            time.sleep(1)
            primary.stop("immediate")
            standby.promote()
            door.lead_to(standby.port)
            before = play.metrics().hits
            wait_until(lambda: play.metrics().hits > before + 500, "hits again", 20)
        judge = Judge(logs.writes, STALENESS_S)
        violations = judge.reads(logs.reads)
        time.sleep(STALENESS_S)
        violations += judge.final(judge_load.final_values(play.url()))
        play.send_home()
        assert not violations, "\n".join(found.text for found in violations[:10])
        assert logs.hidden == []
