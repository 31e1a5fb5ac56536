"""Corpora and tools from outside the repository: PENNY_FEEDS and PENNY_TOOLS name the folders that hold them."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from support import Publisher, ROOT, json_lines, outside

pytestmark = pytest.mark.slow
SECONDS, KILOBYTES = 10, 32 * 1024


@pytest.fixture
def publishers():
    """A server for each real feed, on an address of its own in 127.0.0.0/8."""
    files = sorted(path for path in outside("PENNY_FEEDS", "real").iterdir() if path.is_file())
    assert len(files) >= 90, "the corpus is not whole"
    found = []
    for number, file in enumerate(files, 2):
        one = Publisher("127.0.0.%d" % number)
        one.publish("/" + file.name, file.read_bytes())
        found.append(one)
    yield found
    for one in found:
        one.close()


def subscribe(penny, publishers):
    lines = "".join('<outline type="rss" text="" xmlUrl="%s%s"/>' % (one.url, path) for one in publishers for path in one.pages)
    penny.home.mkdir()
    (penny.home / "all.opml").write_text("<opml version='2.0'><body>%s</body></opml>" % lines)
    assert penny.run("rss", "import", str(penny.home / "all.opml")).returncode == 0


def timed(penny, *words):
    """Runs a command under time(1); returns its result, seconds and kilobytes."""
    report = penny.home / "time"
    command = ["/usr/bin/time", "-o", report, "-f", "%e %M", ROOT / "bin" / "penny", *words, "--home", penny.home]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120,
                           env=penny.environment(PENNY_PYTHON="/usr/bin/python3"))
    seconds, kilobytes = report.read_text().split()[-2:]
    return ended, float(seconds), int(kilobytes)


def test_the_real_feeds_are_collected_and_become_a_digest(penny, publishers):
    if not os.path.exists("/usr/bin/time"):
        pytest.skip("needs /usr/bin/time (Debian: time)")
    subscribe(penny, publishers)
    first, seconds, kilobytes = timed(penny, "rss", "collect", "--json", "--set", "private=allow")
    assert first.returncode == 0, first.stderr
    results = json_lines(first.stdout)
    assert len(results) == len(publishers)
    reached = [result for result in results if not result["error"]]
    assert len(reached) == len(results), [result for result in results if result["error"]]
    print("\n%d feeds, %d read, %d items, %.1f s, %.1f MB" % (
        len(results), len(reached), sum(result["new"] for result in results), seconds, kilobytes / 1024))
    assert seconds < SECONDS and kilobytes < KILOBYTES
    edition = json.loads(penny.run("digest", "--format", "json").stdout)
    assert sum(len(section["items"]) for section in edition["sections"]) == 100
    assert len(edition["sections"]) >= 0.9 * len(results)

    asked = {one.url: len(one.asked) for one in publishers}
    second, seconds, kilobytes = timed(penny, "rss", "collect", "--json", "--set", "private=allow")
    assert all(result["new"] == result["updated"] == 0 for result in json_lines(second.stdout))
    sent = [path for one in publishers for path, status in one.asked[asked[one.url]:] if status != 304]
    assert not sent, "bodies were sent again: %s" % sent
    print("again: %.1f s, %.1f MB, %d bodies of %d" % (seconds, kilobytes / 1024, len(sent), len(results)))


def test_agreement_with_feedparser():
    python = os.environ.get("PENNY_FEEDPARSER_PYTHON")
    if not python:
        pytest.skip("PENNY_FEEDPARSER_PYTHON names no Python that has feedparser")
    tool = outside("PENNY_TOOLS", "feeddiff.py")
    ended = subprocess.run([python, tool, outside("PENNY_FEEDS", "real"), "--json", "--batch",
                            sys.executable + " -m penny rss parse --jsonl"], capture_output=True, text=True, cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    found = json.loads(ended.stdout)
    print("\nagreement with feedparser: %.2f %% micro, %.1f %% perfect files" % (
        found["overall_micro_pct"], found["perfect_files_pct"]))
    assert found["overall_micro_pct"] >= 99.3 and set(found["status"]) == {"parsed"}
    assert not [failure for failure in found["failures"] if "crash" in failure[1] or "timeout" in failure[1]]


def test_hostile_feeds_are_refused_or_read_in_little_time_and_memory(tmp_path):
    subprocess.run([sys.executable, outside("PENNY_TOOLS", "evil.py"), tmp_path], check=True)
    ended = subprocess.run([sys.executable, outside("PENNY_TOOLS", "evilrun.py"), tmp_path, "--",
                            sys.executable, "-m", "penny", "rss", "parse"], capture_output=True, text=True, cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^0 files fall short$", ended.stdout, re.M)
