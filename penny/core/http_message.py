"""HTTP/1's messages without a socket: a request's head read from its bytes, its route found, its answer completed.

Reading is strict, because whatever two readers of one byte stream take differently is a way to smuggle a request past
one of them: what a browser or curl never sends is refused, not repaired, and the caller closes the connection.

RFC 9112, section by section:
  2.2    one empty line before the request line is skipped; a bare CR or LF, NUL and other controls are refused
  3      method SP target SP version, single spaces; the method is a token (RFC 9110 section 5.6.2)
  3.2    exactly one Host under HTTP/1.1; several, or a malformed one, are refused under either version
  3.2.1  origin-form: the path is decoded once and has no empty, "." or ".." segment, backslash or control character
  3.2.2  absolute-form is accepted, and its authority takes the place of Host
  3.2.3  authority-form (CONNECT) is refused
  3.2.4  asterisk-form is for OPTIONS alone
  5.1    no space between a field's name and its colon
  5.2    no folded lines
  6.1    Transfer-Encoding is not read here: 400 beside Content-Length or under HTTP/1.0, else 411 or 501
  6.3    one Content-Length, digits only
  9.3    HTTP/1.1 stays open unless told to close; HTTP/1.0 closes unless told to stay
Of RFC 9110: sections 7.4 (a Host that is not ours: 421, against DNS rebinding), 8.6 (Content-Length), 8.8.3 (ETag),
9.3.7 (OPTIONS *), 10.1.1 (Expect), 12.5.3 (Accept-Encoding), 13.1.2 (If-None-Match), 15.5.6 (405 with Allow).

Every answer carries the fields in STANDING, and HTML the CONTENT_POLICY; a route's own field of the same name wins.
Not here: sockets, time, and the bytes of a request's body; those are core/web's.
"""
from __future__ import annotations

import functools
import json
import re
import socket  # for inet_pton alone
import zlib
from hashlib import blake2b
from typing import Callable, NamedTuple, Sequence
from urllib.parse import unquote_to_bytes  # http.server has loaded it anyway

MAX_HEAD = 8192  # bytes, with the empty line that ends it
MAX_FIELDS = 100
MAX_BODY = 1 << 20
MAX_REMEMBERED = 1024  # bytes of a head
MAX_TAGGED = 16384  # bytes of a body whose tag is remembered
MIN_GZIP = 1024  # below this a body fits one packet either way

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_BROKEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?![\n]|\Z)|(?<!\r)\n")
_REQUEST_LINE = re.compile(r"(%s) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELD = re.compile(r"(%s):(.*)" % _TOKEN, re.DOTALL)
_ABSOLUTE = re.compile(r"https?://([^/?]+)(.*)", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_-][0-9A-Za-z._-]*)(?::[0-9]{0,5})?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f\\]|//|/\.\.?(?:/|\Z)")
_ENTITY_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
FRAMING = ("connection", "content-length", "content-type", "date", "server", "transfer-encoding")  # never a route's
_FIELD_NAME = re.compile(r"[A-Za-z0-9-]+")
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_TEXT_LIKE = re.compile(r"text/|application/\S*(?:json|xml|javascript|text)|image/svg")
CONTENT_POLICY = ("default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
                  "form-action 'self'; frame-ancestors 'none'")
STANDING = (("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
# Fields of which a second one is an attack or a fault, never a list that goes on.
_ONCE = frozenset(("host", "content-length", "transfer-encoding", "authorization", "content-type"))


class Refused(ValueError):
    """This head is not answered as a request; the status (4xx or 5xx) and the reason are for the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Head(NamedTuple):
    """What a request says before its body."""

    method: str
    path: str  # decoded once, starts with "/"; or "*"
    query: dict[str, str]  # of several values under one name the last
    headers: dict[str, str]  # lower-case names; several fields of one name are joined by ", "
    host: str  # lower case, no port, no final dot; "" under HTTP/1.0 without Host
    minor: int  # of HTTP/1.minor: 0 or 1
    length: int  # bytes of body to follow
    stays: bool  # whether the connection may be kept after the answer
    expects: bool  # whether the client waits for "100 Continue" before it sends the body


class Request(NamedTuple):
    """A request, as a route's function gets it. The Host has been checked."""

    method: str
    path: str  # decoded once, starts with "/"
    query: dict[str, str]
    headers: dict[str, str]  # lower-case names
    body: bytes
    client: str  # address


class Response(NamedTuple):
    """An answer. `headers` beat the fields that every answer carries; those that frame it are the server's own."""

    status: int = 200
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Route(NamedTuple):
    """Who answers a path: "/editions" alone, or with "/editions/*" all that starts with "/editions/".

    HEAD comes with GET. A cheap route is answered between two reads: it must not wait, compute or open anything.
    """

    path: str
    answer: Callable[[Request], Response]
    cheap: bool = False
    methods: tuple[str, ...] = ("GET",)


def end(buffer: bytes) -> int:
    """How many bytes at the start of `buffer` are a head, its empty line included; 0 when more must come.

    Raises Refused as soon as the rest cannot mend it: too long, or broken by a character that no head may hold.
    """
    found = buffer.find(b"\r\n\r\n", 2 if buffer.startswith(b"\r\n") else 0, MAX_HEAD)
    if found >= 0:
        return found + 4
    if _BROKEN.search(buffer, 0, MAX_HEAD):
        raise Refused(400, "a control character, or a bare CR or LF, in the head")
    if len(buffer) >= MAX_HEAD:
        raise Refused(431, "the head is longer than %d bytes" % MAX_HEAD)
    return 0


def parse(head: bytes) -> Head:
    """The Head in the bytes that `end` delimited; raises Refused and nothing else.

    What is returned may be returned again: its dicts are not to be changed.
    """
    return _parse_again(head) if len(head) <= MAX_REMEMBERED else _parse(head)


def _parse(head: bytes) -> Head:
    if _BROKEN.search(head) or not head.endswith(b"\r\n\r\n"):
        raise Refused(400, "a control character, or a bare CR or LF, in the head")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0]:
        del lines[0]
    match = _REQUEST_LINE.fullmatch(lines[0])
    if not match:
        raise Refused(400, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = match.groups()
    if major != "1":
        raise Refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if len(lines) - 3 > MAX_FIELDS:
        raise Refused(431, "more than %d header fields" % MAX_FIELDS)
    headers = _fields(lines[1:-2])
    path, query, authority = _target(method, target)
    is_new = minor != "0"
    host = _host(headers.get("host"), authority, is_new)
    connection = headers.get("connection")
    options = [option.strip() for option in connection.lower().split(",")] if connection else ()
    stays = "close" not in options and (is_new or "keep-alive" in options)
    return Head(method, path, _query(query) if query else {}, headers, host, int(is_new), _length(headers, is_new),
                stays, _expects(headers, is_new))


# Who asks again asks in the same words, the page's readers as well as the machines that poll: a third of the time of a
# cheap answer went here.
_parse_again = functools.lru_cache(maxsize=64)(_parse)


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if not match:
            raise Refused(400, "a header field is not NAME: VALUE")
        name, value = match.groups()
        name, value = name.lower(), value.strip(" \t")
        if name in fields:
            if name in _ONCE:
                raise Refused(400, "more than one %s" % name)
            value = fields[name] + ("; " if name == "cookie" else ", ") + value
        fields[name] = value
    return fields


def _target(method: str, target: str) -> tuple[str, str, str]:
    """Path (decoded), query (as sent) and authority ("" unless the target was absolute)."""
    if target == "*":
        if method != "OPTIONS":
            raise Refused(400, "the target * is for OPTIONS")
        return "*", "", ""
    authority = ""
    if not target.startswith("/"):
        match = _ABSOLUTE.fullmatch(target)
        if not match:
            raise Refused(400, "the target is neither a path nor an http URL")
        authority, target = match.groups()
        if not target.startswith("/"):
            target = "/" + target
    if "#" in target:
        raise Refused(400, "the target has a fragment")
    path, _, query = target.partition("?")
    path = _decode(path)
    if _BAD_PATH.search(path):
        raise Refused(400, "the path has an empty, . or .. segment, a backslash or a control character")
    return path, query, authority


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise Refused(400, "the target has a % that no two hexadecimal digits follow")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "the target is not UTF-8") from None


def _query(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.replace("+", " ").split("&") if part)
    return {_decode(name): _decode(value) for name, _, value in pairs}


def _host(field: str | None, authority: str, is_new: bool) -> str:
    if field is None and is_new:
        raise Refused(400, "no Host")
    found = None
    for text in (field, authority or None):  # the authority, where there is one, has the last word
        if text is not None:
            found = _HOST.fullmatch(text)
            if not found:
                raise Refused(400, "the Host is not NAME or NAME:PORT")
    return found.group(1).lower().rstrip(".") if found else ""


def _length(headers: dict[str, str], is_new: bool) -> int:
    text = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if text is not None or not is_new:
            raise Refused(400, "Transfer-Encoding beside Content-Length, or under HTTP/1.0")
        if coding.lower() == "chunked":
            raise Refused(411, "a body needs Content-Length here")
        raise Refused(501, "this Transfer-Encoding is not known here")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise Refused(400, "the Content-Length is not a number")
    digits = text.lstrip("0")
    if len(digits) > 9 or int(digits or "0") > MAX_BODY:
        raise Refused(413, "the body is longer than %d bytes" % MAX_BODY)
    return int(digits or "0")


def _expects(headers: dict[str, str], is_new: bool) -> bool:
    text = headers.get("expect")
    if text is None or not is_new:  # RFC 9110 section 10.1.1: ignored under HTTP/1.0
        return False
    if text.lower() != "100-continue":
        raise Refused(417, "only 100-continue can be expected here")
    return True


def accepts_gzip(field: str) -> bool:
    """Whether an Accept-Encoding field allows gzip; what names gzip itself beats `*`, and q=0 forbids."""
    allowed: dict[str, bool] = {}
    for item in field.lower().split(","):
        coding, _, parameter = item.partition(";")
        weight = _WEIGHT.fullmatch(parameter.strip()) if parameter else None
        allowed[coding.strip()] = float(weight.group(1)) > 0 if weight else not parameter
    return allowed.get("gzip", allowed.get("*", False))


def matches(field: str, etag: str) -> bool:
    """Whether an If-None-Match field names this entity tag, by the weak comparison (RFC 9110 section 8.8.3.2)."""
    return field.strip() == "*" or etag[etag.find('"'):] in _ENTITY_TAG.findall(field)


def html(text: str, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An answer for people."""
    return Response(status, text.encode("utf-8"), "text/html; charset=utf-8", headers)


def as_json(value: object, status: int = 200) -> Response:
    """An answer for programs; raises ValueError for NaN and infinities, TypeError for what JSON does not know."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(status, text.encode("utf-8"), "application/json")


def problem(status: int, text: str) -> Response:
    """The answer of the whole house when something is wrong."""
    return as_json({"error": text}, status)


def complete(head: Head, response: Response, close: bool, plain: bool = False) -> Response:
    """The answer as it is sent: with all its fields, and not modified or compressed where the client asked for that.

    `plain` answers are never compressed. Raises ValueError or TypeError for one that would break the protocol.
    """
    status, body, kind, headers = response
    if not (isinstance(body, bytes) and 200 <= status <= 599):
        raise TypeError("cannot send an answer of status %r whose body is %s" % (status, type(body).__name__))
    if _UNSENDABLE.search(kind):
        raise ValueError("cannot send the type %r" % kind)
    given = {name.lower(): value for name, value in headers}
    fields = _check(headers) if headers else []
    if status == 200 and head.method in ("GET", "HEAD"):
        status, body = _negotiate(head, body, kind, fields, given, plain)
    fields += [field for field in STANDING if field[0].lower() not in given] if given else STANDING
    if kind.startswith("text/html") and "content-security-policy" not in given:
        fields.append(("Content-Security-Policy", CONTENT_POLICY))
    if status in (204, 304):
        body = b""  # nor its length: RFC 9110 section 8.6
    else:
        fields += ("Content-Type", kind), ("Content-Length", str(len(body)))
    if close:
        fields.append(("Connection", "close"))
    elif not head.minor:
        fields.append(("Connection", "keep-alive"))
    return Response(status, b"" if head.method == "HEAD" else body, kind, tuple(fields))


def _negotiate(head: Head, body: bytes, kind: str, fields: list[tuple[str, str]], given: dict[str, str],
               plain: bool) -> tuple[int, bytes]:
    """Status and body for a client that may have the page, or take it compressed; adds to `fields` what says so."""
    etag = given.get("etag") or (_tag_again(body) if len(body) <= MAX_TAGGED else _tag(body))
    vary, packed = given.get("vary"), False
    if not plain and len(body) > MIN_GZIP and "content-encoding" not in given and _TEXT_LIKE.match(kind):
        vary = vary + ", Accept-Encoding" if vary else "Accept-Encoding"
        packed = accepts_gzip(head.headers.get("accept-encoding", ""))
    if packed:
        etag = etag[:-1] + '-gzip"'  # other bytes, so another strong tag: RFC 9110 section 8.8.3
    if "etag" in given or "vary" in given:
        fields[:] = [field for field in fields if field[0].lower() not in ("etag", "vary")]
    fields.append(("ETag", etag))
    if vary:
        fields.append(("Vary", vary))
    asked = head.headers.get("if-none-match")
    if asked and matches(asked, etag):
        return 304, b""
    if packed:
        fields.append(("Content-Encoding", "gzip"))
        packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)  # gzip's own frame, without a time in it
        body = packer.compress(body) + packer.flush()
    return 200, body


def _tag(body: bytes) -> str:
    return '"%s"' % blake2b(body, digest_size=12).hexdigest()


_tag_again = functools.lru_cache(maxsize=32)(_tag)  # a small page seldom changes between two visits


def _check(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    for name, value in headers:
        if not _FIELD_NAME.fullmatch(name) or name.lower() in FRAMING or _UNSENDABLE.search(value):
            raise ValueError("cannot send the header field %r: %r" % (name, value))
    return list(headers)


class Site:
    """Which route answers a request, among all that one server has."""

    def __init__(self, routes: Sequence[Route], hosts: Sequence[str], own_name: str) -> None:
        """`hosts` may be asked for by these names; one that starts with "." allows all below it."""
        exact: dict[str, dict[str, Route]] = {}
        below: dict[str, dict[str, Route]] = {}
        for route in routes:  # of two for the same the first
            table, path = (below, route.path[:-1]) if route.path.endswith("/*") else (exact, route.path)
            for method in route.methods:
                table.setdefault(path, {}).setdefault(method, route)
        for methods in [*exact.values(), *below.values()]:
            if "GET" in methods:
                methods.setdefault("HEAD", methods["GET"])
        self.exact, self.below = exact, sorted(below.items(), key=lambda item: -len(item[0]))
        own = own_name.lower()
        short = own.partition(".")[0]
        # "" is what HTTP/1.0 without Host has: no browser speaks that, and DNS rebinding needs a browser.
        self.names = {"", "localhost", own, short, short + ".local", *(host.lower() for host in hosts)}
        self.domains = tuple(host.lower() for host in hosts if host.startswith("."))

    def find(self, head: Head) -> Route | Response:
        """The route for a request, or the answer that says why there is none."""
        if head.host not in self.names and not head.host.endswith(self.domains) and not is_address(head.host):
            return problem(421, "nothing here is called %s" % head.host)
        if head.path == "*":
            return Response(204, headers=(("Allow", "GET, HEAD, OPTIONS"),))
        methods = self.exact.get(head.path)
        if not methods:
            methods = next((methods for start, methods in self.below if head.path.startswith(start)), None)
        if not methods:
            return problem(404, "nothing is at %s" % head.path)
        route = methods.get(head.method)
        if not route:
            allowed = ", ".join(sorted(methods))
            return problem(405, "%s is for %s" % (head.path, allowed))._replace(headers=(("Allow", allowed),))
        return route


def is_address(host: str) -> bool:
    """Whether the host of a URL is an address: four decimal numbers, or IPv6 in brackets."""
    try:
        if host.startswith("["):
            socket.inet_pton(socket.AF_INET6, host[1:-1])
        else:
            socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True
