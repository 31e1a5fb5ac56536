"""Figures that a service counts, shown as OpenMetrics text (the 1.0 specification of the OpenMetrics project).

A figure has a name, a help text, and a value for each set of labels. Names carry their unit (`_seconds`, `_bytes`); a
counter's sample ends in `_total`. Values are set from several threads: each change is one dict operation.
"""
from __future__ import annotations

import threading
from typing import NamedTuple

MAX_SERIES = 1000  # label sets a figure; a stranger's input must not grow this without end
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class _Figure(NamedTuple):
    kind: str
    help: str
    values: dict[tuple[tuple[str, str], ...], float]


class Figures:
    """The figures of one service, or of one process."""

    def __init__(self) -> None:
        self._figures: dict[str, _Figure] = {}
        self._lock = threading.Lock()

    def count(self, name: str, help: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter; it is shown as NAME_total."""
        self._change("counter", name, help, amount, labels, add=True)

    def set(self, name: str, help: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._change("gauge", name, help, value, labels, add=False)

    def _change(self, kind: str, name: str, help: str, value: float, labels: dict[str, str], add: bool) -> None:
        key = tuple(sorted(labels.items()))
        with self._lock:
            figure = self._figures.setdefault(name, _Figure(kind, help, {}))
            if key not in figure.values and len(figure.values) >= MAX_SERIES:
                return
            figure.values[key] = (figure.values.get(key, 0) if add else 0) + value

    def snapshot(self) -> list:
        """All figures as plain lists, which travel between processes as JSON: name, kind, help, and its samples, each
        a list of (label, text) pairs and a value."""
        with self._lock:
            return [[name, figure.kind, figure.help, [[[*map(list, labels)], value] for labels, value in
                                                      sorted(figure.values.items())]]
                    for name, figure in sorted(self._figures.items())]

    def render(self) -> str:
        """All figures as OpenMetrics text."""
        return render({"": self.snapshot()})


def render(snapshots: dict[str, list]) -> str:
    """The figures of several services as one OpenMetrics text: a figure that several have stands once, its samples
    told apart by the label `service` (none where the name is empty)."""
    families: dict[str, list[str]] = {}
    for service, snapshot in sorted(snapshots.items()):
        for name, kind, help, samples in snapshot:
            lines = families.setdefault(name, ["# TYPE %s %s" % (name, kind), "# HELP %s %s" % (name, _escape(help))])
            for labels, value in samples:
                pairs = labels + ([["service", service]] if service else [])
                shown = ",".join('%s="%s"' % (key, _escape(text)) for key, text in pairs)
                suffix = "_total" if kind == "counter" else ""
                lines.append("%s%s%s %s" % (name, suffix, "{%s}" % shown if shown else "", _number(value)))
    return "".join(line + "\n" for _, lines in sorted(families.items()) for line in lines) + "# EOF\n"


def _number(value: float) -> str:
    return "%d" % value if value == int(value) else repr(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
