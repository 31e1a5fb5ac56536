"""RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0, and CDF to a `Feed`, in one pass over expat and without a tree.

Expat calls `start` and `end` for every element; a table of what may stand where decides whether an element is
kept, entered or passed over, and only the text of kept elements ever reaches Python. What an element's text means is
feed_fields's business; what reaches expat, what is repaired first and what is refused, that of xml_text. Nothing
external is ever read, no entity expanded, no content cleaned.

An item may stand anywhere, even within another or in an element nobody knows: it is an item of the feed.

Sources: RFC 4287 (Atom), the Atom 0.3 draft, RSS 0.9x, 1.0 and 2.0, Media RSS 1.5, Apple's podcast tags, XML Base,
RSS 1.0's Syndication module, Microsoft's Channel Definition Format.
"""
from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Callable

from penny.wire import feed as shape
from penny.wire import feed_fields as fields
from penny.wire.feed import TEXT, Feed, Item, Notes, person, safe_url
from penny.wire.feed_fields import ABOUT, RESOURCE, XML_BASE, XML_LANG, Rule, keep, local_name
from penny.wire.xml_text import SEPARATOR, WrongRoot, read_xml

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

NAMES = 300      # names of elements whose rule is remembered, in each context
NAME = 200       # characters of such a name
_ATOM = ("http://www.w3.org/2005/Atom", "http://purl.org/atom/ns#")

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
    "purl.org/rss/1.0/modules/syndication": "sy:", "purl.oclc.org/net/rss_2.0/enc": "enc:",
    "www.google.com/schemas/play-podcasts/1.0": "googleplay:", "purl.org/rss/1.0/modules/slash": "slash:",
    "purl.org/syndication/thread/1.0": "thr:",
}


_PREFIXES = frozenset(_NAMESPACES.values()) - {"", "rdf:", "xhtml:"}


class _Rules(dict):
    """A table below by expat's own names, each looked up once; None for what is passed over."""

    def __init__(self, table: dict, plain_namespace: str, is_atom: bool, odd: dict) -> None:
        self.table, self.plain_namespace, self.is_atom, self.odd = table, plain_namespace, is_atom, odd

    def __missing__(self, name: str) -> Rule | None:
        uri, _, local = name.rpartition(SEPARATOR)
        prefix = "" if uri == self.plain_namespace else self.odd.get(uri) or _prefix(uri)
        rule = self.table.get(prefix + local.lower())
        if rule is not None:
            rule = Rule(*rule, self.is_atom if not uri else uri.startswith(_ATOM))
        if len(name) <= NAME:
            if len(self) >= NAMES:
                self.clear()
            self[name] = rule
        return rule


def _prefix(uri: str) -> str:
    """The prefix that this module gives to a namespace."""
    bare = uri.strip().lower().rstrip("/#").partition("://")
    return _NAMESPACES.get(bare[2] or bare[0], "?:")


@lru_cache(4)
def _contexts(plain_namespace: str, is_atom: bool, odd: tuple = ()) -> dict[str, _Rules]:
    """The rules of each context, for documents whose root has this local name and namespace: worked out once for many
    documents, since most feeds of a lab write the same few names."""
    return {name: _Rules(table, plain_namespace, is_atom, dict(odd)) for name, table in _CONTEXTS.items()}


# Collecting ----------------------------------------------------------------------------------------------------
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_ATTRIBUTE_NAMES = {XML_LANG: "lang", "http://www.w3.org/1999/xlink\x1fhref": "xlink:href"}


class Collector:
    """Expat's handlers. `record` is the dict that the elements of the feed, item or person at hand go to."""

    ROOTS = ("rss", "rdf", "feed", "channel", "entry")

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
        self.leaf: Rule | None = None     # of the kept element whose text is being collected
        self.encoded_twice = True         # whether UTF-8 within UTF-8 is looked for
        self.nested = 0                   # elements open within the leaf
        self.markup = self.inline = False   # whether the leaf holds elements; whether its text must be escaped then
        self.known: dict[tuple, list] = {}   # what `once` has worked out
        self.attrs, self.chunks = {}, []
        self.collect = self.chunks.append
        self.odd: dict[str, str] = {}     # namespaces nobody has heard of, under a prefix that everybody knows
        parser.StartNamespaceDeclHandler = self.namespace
        parser.StartElementHandler = self.start_root
        parser.EndElementHandler = self.end
        parser.SkippedEntityHandler = self.skipped_entity

    def namespace(self, prefix: str | None, uri: str | None) -> None:
        """The root declares a namespace: a mistyped one means what its prefix says."""
        if prefix and uri and prefix + ":" in _PREFIXES and len(uri) <= NAME and _prefix(uri) == "?:":
            self.odd[uri] = prefix + ":"

    def start_root(self, name: str, attrs: dict) -> None:
        uri, _, local = name.rpartition(SEPARATOR)
        local = local.lower()
        if local not in self.ROOTS:
            raise WrongRoot(shape.HTML_PAGE if local == "html" else
                            f"the document is <{local[:40]}>, not a feed")
        # A root's namespace counts as plain even if nobody has heard of it.
        self.contexts = _contexts("" if local == "rdf" or len(uri) > NAME else uri, local in ("feed", "entry"),
                                  tuple(self.odd.items()))
        self.parser.StartNamespaceDeclHandler = None
        self.base = attrs.get(XML_BASE, "")
        self.parser.StartElementHandler = self.start
        _enter_feed(self, None, attrs)
        if local == "entry":   # a document may be one entry alone
            self.stack.append((self.rules, self.record, self.base, self.finish, 0))
            _enter_item(self, None, attrs)

    def start(self, name: str, attrs: dict) -> None:
        if self.leaf is not None:
            self.start_markup(name, attrs)
            return
        rule = self.contexts["passed over"][name] if self.skipping else self.rules[name]
        if rule is None:
            self.skipping += 1
        elif rule[0] is not None:
            self.leaf, self.attrs = rule, attrs
            self.parser.CharacterDataHandler = self.collect
        elif len(self.stack) >= shape.DEPTH:
            self.skipping += 1
        else:
            self.stack.append((self.rules, self.record, self.base, self.finish, self.skipping))
            self.skipping = 0
            if attrs and XML_BASE in attrs:
                self.base = shape.join_url(self.base, attrs[XML_BASE])
            rule.enter(self, rule, attrs)

    def end(self, name: str) -> None:
        leaf = self.leaf
        if leaf is None:
            if self.skipping:
                self.skipping -= 1
            elif self.stack:
                finish, record = self.finish, self.record
                self.rules, self.record, self.base, self.finish, self.skipping = self.stack.pop()
                finish(self, record)
        elif self.nested:
            self.end_markup(name)
        else:
            self.leaf = self.parser.CharacterDataHandler = None
            text = "".join(self.chunks)
            self.chunks.clear()
            if len(text) > TEXT:
                text = self.notes.cut(text, TEXT, "a text")
            if self.encoded_twice and not text.isascii():
                text = shape.encoded_once(text)
            leaf[0](self, leaf, self.attrs, text)
            if self.markup:
                self.markup = self.inline = False

    def start_markup(self, name: str, attrs: dict) -> None:
        """An element within a leaf becomes text again."""
        if not self.markup:
            self.markup = True
            # Atom's inline markup is XML: its text is text. RSS with naked tags mixes them with escaped ones.
            self.inline = self.leaf.is_atom or fields.is_xml(self.attrs) or self.leaf.field == "xhtml"
            if self.inline:
                self.chunks[:] = map(shape.escape, self.chunks)
                self.parser.CharacterDataHandler = self.inline_text
        self.nested += 1
        if self.nested > shape.DEPTH:
            self.notes.add(f"tags deeper than {shape.DEPTH} within one another were left out")
            return
        if len(attrs) > shape.ATTRIBUTES:
            self.notes.add(f"no more than {shape.ATTRIBUTES} attributes of an element were kept")
        tag = "<" + local_name(name)
        for key, value in islice(attrs.items(), shape.ATTRIBUTES):
            key = _ATTRIBUTE_NAMES.get(key, key)
            if SEPARATOR not in key:
                tag += ' %s="%s"' % (key, shape.escape(value).replace('"', "&quot;"))
        self.chunks.append(tag + ">")

    def end_markup(self, name: str) -> None:
        if self.nested <= shape.DEPTH and local_name(name) not in _VOID:
            self.chunks.append(f"</{local_name(name)}>")
        self.nested -= 1

    def inline_text(self, text: str) -> None:
        self.chunks.append(shape.escape(text))

    def skipped_entity(self, name: str, is_parameter: bool) -> None:
        """A document type may define names that expat then leaves to us: HTML's are known, others are shown."""
        if self.leaf and not is_parameter:
            text = shape.unescape(f"&{name};")
            self.chunks.append(shape.escape(text) if self.inline else text)

    def url(self, url: str, attrs: dict) -> str:
        """`url` resolved against the xml:base in force, if it is safe and not too long; else ""."""
        url = safe_url(url)
        if attrs and XML_BASE in attrs:
            url = safe_url(shape.join_url(shape.join_url(self.base, attrs[XML_BASE]), url)) if url else ""
        elif self.base and url:
            url = safe_url(shape.join_url(self.base, url))
        if len(url) > shape.URL:
            self.notes.add(f"URLs longer than {shape.URL} characters were left out")
            return ""
        return url

    def is_worth_keeping(self) -> bool:
        return "link" in self.feed or any(map(any, self.items))

    def once(self, read: Callable, text: str) -> list:
        """read(text, notes), worked out once for what an author or a tag repeats in each item."""
        found = self.known.get((read, text))
        if found is None:
            found = read(text, self.notes)
            if len(text) <= shape.TITLE:
                self.known[read, text] = found
        return found

    def add(self, field: str, values: list) -> None:
        self.extend(self.record.setdefault(field, []), values)

    def extend(self, kept: list, values: list) -> None:
        if len(kept) + len(values) > shape.LIST:
            self.notes.add(f"no more than {shape.LIST} authors, tags or attachments of an item were kept")
            values = values[:shape.LIST - len(kept)]
        kept += values


# Entering an element that holds kept ones ------------------------------------------------------------------------
def _nothing(self: Collector, record: dict) -> None:
    pass


def _enter_feed(self: Collector, rule: Rule | None, attrs: dict) -> None:
    self.rules, self.finish = self.contexts["feed"], _nothing
    if attrs:
        _take_attributes(self, attrs)


def _take_attributes(self: Collector, attrs: dict) -> None:
    """What formats write as attributes of a feed or an item: language, RDF's identity, CDF's link and date."""
    for name, value in islice(attrs.items(), shape.ATTRIBUTES):
        if name == XML_LANG:
            keep(self.record, "language", 2, value)
        elif name == ABOUT and self.record is not self.feed:
            keep(self.record, "id", 1, self.notes.cut(value, shape.URL, "an id"))
        elif name.lower() == "href":
            keep(self.record, "link", 1, self.url(value, attrs))
        elif name.lower() == "lastmod":
            fields.close_date(self, Rule(None, None, "modified", 4, False), {}, value)
        elif name.lower() == "base":
            self.base = value


def _enter_item(self: Collector, rule: Rule | None, attrs: dict) -> None:
    place = len(self.items)
    if place >= shape.ITEMS:
        self.notes.add(f"only the first {shape.ITEMS:,} items were kept")
        self.parser.StartElementHandler = self.parser.EndElementHandler = None   # the rest passes at expat's own speed
        return
    self.rules, self.record, self.finish = self.contexts["item"], {"place": place}, _leave_item
    self.items.append(_EMPTY)   # an item within this one comes after it
    if attrs:
        _take_attributes(self, attrs)


def _leave_item(self: Collector, record: dict) -> None:
    self.items[record["place"]] = fields.item(record, self.notes)


def _enter_person(self: Collector, rule: Rule, attrs: dict) -> None:
    self.rules, self.record = self.contexts["person"], {"rank": rule.rank}
    self.finish = _leave_person
    self.parser.CharacterDataHandler = self.collect


def _leave_person(self: Collector, record: dict) -> None:
    self.parser.CharacterDataHandler = None
    text = "".join(self.chunks)
    self.chunks.clear()
    if len(record) > 1:
        mail = record.get("mail", (0, ""))[1]
        url = self.url(record.get("uri", (0, ""))[1], {})
        author = person(record.get("name", (0, mail))[1], self.notes, url or shape.mailto(mail))
    else:
        author = person(text, self.notes)
    if author:
        fields.add_people(self, record["rank"], [author])


def _enter_image(self: Collector, rule: Rule, attrs: dict) -> None:
    self.rules, self.record, self.finish = self.contexts["image"], {}, _leave_image
    self.record["href"] = self.url(attrs.get("href") or attrs.get(RESOURCE) or "", attrs)


def _leave_image(self: Collector, record: dict) -> None:
    keep(self.record, "picture", 1, self.url(record.get("url", (0, ""))[1], {}) or record["href"])


def _enter_source(self: Collector, rule: Rule, attrs: dict) -> None:
    """The feed that an Atom entry was copied from: its authors count if the entry names none."""
    self.rules, self.record, self.finish = self.contexts["source"], {}, _leave_source


def _leave_source(self: Collector, record: dict) -> None:
    if "people" in record:
        fields.add_people(self, 7, record["people"][1])


def _enter_media(self: Collector, rule: Rule, attrs: dict) -> None:
    self.rules, self.finish = self.contexts["media"], _nothing
    if rule.field == "media" and attrs.get("url"):
        fields.add_attachment(self, attrs["url"], attrs, attrs.get("fileSize"), attrs.get("duration"))
        if attrs.get("medium") == "image" or attrs.get("type", "").startswith("image/"):
            keep(self.record, "picture", 4, self.url(attrs["url"], attrs))


def _enter_skips(self: Collector, rule: Rule, attrs: dict) -> None:
    self.rules, self.finish = self.contexts["skips"], _nothing


# What may stand where, and in which order of precedence -----------------------------------------------------------
def _leaves(close, field: str, names: str, first: int = 0) -> dict:
    """Rules for elements that mean the same, the best of them first."""
    return {name: (close, None, field, rank) for rank, name in enumerate(names.split(), first)}


def _entered(enter, field: str, names: str, rank: int = 0) -> dict:
    return {name: (None, enter, field, rank) for name in names.split()}


_EMPTY = Item()
_ITEM = _entered(_enter_item, "", "item entry")
_SHORT = ("description summary abstract dc:description itunes:summary googleplay:description media:description "
          "itunes:subtitle")
_DESCRIBED = {
    **_ITEM,
    **_leaves(fields.close_title, "title", "title dc:title itunes:title media:title"),
    **_leaves(fields.close_short, "short", _SHORT, 2),
    **_leaves(fields.close_date, "published", "published pubdate issued dcterms:issued created dcterms:created"),
    **_leaves(fields.close_date, "modified", "updated modified dcterms:modified"),
    **_leaves(fields.close_any_date, "", "dc:date", 9),
    **_leaves(fields.close_text, "language", "language dc:language"),
    **_entered(_enter_person, "people", "author"), **_entered(_enter_person, "people", "itunes:owner", 5),
    **_leaves(fields.close_name, "people", "dc:creator dc:author managingeditor itunes:author", 1),
    **_leaves(fields.close_name, "people", "media:credit", 6),
    **_leaves(fields.close_picture, "picture", "itunes:image"), **_entered(_enter_image, "picture", "image", 1),
    **_leaves(fields.close_picture, "picture", "googleplay:image media:thumbnail", 2),
    **_leaves(fields.close_picture, "picture", "logo icon", 5),
    **_leaves(fields.close_link, "link", "link"), **_leaves(fields.close_guid, "id", "guid"),
    **_leaves(fields.close_guid, "id", "id"),
}
_TAGGED = {**_leaves(fields.close_category, "tags", "category dc:subject itunes:category media:category"),
           **_leaves(fields.close_keywords, "tags", "itunes:keywords media:keywords keywords tags")}
_MEDIA = _entered(_enter_media, "group", "media:group")
_MEDIA.update(_entered(_enter_media, "media", "media:content"))
_CONTEXTS = {
    "feed": {**_DESCRIBED, **_leaves(fields.close_short, "short", "subtitle tagline"),
             **_leaves(fields.close_text, "ttl", "ttl"), **_leaves(fields.close_text, "period", "sy:updateperiod"),
             **_leaves(fields.close_text, "frequency", "sy:updatefrequency"),
             **_entered(_enter_skips, "", "skiphours skipdays"), **_entered(_enter_feed, "", "channel items")},
    "item": {**_DESCRIBED, **_TAGGED, **_MEDIA,
             **_leaves(fields.close_full, "full", "content:encoded content"),
             **_leaves(fields.close_full, "xhtml", "xhtml:body", 2),
             **_leaves(fields.close_full, "full", "body fullitem", 3),
             **_leaves(fields.close_original_link, "external", "feedburner:origlink"),
             **_leaves(fields.close_text, "duration", "itunes:duration"),
             **_leaves(fields.close_comments_url, "discussion", "comments"),
             **_leaves(fields.close_text, "comments", "slash:comments thr:total"),
             **_leaves(fields.close_enclosure, "", "enclosure enc:enclosure"), **_entered(_enter_source, "", "source")},
    "media": {**_ITEM, **_TAGGED, **_MEDIA, **_leaves(fields.close_title, "title", "media:title", 3),
              **_leaves(fields.close_short, "short", "media:description", 8),
              **_leaves(fields.close_picture, "picture", "media:thumbnail", 3),
              **_leaves(fields.close_name, "people", "media:credit", 6)},
    "person": {**_leaves(fields.close_text, "name", "name itunes:name"),
               **_leaves(fields.close_text, "mail", "email itunes:email"),
               **_leaves(fields.close_text, "uri", "uri url homepage")},
    "image": _leaves(fields.close_text, "url", "url"),
    "source": _entered(_enter_person, "people", "author"),
    "skips": {**_leaves(fields.close_skipped, "hour", "hour"), **_leaves(fields.close_skipped, "day", "day")},
    "passed over": _ITEM,
}


def parse(data: bytes, content_type: str = "") -> Feed:
    """The feed in an XML document. Raises MalformedFeed for whatever is not one."""
    notes = Notes()
    reader = read_xml(data, content_type, Collector, notes)
    return fields.feed(reader.feed, reader.items, notes)
