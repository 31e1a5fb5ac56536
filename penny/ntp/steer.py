"""Keeping this box's clock right: one look at the servers, and one correction. A root-timed unit runs it every INTERVAL.

The rules it keeps. It touches nothing where another daemon disciplines the clock, and nothing without a strict majority of
the servers. A clock that is near is slewed by the kernel's own loop, which goes on when this process has ended. It is set,
at once, only the first time since the box started, when nothing relies on it yet, or when the owner says so; and by more
than PANIC only when the owner says so, or when it shows a time before this penny was made, as with an empty battery.

What it knows is written to STATE/ntp/steer.json, for the server: whose time this is, and how good.

Deliberately left out: a drift file. The kernel's loop finds the clock's frequency anew after each start.

Sources: RFC 5905 sections 11.3 (128 ms), 11.2.3 and appendix A.5.5.4; systemd-timesyncd (the loop).
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Callable, Iterator, NamedTuple, Sequence

from penny.core import privileges, run
from penny.core.errors import PennyError, UsageError, one_line
from penny.core.run import Context
from penny.ntp import kernel, query, source
from penny.ntp.selection import shown

INTERVAL = 256  # seconds from one run to the next, about
TIME_CONSTANT = INTERVAL.bit_length() - 5  # of the kernel's loop, log2 of its seconds less 4
STEP = 0.128  # seconds; more than that is not slewed at the start
PANIC = 1000.0  # seconds that a clock which was once right does not lose
DISCIPLINERS = ("chronyd", "ntpd", "openntpd", "ntp-daemon", "systemd-timesyn", "phc2sys")  # 15 letters, as the kernel has them

SLEW, SET, LEAVE = "slew", "set", "leave"
Effect = Callable[..., object]


class State(NamedTuple):
    """What the last run found and did; STATE/ntp/steer.json. Spans are seconds."""

    time: float  # Unix seconds
    server: str  # address of the most exact server
    stratum: int  # of that server
    root_delay: float  # with the way to that server
    root_dispersion: float  # of this clock at `time`, with all that it still lacked
    offset: float  # what it still lacked
    leap: int
    boot_id: str


def decide(offset: float, first: bool, forced: bool, now: float, floor: float) -> tuple[str, str]:
    """What to do about a clock that lacks so many seconds: SLEW, SET or LEAVE, and the reason of the latter. `first` is
    whether it was not corrected since the box started, `floor` a time (Unix seconds) that has certainly passed."""
    if abs(offset) <= STEP:
        return SLEW, ""
    if abs(offset) > PANIC and now >= floor and not forced:
        return LEAVE, "that is over %g s; if it is right, penny ntp steer --step" % PANIC
    return (SET if first or forced or abs(offset) > PANIC else SLEW), ""


def announced(leaps: Sequence[int]) -> int:
    """The leap second that a majority of the servers announces: 1, 2, or 0 for none."""
    return next((leap for leap in (1, 2) if leaps.count(leap) > len(leaps) // 2), 0)


def find_discipliner(proc: str) -> tuple[str, int] | None:
    """Name and process id of a running daemon that disciplines the clock, from a tree like /proc.

    One in a container or on a host whose processes are not seen from here is not found."""
    for pid, comm, words in _processes(proc):
        name = words[1] if comm == "busybox" and len(words) > 1 else comm
        # chronyd -x serves a clock and leaves it alone, and -Q only asks.
        if name in DISCIPLINERS and not (name == "chronyd" and {"-x", "-Q"} & set(words)):
            return {"systemd-timesyn": "systemd-timesyncd"}.get(name, name), pid
    return None


def _processes(proc: str) -> Iterator[tuple[int, str, list[str]]]:
    """Process id, name and command line of each process; the kernel's own and dead ones have no command line."""
    for entry in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        try:
            comm, command = (_read(os.path.join(proc, entry, name)) for name in ("comm", "cmdline"))
        except OSError:
            continue  # it has ended
        if command:
            yield int(entry), comm.rstrip("\n"), command.split("\0")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_state(path: str) -> State | None:
    """What the last run wrote, None where that cannot be read."""
    try:
        return State(**json.loads(_read(path)))
    except (OSError, ValueError, TypeError):
        return None


def write_state(path: str, state: State) -> None:
    """In one step, so that the server reads one state or the other. Raises PennyError."""
    folder = os.path.dirname(path)
    privileges.make_state_dir(os.path.dirname(folder))
    try:
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o755)
            if os.geteuid() == 0:
                owner = os.stat(os.path.dirname(folder))
                os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".new")
        # Root writes into a folder that is not root's: O_EXCL follows no link that was put there.
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever root's umask is, the server reads it
            file.write(json.dumps(state._asdict()) + "\n")
        os.replace(path + ".new", path)
    except OSError as error:
        raise PennyError("cannot write %s: %s" % (path, one_line(error))) from error


def steer(settings: SimpleNamespace, context: Context, options: argparse.Namespace, proc: str = "/proc",
          set_clock: Effect = kernel.step, slew_clock: Effect = kernel.discipline) -> int:
    """The verb: ask, decide, show, and correct."""
    other = find_discipliner(proc)
    if other:
        raise PennyError("cannot steer the clock: %s (process %d) does; leave it to that, or stop its service for good" % other)
    hosts = options.hosts or settings.servers
    if not hosts:
        raise UsageError("cannot steer the clock: no server is set (penny ntp steer HOST, or servers in lab.ini)")
    folder = os.path.join(context.state_dir, "ntp")
    floor, _ = source.time_floor(folder)
    found = query.survey(hosts, floor, context.stop)
    choice = found.choice
    if choice.offset is None:
        sys.stderr.write(query.reasons(found))
        raise PennyError("cannot steer the clock: " + query.NO_MAJORITY)
    path, boot_id = os.path.join(folder, source.STEERED), _read(os.path.join(proc, "sys/kernel/random/boot_id")).strip()
    last = read_state(path)
    what, why = decide(choice.offset, last is None or last.boot_id != boot_id, options.step, time.time(), floor)
    if what == LEAVE:
        raise PennyError("cannot correct the clock by %s: %s" % (shown(choice.offset), why))
    print(query.summary(found), "To do: %s it." % what, flush=True)
    if not options.dry_run:
        state = record(found, 0.0 if what == SET else choice.offset, boot_id)
        correct(what, choice.offset, state, set_clock, slew_clock)
        write_state(path, state._replace(time=time.time()))
    return run.DONE


def record(found: query.Survey, remaining: float, boot_id: str) -> State:
    """What is known of a clock that follows these servers and has still to be corrected by so much.

    The truth is within the bound that the majority gives, even if the most exact server should lie."""
    believed = {one.host: one for one in found.heard if one.host in found.choice.selected}
    best = believed[found.choice.selected[0]]
    peer = best.peer
    return State(time.time(), best.address, peer.reply.stratum, peer.root_delay,
                 abs(remaining) + max(peer.root_dispersion, found.choice.bound - peer.root_delay / 2), remaining,
                 announced([one.peer.reply.leap for one in believed.values()]), boot_id)


def correct(what: str, offset: float, state: State, set_clock: Effect, slew_clock: Effect) -> None:
    """Have the kernel set or slew its clock. Raises PennyError."""
    errors = state.root_delay / 2 + state.root_dispersion, state.root_dispersion  # the largest, and the likely one
    try:
        if what == SET:
            set_clock(offset, *errors, state.leap)
        else:
            slew_clock(offset, *errors, TIME_CONSTANT, state.leap)
    except PennyError as reason:
        raise PennyError("%s%s" % (reason, "" if os.geteuid() == 0 else "; run it as root")) from reason
