"""Every docstring example and every Python block of the README runs, and the commands named there exist."""

import collections
import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdescramble

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = sorted(module.name for module in pkgutil.walk_packages(jaxdescramble.__path__, "jaxdescramble."))

pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.mark.default_precision
@pytest.mark.parametrize("name", ["jaxdescramble", *MODULES])
def test_docstring_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    given = {"jax": jax, "jnp": jax.numpy, "np": np}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with jax.numpy_rank_promotion("allow"):  # as users have it
        for test in finder.find(module, name, extraglobs=given):
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_every_public_function_and_class_has_an_example_or_is_a_plain_record():
    missing = []
    inner = ("attribution.switched", "gated.path_kernel", "solvers.assignment")
    for room in (*jaxdescramble.__all__, *inner):
        if not importlib.util.find_spec(f"jaxdescramble.{room}"):
            continue  # a function or a class
        module = importlib.import_module(f"jaxdescramble.{room}")
        for name in getattr(module, "__all__", []):
            member = getattr(module, name)
            if callable(member) and not isinstance(member, type) and ">>>" not in (member.__doc__ or ""):
                missing.append(f"{room}.{name}")
    assert missing == []


@pytest.mark.default_precision
@pytest.mark.parametrize("number", range(README.count("```python")))
def test_readme_blocks(number, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[number]
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, f"README block {number}", "exec"), {})


def test_ci_calls_the_very_test_command_of_the_readme_and_then_the_thorough_tier():
    commands = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert any('pip install -e ".[demo]" && jaxdescramble demo' in block for block in commands)
    assert any('pip install -e ".[test]" && pytest' in block for block in commands)
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    thorough = re.findall(r"^.*pytest -m .*$", script, flags=re.MULTILINE)
    described = (ROOT / "tests" / "README.md").read_text()
    assert len(thorough) == 2
    assert all(command in described for command in thorough)


def test_every_marker_that_leaves_tests_out_belongs_to_a_tier():
    """What the default command leaves out, the thorough tier runs, or the README of the tests tells how to."""
    options = (ROOT / "pyproject.toml").read_text()
    left_out = set(re.findall(r"not (\w+)", re.search(r"-m '(.*?)'", options)[1]))
    described = (ROOT / "tests" / "README.md").read_text()
    assert left_out == {"thorough", "slow", "gpu", "default_precision"}
    assert all(f"`{name}`" in described for name in left_out)


def test_two_cases_of_a_parametrised_test_are_in_the_default_tier(request):
    if "not thorough" not in request.config.option.markexpr:
        pytest.skip("this is not the default tier")
    items = [item for item in request.session.items if not item.get_closest_marker("every_case")]
    cases = collections.Counter((item.path, item.originalname) for item in items)
    assert max(cases.values()) <= 2


def test_the_layout_in_the_readme_is_the_layout_there_is():
    layout = README.split("## Layout")[1].split("## ")[0]
    rooms = {path.name for path in (ROOT / "jaxdescramble").iterdir() if not path.name.startswith("__")}
    rooms = {room if room.endswith(".py") else f"{room}/" for room in rooms if room != "py.typed"}
    described = set(re.findall(r"^\s*([a-z_]+(?:\.py|/))\s", layout, flags=re.MULTILINE)) - {"jaxdescramble/"}
    assert described == rooms
