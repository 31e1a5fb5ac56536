"""penny.core.http_message: what is read from a head, what is refused, whose route it is, what an answer is sent with."""
from __future__ import annotations

import random
import zlib

import pytest

from penny.core import http_message
from penny.core.http_message import Refused, Response, Route, Site, complete, html, parse


def head(line="GET / HTTP/1.1", *fields, host="penny.example"):
    return "\r\n".join([line, *(["Host: " + host] if host else []), *fields, "", ""]).encode("latin-1")


def read(text):
    """A head as the server reads one: delimited first."""
    found = http_message.end(text)
    return parse(text[:found]) if found else None


def status_of(text):
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.reason
    return caught.value.status


def test_a_head_of_a_browser():
    found = read(head("GET /editions/2026-01-02?format=html&page=2 HTTP/1.1", "Accept:  text/html \t", "Accept: */*",
                      "Cookie: a=1", "Cookie: b=2", "X-Empty:", host="Penny.Example:8080"))
    assert found == http_message.Head(
        "GET", "/editions/2026-01-02", {"format": "html", "page": "2"},
        {"host": "Penny.Example:8080", "accept": "text/html, */*", "cookie": "a=1; b=2", "x-empty": ""},
        "penny.example", 1, 0, True, False)


@pytest.mark.parametrize("target, path, query", [
    ("/", "/", {}),
    ("/a%20b", "/a b", {}),
    ("/caf%C3%A9", "/caf\u00e9", {}),
    ("/a%2541", "/a%41", {}),  # once, not twice
    ("/a%2Fb", "/a/b", {}),
    ("/a/", "/a/", {}),
    ("/a?", "/a", {}),
    ("/a?b", "/a", {"b": ""}),
    ("/a?q=x+y%2Bz&&q2=%3D", "/a", {"q": "x y+z", "q2": "="}),
    ("/a?q=1&q=2", "/a", {"q": "2"}),
    ("/a?q=../x//y", "/a", {"q": "../x//y"}),
    ("/.well-known/x", "/.well-known/x", {}),
    ("/...", "/...", {}),
    ("http://other.example:80/a?b=c", "/a", {"b": "c"}),
    ("HTTP://other.example", "/", {}),
    ("http://other.example?b=c", "/", {"b": "c"}),
])
def test_targets(target, path, query):
    found = read(head("GET %s HTTP/1.1" % target))
    assert (found.path, found.query) == (path, query)


def test_the_authority_of_an_absolute_target_takes_the_place_of_host():
    assert read(head("GET http://Other.example:80/ HTTP/1.1")).host == "other.example"


@pytest.mark.parametrize("field, host", [("penny", "penny"), ("PENNY.", "penny"), ("penny:8080", "penny"), ("[::1]:80", "[::1]"),
                                         ("10.0.0.1", "10.0.0.1"), ("a_b.c-d:", "a_b.c-d")])
def test_hosts(field, host):
    assert read(head(host=field)).host == host


@pytest.mark.parametrize("fields, version, stays", [
    ((), "1.1", True), (("Connection: close",), "1.1", False), (("Connection: x, CLOSE",), "1.1", False),
    (("Connection: keep-alive",), "1.1", True), ((), "1.0", False), (("Connection: Keep-Alive",), "1.0", True),
    (("Connection: keep-alive, close",), "1.0", False), ((), "1.2", True)])
def test_who_stays(fields, version, stays):
    assert read(head("GET / HTTP/" + version, *fields)).stays is stays


def test_http_1_0_needs_no_host():
    found = read(head("GET / HTTP/1.0", host=""))
    assert (found.host, found.minor) == ("", 0)


def test_one_empty_line_before_a_request_is_skipped_and_no_more():
    assert read(b"\r\n" + head()).path == "/"
    assert status_of(b"\r\n\r\n" + head()) == 400


BAD = {
    "no Host (RFC 9112 section 3.2)": head(host=""),
    "two Hosts": head("GET / HTTP/1.1", "host: other"),
    "two Hosts under 1.0": head("GET / HTTP/1.0", "host: other"),
    "empty Host": b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
    "Host of a dot": head(host="."),
    "Host with a path": head(host="a/b"),
    "Host with a user": head(host="a@b"),
    "Host list": head(host="a, b"),
    "Host with a space": head(host="a b"),
    "authority with a user": head("GET http://a@b/ HTTP/1.1"),
    "authority and bad Host": head("GET http://a/ HTTP/1.1", host="a b"),
    "space before colon (5.1)": head("GET / HTTP/1.1", "Accept : x"),
    "space before the first field (2.2)": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "folded line (5.2)": head("GET / HTTP/1.1", "Accept: x", " y"),
    "folded by a tab": head("GET / HTTP/1.1", "Accept: x", "\ty"),
    "field without colon": head("GET / HTTP/1.1", "Accept"),
    "field without name": head("GET / HTTP/1.1", ": x"),
    "name that is no token": head("GET / HTTP/1.1", "Acc(ept: x"),
    "name of Latin-1": head("GET / HTTP/1.1", "Acc\xe9pt: x"),
    "bare CR in a value (2.2)": head("GET / HTTP/1.1", "Accept: x\ry"),
    "bare CR at a line's end": head("GET / HTTP/1.1", "Accept: x\r"),
    "bare LF in a value": head("GET / HTTP/1.1", "Accept: x\ny: z"),
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF throughout": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL in a value": head("GET / HTTP/1.1", "Accept: x\0y"),
    "control in a value": head("GET / HTTP/1.1", "Accept: x\x1by"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version (3)": b"GET /\r\nHost: a\r\n\r\n",
    "two spaces": head("GET  / HTTP/1.1"),
    "a tab": head("GET\t/ HTTP/1.1"),
    "space at the end": head("GET / HTTP/1.1 "),
    "space at the start": head(" GET / HTTP/1.1"),
    "space in the target": head("GET /a b HTTP/1.1"),
    "method that is no token": head("G@T / HTTP/1.1"),
    "no method": head("/ HTTP/1.1"),
    "lower-case version": head("GET / http/1.1"),
    "long version": head("GET / HTTP/1.10"),
    "Latin-1 in the target": head("GET /\xe9 HTTP/1.1"),
    "fragment": head("GET /a#b HTTP/1.1"),
    "relative target": head("GET a HTTP/1.1"),
    "authority form (3.2.3)": head("CONNECT a:443 HTTP/1.1"),
    "other scheme": head("GET ftp://a/ HTTP/1.1"),
    "no authority": head("GET http:///a HTTP/1.1"),
    "asterisk for GET (3.2.4)": head("GET * HTTP/1.1"),
    "dot dot": head("GET /../etc/passwd HTTP/1.1"),
    "dot dot at the end": head("GET /a/.. HTTP/1.1"),
    "dot": head("GET /a/./b HTTP/1.1"),
    "empty segment": head("GET /a//b HTTP/1.1"),
    "two slashes at the start": head("GET //a HTTP/1.1"),
    "encoded dot dot": head("GET /%2e%2E/a HTTP/1.1"),
    "encoded slash and dot dot": head("GET /a%2f..%2fb HTTP/1.1"),
    "dot dot in an absolute target": head("GET http://a/../b HTTP/1.1"),
    "backslash": head("GET /a\\b HTTP/1.1"),
    "encoded backslash": head("GET /a%5cb HTTP/1.1"),
    "encoded NUL": head("GET /a%00 HTTP/1.1"),
    "encoded line end": head("GET /a%0d%0ab HTTP/1.1"),
    "half an escape": head("GET /a%4 HTTP/1.1"),
    "escape of no digits": head("GET /a%zz HTTP/1.1"),
    "not UTF-8": head("GET /a%ff HTTP/1.1"),
    "overlong UTF-8": head("GET /%c0%ae%c0%ae/a HTTP/1.1"),
    "bad escape in the query": head("GET /a?b=%zz HTTP/1.1"),
    "two lengths (6.3)": head("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"),
    "list of lengths": head("POST / HTTP/1.1", "Content-Length: 1, 1"),
    "signed length": head("POST / HTTP/1.1", "Content-Length: +1"),
    "negative length": head("POST / HTTP/1.1", "Content-Length: -1"),
    "hexadecimal length": head("POST / HTTP/1.1", "Content-Length: 0x1"),
    "length with an underscore": head("POST / HTTP/1.1", "Content-Length: 1_0"),
    "length of a superscript": head("POST / HTTP/1.1", "Content-Length: \xb2"),
    "empty length": head("POST / HTTP/1.1", "Content-Length:"),
    "length and coding (6.1)": head("POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
    "coding under 1.0": head("POST / HTTP/1.0", "Transfer-Encoding: chunked"),
    "two codings": head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_refused_with_400(name):
    assert status_of(BAD[name]) == 400


def test_other_refusals():
    assert status_of(head("POST / HTTP/1.1", "Transfer-Encoding: Chunked")) == 411
    assert status_of(head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked")) == 501
    assert status_of(head("GET / HTTP/2.0")) == 505
    assert status_of(head("POST / HTTP/1.1", "Expect: more")) == 417


def test_a_broken_head_is_refused_before_its_end():
    assert status_of(b"GET / HTTP/1.1\nHo") == 400
    assert http_message.end(b"GET / HTTP/1.1\r") == 0


def test_bounds_of_a_head():
    def of_size(size):
        return head("GET / HTTP/1.1", "X: " + "x" * (size - len(head("GET / HTTP/1.1", "X: "))))
    assert len(of_size(http_message.MAX_HEAD)) == http_message.MAX_HEAD
    assert read(of_size(http_message.MAX_HEAD))
    assert status_of(of_size(http_message.MAX_HEAD + 1)) == 431
    assert http_message.end(of_size(http_message.MAX_HEAD)[:-1]) == 0
    assert status_of(b"x" * http_message.MAX_HEAD) == 431
    most = ["A%d: b" % number for number in range(http_message.MAX_FIELDS - 1)]
    assert read(head("GET / HTTP/1.1", *most))
    assert status_of(head("GET / HTTP/1.1", *most, "One: more")) == 431


def test_bounds_of_a_body():
    def length(text):
        return read(head("POST / HTTP/1.1", "Content-Length: " + text)).length
    assert length("0") == length("000") == 0
    assert length("00012") == 12
    assert length(str(http_message.MAX_BODY)) == http_message.MAX_BODY
    assert status_of(head("POST / HTTP/1.1", "Content-Length: %d" % (http_message.MAX_BODY + 1))) == 413
    assert status_of(head("POST / HTTP/1.1", "Content-Length: " + "9" * 5000)) == 413  # too long for int(), too


def test_expect():
    assert read(head("POST / HTTP/1.1", "Expect: 100-Continue", "Content-Length: 1")).expects
    assert not read(head("POST / HTTP/1.0", "Expect: 100-continue", "Content-Length: 1")).expects


def test_mutated_heads_are_read_or_refused():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    whole = [*BAD.values(), head("POST /a?b=%20 HTTP/1.1", "Content-Length: 3", "Expect: 100-continue", "Accept: */*")]
    for _ in range(5000):
        text = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(text) + 1)
            text[at:at + dice.choice((0, 0, 1, 5))] = dice.choice(
                (b"", b"\r\n", b"\n", b"\0", b" ", b"\t", b":", b"%", b"%2e", b"/", b"..", b"?", b"*", b"\xff",
                 b"Content-Length: 5\r\n", b"Host: a\r\n", b"http://", b"[", bytes([dice.randrange(256)])))
        for reader in (read, parse):
            try:
                found = reader(bytes(text))
            except Refused as refusal:
                assert 400 <= refusal.status <= 505
                continue
            if found:
                assert found.path == "*" or found.path.startswith("/") and "/../" not in found.path + "/"
                assert "\0" not in found.path and "//" not in found.path and 0 <= found.length <= http_message.MAX_BODY


@pytest.mark.parametrize("field, yes", [
    ("gzip", True), ("deflate, gzip", True), ("GZIP ; q=0.5", True), ("*", True), ("gzip;q=0", False), ("gzip; q=0.000", False),
    ("*;q=0", False), ("gzip;q=0, *", False), ("*;q=0, gzip", True), ("", False), ("identity", False), ("gzip;q=x", False)])
def test_accepts_gzip(field, yes):
    assert http_message.accepts_gzip(field) is yes


@pytest.mark.parametrize("field, etag, yes", [
    ('"a"', '"a"', True), ('"b", "a"', '"a"', True), ('W/"a"', '"a"', True), ('"a"', 'W/"a"', True), ("*", '"a"', True),
    ('"ab"', '"a"', False), ("a", '"a"', False), ('"b"', '"a"', False), ('"b","c,"', '"c,"', True)])
def test_matches(field, etag, yes):
    assert http_message.matches(field, etag) is yes


def fields_of(response):
    assert len({name.lower() for name, _ in response.headers}) == len(response.headers), "a field is sent twice"
    return dict(response.headers)


def test_a_page_is_completed():
    found = complete(read(head()), html("<p>hello"), close=False)
    fields = fields_of(found)
    assert (found.status, found.body, fields["Content-Length"]) == (200, b"<p>hello", "8")
    assert fields["Content-Security-Policy"] == http_message.CONTENT_POLICY
    assert {name: fields[name] for name, _ in http_message.STANDING} == dict(http_message.STANDING)
    assert "Vary" not in fields and "Connection" not in fields
    again = complete(read(head("GET / HTTP/1.1", "If-None-Match: " + fields["ETag"])), html("<p>hello"), close=True)
    assert (again.status, again.body, fields_of(again)["ETag"]) == (304, b"", fields["ETag"])
    assert "Content-Length" not in fields_of(again) and fields_of(again)["Connection"] == "close"


def test_a_routes_own_field_wins():
    mine = (("cache-control", "max-age=60"), ("content-security-policy", "x"), ("Referrer-Policy", "origin"), ("etag", '"v1"'))
    fields = fields_of(complete(read(head()), html("hello", headers=mine), close=False))
    assert {name: fields[name] for name in ("cache-control", "content-security-policy", "Referrer-Policy")} == dict(mine[:3])
    assert fields["ETag"] == '"v1"'


def test_compression_and_its_tags():
    page, accepting = html("word " * 1000), read(head("GET / HTTP/1.1", "Accept-Encoding: gzip"))
    plain, packed = (complete(one, page, close=False) for one in (read(head()), accepting))
    assert zlib.decompress(packed.body, zlib.MAX_WBITS | 16) == plain.body == page.body
    assert fields_of(packed)["Content-Encoding"] == "gzip" and "Content-Encoding" not in fields_of(plain)
    assert fields_of(packed)["Content-Length"] == str(len(packed.body))
    assert fields_of(packed)["Vary"] == fields_of(plain)["Vary"] == "Accept-Encoding"
    assert fields_of(packed)["ETag"] != fields_of(plain)["ETag"]
    assert complete(accepting, page, close=False) == packed, "the same page, other bytes"
    for tag, status in ((fields_of(packed)["ETag"], 304), (fields_of(plain)["ETag"], 200)):
        asking = read(head("GET / HTTP/1.1", "Accept-Encoding: gzip", "If-None-Match: " + tag))
        assert complete(asking, page, close=False).status == status
    with_vary = complete(accepting, page._replace(headers=(("Vary", "Cookie"),)), close=False)
    assert fields_of(with_vary)["Vary"] == "Cookie, Accept-Encoding"


@pytest.mark.parametrize("response, plain", [
    (html("word " * 1000), True), (html("short"), False), (Response(200, b"x" * 5000, "image/png"), False),
    (Response(200, b"x" * 5000, headers=(("Content-Encoding", "br"),)), False), (html("word " * 1000, status=404), False)])
def test_what_is_not_compressed(response, plain):
    found = complete(read(head("GET / HTTP/1.1", "Accept-Encoding: gzip")), response, close=False, plain=plain)
    assert found.body == response.body and "gzip" not in fields_of(found).values()


@pytest.mark.parametrize("kind", ["application/json", "application/feed+json", "application/rss+xml", "image/svg+xml",
                                  "application/openmetrics-text; version=1.0.0"])
def test_what_is_compressed(kind):
    found = complete(read(head("GET / HTTP/1.1", "Accept-Encoding: gzip")), Response(200, b"x" * 5000, kind), close=False)
    assert fields_of(found)["Content-Encoding"] == "gzip"


def test_only_a_page_has_a_tag():
    for line, response in (("POST / HTTP/1.1", html("x")), ("GET / HTTP/1.1", html("x", status=404))):
        assert "ETag" not in fields_of(complete(read(head(line)), response, close=False))
    nothing = complete(read(head("POST / HTTP/1.1")), Response(204, b"ignored"), close=False)
    assert nothing.body == b"" and "Content-Length" not in fields_of(nothing)


@pytest.mark.parametrize("response, error", [
    (Response(headers=(("X", "a\r\nSet-Cookie: b"),)), ValueError), (Response(headers=(("X", "a\nb"),)), ValueError),
    (Response(headers=(("X", "\u20ac"),)), ValueError), (Response(headers=(("X y", "a"),)), ValueError),
    (Response(headers=(("content-length", "5"),)), ValueError), (Response(headers=(("Transfer-Encoding", "x"),)), ValueError),
    (Response(type="text/html\r\nX: y"), ValueError), (Response(body="text"), TypeError), (Response(status=99), TypeError),
    (Response(status=600), TypeError), (None, TypeError)])
def test_answers_that_cannot_be_sent(response, error):
    with pytest.raises(error):
        complete(read(head()), response, close=False)


def test_json_is_json():
    assert http_message.as_json({"name": "caf\u00e9"}).body == '{"name":"caf\u00e9"}'.encode()
    with pytest.raises(ValueError):
        http_message.as_json(float("nan"))


def test_routes():
    one, two, three, post = (Route(path, html) for path in ("/a", "/a/*", "/a/b/*", "/a"))
    site = Site([one, two, three, post._replace(methods=("POST",)), Route("/a", None)], (), "box")

    def find(line):
        return site.find(read(head(line, host="box")))
    assert find("GET /a HTTP/1.1") is find("HEAD /a HTTP/1.1") is one
    assert find("GET /a/x/y HTTP/1.1") is find("GET /a/ HTTP/1.1") is two
    assert find("GET /a/b/c HTTP/1.1") is three
    assert find("POST /a HTTP/1.1").methods == ("POST",)
    assert find("GET /ab HTTP/1.1").status == find("GET / HTTP/1.1").status == 404
    answer = find("PUT /a HTTP/1.1")
    assert (answer.status, dict(answer.headers)) == (405, {"Allow": "GET, HEAD, POST"})
    assert find("OPTIONS * HTTP/1.1").status == 204


@pytest.mark.parametrize("host, known", [
    ("box", True), ("box.local", True), ("BOX:8080", True), ("box.home.example", True), ("localhost", True), ("127.0.0.1", True),
    ("192.168.1.7:80", True), ("[fe80::1]", True), ("news.example", True), ("a.lab.example", True), ("a.b.lab.example", True),
    ("lab.example", False), ("evillab.example", False), ("evil.example", False), ("box.local.evil.example", False),
    ("127.0.0.1.evil.example", False), ("127.1", False), ("2130706433", False), ("[:]", False), ("notbox", False)])
def test_host_names(host, known):
    site = Site([Route("/", html)], ("news.example", ".lab.example"), "Box.home.example")
    found = site.find(read(head(host=host)))
    assert isinstance(found, Route) if known else found.status == 421
