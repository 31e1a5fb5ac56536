"""What every test can ask for: --slow, a home of its own, and penny as a real process."""
from __future__ import annotations

import os
import time

import pytest

from support import Penny

# A proxy of whoever runs the tests would stand between them and their servers.
for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[variable]

pytest.register_assert_rewrite("fetch_support", "web_support")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes seconds, or needs a real peer; run with --slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        slow = [item for item in items if "slow" in item.keywords]
        items[:] = [item for item in items if "slow" not in item.keywords]
        config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(terminalreporter, config):
    left_out = len(terminalreporter.stats.get("deselected", []))
    if left_out and not config.getoption("--slow"):
        terminalreporter.write_line("%d tests are slow or need real peers: bin/test --slow runs them too" % left_out)


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
