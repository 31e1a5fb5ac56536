"""What expat refuses, read all the same: a tolerant reader that calls a collector's handlers as expat would.

Nothing is thrown away that can be kept, whatever the fault: references and prefixes that nobody declared, characters
that XML does not have, tags and CDATA sections that do not end or cross one another, markup around the feed, a
document that stops half way. An element that is not closed ends where its parent ends, or where an element begins
that cannot stand inside it. Each kind of repair leaves a sentence in the notes. Entities of the document's own are
refused here too, and none is expanded but HTML's.

It goes through the text once, from one "<" to the next: whatever is searched for beyond the next "<" is remembered
when it is not found, so a hostile document takes no more than time in proportion to its length, and MARKS bounds
that. Only documents that are no XML ever come here; the others are read by expat, ten times as fast.
"""
from __future__ import annotations

import re
from html.entities import html5
from itertools import islice
from typing import Callable

from penny.wire.feed import JUNK, TEXT, MalformedFeed, Notes, encodable, unescape
from penny.wire.xml_text import OWN_ENTITIES, SEPARATOR, from_c1

MARKS = 250_000        # "<" that are looked at; a longer document is read up to there
OPEN = 1_000           # elements within one another; deeper tags are left out
PREFIXES = 100         # namespace prefixes in force at a time
ATTRIBUTES = 1_000     # attributes of one element; the collector has a smaller bound within content

# The values exclude "<": a tag that is not closed is given up at the next one, which keeps this linear.
_TAG = re.compile(r"""<(/?)([^\W\d][^\s<>/="'&]*)([^<>"']*(?:(?:"[^"<]*"|'[^'<]*')[^<>"']*){0,200})>""")
_OPEN_TAG = re.compile(r"""<(/?)([^\W\d][^\s<>/="'&]*)([^<>]*)(>?)""")
_ATTRIBUTE = re.compile(r"""(?<![^\s"'])([^\s=/"'<>]{1,200})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_ENTITY = re.compile(r"""<!ENTITY\s+(%?)\s*([^\s"'<>%]{1,200})\s+(?:"([^"]*)"|'([^']*)')""", re.I)
_DECLARATION = re.compile(r"<[!?][^<>\[]*[>\[]?")
_REFERENCE = re.compile(r"&(?:#(?:([0-9]+)|[xX]([0-9a-fA-F]+));?|([A-Za-z][A-Za-z0-9]{1,31});)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_XML_NAMES = ("amp", "lt", "gt", "quot", "apos")

_ITEMS = ("item", "entry")   # nobody puts one into another: the first was not closed
# Elements of an item that hold text and stand side by side.
_SIBLINGS = frozenset("""title link guid pubdate description content:encoded dc:date dc:creator dc:subject id updated
    published issued modified summary category comments enclosure author""".split())
_EMPTY = frozenset("area base br col embed hr img input meta param track wbr".split())   # HTML's, which nobody closes
_ONE_OF_ITS_KIND = frozenset("p li dt dd tr td th option".split())                       # HTML ends these at the next

# What a prefix stands for when nothing declares it.
_USUAL = {
    "content": "http://purl.org/rss/1.0/modules/content/", "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/", "sy": "http://purl.org/rss/1.0/modules/syndication/",
    "media": "http://search.yahoo.com/mrss/", "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "googleplay": "http://www.google.com/schemas/play-podcasts/1.0", "xhtml": "http://www.w3.org/1999/xhtml",
    "feedburner": "http://rssnamespace.org/feedburner/ext/1.0", "atom": "http://www.w3.org/2005/Atom",
    "atom10": "http://www.w3.org/2005/Atom", "a10": "http://www.w3.org/2005/Atom",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "rss": "http://purl.org/rss/1.0/",
    "xml": "http://www.w3.org/XML/1998/namespace", "xlink": "http://www.w3.org/1999/xlink",
}


def read(text: str, collector: Callable, notes: Notes):
    """The collector that has seen what `text`, `cleaned`, holds of a document; None if it holds none, or too little of one.

    `collector(parser, notes)` makes it; `collector.ROOTS` are the names that its documents may begin with, and
    `is_worth_keeping()` says whether what came before the document broke off is of any use.
    """
    reader = _Reader(text, collector.ROOTS, notes)
    seen = collector(reader, notes)
    try:
        reader.read()
    finally:
        reader.StartElementHandler = reader.EndElementHandler = reader.CharacterDataHandler = None
    if not notes:
        notes.add("what is no XML was read as it was meant")
    return seen if reader.begun and (not reader.cut or seen.is_worth_keeping()) else None


def cleaned(text: str, notes: Notes) -> str:
    """`text` without the characters that XML does not have."""
    text = encodable(text).replace("\r\n", "\n").strip("\0\ufeff")
    if _CONTROL.search(text):
        table = {code: " " for code in range(32) if code not in (9, 10, 13)}
        table.update({0xfffe: "\ufffd", 0xffff: "\ufffd"})
        cleaned = text.translate(table)
        if cleaned != text:
            notes.add("control characters were replaced")
        text = cleaned.translate({code: from_c1(code) for code in range(128, 160)})
    return text


class _Reader:
    """Stands where expat's parser does; the collector sets its handlers.

    `open` holds (name in lower case, name as handed over, scope and names to go back to) for each element that is open.
    """

    def __init__(self, text: str, roots: tuple, notes: Notes) -> None:
        self.StartElementHandler = self.EndElementHandler = self.StartNamespaceDeclHandler = None
        self.CharacterDataHandler = self.SkippedEntityHandler = None
        self.text, self.roots, self.notes = text, roots, notes
        self.begun = self.finished = self.cut = False
        self.open: list[tuple] = []
        self.counts: dict[str, int] = {}      # how many elements of a name are open
        self.scope: dict[str, str] = {"xml": _USUAL["xml"]}   # prefix to namespace
        self.names: dict[str, str] = {}       # name as written to name as handed over, within this scope
        self.endings: dict[str, int] = {}     # where "-->" and its like come next; -1: nowhere

    def read(self) -> None:
        text, at = self.text, 0
        for _ in range(MARKS):
            mark = text.find("<", at)
            if mark < 0:
                break
            if mark > at:
                self.characters(text[at:mark])
            found = _TAG.match(text, mark)
            if found:
                at = found.end()
                self.tag(mark, *found.groups())
            else:
                at = self.other(mark)
            if self.finished:
                break
        else:
            self.notes.add(f"only the first {MARKS:,} tags were read")
            self.finished, at = True, len(text)
        self.end(text[at:])

    def end(self, rest: str) -> None:
        """Deal with what follows the last tag, and with what is open then."""
        if self.open and not self.finished:
            self.cut = True
            self.notes.add("the document ends in the middle; what was open was closed")
            self.characters(rest)
        elif self.begun and self.StartElementHandler and rest.strip():
            self.notes.add("what follows the end of the document was left out")
        while self.open and self.EndElementHandler:
            self.pop()

    # Tags ------------------------------------------------------------------------------------------------------

    def tag(self, mark: int, closing: str, written: str, attributes: str) -> None:
        key = written.lower()
        if closing:
            if self.begun:
                self.close(key)
        elif mark > JUNK and not self.begun:
            self.finished = True
        elif not self.begun and key.rpartition(":")[2] not in self.roots:
            self.notes.add("what precedes the XML was left out")
        else:
            self.begun = True
            self.make_room(key)
            if len(self.open) >= OPEN:
                self.notes.add(f"tags deeper than {OPEN:,} within one another were left out")
                return
            self.start(key, written, attributes)
            if attributes.endswith("/") or (self.CharacterDataHandler and key in _EMPTY):
                self.pop()
            elif self.StartElementHandler is None:
                self.finished = True   # the collector has enough

    def make_room(self, key: str) -> None:
        """Close what is open and cannot hold an element called `key`."""
        top = self.open[-1][0] if self.open else ""
        if key in _ITEMS and (self.counts.get(key) or self.CharacterDataHandler):
            self.notes.add("tags that do not match were put right")
            if self.counts.get(key):
                self.close(key)
            while self.CharacterDataHandler and len(self.open) > 1:
                self.pop()
        elif self.CharacterDataHandler and ((key in _SIBLINGS and top in _SIBLINGS)
                                            or (key == top and key in _ONE_OF_ITS_KIND)):
            self.notes.add("tags that do not match were put right")
            self.pop()

    def start(self, key: str, written: str, attributes: str) -> None:
        scope, names = self.scope, self.names
        values = self.attributes(attributes) if "=" in attributes else {}
        name = self.names.get(written) or self.expand(written)
        self.open.append((key, name, scope, names))
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.StartElementHandler:
            self.StartElementHandler(name, values)

    def close(self, key: str) -> None:
        """End the innermost element called `key` and all within it; an end that nothing began is passed over."""
        if not self.counts.get(key):
            if key not in _EMPTY:
                self.notes.add("tags that do not match were put right")
            return
        while self.open[-1][0] != key:
            self.notes.add("tags that do not match were put right")
            self.pop()
        self.pop()
        self.finished = not self.open

    def pop(self) -> None:
        key, name, self.scope, self.names = self.open.pop()
        self.counts[key] -= 1
        if self.EndElementHandler:
            self.EndElementHandler(name)

    def attributes(self, written: str) -> dict[str, str]:
        pairs = [(name, one or other or bare) for name, one, other, bare
                 in islice((found.groups("") for found in _ATTRIBUTE.finditer(written)), ATTRIBUTES)]
        declared = {name[6:]: uri for name, uri in pairs if name == "xmlns" or name.startswith("xmlns:")}
        if declared and len(self.scope) + len(declared) <= PREFIXES:
            self.scope, self.names = {**self.scope, **declared}, {}
            for prefix, uri in declared.items() if self.StartNamespaceDeclHandler else ():
                self.StartNamespaceDeclHandler(prefix, uri)
        values: dict[str, str] = {}
        for name, value in pairs:
            if not name.startswith("xmlns"):
                values.setdefault(self.expand(name) if ":" in name else name,
                                  self.unescape(value) if "&" in value else value)
        return values

    def expand(self, written: str) -> str:
        """A name with its namespace, as expat hands it over. Attributes without a prefix never come here."""
        prefix, _, local = written.rpartition(":")
        uri = self.scope.get(prefix)
        if uri is None and prefix:
            self.notes.add("prefixes that are not declared were given their usual meaning")
            uri = _USUAL.get(prefix.lower(), "undeclared:" + prefix)
        name = self.names[written] = uri + SEPARATOR + local if uri else local
        return name

    # Everything else -------------------------------------------------------------------------------------------

    def other(self, mark: int) -> int:
        """Read what begins with "<" and is no sound tag; where to go on."""
        text = self.text
        if text.startswith("<!--", mark):
            end = self.next("-->", mark + 4)
            if end < 0:
                self.notes.add("a comment that does not end was passed over")
                return mark + 4
            return end + 3
        if text.startswith("<![CDATA[", mark):
            return self.section(mark + 9)
        if text.startswith(("<!", "<?"), mark):
            if not self.begun:
                self.refuse_entities(mark)
            return _DECLARATION.match(text, mark).end()
        found = _OPEN_TAG.match(text, mark)
        if found and (found[4] or found[1] or found.end() < len(text)):
            self.notes.add("tags that are not complete were put right")
            self.tag(mark, *found.groups()[:3])
            return found.end()
        if found:
            return len(text)   # cut off within a start tag
        if self.CharacterDataHandler:
            self.notes.add("what looks like a tag and is none was kept as text")
            self.CharacterDataHandler("<")
        return mark + 1

    def next(self, ending: str, start: int) -> int:
        """Where `ending` comes next, or -1: each part of the text is searched once, as `start` only grows."""
        known = self.endings.get(ending, 0)
        if 0 <= known < start:
            known = self.endings[ending] = self.text.find(ending, start)
        return known

    def section(self, start: int) -> int:
        """Hand over a CDATA section; one that does not end before the next begins ends with its element."""
        text, end = self.text, self.next("]]>", start)
        after = text.find("<![CDATA[", start, end if end >= 0 else len(text))
        if (end < 0 or after >= 0) and self.open:
            names = "|".join(re.escape(key) for key, *_ in self.open[-5:])
            close = re.compile(rf"</(?:{names})\s*>", re.I).search(text, start, after if after >= 0 else len(text))
            if close:
                self.notes.add("CDATA sections that do not end were closed")
                self.raw(text[start:close.start()])
                return close.start()
        self.raw(text[start:end] if end >= 0 else text[start:])
        return end + 3 if end >= 0 else len(text)

    def refuse_entities(self, mark: int) -> None:
        found = _ENTITY.match(self.text, mark)
        if found and (found[1] or unescape(found[3] or found[4] or "") != html5.get(found[2] + ";")):
            raise MalformedFeed(OWN_ENTITIES)

    def characters(self, text: str) -> None:
        if self.CharacterDataHandler:
            if "&" in text:
                text = self.unescape(text[:8 * TEXT])
            self.CharacterDataHandler(text)
        elif not self.begun and text.strip(" \t\r\n]>"):
            self.notes.add("what precedes the XML was left out")

    def raw(self, text: str) -> None:
        if self.CharacterDataHandler and text:
            self.CharacterDataHandler(text)

    def unescape(self, text: str) -> str:
        """`text` with references replaced. Only those that end in ";" are: "?a=1&copy=2" has none."""
        ampersands = text.count("&")
        text, references = _REFERENCE.subn(self.character, text)
        if references < ampersands:
            self.notes.add("ampersands that begin nothing were kept")
        return text

    def character(self, found: re.Match) -> str:
        decimal, hexadecimal, name = found.groups()
        if name:
            if name not in _XML_NAMES:
                self.notes.add("entities that are not declared were read as HTML's")
            return html5.get(name + ";", found[0])
        digits = decimal or hexadecimal
        code = int(digits, 10 if decimal else 16) if len(digits) <= 8 else 0
        if 128 <= code < 160:
            return from_c1(code)
        if code in (9, 10, 13) or 32 <= code < 0xd800 or 0xe000 <= code < 0xfffe or 0x10000 <= code < 0x110000:
            return chr(code)
        self.notes.add("references to characters that do not exist were replaced")
        return "\ufffd"
