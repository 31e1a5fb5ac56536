"""The item store: the feeds of this lab and what they published. The rss service fills it, the digest reads it.

An item is told from others of its feed by its key: the id that the publisher gave, else its link, else a hash of its
words. Items are kept as JSON Feed 1.1 objects, their content as published. An item whose object changed is kept in its
place, in its new form, under its old number, so an update is never news twice.

Numbers rise in the order of commits (AUTOINCREMENT, one writer at a time by BEGIN IMMEDIATE). Whoever has read up to a
number misses nothing and sees nothing twice, whatever the clock did meanwhile.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from typing import ContextManager, Iterable, NamedTuple

from penny.core import store
from penny.core.log import Log

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
)


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
    """Remove feeds and what they published, all at once; returns how many there were."""
    with store.transaction(db):
        return sum(db.execute("DELETE FROM feed WHERE url = ?", (url,)).rowcount for url in urls)


def keep(db: sqlite3.Connection, feed: Feed, outcome: Outcome, most: int) -> Counts:
    """Keep what a feed answered, its items and its state in one transaction. At most `most` items stay of a feed, and
    those that it still publishes. Raises store.StoreError, and then nothing was kept."""
    with store.transaction(db):
        counts = Counts(0, 0)
        still_there = db.execute("SELECT 1 FROM feed WHERE id = ?", (feed.id,)).fetchone()
        if outcome.items is not None and still_there:  # the owner may have removed it while it was being asked
            counts = _keep_items(db, feed.id, outcome, most)
        _keep_state(db, feed, outcome)
    return counts


def keep_unchanged(db: sqlite3.Connection, outcomes: Iterable[tuple[Feed, Outcome]]) -> None:
    """Keep the state of feeds that had nothing new, all at once: a round of 304s is one commit."""
    with store.transaction(db):
        for feed, outcome in outcomes:
            _keep_state(db, feed, outcome)


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


def _keep_items(db: sqlite3.Connection, feed: int, outcome: Outcome, most: int) -> Counts:
    known = dict(db.execute("SELECT key, digest FROM item WHERE feed = ?", (feed,)))
    current = {key_of(item) for item, _ in outcome.items or []}
    # What this feed has under ids that it no longer gives, by link and words: see below.
    renamed = {words: key for key, words in db.execute("SELECT key, words FROM item WHERE feed = ? AND words != x''", (feed,))
               if key not in current}
    new = updated = 0
    seen = set()
    # Publishers list the newest first; the oldest gets the lowest number.
    for item, published in reversed(outcome.items or []):
        key = key_of(item)
        if key in seen:
            continue
        seen.add(key)
        words = words_of(item)
        body = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.blake2b(body.encode(), digest_size=16).digest()
        if key not in known and words in renamed:  # an unstable id: the same link and words under a new one are not news
            db.execute("UPDATE item SET key = ?, digest = ?, body = ? WHERE feed = ? AND key = ?",
                       (key, digest, body, feed, renamed.pop(words)))
        elif key not in known:
            db.execute("INSERT INTO item (feed, key, digest, words, arrived, published, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                       (feed, key, digest, words, outcome.checked, published, body))
            new += 1
        elif known[key] != digest:
            db.execute("UPDATE item SET digest = ?, words = ?, updated = ?, published = ?, body = ? WHERE feed = ? AND key = ?",
                       (digest, words, outcome.checked, published, body, feed, key))
            updated += 1
    _forget_oldest(db, feed, current, most)
    return Counts(new, updated)


def _forget_oldest(db: sqlite3.Connection, feed: int, current: set[str], most: int) -> None:
    """What a feed still publishes is never forgotten: it would come back as new."""
    excess = db.execute("SELECT count(*) FROM item WHERE feed = ?", (feed,)).fetchone()[0] - most
    if excess > 0:
        oldest = db.execute("SELECT id, key FROM item WHERE feed = ? ORDER BY id", (feed,)).fetchall()
        gone = [(id,) for id, key in oldest if key not in current][:excess]
        db.executemany("DELETE FROM item WHERE id = ?", gone)


def words_of(item: dict) -> bytes:
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
    """An item as it is kept."""

    id: int
    feed: int
    arrived: float
    published: float | None
    body: dict  # a JSON Feed item


def newest_by_feed(db: sqlite3.Connection, after: int, last: int, most: int) -> dict[int, list[Stored]]:
    """Of the items with a number over `after` and up to `last`: the newest `most` of each feed, newest first, by date
    of publication where there is one, else of arrival."""
    found: dict[int, list[Stored]] = {}
    rows = db.execute("SELECT id, feed, arrived, published, min(coalesce(published, arrived), arrived) AS at FROM item"
                      " WHERE id > ? AND id <= ? ORDER BY at DESC, id DESC", (after, last))
    for row in rows:
        section = found.setdefault(row["feed"], [])
        if len(section) < most:
            section.append(Stored(row["id"], row["feed"], row["arrived"], row["published"], {}))
    return {feed: [item._replace(body=_body(db, item.id)) for item in section] for feed, section in found.items()}


def _body(db: sqlite3.Connection, id: int) -> dict:
    return json.loads(db.execute("SELECT body FROM item WHERE id = ?", (id,)).fetchone()[0])


def count_by_feed(db: sqlite3.Connection, after: int, last: int) -> dict[int, int]:
    """How many items with a number over `after` and up to `last` each feed has."""
    return dict(db.execute("SELECT feed, count(*) FROM item WHERE id > ? AND id <= ? GROUP BY feed", (after, last)))


def last_before(db: sqlite3.Connection, until: float) -> int:
    """The highest number of an item that arrived before `until`. What was stamped later but has a lower number (the
    clock was set back in between) counts as before, so that nothing is ever left between two editions."""
    return db.execute("SELECT coalesce(max(id), 0) FROM item WHERE arrived < ?", (until,)).fetchone()[0]


def stamp(db: sqlite3.Connection) -> tuple:
    """A value that differs whenever something was kept since: what was built from the store is then stale."""
    feed = db.execute("SELECT total(checked), count(*), max(id) FROM feed").fetchone()
    return tuple(feed) + (db.execute("SELECT max(id) FROM item").fetchone()[0],)
