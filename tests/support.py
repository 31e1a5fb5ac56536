"""What several tests use: penny as a real process, a clock that the test turns, small real servers, failing I/O."""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

from penny.core.clock import Stop
from penny.core.figures import Figures
from penny.core.log import Log
from penny.core.run import Context
from penny.core.settings import Lab, Written

ROOT = Path(__file__).resolve().parent.parent
LAB = Lab("home", "lab.home.arpa", "", "", {})


class FakeClock:
    """A clock that moves only when the test turns it; waiting turns it too."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.scale = 1.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float, stop: Stop) -> bool:
        if not stop.is_set():
            self.now += max(0.0, seconds)
        return stop.is_set()


def context(state_dir, clock=None, sockets=None, **more) -> Context:
    """A context as core/run makes it, for calling a service's functions directly."""
    stop = more.pop("stop", None) or Stop()
    return Context(clock or FakeClock(), stop, more.pop("ready", lambda: None), sockets or {}, str(state_dir),
                   Log("test"), Figures(), more.pop("lab", LAB), Written("lab.ini", "", {}))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Penny:
    """The command line in a home of its own."""

    def __init__(self, home: Path, python: str = sys.executable, root: Path = ROOT) -> None:
        self.home, self.python, self.root = home, python, root
        self.started: list[subprocess.Popen] = []

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root), "TZ": "UTC", **more}

    def command(self, *words: str) -> list[str]:
        return [self.python, "-m", "penny", *words]

    def write_lab(self, text: str) -> None:
        (self.home / "etc").mkdir(parents=True, exist_ok=True)
        (self.home / "etc" / "lab.ini").write_text(text)

    def run(self, *words: str, timeout: float = 60, env: dict[str, str] = {}, **more) -> subprocess.CompletedProcess:
        """One command, to its end; --home is added."""
        return subprocess.run(self.command(*words, "--home", str(self.home)), capture_output=True, text=True,
                              timeout=timeout, env=self.environment(**env), stdin=subprocess.DEVNULL, cwd=self.root, **more)

    def start(self, *words: str, env: dict[str, str] = {}, **more) -> subprocess.Popen:
        """One command, running; its log is HOME/log."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "log", "ab") as log:
            process = subprocess.Popen(self.command(*words, "--home", str(self.home)), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, env=self.environment(**env), cwd=self.root, **more)
        self.started.append(process)
        return process

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def stop_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def get(port: int, path: str = "/", host: str = "127.0.0.1", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of one request."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def until(condition, seconds: float = 10.0, what: str = "it"):
    """Wait until condition() is true, and return its value; fails the test after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = condition()
            if found:
                return found
        assert time.monotonic() < end, "%s did not happen within %g s" % (what, seconds)
        time.sleep(0.02)


class Publisher:
    """A real web server that publishes feeds: each path has a status, header fields and a body, and an ETag of its own.

    It counts what was asked. A path that was not published fails the test when the server is closed.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, int]] = []  # path and status answered
        self.unexpected: list[str] = []
        self.delay = 0.0
        publisher = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                publisher._answer(self.rfile, self.wfile)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        socketserver.ThreadingTCPServer.daemon_threads = True
        self.server = socketserver.ThreadingTCPServer((address, 0), Handler)
        self.url = "http://%s:%d" % self.server.server_address
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def publish(self, path: str, body: bytes, status: int = 200, **fields: str) -> str:
        """Returns the URL of the page."""
        self.pages[path] = (status, {name.replace("_", "-"): value for name, value in fields.items()}, body)
        return self.url + path

    def _answer(self, rfile, wfile) -> None:
        head = []
        while True:
            line = rfile.readline(65536).decode("latin-1").strip()
            if not line:
                break
            head.append(line)
        path = head[0].split()[1]
        time.sleep(self.delay)
        status, fields, body = self.pages.get(path, (0, {}, b""))
        if not status:
            self.unexpected.append(path)
            status = 500
        if status == 200 and "ETag" not in fields:
            fields = {**fields, "ETag": '"%d"' % hash(body)}
        given = [line.partition(":")[2].strip() for line in head if line.lower().startswith("if-none-match:")]
        if status == 200 and fields["ETag"] in given:
            status, body = 304, b""
        self.asked.append((path, status))
        lines = ["HTTP/1.1 %d Said" % status, "Content-Length: %d" % len(body), "Connection: close"]
        lines += ["%s: %s" % pair for pair in fields.items()]
        with contextlib.suppress(OSError):
            wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        assert not self.unexpected, "asked for what was not published: %s" % self.unexpected


def rss(title: str, items, link: str = "http://example.org/") -> bytes:
    """A small RSS 2.0 feed of (guid, title, text) items."""
    from html import escape
    parts = ["<item><guid isPermaLink='false'>%s</guid><title>%s</title><link>%s%s</link><description>%s</description>"
             "</item>" % (escape(guid), escape(name), link, escape(guid), escape(text)) for guid, name, text in items]
    return ("<?xml version='1.0'?><rss version='2.0'><channel><title>%s</title><link>%s</link>%s</channel></rss>"
            % (escape(title), link, "".join(parts))).encode()


def outside(variable: str, *names: str) -> Path:
    """A file in a folder outside the repository that CI names; skips the test where it does not."""
    import pytest
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip("%s does not name a folder" % variable)
    path = Path(folder, *names)
    assert path.exists(), "%s has no %s" % (variable, "/".join(names))
    return path


def json_lines(text: str) -> list:
    return [json.loads(line) for line in text.splitlines()]
