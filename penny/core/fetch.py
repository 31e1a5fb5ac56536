"""The HTTP client of the whole house: one GET of a URL that a stranger may have written.

The rule it keeps: whatever the other side does, `get` ends within `Limits.total`, holds little more than
`Limits.inflated`, and returns a Reply or raises FetchError, whose one line a person can act on. `dial` judges the
address of every hop; each redirect is judged like a first URL.

Proxies are those of the environment (http_proxy, https_proxy and no_proxy, as urllib.request reads them), for each hop
anew. A proxy is the owner's choice and may have a private address. It is the proxy that looks up the host, so `private`
can then keep out no more than numeric addresses and names that are private by their letters: a public name with a
private address is for the proxy's own rules to refuse. penny does not look it up first: a box behind a proxy may have
no name server, the proxy's may see another net, and the answer need not be the one that the proxy gets.

http.client parses heads and chunks; the request is written here and its answer read through `_Wire`, since the
connection of http.client knows no deadline over several reads. Deliberately left out: cookies, caches, retries, kept
connections, Range, other methods; proxies reached over TLS or SOCKS, proxy authentication other than Basic. IDNA is
that of 2003, the standard library's.

Sources: RFC 9110 §9.3.6 (CONNECT), §11.7 (proxy authentication), §13 (validators), §15.4 (redirects); RFC 9112 §3.2
(forms of the target); RFC 3986.
"""
from __future__ import annotations

import binascii
import http.client
import io
import ipaddress
import os
import re
import socket
import time
import zlib
from typing import Callable, Mapping, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

import penny
from penny.core import dial, errors
from penny.core.dial import Deadline, Failed

USER_AGENT = f"penny/{penny.__version__}"
URL_LENGTH = 4096  # characters
HEAD_BYTES = 256 * 1024  # http.client alone takes 6 MiB, and any number of 100 Continue
MEMBERS = 1000  # gzip members of one body, since each costs a copy of what follows it
PIECE = 64 * 1024

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_VALIDATORS = ("if-none-match", "if-modified-since")
_OURS = ("host", "connection", "accept-encoding", "content-length", "transfer-encoding", "range",
         "proxy-authorization", *_VALIDATORS)
_TRAVELS = ("user-agent", "accept", "accept-language")  # to another host; any other header may hold a secret
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"(?=.{1,254}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_SAFE = "/%:;=@&+$,!~*'()?[]"  # stands in a path or query as it is; all else is percent-encoded
_WBITS = {"": 0, "identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's, by content encoding

_REASONS = (
    (socket.gaierror, "name not found"),
    (http.client.RemoteDisconnected, "closed the connection without an answer"),
    (http.client.IncompleteRead, "closed the connection before the end, or broke its chunks"),
    ((http.client.BadStatusLine, http.client.UnknownProtocol), "not HTTP"),
    (zlib.error, "its compressed body is corrupt"),
)


class FetchError(errors.PennyError):
    """No reply. `reason` is the message without its beginning."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot fetch {_shown(url)}: {reason}")
        self.reason = reason


class Limits(NamedTuple):
    """What one fetch may cost."""

    connect: float = 10.0  # seconds for name look-up, TCP, a proxy's tunnel and TLS together, of each hop
    idle: float = 15.0  # seconds without a byte
    total: float = 60.0  # seconds for everything, redirects included
    body: int = 8 * 1024 * 1024  # bytes as transferred
    inflated: int = 16 * 1024 * 1024  # bytes after gzip or deflate
    redirects: int = 5


class Reply(NamedTuple):
    status: int
    url: str  # of the last hop, normalised, without user, password and fragment
    headers: dict[str, str]  # by lower-case name; repeated fields joined with ", "; bytes over 127 as Latin-1
    body: bytes  # inflated
    redirects: tuple[tuple[int, str], ...]  # each hop's status and the URL that it led to
    transferred: int  # bytes of body as they came over the wire


def get(url: str, *, headers: Mapping[str, str] = {}, etag: str = "", modified: str = "", private: bool = False,
        limits: Limits = Limits()) -> Reply:
    """The reply to GET, of whatever status: 304, 404, 429 or 503 are for the caller to judge. Redirects are followed.

    `etag` and `modified` go to the first URL as they are (If-None-Match, If-Modified-Since); one that HTTP cannot carry
    is left out, as the full reply is always right. user:password@ in the URL becomes Basic authorisation. Neither
    reaches another host, nor do headers other than User-Agent, Accept and Accept-Language. `private` lets in addresses
    that are not public, on every hop (behind a proxy: as far as can be seen from here). Raises FetchError, and nothing else.
    """
    end = time.monotonic() + limits.total  # real time, whatever PENNY_CLOCK says
    hops: list[tuple[int, str]] = []
    at = url
    try:
        place = _place(url)
        fields = _fields(place, headers, etag, modified)
        visited = [place.url]
        while True:
            status, answer, body, transferred = _exchange(place, fields, private, limits, end)
            if status not in _REDIRECTS:
                return Reply(status, place.url, answer, body, tuple(hops), transferred)
            at = _redirect(place, answer.get("location", ""))
            led_to = _place(at)
            if led_to.url in visited:
                raise Failed("redirect loop")
            if len(hops) >= limits.redirects:
                raise Failed(f"over {limits.redirects} redirects")
            fields = _fields_for_next(fields, place, led_to)
            place = led_to
            hops.append((status, place.url))
            visited.append(place.url)
    except (Failed, OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        reason = f"took over {limits.total:g} s in all" if time.monotonic() >= end else _reason(error)
        raise FetchError(url, reason + ("" if at is url else f" (redirected to {_shown(at)})")) from error


class _Place(NamedTuple):
    """A URL that has been checked."""

    url: str  # without user, password and fragment
    scheme: str
    host: str  # ASCII, lower case, without brackets
    port: int
    authority: str  # what the Host header says
    target: str  # path and query, percent-encoded
    authorisation: str


def _place(url: str) -> _Place:
    if len(url) > URL_LENGTH:
        raise Failed(f"the URL has over {URL_LENGTH:,} characters")
    if re.search(r"[\x00-\x20\x7f-\x9f]", url):
        raise Failed("the URL has a space or a control character in it")
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise Failed("the URL is not http or https")
        host, usual = parts.hostname or "", _PORTS[parts.scheme]
        port = usual if parts.port is None else parts.port
        if ":" in host:
            host = str(ipaddress.IPv6Address(host))
        elif not host.isascii():
            host = host.encode("idna").decode("ascii").lower()
        user = parts.netloc.rpartition("@")[0]
        secret = unquote_to_bytes(user if ":" in user else user + ":") if user else b""
        target = quote(parts.path or "/", safe=_SAFE) + ("?" + quote(parts.query, safe=_SAFE) if parts.query else "")
    except ValueError:  # its text may quote the password
        raise Failed("the URL's host or port cannot be read") from None
    if not host:
        raise Failed("the URL names no host")
    if port == 0 or not (":" in host or _HOST.fullmatch(host)):
        raise Failed("the URL's host or port cannot be read")
    authority = (f"[{host}]" if ":" in host else host) + ("" if port == usual else f":{port}")
    basic = "Basic " + binascii.b2a_base64(secret, newline=False).decode() if secret else ""
    return _Place(f"{parts.scheme}://{authority}{target}", parts.scheme, host, port, authority, target, basic)


def _redirect(place: _Place, location: str) -> str:
    """The URL to which a Location leads. Spaces and bytes over 127, which servers do send, are percent-encoded."""
    if not location:
        raise Failed("redirects without saying where to")
    joined = urljoin(place.url, "".join("%%%02X" % ord(c) if c == " " or c > "\x7f" else c for c in location))
    scheme = urlsplit(joined).scheme
    if scheme not in _PORTS:
        raise Failed(f"redirects to {_shown(scheme)}:")
    if place.scheme == "https" and scheme == "http":
        raise Failed("redirects from https to http")
    return joined


def _fields(place: _Place, headers: Mapping[str, str], etag: str, modified: str) -> dict[str, str]:
    """The first request's header fields by lower-case name."""
    fields = {"user-agent": USER_AGENT, **({"authorization": place.authorisation} if place.authorisation else {})}
    for name, value in headers.items():
        if name.lower() in _OURS or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Failed(f"the header {_shown(name)} cannot be sent")
        fields[name.lower()] = value
    validators = zip(_VALIDATORS, (etag, modified))
    return {**fields, **{name: value for name, value in validators if value and _VALUE.fullmatch(value)}}


def _fields_for_next(fields: dict[str, str], place: _Place, led_to: _Place) -> dict[str, str]:
    """The fields for the next hop: no validators, which belong to one URL, and no secrets for another host."""
    upgrade = (place.scheme, place.port, led_to.scheme, led_to.port) == ("http", 80, "https", 443)
    same = place.host == led_to.host and (place.port == led_to.port or upgrade)
    kept = {name: value for name, value in fields.items() if name in _TRAVELS or same and name not in _VALIDATORS}
    return {**kept, "authorization": led_to.authorisation} if led_to.authorisation else kept


def _exchange(place: _Place, fields: dict[str, str], private: bool, limits: Limits,
              end: float) -> tuple[int, dict[str, str], bytes, int]:
    """Status, header fields, inflated body, and its bytes on the wire; the body of a redirect is not read."""
    proxy = _proxy(place)
    relayed = proxy if place.scheme == "http" else None  # reads the request, and answers in the host's stead
    lines = [f"GET {place.url if relayed else place.target} HTTP/1.1", f"Host: {place.authority}",
             *(f"{name.title()}: {value}" for name, value in fields.items()), *_proxy_field(relayed),
             "Accept-Encoding: gzip, deflate", "Connection: close", "", ""]
    deadline = Deadline(min(end, time.monotonic() + limits.connect), limits.connect)
    with _open(place, proxy, private, deadline, limits.idle) as sock:
        wire = _Wire(sock, limits.idle, end)
        wire.send("\r\n".join(lines).encode("latin-1"))
        with _head(_Reader(wire)) as response:
            if relayed and response.status == 407:
                raise _unauthorised(place, relayed, response)
            answer: dict[str, str] = {}
            for name, value in response.headers.items():
                name, value = name.lower(), value.replace("\r", "").replace("\n", "").strip()
                answer[name] = f"{answer[name]}, {value}" if name in answer else value
            if response.status in _REDIRECTS:
                return response.status, answer, b"", 0
            # What surrounds chunks may weigh as much as what they hold, but not without end.
            wire.allow(2 * limits.body + HEAD_BYTES, f"sent over {_size(limits.body)}")
            return (response.status, answer, *_body(response, answer, limits))


def _open(place: _Place, proxy: _Place | None, private: bool, deadline: Deadline, idle: float) -> socket.socket:
    """A connection to the host, over TLS if the URL says so; or to the proxy, where that reads the request."""
    tls = place.scheme == "https"
    if proxy is None:
        return dial.connect(place.host, place.port, deadline, private=private, tls=tls)
    if not private:
        dial.judge_unresolved(place.host)
    try:
        sock = dial.connect(proxy.host, proxy.port, deadline, private=True, tls=False)
    except (Failed, OSError) as error:
        raise Failed(f"the proxy {proxy.authority}: {_reason(error)}") from error
    if not tls:
        return sock
    with sock:  # without effect once TLS has taken its descriptor over
        _tunnel(sock, place, proxy, deadline, idle)
        return dial.secure(sock, place.host, deadline)


def _proxy(place: _Place) -> _Place | None:
    """The proxy that the environment names for a URL."""
    if not any(name.lower() in ("http_proxy", "https_proxy") for name in os.environ):
        return None  # without urllib.request, which takes 0.9 MB
    from urllib.request import getproxies_environment, proxy_bypass_environment
    proxies = getproxies_environment()
    url = proxies.get(place.scheme, "")
    host = f"[{place.host}]" if ":" in place.host else place.host.rstrip(".")
    if not url or proxy_bypass_environment(f"{host}:{place.port}", proxies):
        return None
    url = url if "://" in url else "http://" + url
    try:
        if not url.lower().startswith("http://"):
            raise Failed("it is not of the form http://HOST:PORT")
        return _place(url)
    except Failed as error:
        raise Failed(f"cannot use {place.scheme}_proxy of the environment: {error}") from None


def _proxy_field(proxy: _Place | None) -> list[str]:
    return [f"Proxy-Authorization: {proxy.authorisation}"] if proxy and proxy.authorisation else []


def _tunnel(sock: socket.socket, place: _Place, proxy: _Place, deadline: Deadline, idle: float) -> None:
    """Have the proxy connect `sock` to the host. What it sends beyond its head is dropped: TLS then finds its own bytes."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    lines = [f"CONNECT {host}:{place.port} HTTP/1.1", f"Host: {host}:{place.port}", f"User-Agent: {USER_AGENT}",
             *_proxy_field(proxy), "", ""]
    try:
        wire = _Wire(sock, idle, deadline.at)
        wire.send("\r\n".join(lines).encode("latin-1"))
        response = _head(_Reader(wire))
    except (Failed, OSError, http.client.HTTPException, ValueError) as error:
        reason = deadline.missed() if time.monotonic() >= deadline.at else _reason(error)
        raise Failed(f"the proxy {proxy.authority}: {reason}") from error
    if response.status in (401, 407):  # 401 is what tinyproxy says to a wrong password
        raise _unauthorised(place, proxy, response)
    if response.status >= 300:
        raise Failed(f"the proxy {proxy.authority} does not connect to {place.authority} (status {response.status})")


def _unauthorised(place: _Place, proxy: _Place, response: http.client.HTTPResponse) -> Failed:
    """What to do about a proxy that wants to know who asks."""
    challenges = ", ".join(response.headers.get_all("Proxy-Authenticate", []))
    if challenges and not re.search(r"\bbasic\b", challenges, re.IGNORECASE):
        advice = "asks for a password in another way than Basic, the only one that penny knows"
    elif proxy.authorisation:
        advice = f"does not accept the user and password in {place.scheme}_proxy"
    else:
        advice = f"asks for a password: set {place.scheme}_proxy to http://USER:PASSWORD@{proxy.authority}"
    return Failed(f"the proxy {proxy.authority} {advice}")


class _Wire(io.RawIOBase):
    """A socket whose every read and write is held to the deadlines, and whose reads to a number of bytes."""

    def __init__(self, sock: socket.socket, idle: float, end: float) -> None:
        self._sock, self._idle, self._end, self._received = sock, idle, end, 0
        self.allow(HEAD_BYTES, f"its head is over {_size(HEAD_BYTES)}")

    def allow(self, count: int, otherwise: str) -> None:
        """Let in `count` further bytes; after them, fail for the reason `otherwise`."""
        self._allowed, self._otherwise = self._received + count, otherwise

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._timed(self._sock.send, rest):]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        if self._received >= self._allowed:
            raise Failed(self._otherwise)
        count = self._timed(self._sock.recv_into, buffer)
        self._received += count
        return count

    def _timed(self, call: Callable[[memoryview], int], data: memoryview) -> int:
        left = self._end - time.monotonic()
        try:
            if left <= 0:
                raise socket.timeout
            self._sock.settimeout(min(self._idle, left))
            return call(data)
        except socket.timeout:
            what = "sent nothing for" if self._received else "no answer within"
            raise Failed(f"{what} {self._idle:g} s") from None


class _Reader(io.BufferedReader):
    """The buffer that HTTPResponse would otherwise have a socket make; several of them read on from it."""

    def makefile(self, mode: str) -> _Reader:
        return self

    def flush(self) -> None:
        """Nothing: neither this nor closing is for a response that is dropped to decide."""

    close = flush


def _head(reader: _Reader) -> http.client.HTTPResponse:
    """The final answer, its head read; http.client by itself skips 100 Continue only, not 103 Early Hints."""
    while True:
        response = http.client.HTTPResponse(reader, method="GET")
        response.begin()
        if response.status >= 200:
            return response


def _body(response: http.client.HTTPResponse, answer: dict[str, str], limits: Limits) -> tuple[bytes, int]:
    """The inflated body, and its bytes on the wire."""
    if answer.get("transfer-encoding", "").lower() not in ("", "identity", "chunked"):
        raise Failed(f"unknown transfer encoding {_shown(answer['transfer-encoding'])}")
    content = _Content(answer.get("content-encoding", "").lower(), limits.inflated)
    transferred, too_much = 0, f"sent over {_size(limits.body)}"
    if (response.length or 0) > limits.body:
        raise Failed(too_much)
    while response.length != 0:  # as it is from the start for 204 and 304
        piece = response.read1(min(PIECE, limits.body - transferred + 1))
        if not piece:
            break
        transferred += len(piece)
        if transferred > limits.body:
            raise Failed(too_much)
        content.write(piece)
    if response.length:
        raise Failed("closed the connection before the end")
    return content.getvalue(), transferred


class _Content:
    """A body, inflated as it comes in. One gzip member may follow another, or padding; deflate is a single stream."""

    def __init__(self, encoding: str, most: int) -> None:
        if encoding not in _WBITS:
            raise Failed(f"unknown content encoding {_shown(encoding)}")
        self._wbits, self._most, self._members = _WBITS[encoding], most, 0
        self._stream = None  # a zlib.decompressobj within a member
        self._out = io.BytesIO()  # gives its bytes away without a copy, which a bytearray cannot

    def write(self, data: bytes) -> None:
        if not self._wbits:
            self._out.write(data)
            return
        piece = b""
        while data or len(piece) == PIECE:  # a full piece: there may be more inside
            if self._stream is None:
                data = data.lstrip(b"\0") if self._members else data
                if not data or self._members and self._wbits == 15:
                    return
                self._members += 1
                if self._members > MEMBERS:
                    raise Failed(f"its body has over {MEMBERS:,} gzip members")
                # Deflate ought to have a zlib head, whose first byte ends in 8, but many servers send it bare.
                self._stream = zlib.decompressobj(-15 if self._wbits == 15 and data[0] & 15 != 8 else self._wbits)
            piece = self._stream.decompress(data, PIECE)
            self._out.write(piece)
            if self._out.tell() > self._most:
                raise Failed(f"inflates to over {_size(self._most)}")
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data, piece, self._stream = self._stream.unused_data, b"", None

    def getvalue(self) -> bytes:
        if self._stream is not None:
            raise Failed("its compressed body is cut short")
        return self._out.getvalue()


def _reason(error: Exception) -> str:
    """What went wrong, for a person, on one line."""
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_NONAME:
        return f"name look-up failed: {errors.one_line(error)}"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and isinstance(getattr(error, "reason", None), str):  # ssl.SSLError
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    return errors.one_line(error) if isinstance(error, (Failed, OSError)) else f"not HTTP: {errors.one_line(error)}"


def _shown(text: str) -> str:
    """A stranger's text, fit for a message: printable, without a password, of bounded length."""
    text = re.sub(r"//[^/?#]*@", "//", text)
    return "".join(c if c.isprintable() else "?" for c in text[:200]) + ("…" if len(text) > 200 else "")


def _size(count: int) -> str:
    return f"{count // 1048576} MiB" if count >= 1048576 else f"{count} bytes"
