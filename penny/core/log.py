"""Lines on standard error. Not the logging module: that costs 1.4 MB in each process.

Under journald (JOURNAL_STREAM names the file that standard error is) every line starts with <N>, the syslog priority of
sd-daemon(3); elsewhere with the time. Info is what an owner may want to know tomorrow, debug is for one who looks.
"""
from __future__ import annotations

import os
import sys
import time

from penny.core.errors import printable

LEVELS = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # RFC 5424 section 6.2.1


def _under_journald() -> bool:
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == "%d:%d" % (status.st_dev, status.st_ino)


class Log:
    """Writes lines for one service: `log.info("answered %s in %.1f ms", who, spent)`."""

    def __init__(self, name: str, verbose: bool = False) -> None:
        self.name, self.verbose = name, verbose
        self._journald = _under_journald()

    def error(self, text: str, *values: object) -> None:
        self._write("error", text, values)

    def warning(self, text: str, *values: object) -> None:
        self._write("warning", text, values)

    def info(self, text: str, *values: object) -> None:
        self._write("info", text, values)

    def debug(self, text: str, *values: object) -> None:
        if self.verbose:
            self._write("debug", text, values)

    def _write(self, level: str, text: str, values: tuple[object, ...]) -> None:
        if self._journald:
            head = "<%d>%s: " % (LEVELS[level], self.name)
        else:
            mark = "" if level == "info" else level + ": "
            head = "%s %s: %s" % (time.strftime("%Y-%m-%d %H:%M:%S"), self.name, mark)
        lines = (text % values if values else text).splitlines() or [""]
        # Feed titles and peers' words end up here: control characters must not reach a terminal.
        shown = map(printable, lines)
        try:
            sys.stderr.write("".join(head + line + "\n" for line in shown))
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads standard error any more: work goes on
