"""From the bytes of a document to its text, and from XML to the calls of a collector.

What expat accepts takes the straight path: no copy, no look at the characters. What it refuses goes to feed_repair,
once. Declared entities are refused on both paths, except those that mean what HTML means by them; nothing external is
ever read. How large a document may be is for whoever fetches it to decide.

Codecs are believed in this order: byte order mark, XML declaration, HTTP charset, UTF-8, windows-1252; and UTF-8
before a claim of Latin-1, since Latin text is hardly ever valid UTF-8 by accident.
"""
from __future__ import annotations

import codecs
import re
from typing import Callable

from penny.wire.feed import HTML_PAGE, JUNK, MalformedFeed, Notes

# Codecs that Python counts as text and that no publisher uses, yet an attacker might: UTF-7 smuggles markup past
# filters, Punycode takes quadratic time, the escapes are Python's own.
REFUSED_CODECS = {"utf-7", "punycode", "idna", "unicode-escape", "unicode_escape", "raw-unicode-escape",
                  "raw_unicode_escape", "undefined", "unicode-internal", "unicode_internal"}

# Decoding ------------------------------------------------------------------------------------------------------

LETTERS = "penny.letters"   # what errors are met with where most of a text is UTF-8
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_UNMARKED = ((b"\0\0\0<", "utf-32-be"), (b"<\0\0\0", "utf-32-le"), (b"\0<", "utf-16-be"), (b"<\0", "utf-16-le"),
             (b"\0{", "utf-16-be"), (b"{\0", "utf-16-le"))
_DECLARED = re.compile(rb"""^[^>]{0,40}?<\?xml[^>]{1,100}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._:-]{1,40})""", re.I)
_EBCDIC = b"\x4c\x6f\xa7\x94"   # "<?xm" in every EBCDIC code page


def text_codec(name: str) -> str:
    """Python's name of the codec that a publisher calls `name`, or "" if it has none that may be used."""
    try:
        codec = codecs.lookup(name).name
        b"x".decode(codec, "replace")   # bz2 and its like are codecs too, but not from bytes to text
    except (LookupError, ValueError, UnicodeError):
        return ""
    if codec in REFUSED_CODECS:
        return ""
    # As browsers do: who declares Latin-1 or ASCII and sends 0x93 means a quotation mark.
    return "cp1252" if codec in ("iso8859-1", "ascii") else codec


def find_codec(data: bytes, content_type: str = "") -> str:
    """The codec that the document claims, or "" for none: byte order mark, XML declaration, HTTP charset."""
    for mark, codec in _MARKS + _UNMARKED:
        if data.startswith(mark):
            return codec
    head = data[:200]
    if head.startswith(_EBCDIC):
        head = head.decode("cp037").encode("ascii", "replace")
    declared = _DECLARED.search(head)
    codec = text_codec(declared[1].decode("ascii")) if declared else ""
    # A declaration that can be read byte by byte does not stand in UTF-16, whatever it says.
    if not codec or codec.startswith(("utf-16", "utf-32")):
        charset = _CHARSET.search(content_type)
        codec = text_codec(charset[1]) if charset else ""
    return "" if codec.startswith(("utf-16", "utf-32")) else codec


def decode(data: bytes, content_type: str, notes: Notes) -> str:
    """The document's text; whatever no codec can read is replaced, with a note."""
    claimed = find_codec(data, content_type)
    # Latin text is hardly ever valid UTF-8 by accident, while UTF-8 is often declared to be Latin-1.
    latin = claimed in ("", "utf-8", "cp1252")
    for codec in ("utf-8-sig",) if latin else (claimed, "utf-8-sig"):
        try:
            return data.decode(codec)
        except ValueError:
            continue
    if not latin:
        notes.add(f"bytes that are not {claimed} were replaced")
        return data.decode(claimed, "replace")
    text = data.decode("utf-8-sig", "replace")
    if len(text) - len(text.encode("ascii", "ignore")) > 2 * text.count("\ufffd"):   # more letters than faults
        notes.add("bytes that are not UTF-8 were replaced")
        return data.decode("utf-8-sig", LETTERS)
    if claimed != "cp1252":
        notes.add("the document was read as windows-1252, since it is not UTF-8")
    return data.decode("cp1252", "replace")


def _mended(error: UnicodeError) -> tuple[str, int]:
    """What is no UTF-8 amid it: a single byte is a letter that was pasted from windows-1252, several are one of UTF-8 that
    was cut in two. Returns what is meant and where to go on, as codecs.register_error wants it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    fault = error.object[error.start:error.end]
    return fault.decode("cp1252", "replace") if len(fault) == 1 else "\ufffd", error.end


codecs.register_error(LETTERS, _mended)


# Reading XML safely --------------------------------------------------------------------------------------------

# Expat hands over "namespace, separator, name", and refuses a namespace that holds the separator: a character that
# cannot stand in XML is never part of one.
SEPARATOR = "\x1f"
OWN_ENTITIES = "the document declares entities of its own, which are not expanded"
_START = re.compile(rb"<(?:\?xml|!--|!DOCTYPE(?!\s+html)|(?:[\w.-]{1,40}:)?(?:rss|rdf|feed|opml|channel|entry)\b)",
                    re.I)
_HTML_PAGE = re.compile(rb"[\s\xef\xbb\xbf]*(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_C1 = re.compile(rb"\xc2([\x80-\x9f])")
_C1_REFERENCE = re.compile(rb"&#(?:(1[2-5][0-9])|[xX]0{0,4}([89][0-9a-fA-F]));")
RARE = 10_000    # marks that are looked at one by one
# A lead byte that was taken for windows-1252 and encoded again, before a continuation byte that was.
_ENCODED_TWICE = re.compile(rb"\xc3[\x82-\xb4](?:\xc2[\x80-\xbf]|[\xc5\xc6\xcb\xe2])")


class WrongRoot(MalformedFeed):
    """The document is XML of another kind; what it says may still lie within it."""


def read_xml(data: bytes, content_type: str, collector: Callable, notes: Notes):
    """The collector that has seen all of `data`.

    `collector(parser, notes)` makes one and sets the handlers, by expat's names; it raises WrongRoot if the root is
    none of its ROOTS, and is told in `encoded_twice` whether some of the text may have been. Raises MalformedFeed,
    naming the line, when nothing can be read, and whenever the document declares entities of its own.
    """
    from xml.parsers.expat import ExpatError   # not loaded on a box that reads JSON only
    codec = find_codec(data, content_type)
    straight = data if codec in ("", "utf-8") else decode(data, content_type, notes).encode("utf-8", "replace")
    straight = _from_the_start(straight, notes)
    try:
        return _run_expat(straight, collector, notes)
    except (ExpatError, WrongRoot) as error:
        refusal = _refusal(data, straight, error)
    from penny.wire import feed_repair
    notes.clear()
    text = feed_repair.cleaned(decode(data, content_type, notes), notes)
    repaired, repairs = text.encode(), tuple(notes)
    if repaired != straight:   # where characters were all that was wrong, expat reads it three times as fast
        try:
            return _run_expat(_from_the_start(repaired, notes), collector, notes)
        except (ExpatError, WrongRoot):
            notes[:] = repairs
    reader = feed_repair.read(text, collector, notes)
    if reader is None:
        raise refusal
    return reader


def _from_the_start(data: bytes, notes: Notes) -> bytes:
    """The document without the white space, or the warnings of some script, that precede it."""
    data = data.lstrip(b"\xef\xbb\xbf\0 \t\r\n")
    if data.startswith(b"<?xml"):
        return data
    start = _START.search(data, 0, JUNK)
    if start is None or not start.start():
        return data
    notes.add("what precedes the XML was left out")
    return data[start.start():]


def _without_c1(data: bytes, references: bool) -> bytes:
    """UTF-8 in which the C1 control characters are what windows-1252 has in their places, which is what is meant."""
    if _holds(data, _C1, b"\xc2"):
        data = _C1.sub(lambda found: from_c1(found[1][0]).encode(), data)
    if references:
        data = _C1_REFERENCE.sub(lambda found: from_c1(int(found[1] or found[2], 10 if found[1] else 16)).encode(), data)
    return data


def _holds(data: bytes, pattern: re.Pattern, mark: bytes, place_of_mark: int = 0) -> bool:
    """Whether `pattern` is found in `data`. Each match has the byte `mark` at its `place_of_mark`: looking for that is
    ten times faster, as long as it is rare."""
    place = data.find(mark, place_of_mark)
    for _ in range(RARE):
        if place < 0:
            return False
        if pattern.match(data, place - place_of_mark):
            return True
        place = data.find(mark, place + 1)
    return pattern.search(data, max(place - place_of_mark, 0)) is not None


def from_c1(code: int) -> str:
    """What is meant by a C1 control character: the one that windows-1252 has there, where it has one."""
    return (bytes((code,)).decode("cp1252", "ignore") or chr(code)) if 128 <= code < 160 else chr(code)


def _run_expat(data: bytes, collector: Callable, notes: Notes):
    from xml.parsers import expat
    parser = expat.ParserCreate("utf-8", SEPARATOR)
    parser.buffer_text = True
    parser.buffer_size = 1 << 16
    parser.specified_attributes = True   # a DTD's default attributes would multiply
    parser.EntityDeclHandler = _refuse_entity
    reader = collector(parser, notes)
    references = _holds(data, _C1_REFERENCE, b"#", 1)
    if references or not data.isascii():
        data = _without_c1(data, references)
    reader.encoded_twice = references or _holds(data, _ENCODED_TWICE, b"\xc3")
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        # Counters and scripts that a server appends after the last tag take nothing away from the feed.
        if error.code != expat.errors.codes[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]:
            raise
        notes.add("what follows the end of the document was left out")
    finally:
        # Parser and collector hold each other; a small box should not wait for the garbage collector.
        for name in ("StartNamespaceDeclHandler", "StartElementHandler", "EndElementHandler", "CharacterDataHandler",
                     "SkippedEntityHandler"):
            setattr(parser, name, None)
    return reader


def _refuse_entity(name, is_parameter, value, base, system, public, notation) -> None:
    """Old feeds declare HTML's own names with HTML's own meaning; another internal entity is an attack or a riddle."""
    if value is not None:
        from html.entities import html5
        if is_parameter or html5.get(name + ";") != value:
            raise MalformedFeed(OWN_ENTITIES)


def _refusal(data: bytes, read: bytes, error: Exception) -> MalformedFeed:
    if isinstance(error, MalformedFeed):
        return error
    if _HTML_PAGE.match(data):
        return MalformedFeed(HTML_PAGE)
    before = data.count(b"\n") - read.count(b"\n")   # lines that expat never saw
    return MalformedFeed(f"line {error.lineno + before}: {str(error).partition(':')[0]}")
