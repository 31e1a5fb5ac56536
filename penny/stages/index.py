"""The index over the items that are kept: which words stand where, and which items tell one story.

Indexing is put off until after items are kept (search.index_new), so that collecting stays cheap. reading.pending says
what an item still waits for: 2 for all of it, 1 for the owner's rules only. An item with 2 has no row in the full-text
index: whoever changes or deletes an item takes it out first, in the same transaction.

    search  FTS5 without content (title, text): words as rules.words_of gives them, rowid = item. What it holds of an
            item is taken out by giving it the same words again, so they are made anew from the old body
    note    "index": the SHAPE of what is in `search`. Without FTS5 nobody can keep that table as it should be, so the
            note is taken away, and where there is FTS5 again the table is made anew

Which story an item tells is looked up among the signatures of the RECENT items before it, which are read once a batch. A
table of their bands on disk would spare reading these 0.6 MB, but each item would write 16 rows to as many pages of it.
"""
from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from typing import Iterable, Iterator, NamedTuple, Sequence

from penny.core import store
from penny.stages import near_duplicates
from penny.stages.rules import words_of
from penny.wire import feed as shape

SHAPE = "2"  # to be counted up when Text or words_of make other words: all is indexed anew then
MAX_SOURCE = 100_000  # characters of HTML or text that are looked at
ALL, RULES = 2, 1  # what an item may be pending for
SEGMENTS = 8  # that FTS5 merges into one: 4.6 pages are written for each of ten items, with its own 4 it is 7.0
RECENT = 2_000  # items before a new one that may have told its story
CANDIDATES = 100  # of them, with whose signatures its own is compared
CROWD = 100  # items in a band: more share a phrase of their publisher's, and only cost time
REPEATED = 0.8  # the similarity from which on an item says nothing that the other did not


class Text(NamedTuple):
    """What people read of an item, as plain text, and the words of it."""

    title: str
    text: str
    title_words: list[str]
    text_words: list[str]

    def words(self) -> list[str]:
        """The words of both, with an empty one between: no phrase begins in the title and ends in the text."""
        return self.title_words + [""] + self.text_words


def text_of(body: dict) -> Text:
    title, text = str(body.get("title") or ""), plain(body)
    return Text(title, text, words_of(title), words_of(text))


def plain(body: dict) -> str:
    """The text of an item, of whatever form it is fullest in."""
    source = next((str(body[key]) for key in ("content_html", "content_text", "summary") if body.get(key)), "")
    if len(source) > MAX_SOURCE:
        source = source[:MAX_SOURCE]
        if source.rfind("<") > source.rfind(">"):  # a tag that was cut there is no text
            source = source[:source.rfind("<")]
    return shape.plain(source)


@contextmanager
def batch(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction that is one of many in a row. It rests afterwards for a fifth of its time: SQLite looks every 0.1 s
    whether it is a writer's turn, and would find none between two of them."""
    began = time.monotonic()
    with store.transaction(db):
        yield
    time.sleep((time.monotonic() - began) / 5)


def has_fts5(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None


def is_live(db: sqlite3.Connection) -> bool:
    """Whether `search` can be asked, and holds what it should."""
    return _note(db) == SHAPE and has_fts5(db)


def prepare(db: sqlite3.Connection) -> None:
    """Make the full-text index, where there is none and SQLite can."""
    can = has_fts5(db)
    if _note(db) == (SHAPE if can else None):
        return
    with store.transaction(db):
        _disown(db)
        if can:
            db.execute("DROP TABLE IF EXISTS search")
            db.execute("CREATE VIRTUAL TABLE search USING fts5"
                       "(title, text, content='', columnsize=0, tokenize='ascii')")  # words_of has done all else
            db.execute("INSERT INTO search (search, rank) VALUES ('automerge', ?)", (SEGMENTS,))
            db.execute("UPDATE reading SET pending = ? WHERE pending < ?", (ALL, ALL))
            db.execute("INSERT INTO note (name, value) VALUES ('index', ?)", (SHAPE,))


def _note(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM note WHERE name = 'index'").fetchone()
    return row and row[0]


def _disown(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM note WHERE name = 'index'")


def put_in(db: sqlite3.Connection, item: int, text: Text, live: bool) -> None:
    """Put an item that is pending for all into the index, within the caller's transaction; tell_stories follows."""
    if live:
        db.execute("INSERT INTO search (rowid, title, text) VALUES (?, ?, ?)", (item, *_columns(text)))
    db.execute("UPDATE reading SET signature = ? WHERE item = ?", (near_duplicates.signature(text.text), item))


def _columns(text: Text) -> tuple[str, str]:
    return " ".join(text.title_words), " ".join(text.text_words)


def tell_stories(db: sqlite3.Connection, items: Sequence[int]) -> None:
    """Say of items that were put in, in the order of their numbers, which story each tells and which item it repeats. One
    that had a story before its words changed keeps it: what is told anew is not news, and others may have joined it."""
    rows = db.execute("SELECT item, owner, signature FROM reading WHERE item IN (%s) ORDER BY item"
                      % ", ".join("?" * len(items)), items).fetchall()
    wanted = {band for *_, signature in rows if signature for band in near_duplicates.bands(signature)}
    recent = _by_bands(db, max(items), RECENT + len(items), wanted) if wanted else {}
    for item, owner, signature in rows:
        story, repeats = _compared(db, item, owner, signature, recent) if signature else (None, None)
        db.execute("UPDATE reading SET story = coalesce(story, ?), repeats = CASE repeats WHEN 0 THEN 0 ELSE ? END"
                   " WHERE item = ?", (story or item, repeats, item))


def _by_bands(db: sqlite3.Connection, last: int, most: int, wanted: set[int]) -> dict[int, list[tuple[int, int]]]:
    """The newest items up to a number, each with its feed, by those of these bands that they have. One that a rule
    dropped tells nobody a story."""
    found: dict[int, list[tuple[int, int]]] = {}
    rows = db.execute("SELECT item, owner, signature FROM (SELECT * FROM reading WHERE item <= ? ORDER BY item DESC LIMIT ?)"
                      " WHERE signature IS NOT NULL AND mark >= 0", (last, most))
    for item, owner, signature in rows:
        for band in wanted.intersection(near_duplicates.bands(signature)):
            same = found.setdefault(band, [])
            if len(same) < CROWD:
                same.append((item, owner))
    return found


def _compared(db: sqlite3.Connection, item: int, owner: int, signature: bytes,
              recent: dict[int, list[tuple[int, int]]]) -> tuple[int | None, int | None]:
    """Of the items before one, in other feeds: the story of that which is most alike, the earliest of several; and the
    first that it repeats. That is one that was told itself: who repeats may be told by none of an edition."""
    shared = Counter(other for band in near_duplicates.bands(signature) for other, theirs in recent.get(band, ())
                     if other < item and theirs != owner)
    chosen = sorted(shared, key=lambda other: (-shared[other], -other))[:CANDIDATES]
    rows = db.execute("SELECT item, signature, coalesce(story, item), repeats FROM reading WHERE item IN (%s)"
                      % ", ".join("?" * len(chosen)), chosen).fetchall() if chosen else []
    found = [(near_duplicates.similarity(signature, theirs), -story, other, repeats) for other, theirs, story, repeats in rows]
    likeness, story, *_ = max(found, key=lambda one: one[:2], default=(0.0, 0))
    return (-story if likeness >= near_duplicates.THRESHOLD else None,
            min((other for likeness, _, other, repeats in found if likeness >= REPEATED and repeats is None), default=None))


def take_out(db: sqlite3.Connection, items: Iterable[int]) -> None:
    """Take items out of the index, before they change or are deleted, within the caller's transaction."""
    live = is_live(db)
    if not live:
        _disown(db)
    for item in items:
        row = db.execute("SELECT body FROM item JOIN reading ON item = id WHERE id = ? AND pending < ?", (item, ALL)).fetchone()
        if row and live:
            db.execute("INSERT INTO search (search, rowid, title, text) VALUES ('delete', ?, ?, ?)",
                       (item, *_columns(text_of(json.loads(row["body"])))))
        db.execute("UPDATE reading SET pending = ?, signature = NULL WHERE item = ?", (ALL, item))
