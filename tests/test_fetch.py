"""penny.core.fetch against small real servers on loopback, each of which fails the test on a connection too many."""
from __future__ import annotations

import gzip
import os
import random
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

import penny
from penny.core import fetch
from penny.core.fetch import FetchError, Limits

QUICK = Limits(connect=0.4, idle=0.4, total=0.8)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(penny.__file__)))


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
    ("", "a"), ("X", "\u20ac"), ("X:", "a"), ("X\n", "a")])
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
    assert not fetch.is_public(address)


@pytest.mark.parametrize("address", """1.1.1.1 93.184.216.34 172.32.0.1 100.128.0.1 2606:4700::1111 2a00:1450::1
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1""".split())
def test_addresses_that_are_public(address):
    assert fetch.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "127.0.0.1.",
                                  "[::ffff:7f00:1]", "0.0.0.0", "\uff11\uff12\uff17.0.0.1"])
def test_private_addresses_are_refused_however_they_are_written(host):
    with Peer() as peer:
        url = peer.url.replace("127.0.0.1", host)
        reason = refusal(url, private=False)
    if host == "127.0.0.1":
        assert reason == "refused: 127.0.0.1 is a private address (private = allow lets it in)"
    assert reason.startswith("refused: ") or host == "127.0.0.1." and reason.startswith("name")


def test_one_look_up_and_a_connection_to_what_it_found():
    """Seen from inside the interpreter, by its audit events."""
    with Peer(moved("/b"), ok()) as peer:
        seen = child(f"""
            import sys
            from penny.core import fetch
            def hook(event, args):
                if event in ("socket.getaddrinfo", "socket.gethostbyname"):
                    print(event, args[0].decode())
                if event == "socket.connect":
                    print(event, args[1][0])
            sys.addaudithook(hook)
            fetch.get({peer.url.replace("127.0.0.1", "localhost")!r}, private=True)
            """)
    seen = [(event, where) for event, where in zip(seen[::2], seen[1::2]) if where != "::1"]
    assert seen == [("socket.getaddrinfo", "localhost"), ("socket.connect", "127.0.0.1")] * 2


NAMES = r"""
    import socket, threading, time
    from penny.core import fetch
    asked = []
    def resolver(sock):
        while True:
            query, client = sock.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            name, kind = query[13:13 + query[12]].decode(), query[end - 3]
            found = []
            if kind == 1:
                asked.append(name)
                found = {"rebind": [public if asked.count(name) == 1 else "127.0.0.1"], "mixed": ["127.0.0.1", public],
                         "two": ["127.0.0.8", "127.0.0.9"]}.get(name, [])
            if name != "silent":
                records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address) for address in found)
                code = b"\x81\x80" if found or name in ("rebind", "mixed", "two") else b"\x81\x83"
                sock.sendto(query[:2] + code + b"\0\1\0%c\0\0\0\0" % len(found) + query[12:end] + records, client)
    def serve(listener, answer):
        while True:
            connection = listener.accept()[0]
            connection.recv(9999)
            connection.sendall(answer)
            connection.close()
    def start(address, answer):
        listener = socket.create_server((address, 0))
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return listener.getsockname()[1]
    public = "93.184.216.34"
    names = socket.socket(type=socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=resolver, args=(names,), daemon=True).start()
    page = b"HTTP/1.1 200 OK\r\n\r\n"
    inside = start("127.0.0.1", page + b"inside")
    port = start(public, page + b"public")
    eight, nine = start("127.0.0.8", page + b"eight"), start("127.0.0.9", page + b"nine")
    hop = start(public, b"HTTP/1.1 302 Away\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % inside)
    def show(url, **more):
        try:
            print(fetch.get(url, limits=fetch.Limits(connect=0.5), **more).body.decode())
        except fetch.FetchError as error:
            print(error.reason.replace(" ", "_"))
    show(f"http://rebind.test:{port}/")
    print(asked.count("rebind"))
    show(f"http://rebind.test:{port}/")
    show(f"http://mixed.test:{port}/")
    show(f"http://{public}:{hop}/")
    show(f"http://two.test:{eight}/", private=True)
    show(f"http://two.test:{nine}/", private=True)
    def full(address, port):  # whoever connects there hears nothing
        listener = socket.create_server((address, port), backlog=0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        return listener, fillers
    kept = full("127.0.0.9", eight), full("127.0.0.8", nine)
    began = time.monotonic()
    show(f"http://two.test:{eight}/", private=True)
    show(f"http://two.test:{nine}/", private=True)
    print("soon" if time.monotonic() - began < 0.45 else "late")
    show(f"http://missing.test/")
    show(f"http://silent.test/")
    """


def test_with_a_name_server_of_our_own(tmp_path):
    """In namespaces of its own: a public address on loopback, a name server that changes its mind."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions ndots:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    setup = (f"ip link set lo up && ip address add 93.184.216.34/32 dev lo && mount --bind {tmp_path}/resolv.conf "
             f"$(readlink -f /etc/resolv.conf) && mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf")
    command = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", setup + ' && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces for an ordinary user here (unshare, ip and mount are needed)")
    said = child(NAMES, *command)
    assert said[:2] == ["public", "1"]  # the second answer, 127.0.0.1, was never asked for
    assert said[2] == "refused:_127.0.0.1_is_a_private_address_(private_=_allow_lets_it_in)"
    assert said[3] == "public"
    assert said[4].startswith("refused:_127.0.0.1_is_a_private_address")
    assert "(redirected_to_http://127.0.0.1:" in said[4]
    assert said[5:7] == ["eight", "nine"]  # at the address that does not refuse
    assert said[7:10] == ["eight", "nine", "soon"]  # nor is silent, which takes but its share of the time
    assert said[10] == "name_not_found"
    assert said[11] == "name_look-up_took_over_0.5_s"


def test_nobody_there():
    with Peer() as peer:
        pass
    assert refusal(peer.url) == "connection refused"


def test_no_answer_to_connecting():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.05)
        assert refusal("http://%s:%d/" % address) == "no answer within 0.4 s"
        for filler in fillers:
            filler.close()


# Time


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


SLOW = [
    (endless(b"", b"", 0.1), "no answer within 0.4 s"),
    (endless(HEAD, b"", 0.1), "sent nothing for 0.4 s"),
    (endless(HEAD + b"\r\nabc", b"", 0.1), "sent nothing for 0.4 s"),
    (unread, "no answer within 0.4 s"),
    (endless(b"", b"H", 0.02), "took over 0.8 s in all"),
    (endless(HEAD, b"a: b\r\n", 0.02), "took over 0.8 s in all"),
    (endless(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.02), "took over 0.8 s in all"),
    (endless(b"", b"HTTP/1.1 103 Hm\r\n\r\n", 0.02), "took over 0.8 s in all"),
    (endless(CHUNKED, b"1\r\nx\r\n", 0.02), "took over 0.8 s in all"),
    (endless(CHUNKED + b"0\r\n", b"a: b\r\n", 0.02), "took over 0.8 s in all"),
]


def test_a_slow_server_is_left_in_time():
    def leave(case):
        answer, reason = case
        with Peer(answer) as peer:
            start = time.monotonic()
            return refusal(peer.url), reason, time.monotonic() - start

    with ThreadPoolExecutor(len(SLOW)) as pool:
        for said, reason, seconds in pool.map(leave, SLOW):
            assert said == reason and seconds < 1.2


def test_a_server_that_never_reads_a_long_request():
    with Peer(unread) as peer:
        assert refusal(peer.url, headers={"X": "x" * 20_000_000}) == "no answer within 0.4 s"


def test_the_time_in_all_includes_the_redirects():
    def slow(to):
        def answer(peer, connection):
            peer.stop.wait(0.3)
            connection.sendall(moved(to))
        return answer
    with Peer(slow("/b"), slow("/c"), slow("/d")) as peer:
        assert refusal(peer.url) == f"took over 0.8 s in all (redirected to {peer.url}c)"
    assert refusal("http://127.0.0.1/", limits=QUICK._replace(total=0)) == "took over 0 s in all"


# Size


@pytest.mark.parametrize("answer, reason", [
    (endless(HEAD, b"a: b\r\n" * 1000), "not HTTP: got more than 100 headers"),
    (endless(HEAD, b"a" * 10000), "not HTTP: got more than 65536 bytes when reading header line"),
    (endless(HEAD, b"a: " + b"b" * 60000 + b"\r\n"), "its head is over 262144 bytes"),
    (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "its head is over 262144 bytes"),
    (endless(b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 99), "its head is over 262144 bytes"),
    (endless(HEAD + b"\r\n", b"x" * 10000), "sent over 1 MiB"),
    (endless(HEAD + b"Content-Length: 1048577\r\n\r\n", b"", 0.1), "sent over 1 MiB"),
    (endless(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"), "sent over 1 MiB"),
    (endless(CHUNKED, b"fffffffff\r\n" + b"x" * 100000), "sent over 1 MiB"),
    (endless(CHUNKED, b"-5\r\n" + b"x" * 100000), "sent over 1 MiB"),
    (endless(CHUNKED, b"1;" + b"x" * 60000 + b"\r\nx\r\n"), "sent over 1 MiB"),
    (endless(CHUNKED + b"0\r\n", b"a: b\r\n" * 1000), "sent over 1 MiB"),
], ids="fields line head 100 103 body length chunks chunk negative extension trailer".split())
def test_a_server_that_sends_too_much_is_left(answer, reason):
    with Peer(answer) as peer:
        assert refusal(peer.url, limits=Limits(total=5, body=1024 * 1024)).split(" (")[0] == reason


def test_a_body_of_just_the_cap():
    limits = QUICK._replace(body=1000, inflated=1000)
    packed = gzip.compress(b"y" * 1000)
    with Peer(ok(b"x" * 1000), HEAD + b"\r\n" + b"x" * 1000, ok(packed, "Content-Encoding: gzip"), ok(b"x" * 1001),
              HEAD + b"\r\n" + b"x" * 1001, ok(gzip.compress(b"y" * 1001), "Content-Encoding: gzip")) as peer:
        assert get(peer.url, limits=limits).transferred == 1000
        assert get(peer.url, limits=limits).transferred == 1000
        reply = get(peer.url, limits=limits)
        assert (reply.body, reply.transferred) == (b"y" * 1000, len(packed))
        assert [refusal(peer.url, limits=limits) for _ in range(3)] == [
            "sent over 1000 bytes", "sent over 1000 bytes", "inflates to over 1000 bytes"]


def test_memory_stays_bounded():
    """In a process of its own: the most that it ever held, before and after a bomb of 100 MB and an endless body."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(bytes(1_000_000)) for _ in range(100)) + bomb.flush()
    packing = HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10]
    empty_blocks = endless(packing, b"\0\0\0\xff\xff" * 10000)
    with Peer(ok(), ok(packed, "Content-Encoding: gzip"), endless(HEAD + b"\r\n", b"x" * 65536), empty_blocks) as peer:
        said = child(f"""
            import resource
            from penny.core import fetch
            def most():
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            fetch.get({peer.url!r}, private=True)
            before = most()
            for _ in range(3):
                try:
                    fetch.get({peer.url!r}, private=True)
                except fetch.FetchError as error:
                    print(error.reason.replace(" ", "_"))
            print(most() - before)
            """)
    assert said[:3] == ["inflates_to_over_16_MiB", "sent_over_8_MiB", "sent_over_8_MiB"]
    assert int(said[3]) < 20_000  # KiB


# Encodings


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


BOOK = b"".join(b"%d bottles\n" % n for n in range(30000)) + bytes(300_000)
PACKED = gzip.compress(BOOK)
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


# What is not HTTP


@pytest.mark.parametrize("answer, reason", [
    (b"", "closed the connection without an answer"), (b"SSH-2.0-OpenSSH_9\r\n", "not HTTP"),
    (b"HTTP/2 200\r\n\r\n", "not HTTP"), (b"HTTP/1.1 abc\r\n\r\n", "not HTTP"),
    (b"\x15\x03\x01\0\2\2\x46", "not HTTP"), (b"HTTP/1.1 101 Ho\r\n\r\nx", "not HTTP"),
    (HEAD + b"Content-Length: 9\r\n\r\nx", "closed the connection before the end"),
    (CHUNKED + b"5\r\nab", "closed the connection before the end"), (CHUNKED, "closed the connection before the end"),
    (CHUNKED + b"zz\r\nab", "closed the connection before the end, or broke its chunks"),
    (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "unknown transfer encoding gzip, chunked")])
def test_what_cannot_be_read(answer, reason):
    with Peer(answer) as peer:
        assert refusal(peer.url).startswith(reason)


def test_nothing_but_fetch_error_leaves_get():
    seed = random.randrange(10 ** 9)
    print("seed", seed)
    dice = random.Random(seed)
    samples = [ok(PACKED[:200], "Content-Encoding: gzip"), CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
               ok(raw_deflate(b"abc"), "Content-Encoding: deflate", "Set-Cookie: a", "Folded: a\r\n b"),
               moved("http://127.0.0.1:1/\u00e9"), moved("?x", 308)]
    patches = [b"", b"\0", b"\r\n", b"\xff", b"-1", b":", b" ", *(b"%c" % dice.randrange(256) for _ in range(9))]

    def mutated():
        data = bytearray(dice.choice(samples))
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data))
            data[at:at + dice.randrange(3)] = dice.choice(patches)
        return bytes(data)

    replies = 0
    with Peer(*(mutated() for _ in range(500))) as peer:
        while peer.answers:
            try:
                get(peer.url, limits=QUICK._replace(redirects=0))
                replies += 1
            except FetchError as error:
                assert str(error).isprintable()
    assert 0 < replies < 500


# TLS


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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
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


@pytest.fixture
def tls(certificates, monkeypatch):
    """Makes a server's TLS context; the client trusts the authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    def context(name):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificates / f"{name}.pem", certificates / "key.pem")
        return made
    return context


def test_https(tls):
    with Peer(ok(), tls=tls("here")) as peer:
        assert get(peer.url).body == b"hello" and peer.url.startswith("https:")


@pytest.mark.parametrize("name, reason", [
    ("there", "its certificate is for another name"), ("old", "its certificate has expired"),
    ("young", "its certificate is not valid yet (is this machine's clock right?)")])
def test_certificates_that_are_refused(tls, name, reason):
    with Peer(ok(), tls=tls(name)) as peer:
        assert refusal(peer.url) == reason


def test_an_unknown_authority_is_refused_after_it_was_known(tls, monkeypatch):
    with Peer(ok(), ok(), tls=tls("here")) as peer:
        get(peer.url)
        monkeypatch.delenv("SSL_CERT_FILE")
        assert refusal(peer.url).startswith("its certificate is not accepted: ")


def test_no_way_back_from_https(tls):
    with Peer() as plain, Peer(moved(plain.url), tls=tls("here")) as peer, Peer(moved(peer.url)) as first:
        assert refusal(first.url) == f"redirects from https to http (redirected to {peer.url})"


def test_tls_failures_are_one_line(tls):
    def plain(peer, connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Not TLS\r\n\r\n")
    plain.unread = True
    with Peer(plain) as peer, Peer(unread) as silent:
        assert refusal(peer.url.replace("http:", "https:")).startswith("TLS failed: ")
        assert refusal(silent.url.replace("http:", "https:")) == "no answer within 0.4 s"
    with Peer(endless(HEAD + b"Content-Length: 9999\r\n\r\n", b"x", 0.02), tls=tls("here")) as peer:
        assert refusal(peer.url) == "took over 0.8 s in all"


def test_a_python_without_ssl():
    with Peer(ok()) as peer:
        assert child(f"""
            import sys
            sys.modules["ssl"] = None
            from penny.core import fetch
            print(fetch.get({peer.url!r}, private=True).body.decode())
            with __import__("socket").create_server(("127.0.0.1", 0)) as listener:
                try:
                    fetch.get("https://127.0.0.1:%d/" % listener.getsockname()[1], private=True)
                except fetch.FetchError as error:
                    print(error.reason)
            """) == "hello https needs Python's ssl module, which is missing here".split()
