"""The collector: against real small servers, killed at any moment, and with everything wrong that feeds can be."""
from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import random
import re
import signal
import socket
import socketserver
import sqlite3
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from penny.core import fetch
from penny.core.clock import Stop
from penny.rss import SETTINGS, _collect_due, collect, collect_options, verbs
from penny.stages import items, search
from support import LAB, FakeClock, Publisher, context, free_port, get, json_lines, rss, until

NOW = 1_800_000_000.0
FEED = items.Feed(1, "http://a.example/", "", "", NOW, 0, None, None, None, "", 0, '"old"', "Mon")
OPTIONS = collect.Options(3600, True, 100, 4, fetch.Limits())
ALLOW = ("--set", "private=allow")


@pytest.fixture
def publisher():
    one = Publisher()
    yield one
    one.close()


def stored(penny):
    """The titles that each feed has in the store, by its URL."""
    db = sqlite3.connect(penny.home / "var" / "rss" / "items.db")
    try:
        found = {}
        for url, body in db.execute("SELECT url, body FROM feed LEFT JOIN item ON item.feed = feed.id ORDER BY item.id"):
            found.setdefault(url, []).extend([json.loads(body)["title"]] if body else [])
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return found
    finally:
        db.close()


# What an answer means

def reply(status, body=b"", **headers):
    return fetch.Reply(status, "http://a.example/", headers, body, (), len(body))


def test_an_answer_with_items():
    outcome, note = collect.outcome_of(FEED, reply(200, rss("A", [("1", "One", "x")]), etag='W/"new"'), OPTIONS, NOW, 0.5)
    assert (outcome.title, outcome.etag, outcome.problem, note) == ("A", 'W/"new"', "", "")
    assert [entry["title"] for entry, _ in outcome.items] == ["One"]
    assert outcome.due == pytest.approx(NOW + 3600 * 1.05)


def test_a_feed_may_ask_for_a_longer_rest_but_not_for_ever():
    body = rss("A", []).replace(b"<title>A</title>", b"<title>A</title><ttl>%d</ttl>")
    def due(answer, feed=FEED):
        return collect.outcome_of(feed, answer, OPTIONS, NOW, 0)[0].due - NOW
    assert due(reply(200, body % 120, etag="x")) == 7200
    assert due(reply(200, body % 5, etag="x")) == 3600
    assert due(reply(200, body % 10 ** 9, etag="x")) == 86400
    assert due(reply(200, body % 5, etag="x", **{"cache-control": "max-age=10800"})) == 10800
    assert due(reply(200, body % 5)) == 86400  # no validator: every request costs the whole body
    assert due(reply(304), FEED._replace(wish=7200)) == 7200
    assert due(reply(503, **{"retry-after": "7200"})) == 7200 and due(reply(404)) == 3600


@pytest.mark.parametrize("redirects, target", [
    ((), ""), (((301, "b"),), "b"), (((301, "b"), (308, "c")), "c"), (((301, "b"), (302, "c")), "b"), (((302, "b"), (301, "c")), ""),
])
def test_where_a_feed_has_moved_for_good(redirects, target):
    assert collect.moved_to(reply(200)._replace(redirects=redirects)) == target


def test_an_unchanged_feed_keeps_its_validators():
    outcome, _ = collect.outcome_of(FEED, reply(304), OPTIONS, NOW, 0)
    assert (outcome.items, outcome.etag, outcome.modified, outcome.problem) == (None, '"old"', "Mon", "")


@pytest.mark.parametrize("answer, problem, rest", [
    ("connection refused", "connection refused", 300), (reply(404), "answered with status 404", 3600),
    (reply(200, b"<html><body>login</body></html>"), "this is an HTML page, not a feed", 3600),
    (reply(200, b""), "the document is empty", 3600),
])
def test_failures(answer, problem, rest):
    outcome, _ = collect.outcome_of(FEED, answer, OPTIONS, NOW, 0)
    assert (outcome.problem, outcome.items, outcome.due) == (problem, None, NOW + rest)


def test_one_host_is_asked_one_feed_after_the_other():
    feeds = [FEED._replace(url=url) for url in ("http://a/1", "https://A/2", "http://b/1", "http://x@a/3", "http://a:81/", "http://[::1")]
    assert [[feed.url for feed in group] for group in collect.by_host(feeds)] == [
        ["http://a/1", "https://A/2", "http://x@a/3"], ["http://b/1"], ["http://a:81/"], ["http://[::1"]]


def test_a_small_box_fetches_less_at_a_time():
    assert collect.capacity(64 << 20)[0] == 2 and collect.capacity(8 << 30)[0] == 12
    assert collect.parse_meminfo("MemTotal:       49184 kB\nMemFree: 1 kB\n") == 49184 * 1024
    assert collect.parse_meminfo("") == collect.SMALL_BOX


# As a command

def test_add_list_collect_remove(penny, publisher):
    url = publisher.publish("/feed", rss("News", [("1", "One", "First."), ("2", "Two", "Second.")]))
    added = penny.run("rss", "add", url, *ALLOW)
    assert (added.returncode, added.stdout) == (0, "News: 2 new, 0 updated\n")
    again = penny.run("rss", "add", url, *ALLOW)
    assert (again.returncode, again.stderr) == (1, "penny: cannot add %s: it is there already\n" % url)
    listed = json_lines(penny.run("rss", "list", "--json").stdout)
    assert [(feed["url"], feed["title"], feed["problem"]) for feed in listed] == [(url, "News", "")]
    publisher.publish("/feed", rss("News", [("3", "Three", "Third."), ("2", "Two, corrected", "Second.")]))
    assert penny.run("rss", "collect", *ALLOW).stdout == "News: 1 new, 1 updated\n"
    assert penny.run("rss", "collect", *ALLOW).stdout == "News: nothing new\n"
    assert [status for _, status in publisher.asked] == [200, 200, 304]
    assert stored(penny) == {url: ["Two, corrected", "One", "Three"]}
    assert "did you mean %s?" % url in penny.run("rss", "remove", url + "x").stderr
    assert penny.run("rss", "remove", url).returncode == 0
    assert stored(penny) == {}


def test_feeds_come_and_go_as_opml(penny, publisher, tmp_path):
    url = publisher.publish("/feed", rss("News & more", []))
    penny.run("rss", "add", url, *ALLOW)
    exported = penny.run("rss", "export").stdout
    (tmp_path / "feeds.opml").write_text(exported)
    penny.run("rss", "remove", url)
    told = penny.run("rss", "import", str(tmp_path / "feeds.opml"))
    assert told.stdout == "New feeds: 1, there already: 0. Next: penny rss collect\n"
    assert "News & more" in penny.run("rss", "list").stdout
    assert penny.run("rss", "import", "/nonexistent").stderr == "penny: cannot read /nonexistent: no such file or directory\n"


@pytest.mark.parametrize("url", ["ftp://x/", "javascript:alert(1)", "file:///etc/passwd", "http://a b/"])
def test_an_address_that_is_none(penny, url):
    ended = penny.run("rss", "add", url)
    assert ended.returncode == 2 and ended.stderr == "penny: cannot add %s: not an http or https address\n" % url


def test_parse(penny, tmp_path):
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_bytes(rss("A", [("1", "One", "x")]))
    bad.write_bytes(b"<html></html>")
    one = penny.run("rss", "parse", str(good))
    assert one.returncode == 0 and json.loads(one.stdout)["items"][0]["title"] == "One"
    ended = penny.run("rss", "parse", "--jsonl", str(good), str(bad), str(tmp_path / "none"))
    assert ended.returncode == 1 and [sorted(line)[0] for line in json_lines(ended.stdout)] == ["home_page_url", "error", "error"]
    assert penny.run("rss", "parse", str(good), str(bad)).stderr == "penny: several files need --jsonl\n"


# What is kept

def test_search_and_stars(penny, publisher):
    text = "Long before. " * 30 + "Then the Caf\u00e9 closed \x1b[31m for good. " + "And long after. " * 30
    url = publisher.publish("/feed", rss("News", [("1", "One " + "word " * 60, text), ("2", "Two", "No more.")]))
    penny.run("rss", "add", url, *ALLOW)
    found = penny.run("rss", "search", "cafe", env={"COLUMNS": "80"})
    lines = found.stdout.splitlines()
    assert found.returncode == 0 and len(lines) == 2 and max(map(len, lines)) <= 80 and "\x1b" not in found.stdout
    assert re.match(r" +2  \d{4}-\d\d-\d\d News: One word", lines[0]) and "Caf\u00e9 closed" in lines[1]
    def excluding(*words):
        return subprocess.run(penny.command("rss", "--home", str(penny.home), "search", "--", *words), capture_output=True,
                              text=True, env=penny.environment(), cwd=penny.root)
    assert excluding("one", "-more").stdout.startswith("     2")
    nothing = excluding("cafe", "-closed")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "penny: nothing was found\n")
    penny.run("rss", "star", "2")
    unknown = penny.run("rss", "star", "1", "77")
    assert (unknown.returncode, unknown.stderr) == (1, "penny: there is no item 77; penny rss search shows the numbers\n")
    one, = json_lines(penny.run("rss", "search", "--starred", "--feed", url, "--json").stdout)
    assert (one["number"], one["source"], one["feed"], one["tags"], one["mark"], one["story"]) == (2, "News", url, [], 0, 2)
    assert one["starred"].endswith("Z") and one["url"] == "http://example.org/1"
    refused = penny.run("rss", "remove", url)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "1 of its items have a star" in refused.stderr
    assert penny.run("rss", "unstar", "2").returncode == 0
    assert penny.run("rss", "remove", url).returncode == 0


def test_what_is_found_is_printed_one_by_one(tmp_path, capsys, monkeypatch):
    with items.opened(str(tmp_path), context(tmp_path).log) as db:
        items.add_feeds(db, [(FEED.url, "")], NOW)
        entries = [({"id": str(number), "title": "T"}, None) for number in range(9)]
        items.keep(db, FEED, items.Outcome(NOW, NOW, items=entries), 100)
    before, read = [], search._found
    monkeypatch.setattr(search, "_found", lambda db, item: before.append(capsys.readouterr().out) or read(db, item))
    options = SimpleNamespace(words=[], feed=None, starred=False, tag="", dropped=False, most=100_000, json=True)
    assert verbs.search_items(SimpleNamespace(), context(tmp_path), options) == 0
    assert before[0] == "" and [json.loads(text)["number"] for text in before[1:]] == [9, 8, 7, 6, 5, 4, 3, 2]


def test_rules_are_tried_before_they_are_in_use(tmp_path, capsys):
    def shown(**settings):
        verbs.show_rules(SimpleNamespace(**{"drop": (), "raise": (), "tag": (), **settings}), context(tmp_path), None)
        return capsys.readouterr().out.splitlines()
    words = [("Crypto", "Text of it."), ("A 486", "Linux kernel."), ("Three", "Text.")]
    with items.opened(str(tmp_path), context(tmp_path).log) as db:
        items.add_feeds(db, [(FEED.url, "")], NOW)
        entries = [({"id": title, "title": title, "content_text": text}, None) for title, text in words]
        items.keep(db, FEED, items.Outcome(NOW, NOW, items=entries), 100)
        owners = {"drop": ("crypto",), "raise": ("three",), "tag": (("retro", ("pentium", "486")), ("kernel", ("linux kernel",)))}
        lines = shown(**owners)
        assert [line.split() for line in lines[:5]] == [
            ["drop", "crypto", "1", "Crypto"], ["raise", "three", "1", "Three"], ["tag", "retro", "pentium", "0"],
            ["tag", "retro", "486", "1", "A", "486"], ["tag", "kernel", "linux", "kernel", "1", "A", "486"]]
        assert lines[5:] == ["These rules are not in use yet. Next: penny rss collect, or start the service again"]
        assert [found.mark for found in search.find(db, search.Wanted())] == [0, 0, 0]
        search.use_rules(db, verbs.owners_rules(SimpleNamespace(**owners)))
        assert shown(**owners) == lines[:5]
        assert [found.mark for found in search.find(db, search.Wanted(dropped=True))] == [-1, 0, 1]
    assert shown() == ["There are no rules. They go into lab.ini under [service rss]: drop, raise and tag, see penny rss --help"]


def test_collecting_puts_the_owners_rules_into_use(penny, publisher):
    url = publisher.publish("/feed", rss("News", [("1", "Crypto", "Text."), ("2", "A 486", "Text.")]))
    penny.write_lab("[service rss]\ndrop = crypto\ntag = retro: pentium, 486\n")
    penny.run("rss", "add", url, *ALLOW)
    lines = penny.run("rss", "search", "--dropped", "text").stdout.splitlines()
    assert "News: [dropped] Crypto" in lines[0] and "News: [retro] A 486" in lines[2]
    assert [one["tags"] for one in json_lines(penny.run("rss", "search", "--json", "text").stdout)] == [["retro"]]
    penny.write_lab("[service rss]\ntag = retro\n")
    wrong = penny.run("rss", "list")
    assert wrong.returncode == 78 and "tag = retro: expected tags such as retro: pentium, 486" in wrong.stderr


@pytest.mark.parametrize("value, good", [("0", True), ("90d", True), ("2w", True), ("36h", False), ("1", False), ("9000d", False)])
def test_an_age_is_whole_days(value, good):
    if good:
        assert isinstance(SETTINGS["age"](value), int)
    else:
        with pytest.raises(ValueError, match="whole days"):
            SETTINGS["age"](value)


# What goes wrong

class Endless(socketserver.BaseRequestHandler):
    """A body of 1 GB, or a gzip bomb of as much."""

    def handle(self):
        path = self.request.recv(65536).split()[1]
        if path == b"/bomb":
            bomb = gzip.compress(b"<rss>" + b" " * (256 << 20), 6)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
            return
        self.request.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<rss>")
        try:
            for _ in range(1024):
                self.request.sendall(b" " * (1 << 20))
        except OSError:
            pass  # the collector has seen enough


def test_everything_that_can_be_wrong_is_one_line_and_the_rest_goes_on(penny, publisher):
    endless = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=endless.serve_forever, args=(0.05,), daemon=True).start()
    port = endless.server_address[1]
    expected = {
        publisher.publish("/good", rss("Good", [("1", "One", "x")])): "Good: 1 new, 0 updated",
        publisher.publish("/broken", b"<rss><channel><title>x</title><item>"): "no element found",
        publisher.publish("/gone", b"", 404): "answered with status 404",
        publisher.publish("/loop", b"", 302, Location="/loop"): "redirect loop",
        publisher.publish("/file", b"", 302, Location="file:///etc/passwd"): "redirects to file:",
        publisher.publish("/page", b"<!doctype html><html><body>Log in"): "this is an HTML page, not a feed",
        publisher.publish("/binary", bytes(range(256)) * 40): "not well-formed",
        "http://127.0.0.1:%d/endless" % port: "sent over 8 MiB",
        "http://127.0.0.1:%d/bomb" % port: "inflates to over 16 MiB",
        "http://127.0.0.1:%d/" % free_port(): "connection refused",
        "http://nowhere.invalid/": ": name ",  # not found, or without any network: look-up failed
    }
    penny.home.mkdir()
    (penny.home / "x.opml").write_text("<opml><body>%s</body></opml>" % "".join(
        '<outline xmlUrl="%s" text=""/>' % url for url in expected))
    penny.run("rss", "import", str(penny.home / "x.opml"))
    try:
        ended = penny.run("rss", "collect", *ALLOW)
    finally:
        endless.shutdown()
        endless.server_close()
    assert ended.returncode == 0 and ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert len(lines) == len(expected)
    for url, words in expected.items():
        assert any(words in line and (url in line or "Good" in line) for line in lines), (url, words, lines)


def test_items_are_forgotten_by_age_where_the_owner_says_so(tmp_path, publisher):
    settings = SimpleNamespace(interval=3600, private=True, keep=100, age=2)
    clock = FakeClock(NOW)
    with items.opened(str(tmp_path), context(tmp_path).log) as db:
        items.add_feeds(db, [(publisher.url + "/feed", "")], NOW)
        for number in range(5):
            publisher.publish("/feed", rss("News", [(str(number), "T%d" % number, "x")]))
            collect.collect(db, items.feeds(db), collect_options(settings, LAB), clock, Stop(), lambda result: None)
            clock.now += 86400
        assert [row[0] for row in db.execute("SELECT key FROM item ORDER BY id")] == ["2", "3", "4"]


def test_feeds_are_asked_while_a_store_is_indexed_anew(tmp_path):
    """What one round has no time for is left to the next, which comes at once."""
    settings = SimpleNamespace(interval=3600, private=True, keep=1000, age=0)
    slow = context(tmp_path)
    asked, left = [], []
    slow.clock.monotonic = lambda: asked.append(None) or 4.0 * len(asked)
    with items.opened(str(tmp_path), slow.log) as db:
        items.add_feeds(db, [(FEED.url, "")], NOW)
        entries = [({"id": str(number), "title": "T"}, None) for number in range(250)]
        items.keep(db, FEED, items.Outcome(NOW, NOW + 9000, items=entries), 1000)
        while search.pending(db):
            rest = _collect_due(settings, slow)
            left.append((search.pending(db), rest))
        assert left == [(100, 0.0), (0, 60.0)]
        items.keep(db, FEED, items.Outcome(NOW, NOW + 9000, items=[({"id": "new", "title": "T"}, None)] + entries), 1000)
        assert _collect_due(settings, slow) == 60.0 and search.pending(db) == 1  # it waits for others
        slow.clock.now += search.PATIENCE
        assert _collect_due(settings, slow) == 60.0 and search.pending(db) == 0


def test_private_addresses_are_refused_unless_allowed(penny, publisher):
    url = publisher.publish("/feed", rss("Mine", []))
    ended = penny.run("rss", "add", url)
    assert "refused: 127.0.0.1 is a private address (private = allow lets it in)" in ended.stdout
    assert publisher.asked == []


def test_a_wrong_setting_is_one_line(penny):
    penny.write_lab("[service rss]\nintervall = 1h\n")
    ended = penny.run("rss", "collect")
    assert ended.returncode == 78 and ended.stderr.count("\n") == 1
    assert "etc/lab.ini [service rss]: unknown key intervall (did you mean interval?)" in ended.stderr


def test_a_port_that_is_taken_is_one_line(penny):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = penny.run("rss", "serve", "--set", "port=%d" % port)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "cannot listen on 127.0.0.1 port %d/tcp: address already in use (is another penny running?)" % port in ended.stderr


def test_a_state_directory_that_cannot_be_written_is_one_line(penny):
    penny.home.mkdir()
    (penny.home / "var").write_text("in the way")
    ended = penny.run("rss", "collect")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "cannot write in %s" % (penny.home / "var") in ended.stderr


# Killed, full, starting

def subscribe_many(penny, publisher, feeds, each):
    """So many feeds of so many items; returns what must be in the store in the end."""
    expected = {}
    for number in range(feeds):
        titles = ["f%d-%d" % (number, index) for index in range(each)]
        url = publisher.publish("/f%d" % number, rss("F%d" % number, [(title, title, "Text. " * 20) for title in titles]))
        expected[url] = titles[::-1]
    penny.home.mkdir(exist_ok=True)
    (penny.home / "many.opml").write_text("<opml><body>%s</body></opml>" % "".join(
        '<outline xmlUrl="%s" text=""/>' % url for url in expected))
    assert penny.run("rss", "import", str(penny.home / "many.opml")).returncode == 0
    return expected


def assert_index_is_sound(penny):
    """An item is indexed whole or not at all."""
    with contextlib.closing(sqlite3.connect(penny.home / "var" / "rss" / "items.db")) as db:
        if db.execute("SELECT 1 FROM note WHERE name = 'index'").fetchone():
            db.execute("INSERT INTO search (search) VALUES ('integrity-check')")
            found = db.execute("SELECT rowid FROM search WHERE search MATCH 'text' ORDER BY rowid").fetchall()
            assert found == db.execute("SELECT item FROM reading WHERE pending < 2 ORDER BY item").fetchall()


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(penny):
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    publishers = [Publisher("127.0.0.%d" % (10 + number)) for number in range(8)]
    expected = {}
    for one in publishers:
        expected.update(subscribe_many(penny, one, 1, 60))
    acknowledged = set()
    for round in range(25):
        process = penny.start("rss", "collect", "--json", *ALLOW)
        time.sleep(chooser.uniform(0.05, 0.6))
        process.kill()
        process.wait()
        for line in penny.log().splitlines():
            if line.startswith("{"):
                acknowledged.add(json.loads(line)["url"])
        found = stored(penny)
        assert_index_is_sound(penny)
        for url in expected:
            assert found[url] in ([], expected[url]), (seed, round)  # whole or not at all
            assert found[url] or url not in acknowledged, (seed, round)
        if chooser.random() < 0.3:  # begin anew: the interesting moments are those of the first collection
            for url in expected:
                penny.run("rss", "remove", url)
            penny.run("rss", "import", str(penny.home / "many.opml"))
            for one in publishers:
                url = one.url + next(iter(one.pages))
                penny.run("rss", "add", url)
            acknowledged.clear()
            (penny.home / "log").write_text("")
    assert penny.run("rss", "collect", *ALLOW).returncode == 0
    assert stored(penny) == expected, seed
    assert len(penny.run("rss", "search", "text", "--most", "9999", "--json").stdout.splitlines()) == 8 * 60
    for one in publishers:
        one.close()


@pytest.mark.slow
def test_a_full_disk_is_a_clear_message_and_no_corruption(penny, publisher, tmp_path):
    """A real file system of 1 MB, where this user may mount one."""
    penny.home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "penny-test", penny.home], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip("may not mount a small file system: %s" % mounted.stderr.strip())
    try:
        url = publisher.publish("/small", rss("Small", [("1", "One", "x")]))
        assert penny.run("rss", "add", url, *ALLOW).returncode == 0
        big = publisher.publish("/big", rss("Big", [(str(number), "T%d" % number, "x" * 5000) for number in range(300)]))
        ended = penny.run("rss", "add", big, *ALLOW)
        assert ended.returncode == 1 and "items.db: the disk is full" in ended.stderr and ended.stderr.count("\n") == 1
        assert stored(penny) == {url: ["One"], big: []}
        assert "One" in penny.run("digest").stdout  # what can be served is served
        subprocess.run(["mount", "-o", "remount,size=20m", penny.home], check=True)
        assert penny.run("rss", "collect", *ALLOW).returncode == 0
        assert len(stored(penny)[big]) == 300
    finally:
        subprocess.run(["umount", penny.home], check=True)


def test_the_service_collects_what_is_due_and_shows_it(penny, publisher):
    url = publisher.publish("/feed", rss("News", [("1", "One", "x")]))
    fast = {"PENNY_CLOCK": "7200@%f=%f" % (time.time(), NOW)}
    penny.run("rss", "add", url, *ALLOW, env=fast)
    publisher.publish("/feed", rss("News", [("1", "One", "x"), ("2", "Two", "x")]))
    port = free_port()
    penny.write_lab("[service rss]\ndrop = two\n")
    process = penny.start("rss", "serve", *ALLOW, "--set", "port=%d" % port, env=fast)
    until(lambda: stored(penny)[url] == ["One", "Two"], what="the second collection")
    with contextlib.closing(sqlite3.connect(penny.home / "var" / "rss" / "items.db")) as db:
        until(lambda: db.execute("SELECT mark FROM reading WHERE pending = 0").fetchall() == [(0,), (-1,)], what="indexing")
    status, fields, body = get(port)
    assert status == 200 and b"News" in body
    assert b'rss_items_total 1' in get(port, "/metrics")[2]
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert "ready on 127.0.0.1:%d" % port in penny.log()


def test_a_first_run_begins_with_the_shipped_feeds(penny):
    ended = penny.run("rss", "collect", "--json", env={"LC_ALL": "C"})
    assert len(json_lines(ended.stdout)) == 8
    assert "begun with 8 feeds" in ended.stderr


def test_a_terminal_sees_a_progress_bar_and_ctrl_c_ends_it(penny, publisher):
    publisher.delay = 0.2
    subscribe_many(penny, publisher, 6, 1)
    reader, writer = pty.openpty()
    process = subprocess.Popen(penny.command("rss", "collect", *ALLOW, "--home", str(penny.home)), stdin=writer, stdout=writer,
                               stderr=writer, env=penny.environment(COLUMNS="80"), start_new_session=True)
    seen = b""
    end = time.monotonic() + 20
    while b"2/6" not in seen and time.monotonic() < end:
        seen += os.read(reader, 4096)
    assert b"[######" in seen
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    os.close(reader)
    os.close(writer)


def test_odd_addresses_in_an_opml_file_are_said_and_the_rest_is_added(penny, publisher):
    url = publisher.publish("/feed", rss("News", [("1", "One", "x")]))
    penny.home.mkdir()
    (penny.home / "x.opml").write_text("<opml><body><outline xmlUrl='http://[::1'/><outline xmlUrl='http://a:99999/'/>"
                                       "<outline xmlUrl='%s'/></body></opml>" % url)
    ended = penny.run("rss", "import", str(penny.home / "x.opml"))
    assert ended.stdout.startswith("New feeds: 1,") and ended.stderr.count("not an http or https address") == 2
    assert penny.run("rss", "collect", *ALLOW).stdout == "News: 1 new, 0 updated\n"


def test_removing_several_is_all_or_nothing(penny, publisher):
    url = publisher.publish("/feed", rss("News", []))
    penny.run("rss", "add", url, *ALLOW)
    assert penny.run("rss", "remove", url, "http://unknown.example/").returncode == 1
    assert list(stored(penny)) == [url]


def test_an_interval_that_would_have_the_owner_banned_is_refused(penny):
    ended = penny.run("rss", "list", "--set", "interval=0")
    assert (ended.returncode, ended.stderr) == (78, "penny: --set: interval = 0: expected a duration of a minute or more, such as 1h\n")


def test_a_command_that_reads_standard_input_can_be_interrupted(penny):
    with subprocess.Popen(penny.command("rss", "parse", "-"), stdin=subprocess.PIPE, env=penny.environment(), cwd=penny.root) as one:
        time.sleep(0.5)
        one.send_signal(signal.SIGTERM)
        assert one.wait(5) == -signal.SIGTERM


# As a good guest

def feed_of(penny, url):
    return next((feed for feed in json_lines(penny.run("rss", "list", "--json").stdout) if feed["url"] == url), None)


def test_a_permanent_move_is_believed_when_it_was_seen_twice(penny, publisher):
    old = publisher.publish("/old", b"", 301, Location="/new")
    new = publisher.publish("/new", rss("News", [("1", "One", "x")]))
    penny.run("rss", "add", old, *ALLOW)
    assert feed_of(penny, old)["moved_to"] == new
    penny.run("rss", "collect", *ALLOW)
    assert feed_of(penny, old) is None and feed_of(penny, new)["title"] == "News"
    assert stored(penny) == {new: ["One"]}
    asked = len(publisher.asked)
    penny.run("rss", "collect", *ALLOW)
    assert [path for path, _ in publisher.asked[asked:]] == ["/new"]


@pytest.mark.slow
def test_a_feed_that_is_gone_for_good_is_parked(penny, publisher):
    url = publisher.publish("/feed", b"", 410)
    assert "gone for good" in penny.run("rss", "add", url, *ALLOW).stdout
    asked = len(publisher.asked)
    clock = {"PENNY_CLOCK": "1@%f=%f" % (time.time(), time.time() + 90 * 86400)}
    port = free_port()
    process = penny.start("rss", "serve", *ALLOW, "--set", "port=%d" % port, env=clock)
    until(lambda: get(port)[0] == 200)
    time.sleep(1)
    process.terminate()
    process.wait(5)
    assert len(publisher.asked) == asked
    publisher.publish("/feed", rss("Back", []))
    penny.run("rss", "collect", *ALLOW)
    assert feed_of(penny, url)["parked"] is None


@pytest.mark.slow
def test_a_host_that_wants_to_be_left_alone_is_left_alone_with_all_its_feeds(penny, publisher):
    urls = [publisher.publish("/%d" % number, b"", 429, Retry_After="7200") for number in range(3)]
    penny.home.mkdir()
    (penny.home / "x.opml").write_text("<opml><body>%s</body></opml>" % "".join('<outline xmlUrl="%s"/>' % url for url in urls))
    penny.run("rss", "import", str(penny.home / "x.opml"))
    lines = penny.run("rss", "collect", *ALLOW).stdout.splitlines()
    assert sum("status 429" in line for line in lines) == 1 and sum(collect.POSTPONED in line for line in lines) == 2
    assert len(publisher.asked) == 1
    now = time.time()
    assert all(now + 7000 < feed_of(penny, url)["due"] < now + 9000 for url in urls)


def test_publishers_are_told_who_asks(penny):
    seen = []

    class Listener(socketserver.BaseRequestHandler):
        def handle(self):
            seen.append(self.request.recv(65536))
            self.request.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    server = socketserver.TCPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    penny.write_lab("[lab]\ncontact = ada@example.org\n")
    penny.run("rss", "add", "http://127.0.0.1:%d/" % server.server_address[1], *ALLOW)
    server.shutdown()
    server.server_close()
    assert b"User-Agent: penny/" in seen[0] and b" (+ada@example.org)\r\n" in seen[0]
    penny.write_lab("[lab]\ncontact = a b\n")
    assert "contact = a b: expected a mail address" in penny.run("rss", "list").stderr


def test_a_page_leads_to_its_feed(penny, publisher):
    feed = publisher.publish("/feed.xml", rss("News", [("1", "One", "x")]))
    other = publisher.publish("/comments.xml", rss("Comments", []))
    page = publisher.publish("/", b"<html><head><link rel=alternate type='application/rss+xml' href=feed.xml>"
                             b"<link rel=alternate type='application/rss+xml' title=Comments href=comments.xml></head>")
    ended = penny.run("rss", "add", page, *ALLOW)
    assert ended.stdout.splitlines() == [
        "%s: this is an HTML page, not a feed" % page, "The page names its feed: %s" % feed,
        "and another, to be added by: penny rss add %s   Comments" % other, "News: 1 new, 0 updated"]
    assert stored(penny) == {feed: ["One"]}


def test_content_that_may_be_shown_in_a_page(penny, tmp_path):
    (tmp_path / "x.xml").write_bytes(rss("A", [("1", "One", "<p onclick=x()>Seen <a href=y>it</a><script>alert(1)</script></p>")]))
    item, = json.loads(penny.run("rss", "parse", "--safe", str(tmp_path / "x.xml")).stdout)["items"]
    assert "script" not in item["content_html"] and "onclick" not in item["content_html"]
    assert 'href="http://example.org/y"' in item["content_html"]
