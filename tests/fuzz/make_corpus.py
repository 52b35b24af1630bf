#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: one small file for each thing worth starting from.

What each input consists of stands at the head of the target's source. Run from anywhere; files of
other names in the corpus folders are left alone.
"""

import pathlib
import random
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def msg(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(body) + 8, code) + body


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!I", len(value)) + value
    return body


def bind(formats: list[int], values: list[bytes | None], results: list[int]) -> bytes:
    def codes(numbers):
        return struct.pack(f"!H{len(numbers)}H", len(numbers), *numbers)

    return b"portal\0stmt\0" + codes(formats) + row(*values) + codes(results)


def notice(**fields: str) -> bytes:
    return b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0"


def sasl_initial(message: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    return mechanism + b"\0" + struct.pack("!I", len(message)) + message


STARTUPS = {
    "ssl": packet(80877103),
    "gss": packet(80877104),
    "cancel": packet(80877102, struct.pack("!II", 4711, 0xDEADBEEF)),
    "login": packet(3 << 16, b"user\0ada\0database\0clinic\0application_name\0psql\0\0"),
    "minor_2": packet(3 << 16 | 2, b"user\0ada\0_pq_.option\0on\0\0"),
    "version_2": packet(2 << 16, bytes(288)),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "no_terminator": packet(3 << 16, b"user\0ada\0"),
}

FRONTEND = {
    "query": msg("Q", b"select 1\0"),
    "parse": msg("P", b"stmt\0select $1\0" + struct.pack("!HI", 1, 20)),
    "bind_null_binary": msg("B", bind([0, 1], [None, b"\0\0\0\7"], [1])),
    "bind_plain": msg("B", bind([], [], [])),
    "bind_one_format": msg("B", bind([1], [b"a", b"bc"], [0, 1])),
    "describe": msg("D", b"Sstmt\0"),
    "close": msg("C", b"Pportal\0"),
    "execute": msg("E", b"portal\0" + struct.pack("!I", 100)),
}

BACKEND = {
    "error": msg("E", notice(S="ERROR", V="ERROR", C="42P01", M="no such table", P="15")),
    "inband": msg("N", notice(S="INFO", V="INFO", C="PF001", M="4711:16400:any", D="carry")),
    "key": msg("K", struct.pack("!II", 4711, 0xDEADBEEF)),
    "status": msg("S", b"TimeZone\0Asia/Kolkata\0"),
    "tag": msg("C", b"INSERT 0 1\0"),
    "ready": msg("Z", b"T"),
    "row": msg("D", row(b"1", None, b"", b"Ada")),
    "auth_sasl": msg("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"),
}


def framer() -> dict[str, bytes]:
    front_side, back_side, small_max = b"\x00", b"\x01", b"\x04"
    byte_by_byte, uneven = b"\1" * 8, bytes([3, 5, 0, 255, 7, 1, 64, 2])
    front = b"".join(FRONTEND.values()) + msg("S") + msg("H") + msg("X")
    copy_in = msg("d", b"1\tAda\n") + msg("d") + msg("c") + msg("f", b"no\0") + msg("F", bytes(12))
    back = b"".join(BACKEND.values())
    rest = "".join("123nstIv") + "VAtTGHW"
    return {
        "frontend": front_side + uneven + front,
        "frontend_small_max": small_max + uneven + front,
        "copy_in": front_side + byte_by_byte + copy_in,
        "backend": back_side + uneven + back,
        "backend_other_types": back_side + byte_by_byte + b"".join(msg(t, b"\0\0") for t in rest),
        "large_row_begins": back_side + uneven + msg("D", bytes(200))[:90],
        "over_whole_max": front_side + uneven + b"Q" + struct.pack("!I", 70_000) + b"select",
        "bad_length": back_side + uneven + msg("Z", b"I") + b"D\0\0\0\3",
        "bad_type": front_side + uneven + msg("S") + b"GET / HTTP/1.1",
    }


SCRAM = {
    "secret": b"\1SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    b"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    "exchange": b"\0" + sasl_initial(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    + b"\xfedHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "exchange_y": b"\0" + sasl_initial(b"y,,n=,r=a,x=1")
    + b"\xfec=eSws,r=aMDEyMzQ1Njc4OWFiY2RlZmdo,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "binding": b"\0" + sasl_initial(b"p=tls-server-end-point,,n=,r=a"),
    "authzid": b"\0" + sasl_initial(b"n,a=other,n=,r=a"),
    "no_response": b"\0SCRAM-SHA-256\0\xff\xff\xff\xff",
}


# The first byte: bool, int8, int2, int4, text, varchar, uuid.
KEYS = {
    "bool": b"\0yes",
    "int": b"\3 +0042 ",
    "int_array": b"\3{1,NULL,-2}",
    "int_array_binary": b"\3" + struct.pack("!5I", 1, 1, 23, 2, 1) + struct.pack("!3I", 4, 7, ~0 & 0xffffffff),
    "text_array": b'\4{a b,"c\\"d","",NULL}',
    "uuid": b"\6{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
    "uuid_binary": b"\6" + bytes(range(16)),
}


CONSOLE = {
    "show": b"SHOW STATS",
    "flush": b'flush table "Shop".public.doctors; SHOW /* x */ CACHE',
    "kill": b"KILL 42",
    "set": b"SET client_encoding TO 'UTF8'; SELECT 1 AS one, version()",
    "block": b"BEGIN; SHOW datestyle; ROLLBACK; DISCARD ALL",
    "open_quote": b"SET x = 'abc",
}

OPTIONS = {
    "file": b"fupstream:\n  url: postgresql://a:b@localhost:5432/x\ncache:\n  bytes: 64MB\n  ttl: 5min\n",
    "file_lists": b"flisten:\n  tcp: [127.0.0.1:1, '[::1]:2']\nconsole:\n  users:\n"
    b"    - {name: a, password: b}\n",
    "file_broken": b"fcache: [\n",
    "file_anchor": b"fa: &a {b: *a}\ncache:\n  ttl: 5\n  ttl: 6\n",
    "arguments": b"a--upstream\npostgresql://u@h/d?sslmode=require\n--set\ncache.mode=off\n--listen\n*:1",
    "check": b"a--check\n--http\nnone",
}


def entries() -> dict[str, bytes]:
    """Entries of Redis, without their checksums: the target appends a right one behind byte 1."""

    def header(plain_size: int, flags: int = 0, slot_bits: int = 20, key: int = 0) -> bytes:
        return b"pgfE" + bytes([1, flags, slot_bits, 0]) + struct.pack("<I", key) + bytes(12) + struct.pack(
            "<I", plain_size
        )

    key, body = b"select 1", msg("T", bytes(20)) + msg("D", row(b"1")) + msg("C", b"SELECT 1\0")
    pairs = struct.pack("<IQIQ", 0, 1, 4711, 1 << 63)
    counts = struct.pack("<IIII", 25, 2, len(key), len(body))
    plain = struct.pack("<qqqQQ", 1, 2, 3, 4, 5) + counts + pairs + key + body
    # A zstd frame of one raw block, as RFC 8878 has it.
    frame = struct.pack("<IBB", 0xFD2FB528, 0x20, len(plain)) + struct.pack("<I", len(plain) << 3 | 1)[:3]
    return {
        "plain": b"\1" + header(len(plain)) + plain,
        "packed": b"\1" + header(len(plain), flags=1) + frame + plain,
        "short": b"\1" + header(len(plain)) + plain[:-1],
        "huge": b"\1" + header(0xFFFFFFFF, flags=1) + frame + plain,
        "wrong_checksum": b"\0" + header(len(plain)) + plain + bytes(8),
        "sealed": b"\2" + header(len(plain), flags=2, key=1) + plain + bytes(16),
    }


# The first byte: the size of the pieces.
RESP = {
    "kinds": b"\4+OK\r\n-ERR no\r\n:42\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n",
    "popped": b"\1*4\r\n$3\r\none\r\n$1\r\n1\r\n$3\r\ntwo\r\n$1\r\n2\r\n",
    "nested": b"\7*2\r\n$1\r\n7\r\n*2\r\n+a\r\n*1\r\n:1\r\n",
    "many": b"\377*1000000000\r\n",
    "long": b"\377$2000000000\r\nx",
    "moved": b"\3-MOVED 3999 127.0.0.1:6381\r\n",
    "info": b"\20$40\r\nredis_version:7.0.15\r\nrole:master\r\nload\r\n",
    "http": b"\5HTTP/1.1 400 Bad Request\r\n\r\n",
}


def joins() -> dict[str, bytes]:
    """Words, and maps without their seal: version 1 of freshness/join.cc."""
    nonce, base = b"0123456789abcdef" * 2, b"8000000000000007"

    def a_map(bits: int, touched: list[tuple], publishers: list[tuple], count: int | None = None):
        head = struct.pack("<4sIIQqII", b"pgfM", 1, bits, (1 << 63) + 7, 5_000_000,
                           len(touched) if count is None else count, len(publishers))
        return (head + b"".join(struct.pack("<IQ", *pair) for pair in touched)
                + b"".join(struct.pack("<Iqq", *one) for one in publishers))

    some = a_map(20, [(17, 9), ((1 << 20) - 1, 1 << 62)], [(4711, 1000, 2000)])
    return {
        "ask": b"\0" + b"2 j " + nonce,
        "ask_of_one": b"\0" + b"2 j " + nonce + b" " + base,
        "ask_of_a_peer": b"\0" + b"2 j " + nonce + b" " + base + b" " + b"0" * 12 + b"1267",
        "lineage": b"\0" + b"2 l " + base,
        "digest": b"\0" + b"2 d " + base,
        "to_come": b"\0" + b"2 n",
        "unsealed": b"\1" + some,
        "empty": b"\2" + a_map(20, [], []),
        "some": b"\2" + some,
        "slot_too_large": b"\2" + a_map(4, [(16, 9)], []),
        "fewer_than_it_says": b"\2" + a_map(20, [(17, 9)], [], count=2),
        "age_below_zero": b"\2" + a_map(20, [], [(4711, -1, 2000)]),
    }


def sessions() -> dict[str, bytes]:
    """What the random test of tests/sim plays, in other words: any bytes are a conversation."""
    numbers = random.Random(7)
    return {f"talk_{n}": bytes(numbers.randrange(256) for _ in range(240)) for n in range(8)}


def write(target: str, seeds: dict[str, bytes]) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds.items():
        (folder / name).write_bytes(content)


def main() -> None:
    without_length = {"frontend": FRONTEND, "backend": BACKEND}
    for target, messages in without_length.items():
        write(target, {name: bytes_[:1] + bytes_[5:] for name, bytes_ in messages.items()})
    write("framer", framer())
    write("startup", STARTUPS)
    write("scram", SCRAM)
    write("key", KEYS)
    write("console", CONSOLE)
    write("options", OPTIONS)
    write("entry", entries())
    write("join", joins())
    write("resp", RESP)
    write("session", sessions())


if __name__ == "__main__":
    main()
