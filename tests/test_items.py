from __future__ import annotations

import random
import sqlite3

import pytest

from penny.core.log import Log
from penny.stages import items
from penny.stages.items import Counts, Outcome

LOG = Log("test")
NOW = 1_800_000_000.0


@pytest.fixture
def db(tmp_path):
    with items.opened(str(tmp_path), LOG) as found:
        items.add_feeds(found, [("http://a.example/", ""), ("http://b.example/", "B")], NOW)
        yield found


def entry(key, title="T", published=NOW - 60, **more):
    return {"id": key, "title": title, **more}, published


def keep(db, number, entries, at=NOW, most=100, **more):
    return items.keep(db, items.feeds(db)[number], Outcome(at, at + 3600, items=entries, **more), most)


def bodies(db, after=0, last=1 << 40):
    return {feed: [stored.body["id"] for stored in found]
            for feed, found in items.newest_by_feed(db, after, last, 100).items()}


def test_new_ones_are_told_from_old_and_updates_are_kept_in_place(db):
    assert keep(db, 0, [entry("1"), entry("2")]) == Counts(2, 0)
    assert keep(db, 0, [entry("1"), entry("2")]) == Counts(0, 0)
    assert keep(db, 0, [entry("1", "Corrected"), entry("3")], NOW + 60) == Counts(1, 1)
    rows = db.execute("SELECT id, key, arrived, updated FROM item ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [(1, "2", NOW, None), (2, "1", NOW, NOW + 60), (3, "3", NOW + 60, None)]


def test_the_same_id_in_two_feeds_is_two_items(db):
    keep(db, 0, [entry("1")])
    keep(db, 1, [entry("1")])
    assert bodies(db) == {1: ["1"], 2: ["1"]}


def test_an_id_that_a_feed_gives_twice_counts_once(db):
    assert keep(db, 0, [entry("1", "late"), entry("1", "early")]) == Counts(1, 0)


@pytest.mark.parametrize("item, key", [
    ({"id": "x", "url": "u"}, "x"), ({"url": "u"}, "u"), ({"id": "", "url": "u"}, "u"),
])
def test_what_tells_items_apart(item, key):
    assert items.key_of(item) == key


def test_items_without_id_and_link_are_told_apart_by_their_words():
    one, other = items.key_of({"title": "a"}), items.key_of({"title": "b"})
    assert one != other and one == items.key_of({"title": "a", "tags": ["later"]})
    assert len(items.key_of({"id": "x" * 100_000})) < 50


def test_an_unstable_id_does_not_bring_old_items_back(db):
    def item(key):
        return entry(key, "Title", url="http://a.example/1", content_html="Words.")
    assert keep(db, 0, [item("guid-1")]) == Counts(1, 0)
    assert keep(db, 0, [item("guid-2")]) == Counts(0, 0)
    assert keep(db, 0, [item("guid-2")]) == Counts(0, 0)
    assert keep(db, 0, [item("guid-3"), item("guid-2")]) == Counts(1, 0)  # both at once: two items, says the publisher
    assert keep(db, 0, [entry("4", "Title", url="http://a.example/2", content_html="Words.")]) == Counts(1, 0)
    assert bodies(db) == {1: ["4", "guid-3", "guid-2"]}


def test_a_feed_keeps_so_many_but_never_forgets_what_it_still_publishes(db):
    keep(db, 0, [entry(str(number)) for number in range(30)], most=20)
    assert db.execute("SELECT count(*) FROM item").fetchone()[0] == 30
    assert keep(db, 0, [entry("new")], most=20) == Counts(1, 0)
    assert db.execute("SELECT count(*) FROM item").fetchone()[0] == 20
    keep(db, 0, [entry(str(number)) for number in range(5)] + [entry("new")], most=2)
    assert {row[0] for row in db.execute("SELECT key FROM item")} >= {"0", "1", "2", "3", "4", "new"}


def test_failures_are_counted_and_a_success_ends_them(db):
    feed = items.feeds(db)[0]
    items.keep(db, feed, Outcome(NOW, NOW + 60, problem="name not found"), 10)
    items.keep(db, feed, Outcome(NOW + 60, NOW + 180, problem="connection refused"), 10)
    feed = items.feeds(db)[0]
    assert (feed.failures, feed.failing_since, feed.problem, feed.succeeded) == (2, NOW, "connection refused", None)
    keep(db, 0, [], NOW + 180, title="A", etag='"e"')
    feed = items.feeds(db)[0]
    assert (feed.failures, feed.failing_since, feed.problem, feed.succeeded) == (0, None, "", NOW + 180)
    assert (feed.title, feed.etag) == ("A", '"e"')


def test_the_store_that_never_had_a_feed(tmp_path, db):
    assert not items.is_untouched(db)
    assert items.remove_feeds(db, [feed.url for feed in items.feeds(db)]) == 2
    assert not items.is_untouched(db) and not items.remove_feeds(db, ["http://a.example/"])
    with items.opened(str(tmp_path / "other"), LOG) as other:
        assert items.is_untouched(other)


def test_removing_a_feed_removes_what_it_published(db):
    keep(db, 0, [entry("1")])
    items.remove_feeds(db, ["http://a.example/"])
    assert bodies(db) == {}


def test_newest_first_and_the_future_is_now(db):
    keep(db, 0, [entry("old", published=NOW - 5000), entry("soon", published=NOW + 10 ** 9), entry("new", published=NOW - 10),
                 entry("undated", published=None)])
    assert bodies(db)[1] == ["soon", "undated", "new", "old"] or bodies(db)[1] == ["undated", "soon", "new", "old"]
    assert [len(found) for found in items.newest_by_feed(db, 0, 100, 2).values()] == [2]
    assert items.count_by_feed(db, 0, 100) == {1: 4}


def test_the_stamp_differs_after_every_change(db):
    seen = {items.stamp(db)}
    for step in (lambda: keep(db, 0, [entry("1")], NOW + 1), lambda: keep(db, 0, [entry("1", "other")], NOW + 2),
                 lambda: items.keep_unchanged(db, [(items.feeds(db)[1], Outcome(NOW + 3, NOW))]),
                 lambda: items.add_feeds(db, [("http://c.example/", "")], NOW),
                 lambda: items.remove_feeds(db, ["http://a.example/"])):
        step()
        assert items.stamp(db) not in seen
        seen.add(items.stamp(db))


def test_windows_by_number_miss_nothing_and_repeat_nothing_whatever_the_clock_does(db):
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    now, after, seen, kept = NOW, 0, [], 0
    for number in range(300):
        now += chooser.choice([1, 60, 3600, -7200, 40000, 10 ** 8 if number == 50 else 5, -10 ** 8 if number == 60 else 5])
        kept += keep(db, number % 2, [entry("n%d" % number)], now).new
        if chooser.random() < 0.1:
            last = max(after, items.last_before(db, now - 100))
            seen += [key for keys in bodies(db, after, last).values() for key in keys]
            after = last
    last = items.last_before(db, 1e12)
    seen += [key for keys in bodies(db, after, last).values() for key in keys]
    assert len(seen) == len(set(seen)) == kept, seed


def test_a_full_disk_keeps_nothing_of_that_feed_and_says_so(db):
    keep(db, 0, [entry("1")])
    db.execute("PRAGMA max_page_count = %d" % (db.execute("PRAGMA page_count").fetchone()[0] + 2))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        keep(db, 1, [entry(str(number), "x" * 5000) for number in range(20)])
    assert bodies(db) == {1: ["1"]} and items.feeds(db)[1].checked is None
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_feed_that_was_removed_while_it_was_asked_is_no_fault(db):
    feed = items.feeds(db)[0]
    items.remove_feeds(db, [feed.url])
    assert items.keep(db, feed, Outcome(NOW, NOW, items=[entry("1")]), 100) == Counts(0, 0)
    assert bodies(db) == {}


def test_a_password_is_not_shown():
    feed = items.Feed(1, "https://ada:se@cret@news.example/f?a=@b", "", "", NOW, 0, None, None, None, "", 0, "", "")
    assert feed.shown_url == feed.name == "https://news.example/f?a=@b"
