"""The kernel's side of the clock, adjtimex(2): what it says of it, and how it is asked to correct it.

     struct timex        words of the machine's own size and alignment: 208 bytes on 64 bits, 128 on 32
     0  modes            int: what is to be changed; 0 for nothing
     1  offset           long, ns or us (STA_NANO): what is still to be corrected
     2  freq             long, 2**-16 ppm
     3  maxerror         long, us; grows by 500 ppm, and at 16 s the kernel calls its clock unsynchronised
     4  esterror         long, us
     5  status           int: STA_ flags
     6  constant         long: time constant of the loop, log2 of its seconds less 4
     7  precision, tolerance; time.tv_sec, time.tv_usec (9, 10); tick, ppsfreq, jitter, shift, stabil, jitcnt, calcnt, errcnt,
        stbcnt; tai (20), and 11 ints for later

libc's own symbol `adjtimex` takes longs on every machine and in every libc, whatever the year: the 64-bit time of 32-bit
machines goes by another name. It is called by ctypes, which is imported where it is used, since it takes memory.

To correct the clock is done as systemd-timesyncd does it: the kernel's phase-locked loop slews, and needs no daemon that
stays. It takes CAP_SYS_TIME.

Sources: adjtimex(2); linux/timex.h; kernel/time/ntp.c; RFC 5905 appendix A.5.5 and 7.3 (precision).
"""
from __future__ import annotations

import errno
import math
import os
import struct
import time
from typing import Callable, NamedTuple

from penny.core.errors import PennyError, one_line

TIMEX = struct.Struct("@i4li3l2l3li5li11i")
_MODES, _OFFSET, _FREQUENCY, _MAX_ERROR, _EST_ERROR, _STATUS, _CONSTANT = range(7)
_SECONDS, _FRACTION, _TAI = 9, 10, 20
ADJ_OFFSET, ADJ_MAXERROR, ADJ_ESTERROR, ADJ_STATUS, ADJ_TIMECONST, ADJ_SETOFFSET, ADJ_NANO = 1, 4, 8, 0x10, 0x20, 0x100, 0x2000
STA_PLL, STA_INS, STA_DEL, STA_UNSYNC, STA_NANO = 1, 0x10, 0x20, 0x40, 0x2000
TIME_INS, TIME_DEL, TIME_OOP, TIME_ERROR = 1, 2, 3, 5  # what the call returns; OOP: within the second that is inserted

GROWTH = 500e-6  # of maxerror, seconds a second
MAX_OFFSET = 0.5  # seconds that the loop takes at once
MAX_CONSTANT = 10
READS = 256  # of the clock, to find its precision
FINEST, COARSEST = -30, -6


class Kernel(NamedTuple):
    """What the kernel says of its clock. Spans are seconds."""

    leap: int  # 0; 1 or 2 where the last minute of this day gets 61 or 59 seconds
    synchronised: bool
    offset: float  # still to be corrected
    frequency: float  # ppm by which the clock is corrected
    max_error: float
    est_error: float
    status: int  # STA_ flags
    pll: bool
    tai: int  # seconds by which TAI is ahead of UTC, 0 where nobody has told the kernel


def read() -> Kernel:
    """What the kernel says now. Raises PennyError."""
    return parse(*_adjtimex(bytes(TIMEX.size), "read"))


def parse(timex: bytes, answer: int) -> Kernel:
    """A struct timex as the kernel filled it in, and what the call returned."""
    fields = TIMEX.unpack(timex)
    status = fields[_STATUS]
    return Kernel({TIME_INS: 1, TIME_OOP: 1, TIME_DEL: 2}.get(answer, 0), answer != TIME_ERROR and not status & STA_UNSYNC,
                  fields[_OFFSET] / (1e9 if status & STA_NANO else 1e6), fields[_FREQUENCY] / 65536, fields[_MAX_ERROR] / 1e6,
                  fields[_EST_ERROR] / 1e6, status, bool(status & STA_PLL), fields[_TAI])


def discipline(offset: float, max_error: float, est_error: float, time_constant: int, leap: int = 0) -> Kernel:
    """Have the kernel slew its clock by `offset` (at most MAX_OFFSET either way; positive: it is behind). Raises PennyError."""
    return parse(*_adjtimex(slew(offset, max_error, est_error, time_constant, leap), "correct"))


def step(offset: float, max_error: float, est_error: float, leap: int = 0) -> Kernel:
    """Set the clock by `offset` from where it is, at once. Raises PennyError."""
    return parse(*_adjtimex(jump(offset, max_error, est_error, leap), "set"))


def slew(offset: float, max_error: float, est_error: float, time_constant: int, leap: int = 0) -> bytes:
    """The struct timex that starts the kernel's loop. Any status that is not named in it is given up: STA_UNSYNC, too."""
    return _pack({_MODES: ADJ_OFFSET | ADJ_TIMECONST | _ALWAYS, _STATUS: STA_PLL | _leap_flag(leap),
                  _OFFSET: round(max(-MAX_OFFSET, min(MAX_OFFSET, offset)) * 1e9),
                  _CONSTANT: max(0, min(MAX_CONSTANT, time_constant))}, max_error, est_error)


def jump(offset: float, max_error: float, est_error: float, leap: int = 0) -> bytes:
    """The struct timex that sets the clock. Its fraction is never negative: -0.3 s is -1 s and 0.7 s."""
    seconds, fraction = divmod(round(offset * 1e9), 1_000_000_000)
    return _pack({_MODES: ADJ_SETOFFSET | _ALWAYS, _STATUS: _leap_flag(leap), _SECONDS: seconds, _FRACTION: fraction},
                 max_error, est_error)


_ALWAYS = ADJ_STATUS | ADJ_NANO | ADJ_MAXERROR | ADJ_ESTERROR


def _leap_flag(leap: int) -> int:
    return {1: STA_INS, 2: STA_DEL}.get(leap, 0)


def _pack(given: dict[int, int], max_error: float, est_error: float) -> bytes:
    fields = [0] * len(TIMEX.unpack(bytes(TIMEX.size)))
    for place, value in {**given, _MAX_ERROR: math.ceil(max_error * 1e6), _EST_ERROR: math.ceil(est_error * 1e6)}.items():
        fields[place] = value
    return TIMEX.pack(*fields)


def _adjtimex(timex: bytes, verb: str) -> tuple[bytes, int]:
    """The struct as the kernel gives it back, and what the call returned."""
    import ctypes
    buffer = ctypes.create_string_buffer(timex, len(timex))
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    except (OSError, AttributeError) as error:
        reason = "not permitted" if getattr(error, "errno", 0) == errno.EPERM else one_line(error)
        raise PennyError("cannot %s the kernel's clock: %s" % (verb, reason)) from error
    return buffer.raw, answer


def precision(now: Callable[[], int] = time.time_ns) -> int:
    """log2 of the seconds between two readings of the clock: its resolution or the time that reading takes, as measured."""
    steps = []
    for _ in range(READS):
        before = now()
        steps.append(now() - before)
    return exponent(min((one for one in steps if one > 0), default=0))


def exponent(nanoseconds: int) -> int:
    """The nearest power of two to so many nanoseconds, in seconds; COARSEST where no two readings differed."""
    return max(FINEST, min(COARSEST, round(math.log2(nanoseconds / 1e9)))) if nanoseconds else COARSEST
