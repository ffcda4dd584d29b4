"""Every example in a docstring runs, and every public function has one.

These are not in `test_docs.py`, so that two workers share the work.
"""

import doctest
import importlib
import importlib.util
import pkgutil

import jax
import numpy as np
import pytest

import jaxdescramble

MODULES = sorted(module.name for module in pkgutil.walk_packages(jaxdescramble.__path__, "jaxdescramble."))

pytestmark = pytest.mark.usefixtures("as_installed")


def rooms():
    """The public rooms without `show`, which has no examples."""
    return [name for name in jaxdescramble.__all__ if importlib.util.find_spec(f"jaxdescramble.{name}")]


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
    inner = {"attribution.switched", "gated.path_kernel", "solvers.assignment"}
    for room in {*rooms()} | inner:
        module = importlib.import_module(f"jaxdescramble.{room}")
        for name in getattr(module, "__all__", []):
            member = getattr(module, name)
            if callable(member) and not isinstance(member, type) and ">>>" not in (member.__doc__ or ""):
                missing.append(f"{room}.{name}")
    assert missing == []
