"""penny.core.fetch against small real servers on loopback: what it sends and reads, and which URLs it may follow."""
from __future__ import annotations

import gzip
import re
import zlib

import pytest

import penny
from penny.core import dial, fetch
from penny.core.fetch import FetchError
from fetch_support import BOOK, HEAD, PACKED, QUICK, Peer, endless, get, moved, ok, raw_deflate, refusal


# The request and the reply


def test_a_plain_reply():
    with Peer(ok(b"hello", "Content-Type: text/plain", "X-Many: one", "x-many: two", "Folded: a\r\n b")) as peer:
        reply = get(peer.url + "feed?a=b&c=%20#part")
    assert reply.status == 200 and reply.body == b"hello" and reply.transferred == 5 and reply.redirects == ()
    assert reply.url == peer.url + "feed?a=b&c=%20"
    assert reply.headers == {"content-type": "text/plain", "x-many": "one, two", "folded": "a b", "content-length": "5"}
    assert peer.heads == [f"GET /feed?a=b&c=%20 HTTP/1.1\r\nHost: {peer.address}\r\n"
                          f"User-Agent: penny/{penny.__version__}\r\nAccept-Encoding: gzip, deflate\r\n"
                          "Connection: close\r\n\r\n"]


@pytest.mark.parametrize("status", [200, 204, 300, 304, 400, 404, 410, 418, 429, 500, 503])
def test_every_status_but_a_redirect_is_a_reply(status):
    with Peer(f"HTTP/1.1 {status} \r\nRetry-After: 7\r\n\r\n".encode()) as peer:
        reply = get(peer.url)
    assert (reply.status, reply.headers["retry-after"], reply.body) == (status, "7", b"")


def test_a_304_has_no_body_whatever_its_head_says():
    head = b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
    with Peer(endless(head, b"", 0.1)) as peer:
        assert get(peer.url).body == b""


def test_old_and_odd_replies_are_read():
    with Peer(b"HTTP/1.0 200\n\nuntil the end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: z\r\n\r\n",
              b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok()) as peer:
        assert [get(peer.url).body for _ in range(3)] == [b"until the end", b"abcde", b"hello"]


def test_validators_are_sent_as_they_are():
    with Peer(b"HTTP/1.1 304 Same\r\n\r\n") as peer:
        assert get(peer.url, etag='W/"a  \xe9"', modified="Sun, 06 Nov 94").status == 304
    assert peer.field("If-None-Match") == 'W/"a  \xe9"' and peer.field("If-Modified-Since") == "Sun, 06 Nov 94"


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\x00", "\u20ac", "a\nb", "\r\n b"])
def test_a_validator_that_http_cannot_carry_is_left_out(bad):
    with Peer(ok()) as peer:
        assert get(peer.url, etag=bad, modified=bad).body == b"hello"
    assert "If-" not in peer.heads[0] and "Evil" not in peer.heads[0]


def test_headers_override_the_user_agent():
    with Peer(ok()) as peer:
        get(peer.url, headers={"USER-AGENT": "reader (me@example.org)", "Accept": "text/html"})
    assert peer.field("User-Agent") == "reader (me@example.org)" and peer.field("Accept") == "text/html"


@pytest.mark.parametrize("name, value", [
    ("Range", "bytes=0-"), ("host", "x"), ("Accept-Encoding", "br"), ("Connection", "x"), ("Content-Length", "4"),
    ("Transfer-Encoding", "chunked"), ("If-None-Match", "x"), ("X", "a\r\nY: b"), ("X", "a\r\n b"), ("X Y", "a"),
    ("Proxy-Authorization", "Basic eA=="), ("", "a"), ("X", "\u20ac"), ("X:", "a"), ("X\n", "a")])
def test_a_header_that_is_not_the_callers_or_cannot_be_sent(name, value):
    with Peer() as peer:
        assert "cannot be sent" in refusal(peer.url, headers={name: value})


# URLs


@pytest.mark.parametrize("url, reason", [
    ("ftp://127.0.0.1/", "not http or https"), ("file:///etc/passwd", "not http or https"), ("", "not http or https"),
    ("//127.0.0.1/", "not http or https"), ("javascript:alert(1)", "not http or https"),
    ("http:///x", "names no host"), ("http://", "names no host"), ("http:127.0.0.1", "names no host"),
    ("http://:80/", "names no host"), ("http://user@/", "names no host"),
    ("http://127.0.0.1/a b", "space"), (" http://127.0.0.1/", "space"), ("http://127.0.0.1/\r\nX: y", "control"),
    ("http://127.0.0.1/\x00", "control"), ("http://127.0.0.1/\x85", "control"), ("http://127.0.\t0.1/", "control"),
    ("http://127.0.0.1:0/", "cannot be read"), ("http://127.0.0.1:65536/", "cannot be read"),
    ("http://127.0.0.1:x/", "cannot be read"), ("http://127.0.0.1:-1/", "cannot be read"),
    ("http://[::1/", "cannot be read"), ("http://[::g]/", "cannot be read"), ("http://a..b/", "cannot be read"),
    ("http://a%00b/", "cannot be read"), ("http://a\\b/", "cannot be read"), ("http://a<b/", "cannot be read"),
    ("http://" + "a" * 64 + ".de/", "cannot be read"), ("http://" + "a." * 130 + "de/", "cannot be read"),
    ("http://\u2100.example/", "cannot be read"), ("http://\u00e9" + "e" * 70 + "/", "cannot be read"),
    ("http://127.0.0.1/\udc80", "cannot be read"), ("http://\udc80/", "cannot be read"),
    ("http://127.0.0.1/" + "a" * 4080, "over 4,096 characters")])
def test_urls_that_are_refused_before_anything_is_asked(url, reason):
    assert reason in refusal(url)


def test_a_url_of_4096_characters_and_odd_ones_in_it():
    with Peer(ok(), ok()) as peer:
        long = peer.url + "a" * (4096 - len(peer.url))
        assert get(long).url == long
        assert get(peer.url + "\u00e9|\"<%41%?q=\u00e9'[").url == peer.url + "%C3%A9%7C%22%3C%41%?q=%C3%A9'["
    assert peer.heads[1].startswith("GET /%C3%A9%7C%22%3C%41%?q=%C3%A9'[ HTTP/1.1\r\n")


def test_international_names_are_sent_in_ascii():
    assert fetch._place("http://B\u00dccher.example:80/x")[:5] == (
        "http://xn--bcher-kva.example/x", "http", "xn--bcher-kva.example", 80, "xn--bcher-kva.example")
    assert fetch._place("https://[2001:DB8::0:1]:444").url == "https://[2001:db8::1]:444/"


def test_user_and_password_become_basic_authorisation_and_are_never_shown():
    with Peer(ok(), ok(), ok(), b"") as peer:
        for user in ("me:se%3Acret@", "me@"):
            assert get(peer.url.replace("//", f"//{user}")).url == peer.url
        get(peer.url.replace("//", "//me:secret@"), headers={"authorization": "Bearer x"})
        with pytest.raises(FetchError) as caught:
            get(peer.url.replace("//", "//me:secret@"))
    assert [peer.field("Authorization", n) for n in range(3)] == ["Basic bWU6c2U6Y3JldA==", "Basic bWU6", "Bearer x"]
    assert "secret" not in str(caught.value) and "secret" not in refusal("http://me:secret@127.0.0.1:x/")


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status):
    with Peer(moved("/b?c", status), moved("d/../e#f", status), ok()) as peer:
        reply = get(peer.url + "a")
    assert reply.url == peer.url + "e" and reply.body == b"hello"
    assert reply.redirects == ((status, peer.url + "b?c"), (status, peer.url + "e"))
    assert [head.split()[1] for head in peer.heads] == ["/a", "/b?c", "/e"]


def test_at_most_so_many_redirects():
    with Peer(*(moved(f"/{n}") for n in range(5)), ok()) as peer:
        assert len(get(peer.url).redirects) == 5
    with Peer(*(moved(f"/{n}") for n in range(6))) as peer:
        assert refusal(peer.url).startswith(f"over 5 redirects (redirected to {peer.url}5)")
    with Peer(moved("/x")) as peer:
        assert refusal(peer.url, limits=QUICK._replace(redirects=0)).startswith("over 0 redirects")


def test_a_loop_is_named_as_such():
    with Peer(moved("/b"), moved("/a#x")) as peer:
        assert refusal(peer.url + "a").startswith("redirect loop")
    with Peer(moved("")) as peer:
        assert refusal(peer.url) == "redirects without saying where to"


@pytest.mark.parametrize("to, reason", [
    ("file:///etc/passwd", "redirects to file:"), ("javascript:x", "redirects to javascript:"), ("http://[::1", ""),
    ("gopher://127.0.0.1/", "redirects to gopher:"), ("http://:80/", "names no host"),
    ("http://127.0.0.1:99999/", "port"),
    ("/a\x00b", "control"), ("http://nosuchname.invalid/", "name"), ("/" + "a" * 5000, "over 4,096 characters")])
def test_where_a_redirect_may_not_lead(to, reason):
    with Peer(moved(to)) as peer:
        assert reason in refusal(peer.url)


def test_a_location_with_spaces_and_bare_utf8():
    with Peer(moved("/a b\u00c3\u00a9"), ok()) as peer:
        assert get(peer.url).url == peer.url + "a%20b%C3%A9"


def test_secrets_and_validators_do_not_reach_another_host():
    secrets = {"Cookie": "a=b", "X-Api-Key": "k", "User-Agent": "me", "Accept": "text/xml"}
    with Peer(ok(), host="127.0.0.2") as other, Peer(moved("/b"), moved(other.url)) as peer:
        get(peer.url.replace("//", "//me:secret@"), headers=secrets, etag='"e"', modified="m")
    assert peer.field("Authorization", 0) == peer.field("Authorization", 1) == "Basic bWU6c2VjcmV0"
    assert peer.field("X-Api-Key", 1) == "k" and peer.field("If-None-Match", 0) == '"e"'
    assert "If-" not in peer.heads[1] and other.field("User-Agent") == "me" and other.field("Accept") == "text/xml"
    assert not re.search("(?i)authorization|cookie|key|if-", other.heads[0])


def test_another_port_is_another_host_and_secrets_do_not_come_back():
    with Peer(ok()) as third, Peer(moved(third.url)) as peer:
        get(peer.url.replace("//", "//me:secret@"))
    assert third.field("Authorization") is None
    http, https = fetch._place("http://a.example/"), fetch._place("https://a.example/")
    assert fetch._fields_for_next({"authorization": "x"}, http, https) == {"authorization": "x"}
    assert fetch._fields_for_next({"authorization": "x"}, https, http) == {}
    assert fetch._fields_for_next({"authorization": "x"}, http, fetch._place("http://u:p@b.example/")) == {
        "authorization": "Basic dTpw"}


# Addresses


@pytest.mark.parametrize("address", """0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9
    169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.200 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1
    203.0.113.1
    224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b::10.1.1.1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:c0a8:101::1 3fff::1
    5f00::1
    fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 4000::1""".split())
def test_addresses_that_are_not_public(address):
    assert not dial.is_public(address)


@pytest.mark.parametrize("address", """1.1.1.1 93.184.216.34 172.32.0.1 100.128.0.1 2606:4700::1111 2a00:1450::1
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1""".split())
def test_addresses_that_are_public(address):
    assert dial.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "127.0.0.1.",
                                  "[::ffff:7f00:1]", "0.0.0.0", "\uff11\uff12\uff17.0.0.1"])
def test_private_addresses_are_refused_however_they_are_written(host):
    with Peer() as peer:
        url = peer.url.replace("127.0.0.1", host)
        reason = refusal(url, private=False)
    if host == "127.0.0.1":
        assert reason == "refused: 127.0.0.1 is a private address (private = allow lets it in)"
    assert reason.startswith("refused: ") or host == "127.0.0.1." and reason.startswith("name")


# Encodings


HELD = bytes(3 * fetch.PIECE + 100)
HELD_BACK = raw_deflate(HELD)  # zlib has read its last byte before the last of what it holds is out


@pytest.mark.parametrize("encoding, packed, body", [
    ("gzip", PACKED, BOOK), ("x-gzip", PACKED, BOOK), ("GZIP", PACKED, BOOK), ("identity", BOOK, BOOK),
    ("", BOOK, BOOK), ("deflate", zlib.compress(BOOK), BOOK), ("deflate", raw_deflate(BOOK), BOOK),
    ("deflate", HELD_BACK, HELD), ("deflate", zlib.compress(b"a") + b"junk", b"a"),
    ("gzip", PACKED + gzip.compress(b"") + PACKED, BOOK + BOOK), ("gzip", PACKED + bytes(99), BOOK), ("gzip", b"", b""),
    ("gzip", gzip.compress(bytes(fetch.PIECE * 4)), bytes(fetch.PIECE * 4)), ("deflate", b"", b""),
    ("gzip", gzip.compress(b"a") * fetch.MEMBERS, b"a" * fetch.MEMBERS)], ids=lambda value: repr(value)[:20])
def test_encodings(encoding, packed, body):
    field = f"Content-Encoding: {encoding}"
    with Peer(ok(packed, field), HEAD + field.encode() + b"\r\n\r\n" + packed) as peer:
        for reply in (get(peer.url), get(peer.url)):
            assert reply.body == body and reply.transferred == len(packed)


@pytest.mark.parametrize("encoding, packed, reason", [
    ("br", b"x", "unknown content encoding br"), ("gzip, gzip", PACKED, "unknown content encoding gzip, gzip"),
    ("gzip", PACKED[:-1], "its compressed body is cut short"), ("gzip", PACKED[:5], "its compressed body is cut short"),
    ("gzip", PACKED[:-8] + b"12345678", "its compressed body is corrupt"),
    ("gzip", BOOK, "its compressed body is corrupt"), ("gzip", PACKED + b"junk", "its compressed body is corrupt"),
    ("deflate", zlib.compress(BOOK)[:-1], "cut short"),
    ("deflate", raw_deflate(BOOK)[:-9], "cut short"), ("deflate", b"\xff\xff\xff", "corrupt"),
    ("gzip", gzip.compress(b"") * (fetch.MEMBERS + 1), "its body has over 1,000 gzip members")],
    ids=lambda value: repr(value)[:20])
def test_encodings_that_are_refused(encoding, packed, reason):
    with Peer(ok(packed, f"Content-Encoding: {encoding}")) as peer:
        assert refusal(peer.url).endswith(reason)
