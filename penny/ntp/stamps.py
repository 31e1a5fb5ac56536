"""The kernel's own time of a packet: what to ask a socket for, and how to read it (SO_TIMESTAMPNS, socket(7))."""
from __future__ import annotations

import struct

SO_TIMESTAMPNS = 35  # of include/uapi/asm-generic/socket.h, and the kind of the control message
TIMESPECS = {16: struct.Struct("qq"), 8: struct.Struct("ii")}  # by length: struct timespec of 64 and of 32 bits, native order


def nanoseconds(data: bytes) -> int:
    """Unix nanoseconds, from the control message's data; 0 for what is none."""
    if len(data) not in TIMESPECS:
        return 0
    seconds, rest = TIMESPECS[len(data)].unpack(data)
    return seconds * 1_000_000_000 + rest
