"""Settings: text that a person wrote, turned into values by named converters.

A converter is a function from text to value that raises ValueError with what it expected. A module names the converter
of each of its keys in SETTINGS; the default of each stands in its manifest, and nowhere else. Later sources win:
manifest, `[service NAME]` in lab.ini, NAME.env, --set KEY=VALUE. A wrong section, key or value is a ConfigError that
names the file, the section, the key, and for a typing slip the nearest key that exists.
"""
from __future__ import annotations

import configparser
import os
import re
import time
from types import SimpleNamespace
from typing import Callable, Iterable, Mapping, NamedTuple

from penny.core.errors import ConfigError, one_line

Converter = Callable[[str], object]
Ini = dict  # of section name to dict of key to value, all text

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
ZONEINFO = "/usr/share/zoneinfo"
# POSIX.1-2017 section 8.3, TZ: std offset [dst [offset] [,rule]]
POSIX_TZ = re.compile(r"(<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})[+-]?\d{1,2}(:\d\d){0,2}"
                      r"((<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})([+-]?\d{1,2}(:\d\d){0,2})?(,[JM0-9./:,+-]+)?)?")


# Converters

def text(value: str) -> str:
    return value


def integer(value: str) -> int:
    """A whole number of 0 or more."""
    if not re.fullmatch(r"\d{1,15}", value):
        raise ValueError("a whole number, such as 10")
    return int(value)


def count(value: str) -> int:
    """A whole number of 1 or more."""
    if not integer(value):
        raise ValueError("a whole number of 1 or more")
    return integer(value)


def boolean(value: str) -> bool:
    known = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if value.lower() not in known:
        raise ValueError("yes or no")
    return known[value.lower()]


def duration(value: str) -> float:
    """Seconds, from '90', '15m', '1h 30m'."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", value.lower())
    if not parts or not re.fullmatch(r"(\s*\d+(?:\.\d+)?\s*[smhdw]?)+\s*", value.lower()):
        raise ValueError("a duration, such as 90s, 15m or 1h 30m")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def size(value: str) -> int:
    """Bytes, from '512', '64K', '8M'."""
    match = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", value.strip().lower())
    if not match:
        raise ValueError("a size, such as 64K or 8M")
    return int(match[1]) * SIZES[match[2]]


def share(value: str) -> float:
    """A part of the whole, 0 to 1, from '25 %' or '0.25'."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", value.strip())
    part = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if not 0 < part <= 1:
        raise ValueError("a share, such as 25 %")
    return part


def words(value: str) -> tuple[str, ...]:
    """A list, parted by spaces or commas."""
    return tuple(word for word in re.split(r"[\s,]+", value) if word)


def addresses(value: str) -> tuple[str, ...]:
    """IP addresses to listen on; '*' is every address."""
    import ipaddress  # 0.8 MB, and most runs listen on the default
    found = []
    for word in words(value):
        try:
            found += ["0.0.0.0", "::"] if word == "*" else [str(ipaddress.ip_address(word))]
        except ValueError:
            raise ValueError("IP addresses, such as 127.0.0.1 ::1, or *") from None
    if not found:
        raise ValueError("at least one IP address, or *")
    return tuple(found)


def network(text: str) -> tuple[int, int, int]:
    """How many bits the addresses of a network have (32 or 128), its first and its last, from '192.0.2.0/24'."""
    import socket  # whoever listens has it; ipaddress would be 0.8 MB
    address, slash, length = text.partition("/")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        bits = len(packed) * 8
        prefix = integer(length) if slash else bits
        if not 0 <= prefix <= bits:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError("networks, such as 192.168.1.0/24 or fd00:1::/64, not %s" % text) from None
    rest = (1 << bits - prefix) - 1
    start = int.from_bytes(packed, "big") & ~rest
    return bits, start, start | rest


def networks(value: str) -> tuple[str, ...]:
    """A list of networks."""
    for word in words(value):
        network(word)
    if not words(value):
        raise ValueError("networks, such as 192.168.1.0/24")
    return words(value)


def port(value: str) -> int:
    number = integer(value)
    if not 0 <= number <= 65535:
        raise ValueError("a port, 0 to 65535")
    return number


def time_of_day(value: str) -> int:
    """Minutes after midnight, from '05:00'."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value)
    if not match:
        raise ValueError("a time of day, such as 05:00")
    return int(match[1]) * 60 + int(match[2])


def path(value: str) -> str:
    return os.path.expanduser(value)


def timezone(value: str) -> str:
    """A name of the time zone database that this box has, or a POSIX TZ string (a small box may lack the database)."""
    name = re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", value)
    if value and not (name and os.path.isfile(os.path.join(ZONEINFO, value))) and not POSIX_TZ.fullmatch(value):
        raise ValueError("a time zone that this box knows, such as Europe/Berlin, or CET-1CEST,M3.5.0,M10.5.0/3")
    return value


def contact(value: str) -> str:
    """A mail address or URL, as it may stand in a header field."""
    if not re.fullmatch(r"[!-~]{0,200}", value):
        raise ValueError("a mail address or URL, such as ada@example.org")
    return value


# Files

class Lab(NamedTuple):
    """What lab.ini says of the whole lab, and the settings that it gives to services, as text."""

    name: str
    domain: str
    timezone: str
    contact: str  # an address of the owner, told to publishers
    services: dict[str, dict[str, str]]
    segments: dict[str, tuple[str, ...]] = {}  # by name, the networks of each


LAB_KEYS: dict[str, Converter] = {"name": text, "domain": text, "timezone": timezone, "contact": contact}
SEGMENT_KEYS: dict[str, Converter] = {"subnet": networks}
LAB_DEFAULTS = {"name": "home", "domain": "lab.home.arpa", "timezone": "", "contact": ""}  # RFC 8375 for the domain


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing when no known word is near."""
    import difflib  # only on the way to an error message
    close = difflib.get_close_matches(word, list(known), 1)
    return " (did you mean %s?)" % close[0] if close else ""


def parse_ini(content: str, name: str) -> Ini:
    """The sections of an INI file. Remarks stand on lines of their own; there is no interpolation."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",),
                                       default_section="\0", strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    try:
        parser.read_string(content, name)
    except configparser.Error as error:
        raise ConfigError("cannot read %s: %s" % (name, _first_reason(error))) from error
    return {section: dict(parser[section]) for section in parser.sections()}


def _first_reason(error: configparser.Error) -> str:
    if isinstance(error, configparser.ParsingError) and getattr(error, "errors", None):
        line, content = error.errors[0][:2]
        return "line %d is neither a [section] nor key = value: %s" % (line, " ".join(content.split()))
    return one_line(error)


class Written(NamedTuple):
    """What the owner wrote, read once, while this process may still be root: such files may hold secrets."""

    lab_file: str
    lab_text: str
    env: dict[str, tuple[str, str]]  # by service: the file and its text


def read_written(config_dir: str, services: Iterable[str]) -> Written:
    """The files of a configuration directory, each of which may be missing. Raises ConfigError."""
    lab_file = os.path.join(config_dir, "lab.ini")
    files = {name: os.path.join(config_dir, name + ".env") for name in services}
    return Written(lab_file, read_text(lab_file), {name: (file, read_text(file)) for name, file in files.items()})


def read_text(file: str) -> str:
    """A file of the owner's as text, empty when there is none. Raises ConfigError."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.read()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigError("cannot read %s: not UTF-8 at byte %d" % (file, error.start)) from error
    except OSError as error:
        raise ConfigError("cannot read %s: %s" % (file, one_line(error))) from error


def parse_lab(written: Written) -> Lab:
    """What lab.ini says; one machine needs none at all. Raises ConfigError."""
    file = written.lab_file
    known = ["lab"] + ["service " + name for name in written.env]
    values, given, segments = dict(LAB_DEFAULTS), {}, {}
    for section, keys in parse_ini(written.lab_text, file).items():
        if section.startswith("segment "):
            place = "%s [%s]" % (file, section)
            found = {key: convert(SEGMENT_KEYS, key, value, place) for key, value in keys.items()}
            segments[section.partition(" ")[2].strip()] = found.get("subnet", ())
            continue
        if section not in known:
            raise ConfigError("%s: unknown section [%s]%s" % (file, section, nearest(section, known)))
        if section == "lab":
            for key, value in keys.items():
                values[key] = str(convert(LAB_KEYS, key, value, "%s [lab]" % file))
        else:
            given[section.partition(" ")[2]] = keys
    return Lab(values["name"], values["domain"], values["timezone"], values["contact"], given, segments)


def convert(converters: Mapping[str, Converter], key: str, value: str, place: str) -> object:
    """The value of one key. Raises ConfigError naming place and key."""
    if key not in converters:
        raise ConfigError("%s: unknown key %s%s" % (place, key, nearest(key, converters)))
    try:
        return converters[key](value.strip())
    except ValueError as error:
        shown = " ".join(value.split())
        raise ConfigError("%s: %s = %s: expected %s" % (place, key, shown, one_line(error))) from None


def load(name: str, defaults: Mapping[str, str], converters: Mapping[str, Converter], lab: Lab, written: Written,
         overrides: Iterable[str] = ()) -> SimpleNamespace:
    """The settings of a service as attributes; a dash in a key is an underscore there."""
    env, env_text = written.env[name]
    lines = [line.strip() for line in env_text.splitlines()]
    sources = [
        (list(defaults.items()), "the manifest of %s" % name),
        (list(lab.services.get(name, {}).items()), "%s [service %s]" % (written.lab_file, name)),
        ([_pair(line, env) for line in lines if line and not line.startswith("#")], env),
        ([_pair(word, "--set") for word in overrides], "--set"),
    ]
    values: dict[str, object] = {}
    for pairs, place in sources:
        for key, value in pairs:
            values[key.replace("-", "_")] = convert(converters, key, value, place)
    missing = [key for key in converters if key.replace("-", "_") not in values]
    if missing:
        raise ConfigError("the manifest of %s: no default for %s" % (name, missing[0]))
    return SimpleNamespace(**values)


def _pair(word: str, place: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ConfigError("%s: expected KEY=VALUE, not %s" % (place, word))
    return key.strip(), value.strip()


def apply_timezone(zone: str) -> None:
    """Make local time that of the lab; the box's own when the lab names none."""
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
