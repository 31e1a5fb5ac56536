"""How fast feeds are read, beside feedparser in the same run: MB/s of CPU time from file to JSON text, and memory.

    PENNY_FEEDS=DIR PENNY_FEEDPARSER_PYTHON=venv/bin/python python3 tests/bench/feeds.py [ROUNDS]

DIR holds feeds, at any depth; the Python is one that can import feedparser. Both read the same files in turns, each in
a process of its own, so that the ratio holds on a busy machine too. A benchmark, not a test: it prints and judges
nothing.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3

# What each process does with the files named on its standard input: one line of JSON, CPU seconds and peak memory.
PENNY = """
from penny.wire.feed import MalformedFeed, parse
from penny.wire.feed_json import render
def read(data):
    try:
        json.dumps(render(parse(data)))
    except MalformedFeed:
        pass
"""
FEEDPARSER = """
import feedparser
read = feedparser.parse
"""
MEASURE = """
import json, resource, sys, time
{reader}
paths = sys.stdin.read().split(chr(0))
read(b'<rss><channel><title>&nbsp;</title></channel>')   # imports what is imported late
seconds = 0.0
for path in paths:
    with open(path, "rb") as file:
        data = file.read()
    start = time.process_time()
    read(data)
    seconds += time.process_time() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def measure(python: str, reader: str, paths: list[Path]) -> tuple[float, float]:
    """CPU seconds and peak MiB of reading each file once."""
    done = subprocess.run([python, "-c", MEASURE.format(reader=reader)], input="\0".join(map(str, paths)), text=True,
                          stdout=subprocess.PIPE, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def compare(title: str, paths: list[Path], other: str, rounds: int) -> None:
    size = sum(path.stat().st_size for path in paths) / 1e6
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(measure(sys.executable, PENNY, paths)[0])
        theirs.append(measure(other, FEEDPARSER, paths)[0])
    ratios = sorted(one / another for one, another in zip(theirs, ours))
    print(f"{title}: {len(paths)} files, {size:.1f} MB; penny {size / min(ours):.1f} MB/s, feedparser "
          f"{size / min(theirs):.2f} MB/s; {ratios[len(ratios) // 2]:.1f} times as fast "
          f"({ratios[0]:.1f} to {ratios[-1]:.1f} in {rounds} rounds)")


def needs_repair(path: Path) -> bool:
    from xml.parsers import expat
    try:
        expat.ParserCreate().Parse(path.read_bytes().lstrip(), True)
    except (expat.ExpatError, ValueError, LookupError):
        return True
    return False


def import_cost() -> None:
    code = "import sys, time; s = time.process_time(); import penny.wire.feed_xml, penny.wire.feed_json;"
    code += "print((time.process_time() - s) * 1000, len(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, check=True, cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout.split()
    print(f"importing takes {float(found[0]):.1f} ms of CPU time; {found[1]} modules are loaded then")


def main() -> None:
    folder, other = os.environ.get("PENNY_FEEDS", ""), os.environ.get("PENNY_FEEDPARSER_PYTHON", "")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if not os.path.isdir(folder):
        sys.exit("PENNY_FEEDS names no folder of feeds")
    paths = sorted(path for path in Path(folder).resolve().rglob("*") if path.is_file())
    largest = max(paths, key=lambda path: path.stat().st_size)
    print(f"Python {sys.version.split()[0]}; the largest of {len(paths)} feeds has "
          f"{largest.stat().st_size / 1e6:.2f} MB; reading it peaks at "
          f"{measure(sys.executable, PENNY, [largest])[1]:.1f} MiB")
    import_cost()
    if not other or subprocess.run([other, "-c", "import feedparser"], stderr=subprocess.DEVNULL).returncode:
        sys.exit("PENNY_FEEDPARSER_PYTHON names no Python that has feedparser, so there is nothing to compare with")
    compare("all", paths, other, rounds)
    broken = [path for path in paths if needs_repair(path)]
    if broken:
        compare("those that need repair", broken * (1 + 40 // len(broken)), other, rounds)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"({time.monotonic() - started:.0f} s)")
