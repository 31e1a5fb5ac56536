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

import importlib
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple

from penny.core import clock as clocks
from penny.core import listen, manifest as manifests, privileges, settings as conversion
from penny.core.clock import Clock, Stop
from penny.core.errors import ConfigError, PennyError, UsageError
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
    home: Home


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


def load_settings(manifest: Manifest, module: ModuleType, home: Home,
                  overrides: list[str] = []) -> tuple[SimpleNamespace, conversion.Lab]:  # noqa: B006 (never changed)
    """A service's settings and what lab.ini says of the lab. Raises ConfigError."""
    lab = conversion.read_lab(home.config_dir, manifests.names())
    converters = dict(getattr(module, "SETTINGS", {}))
    defaults = {key: setting.default for key, setting in manifest.settings.items()}
    if manifest.sockets:
        converters.update(LISTEN)
        defaults = {"listen": "127.0.0.1 ::1", "port": str(manifest.sockets[0].port), **defaults}
    return conversion.load(manifest.name, defaults, converters, lab, home.config_dir, overrides), lab


def main(name: str, arguments: list[str] | None = None) -> None:
    """Run a service or command by its manifest's name, and exit."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a title must not end a run on an old terminal
    try:
        sys.exit(_run(name, sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        _end(error, USAGE)
    except ConfigError as error:
        _end(error, BAD_CONFIGURATION)
    except PennyError as error:
        _end(error, FAULT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `penny rss list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(DONE)


def _end(error: PennyError, code: int) -> None:
    sys.stdout.flush()
    sys.stderr.write("penny: %s\n" % error)
    sys.exit(code)


def _run(name: str, arguments: list[str]) -> int:
    manifest = manifests.load(name)
    module = importlib.import_module(manifest.module)
    options = build_parser(manifest, module).parse_args(arguments)
    home = find_home(getattr(options, "home", None))
    settings, lab = load_settings(manifest, module, home, getattr(options, "set", []))
    conversion.apply_timezone(lab.timezone)
    try:
        clock = clocks.from_environment()
    except ValueError as error:
        raise ConfigError("cannot read PENNY_CLOCK: %s" % error) from None
    context = Context(clock, Stop(), lambda: None, {}, home.state_dir, Log(name, getattr(options, "verbose", False)),
                      Figures(), lab, home)
    if options.verb == "serve":
        return serve_alone(manifest, module, settings, context)
    stop_on_signals(context.stop)
    run = module.once if options.verb is None else module.VERBS[options.verb].run
    return run(settings, context, options)


def serve_alone(manifest: Manifest, module: ModuleType, settings: SimpleNamespace, context: Context) -> int:
    """A service in a process of its own, as under systemd."""
    privileges.make_state_dir(context.state_dir)
    raise_descriptors()
    sockets = listen.open_sockets(manifest, settings, context.log)
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
    """SIGTERM and SIGINT set `stop`; a second SIGINT ends at once. SIGPIPE stays ignored: writes fail instead."""
    def handle(number: int, frame: object) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()
    for number in STOPPING:
        signal.signal(number, handle)


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
    except Exception as error:  # the one net of the house: a service that crashes is restarted, whatever it was
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
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--home", metavar="DIR", help="configuration in DIR/etc and state in DIR/var")
    common.add_argument("--set", metavar="KEY=VALUE", action="append", help="override one setting")
    common.add_argument("--verbose", action="store_true", help="log more")
    shape = argparse.RawDescriptionHelpFormatter
    verbs = dict(getattr(module, "VERBS", {}))
    has_once = hasattr(module, "once")
    parser = argparse.ArgumentParser("penny " + manifest.name, parents=[common], formatter_class=shape,
                                     description=manifest.title + ".", epilog=_settings_help(manifest),
                                     allow_abbrev=False)
    _add_options(parser, getattr(module, "OPTIONS", ()))
    parser.set_defaults(verb=None if has_once else "serve")
    if hasattr(module, "serve"):
        verbs["serve"] = Verb(lambda *_: DONE, (), "run until stopped" + ("" if has_once else " (without a verb, too)"))
    if verbs:
        group = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
        for verb, what in verbs.items():
            sub = group.add_parser(verb, parents=[common], help=what.help, description=what.help[:1].upper()
                                   + what.help[1:] + ".", formatter_class=shape, allow_abbrev=False)
            _add_options(sub, what.options)
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
    lines = ["settings (in lab.ini under [service %s], or --set):" % manifest.name]
    for key, default, help in rows:
        lines += ["  %s = %s" % (key, default)] + (["      " + help] if help else [])
    return "\n".join(lines)
