"""The parent: binds, forks, watches, and prints. One thread, few imports, and root only until its children drop it."""
from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from types import SimpleNamespace
from typing import NamedTuple, NoReturn

import penny
from penny.core import listen, manifest as manifests, privileges, run
from penny.core.errors import PennyError
from penny.core.manifest import Manifest
from penny.core.run import Context
from penny.core.terminal import table
from penny.up import board
from penny.up.board import PARKED, STARTING, UP, State

GRACE = 4.5  # seconds that children have to end; all of `up` ends within 5
PATIENCE = 10.0  # seconds after which the table is printed, whoever is still starting
WATCHDOG = 10.0  # seconds between two signs of life for systemd


class Child(NamedTuple):
    process: str
    pid: int
    channel: socket.socket


class Parent:
    def __init__(self, chosen: list[Manifest], settings: SimpleNamespace, context: Context, following: str) -> None:
        self.context, self.chosen, self.settings = context, chosen, settings
        self.following = following  # the command to type next
        self.own = manifests.load("up")
        self.states = {manifest.name: State(STARTING, context.clock.time()) for manifest in chosen}
        self.children: dict[str, Child] = {}
        self.failures: dict[str, list[float]] = {}
        self.retry_at: dict[str, float] = {}  # by process, monotonic
        self.sockets: dict[str, listen.Sockets] = {}
        self.figures_out, self.figures_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told = False
        self.buffers: dict[str, bytes] = {}

    def run(self) -> int:
        privileges.make_state_dir(self.context.state_dir)
        run.stop_on_signals(self.context.stop)
        run.raise_descriptors()
        self._bind_all()
        self.started = time.monotonic()
        # work also answers for the whole box, so it runs even where every service is quick
        processes = {manifest.process for manifest in self.chosen} | {"work"}
        for process in sorted(processes):
            self._start(process)
        try:
            while not self.context.stop.is_set():
                self._turn()
                if all(state.state == PARKED for state in self.states.values()):
                    for name, state in self.states.items():
                        self.context.log.error("%s does not run: %s", name, state.reason)
                    return run.FAULT
        finally:
            self._end()
        return run.DONE

    def _bind_all(self) -> None:
        """What cannot be bound here is tried again by the child, which also says why."""
        for manifest in [*self.chosen, self.own]:
            try:
                settings = self.settings if manifest is self.own else self._settings(manifest)
                self.sockets[manifest.name] = listen.open_sockets(manifest, settings, self.context.log)
            except PennyError:
                self.sockets[manifest.name] = {}

    def _settings(self, manifest: Manifest) -> SimpleNamespace:
        """Only where to listen: the module with its other settings is not imported here."""
        converters = {key: str for key in manifest.settings}
        return run.load_settings(manifest, converters, self.context.lab, self.context.written)

    def _start(self, process: str) -> None:
        ours, theirs = socket.socketpair()
        # A signal that comes before the child has handlers of its own would set off the parent's in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, run.STOPPING)
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()  # else the child would not see that the parent is gone
                self._become(process, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, run.STOPPING)
        theirs.close()
        self.children[process] = Child(process, pid, ours)
        self.buffers[process] = b""

    def _become(self, process: str, channel: socket.socket) -> NoReturn:
        """What a fork does first, and to its end: whatever happens, it never goes on with the parent's work."""
        try:
            for child in self.children.values():
                child.channel.close()
            from penny.up.child import run_child  # the parent has no need of it
            run_child(process, [one for one in self.chosen if one.process == process], self, channel)
        except BaseException as error:
            self.context.log.error("%s cannot start: %s: %s", process, type(error).__name__, error)
            raise
        finally:
            os._exit(run.FAULT)

    def _turn(self) -> None:
        """Wait for news from a child, a signal, or the time to try something again."""
        poll = select.poll()
        poll.register(self.context.stop, select.POLLIN)
        by_fd = {child.channel.fileno(): child for child in self.children.values()}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(self._rest() * 1000):
            if fd in by_fd:
                self._hear(by_fd[fd])
        now = time.monotonic()
        for process in [process for process, at in self.retry_at.items() if at <= now]:
            del self.retry_at[process]
            self._start(process)
        listen.notify("WATCHDOG=1")
        self._tell()

    def _rest(self) -> float:
        now = time.monotonic()
        waits = [at - now for at in self.retry_at.values()] + [WATCHDOG]
        if not self.told:
            waits.append(self.started + PATIENCE - now)
        return max(0.0, min(waits))

    def _hear(self, child: Child) -> None:
        try:
            data = child.channel.recv(65536)
        except OSError:
            data = b""
        *lines, self.buffers[child.process] = (self.buffers[child.process] + data).split(b"\n")
        for line in lines:
            name, state = board.decode(line)
            if name in self.states:
                self.states[name] = state
        if not data:
            self._bury(child)

    def _bury(self, child: Child) -> None:
        """A child has ended: say so, and see when it is started again."""
        child.channel.close()
        del self.children[child.process]
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if self.context.stop.is_set():
            return
        now = time.monotonic()
        failures = self.failures.setdefault(child.process, [])
        failures.append(now)
        del failures[:-board.MOST_FAILURES]
        state, rest = board.next_try(failures, now)
        reason = "its process ended with %s" % (signal.Signals(-code).name if code < 0 else "status %d" % code)
        self.context.log.error("%s: %s; next try in %d s", child.process, reason, rest)
        for manifest in self.chosen:
            if manifest.process == child.process:
                self.states[manifest.name] = State(state, self.context.clock.time(), reason)
        self.retry_at[child.process] = now + rest / self.context.clock.scale

    def _tell(self) -> None:
        """Once all have started, or did not in good time: readiness for systemd, and for a person a table."""
        starting = any(state.state == STARTING for state in self.states.values())
        if self.told or (starting and time.monotonic() - self.started < PATIENCE):
            return
        self.told = True
        listen.notify("READY=1")
        if not sys.stdout.isatty():
            shown = (" ".join((name, *state.addresses[:1], state.state)) for name, state in sorted(self.states.items()))
            self.context.log.info("ready: %s", ", ".join(shown))
            return
        rows = [("service", "address", "state")]
        for name, state in sorted(self.states.items()):
            address = state.addresses[0] if state.addresses else "-"
            rows.append((name, address, state.state + (": " + state.reason if state.reason else "")))
        print("\npenny %s\n\n%s" % (penny.__version__, table(rows)))
        digest = self.states.get("digest")
        if digest and digest.state == UP and digest.addresses:
            print("Read the digest at %s   Stop with Ctrl-C." % digest.addresses[0])
        print("Next, in another terminal: %s\n" % self.following, flush=True)

    def _end(self) -> None:
        """Stop the children; whoever does not listen is killed."""
        listen.notify("STOPPING=1")
        for child in self.children.values():
            self._kill(child, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for child in self.children.values():
            while os.waitpid(child.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    self.context.log.warning("%s did not stop in time", child.process)
                    self._kill(child, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                    break
                time.sleep(0.02)

    @staticmethod
    def _kill(child: Child, number: int) -> None:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            pass
