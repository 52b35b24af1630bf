"""One running pgfresh: started on free ports, watched, measured, stopped by its process id.

    with Pgfresh(server.url()) as proxy:
        psycopg.connect(proxy.url(database="app"))
        proxy.metrics().hits

The binary comes from the environment variable PGFRESH_BIN. Its output goes to a file whose end is
shown when a test fails. A sanitizer's report in it fails the test that stops the process.
"""
import collections
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from urllib.parse import quote

from pgserver import free_port

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})?\s+(\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ALIVE = set()  # processes of this test run, for the watchdog in conftest.py


def binary():
    path = os.environ.get("PGFRESH_BIN")
    if not path:
        raise RuntimeError("PGFRESH_BIN must name the pgfresh binary")
    return path


def wait_until(condition, what, seconds=10, pause=0.02):
    """Returns the first true value of condition(); fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)


class Metrics:
    """The samples of one look at /metrics. `metrics.value(name, label=…)` sums what matches."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            match = None if line.startswith("#") else SAMPLE.match(line)
            if match:
                name, labels, value = match.groups()
                self.samples.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def value(self, name, **labels):
        return sum(value for sample, has, value in self.samples if sample == name
                   and all(has.get(key) == wanted for key, wanted in labels.items()))

    def has(self, name):
        return any(sample == name for sample, _, _ in self.samples)

    @property
    def hits(self):
        return int(self.value("pgfresh_hits_total"))

    @property
    def misses(self):
        return int(self.value("pgfresh_misses_total"))

    @property
    def bypasses(self):
        """reason → count, of those that are not 0."""
        found = collections.Counter()
        for name, labels, value in self.samples:
            if name == "pgfresh_bypasses_total" and value:
                found[labels.get("reason", "")] += int(value)
        return found


class Pgfresh:
    """`settings`: dotted option → value, handed over by --set. `config`: text of a file for -c;
    then nothing else is on the command line, and the ports must be given."""

    def __init__(self, upstream=None, settings=None, config=None, port=None, http_port=None,
                 environment=None, arguments=()):
        self.port = port or free_port()
        self.http_port = http_port or free_port()
        self.directory = tempfile.mkdtemp(prefix="pgfresh-run-")
        self.log_path = os.path.join(self.directory, "log")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        self.environment.update(environment or {})
        self.process = None
        self.awake = set()  # databases whose feed is known to be live
        if config is not None:
            self.config_path = os.path.join(self.directory, "pgfresh.yml")
            self.write_config(config)
            self.command = [binary(), "-c", self.config_path]
        else:
            self.command = [binary(), "--upstream", upstream, "--listen",
                            f"127.0.0.1:{self.port}", "--http", f"127.0.0.1:{self.http_port}"]
        for name, value in (settings or {}).items():
            self.command += ["--set", f"{name}={value}"]
        self.command += arguments

    def write_config(self, text):
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(text)

    # -- life ---------------------------------------------------------------------------------

    def start(self, seconds=15):
        # A session of its own, as its service manager gives it and as the servers it is compared with
        # have: the kernel divides the processor among sessions first (autogroups).
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment, cwd="/",
                                            start_new_session=True)
        ALIVE.add(self)
        wait_until(self._listening, f"pgfresh listening\n{self.log_tail()}", seconds)
        return self

    def _listening(self):
        if self.process.poll() is not None:
            raise AssertionError(f"pgfresh ended with {self.process.returncode}\n"
                                 f"{' '.join(self.command)}\n{self.log_tail()}")
        try:
            for port in (self.port, self.http_port):
                socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def wake(self):
        self.signal(signal.SIGCONT)

    def stop(self, seconds=15):
        """TERM; the status it ended with. KILL after `seconds`, which fails the test."""
        ALIVE.discard(self)
        if self.process is None:
            return None
        if self.running():
            self.wake()
            self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"pgfresh did not stop on TERM\n{self.log_tail()}") from None
        self.check_log()
        return status

    def kill(self):
        ALIVE.discard(self)
        if self.running():
            self.process.kill()
            self.process.wait(10)

    def check_log(self):
        text = self.log_text()
        for bad in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
                    "WARNING: ThreadSanitizer"):
            assert bad not in text, text[text.index(bad) - 200:][:6000]

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()

    # -- looking at it ------------------------------------------------------------------------

    def url(self, user="postgres", database="postgres", password=None, scheme="postgresql"):
        secret = "" if password is None else ":" + quote(password, safe="")
        return f"{scheme}://{quote(user)}{secret}@127.0.0.1:{self.port}/{database}"

    def get(self, path, seconds=5):
        """(HTTP status, body) of a page of the HTTP port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}",
                                        timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, text
        return Metrics(text)

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def log_tail(self, characters=6000):
        return self.log_text()[-characters:] if os.path.exists(self.log_path) else ""

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
        return 0
