"""An edition as text, Markdown or HTML. Pure; the same edition gives the same bytes in the same time zone.

Titles and extracts are other people's words: plain text already, escaped here for where they go.
"""
from __future__ import annotations

import re
import time
from html import escape

from penny.core.page import link, page
from penny.core.errors import printable
from penny.core.terminal import columns_of, fold
from penny.digest.edition import Edition, Entry, Trouble, to_json

WIDTH = 79
REFRESH = 3  # seconds, while the first collection is going on
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~&]|^[-=]|(?<=^\d)[.)]|(?<=^\d\d)[.)])")


def _moment(seconds: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(seconds))


def _title(edition: Edition) -> str:
    year, month, day = (int(part) for part in edition.day.split("-"))
    weekday = time.strftime("%A", time.localtime(time.mktime((year, month, day, 12, 0, 0, 0, 0, -1))))
    return "%s, %d %s %d" % (weekday, day, time.strftime("%B", (year, month, day, 0, 0, 0, 0, 1, 0)), year)


def _state(edition: Edition) -> str:
    """One sentence on what this edition is."""
    count = sum(len(section.entries) for section in edition.sections)
    said = "%d %s from %d of %d feeds" % (count, "item" if count == 1 else "items", len(edition.sections), edition.feeds)
    if edition.sealed:
        return "%s. Closed %s." % (said, _moment(edition.closes))
    return "%s so far. Draft: closes %s." % (said, _moment(edition.closes))


def _progress(edition: Edition) -> str:
    return "Collecting: %d of %d feeds asked." % (edition.feeds - edition.waiting, edition.feeds)


def _empty(edition: Edition) -> str:
    """Why there is nothing to read."""
    if not edition.feeds:
        return "There are no feeds. Add one: penny rss add URL"
    if edition.troubles and len(edition.troubles) + edition.waiting == edition.feeds:
        return "None of the feeds could be reached. They will be asked again; below is what each said."
    return "Nothing new has been published." if not edition.waiting else ""


def _trouble(trouble: Trouble) -> str:
    return "%s, since %s" % (trouble.problem, _moment(trouble.since))


def _names(entry: Entry) -> str:
    return ", ".join(dict.fromkeys(source for source, _ in entry.also))


def text(edition: Edition) -> str:
    """For a terminal of 80 columns."""
    parts = ["%s: %s\n%s\n" % (edition.lab, _title(edition), _state(edition))]
    if edition.waiting:
        parts.append(_progress(edition) + "\n")
    if not edition.sections and _empty(edition):
        parts.append(fold(_empty(edition), WIDTH) + "\n")
    for section in edition.sections:
        lines = [fold(section.title, WIDTH), "=" * min(WIDTH, columns_of(section.title))]
        for entry in section.entries:
            lines += ["", fold(entry.title, WIDTH), fold("%s, %s" % (entry.source, _moment(entry.time)), WIDTH, "  ")]
            lines += [fold(entry.extract, WIDTH, "  ")] if entry.extract else []
            lines += ["  " + entry.url] if entry.url else []
            lines += [fold("Also in %s" % _names(entry), WIDTH, "  ")] if entry.also else []
        lines += ["", "and %d more" % section.left_out] if section.left_out else []
        parts.append("\n".join(lines) + "\n")
    if edition.troubles:
        parts.append("Not reached\n===========\n\n" + "".join(
            "%s\n%s\n" % (fold(t.title, WIDTH), fold(_trouble(t), WIDTH, "  ")) for t in edition.troubles))
    return "".join(printable(line, " ") + "\n" for line in "\n".join(parts).split("\n")).rstrip("\n") + "\n"


def markdown(edition: Edition) -> str:
    """CommonMark, for a wiki or a mail."""
    def quote(words: str) -> str:
        return _MARKDOWN.sub(r"\\\1", " ".join(words.split()))
    lines = ["# %s: %s" % (quote(edition.lab), _title(edition)), "", _state(edition), ""]
    lines += [_progress(edition), ""] if edition.waiting else []
    lines += [_empty(edition), ""] if not edition.sections and _empty(edition) else []
    for section in edition.sections:
        lines += ["## " + quote(section.title), ""]
        for entry in section.entries:
            # In angle brackets a destination may hold anything but these (CommonMark 0.31, 6.3).
            url = re.sub(r"[<>\s\\]", lambda found: "%%%02X" % ord(found[0]), entry.url)
            name = "[%s](<%s>)" % (quote(entry.title), url) if url else quote(entry.title)
            lines.append("- **%s** (%s, %s)" % (name, quote(entry.source), _moment(entry.time)))
            lines += ["  " + quote(entry.extract)] if entry.extract else []
            lines += ["  Also in " + quote(_names(entry))] if entry.also else []
        lines += ["- and %d more" % section.left_out] if section.left_out else []
        lines.append("")
    if edition.troubles:
        lines += ["## Not reached", ""] + ["- %s: %s" % (quote(t.title), quote(_trouble(t))) for t in edition.troubles]
    return "\n".join(lines).rstrip("\n") + "\n"


def html(edition: Edition) -> str:
    """A whole page, without scripts. It holds nothing that changes after the edition is sealed."""
    parts = ['<header><nav><a href="/">Today</a><a href="/draft">Next</a><a href="/editions">Earlier</a></nav>'
             '<h1>%s</h1><p class="soft">%s: %s</p></header>'
             % (_title(edition), escape(edition.lab), escape(_state(edition)))]
    if edition.waiting:
        parts.append('<div class="note" role="status">%s<br><progress max="%d" value="%d"></progress></div>'
                     % (escape(_progress(edition)), edition.feeds, edition.feeds - edition.waiting))
    if not edition.sections and _empty(edition):
        parts.append('<p class="note">%s</p>' % escape(_empty(edition)))
    for section in edition.sections:
        parts.append("<section><h2>%s</h2>" % link(section.url, section.title))
        parts += [_article(entry) for entry in section.entries]
        if section.left_out:
            parts.append('<p class="soft">and %d more</p>' % section.left_out)
        parts.append("</section>")
    if edition.troubles:
        rows = "".join('<tr><th scope="row">%s</th><td class="bad">%s</td></tr>'
                       % (link(t.url, t.title), escape(_trouble(t))) for t in edition.troubles)
        parts.append("<section><h2>Not reached</h2><table>%s</table></section>" % rows)
    parts.append('<footer>The same as <a href="?format=text">text</a>, <a href="?format=markdown">Markdown</a>, '
                 '<a href="?format=json">JSON</a></footer>')
    refresh = REFRESH if edition.waiting and not edition.sealed else 0
    return page("%s: %s" % (edition.lab, _title(edition)), "\n".join(parts), refresh)


def _article(entry: Entry) -> str:
    said = "<p>%s</p>" % escape(entry.extract) if entry.extract else ""
    if entry.also:
        said += '<p class="soft">Also in %s</p>' % ", ".join(link(url, source) for source, url in entry.also)
    return ('<article><h3>%s</h3><span class="soft">%s, <time datetime="%s">%s</time></span>%s</article>'
            % (link(entry.url, entry.title), escape(entry.source),
               time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.time)), _moment(entry.time), said))


def listing(days: list[str], lab: str) -> str:
    """The page that lists the sealed editions, newest first."""
    found = "".join('<li><a href="/editions/%s">%s</a></li>' % (day, day) for day in days)
    body = ('<header><nav><a href="/">Today</a><a href="/draft">Next</a></nav><h1>Earlier editions</h1></header>%s'
            % ("<ul>%s</ul>" % found if found else '<p class="note">None is closed yet.</p>'))
    return page("%s: earlier editions" % lab, body)


FORMATS = {"text": (text, "text/plain; charset=utf-8"), "markdown": (markdown, "text/markdown; charset=utf-8"),
           "html": (html, "text/html; charset=utf-8"), "json": (to_json, "application/json")}
