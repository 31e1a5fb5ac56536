"""`penny NAME [VERB] ...`: starts penny.NAME by name, and nothing else. Also the entry of the zipapp."""
from __future__ import annotations

import sys

import penny
from penny.core import manifest as manifests
from penny.core import run
from penny.core.terminal import table

USAGE = """usage: penny NAME [VERB] [OPTION]...

penny turns a shelf of unequal computers into one lab.

%s
`penny NAME --help` says more of each. First: penny up
"""


def overview() -> str:
    """The services and commands with their titles."""
    found = [manifests.load(name) for name in manifests.names()]
    parts = []
    for title, once in (("Services", False), ("Commands", True)):
        rows = [("  " + m.name, m.title) for m in found if (m.runs.kind == "once") is once]
        if rows:
            parts.append("%s:\n%s" % (title, table(rows)))
    return USAGE % "\n".join(parts)


def print_overview() -> int:
    sys.stdout.write(overview())
    return run.DONE


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        run.exit_with(print_overview)
    elif arguments[0] in ("-V", "--version"):
        print("penny", penny.__version__)
    else:
        run.main(arguments[0], arguments[1:])


def entry() -> None:
    """What an installed `penny` and the zipapp call."""
    main(sys.argv[1:])


if __name__ == "__main__":
    entry()
