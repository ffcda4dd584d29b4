"""The house keeps its floors: a module imports only from floors below its own (see docs/layout.md)."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import jaxdescramble

PACKAGE = Path(__file__).parent.parent / "jaxdescramble"

# A room imports only from those before it.
ROOMS = [
    "_base",
    "manifolds",
    "operators",
    "datasets",
    "objectives",
    "exact",
    "solvers",
    "networks",
    "attribution",
    "gated",
    "descrambling",
    "findings",
    "sweeps",
    "studies",
    "show",
]
EXTRAS = {
    "matplotlib": {"show"},
    "rich": {"show"},
    "typer": {"show"},
    "sklearn": {"datasets"},
    "safetensors": {"_base"},
    "orbax": {"_base"},
    "pyarrow": {"sweeps"},
}
FORBIDDEN = {"flax", "haiku", "equinox", "torch"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return ROOMS.index(name)


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


def test_imports_only_from_floors_below():
    wrong = [message for path in MODULES for message in wrong_imports(path)]
    assert not wrong, "\n".join(wrong)


def wrong_imports(path: Path):
    """Say of each import that is not allowed in a file why it is not."""
    here, shown = room(path), path.relative_to(PACKAGE)
    for module in imported_modules(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] in FORBIDDEN:
            yield f"{shown} imports {parts[0]}: the package imports no framework"
        if here not in EXTRAS.get(parts[0], {here}):
            yield f"{shown} imports the extra {parts[0]} outside its room"
        if parts[0] != "jaxdescramble":
            continue
        if len(parts) == 1:
            yield f"{shown} imports the front door"
        elif parts[1] != here and floor(parts[1]) >= floor(here):
            yield f"{shown} (floor {floor(here)}) imports {module} (floor {floor(parts[1])})"


def test_imports_that_are_not_allowed_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr("test_architecture.PACKAGE", tmp_path)
    path = tmp_path / "objectives.py"
    path.write_text("import flax\nimport matplotlib\nimport jaxdescramble\nfrom jaxdescramble import exact, operators")
    expected = ["imports flax", "the extra matplotlib", "the front door", "imports jaxdescramble.exact (floor 5)"]
    for message, words in zip(wrong_imports(path), expected, strict=True):
        assert words in message


def test_files_stay_readable():
    long = [str(path.relative_to(PACKAGE)) for path in MODULES if len(path.read_text().splitlines()) > 400]
    assert not long, f"more than 400 lines: make two of {long}"


def test_only_the_roof_prints_and_nobody_touches_the_configuration():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print" or room(path) == "show", f"{path}:{node.lineno} prints"
                assert called != "jax.config.update", f"{path}:{node.lineno} touches jax.config"


def test_rooms_are_those_of_the_plan():
    entries = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert entries - {"__init__", "__pycache__"} == set(ROOMS)


def test_files_with_an_underscore_are_imported_in_their_own_room_only():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in MODULES
        for module in imported_names(ast.parse(path.read_text()))
        if "._" in module and module.split(".")[1] not in ("_base", room(path))
    ]
    assert not wrong, "\n".join(wrong)


def imported_names(tree: ast.AST):
    """Yield what every import takes from this package, the module and each of the names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxdescramble":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_shares_its_name_with_a_public_name():
    """`import jaxdescramble.a.b` must give the module, whatever the front door of `a` exports."""
    clashes = []
    for name in (name for _, name, _ in pkgutil.walk_packages(jaxdescramble.__path__, "jaxdescramble.")):
        package, _, last = name.rpartition(".")
        if importlib.import_module(name) is not getattr(importlib.import_module(package), last):
            clashes.append(name)
    assert not clashes


def test_rooms_are_imported_when_they_are_used():
    """`import jaxdescramble` and `jaxdescramble --help` import little more than JAX."""
    heavy = ("jaxdescramble.solvers", "jaxdescramble.studies", "optax", "scipy.linalg", "matplotlib", "rich.console")
    first = "import jaxdescramble"
    command = "from jaxdescramble.show.commands import build; build()"
    for program, allowed in ((first, set()), (command, {"rich.console"})):
        program += f"; import sys; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert set(ast.literal_eval(done.stdout.splitlines()[-1])) <= allowed


def test_the_front_door_says_the_same_to_type_checkers_and_at_run_time():
    for package in (jaxdescramble, importlib.import_module("jaxdescramble.show")):
        tree = ast.parse(Path(package.__file__).read_text())
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        told = {alias.asname or alias.name for node in block.body for alias in node.names}
        assert told == {name for name in dir(package) if not name.startswith("__")}
        assert set(package.__all__) <= told
        assert all(getattr(package, name) is not None for name in told)
