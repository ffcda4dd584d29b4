"""The house keeps its floors: a module imports only from floors below its own (see README, "Layout")."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxdescramble"

FLOORS = [
    # The cellar: how a failure is said, how an argument is checked, the fast transforms and what is built on them.
    {"cautions", "checks", "files", "products", "extras", "layers"},
    {"status", "lapack", "programs"},
    {"transforms", "decompositions"},
    {"operators", "groups"},
    # Ground floor and up, as in the README.
    {"objectives", "interpreter", "datasets", "targets", "inputs"},
    {"exact", "solvers"},
    {"wiretap", "reorder", "switched", "attribution", "gated", "path_kernel"},
    {"descramble"},
    {"reading", "sweep", "streaming", "film"},
    {"studies"},
    {"show"},
]
EXTRAS = {
    "matplotlib": {"show"},
    "rich": {"show"},
    "typer": {"show"},
    "sklearn": {"datasets"},
    "safetensors": {"inputs"},
    "orbax": {"inputs"},
    "pyarrow": {"sweep"},
}
FORBIDDEN = {"flax", "haiku", "equinox", "torch"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imported_modules(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this package"
            if node.module == "jaxdescramble":
                yield from (f"jaxdescramble.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif (
            isinstance(node, ast.Call) and ast.unparse(node.func) == "extra" and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0].value


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_floors_below(path):
    here = room(path)
    for module in imported_modules(ast.parse(path.read_text())):
        parts = module.split(".")
        assert parts[0] not in FORBIDDEN, f"{path} imports {parts[0]}: no framework is imported by the package"
        assert here in EXTRAS.get(parts[0], {here}), f"{path} imports the extra {parts[0]} outside its room"
        if parts[0] != "jaxdescramble":
            continue
        assert len(parts) > 1, f"{path} imports the front door"
        there = parts[1]
        if there == here:
            continue
        assert floor(there) < floor(here), f"{path} (floor {floor(here)}) imports {module} (floor {floor(there)})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 400, f"{path} is asking to be two rooms"


def test_only_the_roof_prints_and_nobody_touches_the_configuration():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print" or room(path) == "show", f"{path}:{node.lineno} prints"
                assert called != "jax.config.update", f"{path}:{node.lineno} touches jax.config"
