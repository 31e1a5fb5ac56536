"""What may be said of this box's clock, and by whose word: chronyd's, systemd-timesyncd's, our own steering's, the owner's,
the kernel's, in that order; else that nothing is known.

    chrony      chronyd disciplines the clock, and says how far it is from a reference clock. It is asked by chronyc.
    timesyncd   systemd-timesyncd follows one server and keeps the last answer of it. It is asked over D-Bus by busctl, which
                shows numbers; timedatectl shows the same, rounded, in the words and the time zone of the box.
    steer       penny ntp steer wrote down whom it followed.
    local       nobody disciplines the clock, and the owner says that it is to be served all the same (`local`), as chrony's
                local mode: stratum by setting, reference 127.127.1.1, the reference time some seconds ago. Its dispersion
                is that of the lab's own time scale, which this clock is.
    kernel      somebody disciplines the clock, and does not say whom he follows. Since a loop could not be seen, the stratum
                is 15: a client may take it, and nobody who serves others can hand it on. The reference is 127.0.0.1, as
                that of an orphaned ntpd. The kernel's own bound of the error is the dispersion; it grows by 500 ppm, and
                the reference time is the earliest at which it can have been 0.

What the kernel calls unsynchronised is served as such by timesyncd's word and by steering's. chronyd's counts all the
same, since it tells the kernel only if `rtcsync` is set, and so does the owner's. Time before the time floor is never
served by the owner's word: that is a clock whose battery is dead.

Every parser is pure and raises NoTime with its reason. Programs are asked for SECONDS at most. Left out: asking ntpd (ntpq)
and OpenNTPD (ntpctl), which count as `kernel`.

Sources: chronyc(1), tracking; systemd, src/timesync/timesyncd-bus.c; RFC 5905 sections 7.3, 11.2.3 (what adds up to a root
dispersion).
"""
from __future__ import annotations

import os
import select
import signal
import socket
import time
from types import SimpleNamespace
from typing import NamedTuple

import penny
from penny.core import files
from penny.core.clock import rfc3339
from penny.core.errors import PennyError, one_line, printable
from penny.ntp import kernel
from penny.wire.ntp_packet import MAX_STRATUM, UNSYNCHRONISED, ClockState

SECONDS = 2.0  # that a program may take to answer
MOST = 65_536  # bytes of an answer, or of a file
SECOND, DAY = 1_000_000_000, 86_400_000_000_000  # nanoseconds
EARLIEST = 1_795_392_000  # 2026-11-23: this code is no older
LOCAL_ID, UNKNOWN_ID = bytes((127, 127, 1, 1)), bytes((127, 0, 0, 1))
LOCAL_INTERVAL = 64 * SECOND  # between two reference times of a local clock, as in chrony
STEERED = "steer.json"

CHRONY = ("chronyc", "-n", "-c", "tracking")
OURSELVES = ("127.0.0.1", "::1")
CHRONY_LEAPS = {"Normal": 0, "Insert second": 1, "Delete second": 2}
TIMESYNCD_SET = "/run/systemd/timesync/synchronized"  # is there from its first correction until it stops
TIMESYNCD = ("busctl", "get-property", "org.freedesktop.timesync1", "/org/freedesktop/timesync1",
             "org.freedesktop.timesync1.Manager", "NTPMessage", "ServerAddress")


class NoTime(PennyError):
    """A source that says nothing of the clock that could be served; the message says why."""


class State(NamedTuple):
    """What is served of the clock, by whose word (one word), and by field where its value comes from."""

    clock: ClockState
    origin: str
    why: dict[str, str]


def read_state(settings: SimpleNamespace, state_dir: str, now: int) -> State:
    """The first source that knows something; `now` is Unix nanoseconds."""
    folder, reasons = os.path.join(state_dir, "ntp"), []
    for read in (_read_chrony, _read_timesyncd, _read_steer, _read_local, _read_kernel):
        try:
            found = read(settings, folder, now)
            break
        except NoTime as error:
            reasons.append(str(error))
    else:
        found = unsynchronised("; ".join(dict.fromkeys(reasons)), now)
    return found._replace(clock=found.clock._replace(precision=kernel.precision()),
                          why={**found.why, "precision": "measured"})


def unsynchronised(reason: str, now: int) -> State:
    clock = ClockState(UNSYNCHRONISED, 0, kernel.COARSEST, 0.0, 16.0, bytes(4), 0, now)
    return State(clock, "nobody", dict.fromkeys(ClockState._fields[:-1], "nobody vouches for the clock") | {"leap": reason})


# chronyd

def _read_chrony(settings: SimpleNamespace, folder: str, now: int) -> State:
    return parse_chrony(ask(CHRONY), now)


def parse_chrony(text: str, now: int) -> State:
    """One line of 14 values: reference id and address, stratum, reference time, how far the clock is ahead of what chronyd
    serves, (last and mean offset, frequency, residual frequency, skew), root delay, root dispersion as of now, (interval),
    leap. The stratum is that of this box. How far the clock is ahead counts as dispersion: chronyd corrects what it
    serves by it, we serve the clock as it is."""
    words = text.strip().split(",")
    if len(words) != 14:
        raise NoTime("chronyc: " + (printable(text.strip()[:60]) or "nothing"))  # such as 506 Cannot talk to daemon
    leap = CHRONY_LEAPS.get(words[13])
    if leap is None:
        raise NoTime("chronyd has not synchronised yet")
    if words[1] in OURSELVES:
        raise NoTime("chronyd follows this box itself")  # and would be followed by us
    try:
        clock = ClockState(leap, int(words[2]), 0, float(words[10]), float(words[11]) + abs(float(words[4])),
                           bytes.fromhex(words[0]), int(float(words[3]) * 1e9), now)
    except (ValueError, OverflowError):
        raise NoTime("chronyc says nothing that is known") from None
    return _checked(State(clock, "chrony", {
        "leap": "chronyd: " + words[13], "stratum": "chronyd's own", "root_delay": "chronyd's own",
        "root_dispersion": "chronyd's own, and %.6f s that it still corrects" % abs(float(words[4])),
        "reference_id": "chronyd follows " + (words[1] or "nobody"), "reference_time": "chronyd's last update"}))


# Servers that somebody else follows

def _read_timesyncd(settings: SimpleNamespace, folder: str, now: int) -> State:
    # Only where it runs: D-Bus would start it.
    if not os.path.exists(TIMESYNCD_SET):
        raise NoTime("systemd-timesyncd has not set the clock")
    kernel_says()
    return parse_timesyncd(ask(TIMESYNCD), now)


def parse_timesyncd(text: str, now: int) -> State:
    """Two lines, each a D-Bus signature and its values: the server's last answer and the server's address.

        (uuuuittayttttbtt)  leap, version, mode, stratum, precision; root delay and dispersion (us); 4 bytes of reference id,
                            after their number; origin, receive, transmit, destination (us since 1970); whether it was
                            ignored, how many came, jitter (us)
        (iay)               address family, number of bytes, the bytes
    """
    lines = [line.split() for line in text.splitlines()]
    try:
        form, leap, _, _, stratum, _, delay, dispersion, *_, origin, receive, transmit, destination, _, count, jitter = lines[0]
        address_form, family, _, *address = lines[1]
        if form != "(uuuuittayttttbtt)" or address_form != "(iay)" or int(count) == 0:
            raise ValueError
        out, back = int(receive) - int(origin), int(destination) - int(transmit)
        server = socket.inet_ntop(int(family), bytes(map(int, address)))
        return _following("timesyncd", Followed(
            int(leap), int(stratum), server, (int(delay) + max(0, out + back)) / 1e6,
            (int(dispersion) + int(jitter) + abs(out - back) / 2) / 1e6, int(destination) * 1000), now)
    except (ValueError, IndexError, OverflowError, OSError):
        raise NoTime("systemd-timesyncd says nothing that is known") from None


def _read_steer(settings: SimpleNamespace, folder: str, now: int) -> State:
    path = os.path.join(folder, STEERED)
    try:
        with open(path, "rb") as file:
            text = files.read_at_most(file, MOST)
    except FileNotFoundError:
        raise NoTime("penny ntp steer has not run") from None
    except (OSError, ValueError) as error:
        raise NoTime("cannot read %s: %s" % (path, one_line(error))) from None
    kernel_says()
    return parse_steer(text, now)


def parse_steer(text: bytes, now: int) -> State:
    """What penny ntp steer wrote: {"time": Unix seconds, "server": address, "stratum", "leap": the server's, "root_delay",
    "root_dispersion": of this clock at that time}, and more that is for its own use. Spans are seconds."""
    import json  # for who steers alone
    try:
        said = json.loads(text)
        followed = Followed(int(said["leap"]), int(said["stratum"]), str(said["server"]), float(said["root_delay"]),
                            float(said["root_dispersion"]), int(said["time"] * 1e9))
        return _following("steer", followed, now)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OSError):
        raise NoTime("%s says nothing that is known" % STEERED) from None


class Followed(NamedTuple):
    """The server that sets the clock, and how it was when it answered."""

    leap: int
    stratum: int
    address: str
    root_delay: float  # its own, and that of the way to it
    root_dispersion: float  # its own, and what this clock may lack
    when: int


def _following(origin: str, server: Followed, now: int) -> State:
    if server.leap not in (0, 1, 2) or server.stratum == 0:
        raise NoTime("the server of %s is not synchronised" % origin)
    if not now - DAY < server.when <= now + SECOND:
        raise NoTime("the last answer that %s had is not of this day" % origin)
    clock = ClockState(server.leap, server.stratum + 1, 0, server.root_delay, server.root_dispersion,
                       reference_id(server.address), server.when, server.when)
    return _checked(State(clock, origin, {
        "leap": "the server's", "stratum": "the server's %d, and 1" % server.stratum,
        "root_delay": "the server's, and the way to it", "root_dispersion": "the server's, and its offset; grows by 15 ppm",
        "reference_id": "%s follows %s" % (origin, server.address), "reference_time": "the last answer"}))


def reference_id(address: str) -> bytes:
    """An IPv4 address, or the first bytes of the MD5 of an IPv6 one (RFC 5905 7.3). Raises OSError for anything else."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    import hashlib  # 0.4 MB or more, for these alone
    return hashlib.md5(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]), usedforsecurity=False).digest()[:4]


def _checked(found: State) -> State:
    """Numbers that somebody else printed. Raises NoTime where they cannot be served."""
    clock = found.clock
    if not 0 < clock.stratum <= MAX_STRATUM:
        raise NoTime("%s is at stratum %d" % (found.origin, clock.stratum))
    if len(clock.reference_id) != 4 or not (0 <= clock.root_delay < 65536 and 0 <= clock.root_dispersion < 65536):
        raise NoTime("%s says nothing that is known" % found.origin)
    return found


# The owner's word

def _read_local(settings: SimpleNamespace, folder: str, now: int) -> State:
    if not settings.local:
        raise NoTime("local = 0")
    return local_clock(settings.local, *time_floor(folder), now)


def local_clock(stratum: int, floor: float, floor_of: str, now: int) -> State:
    """A clock that nobody disciplines, if it is past its floor (Unix seconds, and the file that says so)."""
    if now < floor * 1e9:
        raise NoTime("the clock (%s) is before its time floor, %s by %s" % (rfc3339(now / 1e9), rfc3339(floor), floor_of))
    # A second ago at least, and not the moment at which the clock was read.
    reference = (now - SECOND) // LOCAL_INTERVAL * LOCAL_INTERVAL
    return State(ClockState(0, stratum, 0, 0.0, 0.0, LOCAL_ID, reference, reference), "local", {
        "leap": "none is known", "stratum": "the setting local", "root_delay": "there is no way to go",
        "root_dispersion": "of the lab's own time; grows by 15 ppm", "reference_id": "a local clock, as chrony's",
        "reference_time": "now, in steps of 64 s"})


def time_floor(folder: str) -> tuple[float, str]:
    """No true time is earlier (Unix seconds), and the file that says so: penny's own, or the floor that is kept."""
    found = [(float(EARLIEST), __file__)]
    for path in (getattr(penny.__loader__, "archive", penny.__file__), os.path.join(folder, "floor")):
        try:
            found.append((os.stat(path).st_mtime, path))
        except OSError:
            continue
    return max(found)


def renew_floor(state_dir: str, clock: ClockState, now: int) -> None:
    """Keep that it is as late as this, once a day; may be called at any time. Raises PennyError."""
    folder = os.path.join(state_dir, "ntp")
    path = os.path.join(folder, "floor")
    if clock.leap == UNSYNCHRONISED or now - DAY < time_floor(folder)[0] * 1e9:
        return
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "a"):
            os.utime(path, ns=(now, now))
    except OSError as error:
        raise PennyError("cannot write %s: %s" % (path, one_line(error))) from error


# The kernel's word

def kernel_says() -> kernel.Kernel:
    """What the kernel says, if it calls its clock synchronised. Raises NoTime."""
    try:
        found = kernel.read()
    except PennyError as error:
        raise NoTime(str(error)) from None
    if not found.synchronised:
        raise NoTime("the kernel calls its clock unsynchronised")
    return found


def _read_kernel(settings: SimpleNamespace, folder: str, now: int) -> State:
    return somebody(kernel_says(), now)


def somebody(found: kernel.Kernel, now: int) -> State:
    """A clock that the kernel calls synchronised, and nobody knows by whom."""
    clock = ClockState(found.leap, MAX_STRATUM, 0, 0.0, found.max_error + abs(found.offset), UNKNOWN_ID,
                       now - int(found.max_error / kernel.GROWTH * 1e9), now)
    return State(clock, "kernel", {
        "leap": "the kernel's", "stratum": "unknown: the last that clients take", "root_delay": "within the dispersion",
        "root_dispersion": "the kernel's maximum error; grows by 500 ppm", "reference_id": "somebody on this box",
        "reference_time": "the earliest that fits the dispersion"})


# Asking a program

def ask(command: tuple[str, ...]) -> str:
    """What a program prints, as far as it comes in SECONDS, and MOST bytes of it. Raises NoTime where there is none. Without
    subprocess, which is 0.2 MB more in a process that is to be small."""
    reading, writing = os.pipe()
    try:
        child = os.posix_spawnp(command[0], command, os.environ, file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)))
    except OSError:
        os.close(reading)
        raise NoTime("%s is not installed" % command[0]) from None
    finally:
        os.close(writing)
    try:
        return _read_until(reading, time.monotonic() + SECONDS).decode("ascii", "replace")
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # a zombie does not mind
        os.waitpid(child, 0)


def _read_until(reading: int, end: float) -> bytes:
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    found = b""
    while len(found) < MOST and poll.poll(max(0.0, end - time.monotonic()) * 1000):
        piece = os.read(reading, MOST - len(found))
        if not piece:
            break
        found += piece
    return found
