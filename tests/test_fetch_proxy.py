"""penny.core.fetch behind a proxy: a small real one that looks up names itself, tinyproxy, and some that misbehave."""
from __future__ import annotations

import os
import re
import select
import shutil
import socket
import socketserver
import subprocess
import threading
import time

import pytest

import penny
from penny.core import dial, fetch
from penny.core.fetch import Limits
from fetch_support import HEAD, QUICK, Peer, child, endless, get, moved, ok, refusal, unread
from fetch_support import certificates_fixture, tls_fixture  # noqa: F401 (fixtures)
from support import free_port, until

HTTP, HTTPS = "http://news.example", "https://elsewhere.example"
PLACES = "news.example:80", "elsewhere.example:443"
SHORT = QUICK._replace(connect=0.2, idle=0.1)


class Proxy:
    """Relays requests in absolute form, and what goes through the tunnels that CONNECT asks for.

    `hosts` is its own name server and says where each host and port is; one that is not there fails the test. `heads` are
    the heads of what it was asked. Where there is a `pass_phrase`, whoever does not give it gets status 407.
    """

    def __init__(self, pass_phrase="", challenge="Basic realm=lab", **hosts):
        self.pass_phrase, self.challenge, self.hosts, self.heads, self.unexpected = pass_phrase, challenge, hosts, [], []
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                proxy.relay(self.request)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.address = "%s:%d" % self.server.server_address
        self.url = "http://" + self.address
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *rest):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        if kind is None:
            assert self.unexpected == [], "asked for a host that no test foresaw"

    def relay(self, client):
        client.settimeout(5)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        head = head.decode("latin-1")
        self.heads.append(head)
        if self.pass_phrase and "\r\nProxy-Authorization: Basic %s\r\n" % self.pass_phrase not in head:
            client.sendall(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: %s\r\n\r\n" % self.challenge.encode())
            return
        host, target = re.match(r"(?:CONNECT |GET http://)([^ /]+)(\S*) HTTP/1\.1\r\n", head).groups()
        host = host if re.search(r":\d+$", host) else host + ":80"
        if host not in self.hosts:
            self.unexpected.append(host)
            return
        address, port = self.hosts[host].split(":")
        with socket.create_connection((address, int(port)), 5) as server:
            if head.startswith("CONNECT "):
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                rest = re.sub(r"\r\nProxy-Authorization: .*", "", head.partition("\r\n")[2])
                server.sendall(f"GET {target} HTTP/1.1\r\n{rest}".encode("latin-1"))
            pump(client, server)


def pump(one, other):
    """What each of the two sends to the other one, until either ends."""
    try:
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (other if ready is one else one).sendall(data)
    except OSError:
        pass  # the client has left


@pytest.fixture
def behind(monkeypatch):
    """Sets both variables to a proxy's URL, and others as given."""
    def set_variables(url, **more):
        for name, value in {"http_proxy": url, "https_proxy": url, **more}.items():
            monkeypatch.setenv(name, value)
    return set_variables


# What is sent to whom


def test_http_asks_the_proxy_for_the_whole_url(behind):
    with Peer(ok()) as peer, Proxy(**{"news.example:80": peer.address}) as proxy:
        behind(proxy.url)
        reply = get(HTTP + "/feed?a=b#c", private=False, headers={"Accept": "text/xml"})
    assert (reply.body, reply.url) == (b"hello", HTTP + "/feed?a=b")
    assert proxy.heads == [f"GET {HTTP}/feed?a=b HTTP/1.1\r\nHost: news.example\r\nUser-Agent: penny/{penny.__version__}\r\n"
                           "Accept: text/xml\r\nAccept-Encoding: gzip, deflate\r\nConnection: close\r\n\r\n"]
    assert peer.heads[0].startswith("GET /feed?a=b HTTP/1.1\r\nHost: news.example\r\n")


def test_https_goes_through_a_tunnel(behind, tls):
    with Peer(ok(), ok(), tls=tls("there")) as peer:
        with Proxy(**{"elsewhere.example:443": peer.address, "elsewhere.example:8443": peer.address}) as proxy:
            behind(proxy.url)
            assert get(HTTPS.replace("//", "//me:secret@") + "/feed", private=False).body == b"hello"
            assert get(HTTPS + ":8443/", private=False, headers={"Cookie": "a=b"}).body == b"hello"
    assert proxy.heads == [f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: penny/{penny.__version__}\r\n\r\n"
                           for host in ("elsewhere.example:443", "elsewhere.example:8443")]
    assert peer.heads[0].startswith("GET /feed HTTP/1.1\r\nHost: elsewhere.example\r\n")
    assert peer.field("Authorization", 0) and peer.field("Cookie", 1) == "a=b"


def test_the_name_at_the_end_of_the_tunnel_is_verified(behind, tls):
    with Peer(ok(), tls=tls("there")) as peer, Proxy(**{"news.example:443": peer.address}) as proxy:
        behind(proxy.url)
        assert refusal("https://news.example/", private=False) == "its certificate is for another name"


def test_the_proxys_password_goes_to_the_proxy_only(behind, tls):
    phrase = "bWU6c2U6Y3JldA=="  # me:se:cret
    with Peer(ok(), ok()) as plain, Peer(ok(), tls=tls("there")) as secret:
        with Proxy(phrase, **dict(zip(PLACES, (plain.address, secret.address)))) as proxy:
            behind(proxy.url.replace("//", "//me:se%3Acret@"), no_proxy="127.0.0.1")
            for url in (HTTP, HTTPS, plain.url):
                assert get(url, headers={"Authorization": "Bearer x"}).status == 200
    assert len(proxy.heads) == 2 and "Bearer" not in proxy.heads[1]
    assert not re.search("(?i)proxy-", "".join(plain.heads + secret.heads))


@pytest.mark.parametrize("url", [HTTP, HTTPS])
def test_a_proxy_that_wants_a_password(behind, url):
    variable = url.partition(":")[0] + "_proxy"
    with Proxy("x") as proxy:
        behind(proxy.address)
        assert refusal(url) == (f"the proxy {proxy.address} asks for a password: "
                                f"set {variable} to http://USER:PASSWORD@{proxy.address}")
        behind(f"http://me:secret@{proxy.address}/")
        assert refusal(url) == f"the proxy {proxy.address} does not accept the user and password in {variable}"
    with Proxy("x", "Digest realm=x, Negotiate") as proxy:
        behind(proxy.url)
        assert refusal(url).endswith("asks for a password in another way than Basic, the only one that penny knows")


def test_a_407_of_the_host_itself_is_a_reply(behind, tls):
    answer = b"HTTP/1.1 407 Who\r\n\r\n"
    with Peer(answer) as peer:
        assert get(peer.url).status == 407
    with Peer(answer, tls=tls("there")) as peer, Proxy(**{"elsewhere.example:443": peer.address}) as proxy:
        behind(proxy.url)
        assert get(HTTPS).status == 407


# Which proxy


@pytest.mark.parametrize("url, variables, expected", [
    (HTTP, {}, None), (HTTP, {"http_proxy": "p:1"}, "p:1"), (HTTP, {"https_proxy": "p:1"}, None),
    (HTTPS, {"https_proxy": "p:1"}, "p:1"), (HTTPS, {"http_proxy": "p:1"}, None), (HTTP, {"all_proxy": "p:1"}, None),
    (HTTP, {"http_proxy": "HTTP://P/x?y"}, "p"), (HTTP, {"http_proxy": "http://[::1]:3128"}, "[::1]:3128"),
    (HTTP, {"HTTP_PROXY": "p:1"}, "p:1"), (HTTP, {"HTTP_PROXY": "p:1", "http_proxy": "q:1"}, "q:1"),
    (HTTP, {"HTTP_PROXY": "p:1", "http_proxy": ""}, None), (HTTPS, {"HTTPS_PROXY": "p:1"}, "p:1"),
    (HTTP, {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, None),  # set by a client's header "Proxy:" (httpoxy)
    (HTTP, {"http_proxy": "p:1", "REQUEST_METHOD": "GET"}, "p:1"),
    *[(HTTP, {"http_proxy": "p:1", "no_proxy": names}, None) for names in (
        "*", "news.example", "x, .EXAMPLE", "example", "news.example:80")],
    *[(HTTP, {"http_proxy": "p:1", "no_proxy": names}, "p:1") for names in (
        "", "ws.example", "news.example:81", "a.news.example")],
    (HTTP + "./", {"http_proxy": "p:1", "NO_PROXY": "news.example"}, None),
    ("http://[::1]:8080/", {"http_proxy": "p:1", "no_proxy": "[::1]"}, None),
    ("http://[2001:db8::1]/", {"http_proxy": "p:1", "no_proxy": "[::1]"}, "p:1")])
def test_which_proxy_the_environment_names(monkeypatch, url, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = fetch._proxy(fetch._place(url))
    assert (found and found.authority) == expected


@pytest.mark.parametrize("value, reason", [
    ("socks5://p:1080", "it is not of the form http://HOST:PORT"), ("https://p", "it is not of the form http://HOST:PORT"),
    ("file:///secret", "it is not of the form http://HOST:PORT"), (" http://p", "it is not of the form http://HOST:PORT"),
    ("http://", "the URL names no host"), (":3128", "the URL names no host"),
    ("http://me:secret@p:99999", "the URL's host or port cannot be read"),
    ("http://me:secret@[::1", "the URL's host or port cannot be read"), ("p:port", "the URL's host or port cannot be read"),
    ("p q", "the URL has a space or a control character in it"),
    ("p\r\nX: y", "the URL has a space or a control character in it"),
    ("http://" + "p" * 5000, "the URL has over 4,096 characters")])
def test_a_proxy_that_cannot_be_used(behind, value, reason):
    behind(value)
    assert refusal(HTTP) == "cannot use http_proxy of the environment: " + reason
    assert refusal(HTTPS) == "cannot use https_proxy of the environment: " + reason


def test_every_hop_chooses_anew(behind):
    with Peer(moved(HTTP + "/b")) as direct, Peer(moved(direct.url), ok()) as named:
        with Proxy(**{"news.example:80": named.address}) as proxy:
            behind(proxy.url, no_proxy="127.0.0.1")
            assert get(HTTP + "/a").url == HTTP + "/b"
    assert len(direct.heads) == 1 and [head.split()[1] for head in proxy.heads] == [HTTP + "/a", HTTP + "/b"]


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", ""])
def test_every_hop_is_judged_anew(behind, no_proxy):
    with Peer() as inside, Peer(moved(inside.url)) as peer, Proxy(**{"news.example:80": peer.address}) as proxy:
        behind(proxy.url, no_proxy=no_proxy)
        assert refusal(HTTP, private=False).startswith("refused: 127.0.0.1 is a private address")


def test_what_no_proxy_names_is_looked_up_and_judged_here(behind):
    with Peer() as inside, Proxy() as proxy:
        behind(proxy.url, no_proxy="localhost")
        url = inside.url.replace("127.0.0.1", "localhost")
        assert re.match(r"refused: \S*1 is a private address", refusal(url, private=False))


def test_only_the_proxy_is_looked_up_and_without_one_nothing_is_loaded():
    """Seen from inside the interpreter, by its audit events."""
    script = """
        import sys
        from penny.core import fetch
        def hook(event, args):
            if event.startswith("socket.getaddr") or event.startswith("socket.gethost"):
                print(args[0].decode())
        sys.addaudithook(hook)
        fetch.get(%r, private=%s)
        print("urllib.request" in sys.modules)
        """
    with Peer(ok(), ok()) as peer, Proxy(**{"news.example:80": peer.address}) as proxy:
        assert child(script % (peer.url, True)) == ["127.0.0.1", "False"]
        assert child(script % (HTTP, False), http_proxy=proxy.url.replace("127.0.0.1", "localhost")) == ["localhost", "True"]


# Private addresses: what can be kept out when the proxy looks up the names


@pytest.mark.parametrize("host", """127.0.0.1 10.1.2.3 169.254.169.254 0.0.0.0 127.0.0.1. 2130706433 0x7f.1 127.1 010.0.0.1
    0x7f000001 8.8.8.010 134744072 256.1.1.1 [::1] [::ffff:7f00:1] [fe80::1] [64:ff9b::7f00:1] \uff11\uff12\uff17.0.0.1
    localhost LOCALHOST. a.localhost localhost.localdomain printer nas.local nas.local. db.internal internal. router.home.arpa
    ip6-localhost""".split())
def test_hosts_that_are_private_by_their_letters(behind, host):
    with Proxy() as proxy:
        behind(proxy.url)
        for url in (f"http://{host}/", f"https://{host}:8443/"):
            assert re.fullmatch(r"refused: .* is a private (name|address|address, or an odd form of one) "
                                r"\(private = allow lets it in\)", refusal(url, private=False))
    assert proxy.heads == []


@pytest.mark.parametrize("host", """1.1.1.1 [2606:4700::1111] news.example news.example. localhost.example xn--bcher-kva.example
    home.example 1.news.x1 local.0x-y news.nonlocal""".split())
def test_hosts_that_may_be_public(host):
    dial.judge_unresolved(host.strip("[]"))


def test_private_hosts_when_they_are_allowed(behind):
    with Peer(ok()) as peer, Proxy(**{"nas.local:80": peer.address}) as proxy:
        behind(proxy.url)
        assert get("http://nas.local/", private=True).body == b"hello"


# A proxy that is not there, not one, slow or endless


@pytest.mark.parametrize("url", [HTTP, HTTPS])
def test_a_proxy_that_cannot_be_reached(behind, url):
    port = free_port()
    behind(f"http://me:secret@127.0.0.1:{port}")
    assert refusal(url) == f"the proxy 127.0.0.1:{port}: connection refused"
    behind("http://nosuchname.invalid:3128")
    assert refusal(url).startswith("the proxy nosuchname.invalid:3128: name ")


TUNNEL = b"HTTP/1.1 200 Connected\r\n"


@pytest.mark.parametrize("answer, reason", [
    (b"", ": closed the connection without an answer"), (b"SSH-2.0-OpenSSH_9\r\n", ": not HTTP"),
    (b"HTTP/1.1 502 Bad\r\nContent-Length: 9\r\n\r\nno such h", " does not connect to elsewhere.example (status 502)"),
    (b"HTTP/1.1 302 Log in\r\nLocation: http://127.0.0.1/\r\n\r\n", " does not connect to elsewhere.example (status 302)"),
    (endless(b"", b"HTTP/1.1 100 Hm\r\n\r\n" * 99), ": its head is over 262144 bytes"),
    (endless(TUNNEL, b"a: b\r\n" * 99), ": not HTTP: got more than 100 headers"),
    (endless(TUNNEL, b"a: " + b"b" * 60000 + b"\r\n"), ": its head is over 262144 bytes")],
    ids="end ssh 502 302 100 fields size".split())
def test_a_proxy_that_misbehaves_before_the_tunnel_stands(behind, answer, reason):
    with Peer(answer) as peer:
        behind(peer.url)
        assert refusal(HTTPS) == f"the proxy {peer.address}{reason}"


@pytest.mark.parametrize("answer, reason", [
    (endless(b"", b"H", 0.02), "no answer within 0.2 s"), (unread, "no answer within 0.1 s"),
    pytest.param(endless(TUNNEL, b"", 0.1), "sent nothing for 0.1 s", marks=pytest.mark.slow),
    pytest.param(endless(TUNNEL, b"a: b\r\n", 0.02), "no answer within 0.2 s", marks=pytest.mark.slow),
    pytest.param(endless(b"", b"HTTP/1.1 103 Hm\r\n\r\n", 0.02), "no answer within 0.2 s", marks=pytest.mark.slow)],
    ids="drip silent head field 103".split())
def test_a_proxy_that_is_slow_to_make_a_tunnel(behind, answer, reason):
    with Peer(answer) as peer:
        behind(peer.url)
        began = time.monotonic()
        assert refusal(HTTPS, limits=SHORT) == f"the proxy {peer.address}: {reason}"
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("more, reason", [
    (b"HTTP/1.1 200 OK\r\n\r\nhello", "TLS failed: "), (b"", "no answer within 0.2 s")], ids=["plain", "silent"])
def test_a_proxy_that_answers_in_the_hosts_stead(behind, tls, more, reason):
    def answer(peer, connection):
        connection.sendall(TUNNEL + b"\r\n")
        connection.recv(9999)
        connection.sendall(more)
        peer.stop.wait(5)
    with Peer(answer) as peer:
        behind(peer.url)
        assert refusal(HTTPS, limits=SHORT).startswith(reason)


def test_the_bounds_hold_for_what_is_relayed(behind):
    with Peer(endless(HEAD + b"\r\n", b"x" * 10000), endless(HEAD, b"a: b\r\n", 0.02)) as peer:
        behind(peer.url)
        assert refusal(HTTP, limits=Limits(body=100_000)) == "sent over 100000 bytes"
        assert refusal(HTTP, limits=QUICK._replace(total=0.3)) == "took over 0.3 s in all"


# A real peer


@pytest.fixture
def tinyproxy(tmp_path):
    """The address of a tinyproxy that wants a password, me:secret, and connects to the ports in `allowed` only."""
    if not shutil.which("tinyproxy"):
        pytest.skip("no tinyproxy command (on Debian: apt-get install tinyproxy)")
    started = []

    def start(*allowed):
        port = free_port()
        (tmp_path / "conf").write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 5\nBasicAuth me secret\n" + "".join(
            f"ConnectPort {one}\n" for one in allowed))
        started.append(subprocess.Popen(["tinyproxy", "-d", "-c", tmp_path / "conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}))
        until(lambda: socket.create_connection(("127.0.0.1", port)).close() or True, what="tinyproxy")
        return f"127.0.0.1:{port}"
    yield start
    for one in started:
        one.terminate()
        one.wait(5)


@pytest.mark.slow
def test_behind_tinyproxy(behind, tls, tinyproxy):
    with Peer(ok(), ok()) as plain, Peer(ok(), tls=tls("here")) as secret, Peer(tls=tls("here")) as other:
        address = tinyproxy(secret.address.split(":")[1])
        behind(f"http://me:secret@{address}")
        assert get(plain.url + "feed").body == get(plain.url.replace("127.0.0.1", "localhost")).body == b"hello"
        assert get(secret.url).body == b"hello"
        assert refusal(other.url) == f"the proxy {address} does not connect to {other.address} (status 403)"
        behind(f"http://me:secreT@{address}")
        assert refusal(secret.url) == f"the proxy {address} does not accept the user and password in https_proxy"
        assert get(plain.url).status == 401  # which the host might have said as well
        behind(f"http://{address}")
        for url in (plain.url, secret.url):
            assert refusal(url).startswith(f"the proxy {address} asks for a password: set ")
    assert plain.heads[0].startswith("GET /feed HTTP/1.") and plain.field("Via", 0)
    assert not re.search("(?i)proxy-auth", "".join(plain.heads + secret.heads))
