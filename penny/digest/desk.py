"""The desk: seals editions when they are due, builds the draft, and finds either by its day.

The store of sealed editions is digest/editions.db, written here alone. Each sealed edition remembers the number of the
last item that it covers, and the next one starts after it: nothing is lost or repeated between two, however late
either was sealed.
"""
from __future__ import annotations

import math
import os
import sqlite3
import threading
from types import SimpleNamespace
from typing import ContextManager, NamedTuple

from penny.core import store
from penny.core.clock import last_time_of_day, next_time_of_day
from penny.core.run import Context
from penny.digest import edition
from penny.digest.edition import Edition
from penny.stages import items, search

MIGRATIONS = (
    ("""CREATE TABLE edition (
        day TEXT PRIMARY KEY,
        closes REAL NOT NULL,
        last_item INTEGER NOT NULL,
        body TEXT NOT NULL) WITHOUT ROWID""",),
)
KEPT = 400  # sealed editions; older ones are forgotten
INDEXING = 30.0  # seconds that sealing may wait for


class _Built(NamedTuple):
    stamp: tuple
    edition: Edition


class Desk:
    """Everything that the page and the command ask for. Safe for several threads."""

    def __init__(self, settings: SimpleNamespace, context: Context) -> None:
        self._context, self._closes = context, settings.closes
        self._limits = edition.Limits(settings.items, settings.share)
        self._lock = threading.Lock()
        self._built: _Built | None = None

    def _editions(self) -> ContextManager[sqlite3.Connection]:
        return store.opened(os.path.join(self._context.state_dir, "digest", "editions.db"), MIGRATIONS, self._context.log)

    def _items(self) -> ContextManager[sqlite3.Connection]:
        return items.opened(self._context.state_dir, self._context.log)

    def next_closing(self) -> float:
        return next_time_of_day(self._context.clock.time(), self._closes)

    def seal_due(self) -> Edition | None:
        """Seal the edition that closed last, unless that was done; returns it when it was done now.

        A box that was off for days makes one edition of them, not several. None is sealed for a morning before there
        was any feed. Raises store.StoreError, and then nothing was sealed.
        """
        with self._editions() as editions, self._items() as db:
            feeds = items.feeds(db)
            now = self._context.clock.time()  # after the feeds: one that was added this moment is not from the future
            closes = last_time_of_day(now, self._closes)
            # A feed from the future was added while the clock was wrong.
            has_feeds = any(feed.added < closes or feed.added > now for feed in feeds)
            if self._is_sealed(editions, closes, now) or not has_feeds:
                return None
            self._index(editions, db)  # before the lock: pages are answered meanwhile
            if self._context.stop.is_set():
                return None
            with self._lock, store.transaction(editions):
                # Asked again under the write lock: a command and the service may both have found it due.
                if self._is_sealed(editions, closes, now):
                    return None
                made, last = self._build(editions, db, closes, sealed=True)
                editions.execute("INSERT INTO edition (day, closes, last_item, body) VALUES (?, ?, ?, ?)",
                                 (made.day, closes, last, edition.to_json(made)))
                editions.execute("DELETE FROM edition WHERE day NOT IN"
                                 " (SELECT day FROM edition ORDER BY closes DESC LIMIT ?)", (KEPT,))
            return made

    def _index(self, editions: sqlite3.Connection, db: sqlite3.Connection) -> None:
        """Index what is to be sealed, as far as there is time: the morning does not wait, and the collector does the rest."""
        after, end = self._last_sealed(editions), self._context.clock.monotonic() + INDEXING
        search.index_new(db, self._context.stop, after=after, is_over=lambda: self._context.clock.monotonic() >= end)
        left = search.pending(db, after)
        if left:
            self._context.log.warning("%d items are not indexed yet: the rules are not applied to them, and what several feeds"
                                      " tell is not told once", left)

    def draft(self) -> Edition:
        """The edition that closes next, as it would be now; built anew only when something was collected since."""
        closes = self.next_closing()
        with self._lock, self._editions() as editions, self._items() as db:
            stamp = (closes, self._last_sealed(editions)) + items.stamp(db)
            if self._built is None or self._built.stamp != stamp:
                self._built = _Built(stamp, self._build(editions, db, closes, sealed=False)[0])
            return self._built.edition

    def sealed(self, day: str) -> Edition | None:
        with self._editions() as editions:
            row = editions.execute("SELECT body FROM edition WHERE day = ?", (day,)).fetchone()
        return edition.from_json(row[0]) if row else None

    def today(self) -> Edition:
        """This morning's edition; until there is one, the draft of the next."""
        return self.sealed(edition.day_of(self._context.clock.time())) or self.draft()

    def days(self) -> list[str]:
        """The days of all sealed editions, newest first."""
        with self._editions() as editions:
            return [row[0] for row in editions.execute("SELECT day FROM edition ORDER BY closes DESC")]

    @staticmethod
    def _is_sealed(editions: sqlite3.Connection, closes: float, now: float) -> bool:
        """Whether the edition of that morning is sealed. One of the future, from days when the clock was wrong, does not
        stand in the way; one of the same day does, whatever its hour of closing was: a sealed edition is never replaced,
        and what arrived since is in the next."""
        return editions.execute("SELECT 1 FROM edition WHERE day = ? OR closes BETWEEN ? AND ?",
                                (edition.day_of(closes), closes, now)).fetchone() is not None

    @staticmethod
    def _last_sealed(editions: sqlite3.Connection) -> int:
        return editions.execute("SELECT coalesce(max(last_item), 0) FROM edition").fetchone()[0]

    def _build(self, editions: sqlite3.Connection, db: sqlite3.Connection, closes: float,
               sealed: bool) -> tuple[Edition, int]:
        """The edition that closes then, and the number of the last item that it covers."""
        after = self._last_sealed(editions)
        db.execute("BEGIN")  # one view of the store for all that is read
        last = max(after, items.last_before(db, closes if sealed else math.inf))
        news = items.news(db, after, last, edition.most_in_section(self._limits))
        made = edition.build(closes, self._context.lab.name, sealed, items.feeds(db), news.newest, news.counts, self._limits)
        db.execute("COMMIT")
        return made, last
