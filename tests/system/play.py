"""The stage of a system test: one database, one pgfresh in front of it, and people who connect.

`app` is an application that goes through pgfresh, `direct` one that goes around it. Everybody is
sent home when the test ends. `expect` states what the counters must say about a few lines:

    with play.expect(hits=1):
        app.execute("SELECT name FROM item WHERE id = 1")
"""
import contextlib
import itertools
import time

import psycopg

from pgfresh_proc import wait_until
from pgwire import Wire

STALENESS_S = 1.0  # Δ of freshness.md as configured by default
NUMBERS = itertools.count(1000)


class Play:
    def __init__(self, server, database, proxy):
        self.server = server
        self.database = database
        self.proxy = proxy
        self._guests = []

    # -- people -------------------------------------------------------------------------------

    def app(self, user="postgres", password=None, **options):
        """psycopg 3, autocommit. A statement without parameters goes as a simple Query, one with
        parameters by the extended protocol; nothing is prepared unless asked for."""
        return self._connect(self.url(user, password), options)

    def direct(self, user="postgres", password=None, **options):
        return self._connect(self.server.url(user, self.database, password), options)

    def _connect(self, url, options):
        options.setdefault("autocommit", True)
        options.setdefault("prepare_threshold", None)
        options.setdefault("connect_timeout", 10)
        return self.keep(psycopg.connect(url, **options))

    def wire(self, user="postgres", secret="", direct=False, **parameters):
        """A raw connection, logged in; `direct`: around pgfresh."""
        wire = self.keep(Wire(port=(self.server if direct else self.proxy).port))
        return wire.login(user, self.database, secret, parameters)

    def url(self, user="postgres", password=None, scheme="postgresql"):
        return self.proxy.url(user, self.database, password, scheme)

    def keep(self, guest):
        """Closes `guest` when the test ends."""
        self._guests.append(guest)
        return guest

    def send_home(self):
        for guest in reversed(self._guests):
            with contextlib.suppress(Exception):
                guest.close()
        self._guests.clear()

    # -- things -------------------------------------------------------------------------------

    def sql(self, text):
        """Runs psql directly, as the superuser."""
        return self.server.psql(text, database=self.database)

    def item(self, name="first"):
        """A new row of table item; its id."""
        number = next(NUMBERS)
        self.sql(f"INSERT INTO item (id, name, price) VALUES ({number}, '{name}', 10)")
        return number

    # -- counters -----------------------------------------------------------------------------

    def metrics(self):
        return self.proxy.metrics()

    @contextlib.contextmanager
    def expect(self, hits=None, misses=None, bypasses=None, reason=None, **others):
        """What the counters must rise by. `bypasses`: all reasons together; `reason`: this reason,
        or one of these, rises by at least one. `others`: metric name without "pgfresh_" → rise."""
        before = self.metrics()
        reasons = (reason,) if isinstance(reason, str) else reason
        yield
        wanted = {"hits": hits, "misses": misses, "bypasses": bypasses, **others}
        wanted = {name: value for name, value in wanted.items() if value is not None}

        def rises():
            after = self.metrics()
            by_reason = after.bypasses - before.bypasses
            found = {"hits": after.hits - before.hits, "misses": after.misses - before.misses,
                     "bypasses": sum(by_reason.values())}
            for name in others:
                found[name] = int(after.value("pgfresh_" + name) - before.value("pgfresh_" + name))
            return found, by_reason

        def told(by_reason):
            return reasons is None or any(by_reason[one] for one in reasons)

        deadline = time.monotonic() + 1
        while True:
            found, by_reason = rises()
            right = all(found[name] == value for name, value in wanted.items())
            if (right and told(by_reason)) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        seen = f"counters rose by {found}, reasons {dict(by_reason)}"
        assert right, f"{seen}; expected {wanted}"
        assert told(by_reason), f"{seen}; expected reason {reason}"

    def hot(self, app, sql, parameters=None, seconds=5, **options):
        """Asks until the answer comes from memory; returns the rows."""

        def asked():
            before = self.metrics().hits
            rows = app.execute(sql, parameters, **options).fetchall()
            return (rows,) if self.metrics().hits > before else None

        try:
            return wait_until(asked, "a hit", seconds)[0]
        except AssertionError:
            raise AssertionError(f"no hit within {seconds} s: {sql}; last: {last(app)}; "
                                 f"reasons {dict(self.metrics().bypasses)}") from None

    def backend_answers(self):
        """Statements PostgreSQL has carried out in this database, as far as it counts them."""
        return int(self.sql("SELECT xact_commit + xact_rollback FROM pg_stat_database "
                            f"WHERE datname = '{self.database}'"))


def last(app):
    """SHOW pgfresh.last as a dict."""
    cursor = app.execute("SHOW pgfresh.last")
    names = [column.name for column in cursor.description]
    return dict(zip(names, cursor.fetchone()))


def one(app, sql, parameters=None, **options):
    """The one value of the one row."""
    row = app.execute(sql, parameters, **options).fetchone()
    return None if row is None else row[0]
