"""What is served of the clock, and by whose word: captured answers, broken ones, programs that hang, a real chronyd."""
from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from penny.core.errors import PennyError
from penny.ntp import kernel, source
from penny.ntp.source import DAY, SECOND, NoTime
from penny.wire import ntp_packet
from penny.wire.ntp_packet import UNSYNCHRONISED
from support import ROOT, until

FIXTURES = ROOT / "tests" / "fixtures" / "ntp"
CAPTURED = 1_795_410_200 * SECOND  # soon after the captures were made
STEER = {"time": CAPTURED / 1e9 - 100, "server": "192.0.2.1", "stratum": 2, "leap": 1, "root_delay": 0.02,
         "root_dispersion": 0.03, "offset": 0.001, "boot_id": "x"}


def captured(name):
    return (FIXTURES / name).read_text()


def settings(local=0):
    return SimpleNamespace(local=local)


# chronyd

def test_chrony():
    found = source.parse_chrony(captured("chrony-synchronised.csv"), CAPTURED)
    assert found.clock == ntp_packet.ClockState(
        0, 4, 0, 0.000009418, pytest.approx(0.000003925 + 0.000002262), bytes((10, 77, 0, 1)),
        pytest.approx(1795410099332352081, abs=1000), CAPTURED)
    assert found.origin == "chrony" and "10.77.0.1" in found.why["reference_id"]


def test_chrony_and_ipv6_have_one_reference_id():
    found = source.parse_chrony(captured("chrony-ipv6.csv"), CAPTURED)
    assert found.clock.reference_id == source.reference_id("fd77::1")


def test_chrony_s_own_local_mode():
    found = source.parse_chrony(captured("chrony-local.csv"), CAPTURED)
    assert (found.clock.stratum, found.clock.reference_id) == (3, source.LOCAL_ID)


@pytest.mark.parametrize("word, leap", [("Insert second", 1), ("Delete second", 2)])
def test_chrony_and_leap_seconds(word, leap):
    assert source.parse_chrony(captured("chrony-synchronised.csv").replace("Normal", word), CAPTURED).clock.leap == leap


@pytest.mark.parametrize("text, reason", [
    (captured("chrony-unsynchronised.csv"), "chronyd has not synchronised yet"),
    (captured("chrony-absent.csv"), "chronyc: 506 Cannot talk to daemon"),
    (captured("chrony-synchronised.csv").replace("10.77.0.1", "127.0.0.1"), "follows this box itself"),
    (captured("chrony-ipv6.csv").replace("fd77::1", "::1"), "follows this box itself"),
    ("", "chronyc: nothing"),
    ("\x1b]0;x\x07" * 50, r"chronyc: [^\x1b\x07]*$"),
    (captured("chrony-synchronised.csv").replace(",4,", ",16,"), "at stratum 16"),
    (captured("chrony-synchronised.csv").replace("0A4D0001", "0A4D00"), "nothing that is known"),
    (captured("chrony-synchronised.csv").replace("0.000009418", "nan"), "nothing that is known"),
    (captured("chrony-synchronised.csv").replace("0.000009418", "-1"), "nothing that is known"),
    (captured("chrony-synchronised.csv").replace("1795410099.332352081", "inf"), "nothing that is known")])
def test_chrony_says_nothing(text, reason):
    with pytest.raises(NoTime, match=reason):
        source.parse_chrony(text, CAPTURED)


# systemd-timesyncd

def test_timesyncd():
    found = source.parse_timesyncd(captured("timesyncd-ipv4.txt"), CAPTURED)
    # Out 28 us, back 12 us: 40 us of way, 8 us of offset.
    assert found.clock == ntp_packet.ClockState(0, 4, 0, pytest.approx(40e-6), pytest.approx(8e-6), bytes((10, 77, 0, 1)),
                                                1795410139438215000, 1795410139438215000)
    assert found.origin == "timesyncd" and "10.77.0.1" in found.why["reference_id"]


def test_timesyncd_by_ipv6():
    clock = source.parse_timesyncd(captured("timesyncd-ipv6.txt"), CAPTURED).clock
    assert clock.reference_id == source.reference_id("fd77::1") == bytes.fromhex("77a94bdf")
    assert clock.stratum == 3
    assert clock.root_delay == pytest.approx(0.005203 + 0.000287)
    assert clock.root_dispersion == pytest.approx(0.030319 + 0.0000605)


def test_jitter_counts():
    clock = source.parse_timesyncd(captured("timesyncd-ipv4.txt").replace("false 1 0", "false 8 1500"), CAPTURED).clock
    assert clock.root_dispersion == pytest.approx(0.001508)


@pytest.mark.parametrize("old, new, reason", [
    (") 0 4 4 3", ") 3 4 4 3", "not synchronised"), (") 0 4 4 3", ") 0 4 4 0", "not synchronised"),
    (") 0 4 4 3", ") 0 4 4 15", "stratum 16"), ("false 1 0", "false 0 0", "nothing"),
    ("(iay) 2 4 10 77 0 1", "(iay) 0 0", "nothing"),
    ("(uuuuitt", "(uuuuutt", "nothing"), ("10 77 0 1", "10 77 0 256", "nothing"), ("(iay) 2 4 10 77 0 1", "", "nothing"),
    ("1795410139438215", "1795310139438215", "not of this day"), ("1795410139438215", "1795510139438215", "not of this day")])
def test_timesyncd_says_nothing(old, new, reason):
    text = captured("timesyncd-ipv4.txt")
    assert old in text
    with pytest.raises(NoTime, match=reason):
        source.parse_timesyncd(text.replace(old, new), CAPTURED)


def test_timesyncd_is_not_asked_unless_it_has_set_the_clock(tmp_path, monkeypatch):
    """D-Bus would start it."""
    monkeypatch.setattr(source, "TIMESYNCD_SET", str(tmp_path / "no"))
    install(tmp_path, monkeypatch, "busctl", "touch %s/asked" % tmp_path)
    with pytest.raises(NoTime, match="has not set"):
        source._read_timesyncd(settings(), str(tmp_path), CAPTURED)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("read", [source._read_timesyncd, source._read_steer])
def test_the_kernel_s_verdict_counts(read, tmp_path, monkeypatch):
    now = time.time_ns()
    text = captured("timesyncd-ipv4.txt").replace("1795410139", str(now // SECOND))
    install(tmp_path, monkeypatch, "busctl", "echo '%s'" % text.strip())
    monkeypatch.setattr(source, "TIMESYNCD_SET", str(FIXTURES))
    (tmp_path / "steer.json").write_text(json.dumps({**STEER, "time": now / 1e9}))
    if kernel.read().synchronised:
        assert read(settings(), str(tmp_path), now + SECOND).clock.stratum > 1
    else:
        with pytest.raises(NoTime, match="the kernel calls its clock unsynchronised"):
            read(settings(), str(tmp_path), now + SECOND)


# Our own steering

def test_steer():
    found = source.parse_steer(json.dumps(STEER).encode(), CAPTURED)
    when = CAPTURED - 100 * SECOND
    assert found.clock == ntp_packet.ClockState(1, 3, 0, 0.02, 0.03, bytes((192, 0, 2, 1)), when, when)
    assert found.origin == "steer"
    link_local = json.dumps({**STEER, "server": "fe80::1%eth0"}).encode()
    assert source.parse_steer(link_local, CAPTURED).clock.reference_id == source.reference_id("fe80::1")


@pytest.mark.parametrize("change, reason", [
    ({"time": CAPTURED / 1e9 - 86_401}, "not of this day"), ({"time": CAPTURED / 1e9 + 10}, "not of this day"),
    ({"leap": 3}, "not synchronised"), ({"stratum": 15}, "stratum 16"), ({"stratum": -2}, "stratum -1"),
    ({"root_dispersion": float("nan")}, "nothing"), ({"root_delay": []}, "nothing"), ({"server": 7}, "nothing"),
    ({"server": "ntp.example.org"}, "nothing"), ({"stratum": "x"}, "nothing"), ({"time": 1e400}, "nothing")])
def test_steer_says_nothing(change, reason):
    with pytest.raises(NoTime, match=reason):
        source.parse_steer(json.dumps({**STEER, **change}).encode(), CAPTURED)


def test_steer_s_file(tmp_path):
    with pytest.raises(NoTime, match="has not run"):
        source._read_steer(settings(), str(tmp_path), CAPTURED)
    (tmp_path / "steer.json").write_bytes(b"[" * 100_000)
    with pytest.raises(NoTime, match="cannot read"):
        source._read_steer(settings(), str(tmp_path), CAPTURED)
    with pytest.raises(NoTime, match="nothing that is known"):
        source.parse_steer(b"[" * 50_000, CAPTURED)


# Hostile

@pytest.mark.parametrize("parse, name", [
    (source.parse_chrony, "chrony-synchronised.csv"), (source.parse_timesyncd, "timesyncd-ipv4.txt"), (source.parse_steer, "")])
def test_whatever_is_said_is_served_or_refused(parse, name):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    origin = captured(name) if name else json.dumps(STEER)
    served = 0
    for _ in range(4000):
        text = list(origin)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(text))
            text[place:place + rng.randint(0, 2)] = rng.choice(["", "9", "-", ",", " ", "e", "\n", "\0", "9" * 20, "nan", "["])
        words = "".join(text)
        try:
            state = parse(words if name else words.encode(), CAPTURED)
        except NoTime as error:
            assert str(error).isprintable()
        else:
            served += 1
            head = ntp_packet.header(state.clock, CAPTURED)
            assert len(head.rest) == 21 and set(state.why) >= {"leap", "stratum", "reference_id"}
    assert served


# The owner's word

def test_local():
    now = 1_800_000_000 * SECOND + 123
    clock = source.local_clock(10, 0.0, "x", now).clock
    assert (clock.leap, clock.stratum, clock.reference_id) == (0, 10, bytes((127, 127, 1, 1)))
    for later in range(0, 200, 7):
        clock = source.local_clock(10, 0.0, "x", now + later * SECOND).clock
        assert SECOND <= now + later * SECOND - clock.reference_time < 65 * SECOND
        assert clock.updated == clock.reference_time  # its dispersion grows from there
    assert source.local_clock(10, 0.0, "x", now + SECOND).clock == source.local_clock(10, 0.0, "x", now + 60 * SECOND).clock


def test_local_never_serves_a_time_before_the_floor(tmp_path):
    floor, of = source.time_floor(str(tmp_path))
    assert source.EARLIEST <= floor <= time.time()
    source.local_clock(10, floor, of, int(floor * 1e9))
    with pytest.raises(NoTime, match="before its time floor"):
        source.local_clock(10, floor, of, int(floor * 1e9) - SECOND)
    state = source.read_state(settings(10), str(tmp_path), 946_684_800 * SECOND)  # a dead battery: 2000-01-01
    assert state.origin != "local" and state.clock.leap == UNSYNCHRONISED or kernel.read().synchronised
    assert "2000-01-01T00:00:00Z" in state.why["leap"] or kernel.read().synchronised


def test_the_floor_is_kept_and_only_rises(tmp_path):
    served = source.local_clock(10, 0.0, "x", time.time_ns()).clock
    later = time.time_ns() + 10 * DAY
    source.renew_floor(str(tmp_path), served, later)
    assert source.time_floor(str(tmp_path / "ntp")) == (pytest.approx(later / 1e9), str(tmp_path / "ntp" / "floor"))
    for now in (later - 5 * DAY, later + DAY // 2):  # earlier; not yet a day
        source.renew_floor(str(tmp_path), served, now)
        assert source.time_floor(str(tmp_path / "ntp"))[0] == pytest.approx(later / 1e9)
    source.renew_floor(str(tmp_path), served._replace(leap=UNSYNCHRONISED), later + 2 * DAY)
    assert source.time_floor(str(tmp_path / "ntp"))[0] == pytest.approx(later / 1e9)
    source.renew_floor(str(tmp_path), served, later + 2 * DAY)
    assert source.time_floor(str(tmp_path / "ntp"))[0] == pytest.approx(later / 1e9 + 2 * 86_400)


def test_a_floor_that_cannot_be_kept_is_one_line(tmp_path):
    (tmp_path / "ntp").write_text("in the way")
    with pytest.raises(PennyError, match="cannot write .*floor: "):
        source.renew_floor(str(tmp_path), source.local_clock(10, 0.0, "x", CAPTURED).clock, time.time_ns() + 2 * DAY)


def test_the_floor_of_a_zipapp(tmp_path):
    subprocess.run([ROOT / "bin" / "build-pyz"], check=True, capture_output=True)
    archive = shutil.copy(ROOT / "dist" / "penny.pyz", tmp_path)
    os.utime(archive, (2e9, 2e9))
    found = subprocess.run([sys.executable, "-c", "from penny.ntp import source; print(source.time_floor('/none'))"],
                           check=True, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": archive})
    assert found.stdout == "(%s, %r)\n" % (2e9, archive)


# The kernel's word

def test_somebody():
    says = kernel.Kernel(1, True, -0.002, 0.0, 0.05, 0.001, 0, True, 37)
    clock = source.somebody(says, CAPTURED).clock
    assert clock == ntp_packet.ClockState(1, 15, 0, 0.0, pytest.approx(0.052), bytes((127, 0, 0, 1)),
                                          CAPTURED - 100 * SECOND, CAPTURED)


def test_the_latest_that_the_kernel_vouches_for_is_of_this_day():
    """At 16 s it stops, and ntpdate refuses a reference time that is older than a day."""
    clock = source.somebody(kernel.Kernel(0, True, 0.0, 0.0, 16.0, 0.0, 0, True, 0), CAPTURED).clock
    assert CAPTURED - clock.reference_time < DAY


# Order

def install(folder, monkeypatch, name, script):
    """A program of that name, found before any other."""
    (folder / name).write_text("#!/bin/sh\n%s\n" % script)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (folder, os.environ["PATH"]))


def test_chronyd_comes_first(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "chronyc", "[ \"$*\" = '-n -c tracking' ] && cat %s/chrony-synchronised.csv" % FIXTURES)
    state = source.read_state(settings(10), str(tmp_path), time.time_ns())
    assert (state.origin, state.clock.stratum) == ("chrony", 4)
    assert abs(state.clock.precision - kernel.precision()) <= 2 and state.why["precision"] == "measured"
    assert set(state.why) == set(ntp_packet.ClockState._fields) - {"updated"}


def test_local_comes_in_where_chronyd_knows_nothing(tmp_path, monkeypatch):
    """As in chrony: whoever follows a server says so, and the owner's word is for when nobody does."""
    install(tmp_path, monkeypatch, "chronyc", "cat %s/chrony-unsynchronised.csv" % FIXTURES)
    monkeypatch.setattr(source, "TIMESYNCD_SET", str(tmp_path / "no"))
    state = source.read_state(settings(10), str(tmp_path), time.time_ns())
    assert (state.origin, state.clock.stratum) == ("local", 10)
    assert set(state.why) == set(ntp_packet.ClockState._fields) - {"updated"}


def test_nobody(tmp_path, monkeypatch):
    if kernel.read().synchronised:
        pytest.skip("this box's clock is synchronised: nothing here can make it say otherwise")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(source, "TIMESYNCD_SET", str(tmp_path / "no"))
    state = source.read_state(settings(), str(tmp_path), time.time_ns())
    assert state.origin == "nobody"
    assert state.why["leap"] == ("chronyc is not installed; systemd-timesyncd has not set the clock; penny ntp steer has not "
                                 "run; local = 0; the kernel calls its clock unsynchronised")
    head = ntp_packet.header(state.clock, time.time_ns())
    assert (head.leap, head.stratum) == (UNSYNCHRONISED << 6, 0)


# Asking a program

def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("script, wanted", [
    ("echo hello", "hello\n"), ("sleep 60", ""), ("echo begun; exec sleep 60", "begun\n"), ("exec >&-; sleep 60", ""),
    ("sleep 60 & echo child", "child\n"), ("exec yes", None), ("exit 3", ""),
    ("while sleep 0.1; do echo drip; done", "drip\ndrip\n"), ("echo no >&2", ""), ("cat", "")])
def test_a_program_has_little_time_and_little_room(tmp_path, monkeypatch, capfd, script, wanted):
    monkeypatch.setattr(source, "SECONDS", 0.4)
    install(tmp_path, monkeypatch, "program", script)
    before, begun = open_descriptors(), time.monotonic()
    found = source.ask(("program",))
    assert time.monotonic() - begun < 2
    assert found.startswith(wanted) and len(found) < 30 if wanted else len(found) == (source.MOST if wanted is None else 0)
    assert capfd.readouterr() == ("", "")
    assert open_descriptors() == before
    with pytest.raises(ChildProcessError):  # nothing is left to wait for
        os.waitpid(-1, os.WNOHANG)


def test_a_program_that_cannot_be_run(tmp_path, monkeypatch):
    before = open_descriptors()
    with pytest.raises(NoTime, match="no-such-program is not installed"):
        source.ask(("no-such-program",))
    assert open_descriptors() == before


# A real chronyd

def start_chronyd(folder, namespace, *directives):
    name = folder / (namespace + ".sock")
    return subprocess.Popen(["ip", "netns", "exec", namespace, "chronyd", "-x", "-d", *directives, "user root",
                             "bindcmdaddress %s" % name, "pidfile %s.pid" % name],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def two_boxes():
    """Two network namespaces, 10.99.4.1 and 10.99.4.2."""
    missing = [name for name in ("chronyd", "chronyc", "ip") if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.skip("%s is missing: apt install chrony iproute2" % missing[0] if missing else
                    "only root may make network namespaces")
    names = ["pennysrc%d%d" % (os.getpid(), end) for end in (1, 2)]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    try:
        subprocess.run(["ip", "-n", names[0], "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", names[1]],
                       check=True)
        for end, name in enumerate(names, 1):
            subprocess.run(["ip", "-n", name, "addr", "add", "10.99.4.%d/24" % end, "dev", "v"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "v", "up"], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


# What we say of the clock, and what chronyd itself answers at that moment.
BESIDE = """
import json, socket, time
from types import SimpleNamespace
from penny.ntp import source
from penny.wire import ntp_packet
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(2)
asked.connect(("127.0.0.1", 123))
def chronyd():
    asked.send(ntp_packet.request(7))
    return ntp_packet.parse_reply(asked.recv(100), 7)
try:
    theirs = chronyd()
except OSError:
    theirs = None
state = source.read_state(SimpleNamespace(local=0), "/none", time.time_ns())
now = time.time_ns()
ours = ntp_packet.parse_reply(ntp_packet.answer(ntp_packet.request(7), now, now, ntp_packet.header(state.clock, now)), 7)
print(json.dumps([state.origin] + [[one.leap, one.stratum, one.reference_id.hex(), one.root_delay, one.root_dispersion,
                                    one.reference_time / 2 ** 32] for one in (ours, theirs) if one]))
"""


@pytest.mark.slow
def test_beside_a_real_chronyd(two_boxes, tmp_path):
    """What it answers its clients, we say."""
    far, near = two_boxes

    def look():
        found = subprocess.run(["ip", "netns", "exec", near, sys.executable, "-c", BESIDE], check=True, capture_output=True,
                               text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return json.loads(found.stdout)
    started = [start_chronyd(tmp_path, far, "local stratum 5", "allow all"),
               start_chronyd(tmp_path, near, "server 10.99.4.1 iburst minpoll 0 maxpoll 0", "allow all")]
    try:
        until(lambda: look()[0] == "chrony", 20, "chronyd's word")
        time.sleep(2)
        _, ours, theirs = look()
        assert ours[:3] == [0, 6, "0a630401"] == theirs[:3]
        assert ours[3] == pytest.approx(theirs[3], abs=1e-4)
        assert 0 <= ours[4] - theirs[4] < 1e-3
        started[0].terminate()
        started[0].wait()
        time.sleep(4)
        _, later, theirs = look()
        # Nobody answers chronyd: it knows less by and by, and so do we.
        assert later[:3] == theirs[:3] and later[4] > ours[4] and 0 <= later[4] - theirs[4] < 1e-3
        assert later[5] == pytest.approx(theirs[5], abs=1e-5)
        started[1].terminate()
        started[1].wait()
        assert look()[0] != "chrony"
    finally:
        for one in started:
            one.kill()
            one.wait()
