"""The raw client itself, against PostgreSQL alone: what other tests rely on when they use it."""
import struct

import pytest

import pgwire
from conftest import PASSWORD
from pgwire import ProtocolError, Wire, bind, describe, execute, flush, parse, query, rows, sync


@pytest.fixture
def wire(server):
    with Wire(port=server.port).login("postgres", "postgres") as connected:
        yield connected


@pytest.mark.parametrize("user", ["u_scram", "u_md5", "u_password"])
def test_login_by_password(server, user):
    with Wire(port=server.port).login(user, "postgres", PASSWORD) as wire:
        assert rows(wire.query("SELECT current_user")) == [[user.encode()]]


@pytest.mark.parametrize("user", ["u_scram", "u_md5", "u_password"])
def test_wrong_password(server, user):
    with Wire(port=server.port) as wire, pytest.raises(ProtocolError) as refused:
        wire.login(user, "postgres", PASSWORD + "x")
    assert refused.value.message.sqlstate == "28P01"


def test_unix_socket_and_parameters(server):
    with Wire(server.socket_dir, server.port) as wire:
        wire.login("postgres", "postgres", parameters={"application_name": "raw"})
        assert wire.parameters["application_name"] == "raw"
        assert wire.key[0] > 0


def test_extended_query(wire):
    wire.send(parse("SELECT $1::int, $2::text", "s", oids=[23, 0]), describe("S", "s"), flush())
    description = wire.until("T")
    assert description[1].oids == [23, 25]
    assert description[2].columns == [("int4", 23, 0), ("text", 25, 0)]
    wire.send(bind("s", [struct.pack("!I", 7), None], formats=[1, 0], result_formats=[1]),
              execute(), sync())
    answer = wire.until_ready()
    assert pgwire.types(answer) == "2DCZ"
    assert answer[1].row == [struct.pack("!I", 7), None]
    assert (answer[2].text, answer[3].text) == ("SELECT 1", "I")


def test_errors_and_row_limit(wire):
    answer = wire.query("SELECT nothing")
    assert pgwire.types(answer) == "EZ"
    assert answer[0].sqlstate == "42703"
    wire.send(parse("SELECT generate_series(1, 3)"), bind(), execute(max_rows=2), sync())
    assert pgwire.types(wire.until_ready()) == "12DDsZ"


def test_copy_function_and_notification(wire):
    assert pgwire.types(wire.query("CREATE TEMP TABLE t (a int); LISTEN c")) == "CCZ"
    wire.send(query("COPY t FROM STDIN"))
    assert wire.receive().type == "G"
    wire.send(pgwire.copy_data(b"1\n2"), pgwire.copy_data(b"\n"), pgwire.copy_done())
    assert wire.until_ready()[0].text == "COPY 2"
    wire.send(pgwire.function_call(1317, ["four"]))  # length(text)
    assert wire.until_ready()[0].body == struct.pack("!I", 1) + b"4"
    notified = wire.query("NOTIFY c, 'hello'")
    assert notified[1].notification == (wire.key[0], "c", "hello")


def test_waiting_and_cancel(wire):
    assert wire.silent(0.05)
    wire.send(query("SELECT pg_sleep(30)"))
    with pytest.raises(TimeoutError):
        wire.until_ready(timeout=0.1)
    wire.cancel()
    assert [m.sqlstate for m in wire.until_ready() if m.type == "E"] == ["57014"]
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


def test_large_row_and_slow_sending(wire):
    assert len(rows(wire.query("SELECT repeat('x', 20000000)"))[0][0]) == 20_000_000
    wire.send_slowly(query("SELECT 1") + query("SELECT 2"))
    assert rows(wire.until_ready() + wire.until_ready()) == [[b"1"], [b"2"]]


def test_encryption_and_protocol_versions(server):
    with Wire(port=server.port) as wire:
        assert wire.ask_encryption() == b"N"
        wire.login("postgres", "postgres", parameters={"_pq_.x": "1"}, version=3 << 16 | 9999)
        negotiate = next(m for m in wire.login_messages if m.type == "v")
        # What src/wire's unit test expects of pgfresh, byte by byte.
        assert negotiate.body == struct.pack("!II", 3 << 16, 1) + b"_pq_.x\0"
    with Wire(port=server.port) as wire, pytest.raises(ProtocolError) as refused:
        wire.login("postgres", version=4 << 16)  # 2.0 gets an error in the format of 2.0
    assert refused.value.message.sqlstate == "0A000"


def test_closed_by_the_server(wire):
    wire.send(b"Q\0\0\0\3")
    assert wire.until_closed() == []
    with pytest.raises(ConnectionError):
        wire.receive()
