from __future__ import annotations

import pytest

from penny.core import manifest as manifests
from penny.core.errors import ConfigError, UsageError
from penny.core.manifest import Runs, Setting, Socket

FULL = """\
[service]
title   = Network time
module  = penny.ntp
runs    = every 15m
process = quick
sockets = 123/udp 4123/tcp
[settings]
# the stratum to claim
# without upstream
local   = 0
plain   = x
"""


def test_a_manifest():
    found = manifests.parse(FULL, "ntp")
    assert found.title == "Network time" and found.module == "penny.ntp" and found.process == "quick"
    assert found.runs == Runs("every", 900)
    assert found.sockets == (Socket(123, "udp"), Socket(4123, "tcp"))
    assert found.sockets[0].name == "123/udp"
    assert found.settings == {"local": Setting("0", "the stratum to claim without upstream"), "plain": Setting("x", "")}


@pytest.mark.parametrize("text, runs", [("always", Runs("always")), ("once", Runs("once")), ("every 90s", Runs("every", 90)),
                                        ("daily 05:30", Runs("daily", 330))])
def test_when_it_runs(text, runs):
    assert manifests.parse_runs(text, "x") == runs


@pytest.mark.parametrize("text", ["sometimes", "every", "every 0s", "daily", "daily 25:00", "always 5m", ""])
def test_when_it_cannot_run(text):
    with pytest.raises(ConfigError, match="expected always, once, every 15m or daily 05:00"):
        manifests.parse_runs(text, "x")


@pytest.mark.parametrize("old, new, words", [
    ("title", "tittle", "unknown key tittle (did you mean title?)"),
    ("[settings]", "[setting]", "unknown section [setting] (did you mean settings?)"),
    ("module  = penny.ntp", "", "module is missing"),
    ("quick", "fast", "process = fast: expected quick or work"),
    ("123/udp", "123", "expected such as"), ("123/udp", "70000/udp", "expected such as"), ("123/udp", "0/udp", "expected such as"),
])
def test_mistakes_name_the_manifest(old, new, words):
    with pytest.raises(ConfigError) as caught:
        manifests.parse(FULL.replace(old, new, 1), "ntp")
    assert str(caught.value).startswith("services/ntp.ini")
    assert words in str(caught.value)


def test_a_service_that_does_not_exist_suggests_one_that_does():
    with pytest.raises(UsageError, match=r"no service or command diggest \(did you mean digest\?\)"):
        manifests.load("diggest")


def test_all_shipped_manifests_can_be_read_and_explain_their_settings():
    assert manifests.names()
    for name in manifests.names():
        for key, setting in manifests.load(name).settings.items():
            assert setting.help, "%s: %s has no remark" % (name, key)
