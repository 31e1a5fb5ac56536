"""What a person sees on a terminal: a progress bar on standard error, and tables that fit its width."""
from __future__ import annotations

import shutil
import sys
import unicodedata
from typing import Iterable, Sequence


class Progress:
    """A bar for long work. Without a terminal it prints nothing at all: logs and cron mails stay clean."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._shown = sys.stderr.isatty()

    def step(self, label: str) -> None:
        """One more of `total` is done; `label` says which."""
        self.done += 1
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            filled = 20 * self.done // max(1, self.total)
            line = "[%s%s] %d/%d %s" % ("#" * filled, "." * (20 - filled), self.done, self.total, label)
            sys.stderr.write("\r\x1b[K" + cut(line, width))
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away, before a line is printed and at the end."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def clean(text: str) -> str:
    """Text from outside without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def columns_of(text: str) -> int:
    """The columns that a text takes: East Asian wide characters take two, combining ones none (UAX #11)."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """At most `width` columns of a text, with an ellipsis where something was cut."""
    text = clean(text)
    if columns_of(text) <= width:
        return text
    kept, used = [], 0
    for c in text:
        used += columns_of(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "\N{HORIZONTAL ELLIPSIS}"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns; on a terminal the last column is cut to what is left of the width."""
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(columns_of(cell) for cell in column) for column in zip(*rows)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = []
    for row in rows:
        padded = [cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths)]
        line = "  ".join(padded).rstrip()
        lines.append(cut(line, room) if room else line)
    return "".join(line + "\n" for line in lines)
