from __future__ import annotations

import json
import os
import stat
import time
from types import SimpleNamespace

import pytest

from penny.core.errors import PennyError, UsageError
from penny.ntp import source, steer
from penny.ntp.steer import LEAVE, SET, SLEW, State, announced, decide, find_discipliner
from support import context
from test_ntp_query import timekeeper  # noqa: F401  (a fixture)

NOW, FLOOR = 1_800_000_000.0, 1_795_000_000.0


@pytest.mark.parametrize("offset, first, forced, now, what", [
    (0.0, True, False, NOW, SLEW), (0.128, True, True, NOW, SLEW), (-0.128, True, False, NOW, SLEW),
    (0.129, True, False, NOW, SET), (-0.129, True, False, NOW, SET), (0.129, False, False, NOW, SLEW),
    (0.129, False, True, NOW, SET), (-999.0, True, False, NOW, SET), (999.0, False, False, NOW, SLEW),
    (1001.0, True, False, NOW, LEAVE), (-1001.0, False, False, NOW, LEAVE), (1001.0, False, True, NOW, SET),
    (1e9, True, False, FLOOR - 1, SET), (1e9, False, False, FLOOR - 1, SET), (1e9, True, False, FLOOR, LEAVE),
])
def test_what_is_done_about_a_clock(offset, first, forced, now, what):
    found, why = decide(offset, first, forced, now, FLOOR)
    assert found == what and bool(why) == (what == LEAVE)


@pytest.mark.parametrize("leaps, leap", [([0, 0, 0], 0), ([1, 1, 0], 1), ([1, 0, 0], 0), ([1, 1, 0, 0], 0), ([2, 2, 2], 2),
                                         ([1, 2], 0), ([1], 1), ([1, 1, 2], 1)])
def test_a_leap_second_is_believed_if_a_majority_announces_it(leaps, leap):
    assert announced(leaps) == leap


@pytest.fixture
def proc(tmp_path):
    """A tree like /proc, of a box on which nothing disciplines the clock; a function that starts a process in it."""
    root = tmp_path / "proc"

    def start(pid, comm, *words):
        (root / str(pid)).mkdir(parents=True)
        (root / str(pid) / "comm").write_text(comm + "\n")
        (root / str(pid) / "cmdline").write_text("".join(word + "\0" for word in words))
    start.root = str(root)
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text("boot-1\n")
    (root / "self").mkdir()
    start(1, "systemd", "/sbin/init")
    start(2, "kthreadd")
    return start


@pytest.mark.parametrize("comm, words, name", [
    ("chronyd", ["/usr/sbin/chronyd", "-F", "1"], "chronyd"), ("ntpd", ["/usr/sbin/ntpd", "-g"], "ntpd"),
    ("systemd-timesyn", ["/lib/systemd/systemd-timesyncd"], "systemd-timesyncd"),
    ("busybox", ["busybox", "ntpd", "-p", "x"], "ntpd"),
    ("ntp-daemon", ["ntp-daemon"], "ntp-daemon"), ("openntpd", ["openntpd"], "openntpd"),
    ("chronyd", ["chronyd", "-x", "-d"], None), ("chronyd", ["chronyd", "-Q"], None),
    ("chronyd", [], None), ("bash", ["bash", "ntpd"], None),
    ("ntpdig", ["ntpdig"], None),
])
def test_other_daemons_are_found(proc, comm, words, name):
    assert find_discipliner(proc.root) is None
    proc(812, comm, *words)
    assert find_discipliner(proc.root) == ((name, 812) if name else None)


def test_a_process_that_ends_meanwhile_is_passed_over(proc):
    proc(300, "ntpd", "ntpd")
    os.unlink(proc.root + "/300/cmdline")
    assert find_discipliner(proc.root) is None


def test_this_box_can_be_read():
    find_discipliner("/proc")


class Box:
    """A box that is steered: what would be done to its clock is written down, and nothing is done."""

    def __init__(self, tmp_path, proc, capsys):
        self.state_dir, self.proc, self.capsys = tmp_path / "var", proc.root, capsys
        self.path = self.state_dir / "ntp" / "steer.json"
        self.done, self.out, self.permitted = [], "", True

    def effect(self, name):
        def act(*words):
            if not self.permitted:
                raise PennyError("cannot %s the kernel's clock: not permitted" % name)
            self.done.append((name, *words))
        return act

    def steer(self, *servers, dry_run=False, step=False, settings=()):
        """Exit code of a run; what it did is in `done`, what it said in `out`."""
        self.done, self.out = [], ""
        options = SimpleNamespace(hosts=[one.name for one in servers], dry_run=dry_run, step=step)
        told = SimpleNamespace(servers=tuple(one.name for one in settings))
        code = steer.steer(told, context(self.state_dir), options, self.proc, self.effect("set"), self.effect("correct"))
        self.out = self.capsys.readouterr().out
        return code

    def state(self):
        return json.loads(self.path.read_text())


@pytest.fixture
def box(tmp_path, proc, capsys):
    return Box(tmp_path, proc, capsys)


def test_a_clock_that_is_near_is_slewed(box, timekeeper):  # noqa: F811
    servers = [timekeeper(0.05, leap=1) for _ in range(3)]
    assert box.steer(*servers) == 0
    (name, offset, max_error, error, constant, leap), = box.done
    assert name == "correct" and abs(offset - 0.05) < 0.02 and leap == 1 and constant == 4
    assert max_error >= 0.05 and 0 < error < max_error
    state = box.state()
    assert abs(state["time"] - time.time()) < 10 and state["server"] == "127.0.0.1" and state["stratum"] == 2
    assert state["leap"] == 1 and state["offset"] == offset and state["boot_id"] == "boot-1"
    assert "3 of 3 servers agree. To do: slew it." in box.out


def test_it_is_set_at_the_first_run_only(box, timekeeper, proc):  # noqa: F811
    servers = [timekeeper(0.3) for _ in range(3)]
    assert box.steer(*servers) == 0
    assert [one[0] for one in box.done] == ["set"] and abs(box.done[0][1] - 0.3) < 0.02
    assert box.state()["offset"] == 0.0  # nothing is left of it
    assert box.steer(*servers) == 0
    assert [one[0] for one in box.done] == ["correct"] and abs(box.state()["offset"] - 0.3) < 0.02
    assert box.steer(*servers, step=True) == 0 and box.done[0][0] == "set"
    # The box is started anew.
    with open(proc.root + "/sys/kernel/random/boot_id", "w") as file:
        file.write("boot-2\n")
    assert box.steer(*servers) == 0 and box.done[0][0] == "set"


@pytest.mark.parametrize("offset", [0.05, 0.3])
def test_what_is_written_is_what_the_server_makes_of_it(box, timekeeper, offset, monkeypatch):  # noqa: F811
    """Its root distance covers what the clock still lacks."""
    monkeypatch.setattr(source, "kernel_says", lambda: None)
    assert box.steer(*[timekeeper(offset) for _ in range(3)]) == 0
    found = source.parse_steer(box.path.read_bytes(), time.time_ns())
    remaining = offset if box.done[0][0] == "correct" else 0.0
    assert found.clock.stratum == 3 and found.clock.reference_id == b"\x7f\0\0\1"
    assert remaining <= found.clock.root_delay / 2 + found.clock.root_dispersion < remaining + 0.1


def test_the_dispersion_is_never_less_than_the_bound_of_the_majority():
    from penny.ntp import query, selection
    from test_ntp_selection import peer
    peers = {"exact": peer(0.0, 0.002), "vague": peer(0.04, 0.05)}
    found = query.Survey([query.Heard(name, "192.0.2.1", one, "") for name, one in peers.items()], selection.choose(peers, 2))
    state = steer.record(found, 0.0, "")
    assert state.root_delay / 2 + state.root_dispersion >= found.choice.bound - 1e-9
    peers = {"a": peer(0.0, 0.002), "b": peer(0.0, 0.05), "c": peer(0.03, 0.05)}
    found = query.Survey([query.Heard(name, "192.0.2.1", one, "") for name, one in peers.items()], selection.choose(peers, 3))
    state = steer.record(found, 0.0, "")
    assert found.choice.bound > 0.03 and state.root_delay / 2 + state.root_dispersion >= found.choice.bound - 1e-9


def test_over_a_thousand_seconds_only_when_told(box, timekeeper):  # noqa: F811
    servers = [timekeeper(2000.0) for _ in range(3)]
    with pytest.raises(PennyError, match="cannot correct the clock by 2000 s: .*--step"):
        box.steer(*servers)
    assert not box.done and not box.path.exists()
    assert box.steer(*servers, step=True) == 0 and box.done[0][0] == "set"


def test_a_clock_before_the_floor_is_set(box, timekeeper):  # noqa: F811
    """As with an empty battery; here the floor is moved instead of the clock."""
    (box.state_dir / "ntp").mkdir(parents=True)
    floor = box.state_dir / "ntp" / "floor"
    floor.touch()
    os.utime(floor, (time.time() + 86400, time.time() + 86400))
    assert box.steer(*[timekeeper(90_000.0) for _ in range(3)]) == 0
    assert box.done[0][0] == "set" and abs(box.done[0][1] - 90_000) < 0.1


def test_without_a_majority_nothing_is_touched(box, timekeeper):  # noqa: F811
    with pytest.raises(PennyError, match="cannot steer the clock: no majority"):
        box.steer(timekeeper(), timekeeper(1.0))
    assert not box.done and not box.path.exists()
    assert box.capsys.readouterr().err.count("is rejected: no majority of 2 servers agrees on one time") == 2


def test_a_liar_does_not_move_the_clock(box, timekeeper):  # noqa: F811
    assert box.steer(timekeeper(), timekeeper(), timekeeper(0.5)) == 0
    assert box.done[0][0] == "correct" and abs(box.done[0][1]) < 0.02


def test_a_dry_run_touches_nothing(box, timekeeper):  # noqa: F811
    assert box.steer(timekeeper(0.3), dry_run=True) == 0
    assert not box.done and not box.path.exists() and "To do: set it." in box.out


def test_without_permission_it_is_said_on_one_line(box, timekeeper, monkeypatch):  # noqa: F811
    box.permitted = False
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PennyError, match="^cannot correct the kernel's clock: not permitted; run it as root$"):
        box.steer(timekeeper(0.01))
    assert not box.path.exists() and "To do: slew it." in box.capsys.readouterr().out


def test_it_keeps_out_of_the_way_of_another_daemon(box, timekeeper, proc):  # noqa: F811
    proc(812, "chronyd", "/usr/sbin/chronyd")
    server = timekeeper()
    with pytest.raises(PennyError, match=r"cannot steer the clock: chronyd \(process 812\) does; leave it to that, or stop"):
        box.steer(server, dry_run=True)
    assert not server.asked


def test_the_servers_of_the_settings(box, timekeeper):  # noqa: F811
    server = timekeeper(0.01)
    assert box.steer(settings=[server]) == 0 and server.asked
    with pytest.raises(UsageError):
        box.steer()


def test_as_a_command(penny, timekeeper):  # noqa: F811
    """A dry run, since this box's own clock is not to be touched."""
    if find_discipliner("/proc"):
        pytest.skip("%s (process %d) disciplines the clock here" % find_discipliner("/proc"))
    servers = [timekeeper(0.3).name for _ in range(3)]
    done = penny.run("ntp", "steer", "--dry-run", *servers)
    assert done.returncode == 0 and "3 of 3 servers agree. To do: set it." in done.stdout, done.stderr
    done = penny.run("ntp", "steer", "--dry-run", *servers[:1], timekeeper().name)
    assert done.returncode == 1 and "penny: cannot steer the clock: no majority of the servers agrees" in done.stderr
    assert not (penny.home / "var" / "ntp").exists()


def state(**fields):
    return State(NOW, "192.0.2.1", 2, 0.01, 0.02, 0.0, 0, "boot-1")._replace(**fields)


def test_state_is_written_in_one_step_and_read_again(tmp_path):
    path = str(tmp_path / "var" / "ntp" / "steer.json")
    assert steer.read_state(path) is None
    before = os.umask(0o077)
    try:
        steer.write_state(path, state())
        steer.write_state(path, state(leap=1))
    finally:
        os.umask(before)
    assert steer.read_state(path) == state(leap=1)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644  # read by a server that is not root
    assert os.listdir(os.path.dirname(path)) == ["steer.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"time": 1}', b"\xff\xfe", b"null", b'"x"'])
def test_a_state_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "steer.json").write_bytes(content)
    assert steer.read_state(str(tmp_path / "steer.json")) is None


def test_root_follows_no_link_that_was_put_there(tmp_path):
    """The folder belongs to the user of the server, who must not write what root alone may."""
    path, victim = tmp_path / "var" / "ntp" / "steer.json", tmp_path / "victim"
    victim.write_text("mine")
    path.parent.mkdir(parents=True)
    for name in ("steer.json", "steer.json.new"):
        (path.parent / name).symlink_to(victim)
    steer.write_state(str(path), state())
    assert victim.read_text() == "mine" and not path.is_symlink() and steer.read_state(str(path)) == state()


def test_nor_one_that_is_put_there_at_the_last_moment(tmp_path, monkeypatch):
    path, victim = tmp_path / "var" / "ntp" / "steer.json", tmp_path / "victim"
    victim.write_text("mine")
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(os, "unlink", lambda name: os.symlink(victim, name))
    with pytest.raises(PennyError, match="file exists"):
        steer.write_state(str(path), state())
    assert victim.read_text() == "mine"


def test_a_state_that_cannot_be_written_is_said_on_one_line(tmp_path):
    path = tmp_path / "var" / "ntp" / "steer.json"
    path.mkdir(parents=True)
    with pytest.raises(PennyError, match="^cannot write .*steer.json: is a directory"):
        steer.write_state(str(path), state())
