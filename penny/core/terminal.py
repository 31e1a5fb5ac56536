"""What a person sees on a terminal: a progress bar on standard error, and tables that fit its width."""
from __future__ import annotations

import sys
from typing import Iterable, Sequence

from penny.core.errors import printable


class Progress:
    """A bar for long work. Without a terminal it prints nothing at all: logs and cron mails stay clean."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._shown = sys.stderr.isatty()

    def step(self, label: str) -> None:
        """One more of `total` is done; `label` says which."""
        self.done += 1
        if self._shown:
            width = screen_width() - 1
            filled = 20 * self.done // max(1, self.total)
            line = "[%s%s] %d/%d %s" % ("#" * filled, "." * (20 - filled), self.done, self.total, label)
            sys.stderr.write("\r\x1b[K" + cut(line, width))
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away, before a line is printed and at the end."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def screen_width() -> int:
    """The columns of the terminal, or of what COLUMNS says."""
    import shutil
    return shutil.get_terminal_size().columns


def columns_of(text: str) -> int:
    """The columns that a text takes: East Asian wide characters take two, combining ones none (UAX #11)."""
    import unicodedata  # 1 MB that a service which only logs does without
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """At most `width` columns of a text, with an ellipsis where something was cut."""
    text = printable(text, " ")
    if columns_of(text) <= width:
        return text
    kept, used = [], 0
    for c in text:
        used += columns_of(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "\N{HORIZONTAL ELLIPSIS}"


def fold(text: str, width: int, indent: str = "") -> str:
    """A text in lines of at most `width` columns, each after `indent`; what is written without spaces is cut anywhere."""
    lines, room = [""], width - len(indent)
    for word in text.split():
        if lines[-1] and columns_of(lines[-1]) + 1 + columns_of(word) <= room:
            lines[-1] += " " + word
            continue
        lines.append("")
        for c in word:
            if columns_of(lines[-1]) + columns_of(c) > room:
                lines.append("")
            lines[-1] += c
    return "\n".join(indent + line for line in lines if line)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns; on a terminal the last column is cut to what is left of the width."""
    rows = [[printable(cell, " ") for cell in row] for row in rows]
    widths = [max(columns_of(cell) for cell in column) for column in zip(*rows)]
    room = screen_width() if sys.stdout.isatty() else 0
    lines = []
    for row in rows:
        padded = [cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths)]
        line = "  ".join(padded).rstrip()
        lines.append(cut(line, room) if room else line)
    return "".join(line + "\n" for line in lines)
