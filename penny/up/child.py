"""A child: its services as threads, each started again when it dies, and in *work* the page of the whole box."""
from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from penny.core import figures, listen, privileges, run
from penny.core.clock import Stop, next_time_of_day
from penny.core.errors import ConfigError, PennyError
from penny.core.figures import Figures
from penny.core.log import Log
from penny.core.manifest import Manifest
from penny.core.run import Context
from penny.up import board
from penny.up.board import FAILED, PARKED, STARTING, UP, WAITING, Board, State

if TYPE_CHECKING:
    from penny.core import web
    from penny.up.parent import Parent

SWITCH = 0.0005  # seconds until a busy thread lets another one run; 0.005 by default
PASS_ON = 10.0  # seconds between two reports of quick to work
LAST = 4.0  # seconds that threads have to end


def run_child(process: str, services: list[Manifest], parent: Parent, channel: socket.socket) -> NoReturn:
    """The life of a child, from the fork to its exit."""
    log, code = parent.context.log, run.INTERRUPTED
    try:
        stop = Stop()
        run.stop_on_signals(stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, run.STOPPING)
        reason = run.guarded(Runner(process, services, parent, channel, stop).run, log)
        if reason:
            log.error("%s: %s", process, reason)
        code = run.FAULT if reason else run.DONE
    finally:
        sys.stderr.flush()
        os._exit(code)  # never back into the parent's code, and not held up by a thread that hangs


class Runner:
    def __init__(self, process: str, services: list[Manifest], parent: Parent, channel: socket.socket, stop: Stop) -> None:
        self.process, self.services, self.channel, self.stop = process, services, channel, stop
        self.sockets, self.own, self.settings = parent.sockets, parent.own, parent.settings
        self.context = parent.context._replace(stop=stop)
        self.figures_out, self.figures_in = parent.figures_out, parent.figures_in
        self.board = Board(channel, self._pass_on if process == "quick" else lambda: None)
        self.figures = {manifest.name: Figures() for manifest in services}
        waiting = {one.name: list(State(STARTING, self.context.clock.time())) for one in parent.chosen if one.process == "quick"}
        self.from_quick: dict = {"states": waiting, "figures": {}, "heard": time.monotonic()}

    def run(self) -> None:
        mine = [manifest.name for manifest in self.services] + [self.own.name] * (self.process == "work")
        for name, sockets in self.sockets.items():
            if name not in mine:
                listen.close(sockets)
        privileges.drop_privileges(self.context.state_dir, self.context.log)
        sys.setswitchinterval(SWITCH)
        threads = [threading.Thread(target=self._keep_running, args=(manifest,), name=manifest.name, daemon=True)
                   for manifest in self.services]
        if self.process == "work":
            threads.append(threading.Thread(target=self._keep_running, args=(self.own,), name="box", daemon=True))
        for thread in threads:
            thread.start()
        self._watch()
        deadline = time.monotonic() + LAST
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        """Until told to stop, or until the parent is gone: its end of the channel is then closed."""
        poll = select.poll()
        for one in (self.stop, self.channel, *([self.figures_in] if self.process == "work" else [])):
            poll.register(one, select.POLLIN)
        while not self.stop.is_set():
            ready = [fd for fd, _ in poll.poll(PASS_ON * 1000)]
            if self.channel.fileno() in ready:
                self.stop.set()
            elif self.figures_in.fileno() in ready:
                self._hear_quick()
            elif self.process == "quick":
                self._pass_on()

    def _pass_on(self) -> None:
        """quick has no web server: work shows its states and figures."""
        report = {"states": {name: list(state) for name, state in self.board.states.items()},
                  "figures": {name: one.snapshot() for name, one in self.figures.items()}}
        try:
            self.figures_out.send(json.dumps(report).encode(), socket.MSG_DONTWAIT)
        except OSError:
            pass  # work is not there, or not fast enough: the next report says it all again

    def _hear_quick(self) -> None:
        try:
            self.from_quick = {**json.loads(self.figures_in.recv(1 << 20, socket.MSG_DONTWAIT)), "heard": time.monotonic()}
        except OSError:
            pass

    def _keep_running(self, manifest: Manifest) -> None:
        """The life of one service: run, and run again, until told to stop."""
        log = Log(manifest.name, self.context.log.verbose)
        failures: list[float] = []
        while not self.stop.is_set():
            self.board.set(manifest.name, State(STARTING, self.context.clock.time()))
            wrong_settings: list[ConfigError] = []
            reason = run.guarded(lambda: self._run_service(manifest, log, wrong_settings), log)
            if self.stop.is_set():
                return
            failures = failures[1 - board.MOST_FAILURES:] + [self.context.clock.monotonic()]
            state, rest = board.next_try(failures, failures[-1])
            if wrong_settings:  # no use in trying five times
                state, rest = PARKED, board.PARKED_FOR
            reason = reason or "it ended by itself"
            log.error("%s; %s for %d s", reason, "parked" if state == PARKED else "stopped", rest)
            self.board.set(manifest.name, State(state, self.context.clock.time(), reason))
            self.context.clock.wait(rest, self.stop)

    def _run_service(self, manifest: Manifest, log: Log, wrong_settings: list[ConfigError]) -> None:
        module: object = None
        if manifest is self.own:
            settings = self.settings
        else:
            module = importlib.import_module(manifest.module)
            try:
                settings = run.load_settings(manifest, getattr(module, "SETTINGS", {}), self.context.lab, self.context.written)
            except ConfigError as error:
                wrong_settings.append(error)
                raise
        sockets = listen.duplicate(self.sockets[manifest.name]) or listen.open_sockets(manifest, settings, log)
        addresses = tuple(shown_address(one) for group in sockets.values() for one in group)

        def ready() -> None:
            self.board.set(manifest.name, State(UP, self.context.clock.time(), "", addresses))
        context = self.context._replace(log=log, sockets=sockets, ready=ready,
                                        figures=self.figures.get(manifest.name, Figures()))
        try:
            if manifest is self.own:
                self._serve_box(context)
            elif manifest.runs.kind == "always":
                module.serve(settings, context)  # type: ignore[attr-defined]
            else:
                self._run_timed(manifest, module, settings, context)
        finally:
            listen.close(sockets)

    def _run_timed(self, manifest: Manifest, module: object, settings: SimpleNamespace, context: Context) -> None:
        """A timed service: waits for its times, and runs once at each."""
        options = run.build_parser(manifest, module).parse_args([])  # type: ignore[arg-type]
        while True:
            self.board.set(manifest.name, State(WAITING, context.clock.time()))
            due = time_due(manifest, context.clock.time())
            # In slices: while the box sleeps, or its clock is set, the time that is left changes.
            while context.clock.time() < due:
                if context.clock.wait(min(3600.0, due - context.clock.time()), context.stop):
                    return
                due = min(due, time_due(manifest, context.clock.time())) if manifest.runs.kind == "daily" else due
            self.board.set(manifest.name, State(UP, context.clock.time()))
            code = module.once(settings, context, options)  # type: ignore[attr-defined]
            if code:
                raise PennyError("it ended with status %d" % code)

    # The page of the whole box

    def _serve_box(self, context: Context) -> None:
        from penny.core import web
        web.serve([web.Route("/health", self._health), web.Route("/metrics", self._metrics)], context,
                  context.sockets["8106/tcp"], hosts=("." + context.lab.domain,))

    def _states(self) -> dict[str, State]:
        states = {name: State(*state) for name, state in self.from_quick["states"].items()}
        if time.monotonic() - self.from_quick["heard"] > 3 * PASS_ON:
            states = {name: State(FAILED, state.since, "no word from its process") for name, state in states.items()}
        states.update(self.board.states)
        states.pop(self.own.name, None)
        return states

    def _health(self, request: web.Request) -> web.Response:
        from penny.core import web
        states = self._states()
        well = all(state.state in (UP, WAITING) for state in states.values())
        return web.as_json({"status": "up" if well else "degraded", "services": board.as_json(states)})

    def _metrics(self, request: web.Request) -> web.Response:
        from penny.core import web
        parts = {name: one.snapshot() for name, one in self.figures.items()}
        for name, state in self._states().items():
            own = Figures()
            own.set("service_up", "Whether a service runs.", float(state.state in (UP, WAITING)))
            parts[name] = parts.get(name, self.from_quick["figures"].get(name, [])) + own.snapshot()
        return web.Response(200, figures.render(parts).encode(), figures.CONTENT_TYPE)


def shown_address(one: socket.socket) -> str:
    """What a person types: a URL for TCP, which is HTTP in this house, else address and protocol."""
    address = listen.address_of(one)
    return "http://%s/" % address if one.type == socket.SOCK_STREAM else address + "/udp"


def time_due(manifest: Manifest, now: float) -> float:
    """When a timed service runs next."""
    if manifest.runs.kind == "every":
        return now + manifest.runs.at
    return next_time_of_day(now, int(manifest.runs.at))
