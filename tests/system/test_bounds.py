"""What a client may cost, and what it may never be given."""
import contextlib
import socket
import struct
import threading
import time

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgserver import free_port
from play import one
from pgwire import (SSL_REQUEST, Wire, bind, describe, execute, message, parse, query, rows,
                    startup, sync, types)

MB = 1 << 20


def hit(wire, sql):
    """Asks until the answer comes from memory; its rows."""
    def asked():
        got = wire.query(sql)
        return (rows(got),) if rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit" else None
    return wait_until(asked, "a hit")[0]


def test_settings_of_a_deferred_block(own_play):
    """SET LOCAL in a block that PostgreSQL has not been told of is kept here; not for ever."""
    play = own_play()
    play.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text); INSERT INTO note VALUES (1, 'a');"
             "ALTER TABLE note ENABLE ROW LEVEL SECURITY;"
             "CREATE POLICY by_tenant ON note USING (tenant = current_setting('app.tenant', true));"
             "GRANT ALL ON note TO anna; SELECT pgfresh.watch('note')")
    wire = play.wire("anna")
    hit(wire, "SELECT id FROM note")
    wire.query("BEGIN")
    before = play.proxy.rss_bytes()
    setting = query(f"SET LOCAL app.tenant = '{'v' * 8000}'")
    for _ in range(100):
        wire.send(setting * 100)
        assert all(types(wire.until_ready()) == "CZ" for _ in range(100))
    assert play.proxy.rss_bytes() - before < 20 * MB  # 80 MB have been sent
    wire.query("SET LOCAL app.tenant = 'a'")
    assert rows(wire.query("SELECT id FROM note")) == [[b"1"]]
    assert rows(wire.query("SELECT current_setting('app.tenant')")) == [[b"a"]]
    wire.query("ROLLBACK")
    assert rows(wire.query("SELECT id FROM note")) == []
