"""Searching what is kept, and the step that makes it findable.

A search is words, all of which must be there: "a phrase" in quotes, -word for one that must not, word* for any that
begins so (two letters or more, four times in a search, else the star does not count). Case and accents do not count, and
neither do signs: whatever a person types is a search, never an error.
Where SQLite has no FTS5, the bodies are looked through: slower, and a word must be written with the accents that it has
there.
"""
from __future__ import annotations

import json
import re
import sqlite3
from itertools import islice
from typing import Callable, Iterable, Iterator, NamedTuple, Sequence

from penny.core import store
from penny.core.clock import Stop
from penny.core.terminal import cut
from penny.stages import index, rules
from penny.stages.rules import Rule, words_of

MAX_QUERY = 1_000  # characters of a search that are read
MAX_TERMS = 30
MAX_PREFIXES = 4  # terms with a star; each is looked up anew among all words that begin so
MIN_PREFIX = 2  # characters before the star, that it counts
BATCH, BATCH_CHARACTERS = 50, 200_000  # that are indexed in one transaction: other writers wait 10 s at most
PATIENCE = 900  # seconds that items wait for others, to be indexed together
SNIPPET_SOURCE = 20_000  # characters of a text among which a match is looked for, to be shown
LAST = 1 << 62  # above every number

_TERM = re.compile(r'(-?)(?:"([^"]*)(?:"(\*?)|\Z)|([^\s"]+))')
_ASCII_LETTERS = re.compile(r"[0-9A-Za-z]+")


class Wanted(NamedTuple):
    """What is searched for."""

    words: str = ""
    feed: int | None = None
    starred: bool = False
    label: str = ""
    dropped: bool = False  # whether those that a rule dropped are wanted, too
    before: int = 0  # only numbers below it; 0: from the newest
    most: int = 50


class Found(NamedTuple):
    id: int
    feed: int
    arrived: float
    published: float | None
    body: dict  # a JSON Feed item
    starred: float | None
    mark: int  # -1 dropped by a rule, 1 raised by one
    labels: tuple[str, ...]
    story: int  # the number of its first item; its own while it is not indexed


class Term(NamedTuple):
    typed: str
    words: tuple[str, ...]  # of it, in a row
    prefix: bool  # whether the last of them is only how a word begins
    excluded: bool


# Indexing

def rules_in_use(db: sqlite3.Connection) -> tuple[Rule, ...]:
    note = db.execute("SELECT value FROM note WHERE name = 'rules'").fetchone()
    return tuple(Rule(*rule) for rule in json.loads(note[0])) if note else ()


def use_rules(db: sqlite3.Connection, owners: tuple[Rule, ...]) -> None:
    """Keep the owner's rules in the store, for whoever indexes. When they changed, all items are pending for them."""
    if owners == rules_in_use(db):
        return
    with store.transaction(db):
        db.execute("INSERT OR REPLACE INTO note (name, value) VALUES ('rules', ?)", (json.dumps(owners, ensure_ascii=False),))
        db.execute("UPDATE reading SET pending = ? WHERE pending < ?", (index.RULES, index.RULES))


def pending(db: sqlite3.Connection, after: int = 0) -> int:
    """How many items with a number above `after` wait to be indexed."""
    return db.execute("SELECT count(*) FROM reading WHERE pending > 0 AND item > ?", (after,)).fetchone()[0]


def is_due(db: sqlite3.Connection, now: float) -> bool:
    """Whether it is time to index what is pending: a batch, or what came PATIENCE seconds ago. However few items are
    indexed at once, some pages of the disk are written."""
    rows = db.execute("SELECT coalesce(updated, arrived) FROM reading JOIN item ON id = item WHERE pending > 0 LIMIT ?",
                      (BATCH,)).fetchall()
    return len(rows) == BATCH or any(not now - PATIENCE < at <= now for at, in rows)


def index_new(db: sqlite3.Connection, stop: Stop | None = None, step: Callable[[str], None] = lambda title: None,
              after: int = 0, is_over: Callable[[], bool] = lambda: False) -> int:
    """Index what is pending with a number above `after`, a batch to a transaction, until nothing is left, `stop` is set or,
    asked after each batch, the time `is_over`. Returns how many were; `step` hears the title of each. Killed at any moment,
    an item is indexed whole or still pending."""
    index.prepare(db)
    total = 0
    while pending(db, after) and not (stop and stop.is_set()):
        with index.batch(db):
            done = _index_some(db, after)
        total += len(done)
        for title in done:
            step(title)
        if is_over():
            break
    return total


def _index_some(db: sqlite3.Connection, after: int) -> list[str]:
    table = rules.Table(rules_in_use(db))
    live = index.is_live(db)
    rows = db.execute("SELECT item, pending FROM reading WHERE pending > 0 AND item > ? ORDER BY item LIMIT ?",
                      (after, BATCH)).fetchall()
    done: list[str] = []
    new: list[int] = []
    room = BATCH_CHARACTERS
    for item, waits in rows:
        body = db.execute("SELECT body FROM item WHERE id = ?", (item,)).fetchone()[0]
        text = index.text_of(json.loads(body))
        if waits == index.ALL:
            index.put_in(db, item, text, live)
            new.append(item)
        verdict = table.apply(text.words())
        db.execute("UPDATE reading SET pending = 0, mark = ?, labels = ? WHERE item = ?",
                   (verdict.mark, json.dumps(verdict.labels, ensure_ascii=False), item))
        done.append(text.title)
        room -= len(body)
        if room <= 0:
            break
    if new:
        index.tell_stories(db, new)
    return done


# Searching

def parse(words: str) -> tuple[Term, ...]:
    """The terms of a search. Raises nothing; what has no letters and digits is passed over."""
    found = []
    for match in _TERM.finditer(words[:MAX_QUERY]):
        minus, phrase, star, word = match.groups("")
        named = tuple(words_of(phrase or word))
        if named:
            prefix = ((bool(star) or word.endswith("*")) and len(named[-1]) >= MIN_PREFIX
                      and sum(term.prefix for term in found) < MAX_PREFIXES)
            found.append(Term(phrase or word, named, prefix, bool(minus)))
    return tuple(found[:MAX_TERMS])


def find(db: sqlite3.Connection, wanted: Wanted) -> Iterator[Found]:
    """What was searched for, newest first (by number), at most `wanted.most`: read one by one, from one search."""
    terms = parse(wanted.words)
    if terms or not wanted.words.strip():
        for item in islice(_numbers(db, wanted, terms), wanted.most):
            yield _found(db, item)


def count(db: sqlite3.Connection, wanted: Wanted) -> int:
    """How many there are in all; of `wanted`, `most` does not count."""
    terms = parse(wanted.words)
    return 0 if wanted.words.strip() and not terms else sum(1 for _ in _numbers(db, wanted, terms))


def _numbers(db: sqlite3.Connection, wanted: Wanted, terms: Sequence[Term]) -> Iterator[int]:
    """The numbers of the items that are meant, newest first."""
    conditions = [(True, "reading.item < ?", wanted.before or LAST),
                  (not wanted.dropped, "mark >= ?", 0),
                  (wanted.starred, "starred IS NOT NULL AND 0 = ?", 0),
                  (bool(wanted.label), "instr(labels, ?)", json.dumps(wanted.label, ensure_ascii=False)),
                  (wanted.feed is not None, "reading.item IN (SELECT id FROM item WHERE feed = ?)", wanted.feed)]
    source, number, live = "reading", "reading.item", index.is_live(db)
    if live:
        good, bad = [term for term in terms if not term.excluded], [term for term in terms if term.excluded]
        if good:  # FTS5 hands out one number after the other in this order, where it need not know all of them first
            source, number = "search CROSS JOIN reading ON reading.item = search.rowid", "search.rowid"
        conditions += [(bool(good), "search MATCH ?", " AND ".join(map(_expression, good))),
                       (bool(good), "search.rowid < ?", wanted.before or LAST),
                       (bool(bad), "reading.item NOT IN (SELECT rowid FROM search WHERE search MATCH ?)",
                        " OR ".join(map(_expression, bad)))]
    else:
        conditions += [(True, "(SELECT body LIKE ? FROM item WHERE id = reading.item)", "%" + letters + "%")
                       for letters in _sure_letters(terms)]
    chosen = [(condition, value) for applies, condition, value in conditions if applies]
    rows = db.execute("SELECT reading.item FROM %s WHERE %s ORDER BY %s DESC"
                      % (source, " AND ".join(condition for condition, _ in chosen), number), [value for _, value in chosen])
    for item, in rows:
        if live or not terms or _holds(index.text_of(_found(db, item).body).words(), terms):
            yield item


def _expression(term: Term) -> str:
    """A term in FTS5's own syntax: words of letters and digits within quotes are nothing but words."""
    return '"%s"%s' % (" ".join(term.words), " *" if term.prefix else "")


def _sure_letters(terms: Iterable[Term]) -> list[str]:
    """Of each term that is wanted, the longest part that LIKE finds whatever its case."""
    runs = [_ASCII_LETTERS.findall(term.typed) for term in terms if not term.excluded]
    return [max(found, key=len) for found in runs if found]


def _holds(words: Sequence[str], terms: Iterable[Term]) -> bool:
    return all(_has(words, term) != term.excluded for term in terms)


def _has(words: Sequence[str], term: Term) -> bool:
    return any(_stands_at(position, words, term) for position in range(len(words)))


def _stands_at(position: int, words: Sequence[str], term: Term) -> bool:
    *head, last = term.words
    end = position + len(head)
    if end >= len(words) or not (words[end].startswith(last) if term.prefix else words[end] == last):
        return False
    return not head or list(words[position:end]) == head


def _found(db: sqlite3.Connection, item: int) -> Found:
    row = db.execute("SELECT id, feed, arrived, published, body, starred, mark, labels, coalesce(story, id) FROM item"
                     " JOIN reading ON item = id WHERE id = ?", (item,)).fetchone()
    return Found(*row)._replace(body=json.loads(row["body"]), labels=tuple(json.loads(row["labels"])))


def snippet(body: dict, words: str, width: int) -> str:
    """At most `width` columns of an item's text around the first match, plain and safe to print; its beginning where only
    the title matched."""
    text = index.plain(body)[:SNIPPET_SOURCE]
    start = _first_match(text, [term for term in parse(words) if not term.excluded])
    before = 0
    if start > width // 3:  # from a space on, if there is one; each character may take two columns
        before = start - width // 4
        before = text.rfind(" ", max(0, before - width // 5), before) + 1 or before
    return cut(("\N{HORIZONTAL ELLIPSIS}" if before else "") + text[before:before + 4 * width], width)


def _first_match(text: str, terms: Sequence[Term]) -> int:
    """Where in a text the first of the terms stands, 0 where none does."""
    if not terms:
        return 0
    placed = list(rules.words_in_place(text))
    words = [word for word, _ in placed]
    prefixes = tuple(term.words[0] for term in terms if term.prefix and len(term.words) == 1)
    by_first: dict[str, list[Term]] = {}
    for term in terms:
        by_first.setdefault(term.words[0], []).append(term)
    for position, word in enumerate(words):
        if word.startswith(prefixes) or any(_stands_at(position, words, term) for term in by_first.get(word, ())):
            return placed[position][1]
    return 0
