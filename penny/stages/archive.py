"""Everything that is kept, in one file of JSON Lines, and back again: for a new disk, another box, or another program.

    {"penny_archive": 1, "made": "2026-11-22T05:00:00Z", "feeds": 1, "items": 1}
    {"feed": 7, "url": "https://...", "title": "...", "home_page_url": "...", "added": "...", "parked": null, "problem": ""}
    {"of": 7, "arrived": "...", "updated": null, "starred": null, "item": {a JSON Feed item, its content as published}}

All feeds come first, then all items in the order of their numbers: the numbers may become others, the order stays. The
address of a feed holds its password, if it has one, since it could not be asked without: the file is as secret as that.

Not carried: validators and when a feed is to be asked, so that each is read whole once more, and what it published since
the file was made, or what a reading that was cut short left out, is found; and what the owner's rules and indexing made of
an item, which is made anew. Reading merges: what is there stays as it is, what is missing is added, a star is given to
what has none. It can be ended at any point and begun again. What it adds is no news here, where it would fill the
morning's edition with what was read long ago.
"""
from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from typing import BinaryIO, Iterator, NamedTuple, Union

from penny.core.clock import rfc3339, rfc3339_or_none
from penny.core.errors import PennyError, one_line
from penny.core.terminal import Progress
from penny.stages import index, items
from penny.wire import feed as shape
from penny.wire import feed_json
from penny.wire.feed_date import parse_date

FORMAT = 1
START = b'{"penny_archive":'  # by which the file is told from an OPML list
# Three texts and three lists of an item at the bounds of wire/feed, each character as \uXXXX, are 38 MB.
LINE = 40 << 20  # bytes
FEEDS = 50_000
ITEMS = 10_000_000
BATCH, BATCH_CHARACTERS = 500, 1_000_000  # that are kept in one transaction: the collector waits 10 s at most
STEP = 500  # items between two signs of progress
DIGITS = 18  # of an integer: int() takes quadratic time on a long one
_ADDRESS = re.compile(r"https?://[^\s/?#]+\S*\Z", re.I)


class Counts(NamedTuple):
    feeds: int
    items: int
    stars: int


class _Feed(NamedTuple):
    number: int  # in the file
    url: str
    title: str
    home_page_url: str
    added: float
    parked: float | None
    problem: str


class _Item(NamedTuple):
    feed: int  # its number in the file
    arrived: float
    updated: float | None
    published: float | None
    starred: float | None
    body: dict


# Writing

def write(db: sqlite3.Connection, file: BinaryIO, now: float, progress: Progress) -> Counts:
    """Write everything as it is at this moment, while others go on writing to the store. Raises PennyError."""
    db.execute("BEGIN")  # one view of the store; in WAL mode it holds up nobody
    try:
        counts = Counts(*db.execute("SELECT (SELECT count(*) FROM feed), count(*), count(starred) FROM reading").fetchone())
        progress.total = 1 + counts.items // STEP
        _put(file, '{"penny_archive": %d, "made": "%s", "feeds": %d, "items": %d}' % (FORMAT, rfc3339(now), *counts[:2]))
        for feed in items.feeds(db):
            _put(file, _feed_line(feed))
        rows = db.execute("SELECT feed, arrived, updated, starred, body FROM item JOIN reading ON item = id ORDER BY id")
        for number, (feed, arrived, updated, starred, body) in enumerate(rows):
            times = {"arrived": rfc3339(arrived), "updated": rfc3339_or_none(updated), "starred": rfc3339_or_none(starred)}
            # The item as it stands in the store, which is on one line.
            _put(file, '%s, "item": %s}' % (json.dumps({"of": feed, **times})[:-1], body))
            if number % STEP == 0:
                progress.step("%d items" % number)
        file.flush()
    except OSError as error:
        raise PennyError("cannot write the archive: %s" % one_line(error)) from error
    finally:
        db.execute("ROLLBACK")
        progress.clear()
    return counts


def _put(file: BinaryIO, line: str) -> None:
    file.write(line.encode() + b"\n")


def _feed_line(feed: items.Feed) -> str:
    return json.dumps({"feed": feed.id, "url": feed.url, "title": feed.title, "home_page_url": feed.home_page_url,
                       "added": rfc3339(feed.added), "parked": rfc3339_or_none(feed.parked),
                       "problem": feed.problem if feed.parked else ""}, ensure_ascii=False)


# Reading

def read(db: sqlite3.Connection, file: BinaryIO, now: float, progress: Progress, begun: bytes = b"") -> Counts:
    """Add what an archive holds, of whose first line `begun` was read already; returns how much of it was new. Raises
    PennyError, which names the line; what stood some way before it is kept then."""
    lines = _lines(file, begun)
    head = next(lines, (1, {}))[1]
    if head.get("penny_archive") != FORMAT:
        raise PennyError("cannot read the archive: line 1 does not begin one of version %d" % FORMAT)
    progress.total = 1 + (_whole(head, "items") or 0) // STEP
    known: dict[int, int] = {}  # the numbers of feeds: in the file, and here
    counts, seen = Counts(0, 0, 0), 0
    try:
        for batch in _batches(lines):
            with index.batch(db):
                for record in batch:
                    new = (_add_feed if isinstance(record, _Feed) else _add_item)(db, record, known, now)
                    counts = Counts(*map(sum, zip(counts, new)))
            seen += sum(isinstance(record, _Item) for record in batch)
            progress.step("%d items" % seen)
    finally:
        progress.clear()
    if (len(known), seen) != (head.get("feeds"), head.get("items")):
        raise PennyError("cannot read all of the archive: it ends too early, with %d of %s items" % (seen, head.get("items")))
    return counts


def _lines(file: BinaryIO, begun: bytes = b"") -> Iterator[tuple[int, dict]]:
    """The objects in a file, each with its number. Raises PennyError."""
    number = 0
    while True:
        number += 1
        try:
            line = begun + file.readline(LINE + 1)
            begun = b""
        except (OSError, EOFError) as error:
            raise PennyError("cannot read the archive: %s" % one_line(error)) from error
        if not line:
            return
        if len(line) > LINE:
            raise _bad(number, "is longer than %d bytes" % LINE)
        try:
            found = json.loads(line, parse_int=lambda digits: int(digits) if len(digits) <= DIGITS else None)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _bad(number, "is no JSON object")
        yield number, found


def _bad(number: int, what: str) -> PennyError:
    return PennyError("cannot read the archive: line %d %s" % (number, what))


def _batches(lines: Iterator[tuple[int, dict]]) -> Iterator[list[Union[_Feed, _Item]]]:
    """What the lines say, as much of it at a time as is to be kept at once."""
    feeds: set[int] = set()
    batch: list[Union[_Feed, _Item]] = []
    room, seen = BATCH_CHARACTERS, 0
    for number, found in lines:
        try:
            record = _feed(found) if "feed" in found else _item(found, feeds)
        except ValueError as error:
            raise _bad(number, str(error)) from None
        if isinstance(record, _Feed):
            feeds.add(record.number)
        else:
            seen += 1
            room -= sum(len(record.body.get(name, "")) for name in ("content_html", "content_text", "summary"))
        if len(feeds) > FEEDS or seen > ITEMS:
            raise _bad(number, "is one more than %d feeds or %d items" % (FEEDS, ITEMS))
        batch.append(record)
        if len(batch) == BATCH or room < 0:
            yield batch
            batch, room = [], BATCH_CHARACTERS
    yield batch


def _feed(found: dict) -> _Feed:
    """Raises ValueError that says what is wrong with the line."""
    url, number, added = _text(found, "url"), _whole(found, "feed"), _time(found, "added")
    if len(url) > shape.URL or not (_ADDRESS.match(url) and url.isprintable()) or number is None or added is None:
        raise ValueError("is no feed with its number, address and date")
    home = shape.safe_url(_text(found, "home_page_url"))
    return _Feed(number, url, _title(found, "title"), home if len(home) <= shape.URL else "", added, _time(found, "parked"),
                 _title(found, "problem"))


def _item(found: dict, feeds: set[int]) -> _Item:
    """Raises ValueError that says what is wrong with the line."""
    feed, arrived, body = _whole(found, "of"), _time(found, "arrived"), found.get("item")
    if feed not in feeds or arrived is None or not isinstance(body, dict):
        raise ValueError("is no item with its date, of a feed above")
    # Read as if a feed published it: so it has every bound of wire/feed, and is the same as that feed's next time.
    read = next(iter(feed_json.parse(json.dumps({"items": [body]}).encode()).items), shape.Item())
    return _Item(feed, arrived, _time(found, "updated"), read.date_published or read.date_modified, _time(found, "starred"),
                 feed_json.render_item(read))


def _whole(found: dict, name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(found: dict, name: str) -> str:
    value = found.get(name)
    return shape.encodable(value) if isinstance(value, str) else ""


def _title(found: dict, name: str) -> str:
    return shape.plain(_text(found, name), markup=False)[:shape.TITLE]


def _time(found: dict, name: str) -> float | None:
    """Unix seconds, None for none. Raises ValueError."""
    if found.get(name) is None:
        return None
    seconds = parse_date(_text(found, name))
    if seconds is None:
        raise ValueError("has no date in %s" % name)
    return seconds


def _add_feed(db: sqlite3.Connection, feed: _Feed, known: dict[int, int], now: float) -> Counts:
    new = db.execute("INSERT OR IGNORE INTO feed (url, title, home_page_url, added, parked, problem, failing_since)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?)",
                     (*feed[1:4], min(feed.added, now), feed.parked, feed.problem, feed.parked))
    known[feed.number] = db.execute("SELECT id FROM feed WHERE url = ?", (feed.url,)).fetchone()[0]
    return Counts(new.rowcount, 0, 0)


def _add_item(db: sqlite3.Connection, item: _Item, known: dict[int, int], now: float) -> Counts:
    feed, key = known[item.feed], items.key_of(item.body)
    body = json.dumps(item.body, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.blake2b(body.encode(), digest_size=16).digest()  # as items.keep makes both
    new = db.execute("INSERT OR IGNORE INTO item (feed, key, digest, words, arrived, updated, published, body)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                     (feed, key, digest, items.fingerprint_of(item.body), min(item.arrived, now), item.updated, item.published,
                      body))
    if new.rowcount:
        db.execute("UPDATE reading SET repeats = 0 WHERE item = ?", (new.lastrowid,))
    starred = 0
    if item.starred is not None:
        starred = db.execute("UPDATE reading SET starred = ? WHERE starred IS NULL AND item ="
                             " (SELECT id FROM item WHERE feed = ? AND key = ?)", (item.starred, feed, key)).rowcount
    return Counts(0, new.rowcount, starred)
