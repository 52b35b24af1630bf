"""A private PostgreSQL for one test module: its own data directory, port and unix socket.

The server runs as the operating system user `postgres` when the tests run as root (PostgreSQL
refuses root), and as the present user otherwise. The superuser is always `postgres`; who may log
in how is decided by `hba`. Nothing here is shared between two instances, so several may run at
once. Stopping removes the data directory.

    with PrivatePostgres() as server:
        server.psql("CREATE TABLE t (id int PRIMARY KEY)")
        connection = psycopg2.connect(server.dsn())

A Standby follows another server by streaming, until it is promoted.

Deliberately not done: more than one version of PostgreSQL at a time.
"""
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from urllib.parse import quote

from psycopg import pq

GIVEN = set()  # ports, of this process
# No command of psql's, no COPY by its own hands, and no second statement.
ONE_STATEMENT = re.compile(r"(?!.*\b(?:stdin|stdout)\b)[^;\\]+;?\s*", re.IGNORECASE | re.DOTALL)
DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)
TRUST_HBA = ("local all all trust", "host all all 127.0.0.1/32 trust",
             "local replication all trust", "host replication all 127.0.0.1/32 trust")


def bin_directory():
    """Where initdb lives: PG_BIN, else the newest of Debian's versions."""
    if os.environ.get("PG_BIN"):
        return os.environ["PG_BIN"]
    base = "/usr/lib/postgresql"
    versions = sorted((v for v in os.listdir(base) if os.path.exists(f"{base}/{v}/bin/initdb")),
                      key=lambda v: [int(part) for part in v.split(".")])
    if not versions:
        raise RuntimeError(f"no PostgreSQL server under {base}; set PG_BIN")
    return f"{base}/{versions[-1]}/bin"


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago, and that nobody here was given before.

    It lies below those that the kernel gives to clients, which take one from a server that is
    being restarted; and it is a random one, as several processes may look for ports at a time.
    """
    for _ in range(10_000):
        port = random.randrange(10_000, 32_768)
        if port in GIVEN:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN.add(port)
        return port
    raise RuntimeError("no free port between 10000 and 32768")


class PsqlError(RuntimeError):
    """psql ended with a status other than 0; the text is what it printed on stderr."""


class PrivatePostgres:
    """One server. `environment`: what its processes get besides what there is. `hba`: lines of pg_hba.conf put before the trusting ones (first match wins), as
    "host all scram_user 127.0.0.1/32 scram-sha-256". `settings`: further postgresql.conf entries.
    """

    def __init__(self, fsync=False, max_connections=200, hba=(), settings=None, trust=True,
                 environment=None):
        self.bin = bin_directory()
        self.port = free_port()
        self.base = tempfile.mkdtemp(prefix="pgfresh-pg-")
        self.data = os.path.join(self.base, "data")
        self.socket_dir = self.base
        self.log = os.path.join(self.base, "log")
        self.hba = list(hba)
        self.trust = trust
        self.environment = {**os.environ, **(environment or {})}
        self.settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.socket_dir,
            "fsync": "on" if fsync else "off",
            "max_connections": max_connections,
            "max_prepared_transactions": 10,
            "shared_buffers": "64MB",
            "wal_level": "logical",
            "autovacuum": "off",
            "jit": "off",  # compiling costs a tenth of a second and more, in each session anew
            "log_line_prefix": "%m [%p] %u@%d ",
            "password_encryption": "scram-sha-256",
        }
        self.settings.update(settings or {})
        self._initdb()

    # -- life ---------------------------------------------------------------------------------

    def _as_owner(self, command):
        if os.geteuid() == 0:
            return ["runuser", "-u", "postgres", "--"] + command
        return command

    def _initdb(self):
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.base, owner.pw_uid, owner.pw_gid)
        os.chmod(self.base, 0o755)
        command = [f"{self.bin}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
                   "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(self._as_owner(command), cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as conf:
            for name, value in self.settings.items():
                conf.write(f"{name} = '{value}'\n")
        self.write_hba(self.hba)

    def write_hba(self, lines):
        """Replaces pg_hba.conf; takes effect at start() or reload()."""
        self.hba = list(lines)
        with open(f"{self.data}/pg_hba.conf", "w", encoding="utf-8") as hba:
            hba.write("\n".join(self.hba + list(TRUST_HBA if self.trust else ())) + "\n")

    def _pg_ctl(self, *arguments):
        command = [f"{self.bin}/pg_ctl", "-D", self.data, "-w", "-t", "60", *arguments]
        # Not capture_output: the server would inherit the pipe and keep it open.
        with open(os.path.join(self.base, "pg_ctl"), "w+", encoding="utf-8") as out:
            done = subprocess.run(self._as_owner(command), cwd="/", stdin=subprocess.DEVNULL,
                                  stdout=out, stderr=out, env=self.environment)
            out.seek(0)
            if done.returncode != 0:
                raise RuntimeError(f"pg_ctl {arguments}: {out.read()}\n{self.log_text()[-3000:]}")

    def start(self):
        self._pg_ctl("-l", self.log, "start")
        return self

    def stop(self, mode="fast"):
        if self.pid() is not None:
            self._pg_ctl("-m", mode, "stop")

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def reload(self):
        self._pg_ctl("reload")

    def pid(self):
        """The postmaster's, None when it does not run."""
        try:
            with open(f"{self.data}/postmaster.pid", encoding="utf-8") as f:
                pid = int(f.readline())
            os.kill(pid, 0)
            return pid
        except PermissionError:
            return pid
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def kill(self, wait_s=10):
        """kill -9 of the postmaster, as a crash; start() recovers."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + wait_s
        # Backends notice the postmaster's death and end; a start before that is refused.
        while time.monotonic() < deadline:
            try:
                self._wait_gone(pid)
                break
            except TimeoutError:
                pass
        pid_file = f"{self.data}/postmaster.pid"
        if os.path.exists(pid_file):
            os.remove(pid_file)

    def _wait_gone(self, pid):
        mine = 0
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.readlink(f"/proc/{entry}/cwd") == self.data:
                    mine += 1
            except OSError:
                continue
        if mine or os.path.exists(f"/proc/{pid}"):
            time.sleep(0.05)
            raise TimeoutError

    def destroy(self):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(self, *_):
        self.destroy()

    # -- talking to it ------------------------------------------------------------------------

    def dsn(self, user="postgres", database="postgres", password=None, unix=False):
        """A libpq key=value string."""
        parts = {"host": self.socket_dir if unix else "127.0.0.1", "port": self.port,
                 "user": user, "dbname": database}
        if password is not None:
            parts["password"] = password
        return " ".join(f"{k}='{v}'" for k, v in parts.items())

    def url(self, user="postgres", database="postgres", password=None, scheme="postgresql"):
        secret = "" if password is None else ":" + quote(password, safe="")
        return f"{scheme}://{quote(user)}{secret}@127.0.0.1:{self.port}/{database}"

    def psql(self, sql=None, file=None, user="postgres", database="postgres", variables=None,
             options=(), check=True, environment=None):
        """Runs psql with ON_ERROR_STOP, unaligned tuples; returns stdout without the last newline.
        With check=False returns the CompletedProcess instead of raising PsqlError. One statement
        that needs nothing of psql's is carried out without one, which saves a process."""
        if (sql is not None and file is None and not variables and not options and check
                and not environment and ONE_STATEMENT.fullmatch(sql)):
            return self.one_statement(sql, user, database)
        command = [f"{self.bin}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h",
                   self.socket_dir, "-p", str(self.port), "-U", user, "-d", database]
        for name, value in (variables or {}).items():
            command += ["-v", f"{name}={value}"]
        command += list(options)
        if file is not None:
            command += ["-f", str(file)]
        if sql is not None:
            command += ["-f", "-"]
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        env.update(environment or {})
        done = subprocess.run(command, input=sql, capture_output=True, text=True, env=env)
        if not check:
            return done
        if done.returncode != 0:
            raise PsqlError(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def one_statement(self, sql, user, database):
        """What psql() gives for it."""
        connection = pq.PGconn.connect(
            f"host={self.socket_dir} port={self.port} user={user} dbname={database} "
            "application_name=psql".encode())
        try:
            if connection.status != pq.ConnStatus.OK:
                raise PsqlError(connection.error_message.decode().strip())
            result = connection.exec_(sql.encode())
            if result.status not in DONE:
                raise PsqlError(result.error_message.decode().strip())
            rows = ("|".join((result.get_value(row, column) or b"").decode()
                             for column in range(result.nfields))
                    for row in range(result.ntuples))
            return "\n".join(rows).rstrip("\n")
        finally:
            connection.finish()

    def create_database(self, name, template="template0", encoding="UTF8"):
        locale = "C.UTF-8" if encoding == "UTF8" else "C"
        # Copied as files, it is not written to the WAL page by page.
        self.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy "
                  f"ENCODING '{encoding}' LC_COLLATE '{locale}' LC_CTYPE '{locale}'")
        return name

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""


class Standby(PrivatePostgres):
    """A hot standby of `primary`, which runs."""

    def __init__(self, primary):
        self.primary = primary
        super().__init__(hba=primary.hba, trust=primary.trust)

    def _initdb(self):
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.base, owner.pw_uid, owner.pw_gid)
        os.chmod(self.base, 0o755)
        command = [f"{self.bin}/pg_basebackup", "-D", self.data, "-h", "127.0.0.1", "-p",
                   str(self.primary.port), "-U", "postgres", "-R", "-X", "stream", "-c", "fast",
                   "--no-sync"]
        done = subprocess.run(self._as_owner(command), cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"pg_basebackup failed: {done.stderr}")
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as conf:
            for name in ("port", "unix_socket_directories"):
                conf.write(f"{name} = '{self.settings[name]}'\n")

    def catch_up(self, seconds=10):
        """Until it has replayed all that its primary has written."""
        written = self.primary.psql("SELECT pg_current_wal_lsn()")
        deadline = time.monotonic() + seconds
        while self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") != "t":
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.02)

    def promote(self):
        self._pg_ctl("promote")
