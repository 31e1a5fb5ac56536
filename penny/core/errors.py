"""The errors that a person is meant to read.

A message is one line, "cannot <verb> <thing>: <reason>", and names the file, address or key concerned. Whoever catches
one prints it as it is; a traceback is for faults of penny itself.
"""
from __future__ import annotations


class PennyError(Exception):
    """Something outside penny went wrong and nothing but this one action is lost."""


class ConfigError(PennyError):
    """What the owner wrote cannot be used: a restart would not help (exit code 78)."""


class UsageError(PennyError):
    """The command line is wrong (exit code 2)."""


def one_line(error: BaseException) -> str:
    """The reason in an exception, on one line, without Python's decoration."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str, instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """Text from outside without what would steer a terminal or break a line."""
    return "".join(c if c.isprintable() else instead for c in text)
