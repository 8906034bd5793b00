"""Do the walls of the house stand?  Imports are read with `ast`: nobody imports a higher floor."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "kdprobe"
FLOORS = (
    {"errors", "panels", "restore", "files", "pairing", "manifest"},
    {"registry", "expression", "results", "taps", "device", "batches", "store", "passes"},
    {"formats", "models", "datasets"},
    {"study", "loading", "soundness"},
    {"probes", "train", "stats"},
    {"metrics", "claims", "comparing"},
    {"executors"},
    {"request", "analysis", "answering", "provenance"},
    {"report"},
    {"api", "explaining", "auditing", "commands", "cli", "__init__"},
)
WITHIN = ("study", "loading", "soundness")  # a floor with steps: each may use those before it
DRAWING = {"matplotlib", "seaborn", "plotly"}
DRAWERS = {"report/interactive.py", "report/still.py"}
WITHOUT_TORCH = {"report", "panels", "metrics", "claims", "comparing", "stats", "results"}
NETWORK = {"requests", "urllib.request", "httpx", "aiohttp", "socket", "http.client"}
NETWORK |= {"urllib3", "ftplib", "smtplib", "websockets"}
HEAVY = {"torch", "captum", "matplotlib", "seaborn", "plotly", "sklearn", "pandas", "scipy"}

FILES = sorted(HOUSE.rglob("*.py"))
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of everything that `tree`, a module in `package`, imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
            if base != "kdprobe":  # else the names say it: a room, or the face
                yield str(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def imports_of(file: Path) -> set[str]:
    package = ".".join(["kdprobe", *file.relative_to(HOUSE).parent.parts])
    return set(imported(ast.parse(file.read_text()), package))


def room_of(name: str) -> str:
    """The room of a full name: kdprobe.metrics.cka -> metrics; "" where it is not ours."""
    parts = name.split(".")
    if parts[0] != "kdprobe":
        return ""
    is_room = len(parts) > 1 and parts[1] in FLOOR
    return parts[1] if is_room else "__init__"


def rooms_of(names: set[str]) -> set[str]:
    return {room_of(name) for name in names} - {""}


def own_room(file: Path) -> str:
    first = file.relative_to(HOUSE).parts[0]
    return first.removesuffix(".py")


def label(file: Path) -> str:
    return file.relative_to(HOUSE).as_posix()


def uses(names: set[str], libraries: set[str]) -> set[str]:
    return {n for n in names for lib in libraries if n == lib or n.startswith(f"{lib}.")}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import kdprobe.cli", "kdprobe.cli"),
        ("def f():\n    from kdprobe.report import html", "kdprobe.report.html"),
        ("from . import loop", "kdprobe.train.loop"),
        ("from ..cli import main", "kdprobe.cli.main"),
        ("from .. import cli", "kdprobe.cli"),
        ("import os, urllib.request as u", "urllib.request"),
        ("if True:\n    from urllib import request", "urllib.request"),
        ("import importlib\nimportlib.import_module('plotly.io')", "plotly.io"),
    ],
)
def test_the_reader_sees_every_kind_of_import(code, found):
    assert found in set(imported(ast.parse(code), "kdprobe.train"))


def test_every_room_has_a_floor():
    assert {own_room(file) for file in FILES} == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_nobody_imports_a_higher_floor(file):
    own = own_room(file)
    for room in rooms_of(imports_of(file)) - {own}:
        assert FLOOR[room] <= FLOOR[own], f"{label(file)} imports {room}, which is above it"
        if {room, own} <= set(WITHIN):
            assert WITHIN.index(room) < WITHIN.index(own), f"{label(file)} imports {room}"


@pytest.mark.parametrize("file", FILES, ids=label)
def test_training_and_looking_never_meet(file):
    for one, other in (("train", "probes"), ("probes", "train")):
        if own_room(file) == one:
            assert other not in rooms_of(imports_of(file))


@pytest.mark.parametrize("file", FILES, ids=label)
def test_libraries_stay_where_they_belong(file):
    names = imports_of(file)
    assert label(file) in DRAWERS or not uses(names, DRAWING)
    assert own_room(file) not in WITHOUT_TORCH or not uses(names, {"torch", "captum"})
    assert not uses(names, NETWORK), "kdprobe asks no network"


def test_the_command_line_starts_light():
    tree = ast.parse((HOUSE / "cli.py").read_text())
    top = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef)], [])
    names = set(imported(top, "kdprobe"))
    assert rooms_of(names) == {"errors"}
    assert not uses(names, HEAVY)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_every_module_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text()))


@pytest.mark.parametrize("file", FILES, ids=label)
def test_nothing_unpickles(file):
    tree = ast.parse(file.read_text())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec")
        if name.endswith("torch.load"):
            flags = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert flags.get("weights_only") == "True"
    assert not uses(imports_of(file), {"pickle.load", "pickle.loads", "dill", "cloudpickle"})


def modules_after(*words: str) -> set[str]:
    """What is in sys.modules after the command `kdprobe WORDS` in a fresh process."""
    code = (
        "import sys, json\n"
        "from kdprobe.cli import cli\n"
        "try:\n    cli(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print(json.dumps(list(sys.modules)))"
    )
    run = [sys.executable, "-c", code, *words]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["analyze", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words):
    loaded = modules_after(*words)
    assert "click" in loaded
    assert not loaded & ((HEAVY - {"scipy"}) | {"scipy.stats"})


@pytest.mark.parametrize("words", [["list", "metrics"], ["list", "claims"]])
def test_metrics_and_claims_need_no_torch(words):
    assert "torch" not in modules_after(*words)
