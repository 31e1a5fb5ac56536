"""JSON Feed 1.0 and 1.1 to a `Feed`, and any `Feed` to JSON Feed 1.1.

A publisher's JSON may hold any type anywhere: what cannot be a field's value is passed over as if it were absent.
Extensions ("_…") are not read, so nobody else's feed can put words into `Feed.notes`; but for our own of an item, which
says where it is discussed.

Source: https://www.jsonfeed.org/version/1.1/ and /version/1/.
"""
from __future__ import annotations

import json
from datetime import datetime, timedelta

from penny.wire import feed as shape
from penny.wire.feed import Attachment, Author, Feed, Item, MalformedFeed, Notes, encodable, plain, safe_url
from penny.wire.feed_date import parse_date
from penny.wire.xml_text import decode

VERSION = "https://jsonfeed.org/version/1.1"
DIGITS = 18   # of an integer; beyond that it is nobody's id, size or duration
_EPOCH = datetime(1970, 1, 1)
_FIELDS = Item._fields[:Item._fields.index("comments_url")]   # JSON Feed's own
_NUMBERS = (float, int)   # nought is a value


def parse(data: bytes, content_type: str = "") -> Feed:
    """The feed in a JSON document. Raises MalformedFeed for whatever is not one."""
    notes = Notes()
    text = decode(data, content_type, notes).lstrip("\ufeff\0 \t\r\n")
    try:
        # strict=False takes raw control characters in strings; the fields' own cleaning deals with them.
        document = json.loads(text, strict=False, parse_int=_integer, parse_constant=_nothing)
    except RecursionError:
        raise MalformedFeed("the JSON is nested too deeply") from None
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise MalformedFeed(f"line {line}: {getattr(error, 'msg', 'not JSON')}") from None
    if not isinstance(document, dict) or not isinstance(document.get("items"), list):
        raise MalformedFeed("this JSON document is not a JSON Feed")
    items = document["items"]
    if len(items) > shape.ITEMS:
        notes.add(f"only the first {shape.ITEMS:,} items were kept")
    return Feed(
        title=_title(document, "title", notes),
        home_page_url=_url(document, "home_page_url", notes),
        feed_url=_url(document, "feed_url", notes),
        description=plain(_text(document, "description", notes), markup=False),
        language=_title(document, "language", notes)[:40],
        icon=_url(document, "icon", notes) or _url(document, "favicon", notes),
        authors=_authors(document, notes),
        items=tuple(filter(any, (_item(item, notes) for item in items[:shape.ITEMS] if isinstance(item, dict)))),
        notes=tuple(notes),
    )


def _integer(digits: str) -> int | None:
    """An integer of a sane length: int() takes quadratic time on a long one, or refuses it."""
    return int(digits) if len(digits) <= DIGITS else None


def _nothing(name: str) -> None:
    """NaN and the infinities, which JSON does not have."""


def _item(item: dict, notes: Notes) -> Item:
    url, title = _url(item, "url", notes), _title(item, "title", notes)
    own = item.get("_penny") if isinstance(item.get("_penny"), dict) else {}
    return Item(
        id=_id(item.get("id"), notes) or url or title,
        url=url,
        external_url=_url(item, "external_url", notes),
        title=title,
        content_html=_text(item, "content_html", notes),
        content_text=_text(item, "content_text", notes),
        summary=plain(_text(item, "summary", notes), markup=False),
        date_published=_date(item, "date_published", notes),
        date_modified=_date(item, "date_modified", notes),
        authors=_authors(item, notes),
        tags=_tags(item, notes),
        attachments=_attachments(item, notes),
        image=_url(item, "image", notes) or _url(item, "banner_image", notes),
        language=_title(item, "language", notes)[:40],
        comments_url=_url(own, "comments_url", notes),
        comments=int(own["comments"]) if _is_size(own.get("comments")) else None,
    )


def _text(values: dict, key: str, notes: Notes) -> str:
    value = values.get(key)
    return encodable(notes.cut(value, shape.TEXT, "a text")).strip() if isinstance(value, str) else ""


def _title(values: dict, key: str, notes: Notes) -> str:
    return notes.cut(plain(_text(values, key, notes), markup=False), shape.TITLE, "a title")


def _id(value: object, notes: Notes) -> str:
    """Version 1 lets an id be a number, as long as it always reads the same as text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return _text({"id": value}, "id", notes)


def _url(values: dict, key: str, notes: Notes) -> str:
    url = safe_url(_text(values, key, notes))
    if len(url) > shape.URL:
        notes.add(f"URLs longer than {shape.URL} characters were left out")
        return ""
    return url


def _date(values: dict, key: str, notes: Notes) -> float | None:
    return parse_date(notes.cut(_text(values, key, notes), shape.DATE, "a date"))


def _list(values: dict, key: str, notes: Notes) -> list:
    value = values.get(key)
    if not isinstance(value, list):
        return []
    if len(value) > shape.LIST:
        notes.add(f"no more than {shape.LIST} authors, tags or attachments of an item were kept")
    return value[:shape.LIST]


def _authors(values: dict, notes: Notes) -> tuple[Author, ...]:
    people = _list(values, "authors", notes) or [values.get("author")]   # version 1.0 has one
    authors = (Author(_title(person, "name", notes), _url(person, "url", notes), _url(person, "avatar", notes))
               for person in people if isinstance(person, dict))
    return tuple(dict.fromkeys(author for author in authors if any(author)))


def _tags(values: dict, notes: Notes) -> tuple[str, ...]:
    tags = (_title({"tag": tag}, "tag", notes) for tag in _list(values, "tags", notes))
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def _attachments(values: dict, notes: Notes) -> tuple[Attachment, ...]:
    kept = []
    for attachment in _list(values, "attachments", notes):
        url = _url(attachment, "url", notes) if isinstance(attachment, dict) else ""
        if url:
            size, duration = attachment.get("size_in_bytes"), attachment.get("duration_in_seconds")
            kept.append(Attachment(
                url, _title(attachment, "mime_type", notes)[:100], _title(attachment, "title", notes),
                int(size) if _is_size(size) else None, float(duration) if _is_size(duration) else None))
    return tuple(dict.fromkeys(kept))


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**15


# Writing -------------------------------------------------------------------------------------------------------

def render(feed: Feed) -> dict:
    """The feed as a JSON Feed 1.1 object whose json.dumps can always be encoded as UTF-8; empty fields are left out.

    `notes` become `_penny.repaired`; when to ask again has no place in JSON Feed and is left out.
    """
    document = {"version": VERSION, "title": encodable(feed.title)}
    for key in ("home_page_url", "feed_url", "description", "icon", "language"):
        value = getattr(feed, key)
        if value:
            document[key] = encodable(value)
    if feed.authors:
        document["authors"] = [_filled(author) for author in feed.authors]
    document["items"] = [render_item(item) for item in feed.items]
    if feed.notes:
        document["_penny"] = {"repaired": [encodable(note) for note in feed.notes]}
    return document


def render_item(item: Item) -> dict:
    """One item as a JSON Feed 1.1 object; what JSON Feed has no name for stands in `_penny`."""
    document: dict = {}
    # One look at each field: there are thousands of items. Most are empty, and most of the rest is ASCII text.
    for key, value in zip(_FIELDS, item):
        if not value and value != 0:
            continue
        if value.__class__ is str:
            document[key] = value if value.isascii() else encodable(value)
        elif value.__class__ is tuple:
            document[key] = [encodable(one) if one.__class__ is str else _filled(one) for one in value]
        else:
            date = _rfc3339(value)
            if date:
                document[key] = date
    if item.comments_url or item.comments is not None:
        document["_penny"] = {"comments_url": encodable(item.comments_url)} if item.comments_url else {}
        if item.comments is not None:
            document["_penny"]["comments"] = item.comments
    return document


def _filled(record: Item | Author | Attachment) -> dict:
    return {key: value if value.__class__ is not str or value.isascii() else encodable(value)
            for key, value in zip(record._fields, record) if value or value.__class__ in _NUMBERS}


def _rfc3339(seconds: float) -> str:
    """UTC, to the millisecond; "" outside the years that RFC 3339 can write."""
    try:
        text = (_EPOCH + timedelta(0, 0, 0, round(seconds * 1000))).isoformat()
    except (OverflowError, ValueError):
        return ""
    return text[:23] + "Z"   # without the last three of six digits, if there is a fraction at all
