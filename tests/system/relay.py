"""The holding peer: a relay that knows PostgreSQL's protocol and can hold, cut, delay, duplicate or
split any one message on its way. It stands between a client and pgfresh, or between pgfresh and
PostgreSQL, and tells the connections apart by what they say.

    relay = Relay(server.port)                                 # pgfresh's upstream is relay.port
    with relay.hold(ANSWER, "D", of="client") as row:          # the next DataRow of a session
        reader.send(query("SELECT …"))
        row.wait()                                             # it is here, and goes no further
        writer.execute("UPDATE …")
        row.release()                                          # or row.cut("rst")
    relay.silence(of="feed"); relay.speak(of="feed")           # a half-open connection
    relay.cut("fin", of="feed")

What is held stops everything behind it in the same direction of the same connection, as in a
network; the other direction and the other connections go on. A rule fires once, for the `nth`
message it fits, unless `every=True`. Nothing fires by time, except where a delay is asked for.

A message is bytes as they stand on the wire. Types are one character; the packets of the startup
phase, which have none, are "startup", "cancel", "ssl" and, in the answer to that, "ssl-answer".
Not done: TLS (the answer to SSLRequest must be N), replication connections (passed on unseen).
"""
import contextlib
import socket
import struct
import threading
import time
from typing import NamedTuple

from pgwire import CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST

REQUEST, ANSWER = "request", "answer"  # towards PostgreSQL, and away from it
WAIT_S = 10.0  # how long a play waits for a message before it fails


class Piece(NamedTuple):
    type: str
    bytes: bytes

    @property
    def body(self):
        return self.bytes[5:]


# -- cutting a stream into messages ---------------------------------------------------------------


class Cutter:
    """Bytes of one direction into messages. `untyped`: how many packets of the startup phase, or
    one-byte answers to them, are still to come."""

    def __init__(self, direction):
        self.direction = direction
        self.buffer = bytearray()
        self.in_startup = direction == REQUEST
        self.ssl_answers = 0

    def pieces(self, data):
        self.buffer += data
        while (piece := self._next()) is not None:
            yield piece

    def _next(self):
        if self.ssl_answers:
            if not self.buffer:
                return None
            self.ssl_answers -= 1
            return Piece("ssl-answer", self._take(1))
        header = 0 if self.in_startup else 1
        if len(self.buffer) < header + 4:
            return None
        length = header + struct.unpack_from("!I", self.buffer, header)[0]
        if len(self.buffer) < length:
            return None
        taken = self._take(length)
        if not self.in_startup:
            return Piece(chr(taken[0]), taken)
        (code,) = struct.unpack_from("!I", taken, 4)
        if code in (SSL_REQUEST, GSSENC_REQUEST):
            return Piece("ssl", taken)
        self.in_startup = False
        return Piece("cancel" if code == CANCEL_REQUEST else "startup", taken)

    def _take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken


# -- rules ----------------------------------------------------------------------------------------


class Rule:
    """What to do with a message that fits. Made by Relay; `wait`, `release` and `cut` are for those
    that hold."""

    def __init__(self, relay, do, direction, types, of, containing, nth, every):
        self.relay, self.do, self.direction, self.types, self.of = relay, do, direction, types, of
        self.containing = containing.encode() if isinstance(containing, str) else containing
        self.left, self.every = nth, every
        self.met = threading.Event()       # the message has come
        self.released = threading.Event()  # … and may go on
        self.link = self.piece = None
        self.count = 0

    def fits(self, link, direction, piece):
        """Under the relay's lock; counts."""
        if self.left <= 0 or direction != self.direction or self.released.is_set():
            return False
        if self.types and piece.type not in self.types:
            return False
        if self.of and link.kind != self.of:
            return False
        if self.containing is not None and self.containing not in piece.bytes:
            return False
        self.count += 1
        if self.every:
            return True
        self.left -= 1
        return self.left == 0

    def wait(self, seconds=WAIT_S):
        """Until the message has come; returns it."""
        assert self.met.wait(seconds), f"the message did not come: {self.types} of {self.of}"
        return self.piece

    def release(self):
        self.released.set()

    def cut(self, how="fin"):
        """The message never arrives: the connection it was on ends."""
        self.wait()
        self.link.cut(how)
        self.released.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relay.forget(self)


# -- connections ----------------------------------------------------------------------------------


class Link:
    """One connection through the relay. `kind`: "client", "feed" (it says LISTEN), "catalog"
    (pgfresh's other connections), "cancel", or "new" before its startup packet."""

    def __init__(self, relay, near, far):
        self.relay, self.kind, self.over, self.ends = relay, "new", False, 0
        self.sockets = {REQUEST: near, ANSWER: far}  # where the bytes of a direction come from
        self.cutters = {way: Cutter(way) for way in (REQUEST, ANSWER)}
        self.speaking = {way: threading.Event() for way in (REQUEST, ANSWER)}
        self.parameters = {}
        self.lock = threading.Lock()
        for event in self.speaking.values():
            event.set()

    def start(self):
        for way in (REQUEST, ANSWER):
            threading.Thread(target=self._pump, args=(way,), daemon=True).start()

    def _pump(self, way):
        source, sink = self.sockets[way], self.sockets[ANSWER if way == REQUEST else REQUEST]
        try:
            while data := source.recv(1 << 16):
                quiet = b""
                for piece in self.cutters[way].pieces(data):
                    self._learn(way, piece)
                    quiet = self._pass(way, piece, quiet, sink)
                self._wait_to_speak(way)
                sink.sendall(quiet)
            if not self.over:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut("rst")
        finally:
            self.relay.ended(self)

    def _pass(self, way, piece, quiet, sink):
        """Sends `quiet` and the piece as its rule says; or keeps both together to be sent, where
        there is none. Returns what is kept."""
        rule = self.relay.rule_for(self, way, piece)
        if rule is None:
            return quiet + piece.bytes
        self._wait_to_speak(way)
        sink.sendall(quiet)
        rule.link, rule.piece = self, piece
        rule.met.set()
        rule.do(rule, sink, piece)
        return b""

    def _wait_to_speak(self, way):
        while not self.speaking[way].wait(0.5):
            if self.over:
                raise OSError("cut while silent")

    def _learn(self, way, piece):
        if way != REQUEST:
            return
        if piece.type == "ssl":
            self.cutters[ANSWER].ssl_answers += 1
        elif piece.type == "cancel":
            self.kind = "cancel"
        elif piece.type == "startup":
            words = piece.bytes[8:].split(b"\0")
            self.parameters = dict(zip(words[::2], words[1::2]))
            own = self.parameters.get(b"application_name", b"").startswith(b"pgfresh")
            self.kind = "catalog" if own else "client"
        elif self.kind == "catalog" and piece.type == "Q" and piece.body[:6].upper() == b"LISTEN":
            self.kind = "feed"

    def cut(self, how="fin"):
        """Ends both sides: "fin" in an orderly way, "rst" with a reset."""
        with self.lock:
            if self.over:
                return
            self.over = True
        for sock in self.sockets.values():
            with contextlib.suppress(OSError):
                if how == "rst":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)  # wakes the pump that reads here, tells nobody
                    sock.close()
                else:
                    sock.shutdown(socket.SHUT_RDWR)


class Relay:
    """Listens on `port` of 127.0.0.1, and connects each that comes to `target_port`."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.links, self.rules = [], []
        self.lock = threading.Lock()
        self.refusing = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for rule in list(self.rules):
            rule.release()
        self.cut("fin")

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target_port), 5)
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self, near, far)
            with self.lock:
                self.links.append(link)
            link.start()

    def ended(self, link):
        """One direction of it has. The sockets are closed when both have."""
        with self.lock:
            link.ends += 1
            if link.ends < 2:
                return
            if link in self.links:
                self.links.remove(link)
        for sock in link.sockets.values():
            sock.close()

    # -- one message ------------------------------------------------------------------------------

    def rule_for(self, link, way, piece):
        with self.lock:
            for rule in self.rules:
                if rule.fits(link, way, piece):
                    return rule
        return None

    def _rule(self, do, direction, types, of, containing, nth, every=False):
        rule = Rule(self, do, direction, types, of, containing, nth, every)
        with self.lock:
            self.rules.append(rule)
        return rule

    def forget(self, rule):
        """The rule is over; what it holds goes on."""
        with self.lock:
            if rule in self.rules:
                self.rules.remove(rule)
        rule.release()

    def hold(self, direction, types="", of="client", containing=None, nth=1):
        """Holds the message until release() or cut()."""

        def do(rule, sink, piece):
            while not rule.released.wait(0.5):
                if rule.link.over:
                    return
            sink.sendall(piece.bytes)

        return self._rule(do, direction, types, of, containing, nth)

    def delay(self, seconds, direction, types="", of="client", containing=None, nth=1, every=False):
        def do(_, sink, piece):
            time.sleep(seconds)
            sink.sendall(piece.bytes)

        return self._rule(do, direction, types, of, containing, nth, every)

    def duplicate(self, direction, types="", of="client", containing=None, nth=1, every=False):
        def do(_, sink, piece):
            sink.sendall(piece.bytes * 2)

        return self._rule(do, direction, types, of, containing, nth, every)

    def split(self, direction, types="", of="client", containing=None, nth=1, every=False, step=1):
        """In pieces of `step` bytes, each a packet of its own."""

        def do(_, sink, piece):
            for at in range(0, len(piece.bytes), step):
                sink.sendall(piece.bytes[at:at + step])
                time.sleep(0.0005)

        return self._rule(do, direction, types, of, containing, nth, every)

    def replace(self, change, direction, types="", of="client", containing=None, nth=1,
                every=False):
        """Passes on change(the message's bytes)."""

        def do(_, sink, piece):
            sink.sendall(change(piece.bytes))

        return self._rule(do, direction, types, of, containing, nth, every)

    def cut_at(self, byte, direction, types="", of="client", containing=None, nth=1, how="fin"):
        """Lets the first `byte` bytes of the message through and ends the connection."""

        def do(rule, sink, piece):
            sink.sendall(piece.bytes[:byte])
            rule.link.cut(how)

        return self._rule(do, direction, types, of, containing, nth)

    def watch(self, direction, types="", of="client", containing=None):
        """Changes nothing and counts: rule.count."""

        def do(_, sink, piece):
            sink.sendall(piece.bytes)

        return self._rule(do, direction, types, of, containing, 1, every=True)

    # -- whole connections ------------------------------------------------------------------------

    def of_kind(self, of=None):
        with self.lock:
            return [link for link in self.links if of in (None, link.kind) and not link.over]

    def silence(self, of=None, directions=(REQUEST, ANSWER)):
        """Nothing goes on, and nobody is told: a half-open connection. New ones speak."""
        found = self.of_kind(of)
        for link in found:
            for way in directions:
                link.speaking[way].clear()
        return found

    def speak(self, of=None):
        for link in self.of_kind(of):
            for event in link.speaking.values():
                event.set()

    def cut(self, how="fin", of=None):
        found = self.of_kind(of)
        for link in found:
            link.cut(how)
        return found

    def refuse(self, yes=True):
        """New connections are closed at once."""
        self.refusing = yes
