"""One main() for every service and command: arguments, settings, directories, signals, sockets, readiness, exit codes.

A module that is a service or command offers

    SETTINGS = {key: converter}             its settings; the defaults stand in its manifest
    serve(settings, context)                a resident service: blocks until context.stop is set
    once(settings, context, options) -> int what happens when no verb is given, or each time a timed service is due
    OPTIONS = (option(...), ...)            the options of once
    VERBS = {name: Verb(run, options, help)}

each of them only where it needs it. Without a verb `once` runs, and where there is none, `serve`. Nothing else is asked
of a module: it sets no signal handler, binds no socket, changes no privileges and keeps no state of its own.

Exit codes: 0 done; 1 a fault, start me again; 2 wrong usage; 78 bad configuration, starting again does not help.
"""
from __future__ import annotations

import errno
import importlib
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple

from penny.core import clock as clocks
from penny.core import listen, manifest as manifests, privileges, settings as conversion
from penny.core.clock import Clock, Stop
from penny.core.errors import ConfigError, PennyError, UsageError, one_line, printable
from penny.core.figures import Figures
from penny.core.log import Log
from penny.core.manifest import Manifest

if TYPE_CHECKING:
    import argparse

DONE, FAULT, USAGE, BAD_CONFIGURATION, INTERRUPTED = 0, 1, 2, 78, 130
STOPPING = (signal.SIGTERM, signal.SIGINT)
DESCRIPTORS = 8192  # wanted; the cap on connections follows what the box grants
# What every service that listens can be told, besides its own settings.
LISTEN = {"listen": conversion.addresses, "port": conversion.port}
LISTEN_HELP = {"listen": "IP addresses to listen on, or * for all", "port": "the port to listen on"}


class Context(NamedTuple):
    """What the house gives to a running service or command."""

    clock: Clock
    stop: Stop
    ready: Callable[[], None]  # to be called once, when requests are answered
    sockets: dict[str, list[socket.socket]]  # by the manifest's name of the socket ("8104/tcp"): bound, listening
    state_dir: str  # stores are STATE_DIR/<service>/<name>.db
    log: Log
    figures: Figures
    lab: conversion.Lab
    written: conversion.Written  # what the owner wrote, for whoever loads settings of other services


class Verb(NamedTuple):
    """One thing that a service or command can be told to do."""

    run: Callable[[SimpleNamespace, Context, argparse.Namespace], int]
    options: tuple
    help: str


class Home(NamedTuple):
    """Where the owner's configuration and penny's state are."""

    config_dir: str
    state_dir: str


def option(*names: str, **how: object) -> tuple:
    """An option or argument of a verb, as argparse's add_argument takes it."""
    return names, how


def find_home(home: str | None) -> Home:
    """--home DIR, else what systemd says, else /etc and /var/lib for root, else the XDG directories."""
    if home:
        home = os.path.abspath(home)
        return Home(os.path.join(home, "etc"), os.path.join(home, "var"))
    root, user = os.geteuid() == 0, os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(user, ".config")
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(user, ".local", "state")
    config_dir = os.environ.get("CONFIGURATION_DIRECTORY", "").partition(":")[0]
    state_dir = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Home(config_dir or ("/etc/penny" if root else os.path.join(config, "penny")),
                state_dir or ("/var/lib/penny" if root else os.path.join(state, "penny")))


def load_settings(manifest: Manifest, converters: dict[str, conversion.Converter], lab: conversion.Lab,
                  written: conversion.Written, overrides: Iterable[str] = ()) -> SimpleNamespace:
    """A service's settings; `listen` and `port` are added where it listens. Raises ConfigError."""
    defaults = {key: setting.default for key, setting in manifest.settings.items()}
    if manifest.sockets:
        converters = {**converters, **LISTEN}
        defaults = {"listen": "127.0.0.1 ::1", "port": str(manifest.sockets[0].port), **defaults}
    return conversion.load(manifest.name, defaults, converters, lab, written, overrides)


def main(name: str, arguments: list[str] | None = None) -> None:
    """Run a service or command by its manifest's name, and exit."""
    exit_with(lambda: _run(name, sys.argv[1:] if arguments is None else arguments))


def exit_with(action: Callable[[], int]) -> None:
    """Run an action and exit with its code, or with that of the error that ended it, which is said on one line."""
    _open_standard_streams()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a title must not end a run on an old terminal
    try:
        code = action()
        sys.stdout.flush()
    except UsageError as error:
        code = _say(error, USAGE)
    except ConfigError as error:
        code = _say(error, BAD_CONFIGURATION)
    except PennyError as error:
        code = _say(error, FAULT)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # `penny rss list | head`: the reader has seen enough
        code = DONE
    except OSError as error:
        if error.filename or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        code = _say(PennyError("cannot write the output: %s" % one_line(error)), FAULT)
    try:
        sys.stdout.flush()
    except OSError:  # said above, or nobody reads: what is left in the buffer must not be tried again at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _say(error: PennyError, code: int) -> int:
    sys.stderr.write("penny: %s\n" % printable(str(error)))
    return code


def _open_standard_streams() -> None:
    """Where a caller closed one of them: the next socket or store would get its number, and be written to."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            setattr(sys, name, open(fd, "r" if fd == 0 else "w", closefd=False))


def _run(name: str, arguments: list[str]) -> int:
    manifest = manifests.load(name)
    module = importlib.import_module(manifest.module)
    options = build_parser(manifest, module).parse_args(arguments)
    home = find_home(getattr(options, "home", None))
    written = conversion.read_written(home.config_dir, manifests.names())
    lab = conversion.parse_lab(written)
    overrides = getattr(options, "set_first", []) + getattr(options, "set", [])
    settings = load_settings(manifest, getattr(module, "SETTINGS", {}), lab, written, overrides)
    conversion.apply_timezone(lab.timezone)
    try:
        clock = clocks.from_environment()
    except ValueError as error:
        raise ConfigError("cannot read PENNY_CLOCK: %s" % error) from None
    context = Context(clock, Stop(), lambda: None, {}, home.state_dir, Log(name, getattr(options, "verbose", False)),
                      Figures(), lab, written)
    if options.verb == "serve":
        return serve_alone(manifest, module, settings, context)
    run = module.once if options.verb is None else module.VERBS[options.verb].run
    return run(settings, context, options)


def serve_alone(manifest: Manifest, module: ModuleType, settings: SimpleNamespace, context: Context) -> int:
    """A service in a process of its own, as under systemd."""
    privileges.make_state_dir(context.state_dir)
    raise_descriptors()
    sockets = listen.inherited(manifest) or listen.open_sockets(manifest, settings, context.log)
    privileges.drop_privileges(context.state_dir, context.log)
    stop_on_signals(context.stop)

    def ready() -> None:
        addresses = [listen.address_of(one) for group in sockets.values() for one in group]
        context.log.info("ready%s", " on " + ", ".join(addresses) if addresses else "")
        listen.notify("READY=1")
    module.serve(settings, context._replace(sockets=sockets, ready=ready))
    listen.notify("STOPPING=1")
    return DONE


def stop_on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT set `stop`; a second SIGINT ends at once. For what watches `stop`: whatever else blocks is
    better ended by the signal itself. Python runs a handler in the main thread only, but the kernel may give the signal
    to any thread: hence the wake-up, without which the main thread would sleep on."""
    def handle(number: int, frame: object) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()
    for number in STOPPING:
        signal.signal(number, handle)
    signal.set_wakeup_fd(stop.wakeup_fd(), warn_on_full_buffer=False)


def raise_descriptors() -> None:
    """Lift the soft limit of descriptors towards the hard one: each connection costs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def guarded(action: Callable[[], object], log: Log) -> str:
    """Run one piece of work that must not take the rest of the process with it.

    Returns "" when it ended by itself, else the reason on one line, which is for the caller to tell. An error of
    penny's own (PennyError) needs no traceback; any other is a fault in the code, and the log has it in full.
    """
    try:
        action()
    except PennyError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # the one net of the house: a service that crashes is restarted, whatever it was
        import traceback
        log.error("%s", traceback.format_exc().rstrip())
        return "%s: %s" % (type(error).__name__, " ".join(str(error).split()))
    return ""


@contextmanager
def beside(work: Callable[[Context], None], context: Context) -> Iterator[None]:
    """Run `work` in a thread of its own while the block runs. Its context has a stop of its own, which is set when the
    block ends, for whatever reason: a service that crashes must not leave half of itself behind."""
    own = context._replace(stop=Stop())
    thread = threading.Thread(target=work, args=(own,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        own.stop.set()
        thread.join()
        own.stop.close()


def build_parser(manifest: Manifest, module: ModuleType) -> argparse.ArgumentParser:
    """The command line of a service or command, all of it derived from its module and manifest."""
    import argparse  # 1 MB; `penny up` hands its children no command line
    def common(set_name: str) -> argparse.ArgumentParser:
        """What may stand before a verb and after it; argparse would let the later --set forget the earlier one."""
        found = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        found.add_argument("--home", metavar="DIR", help="configuration in DIR/etc and state in DIR/var")
        found.add_argument("--set", metavar="KEY=VALUE", action="append", dest=set_name, help="override one setting")
        found.add_argument("--verbose", action="store_true", help="log more")
        return found
    shape = argparse.RawDescriptionHelpFormatter
    verbs = dict(getattr(module, "VERBS", {}))
    has_once = hasattr(module, "once")
    parser = argparse.ArgumentParser("penny " + manifest.name, parents=[common("set_first")], formatter_class=shape,
                                     description=manifest.title + ".", epilog=_settings_help(manifest),
                                     allow_abbrev=False)
    _add_options(parser, getattr(module, "OPTIONS", ()))
    if hasattr(module, "serve"):
        verbs["serve"] = Verb(lambda *_: DONE, (), "run until stopped" + ("" if has_once else " (without a verb, too)"))
    if verbs:
        group = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
        for verb, what in verbs.items():
            sub = group.add_parser(verb, parents=[common("set")], help=what.help, description=what.help[:1].upper()
                                   + what.help[1:] + ".", formatter_class=shape, allow_abbrev=False)
            _add_options(sub, what.options)
    parser.set_defaults(verb=None if has_once else "serve")  # after add_subparsers, which has a default of its own
    return parser


def _add_options(parser: argparse.ArgumentParser, options: tuple) -> None:
    for names, how in options:
        parser.add_argument(*names, **how)


def _settings_help(manifest: Manifest) -> str:
    rows = [(key, setting.default, setting.help) for key, setting in manifest.settings.items()]
    if manifest.sockets:
        rows += [("listen", "127.0.0.1 ::1", LISTEN_HELP["listen"]),
                 ("port", str(manifest.sockets[0].port), LISTEN_HELP["port"])]
    if not rows:
        return ""
    from textwrap import wrap
    lines = ["settings (in lab.ini under [service %s], or --set):" % manifest.name]
    for key, default, help in rows:
        lines += ["  %s = %s" % (key, default)]
        lines += wrap(help, 78, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
