"""Items of one feed or of several to an Atom 1.0 document.

What JSON Feed knows and Atom does not (pictures, avatars, how long an attachment plays) is left out, and dates are whole
seconds. URLs are written as they are given: whoever calls resolves them, and sanitises the content.

Sources: RFC 4287; RFC 5005 section 3 (`next`); RFC 9562 section 5.8 (ids that are made here).
"""
from __future__ import annotations

import re
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Iterable, NamedTuple

from penny.wire.feed import Attachment, Author, Feed, Item, encodable, escape

CONTENT_TYPE = "application/atom+xml"
_EPOCH = datetime(1970, 1, 1)
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")   # XML 1.0 section 2.2
_NO_IRI = re.compile(r'[\x00-\x20\x7f<>"{}|\\^`]')   # what RFC 3987 has no place for, and a browser forgives
# What other schemes there may seem to be ("post:12") are a publisher's own counters, which are unique nowhere else.
_ID = re.compile(r"(?:https?://|tag:|urn:)[^\x00-\x20\x7f-\x9f<>\"{}|\\^`]+\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*\Z")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+\Z", re.A)
_MAIL = re.compile(r"mailto:([^@?\s]+@[^@?\s]+)\Z")


class Entry(NamedTuple):
    """An item, and what Atom wants to know beside it."""

    item: Item
    arrived: float      # Unix seconds: its date, if it has none of its own
    source: Feed = Feed()   # that it was copied from; what counts are feed_url, title, home_page_url and authors


def render(feed: Feed, entries: Iterable[Entry], id: str, next_url: str = "") -> bytes:
    """An Atom document under the feed's title and links; `id` is the IRI by which it is known wherever it is fetched
    from, `next_url` the page that goes on. `feed.items` is not looked at."""
    rendered, newest = [], _date(0)
    for entry in entries:
        updated = _updated(entry)
        newest = max(newest, updated)
        rendered.append(_entry(entry, updated))
    return "".join([
        f'<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom"{_lang(feed.language)}>\n',
        _heading(feed, id, newest), _link("next", next_url), "\n", *rendered, "</feed>\n"]).encode()


def id_of(item: Item, source_url: str) -> str:
    """An IRI for an item: the publisher's id where that is one, else always the same one for this id in this feed."""
    if _ID.match(item.id):
        return item.id
    digits = blake2b(encodable(f"{source_url}\n{item.id}").encode(), digest_size=16).hexdigest()
    return f"urn:uuid:{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _heading(feed: Feed, id: str, updated: str) -> str:
    """What RFC 4287 asks of a feed and of an entry's source alike; every entry has an author by it."""
    people = feed.authors or (Author(feed.title),)
    return "".join([_element("id", id), _element("title", feed.title), _element("updated", updated),
                    _link("alternate", feed.home_page_url), _link("self", feed.feed_url), *map(_author, people)])


def _entry(entry: Entry, updated: str) -> str:
    item, source = entry.item, entry.source
    parts = [f"<entry{_lang(item.language)}>", _element("id", id_of(item, source.feed_url)), _element("title", item.title),
             _element("updated", updated)]
    published = _date(item.date_published)
    parts += [_element("published", published)] if published else []
    parts += [_link("alternate", item.url), _link("related", item.external_url),
              _link("replies", item.comments_url, ' type="text/html"'), *map(_author, item.authors)]
    parts += [f'<category term="{_quote(tag)}"/>' for tag in item.tags]
    parts += map(_enclosure, item.attachments)
    parts += [_element("summary", item.summary)] if item.summary else []
    if item.content_html:
        parts.append(_element("content", item.content_html, ' type="html"'))
    elif item.content_text or not item.url:   # without a link there must be content, be it empty
        parts.append(_element("content", item.content_text))
    if any(source):
        parts += ["<source>", _heading(source, id_of(Item(source.feed_url), ""), updated), "</source>"]
    return "".join(parts + ["</entry>\n"])


def _updated(entry: Entry) -> str:
    dates = map(_date, (entry.item.date_modified, entry.item.date_published, entry.arrived, 0))
    return next(filter(None, dates))


def _date(seconds: float | None) -> str:
    """RFC 3339, UTC; "" for none, and outside the years that it can write."""
    try:
        return "" if seconds is None else (_EPOCH + timedelta(seconds=seconds // 1)).isoformat() + "Z"
    except (OverflowError, ValueError):
        return ""


def _author(author: Author) -> str:
    mail = _MAIL.match(author.url)
    where = _element("email", mail[1]) if mail else _element("uri", _iri(author.url)) if author.url else ""
    return f"<author>{_element('name', author.name or author.url)}{where}</author>"


def _enclosure(attachment: Attachment) -> str:
    more = f' type="{attachment.mime_type}"' if _MEDIA_TYPE.match(attachment.mime_type) else ""
    more += f' length="{attachment.size_in_bytes}"' if attachment.size_in_bytes is not None else ""
    more += f' title="{_quote(attachment.title)}"' if attachment.title else ""
    return _link("enclosure", attachment.url, more)


def _link(rel: str, url: str, more: str = "") -> str:
    return f'<link rel="{rel}" href="{_quote(_iri(url))}"{more}/>' if url else ""


def _iri(url: str) -> str:
    return _NO_IRI.sub(lambda found: "%%%02X" % ord(found[0]), url)


def _element(name: str, text: str, attributes: str = "") -> str:
    return f"<{name}{attributes}>{_quote(text)}</{name}>"


def _quote(text: str) -> str:
    return escape(_FORBIDDEN.sub("", encodable(text))).replace('"', "&quot;").replace("\r", "&#13;")


def _lang(language: str) -> str:
    return f' xml:lang="{language}"' if _LANGUAGE.match(language) else ""
