from __future__ import annotations

import random
import sqlite3
import threading
import time

import pytest

from penny.core import store
from penny.core.errors import PennyError
from penny.core.log import Log
from penny.stages import index, items, rules, search
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
            for feed, found in items.news(db, after, last, 100).newest.items()}


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


DAY = 86400.0


def test_many_more_than_a_feed_keeps_are_forgotten_a_batch_at_a_time(db):
    keep(db, 0, [entry(str(number)) for number in range(300)], most=1000)
    left = []
    for number in range(6):
        keep(db, 0, [entry("new%d" % number)], most=100)
        left.append(db.execute("SELECT count(*) FROM item").fetchone()[0])
    assert left == [250, 200, 150, 100, 100, 100]
    for number in range(4):  # all its ids are new each time: it never keeps more than that and what it lists
        keep(db, 0, [entry("%d-%d" % (number, index)) for index in range(200)], most=100)
    assert db.execute("SELECT count(*) FROM item").fetchone()[0] <= 100 + 200 + items.BATCH


def keys(db):
    return [row[0] for row in db.execute("SELECT key FROM item ORDER BY id")]


def test_what_is_older_than_so_many_days_is_forgotten_but_not_what_is_still_published(db):
    def days(number, *names):
        keep(db, 0, [entry(name) for name in names], NOW + number * DAY)
        items.forget_old(db, 2)
        return keys(db)
    days(0, "stays", "a")
    days(0.1, "stays", "b")
    assert days(1, "stays", "c") == ["a", "stays", "b", "c"]
    assert days(2, "stays", "d") == ["a", "stays", "b", "c", "d"]  # on the third day they may be two days old, or less
    assert days(3, "stays", "e") == ["stays", "c", "d", "e"]
    assert days(3.5, "stays") == ["stays", "c", "d", "e"] and days(6, "f") == ["d", "e", "f"]


def test_a_clock_that_jumps_forgets_nothing_that_came_on_the_last_days_of_collecting(db):
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    now, arrived, age = NOW, {}, 5
    seen: list[str] = []  # the days, in the order in which they were first seen
    for number in range(400):
        now += chooser.choice([3600, 7200, 40_000, 40_000, chooser.choice([3000, -3000, 40, -40]) * DAY])
        day = int(now // DAY)
        seen += [day] if day not in seen else []
        arrived["n%d" % number] = len(seen)
        keep(db, 0, [entry("n%d" % number)], now, 1000)
        items.forget_old(db, age)
        assert set(keys(db)) == {name for name, at in arrived.items() if len(seen) - at <= age}, seed
    assert 0 < len(keys(db)) < 400


def test_age_holds_for_a_feed_that_says_nothing_any_more(db):
    keep(db, 0, [entry("a"), entry("starred"), entry("gone")])
    keep(db, 0, [entry("a"), entry("b")], NOW + 1)
    items.star(db, [2], NOW)
    keep(db, 1, [entry("other")])
    unchanged, dead = items.feeds(db)
    for day in range(5):
        items.keep_unchanged(db, [(dead, Outcome(NOW + day * DAY, NOW, problem="no answer"))])
        assert items.forget_old(db, 2) == 0  # a day without any answer is no day of collecting
    for day in range(5):
        items.keep_unchanged(db, [(unchanged, Outcome(NOW + day * DAY, NOW))])
    assert items.forget_old(db, 2) == 1 and items.forget_old(db, 2) == 0
    assert keys(db) == ["starred", "a", "b", "other"]
    keep(db, 0, [entry("b")], NOW + 6 * DAY)  # its next whole answer
    assert items.forget_old(db, 2) == 1 and keys(db) == ["starred", "b", "other"]


def test_what_is_too_old_is_forgotten_a_batch_at_a_time(db):
    keep(db, 0, [entry(str(number)) for number in range(120)])
    keep(db, 0, [], most=1000)
    keep(db, 1, [entry("new")], NOW + 9 * DAY)
    keep(db, 1, [entry("new")], NOW + 10 * DAY)
    assert [items.forget_old(db, 1) for _ in range(4)] == [50, 50, 20, 0] and keys(db) == ["new"]


def test_the_calendar_is_bounded(db, monkeypatch):
    monkeypatch.setattr(items, "LONGEST_AGE", 10)
    for number in range(30):
        keep(db, 0, [entry(str(number))], NOW + number * DAY)
    assert db.execute("SELECT count(*) FROM calendar").fetchone()[0] == 11


def test_a_star_keeps_an_item_for_good(db):
    keep(db, 0, [entry(str(number)) for number in range(5)])  # 4 is number 1, and so on
    items.star(db, [1, 2], NOW)
    items.star(db, [2], NOW + 9)
    for number, key in enumerate("abc"):
        keep(db, 0, [entry(key)], NOW + (99 + 100 * number) * DAY, 1)
        items.forget_old(db, 1)
    assert keys(db) == ["4", "3", "c"]
    assert [found.starred for found in search.find(db, search.Wanted(starred=True))] == [NOW, NOW]
    items.star(db, [1], None)
    keep(db, 0, [entry("c")], NOW, most=1)
    assert keys(db) == ["3", "c"]


@pytest.mark.parametrize("number", [0, 99, -1, 1 << 80])
@pytest.mark.parametrize("at", [NOW, None])
def test_a_number_that_is_unknown_changes_nothing(db, number, at):
    keep(db, 0, [entry("1"), entry("2")])
    items.star(db, [1], NOW)
    with pytest.raises(PennyError, match="there is no item %d; penny rss search shows the numbers" % number):
        items.star(db, [1, 2, number], at)
    assert [found.id for found in search.find(db, search.Wanted(starred=True))] == [1]


def test_a_feed_with_a_star_is_not_removed_and_neither_are_those_beside_it(db):
    keep(db, 0, [entry("1")])
    keep(db, 1, [entry("2")])
    items.star(db, [2], NOW)
    search.index_new(db)
    with pytest.raises(PennyError, match="cannot remove http://b.example/: 1 of its items have a star; penny rss search --star"):
        items.remove_feeds(db, ["http://a.example/", "http://b.example/"])
    assert bodies(db) == {1: ["1"], 2: ["2"]} and not search.pending(db)
    items.star(db, [2], None)
    assert items.remove_feeds(db, ["http://a.example/", "http://b.example/"]) == 2


def test_a_feed_that_gets_a_star_while_it_is_removed_stays_with_the_newest(db, monkeypatch):
    keep(db, 0, [entry(str(number)) for number in range(120)], most=1000)
    delete = items._delete

    def interfere(db, gone):
        delete(db, gone)
        db.execute("UPDATE reading SET starred = 1 WHERE item = 110")
    monkeypatch.setattr(items, "_delete", interfere)
    with pytest.raises(PennyError, match="1 of its items have a star"):
        items.remove_feeds(db, ["http://a.example/"])
    assert keys(db) == [str(number) for number in range(69, -1, -1)] and len(items.feeds(db)) == 2
    monkeypatch.undo()
    items.star(db, [110], None)
    assert items.remove_feeds(db, ["http://a.example/"]) == 1 and keys(db) == []


def test_a_feed_is_removed_beside_an_indexer(db, tmp_path):
    """Neither undoes the work of the other: no item is indexed that was on its way out."""
    keep(db, 0, [entry(str(number), content_text="text %d" % number) for number in range(400)], most=1000)
    search.index_new(db)
    indexed, stop = [], threading.Event()

    def index_all():
        with items.opened(str(tmp_path), LOG) as other:
            while not stop.is_set():
                indexed.append(search.index_new(other))
    thread = threading.Thread(target=index_all)
    thread.start()
    try:
        assert items.remove_feeds(db, ["http://a.example/"]) == 1
    finally:
        stop.set()
        thread.join()
    assert sum(indexed) == 0 and list(search.find(db, search.Wanted("text"))) == []


def test_who_writes_gets_a_turn_between_the_batches_of_others(db, tmp_path):
    said = []

    def write():
        with items.opened(str(tmp_path), LOG) as other:
            said.append("ready")
            items.postpone(other, [], NOW)
            said.append("done")
    thread = threading.Thread(target=write)
    with index.batch(db):
        thread.start()
        time.sleep(0.75)
        assert said == ["ready"]
    assert said == ["ready", "done"]
    thread.join()


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_of_before_is_searched_like_any_other(tmp_path, version):
    path = str(tmp_path / "rss" / "items.db")
    with store.opened(path, items.MIGRATIONS[:version], LOG) as old:
        old.execute("INSERT INTO feed (url, added) VALUES ('http://a.example/', 0)")
        old.execute("INSERT INTO item (feed, key, digest, arrived, body) VALUES (1, 'k', x'00', 0, '{\"title\": \"Ferry\"}')")
    with items.opened(str(tmp_path), LOG) as db:
        assert search.index_new(db) == 1
        assert [found.body for found in search.find(db, search.Wanted("ferry"))] == [{"title": "Ferry"}]
        assert tuple(db.execute("SELECT owner, repeats, listed FROM reading").fetchone()) == (1, None, 1)


def story(db, *pairs):
    """Says for items which story they tell, and so repeat: indexing itself is tested elsewhere."""
    db.executemany("UPDATE reading SET story = ?2, repeats = nullif(?2, item), pending = 0 WHERE item = ?1", pairs)


def test_a_story_that_several_feeds_tell_is_one_and_one_that_began_before_is_no_news(db):
    items.add_feeds(db, [("http://c.example/", "C")], NOW)
    for number, key in enumerate("abcab"):
        keep(db, "abc".index(key), [entry("%s%d" % (key, number), url="http://x.example/%d" % number, published=NOW + number)], NOW + 9)
    story(db, (1, 1), (2, 1), (3, 1), (4, 1))
    found = items.news(db, 0, 99, 9)
    assert {feed: [one.id for one in section] for feed, section in found.newest.items()} == {1: [4, 1], 2: [5]}
    assert found.counts == {1: 2, 2: 1}
    assert found.newest[1][1].also == ((2, "http://x.example/1"), (3, "http://x.example/2")) and found.newest[1][0].also == ()
    assert items.news(db, 1, 99, 9).counts == {2: 1} and items.news(db, 0, 2, 9).counts == {1: 1}
    db.execute("DELETE FROM item WHERE id = 1")  # forgotten: the others go on
    assert {feed: [one.id for one in section] for feed, section in items.news(db, 0, 99, 9).newest.items()} == {2: [5, 2]}


def test_what_was_dropped_is_no_news_and_what_was_raised_comes_first(db):
    keep(db, 0, [entry(str(number), published=NOW - number) for number in range(4)])
    keep(db, 1, [entry("copy", published=NOW + 5)])
    db.execute("UPDATE reading SET mark = -1 WHERE item = 4")
    db.execute("UPDATE reading SET mark = 1 WHERE item IN (1, 5)")
    found = items.news(db, 0, 99, 2)
    assert [(one.body["id"], one.raised) for one in found.newest[1]] == [("3", True), ("1", False)] and found.counts[1] == 3
    story(db, (2, 2), (5, 2))
    assert [one.id for one in items.news(db, 0, 99, 9).newest[2]] == [5]  # of a story the one that was raised stands
    assert [one.id for one in items.news(db, 0, 99, 9).newest[1]] == [1, 3]


def test_what_repeats_an_item_of_before_is_no_news_and_what_is_only_somewhat_alike_is(db):
    keep(db, 0, [entry("1")])
    keep(db, 1, [entry("2"), entry("3")])
    story(db, (1, 1), (2, 1), (3, 1))
    db.execute("UPDATE reading SET repeats = NULL WHERE item = 2")
    assert bodies(db, 0, 1) == {1: ["1"]} and bodies(db, 1, 9) == {2: ["3"]}
    assert items.news(db, 0, 9, 9).counts == {1: 1}
    db.execute("UPDATE reading SET repeats = 0 WHERE item = 2")
    assert bodies(db, 1, 9) == {} and bodies(db, 0, 9) == {1: ["1"]}


@pytest.mark.parametrize("published, at", [(None, NOW), (NOW - 9, NOW - 9), (NOW + 9, NOW), (0.0, 0.0), (-9.0, -9.0)])
def test_when_an_item_was_published(db, published, at):
    keep(db, 0, [entry("1", published=published)])
    assert items.time_of(published, NOW) == at == db.execute("SELECT %s FROM item" % items._AT).fetchone()[0]


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
    found = items.news(db, 0, 100, 2)
    assert [len(section) for section in found.newest.values()] == [2] and found.counts == {1: 4}


def test_the_stamp_differs_after_every_change(db):
    seen = {items.stamp(db)}
    for step in (lambda: keep(db, 0, [entry("1")], NOW + 1), lambda: keep(db, 0, [entry("1", "other")], NOW + 2),
                 lambda: items.keep_unchanged(db, [(items.feeds(db)[1], Outcome(NOW + 3, NOW))]),
                 lambda: search.index_new(db), lambda: search.use_rules(db, rules.listed(["a"], [], [])),
                 lambda: search.index_new(db), lambda: items.add_feeds(db, [("http://c.example/", "")], NOW),
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
