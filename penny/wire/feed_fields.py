"""What the elements of RSS, Atom and their extensions mean: from the text of each to the fields of a feed or an item.

A field may be spelt by several elements; their order of precedence is the rank in feed_xml's tables, and `record`
keeps `field: (rank, value)` of the best so far: the work is per element that is there, not per one that might be.
The functions `close_...` are called as an element ends, with the collector, the element's rule, its attributes and
text.
"""
from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, NamedTuple

from penny.wire import feed as shape
from penny.wire.feed import Attachment, Author, Feed, Item, Notes, person, plain, safe_url
from penny.wire.feed_date import parse_date
from penny.wire.xml_text import SEPARATOR, decode

if TYPE_CHECKING:
    from penny.wire.feed_xml import Collector

XML_BASE, XML_LANG = ("http://www.w3.org/XML/1998/namespace\x1f" + name for name in ("base", "lang"))
ABOUT, RESOURCE = ("http://www.w3.org/1999/02/22-rdf-syntax-ns#\x1f" + name for name in ("about", "resource"))
REPLIES = "http://purl.org/syndication/thread/1.0\x1fcount"
YEAR = 366 * 86_400    # the longest that a publisher can ask to be left alone
_PERIODS = {"hourly": 3_600, "daily": 86_400, "weekly": 7 * 86_400, "monthly": 30 * 86_400, "yearly": 365 * 86_400}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PAGES = ("text/html", "application/xhtml+xml", "")


class Rule(NamedTuple):
    """What becomes of an element: `close` if its text is kept, else `enter` if it holds kept elements."""

    close: object
    enter: object
    field: str
    rank: int
    is_atom: bool


def keep(record: dict, field: str, rank: int, value: object) -> None:
    """Note what an element says, unless it says nothing or a better one has spoken."""
    known = record.get(field)
    if value and (known is None or rank < known[0]):
        record[field] = (rank, value)


def add_people(self: Collector, rank: int, people: list[Author]) -> None:
    """People of the best rank so far; those of one rank stand together."""
    known = self.record.get("people")
    if known is None or rank < known[0]:
        self.record["people"] = (rank, people[:])
    elif rank == known[0]:
        self.extend(known[1], people)


# Closing a kept element ------------------------------------------------------------------------------------------
def _typed(self: Collector, rule: Rule, attrs: dict, text: str) -> tuple[bool, str]:
    """Text that may be plain or HTML: (is it HTML, the text)."""
    if not attrs and not self.markup:
        return not rule[4], text.strip()
    kind = attrs.get("type", "").lower().strip()
    mode = attrs.get("mode")
    if mode == "base64" or (rule.is_atom and kind and not kind.startswith("text") and not mode and not self.markup
                            and kind not in ("html", "xhtml") and not is_xml(attrs)):
        text = _from_base64(text)
    is_html = self.markup or ("html" in kind or "xml" in kind if kind else not rule.is_atom)
    text = text.strip()
    return is_html, shape.without_div(text) if self.markup and self.inline else text


def is_xml(attrs: dict) -> bool:
    return attrs.get("type", "").lower().endswith(("xhtml", "/xml", "+xml")) or attrs.get("mode") == "xml"


def _from_base64(text: str) -> str:
    try:
        return decode(binascii.a2b_base64(text), "", Notes())
    except ValueError:
        return text


def close_title(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    known = self.record.get("title")
    if known is None or rule[3] < known[0]:
        is_html, text = _typed(self, rule, attrs, text)
        title = plain(text, is_html)
        if title:
            self.record["title"] = (rule[3], title if len(title) <= shape.TITLE else self.notes.cut(title, shape.TITLE, "a title"))


def close_full(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    typed = _typed(self, rule, attrs, text)
    keep(self.record, "full", rule.rank, typed if typed[1] else None)


def close_short(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    """Each of the shorter texts: one may turn out to be the content, another its summary."""
    typed = _typed(self, rule, attrs, text)
    if typed[1]:
        shorts = self.record.get("shorts")
        if shorts is None:
            self.record["shorts"] = {rule[3]: typed}
        else:
            shorts.setdefault(rule[3], typed)


def close_link(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    if not attrs:
        keep(self.record, "link", 0, self.url(text, attrs))
        return
    href = attrs.get("href") or attrs.get("url") or attrs.get(RESOURCE) or text
    rel = attrs.get("rel", "" if href is text else "alternate").rpartition("/")[2].lower()
    if rel == "enclosure":
        add_attachment(self, href, attrs, attrs.get("length"))
        return
    url = self.url(href, attrs)
    if not url:
        return
    if rel in ("", "alternate"):
        kind = attrs.get("type")
        keep(self.record, "link", (2 if not kind else 1 if kind in _PAGES else 4) if rel else 0, url)
    elif rel == "self":
        self.record.setdefault("self", url)
    elif rel == "related":
        keep(self.record, "external", 1, url)
    elif rel == "replies" and attrs.get("type", "text/html") in _PAGES:
        keep(self.record, "discussion", 1, url)
        keep(self.record, "comments", 2, attrs.get(REPLIES))


def close_comments_url(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    keep(self.record, "discussion", 0, self.url(text, attrs))


def close_original_link(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    keep(self.record, "external", 0, safe_url(text))


def close_enclosure(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    url = attrs.get("href") or attrs.get("url") or attrs.get(RESOURCE) or text
    add_attachment(self, url, attrs, attrs.get("length"))


def close_guid(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    text = text.strip()
    if text:
        record = self.record
        keep(record, "id", 0, text if len(text) <= shape.URL else self.notes.cut(text, shape.URL, "an id"))
        if text.startswith(("http:", "https:")) and ("link" not in record or record["link"][0] > 3) and (
                not attrs or attrs.get("isPermaLink", "true").strip().lower() == "true"):
            keep(record, "link", 3, self.url(text, attrs))


def close_date(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    known = self.record.get(rule[2])
    if known is None or rule[3] < known[0]:
        seconds = parse_date(text if len(text) <= shape.DATE else self.notes.cut(text.strip(), shape.DATE, "a date"))
        if seconds is not None:
            self.record[rule[2]] = (rule[3], seconds)


def close_any_date(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    """Dublin Core's date is the date of whatever has no other."""
    close_date(self, rule._replace(field="published"), attrs, text)
    close_date(self, rule._replace(field="modified"), attrs, text)


def close_category(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    if attrs:
        text = attrs.get("label") or attrs.get("term") or attrs.get("text") or text
    self.add("tags", self.once(_one_tag, text))


def close_keywords(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    self.add("tags", self.once(_tags, text))


def _one_tag(text: str, notes: Notes) -> list[str]:
    tag = plain(text)[:shape.TITLE]
    return [tag] if tag else []


def _tags(text: str, notes: Notes) -> list[str]:
    words = plain(text).split(",")
    return [word for word in (word.strip()[:shape.TITLE] for word in words) if word]


def close_name(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    people = self.once(_people_named, text)
    if people:
        add_people(self, rule.rank, people)


def _people_named(text: str, notes: Notes) -> list[Author]:
    author = person(text, notes)
    return [author] if author else []


def close_picture(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    keep(self.record, "picture", rule.rank, self.url(attrs.get("href") or attrs.get("url") or text, attrs))


def close_text(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    keep(self.record, rule.field, rule.rank, text.strip())


def close_skipped(self: Collector, rule: Rule, attrs: dict, text: str) -> None:
    """An hour (24 is 0) or the name of a day at which a feed need not be asked for."""
    text = text.strip().lower()
    if rule.field == "hour":
        hour = shape.whole_number(text)
        if hour is not None and hour <= 24:
            self.feed.setdefault("skip_hours", set()).add(hour % 24)
    elif text in _DAYS:
        self.feed.setdefault("skip_days", set()).add(_DAYS.index(text))


def add_attachment(self: Collector, url: str, attrs: dict, size: str | None, duration: str | None = None) -> None:
    url = self.url(url, attrs)
    if url:
        title = plain(attrs["title"])[:shape.TITLE] if "title" in attrs else ""
        self.add("attachments", [Attachment(url, attrs.get("type", "").strip()[:100], title,
                                            shape.whole_number(size) if size else None,
                                            shape.duration(duration) if duration else None)])


# What the collected fields mean together -------------------------------------------------------------------------
_NOTHING, _NEVER = (0, ""), (0, None)


def item(record: dict, notes: Notes) -> Item:
    get = record.get
    url, title = get("link", _NOTHING)[1], get("title", _NOTHING)[1]
    external = get("external", _NOTHING)[1]
    html, text, summary = _bodies(get("full", _NOTHING)[1], record.get("shorts"))
    published, modified = get("published", _NEVER)[1], get("modified", _NEVER)[1]
    attachments = _distinct(record["attachments"]) if "attachments" in record else ()
    if attachments and "duration" in record:
        first = Attachment(*attachments[0][:4], shape.duration(record["duration"][1]))
        attachments = (first,) + attachments[1:]
    # By position, as there are thousands: names cost a quarter of this function.
    return Item(
        get("id", _NOTHING)[1] or url or title, url, external if external != url else "", title, html, text, summary,
        published, modified if modified != published else None, _people(record),
        _distinct(record["tags"]) if "tags" in record else (), attachments, get("picture", _NOTHING)[1],
        _language(record) if "language" in record else "", get("discussion", _NOTHING)[1],
        shape.whole_number(record["comments"][1]) if "comments" in record else None)


def _bodies(full: tuple[bool, str], shorts: dict | None) -> tuple[str, str, str]:
    """content_html, content_text and summary: the fullest text is the content, what else there is sums it up."""
    if not shorts:
        return ("", "", "") if not full else (full[1], "", "") if full[0] else ("", full[1], "")
    texts = [shorts[rank] for rank in sorted(shorts)]
    if not full and texts and texts[0][0]:
        full = texts.pop(0)
        if texts and len(texts[0][1]) > len(full[1]):
            full, texts[0] = texts[0], full
    summary = plain(texts[0][1], texts[0][0]) if texts and texts[0] != full else ""
    if not full:
        return "", "", summary
    return (full[1], "", summary) if full[0] else ("", full[1], summary)


def _people(record: dict) -> tuple[Author, ...]:
    return _distinct(record["people"][1]) if "people" in record else ()


def _distinct(values: list) -> tuple:
    return tuple(dict.fromkeys(values)) if len(values) > 1 else tuple(values)


def _language(record: dict) -> str:
    return plain(record.get("language", _NOTHING)[1])[:40]


def feed(record: dict, items: list[Item], notes: Notes) -> Feed:
    get = record.get
    shorts = get("shorts")
    is_html, description = shorts[min(shorts)] if shorts else (False, "")
    return Feed(
        title=get("title", _NOTHING)[1], home_page_url=get("link", _NOTHING)[1], feed_url=get("self", ""),
        description=plain(description, is_html), language=_language(record), icon=get("picture", _NOTHING)[1],
        authors=_people(record), items=tuple(items), ttl=_rest(record), skip_hours=tuple(sorted(get("skip_hours", ()))),
        skip_days=tuple(sorted(get("skip_days", ()))), notes=tuple(notes))


def _rest(record: dict) -> int | None:
    """How many seconds the publisher asks to be left alone: the longer of RSS's ttl and Syndication's period."""
    minutes = shape.whole_number(record.get("ttl", _NOTHING)[1]) or 0
    period = _PERIODS.get(record.get("period", _NOTHING)[1].lower(), 0)
    times = shape.whole_number(record.get("frequency", _NOTHING)[1]) or 1
    return min(max(minutes * 60, period // times), YEAR) or None


def local_name(name: str) -> str:
    return name[name.rfind(SEPARATOR) + 1:]
