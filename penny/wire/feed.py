"""What a feed is, whatever its format: the records, the bounds, and the text functions that its parsers share.

The records are named after JSON Feed 1.1 (https://www.jsonfeed.org/version/1.1/): every parser maps its format to
them. Titles, names, tags and summaries are plain text without control characters; `content_html` is kept as
published, so whoever shows it must sanitise it first. URLs carry no scheme but http, https and mailto.

Every bound below leaves a sentence in `Feed.notes` when it cuts something, so a reader can tell a short feed from
a shortened one. How large a document may be is for whoever fetches it to decide.
"""
from __future__ import annotations

import re
from typing import NamedTuple

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

HTML_PAGE = "this is an HTML page, not a feed"   # what MalformedFeed says of one: it may name its feed
SCHEMES = ("http", "https", "mailto")


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
    `comments_url` is where it is discussed, `comments` how many have said something there.
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
    comments_url: str = ""
    comments: int | None = None


class Feed(NamedTuple):
    """A whole feed.

    `ttl` is how many seconds the publisher asks to be left alone; at `skip_hours` (UTC) and on `skip_days` (Monday
    is 0) it need not be asked for. `notes` says what was repaired or left out.
    """

    title: str = ""
    home_page_url: str = ""
    feed_url: str = ""
    description: str = ""
    language: str = ""
    icon: str = ""
    authors: tuple[Author, ...] = ()
    items: tuple[Item, ...] = ()
    ttl: int | None = None
    skip_hours: tuple[int, ...] = ()
    skip_days: tuple[int, ...] = ()
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
_IN_URL = re.compile(f"[\\t-\\r\x85\u2028\u2029{_INVISIBLE}]")


def unescape(text: str) -> str:
    """`text` with its character references and HTML's named entities replaced."""
    import html   # HTML's 2,231 names take 0.4 MB
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


def encoded_once(text: str) -> str:
    """`text` without the damage of UTF-8 that was taken for windows-1252 and encoded again: "\u00c3\u00a9" is "\u00e9".

    What was not damaged so is hardly ever valid UTF-8 once its characters are taken for bytes.
    """
    try:
        return text.encode("cp1252").decode()
    except ValueError:
        return text


def safe_url(url: str) -> str:
    """`url` without control characters, if it is relative or its scheme is http, https or mailto; else ""."""
    url = url.strip()
    if url.startswith(("https://", "http://")) and url.isascii() and url.isprintable():
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
