"""How the services fare: states, and when something that failed is tried again. Shared by parent and children."""
from __future__ import annotations

import json
import socket
import threading
from typing import Callable, NamedTuple

from penny.core.clock import rfc3339

UP, STARTING, WAITING, FAILED, PARKED = "up", "starting", "waiting", "failed", "parked"
WINDOW = 600.0  # seconds in which failures are counted
MOST_FAILURES = 5  # in the window; then a service is parked
PARKED_FOR = 600.0  # seconds until what is parked is tried again


class State(NamedTuple):
    """How a service fares. `since` is Unix seconds, of the last change."""

    state: str
    since: float
    reason: str = ""
    addresses: tuple[str, ...] = ()


def next_try(failures: list[float], now: float) -> tuple[str, float]:
    """The state of what failed at those moments (the last of them just now), and the seconds until the next try."""
    recent = sum(now - moment < WINDOW for moment in failures)
    if recent >= MOST_FAILURES:
        return PARKED, PARKED_FOR
    return FAILED, 2.0 ** (recent - 1)


class Board:
    """The states of the services of one process, which its parent is told of at each change."""

    def __init__(self, to_parent: socket.socket, changed: Callable[[], None]) -> None:
        self.states: dict[str, State] = {}
        self._to_parent, self._changed, self._lock = to_parent, changed, threading.Lock()

    def set(self, name: str, state: State) -> None:
        with self._lock:
            self.states[name] = state
            try:
                self._to_parent.sendall(encode(name, state))
            except OSError:
                pass  # the parent is gone, which the main loop notices by itself
            self._changed()


def encode(name: str, state: State) -> bytes:
    return json.dumps([name, *state]).encode() + b"\n"


def decode(line: bytes) -> tuple[str, State]:
    name, state, since, reason, addresses = json.loads(line)
    return name, State(state, since, reason, tuple(addresses))


def as_json(states: dict[str, State]) -> dict[str, dict]:
    """The states for /health."""
    return {name: {"state": state.state, "since": rfc3339(state.since), "reason": state.reason}
            for name, state in sorted(states.items())}
