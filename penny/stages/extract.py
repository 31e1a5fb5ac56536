"""Text out of HTML, sentences out of text, and the first of them as an extract.

Nothing here is trusted to be HTML: whatever comes in, what goes out is plain text on one line, which the page escapes
like any other. Only the head of a long text is looked at, so that the work is bounded.
"""
from __future__ import annotations

import re

from penny.wire import feed as shape

MAX_SOURCE = 8000  # characters of HTML or text that are looked at
MAX_EXTRACT = 360  # characters of an extract
MAX_SENTENCES = 2

# What was left open, if only because the head was cut there: to the end, it is not text.
_OPEN = re.compile(r"<(?:script\b|style\b|!--).*\Z|<[a-zA-Z/!?][^<>]*\Z", re.S | re.I)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")  # in plain text; a single line break is only where a line was full
_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*(?=\s+[^\s a-z]|\s*$)|[\u3002\uff01\uff1f](?=\S)")
# A full stop after these ends no sentence.
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|approx|No|Nr|z\.B|bzw|ca|Inc|Ltd|Co|Jr|Sr|Gen|Rep"
                           r"|Sen|Gov|U\.S|U\.K)|\b[A-Z])\.$")


def plain(source: str) -> str:
    """The text of a piece of HTML, or of plain text: a line for each block, one space between words."""
    head = source[:MAX_SOURCE]
    if "<" in head:
        head = _OPEN.sub("", shape.without_hidden(head))
        head = shape.BREAK.sub("\n", " ".join(head.split()))
    else:
        head = "\n".join(" ".join(part.split()) for part in _PARAGRAPH.split(head))
    lines = map(shape.plain, head.split("\n"))
    return "\n".join(line for line in lines if line)


def sentences(text: str) -> list[str]:
    """The sentences of a plain text; a line that ends without a full stop is one of its own."""
    found = []
    for line in text.split("\n"):
        start = 0
        for match in _END.finditer(line):
            candidate = line[start:match.end()].strip()
            if candidate and not _ABBREVIATION.search(candidate):
                found.append(candidate)
                start = match.end()
        if line[start:].strip():
            found.append(line[start:].strip())
    return found


def lead(source: str, title: str = "") -> str:
    """An extract: the first sentences of a piece of HTML or text. A first line that only repeats the title is passed
    over; "" when there are no words."""
    kept: list[str] = []
    for sentence in sentences(plain(source)):
        if not kept and sentence.rstrip(".!?").casefold() == title.rstrip(".!?").casefold():
            continue
        kept.append(sentence)
        if len(kept) == MAX_SENTENCES or len(" ".join(kept)) > MAX_EXTRACT:
            break
    text = " ".join(kept)
    if len(text) <= MAX_EXTRACT:
        return text
    return text[:MAX_EXTRACT].rsplit(" ", 1)[0].rstrip(" ,;:") + "\N{HORIZONTAL ELLIPSIS}"
