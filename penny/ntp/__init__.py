"""Network time: a server that says no more than it knows, a client, and what keeps this box's clock right."""
from __future__ import annotations

import os
import socket
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from penny.core import listen, run, settings as conversion
from penny.core.errors import PennyError, one_line
from penny.core.run import Context, Verb, option
from penny.wire.ntp_packet import UNKNOWN, ClockState

if TYPE_CHECKING:
    import argparse

SOCKET = "123/udp"
FIGURES = ("ntp", "figures")  # below the state directory: a socket that gives what was counted
PATIENCE = 5.0  # seconds
REFRESH = 16.0  # seconds between two looks at what is known of the clock


def stratum(value: str) -> int:
    if not 0 <= conversion.integer(value) <= 15:
        raise ValueError("a stratum from 1 to 15, or 0 for never")
    return conversion.integer(value)


SETTINGS = {"allow": conversion.words, "local": stratum, "servers": conversion.words, "limit": conversion.duration,
            "kiss": conversion.boolean}


def serve(settings: SimpleNamespace, context: Context) -> None:
    """Answer until context.stop is set."""
    from penny.ntp import access, clients, server, source
    def look() -> ClockState:
        state = source.read_state(settings, context.state_dir, time.time_ns())
        context.figures.set("ntp_root_distance_seconds", "The largest error that the served time may have.",
                            state.clock.root_delay / 2 + state.clock.root_dispersion)
        return state.clock
    os.makedirs(os.path.join(context.state_dir, FIGURES[0]), exist_ok=True)
    own = server.Server(access.read(settings, context), clients.Clients(settings.limit), settings.kiss, look())

    def follow() -> None:
        try:
            own.state = look()
        except BaseException:
            own.state = UNKNOWN
            raise
        source.renew_floor(context.state_dir, own.state, time.time_ns())

    def refresh(context: Context) -> None:
        while not context.stop.wait(REFRESH):
            reason = run.guarded(follow, context.log)
            if reason:
                context.log.error("%s", reason)
    with run.beside(refresh, context), listen.local(os.path.join(context.state_dir, *FIGURES)) as curious:
        context.ready()
        own.run(context.sockets[SOCKET], context.stop, context.figures, curious)


# Verbs: what they need is imported with them, since the server has no use for it.

def run_query(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    from penny.ntp.query import query
    return query(settings, context, options)


def run_steer(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    from penny.ntp.steer import steer
    return steer(settings, context, options)


def run_explain(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    from penny.ntp.explain import explain
    return explain(settings, context, options)


def show_figures(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """What the server that runs in this home has counted, as OpenMetrics."""
    path = os.path.join(context.state_dir, *FIGURES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(PATIENCE)
        try:
            one.connect(path)
            while True:
                data = one.recv(65536)
                if not data:
                    return run.DONE
                sys.stdout.write(data.decode())
        except OSError as error:
            raise PennyError("cannot read the figures: nobody serves time here (%s: %s). Next: penny ntp serve"
                             % (path, one_line(error))) from error


_JSON = option("--json", action="store_true", help="one JSON object a line, for scripts")
VERBS = {
    "query": Verb(run_query, (
        option("hosts", metavar="HOST", nargs="+", help="a server's name or address, :PORT if it is not 123"), _JSON),
        "ask servers for the time, and say which of them agree"),
    "steer": Verb(run_steer, (
        option("hosts", metavar="HOST", nargs="*", help="servers to follow, instead of the setting servers"),
        option("--dry-run", action="store_true", help="show what would be done, and touch nothing"),
        option("--step", action="store_true", help="set the clock at once, by as much as it takes, if it is over 128 ms off")),
        "correct this box's clock once, as a timer of root's does every few minutes"),
    "explain": Verb(run_explain, (
        option("client", metavar="CLIENT", nargs="?", default="", help="IP address of a client that refuses us"), _JSON),
        "show every served field with its source, and why a client may refuse it"),
    "figures": Verb(show_figures, (), "print what the running server has counted, as OpenMetrics"),
}
