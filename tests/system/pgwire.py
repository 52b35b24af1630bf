"""A raw client of PostgreSQL's protocol 3, for tests that must choose every byte themselves.

Functions named after messages make their bytes; a Wire sends bytes and receives messages:

    with Wire(port=6543).login("ada", "clinic") as wire:
        wire.send(parse("select $1::int", "s"), bind("s", [b"1"]), execute(), sync())
        assert [m.type for m in wire.until_ready()] == list("12DCZ")
        assert wire.query("select 2")[1].row == [b"2"]

Nothing is hidden: notices and ParameterStatus come out of receive() like everything else, and
nothing is sent that the test did not ask for. No TLS, no SASLprep (passwords are taken as UTF-8).
Formats: PostgreSQL manual, "Message Formats".
"""
import base64
import contextlib
import hashlib
import hmac
import os
import socket
import struct
import time
from typing import NamedTuple

PROTOCOL_3_0 = 3 << 16
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


# -- bytes of messages ----------------------------------------------------------------------------


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def packet(code: int, body: bytes = b"") -> bytes:
    """A packet of the startup phase, which has no type byte."""
    return struct.pack("!II", len(body) + 8, code) + body


def _z(text) -> bytes:
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def _values(values) -> bytes:
    """A count and as many values, each with its length; None is NULL, str is sent as UTF-8."""
    out = struct.pack("!H", len(values))
    for value in values:
        if value is None:
            out += struct.pack("!i", -1)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += struct.pack("!I", len(value)) + value
    return out


def _codes(codes) -> bytes:
    return struct.pack(f"!H{len(codes)}H", len(codes), *codes)


def startup(parameters: dict, version: int = PROTOCOL_3_0) -> bytes:
    return packet(version, b"".join(_z(k) + _z(v) for k, v in parameters.items()) + b"\0")


def query(sql) -> bytes:
    return message("Q", _z(sql))


def parse(sql, statement="", oids=()) -> bytes:
    return message("P", _z(statement) + _z(sql) + struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def bind(statement="", parameters=(), portal="", formats=(), result_formats=()) -> bytes:
    return message("B", _z(portal) + _z(statement) + _codes(formats) + _values(parameters)
                   + _codes(result_formats))


def describe(kind="P", name="") -> bytes:
    return message("D", kind.encode() + _z(name))


def execute(portal="", max_rows=0) -> bytes:
    return message("E", _z(portal) + struct.pack("!I", max_rows))


def close(kind="S", name="") -> bytes:
    return message("C", kind.encode() + _z(name))


def sync() -> bytes:
    return message("S")


def flush() -> bytes:
    return message("H")


def terminate() -> bytes:
    return message("X")


def copy_data(data: bytes) -> bytes:
    return message("d", data)


def copy_done() -> bytes:
    return message("c")


def copy_fail(why="") -> bytes:
    return message("f", _z(why))


def function_call(oid: int, arguments=(), formats=(), result_format=0) -> bytes:
    return message("F", struct.pack("!I", oid) + _codes(formats) + _values(arguments)
                   + struct.pack("!H", result_format))


def password(body: bytes) -> bytes:
    """PasswordMessage (zero-ended text), SASLInitialResponse and SASLResponse share a type."""
    return message("p", body)


# -- messages received ----------------------------------------------------------------------------


class Message(NamedTuple):
    """`type` is one character; the properties decode the body of the type they are for."""

    type: str
    body: bytes

    def _strings(self, at=0):
        return [part.decode() for part in self.body[at:].split(b"\0")[:-1]]

    @property
    def fields(self) -> dict:
        """E and N: code of the field → text; 'C' is the SQLSTATE, 'M' the message."""
        return {text[0]: text[1:] for text in self._strings() if text}

    @property
    def sqlstate(self) -> str:
        return self.fields["C"]

    @property
    def row(self) -> list:
        """D: the values as bytes, None for NULL."""
        count, at, values = struct.unpack_from("!H", self.body)[0], 2, []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            values.append(None if length < 0 else self.body[at:at + length])
            at += max(length, 0)
        return values

    @property
    def columns(self) -> list:
        """T: (name, type oid, format) of each column."""
        count, at, columns = struct.unpack_from("!H", self.body)[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            _, _, oid, _, _, code = struct.unpack_from("!IHIhiH", self.body, end + 1)
            columns.append((self.body[at:end].decode(), oid, code))
            at = end + 19
        return columns

    @property
    def oids(self) -> list:
        """t: the types of the parameters."""
        return list(struct.unpack_from(f"!{(len(self.body) - 2) // 4}I", self.body, 2))

    @property
    def text(self) -> str:
        """C: the command tag. Z: the transaction status."""
        return self.body.rstrip(b"\0").decode()

    @property
    def parameter(self) -> tuple:
        """S: (name, value)."""
        return tuple(self._strings())

    @property
    def key(self) -> tuple:
        """K: (process id, secret)."""
        return struct.unpack("!II", self.body)

    @property
    def notification(self) -> tuple:
        """A: (process id, channel, payload)."""
        return (struct.unpack_from("!I", self.body)[0], *self._strings(4))


class ProtocolError(Exception):
    """The server answered what the test did not expect; `message` is what it sent."""

    def __init__(self, got: Message):
        super().__init__(got.fields if got.type in "EN" else got)
        self.message = got


# -- the connection -------------------------------------------------------------------------------


class Wire:
    """One connection. Every wait ends after `timeout` seconds with TimeoutError; the end of the
    stream is ConnectionError (EOFError is its cause where the server closed in an orderly way)."""

    def __init__(self, host="127.0.0.1", port=5432, timeout=10.0):
        """A host that begins with "/" is the folder of a unix socket."""
        self.address = (host, port)
        self.timeout = timeout
        self.parameters = {}  # as ParameterStatus has told so far
        self.key = None       # (process id, secret), after login
        self.login_messages = []
        self._buffer = bytearray()
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Says Terminate, if anybody listens, and closes; `abort` closes without a word."""
        with contextlib.suppress(OSError):
            self.socket.sendall(terminate())
        self.abort()

    def abort(self):
        self.socket.close()

    def reset(self):
        """The same by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Sending

    def send(self, *messages: bytes):
        """All in one write."""
        self.socket.sendall(b"".join(messages))

    def send_slowly(self, data: bytes, step=1, pause_s=0.0):
        """In pieces of `step` bytes, so that the receiver sees messages cut anywhere."""
        for at in range(0, len(data), step):
            self.socket.sendall(data[at:at + step])
            time.sleep(pause_s)

    # Receiving

    def read(self, count: int, timeout=None) -> bytes:
        """Exactly so many bytes. On TimeoutError nothing is lost: they can be read again."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while len(self._buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(self._buffer)} of {count} bytes came")
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(min(max(65536, count - len(self._buffer)), 1 << 20))
            finally:
                self.socket.settimeout(self.timeout)
            if not more:
                raise ConnectionError("the server closed the connection") from EOFError()
            self._buffer += more
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def receive(self, timeout=None) -> Message:
        header = self.read(5, timeout)
        (length,) = struct.unpack("!I", header[1:])
        try:
            got = Message(header[:1].decode("latin-1"), self.read(length - 4, timeout))
        except TimeoutError:
            self._buffer[:0] = header
            raise
        if got.type == "S":
            name, value = got.parameter
            self.parameters[name] = value
        return got

    def until(self, types: str, timeout=None) -> list:
        """Messages up to and including the first one of these types."""
        messages = [self.receive(timeout)]
        while messages[-1].type not in types:
            messages.append(self.receive(timeout))
        return messages

    def until_ready(self, timeout=None) -> list:
        return self.until("Z", timeout)

    def until_closed(self, timeout=None) -> list:
        """What still comes before the server closes the connection."""
        messages = []
        with contextlib.suppress(ConnectionError):
            while True:
                messages.append(self.receive(timeout))
        return messages

    def silent(self, seconds=0.2) -> bool:
        """True when nothing comes for so long."""
        try:
            self._buffer[:0] = self.read(1, seconds)
        except TimeoutError:
            return True
        return False

    # Conversations

    def ask_encryption(self, code=SSL_REQUEST) -> bytes:
        """Sends an SSLRequest or GSSENCRequest; the one byte of the answer."""
        self.send(packet(code))
        return self.read(1)

    def login(self, user, database=None, secret="", parameters=None, version=PROTOCOL_3_0):
        """Logs in by whatever the server asks for: nothing, password, md5 or SCRAM-SHA-256.
        Returns the Wire itself; what came between is in `login_messages`. An ErrorResponse is
        raised as ProtocolError."""
        self.send(startup({"user": user, **({"database": database} if database else {}),
                           **(parameters or {})}, version))
        self.login_messages = []
        while True:
            got = self.receive()
            self.login_messages.append(got)
            if got.type == "R":
                self._authenticate(got.body, user, secret)
            elif got.type == "K":
                self.key = got.key
            elif got.type == "Z":
                return self
            elif got.type not in "SNv":
                raise ProtocolError(got)

    def _authenticate(self, request: bytes, user: str, secret: str):
        (kind,) = struct.unpack_from("!I", request)
        if kind == 3:
            self.send(password(_z(secret)))
        elif kind == 5:
            inner = hashlib.md5(secret.encode() + user.encode()).hexdigest()
            self.send(password(b"md5" + _z(hashlib.md5(inner.encode() + request[4:]).hexdigest())))
        elif kind == 10:
            self._scram(request[4:].split(b"\0"), secret)
        elif kind != 0:
            raise ProtocolError(Message("R", request))

    def _scram(self, mechanisms: list, secret: str):
        """The client's side of RFC 5802 and 7677; checks the server's signature too."""
        if b"SCRAM-SHA-256" not in mechanisms:
            raise ProtocolError(Message("R", b"\0".join(mechanisms)))
        bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        first = b"n,," + bare
        self.send(password(b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        challenge = self._sasl(11)
        values = dict(part.split(b"=", 1) for part in challenge.split(b","))
        if not values[b"r"].startswith(bare[5:]):
            raise ProtocolError(Message("R", challenge))
        salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), base64.b64decode(values[b"s"]),
                                     int(values[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + values[b"r"]
        signed = b",".join([bare, challenge, without_proof])
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(password(without_proof + b",p=" + base64.b64encode(proof)))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        expected = b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256"))
        if (final := self._sasl(12)) != expected:
            raise ProtocolError(Message("R", final))

    def _sasl(self, kind: int) -> bytes:
        got = self.receive()
        self.login_messages.append(got)
        if got.type != "R" or got.body[:4] != struct.pack("!I", kind):
            raise ProtocolError(got)
        return got.body[4:]

    def query(self, sql, timeout=None) -> list:
        """A simple query; everything up to ReadyForQuery, errors too."""
        self.send(query(sql))
        return self.until_ready(timeout)

    def cancel(self, key=None):
        """Sends a CancelRequest with this key (default: ours) on a connection of its own, and
        waits until the server has closed that."""
        with contextlib.closing(Wire(*self.address, self.timeout)) as other:
            other.send(packet(CANCEL_REQUEST, struct.pack("!II", *(key or self.key))))
            other.until_closed()


def rows(messages) -> list:
    """The rows in these messages."""
    return [m.row for m in messages if m.type == "D"]


def types(messages) -> str:
    """The types of these messages, in order: "TDCZ"."""
    return "".join(m.type for m in messages)
