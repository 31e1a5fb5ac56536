from __future__ import annotations

import pytest

from penny.core import settings
from penny.core.errors import ConfigError

GOOD = [
    (settings.duration, "90", 90), (settings.duration, "15m", 900), (settings.duration, "1h 30m", 5400),
    (settings.duration, "1h30m", 5400), (settings.duration, "2w", 1209600), (settings.duration, "0.5s", 0.5),
    (settings.size, "512", 512), (settings.size, "64K", 65536), (settings.size, "8M", 8 << 20), (settings.size, "1 GiB", 1 << 30),
    (settings.share, "25 %", 0.25), (settings.share, "0.25", 0.25), (settings.share, "100%", 1.0),
    (settings.boolean, "Yes", True), (settings.boolean, "off", False),
    (settings.integer, "0", 0), (settings.port, "65535", 65535),
    (settings.words, "a, b  c", ("a", "b", "c")), (settings.words, "", ()),
    (settings.addresses, "127.0.0.1 ::1", ("127.0.0.1", "::1")), (settings.addresses, "*", ("0.0.0.0", "::")),
    (settings.time_of_day, "05:00", 300), (settings.time_of_day, "23:59", 1439),
    (settings.timezone, "CET-1CEST,M3.5.0,M10.5.0/3", "CET-1CEST,M3.5.0,M10.5.0/3"), (settings.timezone, "UTC0", "UTC0"),
]
BAD = [
    (settings.duration, ""), (settings.duration, "soon"), (settings.duration, "5 parsecs"), (settings.duration, "-5m"),
    (settings.size, "8Q"), (settings.size, "-1"), (settings.share, "0"), (settings.share, "101 %"), (settings.share, "x"),
    (settings.boolean, "maybe"), (settings.integer, "-1"), (settings.integer, "1.5"), (settings.integer, "9" * 20),
    (settings.count, "0"), (settings.port, "65536"), (settings.addresses, "localhost"), (settings.addresses, ""),
    (settings.time_of_day, "24:00"), (settings.time_of_day, "5"), (settings.timezone, "Europe/Atlantis"),
    (settings.timezone, "../../etc/passwd"),
]


@pytest.mark.parametrize("converter, text, value", GOOD)
def test_converters(converter, text, value):
    assert converter(text) == value


@pytest.mark.parametrize("converter, text", BAD)
def test_converters_refuse(converter, text):
    with pytest.raises(ValueError):
        converter(text)


def load(tmp_path, lab="", env="", overrides=(), defaults={"interval": "1h", "keep": "10"}):
    (tmp_path / "lab.ini").write_text(lab)
    (tmp_path / "rss.env").write_text(env)
    written = settings.read_written(str(tmp_path), ["rss", "digest"])
    found = settings.parse_lab(written)
    converters = {"interval": settings.duration, "keep": settings.integer}
    return settings.load("rss", defaults, converters, found, written, overrides)


def test_later_sources_win(tmp_path):
    assert load(tmp_path).interval == 3600
    lab = "[service rss]\ninterval = 2h\n"
    assert load(tmp_path, lab).interval == 7200
    assert load(tmp_path, lab, "# by hand\ninterval=3h\n").interval == 10800
    assert load(tmp_path, lab, "interval=3h\n", ["interval=4h"]).interval == 14400


@pytest.mark.parametrize("lab, words", [
    ("[service rss]\nintervall = 1h\n", ("lab.ini [service rss]", "unknown key intervall", "did you mean interval?")),
    ("[service rs]\n", ("lab.ini", "unknown section [service rs]", "did you mean service rss?")),
    ("[lap]\n", ("unknown section [lap]", "did you mean lab?")),
    ("[lab]\nnam = x\n", ("lab.ini [lab]", "unknown key nam", "did you mean name?")),
    ("[lab]\ntimezone = Mars/Olympus\n", ("timezone = Mars/Olympus", "expected a time zone")),
    ("[service rss]\nkeep = many\n  lines\n", ("keep = many lines", "expected a whole number")),
    ("[service rss]\nkeep = many\n", ("lab.ini [service rss]", "keep = many", "expected a whole number")),
    ("keep = 1\n", ("cannot read", "lab.ini")),
    ("[service rss]\nkeep\n", ("line 2 is neither",)),
    ("[service rss]\nkeep = 1\nkeep = 2\n", ("cannot read", "keep")),
    ("[service rss]\n[service rss]\n", ("cannot read", "service rss")),
])
def test_mistakes_are_one_line_that_names_them(tmp_path, lab, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, lab)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_mistakes_in_the_other_sources(tmp_path):
    with pytest.raises(ConfigError, match=r"rss\.env: unknown key kep \(did you mean keep\?\)"):
        load(tmp_path, env="kep=1\n")
    with pytest.raises(ConfigError, match="--set: expected KEY=VALUE, not keep"):
        load(tmp_path, overrides=["keep"])
    with pytest.raises(ConfigError, match="no default for keep"):
        load(tmp_path, defaults={"interval": "1h"})


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "lab.ini").write_bytes(b"[lab]\nname = \xff\n")
    with pytest.raises(ConfigError, match="lab.ini: not UTF-8 at byte 13"):
        settings.read_written(str(tmp_path), [])


def test_a_percent_sign_and_a_hash_are_just_characters(tmp_path):
    (tmp_path / "lab.ini").write_text("[lab]\nname = 100% #1 = best\n")
    assert settings.parse_lab(settings.read_written(str(tmp_path), [])).name == "100% #1 = best"


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "lab.ini").write_bytes(b"\xef\xbb\xbf[lab]\nname = x\n")
    assert settings.parse_lab(settings.read_written(str(tmp_path), [])).name == "x"
