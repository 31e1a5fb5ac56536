"""The item store: the feeds of this lab and what they published. The rss service fills it, the digest reads it.

An item is told from others of its feed by its key: the id that the publisher gave, else its link, else a hash of its
words. Items are kept as JSON Feed 1.1 objects, their content as published. An item whose object changed is kept in its
place, in its new form, under its old number, so an update is never news twice.

Numbers rise in the order of commits (AUTOINCREMENT, one writer at a time by BEGIN IMMEDIATE). Whoever has read up to a
number misses nothing and sees nothing twice, whatever the clock did meanwhile.

What became of an item stands in `reading`: the owner's star; whether its feed still listed it in its last whole answer;
and what indexing found (stages/index.py, search.py): the mark and tags of the owner's rules, the story, which is the
number of the first item that told it, and in `repeats` the number of an item before it that is nearly the same word for
word. That is 0 for what came from an archive: it was news long ago.

A feed keeps so many items, and where the owner says so, those of so many days. Days are counted in `calendar`, which
gets a row on each new day on which a feed answers, with the last item before it: a clock that jumps by years is one day
more, and forgets nothing. What a feed still lists is never forgotten, since it would come back as new, and neither is
what has a star. Items are forgotten a batch at a time: others that write wait meanwhile.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from typing import ContextManager, Iterable, NamedTuple, Sequence

from penny.core import store
from penny.core.errors import PennyError
from penny.core.log import Log
from penny.stages import index

MIGRATIONS = (
    ("""CREATE TABLE feed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        url TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL DEFAULT '',
        home_page_url TEXT NOT NULL DEFAULT '',
        added REAL NOT NULL,
        due REAL NOT NULL DEFAULT 0,
        checked REAL,
        succeeded REAL,
        failing_since REAL,
        problem TEXT NOT NULL DEFAULT '',
        failures INTEGER NOT NULL DEFAULT 0,
        etag TEXT NOT NULL DEFAULT '',
        modified TEXT NOT NULL DEFAULT '')""",
     """CREATE TABLE item (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        feed INTEGER NOT NULL REFERENCES feed(id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        digest BLOB NOT NULL,
        arrived REAL NOT NULL,
        updated REAL,
        published REAL,
        body TEXT NOT NULL,
        UNIQUE (feed, key))"""),
    ("ALTER TABLE feed ADD COLUMN moved_to TEXT NOT NULL DEFAULT ''",
     "ALTER TABLE feed ADD COLUMN parked REAL",
     "ALTER TABLE feed ADD COLUMN wish REAL NOT NULL DEFAULT 0",
     "ALTER TABLE feed ADD COLUMN skip TEXT NOT NULL DEFAULT '[[], []]'",
     "ALTER TABLE item ADD COLUMN words BLOB NOT NULL DEFAULT x''"),
    # Beside the items, not in them: whoever reads a column behind a body walks over all of its pages.
    ("""CREATE TABLE reading (
        item INTEGER PRIMARY KEY REFERENCES item(id) ON DELETE CASCADE,
        pending INTEGER NOT NULL DEFAULT 2,
        story INTEGER,
        mark INTEGER NOT NULL DEFAULT 0,
        labels TEXT NOT NULL DEFAULT '[]',
        starred REAL,
        signature BLOB)""",
     "INSERT INTO reading (item) SELECT id FROM item",
     "CREATE TRIGGER item_kept AFTER INSERT ON item BEGIN INSERT INTO reading (item) VALUES (new.id); END",
     "CREATE INDEX reading_pending ON reading (item) WHERE pending > 0",
     "CREATE INDEX reading_starred ON reading (item) WHERE starred IS NOT NULL",
     "CREATE TABLE band (band INTEGER, feed INTEGER, item INTEGER, PRIMARY KEY (band, feed, item)) WITHOUT ROWID",
     "CREATE TABLE calendar (number INTEGER PRIMARY KEY, day TEXT NOT NULL UNIQUE, last_item INTEGER NOT NULL)",
     "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"),
    ("DROP TABLE band",
     "ALTER TABLE reading ADD COLUMN owner INTEGER NOT NULL DEFAULT 0",
     "ALTER TABLE reading ADD COLUMN repeats INTEGER",
     "ALTER TABLE reading ADD COLUMN listed INTEGER NOT NULL DEFAULT 1",
     "UPDATE reading SET owner = (SELECT feed FROM item WHERE id = reading.item)",
     "DROP TRIGGER item_kept",
     """CREATE TRIGGER item_kept AFTER INSERT ON item
        BEGIN INSERT INTO reading (item, owner) VALUES (new.id, new.feed); END"""),
)


LONGEST_AGE = 4_000  # days that the calendar goes back
BATCH = 50  # items that are forgotten in one transaction


class Feed(NamedTuple):
    """A feed that is collected. Times are Unix seconds, None for never."""

    id: int
    url: str
    title: str  # the publisher's, or the owner's until the first success
    home_page_url: str
    added: float
    due: float  # when it is to be asked next
    checked: float | None  # when it was asked last
    succeeded: float | None  # when it answered last
    failing_since: float | None  # the first of the failures in a row
    problem: str  # the reason of the last failure, "" after a success
    failures: int  # in a row
    etag: str
    modified: str
    moved_to: str = ""  # where its last answer said that it had moved for good, once
    parked: float | None = None  # since when it is not asked any more, because it is gone for good
    wish: float = 0  # for how many seconds it asks to be left alone
    skip: str = "[[], []]"  # the hours and days in which it does not want to be asked, as JSON

    @property
    def shown_url(self) -> str:
        """The address without the user and password that it may hold: what pages, editions and logs may say."""
        return re.sub(r"^([a-z]+://)[^/?#]*@", r"\1", self.url, flags=re.I)

    @property
    def name(self) -> str:
        return self.title or self.shown_url


class Outcome(NamedTuple):
    """What asking a feed gave. `items` is None when there was nothing new to read."""

    checked: float
    due: float
    problem: str = ""
    title: str = ""
    home_page_url: str = ""
    etag: str = ""
    modified: str = ""
    items: list[tuple[dict, float | None]] | None = None  # JSON Feed items, each with its date of publication
    moved_to: str = ""  # where it says that it has moved for good
    parked: bool = False  # whether it says that it is gone for good
    wish: float = 0
    skip: str = "[[], []]"


class Counts(NamedTuple):
    new: int
    updated: int


def opened(state_dir: str, log: Log) -> ContextManager[sqlite3.Connection]:
    """The store of this box, for the length of a with block. Raises store.StoreError."""
    return store.opened(os.path.join(state_dir, "rss", "items.db"), MIGRATIONS, log)


def feeds(db: sqlite3.Connection) -> list[Feed]:
    """All feeds, in the order in which they were added."""
    return [Feed(*row) for row in db.execute("SELECT %s FROM feed ORDER BY id" % ", ".join(Feed._fields))]


def is_untouched(db: sqlite3.Connection) -> bool:
    """Whether there has never been a feed in this store."""
    return db.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'feed'").fetchone() is None


def add_feeds(db: sqlite3.Connection, entries: Iterable[tuple[str, str]], now: float) -> int:
    """Add feeds given as (url, title); returns how many were new."""
    with store.transaction(db):
        before = db.total_changes
        db.executemany("INSERT OR IGNORE INTO feed (url, title, added) VALUES (?, ?, ?)",
                       [(url, title, now) for url, title in entries])
        return db.total_changes - before


def remove_feeds(db: sqlite3.Connection, urls: Iterable[str]) -> int:
    """Remove feeds and what they published; returns how many there were. Raises PennyError where an item has a star, and
    then that feed stays. The oldest items go first: cut short, a feed has fewer, and removing it again goes on."""
    urls = list(urls)
    _refuse_starred(db, urls)
    removed = 0
    for url in urls:
        some = True
        while some:
            with index.batch(db):
                _refuse_starred(db, [url])
                some = db.execute("SELECT item.id FROM item JOIN feed ON feed.id = feed WHERE url = ? ORDER BY item.id LIMIT ?",
                                  (url, BATCH)).fetchall()
                _delete(db, [item for item, in some])
                if not some:
                    removed += db.execute("DELETE FROM feed WHERE url = ?", (url,)).rowcount
    return removed


def _refuse_starred(db: sqlite3.Connection, urls: Iterable[str]) -> None:
    for url in urls:
        stars = db.execute("SELECT count(*) FROM reading JOIN item ON item.id = reading.item JOIN feed ON feed.id = item.feed"
                           " WHERE starred IS NOT NULL AND feed.url = ?", (url,)).fetchone()[0]
        if stars:
            raise PennyError("cannot remove %s: %d of its items have a star; penny rss search --starred --feed %s lists them,"
                             " and penny rss unstar N takes it away" % (url, stars, url))


def star(db: sqlite3.Connection, numbers: Iterable[int], at: float | None) -> None:
    """Give items a star, which keeps them for good, or with None take it away. One that has a star keeps the time at
    which it got it. Raises PennyError for a number that is unknown, and then nothing is changed."""
    with store.transaction(db):
        for number in numbers:
            known = db.execute("UPDATE reading SET starred = CASE WHEN ?1 IS NULL THEN NULL ELSE coalesce(starred, ?1) END"
                               " WHERE item = ?2", (at, min(number, 1 << 62))).rowcount
            if not known:
                raise PennyError("there is no item %d; penny rss search shows the numbers" % number)


def keep(db: sqlite3.Connection, feed: Feed, outcome: Outcome, most: int) -> Counts:
    """Keep what a feed answered, its items and its state in one transaction. `most` items stay of a feed, and whatever
    it still lists or has a star; where there are many more, some go each time. Raises store.StoreError, and then nothing
    was kept."""
    with store.transaction(db):
        counts = Counts(0, 0)
        still_there = db.execute("SELECT 1 FROM feed WHERE id = ?", (feed.id,)).fetchone()
        if outcome.items is not None and still_there:  # the owner may have removed it while it was being asked
            _turn_calendar(db, outcome.checked)
            current = {key_of(item) for item, _ in outcome.items}
            counts = _keep_items(db, feed.id, outcome, current)
            _forget_surplus(db, feed.id, current, most, BATCH + counts.new)
        _keep_state(db, feed, outcome)
    return counts


def keep_unchanged(db: sqlite3.Connection, outcomes: Iterable[tuple[Feed, Outcome]]) -> None:
    """Keep the state of feeds that had nothing new, all at once: a round of 304s is one commit."""
    with store.transaction(db):
        for feed, outcome in outcomes:
            _keep_state(db, feed, outcome)
            if not outcome.problem:
                _turn_calendar(db, outcome.checked)


def forget_old(db: sqlite3.Connection, age: int) -> int:
    """Forget a batch of what is older than `age` days, but for what its feed still lists and what has a star. Returns how
    many were forgotten: 0 when there are no more."""
    old = db.execute("SELECT last_item FROM calendar ORDER BY number DESC LIMIT 1 OFFSET ?", (age,)).fetchone()
    with index.batch(db):
        gone = db.execute("SELECT item FROM reading WHERE item <= ? AND NOT listed AND starred IS NULL ORDER BY item LIMIT ?",
                          (old[0] if old else 0, BATCH)).fetchall()
        _delete(db, [item for item, in gone])
    return len(gone)


def postpone(db: sqlite3.Connection, feeds: Iterable[Feed], due: float) -> None:
    """Ask none of these feeds before `due`: their host wants to be left alone."""
    with store.transaction(db):
        db.executemany("UPDATE feed SET due = max(due, ?) WHERE id = ?", [(due, feed.id) for feed in feeds])


def _keep_state(db: sqlite3.Connection, feed: Feed, outcome: Outcome) -> None:
    if outcome.problem:
        db.execute("UPDATE feed SET checked = ?, due = ?, problem = ?, failures = failures + 1, parked = ?,"
                   " failing_since = coalesce(failing_since, ?) WHERE id = ?",
                   (outcome.checked, outcome.due, outcome.problem, outcome.checked if outcome.parked else None,
                    outcome.checked, feed.id))
        return
    db.execute("UPDATE feed SET checked = ?, due = ?, succeeded = ?, problem = '', failures = 0, failing_since = NULL,"
               " parked = NULL, title = ?, home_page_url = ?, etag = ?, modified = ?, wish = ?, skip = ?, moved_to = ?"
               " WHERE id = ?",
               (outcome.checked, outcome.due, outcome.checked, outcome.title or feed.title,
                outcome.home_page_url or feed.home_page_url, outcome.etag, outcome.modified, outcome.wish, outcome.skip,
                outcome.moved_to, feed.id))
    # Seen twice: a proxy of a hotel or a slip of the publisher says so once. A feed that is there already stays apart.
    if outcome.moved_to and outcome.moved_to == feed.moved_to:
        db.execute("UPDATE OR IGNORE feed SET url = ?, moved_to = '', etag = '', modified = '' WHERE id = ?",
                   (outcome.moved_to, feed.id))


def _keep_items(db: sqlite3.Connection, feed: int, outcome: Outcome, current: set[str]) -> Counts:
    known = {key: rest for key, *rest in db.execute("SELECT key, id, digest, words FROM item WHERE feed = ?", (feed,))}
    # What this feed has under ids that it no longer gives, by link and words: see below.
    renamed = {words: id for key, (id, _, words) in known.items() if words and key not in current}
    new = updated = 0
    seen = set()
    # Publishers list the newest first; the oldest gets the lowest number.
    for item, published in reversed(outcome.items or []):
        key = key_of(item)
        if key in seen:
            continue
        seen.add(key)
        words = fingerprint_of(item)
        body = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.blake2b(body.encode(), digest_size=16).digest()
        if key not in known and words in renamed:  # an unstable id: the same link and words under a new one are not news
            db.execute("UPDATE item SET key = ?, digest = ?, body = ? WHERE id = ?", (key, digest, body, renamed.pop(words)))
        elif key not in known:
            db.execute("INSERT INTO item (feed, key, digest, words, arrived, published, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                       (feed, key, digest, words, outcome.checked, published, body))
            new += 1
        elif known[key][1] != digest:
            id, _, known_words = known[key]
            if not words or words != known_words:  # a date or a tag of the publisher's changes nothing in the index
                index.take_out(db, [id])
            db.execute("UPDATE item SET digest = ?, words = ?, updated = ?, published = ?, body = ? WHERE id = ?",
                       (digest, words, outcome.checked, published, body, id))
            updated += 1
    return Counts(new, updated)


def _turn_calendar(db: sqlite3.Connection, now: float) -> None:
    """A row for a day that was not seen yet."""
    db.execute("INSERT OR IGNORE INTO calendar (day, last_item) SELECT ?, coalesce(max(id), 0) FROM item",
               (time.strftime("%Y-%m-%d", time.gmtime(now)),))
    db.execute("DELETE FROM calendar WHERE number <= (SELECT max(number) FROM calendar) - ?", (LONGEST_AGE + 1,))


def _forget_surplus(db: sqlite3.Connection, feed: int, current: set[str], most: int, batch: int) -> None:
    """Mark what a feed lists, and forget the oldest of the rest, a batch at most."""
    kept = db.execute("SELECT id, key, listed, starred IS NOT NULL FROM item JOIN reading ON item = id WHERE feed = ?"
                      " ORDER BY id", (feed,)).fetchall()
    db.executemany("UPDATE reading SET listed = ? WHERE item = ?",
                   [(key in current, id) for id, key, listed, _ in kept if listed != (key in current)])
    may_go = [id for id, key, _, starred in kept if key not in current and not starred]
    _delete(db, may_go[:min(batch, max(0, len(kept) - most))])


def _delete(db: sqlite3.Connection, gone: Sequence[int]) -> None:
    """Delete items, within the caller's transaction."""
    if gone:
        index.take_out(db, gone)
        db.executemany("DELETE FROM item WHERE id = ?", [(id,) for id in gone])


def fingerprint_of(item: dict) -> bytes:
    """A hash of an item's link and words, whatever its id and dates say; b"" where it has no link."""
    if not item.get("url"):
        return b""
    words = json.dumps([item.get(name) for name in ("url", "title", "content_html", "content_text", "summary")])
    return hashlib.blake2b(words.encode(), digest_size=16).digest()


def key_of(item: dict) -> str:
    """What tells an item from the others of its feed."""
    key = item.get("id") or item.get("url")
    if not key or len(key) > 500:
        words = key or json.dumps([item.get(name) for name in ("title", "content_html", "content_text", "summary")])
        key = "hash:" + hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
    return key


class Stored(NamedTuple):
    """An item as the digest sees it."""

    id: int
    feed: int
    arrived: float
    published: float | None
    body: dict  # a JSON Feed item
    raised: bool  # by a rule of the owner's
    also: tuple[tuple[int, str], ...] = ()  # feed and url of those that tell the same story elsewhere


class News(NamedTuple):
    newest: dict[int, list[Stored]]  # of each feed: what was raised first, then the newest first
    counts: dict[int, int]  # how many of each feed there are in all


# Of a span of numbers: what no rule dropped and what repeats nothing that was told before it.
_NEWS = (" FROM item JOIN reading ON item = id WHERE id > :after AND id <= :last AND mark >= 0"
         " AND coalesce(repeats, id) > :after")
_AT = "min(coalesce(published, arrived), arrived)"  # as time_of has it


def time_of(published: float | None, arrived: float) -> float:
    """When an item was published; the future is now, and what has no date is of its arrival."""
    return arrived if published is None else min(published, arrived)


def news(db: sqlite3.Connection, after: int, last: int, most: int) -> News:
    """What is news among the items with a number over `after` and up to `last`: the newest `most` of each feed, by date
    of publication where there is one, else of arrival. Of a story that several feeds tell, the earliest stands and names
    the others. An item that is not indexed yet is a story of its own. What only shares a story with an item of before is
    news: nothing may be lost because publishers repeat themselves."""
    span = {"after": after, "last": last}
    also, told = _stories(db, span)
    found = News({}, {})
    rows = db.execute("SELECT id, feed, arrived, published, mark > 0%s ORDER BY mark DESC, %s DESC, id DESC" % (_NEWS, _AT), span)
    for id, feed, arrived, published, raised in rows:
        if id in told:
            continue
        found.counts[feed] = found.counts.get(feed, 0) + 1
        section = found.newest.setdefault(feed, [])
        if len(section) < most:
            section.append(Stored(id, feed, arrived, published, {}, bool(raised)))
    for feed, section in found.newest.items():
        found.newest[feed] = [item._replace(body=_body(db, item.id), also=tuple(
            (feed, str(_body(db, id).get("url", ""))) for id, feed in also.get(item.id, ()))) for item in section]
    return found


def _stories(db: sqlite3.Connection, span: dict[str, int]) -> tuple[dict[int, list[tuple[int, int]]], set[int]]:
    """By the number of each item that stands for a story of several feeds, the number and feed of the others; and all of
    these others. The earliest stands, but one that was raised before one that was not. Two items of one feed are never
    the same: publishers repeat their backgrounds."""
    first: dict[int, tuple[int, int]] = {}
    also: dict[int, list[tuple[int, int]]] = {}
    rows = db.execute("SELECT id, feed, story%s AND story IN (SELECT story FROM reading WHERE item > :after AND item <= :last"
                      " AND story != item) ORDER BY mark DESC, %s, id" % (_NEWS, _AT), span)
    for id, feed, story in rows:
        standing, owner = first.setdefault(story, (id, feed))
        if feed != owner:
            also.setdefault(standing, []).append((id, feed))
    return also, {id for others in also.values() for id, _ in others}


def _body(db: sqlite3.Connection, id: int) -> dict:
    return json.loads(db.execute("SELECT body FROM item WHERE id = ?", (id,)).fetchone()[0])


def last_before(db: sqlite3.Connection, until: float) -> int:
    """The highest number of an item that arrived before `until`. What was stamped later but has a lower number (the
    clock was set back in between) counts as before, so that nothing is ever left between two editions."""
    return db.execute("SELECT coalesce(max(id), 0) FROM item WHERE arrived < ?", (until,)).fetchone()[0]


def stamp(db: sqlite3.Connection) -> tuple:
    """A value that differs whenever something was kept or indexed since: what was built from the store is then stale."""
    feed = db.execute("SELECT total(checked), count(*), max(id) FROM feed").fetchone()
    pending = db.execute("SELECT count(*) FROM reading WHERE pending > 0").fetchone()[0]
    rules = db.execute("SELECT max(value) FROM note WHERE name = 'rules'").fetchone()[0]
    return tuple(feed) + (db.execute("SELECT max(id) FROM item").fetchone()[0], pending, rules)
