"""`penny up` as a real process: a small parent, children that come back, services that are parked, and nobody left."""
from __future__ import annotations

import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest

from penny.up import board
from support import Penny, Publisher, ROOT, free_port, get, rss, until

TICKER = '''"""Counts."""
import os


def once(settings, context, options):
    with open(os.path.join(context.state_dir, "ticks"), "a") as file:
        file.write("tick\\n")
    context.figures.count("ticks", "How often.")
    return 0
'''
CRASHER = '''"""Fails."""


def serve(settings, context):
    context.ready()
    context.clock.wait(0.01, context.stop)
    raise KeyError("as planned")
'''
ECHO = '''"""Answers datagrams."""
import select
import sys


def serve(settings, context):
    context.ready()
    poll = select.poll()
    sockets = {one.fileno(): one for one in context.sockets["7007/udp"]}
    for fd in [context.stop.fileno(), *sockets]:
        poll.register(fd, select.POLLIN)
    while not context.stop.is_set():
        for fd, _ in poll.poll():
            if fd in sockets:
                data, client = sockets[fd].recvfrom(512)
                context.figures.count("echoes", "Datagrams.")
                sockets[fd].sendto(data + (b" with web" if "http.server" in sys.modules else b""), client)
'''


# The shipped ones are real: a test must not ask them.
STARTER = "<opml><body>%s</body></opml>" % "".join(
    '<outline text="Feed %d" xmlUrl="http://feed%d.invalid/"/>' % (number, number) for number in range(8))


def manifest(module, runs="always", more=""):
    return "[service]\ntitle = For the tests\nmodule = penny.%s\nruns = %s\n%s" % (module, runs, more)


class House(Penny):
    """A copy of the checkout with services of the test's own, on free ports."""

    def __init__(self, folder):
        super().__init__(folder / "home", root=folder / "penny")
        for name in ("penny", "services", "pipeline"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "pipeline" / "starter.opml").write_text(STARTER)
        self.ports = {name: free_port() for name in ("rss", "digest", "ntp", "up")}
        self.write_lab("".join("[service %s]\nport = %d\n" % pair for pair in self.ports.items()))

    def install(self, name, source, text):
        (self.root / "penny" / (name + ".py")).write_text(source)
        (self.root / "services" / (name + ".ini")).write_text(text)

    def health(self):
        return json.loads(get(self.ports["up"], "/health")[2])

    def state(self, name):
        return self.health()["services"][name]["state"]

    def processes(self, parent):
        return [int(word) for word in subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent.pid)],
                                                     capture_output=True, text=True).stdout.split()]


@pytest.fixture
def house(tmp_path):
    if not shutil.which("ps"):
        pytest.skip("needs ps (Debian: procps)")
    found = House(tmp_path)
    yield found
    found.stop_all()


def test_failures_are_tried_again_ever_later_and_then_parked():
    assert [board.next_try([0.0] * count, 1.0) for count in range(1, 6)] == [
        (board.FAILED, 1.0), (board.FAILED, 2.0), (board.FAILED, 4.0), (board.FAILED, 8.0), (board.PARKED, 600.0)]
    assert board.next_try([0, 0, 0, 0, 700], 700) == (board.FAILED, 1.0)


def test_states_travel():
    state = board.State(board.UP, 1.5, "why\n", ("http://[::1]:1/",))
    assert board.decode(board.encode("rss", state)) == ("rss", state)


def test_a_page_within_five_seconds_without_settings_or_network(house):
    started = time.monotonic()
    process = house.start("up")
    page = until(lambda: get(house.ports["digest"])[2], 5, "the page").decode()
    assert time.monotonic() - started < 5
    assert "<h1>" in page
    page = until(lambda: re.search("None of the feeds could be reached", get(house.ports["digest"])[2].decode()), 15,
                 "the page that says what could not be reached").string
    assert "Feed 7" in page and re.search(r"name (not found|look-up)[^<]*, since \w\w\w \d\d", page)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


@pytest.mark.slow
def test_the_first_page_shows_progress_and_then_the_digest(house):
    publisher = Publisher()
    publisher.delay = 0.7
    for number in range(3):
        url = publisher.publish("/%d" % number, rss("Feed %d" % number, [("1", "Item %d" % number, "Words.")]))
        subprocess.run([*house.command("rss", "import", "-"), "--home", house.home], env=house.environment(), check=True,
                       input='<opml><body><outline xmlUrl="%s" text=""/></body></opml>' % url, text=True, cwd=house.root,
                       stdout=subprocess.DEVNULL)
    lab = (house.home / "etc" / "lab.ini").read_text().replace("[service rss]", "[service rss]\nprivate = allow")
    house.write_lab(lab + "[lab]\nname = attic\n")
    house.start("up")
    page = until(lambda: re.search("Collecting: [0-2] of 3 feeds asked", get(house.ports["digest"])[2].decode()), 10).string
    assert '<meta http-equiv="refresh" content="3">' in page and "attic" in page
    page = until(lambda: re.search("Item 2", get(house.ports["digest"])[2].decode()), 15).string
    publisher.close()
    assert "refresh" not in page


def test_a_service_that_crashes_is_parked_while_the_others_answer(house):
    house.install("crasher", CRASHER, manifest("crasher"))
    house.start("up", env={"PENNY_CLOCK": "10@0=0"})
    slowest = 0.0

    def parked():
        nonlocal slowest
        started = time.monotonic()
        assert get(house.ports["digest"])[0] == 200
        slowest = max(slowest, time.monotonic() - started)
        return house.state("crasher") == "parked"
    until(parked, 20, "parking")
    assert slowest < 2
    assert house.health()["status"] == "degraded" and house.state("digest") == "up"
    log = house.log()
    assert log.count("KeyError: 'as planned'; ") == 5 and "parked for 600 s" in log
    metrics = get(house.ports["up"], "/metrics")[2].decode()
    assert 'service_up{service="crasher"} 0' in metrics and 'service_up{service="digest"} 1' in metrics
    assert metrics.count("# TYPE http_connections gauge") == 1 and metrics.endswith("# EOF\n")


def test_a_wrong_setting_parks_that_service_alone_and_at_once(house):
    house.write_lab((house.home / "etc" / "lab.ini").read_text().replace("[service rss]", "[service rss]\nkep = 1"))
    house.start("up")
    until(lambda: house.state("rss") == "parked", 10)
    until(lambda: house.state("digest") == "up", what="the other service")
    assert house.log().count("lab.ini [service rss]: unknown key kep (did you mean keep?)") == 1


def test_a_lab_file_that_cannot_be_read_ends_it_with_78(house):
    house.write_lab("[labb]\n")
    process = house.start("up")
    assert process.wait(10) == 78 and "unknown section [labb] (did you mean lab?)" in house.log()


def test_a_busy_port_is_said_and_the_rest_goes_on(house):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", house.ports["rss"]))
        taken.listen()
        house.start("up")
        until(lambda: house.state("rss") == "failed", 10)
        until(lambda: house.state("digest") == "up", what="the other service")
    assert "cannot listen on 127.0.0.1 port %d/tcp" % house.ports["rss"] in house.log()
    until(lambda: house.state("rss") == "up", 15, "taking the port when it is free")


@pytest.mark.slow
def test_it_ends_with_1_when_nothing_runs(house):
    house.install("crasher", CRASHER, manifest("crasher"))
    process = house.start("up", "--only", "crasher", env={"PENNY_CLOCK": "50@0=0"})
    assert process.wait(15) == 1
    assert "crasher does not run: KeyError: 'as planned'" in house.log()


@pytest.mark.slow
def test_a_timed_service_runs_at_its_times(house):
    house.install("ticker", TICKER, manifest("ticker", "every 60s"))
    house.start("up", "--only", "ticker", env={"PENNY_CLOCK": "200@0=0"})
    until(lambda: (house.home / "var" / "ticks").read_text().count("tick") >= 3, 10)
    assert house.state("ticker") in ("waiting", "up")
    assert "ticks_total{" in get(house.ports["up"], "/metrics")[2].decode()


@pytest.mark.slow
def test_quick_services_have_a_process_without_the_web_server(house):
    port = free_port()
    house.install("echo", ECHO, manifest("echo", more="process = quick\nsockets = 7007/udp\n"))
    house.write_lab((house.home / "etc" / "lab.ini").read_text() + "[service echo]\nport = %d\n" % port)
    process = house.start("up")

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(1)
            one.sendto(b"hello", ("127.0.0.1", port))
            return one.recv(100)
    assert until(ask) == b"hello"
    until(lambda: house.health()["services"].get("echo", {}).get("state") == "up", 20, "the report of quick")
    until(lambda: "echoes_total{service=\"echo\"}" in get(house.ports["up"], "/metrics")[2].decode(), 15)
    assert len(house.processes(process)) == 2


@pytest.mark.slow
def test_a_child_that_dies_comes_back_on_the_same_sockets(house):
    process = house.start("up")
    until(lambda: house.state("digest") == "up")
    *quick, work = house.processes(process)
    os.kill(work, signal.SIGKILL)
    until(lambda: work not in house.processes(process) and len(house.processes(process)) == 2, 10)
    assert house.processes(process)[:-1] == quick, "the other one goes on"
    until(lambda: house.state("digest") == "up")
    assert "its process ended with SIGKILL" in house.log()


@pytest.mark.slow
def test_nobody_is_left_when_the_parent_is_killed(house):
    process = house.start("up")
    until(lambda: house.state("digest") == "up")
    children = house.processes(process)
    process.kill()
    process.wait()
    until(lambda: not any(os.path.exists("/proc/%d" % child) for child in children), 6, "the end of the children")


@pytest.mark.slow
def test_a_service_that_hangs_cannot_hold_up_the_end(house):
    house.install("hanger", '"""Hangs."""\nimport time\n\n\ndef serve(settings, context):\n    context.ready()\n    time.sleep(60)\n',
                  manifest("hanger"))
    process = house.start("up")
    until(lambda: house.state("hanger") == "up")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(6) == 0 and time.monotonic() - started < 5
    assert not house.processes(process)


def test_systemd_is_told_and_its_sockets_are_taken(house):
    """NOTIFY_SOCKET and LISTEN_FDS, as systemd sets them."""
    told = str(house.home / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, socket.socket() as given:
        notified.bind(told)
        notified.settimeout(10)
        given.bind(("127.0.0.1", 0))
        given.listen()
        command = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        process = subprocess.Popen(["sh", "-c", command, "sh", *house.command("digest", "serve"), "--home", house.home],
                                   env=house.environment(NOTIFY_SOCKET=told), pass_fds=[3], cwd=house.root,
                                   preexec_fn=lambda: os.dup2(given.fileno(), 3), stderr=subprocess.PIPE, text=True)
        try:
            assert notified.recv(100) == b"READY=1"
            assert get(given.getsockname()[1])[0] == 200
            process.send_signal(signal.SIGTERM)
            assert notified.recv(100) == b"STOPPING=1"
            assert process.wait(5) == 0
        finally:
            process.kill()
            process.stderr.close()


@pytest.mark.slow
def test_two_thousand_idle_visitors_and_a_slow_one_do_not_hinder_a_new_one(house):
    wanted = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * wanted:
        pytest.skip("may not have %d descriptors" % (2 * wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * wanted), hard))
    house.start("up")
    port = house.ports["digest"]
    until(lambda: get(port))
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(wanted)]
    slow = socket.create_connection(("127.0.0.1", port))
    try:
        for one in idle:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for one in idle:
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        spent = []
        for byte in b"GET / HTTP/1.1\r\nHost: loc":
            slow.sendall(bytes([byte]))
            started = time.monotonic()
            assert get(port)[0] == 200
            spent.append(time.monotonic() - started)
        assert sorted(spent)[len(spent) // 2] < 0.25 and max(spent) < 2, spent
    finally:
        for one in [*idle, slow]:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_on_a_terminal_it_prints_a_table_and_what_to_type_next(house):
    reader, writer = pty.openpty()
    process = subprocess.Popen([*house.command("up"), "--home", house.home], stdin=writer, stdout=writer, stderr=writer,
                               env=house.environment(COLUMNS="80"), cwd=house.root, start_new_session=True)
    house.started.append(process)
    seen = ""
    end = time.monotonic() + 15
    while "penny rss add URL" not in seen and time.monotonic() < end:
        seen += os.read(reader, 4096).decode()
    assert "Read the digest at http://127.0.0.1:%d/" % house.ports["digest"] in seen
    assert re.search(r"rss +http://127.0.0.1:%d/ +up" % house.ports["rss"], seen)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    os.close(reader)
    os.close(writer)


def test_only_names_are_checked(house):
    ended = house.run("up", "--only", "")
    assert (ended.returncode, ended.stderr) == (2, "penny: --only: expected names of services, such as rss,digest\n")
    ended = house.run("up", "--only", "diggest")
    assert (ended.returncode, ended.stderr) == (2, "penny: --only diggest: there is no service diggest (did you mean digest?)\n")


@pytest.mark.slow
def test_an_edition_closes_at_its_hour(house):
    """The real process, in a clock that shows 04:59:55 on the day after its feed came."""
    publisher = Publisher()
    url = publisher.publish("/feed", rss("News", [("1", "Overnight", "Words.")]))
    close = 1_795_323_600  # 2026-11-22 05:00 UTC
    before = {"PENNY_CLOCK": "1@%f=%d" % (time.time(), close - 3600)}
    assert house.run("rss", "add", url, "--set", "private=allow", env=before).returncode == 0
    house.start("up", "--only", "digest", env={"PENNY_CLOCK": "1@%f=%d" % (time.time(), close - 3)})
    until(lambda: b"Draft: closes Sun 22 Nov 05:00" in get(house.ports["digest"])[2], 5)
    until(lambda: b"Closed Sun 22 Nov 05:00" in get(house.ports["digest"])[2], 10, "the closing")
    one = get(house.ports["digest"], "/editions/2026-11-22")
    assert b"Overnight" in one[2] and one[2] == get(house.ports["digest"], "/editions/2026-11-22")[2]
    status, _, body = get(house.ports["digest"], "/editions/2026-11-22", If_None_Match=one[1]["etag"])
    assert (status, body) == (304, b"")
    assert b"/editions/2026-11-22" in get(house.ports["digest"], "/editions")[2]
    assert get(house.ports["digest"], "/editions/..%2f..%2fetc")[0] in (400, 404)
    assert get(house.ports["digest"], "/editions/2001-01-01")[0] == 404
    assert get(house.ports["digest"], "/?format=exe")[0] == 400
    publisher.close()


@pytest.mark.slow
def test_a_signal_at_any_moment_of_the_start_ends_it_in_time(house):
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    for round in range(40):
        process = house.start("up", start_new_session=True)
        time.sleep(chooser.uniform(0.05, 0.6))
        started = time.monotonic()
        os.killpg(process.pid, chooser.choice([signal.SIGINT, signal.SIGTERM]))
        process.wait(6)
        assert time.monotonic() - started < 3, (seed, round)
    assert "did not stop in time" not in house.log(), seed


@pytest.mark.slow
def test_a_timed_service_that_fails_is_not_well(house):
    house.install("ticker", TICKER.replace("return 0", "return 1"), manifest("ticker", "every 60s"))
    house.start("up", env={"PENNY_CLOCK": "500@0=0"})
    until(lambda: house.state("ticker") in ("failed", "parked"), 15)
    assert "it ended with status 1" in house.log()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_privileges_are_dropped_for_good(house):
    house.python = "/usr/bin/python3"
    for folder in (house.home.parent, *house.home.parents[1:4]):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    (house.home / "etc" / "lab.ini").chmod(0o600)  # it may hold secrets: read while still root
    process = house.start("up")
    until(lambda: house.state("digest") == "up")
    for child in house.processes(process):
        with open("/proc/%d/status" % child) as file:
            uids = re.search(r"^Uid:\s+(.*)$", file.read(), re.M)[1].split()
        assert uids == [uids[0]] * 4 and uids[0] != "0"
    assert get(house.ports["digest"])[0] == 200
    assert house.run("digest").returncode == 0  # root and the service get along over the same store
