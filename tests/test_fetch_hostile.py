"""penny.core.fetch where things go wrong: names that change, servers that are slow, endless or not HTTP, and TLS."""
from __future__ import annotations

import gzip
import random
import shutil
import socket
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from penny.core.fetch import FetchError, Limits
from fetch_support import CHUNKED, HEAD, PACKED, QUICK, Peer
from fetch_support import child, endless, get, moved, ok, raw_deflate, refusal, unread
from fetch_support import certificates_fixture, tls_fixture  # noqa: F401 (fixtures)


# Names and connections


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
    def start(address, answer, port=0):
        listener = socket.create_server((address, port))
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return listener.getsockname()[1]
    public = "93.184.216.34"
    names = socket.socket(type=socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=resolver, args=(names,), daemon=True).start()
    page = b"HTTP/1.1 200 OK\r\n\r\n"
    inside = start("127.0.0.1", page + b"inside")
    port = start("127.0.0.1", page + b"inside")  # who asks again, or goes elsewhere than what was judged, gets there
    start(public, page + b"public", port)
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
        assert refusal("http://%s:%d/" % address) == "no answer within 0.5 s"
        for filler in fillers:
            filler.close()


# Time


SLOW = [
    (endless(b"", b"", 0.1), "no answer within 0.5 s"),
    (endless(HEAD, b"", 0.1), "sent nothing for 0.5 s"),
    (endless(HEAD + b"\r\nabc", b"", 0.1), "sent nothing for 0.5 s"),
    (unread, "no answer within 0.5 s"),
    (endless(b"", b"H", 0.02), "took over 2 s in all"),
    (endless(HEAD, b"a: b\r\n", 0.02), "took over 2 s in all"),
    (endless(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.02), "took over 2 s in all"),
    (endless(b"", b"HTTP/1.1 103 Hm\r\n\r\n", 0.02), "took over 2 s in all"),
    (endless(CHUNKED, b"1\r\nx\r\n", 0.02), "took over 2 s in all"),
    (endless(CHUNKED + b"0\r\n", b"a: b\r\n", 0.02), "took over 2 s in all"),
]


@pytest.mark.slow
def test_a_slow_server_is_left_in_time():
    def leave(case):
        answer, reason = case
        with Peer(answer) as peer:
            start = time.monotonic()
            return refusal(peer.url), reason, time.monotonic() - start

    with ThreadPoolExecutor(len(SLOW)) as pool:
        for said, reason, seconds in pool.map(leave, SLOW):
            assert said == reason and seconds < 4


def test_a_server_that_never_reads_a_long_request():
    with Peer(unread) as peer:
        assert refusal(peer.url, headers={"X": "x" * 20_000_000}) == "no answer within 0.5 s"


def test_the_time_in_all_includes_the_redirects():
    def slow(to):
        def answer(peer, connection):
            peer.stop.wait(0.3)
            connection.sendall(moved(to))
        return answer
    with Peer(slow("/b"), slow("/c"), slow("/d")) as peer:
        said = refusal(peer.url, limits=QUICK._replace(total=0.8))
        assert said == f"took over 0.8 s in all (redirected to {peer.url}c)"
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


@pytest.mark.slow
def test_tls_failures_are_one_line(tls):
    def plain(peer, connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Not TLS\r\n\r\n")
    plain.unread = True
    with Peer(plain) as peer, Peer(unread) as silent:
        assert refusal(peer.url.replace("http:", "https:")).startswith("TLS failed: ")
        assert refusal(silent.url.replace("http:", "https:")) == "no answer within 0.5 s"
    with Peer(endless(HEAD + b"Content-Length: 9999\r\n\r\n", b"x", 0.02), tls=tls("here")) as peer:
        assert refusal(peer.url) == "took over 2 s in all"


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
