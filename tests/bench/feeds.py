"""The figures of the feed reader, as the text of docs/figures.md:

    python3 tests/bench/feeds.py > docs/figures.md

PENNY_FEEDS is a folder with feeds in `real/` and feedparser's own tests in `feedparser/`; PENNY_TOOLS one with
feeddiff.py, evil.py and evilrun.py; PENNY_FEEDPARSER_PYTHON a Python that can import feedparser; PENNY_ARTICLES, if
set, a folder or archive of articles for near_duplicates.py. Both parsers read the same files in turns, each in a process
of its own, so that the ratio holds on a busy machine too. A benchmark, not a test: it prints and judges nothing.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

# What each process does with a document; feedparser sanitises and resolves addresses unless it is told not to.
PENNY = """
from penny.wire.feed import MalformedFeed, parse
from penny.wire.feed_json import render
def read(data):
    try:
        json.dumps(render(parse(data)))
    except MalformedFeed:
        pass
"""
SAFE = PENNY.replace("parse(data)", "made_safe(parse(data))") + "from penny.rss import made_safe\n"
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


class Places(NamedTuple):
    feeds: Path
    tools: Path
    feedparser: str  # a Python that has it


def places() -> Places:
    """What the environment names; exits with a line that says what is missing."""
    feeds, tools, python = (os.environ.get(name, "") for name in ("PENNY_FEEDS", "PENNY_TOOLS", "PENNY_FEEDPARSER_PYTHON"))
    if not os.path.isdir(os.path.join(feeds, "real")):
        sys.exit("PENNY_FEEDS names no folder with feeds in real/")
    if not os.path.isfile(os.path.join(tools, "feeddiff.py")):
        sys.exit("PENNY_TOOLS names no folder with feeddiff.py")
    if not python or subprocess.run([python, "-c", "import feedparser"], stderr=subprocess.DEVNULL).returncode:
        sys.exit("PENNY_FEEDPARSER_PYTHON names no Python that has feedparser")
    return Places(Path(feeds).resolve(), Path(tools).resolve(), python)


def measure(python: str, reader: str, paths: list[Path]) -> tuple[float, float]:
    """CPU seconds and peak MiB of reading each file once."""
    done = subprocess.run([python, "-c", MEASURE.format(reader=reader)], input="\0".join(map(str, paths)), text=True,
                          stdout=subprocess.PIPE, check=True, cwd=ROOT, env=ENVIRONMENT)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def compare(title: str, reader: str, paths: list[Path], other: str) -> str:
    """A row: what is read, how many MB, both speeds and the median ratio with its range."""
    size = sum(path.stat().st_size for path in paths) / 1e6
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(measure(sys.executable, reader, paths)[0])
        theirs.append(measure(other, FEEDPARSER, paths)[0])
    ratios = sorted(one / another for one, another in zip(theirs, ours))
    return "| %s | %.1f MB | %.1f MB/s | %.2f MB/s | %.1f times (%.1f to %.1f) |" % (
        title, size, size / min(ours), size / min(theirs), ratios[len(ratios) // 2], ratios[0], ratios[-1])


def needs_repair(path: Path) -> bool:
    from xml.parsers import expat
    try:
        expat.ParserCreate().Parse(path.read_bytes().lstrip(), True)
    except (expat.ExpatError, ValueError, LookupError):
        return True
    return False


def agreement(title: str, folder: Path, found: Places) -> str:
    """A row: how many files, how many values agree, the fields that agree least, files without any difference."""
    done = subprocess.run([found.feedparser, found.tools / "feeddiff.py", folder, "--json", "--batch",
                           sys.executable + " -m penny rss parse --jsonl"],
                          stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=ENVIRONMENT)
    summary = json.loads(done.stdout)
    below = ["%s %.1f" % (name, field["agree_pct"]) for name, field in summary["fields"].items()
             if field["compared"] and field["agree_pct"] < 99]
    return "| %s | %d | %.2f %% | %.1f %% | %s |" % (title, summary["files"], summary["overall_micro_pct"],
                                                    summary["perfect_files_pct"], ", ".join(below) or "none")


def hostile(found: Places) -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, found.tools / "evil.py", folder], check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run([sys.executable, found.tools / "evilrun.py", folder, "--", sys.executable, "-m", "penny", "rss",
                               "parse"], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT)
        documents = len(os.listdir(folder))
    return "| %d hostile documents (evilrun.py) | %s |" % (documents, re.findall(r".*fall short$", done.stdout, re.M)[-1])


def import_cost() -> str:
    code = "import sys, time; s = time.process_time(); import penny.wire.feed_xml, penny.wire.feed_json;"
    code += "print((time.process_time() - s) * 1000, len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=ENVIRONMENT)
    milliseconds, modules = done.stdout.split()
    return "| importing the parser | %.0f ms of CPU time, %s modules |" % (float(milliseconds), modules)


def near_duplicates(articles: str) -> list[str]:
    done = subprocess.run([sys.executable, ROOT / "tests" / "bench" / "near_duplicates.py", articles, "--shown", "0"],
                          stdout=subprocess.PIPE, text=True, check=True)
    return ["| near-duplicates, %s | %s |" % tuple(line.split(": ", 1)) for line in done.stdout.splitlines()
            if line.startswith(("recall", "among"))]


def main() -> None:
    found = places()
    real = sorted(path for path in (found.feeds / "real").rglob("*") if path.is_file())
    largest = max(real, key=lambda path: path.stat().st_size)
    broken = [path for path in real if needs_repair(path)]
    print(f"# Figures of the feed reader\n\nMade by `tests/bench/feeds.py`, with Python {sys.version.split()[0]}; "
          f"`real` are {len(real)} feeds as their publishers served\nthem, the other sets feedparser's own tests.\n\n"
          "## Agreement with feedparser\n\n| set | files | values that agree | files without a difference | fields below 99 % |\n"
          "|---|---|---|---|---|")
    print(agreement("real", found.feeds / "real", found))
    for name in ("wellformed", "illformed", "encoding", "entities"):
        print(agreement(name, found.feeds / "feedparser" / name, found), flush=True)
    print(f"\n## CPU time from file to JSON beside feedparser\n\nMedian of {ROUNDS} rounds in turns, and the range.\n\n"
          "| what | size | penny | feedparser | ratio |\n|---|---|---|---|---|")
    print(compare("all real feeds", PENNY, real, found.feedparser), flush=True)
    print(compare("the same, sanitised in both", SAFE, real, found.feedparser), flush=True)
    print(compare("the %d that need repair, over and over" % len(broken), PENNY, broken * 20, found.feedparser), flush=True)
    print("\n## Weight and safety\n\n| what | figure |\n|---|---|")
    print("| peak memory for the largest feed, %.2f MB | %.1f MiB |" % (
        largest.stat().st_size / 1e6, measure(sys.executable, PENNY, [largest])[1]))
    print(import_cost())
    print(hostile(found), flush=True)
    for row in near_duplicates(os.environ["PENNY_ARTICLES"]) if os.environ.get("PENNY_ARTICLES") else []:
        print(row)


if __name__ == "__main__":
    main()
