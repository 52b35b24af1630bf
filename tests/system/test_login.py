"""Who may log in is PostgreSQL's decision: each method is relayed, each refusal arrives as it was
said. Upstream TLS is pgfresh's own affair, and a server it cannot trust is no server."""
import asyncio
import re
import signal
import subprocess

import asyncpg
import psycopg
import pytest

from conftest import PASSWORD, set_the_stage
from pgfresh_proc import Pgfresh, binary, wait_until
from pgserver import PrivatePostgres
from pgwire import ProtocolError, Wire, types
from play import Play, one

METHODS = ["u_scram", "u_md5", "u_password"]


def refusal(port, user, database, secret):
    """(sqlstate, message) of the refused login."""
    with pytest.raises(ProtocolError) as refused, Wire(port=port) as wire:
        wire.login(user, database, secret)
    fields = refused.value.message.fields
    return fields["S"], fields["C"], fields["M"]


@pytest.mark.parametrize("user", METHODS)
def test_password_methods(play, user):
    app = play.app(user, PASSWORD)
    assert one(app, "SELECT session_user::text") == user
    assert one(app, "SELECT name FROM item WHERE id = 1") == "item 1"


@pytest.mark.parametrize("user", METHODS)
@pytest.mark.parametrize("secret", ["wrong", "x" * 300])
def test_wrong_password(play, user, secret):
    through = refusal(play.proxy.port, user, play.database, secret)
    assert through[1] == "28P01"
    assert through == refusal(play.server.port, user, play.database, secret)


def test_other_refusals_arrive_as_said(play):
    cases = [("postgres", "missing_database", "3D000"), ("nobody", play.database, "28000"),
             ("u_reject", play.database, "28000")]
    for user, database, sqlstate in cases:
        through = refusal(play.proxy.port, user, database, PASSWORD)
        assert through[1] == sqlstate
        assert through == refusal(play.server.port, user, database, PASSWORD)


def test_drivers_see_their_own_exceptions(play):
    async def connect(**options):
        connection = await asyncpg.connect(play.proxy.url(**options), timeout=10)
        await connection.close()

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(connect(user="u_scram", password="wrong", database=play.database))
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        asyncio.run(connect(user="postgres", database="missing"))


def test_same_messages_on_the_way_in(play):
    for user in METHODS:
        through = play.wire(user, PASSWORD)
        straight = play.wire(user, PASSWORD, direct=True)
        assert types(through.login_messages) == types(straight.login_messages)


def test_too_many_connections_is_said_by_postgresql(own_server, own_play):
    own_server.psql("ALTER ROLE anna CONNECTION LIMIT 1")
    play = own_play(postgres=own_server)
    play.wire("anna")
    with pytest.raises(ProtocolError) as refused:
        play.wire("anna")
    assert refused.value.message.sqlstate == "53300"


def test_unix_socket_works_too(play, tmp_path):
    """The folder of listen.unix holds PostgreSQL's customary name."""
    with Pgfresh(play.server.url(), {"listen.unix": tmp_path}) as proxy:
        with Wire(str(tmp_path), proxy.port) as wire:
            wire.login("postgres", play.database)
            assert types(wire.query("SELECT name FROM item WHERE id = 1")) == "TDCZ"


# -- TLS towards PostgreSQL ---------------------------------------------------------------------


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True, timeout=30)


def certificate(folder, name, subject_names, ca="ca"):
    """folder/name.key and folder/name.crt, signed by folder/ca.*."""
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)
    (folder / "extensions").write_text(f"subjectAltName={subject_names}\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key",
            "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", f"{name}.crt",
            cwd=folder)


def authority(folder, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN=test {name}", "-keyout", f"{name}.key", "-out",
            f"{name}.crt", cwd=folder)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    """A PostgreSQL that talks TLS only, with a certificate for "localhost" by a private CA."""
    folder = tmp_path_factory.mktemp("tls")
    authority(folder, "ca")
    authority(folder, "stranger")
    certificate(folder, "server", "DNS:localhost")
    hba = ["hostssl all u_scram 127.0.0.1/32 scram-sha-256", "hostssl all all 127.0.0.1/32 trust",
           "host all all 127.0.0.1/32 reject"]
    postgres = PrivatePostgres(hba=hba, settings={"ssl": "on"})
    for kind in ("crt", "key"):
        target = f"{postgres.data}/server.{kind}"
        owner = ["-o", "postgres", "-g", "postgres"] if _is_root() else []
        subprocess.run(["install", "-m", "600", *owner, folder / f"server.{kind}", target],
                       check=True)
    with postgres:
        set_the_stage(postgres)
        postgres.create_database("clinic", template="stage")
        postgres.folder = folder
        yield postgres


def _is_root():
    return subprocess.check_output(["id", "-u"], text=True).strip() == "0"


def tls_url(server, mode, root="ca", host="localhost"):
    root = f"&sslrootcert={server.folder}/{root}.crt" if root else ""
    return f"postgresql://postgres@{host}:{server.port}/clinic?sslmode={mode}{root}"


@pytest.mark.parametrize("mode, root, host", [
    ("prefer", None, "localhost"), ("require", None, "localhost"), ("require", None, "127.0.0.1"),
    ("verify-ca", "ca", "127.0.0.1"), ("verify-full", "ca", "localhost")])
def test_upstream_tls(tls_server, mode, root, host):
    with Pgfresh(tls_url(tls_server, mode, root, host)) as proxy:
        play = Play(tls_server, "clinic", proxy)
        app = play.app()
        assert one(app, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
        play.hot(app, "SELECT name FROM item WHERE id = 1")  # the feed came through as well
        assert one(play.app("u_scram", PASSWORD), "SELECT 1") == 1  # SCRAM, but never -PLUS
        play.send_home()


@pytest.mark.parametrize("mode, root, host, says", [
    ("disable", None, "localhost", "pg_hba|no encryption"),
    ("verify-ca", "stranger", "localhost", "certificate"),
    ("verify-full", "stranger", "localhost", "certificate"),
    ("verify-full", "ca", "127.0.0.1", "certificate|host")])
def test_upstream_that_cannot_be_trusted(tls_server, mode, root, host, says):
    with Pgfresh(tls_url(tls_server, mode, root, host)) as proxy:
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(proxy.url(database="clinic"), connect_timeout=10)
        assert re.search(says, str(refused.value), re.IGNORECASE), refused.value


def test_upstream_without_tls_is_refused_when_required(server):
    with Pgfresh(server.url(database="postgres") + "?sslmode=require") as proxy:
        with pytest.raises(psycopg.OperationalError, match="(?i)ssl|tls"):
            psycopg.connect(proxy.url(database="postgres"), connect_timeout=10)


def can_log_in(proxy):
    try:
        psycopg.connect(proxy.url(database="clinic"), connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def test_certificates_are_read_again_by_a_reload(tls_server):
    """A root certificate that was renewed counts; and while clients cannot come in for the lack of
    one, /readyz says so, though the feed, which has its connection, is well."""
    root = tls_server.folder / "renewed.crt"

    def trust(name):
        root.write_bytes((tls_server.folder / f"{name}.crt").read_bytes())

    trust("ca")
    with Pgfresh(tls_url(tls_server, "verify-full", "renewed")) as proxy:
        play = Play(tls_server, "clinic", proxy)
        app = play.app()
        play.hot(app, "SELECT name FROM item WHERE id = 1")
        trust("stranger")
        assert can_log_in(proxy)  # nobody has told it
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: not can_log_in(proxy), "the new root certificate counts")
        wait_until(lambda: proxy.get("/readyz")[0] == 503, "it is said to be out of reach")
        assert "server_unreachable" in proxy.log_text() and "certificate" in proxy.log_text()
        play.hot(app, "SELECT name FROM item WHERE id = 1")
        trust("ca")
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: proxy.get("/readyz")[0] == 200, "within reach, before anybody asks")
        assert can_log_in(proxy)
        root.write_text("this is no certificate")
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: "reload_refused" in proxy.log_text(), "what cannot be read is told")
        assert can_log_in(proxy)
        play.send_home()


def test_a_key_that_others_may_read_is_refused(tls_server, tmp_path):
    """As libpq does, which the control connections go by."""
    key = tls_server.folder / "server.key"
    path = tmp_path / "pgfresh.yml"
    path.write_text(f"upstream.url: {tls_url(tls_server, 'verify-full')}"
                    f"&sslcert={tls_server.folder}/server.crt&sslkey={key}\nlisten.unix: none\n")
    for mode, status in ((0o600, 0), (0o644, 1)):
        key.chmod(mode)
        done = subprocess.run([binary(), "--check", "-c", path], capture_output=True, text=True,
                              timeout=20)
        assert done.returncode == status and ("group or world access" in done.stderr) == bool(status)
    key.chmod(0o600)
