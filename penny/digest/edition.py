"""An edition: what goes into it, and as which records. Pure: rows of the item store in, records out.

An edition is named by the morning on which it closes, as a newspaper is. Until then it is a draft, rebuilt as items
arrive; then it is sealed, which means that its JSON is stored and never built again.
"""
from __future__ import annotations

import json
import time
from typing import NamedTuple

from penny.core.clock import rfc3339
from penny.stages import extract, items
from penny.wire.feed_date import parse_date

FORMAT = 1  # of the stored JSON


class Entry(NamedTuple):
    title: str
    url: str
    source: str
    time: float  # of publication, else of arrival
    extract: str
    also: tuple[tuple[str, str], ...] = ()  # source and url of those that say the same in other feeds


class Section(NamedTuple):
    title: str
    url: str
    left_out: int  # items of this section for which there was no room
    entries: tuple[Entry, ...]


class Trouble(NamedTuple):
    """A feed that did not answer when the edition was built."""

    title: str
    url: str
    problem: str
    since: float  # the first of the failures in a row


class Edition(NamedTuple):
    day: str  # YYYY-MM-DD
    lab: str
    closes: float
    sealed: bool
    sections: tuple[Section, ...]
    troubles: tuple[Trouble, ...]
    feeds: int  # how many there are
    waiting: int  # how many were not asked yet


class Limits(NamedTuple):
    items: int  # in an edition
    share: float  # of them, in one section


def day_of(closes: float) -> str:
    """The name of the edition that closes then."""
    return time.strftime("%Y-%m-%d", time.localtime(closes))


def most_in_section(limits: Limits) -> int:
    return max(1, int(limits.items * limits.share))


def build(closes: float, lab: str, sealed: bool, feeds: list[items.Feed], newest: dict[int, list[items.Stored]],
          counts: dict[int, int], limits: Limits) -> Edition:
    """The edition from the newest items of each feed (`newest`, at most `most_in_section` of each) and the number that
    each has in all. Where there is too much for an edition, every section gets its first item before any gets a
    second, and so on, but what the owner's rules raised goes before all else; sections stand in the owner's order of the
    feeds."""
    rounds = [(not item.raised, rank, -items.time_of(item.published, item.arrived), number)
              for number, section in newest.items() for rank, item in enumerate(section)]
    kept: dict[int, int] = {}
    for *_, number in sorted(rounds)[:limits.items]:
        kept[number] = kept.get(number, 0) + 1
    names = {feed.id: feed.name for feed in feeds}
    sections = []
    for feed in feeds:
        mine = tuple(_entry(item, names) for item in newest.get(feed.id, [])[:kept.get(feed.id, 0)])
        left_out = counts.get(feed.id, 0) - len(mine)
        if mine or left_out:
            sections.append(Section(feed.name, feed.home_page_url, left_out, mine))
    troubles = tuple(Trouble(feed.name, feed.shown_url, feed.problem, feed.failing_since or closes)
                     for feed in feeds if feed.problem)
    waiting = sum(feed.checked is None for feed in feeds)
    return Edition(day_of(closes), lab, closes, sealed, tuple(sections), troubles, len(feeds), waiting)


def _entry(item: items.Stored, names: dict[int, str]) -> Entry:
    body = item.body
    title = str(body.get("title", ""))
    text = extract.lead(_words(body), title)
    also = tuple((names[feed], url) for feed, url in item.also)
    return Entry(title or text[:80] or "(no title)", str(body.get("url", "")), names[item.feed],
                 items.time_of(item.published, item.arrived), text, also)


def _words(body: dict) -> str:
    """What an extract is made of: the publisher's summary, else the fullest that there is."""
    return next((str(body[key]) for key in ("summary", "content_html", "content_text") if body.get(key)), "")


def to_json(edition: Edition) -> str:
    """The edition as JSON, which is also how it is stored. Times are RFC 3339, UTC."""
    return json.dumps({
        "format": FORMAT, "day": edition.day, "lab": edition.lab, "closes": rfc3339(edition.closes),
        "sealed": edition.sealed, "feeds": edition.feeds, "waiting": edition.waiting,
        "sections": [{"title": section.title, "url": section.url, "left_out": section.left_out, "items": [
            {**entry._asdict(), "time": rfc3339(entry.time), "also": [{"source": source, "url": url} for source, url in entry.also]}
            for entry in section.entries]}
            for section in edition.sections],
        "unreachable": [{**trouble._asdict(), "since": rfc3339(trouble.since)} for trouble in edition.troubles],
    }, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> Edition:
    """The edition that to_json stored."""
    stored = json.loads(text)
    sections = tuple(
        Section(section["title"], section["url"], section["left_out"],
                tuple(Entry(**{**entry, "time": parse_date(entry["time"]),
                               "also": tuple((other["source"], other["url"]) for other in entry["also"])})
                      for entry in section["items"]))
        for section in stored["sections"])
    troubles = tuple(Trouble(**{**trouble, "since": parse_date(trouble["since"])}) for trouble in stored["unreachable"])
    return Edition(stored["day"], stored["lab"], parse_date(stored["closes"]) or 0, stored["sealed"], sections, troubles,
                   stored["feeds"], stored["waiting"])
