"""What the tests of core/web use: a server in a thread, a client that says every byte itself, and a route that waits.

A test module imports the fixtures by their functions' names and asks for them as `serve` and `gate`.
"""
from __future__ import annotations

import socket
import threading
import time

import pytest

from penny.core import web
from penny.core.web import Limits, Response, Route
from support import context

BIG = b"0123456789abcdef" * (50 << 16)  # 50 MB


class Client:
    """A connection of which a test says every byte; reads answers by their Content-Length."""

    def __init__(self, address, receive_buffer: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        self.socket.connect(address)
        self.buffer = b""

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def ask(self, path="/page", *fields, method="GET", version="1.1", body=b""):
        lines = ["%s %s HTTP/%s" % (method, path, version), "Host: localhost", *fields]
        lines += ["Content-Length: %d" % len(body)] if body else []
        return self.send("\r\n".join(lines + ["", ""]).encode("latin-1") + body)

    def more(self) -> bytes:
        data = self.socket.recv(1 << 20)
        if not data:
            pytest.fail("closed in the middle of an answer: %r" % self.buffer[:200])
        return data

    def answer(self, method="GET"):
        """Status, fields and body of the next answer."""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(fields) == len(lines), "a field is sent twice: %s" % lines
        length = 0 if method == "HEAD" else int(fields.get("content-length", 0))
        pieces = [self.buffer]
        while sum(map(len, pieces)) < length:
            pieces.append(self.more())
        self.buffer = b"".join(pieces)
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(first.split()[1]), fields, body

    def ended(self) -> bool:
        """Whether the server has closed and nothing is left to read."""
        return not self.buffer and not self.socket.recv(1)

    def gone(self) -> bool:
        """Whether the server has closed, however harshly, whatever it had sent."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except socket.timeout:
            return False
        except OSError:
            pass
        return True


class House:
    """One running server, and its clients."""

    def __init__(self, routes, limits, hosts, family) -> None:
        self.listener = socket.socket(family)
        self.listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.listener.listen(256)
        self.address = self.listener.getsockname()[:2]
        self.is_ready, self.error, self.clients = threading.Event(), None, []
        self.context = context("/nowhere", ready=self.is_ready.set)
        self.thread = threading.Thread(target=self._run, args=(routes, limits, hosts))
        self.thread.start()
        assert self.is_ready.wait(5)

    def _run(self, routes, limits, hosts) -> None:
        try:
            web.serve(routes, self.context, [self.listener], hosts, limits)
        except BaseException as error:  # for the test's own thread
            self.error = error

    def client(self, **how) -> Client:
        self.clients.append(Client(self.address, **how))
        return self.clients[-1]

    def get(self, path="/page", *fields):
        return self.client().ask(path, *fields).answer()

    def end(self) -> float:
        """Stop it; returns the seconds that this took."""
        begun = time.monotonic()
        self.context.stop.set()
        self.thread.join(5)
        spent = time.monotonic() - begun
        assert not self.thread.is_alive()
        for client in self.clients:
            client.socket.close()
        self.listener.close()
        if self.error:
            raise self.error
        return spent


@pytest.fixture(name="serve")
def serve_fixture():
    """Starts servers; each must end within 2 s of its stop, without an error."""
    houses = []

    def start(*routes, limits=Limits(), hosts=(), family=socket.AF_INET):
        more = [Route("/page", lambda request: web.html("<p>page"), cheap=True),
                Route("/slow", lambda request: web.html("<p>slow")),
                Route("/echo", lambda request: Response(200, request.body), methods=("POST",)),
                Route("/echo-cheap", lambda request: Response(200, request.body), cheap=True, methods=("POST",)),
                Route("/big", lambda request: Response(200, BIG, "application/octet-stream", (("ETag", '"big"'),)))]
        houses.append(House([*routes, *more], limits, hosts, family))
        return houses[-1]
    yield start
    for house in houses:
        assert house.context.stop.is_set() or house.end() < 2


@pytest.fixture(name="gate")
def gate_fixture():
    """A route that waits until the gate is opened; it is opened at the test's end."""
    class Gate(threading.Event):
        def route(self, path="/gate"):
            def answer(request):
                self.wait(10)
                return web.html("<p>opened")
            return Route(path, answer)
    found = Gate()
    yield found
    found.set()
