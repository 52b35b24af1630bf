"""Plays conversations (conversation.py) on both sides, PostgreSQL alone and pgfresh in front of it,
and says what differs: each byte that was sent to a client, but for numbers of processes and of
tables made since. Notifications come when they come; they are compared at the end.

PostgreSQL answers first, and pgfresh has some time to say as much. Where no Sync or Flush ends a
step, how much is said at once is left open. What an error in a failed block says is not compared
either: a statement that was accepted here must be parsed there, which PostgreSQL refuses in other
words than the Bind.
"""
import dataclasses
import re
import struct
import time

import pgwire
from conversation import WARM, Step
from conversation_words import DATA, WORLD
from pgwire import Wire

WAIT_S = 0.3    # for a ReadyForQuery that may have been skipped
CANCEL_S = 0.15  # what is cancelled has begun by then
QUIET_S = 0.06  # PostgreSQL has said what it had to say to messages without a Sync
PATIENCE_S = 2  # pgfresh has as much time for what PostgreSQL has said
WRITES = re.compile("UPDATE|INSERT|DELETE|TRUNCATE|COPY|rename|nextval|commits|DO", re.I)


def encode(parts):
    return b"".join(eval(part, vars(pgwire)) for part in parts)  # they are ours


def asks_ready(parts):
    """How many ReadyForQuery these are likely to be answered with."""
    return sum(part.startswith(("query(", "sync(", "function_call(", "message('Q'"))
               for part in parts)


def without_numbers(text):
    """Errors that name processes and the like, and what was not expected during COPY."""
    text = re.sub(rb"unexpected message type 0x..", b"unexpected message", text)
    return re.sub(rb"(process|transaction|PID|relation|database|pg_temp_|pg_toast_temp_) ?\d+",
                  rb"\1", text)


class Side:
    """One database, reached in one way; what its clients have been told, made comparable."""

    def __init__(self, port, database, first_oid):
        self.port = port
        self.database = database
        self.first_oid = first_oid
        self.superuser = Wire(port=port, timeout=60).login("postgres", database)

    def prepare(self, sql):
        got = self.superuser.query(sql)
        assert not any(m.type == "E" for m in got), got

    def begin(self, conversation):
        self.oids = {}
        self.wires, self.told, self.pids, self.dead = [], [], {}, set()
        for user, parameters in zip(conversation.users, conversation.parameters):
            wire = Wire(port=self.port).login(user, self.database, "", parameters)
            self.pids[wire.key[0]] = len(self.wires)
            self.wires.append(wire)
            self.told.append([self.comparable(m) for m in wire.login_messages if m.type != "K"])
        self.heard = [[] for _ in self.wires]

    def end(self):
        for number, wire in enumerate(self.wires):
            wire.abort() if number in self.dead else wire.close()

    def send(self, client, data, cuts=()):
        if client in self.dead:
            return
        try:
            at = 0
            for cut in cuts:
                to = len(data) * cut // 1000
                if to > at:
                    self.wires[client].send(data[at:to])
                    time.sleep(0.001)
                    at = to
            self.wires[client].send(data[at:])
        except OSError:
            pass

    def listen(self, client, enough, patience):
        """Until there is enough, or nothing has come for `patience` seconds."""
        while client not in self.dead and not enough():
            try:
                message = self.wires[client].receive(patience)
            except TimeoutError:
                return
            except OSError:
                self.dead.add(client)
                self.told[client].append(("end", b""))
                return
            if message.type == "A":
                pid, channel, payload = message.notification
                self.heard[client].append((self.pids.get(pid), channel, payload))
            else:
                self.told[client].append(self.comparable(message))

    def oid(self, number):
        """Of what was made since the template: the how-manieth to be spoken of."""
        return number if number < self.first_oid else 1 << 31 | self.oids.setdefault(
            number, len(self.oids))

    def comparable(self, message):
        kind, body = message
        if kind == "T":
            (count,), at, out = struct.unpack_from("!H", body), 2, body[:2]
            for _ in range(count):
                end = body.index(b"\0", at) + 1
                table, number, of_type = struct.unpack_from("!IhI", body, end)
                out += body[at:end] + struct.pack("!IhI", self.oid(table), number, self.oid(of_type))
                out += body[end + 10:end + 18]
                at = end + 18
            body = out
        elif kind in "EN":
            body = without_numbers(body)
        return kind, body.replace(self.database.encode(), b"DATABASE")


class Stage:
    """Both sides, and the connection that warms."""

    def __init__(self, direct, through, hits):
        self.direct, self.through, self.hits = direct, through, hits
        self.played = self.messages = self.client_hits = self.reads = 0
        self.warmers = {}
        self.rebuilt = False
        self.written = True

    def close(self):
        for wire in (*self.warmers.values(), self.direct.superuser, self.through.superuser):
            wire.close()

    def warm(self, conversation, turns=2):
        """Asks its questions as its users would; how many were hits."""
        before = self.hits()
        for user, parameters in zip(conversation.users, conversation.parameters):
            who = (user, str(parameters))
            if who not in self.warmers:
                self.warmers[who] = Wire(port=self.through.port, timeout=30).login(
                    user, self.through.database, "", parameters)
            wire = self.warmers[who]
            for _ in range(turns):
                for parts in conversation.questions:
                    wire.send(encode(parts))
                    wire.until_ready()
        return self.hits() - before

    def play(self, conversation):
        """None, or what differs."""
        sides = (self.direct, self.through)
        for side in sides:
            if self.rebuilt:
                side.prepare(WORLD)
            if self.rebuilt or self.written:
                side.prepare(DATA)
        self.rebuilt = conversation.rebuild
        self.written = WRITES.search(str(conversation)) is not None
        self.stopped_at = len(conversation.steps)
        before = self.hits()
        warmed = self.warm(conversation)
        for side in sides:
            side.begin(conversation)
        try:
            for number, step in enumerate(conversation.steps):
                if step.client == WARM:
                    warmed += self.warm(conversation, 1)
                else:
                    self.step(step)
                    if why := self.difference(at_end=False):
                        self.stopped_at = number
                        return why
            for client in range(len(conversation.users)):
                self.step(Step(client, ["sync()", "query('SELECT 1')", "query('ROLLBACK')",
                                        "query('SELECT 2')"]))
            return self.difference()
        finally:
            self.played += 1
            self.messages += sum(map(len, self.through.told))
            self.client_hits += self.hits() - before - warmed
            self.reads += sum(kind == "T" for told in self.through.told for kind, _ in told)
            for side in sides:
                side.end()

    def step(self, step):
        data, ready = encode(step.parts), asks_ready(step.parts)
        told, heard = self.direct.told[step.client], self.through.told[step.client]
        began = len(told)

        def answered():
            return ready and sum(kind == "Z" for kind, _ in told[began:]) >= ready

        self.direct.send(step.client, data)
        self.cancel(step, self.direct)
        self.direct.listen(step.client, answered, WAIT_S if ready else QUIET_S)
        self.through.send(step.client, data, step.cuts)
        self.cancel(step, self.through)
        # Without a Sync or a Flush behind it even an error may come later.
        if ready or (step.parts and step.parts[-1].startswith("flush")):
            self.through.listen(step.client, lambda: len(heard) >= len(told), PATIENCE_S)

    @staticmethod
    def cancel(step, side):
        if step.cancelled and step.client not in side.dead:
            time.sleep(CANCEL_S)
            side.wires[step.client].cancel()

    def difference(self, at_end=True):
        for client, (a, b) in enumerate(zip(self.direct.told, self.through.told)):
            status = b"I"
            for number, (expected, got) in enumerate(zip(a, b)):
                status = expected[1] if expected[0] == "Z" else status
                if expected != got and not (status == b"E" and expected[0] == got[0] == "E"):
                    return (f"client {client}, message {number}:\n  PostgreSQL {expected}\n"
                            f"  pgfresh    {got}\n  before {a[max(0, number - 4):number]}")
            if at_end and len(a) != len(b):
                return (f"client {client}: {len(a)} and {len(b)} messages, "
                        f"{(a[len(b):] or b[len(a):])[:4]}")
        if at_end and self.direct.heard != self.through.heard:
            return f"notifications {self.direct.heard} and {self.through.heard}"
        return None


def shrunk(stage, conversation, seconds=60):
    """The conversation with everything left out that the difference does not need."""
    until = time.monotonic() + seconds

    def differs(steps):
        steps = [s for s in steps if s.parts or s.client == WARM]
        return stage.play(dataclasses.replace(conversation, steps=steps)) is not None

    if not differs(conversation.steps):
        return None
    steps = conversation.steps[:stage.stopped_at + 1]
    said = [(number, part) for number, step in enumerate(steps) for part in step.parts or [None]]

    def spoken(some):
        return [dataclasses.replace(step, parts=[p for n, p in some if n == number and p], cuts=())
                for number, step in enumerate(steps) if number in {n for n, _ in some}]

    if not differs(spoken(said)):  # it depends on where the bytes were cut
        return dataclasses.replace(conversation, steps=steps)
    size = max(1, len(said) // 2)
    while size:
        at = 0
        while at < len(said) and time.monotonic() < until:
            less = said[:at] + said[at + size:]
            if differs(spoken(less)):
                said = less
            else:
                at += size
        size //= 2
    return dataclasses.replace(conversation, steps=spoken(said))
