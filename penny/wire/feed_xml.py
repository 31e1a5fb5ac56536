"""RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0 to a `Feed`, in one pass over expat and without a tree.

Expat calls `start` and `end` for every element; a table of what may stand where decides whether an element is
kept, entered or passed over, and only the text of kept elements ever reaches Python. What the elements of an item
mean together is decided once, when the item ends (`_item`). Which bytes reach expat, what is mended first and what is
refused is `feed.read_xml`'s business. Nothing external is ever read, no entity expanded, no content cleaned.

Sources: RFC 4287 (Atom), the Atom 0.3 draft, RSS 0.9x, 1.0 and 2.0, Media RSS 1.5, Apple's podcast tags, XML Base.
"""
from __future__ import annotations

from html.entities import html5
from itertools import islice
from typing import TYPE_CHECKING

from penny.wire import feed as shape
from penny.wire.feed import SEPARATOR, TEXT, Attachment, Feed, Item, MalformedFeed, Notes, person, plain, safe_url
from penny.wire.feed_date import parse_date

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

XML_BASE, XML_LANG = ("http://www.w3.org/XML/1998/namespace\x1f" + name for name in ("base", "lang"))
_ABOUT, _RESOURCE = ("http://www.w3.org/1999/02/22-rdf-syntax-ns#\x1f" + name for name in ("about", "resource"))
_ATOM = ("http://www.w3.org/2005/Atom\x1f", "http://purl.org/atom/ns#\x1f")

# Names ---------------------------------------------------------------------------------------------------------
# Namespaces are compared without scheme, case and trailing "/" or "#". Plain RSS and Atom share one vocabulary.
_NAMESPACES = {
    "": "", "purl.org/rss/1.0": "", "my.netscape.com/rdf/simple/0.9": "", "channel.netscape.com/rdf/simple/0.9": "",
    "backend.userland.com/rss": "", "backend.userland.com/rss2": "", "backend.userland.com/rss091": "",
    "blogs.law.harvard.edu/tech/rss": "", "cyber.law.harvard.edu/rss": "", "purl.org/net/rss1.1": "",
    "www.w3.org/2005/atom": "", "purl.org/atom/ns": "", "purl.org/atom": "",
    "purl.org/rss/1.0/modules/content": "content:", "purl.org/dc/elements/1.1": "dc:", "purl.org/dc/terms": "dcterms:",
    "search.yahoo.com/mrss": "media:", "www.itunes.com/dtds/podcast-1.0.dtd": "itunes:",
    "rssnamespace.org/feedburner/ext/1.0": "feedburner:", "www.pheedo.com/namespace/pheedo": "feedburner:",
    "www.w3.org/1999/02/22-rdf-syntax-ns": "rdf:", "www.w3.org/1999/xhtml": "xhtml:",
    "purl.oclc.org/net/rss_2.0/enc": "enc:", "www.google.com/schemas/play-podcasts/1.0": "googleplay:",
}
_ROOTS = ("rss", "rdf", "feed", "channel", "entry")


class _Prefixes(dict):
    """The prefix that this module gives to a namespace, worked out once in a document."""

    def __missing__(self, uri: str) -> str:
        bare = uri.strip().lower().rstrip("/#").partition("://")
        prefix = self[uri] = _NAMESPACES.get(bare[2] or bare[0], "?:")
        return prefix


class _Rules(dict):
    """A table below by expat's own names, each looked up once in a document; None for what is passed over."""

    def __init__(self, table: dict, prefixes: _Prefixes) -> None:
        self.table, self.prefixes = table, prefixes

    def __missing__(self, name: str) -> tuple | None:
        uri, _, local = name.rpartition(SEPARATOR)
        rule = self[name] = self.table.get(self.prefixes[uri] + local.lower())
        return rule


# Collecting ----------------------------------------------------------------------------------------------------
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_ATTRIBUTE_NAMES = {XML_LANG: "lang", "http://www.w3.org/1999/xlink\x1fhref": "xlink:href"}


class Collector:
    """Expat's handlers. `record` is the dict that the elements of the feed, item or person at hand go to."""

    def __init__(self, parser: XMLParserType, notes: Notes) -> None:
        self.parser, self.notes = parser, notes
        self.feed = self.record = {}
        self.items: list[Item] = []
        self.contexts: dict[str, _Rules] = {}
        self.rules: dict = {}             # of the context at hand
        self.stack: list[tuple] = []      # what to go back to when an entered element ends
        self.finish = None                # called when the entered element ends
        self.base = ""                    # xml:base in force
        self.skipping = 0                 # elements open within one that is passed over
        self.leaf = None                  # what closes the kept element whose text is being collected
        self.atom = False                 # whether the root is Atom's
        self.nested = 0                   # elements open within the leaf
        self.markup = self.inline = False   # whether the leaf holds elements; whether its text must be escaped then
        self.key, self.name, self.attrs, self.chunks = "", "", {}, []
        self.collect = self.chunks.append
        parser.StartElementHandler = self.start_root
        parser.EndElementHandler = self.end
        parser.SkippedEntityHandler = self.skipped_entity

    def start_root(self, name: str, attrs: dict) -> None:
        uri, _, local = name.rpartition(SEPARATOR)
        local = local.lower()
        if local not in _ROOTS:
            raise MalformedFeed("this is an HTML page, not a feed" if local == "html" else
                                f"the document is <{local[:40]}>, not a feed")
        prefixes = _Prefixes()
        if local != "rdf":
            prefixes[uri] = ""   # a root's namespace counts as plain even if nobody has heard of it
        self.contexts = {name: _Rules(table, prefixes) for name, table in _CONTEXTS.items()}
        self.atom = local in ("feed", "entry")
        self.base = attrs.get(XML_BASE, "")
        self.parser.StartElementHandler = self.start
        _enter_feed(self, local, attrs)
        if local == "entry":   # a document may be one entry alone
            self.stack.append((self.rules, self.record, self.base, self.finish))
            _enter_item(self, local, attrs)

    def start(self, name: str, attrs: dict) -> None:
        if self.skipping:
            self.skipping += 1
            return
        if self.leaf:
            self.start_markup(name, attrs)
            return
        rule = self.rules[name]
        if rule is None:
            self.skipping = 1
            return
        key, close, enter = rule
        if close:
            self.leaf, self.key, self.name, self.attrs = close, key, name, attrs
            self.chunks.clear()
            self.parser.CharacterDataHandler = self.collect
        elif len(self.stack) >= shape.DEPTH:
            self.skipping = 1
        else:
            self.stack.append((self.rules, self.record, self.base, self.finish))
            if attrs and XML_BASE in attrs:
                self.base = shape.join_url(self.base, attrs[XML_BASE])
            enter(self, key, attrs)

    def end(self, name: str) -> None:
        close = self.leaf
        if close:
            if self.nested:
                self.end_markup(name)
                return
            self.leaf = self.parser.CharacterDataHandler = None
            text = "".join(self.chunks)
            if len(text) > TEXT:
                text = self.notes.cut(text, TEXT, "a text")
            close(self, self.key, self.attrs, text)
            if self.markup:
                self.markup = self.inline = False
        elif self.skipping:
            self.skipping -= 1
        elif self.stack:
            finish, record = self.finish, self.record
            self.rules, self.record, self.base, self.finish = self.stack.pop()
            finish(self, record)

    def start_markup(self, name: str, attrs: dict) -> None:
        """An element within a leaf becomes text again."""
        if not self.markup:
            self.markup = True
            # Atom's inline markup is XML: its text is text. RSS with naked tags mixes them with escaped ones.
            self.inline = self.is_atom() or _is_xml(self.attrs) or self.key == "xhtml:body"
            if self.inline:
                self.chunks[:] = map(shape.escape, self.chunks)
                self.parser.CharacterDataHandler = self.inline_text
        self.nested += 1
        if self.nested > shape.DEPTH:
            self.notes.add(f"tags deeper than {shape.DEPTH} within one another were left out")
            return
        if len(attrs) > shape.ATTRIBUTES:
            self.notes.add(f"no more than {shape.ATTRIBUTES} attributes of an element were kept")
        tag = "<" + _local(name)
        for key, value in islice(attrs.items(), shape.ATTRIBUTES):
            key = _ATTRIBUTE_NAMES.get(key, key)
            if SEPARATOR not in key:
                tag += ' %s="%s"' % (key, shape.escape(value).replace('"', "&quot;"))
        self.chunks.append(tag + ">")

    def end_markup(self, name: str) -> None:
        if self.nested <= shape.DEPTH and _local(name) not in _VOID:
            self.chunks.append(f"</{_local(name)}>")
        self.nested -= 1

    def inline_text(self, text: str) -> None:
        self.chunks.append(shape.escape(text))

    def skipped_entity(self, name: str, is_parameter: bool) -> None:
        """A document type may define names that expat then leaves to us: HTML's are known, others are shown."""
        if self.leaf and not is_parameter:
            text = html5.get(name + ";", f"&{name};")
            self.chunks.append(shape.escape(text) if self.inline else text)

    def is_atom(self) -> bool:
        return self.name.startswith(_ATOM) or (self.atom and SEPARATOR not in self.name)

    def url(self, url: str, attrs: dict) -> str:
        """`url` resolved against the xml:base in force, if it is safe and not too long; else ""."""
        url = safe_url(url)
        base = self.base
        if attrs and XML_BASE in attrs:
            base = shape.join_url(base, attrs[XML_BASE])
        if base and url:
            url = safe_url(shape.join_url(base, url))
        if len(url) > shape.URL:
            self.notes.add(f"URLs longer than {shape.URL} characters were left out")
            return ""
        return url

    def extend(self, key: str, values: list) -> None:
        kept = self.record.setdefault(key, [])
        room = shape.LIST - len(kept)
        if len(values) > room:
            self.notes.add(f"no more than {shape.LIST} authors, tags or attachments of an item were kept")
        kept += values[:room]


def _local(name: str) -> str:
    return name[name.rfind(SEPARATOR) + 1:]


def _is_xml(attrs: dict) -> bool:
    return attrs.get("type", "").lower().endswith(("xhtml", "/xml", "+xml")) or attrs.get("mode") == "xml"


# What may stand where: entering an element ---------------------------------------------------------------------
def _nothing(self: Collector, record: dict) -> None:
    pass


def _enter_feed(self: Collector, key: str, attrs: dict) -> None:
    self.rules, self.finish = self.contexts["feed"], _nothing
    if attrs.get(XML_LANG):
        self.feed["xml:lang"] = attrs[XML_LANG]


def _enter_item(self: Collector, key: str, attrs: dict) -> None:
    if len(self.items) >= shape.ITEMS:
        self.notes.add(f"only the first {shape.ITEMS:,} items were kept")
        self.parser.StartElementHandler = self.parser.EndElementHandler = None   # the rest passes at expat's own speed
        return
    self.rules, self.record = self.contexts["item"], {}
    self.finish = lambda self, record: self.items.append(_item(record, self.notes))
    if attrs:
        for name, kept in ((XML_LANG, "xml:lang"), (_ABOUT, "rdf:about")):
            if attrs.get(name):
                self.record[kept] = attrs[name]


def _enter_person(self: Collector, key: str, attrs: dict) -> None:
    self.rules, self.record = self.contexts["person"], {}
    self.finish = lambda self, record: _leave_person(self, key, record)
    self.chunks.clear()
    self.parser.CharacterDataHandler = self.collect


def _leave_person(self: Collector, key: str, record: dict) -> None:
    self.parser.CharacterDataHandler = None
    if record:
        name = _first(record, ("name", "itunes:name"))
        mail = _first(record, ("email", "itunes:email"))
        url = self.url(_first(record, ("uri", "url", "homepage")), {})
        author = person(name or mail, self.notes, url or shape.mailto(mail))
    else:
        author = person("".join(self.chunks), self.notes)
    if author:
        self.extend(key, [author])


def _enter_image(self: Collector, key: str, attrs: dict) -> None:
    self.rules, self.record, self.finish = self.contexts["image"], {}, _leave_image
    self.record["href"] = self.url(attrs.get("href") or attrs.get(_RESOURCE) or "", attrs)


def _leave_image(self: Collector, record: dict) -> None:
    url = self.url(record.get("url", ""), {}) or record["href"]
    if url:
        self.record.setdefault("image", url)


def _enter_source(self: Collector, key: str, attrs: dict) -> None:
    """The feed that an Atom entry was copied from: its authors count if the entry names none."""
    self.rules, self.record = self.contexts["source"], {}
    self.finish = lambda self, record: self.record.setdefault("source", record.get("author"))


def _enter_media(self: Collector, key: str, attrs: dict) -> None:
    self.rules, self.finish = self.contexts["media"], _nothing
    if key == "media:content" and attrs.get("url"):
        _add_attachment(self, attrs["url"], attrs, attrs.get("fileSize"), attrs.get("duration"))
        if attrs.get("medium") == "image" or attrs.get("type", "").startswith("image/"):
            self.record.setdefault("media image", self.url(attrs["url"], attrs))


# Closing a kept element ------------------------------------------------------------------------------------------
def _close_typed(self: Collector, key: str, attrs: dict, text: str) -> None:
    """Text that may be plain or HTML is kept as (is it HTML, the text)."""
    if key in self.record:
        return
    is_atom = self.is_atom()
    if not attrs and not self.markup:
        text = text.strip()
        if text:
            self.record[key] = (not is_atom, text)
        return
    kind = attrs.get("type", "").lower().strip()
    mode = attrs.get("mode")
    if mode == "base64" or (is_atom and kind and not kind.startswith("text") and not mode and not self.markup
                            and kind not in ("html", "xhtml") and not _is_xml(attrs)):
        text = shape.from_base64(text)
    text = text.strip()
    if text:
        is_html = self.markup or ("html" in kind or "xml" in kind if kind else not is_atom)
        if self.markup and self.inline:
            text = shape.without_div(text)
        self.record[key] = (is_html, text)


def _close_link(self: Collector, key: str, attrs: dict, text: str) -> None:
    href, rel = text, ""
    if attrs:
        href = attrs.get("href") or attrs.get("url") or attrs.get(_RESOURCE) or text
        rel = attrs.get("rel", "" if href is text else "alternate").rpartition("/")[2].lower()
    if rel == "enclosure" or key != "link":
        _add_attachment(self, href, attrs, attrs.get("length"))
        return
    if rel == "alternate" and attrs.get("type", "text/html") not in ("text/html", "application/xhtml+xml", ""):
        rel = "alternate of another type"
    url = self.url(href, attrs)
    if url:
        self.record.setdefault("link " + rel if rel else "link", url)


def _close_guid(self: Collector, key: str, attrs: dict, text: str) -> None:
    text = text.strip()
    if text:
        self.record.setdefault("guid", text)
        if text.startswith(("http:", "https:")) and attrs.get("isPermaLink", "true").strip().lower() == "true":
            self.record.setdefault("permalink", self.url(text, attrs))


def _close_category(self: Collector, key: str, attrs: dict, text: str) -> None:
    if attrs:
        text = attrs.get("label") or attrs.get("term") or attrs.get("text") or text
    tag = plain(text)[:shape.TITLE]
    if tag:
        self.extend("tags", [tag])


def _close_keywords(self: Collector, key: str, attrs: dict, text: str) -> None:
    words = plain(text).split(",")
    self.extend("tags", [word for word in (word.strip()[:shape.TITLE] for word in words) if word])


def _close_name(self: Collector, key: str, attrs: dict, text: str) -> None:
    author = person(text, self.notes)
    if author:
        self.extend(key, [author])


def _close_picture(self: Collector, key: str, attrs: dict, text: str) -> None:
    url = self.url(attrs.get("href") or attrs.get("url") or text, attrs)
    if url:
        self.record.setdefault(key, url)


def _add_attachment(self: Collector, url: str, attrs: dict, size: str | None, duration: str | None = None) -> None:
    url = self.url(url, attrs)
    if url:
        title = plain(attrs["title"])[:shape.TITLE] if "title" in attrs else ""
        kind, size = attrs.get("type", "").strip()[:100], shape.whole_number(size)
        self.extend("attachments", [Attachment(url, kind, title, size, shape.duration(duration))])


def _close_text(self: Collector, key: str, attrs: dict, text: str) -> None:
    text = text.strip()
    if text:
        self.record.setdefault(key, text)


def _rules(function, names: str, leaf: bool = True) -> dict:
    return {name: (name, function, None) if leaf else (name, None, function) for name in names.split()}


_DESCRIBED = {
    **_rules(_close_typed, "title media:title itunes:title dc:title description summary dc:description itunes:summary "
                           "itunes:subtitle googleplay:description media:description"),
    **_rules(_close_text, "published pubdate issued dcterms:issued created dcterms:created updated modified "
                          "dcterms:modified dc:date language dc:language"),
    **_rules(_close_name, "dc:creator dc:author itunes:author managingeditor media:credit"),
    **_rules(_close_picture, "itunes:image googleplay:image media:thumbnail logo icon"),
    **_rules(_close_link, "link"), **_rules(_close_guid, "guid id"),
    **_rules(_enter_person, "author itunes:owner", leaf=False), **_rules(_enter_image, "image", leaf=False),
}
_TAGGED = {**_rules(_close_category, "category dc:subject itunes:category media:category"),
           **_rules(_close_keywords, "itunes:keywords media:keywords keywords")}
_CONTEXTS = {
    "feed": {**_DESCRIBED, **_rules(_close_typed, "subtitle tagline"), **_rules(_close_text, "ttl"),
             **_rules(_enter_feed, "channel items", leaf=False), **_rules(_enter_item, "item entry", leaf=False)},
    "item": {**_DESCRIBED, **_TAGGED,
             **_rules(_close_typed, "content content:encoded xhtml:body body fullitem abstract"),
             **_rules(_close_text, "feedburner:origlink itunes:duration"),
             **_rules(_close_link, "enclosure enc:enclosure"), **_rules(_enter_source, "source", leaf=False),
             **_rules(_enter_media, "media:group media:content", leaf=False)},
    "media": {**_TAGGED, **_rules(_close_typed, "media:title media:description"),
              **_rules(_close_picture, "media:thumbnail"), **_rules(_close_name, "media:credit"),
              **_rules(_enter_media, "media:group media:content", leaf=False)},
    "person": _rules(_close_text, "name email uri url homepage itunes:name itunes:email"),
    "image": _rules(_close_text, "url"),
    "source": _rules(_enter_person, "author", leaf=False),
}

# What the collected elements mean together -----------------------------------------------------------------------
_TITLES = ("title", "dc:title", "itunes:title", "media:title")
_FULL = ("content:encoded", "content", "xhtml:body", "body", "fullitem")
_SHORT = ("description", "summary", "abstract", "dc:description", "itunes:summary", "googleplay:description",
          "media:description", "itunes:subtitle")
_SUBTITLES = ("subtitle", "tagline") + _SHORT
_LINKS = ("link", "link alternate", "permalink", "link alternate of another type")
_PUBLISHED = ("published", "pubdate", "issued", "dcterms:issued", "created", "dcterms:created", "dc:date")
_MODIFIED = ("updated", "modified", "dcterms:modified", "dc:date")
_AUTHORS = ("author", "dc:creator", "dc:author", "managingeditor", "itunes:author", "itunes:owner", "media:credit",
            "source")
_PICTURES = ("itunes:image", "image", "googleplay:image", "media:thumbnail", "media image", "logo", "icon")


def parse(data: bytes, content_type: str = "") -> Feed:
    """The feed in an XML document. Raises MalformedFeed for whatever is not one."""
    notes = Notes()
    reader = shape.read_xml(data, content_type, Collector, notes)
    record = reader.feed
    ttl = shape.whole_number(record.get("ttl"))
    return Feed(
        title=_title(record, notes), home_page_url=_first(record, _LINKS), feed_url=record.get("link self", ""),
        description=_plain(_first(record, _SUBTITLES)), language=_language(record), icon=_first(record, _PICTURES),
        authors=_people(record), items=tuple(reader.items), ttl=min(ttl * 60, 366 * 86_400) if ttl else None,
        notes=tuple(notes))


def _item(record: dict, notes: Notes) -> Item:
    url, title = _first(record, _LINKS), _title(record, notes)
    ident = notes.cut(_first(record, ("guid", "rdf:about")), shape.URL, "an id") or url or title
    original = safe_url(_first(record, ("feedburner:origlink", "link related")))
    html, text, summary = _bodies(record)
    published, modified = _date(record, _PUBLISHED, notes), _date(record, _MODIFIED, notes)
    attachments = tuple(dict.fromkeys(record.get("attachments", ())))
    if "itunes:duration" in record and attachments:
        attachments = (Attachment(*attachments[0][:4], shape.duration(record["itunes:duration"])),) + attachments[1:]
    # By position, as there are thousands: names cost a quarter of this function.
    return Item(ident, url, original if original != url else "", title, html, text, summary, published,
                modified if modified != published else None, _people(record),
                tuple(dict.fromkeys(record.get("tags", ()))), attachments, _first(record, _PICTURES), _language(record))


def _first(record: dict, keys: tuple) -> str:
    for key in keys:
        if record.get(key):
            return record[key]
    return ""


def _plain(value) -> str:
    return plain(value[1], value[0]) if isinstance(value, tuple) else plain(value)


def _title(record: dict, notes: Notes) -> str:
    return notes.cut(_plain(_first(record, _TITLES)), shape.TITLE, "a title")


def _bodies(record: dict) -> tuple[str, str, str]:
    """content_html, content_text and summary: the fullest text is the content, what else there is sums it up."""
    full = _first(record, _FULL)
    shorts = [record[key] for key in _SHORT if key in record]
    if not full and shorts and shorts[0][0]:
        full = shorts.pop(0)
        if shorts and len(shorts[0][1]) > len(full[1]):
            full, shorts[0] = shorts[0], full
    summary = _plain(shorts[0]) if shorts and shorts[0] != full else ""
    if not full:
        return "", "", summary
    return (full[1], "", summary) if full[0] else ("", full[1], summary)


def _date(record: dict, keys: tuple, notes: Notes) -> float | None:
    for key in keys:
        if key in record:
            text = record[key]
            seconds = parse_date(text if len(text) <= shape.DATE else notes.cut(text, shape.DATE, "a date"))
            if seconds is not None:
                return seconds
    return None


def _people(record: dict) -> tuple[shape.Author, ...]:
    for key in _AUTHORS:
        if record.get(key):
            return tuple(dict.fromkeys(record[key]))
    return ()


def _language(record: dict) -> str:
    language = _first(record, ("language", "dc:language", "xml:lang"))
    return plain(language)[:40] if language else ""
