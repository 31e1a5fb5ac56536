"""How fast core/web answers, beside nginx in the same run: `python3 tests/bench/web.py [--python PYTHON] [--rounds N]`.

A page of 4 KB over 16 kept connections: the server has one core, wrk the other. One nginx worker without logs and each
kind of route take turns, since what else the machine does changes from minute to minute; the ratio is the steady
figure. Then the memory of a process with this server alone, idle and with 2,000 idle connections.
"""
from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, CLIENT_CORE = "0", "1"
CONNECTIONS = 2000
NGINX = """
daemon off; worker_processes 1; pid %(dir)s/pid; error_log /dev/null; %(user)s
events { worker_connections 1024; }
http {
    access_log off; sendfile on; keepalive_requests 1000000000;
    client_body_temp_path %(dir)s; proxy_temp_path %(dir)s; fastcgi_temp_path %(dir)s; uwsgi_temp_path %(dir)s;
    scgi_temp_path %(dir)s;
    server { listen 127.0.0.1:%(port)d; root %(dir)s; }
}
"""
SERVER = """
import socket, sys
sys.path.insert(0, %(root)r)
from penny.core import web
from penny.core.clock import Clock, Stop
from penny.core.figures import Figures
from penny.core.log import Log
from types import SimpleNamespace
sys.setswitchinterval(0.0005)  # as penny up does
page = b"x" * 4096
routes = [web.Route("/cheap", lambda request: web.Response(200, page), cheap=True),
          web.Route("/threaded", lambda request: web.Response(200, page))]
context = SimpleNamespace(clock=Clock(), stop=Stop(), ready=lambda: None, log=Log("bench"), figures=Figures())
web.serve(routes, context, [socket.create_server(("127.0.0.1", %(port)d), backlog=1024)])
"""


class Round(NamedTuple):
    rate: float  # requests a second
    cpu: float  # seconds of the server's processor a request


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command])
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit("cannot start %s: it does not listen" % command[0])


def cpu_of(pid: int) -> float:
    """Seconds of processor that a process and its children used."""
    total = 0.0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % entry) as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def measure(process: subprocess.Popen[bytes], url: str, seconds: int) -> Round:
    before = cpu_of(process.pid)
    out = subprocess.run(["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c16", "-d%ds" % seconds, url],
                         stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit("cannot measure %s: %s" % (url, out))
    count = int(re.search(r"(\d+) requests in", out).group(1))
    return Round(float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), (cpu_of(process.pid) - before) / count)


def memory(pid: int) -> str:
    with open("/proc/%d/smaps_rollup" % pid) as file:
        sizes = {line.split()[0]: int(line.split()[1]) for line in file if line.endswith("kB\n")}
    return "resident %.1f MB, of it anonymous %.1f MB" % (sizes["Rss:"] / 1024, sizes["Pss_Anon:"] / 1024)


def idle_connections(port: int) -> list[socket.socket]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CONNECTIONS + 100), hard))
    clients = []
    for _ in range(CONNECTIONS):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /cheap HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not client.recv(65536).endswith(b"x"):
            pass
        clients.append(client)
    return clients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the Python that serves")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    for tool, package in (("wrk", "wrk"), ("nginx", "nginx-light"), ("taskset", "util-linux")):
        if not shutil.which(tool):
            raise SystemExit("cannot measure: %s is missing (apt install %s)" % (tool, package))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        compare(options, folder)


def compare(options: argparse.Namespace, folder: str) -> None:
    ports = free_port(), free_port()
    with open(os.path.join(folder, "page"), "wb") as file:
        file.write(b"x" * 4096)
    with open(os.path.join(folder, "conf"), "w") as file:
        file.write(NGINX % {"dir": folder, "port": ports[0], "user": "user root;" if os.geteuid() == 0 else ""})
    code = SERVER % {"root": ROOT, "port": ports[1]}
    nginx = start(["nginx", "-c", os.path.join(folder, "conf"), "-p", folder], ports[0])
    penny = start([options.python, "-c", code], ports[1])
    urls = {"nginx": (nginx, "http://127.0.0.1:%d/page" % ports[0]),
            "cheap": (penny, "http://127.0.0.1:%d/cheap" % ports[1]),
            "threaded": (penny, "http://127.0.0.1:%d/threaded" % ports[1])}
    try:
        print("%s, idle at first: %s" % (options.python, memory(penny.pid)))
        rounds: dict[str, list[Round]] = {name: [] for name in urls}
        for _ in range(options.rounds):
            for name, (process, url) in urls.items():
                rounds[name].append(measure(process, url, options.seconds))
        for name, taken in rounds.items():
            ratios = [one.rate / peer.rate for one, peer in zip(taken, rounds["nginx"])]
            print("%-8s %6.0f requests/s, %.2f of nginx (%.2f to %.2f), %4.1f us of processor a request" % (
                name, statistics.median(one.rate for one in taken), statistics.median(ratios), min(ratios), max(ratios),
                statistics.median(one.cpu for one in taken) * 1e6))
        print("idle after that: " + memory(penny.pid))
        clients = idle_connections(ports[1])
        print("%d idle connections: %s" % (len(clients), memory(penny.pid)))
    finally:
        for process in (nginx, penny):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
