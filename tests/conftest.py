"""What every test can ask for: --slow, a home of its own, and penny as a real process."""
from __future__ import annotations

import time

import pytest

from support import Penny


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes seconds, or needs a real peer; run with --slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: bin/test --slow runs it"))


@pytest.fixture
def penny(tmp_path):
    """penny with a home of its own; what it started is stopped at the end."""
    found = Penny(tmp_path / "home")
    yield found
    found.stop_all()


@pytest.fixture
def timezone(monkeypatch):
    """A function that sets the time zone of this process until the end of the test."""
    def change(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
    yield change
    monkeypatch.undo()
    time.tzset()
