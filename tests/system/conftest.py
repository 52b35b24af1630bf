"""Fixtures of the system tests: one private PostgreSQL for the whole run, one database and one
pgfresh for each test file, and a watchdog that ends what hangs.

A test has TEST_SECONDS (default 60, or its marker `seconds`) of time. Then it fails; if it sits
in C code and cannot be interrupted, the pgfresh processes are killed beneath it; if even that does
not help, the whole run ends with a traceback of every thread.
"""
import faulthandler
import itertools
import os
import pathlib
import signal
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import pgfresh_proc  # noqa: E402
from pgfresh_proc import Pgfresh  # noqa: E402
from pgserver import PrivatePostgres  # noqa: E402
from play import Play  # noqa: E402
from sql_bench import db, empty, installed, pg  # noqa: E402,F401

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
TEST_SECONDS = float(os.environ.get("TEST_SECONDS", "60"))
PASSWORD = "geheim & ' sécret"
HBA = ["host all u_scram 127.0.0.1/32 scram-sha-256",
       "host all u_md5 127.0.0.1/32 md5",
       "host all u_password 127.0.0.1/32 password",
       "host all u_reject 127.0.0.1/32 reject"]
DATABASES = itertools.count(1)
# They take longest, and so begin first where several files run at a time, lest one be left alone.
FIRST = ("test_fleet.py", "test_driver_habits.py", "test_feed_trouble.py", "test_judge.py")


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): how long this test may take")
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(FIRST)))


# -- the watchdog -------------------------------------------------------------------------------


def _fail(*_):
    raise TimeoutError("the test took too long")


def _kill_proxies():
    for proxy in list(pgfresh_proc.ALIVE):
        proxy.kill()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("seconds")
    seconds = marker.args[0] if marker else TEST_SECONDS
    signal.signal(signal.SIGALRM, _fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    killer = threading.Timer(seconds + 10, _kill_proxies)
    killer.daemon = True
    killer.start()
    faulthandler.dump_traceback_later(seconds + 90, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    killer.cancel()
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for value in list(pgfresh_proc.ALIVE):
            report.sections.append((f"pgfresh log ({value.port})", value.log_tail()))


# -- the stage ----------------------------------------------------------------------------------


def password_settings(server, user, method):
    server.psql(f"SET password_encryption = '{method}'; "
                f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'; "
                f"GRANT pg_read_all_data, pg_write_all_data TO {user}")


def set_the_stage(server, template="stage"):
    """Roles, and a template database with pgfresh's schema and the tables of play.sql."""
    password_settings(server, "u_scram", "scram-sha-256")
    password_settings(server, "u_md5", "md5")
    password_settings(server, "u_password", "scram-sha-256")
    password_settings(server, "u_reject", "scram-sha-256")
    server.psql("CREATE ROLE anna LOGIN; CREATE ROLE bert LOGIN; CREATE ROLE carla LOGIN")
    server.create_database(template)
    server.psql(file=ROOT / "sql" / "install.sql", database=template)
    server.psql(file=HERE / "play.sql", database=template)
    return server


@pytest.fixture(scope="session")
def server():
    with PrivatePostgres(hba=HBA, settings={"max_wal_senders": 10, "log_statement": "none",
                                            "track_functions": "none"}) as postgres:
        yield set_the_stage(postgres)


@pytest.fixture(scope="module")
def database(server):
    """A copy of the template for one test file."""
    name = f"play{next(DATABASES)}"
    server.create_database(name, template="stage")
    yield name
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def proxy(server):
    with Pgfresh(server.url()) as running:
        yield running


@pytest.fixture
def play(server, database, proxy):
    stage = Play(server, database, proxy)
    if database not in proxy.awake:  # the feed of a database begins with its first client
        stage.hot(stage.app(), "SELECT name FROM part WHERE id = 1", seconds=15)
        proxy.awake.add(database)
    yield stage
    stage.send_home()
    assert proxy.running(), f"pgfresh has ended\n{proxy.log_tail()}"


@pytest.fixture
def own_play(server):
    """A factory of stages for one test alone: own database, own pgfresh with the given settings,
    on the common PostgreSQL or on `postgres`. The URL of pgfresh names that database, which spares a
    second feed, or `upstream`."""
    stages = []

    def make(settings=None, postgres=server, upstream=None, **options):
        name = f"own{next(DATABASES)}"
        postgres.create_database(name, template="stage")
        running = Pgfresh(postgres.url(database=upstream or name), settings, **options)
        stage = Play(postgres, name, running)
        stages.append(stage)
        running.start()
        return stage

    yield make
    for stage in stages:
        stage.send_home()
        stage.proxy.stop()
        if stage.server.pid() is not None:
            stage.server.psql(f"DROP DATABASE IF EXISTS {stage.database} WITH (FORCE)")


@pytest.fixture
def own_server():
    """A PostgreSQL that the test may stop, restart and kill."""
    with PrivatePostgres(hba=HBA) as postgres:
        yield set_the_stage(postgres)


@pytest.fixture
def password():
    return PASSWORD
