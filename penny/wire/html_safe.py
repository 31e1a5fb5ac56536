"""From HTML that a stranger wrote to HTML that may be shown inside a page of ours.

The rule: nothing of the input's markup is copied. The input is read as a browser reads it (WHATWG HTML, 13.2.5), and
what is on the lists below is written anew: text escaped, attributes quoted, elements closed in order. The lists say
what may pass; nothing lists what may not. What is written is also what a browser makes of it again (13.2.6): no
element stands where its parser would move it, close it or read its content in another way. So what was checked is
what is shown, however often the page is parsed, written out and parsed once more.

A tag that is on no list is left out and what it holds is kept; script, style, iframe, svg, math and the like are left
out with what they hold, comments too, and what is unfinished at the end, all of it up to the character at which a
browser would go on. There is no style, class, id or name, so nothing reaches our own styles, scripts and links. There
are no embedded players, no MathML and no pictures from data: URLs. Whoever shows the result should send a
Content-Security-Policy nevertheless. Any input takes time in proportion to its length.
"""
from __future__ import annotations

import re
from itertools import islice
from typing import Callable, Dict, NamedTuple

from penny.wire import feed as shape

LENGTH = 8_000_000       # characters that are read; after as many written, no further element is begun
MARKUP = 200_000         # tags and comments; what follows them is left out
DEPTH = shape.DEPTH      # elements inside one another; deeper ones keep their text only
ATTRIBUTES = shape.ATTRIBUTES   # attributes of one element that are looked at
TAG = 65_536             # characters of one tag; a longer one has no attributes
VALUE = 2_000            # characters of a title or an alternative text
URL = shape.URL          # characters of a URL; a longer one is left out, since half a URL leads elsewhere
CANDIDATES = 32          # images in one srcset

# What may pass ---------------------------------------------------------------------------------------------------

_INLINE = set("""a abbr b bdi bdo br cite code del dfn em i img ins kbd mark picture q ruby rp rt s samp small source span
strong sub sup time u var wbr audio video""".split())
# A browser closes an open paragraph before each of these.
_BLOCK = set("""address article aside blockquote dd details div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 header hr
li main nav ol p pre section summary table ul""".split())
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_VOID = {"br", "col", "hr", "img", "source", "wbr"}
# A part of a table, and the elements that it may be a child of. A browser moves anything else out of the table.
_PARENTS = {"caption": ("table",), "colgroup": ("table",), "thead": ("table",), "tbody": ("table",),
            "tfoot": ("table",), "tr": ("thead", "tbody", "tfoot", "table"), "col": ("colgroup", "table"),
            "td": ("tr", "thead", "tbody", "tfoot", "table"), "th": ("tr", "thead", "tbody", "tfoot", "table")}
_CELLS = {"td", "th", "caption"}
_GRID = {"table", "colgroup", "thead", "tbody", "tfoot", "tr"}   # they hold parts of tables, and no text
_RENAMED = {"acronym": "abbr", "center": "div", "dir": "ul", "fieldset": "div", "image": "img",
            "listing": "pre", "menu": "ul", "strike": "s", "tt": "code"}

# What is left out with its content. Their content is characters to a browser, up to the end tag of that name.
_RAW = {"script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"}
_HIDDEN = {"svg", "math", "template"}
# These end svg and math wherever they stand.
_BREAKOUT = _BLOCK - {"article", "aside", "details", "figcaption", "figure", "footer", "header", "main", "nav", "section",
                      "summary", "address"} | set("""b big body br center code em embed font form head i img listing menu meta
nobr ruby s small span strong strike sub sup tt u var""".split())

# Characters ------------------------------------------------------------------------------------------------------

# Never written: controls, those that turn the direction of writing (they would reach beyond the content), noncharacters.
_UNSEEN = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufeff\ufffe\uffff"
_CONTROL = re.compile(f"[{_UNSEEN}]")
_URL_CONTROL = re.compile(f"[\t\n\r\u200b\u200e\u200f\u2028\u2029\u2060{_UNSEEN}]")
_SPECIAL = re.compile("""[&<>"`]""")
# The references that HTML knows without a semicolon.
_OLD_NAMES = ("amp|AMP|lt|LT|gt|GT|quot|QUOT|nbsp|iexcl|cent|pound|curren|yen|brvbar|sect|uml|copy|COPY|ordf|laquo|not|shy"
              "|reg|REG|macr|deg|plusmn|sup[123]|acute|micro|para|middot|cedil|ordm|raquo|frac(?:12|14|34)|iquest|AElig"
              "|aelig|[Cc]cedil|ETH|eth|[ANOano]tilde|[AEIOUYaeiouy]acute|[AEIOUaeiou](?:grave|circ|uml)|yuml|[Aa]ring"
              "|[Oo]slash|THORN|thorn|szlig|times|divide")
# After escaping: each & is &amp; by then, so that a million bare ones cost nothing here.
_REFERENCE = re.compile(f"&amp;(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[a-zA-Z][a-zA-Z0-9]{{1,31}};|{_OLD_NAMES})")
# In an attribute, "?a=1&copy=2" is two parameters and no sign.
_VALUE_REFERENCE = re.compile(f"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[a-zA-Z][a-zA-Z0-9]{{1,31}};"
                              f"|(?:{_OLD_NAMES})(?![=a-zA-Z0-9]))")
_OLD_NAME = re.compile(_OLD_NAMES)

# Tags ------------------------------------------------------------------------------------------------------------

# HTML's space is these five characters, and not \s.
_SPACE = r"\t\n\x0c\r "
# A sound tag at once, or else only the place where one begins. The attributes are a part of what HTML allows, in which
# each character can be read in one way only: what is scanned in vain is scanned once more by _ATTRIBUTES, never thrice.
_MARKUP = re.compile(
    rf"""<(?:(/?)([a-zA-Z][a-zA-Z0-9]*)"""
    rf"""((?:[{_SPACE}]+[a-zA-Z_:@][^{_SPACE}/>=<"']*(?:=(?:"[^"]*"|'[^']*'|[^{_SPACE}"'<>][^{_SPACE}<>]*))?){{0,64}})"""
    rf"""[{_SPACE}]*(/?)>|[a-zA-Z/!?])""")
_NAME = re.compile(rf"<(/?)([a-zA-Z][^{_SPACE}/>]*)")
# One attribute as a browser reads it. It never fails halfway, hence no backtracking: an open quote ends with the text.
_ONE = (rf"""[{_SPACE}/]*([^{_SPACE}/>][^{_SPACE}/>=]*)"""
        rf"""(?:[{_SPACE}]*=[{_SPACE}]*(?:"([^"]*)(?:"|\Z)|'([^']*)(?:'|\Z)|([^{_SPACE}"'>][^{_SPACE}>]*))?)?""")
_ATTRIBUTE = re.compile(_ONE)
_ATTRIBUTES = re.compile("(?:%s){0,64}" % re.sub(r"\((?!\?)", "(?:", _ONE))   # in pieces: the engine keeps a note of each
_SPACES = re.compile(f"[{_SPACE}/]*")
_RAW_END = re.compile(rf"</({'|'.join(sorted(_RAW))})(?=[{_SPACE}/>])", re.I | re.A)
_COMMENT_END = re.compile("--!?>")

# URLs ------------------------------------------------------------------------------------------------------------

_ORDINARY_URL = re.compile(r"https?://[A-Za-z0-9][!-\[\]-~]*\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BEFORE_QUERY = re.compile(r"[^?#]*")
_ABSOLUTE = re.compile(r"(https?:)(//[^/?#]+)([^?#]*)(\?[^#]*)?")
# What a relative URL is put after, by its first character ("" if it is empty); "." is for all others, "//" the scheme.
Base = Dict[str, str]


def _read_base(url: str) -> Base:
    parts = _ABSOLUTE.match(_full_url(url, {"//": "https:"}))
    if parts is None:
        return {"//": "https:"}
    site = parts[1] + parts[2]
    folder, page = site + parts[3].rpartition("/")[0] + "/", site + parts[3]
    query = page + (parts[4] or "")
    return {"//": parts[1], "/": site, "?": page, "#": query, "": query, ".": folder}


def _full_url(url: str, base: Base) -> str:
    """`url` as a browser understands it, absolute and without spaces; "" if it may not be kept.

    What is checked here has been decoded, and is escaped when it is written: the browser sees the very same characters.
    """
    if len(url) > URL:
        return ""
    if _ORDINARY_URL.match(url):
        return url
    url = _URL_CONTROL.sub("", url).strip(" ").replace(" ", "%20")
    found = _SCHEME.match(url)
    scheme = found[0].lower() if found else ""
    if scheme == "mailto:":
        url = scheme + url[len(scheme):]
    elif scheme in ("http:", "https:", ""):
        path = url[len(scheme):_BEFORE_QUERY.match(url).end()]   # type: ignore[union-attr]  # it matches nothing, too
        url = path.replace("\\", "/") + url[len(scheme) + len(path):]
        if scheme or url.startswith("//"):
            # Without both slashes a browser takes it for a path on the site that it stands on: ours.
            host = url.lstrip("/")
            url = f"{scheme or base['//']}//{host}" if host[:1] not in ("", "?", "#") else ""
        elif "." in base:   # dot segments are left for the browser: to take them out costs the length of the base
            url = base.get(url[:1], base["."]) + url
        else:
            return ""   # it would lead to a page of ours
    else:
        return ""
    return url if len(url) <= URL else ""


# Attributes: each check is given the value, decoded, and the base; None leaves the attribute out ------------------

Check = Callable[[str, Base], "str | None"]
_WORD = re.compile(f"[^{_SPACE}]+")
_SIZE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?[wx]\Z", re.A)


def _url(value: str, base: Base) -> str | None:
    return _full_url(value, base) or None


def _srcset(value: str, base: Base) -> str | None:
    """Those images whose URL may be kept, each with its width or density."""
    kept: list[str] = []
    words = _WORD.findall(value)[::-1]
    while words and len(kept) < CANDIDATES:
        word = words.pop()
        url, size = word.strip(","), ""
        while not word.endswith(",") and words:   # what describes the image, up to a comma
            size, word, rest = words.pop().partition(",")
            if word and rest:
                words.append(rest)
        full = _full_url(url, base).strip(",") if url else ""
        if full:
            kept.append(f"{full} {size}" if _SIZE.match(size) else full)
    return ", ".join(kept) or None


def _text(value: str, base: Base) -> str | None:
    return value[:VALUE]


def _like(pattern: str, unit: str = "") -> Check:
    matches = re.compile(rf"({pattern})(?:{unit})?\Z", re.I | re.A).match

    def check(value: str, base: Base) -> str | None:
        found = matches(value.strip())
        return found[1] if found else None
    return check


_DATE = _like("[0-9a-z:.+ -]{1,40}")
_FLAG = _like("", ".*")
_INTEGER = _like("-?[0-9]{1,9}")
_ALIGN = _like("left|right|center|justify")
_SPAN = _like("[1-9][0-9]{0,2}|1000")
_EXTENT = _like("[0-9]{1,4}", "px")
_SIZES = _like("[a-z0-9(), .:%<>=+*/-]{1,500}")
_TYPE = _like(r"[a-z0-9]+/[a-z0-9.+-]{1,60}")
_GLOBAL: dict[str, Check] = {"title": _text, "lang": _like("[a-z0-9-]{1,35}"), "dir": _like("ltr|rtl|auto")}
_ATTRIBUTES_OF: dict[str, dict[str, Check]] = {
    "a": {"href": _url},
    "img": {"src": _url, "srcset": _srcset, "sizes": _SIZES, "alt": _text, "width": _EXTENT, "height": _EXTENT},
    "source": {"src": _url, "srcset": _srcset, "sizes": _SIZES, "type": _TYPE},
    "audio": {"src": _url}, "video": {"src": _url, "poster": _url, "width": _EXTENT, "height": _EXTENT},
    "blockquote": {"cite": _url}, "q": {"cite": _url}, "details": {"open": _FLAG}, "time": {"datetime": _DATE},
    "del": {"cite": _url, "datetime": _DATE}, "ins": {"cite": _url, "datetime": _DATE},
    "ol": {"start": _INTEGER, "reversed": _FLAG, "type": _like("[1ai]")}, "li": {"value": _INTEGER},
    "td": {"colspan": _SPAN, "rowspan": _SPAN, "align": _ALIGN},
    "th": {"colspan": _SPAN, "rowspan": _SPAN, "align": _ALIGN, "scope": _like("row|col|rowgroup|colgroup"), "abbr": _text},
    "col": {"span": _SPAN}, "colgroup": {"span": _SPAN},
}
_ALLOWED = {name: {**_GLOBAL, **_ATTRIBUTES_OF.get(name, {})} for name in _INLINE | _BLOCK | set(_PARENTS)}
# Written whatever the publisher asked for. Nothing is fetched before it is looked at, nor plays by itself.
_FIXED = {"a": ' rel="noopener noreferrer nofollow"', "img": ' loading="lazy" referrerpolicy="no-referrer"',
          "audio": ' controls="" preload="none"', "video": ' controls="" preload="none"'}
_NEEDED = {"a": {"href"}, "img": {"src", "srcset"}, "source": {"src", "srcset"}}   # one of them, or it is nothing
_DOT = re.compile(r"\s*[01](?:\.0*)?(?:px)?\s*\Z", re.I | re.A)
_DOT_STYLE = re.compile(r"(?:^|[;\s])(width|height)\s*:\s*[01](?:px)?\s*(?:!|;|\Z)", re.I | re.A)


def _is_dot(given: dict[str, str]) -> bool:
    """Whether an image is 1 x 1 or less."""
    found = {name for name in ("width", "height") if _DOT.match(given.get(name, ""))}
    return len(found.union(map(str.lower, _DOT_STYLE.findall(given.get("style", ""))))) == 2


class _Scope(NamedTuple):
    """What a tag can see around it: a cell hides what is outside the table. Counts, so that no search is in vain."""

    open: dict[str, int]
    grid: dict[str, int] | None = None   # the same for the parts of the innermost table
    item: bool = False       # in an <li> of the innermost list
    term: bool = False       # in a <dt> or <dd> of the innermost <dl>


class _Writer:
    """Writes elements nested in the way in which a browser will read them."""

    def __init__(self, base: str) -> None:
        from html.entities import html5   # HTML's 2,231 names take 0.4 MB
        self.base = _read_base(base)
        self.out: list[str] = []
        self.written = 0
        self.stack = [""]    # names; the first is the page
        self.scopes = [_Scope({})]
        self.too_deep: dict[str, int] = {}   # start tags that were left out, and whose end tags will come
        self.names = html5
        self.known: dict[str, str] = {}      # references met so far, as they are written

    def push(self, name: str, attributes: str = "") -> None:
        self.out.append(f"<{name}{attributes}>")
        if name in _VOID:
            return
        scope = self.scopes[-1]
        scope.open[name] = scope.open.get(name, 0) + 1
        self.stack.append(name)
        if name == "table":
            grid: dict[str, int] = {}
            scope = _Scope(grid, grid)
        elif name in _CELLS:
            scope = _Scope({}, scope.grid)
        elif name in ("li", "ul", "ol"):
            scope = scope._replace(item=name == "li")
        elif name in ("dd", "dt", "dl"):
            scope = scope._replace(term=name != "dl")
        self.scopes.append(scope)

    def pop(self) -> str:
        name = self.stack.pop()
        self.scopes.pop()
        self.scopes[-1].open[name] -= 1
        self.out.append(f"</{name}>")
        if self.too_deep:
            self.too_deep.clear()
        return name

    def pop_to(self, names: tuple[str, ...]) -> None:
        """Closes elements up to and including the innermost of these names, which is known to be there."""
        while self.pop() not in names:
            pass

    def start(self, name: str, given: str) -> None:
        name = _RENAMED.get(name, name)
        if name in _PARENTS:
            self.start_part(name, given)
        if name in _PARENTS or name not in _ALLOWED:
            return
        attributes = self.attributes(name, given) if given or name in _FIXED or name in _NEEDED else ""
        if self.stack[-1] in _GRID:
            if name == "table":
                self.pop_to(("table",))
            elif attributes is not None:
                self.start_part("td")   # a browser would move it to before the table
        scope = self.scopes[-1]
        if name in _BLOCK:
            self.close_before(name, scope)
        elif name == "a" and scope.open.get("a"):
            self.pop_to(("a",))
        while name in ("rt", "rp") and scope.open.get("ruby") and self.stack[-1] != "ruby":
            self.pop()
        if attributes is None or name in ("rt", "rp") and self.stack[-1] != "ruby":
            return
        if len(self.stack) > (DEPTH - 3 if name == "table" else DEPTH):   # within it: tbody, tr, td
            if name not in _VOID:
                self.too_deep[name] = self.too_deep.get(name, 0) + 1
        else:
            self.push(name, attributes)

    def close_before(self, name: str, scope: _Scope) -> None:
        """Closes what a browser closes when a block begins."""
        if scope.open.get("p"):
            self.pop_to(("p",))
        if name == "li" and scope.item:
            self.pop_to(("li",))
        elif (name == "dd" or name == "dt") and scope.term:
            self.pop_to(("dd", "dt"))
        elif name in _HEADINGS and any(map(scope.open.get, _HEADINGS)):
            self.pop_to(_HEADINGS)

    def start_part(self, name: str, given: str = "") -> None:
        """A part of a table: with the parents that it lacks, or not at all if there is no table."""
        if self.scopes[-1].grid is None or self.too_deep.get("table"):
            return
        while self.stack[-1] not in _PARENTS[name]:
            self.pop()
        if name == "col" and self.stack[-1] == "table":
            self.push("colgroup")
        elif name in ("tr", "td", "th"):
            if self.stack[-1] == "table":
                self.push("tbody")
            if name != "tr" and self.stack[-1] != "tr":
                self.push("tr")
        self.push(name, given and self.attributes(name, given) or "")

    def end(self, name: str) -> None:
        name = _RENAMED.get(name, name)
        scope = self.scopes[-1]
        if self.too_deep.get(name):
            self.too_deep[name] -= 1
        elif name == "table" or name in _PARENTS:
            if scope.grid is not None and (name == "table" or scope.grid.get(name)) and not self.too_deep.get("table"):
                self.pop_to((name,))
        elif scope.open.get(name):
            if name == "li" and scope.item or name in ("dd", "dt") and scope.term or name not in ("li", "dd", "dt"):
                self.pop_to((name,))
        elif name in _HEADINGS and any(map(scope.open.get, _HEADINGS)):
            self.pop_to(_HEADINGS)

    def finish(self) -> str:
        while len(self.stack) > 1:
            self.pop()
        return "".join(self.out)

    def text(self, text: str) -> None:
        if "&" in text:
            text = _REFERENCE.sub(self.reference, text.replace("&", "&amp;"))
        if "<" in text or ">" in text:
            text = text.replace("<", "&lt;").replace(">", "&gt;")
        if self.stack[-1] in _GRID and text.strip("\t\n "):
            self.start_part("td")
        self.out.append(text)
        self.written += len(text)

    def reference(self, found: re.Match[str]) -> str:
        """What is written for a reference in text; < and > are escaped later."""
        name = found[1]
        text = self.known.get(name)
        if text is None:
            text = self.meaning(name).replace("&", "&amp;")
            if len(name) < 32 and len(self.known) < 4096:
                self.known[name] = text
        return text

    def value_reference(self, found: re.Match[str]) -> str:
        return self.meaning(found[1]) if found[1][0] == "#" or found[1] in self.names else found[0]

    def meaning(self, name: str) -> str:
        """The characters that a reference, without its &, stands for."""
        if name in self.names:
            return self.names[name]
        if name[0] != "#":
            old = _OLD_NAME.match(name)
            return self.names[old[0]] + name[old.end():] if old else "&" + name
        digits, radix = (name[2:], 16) if name[1] in "xX" else (name[1:], 10)
        digits = digits.rstrip(";").lstrip("0") or "0"
        number = int(digits, radix) if len(digits) < 8 else 0
        if 0x80 <= number < 0xa0:   # as browsers do: windows-1252
            return bytes([number]).decode("cp1252", "ignore")
        if not 0 < number < 0x110000 or 0xd800 <= number < 0xe000:
            return "\ufffd"
        text = chr(number)
        return text if text.isprintable() else _CONTROL.sub("", text).replace("\r", " ")

    def attributes(self, name: str, given: str) -> str | None:
        """The attributes of an element as they are written, or None if it is nothing without those it lacks."""
        allowed, kept, all_given = _ALLOWED[name], {}, {}
        for found in islice(_ATTRIBUTE.finditer(given), ATTRIBUTES) if len(given) <= TAG else ():
            key = found[1].lower()
            if key in allowed or name == "img" and key == "style":
                value = found[2] or found[3] or found[4] or ""
                if "&" in value:
                    value = _VALUE_REFERENCE.sub(self.value_reference, value)
                all_given.setdefault(key, value)   # of two of the same name, the first counts
        if name == "img" and _is_dot(all_given):
            return None
        for key, value in all_given.items():
            checked = allowed[key](value, self.base) if key in allowed else None
            if checked is not None:
                kept[key] = checked
        if name in _NEEDED and kept.keys().isdisjoint(_NEEDED[name]):
            return None
        written = "".join([f' {key}="{_quoted(value)}"' for key, value in kept.items()]) + _FIXED.get(name, "")
        self.written += len(written)
        return written


def _quoted(value: str) -> str:
    if not _SPECIAL.search(value):
        return value
    return shape.escape(value).replace('"', "&quot;").replace("`", "&#96;")   # ` is a quote to some old browsers


def _prepared(html: str) -> str:
    html = shape.encodable(html[:LENGTH])
    if "\r" in html:
        html = html.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", html.replace("\x0c", " "))


class _Tag(NamedTuple):
    name: str            # "" for a comment, and for all that HTML takes for one
    closing: bool = False
    given: str = ""      # attributes
    empty: bool = False  # <name/>


def _read_unusual(html: str, start: int) -> tuple[_Tag | None, int]:
    """What begins at `start` and is no sound tag, and where it ends; None if it never ends."""
    if html.startswith("<!--", start):
        if html.startswith((">", "->"), start + 4):
            return _Tag(""), html.index(">", start) + 1
        end = _COMMENT_END.search(html, start + 4)
        return (_Tag(""), end.end()) if end else (None, len(html))
    name = _NAME.match(html, start)
    if name is None:
        close = html.find(">", start)
        return (_Tag(""), close + 1) if close >= 0 else (None, len(html))
    last, end = -1, name.end()
    while end > last:
        last, end = end, _ATTRIBUTES.match(html, end).end()   # type: ignore[union-attr]  # it matches nothing, too
    close = _SPACES.match(html, end).end()   # type: ignore[union-attr]
    if not html.startswith(">", close):
        return None, len(html)
    return _Tag(name[2].lower(), bool(name[1]), html[name.end():end], html[close - 1] == "/" and close > end), close + 1


def _write(html: str, writer: _Writer) -> None:
    search, at, hidden, levels = _MARKUP.search, 0, "", 0
    for _ in range(MARKUP):
        found = search(html, at)
        if found is None:
            if not hidden:
                writer.text(html[at:])
            return
        start = found.start()
        if start > at and not hidden:
            writer.text(html[at:start])
        closing, name, given, empty = found.groups()
        if name is not None:
            tag, at = _Tag(name.lower(), bool(closing), given, bool(empty)), found.end()
        else:
            tag, at = _read_unusual(html, start)
        if tag is None or writer.written > LENGTH:
            return
        if hidden:
            if tag.name == hidden:
                levels += -1 if tag.closing else not tag.empty
                hidden = hidden if levels else ""
                continue
            if hidden == "template" or tag.closing or tag.name not in _BREAKOUT:
                continue
            hidden = ""
        if tag.closing:
            writer.end(tag.name)
        elif tag.name == "plaintext":   # nothing ends it
            return
        elif tag.name in _RAW and not tag.empty:   # XML's <script src=""/> is whole, else it took all that follows
            at = next((end.start() for end in _RAW_END.finditer(html, at) if end[1].lower() == tag.name), len(html))
        elif tag.name in _HIDDEN and not tag.empty:
            hidden, levels = tag.name, 1
        else:
            writer.start(tag.name, tag.given)


def sanitise(html: str, base: str = "") -> str:
    """`html` as HTML that can do nothing but be read: well-formed, and of the elements and attributes listed above.

    Relative URLs are resolved against `base`, an http or https URL; without one they are left out. What exceeds a bound
    is left out too. No input raises an error. What comes out stays as it is if it is sanitised again.
    """
    writer = _Writer(base)
    _write(_prepared(html), writer)
    return writer.finish()
