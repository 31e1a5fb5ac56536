"""penny.core.web under load, over real sockets: clients that are slow, many or never done, and what each may use up."""
from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time

import pytest

from penny.core import web
from penny.core.web import Limits
from support import until
from web_support import BIG, gate_fixture, serve_fixture  # noqa: F401 (fixtures)

QUICK = Limits(head=0.3, body=0.3, idle=0.3, stall=0.3, linger=0.2, tick=0.05)


def web_threads():
    return [thread for thread in threading.enumerate() if thread.name == "web"]


def test_bodies_together_are_bounded(serve, gate):
    house = serve(gate.route()._replace(methods=("POST",)), limits=Limits(bodies=25000))
    waiting = [house.client().ask("/gate", "Content-Length: 10000", method="POST") for _ in range(2)]
    time.sleep(0.1)
    client = house.client().ask("/echo", method="POST", body=b"x" * 10000)
    assert client.answer()[0] == 200, "the body that took longest has made room"
    assert waiting[0].gone()
    waiting[1].send(b"x" * 10000)
    house.client().ask("/gate", method="POST", body=b"x" * 10000)
    time.sleep(0.2)
    client = house.client().ask("/echo", method="POST", body=b"x" * 10000)
    assert client.answer()[0] == 503 and client.ended(), "bodies that are worked on are never dropped"
    gate.set()
    assert waiting[1].answer()[0] == 200
    assert until(lambda: house.client().ask("/echo", method="POST", body=b"x" * 10000).answer()[0] == 200)


def test_unsent_answers_together_are_bounded(serve):
    house = serve(limits=Limits(unsent=60 << 20))
    first = house.client(receive_buffer=4096).ask("/big")
    first.socket.recv(1)
    assert len(house.get("/big")[2]) == len(BIG)
    assert first.gone()


def drip(client, data) -> float:
    """Send a little again and again; returns after how many seconds the server had enough of it."""
    begun = time.monotonic()
    while not select.select([client.socket], [], [], 0.05)[0]:
        assert time.monotonic() - begun < 2, "the server never has enough"
        client.send(data)
    return time.monotonic() - begun


def test_the_deadline_of_a_head_is_absolute(serve):
    house = serve(limits=QUICK)
    client = house.client().send(b"GET /page HTTP/1.1\r\nX: ")
    assert 0.2 < drip(client, b"x") < 0.8
    status, fields, _ = client.answer()
    assert (status, fields["connection"]) == (408, "close")
    begun = time.monotonic()
    assert house.client().ended() and time.monotonic() - begun < 0.8, "who says nothing is not answered"
    client = house.client().ask()
    client.answer()
    assert client.send(b"GET ").answer()[0] == 408, "the second head has a deadline, too"


def test_the_deadline_of_a_body_is_absolute(serve):
    client = serve(limits=QUICK).client().ask("/echo", "Content-Length: 100", method="POST")
    assert 0.2 < drip(client, b"x") < 0.8
    assert client.answer()[0] == 408


def test_a_route_may_take_longer_than_any_client(serve, gate):
    client = serve(gate.route(), limits=QUICK).client().ask("/gate")
    time.sleep(0.5)
    gate.set()
    assert client.answer()[2] == b"<p>opened"


def test_idle_connections_end_and_used_ones_stay(serve):
    house = serve(limits=QUICK)
    idle, used = house.client().ask(), house.client()
    idle.answer()
    for _ in range(6):
        assert used.ask().answer()[0] == 200
        time.sleep(0.1)
    assert idle.ended()


def test_who_does_not_read_is_dropped_and_who_reads_slowly_is_not(serve):
    house = serve(limits=QUICK._replace(unsent=200 << 20))
    stalled, slow = (house.client().ask("/big") for _ in range(2))
    for _ in range(6):
        slow.buffer += slow.more()
        time.sleep(0.1)
    assert len(slow.answer()[2]) == len(BIG)
    assert stalled.gone()


def test_who_never_closes_is_closed(serve):
    client = serve(limits=QUICK).client().ask("/page", "Connection: close")
    assert client.answer()[0] == 200 and client.ended()
    with pytest.raises(OSError):
        for _ in range(100):
            client.send(b"x")
            time.sleep(0.02)


def test_cheap_routes_answer_while_the_threads_hang(serve, gate):
    house = serve(gate.route())
    assert not web_threads(), "no thread before it is needed"
    waiting = [house.client().ask("/gate")]
    until(web_threads)
    assert len(web_threads()) == 1
    assert [house.get("/slow")[0] for _ in range(5)] == [200] * 5
    assert len(web_threads()) == 2, "nor more than are at work"
    waiting += [house.client().ask("/gate") for _ in range(7)]
    begun = time.monotonic()
    assert house.get("/page")[0] == house.get("/health")[0] == 200
    assert time.monotonic() - begun < 0.25
    until(lambda: len(web_threads()) == web.THREADS)
    gate.set()
    assert [client.answer()[0] for client in waiting] == [200] * 8
    assert len(web_threads()) == web.THREADS
    house.end()
    assert not web_threads()


def test_slow_readers_pin_no_thread(serve):
    house = serve(limits=Limits(unsent=1 << 30, stop=0.1))
    for _ in range(8):
        house.client(receive_buffer=4096).ask("/big")
    begun = time.monotonic()
    assert house.get("/slow")[0] == 200
    assert time.monotonic() - begun < 0.5


def test_a_full_house_lets_the_new_visitor_in(serve, gate):
    house = serve(gate.route(), limits=Limits(connections=3, tick=0.1))
    busy = house.client().ask("/gate")
    idle = house.client().ask()
    idle.answer()
    begun = house.client().send(b"GET /")
    time.sleep(0.1)
    assert house.get()[0] == 200
    assert idle.ended(), "first the longest idle"
    second = house.client().send(b"GET /")  # takes the place of the visitor above
    time.sleep(0.1)
    assert house.get()[0] == 200
    assert begun.ended(), "then the oldest unfinished head"
    third = [house.client().ask("/gate") for _ in range(2)]
    time.sleep(0.1)
    assert second.ended()
    late = house.client().ask()
    late.socket.settimeout(0.3)
    with pytest.raises(socket.timeout):
        late.answer()
    gate.set()
    late.socket.settimeout(5)
    assert [client.answer()[0] for client in (busy, *third, late)] == [200] * 4


def test_without_descriptors_it_waits_and_does_not_spin(serve):
    house = serve(limits=Limits(tick=0.2))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    visitors = [socket.socket() for _ in range(3)]
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        for visitor in visitors:
            visitor.settimeout(5)
            visitor.connect(house.address)
            visitor.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for visitor in visitors:
        assert visitor.recv(65536).startswith(b"HTTP/1.1 200 ")
        visitor.close()


def test_thousands_of_idle_and_slow_clients_hinder_nobody(serve):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    idle, needed = 2000, 4400  # both ends are in this process
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip("needs %d descriptors; the hard limit is %d" % (needed, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        house = serve(limits=Limits(stop=0.1))
        request = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
        kept = []
        for _ in range(idle):  # each is answered before the next visits: the backlog holds only 256
            kept.append(house.client().send(request))
            assert kept[-1].socket.recv(65536).startswith(b"HTTP/1.1 200 ")
        house.client(receive_buffer=4096).ask("/big")
        drips = [house.client().send(b"GET /page HTTP/1.1\r\n") for _ in range(20)]
        for number in range(10):
            for client in drips:
                client.send(b"X: y\r\n")
            begun = time.monotonic()
            assert house.get(("/page", "/slow")[number % 2])[0] == 200
            assert time.monotonic() - begun < 0.25
        assert kept[0].ask().answer()[0] == kept[-1].ask().answer()[0] == 200, "and nobody was closed"
        house.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
