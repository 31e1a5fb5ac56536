"""What a feed is, whatever its format: the records, the bounds, and the text functions that its parsers share.

The records are named after JSON Feed 1.1 (https://www.jsonfeed.org/version/1.1/): every parser maps its format to
them. Titles, names, tags and summaries are plain text without control characters; `content_html` is kept as
published, so whoever shows it must sanitise it first. URLs carry no scheme but http, https and mailto.

Every bound below leaves a sentence in `Feed.notes` when it cuts something, so a reader can tell a short feed from
a shortened one. How large a document may be is for whoever fetches it to decide.
"""
from __future__ import annotations

import binascii
import codecs
import html
import re
from html.entities import html5
from typing import Callable, NamedTuple

ITEMS = 5_000            # items in one feed; those after them are left out
DEPTH = 256              # elements inside one another within content; deeper ones keep their text only
ATTRIBUTES = 64          # attributes of one element within content
TEXT = 1_000_000         # characters in one field
TITLE = 1_000            # characters in a title or a name
URL = 4_096              # characters in a URL; a longer one is left out, since half a URL leads elsewhere
DATE = 64                # characters in a date
LIST = 200               # authors, tags or attachments of one item
JUNK = 64 << 10          # bytes before a document among which its start is looked for
NOTES = 20               # sentences about one feed

SCHEMES = ("http", "https", "mailto")
# Codecs that Python counts as text and that no publisher uses, yet an attacker might: UTF-7 smuggles markup past
# filters, Punycode takes quadratic time, the escapes are Python's own.
REFUSED_CODECS = {"utf-7", "punycode", "idna", "unicode-escape", "unicode_escape", "raw-unicode-escape",
                  "raw_unicode_escape", "undefined", "unicode-internal", "unicode_internal"}


class MalformedFeed(ValueError):
    """The document cannot be read as a feed; the message is one line that says why."""


class Author(NamedTuple):
    name: str = ""
    url: str = ""
    avatar: str = ""


class Attachment(NamedTuple):
    url: str
    mime_type: str = ""
    title: str = ""
    size_in_bytes: int | None = None
    duration_in_seconds: float | None = None


class Item(NamedTuple):
    """One entry. `id` is the publisher's, else the url, else the title. Dates are Unix seconds.

    `external_url` is the page behind the link: a proxy's original link, or the page that a link blog writes about.
    """

    id: str = ""
    url: str = ""
    external_url: str = ""
    title: str = ""
    content_html: str = ""
    content_text: str = ""
    summary: str = ""
    date_published: float | None = None
    date_modified: float | None = None
    authors: tuple[Author, ...] = ()
    tags: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    image: str = ""
    language: str = ""


class Feed(NamedTuple):
    """A whole feed. `ttl` is how many seconds the publisher asks to be left alone; `notes` says what was changed."""

    title: str = ""
    home_page_url: str = ""
    feed_url: str = ""
    description: str = ""
    language: str = ""
    icon: str = ""
    authors: tuple[Author, ...] = ()
    items: tuple[Item, ...] = ()
    ttl: int | None = None
    notes: tuple[str, ...] = ()


class Notes(list):
    """The sentences for `Feed.notes`: each once, and no more than NOTES of them."""

    def add(self, sentence: str) -> None:
        if sentence not in self and len(self) < NOTES:
            self.append(sentence)

    def cut(self, text: str, length: int, what: str) -> str:
        """`text`, or its first `length` characters and a note that names `what` was cut."""
        if len(text) <= length:
            return text
        self.add(f"{what} was cut to {length:,} characters")
        return text[:length]


def parse(data: bytes, content_type: str = "") -> Feed:
    """The feed in a document as fetched; `content_type` is the HTTP header of that name, if there was one.

    Raises MalformedFeed, and nothing else, for whatever cannot be read.
    """
    start = data.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
    if not start:
        raise MalformedFeed("the document is empty")
    # Each parser is imported when it is needed: a box whose feeds are all XML never loads json, and the reverse.
    if start in (b"{", b"["):
        from penny.wire import feed_json
        return feed_json.parse(data, content_type)
    from penny.wire import feed_xml
    return feed_xml.parse(data, content_type)


# Decoding ------------------------------------------------------------------------------------------------------

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_UNMARKED = ((b"\0\0\0<", "utf-32-be"), (b"<\0\0\0", "utf-32-le"), (b"\0<", "utf-16-be"), (b"<\0", "utf-16-le"),
             (b"\0{", "utf-16-be"), (b"{\0", "utf-16-le"))
_DECLARED = re.compile(rb"""^[^>]{0,40}?<\?xml[^>]{1,100}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._:-]{1,40})""", re.I)
_LETTER = re.compile("[\x80-\ufffc\ufffe-\U0010ffff]")   # decoded from more than one byte
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
    if sum(1 for _ in _LETTER.finditer(text)) > text.count("\ufffd"):
        notes.add("bytes that are not UTF-8 were replaced")
        return text
    if claimed != "cp1252":
        notes.add("the document was read as windows-1252, since it is not UTF-8")
    return data.decode("cp1252", "replace")

# Mending -------------------------------------------------------------------------------------------------------

_STRAY = re.compile(r"<!\[CDATA\[.*?\]\]>|&(?:#([0-9]+|[xX][0-9a-fA-F]+);|([A-Za-z][A-Za-z0-9]{0,31});|)",
                    re.S)
_CONTROLS = {code: " " for code in range(32) if code not in (9, 10, 13)}
_CONTROLS.update({code: "\ufffd" for code in (0xfffe, 0xffff)})
_XML_NAMES = ("amp", "lt", "gt", "quot", "apos")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def mend(text: str, notes: Notes) -> str:
    """XML text with what can be put right character by character put right; `notes` hears of what was lost.

    Replaced are control characters, references to characters that XML does not have, HTML's named entities and
    ampersands that begin nothing. Tags are not touched.
    """
    text = encodable(text.strip("\0"))
    if _CONTROL.search(text):
        notes.add("control characters were replaced")
        text = text.translate(_CONTROLS)
    return _STRAY.sub(_reference, text)


def _reference(found: re.Match) -> str:
    """What XML can read in place of a CDATA section (itself), a character reference, an entity or a bare ampersand."""
    number, name = found.groups()
    if name:
        return found[0] if name in _XML_NAMES else html5.get(name + ";", "&amp;" + found[0][1:])
    if not number:
        return found[0] if found[0].startswith("<") else "&amp;"
    if len(number) > 8:
        return "\ufffd"
    code = int(number[1:], 16) if number[0] in "xX" else int(number)
    if 128 <= code < 160:
        return unescape(f"&#{code};")   # C1 controls in Unicode, quotation marks in the heads of those who write them
    legal = code in (9, 10, 13) or 32 <= code < 0xd800 or 0xe000 <= code < 0xfffe or 0x10000 <= code < 0x110000
    return f"&#{code};" if legal else "\ufffd"

# Reading XML safely ----------------------------------------------------------------------------------------------

# Expat hands over "namespace, separator, name", and refuses a namespace that holds the separator: a character that
# cannot stand in XML is never part of one.
SEPARATOR = "\x1f"
_START = re.compile(rb"<(?:\?xml|!--|!DOCTYPE(?!\s+html)|(?:[\w.-]{1,40}:)?(?:rss|rdf|feed|opml|channel|entry)\b)",
                    re.I)
_DECLARATION = re.compile(rb"\A<\?xml\s[^>]*>")
_HTML_PAGE = re.compile(rb"[\s\xef\xbb\xbf]*(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)


def read_xml(data: bytes, content_type: str, collector: Callable, notes: Notes):
    """The collector that has seen all of `data`; `collector(parser, notes)` makes one and sets expat's handlers.

    What expat accepts as it stands takes the straight path, anything else is mended and tried once more. Raises
    MalformedFeed, naming the line, if that does not help, and whenever the document declares entities of its own.
    """
    from xml.parsers.expat import ExpatError   # not loaded on a box that reads JSON only
    codec = find_codec(data, content_type)
    straight = data if codec in ("", "utf-8") else decode(data, content_type, notes).encode("utf-8", "replace")
    straight = _from_the_start(straight, notes)
    try:
        return _run_expat(straight, collector, notes)
    except ExpatError:
        notes.clear()
    mended = _from_the_start(mend(decode(data, content_type, notes), notes).encode(), notes)
    mended = _DECLARATION.sub(b"", mended, 1)   # it may be what is wrong, and has served its purpose
    try:
        return _run_expat(mended, collector, notes)
    except ExpatError as error:
        raise _refusal(data, mended, error) from None


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


def _run_expat(data: bytes, collector: Callable, notes: Notes):
    from xml.parsers import expat
    parser = expat.ParserCreate("utf-8", SEPARATOR)
    parser.buffer_text = True
    parser.buffer_size = 1 << 16
    parser.specified_attributes = True   # a DTD's default attributes would multiply
    parser.EntityDeclHandler = _refuse_entity
    reader = collector(parser, notes)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        # Counters and scripts that a server appends after the last tag take nothing away from the feed.
        if error.code != expat.errors.codes[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]:
            raise
        notes.add("what follows the end of the document was left out")
    finally:
        # Parser and collector hold each other; a small box should not wait for the garbage collector.
        for name in ("StartElementHandler", "EndElementHandler", "CharacterDataHandler", "SkippedEntityHandler"):
            setattr(parser, name, None)
    return reader


def _refuse_entity(name, is_parameter, value, base, system, public, notation) -> None:
    """Old feeds declare HTML's own names with HTML's own meaning; another internal entity is an attack or a riddle."""
    if value is not None and (is_parameter or html5.get(name + ";") != value):
        raise MalformedFeed("the document declares entities of its own, which are not expanded")


def _refusal(data: bytes, read: bytes, error: Exception) -> MalformedFeed:
    if _HTML_PAGE.match(data):
        return MalformedFeed("this is an HTML page, not a feed")
    before = data.count(b"\n") - read.count(b"\n")   # lines that expat never saw
    return MalformedFeed(f"line {error.lineno + before}: {str(error).partition(':')[0]}")


# Text ----------------------------------------------------------------------------------------------------------

# Invisible: C0 and C1, zero-width space and joiner-less marks, the controls that turn the direction of writing. The
# zero-width joiner and non-joiner stay: Persian and family emoji are spelt with them.
_INVISIBLE = ("\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069"
              "\ufeff\ufffe\uffff")
_INVISIBLES = re.compile(f"[{_INVISIBLE}]")
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")
BREAK = re.compile(r"<(?:/?(?:p|div|br|li|h[1-6]|t[rdh]|[uod]l|dt|dd|blockquote|pre|hr)\b)[^<>]*>", re.I)
_HIDDEN = re.compile(r"<(!--|script\b|style\b)", re.I)
_HIDDEN_END = {"!--": re.compile("-->"), "script": re.compile(r"</script\b[^<>]*>", re.I),
               "style": re.compile(r"</style\b[^<>]*>", re.I)}
_LONG_REFERENCE = re.compile(r"&#[0-9]{8,};?")
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)\s*:")
_DIV = re.compile(r"<div\b[^<>]*>(.*)</div>$", re.S)
_ORDINARY_URL = re.compile(r"https?://[!-~]*\Z")
_IN_URL = re.compile(f"[\\t-\\r\x85\u2028\u2029{_INVISIBLE}]")


def unescape(text: str) -> str:
    """`text` with its character references and HTML's named entities replaced."""
    # html.unescape hands any number of digits to int(), which refuses more than 4,300 of them.
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text))


def without_hidden(text: str) -> str:
    """`text` without comments, scripts and style sheets; linear, since each kind fails to end at most once."""
    kept, position, open_kinds = [], 0, set()
    for start in _HIDDEN.finditer(text):
        kind = start[1].lower()
        if start.start() < position or kind in open_kinds:
            continue
        end = _HIDDEN_END[kind].search(text, start.end())
        if end is None:
            open_kinds.add(kind)
            continue
        kept.append(text[position:start.start()])
        position = end.end()
    return "".join(kept) + text[position:]


def plain(text: str, markup: bool = True) -> str:
    """`text` on one line, without control characters and, if it may hold `markup`, without tags and references."""
    if markup:
        if "<" in text:
            text = _TAG.sub("", BREAK.sub(" ", without_hidden(text)))
        if "&" in text:
            text = unescape(text)
    if text.isprintable() and "  " not in text:   # many times faster than looking for what is invisible
        return text.strip()
    return " ".join(_INVISIBLES.sub("", encodable(text)).split())


def encodable(text: str) -> str:
    """`text` with lone surrogates replaced, so that it can be written as UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def safe_url(url: str) -> str:
    """`url` without control characters, if it is relative or its scheme is http, https or mailto; else ""."""
    url = url.strip()
    if _ORDINARY_URL.match(url):
        return url
    url = _IN_URL.sub("", url).strip()
    scheme = _SCHEME.match(url)
    if scheme is None and "&" in url[:URL]:
        scheme = _SCHEME.match(_IN_URL.sub("", unescape(url[:URL])))
    return "" if scheme is not None and scheme[1].lower() not in SCHEMES else url


def join_url(base: str, url: str) -> str:
    """`url` resolved against `base`, or as it is if either is beyond resolving."""
    from urllib.parse import urljoin   # few feeds have relative links
    try:
        return urljoin(base, url.strip())
    except ValueError:
        return url


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def from_base64(text: str) -> str:
    try:
        return decode(binascii.a2b_base64(text), "", Notes())
    except ValueError:
        return text


def without_div(text: str) -> str:
    """XHTML without the one <div> that Atom wants around it (RFC 4287 3.1.1.3)."""
    found = _DIV.match(text)
    return found[1].strip() if found and "</div>" not in found[1] else text


_MAIL = r"[^\s()<>,;:@]+@[^\s()<>,;:@]+"
_DURATION = re.compile(r"\s*\d{1,9}(:\d{1,2}){0,2}(\.\d{1,9})?\s*$", re.A)
_ONLY_MAIL = re.compile(_MAIL + "$")
_NAME_AND_MAIL = re.compile(rf"(?:mailto:)?({_MAIL})\s*\(([^()]+)\)$|([^<>()]+?)\s*[<(]({_MAIL})[>)]$")


def person(text: str, notes: Notes, url: str = "") -> Author | None:
    """The author in "mail (name)", "name <mail>", "name" or "mail"; None if there is none."""
    if "@" not in text:
        name = notes.cut(plain(text), TITLE, "a name")
        return Author(name, url) if name or url else None
    text = notes.cut(plain(text, markup=False), TITLE, "a name")
    found = _NAME_AND_MAIL.match(text)
    if found:
        return Author((found[2] or found[3]).strip(), url or mailto(found[1] or found[4]))
    return Author(plain(text), url or mailto(text))


def mailto(mail: str) -> str:
    return "mailto:" + mail if _ONLY_MAIL.match(mail) else ""


def whole_number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdigit() and text.isascii() and len(text) < 16 else None


def duration(text: str | None) -> float | None:
    """Seconds from "3723", "62:03" or "1:02:03"; None from anything else."""
    if not text or not _DURATION.match(text):
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
