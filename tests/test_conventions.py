"""One way to say a thing: keys, restarts, progress and types of public functions."""

import ast
import importlib
import inspect

import jax
import pytest
from fuzzing import public_functions

import jaxdescramble as jd
from jaxdescramble.sweeps import specification

FUNCTIONS = public_functions()


def parameters(function) -> dict[str, inspect.Parameter]:
    function = function.__func__ if isinstance(function, staticmethod | classmethod) else function
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {name: one for name, one in found.items() if name not in ("self", "cls")}


def test_a_key_is_given_by_name_except_to_functions_that_only_draw():
    """As in `jax.random`, a function that draws takes its key first; everywhere else it is keyword-only."""
    wrong, drawing = [], []
    for path, function in FUNCTIONS.items():
        taken = parameters(function)
        if "key" not in taken or taken["key"].kind is inspect.Parameter.KEYWORD_ONLY:
            continue
        (drawing if next(iter(taken)) == "key" else wrong).append(path)
    assert not wrong
    assert "manifolds.orthogonal.random" in drawing
    assert not any(
        path.startswith(("descramble", "bootstrap", "solvers", "sweep", "findings.cons")) for path in drawing
    )


def test_restarts_come_with_a_key():
    with_restarts = [path for path, function in FUNCTIONS.items() if "restarts" in parameters(function)]
    without = [path for path in with_restarts if "key" not in parameters(FUNCTIONS[path])]
    # Problems take their keys from that of the sweep.
    assert set(without) == {"Problem", "grid"}
    assert {"descramble", "descramble_network", "solvers.Restarts"} <= set(with_restarts)


def test_names_that_were_given_up_do_not_come_back():
    for path, function in FUNCTIONS.items():
        assert not {"keys", "callback", "chunk"} & set(parameters(function)), path
    assert not {"keys", "chunk"} & set(specification.SINGLE)


def test_every_long_call_reports_in_the_same_way(tmp_path):
    seen = {}

    def listen(name):
        return lambda stage, done, total: seen.setdefault(name, []).append((stage, done, total))

    S = jd.datasets.planted.sparse(jax.random.key(0), 4, 40, dtype="float32").signals
    quick = jd.solvers.LBFGS(max_steps=2, preconditioner=None)
    jd.descramble(S, jd.objectives.sparsity(), quick, progress=listen("descramble"))
    jd.sweep(jd.grid({"first": S}), tmp_path / "sweep", progress=listen("sweep"))
    jd.Accumulator.empty(4, "float32").consume([S, S], progress=listen("consume"))
    assert seen["consume"] == [("batches", 1, 2), ("batches", 2, 2)]
    assert {name: type(one[0][0]) for name, one in seen.items()} == dict.fromkeys(
        ("descramble", "sweep", "consume"), str
    )
    assert all(0 <= done <= total for one in seen.values() for _, done, total in one)


OPEN = {"device", "devices", "dtype", "result"}
"""Annotations of JAX that name no type that checkers understand, and the result of an interrupted call."""


@pytest.mark.parametrize("room", ["descrambling", "solvers", "sweeps"])
def test_public_signatures_name_their_types(room):
    module, untyped = importlib.import_module(f"jaxdescramble.{room}"), []
    for name in module.__all__:
        member = getattr(module, name)
        members = {name: member} if inspect.isfunction(member) else {}
        if isinstance(member, type):
            public = {key: one for key, one in vars(member).items() if key == "__init__" or not key.startswith("_")}
            members = {key: getattr(one, "fget", getattr(one, "__func__", one)) for key, one in public.items()}
        for key, one in members.items():
            if inspect.isfunction(one) and one.__module__.startswith("jaxdescramble"):
                # The dtypes of JAX are no better known.
                told = {what: str(kind).replace("type[typing.Any]", "") for what, kind in one.__annotations__.items()}
                untyped += [f"{name}.{key}({what})" for what in told if "Any" in told[what] and what not in OPEN]
    assert not untyped


def test_type_checkers_know_what_descramble_returns():
    # Read from the source: the shape checks of the tests wrap overloads, and `typing.get_overloads` loses one.
    source = ast.parse(inspect.getsource(importlib.import_module("jaxdescramble.descrambling.signals")))
    functions = [one for one in source.body if isinstance(one, ast.FunctionDef) and one.name == "descramble"]
    returned = [ast.unparse(one.returns) for one in functions]
    assert returned == ["Descrambling", "Descrambling", "Descramblings", "Descrambling | Descramblings"]
    assert [len(one.decorator_list) for one in functions] == [1, 1, 1, 0]
    assert isinstance(jd.solvers.LBFGS(), jd.solvers.Solver)
    assert isinstance(jd.solvers.Chain((jd.solvers.LBFGS(),)), jd.solvers.Solver)
    assert not isinstance(jd.exact.ClosedForm(), jd.solvers.Solver)
