"""A private Redis for one test: its own directory, port and unix socket, and a way to talk to it
without a library. Nothing of it is kept but what the test asks for.

    with PrivateRedis() as redis:
        redis.call("SET", "a", "1")
        Pgfresh(server.url(), {"redis.url": redis.url()})

PGFRESH_REDIS_SERVER names another server's program, as Valkey's.

`Door` is an address that leads wherever the test says: what a name of DNS is to a fail-over.
"""
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from pgserver import free_port

SERVER = os.environ.get("PGFRESH_REDIS_SERVER", "redis-server")


class RedisError(RuntimeError):
    """What Redis answered with a minus."""


class PrivateRedis:
    """`settings`: of redis.conf, by name; a list gives the setting several times."""

    def __init__(self, settings=None, tls_folder=None):
        self.port = free_port()
        self.tls_port = free_port() if tls_folder else None
        self.directory = tempfile.mkdtemp(prefix="pgfresh-redis-")
        self.socket_path = os.path.join(self.directory, "redis.sock")
        self.process = None
        self.settings = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory,
                         "unixsocket": self.socket_path, "save": '""', "appendonly": "no",
                         "daemonize": "no", "logfile": os.path.join(self.directory, "log"),
                         "repl-diskless-sync-delay": "0"}
        if tls_folder:
            self.settings.update({
                "tls-port": self.tls_port, "tls-cert-file": f"{tls_folder}/server.crt",
                "tls-key-file": f"{tls_folder}/server.key", "tls-ca-cert-file": f"{tls_folder}/ca.crt",
                "tls-auth-clients": "no"})
        self.settings.update(settings or {})

    # -- life ---------------------------------------------------------------------------------

    def start(self):
        path = os.path.join(self.directory, "redis.conf")
        with open(path, "w", encoding="utf-8") as file:
            for name, value in self.settings.items():
                for one in value if isinstance(value, list) else [value]:
                    file.write(f"{name} {one}\n")
        command = [SERVER, path] + (["--sentinel"] if self.is_sentinel() else [])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{SERVER} does not start\n{self.log()}") from None
                time.sleep(0.02)

    def is_sentinel(self):
        return any(name.startswith("sentinel") for name in self.settings)

    def log(self):
        path = os.path.join(self.directory, "log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def kill(self):
        """As the kernel would: nothing is saved."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- talking to it ------------------------------------------------------------------------

    def url(self, login="", database=0, tls=False, host="127.0.0.1"):
        scheme, port = ("rediss", self.tls_port) if tls else ("redis", self.port)
        return f"{scheme}://{login}{host}:{port}/{database}"

    def call(self, *words, login=None, database=0):
        """One command's answer: str, int, list, bytes where it is no text, or None."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            stream = connection.makefile("rwb")
            if login:
                _ask(stream, "AUTH", *login)
            if database:
                _ask(stream, "SELECT", database)
            return _ask(stream, *words)

    def names(self, pattern="*", **how):
        return sorted(self.call("KEYS", pattern, **how))

    def info(self, name, section="all"):
        for line in self.call("INFO", section).splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1]
        return None

    def product(self):
        """What it is, with its version."""
        valkey = self.info("valkey_version")
        return f"valkey {valkey}" if valkey else f"redis {self.info('redis_version')}"


def _ask(stream, *words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    stream.write(b"*%d\r\n" % len(parts) +
                 b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    stream.flush()
    return _read(stream)


def _read(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"$":
        if int(rest) < 0:
            return None
        data = stream.read(int(rest) + 2)[:-2]
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if kind == b"*":
        return None if int(rest) < 0 else [_read(stream) for _ in range(int(rest))]
    raise AssertionError(f"not an answer of Redis: {line!r}")


class Door:
    """A port that passes connections on to `target`, a port; None: refuses. Or says `garbage`, or
    stands still: what was said meanwhile arrives when it moves again, questions as answers."""

    def __init__(self, target=None, garbage=None):
        self.target = target
        self.garbage = garbage
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = set()
        self._moving = threading.Event()
        self._moving.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def lead_to(self, target):
        """From now on elsewhere; who is inside stays."""
        self.target = target

    def cut(self):
        """Ends what goes through; who carries it closes it."""
        for one in list(self._open):
            _shut(one)

    def close(self):
        """Nobody comes in, and who is inside is thrown out."""
        self.lead_to(None)
        self.cut()

    def stand_still(self):
        self._moving.clear()

    def move(self):
        self._moving.set()

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        _shut(self._listener)
        self._listener.close()
        self.cut()
        self.move()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        self._open.add(client)
        server = None
        try:
            if self.garbage is not None:
                while client.recv(65536):
                    client.sendall(self.garbage)
            elif self.target is not None:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
                self._open.add(server)
                self._carry(client, server)
        except OSError:
            pass
        finally:
            for one in (client, server):
                if one is not None:
                    self._open.discard(one)
                    one.close()

    def _carry(self, client, server):
        other = {client: server, server: client}
        while True:
            for readable in select.select([client, server], [], [])[0]:
                data = readable.recv(65536)
                if not data:
                    return
                self._moving.wait()
                other[readable].sendall(data)


def _shut(one):
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
