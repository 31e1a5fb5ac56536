"""The figures of the time server beside chronyd, as text for docs/figures.md:

    python3 tests/bench/ntp.py >>docs/figures.md

PENNY_TOOLS is a folder with ntpload.c and ntpaccuracy.py. Needs root, two cores, a C compiler and chronyd (-x: no clock is
touched). Both servers run on core 0 in turns and the client on core 1, so that the ratios hold on a busy machine too; rates
are for each second of the server's CPU time. A benchmark, not a test: it prints and judges nothing.
"""
from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
SAMPLES = "200"
CHRONYD = ["chronyd", "-x", "-d", "port 11123", "local stratum 10", "allow", "cmdport 0", "bindcmdaddress /", "user root",
           "pidfile /tmp/penny-bench-chronyd.pid"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"] + ":/usr/sbin"}


def penny(home: str) -> list[str]:
    return ["env", "PYTHONPATH=" + str(ROOT), sys.executable, "-m", "penny", "ntp", "serve", "--home", home,
            "--set", "listen=*", "--set", "local=10", "--set", "port=11124"]


def load(program: str, port: int, pid: int, *options: str) -> dict:
    done = subprocess.run(["taskset", "-c", "1", program, "-j", "-p", str(port), "-P", str(pid), "-t", "3", "-o", "noclock",
                           *options, "127.0.0.1"], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measure(program: str, home: str) -> list[str]:
    """Rows: what was measured, chronyd's figure, penny's, and the ratio."""
    servers = [subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=ENVIRONMENT) for command in (CHRONYD, penny(home))]
    time.sleep(2)
    full: list[list[dict]] = [[], []]
    paced: list[list[dict]] = [[], []]
    try:
        for _ in range(ROUNDS):
            for which, server in enumerate(servers):
                full[which].append(load(program, 11123 + which, server.pid))
                paced[which].append(load(program, 11123 + which, server.pid, "-r", "1000", "-w", "1", "-c", "1"))
    finally:
        for server in servers:
            server.terminate()
            server.wait()

    def row(title: str, runs: list[list[dict]], value: Callable[[dict], float], form: str) -> str:
        ratios = sorted(value(ours) / value(theirs) for theirs, ours in zip(*runs))
        shown = tuple(form % statistics.median(map(value, one)) for one in runs)
        return "| %s | %s | %s | %.2f (%.2f to %.2f) |" % (title, *shown, statistics.median(ratios), ratios[0], ratios[-1])
    return [row("answers a second of CPU time", full, lambda run: run["rate"] / run["server_cpu"], "%.0f"),
            row("at 1,000 a second: median, µs", paced, lambda run: run["p50_us"], "%.0f"),
            row("at 1,000 a second: 99 of 100 within, µs", paced, lambda run: run["p99_us"], "%.0f"),
            row("resident, KiB", full, lambda run: run["rss_kib"], "%.0f")]


def accuracy(tool: str, home: str) -> list[str]:
    """Rows: the load, the server, and its error in microseconds, which is all there is: both sides read one clock."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([sys.executable, tool, "-n", SAMPLES, "-m", "idle,load", "-o", out.name,
                               "chronyd=11123:" + shlex.join(CHRONYD), "penny=11124:" + shlex.join(penny(home))],
                              stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    rows = []
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) > 12 and "mean" in words:
            rows.append("| %s, %s | %s ± %s | %s |" % (words[2], {"idle": "idle", "load": "two busy loops on its core"}[words[0]],
                                                     *(words[words.index(name) + 1] for name in ("mean", "sd", "max"))))
    return rows


def main() -> None:
    tools = os.environ.get("PENNY_TOOLS", "")
    if os.geteuid() or not os.path.isfile(os.path.join(tools, "ntpload.c")):
        sys.exit("needs root, and PENNY_TOOLS to name a folder with ntpload.c and ntpaccuracy.py")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "ntpload")
        subprocess.run(["cc", "-O2", "-o", program, os.path.join(tools, "ntpload.c")], check=True)
        print("# Figures of the time server\n\nMade by `tests/bench/ntp.py`, with Python %s, beside chronyd; medians of %d rounds "
              "in turns, and the range of the\nratios. Kernel receive times, access control, the client table and the "
              "compensation of leaving are on.\n\n| what | chronyd | penny | ratio |\n|---|---|---|---|"
              % (sys.version.split()[0], ROUNDS))
        for row in measure(program, os.path.join(folder, "home")):
            print(row, flush=True)
        print("\nThe error of what a client measures, in µs; both sides read one clock, so all of it is error (%s samples).\n\n"
              "| server | mean ± deviation | worst |\n|---|---|---|" % SAMPLES)
        for row in accuracy(os.path.join(tools, "ntpaccuracy.py"), os.path.join(folder, "home")):
            print(row)


if __name__ == "__main__":
    main()
