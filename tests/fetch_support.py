"""What the tests of core/fetch use: a server that fails the test on a connection too many, its answers, certificates.

A test module imports the fixtures by their functions' names and asks for them as `certificates` and `tls`.
"""
from __future__ import annotations

import gzip
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import zlib

import pytest

import penny
from penny.core import fetch
from penny.core.fetch import FetchError, Limits

QUICK = Limits(connect=0.5, idle=0.5, total=2.0)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(penny.__file__)))
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Peer:
    """Answers one connection after another on loopback, each as its turn in `answers` says: bytes, or what is called
    with the connection. `heads` are the requests' heads."""

    def __init__(self, *answers, host="127.0.0.1", tls=None):
        self.answers, self.heads, self.too_many, self.tls = list(answers), [], 0, tls
        self.stop = threading.Event()
        self.waker, self.woken = socket.socketpair()
        self.listener = socket.create_server((host, 0))
        self.address = "%s:%d" % self.listener.getsockname()[:2]
        self.url = f"{'https' if tls else 'http'}://{self.address}/"
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *rest):
        self.stop.set()
        self.waker.close()
        self.thread.join()
        self.woken.close()
        self.listener.close()
        if kind is None:
            assert self.too_many == 0, "a connection that no test foresaw"
            assert self.answers == [], "an answer that was not asked for"

    def work(self):
        while self.listener in select.select([self.listener, self.woken], [], [])[0]:  # those made before the stop, too
            connection, _ = self.listener.accept()
            with connection:
                if not self.answers:
                    self.too_many += 1
                    continue
                try:
                    self.answer(connection, self.answers.pop(0))
                except OSError:
                    pass  # the client has left, as many tests want it to

    def answer(self, connection, answer):
        connection.settimeout(5)
        if callable(answer) and getattr(answer, "unread", False):
            answer(self, connection)
            return
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.heads.append(head.decode("latin-1"))
            if callable(answer):
                answer(self, connection)
            else:
                connection.sendall(answer)

    def field(self, name, request=-1):
        found = re.findall(rf"(?im)^{name}: (.*)\r$", self.heads[request])
        assert len(found) < 2, found
        return found[0] if found else None


def ok(body=b"hello", *fields):
    lines = ["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def moved(to, status=302):
    return f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


def endless(start, again, pause=0.0):
    def answer(peer, connection):
        connection.sendall(start)
        while not peer.stop.wait(pause):
            connection.sendall(again)
    return answer


def unread(peer, connection):
    """Neither reads nor answers."""
    peer.stop.wait(5)


unread.unread = True


def get(url, **more):
    return fetch.get(url, **{"private": True, "limits": QUICK, **more})


def refusal(url, **more):
    with pytest.raises(FetchError) as caught:
        get(url, **more)
    message = str(caught.value)
    assert message.isprintable() and message == f"cannot fetch {fetch._shown(url)}: {caught.value.reason}"
    return caught.value.reason


def child(script, *command, **variables):
    """What a process of its own prints."""
    done = subprocess.run([*command, sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, timeout=30,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


BOOK = b"".join(b"%d bottles\n" % n for n in range(30000)) + bytes(300_000)
PACKED = gzip.compress(BOOK)

CONFIGURATION = """
[req]
distinguished_name = name
[name]
[ca]
default_ca = own
[own]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
[here]
subjectAltName = IP:127.0.0.1
[there]
subjectAltName = DNS:elsewhere.example
"""


@pytest.fixture(name="certificates", scope="module")
def certificates_fixture(tmp_path_factory):
    """A folder with an authority (ca.pem), key.pem, and the certificates here, there, old and young."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "openssl.cnf").write_text(CONFIGURATION)
    (folder / "index").write_text("")
    (folder / "serial").write_text("01")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf"
    issue = "ca -batch -notext -config openssl.cnf -in key.csr -cert ca.pem -keyfile ca.key"
    now, later = "-startdate 20200101000000Z", "-enddate 20991231000000Z"
    for command in (
            f"req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 9 "
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign "
            "-addext subjectKeyIdentifier=hash",
            f"req {key} -keyout key.pem -out key.csr -subj /CN=box",
            f"{issue} {now} {later} -extensions here -out here.pem",
            f"{issue} {now} {later} -extensions there -out there.pem",
            f"{issue} {now} -enddate 20210101000000Z -extensions here -out old.pem",
            f"{issue} -startdate 20980101000000Z {later} -extensions here -out young.pem"):
        done = subprocess.run(["openssl", *command.split()], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(name="tls")
def tls_fixture(certificates, monkeypatch):
    """Makes a server's TLS context; the client trusts the authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    def context(name):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificates / f"{name}.pem", certificates / "key.pem")
        return made
    return context
