"""The systems that are measured side by side: each can be connected to, and tells the processor
time it has used. All run on this machine, on free ports, and end with the run.

Not compared: results. Every contestant answers the same SELECT on the same PostgreSQL; the echo
server answers bytes captured from it.
"""
import contextlib
import os
import pwd
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from pgfresh_proc import Pgfresh, wait_until
from pgserver import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = "id, full_name, specialization, experience_years, consultation_fee, rating, is_verified"
SAME = f"SELECT {COLUMNS} FROM doctors WHERE id = :id;"
HIT = "\\set id 42\n" + SAME
MISS = "\\set id random(1, 5000)\n" + SAME
UNWATCHED = "\\set id 42\n" + SAME.replace("doctors", "doctors_unwatched")
NEW_TEXT = "\\set id 42\n\\set new random(1000, 1000000000)\n" + SAME.replace(
    ";", " AND experience_years < :new;")
TICKS = os.sysconf("SC_CLK_TCK")

SCHEMA = """
CREATE TABLE doctors (
  id int PRIMARY KEY, full_name text NOT NULL, specialization text NOT NULL,
  experience_years int NOT NULL, consultation_fee numeric(10, 2) NOT NULL,
  rating numeric(3, 2), is_verified boolean NOT NULL);
INSERT INTO doctors SELECT n, 'Dr. Number ' || n, 'Specialization ' || n % 20, n % 40,
  300 + n % 700, (n % 50) / 10.0, n % 3 > 0 FROM generate_series(1, 5000) n;
CREATE TABLE doctors_unwatched (LIKE doctors INCLUDING ALL);
INSERT INTO doctors_unwatched SELECT * FROM doctors;
SELECT pgfresh.watch('doctors');
ANALYZE;
"""


def installed(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") is not None


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def as_postgres(command):
    """PgBouncer and pgpool refuse to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


def family(pid):
    """The process and all that descend from it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def processor_seconds(pids):
    """User and system time of all threads, that of ended children included."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def proportional_bytes(pid):
    """PSS: resident memory, shared pages divided among their users."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class Contestant:
    """`port` to connect to; `script` for pgbench; `pids` of the processes whose time counts, none
    for PostgreSQL itself. `proxy`: the Pgfresh behind it, to check that it did what its name
    says. `warm_seconds`: until every text of the script has been seen; a text that is new is
    measured by itself."""

    def __init__(self, name, port, script, pids=(), proxy=None, hits=None, modes=None):
        self.warm_seconds = 4 if script is MISS and proxy else 1
        self.name = name
        self.port = port
        self.script = script
        self.pids = pids
        self.proxy = proxy
        self.hits = hits      # None, or whether answers must come from memory
        self.modes = modes    # None: all

    def processor_seconds(self):
        families = [family(pid) for pid in self.pids]
        return processor_seconds(sum(families, [])) if families else None


class Arena:
    """Starts everything, and ends it."""

    def __init__(self, postgres, database):
        self.postgres = postgres
        self.database = database
        self.echo_port = None  # once everybody is there
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="pgfresh-bench-"))
        os.chmod(self.folder, 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _own_folder(self, name):
        path = os.path.join(self.folder, name)
        os.mkdir(path)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(path, owner.pw_uid, owner.pw_gid)
        return path

    def _start(self, command, port, folder, name):
        log = self.stack.enter_context(open(os.path.join(folder, "log"), "wb"))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=folder, start_new_session=True)
        self.stack.callback(self._stop, process)

        def listening():
            if process.poll() is not None:
                with open(log.name, errors="replace") as text:
                    raise RuntimeError(f"{name} ended: {text.read()[-2000:]}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        wait_until(listening, f"{name} listens", 15)
        return process.pid

    @staticmethod
    def _stop(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    # -- the contestants ------------------------------------------------------------------------

    def direct(self):
        return Contestant("PostgreSQL, direct", self.postgres.port, HIT)

    def pgbouncer(self, pool_mode, processes=1, script=HIT):
        """More than one process: each has one thread, and the kernel divides the clients among
        them (so_reuseport), which is how PgBouncer is made to use more than one core."""
        name = f"PgBouncer, {pool_mode}" + (f", {processes} processes" if processes > 1 else "") + \
            (", keys in turn" if script is MISS else "")
        folder, port = self._own_folder(name.replace(" ", "")), free_port()
        with open(f"{folder}/users", "w", encoding="utf-8") as users:
            users.write('"postgres" ""\n')
        with open(f"{folder}/ini", "w", encoding="utf-8") as ini:
            ini.write(f"[databases]\n* = host=127.0.0.1 port={self.postgres.port}\n[pgbouncer]\n"
                      f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
                      f"auth_type = trust\nauth_file = {folder}/users\npool_mode = {pool_mode}\n"
                      "max_client_conn = 1000\ndefault_pool_size = 64\nlog_connections = 0\n"
                      "log_disconnections = 0\nignore_startup_parameters = extra_float_digits\n"
                      f"so_reuseport = {int(processes > 1)}\n")
        # In one session, as pgfresh's threads are: the kernel divides the processor among sessions
        # first (autogroups).
        together = f"pgbouncer -q {folder}/ini & " * processes + "wait"
        pid = self._start(as_postgres(["sh", "-c", together]), port, folder, "pgbouncer")
        # 1.18 knows no prepared statements in transaction pooling.
        modes = ("simple", "extended") if pool_mode == "transaction" else None
        return Contestant(name, port, script, [pid], modes=modes)

    def pgpool(self):
        folder, port = self._own_folder("pgpool"), free_port()
        os.mkdir(f"{folder}/oids")
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(f"{folder}/oids", owner.pw_uid, owner.pw_gid)
        options = {
            "listen_addresses": "127.0.0.1", "port": port, "pcp_port": free_port(),
            "unix_socket_directories": folder, "pcp_socket_dir": folder,
            "backend_clustering_mode": "raw", "backend_hostname0": "127.0.0.1",
            "backend_port0": self.postgres.port, "backend_weight0": 1,
            "num_init_children": 80, "max_pool": 1, "enable_pool_hba": "off",
            "load_balance_mode": "off", "pid_file_name": f"{folder}/pid", "logdir": folder,
            "work_dir": folder, "memory_cache_enabled": "on", "memqcache_method": "shmem",
            "memqcache_oiddir": f"{folder}/oids", "sr_check_period": 0, "health_check_period": 0}
        with open(f"{folder}/conf", "w", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        for name in ("pcp", "hba"):
            open(f"{folder}/{name}", "w", encoding="utf-8").close()
        command = ["pgpool", "-n", "-f", f"{folder}/conf", "-F", f"{folder}/pcp", "-a",
                   f"{folder}/hba"]
        pid = self._start(as_postgres(command), port, folder, "pgpool")
        return Contestant("pgpool-II, query cache", port, HIT, [pid])

    def pgfresh(self, name, script, settings, hits, modes=None):
        proxy = self.stack.enter_context(Pgfresh(self.postgres.url(), settings))
        return Contestant(name, proxy.port, script, [proxy.pid], proxy, hits, modes)

    def echo(self, threads):
        program = os.environ.get("PGFRESH_ECHO")
        if not program:
            program = os.path.join(self.folder, "echo")
            subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-pthread",
                            f"{HERE}/echo.cc", "-o", program], check=True, timeout=300)
        answer = os.path.join(self.folder, "answer")
        with open(answer, "wb") as file:
            file.write(self._captured_answer())
        port = free_port()
        pid = self._start([program, str(port), str(threads), answer], port, self.folder, "echo")
        return Contestant("echo server, the ceiling", port, HIT, [pid])

    def _captured_answer(self):
        """RowDescription, DataRow and CommandComplete as PostgreSQL says them."""
        with socket.create_connection(("127.0.0.1", self.postgres.port), 10) as link:
            body = f"user\0postgres\0database\0{self.database}\0\0".encode()
            link.sendall(struct.pack("!II", len(body) + 8, 3 << 16) + body)
            stream = link.makefile("rb")
            self._messages(stream)
            text = SAME.replace(":id", "42").encode() + b"\0"
            link.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
            return b"".join(whole for kind, whole in self._messages(stream) if kind in b"TDC")

    @staticmethod
    def _messages(stream):
        found = []
        while not found or found[-1][0] != b"Z":
            header = stream.read(5)
            found.append((header[:1], header + stream.read(struct.unpack("!I", header[1:])[0] - 4)))
        return found

    def everybody(self):
        """Who is compared with whom stands side by side: they are measured in this order."""
        hot, cold, off = {"cache.ttl": "1h"}, {"cache.ttl": "1ms"}, {"cache.mode": "off"}
        alone, cores = {"workers": "1"}, os.cpu_count() or 1
        def bouncer(*arguments):
            return [self.pgbouncer(*arguments)] if installed("pgbouncer") else []

        echo = self.echo(cores)
        self.echo_port = echo.port
        return [
            self.direct(), *bouncer("transaction"), *([self.pgpool()] if installed("pgpool") else []),
            echo,
            self.pgfresh("pgfresh, hit", HIT, hot, True),
            self.pgfresh("pgfresh, caching off", HIT, off, False),
            *bouncer("session", cores),
            self.pgfresh("pgfresh, not cacheable", UNWATCHED, hot, False),
            self.pgfresh("pgfresh, miss, new text", NEW_TEXT, hot, False, ("simple",)),
            self.pgfresh("pgfresh, miss", MISS, cold, False),
            *bouncer("session", cores, MISS),
            *bouncer("session", 1, MISS),
            self.pgfresh("pgfresh, miss, one worker", MISS, {**cold, **alone}, False),
            self.pgfresh("pgfresh, caching off, one worker", HIT, {**off, **alone}, False),
            *bouncer("session")]


def settle(seconds):
    """Lets what the last cell left behind (closing connections) come to rest."""
    time.sleep(seconds)
