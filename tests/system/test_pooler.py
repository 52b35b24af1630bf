"""A pooler where PostgreSQL should be. Behind PgBouncer a LISTEN is somebody else's a moment later,
and the process numbers that it gives are not PostgreSQL's: nothing can be fresh, so nothing may be
cached, and pgfresh says why. Everything else works, as far as the pooler lets it."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg
import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgserver import free_port

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
NAME = "SELECT name FROM item WHERE id = 1"


@contextlib.contextmanager
def pgbouncer(server, pool_mode):
    """Its port; for user postgres, whom it believes."""
    folder, port = tempfile.mkdtemp(prefix="pgfresh-bouncer-"), free_port()
    with open(f"{folder}/users", "w", encoding="utf-8") as users:
        users.write('"postgres" ""\n')
    with open(f"{folder}/ini", "w", encoding="utf-8") as ini:
        ini.write(f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
                  f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
                  f"auth_type = trust\nauth_file = {folder}/users\npool_mode = {pool_mode}\n"
                  "default_pool_size = 3\nignore_startup_parameters = extra_float_digits,"
                  "pgfresh.inband,options,application_name\n")
    os.chmod(folder, 0o755)
    command = [PGBOUNCER, "-q", f"{folder}/ini"]
    if os.geteuid() == 0:  # it refuses to run as root
        command = ["runuser", "-u", "postgres", "--", *command]
    with open(f"{folder}/log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        def answers():
            with contextlib.suppress(psycopg.Error):
                psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres").close()
                return True
            return False

        wait_until(answers, "PgBouncer answers", 15)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(folder)


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_nothing_is_cached_behind_a_pooler(server, database, pool_mode):
    with pgbouncer(server, pool_mode) as port:
        with Pgfresh(f"postgresql://postgres@127.0.0.1:{port}/{database}",
                     {"console.users": "admin:secret"}) as proxy:
            app = psycopg.connect(proxy.url(database=database), autocommit=True,
                                  prepare_threshold=None)
            writer = psycopg.connect(server.url(database=database), autocommit=True)
            until = time.monotonic() + 5
            turn = 0
            while time.monotonic() < until:
                turn += 1
                writer.execute(f"UPDATE item SET name = 'turn {turn}' WHERE id = 1")
                time.sleep(0.3)
                assert app.execute(NAME).fetchone()[0] == f"turn {turn}"
                app.execute(NAME)
            assert proxy.metrics().hits == 0
            console = psycopg.connect(proxy.url("admin", "pgfresh", "secret"), autocommit=True)
            feeds = console.execute("SHOW FEEDS")
            columns = [column.name for column in feeds.description]
            feed = dict(zip(columns, feeds.fetchone()))
            assert feed["state"] != "live"
            assert "pooler" in feed["trouble"]
            assert "pooler" in proxy.log_text()
