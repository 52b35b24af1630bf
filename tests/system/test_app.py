"""The application of tests/apps/telemed, unchanged, with the same visitors twice: straight to
PostgreSQL and through pgfresh, on databases made alike. Every response must be equal."""
import importlib
import os
import pathlib
import subprocess
import sys
import urllib.request

import pytest

from pgfresh_proc import wait_until
from pgserver import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
APPS = ROOT / "tests" / "apps"
SCALE = 0.02
STEPS = int(os.environ.get("APP_STEPS", "500"))


class Application:
    """telemed, served on a free port with the given DATABASE_URL."""

    def __init__(self, url, log):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment.update(DATABASE_URL=url, PYTHONPATH=str(APPS), PYTHONDONTWRITEBYTECODE="1")
        self.log = open(log, "w+", encoding="utf-8")
        self.process = subprocess.Popen([sys.executable, "-m", "telemed", "--port", str(self.port)],
                                        env=environment, stdout=self.log, stderr=self.log,
                                        cwd=APPS)

    def __enter__(self):
        wait_until(self._answers, "the application answers", 30)
        return self

    def _answers(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(self.log.read())
        try:
            urllib.request.urlopen(self.base + "/openapi.json", timeout=5).close()
            return True
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


@pytest.fixture(scope="module")
def traffic():
    sys.path.insert(0, str(APPS))
    try:
        return importlib.import_module("telemed.traffic")
    finally:
        sys.path.remove(str(APPS))


@pytest.fixture(scope="module")
def clinics(server):
    """A factory of equal healthcare databases."""
    healthcare = ROOT / "sql" / "healthcare"
    made = []

    def make(name):
        if not made:
            server.create_database("clinic_template")
            server.psql(file=healthcare / "schema.sql", database="clinic_template")
            server.psql(file=healthcare / "data.sql", database="clinic_template",
                        variables={"scale": SCALE})
            server.psql(file=ROOT / "sql" / "install.sql", database="clinic_template")
            server.psql(file=healthcare / "watch.sql", database="clinic_template")
            made.append("clinic_template")
        server.create_database(name, template="clinic_template")
        server.psql(f"ALTER DATABASE {name} SET jit = on")  # as PostgreSQL has it by default
        made.append(name)
        return name

    yield make
    for name in reversed(made):
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.seconds(240)
def test_application_cannot_tell(server, proxy, clinics, traffic, tmp_path):
    records = {}
    for way, make_url in (("direct", server.url), ("pgfresh", proxy.url)):
        database = clinics(f"clinic_{way}")
        url = make_url(database=database, scheme="postgresql+psycopg2")
        with Application(url, tmp_path / way) as application:
            before = proxy.metrics()
            records[way] = traffic.run(application.base, seed=7, steps=STEPS, scale=SCALE)
            after = proxy.metrics()
    found = traffic.differences(records["direct"], records["pgfresh"])
    assert not found, "\n".join(found)
    assert len(records["direct"]) >= STEPS
    assert all(record["status"] < 500 for record in records["direct"])
    hits, bypasses = after.hits - before.hits, after.bypasses - before.bypasses
    print(f"{hits} hits, {after.misses - before.misses} misses, {dict(bypasses)}")
    for reason in ("no_table", "locking_clause", "transaction"):  # SELECT 1, and the bookings
        bypasses.pop(reason, None)
    asked = hits + after.misses - before.misses + sum(bypasses.values())
    assert hits > asked * 0.2, f"{hits} of {asked}, {dict(bypasses)}"


@pytest.mark.seconds(120)
@pytest.mark.parametrize("path", [
    "/doctors/{doctor}", "/doctors?page=1&specialization=Cardiology", "/doctors/{doctor}/clinics",
    "/doctors/{doctor}/slots?after=2026-06-01T00:00:00%2B00:00&before=2026-06-03T00:00:00%2B00:00",
    "/patients/{patient}/appointments", "/patients/{patient}/consultations",
    "/users/{patient}/profile", "/pharmacies/{pharmacy}"])
def test_read_endpoints_hit(proxy, clinics, traffic, tmp_path, path):
    key = traffic.Population(SCALE)
    path = path.format(doctor=key.key("doctor", 1), patient=key.key("user", key.first_patient),
                       pharmacy=key.key("pharmacy", 1))
    name = f"clinic_read_{abs(hash(path)) % 10**8}"
    url = proxy.url(database=clinics(name), scheme="postgresql+psycopg2")
    with Application(url, tmp_path / "log") as application:

        def fetched():
            with urllib.request.urlopen(application.base + path, timeout=10) as answer:
                return answer.read()

        answers = {fetched() for _ in range(4)}
        wait_until(lambda: _rises(proxy, fetched), f"a hit for {path}", 10)
        before = proxy.metrics()
        answers |= {fetched() for _ in range(10)}
        after = proxy.metrics()
    assert len(answers) == 1
    assert after.hits - before.hits >= 10, dict(after.bypasses - before.bypasses)


def _rises(proxy, fetch):
    before = proxy.metrics().hits
    fetch()
    return proxy.metrics().hits > before
