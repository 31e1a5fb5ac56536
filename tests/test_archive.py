"""The archive: all that is kept there and back again, merged, cut short at any point, and written by a stranger."""
from __future__ import annotations

import io
import json
import random
import sqlite3
import subprocess
import threading
import time

import pytest

from penny.core import fetch
from penny.core.clock import Clock, Stop
from penny.core.errors import PennyError
from penny.core.log import Log
from penny.core.terminal import Progress
from penny.rss import collect
from penny.stages import archive, items, search
from penny.stages.archive import Counts
from penny.stages.items import Outcome
from penny.wire import feed, feed_json
from support import ROOT, Penny, Publisher, json_lines, rss

LOG = Log("test")
NOW = 1_800_000_000.0
SECRET = "https://ada:secret@a.example/feed"


@pytest.fixture
def store(tmp_path):
    """Opens stores by their names."""
    opened = []

    def open_store(name):
        opened.append(items.opened(str(tmp_path / name), LOG))
        return opened[-1].__enter__()
    yield open_store
    for one in opened:
        one.__exit__(None, None, None)


def entry(key, **more):
    item = feed.Item(id=key, url="http://x.example/" + key, title="Title " + key, content_html="<p>Words of %s.</p>" % key,
                     date_published=NOW - 60, **more)
    return feed_json.render_item(item), item.date_published


def keep(db, number, *entries, at=NOW):
    outcome = Outcome(at, at + 3600, title="T%d" % number, etag='"e"', items=list(entries))
    return items.keep(db, items.feeds(db)[number], outcome, 1000)


def filled(db):
    """Two feeds whose items came in turns, one of them starred, one updated, and a feed that is parked."""
    items.add_feeds(db, [(SECRET, ""), ("http://b.example/", "B"), ("http://gone.example/", "Gone")], NOW - 9000)
    for number in range(6):
        keep(db, number % 2, entry("n%d" % number), at=NOW + number)
    keep(db, 1, entry("n5", summary="Corrected."), at=NOW + 100)
    items.keep(db, items.feeds(db)[2], Outcome(NOW, NOW, "is gone", parked=True), 10)
    items.star(db, [2], NOW + 7)
    return db


def written(db, now=NOW + 200):
    file = io.BytesIO()
    return archive.write(db, file, now, Progress(0)), file.getvalue()


def read(db, data, now=NOW + 300):
    return archive.read(db, io.BytesIO(data), now, Progress(0))


def content(db):
    """All that an archive carries, without numbers."""
    rows = db.execute("SELECT url, key, digest, item.words, arrived, updated, published, starred, body FROM item"
                      " JOIN feed ON feed.id = feed JOIN reading ON item = item.id ORDER BY item.id")
    feeds = [(one.url, one.title, one.home_page_url, one.added, one.parked, one.problem if one.parked else "")
             for one in items.feeds(db)]
    return feeds, [tuple(row) for row in rows]


def test_there_and_back(store):
    one, other = filled(store("a")), store("b")
    counts, data = written(one)
    assert counts == Counts(3, 6, 1) and data.startswith(archive.START)
    assert read(other, data) == counts
    assert content(other) == content(one)
    assert [found.body["id"] for found in search.find(other, search.Wanted())] == ["n5", "n4", "n3", "n2", "n1", "n0"]
    assert read(other, data) == Counts(0, 0, 0) and content(other) == content(one)
    assert read(one, data) == Counts(0, 0, 0)
    assert written(other)[1] == data


def test_what_it_looks_like(store):
    lines = json_lines(written(filled(store("a")))[1].decode())
    assert lines[0] == {"penny_archive": 1, "made": "2027-01-15T08:03:20Z", "feeds": 3, "items": 6}
    assert lines[1] == {"feed": 1, "url": SECRET, "title": "T0", "home_page_url": "", "added": "2027-01-15T05:30:00Z",
                        "parked": None, "problem": ""}
    assert (lines[3]["parked"], lines[3]["problem"]) == ("2027-01-15T08:00:00Z", "is gone")
    assert lines[5] == {"of": 2, "arrived": "2027-01-15T08:00:01Z", "updated": None, "starred": "2027-01-15T08:00:07Z",
                        "item": entry("n1")[0]}
    assert lines[9]["updated"] == "2027-01-15T08:01:40Z"


def test_a_restored_feed_is_asked_at_once_and_read_whole(store):
    read(store("b"), written(filled(store("a")))[1])
    found = items.feeds(store("b"))
    assert [(one.due, one.etag, one.checked) for one in found] == [(0, "", None)] * 3
    assert [one.parked for one in found] == [None, None, NOW]


def test_what_is_there_stays_and_stars_are_united(store):
    data = written(filled(store("a")))[1]
    other = store("b")
    items.add_feeds(other, [("http://b.example/", "Mine")], NOW)
    keep(other, 0, entry("n3", summary="Mine."), entry("n1", summary="Mine, too."))
    items.star(other, [2], NOW + 1)
    assert read(other, data) == Counts(2, 4, 1)
    found = {one.body["id"]: one for one in search.find(other, search.Wanted())}
    assert found["n3"].body["summary"] == "Mine." and found["n3"].starred == NOW + 1
    assert found["n1"].body["summary"] == "Mine, too." and found["n1"].starred == NOW + 7
    assert items.feeds(other)[0].title == "T0"
    items.star(other, [found["n1"].id], None)
    assert read(other, data) == Counts(0, 0, 1)


def test_what_was_carried_here_is_no_news_and_what_comes_after_it_is(store):
    data = written(filled(store("a")))[1]
    other = store("b")
    items.add_feeds(other, [("http://b.example/", "Mine")], NOW)
    keep(other, 0, entry("n3"))
    read(other, data)
    for _ in range(2):
        search.index_new(other)
        assert items.news(other, 0, 99, 9).counts == {1: 1} and items.news(other, 1, 99, 9).counts == {}
        keep(other, 0, entry("n1", summary="Corrected."), entry("n3"))
    keep(other, 0, entry("new"))
    assert items.news(other, 1, 99, 9).counts == {1: 1}
    assert all(one.story == one.id for one in search.find(other, search.Wanted()))


@pytest.mark.parametrize("clock", [1e12, -1e12])
def test_a_clock_that_is_wrong_by_ages_writes_what_can_be_read(store, clock):
    one = store("a")
    items.add_feeds(one, [(SECRET, "")], clock)
    keep(one, 0, entry("1"), at=clock)
    items.star(one, [1], clock)
    assert read(store("b"), written(one, clock)[1]) == Counts(1, 1, 1)


def test_dates_of_a_clock_that_was_wrong_are_not_in_the_future(store):
    data = written(filled(store("a")))[1]
    read(store("b"), data, now=NOW - 10 ** 8)
    assert {row[0] for row in store("b").execute("SELECT arrived FROM item")} == {NOW - 10 ** 8}


def ask(db, publisher):
    results = []
    options = collect.Options(3600, True, 100, 2, fetch.Limits())
    collect.collect(db, items.feeds(db), options, Clock(), Stop(), results.append)
    return [result.counts for result in results]


FEEDS = sorted(path for path in (ROOT / "tests" / "fixtures" / "feeds" / "valid").iterdir() if path.suffix != ".json")


def test_a_feed_that_was_restored_has_no_news(store, monkeypatch):
    monkeypatch.setattr(collect, "GAP", 0)
    publisher = Publisher()
    try:
        urls = [publisher.publish("/%d" % number, path.read_bytes()) for number, path in enumerate(FEEDS)]
        urls.append(publisher.publish("/rss", rss("News", [("1", "One", "First."), ("", "No id", "A \x85 \u2028 text.")])))
        one, other = store("a"), store("b")
        for db in one, other:
            items.add_feeds(db, [(url, "") for url in urls], NOW)
        fresh = ask(one, publisher)
        assert len(fresh) > 10 and sum(counts.new for counts in fresh) > 20
        read(other, written(one)[1], now=Clock().time())
        assert set(ask(other, publisher)) == {items.Counts(0, 0)}
        assert set(publisher.asked[len(urls):]) == {(path, 200) for path in publisher.pages}
    finally:
        publisher.close()


def test_writing_holds_up_nobody_and_sees_one_moment(store, tmp_path):
    one = filled(store("a"))

    class Slow(io.BytesIO):
        def write(self, data):
            if data.startswith(b'{"of": 1') and not done:
                done.append(None)
                thread = threading.Thread(target=collect_meanwhile)
                thread.start()
                thread.join(5)
            return super().write(data)

    def collect_meanwhile():
        with items.opened(str(tmp_path / "a"), LOG) as db:
            db.execute("PRAGMA busy_timeout = 100")
            done.append(keep(db, 0, entry("meanwhile")))
    done, file = [], Slow()
    assert archive.write(one, file, NOW, Progress(0)) == Counts(3, 6, 1)
    assert done == [None, items.Counts(1, 0)] and b"meanwhile" not in file.getvalue()
    assert b"meanwhile" in written(one)[1]


def test_a_full_disk_is_said(store):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")
    one = filled(store("a"))
    with pytest.raises(PennyError, match="cannot write the archive: no space left on device"):
        archive.write(one, Full(), NOW, Progress(0))
    assert written(one)[0] == Counts(3, 6, 1)


def test_cut_short_at_any_line_it_can_be_begun_again(store, monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 2)
    one = filled(store("a"))
    data = written(one)[1]
    lines = data.splitlines(keepends=True)
    for number in range(1, len(lines)):
        other = store("b%d" % number)
        with pytest.raises(PennyError, match="it ends too early, with %d of 6 items" % max(0, number - 4)):
            read(other, b"".join(lines[:number]))
        assert len(items.feeds(other)) == min(number - 1, 3)
        read(other, data)
        assert content(other) == content(one)


def test_a_bad_line_is_named_and_what_stood_before_it_stays(store, monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 2)
    lines = written(filled(store("a")))[1].splitlines(keepends=True)
    lines[8] = lines[8][:-5] + b"\n"
    with pytest.raises(PennyError, match="^cannot read the archive: line 9 is no JSON object$"):
        read(store("b"), b"".join(lines))
    assert [row[0] for row in store("b").execute("SELECT key FROM item ORDER BY id")] == ["n0", "n1", "n2"]


HEAD = '{"penny_archive": 1, "feeds": 1, "items": 1}'
FEED = '{"feed": 1, "url": "http://a.example/", "added": "2027-01-15T08:00:00Z"}'
DATE = '"arrived": "2027-01-15T08:00:00Z"'


@pytest.mark.parametrize("lines, reason", [
    ([], "line 1 does not begin one of version 1"), (["{}"], "line 1 does not begin one of version 1"),
    (['{"penny_archive": 2}'], "line 1 does not begin one of version 1"), (["[1]"], "line 1 is no JSON object"),
    (["<opml/>"], "line 1 is no JSON object"), (["\u00ff" * 9], "line 1 is no JSON object"),
    ([HEAD, ""], "line 2 is no JSON object"), ([HEAD, "[" * 100_000], "line 2 is no JSON object"),
    ([HEAD, '{"feed": %s}' % ("9" * 10 ** 6)], "line 2 is no feed"), ([HEAD, FEED.replace("1,", "true,")], "line 2 is no feed"),
    ([HEAD, FEED.replace("http:", "file:")], "line 2 is no feed"),
    ([HEAD, FEED.replace("a.ex", "a b.ex")], "line 2 is no feed"),
    ([HEAD, FEED.replace("a.example", "")], "line 2 is no feed"),
    ([HEAD, FEED.replace("a.ex", "a\\u0000.ex")], "line 2 is no feed"),
    ([HEAD, FEED.replace("a.ex", "a" * feed.URL)], "line 2 is no feed"),
    ([HEAD, FEED.replace("2027", "soon")], "line 2 has no date in added"),
    ([HEAD, FEED.replace("added", "x")], "line 2 is no feed"),
    ([HEAD, FEED, '{"of": 2, %s, "item": {}}' % DATE], "line 3 is no item with its date, of a feed above"),
    ([HEAD, FEED, '{"of": 1, "item": {}}'], "line 3 is no item"),
    ([HEAD, FEED, '{"of": 1, %s, "item": []}' % DATE], "line 3 is no item"),
    ([HEAD, FEED, '{"of": [1], %s, "item": {}}' % DATE], "line 3 is no item"),
    ([HEAD, FEED, '{"of": 1, %s, "item": {}, "starred": 7}' % DATE], "line 3 has no date in starred"),
])
def test_what_is_no_archive(store, lines, reason):
    with pytest.raises(PennyError, match="^cannot read the archive: " + reason):
        read(store("b"), "\n".join(lines + [""]).encode("latin-1"))


def test_bounds(store, monkeypatch):
    def padded(data):
        return data.replace(b"}\n", b" " * (archive.LINE - max(map(len, data.splitlines())) - 1) + b"}\n", 1)
    monkeypatch.setattr(archive, "LINE", 2000)
    data = "\n".join([HEAD, FEED, '{"of": 1, %s, "item": {}}' % DATE, ""]).encode()
    assert read(store("b"), padded(data)) == Counts(1, 1, 0)
    with pytest.raises(PennyError, match="line 1 is longer than 2000 bytes"):
        read(store("b"), data.replace(b"}\n", b" " * 2000 + b"}\n", 1))
    monkeypatch.setattr(archive, "ITEMS", 0)
    with pytest.raises(PennyError, match="line 3 is one more than 50000 feeds or 0 items"):
        read(store("b"), data)
    monkeypatch.setattr(archive, "FEEDS", 0)
    with pytest.raises(PennyError, match="line 2 is one more than 0 feeds"):
        read(store("b"), data)


def test_a_line_at_every_bound_of_an_item_fits():
    """What keep takes must not be too long for read."""
    author = feed.Author("\x01" * feed.TITLE, "\x01" * feed.URL, "\x01" * feed.URL)
    texts, title, url = ["\x01" * feed.TEXT] * 3, "\x01" * feed.TITLE, "\x01" * feed.URL
    item = feed.Item(url, url, url, title, *texts, 0.0, 0.0, (author,) * feed.LIST, (title,) * feed.LIST,
                     (feed.Attachment(url, "x" * 100, title, 10 ** 15, 1e15),) * feed.LIST, url, "\x01" * 40)
    assert len(json.dumps(feed_json.render_item(item))) + 1000 < archive.LINE


def test_a_batch_is_bounded_by_what_it_holds(store):
    lines = [HEAD.replace('"items": 1', '"items": 9'), FEED]
    lines += ['{"of": 1, %s, "item": {"id": "%d", "content_html": "%s"}}' % (DATE, number, "x" * 400_000)
              for number in range(9)]
    parsed = archive._lines(io.BytesIO("\n".join(lines).encode()))
    next(parsed)
    assert [len(batch) for batch in archive._batches(parsed)] == [4, 3, 3, 0]


def test_mutated_archives_are_read_or_refused(store):
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    original = written(filled(store("a")))[1]
    words = [b"", b"null", b'"', b"{", b"}", b"[]", b"-1", b"1e999", b"NaN", b"\xff", b"\n", b"\\ud800", b"true", b'"item"',
             b'"of"']
    other, refused = store("b"), 0
    for step in range(300):
        data = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at:at + chance.randint(0, 12)] = chance.choice(words)
        try:
            read(other, bytes(data))
        except PennyError:
            refused += 1
        except Exception as error:
            raise AssertionError("seed %d, step %d: %r" % (seed, step, bytes(data))) from error
    assert 0 < refused
    for one in search.find(other, search.Wanted(most=10 ** 6, dropped=True)):
        assert feed_json.parse(json.dumps({"items": [one.body]}).encode()).items or not one.body, seed
    assert other.execute("PRAGMA foreign_key_check").fetchall() == []
    with pytest.raises(sqlite3.OperationalError):
        other.execute("COMMIT")  # nothing is left open


def titles(penny):
    """Of the draft of the next edition."""
    found = json.loads(penny.run("digest", "--format", "json").stdout)
    return [entry["title"] for section in found["sections"] for entry in section["items"]]


def test_everything_goes_to_another_box_in_one_file(penny, tmp_path):
    publisher, other = Publisher(), Penny(tmp_path / "other")
    url = publisher.publish("/feed", rss("A", [("1", "One", "Words."), ("2", "Two", "Words.")]))
    penny.run("rss", "add", url, "--set", "private=allow")
    penny.run("rss", "star", "2")
    archived = penny.run("rss", "export", "--all")
    assert archived.returncode == 0 and len(json_lines(archived.stdout)) == 4
    (tmp_path / "all").write_text(archived.stdout)
    told = other.run("rss", "import", str(tmp_path / "all")).stdout
    assert told == "New feeds: 1, items: 2, stars: 1. Next: penny rss collect\n"
    found, = json_lines(other.run("rss", "search", "--starred", "--json").stdout)
    assert found["title"] == "One" and found["starred"]
    assert "A: 0 new, 0 updated" in other.run("rss", "collect", "--set", "private=allow").stdout
    (tmp_path / "all").write_text(archived.stdout[:-20])
    assert titles(other) == []
    with subprocess.Popen(other.command("rss", "import", "-", "--home", str(tmp_path / "third")), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=other.environment(), cwd=other.root) as slow:
        slow.stdin.write(archived.stdout[:3].encode())
        slow.stdin.flush()
        time.sleep(0.6)  # longer than it takes to start and to look at the first piece
        slow.stdin.write(archived.stdout[3:].encode())
        slow.stdin.close()
        assert slow.stdout.read().startswith(b"New feeds: 1, items: 2, stars: 1.")
    ended = other.run("rss", "import", str(tmp_path / "all"))
    assert ended.returncode == 1 and ended.stderr.startswith("penny: cannot read the archive: line 4")
    assert other.run("rss", "import", str(tmp_path / "none")).returncode == 1
    publisher.close()
