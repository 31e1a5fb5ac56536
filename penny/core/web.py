"""The HTTP server of every service: routes in, answers out. The sole user of http.server.

One thread owns every socket, all of them non-blocking: it accepts, reads heads and bodies, and writes answers, also the
rest of one that its client is slow to take. So nobody can pin a thread by being slow. Routes marked cheap are answered
in that thread, the others by up to four threads that only compute: they get a whole request, and leave a whole answer.
From http.server come the composing of heads, the status texts, the dates and the vocabulary; its own way of reading, a
blocking file for each connection and the email parser, does not.

A connection waits for exactly one kind of thing (class Waiting), each of which has its limit of time in Limits. Those
that wait for the same are kept in order of since when, so neither deadlines nor making room look at all of them.

What is refused, and what an answer looks like, is http_message's. Not here: TLS, chunked bodies, ranges, files, and
deadlines for what a route does: four routes that hang are a server whose cheap routes alone answer.
"""
from __future__ import annotations

import collections
import errno
import functools
import http.server
import queue
import resource
import selectors
import socket
import socketserver
import threading
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Callable, NamedTuple, Sequence

from penny.core import figures, http_message
from penny.core.errors import one_line
from penny.core.http_message import Request, Response, Route, as_json, html, problem  # noqa: F401 (for routes)

if TYPE_CHECKING:
    from penny.core.run import Context

THREADS = 4
RECEIVE = 65536  # bytes a read
ROUND = 32  # answers sent at a time: each that goes alone wakes its client's machine, which costs more than the answer
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
BATCH = 64  # visitors accepted at a time, so that those already here get their turn
SPARE_DESCRIPTORS = 64  # for the stores and files of the services in this process

_UNREAD = http_message.Head("GET", "*", {}, {}, "", 1, 0, False, False)  # instead of one refused, or over
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Limits(NamedTuple):
    """What a client may use. Seconds, unless it says otherwise."""

    head: float = 10.0  # from the visit, or from a request's first byte, to its head's end
    body: float = 30.0  # from a head's end to its body's
    idle: float = 60.0  # between two requests
    stall: float = 30.0  # without taking a byte of its answer
    linger: float = 2.0  # for reading the answer that closes, see Connection.part
    stop: float = 1.0  # for what is under way when the service is told to stop
    tick: float = 1.0  # between two looks at all these
    connections: int = 4096
    bodies: int = 8 << 20  # bytes of all bodies that are being read or worked on
    unsent: int = 64 << 20  # bytes of all answers that wait for their clients


def serve(routes: Sequence[Route], context: Context, sockets: Sequence[socket.socket], hosts: tuple[str, ...] = (),
          limits: Limits = Limits()) -> None:
    """Answer on `sockets` (bound, listening; they stay the caller's) until context.stop is set.

    `hosts` are the names under which this server may be asked for, beside this machine's own, localhost and addresses;
    ".lab.home.arpa" allows every name below. GET /health and /metrics are added unless `routes` has them.
    """
    own = [Route("/health", lambda request: as_json({"status": "up"}), cheap=True),
           Route("/metrics", lambda request: Response(200, context.figures.render().encode(), figures.CONTENT_TYPE))]
    server = Server([*routes, *own], context, sockets, hosts, limits)
    try:
        server.serve_forever()
    finally:
        server.server_close()


class Waiting(dict):
    """The connections that wait for one kind of thing: since when, in that order."""

    def __init__(self, seconds: float, events: int, act: Callable[[Connection], None]) -> None:
        super().__init__()
        self.seconds = seconds
        self.events = events  # for the selector; 0: as it was
        self.act = act  # when they occur
        self.held = 0  # bytes kept for them

    def late(self, now: float) -> list[Connection]:
        return [connection for connection, _ in takewhile(lambda item: item[1] + self.seconds <= now, self.items())]

    def make_room(self, size: int, limit: int) -> None:
        """Close those that have waited longest, until another `size` bytes are within `limit` or none is left."""
        while self and self.held + size > limit:
            next(iter(self)).close()


class Pieces(list):
    write = list.append  # what BaseHTTPRequestHandler asks of its wfile


class Server(http.server.HTTPServer):
    """The selector's thread and what it owns. Not its sockets: those are the caller's."""

    def __init__(self, routes: Sequence[Route], context: Context, sockets: Sequence[socket.socket],
                 hosts: tuple[str, ...], limits: Limits) -> None:
        # Not HTTPServer's own: that makes a socket, and asks the name service for this machine's name.
        socketserver.BaseServer.__init__(self, sockets[0].getsockname(), Connection)
        self.context, self.limits, self.listeners = context, limits, sockets
        self.site = http_message.Site(routes, hosts, socket.gethostname())
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        spare = limits.connections if soft == resource.RLIM_INFINITY else soft - SPARE_DESCRIPTORS
        self.most = max(1, min(limits.connections, spare))
        self.heads = Waiting(limits.head, _READ, Connection.read_head)
        self.bodies = Waiting(limits.body, _READ, Connection.read_body)
        self.idle = Waiting(limits.idle, _READ, Connection.read_head)
        self.writing = Waiting(limits.stall, _WRITE, Connection.resume)
        self.lingering = Waiting(limits.linger, _READ, Connection.discard)
        # What a busy one sends, or that it has no more to send, stays in the kernel until its answer is there.
        self.busy = Waiting(float("inf"), 0, Connection.watch)
        self.kinds = (self.lingering, self.idle, self.heads, self.bodies, self.writing, self.busy)
        self.selector = selectors.DefaultSelector()
        self.now = time.monotonic()
        self.counts = [0] * 6  # answers by the first digit of their status, since they were last published
        self.listening = self.stopping = False
        self.threads: list[threading.Thread] = []
        self.tasks: queue.SimpleQueue[tuple[Connection, Route, Request] | None] = queue.SimpleQueue()
        self.answered: collections.deque[Connection] = collections.deque()
        self.woken = False
        self.openings: dict[int, tuple[int, bytes]] = {}  # by status: of which second, and how an answer opens in it
        self.bell, self.rope = socket.socketpair()

    def serve_forever(self, poll_interval: float = 0.0) -> None:
        """Run until the stop, then for what is under way at most `limits.stop` longer."""
        self.selector.register(self.bell, _READ, self.hear)
        self.selector.register(self.context.stop, _READ, self.wind_up)
        for listener in self.listeners:
            listener.setblocking(False)
            # Inherited by what it accepts. Else an answer's last part waits 44 ms for its first to be acknowledged.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.listen(True)
        self.context.ready()
        self.run(float("inf"))
        self.run(time.monotonic() + self.limits.stop)

    def run(self, until: float) -> None:
        """Turn the loop until `until`; before that, when it was told to stop or has nothing left to finish."""
        was_stopping, tick = self.stopping, self.now
        while self.now < until and self.stopping == was_stopping:
            if self.stopping and not (self.busy or self.writing):
                break
            events = self.selector.select(min(self.limits.tick, until - self.now))
            self.now = time.monotonic()
            for key, _ in events:
                key.data()
                if len(self.answered) >= ROUND:
                    self.send_answers()
            if self.now >= tick:
                tick = self.now + self.limits.tick
                self.service_actions()
            self.send_answers()

    def count(self) -> int:
        return sum(map(len, self.kinds))

    def service_actions(self) -> None:
        """What is done once a second: deadlines, figures, and listening again after the descriptors ran out."""
        for kind in self.kinds:
            for connection in kind.late(self.now):
                connection.attempt(Connection.expire)
        for digit, count in enumerate(self.counts):
            if count:
                self.counts[digit] = 0
                self.context.figures.count("http_requests", "Answers by class of status.", count, status="%dxx" % digit)
        self.context.figures.set("http_connections", "Open connections.", self.count())
        if not self.stopping:
            self.listen(True)

    def listen(self, wanted: bool) -> None:
        if wanted != self.listening:
            self.listening = wanted
            for listener in self.listeners:
                if wanted:
                    self.selector.register(listener, _READ, functools.partial(self.accept, listener))
                else:
                    self.selector.unregister(listener)

    def accept(self, listener: socket.socket) -> None:
        for _ in range(BATCH):
            full = self.count() >= self.most
            if full and not any(self.kinds[:-1]):
                return self.listen(False)  # all are being answered: visitors wait in the backlog
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # that visitor's own trouble (accept(2) lists them): there may be another behind it
                if not self.evict():
                    self.listen(False)  # not to spin on what stays readable; the next tick tries again
                return
            if full:
                self.evict()
            self.RequestHandlerClass(sock, address, self)

    def evict(self) -> bool:
        """Close the longest-waiting connection of the least worthy kind; returns whether there was one."""
        victim = next((next(iter(kind)) for kind in self.kinds[:-1] if kind), None)
        if victim:
            victim.close()
        return victim is not None

    def hand_over(self, connection: Connection, route: Route, request: Request) -> None:
        """Let a thread answer; a further one is started only when all are at work."""
        if len(self.threads) < THREADS and len(self.busy) > len(self.threads):
            thread = threading.Thread(target=self.work, name="web", daemon=True)  # a route that hangs holds up no exit
            self.threads.append(thread)
            thread.start()
        self.tasks.put((connection, route, request))

    def work(self) -> None:
        """A thread's life: computes answers, touches no socket but the rope."""
        for connection, route, request in iter(self.tasks.get, None):
            if connection.kind is self.busy:  # else closed by the stop, while it stood in the queue
                connection.compose(route, request)
                self.answered.append(connection)
                # Set before the bell rings and cleared before the deque is read: no answer is left lying.
                if not self.woken and connection.kind is self.busy:
                    self.woken = True
                    self.rope.send(b"!")
            del connection, request  # with a body, which would stay until the next request

    def hear(self) -> None:
        self.bell.recv(RECEIVE)
        self.woken = False

    def send_answers(self) -> None:
        while self.answered:
            connection = self.answered.popleft()
            if connection.kind is self.busy:
                connection.attempt(Connection.resume)

    def wind_up(self) -> None:
        self.stopping = True
        self.selector.unregister(self.context.stop)
        self.listen(False)
        self.close_all(self.lingering, self.idle, self.heads, self.bodies)

    def close_all(self, *kinds: Waiting) -> None:
        for kind in kinds:
            for connection in list(kind):
                connection.close()

    def server_close(self) -> None:
        """Close everything but the listening sockets, which outlive a restart of the service."""
        self.listen(False)
        self.close_all(*self.kinds)
        for _ in self.threads:
            self.tasks.put(None)
        deadline = time.monotonic() + self.limits.stop
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.selector.close()
        self.bell.close()
        self.rope.close()


class Connection(http.server.BaseHTTPRequestHandler):
    """One client's connection, and what is to be done when what it waits for occurs.

    Its heads are composed by BaseHTTPRequestHandler; its life is not that class's setup, handle and finish, and it has
    no rfile. `wfile` is the list of what is still to be sent. A thread that answers has `head` and `wfile` to itself.
    """

    protocol_version = request_version = "HTTP/1.1"
    # Most connections are idle, and have none of their own of these.
    buffer = b""  # received, and not yet a head
    head = _UNREAD
    route: Route | None = None
    held = 0  # bytes, as counted in `kind`
    events = 0  # for which the selector knows it
    close_connection = False

    def __init__(self, sock: socket.socket, address: tuple[str, int], server: Server) -> None:
        sock.setblocking(False)
        self.connection, self.server = sock, server
        self.client = address[0][7:] if address[0].startswith("::ffff:") else address[0]
        self.kind: Waiting | None = server.heads  # None when closed
        self.kind[self] = server.now
        self.watch(_READ)

    def ready(self) -> None:
        if self.kind is not None:  # else closed by what occurred in the same round
            self.attempt(self.kind.act)

    def attempt(self, act: Callable[[Connection], None]) -> None:
        try:
            act(self)
        except BlockingIOError:
            pass  # not ready after all: the selector will say
        except OSError:
            self.close()  # the client is gone

    def wait(self, kind: Waiting, held: int = 0) -> None:
        """From now on wait for this kind of thing, with `held` bytes in memory."""
        del self.kind[self]
        self.kind.held -= self.held
        self.kind, self.held = kind, held
        kind[self] = self.server.now
        kind.held += held
        if kind.events and kind.events != self.events:
            self.watch(kind.events)

    def watch(self, events: int = 0) -> None:
        """Have the selector say when these occur; 0: nothing."""
        if self.events:
            self.server.selector.unregister(self.connection)
        if events:
            self.server.selector.register(self.connection, events, self.ready)
        self.events = events

    def close(self) -> None:
        if self.kind is None:
            return
        del self.kind[self]
        self.kind.held -= self.held
        self.kind = None
        self.watch()
        self.connection.close()

    def read_head(self) -> None:
        data = self.connection.recv(http_message.MAX_HEAD)
        if not data:
            return self.close()
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Start on the next request if it has come; else wait for it."""
        if not self.buffer:
            self.wait(self.server.idle)
        elif self.parse_request():
            self.begin()

    def parse_request(self) -> bool:
        """Take a head out of the buffer; returns whether there was one. What is wrong with it is answered."""
        try:
            end = http_message.end(self.buffer)
            if end:
                self.head = http_message.parse(self.buffer[:end])
                self.buffer = self.buffer[end:]
                return True
        except http_message.Refused as refusal:
            self.refuse(refusal.status, refusal.reason)
            return False
        if self.kind is not self.server.heads:  # its time runs from the first byte, whatever drips in after that
            self.wait(self.server.heads)
        return False

    def begin(self) -> None:
        """Start on the request whose head has come."""
        head = self.head
        self.close_connection = not head.stays
        found = self.server.site.find(head)
        if isinstance(found, Response):
            self.close_connection |= head.length > 0  # rather than read a body that nobody wants
            return self.say(found)
        self.route = found
        body, self.buffer = self.buffer[:head.length], self.buffer[head.length:]
        if len(body) == head.length:
            return self.dispatch(body)
        self.await_body(body)

    def await_body(self, start: bytes) -> None:
        server, length = self.server, self.head.length
        server.bodies.make_room(length, server.limits.bodies - server.busy.held)
        if server.bodies.held + server.busy.held + length > server.limits.bodies:
            return self.refuse(503, "too many bodies are being worked on: try again")
        self.body = bytearray(start)
        self.wait(server.bodies, length)
        if self.head.expects:
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read_body(self) -> None:
        # Never more than its own body: what follows is the next request's.
        data = self.connection.recv(min(RECEIVE, self.head.length - len(self.body)))
        if not data:
            return self.close()
        self.body += data
        if len(self.body) == self.head.length:
            body = bytes(self.body)
            del self.body
            self.dispatch(body)

    def dispatch(self, body: bytes) -> None:
        head, route = self.head, self.route
        request = Request(head.method, head.path, dict(head.query), dict(head.headers), body, self.client)
        self.wait(self.server.busy, len(body))
        if route.cheap:
            self.compose(route, request)
            self.server.answered.append(self)
        else:
            self.server.hand_over(self, route, request)

    def compose(self, route: Route, request: Request) -> None:
        """Put the route's answer into wfile; in any thread."""
        try:
            self.put(route.answer(request), route.cheap)
        except Exception as error:  # whatever it is: one bad page must not take the other pages down with it
            import traceback  # 0.6 MB, for what does not happen
            log = self.server.context.log
            log.error("cannot answer %s %s: %s: %s", *request[:2], type(error).__name__, one_line(error))
            log.debug("%s", traceback.format_exc())
            self.put(problem(500, "this page failed; the log says why"), plain=True)

    def put(self, response: Response, plain: bool) -> None:
        response = http_message.complete(self.head, response, self.close_connection, plain)
        self.wfile = Pieces()
        self.send_response(response.status)
        # What send_header does, for all at once: eight calls of it cost as much as reading the request.
        self._headers_buffer.append("".join(["%s: %s\r\n" % field for field in response.headers]).encode("latin-1"))
        self.end_headers()
        if response.body:
            self.wfile.write(response.body)
        self.status = response.status

    def send_response(self, code: int, message: str | None = None) -> None:
        """Status line, Server and Date, which are composed once a second."""
        second = int(time.time())
        known = self.server.openings.get(code)
        if known is None or known[0] != second:
            super().send_response(code)
            known = self.server.openings[code] = second, b"".join(self._headers_buffer)
        self._headers_buffer = [known[1]]

    def version_string(self) -> str:
        return "penny"  # and not which: that helps only who looks for old ones

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass  # http_requests counts them

    def resume(self) -> None:
        """Send what can be sent of the answer; when all has left, go on to the next request."""
        server, pieces = self.server, self.wfile
        try:
            sent = self.connection.sendmsg(pieces)  # head and body in one packet, without copying the body
        except BlockingIOError:
            sent = 0
        while pieces and sent >= len(pieces[0]):
            sent -= len(pieces.pop(0))
        if pieces:
            pieces[0] = memoryview(pieces[0])[sent:]
            unsent = sum(map(len, pieces))
            if self.kind is not server.writing:
                server.writing.make_room(unsent, server.limits.unsent)
            return self.wait(server.writing, unsent)
        server.counts[self.status // 100] += 1
        self.head = _UNREAD
        if self.close_connection or server.stopping:
            self.part()
        else:
            self.advance()

    def refuse(self, status: int, reason: str) -> None:
        """Answer what cannot be understood, or is not wanted, and part."""
        self.head, self.buffer, self.close_connection = _UNREAD, b"", True
        self.say(problem(status, reason))

    def say(self, response: Response) -> None:
        """Answer without a route."""
        self.put(response, plain=True)
        self.wait(self.server.busy)
        self.server.answered.append(self)

    def part(self) -> None:
        """Close, but let the client read its answer first (RFC 9112 section 9.6).

        Closing while bytes from the client are unread, or still under way, sends it a reset that overtakes the answer.
        """
        if self.server.stopping:
            return self.close()
        self.buffer = b""
        self.connection.shutdown(socket.SHUT_WR)
        self.wait(self.server.lingering)

    def discard(self) -> None:
        if not self.connection.recv(RECEIVE):
            self.close()

    def expire(self) -> None:
        """What it waited for did not occur in time."""
        server = self.server
        if self.kind is server.bodies or self.kind is server.heads and self.buffer:
            self.refuse(408, "the request did not come in time")
        else:
            self.close()
