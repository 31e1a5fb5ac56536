"""The collector among hosts that do not want to be asked: many feeds each, and every form of Retry-After."""
from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import fetch_support
from penny import rss
from penny.core.log import Log
from penny.rss import collect, schedule
from penny.stages import items
from support import FakeClock, Publisher, context, rss as rss_of

HOUR = 3600
NOW = 1_800_000_000.0
SETTINGS = SimpleNamespace(interval=float(HOUR), private=True, keep=100, age=0)
FEEDS = 10  # of each host


def date(seconds):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW + seconds))


# What a host says each time, the seconds for which it is left alone at the least, and how often it is asked in six hours:
# each rest is twice as long as the one before.
STORM = {
    "seconds": ({"Retry_After": "7200"}, 2 * HOUR, 2),
    "date": ({"Retry_After": date(7200)}, 2 * HOUR, 3),
    "date by its own clock": ({"Retry_After": date(1e8 + 7200), "Date": date(1e8)}, 2 * HOUR, 2),
    "absent": ({}, HOUR, 3),
    "soon": ({"Retry_After": "1"}, HOUR, 3),
    "past": ({"Retry_After": date(-7200)}, HOUR, 3),
    "negative": ({"Retry_After": "-7200"}, HOUR, 3),
    "absurd": ({"Retry_After": "9999999999"}, schedule.LONGEST_REST, 1),
    "absurd date": ({"Retry_After": "Fri, 31 Dec 9999 23:59:59 GMT"}, schedule.LONGEST_REST, 1),
    "no number": ({"Retry_After": "99999999999999999999"}, HOUR, 3),
    "words": ({"Retry_After": "tomorrow"}, HOUR, 3),
}


class Lab:
    """A collector with a clock that the test turns, and hosts that count what they are asked."""

    def __init__(self, folder):
        self.context = context(folder, FakeClock(NOW))
        self.hosts = {}

    def host(self, name):
        self.hosts[name] = Publisher("127.0.0.%d" % (10 + len(self.hosts)))
        return self.hosts[name]

    def add(self, urls):
        with items.opened(self.context.state_dir, Log("test")) as db:
            items.add_feeds(db, [(url, "") for url in urls], self.context.clock.now)

    def feeds(self, name=""):
        """Those of one host, or all."""
        start = self.hosts[name].url + "/" if name else ""
        with items.opened(self.context.state_dir, Log("test")) as db:
            return [feed for feed in items.feeds(db) if feed.url.startswith(start)]

    def round(self, at):
        """Collect what is due at a time; returns how often each host was asked."""
        before = {name: len(host.asked) for name, host in self.hosts.items()}
        self.context.clock.now = at
        rss._collect_due(SETTINGS, self.context)
        return {name: len(host.asked) - before[name] for name, host in self.hosts.items()}


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path)
    yield one
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(Publisher.close, one.hosts.values()))


def test_a_storm_of_429(lab):
    """Six hours, at every moment at which anything is due."""
    for name, (fields, _, _) in STORM.items():
        host = lab.host(name)
        lab.add([host.publish("/%d" % number, b"", 429, **fields) for number in range(FEEDS)])
    good = ["good", "also good"]
    for name in good:
        lab.add([lab.host(name).publish("/feed", rss_of(name, [("1", "One", "x")]))])
    asked, at = {name: [] for name in lab.hosts}, NOW
    while at < NOW + 6 * HOUR:
        for name, requests in lab.round(at).items():
            assert requests <= 1, (name, at - NOW)
            asked[name] += [at - NOW] * requests
        if at == NOW:
            assert all(asked.values()), asked
            assert [feed.problem for name in good for feed in lab.feeds(name)] == ["", ""]
        at = min(feed.due for feed in lab.feeds())
        assert at > lab.context.clock.now
    assert all(len(asked[name]) >= 5 for name in good), asked
    for name, (_, rest, often) in STORM.items():
        assert len(asked[name]) == often and all(rest <= time for time in asked[name][1:]), (name, asked[name])
        assert all(NOW + rest <= feed.due <= at + 1.1 * schedule.LONGEST_REST for feed in lab.feeds(name)), name


def test_a_host_that_has_had_enough_in_the_middle(lab):
    """What it answered before its 429 does not have it asked before its time."""
    host = lab.host("half")
    lab.add([host.publish("/0", b"", 304), host.publish("/1", b"", 429, Retry_After="86400")])
    assert lab.round(NOW) == {"half": 2}
    assert [status for _, status in host.asked] == [304, 429]
    assert all(feed.due >= NOW + 86400 for feed in lab.feeds())
    assert lab.round(NOW + 86399) == {"half": 0}


def test_others_are_read_while_one_host_drips(lab):
    with fetch_support.Peer(fetch_support.endless(fetch_support.HEAD, b"a: b\r\n", 0.02)) as slow:
        lab.add([slow.url, lab.host("good").publish("/feed", rss_of("Good", [("1", "One", "x")]))])
        told = []
        options = collect.Options(HOUR, True, 100, 2, fetch_support.QUICK._replace(total=0.6))
        with items.opened(lab.context.state_dir, Log("test")) as db:
            collect.collect(db, items.feeds(db), options, lab.context.clock, lab.context.stop,
                            lambda result: told.append(collect.say(result)))
    assert told == ["Good: 1 new, 0 updated", "%s: took over 0.6 s in all" % slow.url]
