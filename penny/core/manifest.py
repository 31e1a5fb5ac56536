"""Manifests: services/NAME.ini says of each service and command what it is, what it needs, and its defaults.

Only text is read here, never the module: a list of all services costs a few small files, not their imports.
"""
from __future__ import annotations

import re
from typing import NamedTuple

from penny.core import files, settings
from penny.core.errors import ConfigError, UsageError

FOLDER = "services"
KEYS = ("title", "module", "runs", "process", "sockets", "class", "memory", "needs", "prefer", "replicas", "spread",
        "state", "open-to", "health", "runbook")
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Runs(NamedTuple):
    """When a service runs: `kind` is always, once (a command), every (`at` in seconds) or daily (`at` in minutes)."""

    kind: str
    at: float = 0


class Socket(NamedTuple):
    """A socket to listen on; its name in Context.sockets is 'PORT/PROTOCOL'."""

    port: int
    protocol: str

    @property
    def name(self) -> str:
        return "%d/%s" % self


class Setting(NamedTuple):
    default: str
    help: str  # the remark above it in the manifest


class Manifest(NamedTuple):
    name: str
    title: str
    module: str
    runs: Runs
    process: str  # quick or work
    sockets: tuple[Socket, ...]
    settings: dict[str, Setting]


def names() -> list[str]:
    """The names of all services and commands."""
    return [name[:-4] for name in files.list_shipped(FOLDER, ".ini")]


def load(name: str) -> Manifest:
    """The manifest of a service or command. Raises UsageError when there is none of that name."""
    known = names()
    if name not in known:
        raise UsageError("there is no service or command %s%s; `penny` lists them"
                         % (name, settings.nearest(name, known)))
    return parse(files.read_shipped(FOLDER, name + ".ini").decode(), name)


def parse(content: str, name: str) -> Manifest:
    """A manifest from its text. Raises ConfigError."""
    place = "%s/%s.ini" % (FOLDER, name)
    sections = settings.parse_ini(content, place)
    for section in sections:
        if section not in ("service", "settings"):
            raise ConfigError("%s: unknown section [%s]%s"
                              % (place, section, settings.nearest(section, ("service", "settings"))))
    service = sections.get("service", {})
    for key in service:
        if key not in KEYS:
            raise ConfigError("%s [service]: unknown key %s%s" % (place, key, settings.nearest(key, KEYS)))
    for key in ("title", "module", "runs"):
        if not service.get(key):
            raise ConfigError("%s [service]: %s is missing" % (place, key))
    process = service.get("process", "work")
    if process not in ("quick", "work"):
        raise ConfigError("%s [service]: process = %s: expected quick or work" % (place, process))
    remarks = _remarks(content)
    defaults = {key: Setting(value, remarks.get(key, "")) for key, value in sections.get("settings", {}).items()}
    return Manifest(name, service["title"], service["module"], parse_runs(service["runs"], place), process,
                    _sockets(service.get("sockets", ""), place), defaults)


def parse_runs(value: str, place: str) -> Runs:
    """`always`, `once`, `every 15m` or `daily 05:00`."""
    kind, _, rest = value.partition(" ")
    try:
        if kind in ("always", "once") and not rest:
            return Runs(kind)
        if kind == "every" and settings.duration(rest) > 0:
            return Runs(kind, settings.duration(rest))
        if kind == "daily":
            return Runs(kind, settings.time_of_day(rest))
    except ValueError:
        pass
    raise ConfigError("%s [service]: runs = %s: expected always, once, every 15m or daily 05:00" % (place, value))


def _sockets(value: str, place: str) -> tuple[Socket, ...]:
    found = []
    for word in settings.words(value):
        match = re.fullmatch(r"(\d{1,5})/(tcp|udp)", word)
        if not match or not 0 < int(match[1]) < 65536:
            raise ConfigError("%s [service]: sockets = %s: expected such as 8105/tcp or 123/udp" % (place, value))
        found.append(Socket(int(match[1]), match[2]))
    return tuple(found)


def _remarks(content: str) -> dict[str, str]:
    """The remark lines right above each key, which are its help text."""
    found, above = {}, []
    for line in content.splitlines():
        if line.startswith("#"):
            above.append(line[1:].strip())
            continue
        key, equals, _ = line.partition("=")
        if equals and above:
            found[key.strip()] = " ".join(above)
        above = []
    return found
