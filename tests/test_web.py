"""penny.core.web over real sockets: what is answered and how, to clients rude or half gone too, and how it stops."""
from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
import zlib

import pytest

from penny.core import web
from penny.core.figures import CONTENT_TYPE
from penny.core.web import Limits, Request, Response, Route
from support import until
from web_support import Client, gate_fixture, serve_fixture  # noqa: F401 (fixtures)


def test_a_page(serve):
    status, fields, body = serve().get()
    assert (status, body) == (200, b"<p>page")
    assert fields["server"] == "penny" and fields["date"].endswith(" GMT")
    assert fields["content-type"] == "text/html; charset=utf-8" and fields["content-length"] == "7"
    assert fields["x-content-type-options"] == "nosniff" and fields["referrer-policy"] == "no-referrer"
    assert fields["content-security-policy"].startswith("default-src 'none'; ")
    assert fields["cache-control"] == "no-cache" and fields["etag"]


def test_what_a_route_gets(serve):
    seen = []
    house = serve(Route("/a/*", lambda request: seen.append(request) or web.html("x"), methods=("GET", "POST")))
    house.client().ask("/a/b%20c?d=e+f", "X-Mine: 1", method="POST", body=b"body").answer()
    assert seen[0]._replace(headers={}) == Request("POST", "/a/b c", {"d": "e f"}, {}, b"body", "127.0.0.1")
    assert seen[0].headers == {"host": "localhost", "x-mine": "1", "content-length": "4"}


def test_a_route_that_changes_its_request_changes_nothing_else(serve):
    def answer(request):
        names = sorted([*request.headers, *request.query])
        request.headers["x"] = request.query["y"] = "z"
        return web.as_json(names)
    house = serve(Route("/a", answer))
    assert house.get("/a")[2] == house.get("/a")[2] == b'["host"]'


def test_ipv6(serve):
    house = serve(family=socket.AF_INET6)
    assert house.client().send(b"GET /page HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n").answer()[0] == 200


def test_kept_connections_are_answered_without_stalls(serve):
    """Head and body in two writes, or Nagle's algorithm, would cost 44 ms a request."""
    house = serve()
    for path in ("/page", "/slow"):
        client = http.client.HTTPConnection(*house.address, timeout=5)
        begun = time.monotonic()
        for _ in range(50):
            client.request("GET", path, headers={"Host": "localhost"})
            assert client.getresponse().read()
        assert time.monotonic() - begun < 1
        client.close()
    assert house.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_head_and_body_come_in_one_piece(serve):
    client = serve(Route("/4k", lambda request: Response(200, b"x" * 4096), cheap=True)).client()
    for _ in range(5):
        assert client.ask("/4k").socket.recv(65536).endswith(b"\r\n\r\n" + b"x" * 4096)


def test_pipelined_requests_are_answered_in_order(serve):
    house = serve(Route("/n/*", lambda request: Response(200, request.path.encode())),
                  Route("/c/*", lambda request: Response(200, request.path.encode()), cheap=True))
    dice, client = random.Random(1), house.client()
    paths = ["/%s/%d" % (dice.choice("nc"), number) for number in range(300)]
    client.send(b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() for path in paths))
    assert [client.answer()[2].decode() for _ in paths] == paths


def test_pipelined_after_a_body(serve):
    client = serve().client()
    for path in ("/echo", "/echo-cheap"):
        client.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /GET /page HTTP/1.1\r\n"
                    b"Host: localhost\r\n\r\n\r\n" % path.encode())  # and an empty line too many, as old clients send
        assert [client.answer()[2] for _ in range(2)] == [b"GET /", b"<p>page"]
        client.ask(path, "Content-Length: 5", method="POST")
        time.sleep(0.02)
        client.send(b"hello").ask("/page")
        assert [client.answer()[2] for _ in range(2)] == [b"hello", b"<p>page"]


def test_connection_close(serve):
    client = serve().client().ask("/page", "Connection: close")
    client.ask("/page")  # after that, nothing is answered
    assert client.answer()[1]["connection"] == "close"
    assert client.ended()


@pytest.mark.parametrize("path", ["/page", "/slow"])
def test_http_1_0(serve, path):
    house = serve()
    client = house.client().ask(path, version="1.0")
    assert client.answer()[1]["connection"] == "close" and client.ended()
    client = house.client().send(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
    assert client.answer()[0] == 200 and client.ended()
    client = house.client()
    for _ in range(2):
        assert client.ask(path, "Connection: keep-alive", version="1.0").answer()[1]["connection"] == "keep-alive"


@pytest.mark.parametrize("path", ["/page", "/slow"])
def test_a_client_that_has_no_more_to_say_is_answered(serve, path):
    client = serve().client().ask(path)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer()[0] == 200 and client.ended()


@pytest.mark.parametrize("text, status", [
    (b"GET /page HTTP/1.1\r\n\r\n", 400),
    (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n", 413),
    (b"GET /page HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000, 431),
    (b"GET /page HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
    (b"GET /page HTTP/1.1\nHost: localhost\n\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET /%2e%2e/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
])
def test_what_is_refused_is_answered_and_closed(serve, text, status):
    client = serve().client().send(text + b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
    found, fields, body = client.answer()
    assert (found, fields["connection"]) == (status, "close") and body.startswith(b'{"error":"')
    assert fields["x-content-type-options"] == "nosniff"
    assert client.ended()


def test_the_refusal_of_a_body_is_read_by_a_client_that_still_sends(serve):
    for path, status in (("/echo", 413), ("/nothing", 404)):
        client = serve().client()
        client.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % (path.encode(), 3 << 20 if status == 413 else 1 << 20))
        for _ in range(16):
            client.send(b"x" * 65536)
        assert client.answer()[0] == status and client.ended()


def test_nobody_is_asked_under_a_name_that_is_not_ours(serve):
    house = serve(hosts=("news.example", ".lab.example"))

    def ask(host):
        return house.client().send(b"GET /page HTTP/1.1\r\nHost: %s\r\n\r\n" % host).answer()[0]
    own = socket.gethostname().partition(".")[0].encode()
    for host in (b"localhost:80", b"127.0.0.1", b"[::1]:1", own, own + b".local", b"news.example", b"a.lab.example"):
        assert ask(host) == 200, host
    for host in (b"evil.example", b"127.0.0.1.evil.example", b"lab.example"):
        assert ask(host) == 421, host
    assert house.client().send(b"GET http://evil.example/page HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()[0] == 421
    assert house.client().send(b"GET http://news.example/page HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()[0] == 200


def test_methods(serve):
    client = serve().client()
    status, fields, _ = client.ask(method="HEAD").answer("HEAD")
    assert status == 200
    got = client.ask().answer()[1]
    assert {**fields, "date": ""} == {**got, "date": ""}
    status, fields, _ = client.ask(method="DELETE").answer()
    assert (status, fields["allow"]) == (405, "GET, HEAD")
    status, fields, _ = client.ask("/echo").answer()
    assert (status, fields["allow"]) == (405, "POST")
    assert client.ask("/nothing").answer()[0] == 404
    status, fields, body = client.ask("*", method="OPTIONS").answer()
    assert (status, body) == (204, b"") and "GET" in fields["allow"] and "content-length" not in fields
    assert client.ask().answer()[0] == 200, "none of these ends the connection"


@pytest.mark.parametrize("path", ["/page", "/slow"])
def test_not_modified(serve, path):
    client = serve().client()
    tag = client.ask(path).answer()[1]["etag"]
    for asked in (tag, "W/" + tag, '"x", ' + tag, "*"):
        status, fields, body = client.ask(path, "If-None-Match: " + asked).answer()
        assert (status, body, fields["etag"]) == (304, b"", tag) and "content-length" not in fields
    assert client.ask(path, 'If-None-Match: "x"').answer()[0] == 200


def test_gzip(serve):
    text = "word " * 1000
    client = serve(Route("/long", lambda request: web.html(text)),
                   Route("/long-cheap", lambda request: web.html(text), cheap=True)).client()
    status, fields, body = client.ask("/long", "Accept-Encoding: br, gzip").answer()
    assert (status, fields["content-encoding"], fields["vary"]) == (200, "gzip", "Accept-Encoding")
    assert zlib.decompress(body, zlib.MAX_WBITS | 16).decode() == text
    for path, accepted in (("/long", "gzip;q=0"), ("/long", "br"), ("/long-cheap", "gzip"), ("/slow", "gzip")):
        _, fields, body = client.ask(path, "Accept-Encoding: " + accepted).answer()
        assert "content-encoding" not in fields and (body.decode() == text or path == "/slow")


@pytest.mark.parametrize("path", ["/echo", "/echo-cheap"])
def test_bodies(serve, path):
    client = serve().client()
    whole = os.urandom(1 << 20)
    assert client.ask(path, method="POST", body=whole).answer()[2] == whole
    assert client.ask(path, "Content-Length: 0", method="POST").answer()[2] == b""
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n" % path.encode()
    for data in (head[:9], head[9:], b"ab", b"cd", b"ef"):
        client.send(data)
        time.sleep(0.02)
    assert client.answer()[2] == b"abcdef"


def test_continue(serve):
    client = serve().client().ask("/echo", "Content-Length: 3", "Expect: 100-continue", method="POST")
    assert client.answer()[0] == 100
    assert client.send(b"abc").answer()[2] == b"abc"
    client.ask("/echo", "Expect: 100-continue", method="POST", body=b"abc")  # it did not wait
    assert client.answer()[::2] == (200, b"abc")
    client.ask("/nothing", "Content-Length: 3", "Expect: 100-continue", method="POST")
    assert client.answer()[0] == 404 and client.ended()


def test_a_route_that_fails_is_one_bad_page(serve, capfd):
    def fail(request):
        raise KeyError("no such\nthing")
    bad = {"/raises": fail, "/none": lambda request: None, "/text": lambda request: Response(200, "text"),
           "/split": lambda request: Response(headers=(("X", "a\r\nb: c"),)), "/nan": lambda request: web.as_json(float("nan"))}
    house = serve(*(Route(path, answer, cheap=cheap) for cheap in (False, True) for path, answer in
                    ((path + "-cheap" * cheap, answer) for path, answer in bad.items())))
    client = house.client()
    for path in bad:
        for ending in ("", "-cheap"):
            status, fields, body = client.ask(path + ending).answer()
            assert (status, body) == (500, b'{"error":"this page failed; the log says why"}') and "x" not in fields
            assert client.ask().answer()[0] == 200
    log = capfd.readouterr().err
    assert "cannot answer GET /raises: KeyError: 'no such\\nthing'" in log
    assert log.count("\n") == 2 * len(bad) and "Traceback" not in log


def test_mutated_requests_do_not_end_the_server(serve):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice, house = random.Random(seed), serve(limits=Limits(linger=0.2, tick=0.05))
    whole = (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
             b"GET /slow HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
    for _ in range(300):
        text = bytearray(whole)
        for _ in range(dice.randint(1, 5)):
            at = dice.randrange(len(text))
            text[at:at + dice.randint(0, 3)] = bytes(dice.randrange(256) for _ in range(dice.randint(0, 3)))
        client = Client(house.address)
        client.send(bytes(text))
        if dice.random() < 0.5:
            client.socket.shutdown(socket.SHUT_WR)
            client.gone()
        client.socket.close()
    assert house.get()[0] == house.get("/slow")[0] == 200


def test_figures(serve):
    house = serve(limits=Limits(tick=0.05))
    client = house.client()
    for path in ("/page", "/page", "/nothing"):
        client.ask(path).answer()

    def shown():
        status, fields, body = client.ask("/metrics").answer()
        assert (status, fields["content-type"]) == (200, CONTENT_TYPE)
        return body.decode() if 'http_requests_total{status="4xx"} 1\n' in body.decode() else None
    text = until(shown)
    assert 'http_requests_total{status="2xx"} ' in text and "\nhttp_connections 1\n" in text and text.endswith("# EOF\n")


def test_health_is_there_unless_the_service_has_its_own(serve):
    assert serve().get("/health")[2] == b'{"status":"up"}'
    assert serve(Route("/health", lambda request: web.problem(503, "no"))).get("/health")[::2] == (503, b'{"error":"no"}')


def test_the_stop_finishes_what_is_under_way(serve):
    def answer(request):
        time.sleep(0.4)
        return web.html("<p>finished")
    house = serve(Route("/work", answer))
    idle, half, client = house.client(), house.client().send(b"GET"), house.client().ask("/work")
    time.sleep(0.1)
    assert 0.2 < house_end(house, client) < 0.9
    assert client.answer()[2] == b"<p>finished"
    assert idle.gone() and half.gone()


def house_end(house, *still_read) -> float:
    """End a server, but leave the clients open that are still read."""
    house.clients = [client for client in house.clients if client not in still_read]
    return house.end()


def test_the_stop_waits_for_nobody_long(serve, gate):
    house = serve(gate.route(), limits=Limits(stop=0.3))
    house.client(receive_buffer=4096).ask("/big")
    for _ in range(6):
        house.client().ask("/gate")
    time.sleep(0.1)
    threading.Timer(0.5, gate.set).start()
    assert house.end() < 0.9


def test_an_idle_server_stops_at_once(serve):
    house = serve()
    assert house.end() < 0.1
    assert house.listener.fileno() == -1
