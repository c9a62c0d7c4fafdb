"""The house's floors: imports only point down, and rooms of one floor stay apart."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "pruneloop"

FLOORS = [
    {"redaction"},
    {"errors"},
    {"durable", "launcher", "offline", "ranges", "scores", "signals"},
    {"config", "metric", "pruning", "records", "sparse"},
    {"control", "data", "model", "training", "evaluation", "checkpoint", "tracking", "report"}
    | {"hub", "inspection", "locating", "machine", "shrinking"},
    {"prediction"},
    {"evidence", "teacher", "facts", "plan", "run_state"},
    {"deployed", "exports"},
    {"dense", "engine", "identity", "measurement", "recorder", "rounding"},
    {"assembly", "checkpointer", "deployment"},
    {"watch"},
    {"loop"},
    {"pipeline"},
    {"ladder"},
    {"command"},
]
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "pruneloop" or parts[1] in (here, "__version__"):
            continue
        assert floor(parts[1]) < floor(here), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_hydra_stays_in_command_and_config(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if room(path) not in {"command", "config"}:
        assert not roots & {"hydra", "omegaconf"}


def test_pruning_knows_torch_only() -> None:
    allowed = {"torch", "pruneloop", "collections", "dataclasses", "typing", "hashlib", "re"}
    allowed |= {"contextlib", "enum", "fnmatch", "functools"}
    for path in (PACKAGE / "pruning").glob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_records_need_the_standard_library_only() -> None:
    roots = {name.split(".")[0] for name in imports(PACKAGE / "records.py")}
    assert not roots & {"torch", "numpy", "pandas", "datasets"}


TESTS = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.name)
def test_tests_do_not_import_tests(path: Path) -> None:
    """What they share is in support.py; nothing else of this folder is imported, by any name."""
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & ({p.stem for p in TESTS} - {"support"} | {"tests"})
