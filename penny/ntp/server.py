"""The server's loop: questions in, answers out, with the kernel's own time of arrival.

What makes it exact. The kernel stamps each packet as it arrives (SO_TIMESTAMPNS), so that a wake-up that comes late adds
nothing to the error. The time that an answer bears is read as late as can be, and is still some microseconds before the
packet leaves: one answer in SAMPLE asks the kernel when it left (SO_TIMESTAMPING, read from the socket's error queue), and
the lower quartile of the last of these delays is added to the time in every answer.

What keeps it honest and small. An answer leaves from the address that was asked (IP_PKTINFO on sockets for all addresses);
what came to a broadcast or multicast address gets none. Whoever may not ask is met with silence. Nothing here allocates
what a stranger could make grow.

Linux's own numbers are written out where Python has no name for them (before 3.12, or at all): include/uapi/asm-generic/
socket.h, linux/in.h, linux/in6.h, linux/net_tstamp.h. Where the kernel refuses an option, the server goes on without it.
"""
from __future__ import annotations

import select
import socket
import struct
import time
from typing import NamedTuple

from penny.core.clock import Stop
from penny.core.figures import Figures
from penny.ntp.access import Access
from penny.ntp.clients import Clients
from penny.ntp.stamps import SO_TIMESTAMPNS, nanoseconds
from penny.wire import ntp_packet
from penny.wire.ntp_packet import Header

SO_TIMESTAMPING = 37
TX_SOFTWARE, ONLY_TIMES = 1 << 1, 1 << 11  # SOF_TIMESTAMPING_*, of linux/net_tstamp.h
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
MSG_ERRQUEUE = 0x2000
SIZE, ANCILLARY = 2048, 256  # bytes of a packet, and of what the kernel says of it
BATCH = 256  # packets of one socket before another one's turn
SAMPLE = 16  # answers, of which one asks when it left
DELAYS = 16  # that are remembered
LONGEST_DELAY = 200_000  # nanoseconds: more than that was the scheduler's doing, and no answer should bear it
FRESH = 1_000_000_000  # nanoseconds for which the packed part of an answer holds
ADDRESSES = 1000  # of this box, that are remembered
REPORT = 5.0  # seconds between two looks at the figures

_ASK_WHEN = (socket.SOL_SOCKET, SO_TIMESTAMPING, struct.pack("I", TX_SOFTWARE))
_NOT_OURS = ((),)
RATE_POLL = 8  # log2 of the seconds that who asks too often is told to wait


class Bound(NamedTuple):
    """A socket to answer on; `info` says where a packet went, on one that takes them for all addresses."""

    socket: socket.socket
    info: int  # the kind of control message that names the destination; 0 where the socket has one address


def prepare(one: socket.socket) -> Bound:
    """Ask the kernel for times of arrival, for those of leaving, and for the destination if that may be any."""
    six = one.family == socket.AF_INET6
    _try_option(one, socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    # Times of leaving come as SO_TIMESTAMPNS too; told to report by itself, SO_TIMESTAMPING would do so for each arrival.
    _try_option(one, socket.SOL_SOCKET, SO_TIMESTAMPING, ONLY_TIMES)
    if one.getsockname()[0] not in ("0.0.0.0", "::"):
        return Bound(one, 0)
    if six:
        return Bound(one, IPV6_PKTINFO if _try_option(one, socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) else 0)
    return Bound(one, IP_PKTINFO if _try_option(one, socket.IPPROTO_IP, IP_PKTINFO, 1) else 0)


def _try_option(one: socket.socket, level: int, name: int, value: int) -> bool:
    try:
        one.setsockopt(level, name, value)
    except OSError:
        return False
    return True


class Server:
    """`state` is what it says of its clock; another thread may put a new one in its place at any time."""

    def __init__(self, access: Access, clients: Clients, kiss: bool, state: ntp_packet.ClockState) -> None:
        self.access, self.clients, self.kiss, self.state = access, clients, kiss, state
        self.head: Header = ntp_packet.header(state, 0)
        self.packed_at = 0  # long ago
        self.verdicts: dict[str, int] = {}
        self.answered = 0
        self.controls: dict[bytes, tuple] = {}  # by where a packet came to: the control messages of its answer
        self.delays: list[int] = []  # nanoseconds from reading the clock to leaving, the oldest first
        self.delay = 0  # that is added to the time of leaving
        self.asked: dict[socket.socket, int] = {}  # when the clock was read for an answer whose leaving is not known yet

    def run(self, sockets: list[socket.socket], stop: Stop, figures: Figures, curious: socket.socket) -> None:
        """Answer until `stop` is set; whoever connects to `curious` gets the figures."""
        bound = {one.fileno(): prepare(one) for one in sockets}
        poll = select.poll()
        for fd in (*bound, stop.fileno(), curious.fileno()):
            poll.register(fd, select.POLLIN)
        report_at = 0.0
        while not stop.is_set():
            for fd, events in poll.poll(REPORT * 1000):
                if fd in bound:
                    if events & select.POLLERR:
                        self.hear_left(bound[fd].socket)
                    self.drain(bound[fd])
                elif fd == curious.fileno():
                    self.report(figures)
                    hand_out(curious, figures)
            if time.monotonic() >= report_at:
                self.report(figures)
                report_at = time.monotonic() + REPORT

    def drain(self, bound: Bound) -> None:
        """Answer what waits at a socket, at most a batch of it."""
        (one, info), now = bound, time.monotonic()
        receive, refusal, admit, answer, controls = one.recvmsg, ntp_packet.refusal, self.admit, self.answer, self.controls
        for _ in range(BATCH):
            try:
                packet, ancillary, _, address = receive(SIZE, ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer
            arrival, control = 0, ()
            for _, kind, data in ancillary:
                if kind == SO_TIMESTAMPNS:
                    arrival = nanoseconds(data)
                elif kind == info:
                    control = controls.get(data) or self.control_for(data, info)
            verdict = refusal(packet, address[1]) or control == _NOT_OURS and "broadcast" or admit(address[0], now)
            if not verdict:
                answer(one, packet, address, arrival, control)
            else:
                self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
                if verdict == "rate" and self.kiss:
                    self.send(one, ntp_packet.kiss(packet, b"RATE", RATE_POLL), address, control)

    def control_for(self, came: bytes, info: int) -> tuple:
        """What goes with an answer to a packet that came so: it leaves from the address that was asked. It is made once for
        each address of this box; the kernel, not a stranger, says which these are."""
        if not _is_own(came, info):
            return _NOT_OURS
        if len(self.controls) >= ADDRESSES:
            self.controls.clear()
        level = socket.IPPROTO_IPV6 if info == IPV6_PKTINFO else socket.IPPROTO_IP
        control = self.controls[came] = ((level, info, _source(came)),)
        return control

    def admit(self, host: str, now: float) -> str:
        """Why an address gets no answer, in a word; "" if it does."""
        clients = self.clients
        slot = clients.find(host)
        if slot < 0:
            if not self.access.allows(host):
                return "access"
            slot = clients.add(host, now)
        if clients.interval:
            return "" if clients.may_ask(slot, now) else "rate"
        clients.seen[slot] = now
        return ""

    def answer(self, one: socket.socket, packet: bytes, address: tuple, arrival: int, control: tuple) -> None:
        """Answer a question that came at `arrival` (Unix nanoseconds; 0 where the kernel does not say)."""
        read = time.time_ns()
        if not 0 <= read - self.packed_at < FRESH:
            self.head, self.packed_at = ntp_packet.header(self.state, read), read
        left = read + self.delay
        if left < arrival:
            left = arrival  # never before it came, if the clock was set back in between
        reply = ntp_packet.answer(packet, arrival or read, left, self.head)
        self.answered += 1
        if self.answered % SAMPLE or one in self.asked:
            self.send(one, reply, address, control)
        else:
            self.asked[one] = read
            self.send(one, reply, address, (*control, _ASK_WHEN))
            self.hear_left(one)

    def send(self, one: socket.socket, reply: bytes, address: tuple, control: tuple) -> None:
        """Send what is said. Nothing that fails here may end the loop: a stranger chose the address."""
        try:
            if control:
                one.sendmsg((reply,), control, 0, address)
            else:
                one.sendto(reply, address)
        except OSError:
            self.asked.pop(one, None)
            self.verdicts["unsent"] = self.verdicts.get("unsent", 0) + 1

    def hear_left(self, one: socket.socket) -> None:
        """Read when an answer left, if that is known by now."""
        try:
            _, ancillary, _, _ = one.recvmsg(0, ANCILLARY, MSG_ERRQUEUE)
        except OSError:
            return
        for _, kind, data in ancillary:
            read = self.asked.pop(one, None) if kind == SO_TIMESTAMPNS else None
            if read is not None:
                self.delays.append(nanoseconds(data) - read)
                del self.delays[:-DELAYS]
                likely = sorted(self.delays)[len(self.delays) // 4]
                self.delay = min(max(0, likely), LONGEST_DELAY)

    def report(self, figures: Figures) -> None:
        """Hand over what was counted since the last time."""
        figures.count("ntp_requests", "Packets that came, by what became of them.", self.answered, verdict="answered")
        self.answered = 0
        for verdict in list(self.verdicts):
            count = self.verdicts.pop(verdict)
            figures.count("ntp_requests", "Packets that came, by what became of them.", count, verdict=verdict)
        figures.set("ntp_clients", "Addresses that asked within the last hour.", self.clients.active(time.monotonic() - 3600))
        figures.set("ntp_leaving_seconds", "The time that an answer takes from the clock to the wire.", self.delay / 1e9)


def hand_out(curious: socket.socket, figures: Figures) -> None:
    """The figures to one who connected: a few lines, which a socket takes at once or not at all."""
    try:
        connection, _ = curious.accept()
        with connection:
            connection.setblocking(False)
            connection.send(figures.render().encode())
    except OSError:
        pass  # gone already


def _is_own(came: bytes, info: int) -> bool:
    """Whether a packet was sent to an address of this box alone (struct in_pktinfo: interface, local address, the address in
    the packet; struct in6_pktinfo: address, interface)."""
    return came[0] != 0xff if info == IPV6_PKTINFO else came[4:8] == came[8:12]


def _source(came: bytes) -> bytes:
    """The same control message for the answer: it leaves from the address that was asked, by whatever way leads there."""
    return came if len(came) == 20 else bytes(4) + came[4:8] + bytes(4)
