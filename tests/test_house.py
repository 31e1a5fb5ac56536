"""The walls of the house: which way imports go, what may be imported, and how long a file or function may get."""
from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from penny.core import manifest as manifests
from support import ROOT

FILES = sorted((ROOT / "penny").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
TREES = {name: ast.parse(path.read_text(), name, feature_version=(3, 9)) for name, path in zip(NAMES, FILES)}
LAYERS = {"core": {"core"}, "wire": {"wire"}, "fleet": {"core", "fleet"}, "stages": {"core", "wire", "fleet", "stages"}}
SHARED = {"core", "wire", "fleet", "stages"}
# As of Python 3.9, what penny uses of the standard library; a new name here is looked at in review.
STDLIB = set("""__future__ argparse array ast binascii bisect calendar codecs collections configparser contextlib ctypes datetime
difflib email errno fcntl functools hashlib hmac html http importlib io ipaddress itertools json math operator os pathlib pkgutil pwd
queue random re resource secrets select selectors shutil signal socket socketserver sqlite3 ssl stat string struct
subprocess sys tempfile textwrap threading time traceback types typing unicodedata urllib xml zipfile zlib""".split())
BROAD = {"penny/core/run.py", "penny/core/web.py"}  # where any exception may be caught, and said
MAX_FILE, MAX_FUNCTION = 500, 50


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "line %d: imports are absolute" % node.lineno
            for alias in node.names:
                yield node.module + "." + alias.name, node.lineno


def part(name):
    """The room that a file or module of penny is in: 'core' for penny/core/run.py and penny.core.run alike."""
    words = name.replace("/", ".").split(".")
    return words[1] if len(words) > 1 and words[1] != "py" else ""


def direction_faults(name, tree):
    mine = part(name).replace("__init__", "").replace("__main__", "")
    for found, line in imports(tree):
        if not found.startswith("penny."):
            continue
        theirs = found.split(".")[1]
        allowed = LAYERS.get(mine, SHARED | {mine})
        if mine and theirs not in allowed and (ROOT / "penny" / theirs).exists() | (ROOT / "penny" / (theirs + ".py")).exists():
            yield "%s:%d: %s may not import %s" % (name, line, mine, theirs)
        if not mine and theirs not in SHARED:
            yield "%s:%d: imports the service %s by its name" % (name, line, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_one_way(name):
    assert not list(direction_faults(name, TREES[name]))


def test_the_check_of_directions_finds_what_is_wrong():
    for name, source in (("penny/core/x.py", "from penny.wire import opml"), ("penny/rss/x.py", "from penny import digest"),
                         ("penny/wire/x.py", "import penny.core.log"), ("penny/__main__.py", "import penny.rss")):
        assert list(direction_faults(name, ast.parse(source))), name


@pytest.mark.parametrize("name", NAMES)
def test_only_the_standard_library_and_penny_are_imported(name):
    foreign = {found.split(".")[0] for found, _ in imports(TREES[name])} - STDLIB - {"penny"}
    assert not foreign


def test_every_listed_module_is_in_the_standard_library():
    for name in STDLIB - {"__future__"}:
        assert name in getattr(sys, "stdlib_module_names", STDLIB), name


@pytest.mark.parametrize("name", NAMES)
def test_size(name):
    lines = (ROOT / name).read_text().count("\n")
    assert lines <= MAX_FILE, "%d lines" % lines
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION, "%s has %d lines" % (node.name, length)


@pytest.mark.parametrize("name", NAMES)
def test_broad_except_only_where_the_house_has_its_net(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ExceptHandler):
            names = [getattr(one, "id", "") for one in ast.walk(node.type)] if node.type else ["BaseException"]
            reraised = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if {"Exception", "BaseException"} & set(names) and not reraised:
                assert name in BROAD, "line %d" % node.lineno


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_is_for(name):
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("user, module", [("penny/core/web.py", "http.server"), ("penny/core/fetch.py", "http.client")])
def test_heavy_modules_have_one_user(user, module):
    users = [name for name in NAMES if any((found + ".").startswith(module + ".") for found, _ in imports(TREES[name]))]
    assert users == [user]


def test_every_service_has_a_manifest_and_every_manifest_a_module():
    """`ls penny/` is the list of services and commands."""
    found = {path.name[:-3] if path.suffix else path.name for path in (ROOT / "penny").iterdir()
             if not path.name.startswith("_")} - SHARED - {"data"}
    assert found == set(manifests.names())
    for name in manifests.names():
        assert manifests.load(name).module == "penny." + name


@pytest.mark.slow
def test_every_module_imports_alone():
    modules = [name[:-3].replace("/", ".").replace(".__init__", "") for name in NAMES if not name.endswith("__main__.py")]
    for module in modules:
        subprocess.run([sys.executable, "-c", "import " + module], check=True, cwd=ROOT,
                       env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_pyz_is_reproducible_small_and_runs_anywhere(tmp_path):
    def build():
        return subprocess.run([ROOT / "bin" / "build-pyz"], check=True, capture_output=True, text=True).stdout
    first = build()
    assert build() == first
    archive = ROOT / "dist" / "penny.pyz"
    assert archive.stat().st_size < 400_000
    shown = subprocess.run([sys.executable, archive], check=True, capture_output=True, text=True, cwd=tmp_path,
                           env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
    assert "Feed collector" in shown.stdout
