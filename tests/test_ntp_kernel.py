"""adjtimex: the layout of its struct, what is made of it, what is asked of the kernel. No test changes this box's clock."""
from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys

import pytest

from penny.core.errors import PennyError
from penny.ntp import kernel
from support import ROOT

CAPTURED = ROOT / "tests" / "fixtures" / "ntp" / "kernel-unsynchronised.txt"


def timex(status=0, offset=0, frequency=0, max_error=0, est_error=0, tai=0):
    """A struct timex as the kernel would fill it in."""
    return kernel.TIMEX.pack(0, offset, frequency, max_error, est_error, status, *[0] * 14, tai, *[0] * 11)


def test_the_struct_is_as_long_as_the_kernel_s():
    word = struct.calcsize("@l")
    assert kernel.TIMEX.size == {8: 208, 4: 128}[word]


def test_the_layout_is_that_of_the_c_compiler(tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing: apt install gcc libc6-dev")
    names = ["modes", "offset", "freq", "maxerror", "esterror", "status", "constant", "time.tv_sec", "time.tv_usec", "tai"]
    (tmp_path / "x.c").write_text("#include <stdio.h>\n#include <stddef.h>\n#include <sys/timex.h>\nint main(void) {\n%s}\n"
                                  % "".join('printf("%%zu ", offsetof(struct timex, %s));\n' % name for name in names))
    subprocess.run(["gcc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True)
    wanted = [int(word) for word in subprocess.run([tmp_path / "x"], check=True, capture_output=True).stdout.split()]
    places = [kernel._MODES, kernel._OFFSET, kernel._FREQUENCY, kernel._MAX_ERROR, kernel._EST_ERROR, kernel._STATUS,
              kernel._CONSTANT, kernel._SECONDS, kernel._FRACTION, kernel._TAI]
    for place, offset in zip(places, wanted):
        fields = [0] * 32
        fields[place] = 0x55
        assert kernel.TIMEX.pack(*fields).index(b"\x55") - offset in range(8 if sys.byteorder == "big" else 1)


@pytest.mark.skipif(struct.calcsize("@l") != 8 or sys.byteorder != "little", reason="the capture is of a 64-bit x86")
def test_captured():
    answer, raw = CAPTURED.read_text().split()
    assert kernel.parse(bytes.fromhex(raw), int(answer)) == kernel.Kernel(
        leap=0, synchronised=False, offset=0.0, frequency=0.0, max_error=16.0, est_error=16.0, status=kernel.STA_UNSYNC,
        pll=False, tai=0)


def test_a_clock_that_is_disciplined():
    found = kernel.parse(timex(kernel.STA_PLL | kernel.STA_NANO, -1_234_567, -655_360, 46_500, 120, 37), 0)
    assert found == kernel.Kernel(0, True, -0.001234567, -10.0, 0.0465, 0.00012, 0x2001, True, 37)
    assert kernel.parse(timex(kernel.STA_PLL, -1_234), 0).offset == -0.001234


@pytest.mark.parametrize("answer, status, leap, synchronised", [
    (0, 0, 0, True), (1, kernel.STA_INS, 1, True), (2, kernel.STA_DEL, 2, True), (3, kernel.STA_INS, 1, True),
    (4, kernel.STA_INS, 0, True),  # it has been inserted, and nobody has taken the flag back yet
    (5, kernel.STA_UNSYNC, 0, False), (5, 0, 0, False), (0, kernel.STA_UNSYNC, 0, False)])
def test_leap_and_verdict(answer, status, leap, synchronised):
    found = kernel.parse(timex(status), answer)
    assert (found.leap, found.synchronised) == (leap, synchronised)


def test_read():
    found = kernel.read()
    assert found.max_error >= 0 and abs(found.frequency) <= 500


@pytest.mark.parametrize("user, reason", [("65534", "not permitted"), ("os.getuid()", "invalid argument")])
def test_a_refusal_is_one_line(user, reason):
    """A tick of 0 is asked for, which the kernel grants to nobody; who has no right at all is told that first."""
    if os.getuid() and user != "65534":
        pytest.skip("only root is told what is wrong with the request")
    code = ("import os; from penny.ntp import kernel; import ctypes; os.getuid() or os.setuid(%s)\n"
            "try: kernel._adjtimex(kernel.TIMEX.pack(0x4000, *[0] * 31), 'correct')\n"
            "except Exception as error: print(type(error).__name__, error)" % user)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    if reason == "invalid argument" and "not permitted" in found.stdout:
        pytest.skip("root lacks CAP_SYS_TIME here")
    assert found.stdout == "PennyError cannot correct the kernel's clock: %s\n" % reason, found.stderr


def test_a_libc_without_it(monkeypatch):
    import ctypes
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(PennyError, match="cannot read the kernel's clock: .*adjtimex"):
        kernel.read()


def fields(raw):
    found = kernel.TIMEX.unpack(raw)
    return {name: found[getattr(kernel, name)] for name in (
        "_MODES", "_OFFSET", "_MAX_ERROR", "_EST_ERROR", "_STATUS", "_CONSTANT", "_SECONDS", "_FRACTION")}


def test_slewing():
    assert fields(kernel.slew(-0.0123, 0.0451, 0.0000001, 6, leap=1)) == {
        "_MODES": 0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x2000, "_OFFSET": -12_300_000, "_MAX_ERROR": 45_100, "_EST_ERROR": 1,
        "_STATUS": kernel.STA_PLL | kernel.STA_INS, "_CONSTANT": 6, "_SECONDS": 0, "_FRACTION": 0}


@pytest.mark.parametrize("offset, constant, wanted", [(9.0, 99, (500_000_000, 10)), (-9.0, -1, (-500_000_000, 0))])
def test_bounds_of_slewing(offset, constant, wanted):
    found = fields(kernel.slew(offset, 0.0, 0.0, constant))
    assert (found["_OFFSET"], found["_CONSTANT"]) == wanted


@pytest.mark.parametrize("offset, seconds, fraction", [
    (1.25, 1, 250_000_000), (-0.3, -1, 700_000_000), (-2.0, -2, 0), (0.9999999999, 1, 0)])
def test_setting(offset, seconds, fraction):
    assert fields(kernel.jump(offset, 0.5, 0.25, leap=2)) == {
        "_MODES": 0x4 | 0x8 | 0x10 | 0x100 | 0x2000, "_OFFSET": 0, "_MAX_ERROR": 500_000, "_EST_ERROR": 250_000,
        "_STATUS": kernel.STA_DEL, "_CONSTANT": 0, "_SECONDS": seconds, "_FRACTION": fraction}


@pytest.mark.parametrize("nanoseconds, wanted", [(60, -24), (1, -30), (1000, -20), (4_000_000, -8), (10**9, -6), (0, -6)])
def test_exponent(nanoseconds, wanted):
    assert kernel.exponent(nanoseconds) == wanted


def test_precision_is_measured():
    assert -30 <= kernel.precision() <= -10
    ticks = iter(range(10_000))
    assert kernel.precision(lambda: next(ticks) // 3 * 1_000_000) == -10  # most readings see no step of a coarse clock
    assert kernel.precision(lambda: 5) == kernel.COARSEST
